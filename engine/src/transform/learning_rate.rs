//! How far to go, and downhill.

use serde::{Deserialize, Serialize};

use super::{Context, State, Transform};
use crate::kernels::each;
use crate::model::Flat;

/// Multiplies by minus the schedule's learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ScaleByLearningRate {}

impl Transform for ScaleByLearningRate {
    fn name(&self) -> &'static str {
        "scale_by_learning_rate"
    }

    fn apply(&self, grads: &mut Flat, _: &mut State, context: &Context<'_>) {
        let rate = context.learning_rate as f32;
        for name in context.names {
            each(grads.get_mut(name), |g| *g *= -rate);
        }
    }
}

/// Multiplies by a constant: a learning rate of its own for some kinds of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ScaleByFactor {
    /// What changes are multiplied by.
    pub factor: f64,
}

impl Transform for ScaleByFactor {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn apply(&self, grads: &mut Flat, _: &mut State, context: &Context<'_>) {
        let factor = self.factor as f32;
        for name in context.names {
            each(grads.get_mut(name), |g| *g *= factor);
        }
    }
}
