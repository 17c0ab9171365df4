//! The RL stage: sample, score, train.
//!
//! Before: prompts and rewards. After: a policy that earns more. [`RlStage::train`] is the whole of a step:
//! Prompt → Rollout → ScoredRollout → Batch → Update → Metrics.

use std::time::Instant;

use anyhow::Result;
use data::ScoredRollout;
use engine::ledger::Ledger;
use engine::metrics::Metrics;
use engine::mixture::{Mixture, MixtureConfig};
use engine::model::Policy;
use engine::optimizer::Optimizer;
use engine::selection::{Prompts, SelectionMetrics};
use engine::trainer::Trainer;
use serde_json::{Map, Value};

use super::ahead::{Ahead, AheadStart};
use super::branches::Branches;
use super::driver::Driver;
use super::sampler::StepSampler;
use super::{Run, Stage, Start, StepContext, concentration, line, reward_metrics};
use crate::arrived::arrived_after;
use crate::generate::Weights;
use crate::plan::Plan;
use crate::position::{Progress, StageName};
use crate::progress::fixed;
use crate::prompt_stats;
use crate::recipe::RlRecipe;
use crate::restore::{self, Resume};
use crate::save::{self, StageState};
use crate::scan;
use crate::standstill::Facts;
use crate::step_rollouts::{SamplingMetrics, StepRollouts};
use crate::unfinished::Unfinished;

/// Trains for the steps that are left.
///
/// # Errors
/// If the policy that KL is taken to cannot be read or written, a step fails, or the run is asked to end.
pub(crate) fn run(run: &mut Run<'_>, rl: &RlRecipe, policy: &mut Policy, start: Start) -> Result<()> {
    let (generation, plan) = (run.generation, run.generation.plan);
    let Start { done, saved } = start;
    let (trainer, mut carried) = trainer(run, rl, policy, done, saved)?;
    let steps = trainer.config().steps;
    // a step that is sampled ahead belongs to weights that the next checkpoint does not have, so it is finished
    let stop = (rl.overlap == 0).then_some(&plan.stop);
    let seed = plan.seed().named("rollout");
    let (selection, selection_seed) = (rl.selection.build(), plan.seed());
    let order = scan::order(run, selection, policy, done)?;
    let (tasks, order) = (plan.tasks.as_slice(), order.as_slice());
    let sampler = StepSampler { generation, rl, tasks, selection, order, selection_seed, seed, stop };
    let parts = plan.rewards.parts().map(|(name, part)| (name.to_owned(), *part)).collect();
    let within_groups = rl.baseline.build().is_within_group();
    let facts = Facts { within_groups, ..Facts::of(plan, StageName::Rl, steps) };
    let driver = Driver::new(run, facts, parts, done)?;
    std::thread::scope(|scope| {
        let ahead = (rl.overlap > 0).then(|| {
            let start = AheadStart {
                step: done,
                drawn: carried.drawn.unwrap_or(0),
                ahead: std::mem::take(&mut carried.ahead),
                arrived: std::mem::take(&mut carried.arrived),
            };
            Ahead::start(scope, sampler, start, steps)
        });
        let before = BeforeStep::of(&trainer, &carried);
        // it ends with the scope, and the sampler that is ahead with it
        let mut stage = RlStage { plan, sampler, trainer, ahead, carried, before };
        driver.run(&mut stage, policy, done)
    })
}

/// A trainer, new or as the checkpoint has it, and what else goes from one step to the next.
fn trainer(
    run: &mut Run<'_>,
    rl: &RlRecipe,
    policy: &Policy,
    done: u64,
    saved: Option<Resume>,
) -> Result<(Trainer, StageState)> {
    let config = rl.trainer();
    let at = Progress { stage: StageName::Rl, step: done };
    let mut trainer = if config.loss.kl.is_some() {
        if saved.is_none() {
            save::write_reference(run.folder, policy)?;
        }
        Trainer::with_reference(config, Some(restore::reference(run.generation.plan, run.folder, at)?))
    } else {
        Trainer::new(config, policy)?
    };
    let mut carried = StageState { drawn: Some(0), ..StageState::default() };
    if let Some(Resume { updates, optimizer, state }) = saved {
        trainer.restore(updates, optimizer, state.ledger.clone())?;
        let usual = done * rl.prompts_per_step.get() as u64;
        carried = StageState { drawn: Some(state.drawn.unwrap_or(usual)), ..state };
        let arrived = arrived_after(run.folder, at)?;
        if !arrived.is_empty() {
            carried.arrived = arrived;
        }
    } else {
        carried.known.stats = prompt_stats::at_start(run.generation.plan)?;
    }
    Ok((trainer, carried))
}

struct RlStage<'a> {
    plan: &'a Plan,
    sampler: StepSampler<'a>,
    trainer: Trainer,
    /// Samples the next steps while this one trains, with `overlap`.
    ahead: Option<Ahead>,
    /// Goes from one step to the next, beside what the trainer holds.
    carried: StageState,
    before: BeforeStep,
}

/// State that a step which fails must leave as it was.
struct BeforeStep {
    drawn: Option<u64>,
    mixture: Mixture,
    ledger: Ledger,
    /// Updates of the weights until then.
    updates: u64,
}

impl BeforeStep {
    fn of(trainer: &Trainer, carried: &StageState) -> Self {
        Self {
            drawn: carried.drawn,
            mixture: carried.mixture,
            ledger: trainer.ledger().clone(),
            updates: trainer.optimizer().updates(),
        }
    }
}

struct RlReport {
    metrics: Metrics,
    sampling: SamplingMetrics,
    selection: SelectionMetrics,
    /// Verdicts of the reward functions, for the line of metrics.
    rewards: Map<String, Value>,
}

impl RlStage<'_> {
    /// One step: Prompt → Rollout → ScoredRollout → Batch → Update → Metrics.
    fn train(&mut self, policy: &mut Policy, step: u64, context: &mut StepContext<'_>) -> Result<RlReport> {
        let begun = Instant::now();
        let mut sampled = self.rollouts(policy, step, context)?;
        let waited = begun.elapsed().as_secs_f64();
        let rewards = self.keep(step, &sampled.scored, context)?;
        let begun = Instant::now();
        context.display.within(&format!("step {}: training", step + 1));
        let concentration = self.concentrate(policy, &mut sampled)?;
        let mut batch = self.trainer.batch(policy, &sampled.scored, &sampled.greedy)?;
        for (group, factor) in batch.groups.iter_mut().zip(&sampled.factors) {
            group.weight = *factor;
        }
        let update = self.trainer.step(policy, &batch)?;
        let timing = sampled.timing(begun.elapsed().as_secs_f64());
        let snr = self.sampler.rl.schedule.snr.is_some();
        let metrics = Metrics::new(step + 1, &sampled.scored, &batch, &update, timing, snr);
        let mut sampling = SamplingMetrics::of(&sampled, self.sampler.rl);
        if self.ahead.is_some() {
            sampling.seconds_wait = Some(waited);
            sampling.staleness = Some(staleness(step, &sampled.scored));
        }
        let mut selection = SelectionMetrics::of(&self.carried.known, &sampled.outcomes);
        self.end(step, &sampled);
        for (prompt, norms) in &update.baseline.norms {
            self.carried.known.stats.observe_norms(prompt, *norms);
        }
        selection.concentration = concentration;
        selection.selection_position = self.carried.known.walk;
        selection.effective_groups = effective(&sampled.factors);
        Ok(RlReport { metrics, sampling, selection, rewards })
    }

    /// Measures the concentration of a step's rollouts, if the selection looks at it: into their outcomes, and as a mean.
    fn concentrate(&self, policy: &Policy, sampled: &mut StepRollouts) -> Result<Option<f64>> {
        let Some(metric) = self.sampler.selection.online() else { return Ok(None) };
        let tokens = self.sampler.rl.micro_batch_tokens.get();
        let found = concentration::of_prompts(policy, &sampled.scored, metric, tokens)?;
        Ok(concentration::add(&mut sampled.outcomes, &found))
    }

    /// Takes in what a step that is trained came to.
    fn end(&mut self, step: u64, sampled: &StepRollouts) {
        let id = |place: usize| self.plan.tasks[place].prompt.id.as_str();
        let prompts = Prompts { count: self.plan.tasks.len(), id: &id, order: self.sampler.order };
        self.carried.known.observe(self.sampler.selection, prompts, step, &sampled.outcomes);
        self.carried.drawn = Some(sampled.drawn);
        self.carried.ahead.clear();
    }

    /// The step's rollouts with what they earned: sampled now, or taken from the sampler that is ahead.
    fn rollouts(&mut self, policy: &Policy, step: u64, context: &StepContext<'_>) -> Result<StepRollouts> {
        let Some(ahead) = &mut self.ahead else {
            return Ok(self.sample(self.sampler, policy, step, context)?);
        };
        context.display.within(&format!("step {}: waiting for its rollouts", step + 1));
        let sampled = ahead.step(policy, &self.carried.known, step)??;
        // should training fail, nothing that was sampled is lost
        self.carried.ahead = vec![sampled.clone()];
        Ok(sampled)
    }

    fn sample(
        &self,
        sampler: StepSampler<'_>,
        policy: &Policy,
        step: u64,
        context: &StepContext<'_>,
    ) -> Result<StepRollouts, Unfinished> {
        let weights = Weights { policy, stage: StageName::Rl, version: step };
        let known = (&self.carried.known, self.carried.drawn.unwrap_or(0));
        let mut watch = |text: &str| context.display.within(text);
        sampler.step(weights, step, known, &self.carried.arrived, &mut watch)
    }

    /// Keeps a step's rollouts and what was said of them, before training: a step that fails does not lose them.
    fn keep(
        &self,
        step: u64,
        scored: &[ScoredRollout],
        context: &StepContext<'_>,
    ) -> Result<Map<String, Value>> {
        if self.plan.recipe.save.rollouts {
            context.folder.write_rollouts(step + 1, scored)?;
        }
        let at = Progress { stage: StageName::Rl, step: step + 1 };
        let examples = reward_metrics::examples(scored, &self.plan.rewards);
        context.folder.append("unjudged.jsonl", at, examples)?;
        reward_metrics::metrics(scored, &self.plan.tokenizer)
    }

    /// The same on rollouts with and without a trace of the same prompts.
    fn train_on_branches(
        &mut self,
        config: &MixtureConfig,
        policy: &mut Policy,
        step: u64,
        context: &mut StepContext<'_>,
    ) -> Result<RlReport> {
        let mut thinking = self.sample(self.sampler, policy, step, context)?;
        let empty = StepSampler { tasks: &self.plan.empty_tasks, ..self.sampler };
        let empty = self.sample(empty, policy, step, context).map_err(|mut unfinished| {
            let all = thinking.scored.iter().map(|scored| scored.rollout.clone());
            unfinished.arrived.extend(all);
            unfinished
        })?;
        let concentration = self.concentrate(policy, &mut thinking)?;
        let branches = Branches { thinking, empty };
        let all = branches.scored();
        let rewards = self.keep(step, &all, context)?;
        context.display.within(&format!("step {}: training", step + 1));
        let mut mixture = self.carried.mixture;
        let mixed = branches.train(&mut self.trainer, policy, config, &mut mixture)?;
        self.carried.mixture = mixture;
        let mut selection = SelectionMetrics::of(&self.carried.known, &branches.thinking.outcomes);
        self.end(step, &branches.thinking);
        let snr = self.sampler.rl.schedule.snr.is_some();
        let metrics = branches.metrics(step + 1, &all, &mixed, snr);
        selection.concentration = concentration;
        selection.selection_position = self.carried.known.walk;
        let sampling = SamplingMetrics::of(&branches.thinking, self.sampler.rl)
            .and(SamplingMetrics::of(&branches.empty, self.sampler.rl), branches.stats());
        Ok(RlReport { metrics, sampling, selection, rewards })
    }
}

impl Stage for RlStage<'_> {
    type Report = RlReport;

    fn step(&mut self, policy: &mut Policy, step: u64, mut context: StepContext<'_>) -> Result<RlReport> {
        self.before = BeforeStep::of(&self.trainer, &self.carried);
        let report = match self.sampler.rl.mixture {
            Some(config) => self.train_on_branches(&config, policy, step, &mut context)?,
            None => self.train(policy, step, &mut context)?,
        };
        self.carried.arrived.clear();
        Ok(report)
    }

    fn metrics(&self, report: &RlReport) -> Result<Value> {
        let mut all = line(report.metrics.step, &report.metrics)?;
        if let Some(all) = all.as_object_mut() {
            for numbers in [serde_json::to_value(&report.sampling)?, serde_json::to_value(&report.selection)?]
            {
                all.extend(numbers.as_object().cloned().unwrap_or_default());
            }
            all.extend(report.rewards.clone());
        }
        Ok(all)
    }

    fn summary(&self, report: &RlReport, accuracy: &str) -> String {
        let (m, time) = (&report.metrics.rollouts, &report.metrics.time);
        let absent = if m.absent_rewards > 0 {
            format!(" · {} rewards absent", m.absent_rewards)
        } else {
            String::new()
        };
        let rate = |rate: Option<f64>| rate.map_or_else(|| "none".into(), |rate| format!("{rate:.0} tok/s"));
        format!(
            "{}{accuracy} · truncated {:.0} % · equal groups {}/{}{absent} · {} sampled, {} trained",
            m.reward_mean.map_or_else(|| "no reward".into(), |mean| format!("reward {}", fixed(mean, 3))),
            100.0 * m.truncation_rate,
            m.zero_variance_groups,
            m.groups,
            rate(time.sampled_tokens_per_second),
            rate(time.trained_tokens_per_second)
        )
    }

    fn log(&self, report: &RlReport) {
        let metrics = &report.metrics;
        tracing::info!(
            step = metrics.step,
            reward_mean = metrics.rollouts.reward_mean,
            entropy = metrics.update.entropy,
            grad_norm = metrics.update.grad_norm,
            clip_fraction = metrics.update.clip_fraction,
            "step"
        );
    }

    fn optimizer(&self) -> &Optimizer {
        self.trainer.optimizer()
    }

    fn state(&mut self, done: u64) -> StageState {
        StageState {
            ledger: self.trainer.ledger().clone(),
            ahead: self.ahead.as_mut().map_or_else(Vec::new, |ahead| ahead.wait(done)),
            ..self.carried.clone()
        }
    }

    fn state_before_failure(&mut self, step: u64, error: &anyhow::Error) -> Result<StageState, u64> {
        let made = self.trainer.optimizer().updates() - self.before.updates;
        if made > 0 {
            return Err(made);
        }
        let arrived = error.downcast_ref::<Unfinished>().map_or(&[][..], |u| &u.arrived);
        let mut ahead = std::mem::take(&mut self.carried.ahead);
        if let Some(sampler) = self.ahead.as_mut().filter(|_| !ahead.is_empty()) {
            // steps further ahead were sampled by weights that are no more
            ahead.extend(sampler.wait(step + 1));
        }
        Ok(StageState {
            drawn: self.before.drawn,
            ledger: self.before.ledger.clone(),
            mixture: self.before.mixture,
            known: self.carried.known.clone(),
            arrived: arrived.to_vec(),
            ahead,
        })
    }
}

/// (Σ f)²/Σ f² of groups' factors: the number of equal ones that are as uneven; none where all are 1.
fn effective(factors: &[f64]) -> Option<f64> {
    let (sum, squares) = factors.iter().fold((0.0, 0.0), |(sum, squares), f| (sum + f, squares + f * f));
    (!factors.is_empty()).then_some(sum * sum / squares)
}

/// Updates of the weights since a rollout was sampled, on average.
fn staleness(step: u64, scored: &[ScoredRollout]) -> f64 {
    let updates = |scored: &ScoredRollout| step.saturating_sub(scored.rollout.policy.0) as f64;
    let sum: f64 = scored.iter().map(updates).sum();
    sum / scored.len().max(1) as f64
}
