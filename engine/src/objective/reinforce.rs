//! The policy gradient as it is.

use candle_core::Result;
use serde::{Deserialize, Serialize};

use super::{Objective, Surrogate, Tokens, aggregate, difference, ratio};

/// −A·ln π: no ratio and no clip. Exact on policy. With several updates a step the later ones are biased, and a correction for
/// another sampler does not help: its weights are those of the step's beginning. [`super::Cispo`] is this loss with the weight
/// π/π_old, capped.
///
/// # Source
/// Williams, *Machine Learning* 8 (1992).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Reinforce {}

impl Objective for Reinforce {
    fn surrogate(&self, t: &Tokens<'_>) -> Result<Surrogate> {
        let log_probs = aggregate::masked(t.log_probs, t.mask)?;
        let losses = log_probs.broadcast_mul(t.advantages)?.neg()?;
        Ok(Surrogate { losses, ratio: ratio(&difference(t)?)?, clipped: t.mask.zeros_like()? })
    }
}
