//! Heads of queries and keys: their norm, if they have one, and the rotation by position; with the backward.
#![allow(unsafe_code)]

use super::math::wide;
use super::norm::{inverse_root, norm_row_backward};
use super::rows::{RowSums, Rows, blocks, summed};

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

/// How many tokens there are angles for, if the heads of one place can become those of the other.
fn tokens(from: Heads, to: Heads, cos: &[f32]) -> usize {
    assert!(
        from.width >= 2 && from.width.is_multiple_of(2),
        "a head has pairs of numbers, not {}",
        from.width
    );
    assert!(
        from.count == to.count && from.width == to.width,
        "{} heads of {} are not {} of {}",
        from.count,
        from.width,
        to.count,
        to.width
    );
    assert!(from.count.checked_mul(from.width).is_some(), "{} heads of {} wrap", from.count, from.width);
    cos.len() / (from.width / 2)
}

/// The RMS norm of every head, if it has one, then its rotation: each pair (i, i + width/2) turns by its angle, given as
/// `cos` and `sin`, `(tokens, width / 2)`. Reads heads of `x` at `from`, writes heads of `out` at `to`.
///
/// # Source
/// Su et al., arXiv:2104.09864, in the half-split layout of Qwen's reference implementation.
///
/// # Panics
/// If a head lies outside its slice, heads of different tokens overlap in `out`, or the two places differ in number or
/// width of heads.
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
    let tokens = tokens(from, to, cos);
    let target = Rows::new(out);
    target.hold_apart(tokens, to.stride, to.first, to.count * width);
    blocks(tokens, tokens * from.count * width, |tokens| {
        wide(|| {
            for token in tokens {
                let (cos, sin) = (&cos[token * half..][..half], &sin[token * half..][..half]);
                for head in 0..from.count {
                    let x = &x[token * from.stride + from.first + head * width..][..width];
                    // SAFETY: the heads of a token are written by the block that has it, and lie apart from those of
                    // others by the check above.
                    let out = unsafe { target.part(token * to.stride + to.first + head * width, width) };
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
                }
            }
        });
    });
}

/// Backward of [`rotate`]: reads ∂L/∂out from `dy` at `to`, writes ∂L/∂x to `dx` at `from`, and adds ∂L/∂(norm weight)
/// to `d_norm`, which without a norm gets nothing.
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
    d_norm: RowSums<'_>,
) {
    let (width, half) = (from.width, from.width / 2);
    let count = tokens(from, to, cos);
    let target = Rows::new(dx);
    target.hold_apart(count, from.stride, from.first, from.count * width);
    summed(count, width, count * from.count * width, d_norm, |tokens, dw| {
        let mut turned = vec![0f32; width];
        wide(|| {
            for token in tokens {
                let (cos, sin) = (&cos[token * half..][..half], &sin[token * half..][..half]);
                for head in 0..from.count {
                    let dy = &dy[token * to.stride + to.first + head * width..][..width];
                    let place = token * from.stride + from.first + head * width;
                    // SAFETY: as in the forward.
                    let dx = unsafe { target.part(place, width) };
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
                }
            }
        });
    });
}
