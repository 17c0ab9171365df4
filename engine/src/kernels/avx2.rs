//! The inner loop with AVX2 and FMA: tiles of up to 6 rows by 16 columns, twice a panel, or of up to 3 rows by a whole one.
//!
//! Registers hold 12 vectors of sums at most, and fewer than 8 would wait for each other. Masked stores cost an AMD processor
//! dozens of cycles, so only tiles at the right edge have them.
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
            1 => rows::<1, 4>(t),
            2 => rows::<2, 4>(t),
            3 => rows::<3, 4>(t),
            4 => rows::<4, 2>(t),
            5 => rows::<5, 2>(t),
            6 => rows::<6, 2>(t),
            more => unreachable!("a strip has at most 6 rows, not {more}"),
        }
    }
}

/// `VECTORS` of 8 columns at a time.
///
/// # Safety
/// As for [`tile`].
#[target_feature(enable = "avx2,fma")]
unsafe fn rows<const ROWS: usize, const VECTORS: usize>(t: &Tile) {
    for first in (0..PANEL).step_by(8 * VECTORS) {
        if t.columns <= first {
            return;
        }
        let whole = t.columns >= first + 8 * VECTORS;
        // SAFETY: loads and stores of results are masked to the tile's columns unless it has all of them; panels and
        // strips are whole.
        unsafe {
            let mask = |vector: usize| {
                let left = t.columns.saturating_sub(first + 8 * vector).min(8) as i32;
                _mm256_cmpgt_epi32(_mm256_set1_epi32(left), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
            };
            let mut sums = [[_mm256_setzero_ps(); VECTORS]; ROWS];
            if !t.from.is_null() {
                for (row, sums) in sums.iter_mut().enumerate() {
                    let from = t.from.add(row * t.from_stride + first);
                    for (vector, sum) in sums.iter_mut().enumerate() {
                        let from = from.wrapping_add(8 * vector);
                        *sum = if whole {
                            _mm256_loadu_ps(from)
                        } else {
                            _mm256_maskload_ps(from, mask(vector))
                        };
                    }
                }
            }
            let (mut left, mut right) = (t.left.cast::<f32>(), t.right.cast::<f32>().add(first));
            for _ in 0..t.groups {
                let mut b = [_mm256_setzero_ps(); VECTORS];
                for (vector, b) in b.iter_mut().enumerate() {
                    *b = _mm256_loadu_ps(right.add(8 * vector));
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let a = _mm256_broadcast_ss(&*left.add(row));
                    for (sum, b) in sums.iter_mut().zip(&b) {
                        *sum = _mm256_fmadd_ps(a, *b, *sum);
                    }
                }
                left = left.add(ROWS);
                right = right.wrapping_add(PANEL);
            }
            for (row, sums) in sums.iter().enumerate() {
                let out = t.out.add(row * t.stride + first);
                for (vector, sum) in sums.iter().enumerate() {
                    let out = out.wrapping_add(8 * vector);
                    if whole {
                        _mm256_storeu_ps(out, *sum);
                    } else {
                        _mm256_maskstore_ps(out, mask(vector), *sum);
                    }
                }
            }
        }
    }
}

/// Multiply-adds on twelve registers, as many as a tile's sums; gives the floating-point operations.
///
/// # Safety
/// The machine has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn peak(rounds: usize) -> f64 {
    let mut sums = [_mm256_set1_ps(1.0); 12];
    let (a, b) = (_mm256_set1_ps(std::hint::black_box(0.5)), _mm256_set1_ps(std::hint::black_box(0.25)));
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(a, *sum, b);
        }
    }
    std::hint::black_box(sums);
    (2 * 8 * 12 * rounds) as f64
}
