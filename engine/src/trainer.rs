//! One step: scored rollouts in, a better policy out.
//!
//! Before: [`data::ScoredRollout`] from the rewards. After: [`crate::metrics`]. The trainer knows no algorithm by
//! name; which baseline, objective and optimizer it uses are values in [`TrainerConfig`].

use data::ScoredRollout;

use crate::baseline::{BaselineConfig, Scale};
use crate::batch::{Batch, Row, Truncated};
use crate::gradient::{self, Sequence};
use crate::model::Policy;
use crate::objective::{ObjectiveConfig, Tokens};
use crate::optimizer::Optimizer;
use crate::schedule::Schedule;
use crate::transform::OptimizerConfig;
use crate::{Result, Tensors};

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
    pub objective: ObjectiveConfig,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// Its learning rate.
    pub schedule: Schedule,
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
        self.steps * (self.epochs * self.mini_batches) as u64
    }
}

/// The state of training: optimizer and frozen reference.
pub struct Trainer {
    config: TrainerConfig,
    optimizer: Optimizer,
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
    /// Entropy of the policy's next-token distribution in nats.
    pub entropy: f64,
    /// KL estimate in nats, if the objective has a KL term.
    pub kl: Option<f64>,
    /// Share of tokens whose gradient a clip bound cut off.
    pub clip_fraction: f64,
    /// Largest |ln π of the trainer − ln π of the sampler| over tokens, in nats, before the first update.
    pub mismatch_max: f64,
    /// Mean k3 estimate of KL(sampler ‖ trainer) in nats, before the first update.
    pub mismatch_kl: f64,
    /// Tokens that went through the policy with a gradient, prompts included.
    pub trained_tokens: usize,
    /// Rows that were skipped because they contribute exactly nothing: advantage 0 and no KL term.
    pub skipped_rows: usize,
}

impl Trainer {
    /// A trainer at the start of a run. `policy` is copied as the reference if the objective has a KL term.
    ///
    /// # Errors
    /// If there is no memory for the reference.
    pub fn new(config: TrainerConfig, policy: &Policy) -> Result<Self> {
        let optimizer = Optimizer::new(&config.optimizer, &config.schedule, config.updates());
        let reference = match config.objective.build().kl() {
            Some(_) => Some(policy.copy()?),
            None => None,
        };
        Ok(Self { config, optimizer, reference })
    }

    /// Rewards become advantages.
    ///
    /// # Errors
    /// If a recorded log-prob is not a finite number.
    pub fn batch(&self, scored: &[ScoredRollout]) -> Result<Batch> {
        Batch::new(scored, &self.config.baseline, self.config.scale, self.config.truncated)
    }

    /// Trains on a batch: `epochs` × `mini_batches` updates.
    ///
    /// # Errors
    /// If a gradient is not finite; updates before that one stand.
    pub fn step(&mut self, policy: &mut Policy, batch: &Batch) -> Result<Update> {
        let objective = self.config.objective.build();
        let rows: Vec<&Row> = batch.rows.iter().collect();
        // Without a KL term a row with advantage 0 has a gradient of exactly 0 and need not be computed.
        let idle = |row: &Row| match row.advantage {
            None => true,
            Some(advantage) => advantage == 0.0 && objective.kl().is_none(),
        };
        let active: Vec<&Row> = rows.iter().copied().filter(|row| !idle(row)).collect();
        let on_policy = self.config.epochs * self.config.mini_batches == 1;
        let old = if on_policy { None } else { Some(self.log_probs(policy, &active)?.log_probs) };
        let reference = match &self.reference {
            Some(reference) => Some(self.log_probs(reference, &active)?.log_probs),
            None => None,
        };

        let mut update = Update { skipped_rows: rows.len() - active.len(), ..Update::default() };
        let (mut tokens, mut updates) = (0.0f64, 0.0f64);
        for epoch in 0..self.config.epochs {
            let mut first = 0; // of the mini-batch's active rows among all active rows
            for range in batch.mini_batches(self.config.mini_batches) {
                let all = &batch.rows[range];
                let lengths: Vec<usize> = all
                    .iter()
                    .map(|row| if row.advantage.is_some() { row.tokens.len() } else { 0 })
                    .collect();
                let weights = objective.aggregate().weights(&lengths);
                let chosen: Vec<(&Row, f32)> =
                    all.iter().zip(weights).filter(|(row, _)| !idle(row)).collect();
                let place = first;
                first += chosen.len();
                let sequences: Vec<Sequence<'_>> = chosen.iter().map(|(row, _)| row.sequence()).collect();
                let ones: Vec<Vec<f32>> = chosen.iter().map(|(row, _)| vec![1.0; row.tokens.len()]).collect();
                let result = gradient::gradients(
                    policy,
                    &sequences,
                    self.config.micro_batch_tokens,
                    self.config.temperature,
                    &|padded| {
                        let now = padded.log_probs.as_detached_tensor();
                        let saved = |saved: &Option<Vec<Vec<f32>>>| match saved {
                            Some(saved) => padded.grid(|row| &saved[place + row]).map(Some),
                            None => Ok(None),
                        };
                        Ok(objective.loss(&Tokens {
                            log_probs: padded.log_probs.as_tensor(),
                            old_log_probs: &saved(&old)?.unwrap_or(now),
                            reference_log_probs: saved(&reference)?.as_ref(),
                            advantages: &padded.column(|row| chosen[row].0.advantage.unwrap_or(0.0))?,
                            mask: &padded.grid(|row| &ones[row])?,
                            weights: &padded.column(|row| chosen[row].1)?,
                        })?)
                    },
                )?;
                if epoch == 0 {
                    let pairs = chosen.iter().map(|(row, _)| &row.sampled_log_probs);
                    mismatch(&mut update, pairs.zip(&result.stats.log_probs), on_policy || place == 0);
                }
                tokens += chosen.iter().map(|(row, _)| row.tokens.len() as f64).sum::<f64>();
                update.entropy += result.stats.entropy.iter().flatten().map(|e| f64::from(*e)).sum::<f64>();
                update.loss += result.loss;
                update.clip_fraction += result.clipped;
                update.trained_tokens +=
                    sequences.iter().map(|s| s.prompt.len() + s.completion.len()).sum::<usize>();
                update.kl = objective.kl().map(|_| update.kl.unwrap_or(0.0) + result.kl);
                let stats = self.optimizer.update(policy, &result.grads)?;
                update.grad_norm += stats.grad_norm;
                update.learning_rate = stats.learning_rate;
                updates += 1.0;
            }
        }
        let per_token = 1.0 / tokens.max(1.0);
        update.entropy *= per_token;
        update.clip_fraction *= per_token;
        update.kl = update.kl.map(|kl| kl * per_token);
        update.loss /= updates;
        update.grad_norm /= updates;
        Ok(update)
    }

    fn log_probs(&self, policy: &Policy, rows: &[&Row]) -> Result<gradient::TokenStats> {
        let sequences: Vec<Sequence<'_>> = rows.iter().map(|row| row.sequence()).collect();
        gradient::log_probs(policy, &sequences, self.config.micro_batch_tokens, self.config.temperature)
    }

    /// The optimizer, for checkpoints.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// Puts a saved optimizer back, and the reference if there is one: the policy that the run began with.
    ///
    /// # Errors
    /// If the state is another optimizer's.
    pub fn restore(&mut self, updates: u64, state: Tensors) -> Result<()> {
        self.optimizer.restore(updates, state)
    }
}

impl Row {
    fn sequence(&self) -> Sequence<'_> {
        Sequence { prompt: &self.prompt_tokens, completion: &self.tokens }
    }
}

/// Compares the sampler's log-probs with the trainer's. Only rows whose weights are still those that sampled them
/// count, hence `fresh`.
fn mismatch<'a>(update: &mut Update, rows: impl Iterator<Item = (&'a Vec<f32>, &'a Vec<f32>)>, fresh: bool) {
    if !fresh {
        return;
    }
    let (mut sum, mut count) = (0.0, 0.0f64);
    for (sampled, trained) in rows {
        for (sampled, trained) in sampled.iter().zip(trained) {
            let d = f64::from(*trained) - f64::from(*sampled);
            update.mismatch_max = update.mismatch_max.max(d.abs());
            sum += d.exp() - 1.0 - d;
            count += 1.0;
        }
    }
    update.mismatch_kl = sum / count.max(1.0);
}
