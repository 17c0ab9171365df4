//! A step on two branches: rollouts with a thinking trace and with an empty one, whose gradients are mixed.
//!
//! Before: the scored rollouts of both. After: one update, and the metrics of both branches.

use std::time::Instant;

use anyhow::Result;
use data::ScoredRollout;
use engine::batch::Batch;
use engine::metrics::{Metrics, Timing};
use engine::mixture::{Mixture, MixtureConfig};
use engine::model::Policy;
use engine::trainer::{MixedStats, Trainer, Update};

use rollout::SampleStats;

use crate::step_rollouts::StepRollouts;

/// The rollouts of a step, branch by branch.
pub(super) struct Branches {
    pub(super) thinking: StepRollouts,
    pub(super) empty: StepRollouts,
}

/// An update on both branches.
pub(super) struct MixedUpdate {
    batches: [Batch; 2],
    update: Update,
    mixed: MixedStats,
    seconds: f64,
}

impl Branches {
    /// The rollouts of both, those with a trace first.
    pub(super) fn scored(&self) -> Vec<ScoredRollout> {
        [self.thinking.scored.as_slice(), self.empty.scored.as_slice()].concat()
    }

    /// What it took to sample both.
    pub(super) fn stats(&self) -> SampleStats {
        self.thinking.stats.and(self.empty.stats)
    }

    /// One update on the mixture of their gradients.
    ///
    /// # Errors
    /// If a gradient is not finite.
    pub(super) fn train(
        &self,
        trainer: &mut Trainer,
        policy: &mut Policy,
        config: &MixtureConfig,
        mixture: &mut Mixture,
    ) -> Result<MixedUpdate> {
        let begun = Instant::now();
        let batches = [
            trainer.batch(policy, &self.thinking.scored, &self.thinking.greedy)?,
            trainer.batch(policy, &self.empty.scored, &self.empty.greedy)?,
        ];
        let (update, mixed) = trainer.mixed_step(policy, &batches[0], &batches[1], config, mixture)?;
        Ok(MixedUpdate { batches, update, mixed, seconds: begun.elapsed().as_secs_f64() })
    }

    /// The metrics of the step, of rollouts `all` of both branches.
    pub(super) fn metrics(&self, step: u64, all: &[ScoredRollout], made: &MixedUpdate, snr: bool) -> Metrics {
        let Self { thinking, empty } = self;
        let MixedUpdate { batches, update, mixed, seconds } = made;
        let timing = Timing {
            sample: thinking.seconds_sample + empty.seconds_sample,
            sampled_tokens: thinking.stats.tokens + empty.stats.tokens,
            score: thinking.seconds_score + empty.seconds_score,
            update: *seconds,
        };
        let mut metrics = Metrics::new(step, all, &batches[0], update, timing, snr);
        metrics.rollouts.groups += batches[1].groups.len();
        metrics.rollouts.zero_variance_groups += batches[1].zero_variance_groups;
        let mixture = &mut metrics.mixture;
        mixture.reward_mean_thinking = mean_reward(&thinking.scored);
        mixture.reward_mean_empty = mean_reward(&empty.scored);
        mixture.alpha = Some(mixed.alpha);
        if let Some(moments) = mixed.moments {
            mixture.variance_thinking = Some(moments.thinking);
            mixture.variance_empty = Some(moments.empty);
            mixture.variance_mixed = Some(moments.variance(mixed.alpha));
            mixture.branch_distance = Some(moments.difference);
        }
        metrics
    }
}

/// Mean of the rewards that are there.
fn mean_reward(scored: &[ScoredRollout]) -> Option<f64> {
    let known: Vec<f64> = scored.iter().filter_map(|s| s.score.reward.map(f64::from)).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}
