//! One flat object a step, for `metrics.jsonl`, the progress line and reports.
//!
//! Before: [`crate::trainer`]. After: people and plots. Everything but the fields that begin with `seconds` or end
//! with `per_second` is reproducible to the bit.

use data::ScoredRollout;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::trainer::Update;

/// The numbers of one RL step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// Steps done, this one included.
    pub step: u64,
    /// Mean reward of the rollouts that have one.
    pub reward_mean: f64,
    /// Its standard deviation over rollouts.
    pub reward_std: f64,
    /// Share of rollouts that ran out of tokens.
    pub truncation_rate: f64,
    /// Rollouts without a reward.
    pub absent_rewards: usize,
    /// Groups of equal rewards, which teach nothing.
    pub zero_variance_groups: usize,
    /// All groups.
    pub groups: usize,
    /// Mean completion length in tokens.
    pub completion_tokens_mean: f64,
    /// See [`Update::loss`].
    pub loss: f64,
    /// See [`Update::grad_norm`].
    pub grad_norm: f64,
    /// See [`Update::learning_rate`].
    pub learning_rate: f64,
    /// See [`Update::entropy`].
    pub entropy: f64,
    /// See [`Update::kl`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// See [`Update::clip_fraction`].
    pub clip_fraction: f64,
    /// See [`Update::mismatch_max`]; absent where top-k, top-p or min-p make the two incomparable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatch_max: Option<f64>,
    /// See [`Update::mismatch_kl`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatch_kl: Option<f64>,
    /// Accuracy on held-out prompts, at the steps that measure it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_accuracy: Option<f64>,
    /// Seconds spent sampling.
    pub seconds_sample: f64,
    /// Seconds spent scoring.
    pub seconds_score: f64,
    /// Seconds spent training.
    pub seconds_update: f64,
    /// Completion tokens sampled per second of sampling.
    pub sampled_tokens_per_second: f64,
    /// Tokens trained, prompts included, per second of training.
    pub trained_tokens_per_second: f64,
}

/// Seconds that the phases of a step took.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Timing {
    /// Sampling.
    pub sample: f64,
    /// Scoring.
    pub score: f64,
    /// Training.
    pub update: f64,
}

impl Metrics {
    /// Everything that is known after step number `step` (counted from 1). `comparable` says whether the recorded
    /// log-probs are those of the full distribution.
    pub fn new(
        step: u64,
        scored: &[ScoredRollout],
        batch: &Batch,
        update: &Update,
        timing: Timing,
        comparable: bool,
    ) -> Self {
        let rewards: Vec<f64> = scored.iter().filter_map(|s| s.score.reward).map(f64::from).collect();
        let known = rewards.len().max(1) as f64;
        let mean = rewards.iter().sum::<f64>() / known;
        let rollouts = scored.len().max(1) as f64;
        let tokens: usize = scored.iter().map(|s| s.rollout.tokens.len()).sum();
        let rate = |tokens: usize, seconds: f64| if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
        Self {
            step,
            reward_mean: mean,
            reward_std: (rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / known).sqrt(),
            truncation_rate: scored.iter().filter(|s| s.rollout.truncated()).count() as f64 / rollouts,
            absent_rewards: batch.absent_rewards,
            zero_variance_groups: batch.zero_variance_groups,
            groups: batch.group_sizes.len(),
            completion_tokens_mean: tokens as f64 / rollouts,
            loss: update.loss,
            grad_norm: update.grad_norm,
            learning_rate: update.learning_rate,
            entropy: update.entropy,
            kl: update.kl,
            clip_fraction: update.clip_fraction,
            mismatch_max: comparable.then_some(update.mismatch_max),
            mismatch_kl: comparable.then_some(update.mismatch_kl),
            eval_accuracy: None,
            seconds_sample: timing.sample,
            seconds_score: timing.score,
            seconds_update: timing.update,
            sampled_tokens_per_second: rate(tokens, timing.sample),
            trained_tokens_per_second: rate(update.trained_tokens, timing.update),
        }
    }
}
