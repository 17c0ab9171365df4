//! One problem posed to the policy.
//!
//! Before: a dataset row or a generator. After: the sampler turns it into tokens.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Answer;

/// One turn of a conversation, as chat templates read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".into(), content: content.into() }
    }

    /// A system message.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: "system".into(), content: content.into() }
    }
}

/// What the policy reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// Plain text, continued as it stands.
    Text(String),
    /// A conversation, rendered by the checkpoint's chat template with the assistant's turn opened.
    Chat(Vec<Message>),
}

/// One problem posed to the policy, with whatever its reward needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// Unique within its dataset and stable between runs. Randomness is keyed by it, see [`crate::Seed`].
    pub id: String,
    /// What the policy reads.
    pub body: Body,
    /// The reference solution, if the dataset has one; never what the policy said.
    pub answer: Option<Answer>,
    /// The columns of the dataset row under their own names, for rewards that want them, and `question`. Only the
    /// answer's column is left out if its name is `answer`, and what stands above is what rewards find under it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

impl Prompt {
    /// The reference solution without blanks around it, if there is one and it is not blank; of several the first.
    pub fn reference(&self) -> Option<&str> {
        self.references().next()
    }

    /// All reference solutions that are not blank, without blanks around them. Any is as right as another.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        self.answer.iter().flat_map(Answer::all).map(str::trim).filter(|answer| !answer.is_empty())
    }
}
