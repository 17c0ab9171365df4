//! One update of the weights from one gradient.
//!
//! Before: [`crate::gradient`]. After: the policy has changed. Holds what outlives an update: the states of a [`Chain`] of
//! transforms. Where the chain is AdamW's, one pass over weights, gradients and moments does the same to the bit, in the same
//! state.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::Tensor;

use crate::kernels::{AdamStep, adam, each_with, preconditioned_norm};
use crate::model::weights::Source;
use crate::model::{Flat, FlatLayout, Grads, ModelError, ParameterKind, Policy};
use crate::schedule::Schedule;
use crate::transform::{AdamW, Chain, ClipByGlobalNorm, OptimizerConfig, ScaleByAdam, State};
use crate::{EngineError, Result, Tensors};

/// An optimizer at some point of a run.
pub struct Optimizer {
    chain: Chain,
    /// The settings of the chain if it is AdamW, for the pass over all in one.
    adamw: Option<AdamW>,
    schedule: Schedule,
    updates: u64,
    total: u64,
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpdateStats {
    /// Global norm of the gradient before any clip.
    pub grad_norm: f64,
    /// Learning rate used.
    pub learning_rate: f64,
}

impl Optimizer {
    /// An optimizer at the start of a run of `total` updates.
    pub fn new(config: &OptimizerConfig, schedule: &Schedule, total: u64) -> Self {
        Self { adamw: config.fused().cloned(), ..Self::with_chain(config.build(), schedule, total) }
    }

    /// The same with transforms of the caller's choice.
    pub fn with_chain(chain: Chain, schedule: &Schedule, total: u64) -> Self {
        Self { chain, adamw: None, schedule: schedule.clone(), updates: 0, total }
    }

    /// How many of the schedule's updates are over: those made, and those that were skipped.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Leaves out the schedule's updates before this one, as if there had been nothing to learn from; weights and moments stay.
    pub fn skip_to(&mut self, update: u64) {
        self.updates = self.updates.max(update);
    }

    /// Changes the policy, at `factor` times the schedule's learning rate. An empty gradient (no token had an advantage) changes
    /// neither weights nor moments, but counts as an update of the schedule.
    ///
    /// # Errors
    /// If a gradient is not finite or another policy's, or restored state does not fit: nothing has changed then.
    pub fn update(&mut self, policy: &mut Policy, grads: Grads, factor: f64) -> Result<UpdateStats> {
        let (grad_norm, bad) = grads.global_norm()?;
        if let Some(name) = bad {
            return Err(EngineError::NonFinite { name, norm: grad_norm });
        }
        let learning_rate = factor * self.schedule.at(self.updates, self.total);
        if !grads.is_empty() {
            if !grads.is_of(policy) {
                return Err(ModelError::Foreign.into());
            }
            match grads.into_flat() {
                Ok(mut grads) => {
                    let layout = grads.layout().clone();
                    self.chain.settle(&layout)?;
                    policy.update_flat(&layout, |weights| {
                        self.apply(weights, &mut grads, grad_norm, learning_rate);
                    })?;
                }
                Err(grads) => {
                    // tensors of candle's: the same numbers in one line, and back
                    let layout = Arc::new(FlatLayout::new(policy.config()));
                    self.chain.settle(&layout)?;
                    let mut weights = Flat::from_tensors(&layout, &policy.tensors()?)?;
                    let mut grads = Flat::from_tensors(&layout, &grads)?;
                    self.apply(&mut weights, &mut grads, grad_norm, learning_rate);
                    policy.set(&weights.tensors()?)?;
                }
            }
        }
        self.updates += 1;
        Ok(UpdateStats { grad_norm, learning_rate })
    }

    /// Changes weights by gradients of this norm, which are used up. The states are settled.
    fn apply(&mut self, weights: &mut Flat, grads: &mut Flat, grad_norm: f64, learning_rate: f64) {
        let Some(adamw) = &self.adamw else {
            self.chain.apply(grads, weights, learning_rate);
            each_with(weights.numbers_mut(), grads.numbers(), |weight, change| *weight += change);
            return;
        };
        let state = self.chain.state(ScaleByAdam::NAME).expect("AdamW's chain scales by Adam");
        let max_norm = adamw.max_grad_norm;
        let step = AdamStep {
            scale: if max_norm > 0.0 { ClipByGlobalNorm { max_norm }.factor(grad_norm) } else { 1.0 },
            learning_rate: learning_rate as f32,
            ..adamw.scale_by_adam().at(state.next_step())
        };
        let [m, v] = state.slots();
        for name in grads.layout().clone().names() {
            let decay = if ParameterKind::of(name).decays() { adamw.weight_decay as f32 } else { 0.0 };
            let step = AdamStep { decay, ..step };
            adam(&step, weights.get_mut(name), grads.get(name), m.get_mut(name), v.get_mut(name));
        }
    }

    /// ‖D g‖² with D = 1/(√v̂ + ε) of Adam's second moment: a gradient's squared norm in the metric of the step. The plain
    /// norm while there is no second moment. `None` unless the optimizer is AdamW and gradients lie in one line.
    ///
    /// # Errors
    /// If restored moments are another policy's.
    pub fn preconditioned_norm(&mut self, grads: &Grads) -> Result<Option<f64>> {
        let (Some(flat), Some(adamw)) = (grads.flat(), &self.adamw) else { return Ok(None) };
        let (beta2, epsilon) = (f64::from(adamw.beta2), adamw.epsilon as f32);
        self.chain.settle(flat.layout())?;
        let state: Option<&State> = self.chain.state(ScaleByAdam::NAME).map(|state| &*state);
        Ok(state.and_then(|state| match (state.step(), state.slot(ScaleByAdam::SECOND)) {
            (0, _) => Some(flat.squared_norms().iter().map(|(_, norm)| norm).sum()),
            (step, Some(v)) => {
                let correct = (1.0 / (1.0 - beta2.powi(step as i32))) as f32;
                Some(preconditioned_norm(flat.numbers(), v.numbers(), correct, epsilon))
            }
            (_, None) => None,
        }))
    }

    /// A copy of everything that outlives an update but the count.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn state(&self) -> Result<Tensors> {
        self.entries().into_iter().map(|(name, _)| Ok((name.clone(), self.tensor(&name)?))).collect()
    }

    /// Puts a saved state back.
    ///
    /// # Errors
    /// If a name is not one that [`Self::state`] gives.
    pub fn restore(&mut self, updates: u64, state: impl IntoIterator<Item = (String, Tensor)>) -> Result<()> {
        for (name, tensor) in state {
            // states were once known by the transform's place in the chain, and Adam's was the only one
            let adam =
                name.split_once('.').filter(|(place, _)| place.parse::<usize>().is_ok_and(|place| place < 2));
            match adam {
                Some((_, rest)) => self.chain.restore(&format!("{}.{rest}", ScaleByAdam::NAME), tensor)?,
                None => self.chain.restore(&name, tensor)?,
            }
        }
        self.updates = updates;
        Ok(())
    }
}

impl Source for Optimizer {
    /// Names begin with the transform's.
    fn entries(&self) -> Vec<(String, Vec<usize>)> {
        self.chain.entries()
    }

    fn tensor(&self, name: &str) -> candle_core::Result<Tensor> {
        self.chain.tensor(name)
    }

    fn numbers(&self, name: &str) -> candle_core::Result<Cow<'_, [f32]>> {
        self.chain.numbers(name)
    }
}
