//! The gradient of a mini-batch, chunk by chunk of whole prompt groups.

use std::ops::Range;

use super::Trainer;
use super::update::Tally;
use crate::Result;
use crate::batch::{Advantages, Batch, Row};
use crate::gradient::{self, Sequence};
use crate::ledger::ChunkSums;
use crate::model::{Grads, Policy};
use crate::objective::Tokens;

/// Log-probs of every row's tokens from before the step, where they are needed.
#[derive(Clone, Copy, Default)]
pub(super) struct PriorLogProbs<'a> {
    /// By the policy.
    pub(super) old: Option<&'a Vec<Vec<f32>>>,
    /// By the frozen reference.
    pub(super) reference: Option<&'a Vec<Vec<f32>>>,
}

/// Adds up the gradient of a batch's rows at a policy that stays as it is.
pub(super) struct Accumulator<'a> {
    pub(super) trainer: &'a Trainer,
    pub(super) policy: &'a Policy,
    pub(super) batch: &'a Batch,
    /// What a token of every row counts for in the mean over the mini-batch.
    pub(super) weights: Vec<f32>,
    pub(super) prior: PriorLogProbs<'a>,
    /// Whether no update was made since the rollouts were compared with: log-probs are the sampler's.
    pub(super) fresh: bool,
}

impl Trainer {
    /// The gradient of one mini-batch, seen in chunks.
    pub(super) fn gradient(
        &mut self,
        policy: &Policy,
        batch: &Batch,
        groups: &Range<usize>,
        prior: PriorLogProbs<'_>,
        fresh: bool,
        tally: &mut Tally,
    ) -> Result<Grads> {
        let accumulator = Accumulator::new(self, policy, batch, groups, prior, fresh);
        let chunks = Batch::parts(groups.clone(), self.config.ledger.chunks.max(1));
        if let [only] = chunks.as_slice() {
            // a sum of its own would double the memory of the only chunk
            let mut grads = Grads::default();
            accumulator.add_chunk(only, &mut grads, tally)?;
            return Ok(grads);
        }
        let mut sums = ChunkSums::<1>::new();
        for chunk in &chunks {
            accumulator.add_chunk(chunk, sums.chunk(policy, 0), tally)?;
            sums.end_chunk([chunk.len()])?;
        }
        if let Some(noise) = sums.noise()? {
            tally.update.ledger = Some(self.ledger.observe(&self.config.ledger, &noise));
        }
        tally.update.seconds_ledger += sums.seconds;
        Ok(sums.into_sum())
    }
}

impl<'a> Accumulator<'a> {
    /// For some groups of a batch.
    pub(super) fn new(
        trainer: &'a Trainer,
        policy: &'a Policy,
        batch: &'a Batch,
        groups: &Range<usize>,
        prior: PriorLogProbs<'a>,
        fresh: bool,
    ) -> Self {
        let range = batch.rows_of(groups);
        let length = |row: &Row| if row.trains { row.drawn() } else { 0 };
        let lengths: Vec<usize> = batch.rows[range.clone()].iter().map(length).collect();
        let mut weights = vec![0f32; batch.rows.len()];
        let shares = batch.shares(groups);
        weights[range].copy_from_slice(&trainer.config.loss.aggregate.weights(&lengths, &shares));
        Self { trainer, policy, batch, weights, prior, fresh }
    }

    /// Adds the gradient of some groups.
    pub(super) fn add_chunk(
        &self,
        groups: &Range<usize>,
        grads: &mut Grads,
        tally: &mut Tally,
    ) -> Result<()> {
        if self.batch.advantages == Advantages::Deferred {
            return self.add_deferred(groups, grads, tally);
        }
        let all = self.batch.rows_of(groups);
        let rows: Vec<usize> =
            all.clone().filter(|row| !self.trainer.is_idle(&self.batch.rows[*row])).collect();
        tally.update.skipped_rows += all.len() - rows.len();
        self.add_rows(&rows, grads, tally)
    }

    /// Adds the gradient of rows whose advantages are decided.
    fn add_rows(&self, rows: &[usize], grads: &mut Grads, tally: &mut Tally) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let (config, PriorLogProbs { old, reference }) = (&self.trainer.config, self.prior);
        let loss = &config.loss;
        let row = |place: usize| &self.batch.rows[rows[place]];
        let sequences: Vec<Sequence<'_>> = (0..rows.len()).map(|place| row(place).sequence()).collect();
        let ones: Vec<Vec<f32>> = (0..rows.len()).map(|place| row(place).mask()).collect();
        self.prepare(grads);
        let result = gradient::gradients_into(
            self.policy,
            &sequences,
            config.micro_batch_tokens,
            config.temperature,
            &|padded| {
                let now = padded.log_probs.as_detached_tensor();
                let saved = |saved: Option<&Vec<Vec<f32>>>| match saved {
                    Some(saved) => padded.grid(|place| &saved[rows[place]]).map(Some),
                    None => Ok(None),
                };
                Ok(loss.loss(&Tokens {
                    log_probs: padded.log_probs.as_tensor(),
                    entropy: padded.entropy.as_tensor(),
                    old_log_probs: &saved(old)?.unwrap_or(now),
                    sampled_log_probs: &padded.grid(|place| &row(place).sampled_log_probs)?,
                    reference_log_probs: saved(reference)?.as_ref(),
                    advantages: &padded.grid(|place| &row(place).advantages)?,
                    mask: &padded.grid(|place| &ones[place])?,
                    weights: &padded.column(|place| self.weights[rows[place]])?,
                })?)
            },
            grads,
        )?;
        tally.take(&result.stats, (0..rows.len()).map(row), self.fresh || config.is_on_policy());
        tally.update.loss += result.loss;
        tally.update.clip_fraction += result.clipped;
        tally.update.kl = Some(tally.update.kl.unwrap_or(0.0) + result.kl);
        tally.correction.join(&result.correction);
        Ok(())
    }

    /// A gradient of zeros in the policy's own form, where there is none yet.
    pub(super) fn prepare(&self, grads: &mut Grads) {
        if grads.is_empty() && !grads.is_of(self.policy) {
            *grads = self.policy.zero_grads();
        }
    }
}

impl Row {
    pub(crate) fn sequence(&self) -> Sequence<'_> {
        Sequence { prompt: &self.prompt_tokens, completion: &self.tokens }
    }
}
