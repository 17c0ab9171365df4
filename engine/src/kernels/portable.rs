//! The inner loop in plain Rust: the same chains of fused multiply-adds as the vector paths, one after another.
#![allow(unsafe_code)]

use super::pack::PANEL;
use super::product::Tile;

/// # Safety
/// See [`super::product`].
pub(super) unsafe fn tile(t: &Tile) {
    let mut sums = [0f32; PANEL];
    for row in 0..t.rows {
        // SAFETY: the caller vouches for all places of the tile; `row`, `column` and `group` stay within it.
        unsafe {
            for (column, sum) in sums[..t.columns].iter_mut().enumerate() {
                *sum = if t.from.is_null() { 0.0 } else { *t.from.add(row * t.from_stride + column) };
            }
            for group in 0..t.groups {
                let left = f32::from_bits(*t.left.add(group * t.rows + row));
                for (column, sum) in sums[..t.columns].iter_mut().enumerate() {
                    *sum = left.mul_add(f32::from_bits(*t.right.add(group * PANEL + column)), *sum);
                }
            }
            for (column, sum) in sums[..t.columns].iter().enumerate() {
                *t.out.add(row * t.stride + column) = *sum;
            }
        }
    }
}
