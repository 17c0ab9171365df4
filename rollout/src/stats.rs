//! How well the slots of a sampler were used.

use serde::{Deserialize, Serialize};

/// Use of the slots, and the passes, tokens and memory that sampling took.
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
