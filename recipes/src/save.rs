//! Checkpoints of a run: a folder that other programs load, and beside it what resuming needs.
//!
//! `checkpoints/step-000123/` holds a model in Hugging Face layout, `trainer.safetensors` with the optimizer's state
//! and, where the model is not saved as f32, the exact weights, and `state.json`. It is written as `.part`, flushed
//! and renamed; `latest` names the newest complete one.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use engine::Tensors;
use engine::model::{Policy, WeightDtype};
use serde::{Deserialize, Serialize};

use crate::folder::{Progress, RunFolder, write_aside};
use crate::plan::Plan;

const STATE: &str = "state.json";
const TRAINER: &str = "trainer.safetensors";
const LATEST: &str = "latest";

#[derive(Debug, Serialize, Deserialize)]
struct State {
    progress: Progress,
    updates: u64,
}

/// What a checkpoint brings back.
pub(crate) struct Saved {
    pub(crate) progress: Progress,
    pub(crate) updates: u64,
    pub(crate) policy: Policy,
    pub(crate) optimizer: Tensors,
}

/// Writes a checkpoint and forgets the oldest ones.
pub(crate) fn write(
    plan: &Plan,
    folder: &RunFolder,
    progress: Progress,
    policy: &Policy,
    updates: u64,
    optimizer: Tensors,
) -> Result<PathBuf> {
    let prefix = match progress.stage {
        crate::folder::Stage::Sft => "sft",
        crate::folder::Stage::Rl => "step",
    };
    let name = format!("{prefix}-{:06}", progress.step);
    let (place, aside) =
        (folder.checkpoints().join(&name), folder.checkpoints().join(format!("{name}.part")));
    let cannot = || format!("could not write checkpoint `{}`", place.display());
    for old in [&aside, &place] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(cannot)?;
        }
    }
    fs::create_dir_all(&aside).with_context(cannot)?;
    let dtype = plan.recipe.save.dtype;
    let weights = policy.tensors();
    plan.checkpoint.save(&aside, &plan.config, &weights, dtype)?;
    let mut tensors: HashMap<String, Tensor> =
        optimizer.into_iter().map(|(name, tensor)| (format!("optimizer.{name}"), tensor)).collect();
    if dtype != WeightDtype::F32 {
        tensors.extend(weights.into_iter().map(|(name, tensor)| (format!("weights.{name}"), tensor)));
    }
    candle_core::safetensors::save(&tensors, aside.join(TRAINER)).with_context(cannot)?;
    fs::File::open(aside.join(TRAINER)).and_then(|file| file.sync_all()).with_context(cannot)?;
    write_aside(&aside.join(STATE), &serde_json::to_vec_pretty(&State { progress, updates })?)?;
    fs::rename(&aside, &place).with_context(cannot)?;
    write_aside(&folder.checkpoints().join(LATEST), name.as_bytes())?;
    forget(&folder.checkpoints(), plan.recipe.save.keep.get())?;
    Ok(place)
}

/// The newest complete checkpoint of a run, if it has one.
pub(crate) fn latest(run: &Path) -> Result<Option<PathBuf>> {
    let checkpoints = run.join("checkpoints");
    let file = checkpoints.join(LATEST);
    match fs::read_to_string(&file) {
        Ok(name) => Ok(Some(checkpoints.join(name.trim()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("could not read `{}`", file.display())),
    }
}

/// Reads a checkpoint back, exactly.
pub(crate) fn read(plan: &Plan, place: &Path) -> Result<Saved> {
    let cannot = || format!("could not read checkpoint `{}`", place.display());
    let state: State =
        serde_json::from_slice(&fs::read(place.join(STATE)).with_context(cannot)?).with_context(cannot)?;
    let tensors = candle_core::safetensors::load(place.join(TRAINER), &Device::Cpu).with_context(cannot)?;
    let (mut weights, mut optimizer) = (Tensors::new(), Tensors::new());
    for (name, tensor) in tensors {
        if let Some(name) = name.strip_prefix("weights.") {
            weights.insert(name.to_owned(), tensor);
        } else if let Some(name) = name.strip_prefix("optimizer.") {
            optimizer.insert(name.to_owned(), tensor);
        } else {
            anyhow::bail!(
                "`{}` holds `{name}`, which is neither weight nor state",
                place.join(TRAINER).display()
            );
        }
    }
    if weights.is_empty() {
        weights = engine::model::weights::load(place, &plan.config, &Device::Cpu)?;
    }
    let policy = Policy::new(plan.config.clone(), weights, &Device::Cpu)?;
    Ok(Saved { progress: state.progress, updates: state.updates, policy, optimizer })
}

/// Keeps the policy that KL is taken to, for resuming.
pub(crate) fn write_reference(folder: &RunFolder, policy: &Policy) -> Result<()> {
    let place = folder.path().join("reference.safetensors");
    let aside = place.with_extension("part");
    let tensors: HashMap<String, Tensor> = policy.tensors().into_iter().collect();
    let write = || -> Result<()> {
        candle_core::safetensors::save(&tensors, &aside)?;
        fs::File::open(&aside)?.sync_all()?;
        Ok(fs::rename(&aside, &place)?)
    };
    write().with_context(|| format!("could not write `{}`", place.display()))
}

/// The policy that KL is taken to.
pub(crate) fn read_reference(plan: &Plan, folder: &RunFolder) -> Result<Policy> {
    let place = folder.path().join("reference.safetensors");
    let tensors = candle_core::safetensors::load(&place, &Device::Cpu)
        .with_context(|| format!("could not read `{}`", place.display()))?;
    Ok(Policy::new(plan.config.clone(), tensors.into_iter().collect(), &Device::Cpu)?)
}

fn forget(checkpoints: &Path, keep: usize) -> Result<()> {
    let mut done: Vec<(State, PathBuf)> = Vec::new();
    for entry in fs::read_dir(checkpoints)? {
        let path = entry?.path();
        if path.extension().is_none()
            && path.is_dir()
            && let Ok(text) = fs::read(path.join(STATE))
        {
            done.push((serde_json::from_slice(&text)?, path));
        }
    }
    done.sort_by_key(|(state, _)| state.progress);
    let old = done.len().saturating_sub(keep);
    for (_, path) in done.into_iter().take(old) {
        fs::remove_dir_all(&path).with_context(|| format!("could not remove `{}`", path.display()))?;
    }
    Ok(())
}
