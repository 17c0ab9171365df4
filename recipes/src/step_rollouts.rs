//! The scored rollouts of one RL step; a checkpoint keeps those that were sampled ahead.

use std::collections::BTreeMap;

use data::ScoredRollout;
use engine::metrics::Timing;
use engine::selection::GroupOutcome;
use rollout::SampleStats;
use serde::{Deserialize, Serialize};

use crate::recipe::RlRecipe;

/// The rollouts of a step, and what it took to get them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StepRollouts {
    /// The step, from 0.
    pub(crate) step: u64,
    pub(crate) scored: Vec<ScoredRollout>,
    /// Rewards of greedy rollouts by prompt, penalties for their length included, where the baseline wants them.
    pub(crate) greedy: BTreeMap<String, f32>,
    /// Prompts drawn until then.
    pub(crate) drawn: u64,
    pub(crate) rounds: usize,
    pub(crate) dropped: usize,
    /// What every group came to, those that were dropped among them; absent in checkpoints of before.
    #[serde(default)]
    pub(crate) outcomes: Vec<GroupOutcome>,
    /// What the gradient of each group that is trained on counts for; empty if all count alike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) factors: Vec<f64>,
    pub(crate) stats: SampleStats,
    /// Not kept in a checkpoint, which is the same however long it took.
    #[serde(default, skip_serializing)]
    pub(crate) seconds_sample: f64,
    /// Likewise.
    #[serde(default, skip_serializing)]
    pub(crate) seconds_score: f64,
}

impl StepRollouts {
    /// A step of which nothing is sampled; `drawn` prompts were drawn before it.
    pub(crate) fn none(step: u64, drawn: u64) -> Self {
        Self {
            step,
            scored: Vec::new(),
            greedy: BTreeMap::new(),
            drawn,
            rounds: 0,
            dropped: 0,
            outcomes: Vec::new(),
            factors: Vec::new(),
            stats: SampleStats::default(),
            seconds_sample: 0.0,
            seconds_score: 0.0,
        }
    }

    /// The time that the step took, of which `update` seconds of training.
    pub(crate) fn timing(&self, update: f64) -> Timing {
        Timing {
            sample: self.seconds_sample,
            sampled_tokens: self.stats.tokens,
            score: self.seconds_score,
            update,
        }
    }
}

engine::numbers! {
    /// How the rollouts of a step were sampled.
    pub(crate) struct SamplingMetrics {
        /// Rollouts that were sampled, those of groups that were dropped and those that do not train among them.
        sampled_rollouts: usize = "count";
        /// Rounds of dynamic sampling.
        sampling_rounds: Option<usize> = "count";
        /// Groups that dynamic sampling left out because their rewards were all equal.
        dropped_groups: Option<usize> = "count";
        /// Updates that the policy has seen since it sampled the rollouts, mean over rollouts; absent where they take turns.
        staleness: Option<f64> = "updates";
        /// Seconds that training waited for rollouts, where they are sampled ahead.
        seconds_wait: Option<f64> = "seconds";
        /// Share of the sampler's slots that were busy while rollouts waited for one; absent if none had to.
        slot_use: Option<f64> = "share";
        /// Share of guessed tokens that were right, where tokens are guessed.
        guesses_accepted: Option<f64> = "share";
    }
}

impl SamplingMetrics {
    /// Of the rollouts of a step.
    pub(crate) fn of(sampled: &StepRollouts, rl: &RlRecipe) -> Self {
        let dynamic = rl.dynamic_sampling.is_some();
        Self {
            sampled_rollouts: sampled.outcomes.iter().map(|outcome| outcome.rollouts as usize).sum(),
            sampling_rounds: dynamic.then_some(sampled.rounds),
            dropped_groups: dynamic.then_some(sampled.dropped),
            staleness: None,
            seconds_wait: None,
            slot_use: sampled.stats.slot_use(),
            guesses_accepted: sampled.stats.acceptance(),
        }
    }

    /// Of two branches; `stats` are those of both.
    pub(crate) fn and(self, other: Self, stats: SampleStats) -> Self {
        Self {
            sampled_rollouts: self.sampled_rollouts + other.sampled_rollouts,
            slot_use: stats.slot_use(),
            guesses_accepted: stats.acceptance(),
            ..self
        }
    }
}
