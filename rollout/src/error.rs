//! Why sampling could not go on.

use data::Rollout;
use engine::model::ModelError;

use crate::backend::error::ServerError;

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
        /// The problem.
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
    Server(#[from] Box<ServerError>),
    /// It was asked to end, see [`crate::SampleProgress::stop`].
    #[error("sampling was stopped when {} rollouts had finished", arrived.len())]
    Stopped {
        /// Those that had finished, the ones that were there before included.
        arrived: Vec<Rollout>,
    },
}

impl RolloutError {
    /// Rollouts that arrived before a server failed, or had finished when sampling was asked to end.
    pub fn arrived(&self) -> &[Rollout] {
        match self {
            Self::Stopped { arrived } => arrived,
            Self::Server(error) => match &**error {
                ServerError::Partial { arrived, .. } => arrived,
                _ => &[],
            },
            _ => &[],
        }
    }
}

impl From<ServerError> for RolloutError {
    fn from(error: ServerError) -> Self {
        Self::Server(Box::new(error))
    }
}
