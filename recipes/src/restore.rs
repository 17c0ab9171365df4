//! The way back from a checkpoint: the newest that is whole, exactly as it was.
//!
//! Before: a run's folder in which the program or the machine stopped, at any time. After: [`crate::run()`] goes on from there.
//! A checkpoint whose files are not those of its manifest, or that has numbers which are not finite, is set aside and the one
//! before it takes its place, with a warning that names what was damaged.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use candle_core::{DType, Device, Tensor};
use engine::Tensors;
use engine::model::Policy;
use engine::model::weights::read_tensors;

use crate::arrived::ARRIVED;
use crate::best::Best;
use crate::files::{decompressed, remove_folder, rename, write_aside};
use crate::folder::{RunFolder, Saves};
use crate::manifest::{MANIFEST, Manifest};
use crate::plan::Plan;
use crate::position::Progress;
use crate::progress::line;
use crate::save::{self, AHEAD, CheckpointState, LATEST, REFERENCE, STATE, StageState, TRAINER};

/// A checkpoint, read back.
pub(crate) struct Saved {
    pub(crate) progress: Progress,
    pub(crate) policy: Policy,
    pub(crate) resume: Resume,
}

/// The state that a stage goes on with.
pub(crate) struct Resume {
    pub(crate) updates: u64,
    pub(crate) optimizer: Tensors,
    pub(crate) state: StageState,
}

/// Why a checkpoint cannot be read.
enum Unreadable {
    /// It is not what was written.
    Damaged(String),
    /// It does not fit the recipe, or this process cannot read it.
    Other(anyhow::Error),
}

/// Goes back to the newest checkpoint that is whole; `None` if the run has none at all.
///
/// # Errors
/// If there are checkpoints and none of them is whole; nothing was changed then.
pub(crate) fn newest(plan: &Plan, folder: &mut RunFolder) -> Result<Option<Saved>> {
    let checkpoints = folder.checkpoints();
    let mut damaged: Vec<(PathBuf, String)> = Vec::new();
    for (progress, place) in save::all(&checkpoints)? {
        match read(plan, &place) {
            Ok((saved, state)) => {
                for (place, why) in &damaged {
                    let kept = set_apart(place)?;
                    let text = format!(
                        "checkpoint `{}` is damaged ({why}); the run goes on from `{}`, and what is left of it is in `{}`",
                        name(place),
                        progress.checkpoint(),
                        name(&kept)
                    );
                    folder.warn(progress, &text)?;
                }
                settle(folder, progress, state)?;
                // the program may have stopped before it came to this
                save::forget(
                    &checkpoints,
                    progress,
                    plan.recipe.save.keep.get(),
                    folder.saves.best.as_ref(),
                )?;
                return Ok(Some(saved));
            }
            Err(Unreadable::Damaged(why)) => damaged.push((place, why)),
            Err(Unreadable::Other(error)) => return Err(error),
        }
    }
    if damaged.is_empty() {
        return Ok(None);
    }
    let all: Vec<String> = damaged.iter().map(|(place, why)| format!("`{}`: {why}", name(place))).collect();
    Err(anyhow!(
        "no checkpoint of `{}` is whole: {}; nothing was changed; to start over from the beginning, remove `{}`",
        folder.path().display(),
        all.join("; "),
        checkpoints.display()
    ))
}

/// Makes `latest`, `best.json` and what is known of the run those of the checkpoint at `at`.
fn settle(folder: &mut RunFolder, at: Progress, state: CheckpointState) -> Result<()> {
    let checkpoints = folder.checkpoints();
    for (progress, place) in save::all(&checkpoints)? {
        if progress < at && !place.join(STATE).exists() {
            line(&format!("`{}` was being removed when the run stopped; it is gone now", place.display()));
            remove_folder(&place).with_context(|| format!("could not remove `{}`", place.display()))?;
        }
    }
    let latest = checkpoints.join(LATEST);
    let named = fs::read_to_string(&latest).ok().map(|name| name.trim().to_owned());
    if named.as_deref() != Some(&at.checkpoint()) {
        match named {
            Some(named) if !checkpoints.join(&named).exists() && !is_set_apart(&checkpoints, &named) => {
                let text = format!(
                    "`latest` names checkpoint `{named}`, which is not there; the run goes on from `{}`, the newest that is whole",
                    at.checkpoint()
                );
                folder.warn(at, &text)?;
            }
            Some(_) => {}
            None => line(&format!(
                "`{}` was not there; the newest checkpoint that is whole is `{}`",
                latest.display(),
                at.checkpoint()
            )),
        }
        write_aside(&latest, at.checkpoint().as_bytes())?;
    }
    let best = match state.manifest {
        true => state.best,
        // before there were manifests, this file alone knew
        false => Best::read(&checkpoints)?
            .filter(|best| Progress::of_checkpoint(&best.checkpoint).is_none_or(|best| best <= at)),
    };
    let best = match best {
        Some(best) if !checkpoints.join(&best.checkpoint).join(STATE).is_file() => {
            let other = best_of_those_left(&checkpoints, &best, at)?;
            let now = other.as_ref().map_or_else(
                || "none that is left was measured as the best".to_owned(),
                |other| format!("of those that are left `{}` is the best", other.checkpoint),
            );
            folder.warn(
                at,
                &format!("the best checkpoint, `{}`, is not there any more; {now}", best.checkpoint),
            )?;
            other
        }
        best => best,
    };
    Best::write(best.as_ref(), &checkpoints)?;
    folder.saves = Saves { standing: Some(at), best, inputs: state.inputs };
    Ok(())
}

/// The best by the same metric of the checkpoints that are left up to `at`.
fn best_of_those_left(checkpoints: &Path, lost: &Best, at: Progress) -> Result<Option<Best>> {
    let mut found: Vec<Best> = Vec::new();
    for (progress, place) in save::all(checkpoints)? {
        let state = fs::read(place.join(STATE))
            .ok()
            .and_then(|text| serde_json::from_slice::<CheckpointState>(&text).ok());
        let best = state.and_then(|state| state.best);
        if let Some(best) = best.filter(|best| best.checkpoint == name(&place) && best.metric == lost.metric)
            && progress <= at
        {
            found.push(best);
        }
    }
    let sign = if lost.metric.starts_with('-') { -1.0 } else { 1.0 };
    Ok(found.into_iter().max_by(|a, b| (sign * a.value).total_cmp(&(sign * b.value))))
}

fn name(place: &Path) -> String {
    place.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Gives a damaged checkpoint another name, by which nobody takes it for whole.
fn set_apart(place: &Path) -> Result<PathBuf> {
    let numbered = |number: u32| match number {
        1 => place.with_extension("damaged"),
        number => place.with_extension(format!("damaged-{number}")),
    };
    let free = (1..).map(numbered).find(|other| !other.exists()).expect("some number is free");
    rename(place, &free).with_context(|| format!("could not rename `{}`", place.display()))?;
    Ok(free)
}

fn is_set_apart(checkpoints: &Path, named: &str) -> bool {
    checkpoints.join(named).with_extension("damaged").exists()
}

/// The first damage of a checkpoint, in words.
pub(crate) fn damage(place: &Path) -> Result<Option<String>> {
    match verified(place) {
        Ok(_) => Ok(None),
        Err(Unreadable::Damaged(why)) => Ok(Some(why)),
        Err(Unreadable::Other(error)) => Err(error),
    }
}

/// Reads a checkpoint's state and, if it has one, its manifest, which its files are checked against.
fn verified(place: &Path) -> Result<(CheckpointState, Option<Manifest>), Unreadable> {
    let state = fs::read(place.join(STATE))
        .map_err(|error| format!("could not read `{STATE}`: {error}"))
        .and_then(|text| {
            serde_json::from_slice::<CheckpointState>(&text)
                .map_err(|error| format!("`{STATE}` is no state: {error}"))
        })
        .map_err(Unreadable::Damaged)?;
    let other = |error: std::io::Error| {
        Unreadable::Other(anyhow!(error).context(format!("could not read checkpoint `{}`", place.display())))
    };
    let manifest = match fs::read(place.join(MANIFEST)) {
        Ok(text) => Some(
            serde_json::from_slice::<Manifest>(&text)
                .map_err(|error| Unreadable::Damaged(format!("`{MANIFEST}` is no manifest: {error}")))?,
        ),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(other(error)),
        Err(_) if state.manifest => {
            return Err(Unreadable::Damaged(format!("`{MANIFEST}` is missing")));
        }
        Err(_) => None,
    };
    if let Some(damage) = manifest.as_ref().map(|m| m.damage(place)).transpose().map_err(other)?.flatten() {
        return Err(Unreadable::Damaged(damage));
    }
    let named = Progress::of_checkpoint(&name(place));
    if named.is_some_and(|named| named != state.progress) {
        return Err(Unreadable::Damaged(format!("its state is that of {}", state.progress)));
    }
    Ok((state, manifest))
}

/// Reads a checkpoint back, exactly.
fn read(plan: &Plan, place: &Path) -> Result<(Saved, CheckpointState), Unreadable> {
    let (state, manifest) = verified(place)?;
    if manifest.is_none() {
        line(&format!(
            "checkpoint `{}` is of before checkpoints had checksums: whether it is whole cannot be told for sure",
            place.display()
        ));
    }
    let loaded = load(plan, place, &state, manifest.as_ref());
    let saved = loaded.map_err(|error| match (error.downcast_ref::<NotFinite>(), &manifest) {
        // what the manifest vouches for is what was written, so it is the recipe that does not fit
        (None, Some(_)) => {
            Unreadable::Other(error.context(format!("could not read checkpoint `{}`", place.display())))
        }
        _ => Unreadable::Damaged(format!("{error:#}")),
    })?;
    Ok((saved, state))
}

/// A number that training cannot go on with.
#[derive(Debug, thiserror::Error)]
#[error("`{file}` has {value} in `{name}`; wanted a finite number")]
struct NotFinite {
    file: &'static str,
    name: String,
    value: f32,
}

fn load(plan: &Plan, place: &Path, state: &CheckpointState, manifest: Option<&Manifest>) -> Result<Saved> {
    let tensors =
        read_tensors(&place.join(TRAINER)).with_context(|| format!("could not read `{TRAINER}`"))?;
    let (mut weights, mut optimizer) = (Tensors::new(), Tensors::new());
    for (name, tensor) in tensors {
        check_finite(&name, &tensor)?;
        if let Some(name) = name.strip_prefix("weights.") {
            weights.insert(name.to_owned(), tensor);
        } else if let Some(name) = name.strip_prefix("optimizer.") {
            optimizer.insert(name.to_owned(), tensor);
        } else {
            anyhow::bail!("`{TRAINER}` holds `{name}`, which is neither weight nor state");
        }
    }
    if weights.is_empty() {
        weights = engine::model::weights::load(place, &plan.config, &Device::Cpu)?;
    }
    let policy = plan.build(weights)?;
    // a file that the manifest does not know is not of this checkpoint
    let lines = |name: &str| place.join(name).exists() && manifest.is_none_or(|manifest| manifest.has(name));
    let stage = StageState {
        arrived: if lines(ARRIVED) { decompressed(&place.join(ARRIVED))? } else { Vec::new() },
        ahead: if lines(AHEAD) { decompressed(&place.join(AHEAD))? } else { Vec::new() },
        ..state.stage.clone()
    };
    let resume = Resume { updates: state.updates, optimizer, state: stage };
    Ok(Saved { progress: state.progress, policy, resume })
}

fn check_finite(name: &str, tensor: &Tensor) -> Result<()> {
    if tensor.dtype() != DType::F32 {
        return Ok(());
    }
    let second = name.split('.').nth(2) == Some("v") && name.starts_with("optimizer.");
    let bad = |number: &f32| !number.is_finite() || second && *number < 0.0;
    match tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().find(bad) {
        Some(value) => Err(NotFinite { file: TRAINER, name: name.to_owned(), value }.into()),
        None => Ok(()),
    }
}

/// The policy that KL is taken to.
pub(crate) fn reference(plan: &Plan, folder: &RunFolder, at: Progress) -> Result<Policy> {
    let place = folder.path().join(REFERENCE);
    let cannot = || format!("could not read `{}`", place.display());
    if let Some(sum) = folder.saves.inputs.get(REFERENCE)
        && let Some(damage) = sum.damage(&place).with_context(cannot)?
    {
        // without a stage before, it is the policy that the run began with
        let aside = place.with_file_name(".tmp-reference");
        let again = plan.recipe.sft.is_none() && save::write_policy(&aside, &plan.policy()?)? == *sum;
        if again {
            rename(&aside, &place).with_context(cannot)?;
            folder.warn(
                at,
                &format!("{damage}; it was made again from `{}`, as it was", plan.checkpoint.source()),
            )?;
        } else {
            if aside.exists() {
                fs::remove_file(&aside).with_context(cannot)?;
            }
            anyhow::bail!(
                "{damage}; it is the policy that KL is taken to, and the run cannot go on without it: restore it from a copy"
            );
        }
    }
    let tensors = read_tensors(&place).with_context(cannot)?;
    for (name, tensor) in &tensors {
        check_finite(name, tensor).with_context(cannot)?;
    }
    plan.build(tensors)
}

/// Refuses a file of the run's folder that is not what it was when the checkpoint was written.
pub(crate) fn check_input(folder: &RunFolder, name: &str) -> Result<()> {
    let place = folder.path().join(name);
    let Some(sum) = folder.saves.inputs.get(name) else { return Ok(()) };
    match sum.damage(&place).with_context(|| format!("could not read `{}`", place.display()))? {
        Some(damage) => {
            Err(anyhow!("{damage}; the run cannot go on without it as it was: restore it from a copy"))
        }
        None => Ok(()),
    }
}
