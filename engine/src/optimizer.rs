//! One update of the weights from one gradient.
//!
//! Before: [`crate::gradient`]. After: the policy has changed. Holds what outlives an update, as a map of tensors.

use candle_core::Tensor;

use crate::model::Policy;
use crate::schedule::Schedule;
use crate::transform::{Chain, Context, OptimizerConfig, global_norm};
use crate::{EngineError, Result, Tensors};

/// An optimizer at some point of a run.
pub struct Optimizer {
    chain: Chain,
    state: Vec<Tensors>,
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
        Self::with_chain(config.build(), schedule, total)
    }

    /// The same with transforms of the caller's choice.
    pub fn with_chain(chain: Chain, schedule: &Schedule, total: u64) -> Self {
        let state = chain.state();
        Self { chain, state, schedule: schedule.clone(), updates: 0, total }
    }

    /// Updates made.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Changes the policy. An empty gradient (no token had an advantage) changes neither weights nor moments, but
    /// counts as an update of the schedule.
    ///
    /// # Errors
    /// If a gradient is not finite: nothing has changed then.
    pub fn update(&mut self, policy: &mut Policy, grads: Tensors) -> Result<UpdateStats> {
        let (grad_norm, bad) = global_norm(&grads)?;
        if let Some(name) = bad {
            return Err(EngineError::NonFinite { name, norm: grad_norm });
        }
        let learning_rate = self.schedule.at(self.updates, self.total);
        if !grads.is_empty() {
            let context = Context { weights: policy.weights(), learning_rate };
            let changes = self.chain.apply(grads, &mut self.state, &context)?;
            for (name, change) in changes {
                if let Some(var) = policy.weights().get(&name) {
                    var.set(&(var.as_detached_tensor() + change)?)?;
                }
            }
        }
        self.updates += 1;
        Ok(UpdateStats { grad_norm, learning_rate })
    }

    /// Everything that outlives an update but the count: named by the transform's place in the chain.
    pub fn state(&self) -> Tensors {
        self.state
            .iter()
            .enumerate()
            .flat_map(|(place, state)| state.iter().map(move |(n, t)| (format!("{place}.{n}"), t.clone())))
            .collect()
    }

    /// Puts a saved state back.
    ///
    /// # Errors
    /// If a name is not one that [`Self::state`] gives.
    pub fn restore(&mut self, updates: u64, state: impl IntoIterator<Item = (String, Tensor)>) -> Result<()> {
        for (name, tensor) in state {
            let place =
                name.split_once('.').and_then(|(place, rest)| Some((place.parse::<usize>().ok()?, rest)));
            match place {
                Some((place, rest)) if place < self.state.len() => {
                    self.state[place].insert(rest.to_owned(), tensor);
                }
                _ => {
                    let problem = format!("belongs to no transform; this optimizer has {}", self.state.len());
                    return Err(EngineError::State { name, problem });
                }
            }
        }
        self.updates = updates;
        Ok(())
    }
}
