//! The keys and values of one rollout.
//!
//! Before: [`super::Policy::extend`] computes them. After: later tokens attend to them. Each row has its own length
//! and its own memory, which grows with it, so no row is padded to another's length. Rows that begin alike share the
//! chunks of their beginning: a group's prompt is held once.

use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Result, Tensor};

use super::{ModelConfig, Policy};
use crate::kernels::Buffer;
use crate::kernels::attention::{KvChunk, KvLayout};

/// Tokens by which a row grows at least, and at most unless it is long.
const GROWTH: std::ops::RangeInclusive<usize> = 64..=512;
/// Bytes by which it should grow: many small chunks are slower to attend to than few large ones.
const GROWTH_BYTES: usize = 1 << 20;

/// Memory of chunks that are not needed any more, for the next ones. What they held stays there: keys behind the last
/// token of a row meet no query, and values there are cleared as far as a product reads them.
#[derive(Default)]
pub(super) struct Spare {
    slabs: Mutex<Vec<Buffer>>,
}

/// Words that may wait for a chunk of their size; beyond it they go back to the system.
const SPARE_WORDS: usize = 32 << 20;

impl Spare {
    fn take(&self, words: usize) -> Buffer {
        let mut slabs = self.slabs.lock().expect("no one panics while holding it");
        let place = slabs.iter().rposition(|slab| slab.len() == words);
        place.map_or_else(|| Buffer::fresh(words), |place| slabs.swap_remove(place))
    }

    fn put(&self, slab: Buffer) {
        if let Ok(mut slabs) = self.slabs.lock() {
            let held: usize = slabs.iter().map(|slab| slab.len()).sum();
            if held + slab.len() <= SPARE_WORDS {
                slabs.push(slab);
            }
        }
    }

    /// Gives it all back to the system.
    pub(super) fn clear(&self) {
        self.slabs.lock().expect("no one panics while holding it").clear();
    }
}

/// Keys and values of one sequence so far, with room for more.
pub struct KvRow {
    pub(super) body: RowBody,
    capacity: usize,
}

/// The beginning of several rows, held once.
#[derive(Clone)]
pub struct KvPrefix {
    body: Arc<RowBody>,
}

pub(super) enum RowBody {
    Slab(SlabRow),
    Tensors(TensorRow),
}

impl KvRow {
    /// An empty row that takes up to `capacity` tokens, where and as the policy computes.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn new(policy: &Policy, capacity: usize) -> Result<Self> {
        Ok(Self { body: policy.row(capacity)?, capacity })
    }

    /// The same for what is to be shared, [`Self::share`], as soon as it holds `length` tokens.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn to_share(policy: &Policy, length: usize) -> Result<Self> {
        let mut row = Self::new(policy, length)?;
        row.cut_at(length);
        Ok(row)
    }

    /// A row that goes on behind a shared beginning and takes up to `capacity` tokens, those of the beginning counted.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn behind(prefix: &KvPrefix, capacity: usize) -> Result<Self> {
        let body = match &*prefix.body {
            RowBody::Slab(row) => RowBody::Slab(SlabRow { inherited: row.shared.len(), ..row.clone() }),
            RowBody::Tensors(row) => RowBody::Tensors(row.grown(capacity)?),
        };
        Ok(Self { body, capacity })
    }

    /// The same, itself to be shared as soon as it holds `length` tokens.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn behind_to_share(prefix: &KvPrefix, length: usize) -> Result<Self> {
        let mut row = Self::behind(prefix, length)?;
        row.cut_at(length);
        Ok(row)
    }

    fn cut_at(&mut self, length: usize) {
        if let RowBody::Slab(row) = &mut self.body {
            row.cut = Some(length);
        }
    }

    /// What is held so far, as the beginning of other rows. With own kernels a row made by [`Self::to_share`] is shared but
    /// for fewer tokens than [`crate::kernels::Kernel::terms`], which every row behind it copies; of another row whole
    /// chunks are. Elsewhere every row has a copy of all of it.
    pub fn share(mut self) -> KvPrefix {
        if let RowBody::Slab(row) = &mut self.body {
            row.share();
        }
        KvPrefix { body: Arc::new(self.body) }
    }

    /// Tokens held.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether it holds no token yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens that it takes at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all tokens behind the first `length`; does nothing if it holds fewer.
    ///
    /// # Panics
    /// If tokens of a shared beginning would go.
    pub fn truncate(&mut self, length: usize) {
        match &mut self.body {
            RowBody::Slab(row) => row.truncate(length),
            RowBody::Tensors(row) => row.length = row.length.min(length),
        }
    }

    /// Bytes of its own memory, that of a shared beginning not counted.
    pub fn own_bytes(&self) -> usize {
        self.body.own_bytes()
    }

    /// Bytes that it would take for `more` tokens beyond what it has.
    pub fn growth_bytes(&self, more: usize) -> usize {
        match &self.body {
            RowBody::Slab(row) => row.growth(more, self.capacity).map_or(0, |tokens| row.bytes(tokens)),
            RowBody::Tensors(_) => 0,
        }
    }
}

impl KvPrefix {
    /// Tokens held.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether it holds no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of its memory, that of a prefix it goes on behind not counted.
    pub fn own_bytes(&self) -> usize {
        match &*self.body {
            RowBody::Slab(row) => {
                let shared = row.shared.iter().skip(row.inherited).map(|chunk| 4 * chunk.slab.len());
                shared.sum::<usize>() + row.own_bytes()
            }
            RowBody::Tensors(row) => row.bytes(),
        }
    }
}

impl RowBody {
    fn len(&self) -> usize {
        match self {
            Self::Slab(row) => row.length,
            Self::Tensors(row) => row.length,
        }
    }

    fn own_bytes(&self) -> usize {
        match self {
            Self::Slab(row) => row.own_bytes(),
            Self::Tensors(row) => row.bytes(),
        }
    }
}

/// Panels of keys and values of some neighbouring tokens, layer after layer.
struct Chunk {
    layout: KvLayout,
    slab: Buffer,
    spare: Arc<Spare>,
    /// Tokens that it takes at most.
    limit: usize,
    length: usize,
}

impl Clone for Chunk {
    fn clone(&self) -> Self {
        let mut slab = self.spare.take(self.slab.len());
        slab.copy_from_slice(&self.slab);
        Self { slab, spare: self.spare.clone(), ..*self }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.spare.put(std::mem::replace(&mut self.slab, Buffer::new(0)));
    }
}

impl Chunk {
    fn layer(&self, layer: usize) -> KvChunk<'_> {
        let words = self.layout.words();
        KvChunk { layout: &self.layout, slab: &self.slab[layer * words..][..words], tokens: self.length }
    }
}

/// Chunks that other rows have too, then chunks of its own.
#[derive(Clone)]
pub(super) struct SlabRow {
    /// A layout of the model's, for chunks to be made.
    layout: KvLayout,
    layers: usize,
    spare: Arc<Spare>,
    shared: Vec<Arc<Chunk>>,
    /// Shared chunks that it was given.
    inherited: usize,
    own: Vec<Chunk>,
    /// Where a chunk has to end, so that what is before can be shared.
    cut: Option<usize>,
    pub(super) length: usize,
}

impl SlabRow {
    pub(super) fn new(layout: KvLayout, layers: usize, spare: Arc<Spare>) -> Self {
        let (shared, own) = (Vec::new(), Vec::new());
        Self { layout, layers, spare, shared, inherited: 0, own, cut: None, length: 0 }
    }

    /// Layers that it has room for.
    pub(super) fn layers(&self) -> usize {
        self.layers
    }

    /// How it lies, whatever its capacity.
    pub(super) fn layout(&self) -> KvLayout {
        self.layout
    }

    fn bytes(&self, tokens: usize) -> usize {
        4 * self.layers * self.layout.with_capacity(tokens).words()
    }

    fn own_bytes(&self) -> usize {
        self.own.iter().map(|chunk| 4 * chunk.slab.len()).sum()
    }

    /// Tokens that fit into the chunks that are there.
    fn room(&self) -> usize {
        self.own.iter().map(|chunk| chunk.limit - chunk.length).sum()
    }

    /// Tokens of the next chunk, if one is needed for `more` tokens. `most` bounds the whole row.
    fn growth(&self, more: usize, most: usize) -> Option<usize> {
        let missing = more.checked_sub(self.room()).filter(|missing| *missing > 0)?;
        let own: usize = self.own.iter().map(|chunk| chunk.limit).sum();
        let usual = (64 * GROWTH_BYTES / self.bytes(64).max(1)).clamp(*GROWTH.start(), *GROWTH.end());
        Some(missing.max(usual.max(own / 4).min(most.saturating_sub(self.length + self.room()))))
    }

    /// Makes room for `more` tokens. `most` bounds the whole row.
    pub(super) fn reserve(&mut self, more: usize, most: usize) {
        let terms = self.layout.kernel().terms();
        while let Some(tokens) = self.growth(more, most) {
            // of what is to be shared all whole terms go into one chunk, and the others into the next
            let begin = self.length + self.room();
            let cut = self.cut.map(|cut| cut / terms * terms).filter(|cut| *cut > begin);
            let limit = cut.map(|cut| cut - begin);
            let layout = self.layout.with_capacity(limit.unwrap_or(tokens));
            let slab = self.spare.take(self.layers * layout.words());
            let spare = self.spare.clone();
            self.own.push(Chunk {
                layout,
                slab,
                spare,
                limit: limit.unwrap_or(layout.capacity()),
                length: 0,
            });
        }
    }

    /// Writes keys and values of `count` new tokens behind those that are there, for which [`Self::reserve`] has made
    /// room. [`Self::advance`] counts them when all layers have them.
    pub(super) fn write(
        &mut self,
        layer: usize,
        count: usize,
        (k, k_stride): (&[f32], usize),
        (v, v_stride): (&[f32], usize),
    ) {
        let mut done = 0;
        for chunk in &mut self.own {
            let fit = (chunk.limit - chunk.length).min(count - done);
            if fit > 0 {
                let words = chunk.layout.words();
                let slab = &mut chunk.slab[layer * words..][..words];
                let (k, v) = (&k[done * k_stride..], &v[done * v_stride..]);
                chunk.layout.write(slab, chunk.length, fit, k, k_stride, v, v_stride);
                done += fit;
            }
        }
        assert_eq!(done, count, "room was made for all");
    }

    /// Counts new tokens as held.
    pub(super) fn advance(&mut self, count: usize) {
        let mut left = count;
        for chunk in &mut self.own {
            let fit = (chunk.limit - chunk.length).min(left);
            chunk.length += fit;
            left -= fit;
        }
        self.length += count;
    }

    /// The chunks of a layer. The last ones may hold more tokens than are counted, while a pass is under way.
    pub(super) fn chunks(&self, layer: usize) -> impl Iterator<Item = KvChunk<'_>> {
        let shared = self.shared.iter().map(move |chunk| chunk.layer(layer));
        let own = self.own.iter().map(move |chunk| KvChunk { tokens: chunk.limit, ..chunk.layer(layer) });
        shared.chain(own)
    }

    /// Makes the chunks that can be shared shared.
    fn share(&mut self) {
        let terms = self.layout.kernel().terms();
        let whole = self
            .own
            .iter()
            .take_while(|chunk| chunk.length == chunk.limit && chunk.length.is_multiple_of(terms));
        let whole = whole.count();
        self.shared.extend(self.own.drain(..whole).map(Arc::new));
        self.cut = None;
    }

    fn truncate(&mut self, length: usize) {
        let shared: usize = self.shared.iter().map(|chunk| chunk.length).sum();
        assert!(length >= shared, "the first {shared} tokens are shared");
        if length >= self.length {
            return;
        }
        let mut begin = shared;
        for chunk in &mut self.own {
            let kept = chunk.length.min(length.saturating_sub(begin));
            if kept < chunk.length {
                chunk.length = kept;
                for slab in chunk.slab.chunks_exact_mut(chunk.layout.words().max(1)) {
                    chunk.layout.forget(slab, kept);
                }
            }
            begin += chunk.limit;
        }
        self.length = length;
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

    /// A copy with room for so many tokens.
    fn grown(&self, capacity: usize) -> Result<Self> {
        let copy = |x: &Tensor| -> Result<Tensor> {
            let (heads, _, width) = x.dims3()?;
            let to = Tensor::zeros((heads, capacity, width), x.dtype(), x.device())?;
            if self.length > 0 {
                to.slice_set(&x.narrow(1, 0, self.length)?.contiguous()?, 1, 0)?;
            }
            Ok(to)
        };
        let layers = self.layers.iter().map(|(k, v)| Ok((copy(k)?, copy(v)?))).collect::<Result<_>>()?;
        Ok(Self { layers, length: self.length })
    }

    fn bytes(&self) -> usize {
        self.layers.iter().map(|(k, v)| 4 * (k.elem_count() + v.elem_count())).sum()
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
