//! A checkpoint in this process, ready to complete prompts: for `evenkeel sample` and `evenkeel eval`.
//!
//! Before: a name or a folder. After: [`rollout::Sampler`].

use std::sync::Arc;

use anyhow::Result;
use candle_core::Device;
use data::{PolicyVersion, Prompt};
use engine::model::{Checkpoint, Policy, Tokenizer};
use rollout::{Sampler, Sampling, Slots, Task};

use crate::cli::Usage;
use crate::compute;
use crate::device::DeviceRecipe;
use crate::plan::Reader;
use crate::progress::Busy;
use crate::recipe::{ComputeRecipe, ThinkingRecipe};

/// A checkpoint with its tokenizer, before its weights are read.
pub(crate) struct Opened {
    checkpoint: Checkpoint,
    pub(crate) tokenizer: Tokenizer,
    stop_tokens: Vec<u32>,
    device: Device,
    choice: compute::Choice,
}

/// The same with its weights.
pub(crate) struct Local {
    pub(crate) opened: Opened,
    pub(crate) policy: Policy,
    pub(crate) slots: Slots,
}

impl Opened {
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

    /// Whether the policy can be sampled so.
    pub(crate) fn check(&self, sampling: &Sampling) -> Result<()> {
        let vocabulary = self.checkpoint.config()?.vocab_size;
        let problem =
            sampling.token_problem(vocabulary).or_else(|| sampling.thinking_problem(&self.tokenizer));
        problem.map_or(Ok(()), |problem| Err(Usage::error(problem)))
    }

    /// What turns prompts into tokens.
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

    /// How it computes, such as `f32 by avx2`.
    pub(crate) fn computed(&self) -> String {
        self.choice.numerics_by()
    }

    /// Where it came from.
    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Reads the weights.
    pub(crate) fn load(self, slots: Slots) -> Result<Local> {
        let _busy = Busy::new(&format!("reading the weights of `{}`", self.checkpoint.source()));
        let weights = self.checkpoint.weights(&Device::Cpu)?;
        let config = self.checkpoint.config()?;
        let policy = Policy::with_compute(config, weights, &self.device, self.choice.compute)?;
        Ok(Local { opened: self, policy, slots })
    }
}

impl Local {
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
