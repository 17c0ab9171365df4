//! Going on with a run: from its newest checkpoint or from an earlier one, and which settings may be others from there on.
//!
//! Before: the command line. After: [`crate::run()`]. Nothing that the run has is destroyed by going back: what came after the
//! checkpoint is moved aside in the run's folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use engine::schedule::Schedule;
use serde_json::{Value, json};

use crate::files::{sync_file, write_aside};
use crate::folder::{GROWING, RunFolder};
use crate::position::{Progress, StageName};
use crate::progress::line;
use crate::recipe::Recipe;
use crate::usage::Usage;
use crate::{restore, save};

/// A run to go on with.
#[derive(Debug)]
pub(crate) struct Resumed {
    /// Its folder.
    pub(crate) path: PathBuf,
    /// The checkpoint to go on from, if not the newest.
    from: Option<Progress>,
    changes: Vec<Change>,
}

/// A setting that is another from here on.
#[derive(Debug, PartialEq)]
struct Change {
    key: String,
    from: Option<toml::Value>,
    to: Option<toml::Value>,
}

impl Resumed {
    /// The run's newest checkpoint, with its own settings.
    pub(crate) fn newest(path: &Path) -> Self {
        Self { path: path.to_owned(), from: None, changes: Vec::new() }
    }

    /// A run as the command line names it, `RUN` or `RUN@STEP`, with these settings changed; and its recipe.
    ///
    /// # Errors
    /// If there is no such run or checkpoint, or a setting is one that what was done so far depends on.
    pub(crate) fn of(named: &Path, sets: &[String]) -> Result<(Self, Recipe)> {
        let (path, from) = from(named)?;
        let file = path.join("recipe.toml");
        let text = fs::read_to_string(&file).map_err(|error| {
            let why = match error.kind() {
                std::io::ErrorKind::NotFound if path.is_dir() => {
                    "there is no recipe.toml in it, so nothing was begun there; start a run in another folder"
                        .into()
                }
                std::io::ErrorKind::NotFound => "there is no such folder".to_owned(),
                _ => format!("could not read recipe.toml: {error}"),
            };
            Usage::error(format!("`{}` is no run to resume: {why}", path.display()))
        })?;
        let before = Recipe::parse(&file.display().to_string(), &text)?;
        if sets.is_empty() {
            return Ok((Self { path, from, changes: Vec::new() }, before));
        }
        let after = before.with(&file.display().to_string(), sets)?;
        let mut changes = Vec::new();
        differences("", Some(&value(&before)?), Some(&value(&after)?), &mut changes);
        let at = match from {
            Some(from) => Some(from),
            None => save::all(&path.join("checkpoints"))?.first().map(|(progress, _)| *progress),
        };
        for change in &changes {
            if let Err(why) = allowed(change, &before, &after, at) {
                return Err(Usage::error(format!(
                    "`--set {}={}`: the run in `{}` has {} there, and {why}",
                    change.key,
                    shown(change.to.as_ref()),
                    path.display(),
                    shown(change.from.as_ref()),
                )));
            }
        }
        for note in notes(&changes, &before, &after, at) {
            line(&note);
        }
        Ok((Self { path, from, changes }, after))
    }

    /// Goes back to the checkpoint that was asked for, if one was: what came after it is moved aside.
    ///
    /// # Errors
    /// If the checkpoint is damaged, or something cannot be moved.
    pub(crate) fn rewind(&self, folder: &RunFolder) -> Result<()> {
        let Some(at) = self.from else { return Ok(()) };
        let chosen = folder.checkpoints().join(at.checkpoint());
        if let Some(damage) = restore::damage(&chosen)? {
            anyhow::bail!("checkpoint `{}` is damaged: {damage}", chosen.display());
        }
        let later = later(folder, at)?;
        if later.is_empty() {
            return Ok(());
        }
        let aside = folder.set_aside()?;
        for name in GROWING.into_iter().chain(["recipe.toml", "plan.json", "changes.jsonl"]) {
            let (from, to) = (folder.path().join(name), aside.join(name));
            if from.exists() {
                fs::copy(&from, &to)
                    .with_context(|| format!("could not copy `{}` to `{}`", from.display(), to.display()))?;
                sync_file(&to)?;
            }
        }
        write_aside(&folder.checkpoints().join(save::LATEST), at.checkpoint().as_bytes())?;
        // checkpoints last, the newest first: if the program stops in between, the run is as far as the newest that is there
        for place in &later {
            folder.move_aside(place, &aside)?;
        }
        line(&format!("what came after {at} is in `{}`: {} files and folders", aside.display(), later.len()));
        Ok(())
    }

    /// Writes down what is another setting from here on.
    ///
    /// # Errors
    /// If that cannot be written.
    pub(crate) fn record(&self, folder: &RunFolder, at: Progress) -> Result<()> {
        let lines = self.changes.iter().map(|change| {
            json!({ "key": change.key, "from": of_toml(change.from.as_ref()), "to": of_toml(change.to.as_ref()) })
        });
        folder.append("changes.jsonl", at, lines.collect())
    }
}

fn of_toml(value: Option<&toml::Value>) -> Value {
    value.and_then(|value| serde_json::to_value(value).ok()).unwrap_or(Value::Null)
}

fn shown(value: Option<&toml::Value>) -> String {
    value.map_or_else(|| "nothing".into(), toml::Value::to_string)
}

/// `RUN`, `RUN@12` or `RUN@sft-000012`: the folder, and the checkpoint. A folder whose name has an @ is meant by its name.
fn from(named: &Path) -> Result<(PathBuf, Option<Progress>)> {
    let text = named.to_string_lossy();
    let Some((run, step)) =
        text.rsplit_once('@').filter(|(run, _)| !named.exists() && Path::new(run).is_dir())
    else {
        return Ok((named.to_owned(), None));
    };
    let run = PathBuf::from(run);
    let all: Vec<Progress> =
        save::all(&run.join("checkpoints"))?.into_iter().map(|(progress, _)| progress).collect();
    let found: Vec<Progress> = all
        .iter()
        .copied()
        .filter(|at| step.parse() == Ok(at.step) || Progress::of_checkpoint(step) == Some(*at))
        .collect();
    let names = |all: &[Progress]| {
        let names: Vec<String> = all.iter().map(|at| format!("`{}`", at.checkpoint())).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    match found.as_slice() {
        [one] => Ok((run, Some(*one))),
        [] => Err(Usage::error(format!(
            "`{}` has no checkpoint of step `{step}`; there is {}",
            run.display(),
            names(&all)
        ))),
        several => Err(Usage::error(format!(
            "`{}` has several checkpoints of step `{step}`; wanted one of {}",
            run.display(),
            names(several)
        ))),
    }
}

/// All that a run has of steps after `at`, in the order in which it may be taken away.
fn later(folder: &RunFolder, at: Progress) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let names = |part: &str| -> Result<Vec<PathBuf>> {
        let place = folder.path().join(part);
        if !place.is_dir() {
            return Ok(Vec::new());
        }
        let cannot = || format!("could not read `{}`", place.display());
        let entries = fs::read_dir(&place).with_context(cannot)?;
        entries.map(|entry| Ok(entry.with_context(cannot)?.path())).collect()
    };
    let is_later = |place: &Path, stage: Option<StageName>| {
        let name = place.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let stem = name.split('.').next().unwrap_or_default();
        let of = stem.rsplit_once('-').and_then(|(prefix, step)| {
            let stage = stage.or_else(|| StageName::ALL.into_iter().find(|stage| stage.name() == prefix))?;
            Some(Progress { stage, step: step.parse().ok()? })
        });
        of.is_some_and(|of| of > at)
    };
    found.extend(names("rollouts")?.into_iter().filter(|place| is_later(place, Some(StageName::Rl))));
    found.extend(names("evaluations")?.into_iter().filter(|place| is_later(place, None)));
    for (name, stage) in [(save::REFERENCE, StageName::Rl), ("pairs.jsonl", StageName::Preference)] {
        let place = folder.path().join(name);
        if at.stage < stage && place.exists() {
            found.push(place);
        }
    }
    found.sort();
    let checkpoints = save::all(&folder.checkpoints())?.into_iter();
    found.extend(checkpoints.filter(|(progress, _)| *progress > at).map(|(_, place)| place));
    Ok(found)
}

fn value(recipe: &Recipe) -> Result<toml::Value> {
    Ok(toml::Value::try_from(recipe)?)
}

/// Every value that differs, by its whole key.
fn differences(key: &str, from: Option<&toml::Value>, to: Option<&toml::Value>, found: &mut Vec<Change>) {
    use toml::Value::Table;
    if from == to {
        return;
    }
    let empty = toml::Table::new();
    let (left, right) = match (from, to) {
        (Some(Table(left)), Some(Table(right))) => (left, right),
        (Some(Table(left)), None) => (left, &empty),
        (None, Some(Table(right))) => (&empty, right),
        _ => {
            found.push(Change { key: key.to_owned(), from: from.cloned(), to: to.cloned() });
            return;
        }
    };
    let mut keys: Vec<&String> = left.keys().chain(right.keys()).collect();
    keys.sort();
    keys.dedup();
    for name in keys {
        let whole = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        differences(&whole, left.get(name), right.get(name), found);
    }
}

/// Refuses a changed value that what was done so far depends on, with the reason.
fn allowed(change: &Change, before: &Recipe, after: &Recipe, at: Option<Progress>) -> Result<(), String> {
    let parts: Vec<&str> = change.key.split('.').collect();
    match parts.as_slice() {
        [stage @ ("sft" | "rl" | "preference"), "steps"] => steps_allowed(stage, after, at),
        ["save" | "eval", ..]
        | ["rollout", "max_rows" | "kv_memory" | "prompt_tokens" | "speculate", ..]
        | ["sft" | "rl" | "preference", "micro_batch_tokens"]
        | ["rl", "ledger", "room"]
        | ["policy", "device" | "compute" | "recompute"]
        | ["rewards", "max_failures"] => Ok(()),
        ["rollout", "backend", ..] if same_kind(before, after) => Ok(()),
        // how rewards are computed, not what they say
        [
            "rewards",
            ..,
            "workers" | "batch" | "deadline" | "start_deadline" | "parallel" | "retries" | "url" | "key_variable",
        ] => Ok(()),
        ["rollout", "backend", ..] => {
            Err("rollouts from another backend are drawn otherwise: start a new run from its checkpoint, by `--set policy.checkpoint=…`".into())
        }
        ["seed" | "data" | "prompt" | "thinking", ..] => {
            Err("the prompts so far were drawn with it: start a new run from its checkpoint, by `--set policy.checkpoint=…`".into())
        }
        ["name"] => Err("its evaluations and weights are called so".into()),
        _ => {
            Err("what was done so far was done with it, so the run would be neither the one nor the other: start a new run from its checkpoint, by `--set policy.checkpoint=…`".into())
        }
    }
}

fn same_kind(before: &Recipe, after: &Recipe) -> bool {
    std::mem::discriminant(&before.rollout.backend) == std::mem::discriminant(&after.rollout.backend)
}

fn steps_allowed(stage: &str, after: &Recipe, at: Option<Progress>) -> Result<(), String> {
    let stage = StageName::ALL.into_iter().find(|other| other.name() == stage).expect("one of three");
    let steps = after.steps(stage).unwrap_or(0);
    match at {
        Some(at) if at.stage > stage => Err(format!("that stage is over: the run is at {at}")),
        Some(at) if at.stage == stage && steps < at.step => {
            Err(format!("{} steps are done; `--resume RUN@STEP` goes back to an earlier checkpoint", at.step))
        }
        _ => Ok(()),
    }
}

/// Consequences of changes that are allowed, where they are not plain from their names.
fn notes(changes: &[Change], before: &Recipe, after: &Recipe, at: Option<Progress>) -> Vec<String> {
    let mut notes = Vec::new();
    let changed = |test: &dyn Fn(&str) -> bool| changes.iter().any(|change| test(&change.key));
    for stage in StageName::ALL {
        let key = format!("{}.steps", stage.name());
        if !changed(&|other| other == key) {
            continue;
        }
        let done = at.filter(|at| at.stage == stage).map_or(0, |at| at.step);
        let (old, new) = (before.steps(stage).unwrap_or(0), after.steps(stage).unwrap_or(0));
        if let Some((schedule, each)) = schedule_of(after, stage)
            && (done < old || done < new)
        {
            let (then, now) = (schedule.at(done * each, old * each), schedule.at(done * each, new * each));
            if then != now {
                notes.push(format!(
                    "the learning rate of [{}.schedule] follows all steps of the stage: with {new} instead of {old}, the next update has {now:.3e} instead of {then:.3e}, so the run is not what it would have been with {new} steps from the start",
                    stage.name()
                ));
            }
        }
        if stage == StageName::Rl && after.rl.as_ref().is_some_and(|rl| rl.overlap > 0) && done == old {
            notes.push("the first steps from here on have rollouts of newer weights than [rl] overlap says: nothing was sampled ahead at the end of the run".into());
        }
    }
    if changed(&|key| key.starts_with("eval.") && !matches!(key, "eval.every" | "eval.target")) {
        notes.push("held-out accuracies from here on are measured otherwise than those before".into());
    }
    if changed(&|key| {
        key.ends_with("micro_batch_tokens")
            || key == "rl.ledger.room"
            || matches!(key, "policy.device" | "policy.compute")
    }) {
        notes.push("sums are rounded otherwise from here on: the run will not be the same, bit for bit, as without the change".into());
    }
    notes
}

/// A stage's schedule, and the updates of a step.
fn schedule_of(recipe: &Recipe, stage: StageName) -> Option<(Schedule, u64)> {
    Some(match stage {
        StageName::Sft => (recipe.sft.as_ref()?.schedule.clone(), 1),
        StageName::Rl => {
            let config = recipe.rl.as_ref()?.trainer();
            let each = config.updates() / config.steps.max(1);
            (config.schedule, each)
        }
        StageName::Preference => (recipe.preference.as_ref()?.schedule.clone(), 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny(sets: &[&str]) -> Recipe {
        Recipe::load("tiny", &sets.iter().map(|set| (*set).to_owned()).collect::<Vec<_>>()).expect("valid")
    }

    fn verdicts(sets: &[&str], at: Option<Progress>) -> Vec<(String, bool)> {
        let before = tiny(&[]);
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let after = before.with("recipe.toml", &sets).expect("valid");
        let mut changes = Vec::new();
        differences(
            "",
            Some(&value(&before).expect("toml")),
            Some(&value(&after).expect("toml")),
            &mut changes,
        );
        changes.iter().map(|c| (c.key.clone(), allowed(c, &before, &after, at).is_ok())).collect()
    }

    #[test]
    fn what_was_done_so_far_may_not_depend_on_a_setting_that_changes() {
        let at = Some(Progress { stage: StageName::Rl, step: 10 });
        for set in [
            "save.every=3",
            "save.best=eval_accuracy",
            "eval.every=7",
            "eval.prompts=9",
            "rollout.max_rows=4",
            "rollout.speculate={}",
            "rl.micro_batch_tokens=100",
            "rl.steps=1000",
            "rl.steps=10",
            "policy.recompute=none",
            "rewards.max_failures=0.25",
        ] {
            let found = verdicts(&[set], at);
            assert!(!found.is_empty() && found.iter().all(|(_, allowed)| *allowed), "{set}: {found:?}");
        }
        for set in [
            "seed=9",
            "rl.group_size=4",
            "rl.steps=9",
            "rl.sampling.temperature=0.5",
            "rl.schedule.learning_rate=0.5",
            "rl.schedule.shape=cosine",
            "rl.overlap=1",
            "rl.baseline=\"leave_one_out\"",
            "data.arithmetic.count=7",
            "rewards.exact_match.weight=2.0",
            "policy.checkpoint=elsewhere",
            "rollout.backend={vllm={url=\"http://127.0.0.1:1\"}}",
            "name=other",
        ] {
            let found = verdicts(&[set], at);
            assert!(!found.is_empty() && found.iter().any(|(_, allowed)| !allowed), "{set}: {found:?}");
        }
        let over = Some(Progress { stage: StageName::Preference, step: 0 });
        assert_eq!(verdicts(&["rl.steps=1000"], over), [("rl.steps".to_owned(), false)]);
    }

    #[test]
    fn a_longer_run_says_what_becomes_of_a_falling_learning_rate() {
        let at = Some(Progress { stage: StageName::Rl, step: 8 });
        let note = |sets: &[&str]| {
            let before = tiny(&[sets, &["rl.steps=8"]].concat());
            let after = before.with("r", &["rl.steps=16".to_owned()]).expect("valid");
            let mut changes = Vec::new();
            differences(
                "",
                Some(&value(&before).expect("t")),
                Some(&value(&after).expect("t")),
                &mut changes,
            );
            notes(&changes, &before, &after, at)
        };
        assert!(note(&["rl.schedule.shape=constant", "rl.schedule.warmup=0"]).is_empty());
        let notes = note(&["rl.schedule.shape=linear", "rl.schedule.learning_rate=0.001"]);
        assert!(notes.len() == 1 && notes[0].contains("with 16 instead of 8"), "{notes:?}");
    }
}
