//! One step: scored rollouts in, a better policy out.
//!
//! Before: [`data::ScoredRollout`] from the rewards. After: [`crate::metrics`]. The trainer knows no algorithm by
//! name; which baseline, objective and optimizer it uses are values in [`TrainerConfig`].
//!
//! A mini-batch is cut into chunks of whole prompt groups, whose gradients the ledger sees one by one. On policy, and
//! where the loss is the surrogate alone, a gradient is linear in the advantages: then rollouts that are weighed by their
//! own gradients need no second backward.

mod effect;
mod mixed;
mod open;

pub use mixed::MixedStats;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use data::ScoredRollout;

use crate::advantage::{Inputs, assign};
use crate::baseline::{BaselineConfig, RowWeights, Scale, Weights};
use crate::batch::{BaselineStats, Batch, Row, Truncated};
use crate::gradient::{self, Sequence, TokenStats};
use crate::ledger::{Ledger, LedgerConfig, StepStats};
use crate::model::{Grads, Policy};
use crate::objective::{
    Aggregate, Correction, CorrectionLevel, CorrectionMode, CorrectionStats, Kl, KlPlace, LossConfig, Tokens,
};
use crate::optimizer::Optimizer;
use crate::schedule::Schedule;
use crate::stats::{Noise, rank_correlation};
use crate::transform::OptimizerConfig;
use crate::{EngineError, Result, Tensors};

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainerConfig {
    /// What is subtracted from rewards.
    pub baseline: BaselineConfig,
    /// What advantages are divided by.
    pub scale: Scale,
    /// What becomes of truncated rollouts.
    pub truncated: Truncated,
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

    fn updates_per_step(&self) -> u64 {
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

/// The state of training: optimizer, ledger and frozen reference.
pub struct Trainer {
    config: TrainerConfig,
    optimizer: Optimizer,
    ledger: Ledger,
    reference: Option<Policy>,
}

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

/// Log-probs of every row's tokens from before the step, where they are needed.
#[derive(Clone, Copy)]
struct Before<'a> {
    /// By the policy.
    old: Option<&'a Vec<Vec<f32>>>,
    /// By the frozen reference.
    reference: Option<&'a Vec<Vec<f32>>>,
}

/// Sums over the updates of a step.
#[derive(Default)]
struct Tally {
    update: Update,
    tokens: f64,
    mismatch: (f64, f64),
    correction: CorrectionStats,
    running: crate::advantage::Running,
}

impl Trainer {
    /// A trainer at the start of a run. `policy` is copied as the reference if there is a KL term.
    ///
    /// # Errors
    /// If there is no memory for the reference.
    pub fn new(config: TrainerConfig, policy: &Policy) -> Result<Self> {
        let reference = if config.loss.kl.is_some() { Some(policy.copy()?) } else { None };
        Ok(Self::with_reference(config, reference))
    }

    /// The same with a reference that nothing else needs. There must be one if there is a KL term, else none.
    pub fn with_reference(config: TrainerConfig, reference: Option<Policy>) -> Self {
        debug_assert_eq!(config.loss.kl.is_some(), reference.is_some(), "a reference goes with a KL term");
        let optimizer = Optimizer::new(&config.optimizer, &config.schedule, config.updates());
        Self { config, optimizer, ledger: Ledger::default(), reference }
    }

    /// What it does.
    pub fn config(&self) -> &TrainerConfig {
        &self.config
    }

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
        let mut batch = Batch::new(scored, greedy, self.config.truncated)?;
        let needs = self.config.baseline.build().needs();
        let correlate = self.correlates();
        let rows: Vec<usize> = batch.groups.iter().flat_map(|group| self.telling(&batch, group)).collect();
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
        let open = self.config.weighs_in_one_backward();
        if correlate || (needs.weights == Weights::Full && !open) {
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
        if open {
            batch.open = true;
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

    fn kl_in_reward(&self) -> Option<&Kl> {
        self.config.loss.kl.as_ref().filter(|kl| kl.place == KlPlace::Reward)
    }

    /// ln π_old − ln π_ref of every token, and 0 of tokens that were not drawn, which say nothing of the policy; the log-prob
    /// pass is made where there is a KL term.
    fn differences(&self, batch: &Batch) -> Vec<Vec<f32>> {
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
    fn telling(&self, batch: &Batch, group: &crate::batch::RowGroup) -> Vec<usize> {
        let (rows, rewards): (Vec<usize>, Vec<f32>) = batch.known(group).unzip();
        let idle = self.config.baseline.build().is_within_group()
            && crate::baseline::is_equal(&rewards)
            && self.config.loss.is_surrogate_alone()
            && !self.has_kl()
            && self.config.scale != Scale::Whiten;
        rows.into_iter().filter(|row| !idle && !batch.rows[*row].tokens.is_empty()).collect()
    }

    /// A log-prob pass over some rows; the others stay empty.
    fn pass(&self, policy: &Policy, batch: &Batch, rows: &[usize], head: bool) -> Result<TokenStats> {
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
    fn is_idle(&self, row: &Row) -> bool {
        !row.trains || (self.config.loss.is_surrogate_alone() && row.advantages.iter().all(|a| *a == 0.0))
    }

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
        tally.update.snr_factor = 1.0;
        let mut updates = 0.0;
        let end = self.optimizer.updates() + self.config.updates_per_step();
        for epoch in 0..self.config.epochs {
            for (part, groups) in
                Batch::parts(0..batch.groups.len(), self.config.mini_batches).into_iter().enumerate()
            {
                let fresh = epoch == 0 && part == 0;
                let grads =
                    self.gradient(policy, batch, &groups, Before { old, reference }, fresh, &mut tally)?;
                if epoch == 0 && fresh {
                    let (sum, count) = tally.mismatch;
                    tally.update.mismatch_kl = sum / count.max(1.0);
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
        let before = Before { old: None, reference: batch.reference.as_ref() };
        self.gradient(policy, batch, &(0..batch.groups.len()), before, true, &mut Tally::default())
    }

    /// Means from sums, and what is to be remembered.
    fn finish(&mut self, tally: Tally, batches: &[&Batch], updates: f64) -> Result<Update> {
        let Tally { mut update, tokens, mismatch, correction, running } = tally;
        update.compared_tokens = mismatch.1 as usize;
        update.baseline = batches.first().map_or_else(BaselineStats::default, |batch| batch.baseline.clone());
        for batch in batches.iter().skip(1) {
            update.baseline.lessons.extend_from_slice(&batch.baseline.lessons);
        }
        running.into(&mut update.baseline);
        for (prompt, lesson) in &update.baseline.lessons {
            self.ledger.visit(prompt, *lesson);
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

    /// The gradient of one mini-batch, seen in chunks.
    fn gradient(
        &mut self,
        policy: &Policy,
        batch: &Batch,
        groups: &Range<usize>,
        before: Before<'_>,
        fresh: bool,
        tally: &mut Tally,
    ) -> Result<Grads> {
        let weights = self.row_weights(batch, groups);
        let chunks = Batch::parts(groups.clone(), self.config.ledger.chunks.max(1));
        let mut total = Grads::default();
        let mut part: Option<Grads> = None;
        let mut seen = Vec::new();
        for chunk in &chunks {
            let into = if chunks.len() == 1 { &mut total } else { part.get_or_insert_with(Grads::default) };
            self.add_chunk(policy, batch, chunk, &weights, before, fresh, into, tally)?;
            if chunks.len() > 1 {
                let begun = Instant::now();
                let into = part.as_mut().expect("made above");
                if total.is_empty() && !into.is_empty() {
                    seen.push((chunk.len(), into.global_norm()?.0.powi(2)));
                    total = std::mem::take(into);
                } else {
                    seen.push((chunk.len(), total.add_scaled(1.0, into)?));
                    into.clear();
                }
                tally.update.seconds_ledger += begun.elapsed().as_secs_f64();
            }
        }
        if chunks.len() > 1 {
            let begun = Instant::now();
            let sum = total.global_norm()?.0.powi(2);
            if let Some(noise) = Noise::estimate(&seen, sum).filter(|noise| noise.group_variance.is_finite())
            {
                tally.update.ledger = Some(self.ledger.observe(&self.config.ledger, &noise));
            }
            tally.update.seconds_ledger += begun.elapsed().as_secs_f64();
        }
        Ok(total)
    }

    /// What a token of every row counts for in the mean over some groups; 0 in others.
    fn row_weights(&self, batch: &Batch, groups: &Range<usize>) -> Vec<f32> {
        let range = batch.rows_of(groups);
        let length = |row: &Row| if row.trains { row.drawn() } else { 0 };
        let lengths: Vec<usize> = batch.rows[range.clone()].iter().map(length).collect();
        let mut weights = vec![0f32; batch.rows.len()];
        weights[range].copy_from_slice(&self.config.loss.aggregate.weights(&lengths));
        weights
    }

    /// Adds the gradient of some groups.
    #[expect(clippy::too_many_arguments, reason = "groups and what was seen of them before")]
    fn add_chunk(
        &self,
        policy: &Policy,
        batch: &Batch,
        chunk: &Range<usize>,
        weights: &[f32],
        before: Before<'_>,
        fresh: bool,
        grads: &mut Grads,
        tally: &mut Tally,
    ) -> Result<()> {
        if batch.open {
            return self.add_open(policy, batch, chunk, weights, grads, tally);
        }
        let all = batch.rows_of(chunk);
        let rows: Vec<usize> = all.clone().filter(|row| !self.is_idle(&batch.rows[*row])).collect();
        tally.update.skipped_rows += all.len() - rows.len();
        self.add_rows(policy, batch, &rows, weights, before, fresh, grads, tally)
    }

    /// Adds the gradient of rows whose advantages are decided.
    #[expect(clippy::too_many_arguments, reason = "rows and what was seen of them before")]
    fn add_rows(
        &self,
        policy: &Policy,
        batch: &Batch,
        rows: &[usize],
        weights: &[f32],
        Before { old, reference }: Before<'_>,
        fresh: bool,
        grads: &mut Grads,
        tally: &mut Tally,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let loss = &self.config.loss;
        let row = |place: usize| &batch.rows[rows[place]];
        let sequences: Vec<Sequence<'_>> = (0..rows.len()).map(|place| row(place).sequence()).collect();
        let ones: Vec<Vec<f32>> = (0..rows.len()).map(|place| row(place).mask()).collect();
        prepare(policy, grads);
        let result = gradient::gradients_into(
            policy,
            &sequences,
            self.config.micro_batch_tokens,
            self.config.temperature,
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
                    weights: &padded.column(|place| weights[rows[place]])?,
                })?)
            },
            grads,
        )?;
        tally.take(&result.stats, (0..rows.len()).map(row), fresh || self.config.is_on_policy());
        tally.update.loss += result.loss;
        tally.update.clip_fraction += result.clipped;
        tally.update.kl = Some(tally.update.kl.unwrap_or(0.0) + result.kl);
        tally.correction.join(&result.correction);
        Ok(())
    }

    /// The optimizer, for checkpoints.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// The ledger, for checkpoints.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Puts a saved optimizer and ledger back. The reference is the policy that the trainer was made with.
    ///
    /// # Errors
    /// If the state is another optimizer's.
    pub fn restore(&mut self, updates: u64, state: Tensors, ledger: Ledger) -> Result<()> {
        self.ledger = ledger;
        self.optimizer.restore(updates, state)
    }
}

/// A gradient of zeros in the policy's own form, where there is none yet.
fn prepare(policy: &Policy, grads: &mut Grads) {
    if grads.is_empty() && !grads.is_of(policy) {
        *grads = policy.zero_grads();
    }
}

impl Tally {
    /// Takes in what a pass with a gradient saw of some rows. Only where the weights are still those that sampled them,
    /// hence `fresh`, the sampler's log-probs are compared.
    fn take<'a>(&mut self, stats: &TokenStats, rows: impl Iterator<Item = &'a Row>, fresh: bool) {
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

impl Row {
    pub(crate) fn sequence(&self) -> Sequence<'_> {
        Sequence { prompt: &self.prompt_tokens, completion: &self.tokens }
    }
}
