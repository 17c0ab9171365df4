//! One step: the updates on a batch, and the statistics of all of them.

use super::Trainer;
use super::accumulate::PriorLogProbs;
use crate::Result;
use crate::batch::{BaselineStats, Batch, Row};
use crate::gradient::TokenStats;
use crate::ledger::StepStats;
use crate::model::{Grads, Policy};
use crate::objective::CorrectionStats;

/// What a step did. Means are over trained tokens of all its updates.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Update {
    /// Loss, mean over the step's updates.
    pub loss: f64,
    /// Global gradient norm before the clip, mean over the step's updates.
    pub grad_norm: f64,
    /// Learning rate of the last update.
    pub learning_rate: f64,
    /// What of it the signal-to-noise ratio left, in 0..1; 1 without such a schedule.
    pub snr_factor: f64,
    /// Entropy of the policy's next-token distribution in nats.
    pub entropy: f64,
    /// KL estimate in nats, if there is a KL term.
    pub kl: Option<f64>,
    /// Share of tokens whose gradient a clip bound cut off.
    pub clip_fraction: f64,
    /// Largest |ln π of the trainer − ln π of the sampler| over tokens, in nats, before the first update.
    pub mismatch_max: f64,
    /// Mean k3 estimate of KL(sampler ‖ trainer) in nats, before the first update.
    pub mismatch_kl: f64,
    /// Tokens that those two are of; without any they are 0 and say nothing.
    pub compared_tokens: usize,
    /// Weights of the correction for another sampler, if there is one.
    pub correction: Option<CorrectionStats>,
    /// Signal and noise of the last update, if the ledger saw chunks.
    pub ledger: Option<StepStats>,
    /// What weights and baselines came to.
    pub baseline: BaselineStats,
    /// Seconds spent on measuring gradients rather than on computing them.
    pub seconds_ledger: f64,
    /// Tokens that went through the policy with a gradient, prompts included.
    pub trained_tokens: usize,
    /// Rows that were skipped because they contribute exactly nothing.
    pub skipped_rows: usize,
}

crate::numbers! {
    /// Updates of a step. Means are over trained tokens.
    pub struct UpdateMetrics {
        /// Loss, mean over the step's updates.
        loss: f64 = "";
        /// Global gradient norm before the clip, mean over the step's updates.
        grad_norm: f64 = "";
        /// Learning rate of the last update.
        learning_rate: f64 = "";
        /// What the signal-to-noise ratio left of the learning rate, with schedule.snr.
        snr_factor: Option<f64> = "share";
        /// Entropy of the policy's next-token distribution; absent where no token was trained on.
        entropy: Option<f64> = "nats";
        /// KL estimate, if there is a KL term.
        kl: Option<f64> = "nats";
        /// Share of tokens whose gradient a clip bound cut off; absent where no token was trained on.
        clip_fraction: Option<f64> = "share";
        /// Largest |ln π of the trainer − ln π of the sampler| over tokens, before the first update; absent where no token was
        /// compared. Where top-k, top-p, min-p or a penalty reshape what is drawn from, it shows how far that is from what is
        /// trained.
        mismatch_max: Option<f64> = "nats";
        /// Mean k3 estimate of KL(sampler ‖ trainer), before the first update.
        mismatch_kl: Option<f64> = "nats";
    }
}

impl UpdateMetrics {
    /// Of an update; `snr` says whether the learning rate follows the signal-to-noise ratio.
    pub fn of(update: &Update, snr: bool) -> Self {
        let trained = update.trained_tokens > 0;
        let compared = update.compared_tokens > 0;
        Self {
            loss: update.loss,
            grad_norm: update.grad_norm,
            learning_rate: update.learning_rate,
            snr_factor: snr.then_some(update.snr_factor),
            entropy: trained.then_some(update.entropy),
            kl: update.kl,
            clip_fraction: trained.then_some(update.clip_fraction),
            mismatch_max: compared.then_some(update.mismatch_max),
            mismatch_kl: compared.then_some(update.mismatch_kl),
        }
    }
}

/// Sums over the updates of a step.
pub(super) struct Tally {
    pub(super) update: Update,
    tokens: f64,
    /// Σ of the k3 estimate over tokens that were compared with the sampler's, and their number.
    mismatch: (f64, f64),
    pub(super) correction: CorrectionStats,
    pub(super) running: crate::advantage::Running,
}

impl Trainer {
    /// Trains on a batch: `epochs` × `mini_batches` updates.
    ///
    /// # Errors
    /// If a gradient is not finite; updates before that one stand.
    pub fn step(&mut self, policy: &mut Policy, batch: &Batch) -> Result<Update> {
        let active: Vec<usize> =
            (0..batch.rows.len()).filter(|row| !self.is_idle(&batch.rows[*row])).collect();
        let mut made = None;
        if batch.seen.is_none() && !self.config.is_on_policy() {
            made = Some(self.pass(policy, batch, &active, false)?);
        }
        let old = batch.seen.as_ref().or(made.as_ref()).map(|seen| &seen.log_probs);
        let old = old.filter(|_| !self.config.is_on_policy());
        let mut referred = None;
        if batch.reference.is_none()
            && let Some(reference) = &self.reference
        {
            referred = Some(self.pass(reference, batch, &active, false)?.log_probs);
        }
        let reference = batch.reference.as_ref().or(referred.as_ref());

        let mut tally = Tally::default();
        let mut updates = 0.0;
        let end = self.optimizer.updates() + self.config.updates_per_step();
        for epoch in 0..self.config.epochs {
            for (part, groups) in
                Batch::parts(0..batch.groups.len(), self.config.mini_batches).into_iter().enumerate()
            {
                let fresh = epoch == 0 && part == 0;
                let prior = PriorLogProbs { old, reference };
                let grads = self.gradient(policy, batch, &groups, prior, fresh, &mut tally)?;
                if fresh {
                    tally.end_of_first_mini_batch();
                }
                if let Some(snr) = &self.config.schedule.snr {
                    tally.update.snr_factor = self.ledger.factor(snr, groups.len());
                }
                let stats = self.optimizer.update(policy, grads, tally.update.snr_factor)?;
                tally.update.grad_norm += stats.grad_norm;
                tally.update.learning_rate = stats.learning_rate;
                updates += 1.0;
            }
        }
        // a step of fewer groups than mini-batches makes fewer updates, and the schedule is the whole run's all the same
        self.optimizer.skip_to(end);
        self.finish(tally, &[batch], updates)
    }

    /// The gradient of a batch at a policy that stays as it is, for laboratories. On policy, as one mini-batch.
    ///
    /// # Errors
    /// If a pass fails.
    pub fn look(&mut self, policy: &Policy, batch: &Batch) -> Result<Grads> {
        let prior = PriorLogProbs { old: None, reference: batch.reference.as_ref() };
        self.gradient(policy, batch, &(0..batch.groups.len()), prior, true, &mut Tally::default())
    }

    /// Means from sums, and what is to be remembered.
    pub(super) fn finish(&mut self, tally: Tally, batches: &[&Batch], updates: f64) -> Result<Update> {
        let Tally { mut update, tokens, mismatch, correction, running } = tally;
        update.compared_tokens = mismatch.1 as usize;
        update.baseline = batches.first().map_or_else(BaselineStats::default, |batch| batch.baseline.clone());
        for batch in batches.iter().skip(1) {
            update.baseline.prior_updates.extend_from_slice(&batch.baseline.prior_updates);
            update.baseline.norms.extend_from_slice(&batch.baseline.norms);
        }
        running.into(&mut update.baseline);
        for (prompt, prior_update) in &update.baseline.prior_updates {
            self.ledger.visit(prompt, *prior_update);
        }
        if self.kl_in_reward().is_some() {
            let (mut sum, mut count) = (0.0, 0.0f64);
            for batch in batches {
                for (row, differences) in batch.rows.iter().zip(self.differences(batch)) {
                    sum = differences.iter().fold(sum, |sum, d| sum + f64::from(*d));
                    count += if differences.is_empty() { 0.0 } else { row.drawn() as f64 };
                }
            }
            update.kl = Some(sum / count.max(1.0));
        } else {
            update.kl = self.config.loss.kl_in_loss().map(|_| update.kl.unwrap_or(0.0) / tokens.max(1.0));
        }
        update.correction = self.config.loss.correction.is_some().then_some(correction);
        let per_token = 1.0 / tokens.max(1.0);
        update.entropy *= per_token;
        update.clip_fraction *= per_token;
        update.loss /= updates;
        update.grad_norm /= updates;
        Ok(update)
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            update: Update { snr_factor: 1.0, ..Update::default() },
            tokens: 0.0,
            mismatch: (0.0, 0.0),
            correction: CorrectionStats::default(),
            running: crate::advantage::Running::default(),
        }
    }
}

impl Tally {
    /// Makes the mean of what was compared with the sampler until here, since later updates are of other weights.
    pub(super) fn end_of_first_mini_batch(&mut self) {
        let (sum, count) = self.mismatch;
        self.update.mismatch_kl = sum / count.max(1.0);
    }

    /// Takes in what a pass with a gradient saw of some rows. Only where the weights are still those that sampled them,
    /// hence `fresh`, the sampler's log-probs are compared.
    pub(super) fn take<'a>(&mut self, stats: &TokenStats, rows: impl Iterator<Item = &'a Row>, fresh: bool) {
        for ((row, log_probs), entropy) in rows.zip(&stats.log_probs).zip(&stats.entropy) {
            self.tokens += row.drawn() as f64;
            self.update.trained_tokens += row.prompt_tokens.len() + row.tokens.len();
            let drawn = row.mask();
            self.update.entropy +=
                entropy.iter().zip(&drawn).map(|(e, drawn)| f64::from(e * drawn)).sum::<f64>();
            if fresh {
                let both = row.sampled_log_probs.iter().zip(log_probs).zip(&drawn);
                for ((sampled, trained), _) in both.filter(|(_, drawn)| **drawn != 0.0) {
                    let d = f64::from(*trained) - f64::from(*sampled);
                    self.update.mismatch_max = self.update.mismatch_max.max(d.abs());
                    self.mismatch.0 += d.exp() - 1.0 - d;
                    self.mismatch.1 += 1.0;
                }
            }
        }
    }
}
