//! The sign of an interpolated momentum.

use serde::{Deserialize, Serialize};

use super::{Beta, Context, State, Transform};
use crate::kernels::each_with_mut;
use crate::model::Flat;

/// sign(β₁ m + (1 − β₁) g); then m ← β₂ m + (1 − β₂) g. The sign of 0 is 0.
///
/// # Source
/// Chen et al., Symbolic Discovery of Optimization Algorithms, arXiv:2302.06675, algorithm 2.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ScaleByLion {
    /// Weight of the momentum in the direction, β₁.
    pub beta1: Beta,
    /// Share of the momentum that an update keeps, β₂.
    pub beta2: Beta,
}

impl Default for ScaleByLion {
    fn default() -> Self {
        Self { beta1: Beta::new(0.9), beta2: Beta::new(0.99) }
    }
}

impl Transform for ScaleByLion {
    fn name(&self) -> &'static str {
        "scale_by_lion"
    }

    fn slots(&self) -> &'static [&'static str] {
        &["m"]
    }

    fn apply(&self, grads: &mut Flat, state: &mut State, context: &Context<'_>) {
        state.next_step();
        let [m] = state.slots();
        let (beta1, beta2) = (f64::from(self.beta1), f64::from(self.beta2));
        let (b1, a1, b2, a2) = (beta1 as f32, (1.0 - beta1) as f32, beta2 as f32, (1.0 - beta2) as f32);
        for name in context.names {
            each_with_mut(grads.get_mut(name), m.get_mut(name), |g, m| {
                let direction = b1 * *m + a1 * *g;
                *m = b2 * *m + a2 * *g;
                *g = if direction == 0.0 { 0.0 } else { direction.signum() };
            });
        }
    }
}
