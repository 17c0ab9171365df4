//! One completion of one prompt, and what it earned.
//!
//! Before: the sampler drew it from a policy. After: a reward scores it, then the engine trains on it.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Prompt, Score};

/// Counts updates of the weights: 0 is the checkpoint that the run began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct PolicyVersion(pub u64);

/// Why a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The policy drew a stop token, which is the last of `tokens`.
    Token,
    /// The text reached a stop string.
    Text,
    /// The token budget or the context ran out: the rollout is truncated.
    Length,
}

/// One completion of one prompt, exactly as it was sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The problem, shared by its group.
    pub prompt: Arc<Prompt>,
    /// The prompt as the policy read it, shared by its group.
    pub prompt_tokens: Arc<[u32]>,
    /// What the policy wrote, a stop token included.
    pub tokens: Vec<u32>,
    /// `tokens` as text, special tokens and the stop string left out. Derived; never tokenised again.
    pub text: String,
    /// ln π(token | prefix) in nats, one per token, under the very distribution it was drawn from: after
    /// temperature and truncation. Ratios are only honest if this is.
    pub log_probs: Vec<f32>,
    /// Why it ended.
    pub stop: StopReason,
    /// The weights that sampled it.
    pub policy: PolicyVersion,
    /// How often the step had drawn its prompt before: rollouts of one prompt with another number are another group.
    #[serde(default, skip_serializing_if = "is_first")]
    pub occurrence: usize,
    /// Place within its group, from 0.
    pub place: usize,
    /// Runs of `tokens` that were put there and not drawn, such as the end of a thinking block whose budget was spent.
    /// Their log-prob is 0, and nothing is learnt from them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forced: Vec<Range<usize>>,
    /// Entropy in nats of the distribution that each token was drawn from, if it was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entropy: Vec<f32>,
    /// For each token the likeliest of the distribution that it was drawn from, likeliest first, if asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_log_probs: Vec<Vec<Alternative>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_first(occurrence: &usize) -> bool {
    *occurrence == 0
}

/// A token that might have been drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    /// Its id.
    pub token: u32,
    /// ln of its probability, in nats.
    pub log_prob: f32,
}

impl Rollout {
    /// A text as if a policy had written it and ended by itself, to be judged and not to be trained on: there are no
    /// tokens.
    pub fn of_text(prompt: Arc<Prompt>, text: impl Into<String>) -> Self {
        Self {
            prompt,
            prompt_tokens: Arc::from([]),
            tokens: Vec::new(),
            text: text.into(),
            log_probs: Vec::new(),
            stop: StopReason::Token,
            policy: PolicyVersion(0),
            occurrence: 0,
            place: 0,
            forced: Vec::new(),
            entropy: Vec::new(),
            top_log_probs: Vec::new(),
        }
    }

    /// Tokens that were put there and not drawn.
    pub fn forced_tokens(&self) -> usize {
        self.forced.iter().map(ExactSizeIterator::len).sum()
    }

    /// Whether a token was put there and not drawn.
    pub fn is_forced(&self, token: usize) -> bool {
        self.forced.iter().any(|run| run.contains(&token))
    }

    /// Whether another is of the same prompt and the same draw of it.
    pub fn is_of_the_group_of(&self, other: &Self) -> bool {
        self.prompt.id == other.prompt.id && self.occurrence == other.occurrence
    }

    /// Whether the budget ran out before the policy ended by itself.
    pub fn truncated(&self) -> bool {
        self.stop == StopReason::Length
    }
}

/// A rollout and what it earned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredRollout {
    /// The completion.
    pub rollout: Rollout,
    /// Its score.
    pub score: Score,
}
