//! The keys and values of one rollout.
//!
//! Before: [`super::Policy::extend`] computes them. After: later tokens attend to them. Each row has its own length
//! and its own memory, so no row is padded to another's length.

use candle_core::{DType, Result, Tensor};

use super::Policy;

/// Keys and values of one sequence so far, with room for more.
pub struct KvRow {
    /// For each layer keys and values, both `(kv_heads, capacity, head_dim)`.
    pub(super) layers: Vec<(Tensor, Tensor)>,
    pub(super) length: usize,
    capacity: usize,
}

impl KvRow {
    /// An empty row with room for `capacity` tokens, f32, on the policy's device.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn new(policy: &Policy, capacity: usize) -> Result<Self> {
        let config = policy.config();
        let shape = (config.num_key_value_heads, capacity, config.head_dim);
        let layers = (0..config.num_hidden_layers)
            .map(|_| {
                let zeros = || Tensor::zeros(shape, DType::F32, policy.device());
                Ok((zeros()?, zeros()?))
            })
            .collect::<Result<_>>()?;
        Ok(Self { layers, length: 0, capacity })
    }

    /// Tokens held.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it holds no token yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
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
        let copy = |x: &Tensor| x.copy();
        let layers = self.layers.iter().map(|(k, v)| Ok((copy(k)?, copy(v)?))).collect::<Result<_>>()?;
        Ok(Self { layers, length: self.length, capacity: self.capacity })
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
