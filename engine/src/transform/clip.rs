//! Bounds the length of the whole gradient.

use super::{Context, Transform, global_norm};
use crate::{Result, Tensors};

/// Scales all gradients by min(1, max_norm / (norm + 1e-6)), with the norm over all of them together, as PyTorch does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClipByGlobalNorm {
    /// Largest norm, above 0.
    pub max_norm: f64,
}

impl Transform for ClipByGlobalNorm {
    fn apply(&self, grads: Tensors, _: &mut Tensors, _: &Context<'_>) -> Result<Tensors> {
        let factor = self.max_norm / (global_norm(&grads)?.0 + 1e-6);
        if factor >= 1.0 {
            return Ok(grads);
        }
        grads.into_iter().map(|(name, grad)| Ok((name, (grad * factor)?))).collect()
    }
}
