//! A model ready to complete prompts, for `evenkeel sample` and `evenkeel eval`: a checkpoint in this process, or a server.
//!
//! Before: a name, a folder or an address. After: [`rollout::Sampler`] or [`rollout::backend::OpenAi`].

use std::sync::Arc;

use anyhow::Result;
use candle_core::Device;
use data::{PolicyVersion, Prompt};
use engine::model::{Checkpoint, Policy, Tokenizer};
use rollout::backend::{OpenAi, ServerConfig};
use rollout::{Sampler, Sampling, Slots, Task};

use crate::compute;
use crate::device::DeviceRecipe;
use crate::progress::Busy;
use crate::reader::Reader;
use crate::recipe::{ComputeRecipe, ThinkingRecipe};
use crate::usage::Usage;

/// A checkpoint with its tokenizer, before its weights are read.
pub(crate) struct OpenedModel {
    checkpoint: Checkpoint,
    pub(crate) tokenizer: Tokenizer,
    stop_tokens: Vec<u32>,
    device: Device,
    choice: compute::ComputeChoice,
}

/// The same with its weights.
pub(crate) struct LoadedModel {
    pub(crate) opened: OpenedModel,
    pub(crate) policy: Policy,
    pub(crate) slots: Slots,
}

impl OpenedModel {
    /// Opens a folder, a name on the hub, or `tiny`.
    pub(crate) fn new(
        name: &str,
        revision: Option<&str>,
        device: DeviceRecipe,
        compute: ComputeRecipe,
    ) -> Result<Self> {
        let checkpoint = crate::builtin::checkpoint(name, revision)?;
        let (config, tokenizer) = (checkpoint.config()?, checkpoint.tokenizer()?);
        tokenizer.check(&config)?;
        let stop_tokens = config.stop_tokens(&tokenizer);
        let (device, place) = crate::device::resolve(device)?;
        let choice = compute::choose(compute, config.parameter_count(), &device, &place)?;
        Ok(Self { checkpoint, tokenizer, stop_tokens, device, choice })
    }

    /// Refuses settings that the policy cannot be sampled with.
    pub(crate) fn check(&self, sampling: &Sampling) -> Result<()> {
        let vocabulary = self.checkpoint.config()?.vocab_size;
        let problem =
            sampling.token_problem(vocabulary).or_else(|| sampling.thinking_problem(&self.tokenizer));
        problem.map_or(Ok(()), |problem| Err(Usage::error(problem)))
    }

    /// The reader that turns prompts into tokens.
    pub(crate) fn reader(
        &self,
        enable_thinking: Option<bool>,
        thinking: ThinkingRecipe,
    ) -> Result<Reader<'_>> {
        Ok(Reader {
            tokenizer: &self.tokenizer,
            template: self.checkpoint.template()?,
            enable_thinking,
            thinking,
            limit: self.checkpoint.config()?.max_position_embeddings,
            place: self.checkpoint.source(),
        })
    }

    /// Prompts as the policy reads them.
    pub(crate) fn tasks(
        &self,
        prompts: &[Arc<Prompt>],
        reader: &Reader<'_>,
        empty: bool,
    ) -> Result<Vec<Task>> {
        let task = |prompt| if empty { reader.empty_task(prompt) } else { reader.task(prompt) };
        prompts.iter().map(task).collect()
    }

    /// What it computes in, `f32` or `bf16`.
    pub(crate) fn precision(&self) -> &'static str {
        self.choice.precision()
    }

    /// Its arithmetic, such as `f32 by avx2`.
    pub(crate) fn computed(&self) -> String {
        self.choice.numerics_by()
    }

    /// The checkpoint it was opened from.
    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Reads the weights.
    pub(crate) fn load(self, slots: Slots) -> Result<LoadedModel> {
        let _busy = Busy::new(&format!("reading the weights of `{}`", self.checkpoint.source()));
        let weights = self.checkpoint.weights(&Device::Cpu)?;
        let config = self.checkpoint.config()?;
        let policy = Policy::with_compute(config, weights, &self.device, self.choice.compute)?;
        Ok(LoadedModel { opened: self, policy, slots })
    }
}

impl LoadedModel {
    /// A sampler of it.
    pub(crate) fn sampler<'a>(&'a self, sampling: &'a Sampling) -> Sampler<'a> {
        Sampler {
            policy: &self.policy,
            version: PolicyVersion(0),
            tokenizer: &self.opened.tokenizer,
            sampling,
            stop_tokens: &self.opened.stop_tokens,
            slots: self.slots,
        }
    }
}

/// A server with OpenAI's interface, as the command line names it.
pub(crate) fn server(
    url: &str,
    model: &str,
    key_variable: Option<&str>,
    request_seconds: f64,
    rows: usize,
) -> Result<OpenAi> {
    let config = ServerConfig {
        model: Some(model.to_owned()),
        key_variable: key_variable.map(str::to_owned),
        request_seconds,
        concurrency: rows,
        ..ServerConfig::at(url)
    };
    match config.problem() {
        Some(problem) => Err(Usage::error(format!("--server: {problem}"))),
        None => Ok(OpenAi::new(&config)),
    }
}

/// Refuses settings that a server has no word for.
pub(crate) fn check_for_server(sampling: &Sampling) -> Result<()> {
    match OpenAi::unsupported(sampling) {
        Some(name) => Err(Usage::error(format!("a server is asked in OpenAI's terms, which have no {name}"))),
        None => Ok(()),
    }
}
