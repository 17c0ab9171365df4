//! What can go wrong while a batch becomes an update.

use crate::model::ModelError;

/// Why an update could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A checkpoint, tokenizer or template is not as it should be.
    #[error(transparent)]
    Model(#[from] ModelError),

    /// A tensor operation failed.
    #[error("tensor operation: {0}")]
    Candle(#[from] candle_core::Error),

    /// The gradient of a parameter is NaN or infinite, so that no update can be made.
    #[error("the gradient of `{name}` is not finite: its norm is {norm}; the weights were left as they are")]
    NonFinite {
        /// The parameter.
        name: String,
        /// Its gradient's norm.
        norm: f64,
    },

    /// A rollout holds a log-prob that cannot be: NaN, infinite or above 0.
    #[error(
        "rollout {place} of prompt `{prompt}` has log-prob {value} at token {token}; wanted a finite number"
    )]
    LogProb {
        /// The prompt's id.
        prompt: String,
        /// Place in the group.
        place: usize,
        /// Position in the completion.
        token: usize,
        /// The value found.
        value: f32,
    },

    /// Weights in Adam's metric were asked for where its moments do not lie in one line.
    #[error("baseline weights `full_adam` need the CPU's own kernels and AdamW; here use `full`")]
    NoMetric,

    /// Saved optimizer state does not fit the policy.
    #[error("saved state `{name}` {problem}")]
    State {
        /// The tensor.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, EngineError>;
