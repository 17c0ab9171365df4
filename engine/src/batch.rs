//! Scored rollouts become rows with advantages.
//!
//! Before: [`data::ScoredRollout`], group by group. After: [`crate::trainer`] computes a loss from the rows. Rows are
//! rollouts in the order in which they came; those that cannot train keep their place and have no advantage.

use std::sync::Arc;

use data::ScoredRollout;
use serde::{Deserialize, Serialize};

use crate::baseline::{Baseline, Scale, advantages};
use crate::{EngineError, Result};

/// What becomes of a rollout whose token budget ran out.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncated {
    /// It trains like any other.
    #[default]
    Keep,
    /// It counts in its group's baseline but its tokens do not train (arXiv:2503.14476, DAPO, overlong filtering).
    Mask,
    /// This much is taken from its reward, in units of reward.
    Penalise(f32),
}

/// One rollout, ready to train.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The prompt as the policy read it, shared by its group.
    pub prompt_tokens: Arc<[u32]>,
    /// What the policy wrote.
    pub tokens: Vec<u32>,
    /// ln π(token) as the sampler recorded it, nats, one a token.
    pub sampled_log_probs: Vec<f32>,
    /// Reward minus baseline, scaled; `None` if the rollout does not train: its reward is absent, it is masked or it
    /// has no token.
    pub advantage: Option<f32>,
}

/// All rollouts of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// One row a rollout, group by group.
    pub rows: Vec<Row>,
    /// Rollouts in each group.
    pub group_sizes: Vec<usize>,
    /// Groups whose known rewards are all equal: they contribute exactly nothing to the policy gradient.
    pub zero_variance_groups: usize,
    /// Rollouts whose reward is absent.
    pub absent_rewards: usize,
}

impl Batch {
    /// Rewards become advantages, group by group. A group is a run of neighbours with the same prompt id.
    ///
    /// # Errors
    /// If a recorded log-prob is not a finite number.
    pub fn new(
        scored: &[ScoredRollout],
        baseline: &dyn Baseline,
        scale: Scale,
        truncated: Truncated,
    ) -> Result<Self> {
        let mut batch =
            Self { rows: Vec::new(), group_sizes: Vec::new(), zero_variance_groups: 0, absent_rewards: 0 };
        for group in scored.chunk_by(|a, b| a.rollout.prompt.id == b.rollout.prompt.id) {
            let rewards: Vec<Option<f32>> = group.iter().map(|s| reward(s, truncated)).collect();
            let known: Vec<f32> = rewards.iter().copied().flatten().collect();
            batch.absent_rewards += rewards.len() - known.len();
            batch.zero_variance_groups += usize::from(known.windows(2).all(|pair| pair[0] == pair[1]));
            batch.group_sizes.push(group.len());
            for (scored, advantage) in group.iter().zip(advantages(baseline, scale, &rewards)) {
                check(scored)?;
                let rollout = &scored.rollout;
                let masked = truncated == Truncated::Mask && rollout.truncated();
                batch.rows.push(Row {
                    prompt_tokens: rollout.prompt_tokens.clone(),
                    tokens: rollout.tokens.clone(),
                    sampled_log_probs: rollout.log_probs.clone(),
                    advantage: advantage.filter(|_| !masked && !rollout.tokens.is_empty()),
                });
            }
        }
        Ok(batch)
    }

    /// The rows of `parts` mini-batches: groups stay whole, sizes differ by at most one group, and no part is empty.
    pub fn mini_batches(&self, parts: usize) -> Vec<std::ops::Range<usize>> {
        let groups = self.group_sizes.len();
        let row = |group: usize| self.group_sizes[..group].iter().sum::<usize>();
        let parts = parts.min(groups).max(1);
        (0..parts).map(|part| row(part * groups / parts)..row((part + 1) * groups / parts)).collect()
    }
}

fn reward(scored: &ScoredRollout, truncated: Truncated) -> Option<f32> {
    let penalty = match truncated {
        Truncated::Penalise(penalty) if scored.rollout.truncated() => penalty,
        _ => 0.0,
    };
    scored.score.reward.map(|reward| reward - penalty)
}

fn check(scored: &ScoredRollout) -> Result<()> {
    let rollout = &scored.rollout;
    match rollout.log_probs.iter().position(|value| !value.is_finite()) {
        Some(token) => Err(EngineError::LogProb {
            prompt: rollout.prompt.id.clone(),
            place: rollout.place,
            token,
            value: rollout.log_probs[token],
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::BaselineConfig;
    use data::{Body, PolicyVersion, Prompt, Rollout, Score, StopReason};

    fn scored(prompt: &str, reward: Option<f32>, stop: StopReason) -> ScoredRollout {
        let prompt = Prompt {
            id: prompt.into(),
            body: Body::Text("1+1=".into()),
            answer: None,
            fields: Default::default(),
        };
        let rollout = Rollout {
            prompt: Arc::new(prompt),
            prompt_tokens: Arc::from([1u32, 2]),
            tokens: vec![3],
            text: String::new(),
            log_probs: vec![-0.5],
            stop,
            policy: PolicyVersion(0),
            place: 0,
        };
        ScoredRollout { rollout, score: Score { reward, parts: vec![] } }
    }

    fn batch(rollouts: &[ScoredRollout], truncated: Truncated) -> Batch {
        Batch::new(rollouts, &BaselineConfig::GroupMean, Scale::None, truncated).expect("batch")
    }

    fn advantages_of(batch: &Batch) -> Vec<Option<f32>> {
        batch.rows.iter().map(|row| row.advantage).collect()
    }

    #[test]
    fn groups_are_counted_and_an_absent_reward_trains_nothing() {
        use StopReason::Token;
        let batch = batch(
            &[
                scored("a", Some(1.0), Token),
                scored("a", Some(0.0), Token),
                scored("b", Some(0.3), Token),
                scored("b", Some(0.3), Token),
                scored("b", None, Token),
            ],
            Truncated::Keep,
        );
        assert_eq!((batch.zero_variance_groups, batch.absent_rewards), (1, 1));
        assert_eq!(batch.group_sizes, [2, 3]);
        assert_eq!(advantages_of(&batch), [Some(0.5), Some(-0.5), Some(0.0), Some(0.0), None]);
    }

    #[test]
    fn a_truncated_rollout_is_kept_masked_or_penalised_as_the_recipe_says() {
        let rollouts =
            [scored("a", Some(1.0), StopReason::Token), scored("a", Some(0.0), StopReason::Length)];
        assert_eq!(advantages_of(&batch(&rollouts, Truncated::Keep)), [Some(0.5), Some(-0.5)]);
        assert_eq!(advantages_of(&batch(&rollouts, Truncated::Mask)), [Some(0.5), None]);
        assert_eq!(advantages_of(&batch(&rollouts, Truncated::Penalise(1.0))), [Some(1.0), Some(-1.0)]);
    }

    #[test]
    fn mini_batches_cover_all_rows_with_whole_groups() {
        let rollouts: Vec<_> = ["a", "a", "b", "b", "b", "c", "c"]
            .iter()
            .map(|prompt| scored(prompt, Some(0.0), StopReason::Token))
            .collect();
        let batch = batch(&rollouts, Truncated::Keep);
        assert_eq!(batch.mini_batches(1), vec![0..7]);
        assert_eq!(batch.mini_batches(2), [0..2, 2..7]);
        assert_eq!(batch.mini_batches(9), [0..2, 2..5, 5..7]);
    }

    #[test]
    fn a_log_prob_that_is_not_a_number_is_named() {
        let mut rollout = scored("a", Some(1.0), StopReason::Token);
        rollout.rollout.log_probs[0] = f32::NAN;
        let error = Batch::new(&[rollout], &BaselineConfig::GroupMean, Scale::None, Truncated::Keep);
        let message = error.expect_err("refused").to_string();
        assert!(message.contains("prompt `a` has log-prob NaN at token 0"), "{message}");
    }
}
