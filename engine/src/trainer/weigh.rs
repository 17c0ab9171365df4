//! Advantages: the passes over rollouts that a baseline's weights, KL terms and later updates ask for, and what comes of them.

use std::collections::BTreeMap;

use data::ScoredRollout;

use super::Trainer;
use crate::advantage::{Inputs, assign};
use crate::baseline::{RowWeights, Scale, Weights};
use crate::batch::{Advantages, Batch, Row, RowGroup};
use crate::gradient::{self, Sequence, TokenStats};
use crate::model::Policy;
use crate::objective::{Kl, KlPlace};
use crate::stats::rank_correlation;
use crate::{EngineError, Result};

impl Trainer {
    /// Rewards become advantages. `greedy` holds rewards of greedy rollouts by prompt id, for the baseline that needs
    /// them. Passes over the rollouts are made where weights, KL terms or several updates ask for them.
    ///
    /// # Errors
    /// If a recorded log-prob is not a finite number, or a pass fails.
    pub fn batch(
        &mut self,
        policy: &Policy,
        scored: &[ScoredRollout],
        greedy: &BTreeMap<String, f32>,
    ) -> Result<Batch> {
        let kept = self.config.down_sample.map(|down_sample| down_sample.of(scored));
        let mut batch = Batch::new(kept.as_deref().unwrap_or(scored), greedy, self.config.truncated)?;
        let needs = self.config.baseline.build().needs();
        let correlate = self.correlates();
        let rows: Vec<usize> =
            batch.groups.iter().flat_map(|group| self.informative_rows(&batch, group)).collect();
        if needs.weights.needs_pass()
            || needs.token_norms
            || !self.config.is_on_policy()
            || self.has_kl()
            || correlate
        {
            let head = needs.weights == Weights::LmHead || correlate;
            batch.seen = Some(self.pass(policy, &batch, &rows, head)?);
        }
        if let Some(reference) = &self.reference {
            batch.reference = Some(self.pass(reference, &batch, &rows, false)?.log_probs);
        }
        let mut weights = RowWeights {
            length: batch.rows.iter().map(|row| row.tokens.len() as f64).collect(),
            ..RowWeights::default()
        };
        if let Some(seen) = &batch.seen {
            let sum = |row: &Vec<f32>| row.iter().map(|norm| f64::from(*norm)).sum();
            weights.logit = seen.logit_norms.iter().map(sum).collect();
            weights.lm_head.clone_from(&seen.head_norms);
        }
        let deferred = self.config.weighs_in_one_backward();
        if correlate || (needs.weights == Weights::Full && !deferred) {
            let sequences: Vec<Sequence<'_>> = rows.iter().map(|row| batch.rows[*row].sequence()).collect();
            let (tokens, temperature) = (self.config.micro_batch_tokens, self.config.temperature);
            let norms = gradient::row_norms(policy, &sequences, tokens, temperature)?;
            weights.full = vec![0.0; batch.rows.len()];
            rows.iter().zip(norms.squared).for_each(|(row, norm)| weights.full[*row] = norm);
        }
        if correlate {
            let of = |values: &[f64]| rows.iter().map(|row| values[*row]).collect::<Vec<f64>>();
            let exact = of(&weights.full);
            let cheap =
                [("length", &weights.length), ("logit", &weights.logit), ("lm_head", &weights.lm_head)];
            batch.baseline.rank_correlations = cheap
                .into_iter()
                .filter_map(|(name, values)| Some((name, rank_correlation(&of(values), &exact)?)))
                .collect();
        }
        if needs.weights == Weights::FullAdam {
            weights.full = vec![0.0; batch.rows.len()];
            for row in &rows {
                let (grads, _) =
                    gradient::row_gradient(policy, &batch.rows[*row].sequence(), self.config.temperature)?;
                weights.full[*row] =
                    self.optimizer.preconditioned_norm(&grads)?.ok_or(EngineError::NoMetric)?;
            }
        }
        if deferred {
            batch.advantages = Advantages::Deferred;
            return Ok(batch);
        }
        let differences = self.kl_in_reward().map(|kl| (kl.coefficient, self.differences(&batch)));
        let inputs = Inputs {
            baseline: &self.config.baseline,
            scale: self.config.scale,
            weights: &weights,
            ledger: &self.ledger,
            kl: differences.as_ref().map(|(beta, d)| (*beta, d.as_slice())),
        };
        assign(&mut batch, &inputs);
        Ok(batch)
    }

    fn has_kl(&self) -> bool {
        self.config.loss.kl.is_some()
    }

    pub(super) fn kl_in_reward(&self) -> Option<&Kl> {
        self.config.loss.kl.as_ref().filter(|kl| kl.place == KlPlace::Reward)
    }

    /// ln π_old − ln π_ref of every token, and 0 of tokens that were not drawn, which say nothing of the policy; the log-prob
    /// pass is made where there is a KL term.
    pub(super) fn differences(&self, batch: &Batch) -> Vec<Vec<f32>> {
        let none = || vec![Vec::new(); batch.rows.len()];
        let old = batch.seen.as_ref().map_or_else(none, |seen| seen.log_probs.clone());
        let reference = batch.reference.clone().unwrap_or_else(none);
        let row = |((old, reference), row): ((Vec<f32>, Vec<f32>), &Row)| {
            let mut d: Vec<f32> = old
                .iter()
                .zip(&reference)
                .map(|(old, reference)| (old - reference).clamp(-20.0, 20.0))
                .collect();
            if !d.is_empty() {
                row.forced.iter().for_each(|run| d[run.clone()].fill(0.0));
            }
            d
        };
        old.into_iter().zip(reference).zip(&batch.rows).map(row).collect()
    }

    /// Whether this step compares cheap weights with exact norms.
    fn correlates(&self) -> bool {
        let (every, step) =
            (self.config.ledger.correlations, self.optimizer.updates() / self.config.updates_per_step());
        every > 0 && step.is_multiple_of(every as u64)
    }

    /// Rows of a group that passes must look at: those with a reward and a token, unless the group's rewards are equal
    /// and nothing else can give it a gradient.
    pub(super) fn informative_rows(&self, batch: &Batch, group: &RowGroup) -> Vec<usize> {
        let (rows, rewards): (Vec<usize>, Vec<f32>) = batch.known(group).unzip();
        let idle = self.config.baseline.build().is_within_group()
            && crate::baseline::is_equal(&rewards)
            && self.config.loss.is_surrogate_alone()
            && !self.has_kl()
            && self.config.scale != Scale::Whiten;
        rows.into_iter().filter(|row| !idle && !batch.rows[*row].tokens.is_empty()).collect()
    }

    /// A log-prob pass over some rows; the others stay empty.
    pub(super) fn pass(
        &self,
        policy: &Policy,
        batch: &Batch,
        rows: &[usize],
        head: bool,
    ) -> Result<TokenStats> {
        let sequences: Vec<Sequence<'_>> = rows.iter().map(|row| batch.rows[*row].sequence()).collect();
        let (tokens, temperature) = (self.config.micro_batch_tokens, self.config.temperature);
        let found = gradient::log_probs(policy, &sequences, tokens, temperature, head)?;
        let spread = |values: Vec<Vec<f32>>| {
            let mut all = vec![Vec::new(); batch.rows.len()];
            rows.iter().zip(values).for_each(|(row, values)| all[*row] = values);
            all
        };
        let mut head_norms = vec![0.0; if head { batch.rows.len() } else { 0 }];
        rows.iter().zip(&found.head_norms).for_each(|(row, norm)| head_norms[*row] = *norm);
        Ok(TokenStats {
            log_probs: spread(found.log_probs),
            entropy: spread(found.entropy),
            logit_norms: spread(found.logit_norms),
            head_norms,
        })
    }

    /// Whether a row contributes a gradient of exactly 0.
    pub(super) fn is_idle(&self, row: &Row) -> bool {
        !row.trains || (self.config.loss.is_surrogate_alone() && row.advantages.iter().all(|a| *a == 0.0))
    }
}
