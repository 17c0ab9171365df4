//! The supervised stage: prompt → reference answer.
//!
//! Before: prompts with reference answers. After: a policy that writes answers in the recipe's forms.

use std::time::Instant;

use anyhow::Result;
use data::Seed;
use engine::model::Policy;
use engine::optimizer::Optimizer;
use engine::selection::Shuffled;
use engine::supervised::{self, Example};
use serde_json::Value;

use super::driver::Driver;
use super::{Run, Stage, Start, StepContext, line};
use crate::plan::Plan;
use crate::position::StageName;
use crate::recipe::SftRecipe;
use crate::save::StageState;
use crate::standstill::Facts;

/// Trains for the steps that are left.
///
/// # Errors
/// If a prompt has no reference answer, a step fails, or the run is asked to end.
pub(crate) fn run(run: &mut Run<'_>, sft: &SftRecipe, policy: &mut Policy, start: Start) -> Result<()> {
    let plan = run.generation.plan;
    let steps = sft.steps.get() as u64;
    let examples = plan.examples(sft)?;
    let mut optimizer = Optimizer::new(&sft.optimizer, &sft.schedule, steps);
    if let Some(saved) = start.saved {
        optimizer.restore(saved.updates, saved.optimizer)?;
    }
    let selection = Shuffled { prompts: examples.len(), seed: plan.seed().named("sft") };
    let forms = plan.seed().named("answer form");
    let mut stage = SftStage { plan, sft, examples, selection, forms, optimizer };
    let facts = Facts::of(plan, StageName::Sft, steps);
    Driver::new(run, facts, Vec::new(), start.done)?.run(&mut stage, policy, start.done)
}

struct SftStage<'a> {
    plan: &'a Plan,
    sft: &'a SftRecipe,
    /// For every prompt its answer in each form.
    examples: Vec<Vec<Example>>,
    selection: Shuffled,
    /// The seed of the draw of an answer's form.
    forms: Seed,
    optimizer: Optimizer,
}

struct SftReport {
    step: u64,
    update: supervised::SupervisedUpdate,
    seconds: f64,
}

engine::numbers! {
    /// A supervised update.
    pub(crate) struct SftMetrics {
        /// Mean cross-entropy of the answers' tokens.
        loss: f64 = "nats";
        /// Global gradient norm before the clip.
        grad_norm: f64 = "";
        /// Learning rate of the update.
        learning_rate: f64 = "";
        /// Spent training.
        seconds_update: f64 = "seconds";
    }
}

impl SftStage<'_> {
    /// The examples of a step.
    fn batch(&self, step: u64) -> Vec<Example> {
        let count = self.sft.batch_size.get();
        let draws = self.selection.draw(step * count as u64, count).into_iter();
        let example = |index: usize| {
            let forms = &self.examples[index];
            let mut draw = self.forms.at(step).prompt(&self.plan.tasks[index].prompt.id).place(0);
            forms[(draw.uniform(0) * forms.len() as f64) as usize].clone()
        };
        draws.map(example).collect()
    }
}

impl Stage for SftStage<'_> {
    type Report = SftReport;

    fn step(&mut self, policy: &mut Policy, step: u64, context: StepContext<'_>) -> Result<SftReport> {
        let batch = self.batch(step);
        let begun = Instant::now();
        context.display.within(&format!("step {}: training", step + 1));
        let tokens = self.sft.micro_batch_tokens.get();
        let update = supervised::step(policy, &mut self.optimizer, &batch, tokens)?;
        Ok(SftReport { step: step + 1, update, seconds: begun.elapsed().as_secs_f64() })
    }

    fn metrics(&self, report: &SftReport) -> Result<Value> {
        let numbers = SftMetrics {
            loss: report.update.loss,
            grad_norm: report.update.grad_norm,
            learning_rate: report.update.learning_rate,
            seconds_update: report.seconds,
        };
        line(report.step, &numbers)
    }

    fn summary(&self, report: &SftReport, accuracy: &str) -> String {
        format!("loss {:.4}{accuracy}", report.update.loss)
    }

    fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    fn state(&mut self, _done: u64) -> StageState {
        StageState::default()
    }

    fn state_before_failure(&mut self, _step: u64, _error: &anyhow::Error) -> Result<StageState, u64> {
        Ok(StageState::default())
    }
}
