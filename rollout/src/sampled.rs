//! What sampling gives: rollouts at the end, and how far it is on the way.

use std::cell::Cell;

use data::Rollout;

use crate::stats::SampleStats;

/// Rollouts group by group, in the order of the prompts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sampled {
    /// The rollouts.
    pub rollouts: Vec<Rollout>,
    /// Use of the slots.
    pub stats: SampleStats,
}

/// The progress of sampling.
pub struct SampleProgress<'a> {
    /// Rollouts that have finished.
    pub finished: usize,
    /// Tokens drawn so far.
    pub drawn: usize,
    /// Those that finished since the last call, in no particular order.
    pub new: Vec<&'a Rollout>,
    /// The first rollout that is under way, as far as it has come.
    pub first: Option<&'a [u32]>,
    /// Set to true it ends sampling: what has finished comes back in [`crate::RolloutError::Stopped`], what is under way is lost
    /// and would be drawn again, token by token. Looked at after every pass, and while a server is waited for.
    pub stop: &'a Cell<bool>,
}
