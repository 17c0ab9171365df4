//! A reward function behind a URL.
//!
//! Before: a server runs. After: it judges rollouts, several to a request.

use data::{Rollout, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::remote::{Exchange, Remote, Server};
use super::sample::{Told, short, text, verdict};
use super::settings;
use crate::{Reward, RewardError};

/// What a server is asked, and what it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// `{"samples": [{"id", "prompt", "completion", "answer", "fields"}]}` is answered by `{"rewards": […]}`, in which each
    /// is a number, null, or `{"reward", "reason", "answer"}`.
    #[default]
    Plain,
    /// As OpenRLHF asks its `remote_rm_url`: `{"query": […], "prompts": […], "labels": […]}` is answered by
    /// `{"rewards": […]}` or `{"scores": […]}`, in which each is a number or a list of one.
    ///
    /// A query is the prompt and then the completion. A prompt that is a chat is told as text without the policy's chat
    /// template, which a reward does not know. Without a reference answer the label is empty.
    Openrlhf,
}

/// A server that judges. It is asked again if it cannot be reached, is busy (429) or has failed (5xx).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Where requests are posted.
    pub url: String,
    /// What they look like.
    pub shape: Shape,
    /// Most samples of a request.
    pub batch: usize,
    /// Seconds that a request may take with all its attempts, from connecting to the last byte.
    pub deadline: f64,
    /// Requests under way at a time.
    pub parallel: usize,
    /// Further attempts of a request, with pauses that grow from 0.2 s.
    pub retries: usize,
    /// Environment variable that holds the key, if the server wants one; it is sent as a bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_variable: Option<String>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            url: String::new(),
            shape: Shape::Plain,
            batch: 32,
            deadline: 60.0,
            parallel: 8,
            retries: 3,
            key_variable: None,
        }
    }
}

impl Http {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// If a setting makes no sense, or the variable of the key is not set.
    pub fn build(self, name: &str) -> Result<impl Reward + use<>, RewardError> {
        settings::url(name, &self.url)?;
        let server = Server {
            batch: settings::count(name, "batch", self.batch, 1 << 16)?,
            deadline: settings::seconds(name, "deadline", self.deadline)?,
            parallel: settings::count(name, "parallel", self.parallel, 1024)?,
            retries: self.retries,
            key: settings::key(name, self.key_variable.as_deref())?,
            url: self.url,
        };
        Ok(Remote::new(name, server, self.shape))
    }
}

impl Exchange for Shape {
    fn request(&self, rollouts: &[&Rollout]) -> Value {
        match self {
            Self::Plain => {
                let samples: Vec<Told<'_>> = rollouts.iter().map(|rollout| Told::from(*rollout)).collect();
                json!({ "samples": samples })
            }
            Self::Openrlhf => {
                let prompts: Vec<String> =
                    rollouts.iter().map(|rollout| text(&rollout.prompt.body)).collect();
                let whole = |(prompt, rollout): (&String, &&Rollout)| format!("{prompt}{}", rollout.text);
                let query: Vec<String> = prompts.iter().zip(rollouts).map(whole).collect();
                let label = |rollout: &&Rollout| {
                    rollout.prompt.answer.as_ref().map_or_else(String::new, ToString::to_string)
                };
                let labels: Vec<String> = rollouts.iter().map(label).collect();
                json!({ "query": query, "prompts": prompts, "labels": labels })
            }
        }
    }

    fn read(&self, answer: &Value, samples: usize) -> Result<Vec<Verdict>, String> {
        let values = match self {
            Self::Plain => answer.get("rewards"),
            Self::Openrlhf => answer.get("rewards").or_else(|| answer.get("scores")),
        };
        let Some(values) = values.and_then(Value::as_array) else {
            return Err(format!("the server answers {}, wanted a list `rewards` in it", short(answer)));
        };
        if values.len() != samples {
            let why = format!("returned {} values, wanted {samples}", values.len());
            return Ok(vec![Verdict::failed(why); samples]);
        }
        let one = |value: &Value| match value.as_array().map(Vec::as_slice) {
            Some([only]) if *self == Self::Openrlhf => verdict(only),
            _ => verdict(value),
        };
        Ok(values.iter().map(one).collect())
    }
}
