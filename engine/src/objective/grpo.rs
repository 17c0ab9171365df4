//! The clipped surrogate of PPO on group advantages.

use candle_core::Result;
use serde::{Deserialize, Serialize};

use super::{Objective, Surrogate, Tokens, difference, ratio, row_mean};

/// −min(ρA, clip(ρ, 1 − clip_low, 1 + clip_high)·A), with ρ = π/π_old of a token or of its sequence.
///
/// # Source
/// Schulman et al., arXiv:1707.06347 (the clip); DeepSeekMath, arXiv:2402.03300 (GRPO); DAPO, arXiv:2503.14476
/// (separate bounds, token mean); GSPO, arXiv:2507.18071 (`level = "sequence"`); Ye et al., arXiv:1912.09729 (dual
/// clip); INTELLECT-2, arXiv:2505.07291 (`ratio_cap`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Grpo {
    /// How far below 1 a ratio may go before its gradient stops, when the advantage is negative.
    pub clip_low: ClipRange,
    /// How far above 1, when the advantage is positive.
    pub clip_high: ClipRange,
    /// Upper bound of the loss of a token with negative advantage, in units of −advantage; above 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dual_clip: Option<f32>,
    /// Largest ratio in the unclipped branch, for either sign of the advantage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_cap: Option<f32>,
    /// Whether a ratio belongs to a token or to its sequence.
    pub level: RatioLevel,
}

impl Default for Grpo {
    fn default() -> Self {
        Self {
            clip_low: ClipRange(0.2),
            clip_high: ClipRange(0.2),
            dual_clip: None,
            ratio_cap: None,
            level: RatioLevel::Token,
        }
    }
}

/// A distance from 1, at least 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "f32", into = "f32")]
pub struct ClipRange(f32);

impl ClipRange {
    /// # Panics
    /// If negative or not a number.
    pub fn new(range: f32) -> Self {
        Self::try_from(range).expect("a clip range known to the program is right")
    }
}

impl From<ClipRange> for f32 {
    fn from(range: ClipRange) -> f32 {
        range.0
    }
}

impl TryFrom<f32> for ClipRange {
    type Error = String;
    fn try_from(range: f32) -> std::result::Result<Self, String> {
        if range.is_finite() && range >= 0.0 {
            Ok(Self(range))
        } else {
            Err(format!("a clip range is a distance from 1 and at least 0, not {range}"))
        }
    }
}

/// What an importance ratio belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RatioLevel {
    /// Each token has its own.
    #[default]
    Token,
    /// All tokens of a row share the geometric mean of theirs.
    Sequence,
}

impl Objective for Grpo {
    fn surrogate(&self, t: &Tokens<'_>) -> Result<Surrogate> {
        let ratio = ratio(&match self.level {
            RatioLevel::Token => difference(t)?,
            RatioLevel::Sequence => row_mean(&difference(t)?, t)?,
        })?;
        let capped = match self.ratio_cap {
            Some(cap) => ratio.minimum(cap)?,
            None => ratio.clone(),
        };
        let plain = capped.broadcast_mul(t.advantages)?;
        let clipped =
            ratio.clamp(1.0 - self.clip_low.0, 1.0 + self.clip_high.0)?.broadcast_mul(t.advantages)?;
        let mut gain = plain.minimum(&clipped)?;
        let mut cut = clipped.lt(&plain)?;
        if let Some(cap) = self.ratio_cap {
            // The unclipped branch has no gradient beyond the cap; a cap within the clip range leaves some to the other.
            let beyond = ratio.lt(1.0 - self.clip_low.0)?.maximum(&ratio.gt(1.0 + self.clip_high.0)?)?;
            cut = cut.where_cond(&beyond, &ratio.gt(cap)?)?;
        }
        if let Some(bound) = self.dual_clip {
            let floor = (t.advantages * f64::from(bound))?.broadcast_as(gain.shape())?;
            let bounded = t.advantages.broadcast_as(gain.shape())?.lt(0f32)?;
            let worse = (gain.lt(&floor)? * bounded)?;
            gain = worse.where_cond(&floor, &gain)?;
            cut = cut.maximum(&worse)?;
        }
        Ok(Surrogate { losses: gain.neg()?, ratio, clipped: cut.to_dtype(t.mask.dtype())? })
    }
}
