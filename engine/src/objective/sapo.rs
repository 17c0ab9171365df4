//! A smooth gate where GRPO has a clip.

use candle_core::Result;
use serde::{Deserialize, Serialize};

use super::{Objective, Surrogate, Tokens, difference, ratio};

/// −f(ρ)·A with f(ρ) = σ(τ(ρ − 1))·4/τ: slope 1 on policy, falling off on both sides.
///
/// # Source
/// SAPO, arXiv:2511.20347, with its temperatures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Sapo {
    /// τ where the advantage is positive.
    pub temperature_positive: f32,
    /// τ where it is negative or 0.
    pub temperature_negative: f32,
}

impl Default for Sapo {
    fn default() -> Self {
        Self { temperature_positive: 1.0, temperature_negative: 1.05 }
    }
}

impl Objective for Sapo {
    fn surrogate(&self, t: &Tokens<'_>) -> Result<Surrogate> {
        let ratio = ratio(&difference(t)?)?;
        let gate = |temperature: f32| {
            let temperature = f64::from(temperature);
            let x = ((&ratio - 1.0)? * temperature)?;
            // σ(x) = (1 + tanh(x/2)) / 2, which does not overflow
            ((((x * 0.5)?.tanh()? + 1.0)? * 0.5)? * (4.0 / temperature))?.broadcast_mul(t.advantages)
        };
        let positive = t.advantages.gt(0f32)?.broadcast_as(ratio.shape())?;
        let gain =
            positive.where_cond(&gate(self.temperature_positive)?, &gate(self.temperature_negative)?)?;
        Ok(Surrogate { losses: gain.neg()?, ratio, clipped: t.mask.zeros_like()? })
    }
}
