//! Why a server could not be used.

use data::Rollout;
use engine::model::ModelError;

/// Why a server could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// It does not answer.
    #[error("no answer from {url} within {seconds:.0} s ({attempts} attempts): {reason}")]
    Unreachable {
        /// The call.
        url: String,
        /// The seconds it was tried for.
        seconds: f64,
        /// The number of attempts.
        attempts: usize,
        /// The failure of the last attempt.
        reason: String,
    },
    /// It refuses.
    #[error("{url} answered with status {status}: {body}")]
    Status {
        /// The call.
        url: String,
        /// HTTP status.
        status: u16,
        /// Its answer, shortened.
        body: String,
    },
    /// It answers something else than was asked for.
    #[error("the answer of {url} cannot be used: {problem}")]
    Answer {
        /// The call.
        url: String,
        /// The problem with it.
        problem: String,
    },
    /// It serves another model.
    #[error("{url} does not serve model `{wanted}`; it serves {served}")]
    Model {
        /// The server.
        url: String,
        /// The model that was asked for.
        wanted: String,
        /// The models it has.
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
        /// The error that ended it.
        cause: Box<ServerError>,
    },
}
