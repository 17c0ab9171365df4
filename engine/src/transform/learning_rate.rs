//! The last step: how far to go, and downhill.

use super::{Context, Transform};
use crate::{Result, Tensors};

/// Multiplies by minus the schedule's learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScaleByLearningRate;

impl Transform for ScaleByLearningRate {
    fn apply(&self, grads: Tensors, _: &mut Tensors, context: &Context<'_>) -> Result<Tensors> {
        grads.into_iter().map(|(name, grad)| Ok((name, (grad * -context.learning_rate)?))).collect()
    }
}
