//! Settings of how tokens are drawn.

use std::collections::BTreeSet;

use engine::model::Tokenizer;
use serde::{Deserialize, Serialize};

/// How tokens are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the likeliest token.
    pub temperature: f64,
    /// Only this many of the likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together have this share; 1 for all.
    pub top_p: f64,
    /// Only tokens at least this likely relative to the likeliest; 0 for all.
    pub min_p: f64,
    /// Logits of tokens that the prompt or the completion holds are divided by it if positive, and multiplied if not; 1
    /// changes nothing (Keskar et al., arXiv:1909.05858).
    pub repetition_penalty: f64,
    /// What is added to the logits of some tokens: `[[token, bias], …]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logit_bias: Vec<(u32, f32)>,
    /// If any, only these tokens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_tokens: Vec<u32>,
    /// Never these tokens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forbidden_tokens: Vec<u32>,
    /// Stop tokens are forbidden, and stop texts without effect, before the completion has so many tokens.
    pub min_tokens: usize,
    /// Longest completion, in tokens, the stop token included.
    pub max_tokens: usize,
    /// Texts that end a completion; they are left out of its text.
    pub stop: Vec<String>,
    /// Tokens that end a completion, beside those that the checkpoint names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop_tokens: Vec<u32>,
    /// Tokens that the policy may think: after so many within a `<think>` block the block is closed for it, with
    /// `thinking_close`. Those tokens are not the policy's choice, are marked as forced and never trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking_budget: Option<usize>,
    /// What closes a block whose budget is spent; holds `</think>`.
    pub thinking_close: String,
    /// Record the entropy of every token's distribution.
    pub entropy: bool,
    /// Record so many of the likeliest tokens at every place, with their log-probs.
    pub top_log_probs: usize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
            allowed_tokens: Vec::new(),
            forbidden_tokens: Vec::new(),
            min_tokens: 0,
            max_tokens: 256,
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            thinking_budget: None,
            thinking_close: "\n</think>\n\n".into(),
            entropy: false,
            top_log_probs: 0,
        }
    }
}

impl Sampling {
    /// The same settings without any luck: the likeliest token of the same logits each time.
    #[must_use]
    pub fn greedy(&self) -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..self.clone() }
    }

    /// True if tokens are drawn from another distribution than the policy's at this temperature, so that recorded
    /// log-probs are not those that a trainer computes.
    pub fn reshapes(&self) -> bool {
        !self.reshaping().is_empty()
    }

    /// The settings for which [`Self::reshapes`] is true, as recipes spell them.
    pub fn reshaping(&self) -> Vec<&'static str> {
        let all = [
            ("temperature", self.temperature == 0.0),
            ("top_k", self.top_k > 0),
            ("top_p", self.top_p < 1.0),
            ("min_p", self.min_p > 0.0),
            ("repetition_penalty", self.repetition_penalty != 1.0),
            ("logit_bias", !self.logit_bias.is_empty()),
            ("allowed_tokens", !self.allowed_tokens.is_empty()),
            ("forbidden_tokens", !self.forbidden_tokens.is_empty()),
            ("min_tokens", self.min_tokens > 0),
        ];
        all.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
    }

    /// True if tokens are drawn from a part of the vocabulary.
    pub(crate) fn truncates(&self) -> bool {
        self.temperature == 0.0 || self.top_k > 0 || self.top_p < 1.0 || self.min_p > 0.0
    }

    /// True if logits are changed before anything is drawn.
    pub(crate) fn changes_logits(&self) -> bool {
        self.repetition_penalty != 1.0
            || !self.logit_bias.is_empty()
            || !self.allowed_tokens.is_empty()
            || !self.forbidden_tokens.is_empty()
            || self.min_tokens > 0
    }

    /// The first setting that makes no sense, as an error message.
    pub fn problem(&self) -> Option<String> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Some(format!("temperature is {}; wanted a number of at least 0", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Some(format!("top_p is {}; wanted more than 0 and at most 1", self.top_p));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return Some(format!("min_p is {}; wanted 0 to 1", self.min_p));
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0) {
            return Some(format!("repetition_penalty is {}; wanted more than 0", self.repetition_penalty));
        }
        if let Some((token, bias)) = self.logit_bias.iter().find(|(_, bias)| !bias.is_finite()) {
            return Some(format!("logit_bias of token {token} is {bias}; wanted a finite number"));
        }
        let forbidden: BTreeSet<u32> = self.forbidden_tokens.iter().copied().collect();
        if !self.allowed_tokens.is_empty() && self.allowed_tokens.iter().all(|t| forbidden.contains(t)) {
            return Some("every token of allowed_tokens is in forbidden_tokens too".into());
        }
        if self.max_tokens == 0 {
            return Some("max_tokens is 0; wanted at least 1".into());
        }
        if self.min_tokens > self.max_tokens {
            return Some(format!(
                "min_tokens is {}, more than max_tokens, {}",
                self.min_tokens, self.max_tokens
            ));
        }
        if self.stop.iter().any(String::is_empty) {
            return Some("stop holds an empty text, which every completion ends with".into());
        }
        if self.thinking_budget.is_some() && !self.thinking_close.contains("</think>") {
            return Some(format!(
                "thinking_close is {:?}; wanted a text that holds `</think>`",
                self.thinking_close
            ));
        }
        None
    }

    /// The first token of the settings that a vocabulary of this size does not have, as an error message.
    pub fn token_problem(&self, vocabulary: usize) -> Option<String> {
        let named = [
            ("logit_bias", self.logit_bias.iter().map(|(token, _)| *token).collect::<Vec<_>>()),
            ("allowed_tokens", self.allowed_tokens.clone()),
            ("forbidden_tokens", self.forbidden_tokens.clone()),
            ("stop_tokens", self.stop_tokens.clone()),
        ];
        named.into_iter().find_map(|(name, tokens)| {
            let beyond = tokens.into_iter().find(|token| *token as usize >= vocabulary)?;
            Some(format!("{name} names token {beyond}; the policy has tokens 0 to {}", vocabulary - 1))
        })
    }

    /// Why a thinking budget cannot be kept with this tokenizer, if it is asked for and cannot.
    pub fn thinking_problem(&self, tokenizer: &Tokenizer) -> Option<String> {
        self.thinking_budget?;
        let missing =
            ["<think>", "</think>"].into_iter().find(|token| tokenizer.token_to_id(token).is_none())?;
        Some(format!("thinking_budget wants `{missing}` to be a token of its own; this tokenizer has none"))
    }
}
