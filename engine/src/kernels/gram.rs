//! Squared norms of the weight gradients of single rows, without the gradients.
//!
//! A row of tokens with inputs x and cotangents δ has the weight gradient Σₜ δₜ xₜᵀ, and its squared norm is
//! Σₛₜ (xₛ·xₜ)(δₛ·δₜ): two small matrices of inner products in place of one as large as the weight ("ghost norm").
//!
//! # Source
//! Goodfellow, arXiv:1510.01799; for layers that are used at every token Li et al., arXiv:2110.05679.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::buffer::Buffer;
use super::kernel::{Kernel, Path};
use super::math::{LANES, total, wide};
use super::pack::View;
use super::product::{Start, product};

/// Some columns of a matrix whose rows are tokens.
#[derive(Clone, Copy)]
pub struct MatrixColumns<'a> {
    /// All numbers.
    pub data: &'a [f32],
    /// Numbers from one token to the next.
    pub stride: usize,
    /// The first column.
    pub first: usize,
    /// How many.
    pub width: usize,
}

impl<'a> MatrixColumns<'a> {
    /// All columns of a matrix.
    pub fn all(data: &'a [f32], width: usize) -> Self {
        Self { data, stride: width, first: 0, width }
    }

    fn row(&self, token: usize) -> &'a [f32] {
        &self.data[token * self.stride + self.first..][..self.width]
    }

    fn from(&self, token: usize) -> View<'a> {
        View::rows(&self.data[token * self.stride + self.first..], self.stride)
    }
}

/// Tokens below which one thread takes a whole row of them; longer rows share each product among threads.
const SHORT: usize = 48;
/// Tokens on a side of a block of inner products, of which those above the diagonal are left out.
const BLOCK: usize = 128;

/// Inner products of the inputs within each row.
pub struct Gram<'a> {
    kernel: Kernel,
    lengths: &'a [usize],
    /// Where each row begins among tokens, and among inner products.
    begins: Vec<(usize, usize)>,
    inputs: Buffer,
}

impl<'a> Gram<'a> {
    /// Rows of these lengths, end to end in `x`.
    ///
    /// # Panics
    /// If `x` holds fewer tokens.
    pub fn new(kernel: Kernel, lengths: &'a [usize], x: MatrixColumns<'_>) -> Self {
        let (mut token, mut place) = (0, 0);
        let begins = lengths
            .iter()
            .map(|length| {
                let here = (token, place);
                (token, place) = (token + length, place + triangle(*length));
                here
            })
            .collect();
        let mut gram = Self { kernel, lengths, begins, inputs: Buffer::new(place) };
        let mut inputs = std::mem::replace(&mut gram.inputs, Buffer::new(0));
        gram.each(&mut inputs, |token, length, out| inner_products(kernel, x, token, length, out));
        gram.inputs = inputs;
        gram
    }

    /// Adds to `norms` of each row ‖Σₜ δₜ xₜᵀ‖². A row's number depends on that row alone, to the bit.
    ///
    /// # Panics
    /// If `dy` holds fewer tokens, or there are not as many norms as rows.
    pub fn add_norms(&self, dy: MatrixColumns<'_>, norms: &mut [f64]) {
        assert_eq!(norms.len(), self.lengths.len(), "one norm a row");
        let mut outputs = Buffer::new(self.inputs.len());
        self.each(&mut outputs, |token, length, out| inner_products(self.kernel, dy, token, length, out));
        let sum = |((length, (_, place)), norm): ((&usize, &(usize, usize)), &mut f64)| {
            let range = *place..place + triangle(*length);
            *norm += contracted(&self.inputs[range.clone()], &outputs[range], *length);
        };
        let rows = self.lengths.par_iter().zip(&self.begins);
        rows.zip(norms).with_min_len(8).for_each(sum);
    }

    /// Calls `f` for each row with its first token, its length and its part of `out`: rows that are short side by side,
    /// long ones one after another.
    fn each(&self, out: &mut [f32], f: impl Fn(usize, usize, &mut [f32]) + Sync) {
        let mut parts = Vec::with_capacity(self.lengths.len());
        let mut rest = out;
        for (length, (token, _)) in self.lengths.iter().zip(&self.begins) {
            let (part, tail) = rest.split_at_mut(triangle(*length));
            rest = tail;
            parts.push((*token, *length, part));
        }
        let (short, long): (Vec<_>, Vec<_>) = parts.into_iter().partition(|(_, length, _)| *length <= SHORT);
        short.into_par_iter().with_min_len(4).for_each(|(token, length, part)| f(token, length, part));
        long.into_iter().for_each(|(token, length, part)| f(token, length, part));
    }
}

/// Inner products that are kept of a row: whole blocks on and below the diagonal.
fn triangle(length: usize) -> usize {
    if length <= SHORT {
        return length * length;
    }
    (0..length).step_by(BLOCK).map(|first| BLOCK.min(length - first) * (first + BLOCK).min(length)).sum()
}

/// Inner products of the tokens of one row, as [`triangle`] keeps them.
fn inner_products(kernel: Kernel, x: MatrixColumns<'_>, token: usize, length: usize, out: &mut [f32]) {
    if length <= SHORT {
        short_products(kernel, x, token, length, out);
        return;
    }
    let mut rest = out;
    for first in (0..length).step_by(BLOCK) {
        let (rows, columns) = (BLOCK.min(length - first), (first + BLOCK).min(length));
        let (part, tail) = rest.split_at_mut(rows * columns);
        rest = tail;
        let size = (rows, columns, x.width);
        product(kernel, size, x.from(token + first), x.from(token).t(), part, columns, Start::Zero);
    }
}

/// The same for a short row, whole; only what is on and below the diagonal is set. Each product is a sum of fused
/// multiply-adds in [`LANES`] parts on every path, so that all give the same bits.
fn short_products(kernel: Kernel, x: MatrixColumns<'_>, token: usize, length: usize, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if kernel.has_avx512() {
        for i in (0..length).step_by(4) {
            for j in (0..=i).step_by(4) {
                // beyond the end the last token stands in, and its products are not kept
                let rows = |first: usize| [0, 1, 2, 3].map(|k| x.row(token + (first + k).min(length - 1)));
                // SAFETY: holding a kernel of this path or a later one proves AVX-512 F.
                let block = unsafe { sixteen(rows(i), rows(j)) };
                for (row, values) in block.iter().enumerate().take(length - i) {
                    let count = 4.min(length - j);
                    out[(i + row) * length + j..][..count].copy_from_slice(&values[..count]);
                }
            }
        }
        return;
    }
    for i in 0..length {
        for j in 0..=i {
            let (a, b) = (x.row(token + i), x.row(token + j));
            out[i * length + j] = match kernel.path() {
                // SAFETY: holding such a kernel proves AVX2 and FMA.
                #[cfg(target_arch = "x86_64")]
                Path::Avx2 => unsafe { fused_dot_avx2(a, b) },
                _ => fused_dot(a, b),
            };
        }
    }
}

/// Σ aᵢ bᵢ by fused multiply-adds, in [`LANES`] parts.
#[inline(always)]
fn fused_dot(a: &[f32], b: &[f32]) -> f32 {
    let mut parts = [0f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a.remainder().iter().zip(b.remainder());
    for (a, b) in a.zip(b) {
        for ((part, a), b) in parts.iter_mut().zip(a).zip(b) {
            *part = a.mul_add(*b, *part);
        }
    }
    for (part, (a, b)) in parts.iter_mut().zip(rest) {
        *part = a.mul_add(*b, *part);
    }
    total(parts)
}

/// [`fused_dot`] with the instructions that it is made of.
///
/// # Safety
/// The machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn fused_dot_avx2(a: &[f32], b: &[f32]) -> f32 {
    fused_dot(a, b)
}

/// Inner products of four rows with four others, all of one width.
///
/// # Safety
/// The machine has AVX-512 F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn sixteen(a: [&[f32]; 4], b: [&[f32]; 4]) -> [[f32; 4]; 4] {
    use std::arch::x86_64::*;
    let width = a[0].len();
    assert!(a.iter().chain(&b).all(|row| row.len() == width));
    let mut sums = [[_mm512_setzero_ps(); 4]; 4];
    let mut at = 0;
    while at < width {
        let left = width - at;
        let mask: __mmask16 = if left >= 16 { 0xffff } else { (1 << left) - 1 };
        // SAFETY: what lies beyond the rows is masked out.
        let load = |row: &[f32]| unsafe { _mm512_maskz_loadu_ps(mask, row.as_ptr().add(at)) };
        let (a, b) = (a.map(load), b.map(load));
        for i in 0..4 {
            for j in 0..4 {
                sums[i][j] = _mm512_fmadd_ps(a[i], b[j], sums[i][j]);
            }
        }
        at += 16;
    }
    // adds the halves, their halves and so on, in the order of `total`
    sums.map(|row| row.map(|sum| _mm512_reduce_add_ps(sum)))
}

/// Σₛₜ aₛₜ bₛₜ over the whole square, from what [`triangle`] keeps.
fn contracted(a: &[f32], b: &[f32], length: usize) -> f64 {
    let row = |a: &[f32], b: &[f32], diagonal: usize| {
        let below: f64 = a[..diagonal].iter().zip(b).map(|(a, b)| f64::from(a * b)).sum();
        2.0 * below + f64::from(a[diagonal] * b[diagonal])
    };
    if length <= SHORT {
        return (0..length).map(|t| row(&a[t * length..], &b[t * length..], t)).sum();
    }
    let (mut place, mut sum) = (0, 0.0);
    for first in (0..length).step_by(BLOCK) {
        let (rows, columns) = (BLOCK.min(length - first), (first + BLOCK).min(length));
        let part: Vec<f64> = (0..rows)
            .into_par_iter()
            .map(|t| {
                let at = place + t * columns;
                wide(|| row(&a[at..at + columns], &b[at..at + columns], first + t))
            })
            .collect();
        sum += part.iter().sum::<f64>();
        place += rows * columns;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 2001) as f32 / 1000.0 - 1.0).collect()
    }

    /// ‖Σₜ δₜ xₜᵀ‖² of some tokens, the long way.
    fn explicit(x: &MatrixColumns<'_>, dy: &MatrixColumns<'_>, tokens: std::ops::Range<usize>) -> f64 {
        let mut gradient = vec![vec![0f64; x.width]; dy.width];
        for t in tokens {
            for (d, row) in dy.row(t).iter().zip(&mut gradient) {
                for (x, g) in x.row(t).iter().zip(row) {
                    *g += f64::from(*d) * f64::from(*x);
                }
            }
        }
        gradient.iter().flatten().map(|g| g * g).sum()
    }

    #[test]
    fn norms_are_those_of_the_gradients_written_out() {
        let lengths = [1, 7, 0, 48, 49, 300];
        let tokens: usize = lengths.iter().sum();
        let (x, dy) = (numbers(tokens * 37, 1), numbers(tokens * 50, 2));
        let x = MatrixColumns::all(&x, 37);
        let dy = MatrixColumns { data: &dy, stride: 50, first: 3, width: 41 };
        let gram = Gram::new(Kernel::f32().expect("a path"), &lengths, x);
        let mut norms = vec![1.0; lengths.len()];
        gram.add_norms(dy, &mut norms);
        let mut first = 0;
        for (length, norm) in lengths.iter().zip(&norms) {
            let wanted = explicit(&x, &dy, first..first + length) + 1.0;
            assert!((norm / wanted - 1.0).abs() < 1e-5, "{length} tokens: {norm} is not {wanted}");
            first += length;
        }
    }

    #[test]
    fn the_head_of_a_worked_example_has_its_norm() {
        // two tokens of three, W = ((1, 0), (0, 1), (0, 0)), h = (1, 0) and (1, 1), y = 0 and 2
        let hidden = [[1.0f64, 0.0], [1.0, 1.0]];
        let gradient = |temperature: f64| {
            let mut e = Vec::new();
            for (h, y) in hidden.iter().zip([0, 2]) {
                let z = [h[0] / temperature, h[1] / temperature, 0.0].map(f64::exp);
                let total: f64 = z.iter().sum();
                e.extend((0..3).map(|v| ((f64::from(u8::from(v == y)) - z[v] / total) / temperature) as f32));
            }
            e
        };
        let x: Vec<f32> = hidden.iter().flatten().map(|h| *h as f32).collect();
        let norm = |e: &[f32], lengths: &[usize]| -> f64 {
            let gram = Gram::new(Kernel::f32().expect("a path"), lengths, MatrixColumns::all(&x, 2));
            let mut norms = vec![0.0; lengths.len()];
            gram.add_norms(MatrixColumns::all(e, 3), &mut norms);
            norms.iter().sum()
        };
        let e = gradient(1.0);
        assert!((norm(&e, &[2]) - 1.872_712).abs() < 1e-5, "exact");
        assert!((norm(&e, &[1, 1]) - 2.409_753).abs() < 1e-5, "the diagonal alone");
        assert!((norm(&gradient(2.0), &[2]) - 0.396_516).abs() < 1e-5, "at temperature 2");
        let proxy: f32 = e.iter().map(|e| e * e).sum();
        assert!((proxy - 1.339_634).abs() < 1e-5, "in terms of logits");
    }

    /// The bits of a norm belong to the path that was asked for, whatever else the processor could do.
    #[test]
    fn the_f32_paths_agree_to_the_bit() {
        for (length, width) in [(1, 1), (5, 15), (17, 16), (48, 67), (49, 40), (150, 33)] {
            let (x, dy) = (numbers(length * width, 5), numbers(length * 19, 6));
            let all: Vec<u64> = Path::ALL
                .into_iter()
                .filter(|path| !path.is_bf16())
                .filter_map(Kernel::new)
                .map(|kernel| {
                    let lengths = [length];
                    let gram = Gram::new(kernel, &lengths, MatrixColumns::all(&x, width));
                    let mut norms = [0.0];
                    gram.add_norms(MatrixColumns::all(&dy, 19), &mut norms);
                    norms[0].to_bits()
                })
                .collect();
            assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{length} × {width}: {all:x?}");
        }
    }

    #[test]
    fn a_norm_depends_on_its_own_row_alone() {
        let (x, dy) = (numbers(200 * 16, 3), numbers(200 * 8, 4));
        let norms = |lengths: &[usize], first: usize| {
            let gram =
                Gram::new(Kernel::f32().expect("a path"), lengths, MatrixColumns::all(&x[first * 16..], 16));
            let mut norms = vec![0.0; lengths.len()];
            gram.add_norms(MatrixColumns::all(&dy[first * 8..], 8), &mut norms);
            norms
        };
        let together = norms(&[20, 100, 5], 0);
        assert_eq!(norms(&[20], 0)[0], together[0]);
        assert_eq!(norms(&[100], 20)[0], together[1]);
        assert_eq!(norms(&[5], 120)[0], together[2]);
    }
}
