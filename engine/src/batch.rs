//! Scored rollouts become rows in groups.
//!
//! Before: [`data::ScoredRollout`], group by group. After: [`crate::trainer`] gives the rows advantages and computes a
//! loss from them. Rows are rollouts in the order in which they came; those that cannot train keep their place.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use data::ScoredRollout;
use serde::{Deserialize, Serialize};

use crate::baseline::is_equal;
use crate::gradient::TokenStats;
use crate::{EngineError, Result};

/// What becomes of a rollout whose token budget ran out.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Truncated {
    /// It trains like any other.
    #[default]
    Keep,
    /// It counts in its group's baseline but its tokens do not train (arXiv:2503.14476, DAPO, overlong filtering).
    Mask,
    /// This much is taken from its reward, in units of reward.
    Penalise(f32),
    /// What comes near the end of the budget is taken from the reward, long before it is cut off.
    Overlong(Overlong),
}

/// Nothing up to L − C tokens, then in a straight line up to 1 at L = `limit` and beyond.
///
/// # Source
/// DAPO, arXiv:2503.14476, soft overlong punishment, with L = 20480 and C = 4096.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Overlong {
    /// C as a share of the limit, in 0..1.
    pub buffer: f32,
    /// L in tokens; 0 stands for the largest completion.
    pub limit: usize,
}

impl Default for Overlong {
    fn default() -> Self {
        Self { buffer: 0.2, limit: 0 }
    }
}

impl Overlong {
    /// What a completion of so many tokens loses, in 0..1.
    pub fn penalty(&self, tokens: usize) -> f32 {
        let (tokens, limit) = (tokens as f32, self.limit as f32);
        let buffer = self.buffer * limit;
        if tokens <= limit - buffer {
            0.0
        } else if tokens >= limit {
            1.0
        } else {
            (tokens - (limit - buffer)) / buffer
        }
    }
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
    /// Runs of tokens that were put there and not drawn: they do not train.
    pub forced: Vec<Range<usize>>,
    /// What it earned, any penalty included; `None` if that is not known.
    pub reward: Option<f32>,
    /// Whether its tokens train: it has a reward and a token, and is not masked.
    pub trains: bool,
    /// Reward minus baseline, scaled, one a token; empty as long as nothing was decided.
    pub advantages: Vec<f32>,
}

impl Row {
    /// 1 where a token was drawn, 0 where it was put there.
    pub fn mask(&self) -> Vec<f32> {
        let mut mask = vec![1.0; self.tokens.len()];
        self.forced.iter().for_each(|run| mask[run.clone()].fill(0.0));
        mask
    }

    /// Keeps of one number a token those of tokens that were drawn.
    pub(crate) fn keep_drawn(&self, values: &mut Vec<f32>) {
        if !self.forced.is_empty() {
            let mut drawn = self.mask().into_iter().map(|mask| mask != 0.0);
            values.retain(|_| drawn.next().unwrap_or(true));
        }
    }

    /// One number a token again: 0 of those that were not drawn.
    pub(crate) fn spread_drawn(&self, values: Vec<f32>) -> Vec<f32> {
        if self.forced.is_empty() {
            return values;
        }
        let mut values = values.into_iter();
        let of = |mask: f32| if mask == 0.0 { 0.0 } else { values.next().unwrap_or(0.0) };
        self.mask().into_iter().map(of).collect()
    }

    /// Tokens that were drawn.
    pub fn drawn(&self) -> usize {
        self.tokens.len() - self.forced.iter().map(ExactSizeIterator::len).sum::<usize>()
    }
}

/// The rollouts of one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct RowGroup {
    /// The prompt's id.
    pub prompt: String,
    /// Its rows.
    pub rows: Range<usize>,
    /// Reward of the prompt's greedy rollout, if one was sampled.
    pub greedy: Option<f32>,
    /// What it counts for beside the other groups: 1, or the factor of a prompt that was not drawn as often as others.
    pub weight: f64,
}

/// When the advantages of a batch are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Advantages {
    /// Before the backward: every row that trains has them.
    #[default]
    Decided,
    /// In the backward, once it has measured the gradients of a group's rollouts: rows have none yet.
    Deferred,
}

/// All rollouts of a step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// One row a rollout, group by group.
    pub rows: Vec<Row>,
    /// The groups, in order.
    pub groups: Vec<RowGroup>,
    /// Groups whose known rewards are all equal: within them no rollout is better than another.
    pub zero_variance_groups: usize,
    /// Rollouts whose reward is absent.
    pub absent_rewards: usize,
    /// Whether rows have their advantages.
    pub advantages: Advantages,
    /// What the log-prob pass saw of every row before the step, if there was one; empty of rows that it left out.
    pub seen: Option<TokenStats>,
    /// ln π_ref of every token, if there is a KL term; empty of rows that were left out.
    pub reference: Option<Vec<Vec<f32>>>,
    /// What the statistics of this batch's baselines came to.
    pub baseline: BaselineStats,
}

/// What a batch's weights and baselines came to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BaselineStats {
    /// Mean over groups of (baseline − mean reward), in units of reward, of baselines that are weighted.
    pub gap: Option<f64>,
    /// Correlation within groups between rewards and weights.
    pub reward_weight_correlation: Option<f64>,
    /// What is to be remembered of each prompt, where the baseline asks for it.
    pub prior_updates: Vec<(String, f32)>,
    /// Gradient norms of each prompt's rollouts, where they were measured exactly.
    pub norms: Vec<(String, GroupNorms)>,
    /// Spearman's correlation of `length`, `logit` and `lm_head` weights with exact squared gradient norms.
    pub rank_correlations: Vec<(&'static str, f64)>,
}

crate::numbers! {
    /// What weights and baselines came to.
    pub struct BaselineMetrics {
        /// Mean over groups of (baseline − mean reward), of a weighted baseline.
        baseline_gap: Option<f64> = "reward";
        /// Correlation within groups between rewards and weights.
        reward_weight_correlation: Option<f64> = "";
        /// Rank correlation of lengths with exact squared gradient norms, at the steps that measure it (ledger.correlations).
        rank_correlation_length: Option<f64> = "";
        /// The same of the logit proxy.
        rank_correlation_logit: Option<f64> = "";
        /// The same of the norms of the output head.
        rank_correlation_lm_head: Option<f64> = "";
    }
}

impl From<&BaselineStats> for BaselineMetrics {
    fn from(stats: &BaselineStats) -> Self {
        let ranks = &stats.rank_correlations;
        let rank = |name: &str| ranks.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        Self {
            baseline_gap: stats.gap,
            reward_weight_correlation: stats.reward_weight_correlation,
            rank_correlation_length: rank("length"),
            rank_correlation_logit: rank("logit"),
            rank_correlation_lm_head: rank("lm_head"),
        }
    }
}

/// Squared gradient norms of a group's rollouts, of right and wrong ones apart. A reward between 0 and 1 is partly both.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct GroupNorms {
    /// Σ r ‖∇ ln π‖² and Σ r, rewards held to 0 to 1.
    pub right: (f64, f64),
    /// Σ (1 − r) ‖∇ ln π‖² and Σ (1 − r).
    pub wrong: (f64, f64),
}

impl GroupNorms {
    /// Of rollouts with these rewards and squared norms.
    pub fn of(rewards: &[f32], squared: &[f64]) -> Self {
        let mut norms = Self::default();
        for (reward, squared) in rewards.iter().zip(squared) {
            let right = f64::from(reward.clamp(0.0, 1.0));
            norms.right = (norms.right.0 + right * squared, norms.right.1 + right);
            norms.wrong = (norms.wrong.0 + (1.0 - right) * squared, norms.wrong.1 + (1.0 - right));
        }
        norms
    }

    /// With a share of these, and all of those of a later group.
    pub fn and(self, share: f64, later: Self) -> Self {
        let both = |a: (f64, f64), b: (f64, f64)| (share * a.0 + b.0, share * a.1 + b.1);
        Self { right: both(self.right, later.right), wrong: both(self.wrong, later.wrong) }
    }

    /// Mean squared norms of right rollouts and of wrong ones, of those that were seen.
    pub fn means(&self) -> (Option<f64>, Option<f64>) {
        let mean = |(sum, count): (f64, f64)| (count > 1e-9).then(|| sum / count);
        (mean(self.right), mean(self.wrong))
    }
}

impl Batch {
    /// Rewards without advantages yet. A group is a run of neighbours with the same prompt id and occurrence; `greedy`
    /// holds rewards of greedy rollouts by prompt id, penalties included, see [`penalised`].
    ///
    /// # Errors
    /// If a recorded log-prob is not a finite number.
    pub fn new(
        scored: &[ScoredRollout],
        greedy: &BTreeMap<String, f32>,
        truncated: Truncated,
    ) -> Result<Self> {
        let mut batch = Self::default();
        for group in scored.chunk_by(|a, b| a.rollout.is_of_the_group_of(&b.rollout)) {
            let prompt = group[0].rollout.prompt.id.clone();
            let first = batch.rows.len();
            for scored in group {
                check(scored)?;
                let rollout = &scored.rollout;
                let reward = penalised(scored, truncated);
                let masked = truncated == Truncated::Mask && rollout.truncated();
                batch.rows.push(Row {
                    prompt_tokens: rollout.prompt_tokens.clone(),
                    tokens: rollout.tokens.clone(),
                    sampled_log_probs: rollout.log_probs.clone(),
                    forced: rollout.forced.clone(),
                    reward,
                    trains: reward.is_some() && !masked && rollout.forced_tokens() < rollout.tokens.len(),
                    advantages: Vec::new(),
                });
            }
            batch.groups.push(RowGroup {
                greedy: greedy.get(&prompt).copied(),
                prompt,
                rows: first..batch.rows.len(),
                weight: 1.0,
            });
        }
        batch.count();
        Ok(batch)
    }

    /// Rows whose advantages are decided already, in groups of these sizes.
    ///
    /// # Panics
    /// If the sizes do not add up to the rows.
    pub fn from_rows(rows: Vec<Row>, group_sizes: &[usize]) -> Self {
        let mut first = 0;
        let groups = group_sizes.iter().enumerate().map(|(number, size)| {
            first += size;
            RowGroup {
                prompt: format!("group {number}"),
                rows: first - size..first,
                greedy: None,
                weight: 1.0,
            }
        });
        let mut batch = Self { groups: groups.collect(), rows, ..Self::default() };
        assert_eq!(first, batch.rows.len(), "group sizes add up to the rows");
        batch.count();
        batch
    }

    fn count(&mut self) {
        let equal = |group: &&RowGroup| {
            let known: Vec<f32> = self.known(group).map(|(_, reward)| reward).collect();
            known.len() < 2 || is_equal(&known)
        };
        self.zero_variance_groups = self.groups.iter().filter(equal).count();
        self.absent_rewards = self.rows.iter().filter(|row| row.reward.is_none()).count();
    }

    /// Rows of a group that have a reward, and the reward.
    pub fn known(&self, group: &RowGroup) -> impl Iterator<Item = (usize, f32)> {
        group.rows.clone().filter_map(|row| Some((row, self.rows[row].reward?)))
    }

    /// The groups of `parts` parts: groups stay whole, sizes differ by at most one group, and no part is empty.
    pub fn parts(groups: Range<usize>, parts: usize) -> Vec<Range<usize>> {
        let count = groups.len();
        let parts = parts.min(count).max(1);
        let at = |part: usize| groups.start + part * count / parts;
        (0..parts).map(|part| at(part)..at(part + 1)).collect()
    }

    /// What every row of some groups counts for, 1 on average: groups count alike, whatever their sizes, but for their weights.
    pub(crate) fn shares(&self, groups: &Range<usize>) -> Vec<f64> {
        let groups = &self.groups[groups.clone()];
        let mean = groups.iter().map(|group| group.rows.len()).sum::<usize>() as f64 / groups.len() as f64;
        let share = |group: &RowGroup| {
            let size = group.rows.len();
            std::iter::repeat_n(group.weight * mean / size as f64, size)
        };
        groups.iter().flat_map(share).collect()
    }

    /// The rows of some groups.
    pub fn rows_of(&self, groups: &Range<usize>) -> Range<usize> {
        match (self.groups.get(groups.start), groups.is_empty()) {
            (Some(first), false) => first.rows.start..self.groups[groups.end - 1].rows.end,
            _ => 0..0,
        }
    }
}

/// What a rollout earned, less what it loses for its length; `None` if its reward is absent.
pub fn penalised(scored: &ScoredRollout, truncated: Truncated) -> Option<f32> {
    let penalty = match truncated {
        Truncated::Penalise(penalty) if scored.rollout.truncated() => penalty,
        Truncated::Overlong(overlong) => overlong.penalty(scored.rollout.tokens.len()),
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
mod tests;
