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
    /// Mean reward of the rollouts that have one; absent if none has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_mean: Option<f64>,
    /// Its standard deviation over rollouts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_std: Option<f64>,
    /// Share of rollouts that ran out of tokens.
    pub truncation_rate: f64,
    /// Rollouts without a reward.
    pub absent_rewards: usize,
    /// Groups of equal rewards, which teach nothing.
    pub zero_variance_groups: usize,
    /// All groups.
    pub groups: usize,
    /// Rounds of dynamic sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling_rounds: Option<usize>,
    /// Groups that dynamic sampling left out because their rewards were all equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_groups: Option<usize>,
    /// Mean completion length in tokens.
    pub completion_tokens_mean: f64,
    /// See [`Update::loss`].
    pub loss: f64,
    /// See [`Update::grad_norm`].
    pub grad_norm: f64,
    /// See [`Update::learning_rate`].
    pub learning_rate: f64,
    /// See [`Update::entropy`]; absent where no token was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropy: Option<f64>,
    /// See [`Update::kl`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// See [`Update::clip_fraction`]; absent where no token was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_fraction: Option<f64>,
    /// See [`Update::mismatch_max`]; absent where no token was compared. Where top-k, top-p, min-p or a penalty reshape what is drawn
    /// from, it shows how far that is from what is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatch_max: Option<f64>,
    /// See [`Update::mismatch_kl`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatch_kl: Option<f64>,
    /// What the signal-to-noise ratio left of the learning rate; see [`Update::snr_factor`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snr_factor: Option<f64>,
    /// Unbiased estimate of ‖∇J‖² from this step alone; may be negative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_signal: Option<f64>,
    /// Unbiased estimate of the variance of this step's gradient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_noise: Option<f64>,
    /// Signal over noise, from running means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snr: Option<f64>,
    /// Gradient noise scale in prompt groups, from running means; absent where the signal drowns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_scale: Option<f64>,
    /// Expected cosine between the gradients of two groups, from running means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_cosine: Option<f64>,
    /// Mean over groups of (baseline − mean reward), of a weighted baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_gap: Option<f64>,
    /// Correlation within groups between rewards and weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_weight_correlation: Option<f64>,
    /// Rank correlation of lengths with exact squared gradient norms, at the steps that measure it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank_correlation_length: Option<f64>,
    /// The same of the logit proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank_correlation_logit: Option<f64>,
    /// The same of the norms of the output head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank_correlation_lm_head: Option<f64>,
    /// (Σ w)² / (n Σ w²) of the correction for another sampler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction_effective_share: Option<f64>,
    /// Its largest weight before any bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction_max: Option<f64>,
    /// Share of tokens whose weight was out of bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction_bounded: Option<f64>,
    /// Mean reward of rollouts that think, where two branches are mixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_mean_thinking: Option<f64>,
    /// The same of rollouts whose trace is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_mean_empty: Option<f64>,
    /// The thinking branch's share in the gradient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// tr Var of the thinking branch's gradient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variance_thinking: Option<f64>,
    /// The same of the other branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variance_empty: Option<f64>,
    /// The same of the mixture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variance_mixed: Option<f64>,
    /// Unbiased estimate of the squared distance between the two expected gradients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch_distance: Option<f64>,
    /// Updates that the policy has seen since it sampled the rollouts, mean over rollouts; absent where they take turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staleness: Option<f64>,
    /// Share of the sampler's slots that were busy while rollouts waited for one; absent if none had to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot_use: Option<f64>,
    /// Share of guessed tokens that were right, where tokens are guessed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guesses_accepted: Option<f64>,
    /// Accuracy on held-out prompts, at the steps that measure it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_accuracy: Option<f64>,
    /// Seconds spent sampling.
    pub seconds_sample: f64,
    /// Seconds that training waited for rollouts, where they are sampled ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_wait: Option<f64>,
    /// Seconds spent scoring.
    pub seconds_score: f64,
    /// Seconds spent training.
    pub seconds_update: f64,
    /// Seconds of those that went into measuring gradients rather than computing them.
    #[serde(default)]
    pub seconds_ledger: f64,
    /// Completion tokens drawn per second of sampling; absent if all rollouts were there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled_tokens_per_second: Option<f64>,
    /// Tokens trained, prompts included, per second of training; absent if none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_tokens_per_second: Option<f64>,
}

/// Seconds that the phases of a step took, and what was sampled in them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Timing {
    /// Sampling.
    pub sample: f64,
    /// Tokens drawn in that time. Those of rollouts that an earlier attempt left are not among them.
    pub sampled_tokens: usize,
    /// Scoring.
    pub score: f64,
    /// Training.
    pub update: f64,
}

impl Metrics {
    /// Everything that is known after step number `step` (counted from 1). `snr` says whether the learning rate follows the signal-to-noise ratio.
    pub fn new(
        step: u64,
        scored: &[ScoredRollout],
        batch: &Batch,
        update: &Update,
        timing: Timing,
        snr: bool,
    ) -> Self {
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        let ranks = &update.baseline.rank_correlations;
        let rank = |name: &str| ranks.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let rewards: Vec<f64> = scored.iter().filter_map(|s| s.score.reward).map(f64::from).collect();
        let known = rewards.len() as f64;
        // an empty sum is −0, and so may be that of penalties
        let mean = rewards.iter().sum::<f64>() / known + 0.0;
        let variance = rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / known;
        let rollouts = scored.len().max(1) as f64;
        let tokens: usize = scored.iter().map(|s| s.rollout.tokens.len()).sum();
        let rate =
            |tokens: usize, seconds: f64| (tokens > 0 && seconds > 0.0).then_some(tokens as f64 / seconds);
        let trained = update.trained_tokens > 0;
        let compared = update.compared_tokens > 0;
        Self {
            step,
            reward_mean: finite(Some(mean)),
            reward_std: finite(Some(variance.sqrt())),
            truncation_rate: scored.iter().filter(|s| s.rollout.truncated()).count() as f64 / rollouts,
            absent_rewards: batch.absent_rewards,
            zero_variance_groups: batch.zero_variance_groups,
            groups: batch.groups.len(),
            sampling_rounds: None,
            dropped_groups: None,
            completion_tokens_mean: tokens as f64 / rollouts,
            loss: update.loss,
            grad_norm: update.grad_norm,
            learning_rate: update.learning_rate,
            entropy: trained.then_some(update.entropy),
            kl: update.kl,
            clip_fraction: trained.then_some(update.clip_fraction),
            mismatch_max: compared.then_some(update.mismatch_max),
            mismatch_kl: compared.then_some(update.mismatch_kl),
            snr_factor: snr.then_some(update.snr_factor),
            gradient_signal: update.ledger.map(|l| l.signal),
            gradient_noise: update.ledger.map(|l| l.noise),
            snr: finite(update.ledger.map(|l| l.snr)),
            noise_scale: finite(update.ledger.map(|l| l.noise_scale)),
            group_cosine: update.ledger.map(|l| l.group_cosine),
            baseline_gap: update.baseline.gap,
            reward_weight_correlation: update.baseline.reward_weight_correlation,
            rank_correlation_length: rank("length"),
            rank_correlation_logit: rank("logit"),
            rank_correlation_lm_head: rank("lm_head"),
            correction_effective_share: update.correction.and_then(|c| c.effective_share()),
            correction_max: update.correction.map(|c| c.max),
            correction_bounded: update.correction.map(|c| c.bounded / c.count.max(1.0)),
            reward_mean_thinking: None,
            reward_mean_empty: None,
            alpha: None,
            variance_thinking: None,
            variance_empty: None,
            variance_mixed: None,
            branch_distance: None,
            staleness: None,
            slot_use: None,
            guesses_accepted: None,
            eval_accuracy: None,
            seconds_sample: timing.sample,
            seconds_wait: None,
            seconds_score: timing.score,
            seconds_update: timing.update,
            seconds_ledger: update.seconds_ledger,
            sampled_tokens_per_second: rate(timing.sampled_tokens, timing.sample),
            trained_tokens_per_second: rate(update.trained_tokens, timing.update),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use data::{Body, Prompt, Rollout, Score};

    use super::*;
    use crate::batch::Truncated;

    fn line(rewards: &[Option<f32>], update: &Update, timing: Timing) -> serde_json::Value {
        let body = Body::Text("?".into());
        let prompt = Arc::new(Prompt { id: "p".into(), body, answer: None, fields: Default::default() });
        let scored = |reward: &Option<f32>| ScoredRollout {
            rollout: Rollout {
                prompt_tokens: [1].into(),
                tokens: vec![2],
                log_probs: vec![-1.0],
                ..Rollout::of_text(prompt.clone(), "x")
            },
            score: Score { reward: *reward, parts: vec![] },
        };
        let scored: Vec<ScoredRollout> = rewards.iter().map(scored).collect();
        let batch = Batch::new(&scored, &Default::default(), Truncated::Keep).unwrap();
        serde_json::to_value(Metrics::new(1, &scored, &batch, update, timing, false)).unwrap()
    }

    #[test]
    fn what_was_not_measured_is_absent() {
        let nothing = line(&[None, None], &Update::default(), Timing::default());
        for key in [
            "reward_mean",
            "reward_std",
            "entropy",
            "clip_fraction",
            "mismatch_max",
            "mismatch_kl",
            "sampled_tokens_per_second",
            "trained_tokens_per_second",
        ] {
            assert!(nothing.get(key).is_none(), "{key}: {nothing}");
        }
        let update = Update { trained_tokens: 4, compared_tokens: 2, ..Update::default() };
        let timing = Timing { sample: 2.0, sampled_tokens: 6, update: 4.0, ..Timing::default() };
        let something = line(&[Some(1.0), Some(0.0)], &update, timing);
        assert_eq!((&something["reward_mean"], &something["reward_std"]), (&0.5.into(), &0.5.into()));
        assert_eq!((&something["entropy"], &something["mismatch_max"]), (&0.0.into(), &0.0.into()));
        assert_eq!(
            something["sampled_tokens_per_second"], 3.0,
            "two rollouts, and three times as many drawn"
        );
        assert_eq!(something["trained_tokens_per_second"], 1.0);
    }

    #[test]
    fn a_mean_of_zero_has_no_sign() {
        let none = line(&[Some(-0.0), Some(-0.0)], &Update::default(), Timing::default());
        assert_eq!(none["reward_mean"].to_string(), "0.0");
    }
}
