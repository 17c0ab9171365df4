//! The loop.
//!
//! Before: [`Plan`]. After: a run folder with metrics, rollouts and checkpoints.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use engine::model::Policy;
use engine::optimizer::Optimizer;
use engine::selection::Shuffled;
use engine::supervised;
use eval::Accuracy;
use serde_json::{Value, json};

use crate::folder::{Progress, RunFolder, Stage, write_aside};
use crate::generate::{Generation, Weights};
use crate::plan::Plan;
use crate::progress::{Display, line};
use crate::recipe::SftRecipe;
use crate::rl;
use crate::save::{self, Kept, Resume};

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Accuracy on held-out prompts before training; absent without `[eval]`.
    pub before: Option<Accuracy>,
    /// The same after it.
    pub after: Option<Accuracy>,
}

/// Trains as the plan says, in a new folder, or goes on in one that is there.
///
/// # Errors
/// If the folder cannot be used, or a step fails; what was done until then is saved.
pub fn run(plan: &Plan, out: &Path, resume: bool) -> Result<Outcome> {
    let first = if plan.recipe.sft.is_some() { Stage::Sft } else { Stage::Rl };
    let mut at = Progress { stage: first, step: 0 };
    let (mut folder, mut policy, mut saved);
    let newest = if resume { save::latest(out)? } else { None };
    match (resume, newest) {
        (true, Some(place)) => {
            let read = save::read(plan, &place)?;
            (at, policy, saved) = (read.progress, read.policy, Some(read.resume));
            folder = RunFolder::open(out)?;
            line(&format!("going on after {} step {}", at.stage.name(), at.step));
        }
        (true, None) => {
            (policy, saved) = (plan.policy()?, None);
            folder = RunFolder::open(out)?;
        }
        (false, _) => {
            RunFolder::refuse_existing(out)?;
            // a broken checkpoint must not leave a folder behind
            (policy, saved) = (plan.policy()?, None);
            folder = RunFolder::create(out)?;
        }
    }
    line(&format!("computing in {}", plan.choice.reason));
    for warning in crate::warnings::warnings(plan) {
        line(&format!("warning: {warning}"));
    }
    if let Some(before) = numerics_of(out).filter(|before| before != plan.choice.numerics()) {
        line(&format!(
            "the run so far was computed in {before} and goes on in {}: it will not be the same, bit for bit, as if it had not been interrupted",
            plan.choice.numerics()
        ));
    }
    folder.trim(saved.is_some().then_some(at))?;
    let log = out.join("rewards.log");
    plan.rewards.log_to(&log).with_context(|| format!("could not write to `{}`", log.display()))?;
    write_aside(&out.join("recipe.toml"), toml::to_string(&plan.recipe)?.as_bytes())?;
    write_aside(&out.join("plan.json"), &serde_json::to_vec_pretty(&crate::check::plan_json(plan))?)?;
    let generation = Generation::new(plan, out);
    let mut outcome = Outcome { before: first_accuracy(out), after: None };
    if let (Some(sft), Stage::Sft) = (&plan.recipe.sft, at.stage) {
        supervised_stage(&generation, sft, &mut folder, &mut policy, at.step, saved.take(), &mut outcome)?;
        at = Progress { stage: Stage::Rl, step: 0 };
    }
    if let (Some(rl), Stage::Rl) = (&plan.recipe.rl, at.stage) {
        rl::stage(&generation, rl, &mut folder, &mut policy, at.step, saved.take(), &mut outcome)?;
    }
    if at.stage < Stage::Preference {
        at = Progress { stage: Stage::Preference, step: 0 };
    }
    if let Some(preference) = &plan.recipe.preference {
        // a checkpoint of this stage, or none: the end of the stage before
        let saved = saved.take().filter(|_| at.step > 0);
        crate::preference::stage(
            &generation,
            preference,
            &mut folder,
            &mut policy,
            at.step,
            saved,
            &mut outcome,
        )?;
    }
    Ok(outcome)
}

fn supervised_stage(
    generation: &Generation<'_>,
    sft: &SftRecipe,
    folder: &mut RunFolder,
    policy: &mut Policy,
    done: u64,
    saved: Option<Resume>,
    outcome: &mut Outcome,
) -> Result<()> {
    let plan = generation.plan;
    let examples = plan.examples(sft)?;
    let forms = plan.seed().named("answer form");
    let steps = sft.steps.get() as u64;
    let mut optimizer = Optimizer::new(&sft.optimizer, &sft.schedule, steps);
    if let Some(saved) = saved {
        optimizer.restore(saved.updates, saved.optimizer)?;
    }
    let selection = Shuffled { prompts: examples.len(), seed: plan.seed().named("sft") };
    let mut display = Display::new("sft", done, steps);
    if done == 0 {
        let before = generation.measure(Weights { policy, stage: Stage::Sft, version: 0 }, folder)?;
        write_accuracy(folder, Stage::Sft, before)?;
        outcome.before = before;
        note_accuracy(&display, "before SFT", before);
    }
    for step in done..steps {
        let batch: Vec<_> = selection
            .draw(step * sft.batch_size.get() as u64, sft.batch_size.get())
            .into_iter()
            .map(|index| {
                let forms_of = &examples[index];
                let mut draw = forms.at(step).prompt(&plan.tasks[index].prompt.id).place(0);
                forms_of[(draw.uniform(0) * forms_of.len() as f64) as usize].clone()
            })
            .collect();
        let begun = Instant::now();
        let attempt = supervised::step(policy, &mut optimizer, &batch, sft.micro_batch_tokens.get());
        let update = match attempt {
            Ok(update) => update,
            Err(error) => {
                let at = Progress { stage: Stage::Sft, step };
                let what = format!("sft step {}", step + 1);
                let kept = Kept::default();
                return Err(save_failed(&what, plan, folder, at, policy, &optimizer, &kept, error.into()));
            }
        };
        let mut metrics = json!({
            "step": step + 1,
            "loss": update.loss,
            "grad_norm": update.grad_norm,
            "learning_rate": update.learning_rate,
            "seconds_update": begun.elapsed().as_secs_f64(),
        });
        let last = step + 1 == steps;
        if let Some(eval) = &plan.recipe.eval
            && (last || (step + 1).is_multiple_of(eval.every.get() as u64))
        {
            match generation.measure(Weights { policy, stage: Stage::Sft, version: step + 1 }, folder) {
                Ok(after) => outcome.after = after,
                Err(error) => {
                    folder.write_metrics(&with_stage(Stage::Sft, metrics))?;
                    let at = Progress { stage: Stage::Sft, step: step + 1 };
                    let what = format!("the evaluation after sft step {}", step + 1);
                    let kept = Kept::default();
                    return Err(save_failed(&what, plan, folder, at, policy, &optimizer, &kept, error));
                }
            }
            add_accuracy(&mut metrics, outcome.after);
        }
        let line = with_stage(Stage::Sft, metrics);
        folder.write_metrics(&line)?;
        let accuracy =
            outcome.after.map_or(String::new(), |a| format!(" · held-out {:.1} %", 100.0 * a.share));
        display.step(step + 1, &format!("loss {:.4}{accuracy}", update.loss));
        let best = save::better(plan, folder, &line)?;
        if last || best.is_some() || (step + 1).is_multiple_of(plan.recipe.save.every.get() as u64) {
            let at = Progress { stage: Stage::Sft, step: step + 1 };
            save::write(plan, folder, at, policy, &optimizer, &Kept::default(), best)?;
        }
    }
    if outcome.after.is_none() {
        outcome.after = generation.measure(Weights { policy, stage: Stage::Sft, version: steps }, folder)?;
    }
    Ok(())
}

/// Keeps what is done although `what` failed, and says where.
#[expect(clippy::too_many_arguments, reason = "what failed, and all that a checkpoint holds")]
pub(crate) fn save_failed(
    what: &str,
    plan: &Plan,
    folder: &RunFolder,
    done: Progress,
    policy: &Policy,
    optimizer: &Optimizer,
    kept: &Kept,
    error: anyhow::Error,
) -> anyhow::Error {
    match save::write(plan, folder, done, policy, optimizer, kept, None) {
        Ok(place) => error.context(format!("{what} failed; the run up to there is in `{}`", place.display())),
        Err(second) => error.context(format!("{what} failed, and saving the run failed too: {second:#}")),
    }
}

pub(crate) fn with_stage(stage: Stage, metrics: Value) -> Value {
    let mut line = json!({ "stage": stage.name() });
    if let (Some(line), Value::Object(metrics)) = (line.as_object_mut(), metrics) {
        line.extend(metrics);
    }
    line
}

/// Step 0 of a stage: only what was measured before it.
pub(crate) fn write_accuracy(folder: &mut RunFolder, stage: Stage, accuracy: Option<Accuracy>) -> Result<()> {
    match accuracy {
        Some(a) => folder.write_metrics(&json!({
            "stage": stage.name(), "step": 0, "eval_accuracy": a.share, "eval": a,
        })),
        None => Ok(()),
    }
}

/// Adds what was measured to a step's line.
pub(crate) fn add_accuracy(line: &mut Value, accuracy: Option<Accuracy>) {
    if let Some(a) = accuracy {
        line["eval_accuracy"] = json!(a.share);
        line["eval"] = json!(a);
    }
}

/// How a run that goes on was computed until now.
fn numerics_of(out: &Path) -> Option<String> {
    let plan: Value = serde_json::from_slice(&std::fs::read(out.join("plan.json")).ok()?).ok()?;
    plan["policy"]["numerics"].as_str().map(str::to_owned)
}

/// The accuracy before training, from the metrics of a run that goes on.
fn first_accuracy(out: &Path) -> Option<Accuracy> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).ok()?;
    let first: Value = serde_json::from_str(text.lines().next()?).ok()?;
    serde_json::from_value(first.get("eval")?.clone()).ok()
}

pub(crate) fn note_accuracy(display: &Display, when: &str, accuracy: Option<Accuracy>) {
    if let Some(a) = accuracy {
        display.note(&format!("held-out accuracy {when}: {}", describe(&a)));
    }
}

/// "37.2 % (190 of 512, 95 % interval 33.1–41.4 %)"
pub(crate) fn describe(a: &Accuracy) -> String {
    let i = a.interval;
    let absent = if a.absent > 0 { format!(", {} not judged", a.absent) } else { String::new() };
    format!(
        "{:.1} % ({} of {}, 95 % interval {:.1}–{:.1} %{absent})",
        100.0 * a.share,
        a.right,
        a.judged,
        100.0 * i.low,
        100.0 * i.high
    )
}
