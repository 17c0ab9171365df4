//! The folder of an evaluation.
//!
//! `settings.json` has what was asked for; `samples/MODEL/BENCHMARK.jsonl` every sample with its score, written as it comes;
//! `parts/MODEL/BENCHMARK.json` what came of a benchmark that is finished; `evaluation.json`, `report.md`, `report.html` and
//! `lm_eval/` all of it together.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data::ScoredRollout;
use eval::report::harness::sanitized;
use eval::{Benchmark, Evaluation};

use super::settings::Settings;
use crate::cli::Usage;
use crate::folder::write_aside;

/// Such a folder.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes a new one. One that exists is never touched.
    pub(crate) fn create(path: &Path, settings: &Settings) -> Result<Self> {
        if path.exists() {
            return Err(Usage::error(format!(
                "`{}` exists; pass `--resume {0}` to go on with that evaluation, or another folder by `--out`",
                path.display()
            )));
        }
        fs::create_dir_all(path).with_context(|| format!("could not make `{}`", path.display()))?;
        write_aside(&path.join("settings.json"), &serde_json::to_vec_pretty(settings)?)?;
        Ok(Self { path: path.to_owned() })
    }

    /// One that is there.
    pub(crate) fn open(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the samples of a model on a benchmark are.
    pub(crate) fn samples_file(&self, model: &str, benchmark: &str) -> PathBuf {
        self.path.join("samples").join(sanitized(model)).join(format!("{}.jsonl", sanitized(benchmark)))
    }

    fn part_file(&self, model: &str, benchmark: &str) -> PathBuf {
        self.path.join("parts").join(sanitized(model)).join(format!("{}.json", sanitized(benchmark)))
    }

    /// What came of a model on a benchmark, if that is finished.
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
        let cannot = || format!("could not read `{}`", file.display());
        let lines = BufReader::new(File::open(&file).with_context(cannot)?)
            .lines()
            .collect::<std::io::Result<Vec<String>>>()
            .with_context(cannot)?;
        let mut found: BTreeMap<(String, usize), ScoredRollout> = BTreeMap::new();
        for (number, text) in lines.iter().enumerate() {
            match serde_json::from_str::<ScoredRollout>(text) {
                Ok(scored) => {
                    found.insert((scored.rollout.prompt.id.clone(), scored.rollout.place), scored);
                }
                // a kill cut it short
                Err(_) if number + 1 == lines.len() => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("`{}` line {} is no sample", file.display(), number + 1));
                }
            }
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
