//! Gradients become a change of the weights, in a chain of small steps.
//!
//! Before: [`crate::gradient`] summed the gradients of a mini-batch. After: the change is added to the weights. A
//! transform is constant; what must outlive a step is a map of named tensors, easy to save, copy and compare.

mod adam;
mod clip;
mod decay;
mod learning_rate;

pub use adam::ScaleByAdam;
pub use clip::ClipByGlobalNorm;
pub use decay::AddDecayedWeights;
pub use learning_rate::ScaleByLearningRate;

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::{Result, Tensors};

/// What a transform may know beside the gradients.
pub struct Context<'a> {
    /// The weights before the update.
    pub weights: &'a BTreeMap<String, Tensor>,
    /// The schedule's learning rate for this update.
    pub learning_rate: f64,
}

/// One step from gradients to a change of the weights.
pub trait Transform: Send + Sync {
    /// Gradients in, gradients out. Whatever must outlive the call goes in `state`.
    ///
    /// # Errors
    /// If a tensor operation fails or the state is another policy's.
    fn apply(&self, grads: Tensors, state: &mut Tensors, context: &Context<'_>) -> Result<Tensors>;
}

/// Transforms one after another, each with its own state.
pub struct Chain(Vec<Box<dyn Transform>>);

impl Chain {
    /// These transforms, the first one nearest to the gradients.
    pub fn new(transforms: Vec<Box<dyn Transform>>) -> Self {
        Self(transforms)
    }

    /// As many states as transforms, all empty.
    pub fn state(&self) -> Vec<Tensors> {
        self.0.iter().map(|_| Tensors::new()).collect()
    }

    /// Hands the gradients through the chain.
    ///
    /// # Errors
    /// If a transform fails.
    pub fn apply(&self, grads: Tensors, state: &mut [Tensors], context: &Context<'_>) -> Result<Tensors> {
        self.0.iter().zip(state).try_fold(grads, |grads, (t, state)| t.apply(grads, state, context))
    }
}

/// Which optimizer a recipe chose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OptimizerConfig {
    /// Adam with decoupled weight decay.
    Adamw(AdamW),
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::Adamw(AdamW::default())
    }
}

/// Adam with decoupled weight decay, after a clip of the gradients' global norm. Moments and weights are f32.
///
/// # Source
/// Kingma & Ba, arXiv:1412.6980; Loshchilov & Hutter, arXiv:1711.05101.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AdamW {
    /// Largest share of the last first moment that is kept.
    pub beta1: Beta,
    /// The same of the second moment.
    pub beta2: Beta,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Share of a matrix that a step at learning rate 1 takes away; norms and biases do not decay.
    pub weight_decay: f64,
    /// Gradients above this global norm are scaled down to it; 0 leaves them.
    pub max_grad_norm: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { beta1: Beta(0.9), beta2: Beta(0.95), epsilon: 1e-8, weight_decay: 0.0, max_grad_norm: 1.0 }
    }
}

impl AdamW {
    /// Adam's place in the chain: behind the clip, if there is one.
    pub(crate) fn place(&self) -> usize {
        usize::from(self.max_grad_norm > 0.0)
    }
}

/// Whether a parameter is a norm or a bias, which do not decay.
pub(crate) fn spared(name: &str) -> bool {
    name.ends_with("norm.weight") || name.ends_with(".bias")
}

/// A decay rate in [0, 1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "f64", into = "f64")]
pub struct Beta(f64);

impl From<Beta> for f64 {
    fn from(beta: Beta) -> f64 {
        beta.0
    }
}

impl TryFrom<f64> for Beta {
    type Error = String;
    fn try_from(beta: f64) -> std::result::Result<Self, String> {
        if (0.0..1.0).contains(&beta) {
            Ok(Self(beta))
        } else {
            Err(format!("a decay rate is at least 0 and below 1, not {beta}"))
        }
    }
}

impl OptimizerConfig {
    /// The chain of transforms that it stands for.
    pub fn build(&self) -> Chain {
        match self {
            Self::Adamw(adamw) => {
                let mut chain: Vec<Box<dyn Transform>> = Vec::new();
                if adamw.max_grad_norm > 0.0 {
                    chain.push(Box::new(ClipByGlobalNorm { max_norm: adamw.max_grad_norm }));
                }
                chain.push(Box::new(ScaleByAdam {
                    beta1: adamw.beta1.0,
                    beta2: adamw.beta2.0,
                    epsilon: adamw.epsilon,
                }));
                if adamw.weight_decay > 0.0 {
                    chain.push(Box::new(AddDecayedWeights { decay: adamw.weight_decay, all: false }));
                }
                chain.push(Box::new(ScaleByLearningRate));
                Chain::new(chain)
            }
        }
    }
}

/// Square root of the sum of squares over all gradients, and the first that is not finite, if any.
///
/// # Errors
/// If a tensor operation fails.
pub fn global_norm(grads: &Tensors) -> Result<(f64, Option<String>)> {
    let mut sum = 0.0;
    for (name, grad) in grads {
        let square = f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?);
        if !square.is_finite() {
            return Ok((square.sqrt(), Some(name.clone())));
        }
        sum += square;
    }
    Ok((sum.sqrt(), None))
}
