//! Sampling that did not come to its end.

use data::Rollout;

/// A step's sampling that failed, with the rollouts that are there.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Unfinished {
    pub(crate) arrived: Vec<Rollout>,
    pub(crate) error: Box<dyn std::error::Error + Send + Sync>,
    /// True if it has not failed, but ended as it was asked to.
    pub(crate) stopped: bool,
}
