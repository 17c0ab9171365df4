//! Candle's operations as the body of a policy.

use std::borrow::Cow;
use std::collections::BTreeMap;

use candle_core::{DType, Result as CandleResult, Tensor};

use super::{Composed, ComposedTrace};
use crate::kernels::Buffer;
use crate::model::body::{Body, ForwardTrace, Hidden, RowDerivatives};
use crate::model::cache::{RowBody, TensorRow};
use crate::model::error::Result;
use crate::model::grads::GradsBody;
use crate::model::policy::{Compute, PassEnd, Recompute, Scores, Targets};
use crate::model::{KvRow, ModelError, RowGrads, Sequences};

impl Body for Composed {
    fn compute(&self) -> Compute {
        Compute::Composed
    }

    fn copy(&self) -> Result<Box<dyn Body>> {
        Ok(Box::new(Composed::new(self.config.clone(), Body::tensors(self)?, &self.device)?))
    }

    fn tensors(&self) -> CandleResult<BTreeMap<String, Tensor>> {
        let weights = self.weights().iter();
        weights.map(|(name, var)| Ok((name.clone(), var.as_detached_tensor().copy()?))).collect()
    }

    fn tensor(&self, name: &str) -> Option<CandleResult<Tensor>> {
        self.weights().get(name).map(|var| Ok(var.as_detached_tensor()))
    }

    fn numbers(&self, name: &str) -> Option<CandleResult<Cow<'_, [f32]>>> {
        let numbers = |tensor: Tensor| Ok(Cow::Owned(tensor.flatten_all()?.to_vec1()?));
        self.weights().get(name).map(|var| numbers(var.as_detached_tensor()))
    }

    fn set(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, tensor) in tensors {
            self.weights()[name].set(&tensor.to_device(&self.device)?)?;
        }
        Ok(())
    }

    fn kv_bytes(&self, tokens: usize) -> usize {
        8 * self.config.num_hidden_layers * self.config.key_value_size() * tokens
    }

    fn row(&self, capacity: usize) -> CandleResult<RowBody> {
        Ok(RowBody::Tensors(TensorRow::new(&self.config, capacity, &self.device)?))
    }

    fn extend(&self, rows: &mut [(&mut KvRow, &[u32])], end: PassEnd) -> Result<Hidden> {
        let mut tensors = Vec::with_capacity(rows.len());
        for (row, new) in rows.iter_mut() {
            match &mut row.body {
                RowBody::Tensors(row) => tensors.push((row, *new)),
                RowBody::Slab(_) => return Err(ModelError::Foreign),
            }
        }
        Ok(Hidden::new(Composed::extend(self, &mut tensors, end)?))
    }

    fn logits(&self, hidden: &Hidden, places: &[u32]) -> Result<Buffer> {
        let places = Tensor::new(places, &self.device)?;
        let logits = Composed::logits(self, &hidden.of::<Tensor>()?.index_select(&places, 0)?)?;
        Ok(Buffer::from_slice(&logits.flatten_all()?.to_vec1::<f32>()?))
    }

    fn forward(
        &self,
        sequences: &Sequences,
        keep: Option<Recompute>,
    ) -> Result<(Hidden, Option<ForwardTrace>)> {
        if keep.is_none() {
            return Ok((Hidden::new(self.hidden(sequences)?), None));
        }
        let (trace, hidden) = self.trace(sequences)?;
        Ok((Hidden::new(hidden), Some(ForwardTrace::new(trace))))
    }

    fn score(&self, hidden: &Hidden, targets: &Targets<'_>) -> Result<Scores> {
        let places = Tensor::new(targets.places, &self.device)?;
        let chosen = hidden.of::<Tensor>()?.index_select(&places, 0)?;
        let tokens = Tensor::new(targets.tokens, &self.device)?;
        let numbers = |x: Tensor| x.to_dtype(DType::F32)?.to_vec1::<f32>();
        let [log_probs, entropy, squares] = self.log_probs(&chosen, &tokens, targets.temperature)?;
        Ok(Scores {
            log_probs: numbers(log_probs)?,
            entropy: numbers(entropy)?,
            squares: numbers(squares)?,
            rows: Vec::new(),
        })
    }

    fn backward(
        &self,
        trace: ForwardTrace,
        hidden: &Hidden,
        targets: &Targets<'_>,
        _: &Scores,
        (d_log_probs, d_entropy): (&[f32], &[f32]),
        grads: &mut GradsBody,
    ) -> Result<()> {
        let (trace, hidden) = (trace.take::<ComposedTrace>()?, hidden.of::<Tensor>()?);
        let GradsBody::Tensors(grads) = grads else { return Err(ModelError::Foreign) };
        let places = Tensor::new(targets.places, &self.device)?;
        let tokens = Tensor::new(targets.tokens, &self.device)?;
        let d_log_probs = Tensor::new(d_log_probs, &self.device)?;
        let d_entropy = match d_entropy {
            [] => None,
            d_entropy => Some(Tensor::new(d_entropy, &self.device)?),
        };
        let chosen = hidden.index_select(&places, 0)?;
        let d_chosen = self.log_probs_backward(
            &chosen,
            &tokens,
            targets.temperature,
            (&d_log_probs, d_entropy.as_ref()),
            grads,
        )?;
        let d_hidden = hidden.zeros_like()?.index_add(&places, &d_chosen, 0)?;
        Composed::backward(self, trace, &d_hidden, grads)?;
        Ok(())
    }

    fn backward_rows(
        &self,
        trace: ForwardTrace,
        hidden: &Hidden,
        _: &Targets<'_>,
        _: &Scores,
        _: &RowDerivatives<'_>,
    ) -> Result<Option<RowGrads>> {
        trace.take::<ComposedTrace>()?;
        hidden.of::<Tensor>()?;
        Ok(None)
    }

    fn head_norms(
        &self,
        hidden: &Hidden,
        targets: &Targets<'_>,
        _: &Scores,
        scored: &[usize],
    ) -> Result<Vec<f64>> {
        let places = Tensor::new(targets.places, &self.device)?;
        let chosen = hidden.of::<Tensor>()?.index_select(&places, 0)?;
        let tokens = Tensor::new(targets.tokens, &self.device)?;
        let mut first = 0;
        let norm = |count: &usize| {
            let (part, next) = (chosen.narrow(0, first, *count)?, tokens.narrow(0, first, *count)?);
            first += count;
            let ones = Tensor::ones(*count, DType::F32, &self.device)?;
            let mut head = BTreeMap::new();
            self.log_probs_backward(&part, &next, targets.temperature, (&ones, None), &mut head)?;
            let squares = head.values().map(|x| x.sqr()?.sum_all()?.to_scalar::<f32>());
            Ok(f64::from(squares.sum::<CandleResult<f32>>()?))
        };
        scored.iter().map(norm).collect()
    }
}
