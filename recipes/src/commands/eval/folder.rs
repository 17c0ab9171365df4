//! The folder of an evaluation.
//!
//! `settings.json` has what was asked for; `samples/MODEL/BENCHMARK.jsonl` every sample with its score, written as it comes;
//! `parts/MODEL/BENCHMARK.json` what came of a benchmark that is finished; `evaluation.json`, `report.md`, `report.html` and
//! `lm_eval/` all of it together.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data::ScoredRollout;
use eval::report::harness::sanitized;
use eval::{Benchmark, Evaluation};

use super::settings::Settings;
use crate::files::{json_lines, sweep, write_aside};
use crate::lock::{Lock, make_folder};
use crate::usage::Usage;

/// Such a folder, which one process writes to.
pub(crate) struct Folder {
    path: PathBuf,
    _lock: Lock,
}

impl Folder {
    /// Makes a new one: `place`, which must not exist, or by default the first of the settings' names that does not.
    pub(crate) fn create(place: Option<&Path>, settings: &Settings) -> Result<Self> {
        let fill = |aside: &Path| -> Result<()> {
            write_aside(&aside.join("settings.json"), &serde_json::to_vec_pretty(settings)?)
        };
        if let Some(path) = place {
            let lock = make_folder(path, &fill)?.ok_or_else(|| {
                Usage::error(format!(
                    "`{}` exists; pass `--resume {0}` to go on with that evaluation, or another folder by `--out`",
                    path.display()
                ))
            })?;
            return Ok(Self { path: path.to_owned(), _lock: lock });
        }
        for path in settings.folders() {
            if let Some(lock) = make_folder(&path, &fill)? {
                return Ok(Self { path, _lock: lock });
            }
        }
        unreachable!("some number is free")
    }

    /// One that is there; what a kill left half written in it is cleared away.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let folder = Self { path: path.to_owned(), _lock: Lock::on(path)? };
        sweep(path)?;
        for part in ["samples", "parts", "lm_eval"] {
            let part = path.join(part);
            sweep(&part)?;
            if part.is_dir() {
                let cannot = || format!("could not read `{}`", part.display());
                for entry in fs::read_dir(&part).with_context(cannot)? {
                    sweep(&entry.with_context(cannot)?.path())?;
                }
            }
        }
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file of a model's samples on a benchmark.
    pub(crate) fn samples_file(&self, model: &str, benchmark: &str) -> PathBuf {
        self.path.join("samples").join(sanitized(model)).join(format!("{}.jsonl", sanitized(benchmark)))
    }

    fn part_file(&self, model: &str, benchmark: &str) -> PathBuf {
        self.path.join("parts").join(sanitized(model)).join(format!("{}.json", sanitized(benchmark)))
    }

    /// The evaluation of a model on a benchmark, if that is finished.
    pub(crate) fn part(&self, model: &str, benchmark: &str) -> Result<Option<Evaluation>> {
        let file = self.part_file(model, benchmark);
        if !file.exists() {
            return Ok(None);
        }
        let cannot = || format!("could not read `{}`", file.display());
        Ok(Some(serde_json::from_slice(&fs::read(&file).with_context(cannot)?).with_context(cannot)?))
    }

    /// Keeps what came of a model on a benchmark.
    pub(crate) fn write_part(&self, evaluation: &Evaluation) -> Result<()> {
        let file = self.part_file(&evaluation.model.name, &evaluation.protocol.benchmark);
        self.write_file(&file, &serde_json::to_vec(evaluation)?)
    }

    /// Writes one of the folder's files, whole or not at all.
    pub(crate) fn write_file(&self, file: &Path, bytes: &[u8]) -> Result<()> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(|| format!("could not make `{}`", folder.display()))?;
        }
        write_aside(file, bytes)
    }

    /// The samples of a model on a benchmark, as far as they were kept, each as it was last written.
    pub(crate) fn samples(&self, model: &str, benchmark: &str) -> Result<Vec<ScoredRollout>> {
        let file = self.samples_file(model, benchmark);
        if !file.exists() {
            return Ok(Vec::new());
        }
        let kept = json_lines::<ScoredRollout>(&file)?;
        if let Some(number) = kept.broken.first() {
            anyhow::bail!("`{}` line {number} is no sample", file.display());
        }
        let mut found: BTreeMap<(String, usize), ScoredRollout> = BTreeMap::new();
        for scored in kept.values() {
            found.insert((scored.rollout.prompt.id.clone(), scored.rollout.place), scored);
        }
        Ok(found.into_values().collect())
    }

    /// Refuses samples of other questions than the benchmark's: the data changed since.
    pub(crate) fn check_samples(
        &self,
        samples: &[ScoredRollout],
        model: &str,
        benchmark: &Benchmark,
    ) -> Result<()> {
        let known: BTreeMap<&str, _> = benchmark.prompts.iter().map(|p| (p.id.as_str(), p)).collect();
        for scored in samples {
            let kept = &scored.rollout.prompt;
            if known.get(kept.id.as_str()).is_none_or(|prompt| ***prompt != **kept) {
                let name = &benchmark.protocol.benchmark;
                return Err(Usage::error(format!(
                    "`{}` has samples of question `{}`, which is not so in the data of benchmark `{name}` any more; evaluate into another folder by --out",
                    self.samples_file(model, name).display(),
                    kept.id
                )));
            }
        }
        Ok(())
    }

    /// Writes samples in their order.
    pub(crate) fn write_samples(
        &self,
        model: &str,
        benchmark: &str,
        samples: &[ScoredRollout],
    ) -> Result<()> {
        self.write_file(&self.samples_file(model, benchmark), &lines(samples)?)
    }

    /// A file of samples to add to.
    pub(crate) fn grow(&self, model: &str, benchmark: &str) -> Result<File> {
        let file = self.samples_file(model, benchmark);
        OpenOptions::new()
            .append(true)
            .open(&file)
            .with_context(|| format!("could not open `{}`", file.display()))
    }
}

/// Adds samples to a file of them.
pub(crate) fn append(file: &mut File, samples: &[ScoredRollout]) -> std::io::Result<()> {
    file.write_all(&lines(samples)?)
}

fn lines(samples: &[ScoredRollout]) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for scored in samples {
        serde_json::to_writer(&mut text, scored)?;
        text.push(b'\n');
    }
    Ok(text)
}
