//! Whoever answers a benchmark: a checkpoint in this process, or a server.
//!
//! Before: [`super::settings::ModelSettings`]. After: [`eval::Benchmark::evaluate`] asks.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use data::{Prompt, Rollout, StepSeed};
use engine::model::Checkpoint;
use eval::{Benchmark, Speaker};
use rollout::backend::OpenAi;
use rollout::{RolloutError, SampleProgress, Sampled, Sampling, Slots, Task};
use sha2::{Digest, Sha256};

use super::settings::{ModelSettings, Settings};
use crate::generator::{LoadedModel, OpenedModel, check_for_server, server};
use crate::progress::Busy;
use crate::recipe::ThinkingRecipe;

/// A model that can be asked.
pub(crate) enum Subject {
    Policy(Box<LoadedModel>),
    Server(Box<OpenAi>),
}

impl Subject {
    /// Reads the weights, or finds the server.
    pub(crate) fn new(settings: &Settings, model: &ModelSettings) -> Result<Self> {
        if let Some(there) = &model.server {
            let key = there.key_variable.as_deref();
            let server = server(&there.url, &model.source, key, there.request_seconds, settings.rows)?;
            return Ok(Self::Server(Box::new(server)));
        }
        let memory = (settings.kv_memory * (1u64 << 30) as f64) as usize;
        let slots = Slots { rows: settings.rows, memory, ..Slots::default() };
        Ok(Self::Policy(Box::new(open(settings, model)?.load(slots)?)))
    }

    /// Whether the model is there and can be sampled so; nothing large is read. What it computes in, if it is here.
    pub(crate) fn check(
        settings: &Settings,
        model: &ModelSettings,
        benchmarks: &[Benchmark],
    ) -> Result<Option<String>> {
        let opened = match &model.server {
            Some(_) => None,
            None => Some(open(settings, model)?),
        };
        for Benchmark { protocol, .. } in benchmarks {
            let checked = match &opened {
                Some(opened) => opened.check(&protocol.sampling),
                None => check_for_server(&protocol.sampling),
            };
            checked.with_context(|| format!("benchmark `{}`, [sampling]", protocol.benchmark))?;
        }
        Ok(opened.map(|opened| opened.precision().to_owned()))
    }

    /// Its arithmetic, or the server's address.
    pub(crate) fn computed(&self, model: &ModelSettings) -> String {
        match self {
            Self::Policy(local) => local.opened.computed(),
            Self::Server(_) => model.server.as_ref().map_or_else(String::new, |server| server.url.clone()),
        }
    }

    /// SHA-256 of its weights, if they are here.
    pub(crate) fn sha256(&self) -> Result<Option<String>> {
        match self {
            Self::Policy(local) => fingerprint(local.opened.checkpoint()).map(Some),
            Self::Server(_) => Ok(None),
        }
    }

    /// The same with a benchmark's questions as it reads them.
    pub(crate) fn on<'a>(&'a self, benchmark: &'a Benchmark) -> Result<AskedModel<'a>> {
        let (mut tasks, mut obstacles) = (Vec::new(), Vec::new());
        if let Self::Policy(local) = self {
            let thinking = ThinkingRecipe { open: String::new(), empty_trace: String::new() };
            let reader = local.opened.reader(benchmark.protocol.enable_thinking, thinking)?;
            for prompt in &benchmark.prompts {
                let (task, obstacle) = reader.question(prompt)?;
                tasks.push(task);
                obstacles.push(obstacle.map(|obstacle| format!("its prompt has {obstacle}")));
            }
        }
        Ok(AskedModel { subject: self, prompts: &benchmark.prompts, tasks, obstacles })
    }
}

fn open(settings: &Settings, model: &ModelSettings) -> Result<OpenedModel> {
    OpenedModel::new(&model.source, model.revision.as_deref(), settings.device, settings.compute)
}

/// A model with a benchmark's questions.
pub(crate) struct AskedModel<'a> {
    subject: &'a Subject,
    prompts: &'a [Arc<Prompt>],
    /// Empty for a server.
    tasks: Vec<Task>,
    obstacles: Vec<Option<String>>,
}

impl Speaker for AskedModel<'_> {
    fn sample(
        &self,
        questions: &[usize],
        group_size: usize,
        sampling: &Sampling,
        seed: StepSeed,
        have: &[Rollout],
        progress: &mut dyn FnMut(SampleProgress<'_>),
    ) -> Result<Sampled, RolloutError> {
        match self.subject {
            Subject::Policy(local) => {
                let tasks: Vec<Task> =
                    questions.iter().map(|question| self.tasks[*question].clone()).collect();
                local.sampler(sampling).sample_missing(&tasks, group_size, seed, have, progress)
            }
            Subject::Server(server) => {
                let prompts: Vec<Arc<Prompt>> = questions.iter().map(|q| self.prompts[*q].clone()).collect();
                server.sample(&prompts, group_size, sampling, seed, have, progress)
            }
        }
    }

    fn obstacle(&self, question: usize) -> Option<String> {
        self.obstacles.get(question).cloned().flatten()
    }
}

/// SHA-256 over the weights' files: name, a line break, and contents, in the order of names.
fn fingerprint(checkpoint: &Checkpoint) -> Result<String> {
    let _busy = Busy::new(&format!("SHA-256 of the weights of `{}`", checkpoint.source()));
    let mut digest = Sha256::new();
    match checkpoint.dir() {
        Some(dir) => {
            let cannot = || format!("could not read `{}`", dir.display());
            let mut files = Vec::new();
            for entry in std::fs::read_dir(dir).with_context(cannot)? {
                files.push(entry.with_context(cannot)?.path());
            }
            files.retain(|file| file.extension().is_some_and(|ending| ending == "safetensors"));
            // what resuming needs is beside a run's checkpoints and is not the model
            files.retain(|file| file.file_name().is_some_and(|name| name != "trainer.safetensors"));
            files.sort();
            for file in files {
                add(&mut digest, &file).with_context(|| format!("could not read `{}`", file.display()))?;
            }
        }
        None => digest.update(crate::builtin::tiny_weights()),
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn add(digest: &mut Sha256, file: &Path) -> std::io::Result<()> {
    digest.update(file.file_name().unwrap_or_default().as_encoded_bytes());
    digest.update(b"\n");
    let mut reader = File::open(file)?;
    let mut bytes = vec![0; 1 << 20];
    loop {
        match reader.read(&mut bytes)? {
            0 => return Ok(()),
            count => digest.update(&bytes[..count]),
        }
    }
}
