//! The gradient of a policy's weights.
//!
//! Before: [`super::Policy::backward`] adds to it. After: an optimizer turns it into a change of the weights.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::ModelError;
use super::flat::Flat;
use crate::kernels::{add_scaled, inner};

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

    /// All of them in one line, to be used up, or else as tensors under the weights' names.
    ///
    /// # Errors
    /// With the tensors if the policy computes in those, or if nothing was ever added.
    pub fn into_flat(self) -> Result<Flat, BTreeMap<String, Tensor>> {
        match self.body {
            GradsBody::Flat(flat) if self.any => Ok(flat),
            GradsBody::Flat(_) => Err(BTreeMap::new()),
            GradsBody::Tensors(tensors) => Err(tensors),
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

    /// Adds `factor` times another gradient, and gives the squared norm of what was added.
    ///
    /// # Errors
    /// If the other is of another policy, or a tensor operation fails.
    pub fn add_scaled(&mut self, factor: f32, other: &Self) -> Result<f64, ModelError> {
        if !other.any {
            return Ok(0.0);
        }
        let squared = match (&mut self.body, &other.body) {
            (GradsBody::Flat(to), GradsBody::Flat(from)) if to.layout() == from.layout() => {
                add_scaled(to.numbers_mut(), factor, from.numbers())
            }
            (GradsBody::Tensors(to), GradsBody::Tensors(from)) => {
                let mut squared = 0.0;
                for (name, from) in from {
                    let part = (from * f64::from(factor))?;
                    squared += f64::from(part.sqr()?.sum_all()?.to_scalar::<f32>()?);
                    let sum = match to.remove(name) {
                        Some(to) => (to + part)?,
                        None => part,
                    };
                    to.insert(name.clone(), sum);
                }
                squared
            }
            _ => return Err(ModelError::Foreign),
        };
        self.any = true;
        Ok(squared)
    }

    /// Σ over all parameters of this gradient times another.
    ///
    /// # Errors
    /// If the other is of another policy, or a tensor operation fails.
    pub fn inner(&self, other: &Self) -> Result<f64, ModelError> {
        match (&self.body, &other.body) {
            _ if !self.any || !other.any => Ok(0.0),
            (GradsBody::Flat(a), GradsBody::Flat(b)) if a.layout() == b.layout() => {
                Ok(inner(a.numbers(), b.numbers()))
            }
            (GradsBody::Tensors(a), GradsBody::Tensors(b)) => {
                let mut sum = 0.0;
                for (name, a) in a {
                    if let Some(b) = b.get(name) {
                        sum += f64::from((a * b)?.sum_all()?.to_scalar::<f32>()?);
                    }
                }
                Ok(sum)
            }
            _ => Err(ModelError::Foreign),
        }
    }

    /// Whether it has the form of this policy's gradients.
    pub fn is_of(&self, policy: &super::Policy) -> bool {
        match (&self.body, policy.layout()) {
            (GradsBody::Flat(flat), Some(layout)) => flat.layout() == layout,
            (GradsBody::Tensors(_), None) => true,
            _ => false,
        }
    }

    /// All zeros again, in the same place.
    pub fn clear(&mut self) {
        match &mut self.body {
            GradsBody::Flat(flat) if self.any => flat.numbers_mut().fill(0.0),
            GradsBody::Flat(_) => {}
            GradsBody::Tensors(tensors) => tensors.clear(),
        }
        self.any = false;
    }

    /// All numbers one after another, by name, for sketches and laboratories; `None` if there are none.
    ///
    /// # Errors
    /// If a tensor cannot be brought to the CPU.
    pub fn numbers(&self) -> candle_core::Result<Option<Vec<f32>>> {
        match &self.body {
            _ if !self.any => Ok(None),
            GradsBody::Flat(flat) => Ok(Some(flat.numbers().to_vec())),
            GradsBody::Tensors(tensors) => {
                let mut all = Vec::new();
                for tensor in tensors.values() {
                    all.extend(tensor.flatten_all()?.to_vec1::<f32>()?);
                }
                Ok(Some(all))
            }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::flat::FlatLayout;
    use super::super::{ModelConfig, NewModel};
    use super::*;

    fn config() -> ModelConfig {
        let new = NewModel {
            hidden_size: 8,
            intermediate_size: 12,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            head_dim: 4,
            vocab_size: None,
            max_position_embeddings: 16,
            rope_theta: 1e4,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: true,
        };
        new.config(10, vec![1], None).expect("config")
    }

    #[test]
    fn the_norm_is_over_all_parameters_and_the_broken_one_is_named() {
        let name = "model.layers.1.self_attn.k_norm.weight";
        let mut flat = Flat::zeros(&Arc::new(FlatLayout::new(&config())));
        flat.get_mut(name)[2] = 3.0;
        flat.get_mut("model.norm.weight")[0] = -4.0;
        let grads = Grads { body: GradsBody::Flat(flat.clone()), any: true };
        assert_eq!(grads.global_norm().expect("norm"), (5.0, None));
        for bad in [f32::NAN, f32::INFINITY] {
            flat.get_mut(name)[1] = bad;
            let grads = Grads { body: GradsBody::Flat(flat.clone()), any: true };
            let (norm, named) = grads.global_norm().expect("norm");
            assert!(!norm.is_finite() && named.as_deref() == Some(name));
        }
        let untouched = Grads { body: GradsBody::Flat(flat), any: false };
        assert!(untouched.is_empty() && untouched.flat().is_none());
        assert_eq!(untouched.global_norm().expect("norm"), (0.0, None));
    }
}
