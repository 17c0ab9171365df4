//! What is remembered of gradients: signal and noise of the batches so far, and what every prompt taught.
//!
//! Before: the trainer has seen the gradients of single rollouts and of chunks of prompt groups. After: the learning rate
//! follows the signal-to-noise ratio, baselines know the prompts' past, and metrics say how far to trust a step.

mod chunks;

pub(crate) use chunks::ChunkSums;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::metrics::finite;
use crate::schedule::Snr;
use crate::stats::{Ema, Noise, snr_factor};

/// What the ledger looks at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LedgerConfig {
    /// Parts of a batch, each of whole prompt groups, whose gradients are seen apart: signal and noise come from how they
    /// differ. At most as many as groups; 0 or 1 looks at nothing and saves one gradient's memory.
    pub chunks: usize,
    /// Memory that rollouts may take while they wait for the weights of their group, in gradients of the whole model; by
    /// default 2, and at least 32 MiB. Beyond it two sums or two passes do the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<f64>,
    /// Share of the past that running means keep from update to update.
    pub decay: f64,
    /// Steps between two measurements of how well each cheap weight ranks rollouts, against their exact gradient norms; 0
    /// for none. Such a step costs about as much again.
    pub correlations: usize,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self { chunks: 8, room: None, decay: 0.9, correlations: 0 }
    }
}

impl LedgerConfig {
    /// Bytes that rollouts may take while they wait, of a model of so many parameters.
    pub fn room_bytes(&self, parameters: usize) -> usize {
        let gradient = 4.0 * parameters as f64;
        match self.room {
            Some(room) => (room * gradient) as usize,
            None => ((2.0 * gradient) as usize).max(32 << 20),
        }
    }
}

/// Share of what a prompt taught that its running mean keeps from visit to visit.
const PRIOR_DECAY: f64 = 0.7;

/// Everything that outlives an update. Small numbers, saved in JSON.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ledger {
    signal: Ema,
    group_variance: Ema,
    /// Updates whose gradients were seen in chunks.
    seen: u64,
    /// The running mean of what every prompt that was visited taught its baseline.
    priors: BTreeMap<String, Ema>,
}

/// What the ledger says of an update.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepStats {
    /// Unbiased estimate of ‖∇J‖² from this update alone; may be negative.
    pub signal: f64,
    /// Unbiased estimate of the variance of this update's gradient.
    pub noise: f64,
    /// Signal over noise, from running means.
    pub snr: f64,
    /// Gradient noise scale in prompt groups, from running means: the batch at which signal and noise are equal.
    pub noise_scale: f64,
    /// Expected cosine between two groups' gradients, from running means.
    pub group_cosine: f64,
}

crate::numbers! {
    /// Signal and noise of gradients.
    pub struct LedgerMetrics {
        /// Unbiased estimate of ‖∇J‖² from this step alone; may be negative.
        gradient_signal: Option<f64> = "";
        /// Unbiased estimate of the variance of this step's gradient.
        gradient_noise: Option<f64> = "";
        /// Signal over noise, from running means.
        snr: Option<f64> = "";
        /// Gradient noise scale, from running means: the batch at which signal and noise are equal. Absent where the signal
        /// drowns.
        noise_scale: Option<f64> = "prompt groups";
        /// Expected cosine between the gradients of two groups, from running means.
        group_cosine: Option<f64> = "";
    }
}

impl From<StepStats> for LedgerMetrics {
    fn from(stats: StepStats) -> Self {
        Self {
            gradient_signal: Some(stats.signal),
            gradient_noise: Some(stats.noise),
            snr: finite(Some(stats.snr)),
            noise_scale: finite(Some(stats.noise_scale)),
            group_cosine: Some(stats.group_cosine),
        }
    }
}

impl Ledger {
    /// Takes in what the chunks of an update showed.
    pub fn observe(&mut self, config: &LedgerConfig, noise: &Noise) -> StepStats {
        self.signal.add(config.decay, noise.signal);
        self.group_variance.add(config.decay, noise.group_variance);
        self.seen += 1;
        let mean = self.noise(noise.groups).unwrap_or(*noise);
        StepStats {
            signal: noise.signal,
            noise: noise.variance(),
            snr: mean.snr(),
            noise_scale: mean.scale(),
            group_cosine: mean.cosine(),
        }
    }

    /// Running means of signal and noise for a batch of so many groups, if anything was seen.
    pub fn noise(&self, groups: usize) -> Option<Noise> {
        Some(Noise { signal: self.signal.mean()?, group_variance: self.group_variance.mean()?, groups })
    }

    /// What the learning rate is multiplied by for a batch of so many groups: SNR/(1 + SNR) within the schedule's bounds; 1
    /// during its warm-up and before anything was seen.
    pub fn factor(&self, snr: &Snr, groups: usize) -> f64 {
        match self.noise(groups) {
            Some(noise) if self.seen > snr.warmup => snr_factor(noise.snr()).clamp(snr.floor, 1.0),
            _ => 1.0,
        }
    }

    /// The running mean of what a prompt's past groups taught, in units of reward.
    pub fn prior(&self, prompt: &str) -> Option<f32> {
        self.priors.get(prompt).and_then(Ema::mean).map(|mean| mean as f32)
    }

    /// Takes in what a prompt's group taught.
    pub fn visit(&mut self, prompt: &str, prior_update: f32) {
        self.priors.entry(prompt.to_owned()).or_default().add(PRIOR_DECAY, prior_update.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_warms_up_rises_with_the_batch_and_keeps_its_floor() {
        let (config, snr) = (LedgerConfig::default(), Snr { floor: 0.1, warmup: 2 });
        let mut ledger = Ledger::default();
        assert_eq!(ledger.factor(&snr, 8), 1.0);
        for _ in 0..3 {
            ledger.observe(&config, &Noise { signal: 1.0, group_variance: 24.0, groups: 8 });
        }
        let at = |groups| ledger.factor(&snr, groups);
        assert!((at(8) - 0.25).abs() < 1e-5 && at(4) < at(8) && at(8) < at(64), "{}", at(8));
        let mut drowned = Ledger::default();
        for _ in 0..3 {
            drowned.observe(&config, &Noise { signal: -1.0, group_variance: 24.0, groups: 8 });
        }
        assert_eq!(drowned.factor(&snr, 8), 0.1);
        assert_eq!(Ledger { seen: 2, ..ledger.clone() }.factor(&snr, 8), 1.0, "still warming up");
    }

    #[test]
    fn ratios_are_those_of_means_and_not_means_of_ratios() {
        let mut ledger = Ledger::default();
        let config = LedgerConfig { decay: 0.5, ..LedgerConfig::default() };
        ledger.observe(&config, &Noise { signal: 3.0, group_variance: 4.0, groups: 4 });
        let stats = ledger.observe(&config, &Noise { signal: -1.0, group_variance: 8.0, groups: 4 });
        // weights 1/3 and 2/3: signal 1/3, variance 20/3
        assert!((stats.noise_scale - 20.0).abs() < 1e-4, "{stats:?}");
        assert!((stats.snr - 0.2).abs() < 1e-5 && stats.signal == -1.0 && stats.noise == 2.0);
    }

    #[test]
    fn it_reads_back_what_it_wrote() {
        let mut ledger = Ledger::default();
        for i in 0..50 {
            let noise = Noise { signal: 0.1 + f64::from(i) / 7.0, group_variance: 1.0 / 3.0, groups: 3 };
            ledger.observe(&LedgerConfig::default(), &noise);
            ledger.visit(&format!("p{}", i % 3), i as f32 / 11.0);
        }
        let text = serde_json::to_string(&ledger).expect("JSON");
        assert_eq!(serde_json::from_str::<Ledger>(&text).expect("ledger"), ledger);
    }
}
