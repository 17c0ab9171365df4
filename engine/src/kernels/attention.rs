//! Causal attention with shared key heads, for whole sequences and for new tokens behind cached ones.
//!
//! Before: queries, keys and values of some tokens. After: for each query the mean of the values, weighted by softmax.
//! There is one routine: scores of a block of queries against all keys that any of them may see, a softmax row by row,
//! and the product with the values. It runs over keys as rows (training) or over keys that a [`KvLayout`] holds in
//! panels (sampling), and gives a query the same bits either way, however many queries are taken together. Scores live
//! as long as a block of queries; the backward computes them again.
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

/// How heads lie in a row of queries, keys or values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides the query heads.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
}

impl Shape {
    fn shared(&self) -> usize {
        self.heads / self.kv_heads
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
    shape: Shape,
    capacity: usize,
}

impl KvLayout {
    /// Room for `capacity` tokens, rounded up to whole panels.
    pub fn new(kernel: Kernel, shape: Shape, capacity: usize) -> Self {
        Self { kernel, shape, capacity: capacity.next_multiple_of(PANEL) }
    }

    /// Tokens that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
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
    /// `v_stride` numbers, its heads side by side. `slab` is that of one layer, zero before its first use.
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
        assert!(length + count <= self.capacity && slab.len() >= self.words(), "keys beyond the slab");
        let (width, bf16) = (self.shape.head_dim, self.kernel.path().is_bf16());
        let key_groups = self.kernel.groups(width);
        let value_distance = self.kernel.groups(self.capacity) * PANEL;
        for head in 0..self.shape.kv_heads {
            let (keys, values) =
                slab[head * (self.key_words() + self.value_words())..].split_at_mut(self.key_words());
            for token in 0..count {
                let place = length + token;
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
    /// Panels.
    Slab(&'a KvLayout, &'a [f32]),
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

/// One head group of one block of queries.
struct Block<'a, 's> {
    kernel: Kernel,
    shape: Shape,
    segment: &'s Segment<'a>,
    kv_head: usize,
    /// Queries of the segment.
    queries: std::ops::Range<usize>,
}

impl Block<'_, '_> {
    fn rows(&self) -> usize {
        self.queries.len() * self.shape.shared()
    }

    /// Keys that any of the queries sees.
    fn keys(&self) -> usize {
        self.segment.base + self.queries.end
    }

    /// Where row `row` of the block lies among tokens of `stride` numbers.
    fn place(&self, row: usize, stride: usize) -> usize {
        let (query, head) = (row / self.shape.shared(), row % self.shape.shared());
        let token = self.segment.first + self.queries.start + query;
        token * stride + (self.kv_head * self.shape.shared() + head) * self.shape.head_dim
    }

    /// The block's rows, one under another, each times `factor`.
    fn gather(&self, x: &[f32], stride: usize, factor: f32) -> Buffer {
        let width = self.shape.head_dim;
        let mut rows = Buffer::new(self.rows() * width);
        for (row, to) in rows.chunks_exact_mut(width).enumerate() {
            let from = &x[self.place(row, stride)..][..width];
            to.iter_mut().zip(from).for_each(|(to, from)| *to = from * factor);
        }
        rows
    }

    /// e^(score − max) of every row, `(rows, keys)`, 0 where a query may not look, and one over its sum.
    fn weights(&self, q: &[f32], q_stride: usize) -> (Buffer, Vec<f32>) {
        let (rows, keys, width) = (self.rows(), self.keys(), self.shape.head_dim);
        let q = self.gather(q, q_stride, self.shape.scale());
        let mut scores = Buffer::new(rows * keys);
        let (left, size) = (View::rows(&q, width), (rows, keys, width));
        match self.segment.keys {
            Keys::Rows { k, k_stride, .. } => {
                let right = View::rows(&k[self.kv_head * width..], k_stride).t();
                product(self.kernel, size, left, right, &mut scores, keys, Start::Zero);
            }
            Keys::Slab(layout, slab) => {
                let panels = Panels::of(&slab[self.slab_start(layout)..], self.kernel.groups(width) * PANEL);
                product_with_panels(self.kernel, size, left, panels, &mut scores, keys, Start::Zero);
            }
        }
        let mut inverse = vec![0f32; rows];
        wide(|| {
            for (row, (scores, inverse)) in scores.chunks_exact_mut(keys).zip(&mut inverse).enumerate() {
                let seen = self.segment.base + self.queries.start + row / self.shape.shared() + 1;
                let (scores, hidden) = scores.split_at_mut(seen);
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
        let (left, size) = (View::rows(weights, keys), (rows, width, keys));
        match self.segment.keys {
            Keys::Rows { v, v_stride, .. } => {
                let right = View::rows(&v[self.kv_head * width..], v_stride);
                product(self.kernel, size, left, right, &mut means, width, Start::Zero);
            }
            Keys::Slab(layout, slab) => {
                let panels = Panels::of(
                    &slab[self.slab_start(layout) + layout.key_words()..],
                    self.kernel.groups(layout.capacity) * PANEL,
                );
                product_with_panels(self.kernel, size, left, panels, &mut means, width, Start::Zero);
            }
        }
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
/// If a segment reaches beyond its queries, keys or results.
pub fn attend(
    kernel: Kernel,
    shape: Shape,
    q: &[f32],
    q_stride: usize,
    segments: &[Segment<'_>],
    out: &mut [f32],
    out_stride: usize,
) {
    let size = shape.queries();
    let blocks: Vec<Block<'_, '_>> = segments
        .iter()
        .flat_map(|segment| {
            (0..segment.count).step_by(size).flat_map(move |start| {
                let queries = start..(start + size).min(segment.count);
                (0..shape.kv_heads).map(move |kv_head| Block {
                    kernel,
                    shape,
                    segment,
                    kv_head,
                    queries: queries.clone(),
                })
            })
        })
        .collect();
    let target = Rows::new(out);
    let one = |block: &Block<'_, '_>| {
        let (weights, inverse) = block.weights(q, q_stride);
        let means = block.means(&weights, &inverse);
        for (row, means) in means.chunks_exact(shape.head_dim).enumerate() {
            // SAFETY: this head of this token belongs to this block alone.
            unsafe { target.part(block.place(row, out_stride), shape.head_dim) }.copy_from_slice(means);
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
/// If a slice is shorter than its tokens.
#[expect(
    clippy::too_many_arguments,
    reason = "three inputs, the result and four gradients, each with its place"
)]
pub fn attend_backward(
    kernel: Kernel,
    shape: Shape,
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
    let targets =
        [(Rows::new(dq.data), dq.stride), (Rows::new(dk.data), dk.stride), (Rows::new(dv.data), dv.stride)];
    let put = |(target, _): (Rows, usize), place: usize, row: &[f32]| {
        // SAFETY: this head of this token belongs to one task alone.
        unsafe { target.part(place, row.len()) }.copy_from_slice(row);
    };
    tasks.par_iter().for_each(|(segment, kv_head)| {
        let (mut dk, mut dv) = (Buffer::zeros(segment.count * width), Buffer::zeros(segment.count * width));
        let Keys::Rows { k, v, .. } = segment.keys else { unreachable!("built above") };
        let (k, v) =
            (View::rows(&k[kv_head * width..], k_stride), View::rows(&v[kv_head * width..], v_stride));
        for start in (0..segment.count).step_by(shape.queries()) {
            let queries = start..(start + shape.queries()).min(segment.count);
            let block = Block { kernel, shape, segment, kv_head: *kv_head, queries };
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
            for (row, dq) in dq.chunks_exact(width).enumerate() {
                put(targets[0], block.place(row, targets[0].1), dq);
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
