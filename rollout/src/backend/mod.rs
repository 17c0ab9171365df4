//! Where rollouts come from: this process, or a server that is handed the weights.
//!
//! Before: a job, which is prompts, a policy and how to draw. After: [`Sampled`]. A backend is one implementation of
//! [`Backend`]. Servers are asked for tokens and log-probs of tokens and never for text that would have to be tokenised
//! again; every wait has a deadline, and what has arrived when one fails is handed over with the error.

mod http;
mod openai;
mod server;
mod sglang;
mod vllm;

use std::path::PathBuf;

use data::{PolicyVersion, Rollout, StepSeed};
use engine::model::{ModelError, Policy, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::draw::Sampling;
use crate::sampler::{RolloutError, SampleProgress, Sampled, Sampler, Slots, Task};

pub use openai::OpenAi;
pub use server::{ServerConfig, WeightServer};

/// What is to be sampled.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Who is sampled.
    pub policy: &'a Policy,
    /// How many updates it has seen.
    pub version: PolicyVersion,
    /// What these weights are called, different for different weights of a run: a server says it of what it sampled.
    pub label: &'a str,
    /// Turns tokens into text.
    pub tokenizer: &'a Tokenizer,
    /// How tokens are drawn.
    pub sampling: &'a Sampling,
    /// Tokens that end a completion.
    pub stop_tokens: &'a [u32],
    /// The prompts.
    pub tasks: &'a [Task],
    /// Rollouts of each.
    pub group_size: usize,
    /// Where the draws come from.
    pub seed: StepSeed,
    /// Rollouts of this very job that are there already, from an attempt that failed.
    pub have: &'a [Rollout],
}

/// Samples jobs.
pub trait Backend: Send + Sync {
    /// Whether the log-probs it records are, to the bit, those that the engine computes.
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

/// Samples in this process.
pub struct Local {
    /// What may be used at a time.
    pub slots: Slots,
}

impl Backend for Local {
    fn is_exact(&self) -> bool {
        true
    }

    fn sample(
        &self,
        job: &Job<'_>,
        progress: &mut dyn FnMut(SampleProgress<'_>),
    ) -> Result<Sampled, RolloutError> {
        let sampler = Sampler {
            policy: job.policy,
            version: job.version,
            tokenizer: job.tokenizer,
            sampling: job.sampling,
            stop_tokens: job.stop_tokens,
            slots: self.slots,
        };
        sampler.sample_missing(job.tasks, job.group_size, job.seed, job.have, progress)
    }
}

/// Which backend.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BackendConfig {
    /// This process.
    #[default]
    Local,
    /// A vLLM server with its token endpoint and its controls for reinforcement learning.
    Vllm(ServerConfig),
    /// An SGLang server.
    Sglang(ServerConfig),
}

impl BackendConfig {
    /// What is wrong with the settings, if anything.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Local => None,
            Self::Vllm(server) | Self::Sglang(server) => server.problem(),
        }
    }

    /// What of these settings the backend cannot do, if anything.
    pub fn unsupported(&self, sampling: &Sampling) -> Option<String> {
        let (dialect, name): (&dyn server::Dialect, _) = match self {
            Self::Local => return None,
            Self::Vllm(_) => (&vllm::Vllm, "vLLM"),
            Self::Sglang(_) => (&sglang::Sglang, "SGLang"),
        };
        server::unsupported(dialect, sampling)
            .map(|what| format!("{name} cannot sample with these settings: {what}"))
    }

    /// The backend. `slots` are those of this process, `weights` is where a server finds weights if the settings name no
    /// place.
    pub fn build(&self, slots: Slots, weights: PathBuf) -> Box<dyn Backend> {
        match self {
            Self::Local => Box::new(Local { slots }),
            Self::Vllm(server) => Box::new(WeightServer::new(server, Box::new(vllm::Vllm), weights)),
            Self::Sglang(server) => Box::new(WeightServer::new(server, Box::new(sglang::Sglang), weights)),
        }
    }
}

/// Why a server could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// It does not answer.
    #[error("no answer from {url} within {seconds:.0} s ({attempts} attempts): {reason}")]
    Unreachable {
        /// The call.
        url: String,
        /// How long it was tried.
        seconds: f64,
        /// How often.
        attempts: usize,
        /// What the last attempt came to.
        reason: String,
    },
    /// It refuses.
    #[error("{url} answered with status {status}: {body}")]
    Status {
        /// The call.
        url: String,
        /// HTTP status.
        status: u16,
        /// What it said, shortened.
        body: String,
    },
    /// It answers something else than was asked for.
    #[error("the answer of {url} cannot be used: {problem}")]
    Answer {
        /// The call.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// It serves another model.
    #[error("{url} does not serve model `{wanted}`; it serves {served}")]
    Model {
        /// The server.
        url: String,
        /// The model that was asked for.
        wanted: String,
        /// What it has.
        served: String,
    },
    /// It samples other weights.
    #[error("{url} sampled with weights `{found}`, not with `{wanted}`: something else updates this server")]
    Version {
        /// The server.
        url: String,
        /// Label of the weights it was given.
        wanted: String,
        /// Label of the weights it used.
        found: String,
    },
    /// It cannot do what the settings ask for.
    #[error("{server} cannot sample with these settings: {what}")]
    Unsupported {
        /// Which kind of server.
        server: &'static str,
        /// The setting, and what it would need.
        what: String,
    },
    /// The weights could not be handed over.
    #[error("the weights could not be written for the server: {0}")]
    Weights(String),
    /// It was not waited for any longer, as sampling was asked to end.
    #[error("{url} was not waited for any longer")]
    Stopped {
        /// The call.
        url: String,
    },
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] ModelError),
    /// Some rollouts arrived before it failed.
    #[error("{} of {wanted} rollouts arrived, then: {cause}", arrived.len())]
    Partial {
        /// Those that arrived.
        arrived: Vec<Rollout>,
        /// All that were asked for.
        wanted: usize,
        /// What happened then.
        cause: Box<ServerError>,
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
