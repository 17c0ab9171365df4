//! The keys and values of one rollout.
//!
//! Before: [`super::Policy::extend`] computes them. After: later tokens attend to them. Each row has its own length
//! and its own memory, so no row is padded to another's length.

use candle_core::{DType, Device, Result, Tensor};

use super::{ModelConfig, Policy};
use crate::kernels::Buffer;
use crate::kernels::attention::KvLayout;

/// Keys and values of one sequence so far, with room for more.
pub struct KvRow {
    pub(super) body: RowBody,
    capacity: usize,
}

pub(super) enum RowBody {
    Slab(SlabRow),
    Tensors(TensorRow),
}

impl KvRow {
    /// An empty row with room for `capacity` tokens, where and as the policy computes.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn new(policy: &Policy, capacity: usize) -> Result<Self> {
        Ok(Self { body: policy.row(capacity)?, capacity })
    }

    /// Tokens held.
    pub fn len(&self) -> usize {
        match &self.body {
            RowBody::Slab(row) => row.length,
            RowBody::Tensors(row) => row.length,
        }
    }

    /// Whether it holds no token yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens it has room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// A copy that goes its own way: how the rollouts of a group begin after their prompt.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn fork(&self) -> Result<Self> {
        let body = match &self.body {
            RowBody::Slab(row) => RowBody::Slab(row.clone()),
            RowBody::Tensors(row) => RowBody::Tensors(row.fork()?),
        };
        Ok(Self { body, capacity: self.capacity })
    }
}

/// Panels of keys and values, layer after layer.
#[derive(Clone)]
pub(super) struct SlabRow {
    pub(super) layout: KvLayout,
    pub(super) slab: Buffer,
    pub(super) length: usize,
}

impl SlabRow {
    pub(super) fn new(layout: KvLayout, layers: usize) -> Self {
        Self { layout, slab: Buffer::fresh(layers * layout.words()), length: 0 }
    }

    /// Layers that it has room for.
    pub(super) fn layers(&self) -> usize {
        self.slab.len() / self.layout.words().max(1)
    }

    pub(super) fn layer(&self, layer: usize) -> &[f32] {
        &self.slab[layer * self.layout.words()..][..self.layout.words()]
    }

    pub(super) fn layer_mut(&mut self, layer: usize) -> &mut [f32] {
        &mut self.slab[layer * self.layout.words()..][..self.layout.words()]
    }
}

/// For each layer keys and values, both `(kv_heads, capacity, head_dim)`.
pub(super) struct TensorRow {
    layers: Vec<(Tensor, Tensor)>,
    pub(super) length: usize,
}

impl TensorRow {
    pub(super) fn new(config: &ModelConfig, capacity: usize, device: &Device) -> Result<Self> {
        let shape = (config.num_key_value_heads, capacity, config.head_dim);
        let layers = (0..config.num_hidden_layers)
            .map(|_| {
                let zeros = || Tensor::zeros(shape, DType::F32, device);
                Ok((zeros()?, zeros()?))
            })
            .collect::<Result<_>>()?;
        Ok(Self { layers, length: 0 })
    }

    fn fork(&self) -> Result<Self> {
        let copy = |x: &Tensor| x.copy();
        let layers = self.layers.iter().map(|(k, v)| Ok((copy(k)?, copy(v)?))).collect::<Result<_>>()?;
        Ok(Self { layers, length: self.length })
    }

    /// Keys and values of the first `length` tokens in a layer.
    pub(super) fn upto(&self, layer: usize, length: usize) -> Result<(Tensor, Tensor)> {
        let (k, v) = &self.layers[layer];
        Ok((k.narrow(1, 0, length)?, v.narrow(1, 0, length)?))
    }

    /// Writes the keys and values of new tokens, both `(new, kv_heads, head_dim)`, behind those that are there.
    pub(super) fn write(&mut self, layer: usize, k: &Tensor, v: &Tensor) -> Result<()> {
        let (keys, values) = &self.layers[layer];
        keys.slice_set(&k.transpose(0, 1)?.contiguous()?, 1, self.length)?;
        values.slice_set(&v.transpose(0, 1)?.contiguous()?, 1, self.length)
    }
}
