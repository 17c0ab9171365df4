//! Rows that several threads write, and sums over rows.
//!
//! Forward passes write each row from that row alone. Sums over rows, for the gradients of weights, are made in blocks
//! of [`BLOCK`] rows whose sums are added in order, so that the number of threads changes nothing.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::buffer::Buffer;
use super::math::wide;

/// Rows whose share of a weight's gradient is summed together.
pub(super) const BLOCK: usize = 128;
/// Numbers below which another thread is not worth waking.
pub(super) const SMALL: usize = 1 << 15;

/// Calls `f` with the number of each block of `rows` rows, side by side if there is enough to do.
pub(super) fn blocks(rows: usize, numbers: usize, f: impl Fn(std::ops::Range<usize>) + Sync + Send) {
    let count = rows.div_ceil(BLOCK);
    let range = |block: usize| block * BLOCK..((block + 1) * BLOCK).min(rows);
    if numbers < SMALL {
        (0..count).for_each(|block| f(range(block)));
    } else {
        (0..count).into_par_iter().for_each(|block| f(range(block)));
    }
}

/// Where sums over rows go.
pub enum RowSums<'a> {
    /// All rows into one sum, which is added to.
    All(&'a mut [f32]),
    /// So many rows each time into a sum of their own: one after another, `(lengths, width)`, which are added to.
    Each(&'a [usize], &'a mut [f32]),
}

/// Calls `f` with ranges of `rows` rows and the place of their sum of `width` numbers.
pub(super) fn summed(
    rows: usize,
    width: usize,
    numbers: usize,
    sums: RowSums<'_>,
    f: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync + Send,
) {
    match sums {
        RowSums::All(out) => {
            let mut parts = Buffer::zeros(rows.div_ceil(BLOCK) * width);
            let sums = Rows::new(&mut parts);
            blocks(rows, numbers, |rows| {
                // SAFETY: each block has sums of its own.
                let sum = unsafe { sums.part(rows.start / BLOCK * width, width) };
                f(rows, sum);
            });
            for part in parts.chunks_exact(width.max(1)) {
                add_rows(part, out);
            }
        }
        RowSums::Each(lengths, out) => {
            // a sum that wrapped would give the same rows to two ranges
            let total = lengths.iter().try_fold(0usize, |sum, length| sum.checked_add(*length));
            assert_eq!(total, Some(rows), "the lengths are those of all rows");
            assert_eq!(
                Some(out.len()),
                lengths.len().checked_mul(width),
                "a sum of {width} numbers for each length"
            );
            let mut first = 0;
            let ranges = lengths.iter().map(|length| {
                first += length;
                first - length..first
            });
            let parts: Vec<_> = ranges.zip(out.chunks_exact_mut(width)).collect();
            if numbers < SMALL {
                parts.into_iter().for_each(|(rows, sum)| f(rows, sum));
            } else {
                parts.into_par_iter().with_min_len(4).for_each(|(rows, sum)| f(rows, sum));
            }
        }
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

    /// Parts of `width` numbers, one every `stride`, the first at `first`: checks that `count` of them lie inside and
    /// apart, so that none of the places wraps and no two parts share a number.
    ///
    /// # Panics
    /// If they do not.
    pub(super) fn hold_apart(&self, count: usize, stride: usize, first: usize, width: usize) {
        if count == 0 || width == 0 {
            return;
        }
        assert!(count == 1 || width <= stride, "parts of {width} numbers overlap, one every {stride}");
        let end =
            (count - 1).checked_mul(stride).and_then(|last| last.checked_add(first)?.checked_add(width));
        assert!(
            end.is_some_and(|end| end <= self.1),
            "{count} parts of {width} numbers, one every {stride} from {first} on, end beyond {}",
            self.1
        );
    }

    /// `length` numbers from `start` on.
    ///
    /// # Safety
    /// No one else uses these numbers at the same time, and the slice that this was made from is still borrowed.
    #[expect(clippy::mut_from_ref, reason = "the caller vouches for being alone")]
    pub(super) unsafe fn part(&self, start: usize, length: usize) -> &mut [f32] {
        assert!(length <= self.1 && start <= self.1 - length, "rows end at {}", self.1);
        // SAFETY: inside the slice by the assertion, alone by the caller's word.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), length) }
    }
}

/// `to[i] += from[i]`.
///
/// # Panics
/// If the lengths differ.
pub(super) fn add_rows(from: &[f32], to: &mut [f32]) {
    assert_eq!(from.len(), to.len());
    wide(|| to.iter_mut().zip(from).for_each(|(to, from)| *to += from));
}

/// Sums `width` columns over rows, from column `first` on. Rows of `x` begin every `stride`.
///
/// # Panics
/// If a row does not have these columns.
pub fn add_columns(x: &[f32], stride: usize, first: usize, width: usize, sums: RowSums<'_>) {
    summed(x.len() / stride.max(1), width, x.len(), sums, |rows, sum| {
        for row in rows {
            add_rows(&x[row * stride + first..][..width], sum);
        }
    });
}

/// Whether no number is NaN or infinite, and how many are subnormal: so small that they have lost precision, that some
/// processors take a hundred times as long over them, and that bf16 products take them for 0.
pub fn health(x: &[f32]) -> (bool, usize) {
    wide(|| {
        x.iter().fold((true, 0), |(finite, subnormal), x| {
            let exponent = x.to_bits() & 0x7f80_0000;
            let zero = x.to_bits() & 0x7fff_ffff == 0;
            (finite & (exponent != 0x7f80_0000), subnormal + usize::from(exponent == 0 && !zero))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_number_is_told_apart() {
        assert_eq!(health(&[0.0, -0.0, 1.0, f32::MAX, f32::MIN_POSITIVE]), (true, 0));
        assert_eq!(health(&[1e-40, -1e-45, f32::MIN_POSITIVE / 2.0, 1.0]), (true, 3));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(health(&[1.0, bad, 1e-40]), (false, 1));
        }
        assert_eq!(health(&[]), (true, 0));
    }
}
