//! Where a server is, and how patient to be with it.

use std::path::PathBuf;

use engine::model::WeightDtype;
use serde::{Deserialize, Serialize};

use super::http::Client;

/// Where a server is and how patient to be with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Such as `http://127.0.0.1:8000`.
    pub url: String,
    /// The name that the server serves the model under; by default the one that it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Folder for the weights, which the server can read; by default `weights` in the run folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// What that folder is called where the server runs, if not the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_weights: Option<PathBuf>,
    /// Type that the weights are written in.
    #[serde(default = "bf16")]
    pub dtype: WeightDtype,
    /// What vLLM's workers call the method that loads weights from `weights_path`, for servers with an extension of their
    /// own.
    #[serde(default = "load_method")]
    pub load_method: String,
    /// Environment variable that holds the key, if the server wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_variable: Option<String>,
    /// Requests under way at a time.
    #[serde(default = "concurrency")]
    pub concurrency: usize,
    /// Seconds that a rollout may take, further attempts included.
    #[serde(default = "seconds")]
    pub request_seconds: f64,
    /// Seconds that loading weights may take.
    #[serde(default = "seconds")]
    pub update_seconds: f64,
    /// Attempts of a request that gets no answer.
    #[serde(default = "attempts")]
    pub attempts: usize,
}

fn bf16() -> WeightDtype {
    WeightDtype::Bf16
}

fn load_method() -> String {
    "reload_weights".into()
}

fn concurrency() -> usize {
    64
}

fn seconds() -> f64 {
    600.0
}

fn attempts() -> usize {
    5
}

impl ServerConfig {
    /// The server at a URL, with the usual patience.
    pub fn at(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            model: None,
            weights: None,
            server_weights: None,
            dtype: bf16(),
            load_method: load_method(),
            key_variable: None,
            concurrency: concurrency(),
            request_seconds: seconds(),
            update_seconds: seconds(),
            attempts: attempts(),
        }
    }

    /// The first setting that makes no sense, as an error message.
    pub fn problem(&self) -> Option<String> {
        if !(self.url.starts_with("http://") || self.url.starts_with("https://")) {
            return Some(format!("url is {:?}; wanted http://… or https://…", self.url));
        }
        for (name, value) in [("concurrency", self.concurrency), ("attempts", self.attempts)] {
            if value == 0 {
                return Some(format!("{name} is 0; wanted at least 1"));
            }
        }
        for (name, value) in
            [("request_seconds", self.request_seconds), ("update_seconds", self.update_seconds)]
        {
            if !(value.is_finite() && value > 0.0) {
                return Some(format!("{name} is {value}; wanted more than 0"));
            }
        }
        let unset = |name: &&String| std::env::var_os(name).is_none();
        self.key_variable
            .as_ref()
            .filter(unset)
            .map(|name| format!("key_variable names {name}, which is not set"))
    }

    /// A client of the server.
    pub(super) fn client(&self) -> Client {
        let key = self.key_variable.as_ref().and_then(|name| std::env::var(name).ok());
        Client::new(&self.url, key, self.attempts)
    }
}
