//! What computes a policy: its weights where and as a device likes them, and the passes over them.
//!
//! Before: [`super::Policy`] has checked tokens and counts. After: hidden states, scores and gradients. A body is one
//! implementation of [`Body`] and one arm in [`super::Policy::with_compute`]. What it makes for its own later use, hidden states and
//! traces, is opaque to everything else; what is another body's is refused ([`ModelError::Foreign`]).

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;

use candle_core::{Result as CandleResult, Tensor};

use super::cache::RowBody;
use super::error::Result;
use super::flat::{Flat, FlatLayout};
use super::fused::RowGrads;
use super::grads::GradsBody;
use super::policy::{Compute, PassEnd, Recompute, Scores, Targets};
use super::{KvRow, ModelError, Sequences};
use crate::kernels::Buffer;

/// Hidden states of some tokens, `(tokens, hidden)`, where their body has them.
pub(super) trait States: Any + Send + Sync {
    /// As numbers, row by row.
    fn numbers(&self) -> Result<Vec<f32>>;
}

impl States for Buffer {
    fn numbers(&self) -> Result<Vec<f32>> {
        Ok(self.to_vec())
    }
}

impl States for Tensor {
    fn numbers(&self) -> Result<Vec<f32>> {
        Ok(self.flatten_all()?.to_vec1()?)
    }
}

/// Final hidden states of some tokens, after the last norm.
pub struct Hidden(Box<dyn States>);

impl Hidden {
    pub(super) fn new(states: impl States) -> Self {
        Self(Box::new(states))
    }

    /// The states of a body that has them as a `T`.
    pub(super) fn of<T: States>(&self) -> Result<&T> {
        let states: &dyn Any = &*self.0;
        states.downcast_ref().ok_or(ModelError::Foreign)
    }

    /// Hidden states as numbers, `(tokens, hidden)` row by row.
    ///
    /// # Errors
    /// If they cannot be brought to the CPU.
    pub fn numbers(&self) -> Result<Vec<f32>> {
        self.0.numbers()
    }
}

/// What a forward pass keeps for its backward.
pub struct ForwardTrace(Box<dyn Any + Send + Sync>);

impl ForwardTrace {
    pub(super) fn new(trace: impl Any + Send + Sync) -> Self {
        Self(Box::new(trace))
    }

    /// The trace of a body that keeps a `T`.
    pub(super) fn take<T: Any>(self) -> Result<T> {
        self.0.downcast().map(|trace| *trace).map_err(|_| ModelError::Foreign)
    }
}

/// Weights, and the passes over them. Its caller has checked that tokens are in the vocabulary, that rows have room, and that
/// counts add up.
pub(super) trait Body: Send + Sync {
    /// How it computes.
    fn compute(&self) -> Compute;

    /// The same weights once more.
    fn copy(&self) -> Result<Box<dyn Body>>;

    /// A copy of the weights under their names, f32.
    fn tensors(&self) -> CandleResult<BTreeMap<String, Tensor>>;

    /// A weight by its name, if there is one of it.
    fn tensor(&self, name: &str) -> Option<CandleResult<Tensor>>;

    /// Its numbers, in row-major order.
    fn numbers(&self, name: &str) -> Option<CandleResult<Cow<'_, [f32]>>>;

    /// Gives some weights new values, of the same names and shapes.
    fn set(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()>;

    /// How weights and gradients lie in one line, where they do.
    fn layout(&self) -> Option<&std::sync::Arc<FlatLayout>> {
        None
    }

    /// Changes weights that lie in one line.
    fn update(&mut self, f: &mut dyn FnMut(&mut Flat)) -> Result<()> {
        let _ = f;
        Err(ModelError::Foreign)
    }

    /// A gradient of zeros.
    fn zero_grads(&self) -> GradsBody {
        GradsBody::Tensors(BTreeMap::new())
    }

    /// Gives the memory of rows that are gone back to the system.
    fn forget_rows(&self) {}

    /// Bytes of keys and values of so many neighbouring tokens.
    fn kv_bytes(&self, tokens: usize) -> usize;

    /// An empty row for up to so many tokens.
    fn row(&self, capacity: usize) -> CandleResult<RowBody>;

    /// A pass over new tokens, row by row; keys and values are added to the rows.
    fn extend(&self, rows: &mut [(&mut KvRow, &[u32])], end: PassEnd) -> Result<Hidden>;

    /// See [`super::Policy::logits`].
    fn logits(&self, hidden: &Hidden, places: &[u32]) -> Result<Buffer>;

    /// See [`super::Policy::forward`]; a trace if `keep` says what of it.
    fn forward(
        &self,
        sequences: &Sequences,
        keep: Option<Recompute>,
    ) -> Result<(Hidden, Option<ForwardTrace>)>;

    /// See [`super::Policy::score`].
    fn score(&self, hidden: &Hidden, targets: &Targets<'_>) -> Result<Scores>;

    /// See [`super::Policy::backward`].
    fn backward(
        &self,
        trace: ForwardTrace,
        hidden: &Hidden,
        targets: &Targets<'_>,
        scores: &Scores,
        derivatives: (&[f32], &[f32]),
        grads: &mut GradsBody,
    ) -> Result<()>;

    /// See [`super::Policy::backward_rows`]; `None` where rows go through [`Self::backward`] one at a time.
    fn backward_rows(
        &self,
        trace: ForwardTrace,
        hidden: &Hidden,
        targets: &Targets<'_>,
        scores: &Scores,
        rows: &RowDerivatives<'_>,
    ) -> Result<Option<RowGrads>>;

    /// See [`super::Policy::head_norms`].
    fn head_norms(
        &self,
        hidden: &Hidden,
        targets: &Targets<'_>,
        scores: &Scores,
        scored: &[usize],
    ) -> Result<Vec<f64>>;

    /// See [`super::Policy::add_rows`].
    fn add_rows(&self, rows: &RowGrads, factors: &[f32], grads: &mut GradsBody) -> Result<()> {
        let _ = (rows, factors, grads);
        Err(ModelError::Foreign)
    }
}

/// What a backward of single rows takes beside a forward's results.
#[derive(Debug, Clone, Copy)]
pub struct RowDerivatives<'a> {
    /// ∂L/∂ln π of every target.
    pub d_log_probs: &'a [f32],
    /// Targets of every row.
    pub scored: &'a [usize],
    /// Whether [`super::Policy::add_rows`] will want the rows.
    pub keep: bool,
}
