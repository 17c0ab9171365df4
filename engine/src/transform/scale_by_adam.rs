//! Scales each gradient by its own history.

use serde::{Deserialize, Serialize};

use super::{Beta, Context, State, Transform};
use crate::kernels::{AdamStep, scale_by_adam};
use crate::model::Flat;

/// m̂ / (√v̂ + ε) with bias-corrected moments m and v.
///
/// # Source
/// Kingma & Ba, arXiv:1412.6980, algorithm 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ScaleByAdam {
    /// Share of the first moment that an update keeps, β₁.
    pub beta1: Beta,
    /// The same of the second moment, β₂.
    pub beta2: Beta,
    /// Added to the root of the second moment, ε.
    pub epsilon: f64,
}

impl Default for ScaleByAdam {
    fn default() -> Self {
        Self { beta1: Beta::new(0.9), beta2: Beta::new(0.95), epsilon: 1e-8 }
    }
}

impl ScaleByAdam {
    /// Its name in recipes and saved states.
    pub(crate) const NAME: &'static str = "scale_by_adam";
    /// The second moment's slot.
    pub(crate) const SECOND: &'static str = "v";

    /// The numbers of update `step`, counted from 1.
    pub(crate) fn at(&self, step: u32) -> AdamStep {
        let (beta1, beta2) = (f64::from(self.beta1), f64::from(self.beta2));
        let correct = |beta: f64| (1.0 / (1.0 - beta.powi(step as i32))) as f32;
        AdamStep {
            scale: 1.0,
            beta1,
            beta2,
            epsilon: self.epsilon as f32,
            correct1: correct(beta1),
            correct2: correct(beta2),
            learning_rate: 0.0,
            decay: 0.0,
        }
    }
}

impl Transform for ScaleByAdam {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn slots(&self) -> &'static [&'static str] {
        &["m", Self::SECOND]
    }

    fn apply(&self, grads: &mut Flat, state: &mut State, context: &Context<'_>) {
        let step = self.at(state.next_step());
        let [m, v] = state.slots();
        for name in context.names {
            scale_by_adam(&step, grads.get_mut(name), m.get_mut(name), v.get_mut(name));
        }
    }
}
