//! The settings of the trainer, and which of them do not fit each other.

use crate::allocation::DownSample;
use crate::baseline::{BaselineConfig, Scale, Weights};
use crate::batch::Truncated;
use crate::ledger::LedgerConfig;
use crate::objective::{Aggregate, Correction, CorrectionLevel, CorrectionMode, LossConfig};
use crate::schedule::Schedule;
use crate::transform::OptimizerConfig;

/// The settings of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainerConfig {
    /// What is subtracted from rewards.
    pub baseline: BaselineConfig,
    /// What advantages are divided by.
    pub scale: Scale,
    /// What becomes of truncated rollouts.
    pub truncated: Truncated,
    /// Rollouts of a group that are trained on, if not all.
    pub down_sample: Option<DownSample>,
    /// The loss.
    pub loss: LossConfig,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// Its learning rate.
    pub schedule: Schedule,
    /// What is watched of gradients.
    pub ledger: LedgerConfig,
    /// Times that each rollout is trained on, at least 1.
    pub epochs: usize,
    /// Updates in an epoch, at least 1.
    pub mini_batches: usize,
    /// Padded tokens of one forward pass; changes memory and speed, and results by rounding only.
    pub micro_batch_tokens: usize,
    /// Logits are divided by it, as they were at sampling; above 0.
    pub temperature: f64,
    /// Steps of the whole run, for the schedule.
    pub steps: u64,
}

impl TrainerConfig {
    /// Updates of the whole run.
    pub fn updates(&self) -> u64 {
        self.steps * self.updates_per_step()
    }

    pub(super) fn updates_per_step(&self) -> u64 {
        (self.epochs * self.mini_batches) as u64
    }

    /// Whether every update sees rollouts of the very weights that it changes.
    pub fn is_on_policy(&self) -> bool {
        self.updates_per_step() == 1
    }

    /// Whether rollouts are weighed by their gradients in the very backward that trains on them.
    pub fn weighs_in_one_backward(&self) -> bool {
        self.baseline.build().needs().weights == Weights::Full
            && self.is_on_policy()
            && self.loss.is_surrogate_alone()
            && self.loss.correction.is_none()
            && self.loss.kl.is_none()
            && !self.scale.is_global()
    }

    /// Parts that do not fit each other, if there are any.
    pub fn problem(&self) -> Option<String> {
        let baseline = self.baseline.build();
        if let Some(problem) = baseline.problem() {
            return Some(problem);
        }
        if let Some(problem) = self.optimizer.problem() {
            return Some(problem);
        }
        if baseline.needs().weights == Weights::FullAdam && self.optimizer.fused().is_none() {
            return Some(
                "baseline.optimal.weights = \"full_adam\" measures gradients in the metric of AdamW's second moment; wanted \
                 optimizer.adamw"
                    .into(),
            );
        }
        let weighted = baseline.needs().measures_completions();
        if weighted && self.loss.aggregate == Aggregate::SequenceMean {
            return Some(
                "a weighted baseline needs a loss whose rows have one normaliser, and aggregate = \"sequence_mean\" divides each \
                 row by its own length: E[∇ ln π / length] is not 0, so any baseline shifts the expected gradient; use \
                 aggregate = \"token_mean\" or { constant = { tokens = … } }"
                    .into(),
            );
        }
        if let Some(snr) = &self.schedule.snr {
            if !(0.0..=1.0).contains(&snr.floor) {
                return Some(format!("schedule.snr.floor is {}; wanted 0 to 1", snr.floor));
            }
            if self.ledger.chunks < 2 {
                return Some(format!(
                    "schedule.snr needs the ledger to see at least 2 chunks of each batch, but ledger.chunks is {}",
                    self.ledger.chunks
                ));
            }
        }
        if let Some(room) = self.ledger.room.filter(|room| !(room.is_finite() && *room >= 0.0)) {
            return Some(format!("ledger.room is {room}; wanted at least 0"));
        }
        if !(0.0..1.0).contains(&self.ledger.decay) {
            return Some(format!("ledger.decay is {}; wanted at least 0 and below 1", self.ledger.decay));
        }
        if let Some(correction) = &self.loss.correction
            && !(correction.lower >= 0.0 && correction.upper >= correction.lower)
        {
            return Some(format!(
                "correction.lower is {} and correction.upper {}; wanted 0 ≤ lower ≤ upper",
                correction.lower, correction.upper
            ));
        }
        if let Some(Correction {
            level: CorrectionLevel::Geometric, mode: CorrectionMode::Truncate, ..
        }) = &self.loss.correction
        {
            return Some(
                "correction.level = \"geometric\" measures how far a rollout is from the trainer's policy, and its weight stays 1: \
                 with mode = \"truncate\" nothing would come of it; use mode = \"mask\", or level = \"token\" or \"sequence\""
                    .into(),
            );
        }
        None
    }
}
