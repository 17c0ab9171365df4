//! The RMS norm and its backward.
#![allow(unsafe_code)]

use super::math::{LANES, dot, total, wide};
use super::rows::{RowSums, Rows, blocks, summed};

#[inline(always)]
pub(super) fn inverse_root(row: &[f32], eps: f32) -> f32 {
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

/// Σ aᵢ bᵢ cᵢ in [`LANES`] parts.
#[inline(always)]
fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let mut parts = [0f32; LANES];
    for ((a, b), c) in a.chunks(LANES).zip(b.chunks(LANES)).zip(c.chunks(LANES)) {
        for (((part, a), b), c) in parts.iter_mut().zip(a).zip(b).zip(c) {
            *part += a * b * c;
        }
    }
    total(parts)
}

/// One row's backward of x·s(x)·w with s = 1/√(mean(x²) + ε): adds to `dx` and `dw`.
#[inline(always)]
pub(super) fn norm_row_backward(
    x: &[f32],
    weight: &[f32],
    eps: f32,
    dy: &[f32],
    dx: &mut [f32],
    dw: &mut [f32],
) {
    let width = weight.len();
    let (x, dy, dx, dw) = (&x[..width], &dy[..width], &mut dx[..width], &mut dw[..width]);
    let inverse = inverse_root(x, eps);
    let along = dot3(dy, weight, x) * inverse * inverse / width as f32;
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
    d_weight: RowSums<'_>,
) {
    let width = weight.len();
    assert!(x.len() == dy.len() && x.len() == dx.len());
    let target = Rows::new(dx);
    summed(x.len() / width.max(1), width, x.len(), d_weight, |rows, dw| {
        // SAFETY: rows of different ranges do not overlap.
        let dx = unsafe { target.part(rows.start * width, rows.len() * width) };
        wide(|| {
            let inputs =
                x[rows.start * width..].chunks_exact(width).zip(dy[rows.start * width..].chunks_exact(width));
            for ((x, dy), dx) in inputs.zip(dx.chunks_exact_mut(width)) {
                norm_row_backward(x, weight, eps, dy, dx, dw);
            }
        });
    });
}
