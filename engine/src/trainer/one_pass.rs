//! Rollouts that are weighed by their own gradients, in the one backward that trains on them.
//!
//! On policy a group's gradient is Σⱼ Aⱼ Sⱼ with Sⱼ = ∇ ln π(yⱼ | x), and Aⱼ depends on all ‖Sⱼ‖² of the group. So every
//! rollout goes backward with unit weight; its norm is taken, and inputs and cotangents are kept until the group is
//! complete ([`crate::gradient::DeferredRows`]). Where a group is too large to be kept and its baseline is the same for all its
//! rollouts, two sums suffice: with u = (r − low)/(high − low), Σ (r − b) S = (low − b) Σ (1 − u) S + (high − b) Σ u S. A
//! rollout of least or largest reward goes into one of them only. Else the norms are taken in a pass of their own.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::accumulate::Accumulator;
use super::update::Tally;
use crate::Result;
use crate::advantage::GroupInputs;
use crate::baseline::{Scale, advantages, divisor, largest};
use crate::gradient::{self, DeferredRows, Sequence, TokenStats};
use crate::model::Grads;

impl Accumulator<'_> {
    /// Adds the gradient of some groups whose advantages are deferred.
    pub(super) fn add_deferred(
        &self,
        groups: &Range<usize>,
        grads: &mut Grads,
        tally: &mut Tally,
    ) -> Result<()> {
        let room = self.trainer.config.ledger.room_bytes(self.policy.config().parameter_count());
        let fits = room / self.policy.row_bytes_per_token().max(1);
        let mut waiting: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut tokens = 0;
        for number in groups.clone() {
            let rows = self.trainer.informative_rows(self.batch, &self.batch.groups[number]);
            tally.update.skipped_rows += self.batch.groups[number].rows.len() - rows.len();
            if rows.is_empty() {
                continue;
            }
            let size = rows.iter().map(|row| self.batch.rows[*row].sequence().length()).sum::<usize>();
            if size > fits {
                self.add_large(number, &rows, fits, grads, tally)?;
                continue;
            }
            if !waiting.is_empty() && tokens + size > self.trainer.config.micro_batch_tokens.min(fits) {
                self.add_kept(&waiting, grads, tally)?;
                waiting.clear();
                tokens = 0;
            }
            waiting.push((number, rows));
            tokens += size;
        }
        if waiting.is_empty() { Ok(()) } else { self.add_kept(&waiting, grads, tally) }
    }

    /// Groups that are kept whole.
    fn add_kept(&self, groups: &[(usize, Vec<usize>)], grads: &mut Grads, tally: &mut Tally) -> Result<()> {
        let rows: Vec<usize> = groups.iter().flat_map(|(_, rows)| rows.iter().copied()).collect();
        let sequences: Vec<Sequence<'_>> = rows.iter().map(|row| self.batch.rows[*row].sequence()).collect();
        let Some(open) = DeferredRows::new(self.policy, &sequences, self.trainer.config.temperature)? else {
            for (number, rows) in groups {
                self.add_twice(*number, rows, grads, tally)?;
            }
            return Ok(());
        };
        let mut factors = Vec::with_capacity(rows.len());
        let mut first = 0;
        for (number, rows) in groups {
            let norms = &open.squared_norms[first..first + rows.len()];
            first += rows.len();
            let advantages = self.decide(*number, rows, norms, tally);
            for (row, advantage) in rows.iter().zip(advantages) {
                factors.push(self.factor(*row, advantage, tally));
            }
        }
        self.prepare(grads);
        open.add(self.policy, &factors, grads)?;
        tally.take(&open.stats, rows.iter().map(|row| &self.batch.rows[*row]), true);
        tally.update.seconds_ledger += open.seconds();
        Ok(())
    }

    /// The advantages of a group's rows, from their squared gradient norms.
    fn decide(&self, number: usize, rows: &[usize], norms: &[f64], tally: &mut Tally) -> Vec<f32> {
        let baseline = self.trainer.config.baseline.build();
        let weight =
            |row: usize| rows.iter().position(|other| *other == row).map_or(0.0, |place| norms[place]);
        let seen = GroupInputs::new(self.batch, number, baseline, &self.trainer.ledger, None, weight);
        let mut values = advantages(baseline, &seen.group());
        tally.running.take(baseline, &self.batch.groups[number].prompt, &seen, &values);
        if self.trainer.config.scale == Scale::Group {
            let divisor = divisor(&seen.rewards, largest(&values));
            values.iter_mut().for_each(|value| *value /= divisor);
        }
        // rollouts without a token have a reward but no row here
        let of =
            |row: &usize| seen.rows.iter().position(|other| other == row).map_or(0.0, |place| values[place]);
        rows.iter().map(of).collect()
    }

    /// What a row's unit gradient is multiplied with in the gradient of the loss.
    fn factor(&self, row: usize, advantage: f32, tally: &mut Tally) -> f32 {
        let weight = if self.batch.rows[row].trains { self.weights[row] } else { 0.0 };
        let factor = -advantage * weight;
        tally.update.loss += f64::from(factor) * self.batch.rows[row].tokens.len() as f64;
        factor
    }

    /// A group that is too large to be kept.
    fn add_large(
        &self,
        number: usize,
        rows: &[usize],
        fits: usize,
        grads: &mut Grads,
        tally: &mut Tally,
    ) -> Result<()> {
        let longest = rows.iter().map(|row| self.batch.rows[*row].sequence().length()).max().unwrap_or(0);
        if !self.trainer.config.baseline.build().is_constant() || longest > fits {
            static WARNED: AtomicBool = AtomicBool::new(false);
            if !WARNED.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    fits,
                    "a group has more tokens than the ledger's room holds, so its rollouts are weighed in a pass of their own, \
                     which costs about as much again; raise rl.ledger.room, or take mode = \"own\""
                );
            }
            return self.add_twice(number, rows, grads, tally);
        }
        let rewards: Vec<f32> = rows.iter().map(|row| self.batch.rows[*row].reward.unwrap_or(0.0)).collect();
        let (low, high) =
            rewards.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), r| (l.min(*r), h.max(*r)));
        let spread = high - low;
        let share = |reward: f32| if spread > 0.0 { (reward - low) / spread } else { 0.0 };
        let (mut lows, mut highs) = (self.policy.zero_grads(), self.policy.zero_grads());
        let mut norms = vec![0.0; rows.len()];
        let budget = self.trainer.config.micro_batch_tokens.min(fits / 2).max(longest);
        let mut place = 0;
        while place < rows.len() {
            let (first, mut tokens) = (place, 0);
            while place < rows.len() {
                let length = self.batch.rows[rows[place]].sequence().length();
                if place > first && tokens + length > budget {
                    break;
                }
                (tokens, place) = (tokens + length, place + 1);
            }
            let some = &rows[first..place];
            let sequences: Vec<Sequence<'_>> =
                some.iter().map(|row| self.batch.rows[*row].sequence()).collect();
            let Some(open) = DeferredRows::new(self.policy, &sequences, self.trainer.config.temperature)?
            else {
                return self.add_twice(number, rows, grads, tally);
            };
            norms[first..place].copy_from_slice(&open.squared_norms);
            let factors = |of: &dyn Fn(f32) -> f32| -> Vec<f32> {
                let one = |(row, reward): (&usize, &f32)| {
                    if self.batch.rows[*row].trains { of(*reward) } else { 0.0 }
                };
                some.iter().zip(&rewards[first..place]).map(one).collect()
            };
            open.add(self.policy, &factors(&|reward| 1.0 - share(reward)), &mut lows)?;
            open.add(self.policy, &factors(&share), &mut highs)?;
            tally.take(&open.stats, some.iter().map(|row| &self.batch.rows[*row]), true);
            tally.update.seconds_ledger += open.seconds();
        }
        let advantages = self.decide(number, rows, &norms, tally);
        for (row, advantage) in rows.iter().zip(&advantages) {
            self.factor(*row, *advantage, tally);
        }
        // the advantage is a line in the reward, the same for all: two of its points are those of low and high
        let at = |reward: f32| {
            let place = rewards.iter().position(|r| *r == reward).expect("a reward of the group");
            advantages[place]
        };
        let weight = rows.iter().map(|row| self.weights[*row]).fold(0f32, f32::max);
        self.prepare(grads);
        grads.add_scaled(-at(low) * weight, &lows)?;
        grads.add_scaled(-at(high) * weight, &highs)?;
        Ok(())
    }

    /// Norms in a pass of their own, then the gradient in another.
    fn add_twice(&self, number: usize, rows: &[usize], grads: &mut Grads, tally: &mut Tally) -> Result<()> {
        let begun = std::time::Instant::now();
        let sequences: Vec<Sequence<'_>> = rows.iter().map(|row| self.batch.rows[*row].sequence()).collect();
        let (tokens, temperature) = (self.trainer.config.micro_batch_tokens, self.trainer.config.temperature);
        let norms = gradient::row_norms(self.policy, &sequences, tokens, temperature)?;
        tally.update.seconds_ledger += begun.elapsed().as_secs_f64();
        let advantages = self.decide(number, rows, &norms.squared, tally);
        let factors: Vec<f32> =
            rows.iter().zip(advantages).map(|(row, advantage)| self.factor(*row, advantage, tally)).collect();
        self.prepare(grads);
        let result = gradient::gradients_into(
            self.policy,
            &sequences,
            tokens,
            temperature,
            &|padded| {
                let factors = padded.column(|row| factors[row])?;
                let loss = padded.log_probs.broadcast_mul(&factors)?.sum_all()?;
                Ok(crate::objective::Loss::plain(loss))
            },
            grads,
        )?;
        let stats: TokenStats = result.stats;
        tally.take(&stats, rows.iter().map(|row| &self.batch.rows[*row]), true);
        Ok(())
    }
}
