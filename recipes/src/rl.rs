//! The RL stage: sample, score, train.
//!
//! Before: [`crate::run`]. After: metrics, rollouts and checkpoints in the run folder.

use std::time::Instant;

use anyhow::Result;
use data::ScoredRollout;
use engine::ledger::Ledger;
use engine::metrics::{Metrics, Timing};
use engine::mixture::{Mixture, MixtureConfig};
use engine::model::Policy;
use engine::selection::Shuffled;
use engine::trainer::Trainer;
use eval::Accuracy;
use serde_json::{Map, Value};

use crate::ahead::{Ahead, Before};
use crate::folder::{Progress, RunFolder, Stage};
use crate::generate::{Generation, Source, StepRollouts, Unfinished, Weights};
use crate::judging;
use crate::plan::Plan;
use crate::progress::{Display, fixed};
use crate::recipe::RlRecipe;
use crate::record::{Record, Trained};
use crate::restore::{self, Resume};
use crate::run::{Outcome, with_stage};
use crate::save::{self, Kept};
use crate::standstill::Facts;

/// Trains for the steps that are left.
pub(crate) fn stage(
    generation: &Generation<'_>,
    rl: &RlRecipe,
    folder: &mut RunFolder,
    policy: &mut Policy,
    done: u64,
    saved: Option<Resume>,
    outcome: &mut Outcome,
) -> Result<()> {
    let plan = generation.plan;
    let config = Plan::trainer(rl);
    let steps = config.steps;
    let at = Progress { stage: Stage::Rl, step: done };
    let mut trainer = if config.loss.kl.is_some() {
        if saved.is_none() {
            save::write_reference(folder, policy)?;
        }
        Trainer::with_reference(config, Some(restore::reference(plan, folder, at)?))
    } else {
        Trainer::new(config, policy)?
    };
    let mut kept = Kept { drawn: Some(0), ..Kept::default() };
    if let Some(Resume { updates, optimizer, kept: saved }) = saved {
        trainer.restore(updates, optimizer, saved.ledger.clone())?;
        let usual = done * rl.prompts_per_step.get() as u64;
        kept = Kept { drawn: Some(saved.drawn.unwrap_or(usual)), ..saved };
        let arrived = restore::arrived_after(folder, at)?;
        if !arrived.is_empty() {
            kept.arrived = arrived;
        }
    }
    let selection = Shuffled { prompts: plan.tasks.len(), seed: plan.seed() };
    // a step that is sampled ahead belongs to weights that the next checkpoint does not have, so it is finished
    let stop = (rl.overlap == 0).then_some(&plan.stop);
    let seed = plan.seed().named("rollout");
    let source = Source { rl, tasks: &plan.tasks, selection: &selection, seed, stop };
    let mut display = Display::new("rl", done, steps);
    let parts = plan.rewards.parts().map(|(name, part)| (name.to_owned(), *part)).collect();
    let within_groups = rl.baseline.build().is_within_group();
    let facts = Facts { within_groups, ..Facts::of(plan, Stage::Rl, steps) };
    let mut record = Record::new(generation, folder, facts, parts, done, outcome)?;
    record.begin(done, Trained { policy, optimizer: trainer.optimizer() }, &kept, &mut display)?;
    std::thread::scope(|scope| {
        let ahead = (rl.overlap > 0).then(|| {
            let before = Before {
                step: done,
                drawn: kept.drawn.unwrap_or(0),
                ahead: std::mem::take(&mut kept.ahead),
                arrived: std::mem::take(&mut kept.arrived),
            };
            Ahead::start(scope, generation, source, before, steps)
        });
        let mut run = Steps { source, record, display: &mut display, ahead, kept, judged: Map::new() };
        for step in done..steps {
            let before = Between {
                drawn: run.kept.drawn,
                mixture: run.kept.mixture,
                ledger: trainer.ledger().clone(),
                updates: trainer.optimizer().updates(),
            };
            let metrics = match run.step(policy, &mut trainer, step) {
                Ok(metrics) => metrics,
                Err(error) => return Err(run.failed(policy, &trainer, step, before, error)),
            };
            run.kept.arrived.clear();
            let line = run.line(&metrics)?;
            let Steps { record, display, ahead, kept, .. } = &mut run;
            let trained = Trained { policy, optimizer: trainer.optimizer() };
            let mut keep_after = || Kept {
                ledger: trainer.ledger().clone(),
                ahead: ahead.as_mut().map_or_else(Vec::new, |ahead| ahead.wait(step + 1)),
                ..kept.clone()
            };
            let line = record.step(step + 1, line, trained, &mut keep_after, display)?;
            tracing::info!(
                step = metrics.step,
                reward_mean = metrics.reward_mean,
                entropy = metrics.entropy,
                grad_norm = metrics.grad_norm,
                clip_fraction = metrics.clip_fraction,
                "step"
            );
            display.step(step + 1, &progress_line(&metrics, record.outcome.after));
            record.save(step + 1, &line, trained, &mut keep_after)?;
        }
        Ok(())
    })
}

/// What a step that fails must leave as it was.
struct Between {
    drawn: Option<u64>,
    mixture: Mixture,
    ledger: Ledger,
    /// Updates of the weights until then.
    updates: u64,
}

/// What the steps of a stage have in common, and what goes from one to the next.
struct Steps<'a> {
    source: Source<'a>,
    record: Record<'a>,
    display: &'a mut Display,
    ahead: Option<Ahead>,
    kept: Kept,
    /// What the reward functions said in this step.
    judged: Map<String, Value>,
}

impl Steps<'_> {
    /// Keeps what was done before a step that failed.
    fn failed(
        &mut self,
        policy: &Policy,
        trainer: &Trainer,
        step: u64,
        before: Between,
        error: anyhow::Error,
    ) -> anyhow::Error {
        let what = format!("rl step {}", step + 1);
        let made = trainer.optimizer().updates() - before.updates;
        if made > 0 {
            // the weights are those of no step, and going on from them would not be the same run
            let last = self.record.folder.saves.standing;
            let last = last.map_or("the beginning".into(), |at| format!("checkpoint `{}`", at.checkpoint()));
            return error.context(format!(
                "{what} failed after {made} of its updates, so its weights are not saved; the run goes on from {last}"
            ));
        }
        let arrived = error.downcast_ref::<Unfinished>().map_or(&[][..], |u| &u.arrived);
        let mut ahead = std::mem::take(&mut self.kept.ahead);
        if let Some(sampler) = self.ahead.as_mut().filter(|_| !ahead.is_empty()) {
            // steps further ahead were sampled by weights that are no more
            ahead.extend(sampler.wait(step + 1));
        }
        let kept = Kept {
            drawn: before.drawn,
            ledger: before.ledger,
            mixture: before.mixture,
            arrived: arrived.to_vec(),
            ahead,
        };
        let trained = Trained { policy, optimizer: trainer.optimizer() };
        self.record.failed(&what, step, trained, &kept, error)
    }

    /// Keeps a step's rollouts and what was said of them, before training: a step that fails does not lose them.
    fn judged(&mut self, step: u64, scored: &[ScoredRollout]) -> Result<()> {
        let Record { generation, folder, .. } = &mut self.record;
        if generation.plan.recipe.save.rollouts {
            folder.write_rollouts(step + 1, scored)?;
        }
        let at = Progress { stage: Stage::Rl, step: step + 1 };
        folder.append("unjudged.jsonl", at, judging::examples(scored, &generation.plan.rewards))?;
        self.judged = judging::metrics(scored, &generation.plan.tokenizer);
        Ok(())
    }

    /// The step's line of metrics.
    fn line(&mut self, metrics: &Metrics) -> Result<Value> {
        let mut line = with_stage(Stage::Rl, serde_json::to_value(metrics)?);
        if let Some(line) = line.as_object_mut() {
            line.extend(std::mem::take(&mut self.judged));
        }
        Ok(line)
    }

    /// One step: Prompt → Rollout → ScoredRollout → Batch → Update → Metrics.
    fn step(&mut self, policy: &mut Policy, trainer: &mut Trainer, step: u64) -> Result<Metrics> {
        let rl = self.source.rl;
        if let Some(config) = &rl.mixture {
            return self.mixed_step(config, policy, trainer, step);
        }
        let begun = Instant::now();
        let (sampled, waited) = match &mut self.ahead {
            Some(ahead) => {
                self.display.within(&format!("step {}: waiting for its rollouts", step + 1));
                let sampled = ahead.step(policy, step)??;
                // should training fail, nothing that was sampled is lost
                self.kept.ahead = vec![sampled.clone()];
                (sampled, Some(begun.elapsed().as_secs_f64()))
            }
            None => (self.sample(self.source, policy, self.kept.drawn.unwrap_or(0), step)?, None),
        };
        self.judged(step, &sampled.scored)?;
        let trained = Instant::now();
        self.display.within(&format!("step {}: training", step + 1));
        let batch = trainer.batch(policy, &sampled.scored, &sampled.greedy)?;
        let update = trainer.step(policy, &batch)?;
        let timing = Timing {
            sample: sampled.seconds_sample,
            sampled_tokens: sampled.stats.tokens,
            score: sampled.seconds_score,
            update: trained.elapsed().as_secs_f64(),
        };
        let snr = rl.schedule.snr.is_some();
        let mut metrics = Metrics::new(step + 1, &sampled.scored, &batch, &update, timing, snr);
        if rl.dynamic_sampling.is_some() {
            metrics.sampling_rounds = Some(sampled.rounds);
            metrics.dropped_groups = Some(sampled.dropped);
        }
        metrics.slot_use = sampled.stats.slot_use();
        metrics.guesses_accepted = sampled.stats.acceptance();
        if self.ahead.is_some() {
            metrics.seconds_wait = waited;
            let updates = |scored: &ScoredRollout| step.saturating_sub(scored.rollout.policy.0) as f64;
            let sum: f64 = sampled.scored.iter().map(updates).sum();
            metrics.staleness = Some(sum / sampled.scored.len().max(1) as f64);
        }
        self.kept.drawn = Some(sampled.drawn);
        self.kept.ahead.clear();
        Ok(metrics)
    }

    fn sample(
        &mut self,
        source: Source<'_>,
        policy: &Policy,
        drawn: u64,
        step: u64,
    ) -> Result<StepRollouts, Unfinished> {
        let weights = Weights { policy, stage: Stage::Rl, version: step };
        let display = &*self.display;
        let mut watch = |text: &str| display.within(text);
        self.record.generation.step(source, weights, step, drawn, &self.kept.arrived, &mut watch)
    }

    /// One step on rollouts with and without a trace of the same prompts.
    fn mixed_step(
        &mut self,
        config: &MixtureConfig,
        policy: &mut Policy,
        trainer: &mut Trainer,
        step: u64,
    ) -> Result<Metrics> {
        let rl = self.source.rl;
        let drawn = self.kept.drawn.unwrap_or(0);
        let thinking = self.sample(self.source, policy, drawn, step)?;
        let empty = Source { tasks: &self.record.generation.plan.empty_tasks, ..self.source };
        let empty = self.sample(empty, policy, drawn, step).map_err(|mut unfinished| {
            let all = thinking.scored.iter().map(|scored| scored.rollout.clone());
            unfinished.arrived.extend(all);
            unfinished
        })?;
        let all = [thinking.scored.as_slice(), empty.scored.as_slice()].concat();
        self.judged(step, &all)?;
        let trained = Instant::now();
        self.display.within(&format!("step {}: training", step + 1));
        let batches = [
            trainer.batch(policy, &thinking.scored, &thinking.greedy)?,
            trainer.batch(policy, &empty.scored, &empty.greedy)?,
        ];
        let mut mixture: Mixture = self.kept.mixture;
        let (update, mixed) = trainer.mixed_step(policy, &batches[0], &batches[1], config, &mut mixture)?;
        self.kept.mixture = mixture;
        self.kept.drawn = Some(thinking.drawn);
        let timing = Timing {
            sample: thinking.seconds_sample + empty.seconds_sample,
            sampled_tokens: thinking.stats.tokens + empty.stats.tokens,
            score: thinking.seconds_score + empty.seconds_score,
            update: trained.elapsed().as_secs_f64(),
        };
        let snr = rl.schedule.snr.is_some();
        let mut metrics = Metrics::new(step + 1, &all, &batches[0], &update, timing, snr);
        metrics.groups += batches[1].groups.len();
        metrics.zero_variance_groups += batches[1].zero_variance_groups;
        metrics.absent_rewards += batches[1].absent_rewards;
        let mean = |scored: &[ScoredRollout]| {
            let known: Vec<f64> = scored.iter().filter_map(|s| s.score.reward.map(f64::from)).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        let stats = thinking.stats.and(empty.stats);
        metrics.slot_use = stats.slot_use();
        metrics.guesses_accepted = stats.acceptance();
        metrics.reward_mean_thinking = mean(&thinking.scored);
        metrics.reward_mean_empty = mean(&empty.scored);
        metrics.alpha = Some(mixed.alpha);
        if let Some(moments) = mixed.moments {
            metrics.variance_thinking = Some(moments.thinking);
            metrics.variance_empty = Some(moments.empty);
            metrics.variance_mixed = Some(moments.variance(mixed.alpha));
            metrics.branch_distance = Some(moments.difference);
        }
        Ok(metrics)
    }
}

fn progress_line(m: &Metrics, accuracy: Option<Accuracy>) -> String {
    let accuracy = accuracy.map_or(String::new(), |a| format!(" · held-out {:.1} %", 100.0 * a.share));
    let absent =
        if m.absent_rewards > 0 { format!(" · {} rewards absent", m.absent_rewards) } else { String::new() };
    let rate = |rate: Option<f64>| rate.map_or_else(|| "none".into(), |rate| format!("{rate:.0} tok/s"));
    format!(
        "{}{accuracy} · truncated {:.0} % · equal groups {}/{}{absent} · {} sampled, {} trained",
        m.reward_mean.map_or_else(|| "no reward".into(), |mean| format!("reward {}", fixed(mean, 3))),
        100.0 * m.truncation_rate,
        m.zero_variance_groups,
        m.groups,
        rate(m.sampled_tokens_per_second),
        rate(m.trained_tokens_per_second)
    )
}
