//! AVX-512: the inner loops for f32 and bf16, and the packing of operands.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::pack::PANEL;
use super::product::{INNER, Tile};

/// Words between a group and the one that is fetched meanwhile: those that a strip passes over at a time.
const AHEAD: usize = INNER * PANEL;

/// An inner loop over up to 14 rows by 32 columns: 28 sums stay in registers, beside two words of the panel and one of
/// the strip, which is broadcast.
macro_rules! tile {
    ($name:ident, $rows:ident, $features:literal, $sum:expr, $about:literal) => {
        #[doc = $about]
        ///
        /// # Safety
        /// The machine has the instructions; for the pointers see [`super::product`].
        pub(super) unsafe fn $name(t: &Tile) {
            // SAFETY: the caller vouches for both.
            unsafe {
                match t.rows {
                    1 => $rows::<1>(t),
                    2 => $rows::<2>(t),
                    3 => $rows::<3>(t),
                    4 => $rows::<4>(t),
                    5 => $rows::<5>(t),
                    6 => $rows::<6>(t),
                    7 => $rows::<7>(t),
                    8 => $rows::<8>(t),
                    9 => $rows::<9>(t),
                    10 => $rows::<10>(t),
                    11 => $rows::<11>(t),
                    12 => $rows::<12>(t),
                    13 => $rows::<13>(t),
                    14 => $rows::<14>(t),
                    more => unreachable!("a strip has at most 14 rows, not {more}"),
                }
            }
        }

        /// # Safety
        /// As above.
        #[target_feature(enable = $features)]
        unsafe fn $rows<const ROWS: usize>(t: &Tile) {
            // SAFETY: loads and stores of results are masked to the tile's columns; panels and strips are whole.
            unsafe {
                let masks = [mask(t.columns), mask(t.columns.saturating_sub(16))];
                let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
                if !t.from.is_null() {
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let from = t.from.add(row * t.from_stride);
                        sums[0] = _mm512_maskz_loadu_ps(masks[0], from);
                        sums[1] = _mm512_maskz_loadu_ps(masks[1], from.wrapping_add(16));
                    }
                }
                let (mut left, mut right) = (t.left.cast::<i32>(), t.right.cast::<f32>());
                for _ in 0..t.groups {
                    let b = [_mm512_loadu_ps(right), _mm512_loadu_ps(right.add(16))];
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let a = _mm512_castsi512_ps(_mm512_set1_epi32(*left.add(row)));
                        sums[0] = $sum(sums[0], a, b[0]);
                        sums[1] = $sum(sums[1], a, b[1]);
                    }
                    // While later strips pass over the groups that are in the first-level cache, memory would be idle.
                    _mm_prefetch::<_MM_HINT_T1>(right.wrapping_add(AHEAD).cast());
                    _mm_prefetch::<_MM_HINT_T1>(right.wrapping_add(AHEAD + 16).cast());
                    left = left.add(ROWS);
                    right = right.add(PANEL);
                }
                for (row, sums) in sums.iter().enumerate() {
                    let out = t.out.add(row * t.stride);
                    _mm512_mask_storeu_ps(out, masks[0], sums[0]);
                    _mm512_mask_storeu_ps(out.wrapping_add(16), masks[1], sums[1]);
                }
            }
        }
    };
}

tile!(tile_f32, rows_f32, "avx512f", add_f32, "One tile of an f32 product.");
tile!(tile_bf16, rows_bf16, "avx512f,avx512bf16", add_bf16, "One tile of a bf16 product.");

#[inline]
#[target_feature(enable = "avx512f")]
fn add_f32(sum: __m512, a: __m512, b: __m512) -> __m512 {
    _mm512_fmadd_ps(a, b, sum)
}

/// Adds the products of two neighbouring pairs to each sum.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn add_bf16(sum: __m512, a: __m512, b: __m512) -> __m512 {
    // SAFETY: both types are 512 bits without invalid patterns.
    let pairs = |x: __m512| unsafe { std::mem::transmute::<__m512, __m512bh>(x) };
    _mm512_dpbf16_ps(sum, pairs(a), pairs(b))
}

/// The first `count` of 16 lanes.
fn mask(count: usize) -> __mmask16 {
    if count >= 16 { 0xffff } else { (1u16 << count) - 1 }
}

/// `count` rows of `k` terms, element (i, j) at `from[i · row + j · column]`, to `words[group · width + i]`.
///
/// # Safety
/// The machine has AVX-512 F and BW; `from` is good for all elements and `words` for the last group's `count` lanes.
#[expect(clippy::too_many_arguments, reason = "two strided places and their sizes")]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pack(
    bf16: bool,
    from: *const f32,
    row: usize,
    column: usize,
    count: usize,
    k: usize,
    words: *mut u32,
    width: usize,
) {
    let groups = if bf16 { k.div_ceil(2) } else { k };
    for lane in (0..count).step_by(16) {
        let lanes = (count - lane).min(16);
        // SAFETY: lane + i < count, group + j < groups and terms are below k in all that follows, by the masks.
        unsafe {
            let (from, words) = (from.add(lane * row), words.add(lane));
            if column == 1 {
                for group in (0..groups).step_by(16) {
                    let mut block = [_mm512_setzero_si512(); 16];
                    for (i, block) in block.iter_mut().enumerate().take(lanes) {
                        let at = from.add(i * row);
                        *block = if bf16 {
                            let term = 2 * group;
                            let left = k - term;
                            let low = _mm512_maskz_loadu_ps(mask(left), at.add(term));
                            let high = _mm512_maskz_loadu_ps(
                                mask(left.saturating_sub(16)),
                                at.wrapping_add(term + 16),
                            );
                            neighbours(rounded(low), rounded(high))
                        } else {
                            _mm512_castps_si512(_mm512_maskz_loadu_ps(mask(k - group), at.add(group)))
                        };
                    }
                    transpose(&mut block);
                    for (j, block) in block.iter().enumerate().take(groups - group) {
                        _mm512_mask_storeu_epi32(words.add((group + j) * width).cast(), mask(lanes), *block);
                    }
                }
            } else if row == 1 {
                for group in 0..groups {
                    let word = if bf16 {
                        let at = from.add(2 * group * column);
                        let first = rounded(_mm512_maskz_loadu_ps(mask(lanes), at));
                        let second = if 2 * group + 1 < k {
                            rounded(_mm512_maskz_loadu_ps(mask(lanes), at.add(column)))
                        } else {
                            _mm512_setzero_si512()
                        };
                        _mm512_or_si512(_mm512_srli_epi32::<16>(first), second)
                    } else {
                        _mm512_castps_si512(_mm512_maskz_loadu_ps(mask(lanes), from.add(group * column)))
                    };
                    _mm512_mask_storeu_epi32(words.add(group * width).cast(), mask(lanes), word);
                }
            } else {
                for group in 0..groups {
                    for i in 0..lanes {
                        let at = from.add(i * row);
                        let word = if bf16 {
                            let term = 2 * group;
                            let second = if term + 1 < k { *at.add((term + 1) * column) } else { 0.0 };
                            super::pack::round(*at.add(term * column)) | (super::pack::round(second) << 16)
                        } else {
                            (*at.add(group * column)).to_bits()
                        };
                        *words.add(group * width + i) = word;
                    }
                }
            }
        }
    }
}

/// The same for many strips or panels side by side, whose elements of one term lie next to each other: `total` rows with
/// element (i, j) at `from[i + j · column]`, to strips of `width` rows that begin every `distance` words. A last strip of
/// fewer rows is as wide as it has rows, unless `whole`. Memory is read along the terms, a long stretch at a time.
///
/// # Safety
/// The machine has AVX-512 F and BW; `from` is good for all elements and `words` for all strips.
#[expect(clippy::too_many_arguments, reason = "two strided places and their sizes")]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pack_across(
    bf16: bool,
    from: *const f32,
    column: usize,
    total: usize,
    k: usize,
    words: *mut u32,
    width: usize,
    distance: usize,
    whole: bool,
) {
    let groups = if bf16 { k.div_ceil(2) } else { k };
    for group in 0..groups {
        for strip in 0..total.div_ceil(width) {
            let count = (total - strip * width).min(width);
            let row = group * if whole { width } else { count };
            for lane in (0..count).step_by(16) {
                let mask = mask(count - lane);
                // SAFETY: strip · width + lane and what the mask leaves are below `total`, terms are below k, and
                // groups below those of the strip.
                unsafe {
                    let from = from.add(strip * width + lane);
                    let word = if bf16 {
                        let first = rounded(_mm512_maskz_loadu_ps(mask, from.add(2 * group * column)));
                        let second = if 2 * group + 1 < k {
                            rounded(_mm512_maskz_loadu_ps(mask, from.add((2 * group + 1) * column)))
                        } else {
                            _mm512_setzero_si512()
                        };
                        _mm512_or_si512(_mm512_srli_epi32::<16>(first), second)
                    } else {
                        _mm512_castps_si512(_mm512_maskz_loadu_ps(mask, from.add(group * column)))
                    };
                    let to = words.add(strip * distance + row + lane);
                    _mm512_mask_storeu_epi32(to.cast(), mask, word);
                }
            }
        }
    }
}

/// Each lane as bf16 in its high half, to nearest, ties to even; the low half is zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rounded(x: __m512) -> __m512i {
    let bits = _mm512_castps_si512(x);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x40_0000));
    let chosen = _mm512_mask_blend_epi32(nan, up, quiet);
    _mm512_and_si512(chosen, _mm512_set1_epi32(0xffff_0000u32 as i32))
}

/// 32 numbers in the high halves of two registers → 16 pairs of neighbours.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn neighbours(low: __m512i, high: __m512i) -> __m512i {
    const ODD: [u16; 32] = {
        let mut odd = [0; 32];
        let mut i = 0;
        while i < 32 {
            odd[i] = 2 * i as u16 + 1;
            i += 1;
        }
        odd
    };
    // SAFETY: the array has the 64 bytes that are loaded.
    let odd = unsafe { _mm512_loadu_si512(ODD.as_ptr().cast()) };
    _mm512_permutex2var_epi16(low, odd, high)
}

/// Rows become columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(x: &mut [__m512i; 16]) {
    let mut y = *x;
    for i in 0..8 {
        y[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
        y[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
    }
    for i in 0..4 {
        x[4 * i] = _mm512_unpacklo_epi64(y[4 * i], y[4 * i + 2]);
        x[4 * i + 1] = _mm512_unpackhi_epi64(y[4 * i], y[4 * i + 2]);
        x[4 * i + 2] = _mm512_unpacklo_epi64(y[4 * i + 1], y[4 * i + 3]);
        x[4 * i + 3] = _mm512_unpackhi_epi64(y[4 * i + 1], y[4 * i + 3]);
    }
    // x[4i + j] now holds columns j, 4 + j, 8 + j, 12 + j of rows 4i … 4i + 3, a quarter each
    for j in 0..4 {
        let (a, b) = (x[j], x[4 + j]);
        let (c, d) = (x[8 + j], x[12 + j]);
        let even = _mm512_shuffle_i32x4::<0x88>(a, b); // a0 a2 b0 b2
        let odd = _mm512_shuffle_i32x4::<0xdd>(a, b); // a1 a3 b1 b3
        let even2 = _mm512_shuffle_i32x4::<0x88>(c, d);
        let odd2 = _mm512_shuffle_i32x4::<0xdd>(c, d);
        y[j] = _mm512_shuffle_i32x4::<0x88>(even, even2); // a0 b0 c0 d0
        y[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even, even2); // a2 b2 c2 d2
        y[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd, odd2); // a1 b1 c1 d1
        y[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd, odd2); // a3 b3 c3 d3
    }
    *x = y;
}

/// Sums in registers alone: 28 of them, so that none waits for itself.
macro_rules! peak {
    ($name:ident, $inner:ident, $features:literal, $sum:expr, $terms:literal, $about:literal) => {
        #[doc = $about]
        ///
        /// # Safety
        /// The machine has the instructions.
        pub(super) unsafe fn $name(rounds: usize) -> f64 {
            /// # Safety
            /// The machine has the instructions.
            #[target_feature(enable = $features)]
            unsafe fn $inner(rounds: usize) -> f32 {
                let (a, b) =
                    (_mm512_set1_ps(std::hint::black_box(0.5)), _mm512_set1_ps(std::hint::black_box(1e-3)));
                let mut sums = [[_mm512_setzero_ps(); 2]; 14];
                for _ in 0..rounds {
                    for pair in &mut sums {
                        pair[0] = $sum(pair[0], a, b);
                        pair[1] = $sum(pair[1], a, b);
                    }
                }
                sums.into_iter().flatten().map(|sum| _mm512_reduce_add_ps(sum)).sum()
            }
            // SAFETY: the caller vouches for the instructions.
            std::hint::black_box(unsafe { $inner(rounds) });
            (rounds * 28 * 16 * 2 * $terms) as f64
        }
    };
}

peak!(peak_f32, run_f32, "avx512f", add_f32, 1, "Operations done in so many rounds of f32 multiply-adds.");
peak!(peak_bf16, run_bf16, "avx512f,avx512bf16", add_bf16, 2, "The same of bf16 pairs.");
