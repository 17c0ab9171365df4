//! Operations on rows: norms, rotary positions, the gated unit, softmax statistics; each with its backward.
//!
//! Forward passes write each row from that row alone. Sums over rows, for the gradients of weights, are made in blocks
//! of [`BLOCK`] rows whose sums are added in order, so that the number of threads changes nothing.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::buffer::Buffer;
use super::math::{LANES, dot, exp, sum, total, wide};

/// Rows whose share of a weight's gradient is summed together.
const BLOCK: usize = 128;
/// Numbers below which another thread is not worth waking.
const SMALL: usize = 1 << 15;

/// Calls `f` with the number of each block of `rows` rows, side by side if there is enough to do.
fn blocks(rows: usize, numbers: usize, f: impl Fn(std::ops::Range<usize>) + Sync + Send) {
    let count = rows.div_ceil(BLOCK);
    let range = |block: usize| block * BLOCK..((block + 1) * BLOCK).min(rows);
    if numbers < SMALL {
        (0..count).for_each(|block| f(range(block)));
    } else {
        (0..count).into_par_iter().for_each(|block| f(range(block)));
    }
}

/// Rows of a result that several threads write, each its own.
#[derive(Clone, Copy)]
pub(super) struct Rows(*mut f32, usize);
// SAFETY: every row is written by the one block that holds it.
unsafe impl Send for Rows {}
// SAFETY: as above.
unsafe impl Sync for Rows {}

impl Rows {
    pub(super) fn new(data: &mut [f32]) -> Self {
        Self(data.as_mut_ptr(), data.len())
    }

    /// # Safety
    /// No one else uses these numbers at the same time.
    #[expect(clippy::mut_from_ref, reason = "the caller vouches for being alone")]
    pub(super) unsafe fn part(&self, start: usize, length: usize) -> &mut [f32] {
        assert!(start + length <= self.1, "rows end at {}", self.1);
        // SAFETY: inside the slice by the assertion, alone by the caller's word.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), length) }
    }
}

#[inline(always)]
fn inverse_root(row: &[f32], eps: f32) -> f32 {
    1.0 / (dot(row, row) / row.len() as f32 + eps).sqrt()
}

/// x / √(mean(x²) + ε) · w, row by row. `x` and `out` are `(rows, width)`, `weight` `(width,)`.
///
/// # Source
/// Zhang & Sennrich, arXiv:1910.07467.
///
/// # Panics
/// If the lengths differ or are not whole rows.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let width = weight.len();
    assert!(x.len() == out.len() && x.len().is_multiple_of(width.max(1)));
    let target = Rows::new(out);
    blocks(x.len() / width.max(1), x.len(), |rows| {
        // SAFETY: rows of different blocks do not overlap.
        let out = unsafe { target.part(rows.start * width, rows.len() * width) };
        wide(|| {
            for (x, out) in x[rows.start * width..].chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                let inverse = inverse_root(x, eps);
                for i in 0..width {
                    out[i] = x[i] * inverse * weight[i];
                }
            }
        });
    });
}

/// One row's backward of x·s(x)·w with s = 1/√(mean(x²) + ε): adds to `dx` and `dw`.
#[inline(always)]
fn norm_row_backward(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32], dw: &mut [f32]) {
    let width = weight.len();
    let (x, dy, dx, dw) = (&x[..width], &dy[..width], &mut dx[..width], &mut dw[..width]);
    let inverse = inverse_root(x, eps);
    let along = sum(width, |i| dy[i] * weight[i] * x[i]) * inverse * inverse / width as f32;
    for i in 0..width {
        dx[i] += inverse * (dy[i] * weight[i] - x[i] * along);
        dw[i] += dy[i] * x[i] * inverse;
    }
}

/// Backward of [`rms_norm`]: from ∂L/∂out `dy` `(rows, width)`; **adds** ∂L/∂x to `dx` and ∂L/∂w to `d_weight`.
///
/// # Panics
/// As [`rms_norm`].
pub fn rms_norm_backward(
    x: &[f32],
    weight: &[f32],
    eps: f32,
    dy: &[f32],
    dx: &mut [f32],
    d_weight: &mut [f32],
) {
    let width = weight.len();
    assert!(x.len() == dy.len() && x.len() == dx.len() && d_weight.len() == width);
    let rows = x.len() / width.max(1);
    let mut parts = Buffer::zeros(rows.div_ceil(BLOCK) * width);
    let (target, sums) = (Rows::new(dx), Rows::new(&mut parts));
    blocks(rows, x.len(), |rows| {
        // SAFETY: rows of different blocks do not overlap, and each block has sums of its own.
        let (dx, dw) = unsafe {
            (
                target.part(rows.start * width, rows.len() * width),
                sums.part(rows.start / BLOCK * width, width),
            )
        };
        wide(|| {
            let inputs =
                x[rows.start * width..].chunks_exact(width).zip(dy[rows.start * width..].chunks_exact(width));
            for ((x, dy), dx) in inputs.zip(dx.chunks_exact_mut(width)) {
                norm_row_backward(x, weight, eps, dy, dx, dw);
            }
        });
    });
    for part in parts.chunks_exact(width.max(1)) {
        add_rows(part, d_weight);
    }
}

/// `to[i] += from[i]`.
///
/// # Panics
/// If the lengths differ.
pub fn add_rows(from: &[f32], to: &mut [f32]) {
    assert_eq!(from.len(), to.len());
    wide(|| to.iter_mut().zip(from).for_each(|(to, from)| *to += from));
}

/// Where the heads of some tokens lie: head h of token t at `t · stride + first + h · width`.
#[derive(Clone, Copy)]
pub struct Heads {
    /// Numbers from one token to the next.
    pub stride: usize,
    /// Numbers before the first head.
    pub first: usize,
    /// Heads of a token.
    pub count: usize,
    /// Numbers of a head, even.
    pub width: usize,
}

/// The RMS norm of every head, if it has one, then its rotation: each pair (i, i + width/2) turns by its angle, given as
/// `cos` and `sin`, `(tokens, width / 2)`. Reads heads of `x` at `from`, writes heads of `out` at `to`.
///
/// # Source
/// Su et al., arXiv:2104.09864, in the half-split layout of Qwen's reference implementation.
///
/// # Panics
/// If a head lies outside its slice.
pub fn rotate(
    x: &[f32],
    from: Heads,
    norm: Option<(&[f32], f32)>,
    cos: &[f32],
    sin: &[f32],
    out: &mut [f32],
    to: Heads,
) {
    let (width, half) = (from.width, from.width / 2);
    let tokens = cos.len() / half;
    let target = Rows::new(out);
    blocks(tokens, tokens * from.count * width, |tokens| {
        for token in tokens {
            let (cos, sin) = (&cos[token * half..][..half], &sin[token * half..][..half]);
            for head in 0..from.count {
                let x = &x[token * from.stride + from.first + head * width..][..width];
                // SAFETY: the heads of a token are written by the block that has it.
                let out = unsafe { target.part(token * to.stride + to.first + head * width, width) };
                wide(|| {
                    let (low, high) = out.split_at_mut(half);
                    let inverse = norm.map_or(1.0, |(_, eps)| inverse_root(x, eps));
                    for i in 0..half {
                        let (mut a, mut b) = (x[i], x[half + i]);
                        if let Some((weight, _)) = norm {
                            a = a * inverse * weight[i];
                            b = b * inverse * weight[half + i];
                        }
                        low[i] = a * cos[i] - b * sin[i];
                        high[i] = a * sin[i] + b * cos[i];
                    }
                });
            }
        }
    });
}

/// Backward of [`rotate`]: reads ∂L/∂out from `dy` at `to`, writes ∂L/∂x to `dx` at `from`, and adds ∂L/∂(norm weight)
/// to `d_norm`.
///
/// # Panics
/// As [`rotate`].
#[expect(clippy::too_many_arguments, reason = "as the forward")]
pub fn rotate_back(
    x: &[f32],
    from: Heads,
    norm: Option<(&[f32], f32)>,
    cos: &[f32],
    sin: &[f32],
    dy: &[f32],
    to: Heads,
    dx: &mut [f32],
    d_norm: Option<&mut [f32]>,
) {
    let (width, half) = (from.width, from.width / 2);
    let count = cos.len() / half;
    let mut parts = Buffer::zeros(count.div_ceil(BLOCK) * width);
    let (target, sums) = (Rows::new(dx), Rows::new(&mut parts));
    blocks(count, count * from.count * width, |tokens| {
        // SAFETY: each block has sums of its own.
        let dw = unsafe { sums.part(tokens.start / BLOCK * width, width) };
        let mut turned = vec![0f32; width];
        for token in tokens {
            let (cos, sin) = (&cos[token * half..][..half], &sin[token * half..][..half]);
            for head in 0..from.count {
                let dy = &dy[token * to.stride + to.first + head * width..][..width];
                let place = token * from.stride + from.first + head * width;
                // SAFETY: the heads of a token are written by the block that has it.
                let dx = unsafe { target.part(place, width) };
                wide(|| {
                    let out = if norm.is_some() { &mut *turned } else { &mut *dx };
                    let (low, high) = out.split_at_mut(half);
                    for i in 0..half {
                        low[i] = dy[i] * cos[i] + dy[half + i] * sin[i];
                        high[i] = dy[half + i] * cos[i] - dy[i] * sin[i];
                    }
                    if let Some((weight, eps)) = norm {
                        dx.fill(0.0);
                        norm_row_backward(&x[place..][..width], weight, eps, &turned, dx, dw);
                    }
                });
            }
        }
    });
    if let Some(d_norm) = d_norm {
        for part in parts.chunks_exact(width) {
            add_rows(part, d_norm);
        }
    }
}

/// silu(gate) · up. `x` is `(rows, 2 · width)`, gates before ups; `out` is `(rows, width)`.
///
/// # Source
/// Shazeer, arXiv:2002.05202.
///
/// # Panics
/// If `x` is not twice as long as `out`.
pub fn swiglu(x: &[f32], width: usize, out: &mut [f32]) {
    assert!(x.len() == 2 * out.len());
    let target = Rows::new(out);
    blocks(x.len() / (2 * width), x.len(), |rows| {
        // SAFETY: rows of different blocks do not overlap.
        let out = unsafe { target.part(rows.start * width, rows.len() * width) };
        wide(|| {
            for (x, out) in
                x[rows.start * 2 * width..].chunks_exact(2 * width).zip(out.chunks_exact_mut(width))
            {
                let (gate, up) = x.split_at(width);
                for i in 0..width {
                    out[i] = gate[i] / (1.0 + exp(-gate[i])) * up[i];
                }
            }
        });
    });
}

/// Backward of [`swiglu`]: `x` is overwritten with its own gradient, from ∂L/∂out `dy` `(rows, width)`.
///
/// # Panics
/// As [`swiglu`].
pub fn swiglu_backward(x: &mut [f32], width: usize, dy: &[f32]) {
    assert!(x.len() == 2 * dy.len());
    let (rows, numbers) = (x.len() / (2 * width), x.len());
    let target = Rows::new(x);
    blocks(rows, numbers, |rows| {
        // SAFETY: rows of different blocks do not overlap.
        let x = unsafe { target.part(rows.start * 2 * width, rows.len() * 2 * width) };
        wide(|| {
            for (x, dy) in x.chunks_exact_mut(2 * width).zip(dy[rows.start * width..].chunks_exact(width)) {
                let (gate, up) = x.split_at_mut(width);
                for i in 0..width {
                    let open = 1.0 / (1.0 + exp(-gate[i]));
                    let silu = gate[i] * open;
                    gate[i] = dy[i] * up[i] * open * (1.0 + gate[i] - silu);
                    up[i] = dy[i] * silu;
                }
            }
        });
    });
}

/// What a softmax over some logits needs and tells: fed block by block in order, the same for one row and for many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowStats {
    /// The largest logit so far, over the temperature.
    pub max: f32,
    /// Σ e^(z − max).
    pub sum: f32,
    /// Σ e^(z − max) (z − max).
    pub weighted: f32,
    /// Σ e^(2 (z − max)).
    pub squares: f32,
    /// Where the largest is.
    pub best: u32,
}

impl Default for RowStats {
    fn default() -> Self {
        Self { max: f32::NEG_INFINITY, sum: 0.0, weighted: 0.0, squares: 0.0, best: 0 }
    }
}

impl RowStats {
    /// Logits that are taken at a time: the order of summation, hence part of the result.
    pub const BLOCK: usize = 2048;

    /// All logits of a row, over the temperature.
    pub fn of(logits: &[f32], inverse_temperature: f32) -> Self {
        let mut stats = Self::default();
        for (block, logits) in logits.chunks(Self::BLOCK).enumerate() {
            stats.take(logits, block * Self::BLOCK, inverse_temperature);
        }
        stats
    }

    /// The largest logit over the temperature, Σ e^(z − max) and where the largest is, the same bits as [`Self::of`] has;
    /// and of every block its own largest and the sum of e^(z − that).
    pub fn for_draw(logits: &[f32], inverse_temperature: f32) -> (Self, Vec<(f32, f32)>) {
        let mut stats = Self::default();
        let mut blocks = Vec::with_capacity(logits.len().div_ceil(Self::BLOCK));
        for (block, logits) in logits.chunks(Self::BLOCK).enumerate() {
            let (max, best) = wide(|| largest(logits, inverse_temperature));
            stats.raise(max, block * Self::BLOCK + best);
            let max = stats.max;
            let sum = wide(|| sum(logits.len(), |i| exp(logits[i] * inverse_temperature - max)));
            stats.sum += sum;
            blocks.push((max, sum));
        }
        (stats, blocks)
    }

    /// Sums so far in terms of a larger maximum, if it is one.
    fn raise(&mut self, max: f32, best: usize) {
        if max > self.max {
            let shift = self.max - max;
            if self.sum > 0.0 {
                let scale = exp(shift);
                self.weighted = scale * (self.weighted + self.sum * shift);
                self.squares *= scale * scale;
                self.sum *= scale;
            }
            self.max = max;
            self.best = best as u32;
        }
    }

    /// The next [`Self::BLOCK`] logits, the first of which is number `first`.
    pub fn take(&mut self, logits: &[f32], first: usize, inverse_temperature: f32) {
        let (max, best) = wide(|| largest(logits, inverse_temperature));
        self.raise(max, first + best);
        let max = self.max;
        let [sum, weighted, squares] = wide(|| {
            let mut parts = [[0f32; LANES]; 3];
            let mut add = |lane: usize, z: f32| {
                let z = z * inverse_temperature - max;
                let e = exp(z);
                parts[0][lane] += e;
                // e is 0 where z is −∞
                parts[1][lane] += e * z.max(-1e4);
                parts[2][lane] += e * e;
            };
            let mut whole = logits.chunks_exact(LANES);
            for chunk in &mut whole {
                for (lane, z) in chunk.iter().enumerate() {
                    add(lane, *z);
                }
            }
            for (lane, z) in whole.remainder().iter().enumerate() {
                add(lane, *z);
            }
            parts.map(total)
        });
        self.sum += sum;
        self.weighted += weighted;
        self.squares += squares;
    }

    /// ln p of a logit of this row, in nats.
    pub fn log_prob(&self, logit: f32, inverse_temperature: f32) -> f32 {
        (f64::from(logit * inverse_temperature - self.max) - f64::from(self.sum).ln()) as f32
    }

    /// Entropy in nats.
    pub fn entropy(&self) -> f32 {
        (f64::from(self.sum).ln() - f64::from(self.weighted) / f64::from(self.sum)) as f32
    }

    /// Σ p².
    pub fn sum_of_squares(&self) -> f32 {
        self.squares / (self.sum * self.sum)
    }
}

/// The largest number and the first place that holds it. NaN is taken for the largest.
#[inline(always)]
fn largest(logits: &[f32], factor: f32) -> (f32, usize) {
    let mut parts = [f32::NEG_INFINITY; LANES];
    let mut nan = false;
    let mut whole = logits.chunks_exact(LANES);
    for chunk in &mut whole {
        for (part, z) in parts.iter_mut().zip(chunk) {
            let z = z * factor;
            nan |= z.is_nan();
            *part = if z > *part { z } else { *part };
        }
    }
    for (part, z) in parts.iter_mut().zip(whole.remainder()) {
        let z = z * factor;
        nan |= z.is_nan();
        *part = if z > *part { z } else { *part };
    }
    if nan {
        return (f32::NAN, 0);
    }
    let max = parts.into_iter().fold(f32::NEG_INFINITY, f32::max);
    (max, logits.iter().position(|z| z * factor == max).unwrap_or(0))
}

/// Takes a block of logits `(rows, width)`, whose rows begin every `stride` numbers, into the statistics of each row.
///
/// # Panics
/// If there are not as many rows as statistics.
pub fn softmax_stats(
    logits: &[f32],
    stride: usize,
    width: usize,
    first: usize,
    inverse_temperature: f32,
    stats: &mut [RowStats],
) {
    let one = |(row, stats): (usize, &mut RowStats)| {
        let row = &logits[row * stride..][..width];
        for (block, logits) in row.chunks(RowStats::BLOCK).enumerate() {
            stats.take(logits, first + block * RowStats::BLOCK, inverse_temperature);
        }
    };
    if stats.len() * width < SMALL {
        stats.iter_mut().enumerate().for_each(one);
    } else {
        stats.par_iter_mut().enumerate().with_min_len(8).for_each(one);
    }
}

/// Backward of ln π at each row's target: logits `(rows, width)`, which begin with token `first`, become their own
/// gradient `d (onehot(target) − p) / temperature`, with `p` from the row's statistics over all tokens.
///
/// # Panics
/// If rows, statistics, targets and derivatives differ in number.
pub fn softmax_backward(
    logits: &mut [f32],
    width: usize,
    first: usize,
    inverse_temperature: f32,
    stats: &[RowStats],
    targets: &[u32],
    d_log_probs: &[f32],
) {
    assert!(
        logits.len() == stats.len() * width
            && stats.len() == targets.len()
            && stats.len() == d_log_probs.len()
    );
    let one = |(row, logits): (usize, &mut [f32])| {
        let (stats, d) = (&stats[row], d_log_probs[row] * inverse_temperature);
        let factor = -d / stats.sum;
        wide(|| {
            for z in logits.iter_mut() {
                *z = factor * exp(*z * inverse_temperature - stats.max);
            }
        });
        let target = targets[row] as usize;
        if (first..first + width).contains(&target) {
            logits[target - first] += d;
        }
    };
    if logits.len() < SMALL {
        logits.chunks_exact_mut(width.max(1)).enumerate().for_each(one);
    } else {
        logits.par_chunks_exact_mut(width.max(1)).enumerate().with_min_len(8).for_each(one);
    }
}

/// Adds the sum over rows of `out.len()` columns, from column `first` on, to `out`. Rows of `x` begin every `stride`.
///
/// # Panics
/// If a row does not have these columns.
pub fn add_columns(x: &[f32], stride: usize, first: usize, out: &mut [f32]) {
    let width = out.len();
    let rows = x.len() / stride.max(1);
    let mut parts = Buffer::zeros(rows.div_ceil(BLOCK) * width);
    let sums = Rows::new(&mut parts);
    blocks(rows, x.len(), |rows| {
        // SAFETY: each block has sums of its own.
        let sums = unsafe { sums.part(rows.start / BLOCK * width, width) };
        for row in rows {
            add_rows(&x[row * stride + first..][..width], sums);
        }
    });
    for part in parts.chunks_exact(width.max(1)) {
        add_rows(part, out);
    }
}

/// Whether no number is NaN or infinite.
pub fn all_finite(x: &[f32]) -> bool {
    wide(|| x.chunks(4096).all(|x| x.iter().fold(true, |all, x| all & x.is_finite())))
}
