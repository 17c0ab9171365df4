//! A job to sample, and the trait of what samples it.

use data::{PolicyVersion, Rollout, StepSeed};
use engine::model::{Policy, Tokenizer};

use crate::error::RolloutError;
use crate::sampled::{SampleProgress, Sampled};
use crate::sampling::Sampling;
use crate::task::{GroupSizes, Task};

/// Rollouts to be sampled.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The policy that is sampled.
    pub policy: &'a Policy,
    /// The number of updates it has seen.
    pub version: PolicyVersion,
    /// The name of these weights, different for different weights of a run: a server says it of what it sampled.
    pub label: &'a str,
    /// Turns tokens into text.
    pub tokenizer: &'a Tokenizer,
    /// Settings of how tokens are drawn.
    pub sampling: &'a Sampling,
    /// Tokens that end a completion.
    pub stop_tokens: &'a [u32],
    /// The prompts.
    pub tasks: &'a [Task],
    /// Rollouts of each.
    pub sizes: GroupSizes<'a>,
    /// The seed of the draws.
    pub seed: StepSeed,
    /// Rollouts of this very job that are there already, from an attempt that failed.
    pub have: &'a [Rollout],
}

/// Samples jobs.
pub trait Backend: Send + Sync {
    /// True if the log-probs it records are, to the bit, those that the engine computes.
    fn is_exact(&self) -> bool;

    /// Rollouts of the job, prompt by prompt.
    ///
    /// # Errors
    /// If a prompt cannot be completed, the settings cannot be met by this backend, a server fails, or `progress` asks
    /// to stop: [`RolloutError::arrived`] has what was there by then.
    fn sample(
        &self,
        job: &Job<'_>,
        progress: &mut dyn FnMut(SampleProgress<'_>),
    ) -> Result<Sampled, RolloutError>;
}
