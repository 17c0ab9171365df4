//! A run's folder: what it holds, and how nothing in it is ever half written or lost.
//!
//! `recipe.toml` as resolved, `plan.json`, `metrics.jsonl`, `rollouts/`, `checkpoints/`, where the objective has a
//! KL term `reference.safetensors`, with `[eval]` `evaluations/` (every held-out question at every measurement), and if there is anything to say `unjudged.jsonl` (rollouts that a reward could not judge),
//! `warnings.jsonl` (what looks suspicious) and `rewards.log` (what reward functions print). Files are written aside, flushed to the disk and renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data::ScoredRollout;
use eval::Evaluation;
use serde::{Deserialize, Serialize};

use crate::cli::Usage;

/// One part of a run; they come in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    Sft,
    Rl,
    Preference,
}

impl Stage {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Rl => "rl",
            Self::Preference => "preference",
        }
    }
}

/// How far a run has come: `step` steps of `stage` are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) stage: Stage,
    pub(crate) step: u64,
}

/// A folder that one run writes to.
pub(crate) struct RunFolder {
    path: PathBuf,
    metrics: File,
}

impl RunFolder {
    /// A run never writes where something is.
    pub(crate) fn refuse_existing(path: &Path) -> Result<()> {
        if path.exists() {
            return Err(Usage::error(format!(
                "`{}` exists; pass `--resume {0}` to go on with that run, or another folder by `--out`",
                path.display()
            )));
        }
        Ok(())
    }

    /// Makes a new folder. One that exists is never touched.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        Self::refuse_existing(path)?;
        let cannot = || format!("could not make the run folder `{}`", path.display());
        for part in ["rollouts", "checkpoints"] {
            fs::create_dir_all(path.join(part)).with_context(cannot)?;
        }
        Self::open(path)
    }

    /// A folder that is there.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = path.join("metrics.jsonl");
        let metrics = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&file)
            .with_context(|| format!("could not open `{}`", file.display()))?;
        Ok(Self { path: path.to_owned(), metrics })
    }

    /// The first of `runs/NAME`, `runs/NAME-2` … that does not exist.
    pub(crate) fn free(name: &str) -> PathBuf {
        let first = Path::new("runs").join(name);
        let mut place = first.clone();
        let mut number = 2;
        while place.exists() {
            place = Path::new("runs").join(format!("{name}-{number}"));
            number += 1;
        }
        place
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds one line to `metrics.jsonl`.
    pub(crate) fn write_metrics(&mut self, line: &serde_json::Value) -> Result<()> {
        let mut text = line.to_string();
        text.push('\n');
        self.metrics
            .write_all(text.as_bytes())
            .with_context(|| format!("could not write to `{}`", self.path.join("metrics.jsonl").display()))
    }

    /// Drops the lines of steps after `progress`, which a run that was killed may have written; all of them without a
    /// checkpoint to go on from.
    pub(crate) fn trim(&mut self, progress: Option<Progress>) -> Result<()> {
        for name in ["metrics.jsonl", "unjudged.jsonl", "warnings.jsonl"] {
            let file = self.path.join(name);
            if !file.exists() {
                continue;
            }
            let lines = BufReader::new(
                File::open(&file).with_context(|| format!("could not read `{}`", file.display()))?,
            )
            .lines()
            .collect::<std::io::Result<Vec<_>>>()?;
            let mut kept = String::new();
            for line in lines {
                // a line cut short by the kill is of a later step than any checkpoint
                if serde_json::from_str::<Progress>(&line).is_ok_and(|at| Some(at) <= progress) {
                    kept.push_str(&line);
                    kept.push('\n');
                }
            }
            write_aside(&file, kept.as_bytes())?;
        }
        *self = Self::open(&self.path)?;
        Ok(())
    }

    /// The lines of `metrics.jsonl` of a stage.
    pub(crate) fn metrics(&self, stage: Stage) -> Result<Vec<serde_json::Value>> {
        let file = self.path.join("metrics.jsonl");
        let text =
            fs::read_to_string(&file).with_context(|| format!("could not read `{}`", file.display()))?;
        let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        Ok(lines.filter(|line| line["stage"] == stage.name()).collect())
    }

    /// Adds lines about a step to a file, if there are any.
    pub(crate) fn append(&self, name: &str, at: Progress, lines: Vec<serde_json::Value>) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        for line in lines {
            let mut all = serde_json::to_value(at)?;
            if let (Some(all), serde_json::Value::Object(line)) = (all.as_object_mut(), line) {
                all.extend(line);
            }
            text.push_str(&all.to_string());
            text.push('\n');
        }
        let file = self.path.join(name);
        let write = || OpenOptions::new().create(true).append(true).open(&file)?.write_all(text.as_bytes());
        write().with_context(|| format!("could not write to `{}`", file.display()))
    }

    /// Writes a step's rollouts, compressed.
    pub(crate) fn write_rollouts(&self, step: u64, scored: &[ScoredRollout]) -> Result<()> {
        write_compressed(&self.path.join(format!("rollouts/step-{step:06}.jsonl.zst")), scored)
    }

    /// Writes what held-out questions came to, and their samples if there are any.
    pub(crate) fn write_evaluation(
        &self,
        place: &str,
        evaluation: &Evaluation,
        samples: &[ScoredRollout],
    ) -> Result<()> {
        let folder = self.path.join("evaluations");
        fs::create_dir_all(&folder).with_context(|| format!("could not make `{}`", folder.display()))?;
        if !samples.is_empty() {
            write_compressed(&folder.join(format!("{place}.jsonl.zst")), samples)?;
        }
        write_aside(&folder.join(format!("{place}.json")), &serde_json::to_vec(evaluation)?)
    }

    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }
}

fn write_compressed(path: &Path, scored: &[ScoredRollout]) -> Result<()> {
    let mut text = Vec::new();
    for scored in scored {
        serde_json::to_writer(&mut text, scored)?;
        text.push(b'\n');
    }
    write_aside(path, &zstd::encode_all(text.as_slice(), 3)?)
}

/// Writes a file aside, flushes it and puts it in its place.
pub(crate) fn write_aside(path: &Path, bytes: &[u8]) -> Result<()> {
    let aside = path.with_extension("part");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    write().with_context(|| format!("could not write `{}`", path.display()))
}
