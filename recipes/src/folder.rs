//! A run's folder: what it holds, and how nothing in it is ever half written or lost.
//!
//! `recipe.toml` as resolved, `plan.json`, `metrics.jsonl`, `rollouts/`, `checkpoints/`, where the objective has a
//! KL term `reference.safetensors`, with an RL stage `prompts.parquet` (what is known of each prompt), with `[eval]` `evaluations/` (every held-out question at every measurement), and if there is
//! anything to say `unjudged.jsonl` (rollouts that a reward could not judge), `warnings.jsonl` (what looks suspicious),
//! `changes.jsonl` (settings that were changed when the run went on), `scan.jsonl` (the
//! concentration of every prompt, for an order by angle) and `rewards.log` (what reward functions print). Files are
//! written aside, flushed to the disk and renamed; one process writes at a time.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data::ScoredRollout;
use eval::Evaluation;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::best::Best;
use crate::files::{compressed, json_lines, rename, sweep, sync_file, sync_folder, write_aside};
use crate::lock::{Lock, make_folder};
use crate::manifest::Checksum;
use crate::position::{Progress, StageName};
use crate::progress::line;
use crate::usage::Usage;

/// The files that grow line by line, each line of one step.
pub(crate) const GROWING: [&str; 3] = ["metrics.jsonl", "unjudged.jsonl", "warnings.jsonl"];

/// A run's checkpoints, as far as they are known while it runs.
#[derive(Debug, Default)]
pub(crate) struct Saves {
    /// The newest one that this process wrote or read.
    pub(crate) standing: Option<Progress>,
    pub(crate) best: Option<Best>,
    /// Files of the run's folder that the stage needs.
    pub(crate) inputs: BTreeMap<String, Checksum>,
}

/// A folder that one run writes to.
pub(crate) struct RunFolder {
    path: PathBuf,
    metrics: File,
    pub(crate) saves: Saves,
    _lock: Lock,
}

impl RunFolder {
    /// Makes a new folder with these files in it: `place`, which must not exist, or by default the first of `runs/NAME`,
    /// `runs/NAME-2` … that does not. Whoever sees it sees all of the files.
    pub(crate) fn create(place: Option<&Path>, name: &str, files: &[(&str, Vec<u8>)]) -> Result<Self> {
        let fill = |aside: &Path| -> Result<()> {
            for part in ["rollouts", "checkpoints"] {
                let part = aside.join(part);
                fs::create_dir(&part).with_context(|| format!("could not make `{}`", part.display()))?;
            }
            for (name, bytes) in files.iter().chain([&("metrics.jsonl", Vec::new())]) {
                write_aside(&aside.join(name), bytes)?;
            }
            Ok(())
        };
        let make = |path: &Path| {
            let made = make_folder(path, &fill);
            made.with_context(|| format!("could not make the run folder `{}`", path.display()))
        };
        if let Some(path) = place {
            let lock = make(path)?.ok_or_else(|| exists(path))?;
            return Self::with(path, lock);
        }
        let first = Path::new("runs").join(name);
        let others = (2u64..).map(|number| Path::new("runs").join(format!("{name}-{number}")));
        for path in std::iter::once(first).chain(others) {
            if let Some(lock) = make(&path)? {
                return Self::with(&path, lock);
            }
        }
        unreachable!("some number is free")
    }

    /// A folder that is there, for this process alone; what a kill left half written in it is cleared away.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let folder = Self::with(path, Lock::on(path)?)?;
        for part in ["", "rollouts", "evaluations", "checkpoints"] {
            sweep(&path.join(part))?;
        }
        // copies of weights that a server was handed by a process that is no more
        let weights = path.join("weights");
        if weights.exists() {
            fs::remove_dir_all(&weights)
                .with_context(|| format!("could not clear away `{}`", weights.display()))?;
        }
        Ok(folder)
    }

    fn with(path: &Path, lock: Lock) -> Result<Self> {
        Ok(Self { path: path.to_owned(), metrics: open_metrics(path)?, saves: Saves::default(), _lock: lock })
    }

    /// A run never writes where something is.
    pub(crate) fn refuse_existing(path: &Path) -> Result<()> {
        if path.exists() { Err(exists(path)) } else { Ok(()) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds one line to `metrics.jsonl`.
    pub(crate) fn write_metrics(&mut self, line: &Value) -> Result<()> {
        let mut text = line.to_string();
        text.push('\n');
        self.metrics
            .write_all(text.as_bytes())
            .with_context(|| format!("could not write to `{}`", self.path.join("metrics.jsonl").display()))
    }

    /// Puts a line of metrics in the place of that of the same step, or adds it.
    pub(crate) fn replace_metrics(&mut self, line: &Value) -> Result<()> {
        let file = self.path.join("metrics.jsonl");
        let mut lines: Vec<Value> = json_lines(&file)?.values().collect();
        let same = |other: &Value| other["stage"] == line["stage"] && other["step"] == line["step"];
        match lines.iter_mut().find(|other| same(other)) {
            Some(other) => *other = line.clone(),
            None => lines.push(line.clone()),
        }
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        write_aside(&file, text.as_bytes())?;
        self.metrics = open_metrics(&self.path)?;
        Ok(())
    }

    /// Drops the lines of steps after `progress`, which a run that was killed may have written; all of them without a
    /// checkpoint to go on from. Gives the places of lines that were damaged and had to be dropped as well: not a last one,
    /// which a kill cuts short.
    pub(crate) fn trim(&mut self, progress: Option<Progress>) -> Result<Vec<String>> {
        let mut damaged = Vec::new();
        for name in GROWING {
            let file = self.path.join(name);
            if !file.exists() {
                continue;
            }
            let found = json_lines::<Value>(&file)?;
            let (mut kept, mut broken) = (Vec::new(), found.broken.clone());
            for line in &found.lines {
                match Progress::deserialize(&line.value) {
                    Ok(at) if Some(at) <= progress => {
                        kept.extend_from_slice(found.bytes_of(line));
                        kept.push(b'\n');
                    }
                    Ok(_) => {}
                    Err(_) => broken.push(line.number),
                }
            }
            if !broken.is_empty() && progress.is_some() {
                let numbers: Vec<String> = broken.iter().map(usize::to_string).collect();
                damaged.push(format!("`{name}` line {}", numbers.join(", ")));
            }
            write_aside(&file, &kept)?;
        }
        self.metrics = open_metrics(&self.path)?;
        Ok(damaged)
    }

    /// The lines of `metrics.jsonl` of a stage.
    pub(crate) fn metrics(&self, stage: StageName) -> Result<Vec<Value>> {
        let lines = json_lines::<Value>(&self.path.join("metrics.jsonl"))?.values();
        Ok(lines.filter(|line| line["stage"] == stage.name()).collect())
    }

    /// Adds lines about a step to a file, if there are any.
    pub(crate) fn append(&self, name: &str, at: Progress, lines: Vec<Value>) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        for line in lines {
            let mut all = serde_json::to_value(at)?;
            if let (Some(all), Value::Object(line)) = (all.as_object_mut(), line) {
                all.extend(line);
            }
            text.push_str(&all.to_string());
            text.push('\n');
        }
        let file = self.path.join(name);
        let write = || OpenOptions::new().create(true).append(true).open(&file)?.write_all(text.as_bytes());
        write().with_context(|| format!("could not write to `{}`", file.display()))
    }

    /// Says on the terminal and in `warnings.jsonl` what is not as it should be with what was saved; once, however often the
    /// run goes on from there.
    pub(crate) fn warn(&self, at: Progress, text: &str) -> Result<()> {
        line(&format!("warning: {text}"));
        tracing::warn!("{text}");
        let mut said = json_lines::<Value>(&self.path.join("warnings.jsonl"))?.values();
        if said.any(|line| line["warning"] == text) {
            return Ok(());
        }
        self.append("warnings.jsonl", at, vec![json!({ "warning": text })])
    }

    /// The warnings of a step.
    pub(crate) fn warnings(&self, at: Progress) -> Result<Vec<String>> {
        let lines = json_lines::<Value>(&self.path.join("warnings.jsonl"))?.values();
        let of = lines.filter(|line| Progress::deserialize(line).is_ok_and(|of| of == at));
        Ok(of.filter_map(|line| Some(line["warning"].as_str()?.to_owned())).collect())
    }

    /// Flushes the files that grow to the disk: what a checkpoint counts as done must be there if it is.
    pub(crate) fn sync(&self) -> Result<()> {
        for name in GROWING {
            sync_file(&self.path.join(name))?;
        }
        sync_folder(&self.path)
            .with_context(|| format!("could not flush `{}` to the disk", self.path.display()))
    }

    /// Writes a step's rollouts, compressed.
    pub(crate) fn write_rollouts(&self, step: u64, scored: &[ScoredRollout]) -> Result<()> {
        write_aside(&self.path.join(format!("rollouts/step-{step:06}.jsonl.zst")), &compressed(scored)?)
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
            write_aside(&folder.join(format!("{place}.jsonl.zst")), &compressed(samples)?)?;
        }
        write_aside(&self.evaluation(place), &serde_json::to_vec(evaluation)?)
    }

    /// The file of the evaluation of this name.
    pub(crate) fn evaluation(&self, place: &str) -> PathBuf {
        self.path.join("evaluations").join(format!("{place}.json"))
    }

    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Puts files of the folder aside, into `set-aside-1/`, `set-aside-2/` …; gives that folder.
    pub(crate) fn set_aside(&self) -> Result<PathBuf> {
        let numbered = |number: u64| self.path.join(format!("set-aside-{number}"));
        let free = (1..).map(numbered).find(|place| !place.exists()).expect("some number is free");
        fs::create_dir(&free).with_context(|| format!("could not make `{}`", free.display()))?;
        Ok(free)
    }

    /// Moves a file or folder of the run into a folder that [`Self::set_aside`] made, under the same name.
    pub(crate) fn move_aside(&self, place: &Path, aside: &Path) -> Result<()> {
        let inside = place.strip_prefix(&self.path).unwrap_or(place);
        let to = aside.join(inside);
        let cannot = || format!("could not move `{}` to `{}`", place.display(), to.display());
        fs::create_dir_all(to.parent().unwrap_or(aside)).with_context(cannot)?;
        rename(place, &to).with_context(cannot)
    }
}

fn open_metrics(folder: &Path) -> Result<File> {
    let file = folder.join("metrics.jsonl");
    let open = OpenOptions::new().create(true).append(true).open(&file);
    open.with_context(|| format!("could not open `{}`", file.display()))
}

fn exists(path: &Path) -> anyhow::Error {
    if path.join("recipe.toml").exists() {
        return Usage::error(format!(
            "`{}` exists; pass `--resume {0}` to go on with that run, or another folder by `--out`",
            path.display()
        ));
    }
    Usage::error(format!(
        "`{}` exists and holds no run (there is no recipe.toml in it, so `--resume` cannot go on with it); pass another folder by `--out`, or remove it if nothing in it is wanted",
        path.display()
    ))
}
