//! What judges a rollout.
//!
//! Before: a policy was sampled and each [`Rollout`] has its text. After: the engine reads [`ScoredRollout`]s. A reward
//! sees text and prompt only; this crate knows neither tensors nor tokenizers.

mod answer;
mod error;
mod exact;
mod format;
mod number;

use data::{Rollout, Score, ScoredRollout};

pub use answer::Extract;
pub use error::RewardError;
pub use exact::{ExactMatch, NumericMatch};
pub use format::{Checks, Format};
pub use number::{Number, equal};

/// Something that judges a rollout. Any `Fn(&Rollout) -> f32` is one.
pub trait Reward: Send + Sync {
    /// What the rollout earned, or `None` if that cannot be told, which is not the same as 0: a rollout without a score
    /// is left out of its group and counted.
    fn score(&self, rollout: &Rollout) -> Option<f32>;
}

impl<F: Fn(&Rollout) -> f32 + Send + Sync> Reward for F {
    fn score(&self, rollout: &Rollout) -> Option<f32> {
        Some(self(rollout))
    }
}

/// Rewards with names and weights: what a rollout earns is their weighted sum.
#[derive(Default)]
pub struct Rewards {
    parts: Vec<Part>,
}

struct Part {
    name: String,
    weight: f32,
    reward: Box<dyn Reward>,
}

impl Rewards {
    /// No rewards yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// These and one more. With weight 0 it is only shown; a negative weight makes it a penalty.
    /// # Errors
    /// If there is one of that name already, or the weight is not finite.
    pub fn with(
        mut self,
        name: impl Into<String>,
        weight: f32,
        reward: Box<dyn Reward>,
    ) -> Result<Self, RewardError> {
        let name = name.into();
        if self.parts.iter().any(|part| part.name == name) {
            return Err(RewardError::DuplicateName { name });
        }
        if !weight.is_finite() {
            return Err(RewardError::Weight { name, weight });
        }
        self.parts.push(Part { name, weight, reward });
        Ok(self)
    }

    /// Names and weights, in the recipe's order.
    pub fn weights(&self) -> impl Iterator<Item = (&str, f32)> {
        self.parts.iter().map(|part| (part.name.as_str(), part.weight))
    }

    /// Whether any reward has a weight other than 0. If none has, every score is absent.
    pub fn count(&self) -> bool {
        self.parts.iter().any(|part| part.weight != 0.0)
    }

    /// The rollouts with what they earned, in their order.
    pub fn score(&self, rollouts: Vec<Rollout>) -> Vec<ScoredRollout> {
        rollouts.into_iter().map(|rollout| self.score_one(rollout)).collect()
    }

    /// The rollout with what it earned: Σ weight · part in f32, in the recipe's order. A part that is NaN or infinite
    /// counts as absent. The sum is absent if a part whose weight is not 0 is, if there is no such part, or if it
    /// overflows.
    pub fn score_one(&self, rollout: Rollout) -> ScoredRollout {
        let mut reward = self.count().then_some(0.0);
        let mut parts = Vec::with_capacity(self.parts.len());
        for Part { name, weight, reward: judge } in &self.parts {
            let value = judge.score(&rollout).filter(|value| value.is_finite());
            if *weight != 0.0 {
                reward = reward.zip(value).map(|(sum, value)| sum + weight * value);
            }
            parts.push((name.clone(), value));
        }
        let reward = reward.filter(|sum| sum.is_finite());
        ScoredRollout { rollout, score: Score { reward, parts } }
    }
}

#[cfg(test)]
mod testing {
    use std::sync::Arc;

    use data::{Body, PolicyVersion, Prompt, Rollout, StopReason};

    /// A rollout that ended by itself.
    pub(crate) fn rollout(text: &str, answer: Option<&str>) -> Rollout {
        let prompt = Prompt {
            id: "p".into(),
            body: Body::Text("?".into()),
            answer: answer.map(str::to_owned),
            fields: Default::default(),
        };
        Rollout {
            prompt: Arc::new(prompt),
            prompt_tokens: [1].into(),
            tokens: vec![2],
            text: text.into(),
            log_probs: vec![-1.0],
            stop: StopReason::Token,
            policy: PolicyVersion(0),
            place: 0,
            forced: vec![],
            entropy: vec![],
            top_log_probs: vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::rollout, *};

    /// A reward that cannot tell.
    struct Absent;

    impl Reward for Absent {
        fn score(&self, _: &Rollout) -> Option<f32> {
            None
        }
    }

    fn constant(value: f32) -> Box<dyn Reward> {
        Box::new(move |_: &Rollout| value)
    }

    fn rewards<const N: usize>(parts: [(&str, f32, Box<dyn Reward>); N]) -> Rewards {
        parts.into_iter().fold(Rewards::new(), |rewards, (name, weight, reward)| {
            rewards.with(name, weight, reward).unwrap()
        })
    }

    fn score<const N: usize>(parts: [(&str, f32, Box<dyn Reward>); N]) -> Score {
        rewards(parts).score_one(rollout("", None)).score
    }

    #[test]
    fn the_reward_is_the_weighted_sum_and_the_parts_are_kept_unweighted() {
        let length: Box<dyn Reward> = Box::new(|rollout: &Rollout| rollout.text.len() as f32);
        let rewards = rewards([("length", 0.5, length), ("fine", -2.0, constant(0.25))]);
        let scored = rewards.score(vec![rollout("abc", None), rollout("", None)]);
        assert_eq!(scored[0].rollout.text, "abc");
        let part = |name: &str, value| (name.to_owned(), Some(value));
        assert_eq!(scored[0].score.parts, [part("length", 3.0), part("fine", 0.25)]);
        assert_eq!(scored[0].score.reward, Some(1.0));
        assert_eq!(scored[1].score.reward, Some(-0.5));
    }

    #[test]
    fn the_sum_is_taken_in_the_recipes_order() {
        let (big, small) = (|| constant(16_777_216.0), || constant(1.0)); // 2²⁴: one more is lost to rounding
        assert_eq!(
            score([("a", 1.0, small()), ("b", 1.0, small()), ("c", 1.0, big())]).reward,
            Some(16_777_218.0)
        );
        assert_eq!(
            score([("a", 1.0, big()), ("b", 1.0, small()), ("c", 1.0, small())]).reward,
            Some(16_777_216.0)
        );
    }

    #[test]
    fn a_part_that_is_absent_makes_the_sum_absent_only_if_it_counts() {
        let counted =
            score([("a", 1.0, constant(1.0)), ("b", 0.1, Box::new(Absent)), ("c", 1.0, constant(2.0))]);
        assert_eq!(counted.reward, None);
        assert_eq!(
            counted.parts.iter().map(|(_, value)| *value).collect::<Vec<_>>(),
            [Some(1.0), None, Some(2.0)]
        );
        let shown = score([("a", 1.0, constant(1.0)), ("b", 0.0, Box::new(Absent))]);
        assert_eq!(shown.reward, Some(1.0));
        assert_eq!(shown.parts[1], ("b".to_owned(), None));
    }

    #[test]
    fn a_part_that_is_no_number_is_absent() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let counted = score([("a", 1.0, constant(value))]);
            assert_eq!(counted, Score { reward: None, parts: vec![("a".into(), None)] });
            assert_eq!(score([("a", 0.0, constant(value)), ("b", 1.0, constant(1.0))]).reward, Some(1.0));
        }
        assert_eq!(score([("a", 10.0, constant(f32::MAX))]).reward, None);
    }

    #[test]
    fn a_part_of_weight_0_is_shown_and_alone_earns_nothing() {
        let shown = score([("a", 0.0, constant(3.0))]);
        assert_eq!(shown, Score { reward: None, parts: vec![("a".into(), Some(3.0))] });
        assert_eq!(score([]).reward, None);
        assert!(!rewards([("a", 0.0, constant(3.0))]).count());
        assert!(rewards([("a", 0.0, constant(3.0)), ("b", -1.0, constant(3.0))]).count());
    }

    #[test]
    fn names_are_unique_and_weights_finite() {
        let rewards = rewards([("a", 1.0, constant(1.0)), ("b", 0.0, constant(1.0))]);
        assert_eq!(rewards.weights().collect::<Vec<_>>(), [("a", 1.0), ("b", 0.0)]);
        let error = rewards.with("a", 2.0, constant(1.0)).err().unwrap();
        assert_eq!(error.to_string(), "two rewards are named `a`, wanted a name for each");
        let error = Rewards::new().with("a", f32::NAN, constant(1.0)).err().unwrap();
        assert_eq!(error.to_string(), "reward `a` has the weight NaN, wanted a finite number");
    }
}
