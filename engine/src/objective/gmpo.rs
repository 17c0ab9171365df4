//! A geometric mean of ratios, which outliers move little.

use candle_core::Result;
use serde::{Deserialize, Serialize};

use super::{Objective, Surrogate, Tokens, difference, ratio, row_mean};

/// −A·exp(mean over tokens of the clipped ln ρ). Each token's ln ρ is cut at ±`clip` on the side where it would go too far,
/// as PPO cuts ρ itself.
///
/// # Source
/// Zhao et al., arXiv:2507.20673, with its bound of 0.4.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Gmpo {
    /// Largest |ln ρ| of a token.
    pub clip: f32,
}

impl Default for Gmpo {
    fn default() -> Self {
        Self { clip: 0.4 }
    }
}

impl Objective for Gmpo {
    fn surrogate(&self, t: &Tokens<'_>) -> Result<Surrogate> {
        let difference = difference(t)?;
        let held = difference.clamp(-self.clip, self.clip)?;
        let positive = t.advantages.gt(0f32)?.broadcast_as(difference.shape())?;
        // the smaller gain: min for positive advantages, max for negative ones
        let used = positive.where_cond(&difference.minimum(&held)?, &difference.maximum(&held)?)?;
        let clipped = used.ne(&difference)?.to_dtype(t.mask.dtype())?;
        let mean = ratio(&row_mean(&used, t)?)?;
        Ok(Surrogate {
            losses: mean.broadcast_mul(t.advantages)?.neg()?,
            ratio: ratio(&difference)?,
            clipped,
        })
    }
}
