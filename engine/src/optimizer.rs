//! One update of the weights from one gradient.
//!
//! Before: [`crate::gradient`]. After: the policy has changed. Holds what outlives an update. Where gradients lie in one
//! line, the recipe's AdamW goes over weights, gradients and moments in one pass; otherwise they go through the
//! [`Chain`], tensor by tensor. Both save the same names.

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};

use crate::kernels::{AdamStep, adam, preconditioned_norm, trim_heap};
use crate::model::weights::{Source, missing};
use crate::model::{Flat, Grads, Policy};
use crate::schedule::Schedule;
use crate::transform::{AdamW, Chain, Context, OptimizerConfig, spared};
use crate::{EngineError, Result, Tensors};

/// An optimizer at some point of a run.
pub struct Optimizer {
    chain: Chain,
    state: Vec<Tensors>,
    /// The settings of the chain if it is AdamW, for the pass over all in one.
    adamw: Option<AdamW>,
    moments: Option<Moments>,
    schedule: Schedule,
    updates: u64,
    total: u64,
}

/// Both moments of every weight.
struct Moments {
    step: u32,
    m: Flat,
    v: Flat,
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
        let OptimizerConfig::Adamw(adamw) = config;
        Self { adamw: Some(adamw.clone()), ..Self::with_chain(config.build(), schedule, total) }
    }

    /// The same with transforms of the caller's choice.
    pub fn with_chain(chain: Chain, schedule: &Schedule, total: u64) -> Self {
        let state = chain.state();
        Self { chain, state, adamw: None, moments: None, schedule: schedule.clone(), updates: 0, total }
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
    pub fn update(&mut self, policy: &mut Policy, grads: &Grads, factor: f64) -> Result<UpdateStats> {
        let (grad_norm, bad) = grads.global_norm()?;
        if let Some(name) = bad {
            return Err(EngineError::NonFinite { name, norm: grad_norm });
        }
        let learning_rate = factor * self.schedule.at(self.updates, self.total);
        match (self.adamw.clone(), grads.flat()) {
            _ if grads.is_empty() => {}
            (Some(adamw), Some(flat)) => {
                self.update_in_one(&adamw, policy, flat, grad_norm, learning_rate)?
            }
            _ => {
                let weights = policy.tensors()?;
                let context = Context { weights: &weights, learning_rate };
                let mut changed = self.chain.apply(grads.tensors()?, &mut self.state, &context)?;
                for (name, change) in &mut changed {
                    *change = (&weights[name] + &*change)?;
                }
                policy.set(&changed)?;
            }
        }
        self.updates += 1;
        Ok(UpdateStats { grad_norm, learning_rate })
    }

    /// The chain of AdamW in one pass.
    fn update_in_one(
        &mut self,
        adamw: &AdamW,
        policy: &mut Policy,
        grads: &Flat,
        grad_norm: f64,
        learning_rate: f64,
    ) -> Result<()> {
        let mut moments = match self.moments.take() {
            Some(moments) => moments,
            None => Moments::from_tensors(&mut self.state[adamw.place()], grads)?,
        };
        let correct = |beta: f64| (1.0 / (1.0 - beta.powi(moments.step as i32 + 1))) as f32;
        let max = adamw.max_grad_norm;
        let step = AdamStep {
            scale: if max > 0.0 { (max / (grad_norm + 1e-6)).min(1.0) as f32 } else { 1.0 },
            beta1: adamw.beta1.into(),
            beta2: adamw.beta2.into(),
            epsilon: adamw.epsilon as f32,
            correct1: correct(adamw.beta1.into()),
            correct2: correct(adamw.beta2.into()),
            learning_rate: learning_rate as f32,
            decay: 0.0,
        };
        let updated = policy.update_flat(grads.layout(), |weights| {
            for name in grads.layout().names() {
                let decay = if spared(name) { 0.0 } else { adamw.weight_decay as f32 };
                let step = AdamStep { decay, ..step };
                let (m, v) = (moments.m.get_mut(name), moments.v.get_mut(name));
                adam(&step, weights.get_mut(name), grads.get(name), m, v);
            }
        });
        moments.step += u32::from(updated.is_ok());
        self.moments = Some(moments);
        Ok(updated?)
    }

    /// ‖D g‖² with D = 1/(√v̂ + ε) of Adam's second moment: a gradient's squared norm in the metric of the step. The plain
    /// norm while there is no second moment. `None` unless gradients and moments lie in one line.
    ///
    /// # Errors
    /// If restored moments are another policy's.
    pub fn preconditioned_norm(&mut self, grads: &Grads) -> Result<Option<f64>> {
        let (Some(flat), Some(adamw)) = (grads.flat(), self.adamw.clone()) else { return Ok(None) };
        if self.moments.is_none() {
            self.moments = Some(Moments::from_tensors(&mut self.state[adamw.place()], flat)?);
        }
        Ok(self.moments.as_ref().map(|moments| match moments.step {
            0 => flat.squared_norms().iter().map(|(_, norm)| norm).sum(),
            step => {
                let correct = (1.0 / (1.0 - f64::from(adamw.beta2).powi(step as i32))) as f32;
                let v = moments.v.numbers();
                preconditioned_norm(flat.numbers(), v, correct, adamw.epsilon as f32)
            }
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
        self.moments = None;
        self.updates = updates;
        Ok(())
    }
}

impl Source for Optimizer {
    /// Names begin with the transform's place in the chain.
    fn entries(&self) -> Vec<(String, Vec<usize>)> {
        let chain = self.state.iter().enumerate().flat_map(|(place, state)| {
            state.iter().map(move |(name, tensor)| (format!("{place}.{name}"), tensor.dims().to_vec()))
        });
        let mut all: Vec<_> = chain.collect();
        if let (Some(moments), Some(adamw)) = (&self.moments, &self.adamw) {
            let place = adamw.place();
            all.push((format!("{place}.step"), vec![1]));
            for (kind, flat) in [("m", &moments.m), ("v", &moments.v)] {
                let shape = |name| flat.layout().shape(name).unwrap_or_default().to_vec();
                all.extend(flat.layout().names().map(|name| (format!("{place}.{kind}.{name}"), shape(name))));
            }
        }
        all
    }

    fn tensor(&self, name: &str) -> candle_core::Result<Tensor> {
        let split = name.split_once('.').and_then(|(place, rest)| Some((place.parse::<usize>().ok()?, rest)));
        let (place, rest) = split.ok_or_else(|| missing(name))?;
        if let (Some(moments), Some(adamw)) = (&self.moments, &self.adamw)
            && place == adamw.place()
        {
            return match rest.split_once('.') {
                Some(("m", parameter)) => moments.m.tensor(parameter),
                Some(("v", parameter)) => moments.v.tensor(parameter),
                _ if rest == "step" => Tensor::new(&[moments.step], &Device::Cpu),
                _ => Err(missing(name)),
            };
        }
        self.state.get(place).and_then(|state| state.get(rest)).cloned().ok_or_else(|| missing(name))
    }

    fn numbers(&self, name: &str) -> candle_core::Result<Cow<'_, [f32]>> {
        if let (Some(moments), Some(adamw)) = (&self.moments, &self.adamw)
            && let Some(rest) = name.strip_prefix(&format!("{}.", adamw.place()))
        {
            let lent = match rest.split_once('.') {
                Some(("m", parameter)) => Some((&moments.m, parameter)),
                Some(("v", parameter)) => Some((&moments.v, parameter)),
                _ => None,
            };
            if let Some((flat, parameter)) = lent.filter(|(flat, parameter)| flat.has(parameter)) {
                return Ok(Cow::Borrowed(flat.get(parameter)));
            }
        }
        Ok(Cow::Owned(self.tensor(name)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?))
    }
}

impl Moments {
    /// Those that a chain of tensors saved; zeros where it saved none. The tensors are taken out one by one, so that what
    /// is restored is not held twice; all of them or, if one does not fit, none.
    fn from_tensors(state: &mut Tensors, like: &Flat) -> Result<Self> {
        let step = match state.get("step") {
            Some(step) => step.to_vec1::<u32>()?.first().copied().unwrap_or(0),
            None => 0,
        };
        let layout = like.layout();
        for (kind, name) in layout.names().flat_map(|name| [("m", name), ("v", name)]) {
            let (key, shape) = (format!("{kind}.{name}"), layout.shape(name).unwrap_or_default());
            if let Some(saved) = state.get(&key).filter(|saved| saved.dims() != shape) {
                let problem = format!("has shape {:?}; wanted {shape:?}", saved.dims());
                return Err(EngineError::State { name: key, problem });
            }
        }
        let mut moments = Self { step, m: Flat::fresh(layout), v: Flat::fresh(layout) };
        for (kind, flat) in [("m", &mut moments.m), ("v", &mut moments.v)] {
            for name in layout.names() {
                if let Some(saved) = state.remove(&format!("{kind}.{name}")) {
                    flat.get_mut(name).copy_from_slice(&saved.flatten_all()?.to_vec1::<f32>()?);
                }
            }
        }
        state.clear();
        trim_heap();
        Ok(moments)
    }
}
