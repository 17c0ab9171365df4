//! Scales each gradient by its own history.

use candle_core::Tensor;

use super::{Context, Transform};
use crate::{EngineError, Result, Tensors};

/// m̂ / (√v̂ + ε) with bias-corrected moments m and v. State: `step`, and `m.` and `v.` before each name.
///
/// # Source
/// Kingma & Ba, arXiv:1412.6980, algorithm 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScaleByAdam {
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε.
    pub epsilon: f64,
}

impl Transform for ScaleByAdam {
    fn apply(&self, grads: Tensors, state: &mut Tensors, _: &Context<'_>) -> Result<Tensors> {
        let step = match state.get("step") {
            Some(step) => step.to_vec1::<u32>()?.first().copied().unwrap_or(0) + 1,
            None => 1,
        };
        let correct = |beta: f64| 1.0 / (1.0 - beta.powi(step as i32));
        let (correct1, correct2) = (correct(self.beta1), correct(self.beta2));
        let mut changes = Tensors::new();
        for (name, grad) in grads {
            let mut moment = |prefix: &str, beta: f64, now: Tensor| -> Result<Tensor> {
                let key = format!("{prefix}.{name}");
                let new = match state.remove(&key) {
                    Some(old) if old.dims() != now.dims() => {
                        let problem = format!("has shape {:?}; wanted {:?}", old.dims(), now.dims());
                        return Err(EngineError::State { name: key, problem });
                    }
                    // restored state comes from a file, hence on the CPU
                    Some(old) => ((old.to_device(now.device())? * beta)? + (now * (1.0 - beta))?)?,
                    None => (now * (1.0 - beta))?,
                };
                state.insert(key, new.clone());
                Ok(new)
            };
            let m = moment("m", self.beta1, grad.clone())?;
            let v = moment("v", self.beta2, grad.sqr()?)?;
            let root = ((v * correct2)?.sqrt()? + self.epsilon)?;
            changes.insert(name, ((m * correct1)? / root)?);
        }
        if let Some(change) = changes.values().next() {
            state.insert("step".into(), Tensor::new(&[step], change.device())?);
        }
        Ok(changes)
    }
}
