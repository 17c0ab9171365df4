//! Importance weights that are capped, never dropped.

use candle_core::Result;
use serde::{Deserialize, Serialize};

use super::{Objective, Surrogate, Tokens, aggregate, difference, ratio};

/// −clip(ρ, floor, cap)·A·ln π with the weight held constant: no token loses its gradient, only its weight is bounded.
///
/// # Source
/// MiniMax-M1, arXiv:2506.13585; the cap is on ρ itself, as TRL has it, and 5 as in ScaleRL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Cispo {
    /// Largest ratio.
    pub cap: f32,
    /// Least ratio; verl's 1 − ε, TRL has none.
    pub floor: f32,
}

impl Default for Cispo {
    fn default() -> Self {
        Self { cap: 5.0, floor: 0.0 }
    }
}

impl Objective for Cispo {
    fn surrogate(&self, t: &Tokens<'_>) -> Result<Surrogate> {
        let log_probs = aggregate::masked(t.log_probs, t.mask)?;
        let ratio = ratio(&difference(t)?)?;
        let weight = ratio.clamp(self.floor, self.cap)?.detach();
        let clipped = ratio.gt(self.cap)?.maximum(&ratio.lt(self.floor)?)?.to_dtype(t.mask.dtype())?;
        let gain = (weight.broadcast_mul(t.advantages)? * log_probs)?;
        Ok(Surrogate { losses: gain.neg()?, ratio, clipped })
    }
}
