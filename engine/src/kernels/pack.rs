//! Operands in the order in which the inner loops read them.
//!
//! A strip holds `width` rows of the left operand, or a panel [`PANEL`] columns of the right one, group by group along
//! k: word `[group][lane]`. A group is one f32, or two neighbouring bf16 with the first in the low half. AMX reads the
//! left operand as 32 rows of 16 groups each, `[k / 32][row][group]`.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::buffer::Buffer;
use super::kernel::{Kernel, Path};
use super::math::wide;

/// Columns of a panel of the right operand.
pub(super) const PANEL: usize = 32;

/// A matrix of f32 that lies somewhere else: element (i, j) at `data[i · row + j · column]`.
#[derive(Clone, Copy)]
pub struct View<'a> {
    data: &'a [f32],
    row: usize,
    column: usize,
}

impl<'a> View<'a> {
    /// Rows that begin every `stride` numbers.
    pub fn rows(data: &'a [f32], stride: usize) -> Self {
        Self { data, row: stride, column: 1 }
    }

    /// The transpose.
    #[must_use]
    pub fn t(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }

    /// Whether rows and columns of this number lie within the data.
    pub(super) fn holds(&self, rows: usize, columns: usize) -> bool {
        let last = |count: usize, distance: usize| (count - 1).checked_mul(distance);
        rows == 0
            || columns == 0
            || last(rows, self.row)
                .zip(last(columns, self.column))
                .and_then(|(row, column)| row.checked_add(column))
                .is_some_and(|last| last < self.data.len())
    }

    /// What lies to the right of and below an element.
    pub(super) fn part(&self, row: usize, column: usize) -> Self {
        Self { data: &self.data[row * self.row + column * self.column..], ..*self }
    }
}

/// A right operand in panels, once for many products: the weights of a layer, `(outputs, inputs)`, packed so that
/// `x · Wᵀ` reads them in order.
#[derive(Clone)]
pub struct Packed {
    kernel: Kernel,
    inputs: usize,
    outputs: usize,
    groups: usize,
    panels: Buffer,
}

impl Packed {
    /// Room for a weight matrix; all zeros until [`Self::fill`].
    ///
    /// # Panics
    /// If it is larger than the address space.
    pub fn new(kernel: Kernel, outputs: usize, inputs: usize) -> Self {
        let groups = kernel.groups(inputs);
        let words = groups.checked_mul(PANEL).and_then(|panel| panel.checked_mul(outputs.div_ceil(PANEL)));
        let words =
            words.unwrap_or_else(|| panic!("{outputs} × {inputs} weights are larger than the address space"));
        let panels = Buffer::fresh(words);
        Self { kernel, inputs, outputs, groups, panels }
    }

    /// A weight matrix, `(outputs, inputs)` row by row.
    ///
    /// # Panics
    /// If the length is not `outputs · inputs`.
    pub fn from_rows(kernel: Kernel, weight: &[f32], outputs: usize, inputs: usize) -> Self {
        let mut packed = Self::new(kernel, outputs, inputs);
        packed.fill(&[weight]);
        packed
    }

    /// Takes new numbers from matrices that lie one under another, each `(some outputs, inputs)`.
    ///
    /// # Panics
    /// If they do not have as many rows together as there are outputs.
    pub fn fill(&mut self, parts: &[&[f32]]) {
        let (kernel, inputs, groups) = (self.kernel, self.inputs, self.groups);
        let total: usize = parts.iter().map(|part| part.len()).sum();
        assert_eq!(Some(total), self.outputs.checked_mul(inputs), "wanted {} rows of {inputs}", self.outputs);
        if inputs == 0 {
            return;
        }
        self.panels.words_mut().par_chunks_mut((groups * PANEL).max(1)).enumerate().for_each(
            |(panel, words)| {
                let (mut first, last) = (panel * PANEL, ((panel + 1) * PANEL).min(total / inputs));
                let mut start = 0;
                for part in parts {
                    let end = start + part.len() / inputs;
                    while first < last && first < end {
                        let count = (end - first).min(last - first);
                        let view = View::rows(&part[(first - start) * inputs..], inputs);
                        pack(kernel, view, count, inputs, &mut words[first % PANEL..], PANEL);
                        first += count;
                    }
                    start = end;
                }
            },
        );
    }

    /// Columns of a product with it.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Terms of each sum.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    pub(super) fn kernel(&self) -> Kernel {
        self.kernel
    }

    pub(super) fn groups(&self) -> usize {
        self.groups
    }

    pub(super) fn words(&self) -> &[u32] {
        self.panels.words()
    }
}

/// Calls `f` with each chunk of words and its number, side by side if asked.
fn chunks(words: &mut [u32], size: usize, parallel: bool, f: impl Fn((usize, &mut [u32])) + Send + Sync) {
    if size == 0 {
    } else if parallel {
        words.par_chunks_mut(size).enumerate().for_each(f);
    } else {
        words.chunks_mut(size).enumerate().for_each(f);
    }
}

/// Packs a right operand `(k, n)` into panels.
pub(super) fn pack_panels(
    kernel: Kernel,
    b: View<'_>,
    k: usize,
    n: usize,
    words: &mut [u32],
    parallel: bool,
) {
    let size = kernel.groups(k) * PANEL;
    let columns = b.t();
    if across(kernel, columns) {
        chunks(words, ACROSS * size, parallel, |(chunk, words)| {
            let first = chunk * ACROSS * PANEL;
            let total = (n - first).min(ACROSS * PANEL);
            pack_across(kernel, columns.part(first, 0), total, k, words, PANEL, true);
        });
    } else {
        chunks(words, size, parallel, |(panel, words)| {
            let first = panel * PANEL;
            let count = PANEL.min(n - first);
            if count < PANEL {
                words.fill(0);
            }
            pack(kernel, columns.part(first, 0), count, k, words, PANEL);
        });
    }
}

/// Packs rows of a left operand `(m, k)` into strips. A strip has as many lanes as it has rows, but for AMX always 32.
pub(super) fn pack_strips(
    kernel: Kernel,
    a: View<'_>,
    m: usize,
    k: usize,
    words: &mut [u32],
    parallel: bool,
) {
    let (width, groups) = (kernel.strip(m), kernel.groups(k));
    if kernel.path() != Path::Amx && across(kernel, a) {
        chunks(words, ACROSS * width * groups, parallel, |(chunk, words)| {
            let first = chunk * ACROSS * width;
            let total = (m - first).min(ACROSS * width);
            pack_across(kernel, a.part(first, 0), total, k, words, width, false);
        });
    } else {
        chunks(words, width * groups, parallel, |(strip, words)| {
            let first = strip * width;
            let count = width.min(m - first);
            if kernel.path() == Path::Amx {
                pack_amx(a.part(first, 0), count, k, words);
            } else {
                pack(kernel, a.part(first, 0), count, k, words, count);
            }
        });
    }
}

/// Strips or panels that are packed together where elements of one term lie next to each other.
const ACROSS: usize = 8;

/// Whether rows lie so, and the kernel can make use of it.
fn across(kernel: Kernel, rows: View<'_>) -> bool {
    kernel.has_avx512() && rows.row == 1 && rows.column > 1
}

/// `total` rows of `k` terms to strips or panels of `width` rows; see [`across`].
#[cfg(target_arch = "x86_64")]
fn pack_across(
    kernel: Kernel,
    rows: View<'_>,
    total: usize,
    k: usize,
    words: &mut [u32],
    width: usize,
    whole: bool,
) {
    let distance = width.checked_mul(kernel.groups(k)).expect("words that exist are counted");
    let strips = total.div_ceil(width);
    let last = if whole { width } else { total - (strips - 1) * width };
    assert!(rows.holds(total, k) && rows.row == 1, "a view must hold what is packed from it");
    let end = (strips - 1).checked_mul(distance).zip(last.checked_mul(kernel.groups(k)));
    let end = end.and_then(|(before, last)| before.checked_add(last));
    assert!(end.is_some_and(|end| end <= words.len()), "no room for {strips} strips");
    let filled = if kernel.path().is_bf16() { k.div_ceil(2) } else { k };
    if filled < kernel.groups(k) || (whole && !total.is_multiple_of(width)) {
        words.fill(0);
    }
    let bf16 = kernel.path().is_bf16();
    let (from, to) = (rows.data.as_ptr(), words.as_mut_ptr());
    // SAFETY: holding such a kernel proves AVX-512 F and BW; the two assertions bound reads and writes.
    unsafe { super::avx512::pack_across(bf16, from, rows.column, total, k, to, width, distance, whole) }
}

#[cfg(not(target_arch = "x86_64"))]
fn pack_across(kernel: Kernel, _: View<'_>, _: usize, _: usize, _: &mut [u32], _: usize, _: bool) {
    unreachable!("{kernel:?} does not exist on this architecture")
}

/// Words that [`pack_strips`] writes; `usize::MAX` for more than there are addresses.
pub(super) fn strip_words(kernel: Kernel, m: usize, k: usize) -> usize {
    let rows = if kernel.path() == Path::Amx { m.next_multiple_of(32) } else { m };
    rows.saturating_mul(kernel.groups(k))
}

/// f32 → bf16 in the low half, to nearest, ties to even; NaN stays NaN.
#[inline(always)]
pub(super) fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    if x.is_nan() { (bits >> 16) | 0x40 } else { (bits + 0x7fff + ((bits >> 16) & 1)) >> 16 }
}

/// `count` rows of `k` terms to `words[group · width + lane]`. Groups beyond `k` become zero.
fn pack(kernel: Kernel, rows: View<'_>, count: usize, k: usize, words: &mut [u32], width: usize) {
    assert!(rows.holds(count, k), "a view must hold what is packed from it");
    let groups = kernel.groups(k);
    let end = |groups: usize| (groups - 1).checked_mul(width)?.checked_add(count);
    assert!(groups == 0 || count == 0 || end(groups).is_some_and(|end| end <= words.len()));
    #[cfg(target_arch = "x86_64")]
    if kernel.has_avx512() {
        // SAFETY: holding such a kernel proves AVX-512 F and BW; the two assertions bound reads and writes.
        unsafe {
            super::avx512::pack(
                kernel.path().is_bf16(),
                rows.data.as_ptr(),
                rows.row,
                rows.column,
                count,
                k,
                words.as_mut_ptr(),
                width,
            );
        }
        zero_groups(kernel, k, count, words, width);
        return;
    }
    let at = |lane: usize, term: usize| rows.data[lane * rows.row + term * rows.column];
    let bf16 = kernel.path().is_bf16();
    for group in 0..if bf16 { k.div_ceil(2) } else { k } {
        for lane in 0..count {
            words[group * width + lane] = if bf16 {
                let second = if 2 * group + 1 < k { round(at(lane, 2 * group + 1)) } else { 0 };
                round(at(lane, 2 * group)) | (second << 16)
            } else {
                at(lane, group).to_bits()
            };
        }
    }
    zero_groups(kernel, k, count, words, width);
}

fn zero_groups(kernel: Kernel, k: usize, count: usize, words: &mut [u32], width: usize) {
    let filled = if kernel.path().is_bf16() { k.div_ceil(2) } else { k };
    for group in filled..kernel.groups(k) {
        words[group * width..group * width + count].fill(0);
    }
}

/// 32 rows, `[k / 32][row][16 groups]`; missing rows and terms are zero.
fn pack_amx(rows: View<'_>, count: usize, k: usize, words: &mut [u32]) {
    assert!(rows.holds(count, k), "a view must hold what is packed from it");
    let at = |row: usize, term: usize| {
        if term < k { round(rows.data[row * rows.row + term * rows.column]) } else { 0 }
    };
    wide(|| {
        for (block, words) in words.chunks_mut(32 * 16).enumerate() {
            for (row, words) in words.chunks_exact_mut(16).enumerate() {
                if row >= count {
                    words.fill(0);
                } else if rows.column == 1 && (block + 1) * 32 <= k {
                    let from = &rows.data[row * rows.row + block * 32..][..32];
                    // a word's low half lies first on the machines that have AMX: halves in order are what vectors can write
                    // SAFETY: 16 words are 32 halves, of which every pattern of bits is valid.
                    let halves =
                        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u16>(), 32) };
                    for (half, number) in halves.iter_mut().zip(from) {
                        *half = round(*number) as u16;
                    }
                } else {
                    for (group, word) in words.iter_mut().enumerate() {
                        let term = block * 32 + 2 * group;
                        *word = at(row, term) | (at(row, term + 1) << 16);
                    }
                }
            }
        }
    });
}
