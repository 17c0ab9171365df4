//! The product of two matrices, for any number of rows.
//!
//! Before: [`super::pack`] lays the operands out. After: the inner loop of the kernel's path adds up one tile of results
//! after another. Blocks are chosen for the caches and change no bit, since a tile that is taken up again continues the
//! sum where it stood.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::buffer::Buffer;
use super::kernel::{Kernel, Path};
use super::pack::{PANEL, Packed, View, pack_panels, pack_strips, strip_words};

/// Where the sums of a product begin.
#[derive(Clone, Copy)]
pub enum Start<'a> {
    /// At zero.
    Zero,
    /// At what the result holds already.
    Add,
    /// Each column at its number.
    Bias(&'a [f32]),
}

/// The right operand of a product: a [`View`] of a matrix `(k, n)`, or weights that are [`Packed`] already.
#[derive(Clone, Copy)]
pub enum Right<'a> {
    /// To be packed on the way.
    View(View<'a>),
    /// Packed before.
    Packed(&'a Packed),
    /// Packed before, from this column on, which begins a panel: a multiple of 32.
    Columns(&'a Packed, usize),
}

impl<'a> From<View<'a>> for Right<'a> {
    fn from(view: View<'a>) -> Self {
        Self::View(view)
    }
}

impl<'a> From<&'a Packed> for Right<'a> {
    fn from(packed: &'a Packed) -> Self {
        Self::Packed(packed)
    }
}

/// Words of the left operand that should stay in the second-level cache.
const LEFT_WORDS: usize = 128 << 10;
/// Groups of a panel that stay in the first-level cache while the strips pass by.
pub(super) const INNER: usize = 256;
/// Columns packed at a time where the right operand is not packed yet.
const COLUMNS: usize = 4096;
/// Groups taken at a time where the left operand is large.
const GROUPS: usize = 1024;
/// Rows packed at a time.
const ROWS: usize = 4096;
/// Products of fewer multiply-adds are left to one thread.
const SMALL: usize = 1 << 20;

/// `out = start + a · b`, with a `(m, k)`, b `(k, n)` and out `(m, n)`, whose rows begin every `stride` numbers.
///
/// Row i of the result depends on row i of `a` alone, to the bit, and on neither `m` nor the number of threads. On a
/// bf16 path both operands are rounded to bf16, to nearest, and summed in f32.
///
/// # Panics
/// If an operand or the result is too short for these sizes, or `b` was packed for another kernel or another `k`.
pub fn product<'a>(
    kernel: Kernel,
    (m, n, k): (usize, usize, usize),
    a: View<'_>,
    b: impl Into<Right<'a>>,
    out: &mut [f32],
    stride: usize,
    start: Start<'_>,
) {
    match b.into() {
        Right::View(view) => {
            assert!(m == 0 || view.holds(k, n), "the right operand is shorter than {k} × {n}");
            multiply(kernel, (m, n, k), a, Source::View(view), out, stride, start);
        }
        Right::Packed(packed) => columns(kernel, (m, n, k), a, packed, 0, out, stride, start),
        Right::Columns(packed, first) => columns(kernel, (m, n, k), a, packed, first, out, stride, start),
    }
}

#[expect(clippy::too_many_arguments, reason = "as above")]
fn columns(
    kernel: Kernel,
    (m, n, k): (usize, usize, usize),
    a: View<'_>,
    packed: &Packed,
    first: usize,
    out: &mut [f32],
    stride: usize,
    start: Start<'_>,
) {
    assert!(packed.kernel() == kernel, "packed for {:?}, not {kernel:?}", packed.kernel());
    assert!(
        packed.inputs() == k && first.checked_add(n).is_some_and(|last| last <= packed.outputs()),
        "packed for other sizes than {k} × {first} + {n}"
    );
    assert!(first.is_multiple_of(PANEL), "column {first} does not begin a panel of {PANEL}");
    let panels = Panels { words: packed.words(), distance: packed.groups() * PANEL };
    if n > 0 {
        let panels = panels.part(first / PANEL, 0);
        multiply(kernel, (m, n, k), a, Source::Panels(panels), out, stride, start);
    }
}

/// The same with panels of the caller's, which hold at least `k` terms.
pub(super) fn product_with_panels(
    kernel: Kernel,
    size: (usize, usize, usize),
    a: View<'_>,
    panels: Panels<'_>,
    out: &mut [f32],
    stride: usize,
    start: Start<'_>,
) {
    multiply(kernel, size, a, Source::Panels(panels), out, stride, start);
}

/// Where the last of some rows of `width` numbers ends, if that is a place at all.
fn ends(rows: usize, stride: usize, width: usize) -> Option<usize> {
    rows.checked_sub(1)?.checked_mul(stride)?.checked_add(width)
}

#[derive(Clone, Copy)]
enum Source<'a> {
    View(View<'a>),
    Panels(Panels<'a>),
}

fn multiply(
    kernel: Kernel,
    (m, n, k): (usize, usize, usize),
    a: View<'_>,
    b: Source<'_>,
    out: &mut [f32],
    stride: usize,
    start: Start<'_>,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(a.holds(m, k), "the left operand is shorter than {m} × {k}");
    assert!(
        stride >= n && ends(m, stride, n).is_some_and(|end| end <= out.len()),
        "the result is shorter than {m} × {n}"
    );
    if let Start::Bias(bias) = start {
        assert!(bias.len() >= n, "wanted {n} biases, found {}", bias.len());
    }
    if k == 0 {
        for row in out.chunks_mut(stride).take(m) {
            match start {
                Start::Zero => row[..n].fill(0.0),
                Start::Add => {}
                Start::Bias(bias) => row[..n].copy_from_slice(&bias[..n]),
            }
        }
        return;
    }
    let parallel = m.saturating_mul(n).saturating_mul(k) > SMALL && rayon::current_num_threads() > 1;
    let unit = if kernel.path().is_bf16() { 2 } else { 1 };
    let all_groups = kernel.groups(k);
    // all of k at once if the left operand is small
    let small = strip_words(kernel, m.min(ROWS), k) <= LEFT_WORDS;
    let step = if small { all_groups } else { GROUPS };
    let columns = if matches!(b, Source::View(_)) { COLUMNS } else { n };
    for first_column in (0..n).step_by(columns) {
        let width = columns.min(n - first_column);
        for first_group in (0..all_groups).step_by(step) {
            let groups = step.min(all_groups - first_group);
            let terms = (first_group * unit)..((first_group + groups) * unit).min(k);
            let count = terms.len();
            let packed;
            let right = match b {
                Source::Panels(panels) => panels.part(first_column / PANEL, first_group),
                Source::View(view) => {
                    let mut panels = Buffer::new(width.div_ceil(PANEL) * groups * PANEL);
                    let part = view.part(terms.start, first_column);
                    pack_panels(kernel, part, count, width, panels.words_mut(), parallel);
                    packed = panels;
                    Panels { words: packed.words(), distance: groups * PANEL }
                }
            };
            let begin = match start {
                _ if first_group > 0 => Start::Add,
                Start::Bias(bias) => Start::Bias(&bias[first_column..]),
                other => other,
            };
            for first_row in (0..m).step_by(ROWS) {
                let rows = ROWS.min(m - first_row);
                let mut strips = Buffer::new(strip_words(kernel, rows, count));
                pack_strips(
                    kernel,
                    a.part(first_row, terms.start),
                    rows,
                    count,
                    strips.words_mut(),
                    parallel,
                );
                let left = strips.words();
                let block = Block { kernel, rows, width, groups, left, right, start: begin, stride };
                block.run(&mut out[first_row * stride + first_column..], parallel);
            }
        }
    }
}

/// A right operand in panels that lie a fixed number of words apart.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    words: &'a [u32],
    /// Words from one panel to the next.
    distance: usize,
}

impl<'a> Panels<'a> {
    /// Panels kept in a buffer of numbers.
    pub(super) fn of(words: &'a [f32], distance: usize) -> Self {
        // SAFETY: f32 and u32 have the same size and alignment, and every pattern of bits is valid for both.
        let words = unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) };
        Self { words, distance }
    }

    /// Groups `first` and on of panels from `panel` on.
    fn part(self, panel: usize, first: usize) -> Self {
        Self { words: &self.words[panel * self.distance + first * PANEL..], ..self }
    }
}

/// A packed part of a product.
struct Block<'a> {
    kernel: Kernel,
    rows: usize,
    width: usize,
    groups: usize,
    left: &'a [u32],
    right: Panels<'a>,
    start: Start<'a>,
    stride: usize,
}

/// Where results go: tasks write to places that do not overlap.
#[derive(Clone, Copy)]
struct Out(*mut f32);
// SAFETY: tasks are given disjoint tiles, see `Block::run`.
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

impl Block<'_> {
    fn run(&self, out: &mut [f32], parallel: bool) {
        let strip = self.kernel.strip(self.rows);
        let panels = self.width.div_ceil(PANEL);
        let strips = self.rows.div_ceil(strip);
        let holds = |length: usize, end: Option<usize>| end.is_some_and(|end| end <= length);
        assert!(self.width <= self.stride && holds(out.len(), ends(self.rows, self.stride, self.width)));
        let lanes = if self.kernel.path() == Path::Amx { self.rows.next_multiple_of(32) } else { self.rows };
        assert!(holds(self.left.len(), lanes.checked_mul(self.groups)));
        let last = self.groups.checked_mul(PANEL).and_then(|last| ends(panels, self.right.distance, last));
        assert!(holds(self.right.words.len(), last));
        // strips whose words stay in the cache together
        let high = (LEFT_WORDS / (strip * self.groups)).clamp(1, strips);
        let tasks_down = strips.div_ceil(high);
        let wanted = if parallel { 4 * rayon::current_num_threads() } else { 1 };
        let across = wanted.div_ceil(tasks_down).clamp(1, panels);
        let out = Out(out.as_mut_ptr());
        let task = |index: usize| {
            let (down, part) = (index / across, index % across);
            let strips = down * high..((down + 1) * high).min(strips);
            let panels = part * panels / across..(part + 1) * panels / across;
            self.tiles(strips, panels, out);
        };
        if parallel {
            (0..tasks_down * across).into_par_iter().for_each(task);
        } else {
            (0..tasks_down * across).for_each(task);
        }
    }

    /// All tiles of some strips and panels.
    fn tiles(&self, strips: std::ops::Range<usize>, panels: std::ops::Range<usize>, out: Out) {
        let width = self.kernel.strip(self.rows);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: holding a kernel of this path proves the leave to use the unit.
        let _tiles = (self.kernel.path() == Path::Amx).then(|| unsafe { super::amx::configured() });
        let inner = match self.kernel.path() {
            Path::Amx => 2 * INNER,
            // such processors often have no more than 32 KiB
            Path::Portable | Path::Avx2 => INNER / 2,
            _ => INNER,
        };
        let last = panels.end;
        for panel in panels {
            let columns = PANEL.min(self.width - panel * PANEL);
            for group in (0..self.groups).step_by(inner) {
                let groups = inner.min(self.groups - group);
                // what is read next comes from memory while this is computed: decoding is bound by that
                let following = match group + groups < self.groups {
                    true => Some(panel * self.right.distance + (group + groups) * PANEL),
                    false => (panel + 1 < last).then(|| (panel + 1) * self.right.distance),
                };
                // every strip asks for its share
                let next_lines = following.map_or(0, |_| PANEL.div_ceil(strips.len()));
                for (share, strip) in strips.clone().enumerate() {
                    let rows = width.min(self.rows - strip * width);
                    // in words: a whole strip before it has `width` lanes a group
                    let lanes = if self.kernel.path() == Path::Amx { width } else { rows };
                    let left = strip * width * self.groups + group * lanes;
                    let right = panel * self.right.distance + group * PANEL;
                    let place = strip * width * self.stride + panel * PANEL;
                    // SAFETY: `run` has checked that these places lie inside the operands and the result: strip and
                    // panel are below their counts, and rows and columns end where the result does. Tiles of
                    // different strips or panels do not overlap, and no other task has this strip and panel.
                    unsafe {
                        let out = out.0.add(place);
                        let (from, from_stride) = match self.start {
                            _ if group > 0 => (out.cast_const(), self.stride),
                            Start::Zero => (std::ptr::null(), 0),
                            Start::Add => (out.cast_const(), self.stride),
                            Start::Bias(bias) => (bias.as_ptr().add(panel * PANEL), 0),
                        };
                        let tile = Tile {
                            groups,
                            left: self.left.as_ptr().add(left),
                            right: self.right.words.as_ptr().add(right),
                            from,
                            from_stride,
                            out,
                            stride: self.stride,
                            rows,
                            columns,
                            next: following.map_or(std::ptr::null(), |next| {
                                let words = self.right.words.as_ptr();
                                words.wrapping_add(next + share * groups * next_lines)
                            }),
                            next_lines,
                        };
                        self.kernel.tile(&tile);
                    }
                }
            }
        }
    }
}

/// One tile of results, at most a strip high and a panel wide.
pub(super) struct Tile {
    pub(super) groups: usize,
    pub(super) left: *const u32,
    pub(super) right: *const u32,
    /// Where the sums begin; null for zero. Rows are `from_stride` apart, 0 for the same one.
    pub(super) from: *const f32,
    pub(super) from_stride: usize,
    pub(super) out: *mut f32,
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// A part of the right operand that will be read after this one, which AMX asks for on the way: so many cache lines with
    /// every 16 groups. Null with 0 lines for none.
    pub(super) next: *const u32,
    pub(super) next_lines: usize,
}

impl Kernel {
    /// # Safety
    /// The tile's pointers must be good for its rows, columns and groups.
    unsafe fn tile(self, tile: &Tile) {
        // SAFETY: holding a kernel proves that the machine has its instructions; the pointers are the caller's word.
        unsafe {
            match self.path() {
                Path::Portable => super::portable::tile(tile),
                #[cfg(target_arch = "x86_64")]
                Path::Avx2 => super::avx2::tile(tile),
                #[cfg(target_arch = "x86_64")]
                Path::Avx512 => super::avx512::tile_f32(tile),
                #[cfg(target_arch = "x86_64")]
                Path::Avx512Bf16 => super::avx512::tile_bf16(tile),
                #[cfg(target_arch = "x86_64")]
                Path::Amx => super::amx::run(tile),
                #[cfg(not(target_arch = "x86_64"))]
                other => unreachable!("{other:?} does not exist on this architecture"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
