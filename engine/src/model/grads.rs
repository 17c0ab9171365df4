//! The gradient of a policy's weights.
//!
//! Before: [`super::Policy::backward`] adds to it. After: an optimizer turns it into a change of the weights.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::flat::Flat;

/// A gradient, by parameter: sums that [`super::Policy::backward`] adds to.
#[derive(Clone)]
pub struct Grads {
    pub(super) body: GradsBody,
    pub(super) any: bool,
}

#[derive(Clone)]
pub(super) enum GradsBody {
    Flat(Flat),
    Tensors(BTreeMap<String, Tensor>),
}

impl Default for Grads {
    fn default() -> Self {
        Self { body: GradsBody::Tensors(BTreeMap::new()), any: false }
    }
}

impl Grads {
    /// Whether nothing was ever added: exactly zero.
    pub fn is_empty(&self) -> bool {
        !self.any
    }

    /// All of them in one line, if the policy computes so and there are any.
    pub fn flat(&self) -> Option<&Flat> {
        match &self.body {
            GradsBody::Flat(flat) if self.any => Some(flat),
            _ => None,
        }
    }

    /// A copy under the weights' names; empty if nothing was ever added.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn tensors(&self) -> candle_core::Result<BTreeMap<String, Tensor>> {
        match &self.body {
            _ if !self.any => Ok(BTreeMap::new()),
            GradsBody::Flat(flat) => flat.tensors(),
            GradsBody::Tensors(tensors) => Ok(tensors.clone()),
        }
    }

    /// Square root of the sum of squares over all gradients, and the first that is not finite, if any.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn global_norm(&self) -> candle_core::Result<(f64, Option<String>)> {
        let squares: Vec<(String, f64)> = match &self.body {
            _ if !self.any => Vec::new(),
            GradsBody::Flat(flat) => {
                flat.squared_norms().into_iter().map(|(n, x)| (n.to_owned(), x)).collect()
            }
            GradsBody::Tensors(tensors) => tensors
                .iter()
                .map(|(name, x)| Ok((name.clone(), f64::from(x.sqr()?.sum_all()?.to_scalar::<f32>()?))))
                .collect::<candle_core::Result<_>>()?,
        };
        let bad = squares.iter().find(|(_, square)| !square.is_finite()).map(|(name, _)| name.clone());
        Ok((squares.iter().map(|(_, square)| square).sum::<f64>().sqrt(), bad))
    }
}
