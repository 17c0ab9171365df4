//! Groups of completions from a policy in this process.
//!
//! Before: prompts as tokens. After: [`data::Rollout`]s, group by group, in the order of the prompts. How the work is
//! arranged is [`super::scheduler`]'s: a rollout is a function of the policy, its prompt and (seed, step, prompt, occurrence, place),
//! and which rows share a pass, in what order they come and what memory there is change nothing, to the bit.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use data::{PolicyVersion, Prompt, Rollout, StepSeed};
use engine::model::{ModelError, Policy, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::draw::Sampling;
use crate::scheduler::Scheduler;
use crate::speculate::Speculate;

/// A prompt to complete.
#[derive(Debug, Clone)]
pub struct Task {
    /// The problem.
    pub prompt: Arc<Prompt>,
    /// As the policy reads it, at least one token.
    pub tokens: Arc<[u32]>,
    /// Most tokens of its completions, if less than the settings allow.
    pub max_tokens: Option<usize>,
    /// How often the step has drawn this prompt before, from 0: its rollouts are drawn anew each time, and are a group of
    /// their own. Two tasks of one prompt and one occurrence have the same rollouts.
    pub occurrence: usize,
}

impl Task {
    /// What tells a task from the others of its step.
    pub(crate) fn key(&self) -> (&str, usize) {
        (&self.prompt.id, self.occurrence)
    }
}

/// Numbers tasks of the same prompt, in their order, going on behind those counted in `drawn`.
pub fn count_occurrences(tasks: &mut [Task], drawn: &mut BTreeMap<String, usize>) {
    for task in tasks {
        let count = drawn.entry(task.prompt.id.clone()).or_default();
        task.occurrence = *count;
        *count += 1;
    }
}

/// What sampling may use at a time. It decides how fast it is and what memory it takes, and nothing else.
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

/// Why sampling could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RolloutError {
    /// A prompt leaves no room for a completion.
    #[error(
        "prompt `{id}` has {length} tokens; the model's context of {limit} leaves no room for a completion"
    )]
    PromptTooLong {
        /// The prompt.
        id: String,
        /// Its tokens.
        length: usize,
        /// The model's context.
        limit: usize,
    },
    /// A prompt has no token to continue.
    #[error("prompt `{id}` has no tokens; wanted at least one")]
    EmptyPrompt {
        /// The prompt.
        id: String,
    },
    /// The policy gave no usable distribution.
    #[error(
        "the policy's logits for token {token} of prompt `{id}` give no distribution: its weights are broken, or every token is forbidden"
    )]
    Logits {
        /// The prompt.
        id: String,
        /// Position in the completion.
        token: usize,
    },
    /// Settings that cannot be sampled with.
    #[error("sampling: {reason}")]
    Sampling {
        /// What is wrong.
        reason: String,
    },
    /// The policy or tokenizer failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A tensor operation failed.
    #[error("tensor operation: {0}")]
    Candle(#[from] candle_core::Error),
    /// A server failed.
    #[error(transparent)]
    Server(#[from] Box<crate::backend::ServerError>),
    /// It was asked to end, see [`SampleProgress::stop`].
    #[error("sampling was stopped when {} rollouts had finished", arrived.len())]
    Stopped {
        /// Those that had finished, the ones that were there before included.
        arrived: Vec<Rollout>,
    },
}

/// How well the slots were used, and what it took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SampleStats {
    /// Tokens drawn.
    pub tokens: usize,
    /// Prompt tokens read; those of a group, or of a beginning common to all prompts, once.
    pub prompt_tokens: usize,
    /// Passes through the policy.
    pub passes: usize,
    /// Passes while rollouts waited for a slot.
    pub full_passes: usize,
    /// Rows of those passes: over `full_passes` · slots it is the share of slots that were busy.
    pub full_rows: usize,
    /// Slots there were: at most as many as rollouts.
    pub slots: usize,
    /// Tokens guessed.
    pub guessed: usize,
    /// Guesses that were what would have been drawn.
    pub accepted: usize,
    /// Rows that were put back because the memory ran out.
    pub preempted: usize,
    /// Largest memory for keys and values, in bytes.
    pub memory: usize,
}

impl SampleStats {
    /// Share of slots that were busy until the queue was empty; `None` if all rollouts had a slot from the start.
    pub fn slot_use(&self) -> Option<f64> {
        (self.full_passes > 0).then(|| self.full_rows as f64 / (self.full_passes * self.slots) as f64)
    }

    /// Share of guesses that were right, if any were made.
    pub fn acceptance(&self) -> Option<f64> {
        (self.guessed > 0).then(|| self.accepted as f64 / self.guessed as f64)
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            tokens: self.tokens + other.tokens,
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
            passes: self.passes + other.passes,
            full_passes: self.full_passes + other.full_passes,
            full_rows: self.full_rows + other.full_rows,
            slots: self.slots.max(other.slots),
            guessed: self.guessed + other.guessed,
            accepted: self.accepted + other.accepted,
            preempted: self.preempted + other.preempted,
            memory: self.memory.max(other.memory),
        }
    }
}

/// A place for every rollout of some prompts, each with its occurrence, filled with those that are there already.
pub(crate) fn in_place(
    prompts: &[(&str, usize)],
    group_size: usize,
    have: &[Rollout],
) -> Vec<Option<Rollout>> {
    let places: BTreeMap<(&str, usize), usize> =
        prompts.iter().enumerate().map(|(group, key)| (*key, group)).collect();
    let mut done = vec![None; prompts.len() * group_size];
    for rollout in have.iter().filter(|rollout| rollout.place < group_size) {
        if let Some(group) = places.get(&(rollout.prompt.id.as_str(), rollout.occurrence)) {
            done[group * group_size + rollout.place] = Some(rollout.clone());
        }
    }
    done
}

/// Rollouts group by group, in the order of the prompts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sampled {
    /// The rollouts.
    pub rollouts: Vec<Rollout>,
    /// What it took.
    pub stats: SampleStats,
}

/// How far sampling has come.
pub struct SampleProgress<'a> {
    /// Rollouts that have finished.
    pub finished: usize,
    /// Tokens drawn so far.
    pub drawn: usize,
    /// Those that finished since the last call, in no particular order.
    pub new: Vec<&'a Rollout>,
    /// The first rollout that is under way, as far as it has come.
    pub first: Option<&'a [u32]>,
    /// Set to true it ends sampling: what has finished comes back in [`RolloutError::Stopped`], what is under way is lost
    /// and would be drawn again, token by token. Looked at after every pass, and while a server is waited for.
    pub stop: &'a Cell<bool>,
}

/// Samples from one policy.
pub struct Sampler<'a> {
    /// Who is sampled.
    pub policy: &'a Policy,
    /// How many updates it has seen.
    pub version: PolicyVersion,
    /// Turns tokens into text.
    pub tokenizer: &'a Tokenizer,
    /// How tokens are drawn.
    pub sampling: &'a Sampling,
    /// Tokens that end a completion.
    pub stop_tokens: &'a [u32],
    /// What may be used at a time.
    pub slots: Slots,
}

impl Sampler<'_> {
    /// `group_size` rollouts of each prompt, prompt by prompt.
    ///
    /// # Errors
    /// If a prompt is empty or too long for the model, the settings name tokens that the policy does not have, the
    /// policy's logits are not finite, or `progress` asked to stop.
    pub fn sample(
        &self,
        tasks: &[Task],
        group_size: usize,
        seed: StepSeed,
        progress: &mut dyn FnMut(SampleProgress<'_>),
    ) -> Result<Sampled, RolloutError> {
        self.sample_missing(tasks, group_size, seed, &[], progress)
    }

    /// The same, where some of them are there already: those are taken as they are.
    ///
    /// # Errors
    /// As [`Self::sample`].
    pub fn sample_missing(
        &self,
        tasks: &[Task],
        group_size: usize,
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
        let result = Scheduler::new(self, tasks, group_size, seed, have)?.run(progress);
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
