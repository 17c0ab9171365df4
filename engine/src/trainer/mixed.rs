//! One step on two branches of the same prompts: rollouts that think, and rollouts whose trace is empty.
//!
//! Ours: the mixture of BVPO (arXiv:2510.05095), which the paper has for pairs, on policy gradients of checkable rewards. Each
//! branch has groups and baselines of its own, since their mean rewards differ; the ledger sees both gradients chunk by
//! chunk and finds α from their moments. The target is the thinking branch's expectation.

use serde::Serialize;

use super::{Before, Tally, Trainer, Update};
use crate::Result;
use crate::batch::Batch;
use crate::mixture::{Alpha, Mixture, MixtureConfig, Moments};
use crate::model::{Grads, Policy};
use crate::stats::Noise;

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
        tally.update.snr_factor = 1.0;
        let chunks = match config.alpha {
            Alpha::Fixed(_) => self.config.ledger.chunks.max(1),
            _ => self.config.ledger.chunks.max(2),
        };
        // a branch of weight 0 is skipped, not multiplied by 0
        let skipped = |weight: f64| config.alpha == Alpha::Fixed(weight);
        let branches = [(thinking, skipped(0.0)), (empty, skipped(1.0))];
        let weights = branches.map(|(batch, _)| self.row_weights(batch, &(0..batch.groups.len())));
        let parts = branches.map(|(batch, _)| Batch::parts(0..batch.groups.len(), chunks));
        let mut sums = [Grads::default(), Grads::default()];
        let mut seen = Vec::new();
        for chunk in 0..parts[0].len().max(parts[1].len()) {
            let mut grads = [Grads::default(), Grads::default()];
            let mut units = [0; 2];
            for branch in 0..2 {
                let (batch, skip) = branches[branch];
                let Some(groups) = parts[branch].get(chunk).filter(|_| !skip) else { continue };
                units[branch] = groups.len();
                let before = Before { old: None, reference: batch.reference.as_ref() };
                let into = &mut grads[branch];
                self.add_chunk(policy, batch, groups, &weights[branch], before, true, into, &mut tally)?;
            }
            let both = grads[0].inner(&grads[1])?;
            let mut squares = [0.0, 0.0, both];
            for (branch, grads) in grads.into_iter().enumerate() {
                if sums[branch].is_empty() && !grads.is_empty() {
                    squares[branch] = grads.global_norm()?.0.powi(2);
                    sums[branch] = grads;
                } else if !grads.is_empty() {
                    squares[branch] = sums[branch].add_scaled(1.0, &grads)?;
                }
            }
            seen.push((units, squares));
        }
        let sum =
            [sums[0].global_norm()?.0.powi(2), sums[1].global_norm()?.0.powi(2), sums[0].inner(&sums[1])?];
        let whole = !branches[0].1 && !branches[1].1;
        let moments = Moments::estimate(&seen, sum).filter(|_| whole);
        let fraction =
            moments.map(|moments| moments.fraction()).filter(|(n, d)| n.is_finite() && d.is_finite());
        let alpha = mixture.observe(config, fraction);
        let mixed = |x: &[f64; 3]| {
            let rest = 1.0 - alpha;
            alpha * alpha * x[0] + rest * rest * x[1] + 2.0 * alpha * rest * x[2]
        };
        // of branches that are both there, a unit is a prompt with its two groups
        let prompts =
            |units: &[usize; 2]| if whole { units[0].min(units[1]) } else { units[0].max(units[1]) };
        let norms: Vec<(usize, f64)> = seen.iter().map(|(units, x)| (prompts(units), mixed(x))).collect();
        if let Some(noise) =
            Noise::estimate(&norms, mixed(&sum)).filter(|noise| noise.group_variance.is_finite())
        {
            tally.update.ledger = Some(self.ledger.observe(&self.config.ledger, &noise));
        }
        let mut total = policy.zero_grads();
        total.add_scaled(alpha as f32, &sums[0])?;
        total.add_scaled((1.0 - alpha) as f32, &sums[1])?;
        if let Some(snr) = &self.config.schedule.snr {
            tally.update.snr_factor = self.ledger.factor(snr, thinking.groups.len());
        }
        let (sum, count) = tally.mismatch;
        tally.update.mismatch_kl = sum / count.max(1.0);
        let stats = self.optimizer.update(policy, total, tally.update.snr_factor)?;
        (tally.update.grad_norm, tally.update.learning_rate) = (stats.grad_norm, stats.learning_rate);
        Ok((self.finish(tally, &[thinking, empty], 1.0)?, MixedStats { alpha, moments }))
    }
}
