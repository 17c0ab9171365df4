//! The numbers of an RL step, for `metrics.jsonl`, the progress line and reports.
//!
//! Before: [`crate::trainer`]. After: people and plots. Every part of the engine declares its own numbers ([`numbers!`](crate::numbers));
//! a line has those of all. Everything but the keys that begin with `seconds` or end with `per_second` is reproducible to the bit.

mod number;

use data::ScoredRollout;
use serde::{Deserialize, Serialize};

pub use self::number::{Absent, Number};
use crate::batch::{BaselineMetrics, Batch};
use crate::ledger::LedgerMetrics;
use crate::mixture::MixtureMetrics;
use crate::objective::CorrectionMetrics;
use crate::trainer::{Update, UpdateMetrics};

/// The numbers of one RL step; in JSON a flat object.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// Steps done, this one included.
    pub step: u64,
    /// Of its rollouts.
    #[serde(flatten)]
    pub rollouts: RolloutMetrics,
    /// Of its updates.
    #[serde(flatten)]
    pub update: UpdateMetrics,
    /// Of their gradients.
    #[serde(flatten)]
    pub ledger: LedgerMetrics,
    /// Of weights and baselines.
    #[serde(flatten)]
    pub baseline: BaselineMetrics,
    /// Of importance weights.
    #[serde(flatten)]
    pub correction: CorrectionMetrics,
    /// Of two branches.
    #[serde(flatten)]
    pub mixture: MixtureMetrics,
    /// Of the clock.
    #[serde(flatten)]
    pub time: TimeMetrics,
}

crate::numbers! {
    /// Rollouts that a step trains on.
    pub struct RolloutMetrics {
        /// Mean reward of the rollouts that have one; where prompts have different numbers of rollouts, the mean over prompts.
        /// Absent if none has one.
        reward_mean: Option<f64> = "reward";
        /// Standard deviation of the reward over rollouts.
        reward_std: Option<f64> = "reward";
        /// Share of rollouts that ran out of tokens.
        truncation_rate: f64 = "share";
        /// Rollouts without a reward.
        absent_rewards: usize = "count";
        /// Groups of equal rewards, which teach nothing where a baseline compares within the group.
        zero_variance_groups: usize = "count";
        /// All groups.
        groups: usize = "count";
        /// Mean completion length.
        completion_tokens_mean: f64 = "tokens";
    }
}

crate::numbers! {
    /// Seconds and speed.
    pub struct TimeMetrics {
        /// Spent sampling.
        seconds_sample: f64 = "seconds";
        /// Spent scoring.
        seconds_score: f64 = "seconds";
        /// Spent training.
        seconds_update: f64 = "seconds";
        /// Of training, spent measuring gradients rather than computing them.
        seconds_ledger: f64 = "seconds";
        /// Completion tokens drawn per second of sampling; absent if all rollouts were there before.
        sampled_tokens_per_second: Option<f64> = "tokens/second";
        /// Tokens trained, prompts included, per second of training; absent if none was.
        trained_tokens_per_second: Option<f64> = "tokens/second";
    }
}

/// Every number of an RL step that the engine makes, with the part that makes it.
pub const CATALOGUE: [(&str, &[Number]); 7] = [
    ("rollouts", RolloutMetrics::NUMBERS),
    ("update", UpdateMetrics::NUMBERS),
    ("gradients, with ledger.chunks of 2 or more", LedgerMetrics::NUMBERS),
    ("weighted baselines", BaselineMetrics::NUMBERS),
    ("importance weights, with rl.correction", CorrectionMetrics::NUMBERS),
    ("two branches, with rl.mixture", MixtureMetrics::NUMBERS),
    ("time", TimeMetrics::NUMBERS),
];

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
    /// Everything that is known after step number `step` (counted from 1). `snr` says whether the learning rate follows the
    /// signal-to-noise ratio.
    pub fn new(
        step: u64,
        scored: &[ScoredRollout],
        batch: &Batch,
        update: &Update,
        timing: Timing,
        snr: bool,
    ) -> Self {
        Self {
            step,
            rollouts: RolloutMetrics::of(scored, batch),
            update: UpdateMetrics::of(update, snr),
            ledger: update.ledger.map(LedgerMetrics::from).unwrap_or_default(),
            baseline: BaselineMetrics::from(&update.baseline),
            correction: update.correction.map(CorrectionMetrics::from).unwrap_or_default(),
            mixture: MixtureMetrics::default(),
            time: TimeMetrics::of(timing, update),
        }
    }
}

impl RolloutMetrics {
    fn of(scored: &[ScoredRollout], batch: &Batch) -> Self {
        let rewards: Vec<f64> = scored.iter().filter_map(|s| s.score.reward).map(f64::from).collect();
        let known = rewards.len() as f64;
        // an empty sum is −0, and so may be that of penalties
        let mean = rewards.iter().sum::<f64>() / known + 0.0;
        let variance = rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / known;
        let rollouts = scored.len().max(1) as f64;
        let tokens: usize = scored.iter().map(|s| s.rollout.tokens.len()).sum();
        Self {
            reward_mean: finite(Some(mean_over_prompts(scored).unwrap_or(mean))),
            reward_std: finite(Some(variance.sqrt())),
            truncation_rate: scored.iter().filter(|s| s.rollout.truncated()).count() as f64 / rollouts,
            absent_rewards: scored.len() - rewards.len(),
            zero_variance_groups: batch.zero_variance_groups,
            groups: batch.groups.len(),
            completion_tokens_mean: tokens as f64 / rollouts,
        }
    }
}

/// Mean of the groups' mean rewards, where groups differ in size: prompts with more rollouts are harder or easier than others, and
/// the mean over rollouts would say what was sampled rather than how good the policy is.
fn mean_over_prompts(scored: &[ScoredRollout]) -> Option<f64> {
    let groups: Vec<&[ScoredRollout]> =
        scored.chunk_by(|a, b| a.rollout.is_of_the_group_of(&b.rollout)).collect();
    if groups.iter().all(|group| group.len() == groups[0].len()) {
        return None;
    }
    let mean = |group: &&[ScoredRollout]| {
        let known: Vec<f64> = group.iter().filter_map(|s| s.score.reward).map(f64::from).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    };
    let means: Vec<f64> = groups.iter().filter_map(mean).collect();
    (!means.is_empty()).then(|| means.iter().sum::<f64>() / means.len() as f64 + 0.0)
}

impl TimeMetrics {
    fn of(timing: Timing, update: &Update) -> Self {
        let rate =
            |tokens: usize, seconds: f64| (tokens > 0 && seconds > 0.0).then_some(tokens as f64 / seconds);
        Self {
            seconds_sample: timing.sample,
            seconds_score: timing.score,
            seconds_update: timing.update,
            seconds_ledger: update.seconds_ledger,
            sampled_tokens_per_second: rate(timing.sampled_tokens, timing.sample),
            trained_tokens_per_second: rate(update.trained_tokens, timing.update),
        }
    }
}

/// A value that is a number.
pub(crate) fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite())
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
    fn prompts_count_alike_in_the_mean_reward_whatever_their_rollouts() {
        let of = |prompt: &str, reward: f32| {
            let body = Body::Text("?".into());
            let prompt =
                Arc::new(Prompt { id: prompt.into(), body, answer: None, fields: Default::default() });
            let rollout = Rollout { tokens: vec![2], log_probs: vec![-1.0], ..Rollout::of_text(prompt, "x") };
            ScoredRollout { rollout, score: Score { reward: Some(reward), parts: vec![] } }
        };
        let scored = [of("a", 1.0), of("b", 0.0), of("b", 0.0), of("b", 0.3), of("b", 0.1)];
        let batch = Batch::new(&scored, &Default::default(), Truncated::Keep).unwrap();
        let metrics = Metrics::new(1, &scored, &batch, &Update::default(), Timing::default(), false);
        assert!((metrics.rollouts.reward_mean.unwrap() - 0.55).abs() < 1e-6, "{metrics:?}");
    }

    #[test]
    fn a_line_has_every_number_of_the_catalogue_once_and_reads_back() {
        let names: Vec<&str> =
            CATALOGUE.iter().flat_map(|(_, numbers)| *numbers).map(|number| number.name).collect();
        let line = serde_json::Map::from_iter(names.iter().map(|name| ((*name).to_owned(), 1.into())));
        assert_eq!(line.len(), names.len(), "no name stands twice");
        let mut line = line;
        line.insert("step".into(), 3.into());
        let metrics: Metrics = serde_json::from_value(line.clone().into()).expect("metrics");
        let written = serde_json::to_value(&metrics).expect("JSON");
        let keys = |map: &serde_json::Map<String, serde_json::Value>| {
            map.keys().cloned().collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(keys(written.as_object().expect("a line")), keys(&line));
    }

    #[test]
    fn a_mean_of_zero_has_no_sign() {
        let none = line(&[Some(-0.0), Some(-0.0)], &Update::default(), Timing::default());
        assert_eq!(none["reward_mean"].to_string(), "0.0");
    }
}
