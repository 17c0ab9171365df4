//! How a figure was measured: everything that a change of would make it another figure.
//!
//! Before: a benchmark and what the caller changed of it. After: it is part of the result, with a hash; results are compared
//! only if their protocols are the same, or someone insists.

use data::{Prompt, PromptTemplate};
use rollout::Sampling;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::at_k::AtKRule;

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
    /// What judged, by what it does: see [`crate::grader()`].
    pub grader: String,
    /// What the model's products were computed in, `f32` or `bf16`; absent of a server, which does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numerics: Option<String>,
    /// How completions are drawn.
    pub sampling: Sampling,
    /// How many for each question.
    pub samples: Samples,
    /// How pass@k, pass^k and maj@k are counted.
    #[serde(default, skip_serializing_if = "AtKRule::is_default")]
    pub at_k: AtKRule,
}

/// Which questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Questions {
    /// How many.
    pub count: usize,
    /// SHA-256 of ids, questions and reference answers, in whatever order they stand.
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
    /// The identity of these prompts: what is asked and what the answer is, wherever they were read from. Draws go by a
    /// question's id, so the order of questions changes no figure and is no part of it.
    pub fn of(prompts: &[std::sync::Arc<Prompt>]) -> Self {
        let rows = prompts.iter().map(|p| serde_json::json!([p.id, p.body, p.answer]).to_string());
        let mut rows: Vec<String> = rows.collect();
        rows.sort_unstable();
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

/// SHA-256 of a text, in hexadecimal.
pub(crate) fn sha256_of(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Protocol {
    /// A name for this protocol: twelve hexadecimal digits of the SHA-256 of what it says. What changes no figure is left out:
    /// what sampling only records, bounds of a draw where nothing is drawn, the order of names and of lists that are sets, and
    /// how rewards are computed. The seed is no part of it.
    pub fn hash(&self) -> String {
        let mut hash = sha256([self.decisive().to_string()]);
        hash.truncate(12);
        hash
    }

    /// All that decides a figure, each thing said in one way only.
    fn decisive(&self) -> Value {
        let mut same = self.clone();
        let sampling = &mut same.sampling;
        (sampling.entropy, sampling.top_log_probs) = (false, 0);
        if sampling.temperature == 0.0 {
            *sampling = sampling.greedy();
        }
        if sampling.thinking_budget.is_none() {
            sampling.thinking_close = Sampling::default().thinking_close;
        }
        for tokens in
            [&mut sampling.allowed_tokens, &mut sampling.forbidden_tokens, &mut sampling.stop_tokens]
        {
            tokens.sort_unstable();
            tokens.dedup();
        }
        sampling.logit_bias.sort_by_key(|(token, _)| *token);
        sampling.stop.sort_unstable();
        sampling.stop.dedup();
        for name in COMPUTED {
            without(name, &mut same.rewards);
        }
        // a struct of plain values always becomes JSON; settings that are not finite were refused before
        sorted(&serde_json::to_value(same).unwrap_or_default())
    }

    /// Where the two say different things: "sampling.max_tokens: 512 and 1024". What one of them does not know of its numerics
    /// is no difference: see [`Self::numerics_are_unknown`].
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (mut one, mut two) = (self.decisive(), other.decisive());
        if self.numerics_are_unknown(other) {
            for protocol in [&mut one, &mut two] {
                without("numerics", protocol);
            }
        }
        let mut found = Vec::new();
        differences("", &one, &two, &mut found);
        found
    }

    /// True if exactly one of the two says what it was computed in: a server does not tell.
    pub fn numerics_are_unknown(&self, other: &Self) -> bool {
        self.numerics.is_some() != other.numerics.is_some()
    }
}

/// Settings of rewards that say how they are computed, not what they say.
const COMPUTED: [&str; 7] =
    ["workers", "batch", "start_deadline", "parallel", "retries", "key_variable", "max_failures"];

/// Leaves out a setting, at any depth; a table of that name is somebody's own reward.
fn without(name: &str, value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get(name).is_some_and(|value| !value.is_object()) {
                map.shift_remove(name);
            }
            map.values_mut().for_each(|value| without(name, value));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| without(name, value)),
        _ => {}
    }
}

/// The same with the keys of every object in order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            keys.into_iter()
                .map(|key| (key.clone(), sorted(&map[key])))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        Value::Array(values) => values.iter().map(sorted).collect(),
        other => other.clone(),
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
            grader: "0123456789ab".into(),
            numerics: Some("f32".into()),
            sampling: Sampling::default(),
            samples: Samples::Each(1),
            at_k: AtKRule::Unbiased,
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
    fn what_the_model_is_computed_in_what_judges_and_how_votes_count_change_the_hash() {
        let base = protocol();
        let hash = |change: &dyn Fn(&mut Protocol)| {
            let mut other = protocol();
            change(&mut other);
            assert_eq!(base.hash() == other.hash(), base.differences(&other).is_empty());
            other.hash()
        };
        let hashes = [
            base.hash(),
            hash(&|p| p.numerics = Some("bf16".into())),
            hash(&|p| p.grader = "ba9876543210".into()),
            hash(&|p| p.at_k = AtKRule::Verl),
            hash(&|p| p.sampling.top_k = 5),
            hash(&|p| p.sampling.temperature = 0.0),
        ];
        let different: std::collections::BTreeSet<&String> = hashes.iter().collect();
        assert_eq!(different.len(), hashes.len(), "{hashes:?}");
    }

    #[test]
    fn a_server_that_does_not_tell_its_numerics_may_be_compared() {
        let (base, mut served) = (protocol(), protocol());
        served.numerics = None;
        assert!(base.numerics_are_unknown(&served) && served.numerics_are_unknown(&base));
        assert!(base.differences(&served).is_empty() && base.hash() != served.hash());
        served.sampling.max_tokens += 1;
        assert_eq!(base.differences(&served).len(), 1);
        assert!(!base.numerics_are_unknown(&base));
    }

    #[test]
    fn what_only_records_or_is_without_effect_does_not_change_the_hash() {
        let same = |temperature: f64, change: &dyn Fn(&mut Protocol)| {
            let mut base = protocol();
            base.sampling.temperature = temperature;
            let mut other = base.clone();
            change(&mut other);
            assert_ne!(base, other);
            assert_eq!(base.hash(), other.hash(), "{other:?}");
            assert!(base.differences(&other).is_empty());
        };
        for temperature in [0.0, 0.7] {
            same(temperature, &|p| p.sampling.entropy = true);
            same(temperature, &|p| p.sampling.top_log_probs = 5);
            same(temperature, &|p| p.sampling.thinking_close = "</think>".into());
            same(temperature, &|p| p.rewards["math"]["workers"] = serde_json::json!(3));
        }
        same(0.0, &|p| p.sampling.top_k = 20);
        same(0.0, &|p| p.sampling.top_p = 0.9);
        same(0.0, &|p| p.sampling.min_p = 0.1);
        let two = |names: [&str; 2], tokens: [u32; 2]| {
            let mut found = protocol();
            found.sampling.stop = names.map(str::to_owned).to_vec();
            found.sampling.stop_tokens = tokens.to_vec();
            found.rewards = serde_json::json!({});
            names.iter().for_each(|name| found.rewards[*name] = serde_json::json!(1));
            found.hash()
        };
        assert_eq!(two(["a", "b"], [1, 2]), two(["b", "a"], [2, 1]));
    }

    #[test]
    fn questions_and_their_answers_are_part_of_their_identity_and_their_order_is_not() {
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
        assert_eq!(hash(&both), hash(&[prompt("b", "2"), prompt("a", "1")]));
        assert_ne!(hash(&both), hash(&[prompt("a", "1"), prompt("b", "3")]));
    }

    #[test]
    fn a_protocol_survives_json() {
        let text = serde_json::to_string(&protocol()).unwrap();
        let back: Protocol = serde_json::from_str(&text).unwrap();
        assert_eq!((back.hash(), &back), (protocol().hash(), &protocol()));
    }
}
