//! The model that completes the prompts: a checkpoint in this process, or a server.

use std::sync::Arc;

use anyhow::Result;
use data::{Prompt, Rollout, Seed};
use rollout::backend::OpenAi;
use rollout::{RolloutError, SampleProgress, Sampled, Sampling, Slots, Speculate, Task};

use super::args::SampleArgs;
use crate::generator::{LoadedModel, OpenedModel, check_for_server, server};
use crate::recipe::ThinkingRecipe;

/// A model that completes prompts.
pub(super) enum Generator {
    Policy(Box<LoadedModel>, Vec<Task>),
    Server(Box<OpenAi>),
}

impl Generator {
    /// Opens the model, or finds the server.
    pub(super) fn new(args: &SampleArgs, sampling: &Sampling, prompts: &[Arc<Prompt>]) -> Result<Self> {
        let rows = args.serving.rows.map_or(64, usize::from);
        if let Some(url) = &args.server {
            check_for_server(sampling)?;
            let key = args.serving.key_variable.as_deref();
            return Ok(Self::Server(Box::new(server(
                url,
                &args.model,
                key,
                args.serving.request_seconds,
                rows,
            )?)));
        }
        let opened = OpenedModel::new(
            &args.model()?,
            args.load.revision.as_deref(),
            args.load.device,
            args.load.compute,
        )?;
        opened.check(sampling)?;
        let thinking = match args.empty_trace {
            true => ThinkingRecipe::default(),
            false => ThinkingRecipe { open: String::new(), empty_trace: String::new() },
        };
        let reader = opened.reader(args.enable_thinking, thinking)?;
        let tasks = opened.tasks(prompts, &reader, args.empty_trace)?;
        let slots = Slots {
            rows,
            memory: (args.serving.kv_memory * (1u64 << 30) as f64) as usize,
            speculate: args.speculate.then(Speculate::default),
            ..Slots::default()
        };
        Ok(Self::Policy(Box::new(opened.load(slots)?), tasks))
    }

    /// `--number` completions of each prompt that `have` lacks.
    pub(super) fn sample(
        &self,
        args: &SampleArgs,
        sampling: &Sampling,
        prompts: &[Arc<Prompt>],
        have: &[Rollout],
        progress: &mut dyn FnMut(SampleProgress<'_>),
    ) -> Result<Sampled, RolloutError> {
        let seed = Seed(args.seed).at(0);
        match self {
            Self::Server(server) => server.sample(prompts, args.number, sampling, seed, have, progress),
            Self::Policy(local, tasks) => {
                local.sampler(sampling).sample_missing(tasks, args.number, seed, have, progress)
            }
        }
    }
}
