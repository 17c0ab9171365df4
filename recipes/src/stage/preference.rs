//! The preference stage: updates on pairs of completions with and without a thinking trace.
//!
//! Before: the policy that the stage begins with, which is the reference too. After: a policy that tells the better completion
//! from the worse, and `pairs.jsonl` in the run folder, so that nothing is sampled or scored twice.

use std::time::Instant;

use anyhow::Result;
use engine::mixture::{Alpha, Mixture, Moments};
use engine::model::Policy;
use engine::optimizer::Optimizer;
use engine::pairs::{Branch, Pair, PairsConfig, PairsUpdate, step as pairs_step};
use engine::selection::Shuffled;
use serde_json::Value;

use super::driver::Driver;
use super::{Run, Stage, Start, StepContext, line, pairs};
use crate::position::StageName;
use crate::progress::fixed;
use crate::recipe::PreferenceRecipe;
use crate::save::StageState;
use crate::standstill::Facts;

/// Trains on pairs for the steps that are left.
///
/// # Errors
/// If pairs cannot be made or read, a step fails, or the run is asked to end.
pub(crate) fn run(
    run: &mut Run<'_>,
    preference: &PreferenceRecipe,
    policy: &mut Policy,
    start: Start,
) -> Result<()> {
    let plan = run.generation.plan;
    let steps = preference.steps.get() as u64;
    let mut optimizer = Optimizer::new(&preference.optimizer, &preference.schedule, steps);
    let mut mixture = Mixture::default();
    let pairs = match start.saved {
        Some(saved) => {
            optimizer.restore(saved.updates, saved.optimizer)?;
            mixture = saved.state.mixture;
            pairs::kept(run)?
        }
        None => pairs::new(run, preference, policy)?,
    };
    let of = |branch: Branch| -> Vec<&Pair> {
        pairs.iter().filter(|(kind, _)| *kind == branch).map(|(_, pair)| pair).collect()
    };
    let branches = [of(Branch::Thinking), of(Branch::Empty)];
    let [thinking, empty] = [branches[0].len(), branches[1].len()];
    anyhow::ensure!(thinking + empty > 0, "there are no pairs: in no group of rollouts did rewards differ");
    let selections =
        [thinking, empty].map(|count| Shuffled { prompts: count.max(1), seed: plan.seed().named("pairs") });
    let facts = Facts::of(plan, StageName::Preference, steps);
    let driver = Driver::new(run, facts, Vec::new(), start.done)?;
    driver.note(&format!("{thinking} pairs with a trace, {empty} with an empty one"));
    if !matches!(preference.mixture.alpha, Alpha::Fixed(_)) && [thinking, empty].contains(&1) {
        driver.note(&format!(
            "warning: alpha stays at {}: it is found from how the gradients of pairs differ, and a branch has a single one",
            preference.mixture.first
        ));
    }
    let config = PairsConfig {
        loss: preference.loss,
        mixture: preference.mixture,
        chunks: preference.chunks.get(),
        micro_batch_tokens: preference.micro_batch_tokens.get(),
    };
    let count = preference.pairs_per_step.get();
    let mut stage = PreferenceStage { config, count, branches, selections, optimizer, mixture };
    driver.run(&mut stage, policy, start.done)
}

struct PreferenceStage<'a> {
    config: PairsConfig,
    /// Pairs of each branch in a step.
    count: usize,
    /// Pairs with a trace, and with an empty one.
    branches: [Vec<&'a Pair>; 2],
    selections: [Shuffled; 2],
    optimizer: Optimizer,
    mixture: Mixture,
}

struct PreferenceReport {
    step: u64,
    update: PairsUpdate,
    seconds: f64,
}

engine::numbers! {
    /// An update on pairs.
    pub(crate) struct PreferenceMetrics {
        /// Loss, of both branches as they are mixed.
        loss: f64 = "nats";
        /// Loss of pairs with a trace.
        loss_thinking: Option<f64> = "nats";
        /// Loss of pairs whose trace is empty.
        loss_empty: Option<f64> = "nats";
        /// Share of pairs whose better completion has the larger margin over the reference.
        accuracy: f64 = "share";
        /// Mean of what the better completion's log-ratio to the reference exceeds the worse one's by.
        margin: f64 = "nats";
        /// The thinking branch's share in the gradient.
        alpha: f64 = "share";
        /// Second moments of the branches' gradients: `difference`, `thinking`, `empty`, `both`.
        moments: Option<Moments> = "";
        /// Global gradient norm before the clip.
        grad_norm: f64 = "";
        /// Learning rate of the update.
        learning_rate: f64 = "";
        /// Spent training.
        seconds_update: f64 = "seconds";
        /// Tokens trained per second of training.
        trained_tokens_per_second: f64 = "tokens/second";
    }
}

impl<'a> PreferenceStage<'a> {
    /// The pairs of a branch for a step.
    fn draw(&self, branch: usize, step: u64) -> Vec<&'a Pair> {
        let all = &self.branches[branch];
        let count = self.count.min(all.len());
        let draws = self.selections[branch].draw(step * count as u64, count);
        draws.into_iter().map(|index| all[index]).collect()
    }
}

impl Stage for PreferenceStage<'_> {
    type Report = PreferenceReport;

    fn step(&mut self, policy: &mut Policy, step: u64, context: StepContext<'_>) -> Result<PreferenceReport> {
        let begun = Instant::now();
        context.display.within(&format!("step {}: training", step + 1));
        let (thinking, empty) = (self.draw(0, step), self.draw(1, step));
        // a step that fails leaves the mixture as it was
        let mut mixture = self.mixture;
        let optimizer = &mut self.optimizer;
        let update = pairs_step(policy, optimizer, &mut mixture, &self.config, &thinking, &empty)?;
        self.mixture = mixture;
        Ok(PreferenceReport { step: step + 1, update, seconds: begun.elapsed().as_secs_f64() })
    }

    fn metrics(&self, report: &PreferenceReport) -> Result<Value> {
        let PreferenceReport { step, update, seconds } = report;
        let numbers = PreferenceMetrics {
            loss: update.loss,
            loss_thinking: update.loss_thinking,
            loss_empty: update.loss_empty,
            accuracy: update.accuracy,
            margin: update.margin,
            alpha: update.alpha,
            moments: update.moments,
            grad_norm: update.grad_norm,
            learning_rate: update.learning_rate,
            seconds_update: *seconds,
            trained_tokens_per_second: update.tokens as f64 / seconds.max(1e-9),
        };
        line(*step, &numbers)
    }

    fn summary(&self, report: &PreferenceReport, accuracy: &str) -> String {
        let update = &report.update;
        format!(
            "loss {:.4} · margin {} · preferred {:.0} % · alpha {:.3}{accuracy}",
            update.loss,
            fixed(update.margin, 3),
            100.0 * update.accuracy,
            update.alpha
        )
    }

    fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    fn state(&mut self, _done: u64) -> StageState {
        StageState { mixture: self.mixture, ..StageState::default() }
    }

    fn state_before_failure(&mut self, _step: u64, _error: &anyhow::Error) -> Result<StageState, u64> {
        Ok(StageState { mixture: self.mixture, ..StageState::default() })
    }
}
