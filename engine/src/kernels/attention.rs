//! Causal attention with shared key heads, for whole sequences and for new tokens behind cached ones.
//!
//! Before: queries, keys and values of some tokens. After: for each query the mean of the values, weighted by softmax.
//! There is one routine: scores of a block of queries against all keys that any of them may see, a softmax row by row,
//! and the product with the values. It runs over keys as rows (training) or over keys that a [`KvLayout`] holds in
//! panels (sampling), and gives a query the same bits either way, however many queries are taken together. Scores live
//! as long as a block of queries; the backward computes them again.
//!
//! Cached keys lie in chunks, and sequences with a common beginning share its chunks: their queries are multiplied with
//! them together. The softmax runs over the whole row of scores and each sum over values goes on from chunk to chunk in the
//! order of the tokens, so that neither cutting nor sharing changes a bit; nothing is merged that was normalised before.
//!
//! # Source
//! Vaswani et al., arXiv:1706.03762; Ainslie et al., arXiv:2305.13245 (grouped queries).
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::buffer::Buffer;
use super::kernel::Kernel;
use super::math::{dot, exp, max, sum, wide};
use super::pack::{PANEL, View, round};
use super::product::{Panels, Start, product, product_with_panels};
use super::rows::Rows;

/// Rows of queries, all heads of a group counted, that are computed together.
const QUERY_ROWS: usize = 112;

/// Scores of neighbours that are taken together because they share keys: more would leave the nearest caches on their way
/// from one product to the softmax to the next product, which costs more than reading keys again.
const SCORES: usize = 32 << 10;

/// How heads lie in a row of queries, keys or values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLayout {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides the query heads.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
}

impl HeadLayout {
    fn shared(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Numbers of all query heads, and of all key heads.
    ///
    /// # Panics
    /// If key heads do not divide the query heads, or so many numbers have no count.
    fn widths(&self) -> (usize, usize) {
        let Self { heads, kv_heads, head_dim } = *self;
        assert!(
            heads > 0 && head_dim > 0 && kv_heads > 0 && heads.is_multiple_of(kv_heads),
            "{heads} query heads of {head_dim} do not share {kv_heads} key heads"
        );
        let wide = heads.checked_mul(head_dim);
        (wide.unwrap_or_else(|| panic!("{heads} heads of {head_dim} are too many")), kv_heads * head_dim)
    }

    fn scale(&self) -> f32 {
        (1.0 / (self.head_dim as f64).sqrt()) as f32
    }

    /// Queries whose rows are taken together.
    fn queries(&self) -> usize {
        (QUERY_ROWS / self.shared()).max(1)
    }
}

/// Keys and values of one sequence in one layer, in panels: those of keys run over the head's numbers, those of values
/// over tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvLayout {
    kernel: Kernel,
    shape: HeadLayout,
    capacity: usize,
}

impl KvLayout {
    /// Room for `capacity` tokens, rounded up to whole panels.
    ///
    /// # Panics
    /// If a layer of it is larger than the address space.
    pub fn new(kernel: Kernel, shape: HeadLayout, capacity: usize) -> Self {
        let words = || {
            let capacity = capacity.checked_next_multiple_of(PANEL)?;
            let width = shape.head_dim.checked_next_multiple_of(PANEL)?;
            // as many for keys as for values, both rounded up
            let most = capacity.checked_mul(width)?.checked_mul(2)?.checked_mul(shape.kv_heads)?;
            (most <= isize::MAX as usize / 4).then_some(capacity)
        };
        match words() {
            Some(capacity) => Self { kernel, shape, capacity },
            None => panic!("keys of {capacity} tokens, {shape:?}, are larger than the address space"),
        }
    }

    /// The same with room for another number of tokens.
    ///
    /// # Panics
    /// As [`Self::new`].
    #[must_use]
    pub fn with_capacity(self, capacity: usize) -> Self {
        Self::new(self.kernel, self.shape, capacity)
    }

    /// For which path.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Tokens that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Makes the places behind the first `length` tokens harmless to them: sums over values are made by whole groups of
    /// [`Kernel::terms`] tokens, where those behind the last token count 0 times, and 0 times NaN or infinity is NaN. `slab`
    /// is that of one layer.
    ///
    /// # Panics
    /// If there are not as many places.
    pub fn forget(&self, slab: &mut [f32], length: usize) {
        assert!(length <= self.capacity && slab.len() >= self.words(), "keys beyond the slab");
        if !length.is_multiple_of(self.kernel.terms()) {
            for head in 0..self.shape.kv_heads {
                let (_, values) = self.head(slab, head);
                self.clear_values(values, length);
            }
        }
    }

    /// Zeros from a token on to the end of the group of [`Kernel::terms`] tokens that are multiplied together.
    fn clear_values(&self, values: &mut [f32], from: usize) {
        let terms = self.kernel.terms();
        if terms == 1 {
            return;
        }
        let (first, end) = (from.div_ceil(2), (from / terms + 1) * terms / 2);
        for panel in values.chunks_exact_mut(self.value_distance()) {
            if !from.is_multiple_of(2) {
                // the token before is the low half
                for word in &mut panel[from / 2 * PANEL..][..PANEL] {
                    *word = f32::from_bits(word.to_bits() & 0xffff);
                }
            }
            panel[first * PANEL..end * PANEL].fill(0.0);
        }
    }

    /// Keys and values of one head.
    fn head<'s>(&self, slab: &'s mut [f32], head: usize) -> (&'s mut [f32], &'s mut [f32]) {
        let words = self.key_words() + self.value_words();
        slab[head * words..][..words].split_at_mut(self.key_words())
    }

    /// Words from one panel of values to the next.
    fn value_distance(&self) -> usize {
        self.kernel.groups(self.capacity) * PANEL
    }

    fn key_words(&self) -> usize {
        self.capacity * self.kernel.groups(self.shape.head_dim)
    }

    fn value_words(&self) -> usize {
        self.shape.head_dim.next_multiple_of(PANEL) * self.kernel.groups(self.capacity)
    }

    /// Words of one layer.
    pub fn words(&self) -> usize {
        self.shape.kv_heads * (self.key_words() + self.value_words())
    }

    /// Writes keys and values of new tokens behind the first `length`. `k` and `v` hold a token every `k_stride` and
    /// `v_stride` numbers, its heads side by side. `slab` is that of one layer, zero before its
    /// first use; later it may hold what an earlier sequence left there. A sequence's tokens are written in order; one that
    /// goes back first says so by [`Self::forget`].
    ///
    /// # Panics
    /// If they do not fit.
    #[expect(clippy::too_many_arguments, reason = "two strided places, where to and how many")]
    pub fn write(
        &self,
        slab: &mut [f32],
        length: usize,
        count: usize,
        k: &[f32],
        k_stride: usize,
        v: &[f32],
        v_stride: usize,
    ) {
        let fits = length.checked_add(count).is_some_and(|end| end <= self.capacity);
        assert!(fits && slab.len() >= self.words(), "keys beyond the slab");
        let (width, bf16) = (self.shape.head_dim, self.kernel.path().is_bf16());
        let key_groups = self.kernel.groups(width);
        let value_distance = self.value_distance();
        for head in 0..self.shape.kv_heads {
            let (keys, values) = self.head(slab, head);
            for token in 0..count {
                let place = length + token;
                // without groups of groups the first of a pair clears its neighbour, see below
                if self.kernel.group_multiple() > 1 && place.is_multiple_of(self.kernel.terms()) {
                    self.clear_values(values, place);
                }
                let k = &k[token * k_stride + head * width..][..width];
                let v = &v[token * v_stride + head * width..][..width];
                let panel = &mut keys[place / PANEL * key_groups * PANEL..][..key_groups * PANEL];
                let lane = place % PANEL;
                if bf16 {
                    for (group, pair) in k.chunks(2).enumerate() {
                        let high = pair.get(1).map_or(0, |x| round(*x));
                        panel[group * PANEL + lane] = f32::from_bits(round(pair[0]) | (high << 16));
                    }
                    for (at, v) in v.iter().enumerate() {
                        let word = &mut values[at / PANEL * value_distance + place / 2 * PANEL + at % PANEL];
                        let (shift, kept) =
                            if place.is_multiple_of(2) { (0, 0) } else { (16, word.to_bits() & 0xffff) };
                        *word = f32::from_bits((round(*v) << shift) | kept);
                    }
                } else {
                    for (group, k) in k.iter().enumerate() {
                        panel[group * PANEL + lane] = *k;
                    }
                    for (at, v) in v.iter().enumerate() {
                        values[at / PANEL * value_distance + place * PANEL + at % PANEL] = *v;
                    }
                }
            }
        }
    }
}

/// A run of a sequence's keys and values in one layer.
#[derive(Clone, Copy)]
pub struct KvChunk<'a> {
    /// How they lie.
    pub layout: &'a KvLayout,
    /// The layer's part of the slab.
    pub slab: &'a [f32],
    /// Tokens it holds. Of all chunks but the last it must be a multiple of [`Kernel::terms`].
    pub tokens: usize,
}

/// The keys and values that some queries look at.
#[derive(Clone, Copy)]
pub enum Keys<'a> {
    /// Rows that begin every `stride` numbers, heads side by side.
    Rows {
        /// The first token's key.
        k: &'a [f32],
        /// Numbers from one key to the next.
        k_stride: usize,
        /// The first token's value.
        v: &'a [f32],
        /// Numbers from one value to the next.
        v_stride: usize,
    },
    /// Panels, chunk behind chunk. Chunks that several segments share are read once for neighbours among them.
    Chunks(&'a [KvChunk<'a>]),
}

impl<'a> Keys<'a> {
    fn chunks(&self) -> &'a [KvChunk<'a>] {
        match self {
            Self::Rows { .. } => &[],
            Self::Chunks(chunks) => chunks,
        }
    }

    /// The chunk of a level, by where it lies.
    fn chunk(&self, level: usize) -> Option<*const f32> {
        self.chunks().get(level).map(|chunk| chunk.slab.as_ptr())
    }
}

/// Queries of one sequence.
pub struct Segment<'a> {
    /// Number of its first query among all queries.
    pub first: usize,
    /// Its queries.
    pub count: usize,
    /// Tokens before the first query: query i sees `base + i + 1` keys.
    pub base: usize,
    /// What they look at.
    pub keys: Keys<'a>,
}

impl Segment<'_> {
    /// The number behind its last query, if it and its keys have the places that are said.
    ///
    /// # Panics
    /// If not.
    fn checked_end(&self, kernel: Kernel, shape: HeadLayout) -> usize {
        let end = self.first.checked_add(self.count).zip(self.base.checked_add(self.count));
        let (end, keys) = end.unwrap_or_else(|| panic!("{} queries from {} on", self.count, self.first));
        if let Keys::Chunks(chunks) = self.keys {
            let mut held = 0usize;
            for chunk in chunks {
                let layout = chunk.layout;
                assert!(
                    layout.kernel == kernel && layout.shape == shape,
                    "{layout:?} is not for {kernel:?}, {shape:?}"
                );
                assert!(
                    chunk.tokens <= layout.capacity && chunk.slab.len() >= layout.words(),
                    "a chunk holds fewer than {} tokens",
                    chunk.tokens
                );
                held = held.saturating_add(chunk.tokens);
            }
            assert!(held >= keys || self.count == 0, "chunks hold {held} tokens, wanted {keys}");
        }
        end
    }
}

/// Some queries of a segment.
struct Part<'a, 's> {
    segment: &'s Segment<'a>,
    queries: std::ops::Range<usize>,
}

impl Part<'_, '_> {
    /// Keys that any of the queries sees.
    fn keys(&self) -> usize {
        self.segment.base + self.queries.end
    }
}

/// One head group of a block of queries: some of one segment's, or those of neighbours that share their first keys.
struct Block<'a, 's> {
    kernel: Kernel,
    shape: HeadLayout,
    kv_head: usize,
    parts: &'s [Part<'a, 's>],
}

impl<'a> Block<'a, '_> {
    fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.queries.len()).sum::<usize>() * self.shape.shared()
    }

    /// Keys that any of the queries sees.
    fn keys(&self) -> usize {
        self.parts.iter().map(Part::keys).max().unwrap_or(0)
    }

    /// Where each row of the block lies among tokens of `stride` numbers.
    fn places(&self, stride: usize) -> impl Iterator<Item = usize> {
        let (shared, width) = (self.shape.shared(), self.shape.head_dim);
        let tokens = self.parts.iter().flat_map(|part| part.queries.clone().map(|q| part.segment.first + q));
        tokens.flat_map(move |token| {
            (0..shared).map(move |head| token * stride + (self.kv_head * shared + head) * width)
        })
    }

    /// For each row the keys that it sees, and the keys that its part sees.
    fn seen(&self) -> impl Iterator<Item = (usize, usize)> {
        let queries = self
            .parts
            .iter()
            .flat_map(|part| part.queries.clone().map(|q| (part.segment.base + q + 1, part.keys())));
        queries.flat_map(|seen| std::iter::repeat_n(seen, self.shape.shared()))
    }

    /// The block's rows, one under another, each times `factor`.
    fn gather(&self, x: &[f32], stride: usize, factor: f32) -> Buffer {
        let width = self.shape.head_dim;
        let mut rows = Buffer::new(self.rows() * width);
        for (place, to) in self.places(stride).zip(rows.chunks_exact_mut(width)) {
            to.iter_mut().zip(&x[place..][..width]).for_each(|(to, from)| *to = from * factor);
        }
        rows
    }

    /// Calls `f` for every run of rows that look at the same chunk: with the rows, the chunk, the number of its first key
    /// and how many of its keys the rows see. Chunks of a row come in order.
    fn for_chunks(&self, mut f: impl FnMut(std::ops::Range<usize>, &KvChunk<'a>, usize, usize)) {
        let levels = self.parts.iter().map(|part| part.segment.keys.chunks().len()).max().unwrap_or(0);
        let mut before = vec![0; self.parts.len()];
        for level in 0..levels {
            let (mut row, mut next) = (0, 0);
            while next < self.parts.len() {
                let place = self.parts[next].segment.keys.chunk(level);
                let same = |part: &Part<'_, '_>| part.segment.keys.chunk(level) == place;
                let end = next + self.parts[next..].iter().take_while(|part| same(part)).count();
                let run = &self.parts[next..end];
                let rows = run.iter().map(|part| part.queries.len()).sum::<usize>() * self.shape.shared();
                if let Some(chunk) = run[0].segment.keys.chunks().get(level) {
                    let keys = run.iter().map(Part::keys).max().unwrap_or(0);
                    let first = before[next];
                    let count = chunk.tokens.min(keys.saturating_sub(first));
                    // queries of a prompt that is being read may end before the chunk begins
                    if count > 0 {
                        // rows that see fewer keys would take the others' scores for weights
                        assert!(
                            run.iter()
                                .zip(&before[next..])
                                .all(|(p, before)| *before == first && p.keys() >= first + count),
                            "a chunk that is shared is whole, and all see all of it"
                        );
                        f(row..row + rows, chunk, first, count);
                    }
                    before[next..end].iter_mut().for_each(|before| *before += chunk.tokens);
                }
                row += rows;
                next = end;
            }
        }
    }

    /// e^(score − max) of every row, `(rows, keys)`, 0 where a query may not look, and one over its sum. What lies beyond
    /// the keys of a row's part is of any value.
    fn weights(&self, q: &[f32], q_stride: usize) -> (Buffer, Vec<f32>) {
        let (rows, keys, width) = (self.rows(), self.keys(), self.shape.head_dim);
        let q = self.gather(q, q_stride, self.shape.scale());
        let mut scores = Buffer::new(rows * keys);
        if let Keys::Rows { k, k_stride, .. } = self.parts[0].segment.keys {
            let right = View::rows(&k[self.kv_head * width..], k_stride).t();
            let left = View::rows(&q, width);
            product(self.kernel, (rows, keys, width), left, right, &mut scores, keys, Start::Zero);
        }
        self.for_chunks(|rows, chunk, first, count| {
            let left = View::rows(&q[rows.start * width..], width);
            let panels = &chunk.slab[self.slab_start(chunk.layout)..];
            let panels = Panels::of(panels, self.kernel.groups(width) * PANEL);
            let to = &mut scores[rows.start * keys + first..];
            product_with_panels(self.kernel, (rows.len(), count, width), left, panels, to, keys, Start::Zero);
        });
        let mut inverse = vec![0f32; rows];
        wide(|| {
            let rows = scores.chunks_exact_mut(keys).zip(&mut inverse);
            for ((scores, inverse), (seen, end)) in rows.zip(self.seen()) {
                let (scores, hidden) = scores[..end].split_at_mut(seen);
                hidden.fill(0.0);
                let max = max(scores, |score| score);
                for score in scores.iter_mut() {
                    *score = exp(*score - max);
                }
                *inverse = 1.0 / sum(scores, |x| x);
            }
        });
        (scores, inverse)
    }

    fn slab_start(&self, layout: &KvLayout) -> usize {
        self.kv_head * (layout.key_words() + layout.value_words())
    }

    /// The weighted means, `(rows, head_dim)`.
    fn means(&self, weights: &[f32], inverse: &[f32]) -> Buffer {
        let (rows, keys, width) = (self.rows(), self.keys(), self.shape.head_dim);
        let mut means = Buffer::new(rows * width);
        if let Keys::Rows { v, v_stride, .. } = self.parts[0].segment.keys {
            let right = View::rows(&v[self.kv_head * width..], v_stride);
            let left = View::rows(weights, keys);
            product(self.kernel, (rows, width, keys), left, right, &mut means, width, Start::Zero);
        }
        self.for_chunks(|rows, chunk, first, count| {
            let layout = chunk.layout;
            let panels = Panels::of(
                &chunk.slab[self.slab_start(layout) + layout.key_words()..],
                layout.value_distance(),
            );
            let left = View::rows(&weights[rows.start * keys + first..], keys);
            let to = &mut means[rows.start * width..];
            // a later chunk takes the sums up where the one before left them
            let start = if first == 0 { Start::Zero } else { Start::Add };
            product_with_panels(self.kernel, (rows.len(), width, count), left, panels, to, width, start);
        });
        for (means, inverse) in means.chunks_exact_mut(width).zip(inverse) {
            means.iter_mut().for_each(|mean| *mean *= inverse);
        }
        means
    }
}

/// Attention of the queries of some segments. A token's queries begin every `q_stride` numbers of `q`, its result every
/// `out_stride` numbers of `out`, heads side by side in both.
///
/// # Panics
/// If a segment reaches beyond its queries, keys or results, the heads of one token overlap those of the next, segments
/// are not in ascending order or have queries in common, or chunks were written for another kernel or shape.
pub fn attend(
    kernel: Kernel,
    shape: HeadLayout,
    q: &[f32],
    q_stride: usize,
    segments: &[Segment<'_>],
    out: &mut [f32],
    out_stride: usize,
) {
    let target = Rows::new(out);
    let mut end = 0;
    for segment in segments {
        assert!(segment.first >= end, "query {} is not behind the {end} of earlier segments", segment.first);
        end = segment.checked_end(kernel, shape);
    }
    let (all, _) = shape.widths();
    target.hold_apart(end, out_stride, 0, all);
    assert!(View::rows(q, q_stride).holds(end, all), "wanted {end} queries of {all} numbers");
    let size = shape.queries();
    let parts: Vec<Part<'_, '_>> = segments
        .iter()
        .flat_map(|segment| {
            (0..segment.count).step_by(size).map(move |start| {
                let queries = start..(start + size).min(segment.count);
                Part { segment, queries }
            })
        })
        .collect();
    let mut blocks: Vec<Block<'_, '_>> = Vec::new();
    let mut first = 0;
    while first < parts.len() {
        let (mut end, mut queries) = (first + 1, parts[first].queries.len());
        let shared = parts[first].segment.keys.chunk(0);
        let size = size.min(SCORES / parts[first].keys() / shape.shared());
        while end < parts.len()
            && shared.is_some()
            && parts[end].segment.keys.chunk(0) == shared
            && queries + parts[end].queries.len() <= size
        {
            queries += parts[end].queries.len();
            end += 1;
        }
        let parts = &parts[first..end];
        blocks.extend((0..shape.kv_heads).map(|kv_head| Block { kernel, shape, kv_head, parts }));
        first = end;
    }
    let one = |block: &Block<'_, '_>| {
        let (weights, inverse) = block.weights(q, q_stride);
        let means = block.means(&weights, &inverse);
        for (place, means) in block.places(out_stride).zip(means.chunks_exact(shape.head_dim)) {
            // SAFETY: this head of this token belongs to this block alone: segments have no query in common, and heads
            // of different tokens lie apart, as was checked.
            unsafe { target.part(place, shape.head_dim) }.copy_from_slice(means);
        }
    };
    let work: usize = blocks.iter().map(|block| block.rows() * block.keys() * shape.head_dim).sum();
    if work < 1 << 18 || blocks.len() < 2 {
        blocks.iter().for_each(one);
    } else {
        blocks.par_iter().for_each(one);
    }
}

/// Where gradients of one kind go: a token every `stride` numbers, heads side by side.
pub struct Gradient<'a> {
    /// All tokens.
    pub data: &'a mut [f32],
    /// Numbers from one token to the next.
    pub stride: usize,
}

/// Backward of [`attend`] over whole sequences with their keys as rows: from the result `out` and ∂L/∂out `d_out`, both
/// with a token every `out_stride` numbers, writes ∂L/∂q, ∂L/∂k and ∂L/∂v. `lengths` are those of the sequences, end to
/// end. Scores are computed once more.
///
/// # Panics
/// If a slice is shorter than its tokens, or the heads of one token overlap those of the next in a gradient.
#[expect(
    clippy::too_many_arguments,
    reason = "three inputs, the result and four gradients, each with its place"
)]
pub fn attend_backward(
    kernel: Kernel,
    shape: HeadLayout,
    lengths: &[usize],
    (q, q_stride): (&[f32], usize),
    (k, k_stride): (&[f32], usize),
    (v, v_stride): (&[f32], usize),
    out: &[f32],
    d_out: &[f32],
    out_stride: usize,
    dq: Gradient<'_>,
    dk: Gradient<'_>,
    dv: Gradient<'_>,
) {
    let width = shape.head_dim;
    let tokens = lengths.iter().try_fold(0usize, |sum, length| sum.checked_add(*length));
    let tokens = tokens.unwrap_or_else(|| panic!("so many tokens have no number"));
    let (all, shared) = shape.widths();
    let targets =
        [(Rows::new(dq.data), dq.stride), (Rows::new(dk.data), dk.stride), (Rows::new(dv.data), dv.stride)];
    for (x, stride) in [(q, q_stride), (out, out_stride), (d_out, out_stride)] {
        assert!(View::rows(x, stride).holds(tokens, all), "wanted {tokens} tokens of {all} numbers");
    }
    for ((target, stride), width) in targets.iter().zip([all, shared, shared]) {
        target.hold_apart(tokens, *stride, 0, width);
    }
    let mut first = 0;
    let segments: Vec<Segment<'_>> = lengths
        .iter()
        .filter(|length| **length > 0)
        .map(|length| {
            let keys =
                Keys::Rows { k: &k[first * k_stride..], k_stride, v: &v[first * v_stride..], v_stride };
            let segment = Segment { first, count: *length, base: 0, keys };
            first += length;
            segment
        })
        .collect();
    let tasks: Vec<(&Segment<'_>, usize)> =
        segments.iter().flat_map(|segment| (0..shape.kv_heads).map(move |head| (segment, head))).collect();
    let put = |(target, _): (Rows, usize), place: usize, row: &[f32]| {
        // SAFETY: this head of this token belongs to one task alone, and lies apart from all others, as was checked.
        unsafe { target.part(place, row.len()) }.copy_from_slice(row);
    };
    tasks.par_iter().for_each(|(segment, kv_head)| {
        let (mut dk, mut dv) = (Buffer::zeros(segment.count * width), Buffer::zeros(segment.count * width));
        let Keys::Rows { k, v, .. } = segment.keys else { unreachable!("built above") };
        let (k, v) =
            (View::rows(&k[kv_head * width..], k_stride), View::rows(&v[kv_head * width..], v_stride));
        for start in (0..segment.count).step_by(shape.queries()) {
            let queries = start..(start + shape.queries()).min(segment.count);
            let parts = [Part { segment, queries }];
            let block = Block { kernel, shape, kv_head: *kv_head, parts: &parts };
            let (rows, keys) = (block.rows(), block.keys());
            let (mut p, inverse) = block.weights(q, q_stride);
            let (means, d_means) = (block.gather(out, out_stride, 1.0), block.gather(d_out, out_stride, 1.0));
            let mut ds = Buffer::new(rows * keys);
            product(
                kernel,
                (rows, keys, width),
                View::rows(&d_means, width),
                v.t(),
                &mut ds,
                keys,
                Start::Zero,
            );
            wide(|| {
                let pairs = p.chunks_exact_mut(keys).zip(ds.chunks_exact_mut(keys));
                for (row, (p, ds)) in pairs.enumerate() {
                    let part = row * width..(row + 1) * width;
                    let along = dot(&means[part.clone()], &d_means[part]);
                    for (p, ds) in p.iter_mut().zip(ds) {
                        *p *= inverse[row];
                        *ds = *p * (*ds - along) * shape.scale();
                    }
                }
            });
            let mut dq = Buffer::new(rows * width);
            product(kernel, (rows, width, keys), View::rows(&ds, keys), k, &mut dq, width, Start::Zero);
            for (place, dq) in block.places(targets[0].1).zip(dq.chunks_exact(width)) {
                put(targets[0], place, dq);
            }
            let q = block.gather(q, q_stride, 1.0);
            let transposed = |x: &[f32], right: &[f32], sum: &mut [f32]| {
                let (left, right) = (View::rows(x, keys).t(), View::rows(right, width));
                product(kernel, (keys, width, rows), left, right, sum, width, Start::Add);
            };
            transposed(&ds, &q, &mut dk);
            transposed(&p, &d_means, &mut dv);
        }
        for (sums, target) in [(&dk, targets[1]), (&dv, targets[2])] {
            for (token, row) in sums.chunks_exact(width).enumerate() {
                put(target, (segment.first + token) * target.1 + kv_head * width, row);
            }
        }
    });
}

#[cfg(test)]
mod tests;
