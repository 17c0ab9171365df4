//! Own kernels on the CPU as the body of a policy.

use std::borrow::Cow;
use std::collections::BTreeMap;

use candle_core::{Result as CandleResult, Tensor};

use super::{Fused, FusedTrace, RowGrads};
use crate::kernels::Buffer;
use crate::model::body::{Body, ForwardTrace, Hidden, RowDerivatives};
use crate::model::cache::RowBody;
use crate::model::error::Result;
use crate::model::flat::{Flat, FlatLayout};
use crate::model::grads::GradsBody;
use crate::model::policy::{Compute, PassEnd, Recompute, Scores, Targets};
use crate::model::{KvRow, ModelError, Sequences};

impl Fused {
    /// The gradient, if it is one of this body's weights.
    fn own<'a>(&self, grads: &'a mut GradsBody) -> Result<&'a mut Flat> {
        match grads {
            GradsBody::Flat(grads) if grads.layout() == self.weights().layout() => Ok(grads),
            _ => Err(ModelError::Foreign),
        }
    }
}

impl Body for Fused {
    fn compute(&self) -> Compute {
        Compute::Fused(self.kernel())
    }

    fn copy(&self) -> Result<Box<dyn Body>> {
        Ok(Box::new(Fused::copy(self)))
    }

    fn tensors(&self) -> CandleResult<BTreeMap<String, Tensor>> {
        self.weights().tensors()
    }

    fn tensor(&self, name: &str) -> Option<CandleResult<Tensor>> {
        self.weights().has(name).then(|| self.weights().tensor(name))
    }

    fn numbers(&self, name: &str) -> Option<CandleResult<Cow<'_, [f32]>>> {
        self.weights().has(name).then(|| Ok(Cow::Borrowed(self.weights().get(name))))
    }

    fn set(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        Fused::set(self, tensors)
    }

    fn layout(&self) -> Option<&std::sync::Arc<FlatLayout>> {
        Some(self.weights().layout())
    }

    fn update(&mut self, f: &mut dyn FnMut(&mut Flat)) -> Result<()> {
        Fused::update(self, f);
        Ok(())
    }

    fn zero_grads(&self) -> GradsBody {
        GradsBody::Flat(Flat::zeros(self.weights().layout()))
    }

    fn forget_rows(&self) {
        Fused::forget_rows(self);
    }

    fn kv_bytes(&self, tokens: usize) -> usize {
        Fused::kv_bytes(self, tokens)
    }

    fn row(&self, _: usize) -> CandleResult<RowBody> {
        Ok(RowBody::Slab(Fused::row(self)))
    }

    fn extend(&self, rows: &mut [(&mut KvRow, &[u32])], end: PassEnd) -> Result<Hidden> {
        let mut slabs = Vec::with_capacity(rows.len());
        for (row, new) in rows.iter_mut() {
            let most = row.capacity();
            match &mut row.body {
                RowBody::Slab(slab) if self.made(slab) => {
                    slab.reserve(new.len(), most);
                    slabs.push((slab, *new));
                }
                _ => return Err(ModelError::Foreign),
            }
        }
        Ok(Hidden::new(Fused::extend(self, &mut slabs, end)?))
    }

    fn logits(&self, hidden: &Hidden, places: &[u32]) -> Result<Buffer> {
        Ok(Fused::logits(self, hidden.of::<Buffer>()?, places))
    }

    fn forward(
        &self,
        sequences: &Sequences,
        keep: Option<Recompute>,
    ) -> Result<(Hidden, Option<ForwardTrace>)> {
        let (hidden, trace) = Fused::forward(self, sequences, keep)?;
        Ok((Hidden::new(hidden), trace.map(ForwardTrace::new)))
    }

    fn score(&self, hidden: &Hidden, targets: &Targets<'_>) -> Result<Scores> {
        Ok(Fused::score(self, hidden.of::<Buffer>()?, targets))
    }

    fn backward(
        &self,
        trace: ForwardTrace,
        hidden: &Hidden,
        targets: &Targets<'_>,
        scores: &Scores,
        derivatives: (&[f32], &[f32]),
        grads: &mut GradsBody,
    ) -> Result<()> {
        let (trace, hidden, grads) = (trace.take::<FusedTrace>()?, hidden.of::<Buffer>()?, self.own(grads)?);
        let d_hidden = self.head_backward(hidden, targets, &scores.rows, derivatives, grads);
        Fused::backward(self, trace, d_hidden, grads);
        Ok(())
    }

    fn backward_rows(
        &self,
        trace: ForwardTrace,
        hidden: &Hidden,
        targets: &Targets<'_>,
        scores: &Scores,
        rows: &RowDerivatives<'_>,
    ) -> Result<Option<RowGrads>> {
        let (trace, hidden) = (trace.take::<FusedTrace>()?, hidden.of::<Buffer>()?);
        Ok(Some(Fused::backward_rows(self, trace, hidden, targets, &scores.rows, rows)))
    }

    fn head_norms(
        &self,
        hidden: &Hidden,
        targets: &Targets<'_>,
        scores: &Scores,
        scored: &[usize],
    ) -> Result<Vec<f64>> {
        Ok(Fused::head_norms(self, hidden.of::<Buffer>()?, targets, &scores.rows, scored))
    }

    fn add_rows(&self, rows: &RowGrads, factors: &[f32], grads: &mut GradsBody) -> Result<()> {
        rows.add(self.kernel(), factors, self.own(grads)?);
        Ok(())
    }
}
