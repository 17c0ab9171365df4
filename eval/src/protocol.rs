//! How a figure was measured: everything that a change of would make it another figure.
//!
//! Before: a benchmark and what the caller changed of it. After: it is part of the result, with a hash; results are compared
//! only if their protocols are the same, or someone insists.

use data::{Prompt, PromptTemplate};
use rollout::Sampling;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// How a benchmark is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Protocol {
    /// Its name.
    pub benchmark: String,
    /// The questions that are asked.
    pub questions: Questions,
    /// How a question becomes a prompt.
    pub prompt: PromptTemplate,
    /// Worked examples in front of each question, as turns of the conversation or as text.
    pub shots: Shots,
    /// What the chat template is told about thinking, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_thinking: Option<bool>,
    /// The rewards that judge, with every setting.
    pub rewards: Value,
    /// Which of them says what is right.
    pub deciding: String,
    /// Version of the program whose grader judged.
    pub grader: String,
    /// How completions are drawn.
    pub sampling: Sampling,
    /// How many for each question.
    pub samples: Samples,
}

/// Which questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Questions {
    /// How many.
    pub count: usize,
    /// SHA-256 of ids, questions and reference answers, in order.
    pub sha256: String,
}

/// Which worked examples.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Shots {
    /// How many.
    pub count: usize,
    /// SHA-256 of what they say; empty without any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
}

/// How many samples a question gets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Samples {
    /// The same number for each.
    Each(usize),
    /// As many as it takes.
    Adaptive(Adaptive),
}

/// Samples until the interval over draws is tight enough, or that of every question.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Adaptive {
    /// Half-width of the 95 % interval that is wanted, as a share.
    pub half_width: f64,
    /// Samples that every question gets first.
    pub pilot: usize,
    /// Most samples of one question.
    pub most: usize,
    /// Whether it is the share of each single question that is to be so sure, rather than the mean of all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub each: bool,
}

impl Samples {
    /// Most samples that a question may get.
    pub fn most(&self) -> usize {
        match self {
            Self::Each(count) => *count,
            Self::Adaptive(adaptive) => adaptive.most,
        }
    }
}

impl Questions {
    /// The identity of these prompts: what is asked and what the answer is, wherever they were read from.
    pub fn of(prompts: &[std::sync::Arc<Prompt>]) -> Self {
        let rows = prompts.iter().map(|p| serde_json::json!([p.id, p.body, p.answer]).to_string());
        Self { count: prompts.len(), sha256: sha256(rows) }
    }
}

/// SHA-256 of lines, in hexadecimal.
pub(crate) fn sha256(lines: impl IntoIterator<Item = String>) -> String {
    let mut digest = Sha256::new();
    for line in lines {
        digest.update(line.as_bytes());
        digest.update(b"\n");
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Protocol {
    /// A name for this protocol: twelve hexadecimal digits of the SHA-256 of all that it says. The seed is no part of it.
    pub fn hash(&self) -> String {
        let mut hash = sha256([self.value().to_string()]);
        hash.truncate(12);
        hash
    }

    fn value(&self) -> Value {
        // a struct of plain values always becomes JSON; settings that are not finite were refused before
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Where the two say different things: "sampling.max_tokens: 512 and 1024".
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        differences("", &self.value(), &other.value(), &mut found);
        found
    }
}

fn differences(place: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
    let (Value::Object(a), Value::Object(b)) = (one, other) else {
        if one != other {
            found.push(format!("{place}: {} and {}", said(one), said(other)));
        }
        return;
    };
    for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
        let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
        differences(&place, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), found);
    }
}

fn said(value: &Value) -> String {
    if value.is_null() { "nothing".into() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol() -> Protocol {
        Protocol {
            benchmark: "mine".into(),
            questions: Questions { count: 2, sha256: "aa".into() },
            prompt: PromptTemplate::default(),
            shots: Shots::default(),
            enable_thinking: None,
            rewards: serde_json::json!({ "math": { "tolerance": 0.0 } }),
            deciding: "math".into(),
            grader: "0.1.0".into(),
            sampling: Sampling::default(),
            samples: Samples::Each(1),
        }
    }

    #[test]
    fn whatever_changes_a_figure_changes_the_hash_and_is_named() {
        let base = protocol();
        assert_eq!(base.hash(), protocol().hash());
        assert_eq!(base.hash().len(), 12);
        assert!(base.differences(&protocol()).is_empty());
        let mut other = protocol();
        other.sampling.max_tokens = 99;
        other.rewards["math"]["tolerance"] = serde_json::json!(0.01);
        other.samples = Samples::Adaptive(Adaptive { half_width: 0.02, pilot: 8, most: 64, each: false });
        assert_ne!(base.hash(), other.hash());
        let named = base.differences(&other);
        assert!(named.contains(&"rewards.math.tolerance: 0.0 and 0.01".to_owned()), "{named:?}");
        assert!(named.iter().any(|d| d.starts_with("sampling.max_tokens: ")), "{named:?}");
        assert!(named.iter().any(|d| d.starts_with("samples.each: 1 and nothing")), "{named:?}");
    }

    #[test]
    fn the_order_of_questions_and_their_answers_are_part_of_their_identity() {
        let prompt = |id: &str, answer: &str| {
            let body = data::Body::Text(id.into());
            std::sync::Arc::new(Prompt {
                id: id.into(),
                body,
                answer: Some(answer.into()),
                fields: Default::default(),
            })
        };
        let hash = |prompts: &[_]| Questions::of(prompts).sha256;
        let both = [prompt("a", "1"), prompt("b", "2")];
        assert_eq!(hash(&both), hash(&[prompt("a", "1"), prompt("b", "2")]));
        assert_ne!(hash(&both), hash(&[prompt("b", "2"), prompt("a", "1")]));
        assert_ne!(hash(&both), hash(&[prompt("a", "1"), prompt("b", "3")]));
    }

    #[test]
    fn a_protocol_survives_json() {
        let text = serde_json::to_string(&protocol()).unwrap();
        let back: Protocol = serde_json::from_str(&text).unwrap();
        assert_eq!((back.hash(), &back), (protocol().hash(), &protocol()));
    }
}
