//! Groups of completions from a policy in this process.
//!
//! Before: prompts as tokens. After: [`data::Rollout`]s, group by group, in the order of the prompts. How the work is
//! arranged is [`crate::scheduler`]'s: a rollout is a function of the policy, its prompt and (seed, step, prompt, occurrence, place),
//! and which rows share a pass, in what order they come and what memory there is change nothing, to the bit.

use data::{PolicyVersion, Rollout, StepSeed};
use engine::model::{Policy, Tokenizer};

use crate::error::RolloutError;
use crate::sampled::{SampleProgress, Sampled};
use crate::sampling::Sampling;
use crate::scheduler::Scheduler;
use crate::speculate::Speculate;
use crate::task::{GroupSizes, Task};

/// The rows and the memory that sampling may use at a time. They decide how fast it is and what memory it takes, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slots {
    /// Rollouts that are sampled side by side.
    pub rows: usize,
    /// Bytes for keys and values. With less than the rows need, fewer are sampled at a time, and rows that outgrow it are
    /// put back and read again later; a single row may exceed it.
    pub memory: usize,
    /// Prompt tokens of one pass: longer prompts are read in parts, between tokens of rows that are on their way.
    pub prompt_tokens: usize,
    /// Guess tokens ahead, if at all.
    pub speculate: Option<Speculate>,
}

impl Default for Slots {
    fn default() -> Self {
        Self { rows: 256, memory: 4 << 30, prompt_tokens: 512, speculate: None }
    }
}

/// Samples from one policy.
pub struct Sampler<'a> {
    /// The policy that is sampled.
    pub policy: &'a Policy,
    /// The number of updates it has seen.
    pub version: PolicyVersion,
    /// Turns tokens into text.
    pub tokenizer: &'a Tokenizer,
    /// Settings of how tokens are drawn.
    pub sampling: &'a Sampling,
    /// Tokens that end a completion.
    pub stop_tokens: &'a [u32],
    /// Rows and memory that may be used at a time.
    pub slots: Slots,
}

impl Sampler<'_> {
    /// So many rollouts of each prompt, prompt by prompt.
    ///
    /// # Errors
    /// If a prompt is empty or too long for the model, the settings name tokens that the policy does not have, the
    /// policy's logits are not finite, or `progress` asked to stop.
    pub fn sample<'s>(
        &self,
        tasks: &[Task],
        sizes: impl Into<GroupSizes<'s>>,
        seed: StepSeed,
        progress: &mut dyn FnMut(SampleProgress<'_>),
    ) -> Result<Sampled, RolloutError> {
        self.sample_missing(tasks, sizes, seed, &[], progress)
    }

    /// The same, where some of them are there already: those are taken as they are.
    ///
    /// # Errors
    /// As [`Self::sample`].
    pub fn sample_missing<'s>(
        &self,
        tasks: &[Task],
        sizes: impl Into<GroupSizes<'s>>,
        seed: StepSeed,
        have: &[Rollout],
        progress: &mut dyn FnMut(SampleProgress<'_>),
    ) -> Result<Sampled, RolloutError> {
        let reason = self.sampling.problem();
        if let Some(reason) = reason.or(self.sampling.token_problem(self.policy.config().vocab_size)) {
            return Err(RolloutError::Sampling { reason });
        }
        for task in tasks {
            self.budget(task)?;
        }
        let result = Scheduler::new(self, tasks, sizes.into(), seed, have)?.run(progress);
        // after a failure too: what broken weights left there must not meet the next rows
        self.policy.forget_rows();
        result
    }

    /// Tokens that a completion of this prompt may have.
    pub(crate) fn budget(&self, task: &Task) -> Result<usize, RolloutError> {
        let (length, limit) = (task.tokens.len(), self.policy.config().max_position_embeddings);
        if length == 0 {
            return Err(RolloutError::EmptyPrompt { id: task.prompt.id.clone() });
        }
        if length >= limit {
            return Err(RolloutError::PromptTooLong { id: task.prompt.id.clone(), length, limit });
        }
        let most = task.max_tokens.unwrap_or(usize::MAX).max(1);
        Ok(self.sampling.max_tokens.min(limit - length).min(most))
    }
}
