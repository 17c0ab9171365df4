//! Checkpoints of a run: a folder that other programs load, and beside it what resuming needs.
//!
//! `checkpoints/step-000123/` holds a model in Hugging Face layout, `trainer.safetensors` with the optimizer's state
//! and, where the model is not saved as f32, the exact weights, and `state.json`. It is written as `.part`, flushed
//! and renamed; `latest` names the newest complete one.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use data::Rollout;
use engine::Tensors;
use engine::ledger::Ledger;
use engine::mixture::Mixture;
use engine::model::weights::Source;
use engine::model::{Policy, WeightDtype};
use engine::optimizer::Optimizer;
use serde::{Deserialize, Serialize};

use crate::folder::{Progress, RunFolder, write_aside};
use crate::generate::StepRollouts;
use crate::plan::Plan;

const STATE: &str = "state.json";
const TRAINER: &str = "trainer.safetensors";
const LATEST: &str = "latest";
const BEST: &str = "best.json";
const ARRIVED: &str = "arrived.jsonl.zst";
const AHEAD: &str = "ahead.jsonl.zst";

#[derive(Debug, Serialize, Deserialize)]
struct State {
    progress: Progress,
    updates: u64,
    #[serde(flatten)]
    kept: Kept,
}

/// Small things that outlive a step, beside the optimizer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Prompts drawn so far in the RL stage; absent in checkpoints of before dynamic sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) drawn: Option<u64>,
    /// What is remembered of gradients and prompts.
    #[serde(default)]
    pub(crate) ledger: Ledger,
    /// How two branches are mixed.
    #[serde(default)]
    pub(crate) mixture: Mixture,
    /// Rollouts of the next step that had arrived when the others failed; in a file of their own.
    #[serde(skip)]
    pub(crate) arrived: Vec<Rollout>,
    /// Steps that were sampled ahead; in a file of their own.
    #[serde(skip)]
    pub(crate) ahead: Vec<StepRollouts>,
}

/// What a checkpoint brings back.
pub(crate) struct Saved {
    pub(crate) progress: Progress,
    pub(crate) policy: Policy,
    pub(crate) resume: Resume,
}

/// What a stage goes on with.
pub(crate) struct Resume {
    pub(crate) updates: u64,
    pub(crate) optimizer: Tensors,
    pub(crate) kept: Kept,
}

/// Writes a checkpoint and forgets the oldest ones.
pub(crate) fn write(
    plan: &Plan,
    folder: &RunFolder,
    progress: Progress,
    policy: &Policy,
    optimizer: &Optimizer,
    kept: &Kept,
    best: Option<Best>,
) -> Result<PathBuf> {
    let prefix = match progress.stage {
        crate::folder::Stage::Sft => "sft",
        crate::folder::Stage::Rl => "step",
        crate::folder::Stage::Preference => "preference",
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
    plan.checkpoint.save(&aside, &plan.config, policy, dtype)?;
    let mut parts: Vec<(&str, &dyn Source)> = vec![("optimizer", optimizer)];
    if dtype != WeightDtype::F32 {
        parts.push(("weights", policy));
    }
    write_tensors(&aside.join(TRAINER), &parts).with_context(cannot)?;
    let updates = optimizer.updates();
    write_aside(
        &aside.join(STATE),
        &serde_json::to_vec_pretty(&State { progress, updates, kept: kept.clone() })?,
    )?;
    write_lines(&aside.join(ARRIVED), &kept.arrived)?;
    write_lines(&aside.join(AHEAD), &kept.ahead)?;
    fs::rename(&aside, &place).with_context(cannot)?;
    write_aside(&folder.checkpoints().join(LATEST), name.as_bytes())?;
    if let Some(best) = best {
        let best = Best { checkpoint: name, ..best };
        write_aside(&folder.checkpoints().join(BEST), &serde_json::to_vec_pretty(&best)?)?;
    }
    forget(&folder.checkpoints(), plan.recipe.save.keep.get())?;
    Ok(place)
}

/// `checkpoints/best.json`: the checkpoint that was best by the metric of `[save] best`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Best {
    /// Its folder's name.
    pub(crate) checkpoint: String,
    /// The metric, with a minus where smaller is better.
    pub(crate) metric: String,
    /// Its value there.
    pub(crate) value: f64,
}

/// The best checkpoint of a run, if it keeps one and has one.
pub(crate) fn best(checkpoints: &Path) -> Result<Option<Best>> {
    let file = checkpoints.join(BEST);
    let cannot = || format!("could not read `{}`", file.display());
    match fs::read(&file) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).with_context(cannot)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(cannot),
    }
}

/// Whether the step of this line of metrics is better than all that were measured before, if the recipe asks for that. Among
/// equals the first stays.
pub(crate) fn better(plan: &Plan, folder: &RunFolder, line: &serde_json::Value) -> Result<Option<Best>> {
    let Some(metric) = &plan.recipe.save.best else { return Ok(None) };
    let (path, sign) = metric.strip_prefix('-').map_or((metric.as_str(), 1.0), |path| (path, -1.0));
    let Some(value) = path.split('.').fold(line, |value, key| &value[key]).as_f64() else { return Ok(None) };
    let before = best(&folder.checkpoints())?.filter(|before| before.metric == *metric);
    let better = before.is_none_or(|before| sign * value > sign * before.value);
    Ok(better.then(|| Best { checkpoint: String::new(), metric: metric.clone(), value }))
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
    let policy = plan.build(weights)?;
    let kept = Kept {
        arrived: read_lines(&place.join(ARRIVED))?,
        ahead: read_lines(&place.join(AHEAD))?,
        ..state.kept
    };
    let resume = Resume { updates: state.updates, optimizer, kept };
    Ok(Saved { progress: state.progress, policy, resume })
}

/// Writes a compressed JSON line for each; no file for none.
fn write_lines<T: Serialize>(file: &Path, values: &[T]) -> Result<()> {
    if values.is_empty() {
        return Ok(());
    }
    let mut text = Vec::new();
    for value in values {
        serde_json::to_writer(&mut text, value)?;
        text.push(b'\n');
    }
    write_aside(file, &zstd::encode_all(text.as_slice(), 3)?)
}

fn read_lines<T: serde::de::DeserializeOwned>(file: &Path) -> Result<Vec<T>> {
    let cannot = || format!("could not read `{}`", file.display());
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(cannot),
    };
    let text = zstd::decode_all(bytes.as_slice()).with_context(cannot)?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).with_context(cannot)).collect()
}

/// Keeps the policy that KL is taken to, for resuming.
pub(crate) fn write_reference(folder: &RunFolder, policy: &Policy) -> Result<()> {
    let place = folder.path().join("reference.safetensors");
    let aside = place.with_extension("part");
    let write = || -> Result<()> {
        write_tensors(&aside, &[("", policy)])?;
        Ok(fs::rename(&aside, &place)?)
    };
    write().with_context(|| format!("could not write `{}`", place.display()))
}

/// Writes the tensors of some sources, each name behind that of its source, one tensor after another, and syncs.
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
    safetensors::serialize_to_file(entries, None, file)?;
    if let Some(error) = failure.take() {
        return Err(error.into());
    }
    Ok(fs::File::open(file)?.sync_all()?)
}

/// A tensor that is made when it is written.
struct Entry<'a> {
    source: &'a dyn Source,
    name: String,
    shape: Vec<usize>,
    whole: bool,
    failure: &'a RefCell<Option<candle_core::Error>>,
}

impl Entry<'_> {
    fn bytes(&self) -> candle_core::Result<Vec<u8>> {
        let tensor = self.source.tensor(&self.name)?.flatten_all()?;
        Ok(if self.whole {
            tensor.to_vec1::<u32>()?.into_iter().flat_map(u32::to_le_bytes).collect()
        } else {
            tensor.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect()
        })
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

/// The policy that KL is taken to.
pub(crate) fn read_reference(plan: &Plan, folder: &RunFolder) -> Result<Policy> {
    let place = folder.path().join("reference.safetensors");
    let tensors = candle_core::safetensors::load(&place, &Device::Cpu)
        .with_context(|| format!("could not read `{}`", place.display()))?;
    plan.build(tensors.into_iter().collect())
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
    let best = best(checkpoints)?.map(|best| checkpoints.join(best.checkpoint));
    done.retain(|(_, path)| Some(path) != best.as_ref());
    done.sort_by_key(|(state, _)| state.progress);
    let old = done.len().saturating_sub(keep);
    for (_, path) in done.into_iter().take(old) {
        fs::remove_dir_all(&path).with_context(|| format!("could not remove `{}`", path.display()))?;
    }
    Ok(())
}
