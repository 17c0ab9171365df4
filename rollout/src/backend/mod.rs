//! Where rollouts come from: this process, or a server that is handed the weights.
//!
//! Before: a job, which is prompts, a policy and how to draw. After: [`Sampled`]. A backend is one implementation of
//! [`Backend`]. Servers are asked for tokens and log-probs of tokens and never for text that would have to be tokenised
//! again; every wait has a deadline, and what has arrived when one fails is handed over with the error.

mod config;
pub(crate) mod error;
mod http;
mod job;
mod openai;
mod server;
mod sglang;
mod vllm;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::RolloutError;
use crate::sampled::{SampleProgress, Sampled};
use crate::sampler::{Sampler, Slots};
use crate::sampling::Sampling;

pub use config::ServerConfig;
pub use error::ServerError;
pub use job::{Backend, Job};
pub use openai::OpenAi;
pub use server::WeightServer;

/// Samples in this process.
pub struct Local {
    /// Rows and memory that may be used at a time.
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
        sampler.sample_missing(job.tasks, job.sizes, job.seed, job.have, progress)
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
    /// The first setting that makes no sense, as an error message.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Local => None,
            Self::Vllm(server) | Self::Sglang(server) => server.problem(),
        }
    }

    /// The first of these settings that the backend cannot do, as an error message.
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
