//! What a rollout earned, and why.
//!
//! Before: a reward function judged the rollout. After: the engine reads the sum; people read the rest.

use serde::{Deserialize, Serialize};

/// What a rollout earned, in parts and in sum.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Score {
    /// The weighted sum, or `None` if a part that counts is absent: that is not 0, and such a rollout is left out
    /// of its group and counted.
    pub reward: Option<f32>,
    /// What each reward function says, in the recipe's order.
    pub parts: Vec<Part>,
}

/// One reward function's share of a [`Score`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// What the recipe calls the function.
    pub name: String,
    /// What it says, before its weight.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What a reward function says of a rollout.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Verdict {
    /// What the rollout earned, or `None` if that cannot be told, which is not the same as 0.
    pub value: Option<f32>,
    /// The answer that was found in the completion, if the function looks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Whether the function looked for an answer and found none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unanswered: bool,
    /// Why it was judged so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why there is no value although there should be one: a deadline, a crash, a traceback. A function that has
    /// nothing to say of a rollout gives no value and no failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Verdict {
    /// Nothing to say of this rollout.
    pub fn absent() -> Self {
        Self::default()
    }

    /// The function failed, and why.
    pub fn failed(why: impl Into<String>) -> Self {
        Self { failure: Some(why.into()), ..Self::default() }
    }

    /// 1 or 0.
    pub fn right(right: bool) -> Self {
        Self::from(f32::from(u8::from(right)))
    }

    /// The same with what was found where an answer was looked for.
    #[must_use]
    pub fn with_answer(self, answer: Option<String>) -> Self {
        Self { unanswered: answer.is_none(), answer, ..self }
    }

    /// The same and why.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }
}

impl From<f32> for Verdict {
    fn from(value: f32) -> Self {
        Self { value: Some(value), ..Self::default() }
    }
}

impl From<Option<f32>> for Verdict {
    fn from(value: Option<f32>) -> Self {
        Self { value, ..Self::default() }
    }
}

impl Score {
    /// What the function of that name says.
    pub fn part(&self, name: &str) -> Option<&Verdict> {
        self.parts.iter().find(|part| part.name == name).map(|part| &part.verdict)
    }
}
