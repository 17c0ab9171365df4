//! One step on two branches of the same prompts: rollouts that think, and rollouts whose trace is empty.
//!
//! Ours: the mixture of BVPO (arXiv:2510.05095), which the paper has for pairs, on policy gradients of checkable rewards. Each
//! branch has groups and baselines of its own, since their mean rewards differ; the ledger sees both gradients chunk by
//! chunk and finds α from their moments. The target is the thinking branch's expectation.

use serde::Serialize;

use super::accumulate::{Accumulator, PriorLogProbs};
use super::update::Tally;
use super::{Trainer, Update};
use crate::Result;
use crate::batch::Batch;
use crate::ledger::ChunkSums;
use crate::mixture::{Alpha, Mixture, MixtureConfig, Moments};
use crate::model::Policy;

/// What the mixture came to.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct MixedStats {
    /// The thinking branch's share.
    pub alpha: f64,
    /// Second moments of both gradients of this step, if chunks were seen.
    pub moments: Option<Moments>,
}

impl Trainer {
    /// One update on both branches, whose groups are of the same prompts in the same order.
    ///
    /// # Errors
    /// If a gradient is not finite.
    pub fn mixed_step(
        &mut self,
        policy: &mut Policy,
        thinking: &Batch,
        empty: &Batch,
        config: &MixtureConfig,
        mixture: &mut Mixture,
    ) -> Result<(Update, MixedStats)> {
        let mut tally = Tally::default();
        let chunks = match config.alpha {
            Alpha::Fixed(_) => self.config.ledger.chunks.max(1),
            _ => self.config.ledger.chunks.max(2),
        };
        // a branch of weight 0 is skipped, not multiplied by 0
        let skipped = |weight: f64| config.alpha == Alpha::Fixed(weight);
        let branches = [(thinking, skipped(0.0)), (empty, skipped(1.0))];
        let whole = !branches[0].1 && !branches[1].1;
        let accumulators = branches.map(|(batch, _)| {
            let prior = PriorLogProbs { old: None, reference: batch.reference.as_ref() };
            Accumulator::new(self, policy, batch, &(0..batch.groups.len()), prior, true)
        });
        let parts = branches.map(|(batch, _)| Batch::parts(0..batch.groups.len(), chunks));
        let mut sums = ChunkSums::<2>::new();
        for chunk in 0..parts[0].len().max(parts[1].len()) {
            let mut units = [0; 2];
            for (branch, (_, skip)) in branches.iter().enumerate() {
                let Some(groups) = parts[branch].get(chunk).filter(|_| !skip) else { continue };
                units[branch] = groups.len();
                accumulators[branch].add_chunk(groups, sums.chunk(policy, branch), &mut tally)?;
            }
            sums.end_chunk(units)?;
        }
        let moments = sums.moments()?.filter(|_| whole);
        let fraction =
            moments.map(|moments| moments.fraction()).filter(|(n, d)| n.is_finite() && d.is_finite());
        let alpha = mixture.observe(config, fraction);
        // of branches that are both there, a unit is a prompt with its two groups
        let prompts =
            |units: &[usize; 2]| if whole { units[0].min(units[1]) } else { units[0].max(units[1]) };
        if let Some(noise) = sums.noise_of_mixture(alpha, prompts)? {
            tally.update.ledger = Some(self.ledger.observe(&self.config.ledger, &noise));
        }
        let total = sums.mixture(policy, alpha)?;
        drop(sums);
        if let Some(snr) = &self.config.schedule.snr {
            tally.update.snr_factor = self.ledger.factor(snr, thinking.groups.len());
        }
        tally.end_of_first_mini_batch();
        let stats = self.optimizer.update(policy, total, tally.update.snr_factor)?;
        (tally.update.grad_norm, tally.update.learning_rate) = (stats.grad_norm, stats.learning_rate);
        Ok((self.finish(tally, &[thinking, empty], 1.0)?, MixedStats { alpha, moments }))
    }
}
