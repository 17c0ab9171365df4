//! The gated unit and its backward.
#![allow(unsafe_code)]

use super::math::{exp, wide};
use super::rows::{Rows, blocks};

/// silu(gate) · up. `x` is `(rows, 2 · width)`, gates before ups; `out` is `(rows, width)`.
///
/// # Source
/// Shazeer, arXiv:2002.05202.
///
/// # Panics
/// If `x` is not twice as long as `out` or does not have whole rows.
pub fn swiglu(x: &[f32], width: usize, out: &mut [f32]) {
    let (rows, numbers) = (whole_rows(x, out, width), x.len());
    let target = Rows::new(out);
    blocks(rows, numbers, |rows| {
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

/// The number of rows of `width` gates and as many ups, for which `half` has `width` numbers each.
fn whole_rows(x: &[f32], half: &[f32], width: usize) -> usize {
    assert!(
        width > 0
            && x.len() / 2 == half.len()
            && x.len().is_multiple_of(2)
            && half.len().is_multiple_of(width),
        "{} and {} numbers are not rows of 2 · {width} and of {width}",
        x.len(),
        half.len()
    );
    half.len() / width
}

/// Backward of [`swiglu`]: `x` is overwritten with its own gradient, from ∂L/∂out `dy` `(rows, width)`.
///
/// # Panics
/// As [`swiglu`].
pub fn swiglu_backward(x: &mut [f32], width: usize, dy: &[f32]) {
    let (rows, numbers) = (whole_rows(x, dy, width), x.len());
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
