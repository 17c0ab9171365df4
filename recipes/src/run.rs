//! A run from its first stage to its last, or from where it was stopped.
//!
//! Before: [`Plan`]. After: a run folder with metrics, rollouts and checkpoints. What a stage does is in [`crate::stage`].

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use engine::model::Policy;
use eval::Accuracy;
use serde_json::Value;

use crate::files::write_aside;
use crate::folder::{GROWING, RunFolder};
use crate::generate::Generation;
use crate::outcome::RunOutcome;
use crate::plan::Plan;
use crate::plan_json::plan_json;
use crate::position::{Progress, StageName};
use crate::progress::{Busy, line};
use crate::prompt_stats;
use crate::restore::{self, Resume};
use crate::resume::Resumed;
use crate::stage::{self, Run, Start};
use crate::warnings::warnings;

/// The folder that a run is written to.
pub(crate) enum Place {
    /// A new folder: this one, or the first of `runs/NAME`, `runs/NAME-2` … that is free.
    New(Option<PathBuf>),
    /// That of a run to go on with.
    Resumed(Resumed),
}

/// Trains as the plan says, in a new folder, or goes on in one that is there.
///
/// # Errors
/// If the folder cannot be used, a step fails, or the plan's [`crate::Stop`] is requested; what was done until then is saved.
pub fn run(plan: &Plan, out: &Path, resume: bool) -> Result<RunOutcome> {
    match resume {
        true => train(plan, &Place::Resumed(Resumed::newest(out))),
        false => train(plan, &Place::New(Some(out.to_owned()))),
    }
}

/// Trains as the plan says.
///
/// # Errors
/// As [`run`].
pub(crate) fn train(plan: &Plan, place: &Place) -> Result<RunOutcome> {
    let (mut folder, begun) = match place {
        Place::Resumed(resumed) => {
            let mut folder = RunFolder::open(&resumed.path)?;
            let begun = go_on(plan, resumed, &mut folder)?;
            (folder, begun)
        }
        Place::New(out) => {
            if let Some(out) = out {
                RunFolder::refuse_existing(out)?;
            }
            // what the RL stage begins with must not be missed behind another stage
            prompt_stats::at_start(plan)?;
            // a broken checkpoint must not leave a folder behind
            let policy = plan.policy()?;
            let folder = RunFolder::create(out.as_deref(), plan.recipe.name(), &files(plan)?)?;
            (folder, Begun { at: beginning(plan), policy, saved: None })
        }
    };
    // from here on there is something to keep, and requests to stop are looked at
    plan.stop.resumable("train", folder.path());
    let _heeding = plan.stop.heed();
    stages(plan, &mut folder, begun)
}

/// The state that a run begins with, or goes on with.
struct Begun {
    at: Progress,
    policy: Policy,
    saved: Option<Resume>,
}

fn beginning(plan: &Plan) -> Progress {
    Progress { stage: if plan.recipe.sft.is_some() { StageName::Sft } else { StageName::Rl }, step: 0 }
}

/// The files of a run's folder that describe the run.
fn files(plan: &Plan) -> Result<[(&'static str, Vec<u8>); 2]> {
    Ok([
        ("recipe.toml", toml::to_string(&plan.recipe)?.into_bytes()),
        ("plan.json", serde_json::to_vec_pretty(&plan_json(plan))?),
    ])
}

/// Brings a run back to where it goes on from.
fn go_on(plan: &Plan, resumed: &Resumed, folder: &mut RunFolder) -> Result<Begun> {
    resumed.rewind(folder)?;
    let newest = {
        let _busy = Busy::new(&format!("reading the newest checkpoint of `{}`", folder.path().display()));
        restore::newest(plan, folder)?
    };
    let begun = match newest {
        Some(saved) => {
            line(&format!("going on after {}", saved.progress));
            Begun { at: saved.progress, policy: saved.policy, saved: Some(saved.resume) }
        }
        None => {
            line(&format!("`{}`: nothing was saved yet, so the run starts over", folder.path().display()));
            Begun { at: beginning(plan), policy: plan.policy()?, saved: None }
        }
    };
    if let Some(before) = numerics_of(folder.path()).filter(|before| before != plan.choice.numerics()) {
        line(&format!(
            "the run so far was computed in {before} and goes on in {}: it will not be the same, bit for bit, as if it had not been interrupted",
            plan.choice.numerics()
        ));
    }
    let at = begun.saved.is_some().then_some(begun.at);
    if at.is_none() {
        keep_lost_lines(plan, folder)?;
    }
    let damaged = folder.trim(at)?;
    if let Some(at) = at {
        if !damaged.is_empty() {
            folder.warn(at, &format!("lines were damaged and are left out: {}", damaged.join("; ")))?;
        }
        let missing = missing_lines(plan, folder, at)?;
        if !missing.is_empty() {
            folder
                .warn(at, &format!("metrics.jsonl has no lines of {}: they are lost", missing.join(", ")))?;
        }
    }
    resumed.record(folder, begun.at)?;
    for (name, bytes) in files(plan)? {
        write_aside(&folder.path().join(name), &bytes)?;
    }
    Ok(begun)
}

/// A run that has lines of a step behind which there must have been a checkpoint, and has none, was not stopped but lost
/// something: its lines are kept aside before the run starts over.
fn keep_lost_lines(plan: &Plan, folder: &RunFolder) -> Result<()> {
    let first = beginning(plan).stage;
    let steps = plan.recipe.steps(first).unwrap_or(0);
    let due = steps.min(plan.recipe.save.every.get() as u64);
    let lines = folder.metrics(first)?;
    if lines.iter().all(|line| line["step"].as_u64().unwrap_or(0) <= due) && steps > due {
        return Ok(());
    }
    if !lines.iter().any(|line| line["step"].as_u64().unwrap_or(0) >= due) {
        return Ok(());
    }
    let aside = folder.set_aside()?;
    for name in GROWING {
        let place = folder.path().join(name);
        if place.exists() {
            folder.move_aside(&place, &aside)?;
        }
    }
    line(&format!(
        "warning: there were checkpoints of this run once and there are none any more; its metrics until now are kept in `{}`",
        aside.display()
    ));
    Ok(())
}

/// Steps up to `at` that have no line of metrics, as words: "rl steps 3 to 5".
fn missing_lines(plan: &Plan, folder: &RunFolder, at: Progress) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for stage in StageName::ALL.into_iter().filter(|stage| *stage <= at.stage) {
        let last = if stage == at.stage { at.step } else { plan.recipe.steps(stage).unwrap_or(0) };
        let lines = folder.metrics(stage)?;
        let there: std::collections::BTreeSet<u64> =
            lines.iter().filter_map(|line| line["step"].as_u64()).collect();
        let mut step = 1;
        while step <= last {
            if there.contains(&step) {
                step += 1;
                continue;
            }
            let first = step;
            while step <= last && !there.contains(&step) {
                step += 1;
            }
            let name = stage.name();
            missing.push(match step - first {
                1 => format!("{name} step {first}"),
                _ => format!("{name} steps {first} to {}", step - 1),
            });
        }
    }
    Ok(missing)
}

/// All stages, from where the run is.
fn stages(plan: &Plan, folder: &mut RunFolder, begun: Begun) -> Result<RunOutcome> {
    let Begun { mut at, mut policy, mut saved } = begun;
    let out = folder.path().to_owned();
    line(&format!("computing in {}", plan.choice.reason));
    for warning in warnings(plan) {
        folder.warn(beginning(plan), &warning)?;
    }
    let log = out.join("rewards.log");
    plan.rewards.log_to(&log).with_context(|| format!("could not write to `{}`", log.display()))?;
    let generation = Generation::new(plan, &out);
    let mut outcome =
        RunOutcome { before: first_accuracy(folder)?, after: None, notes: Vec::new(), folder: out };
    let mut run = Run { generation: &generation, folder, outcome: &mut outcome };
    let recipe = &plan.recipe;
    if let (Some(sft), StageName::Sft) = (&recipe.sft, at.stage) {
        let start = Start { done: at.step, saved: saved.take() };
        stage::sft::run(&mut run, sft, &mut policy, start)?;
        at = Progress { stage: StageName::Rl, step: 0 };
    }
    if let (Some(rl), StageName::Rl) = (&recipe.rl, at.stage) {
        let start = Start { done: at.step, saved: saved.take() };
        stage::rl::run(&mut run, rl, &mut policy, start)?;
    }
    if at.stage < StageName::Preference {
        at = Progress { stage: StageName::Preference, step: 0 };
    }
    if let Some(preference) = &recipe.preference {
        // a checkpoint of this stage, or none: the end of the stage before
        let saved = saved.take().filter(|_| at.step > 0);
        let start = Start { done: at.step, saved };
        stage::preference::run(&mut run, preference, &mut policy, start)?;
    }
    Ok(outcome)
}

/// The numerics of a run that goes on, until now.
fn numerics_of(out: &Path) -> Option<String> {
    let plan: Value = serde_json::from_slice(&std::fs::read(out.join("plan.json")).ok()?).ok()?;
    plan["policy"]["numerics"].as_str().map(str::to_owned)
}

/// The accuracy before training, from the metrics of a run that goes on.
fn first_accuracy(folder: &RunFolder) -> Result<Option<Accuracy>> {
    for stage in StageName::ALL {
        if let Some(line) = folder.metrics(stage)?.into_iter().find(|line| line["step"] == 0) {
            return Ok(line.get("eval").and_then(|eval| serde_json::from_value(eval.clone()).ok()));
        }
    }
    Ok(None)
}
