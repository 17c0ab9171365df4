//! The stages of a run: supervised, reinforcement learning, preference.
//!
//! Before: [`crate::run()`] has a policy, and maybe a checkpoint to go on from. After: metrics, rollouts and checkpoints in the
//! run's folder. A [`Stage`] says what one step does and what has to outlive it; everything that stages share is in
//! [`driver::Driver`].

mod ahead;
mod branches;
mod concentration;
pub(crate) mod driver;
mod pair_row;
mod pairs;
pub(crate) mod preference;
pub(crate) mod reward_metrics;
pub(crate) mod rl;
mod sampler;
pub(crate) mod sft;

use anyhow::Result;
use engine::model::Policy;
use engine::optimizer::Optimizer;
use serde::Serialize;
use serde_json::{Value, json};

use crate::folder::RunFolder;
use crate::generate::Generation;
use crate::outcome::RunOutcome;
use crate::progress::Display;
use crate::restore::Resume;
use crate::save::StageState;

/// One way to train: what a step does, and what has to outlive it.
pub(crate) trait Stage {
    /// The outcome of a step.
    type Report;

    /// One step, the first being 0: updates the policy.
    ///
    /// # Errors
    /// If sampling, judging or the update fails, or the run is asked to end.
    fn step(&mut self, policy: &mut Policy, step: u64, context: StepContext<'_>) -> Result<Self::Report>;

    /// The line of metrics of a step, without the stage's name.
    ///
    /// # Errors
    /// If the report cannot be written as JSON.
    fn metrics(&self, report: &Self::Report) -> Result<Value>;

    /// The step in a line of progress. `accuracy` is the newest accuracy on held-out questions in words, or empty.
    fn summary(&self, report: &Self::Report, accuracy: &str) -> String;

    /// Writes a line of the log about a step whose metrics are written.
    fn log(&self, _report: &Self::Report) {}

    /// The optimizer, for checkpoints.
    fn optimizer(&self) -> &Optimizer;

    /// State for a checkpoint after `done` steps, beside weights and optimizer.
    fn state(&mut self, done: u64) -> StageState;

    /// The same after a step that failed with this error: the state before the step, with what is worth keeping of it.
    ///
    /// # Errors
    /// The number of updates that the step made: the weights are then those of no step, and are not saved.
    fn state_before_failure(&mut self, step: u64, error: &anyhow::Error) -> Result<StageState, u64>;
}

/// A line of metrics: the step, counted from 1, and its numbers.
fn line(step: u64, numbers: &impl Serialize) -> Result<Value> {
    let mut line = json!({ "step": step });
    if let (Some(line), Value::Object(numbers)) = (line.as_object_mut(), serde_json::to_value(numbers)?) {
        line.extend(numbers);
    }
    Ok(line)
}

/// The folder and the display that a step may write to.
pub(crate) struct StepContext<'a> {
    pub(crate) folder: &'a mut RunFolder,
    pub(crate) display: &'a Display,
}

/// The parts of a run that all its stages use.
pub(crate) struct Run<'a> {
    pub(crate) generation: &'a Generation<'a>,
    pub(crate) folder: &'a mut RunFolder,
    pub(crate) outcome: &'a mut RunOutcome,
}

/// The point that a stage begins or goes on from.
pub(crate) struct Start {
    /// Steps of it that are done.
    pub(crate) done: u64,
    /// The checkpoint to go on from.
    pub(crate) saved: Option<Resume>,
}
