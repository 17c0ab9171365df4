//! Bounds the length of the whole gradient.

use serde::{Deserialize, Serialize};

use super::{Context, State, Transform};
use crate::kernels::{each, squared_norm};
use crate::model::Flat;

/// Scales gradients by min(1, max_norm / (norm + 1e-6)), with the norm over all of its parameters together, as PyTorch does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ClipByGlobalNorm {
    /// Largest norm, above 0.
    pub max_norm: f64,
}

impl Default for ClipByGlobalNorm {
    fn default() -> Self {
        Self { max_norm: 1.0 }
    }
}

impl ClipByGlobalNorm {
    /// What gradients of this norm are multiplied by.
    pub(crate) fn factor(&self, norm: f64) -> f32 {
        (self.max_norm / (norm + 1e-6)).min(1.0) as f32
    }
}

impl Transform for ClipByGlobalNorm {
    fn name(&self) -> &'static str {
        "clip_by_global_norm"
    }

    fn apply(&self, grads: &mut Flat, _: &mut State, context: &Context<'_>) {
        let norm = context.names.iter().map(|name| squared_norm(grads.get(name))).sum::<f64>().sqrt();
        let factor = self.factor(norm);
        for name in context.names {
            each(grads.get_mut(name), |g| *g *= factor);
        }
    }
}
