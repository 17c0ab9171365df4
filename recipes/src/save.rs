//! Checkpoints of a run: a folder that other programs load, and beside it what resuming needs.
//!
//! `checkpoints/step-000123/` holds a model in Hugging Face layout, `trainer.safetensors` with the optimizer's state
//! and, where the model is not saved as f32, the exact weights, `state.json`, and `manifest.json` with a checksum of each file.
//! It is written as `.part`, flushed and renamed; `latest` names the newest complete one. Nothing that is complete is taken away
//! before something newer is. Before: a step is done. After: [`crate::restore`] reads it back.
//!
//! A run that is stopped between two regular checkpoints leaves an *interim* one, which goes when the next regular one stands: so
//! a run that went on has the checkpoints of one that was never interrupted.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::DType;
use data::Rollout;
use engine::ledger::Ledger;
use engine::mixture::Mixture;
use engine::model::weights::Source;
use engine::model::{Policy, WeightDtype};
use engine::optimizer::Optimizer;
use engine::selection::PromptKnowledge;
use serde::{Deserialize, Serialize};

use crate::arrived::drop_arrived;
use crate::best::Best;
use crate::files::{compressed, put_folder, remove_folder, rename, write_aside};
use crate::folder::RunFolder;
use crate::manifest::{Checksum, MANIFEST, Manifest};
use crate::plan::Plan;
use crate::position::Progress;
use crate::prompt_stats;
use crate::step_rollouts::StepRollouts;

pub(crate) const STATE: &str = "state.json";
pub(crate) const TRAINER: &str = "trainer.safetensors";
pub(crate) const LATEST: &str = "latest";
pub(crate) const AHEAD: &str = "ahead.jsonl.zst";
/// The policy that KL is taken to, in the run's folder.
pub(crate) const REFERENCE: &str = "reference.safetensors";

/// `state.json`
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CheckpointState {
    pub(crate) progress: Progress,
    pub(crate) updates: u64,
    /// True if a manifest was written beside it; false in checkpoints of before there were any.
    #[serde(default)]
    pub(crate) manifest: bool,
    /// True if it is there only because the run was stopped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) interim: bool,
    /// The best checkpoint until then, maybe this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) best: Option<Best>,
    /// Files of the run's folder that going on needs as well.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) inputs: BTreeMap<String, Checksum>,
    #[serde(flatten)]
    pub(crate) stage: StageState,
}

/// State of a stage that outlives a step, beside weights and optimizer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct StageState {
    /// Prompts drawn so far in the RL stage; absent in checkpoints of before dynamic sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) drawn: Option<u64>,
    /// Statistics of gradients and prompts.
    #[serde(default)]
    pub(crate) ledger: Ledger,
    /// The mixture of two branches.
    #[serde(default)]
    pub(crate) mixture: Mixture,
    /// What is known of the prompts that were visited.
    #[serde(default)]
    pub(crate) known: PromptKnowledge,
    /// Rollouts of the next step that had arrived when the others failed; in [`crate::arrived`].
    #[serde(skip)]
    pub(crate) arrived: Vec<Rollout>,
    /// Steps that were sampled ahead; in a file of their own.
    #[serde(skip)]
    pub(crate) ahead: Vec<StepRollouts>,
}

/// A moment of a run, between two steps: all that a checkpoint holds.
#[derive(Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) at: Progress,
    pub(crate) policy: &'a Policy,
    pub(crate) optimizer: &'a Optimizer,
    pub(crate) state: &'a StageState,
}

/// Writes a regular checkpoint, which is the `best` from now on if it is given, and forgets the oldest ones.
pub(crate) fn write(
    plan: &Plan,
    folder: &mut RunFolder,
    moment: &Moment<'_>,
    best: Option<Best>,
) -> Result<PathBuf> {
    write_as(plan, folder, moment, best, false)
}

/// Makes sure that a checkpoint of this moment stands: an interim one if there is none.
pub(crate) fn keep(plan: &Plan, folder: &mut RunFolder, moment: &Moment<'_>) -> Result<PathBuf> {
    let place = folder.checkpoints().join(moment.at.checkpoint());
    if folder.saves.standing == Some(moment.at) && place.is_dir() {
        folder.sync()?;
        return Ok(place);
    }
    write_as(plan, folder, moment, None, true)
}

fn write_as(
    plan: &Plan,
    folder: &mut RunFolder,
    moment: &Moment<'_>,
    better: Option<Best>,
    interim: bool,
) -> Result<PathBuf> {
    let (checkpoints, name) = (folder.checkpoints(), moment.at.checkpoint());
    let place = checkpoints.join(&name);
    let aside = place.with_extension(crate::files::PART);
    let cannot = || format!("could not write checkpoint `{}`", place.display());
    let best = better.or_else(|| folder.saves.best.clone());
    let state = CheckpointState {
        progress: moment.at,
        updates: moment.optimizer.updates(),
        manifest: true,
        interim,
        best: best.clone(),
        inputs: folder.saves.inputs.clone(),
        stage: moment.state.clone(),
    };
    // what the checkpoint counts as done is on the disk before it
    folder.sync()?;
    // before it too: what is done again if the checkpoint is not written is written again
    prompt_stats::write(plan, folder.path(), &moment.state.known.stats)?;
    if aside.exists() {
        fs::remove_dir_all(&aside).with_context(cannot)?;
    }
    let put = fill(plan, moment, &state, &aside).and_then(|()| Ok(put_folder(&aside, &place)?));
    if let Err(error) = put {
        // gives its room back; if that fails too, it is swept when the run goes on
        let _ = fs::remove_dir_all(&aside);
        return Err(error).with_context(cannot);
    }
    Best::write(best.as_ref(), &checkpoints)?;
    write_aside(&checkpoints.join(LATEST), name.as_bytes())?;
    folder.saves.standing = Some(moment.at);
    folder.saves.best = best;
    forget(&checkpoints, moment.at, plan.recipe.save.keep.get(), folder.saves.best.as_ref())?;
    drop_arrived(folder, moment.at)?;
    Ok(place)
}

/// Writes all files of a checkpoint into a new folder, and flushes them.
fn fill(plan: &Plan, moment: &Moment<'_>, state: &CheckpointState, aside: &Path) -> Result<()> {
    fs::create_dir_all(aside)?;
    let dtype = plan.recipe.save.dtype;
    plan.checkpoint.save(aside, &plan.config, moment.policy, dtype)?;
    let mut parts: Vec<(&str, &dyn Source)> = vec![("optimizer", moment.optimizer)];
    if dtype != WeightDtype::F32 {
        parts.push(("weights", moment.policy));
    }
    let trainer = aside.join(TRAINER);
    write_tensors(&trainer, &parts)?;
    write_aside(&aside.join(STATE), &serde_json::to_vec_pretty(state)?)?;
    if !moment.state.ahead.is_empty() {
        write_aside(&aside.join(AHEAD), &compressed(&moment.state.ahead)?)?;
    }
    // the largest file goes to the disk while cores hash what is in memory still
    let (synced, manifest) = rayon::join(|| fs::File::open(&trainer)?.sync_all(), || Manifest::of(aside));
    synced?;
    write_aside(&aside.join(MANIFEST), &serde_json::to_vec_pretty(&manifest?)?)
}

/// Keeps the policy that KL is taken to, for resuming.
pub(crate) fn write_reference(folder: &mut RunFolder, policy: &Policy) -> Result<()> {
    let place = folder.path().join(REFERENCE);
    let sum =
        write_policy(&place, policy).with_context(|| format!("could not write `{}`", place.display()))?;
    folder.saves.inputs.insert(REFERENCE.to_owned(), sum);
    Ok(())
}

/// Writes the weights of a policy; gives the file's checksum.
pub(crate) fn write_policy(place: &Path, policy: &Policy) -> Result<Checksum> {
    let aside = place.with_extension(crate::files::PART);
    let write = || -> Result<Checksum> {
        write_tensors(&aside, &[("", policy)])?;
        let (synced, sum) = rayon::join(|| fs::File::open(&aside)?.sync_all(), || Checksum::of(&aside));
        synced?;
        rename(&aside, place)?;
        Ok(sum?)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&aside);
    })
}

/// Writes the tensors of some sources, each name behind that of its source, one tensor after another.
fn write_tensors(file: &Path, parts: &[(&str, &dyn Source)]) -> Result<()> {
    let failure = RefCell::new(None);
    let mut entries = Vec::new();
    for (part, source) in parts {
        for (name, shape) in source.entries() {
            let full = if part.is_empty() { name.clone() } else { format!("{part}.{name}") };
            // counters are whole numbers and a number long; everything else is f32
            let whole = shape == [1] && source.tensor(&name)?.dtype() == DType::U32;
            entries.push((full, Entry { source: *source, name, shape, whole, failure: &failure }));
        }
    }
    let written = safetensors::serialize_to_file(entries, None, file);
    match failure.take() {
        Some(error) => Err(error),
        None => Ok(written?),
    }
}

/// A tensor that is made when it is written.
struct Entry<'a> {
    source: &'a dyn Source,
    name: String,
    shape: Vec<usize>,
    whole: bool,
    failure: &'a RefCell<Option<anyhow::Error>>,
}

impl Entry<'_> {
    fn bytes(&self) -> Result<Vec<u8>> {
        if self.whole {
            let words = self.source.tensor(&self.name)?.flatten_all()?.to_vec1::<u32>()?;
            return Ok(words.into_iter().flat_map(u32::to_le_bytes).collect());
        }
        let numbers = self.source.numbers(&self.name)?;
        if let Some(place) = numbers.iter().position(|number| !number.is_finite()) {
            anyhow::bail!(
                "`{}` is {} at its number {place}: training cannot go on from there, so it is not saved",
                self.name,
                numbers[place]
            );
        }
        Ok(numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
    }
}

impl safetensors::View for Entry<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        if self.whole { safetensors::Dtype::U32 } else { safetensors::Dtype::F32 }
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.bytes().unwrap_or_else(|error| {
            self.failure.borrow_mut().get_or_insert(error);
            vec![0; self.data_len()]
        }))
    }
    fn data_len(&self) -> usize {
        4 * self.shape.iter().product::<usize>()
    }
}

/// The folders that are named as checkpoints are, the newest first.
pub(crate) fn all(checkpoints: &Path) -> Result<Vec<(Progress, PathBuf)>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(checkpoints) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries.with_context(|| format!("could not read `{}`", checkpoints.display()))?,
    };
    for entry in entries {
        let path = entry.with_context(|| format!("could not read `{}`", checkpoints.display()))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(progress) = Progress::of_checkpoint(name)
            && path.is_dir()
        {
            found.push((progress, path));
        }
    }
    found.sort();
    found.reverse();
    Ok(found)
}

/// The newest checkpoint of a run for a reader: the one that `latest` names, or, where that is not there, the newest that is.
pub(crate) fn latest(run: &Path) -> Result<Option<PathBuf>> {
    let checkpoints = run.join("checkpoints");
    if let Ok(name) = fs::read_to_string(checkpoints.join(LATEST)) {
        let place = checkpoints.join(name.trim());
        if place.join(STATE).is_file() {
            return Ok(Some(place));
        }
    }
    let found = all(&checkpoints)?.into_iter().map(|(_, place)| place);
    Ok(found.into_iter().find(|place| place.join(STATE).is_file()))
}

/// Takes away interim checkpoints and the oldest others, but for the best and the one at `newest`.
pub(crate) fn forget(checkpoints: &Path, newest: Progress, keep: usize, best: Option<&Best>) -> Result<()> {
    #[derive(Deserialize)]
    struct Interim {
        #[serde(default)]
        interim: bool,
    }
    let is_interim = |place: &Path| {
        let state = fs::read(place.join(STATE)).ok();
        state.and_then(|state| serde_json::from_slice::<Interim>(&state).ok()).is_some_and(|s| s.interim)
    };
    let mut regular = 0;
    for (progress, place) in all(checkpoints)? {
        let stays = if is_interim(&place) {
            progress == newest
        } else if best
            .is_some_and(|best| place.file_name().is_some_and(|name| name == best.checkpoint.as_str()))
        {
            true
        } else {
            regular += 1;
            regular <= keep
        };
        if !stays && progress != newest {
            remove_folder(&place).with_context(|| format!("could not remove `{}`", place.display()))?;
        }
    }
    Ok(())
}
