//! Pulls weights towards zero.

use serde::{Deserialize, Serialize};

use super::{Context, State, Transform};
use crate::kernels::each_with;
use crate::model::{Flat, ParameterKind};

/// Adds `decay` × weight to each change, so that a step takes away learning rate × `decay` of the weight: decoupled
/// from what scales gradients when it stands behind it.
///
/// # Source
/// Loshchilov & Hutter, arXiv:1711.05101.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AddDecayedWeights {
    /// Share of a weight that a step at learning rate 1 takes away.
    pub decay: f64,
    /// Whether norms and biases decay too, as PyTorch has it by default.
    pub all: bool,
}

impl Default for AddDecayedWeights {
    fn default() -> Self {
        Self { decay: 0.01, all: false }
    }
}

impl Transform for AddDecayedWeights {
    fn name(&self) -> &'static str {
        "add_decayed_weights"
    }

    fn apply(&self, grads: &mut Flat, _: &mut State, context: &Context<'_>) {
        let decay = self.decay as f32;
        for name in context.names.iter().filter(|name| self.all || ParameterKind::of(name).decays()) {
            each_with(grads.get_mut(name), context.weights.get(name), |g, w| *g += decay * w);
        }
    }
}
