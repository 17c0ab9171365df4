//! Pulls matrices towards zero.

use super::{Context, Transform, spared};
use crate::{Result, Tensors};

/// Adds `decay` × weight to each change, so that a step takes away learning rate × `decay` of the weight: decoupled
/// from Adam's scaling when it stands behind it. Norms and biases are left alone.
///
/// # Source
/// Loshchilov & Hutter, arXiv:1711.05101.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AddDecayedWeights {
    /// λ.
    pub decay: f64,
    /// Whether norms and biases decay too, as PyTorch has it by default.
    pub all: bool,
}

impl Transform for AddDecayedWeights {
    fn apply(&self, grads: Tensors, _: &mut Tensors, context: &Context<'_>) -> Result<Tensors> {
        grads
            .into_iter()
            .map(|(name, grad)| {
                let grad = match context.weights.get(&name) {
                    Some(weight) if self.all || !spared(&name) => (grad + (weight * self.decay)?)?,
                    _ => grad,
                };
                Ok((name, grad))
            })
            .collect()
    }
}
