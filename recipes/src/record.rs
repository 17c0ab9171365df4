//! What every step leaves, whatever the stage: its line of metrics, the evaluation that is due, the best checkpoint and the newest.
//!
//! Before: a step is done, or failed. After: the run's folder, from which the run can go on. An evaluation that is due and was
//! not made, because it failed or the program was stopped, is made up before the next step.

use anyhow::Result;
use engine::model::Policy;
use engine::optimizer::Optimizer;
use eval::Accuracy;
use rewards::PartSettings;
use serde_json::{Value, json};

use crate::best::Best;
use crate::folder::{Progress, RunFolder, Stage};
use crate::generate::{Generation, Weights};
use crate::interrupt::is_stop;
use crate::monitor::Monitor;
use crate::plan::Plan;
use crate::progress::Display;
use crate::run::{Outcome, describe};
use crate::save::{self, Kept, Moment};
use crate::standstill::Facts;

/// The record of a stage.
pub(crate) struct Record<'a> {
    pub(crate) generation: &'a Generation<'a>,
    pub(crate) folder: &'a mut RunFolder,
    pub(crate) stage: Stage,
    /// Steps of the stage.
    pub(crate) steps: u64,
    /// What looks at its metrics.
    pub(crate) monitor: Monitor,
    /// Accuracies before and after.
    pub(crate) outcome: &'a mut Outcome,
}

/// Policy and optimizer between two steps.
#[derive(Clone, Copy)]
pub(crate) struct Trained<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) optimizer: &'a Optimizer,
}

impl<'a> Record<'a> {
    /// The record of a stage of which `done` steps are done, of rewards with these parts.
    ///
    /// # Errors
    /// If the metrics until then cannot be read.
    pub(crate) fn new(
        generation: &'a Generation<'a>,
        folder: &'a mut RunFolder,
        facts: Facts,
        parts: Vec<(String, PartSettings)>,
        done: u64,
        outcome: &'a mut Outcome,
    ) -> Result<Self> {
        let (stage, steps) = (facts.stage, facts.steps);
        let lines = folder.metrics(stage)?;
        let monitor = Monitor::after(facts, parts, []);
        let mut record = Self { generation, folder, stage, steps, monitor, outcome };
        // a last step whose evaluation is owed is looked at when that is made up
        let due = record.measures(done);
        let owes = |line: &Value| due && line["step"] == done && line.get("eval").is_none();
        for line in lines.iter().filter(|line| !owes(line)) {
            record.monitor.observe(line);
        }
        Ok(record)
    }

    fn plan(&self) -> &Plan {
        self.generation.plan
    }

    fn at(&self, step: u64) -> Progress {
        Progress { stage: self.stage, step }
    }

    /// Whether held-out questions are asked after so many steps.
    fn measures(&self, done: u64) -> bool {
        self.plan().recipe.eval.as_ref().is_some_and(|eval| {
            done == 0 || done == self.steps || done.is_multiple_of(eval.every.get() as u64)
        })
    }

    fn measure(&self, policy: &Policy, done: u64) -> Result<Option<Accuracy>> {
        self.generation.measure(Weights { policy, stage: self.stage, version: done }, self.folder)
    }

    /// Before the first step that is left: the evaluation at the beginning of the stage, or the one that an interrupted run owes.
    /// `moment` is what a checkpoint would hold.
    ///
    /// # Errors
    /// If the evaluation fails, or what it came to cannot be written; it is owed still then.
    pub(crate) fn begin(
        &mut self,
        done: u64,
        trained: Trained<'_>,
        kept: &Kept,
        display: &mut Display,
    ) -> Result<()> {
        self.generation.tell_to(display);
        if !self.measures(done) {
            return Ok(());
        }
        let lines = self.folder.metrics(self.stage)?;
        let line = lines.into_iter().find(|line| line["step"] == done);
        let place = format!("{}-{done:06}", self.stage.name());
        let known: Option<Accuracy> = line
            .as_ref()
            .filter(|_| self.folder.evaluation(&place).is_file())
            .and_then(|line| serde_json::from_value(line.get("eval")?.clone()).ok());
        if known.is_some() {
            self.note(done, known, display);
            return Ok(());
        }
        if done > 0 {
            display.note(&format!("the evaluation after {} is made up", self.at(done)));
        }
        let accuracy = self.measure(trained.policy, done)?;
        // what it took is no measure of the steps to come
        display.restart();
        self.note(done, accuracy, display);
        let mut line = line.unwrap_or_else(|| json!({ "stage": self.stage.name(), "step": done }));
        add_accuracy(&mut line, accuracy);
        if done > 0 {
            self.watch(done, &line, display)?;
            let moment =
                Moment { at: self.at(done), kept, policy: trained.policy, optimizer: trained.optimizer };
            let best = self.better(done, &line);
            if self.saves(done) || best.is_some() {
                save::write(self.generation.plan, self.folder, &moment, best)?;
            }
        }
        // last: as long as the line lacks it, the evaluation and all that follows from it are owed
        self.folder.replace_metrics(&line)
    }

    fn note(&mut self, done: u64, accuracy: Option<Accuracy>, display: &Display) {
        if done > 0 {
            self.outcome.after = accuracy;
        } else {
            self.outcome.before = self.outcome.before.or(accuracy);
            if let Some(accuracy) = accuracy {
                let stage = match self.stage {
                    Stage::Sft => "SFT",
                    Stage::Rl => "RL",
                    Stage::Preference => "the preference stage",
                };
                display.note(&format!("held-out accuracy before {stage}: {}", describe(&accuracy)));
            }
        }
    }

    /// Writes the line of metrics of a step that is done, with the evaluation if one is due. `kept` says what a checkpoint holds
    /// if that fails. Gives the line.
    ///
    /// # Errors
    /// If the evaluation fails, for which the step is kept, or a file cannot be written.
    pub(crate) fn step(
        &mut self,
        done: u64,
        mut line: Value,
        trained: Trained<'_>,
        kept: &mut dyn FnMut() -> Kept,
        display: &Display,
    ) -> Result<Value> {
        if self.measures(done) {
            match self.measure(trained.policy, done) {
                Ok(accuracy) => {
                    self.outcome.after = accuracy;
                    add_accuracy(&mut line, accuracy);
                }
                Err(error) => {
                    let what = format!("the evaluation after {}", self.at(done));
                    // without what was to be measured; it is added when that is made up
                    if let Err(second) = self.folder.write_metrics(&line) {
                        // a step without its line is not kept: it is done again from the checkpoint before it
                        return Err(
                            error.context(format!("{what} failed, and the step is not kept: {second:#}"))
                        );
                    }
                    return Err(self.failed(&what, done, trained, &kept(), error));
                }
            }
        }
        self.folder.write_metrics(&line)?;
        self.watch(done, &line, display)?;
        Ok(line)
    }

    /// Says what looks suspicious about a step.
    fn watch(&mut self, done: u64, line: &Value, display: &Display) -> Result<()> {
        let mut warnings = self.monitor.observe(line);
        for warning in &warnings {
            tracing::warn!(step = done, "{warning}");
            display.note(&format!("warning: {warning}"));
        }
        // what a run that stopped while it made up an evaluation said already is not said twice
        if !warnings.is_empty() {
            let said = self.folder.warnings(self.at(done))?;
            warnings.retain(|warning| !said.contains(warning));
        }
        let warnings = warnings.into_iter().map(|warning| json!({ "warning": warning })).collect();
        self.folder.append("warnings.jsonl", self.at(done), warnings)
    }

    fn better(&self, done: u64, line: &Value) -> Option<Best> {
        let before = self.folder.saves.best.as_ref();
        Best::of(self.plan(), before, line, self.at(done).checkpoint())
    }

    /// Whether there is a checkpoint after so many steps, whatever was measured.
    fn saves(&self, done: u64) -> bool {
        done == self.steps || done.is_multiple_of(self.plan().recipe.save.every.get() as u64)
    }

    /// Writes a checkpoint if one is due, the step is the best so far, or the run is asked to end here.
    ///
    /// # Errors
    /// If it cannot be written, the one before it stands then; and if the run is asked to end.
    pub(crate) fn save(
        &mut self,
        done: u64,
        line: &Value,
        trained: Trained<'_>,
        kept: &mut dyn FnMut() -> Kept,
    ) -> Result<()> {
        let best = self.better(done, line);
        let Trained { policy, optimizer } = trained;
        let ends = self.plan().stop.is_requested() && done < self.steps;
        if !(self.saves(done) || best.is_some() || ends) {
            return Ok(());
        }
        let plan = self.generation.plan;
        self.generation.tell(&format!("step {done}: saving"));
        let moment = Moment { at: self.at(done), policy, optimizer, kept: &kept() };
        let place = match self.saves(done) || best.is_some() {
            true => save::write(plan, self.folder, &moment, best)?,
            false => save::keep(plan, self.folder, &moment)?,
        };
        if ends {
            let (steps, stage, place) = (self.steps, self.stage.name(), place.display());
            let text = format!("{done} of {steps} {stage} steps are done and are in `{place}`");
            return Err(plan.stop.interrupted(text));
        }
        Ok(())
    }

    /// Keeps what is done although `what` failed, and says where and how to go on from there. To stop a run between two steps
    /// for another reason, give that as the error.
    pub(crate) fn failed(
        &mut self,
        what: &str,
        done: u64,
        trained: Trained<'_>,
        kept: &Kept,
        error: anyhow::Error,
    ) -> anyhow::Error {
        let at = self.at(done);
        let Trained { policy, optimizer } = trained;
        let moment = Moment { at, policy, optimizer, kept };
        let saved = save::keep_arrived(self.folder, at, &kept.arrived)
            .and_then(|()| save::keep(self.generation.plan, self.folder, &moment));
        match saved {
            Ok(place) if is_stop(&error) => self.plan().stop.interrupted(format!(
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

/// Adds what was measured to a step's line, at its end.
fn add_accuracy(line: &mut Value, accuracy: Option<Accuracy>) {
    if let Some(a) = accuracy {
        line["eval_accuracy"] = json!(a.share);
        line["eval"] = json!(a);
    }
}
