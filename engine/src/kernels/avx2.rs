//! The inner loop with AVX2 and FMA: tiles of up to 6 rows by 16 columns, twice a panel.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::pack::PANEL;
use super::product::Tile;

/// # Safety
/// The machine has AVX2 and FMA; for the pointers see [`super::product`].
pub(super) unsafe fn tile(t: &Tile) {
    // SAFETY: the caller vouches for both.
    unsafe {
        match t.rows {
            1 => rows::<1>(t),
            2 => rows::<2>(t),
            3 => rows::<3>(t),
            4 => rows::<4>(t),
            5 => rows::<5>(t),
            6 => rows::<6>(t),
            more => unreachable!("a strip has at most 6 rows, not {more}"),
        }
    }
}

/// # Safety
/// As for [`tile`].
#[target_feature(enable = "avx2,fma")]
unsafe fn rows<const ROWS: usize>(t: &Tile) {
    for half in [0, 16] {
        if t.columns <= half {
            return;
        }
        // SAFETY: loads and stores of results are masked to the tile's columns; panels and strips are whole.
        unsafe {
            let masks = [0, 8].map(|offset| {
                let left = t.columns.saturating_sub(half + offset).min(8) as i32;
                _mm256_cmpgt_epi32(_mm256_set1_epi32(left), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
            });
            let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
            if !t.from.is_null() {
                for (row, sums) in sums.iter_mut().enumerate() {
                    let from = t.from.add(row * t.from_stride + half);
                    sums[0] = _mm256_maskload_ps(from, masks[0]);
                    sums[1] = _mm256_maskload_ps(from.wrapping_add(8), masks[1]);
                }
            }
            let (mut left, mut right) = (t.left.cast::<f32>(), t.right.cast::<f32>().add(half));
            for _ in 0..t.groups {
                let (b0, b1) = (_mm256_loadu_ps(right), _mm256_loadu_ps(right.add(8)));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let a = _mm256_broadcast_ss(&*left.add(row));
                    sums[0] = _mm256_fmadd_ps(a, b0, sums[0]);
                    sums[1] = _mm256_fmadd_ps(a, b1, sums[1]);
                }
                left = left.add(ROWS);
                right = right.wrapping_add(PANEL);
            }
            for (row, sums) in sums.iter().enumerate() {
                let out = t.out.add(row * t.stride + half);
                _mm256_maskstore_ps(out, masks[0], sums[0]);
                _mm256_maskstore_ps(out.wrapping_add(8), masks[1], sums[1]);
            }
        }
    }
}
