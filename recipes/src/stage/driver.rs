//! What stages share: every step is measured, written, watched and saved in one way.
//!
//! Before: a [`Stage`] at its first step or at a later one. After: the run's folder has the line of metrics of every step, the
//! evaluations that were due, the best checkpoint and the newest; after a failure as well, so that the run can go on. An
//! evaluation that is due and was not made, because it failed or the program was stopped, is made up before the next step.

use anyhow::Result;
use engine::model::Policy;
use engine::optimizer::Optimizer;
use eval::Accuracy;
use rewards::PartSettings;
use serde_json::{Value, json};

use super::{Run, Stage, StepContext};
use crate::arrived::keep_arrived;
use crate::best::Best;
use crate::generate::Weights;
use crate::interrupt::is_stop;
use crate::measure::measure;
use crate::monitor::Monitor;
use crate::outcome::describe;
use crate::plan::Plan;
use crate::position::{Progress, StageName};
use crate::progress::Display;
use crate::save::{self, Moment, StageState};
use crate::standstill::Facts;

/// Runs the steps of a stage.
pub(crate) struct Driver<'a, 'r> {
    run: &'a mut Run<'r>,
    name: StageName,
    /// Steps of the stage.
    steps: u64,
    /// Looks at the metrics for signs of trouble.
    monitor: Monitor,
    display: Display,
}

/// Policy and optimizer between two steps.
#[derive(Clone, Copy)]
struct Trained<'a> {
    policy: &'a Policy,
    optimizer: &'a Optimizer,
}

impl<'a, 'r> Driver<'a, 'r> {
    /// The driver of a stage of which `done` steps are done, of rewards with these parts.
    ///
    /// # Errors
    /// If the metrics until then cannot be read.
    pub(crate) fn new(
        run: &'a mut Run<'r>,
        facts: Facts,
        parts: Vec<(String, PartSettings)>,
        done: u64,
    ) -> Result<Self> {
        let (name, steps) = (facts.stage, facts.steps);
        let display = Display::new(name.name(), done, steps);
        let lines = run.folder.metrics(name)?;
        let mut driver = Self { run, name, steps, monitor: Monitor::after(facts, parts, []), display };
        // a last step whose evaluation is owed is looked at when that is made up
        let due = driver.measures(done);
        let owes = |line: &Value| due && line["step"] == done && line.get("eval").is_none();
        for line in lines.iter().filter(|line| !owes(line)) {
            driver.monitor.observe(line);
        }
        Ok(driver)
    }

    /// A line on the terminal that stays.
    pub(crate) fn note(&self, text: &str) {
        self.display.note(text);
    }

    /// The steps that are left.
    ///
    /// # Errors
    /// If a step or an evaluation fails, a file cannot be written, or the run is asked to end. What was done until then is saved.
    pub(crate) fn run<S: Stage>(mut self, stage: &mut S, policy: &mut Policy, done: u64) -> Result<()> {
        self.begin(stage, policy, done)?;
        for step in done..self.steps {
            let context = StepContext { folder: &mut *self.run.folder, display: &self.display };
            let report = match stage.step(policy, step, context) {
                Ok(report) => report,
                Err(error) => return Err(self.step_failed(stage, policy, step, error)),
            };
            let line = self.write(stage, policy, step + 1, &report)?;
            stage.log(&report);
            let accuracy = self.run.outcome.after;
            let accuracy =
                accuracy.map_or(String::new(), |a| format!(" · held-out {:.1} %", 100.0 * a.share));
            self.display.step(step + 1, &stage.summary(&report, &accuracy));
            self.save(stage, policy, step + 1, &line)?;
        }
        Ok(())
    }

    fn plan(&self) -> &'r Plan {
        self.run.generation.plan
    }

    fn at(&self, step: u64) -> Progress {
        Progress { stage: self.name, step }
    }

    /// True if held-out questions are asked after so many steps.
    fn measures(&self, done: u64) -> bool {
        self.plan().recipe.eval.as_ref().is_some_and(|eval| {
            done == 0 || done == self.steps || done.is_multiple_of(eval.every.get() as u64)
        })
    }

    fn measure(&self, policy: &Policy, done: u64) -> Result<Option<Accuracy>> {
        let weights = Weights { policy, stage: self.name, version: done };
        measure(self.run.generation, weights, self.run.folder)
    }

    /// Before the first step that is left: the evaluation at the beginning of the stage, or the one that an interrupted run
    /// owes.
    ///
    /// # Errors
    /// If the evaluation fails, or what it came to cannot be written; it is owed still then.
    fn begin<S: Stage>(&mut self, stage: &mut S, policy: &Policy, done: u64) -> Result<()> {
        self.run.generation.tell_to(&self.display);
        if !self.measures(done) {
            return Ok(());
        }
        let lines = self.run.folder.metrics(self.name)?;
        let line = lines.into_iter().find(|line| line["step"] == done);
        let place = format!("{}-{done:06}", self.name.name());
        let known: Option<Accuracy> = line
            .as_ref()
            .filter(|_| self.run.folder.evaluation(&place).is_file())
            .and_then(|line| serde_json::from_value(line.get("eval")?.clone()).ok());
        if known.is_some() {
            self.note_accuracy(done, known);
            return Ok(());
        }
        if done > 0 {
            self.display.note(&format!("the evaluation after {} is made up", self.at(done)));
        }
        let accuracy = self.measure(policy, done)?;
        // what it took is no measure of the steps to come
        self.display.restart();
        self.note_accuracy(done, accuracy);
        let mut line = line.unwrap_or_else(|| json!({ "stage": self.name.name(), "step": done }));
        add_accuracy(&mut line, accuracy);
        if done > 0 {
            self.watch(done, &line)?;
            let best = self.better(done, &line);
            if self.saves(done) || best.is_some() {
                let state = stage.state(done);
                let optimizer = stage.optimizer();
                let moment = Moment { at: self.at(done), state: &state, policy, optimizer };
                save::write(self.plan(), self.run.folder, &moment, best)?;
            }
        }
        // last: as long as the line lacks it, the evaluation and all that follows from it are owed
        self.run.folder.replace_metrics(&line)
    }

    fn note_accuracy(&mut self, done: u64, accuracy: Option<Accuracy>) {
        let outcome = &mut *self.run.outcome;
        if done > 0 {
            outcome.after = accuracy;
        } else {
            outcome.before = outcome.before.or(accuracy);
            if let Some(accuracy) = accuracy {
                let stage = match self.name {
                    StageName::Sft => "SFT",
                    StageName::Rl => "RL",
                    StageName::Preference => "the preference stage",
                };
                self.display.note(&format!("held-out accuracy before {stage}: {}", describe(&accuracy)));
            }
        }
    }

    /// Writes the line of metrics of a step that is done, with the evaluation if one is due. Gives the line.
    ///
    /// # Errors
    /// If the evaluation fails, for which the step is kept, or a file cannot be written.
    fn write<S: Stage>(
        &mut self,
        stage: &mut S,
        policy: &Policy,
        done: u64,
        report: &S::Report,
    ) -> Result<Value> {
        let mut line = with_stage(self.name, stage.metrics(report)?);
        if self.measures(done) {
            match self.measure(policy, done) {
                Ok(accuracy) => {
                    self.run.outcome.after = accuracy;
                    add_accuracy(&mut line, accuracy);
                }
                Err(error) => {
                    let what = format!("the evaluation after {}", self.at(done));
                    // without what was to be measured; it is added when that is made up
                    if let Err(second) = self.run.folder.write_metrics(&line) {
                        // a step without its line is not kept: it is done again from the checkpoint before it
                        return Err(
                            error.context(format!("{what} failed, and the step is not kept: {second:#}"))
                        );
                    }
                    let state = stage.state(done);
                    let trained = Trained { policy, optimizer: stage.optimizer() };
                    return Err(self.failed(&what, done, trained, &state, error));
                }
            }
        }
        self.run.folder.write_metrics(&line)?;
        self.watch(done, &line)?;
        Ok(line)
    }

    /// Says what looks suspicious about a step.
    fn watch(&mut self, done: u64, line: &Value) -> Result<()> {
        let mut warnings = self.monitor.observe(line);
        for warning in &warnings {
            tracing::warn!(step = done, "{warning}");
            self.display.note(&format!("warning: {warning}"));
        }
        // what a run that stopped while it made up an evaluation said already is not said twice
        if !warnings.is_empty() {
            let said = self.run.folder.warnings(self.at(done))?;
            warnings.retain(|warning| !said.contains(warning));
        }
        let warnings = warnings.into_iter().map(|warning| json!({ "warning": warning })).collect();
        self.run.folder.append("warnings.jsonl", self.at(done), warnings)
    }

    fn better(&self, done: u64, line: &Value) -> Option<Best> {
        let metric = self.plan().recipe.save.best.as_deref()?;
        Best::of(metric, self.run.folder.saves.best.as_ref(), line, self.at(done).checkpoint())
    }

    /// True if there is a checkpoint after so many steps, whatever was measured.
    fn saves(&self, done: u64) -> bool {
        done == self.steps || done.is_multiple_of(self.plan().recipe.save.every.get() as u64)
    }

    /// Writes a checkpoint if one is due, the step is the best so far, or the run is asked to end here.
    ///
    /// # Errors
    /// If it cannot be written, the one before it stands then; and if the run is asked to end.
    fn save<S: Stage>(&mut self, stage: &mut S, policy: &Policy, done: u64, line: &Value) -> Result<()> {
        let best = self.better(done, line);
        let plan = self.plan();
        let ends = plan.stop.is_requested() && done < self.steps;
        if !(self.saves(done) || best.is_some() || ends) {
            return Ok(());
        }
        self.run.generation.tell(&format!("step {done}: saving"));
        let state = stage.state(done);
        let moment = Moment { at: self.at(done), policy, optimizer: stage.optimizer(), state: &state };
        let place = match self.saves(done) || best.is_some() {
            true => save::write(plan, self.run.folder, &moment, best)?,
            false => save::keep(plan, self.run.folder, &moment)?,
        };
        if ends {
            let (steps, stage, place) = (self.steps, self.name.name(), place.display());
            let text = format!("{done} of {steps} {stage} steps are done and are in `{place}`");
            return Err(plan.stop.interrupted(text));
        }
        Ok(())
    }

    /// Keeps what was done before a step that failed.
    fn step_failed<S: Stage>(
        &mut self,
        stage: &mut S,
        policy: &Policy,
        step: u64,
        error: anyhow::Error,
    ) -> anyhow::Error {
        let what = format!("{} step {}", self.name.name(), step + 1);
        match stage.state_before_failure(step, &error) {
            Ok(state) => {
                let trained = Trained { policy, optimizer: stage.optimizer() };
                self.failed(&what, step, trained, &state, error)
            }
            Err(made) => {
                // the weights are those of no step, and going on from them would not be the same run
                let last = self.run.folder.saves.standing;
                let last =
                    last.map_or("the beginning".into(), |at| format!("checkpoint `{}`", at.checkpoint()));
                error.context(format!(
                    "{what} failed after {made} of its updates, so its weights are not saved; the run goes on from {last}"
                ))
            }
        }
    }

    /// Keeps what is done although `what` failed, and says where and how to go on from there.
    fn failed(
        &mut self,
        what: &str,
        done: u64,
        trained: Trained<'_>,
        state: &StageState,
        error: anyhow::Error,
    ) -> anyhow::Error {
        let (plan, at) = (self.plan(), self.at(done));
        let Trained { policy, optimizer } = trained;
        let moment = Moment { at, policy, optimizer, state };
        let saved = keep_arrived(self.run.folder, at, &state.arrived)
            .and_then(|()| save::keep(plan, self.run.folder, &moment));
        match saved {
            Ok(place) if is_stop(&error) => plan.stop.interrupted(format!(
                "{what} was not finished; the run up to there is in `{}`",
                place.display()
            )),
            Ok(place) => {
                error.context(format!("{what} failed; the run up to there is in `{}`", place.display()))
            }
            Err(second) => error.context(format!("{what} failed, and saving the run failed too: {second:#}")),
        }
    }
}

/// A line of metrics that begins with the stage.
fn with_stage(stage: StageName, metrics: Value) -> Value {
    let mut line = json!({ "stage": stage.name() });
    if let (Some(line), Value::Object(metrics)) = (line.as_object_mut(), metrics) {
        line.extend(metrics);
    }
    line
}

engine::numbers! {
    /// Held-out questions, at the steps that ask them.
    pub(crate) struct EvalMetrics {
        /// Accuracy on held-out questions.
        eval_accuracy: Option<f64> = "share";
        /// The same with its 95 % interval (`interval.low`, `interval.high`), `questions`, `right`, `judged`, `absent`,
        /// `truncation_rate`, `format_rate` and `tokens_mean`.
        eval: Option<Accuracy> = "";
    }
}

/// Adds what was measured to a step's line, at its end.
fn add_accuracy(line: &mut Value, accuracy: Option<Accuracy>) {
    if let Some(a) = accuracy {
        let numbers = EvalMetrics { eval_accuracy: Some(a.share), eval: Some(a) };
        if let (Some(line), Ok(Value::Object(numbers))) =
            (line.as_object_mut(), serde_json::to_value(numbers))
        {
            line.extend(numbers);
        }
    }
}
