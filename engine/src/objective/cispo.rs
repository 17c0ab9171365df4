//! Importance weights that are capped, never dropped.

use candle_core::Result;
use serde::{Deserialize, Serialize};

use super::{Aggregate, Kl, Loss, Objective, Tokens, aggregate, finish, grpo::uncut, ratio};

/// −min(ρ, cap)·A·ln π with the weight held constant: no token loses its gradient, only its weight is bounded.
///
/// # Source
/// MiniMax-M1, arXiv:2506.13585; the cap is on ρ itself, as TRL has it, and 5 as in ScaleRL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cispo {
    /// Largest ratio.
    pub cap: f32,
    /// What the mean runs over.
    pub aggregate: Aggregate,
    /// Pull towards the reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<Kl>,
}

impl Default for Cispo {
    fn default() -> Self {
        Self { cap: 5.0, aggregate: Aggregate::TokenMean, kl: None }
    }
}

impl Objective for Cispo {
    fn loss(&self, t: &Tokens<'_>) -> Result<Loss> {
        let log_probs = aggregate::masked(t.log_probs, t.mask)?;
        let ratio = ratio(&aggregate::masked(&(t.log_probs - t.old_log_probs)?, t.mask)?)?;
        let weight = ratio.minimum(self.cap)?.detach();
        let cut = ratio.gt(self.cap)?.to_dtype(uncut(t)?.dtype())?;
        let gain = (weight.broadcast_mul(t.advantages)? * log_probs)?;
        finish(gain.neg()?, &ratio, self.kl.as_ref(), &cut, t)
    }

    fn aggregate(&self) -> Aggregate {
        self.aggregate
    }

    fn kl(&self) -> Option<&Kl> {
        self.kl.as_ref()
    }
}
