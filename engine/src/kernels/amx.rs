//! The inner loop on AMX tiles: 32 rows by 32 columns of results in four tiles, and how a program gets leave to use them.
//!
//! Tiles are written through [`Tiles`], so that the tests can run the very loop on a model of the unit, bit by bit as
//! the instruction's definition has it, on machines without one.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
use std::marker::PhantomData;
use std::mem::MaybeUninit;

#[cfg(test)]
use super::kernel::{Kernel, Path};
use super::pack::PANEL;
use super::product::Tile;

/// Whether the processor has AMX with bf16 and the system lets this process use it. Asks the system, once.
pub(super) fn permitted() -> bool {
    #[cfg(target_os = "linux")]
    {
        // highest leaf first: an older processor answers nonsense beyond it
        let leaf = |leaf, sub| __cpuid_count(leaf, sub);
        if leaf(0, 0).eax < 7 {
            return false;
        }
        let features = leaf(7, 0).edx;
        let (bf16, tile) = (features >> 22 & 1, features >> 24 & 1);
        // ARCH_REQ_XCOMP_PERM for the tile data, number 18; threads that start later inherit the leave
        bf16 == 1 && tile == 1 && arch_prctl(0x1023, 18) == 0
    }
    #[cfg(not(target_os = "linux"))]
    {
        false
    }
}

#[cfg(target_os = "linux")]
fn arch_prctl(code: usize, argument: usize) -> isize {
    const ARCH_PRCTL: isize = 158;
    let mut result = ARCH_PRCTL;
    // SAFETY: this system call reads two numbers and touches no memory of ours; rcx and r11 are its only clobbers.
    unsafe {
        asm!("syscall", inout("rax") result, in("rdi") code, in("rsi") argument, out("rcx") _, out("r11") _,
            options(nostack));
    }
    result
}

/// The tile registers of this thread, set up as long as this lives. It stays where it was made: another thread has
/// registers of its own.
pub(super) struct Configured(PhantomData<*const ()>);

/// An instruction of the tile unit, with the registers that it may change: which one it is depends on a constant that a
/// clobber cannot name, so all eight are listed.
///
/// Registers keep their contents from one statement to the next although no operand says so. That holds since the compiler
/// makes tile instructions from tile intrinsics alone, of which there are none here, and since between a load and the store
/// nothing else is called. None of them is `pure`: the compiler keeps them all, and in this order.
macro_rules! tile_unit {
    ([$($option:ident),*], $($asm:tt)*) => {
        asm!(
            $($asm)*,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, preserves_flags $(, $option)*)
        )
    };
}

#[repr(C, align(64))]
struct Configuration([u8; 64]);

impl Configured {
    /// Eight tiles of 16 rows by 64 bytes.
    ///
    /// # Safety
    /// The process has leave to use the unit: [`permitted`].
    pub(super) unsafe fn new() -> Self {
        let mut configuration = Configuration([0; 64]);
        configuration.0[0] = 1; // palette
        for tile in 0..8 {
            configuration.0[16 + 2 * tile] = 64; // bytes a row, low half
            configuration.0[48 + tile] = 16; // rows
        }
        // SAFETY: the caller vouches for the leave; the operand is a valid configuration.
        unsafe { tile_unit!([readonly], "ldtilecfg [{}]", in(reg) &configuration) };
        Self(PhantomData)
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: as for `new`; the tiles hold nothing that is still needed.
        unsafe { tile_unit!([nomem], "tilerelease") };
    }
}

/// Eight registers of 16 rows by 16 words.
pub(super) trait Tiles {
    /// # Safety
    /// The unit is configured.
    unsafe fn zero<const TILE: usize>();
    /// # Safety
    /// 16 rows of 64 bytes, `stride` bytes apart, are good to read.
    unsafe fn load<const TILE: usize>(from: *const u32, stride: usize);
    /// # Safety
    /// 16 rows of 64 bytes, `stride` bytes apart, are good to write.
    unsafe fn store<const TILE: usize>(to: *mut f32, stride: usize);
    /// Adds to `SUM` the products of the bf16 pairs of `LEFT`'s rows and `RIGHT`'s columns.
    ///
    /// # Safety
    /// The unit is configured.
    unsafe fn dot<const SUM: usize, const LEFT: usize, const RIGHT: usize>();
    /// Asks for the cache line there to come near: into the first level, or with `FAR` into the second. No address is wrong.
    fn fetch<const FAR: bool>(place: *const u32);
}

/// The processor's.
pub(super) struct Hardware;

impl Tiles for Hardware {
    #[inline(always)]
    unsafe fn zero<const TILE: usize>() {
        // SAFETY: the caller vouches for the unit.
        unsafe { tile_unit!([nomem], "tilezero tmm{}", const TILE) };
    }
    #[inline(always)]
    unsafe fn load<const TILE: usize>(from: *const u32, stride: usize) {
        // SAFETY: the caller vouches for the unit and the rows.
        unsafe {
            tile_unit!([readonly], "tileloadd tmm{}, [{} + {}*1]", const TILE, in(reg) from, in(reg) stride)
        };
    }
    #[inline(always)]
    unsafe fn store<const TILE: usize>(to: *mut f32, stride: usize) {
        // SAFETY: the caller vouches for the unit and the rows.
        unsafe { tile_unit!([], "tilestored [{} + {}*1], tmm{}", in(reg) to, in(reg) stride, const TILE) };
    }
    #[inline(always)]
    unsafe fn dot<const SUM: usize, const LEFT: usize, const RIGHT: usize>() {
        // SAFETY: the caller vouches for the unit.
        unsafe { tile_unit!([nomem], "tdpbf16ps tmm{}, tmm{}, tmm{}", const SUM, const LEFT, const RIGHT) };
    }
    #[inline(always)]
    fn fetch<const FAR: bool>(place: *const u32) {
        // SAFETY: a hint, which never faults and changes nothing that a program sees.
        unsafe {
            match FAR {
                true => _mm_prefetch::<_MM_HINT_T1>(place.cast()),
                false => _mm_prefetch::<_MM_HINT_T0>(place.cast()),
            }
        }
    }
}

/// [`tile`] on the unit; in tests on the model of it where there is none.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
pub(super) unsafe fn run(t: &Tile) {
    // SAFETY: the caller vouches for all of it.
    unsafe {
        #[cfg(test)]
        if Kernel::new(Path::Amx).is_none() {
            return tile::<tests::Model>(t);
        }
        tile::<Hardware>(t);
    }
}

/// [`Configured::new`], if there is a unit.
///
/// # Safety
/// As for [`Configured::new`], but for tests, which may lack a unit.
pub(super) unsafe fn configured() -> Option<Configured> {
    #[cfg(test)]
    let _exists = Kernel::new(Path::Amx)?;
    // SAFETY: the caller vouches for the leave.
    Some(unsafe { Configured::new() })
}

/// Words of one tile of the left operand, and of 16 rows in all.
const TILE_WORDS: usize = 16 * 16;
/// Words of a cache line.
const LINE: usize = 16;
/// Steps of the loop that the left operand's tiles are asked for before they are loaded.
const AHEAD: usize = 2;

/// # Safety
/// The unit is configured; for the pointers see [`super::product`]. Strips hold 32 rows, missing ones as zeros.
pub(super) unsafe fn tile<T: Tiles>(t: &Tile) {
    let mut scratch = MaybeUninit::<[f32; 32 * PANEL]>::uninit();
    let scratch: *mut f32 = scratch.as_mut_ptr().cast();
    let whole = t.rows == 32 && t.columns == PANEL;
    // A tile at the edge goes through the scratch, where all of its rows and columns exist.
    let (sums, stride) = if whole { (t.out, t.stride) } else { (scratch, PANEL) };
    let two = t.rows > 16;
    // SAFETY: the caller vouches for all places of the tile; at the edge the tile registers see only the scratch, and
    // rows and columns that are copied lie inside the result.
    unsafe {
        if t.from.is_null() {
            T::zero::<0>();
            T::zero::<1>();
            T::zero::<2>();
            T::zero::<3>();
        } else {
            let (from, from_stride) = if whole && t.from_stride > 0 {
                (t.from, t.from_stride)
            } else {
                // zeros only where they are needed: most tiles are whole, and filling it took a fifteenth of the time
                std::ptr::write_bytes(scratch, 0, 32 * PANEL);
                for row in 0..t.rows {
                    let from = t.from.add(row * t.from_stride);
                    std::ptr::copy_nonoverlapping(from, scratch.add(row * PANEL), t.columns);
                }
                (scratch.cast_const(), PANEL)
            };
            let from = from.cast::<u32>();
            T::load::<0>(from, 4 * from_stride);
            T::load::<1>(from.add(16), 4 * from_stride);
            T::load::<2>(from.add(16 * from_stride), 4 * from_stride);
            T::load::<3>(from.add(16 * from_stride + 16), 4 * from_stride);
        }
        let (mut left, mut right, mut next) = (t.left, t.right, t.next);
        for _ in 0..t.groups / 16 {
            T::load::<4>(right, 4 * PANEL);
            T::load::<6>(left, 64);
            T::dot::<0, 6, 4>();
            T::load::<5>(right.add(16), 4 * PANEL);
            T::dot::<1, 6, 5>();
            if two {
                T::load::<7>(left.add(TILE_WORDS), 64);
                T::dot::<2, 7, 4>();
                T::dot::<3, 7, 5>();
            }
            for line in 0..2 * TILE_WORDS / LINE {
                T::fetch::<false>(left.wrapping_add(AHEAD * 2 * TILE_WORDS + line * LINE));
            }
            for line in 0..t.next_lines {
                T::fetch::<true>(next.wrapping_add(line * LINE));
            }
            left = left.add(2 * TILE_WORDS);
            right = right.add(16 * PANEL);
            next = next.wrapping_add(t.next_lines * LINE);
        }
        T::store::<0>(sums, 4 * stride);
        T::store::<1>(sums.add(16), 4 * stride);
        T::store::<2>(sums.add(16 * stride), 4 * stride);
        T::store::<3>(sums.add(16 * stride + 16), 4 * stride);
        if !whole {
            for row in 0..t.rows {
                let to = t.out.add(row * t.stride);
                std::ptr::copy_nonoverlapping(scratch.add(row * PANEL), to, t.columns);
            }
        }
    }
}

/// Operations done in so many rounds of four products of tiles, in registers alone.
///
/// # Safety
/// The process has leave to use the unit: [`permitted`].
pub(super) unsafe fn peak(rounds: usize) -> f64 {
    // SAFETY: the caller vouches for the leave; the unit is configured, and nothing else touches memory.
    unsafe {
        let _tiles = Configured::new();
        for _ in 0..rounds {
            Hardware::dot::<0, 6, 4>();
            Hardware::dot::<1, 6, 5>();
            Hardware::dot::<2, 7, 4>();
            Hardware::dot::<3, 7, 5>();
        }
    }
    (rounds * 4 * 2 * 16 * 16 * 32) as f64
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::kernels::pack::round;

    thread_local! {
        static REGISTERS: RefCell<[[u32; TILE_WORDS]; 8]> = const { RefCell::new([[0; TILE_WORDS]; 8]) };
    }

    /// The unit as its definition has it: even and odd products of a pair are summed apart and then together.
    pub(super) struct Model;

    impl Tiles for Model {
        unsafe fn zero<const TILE: usize>() {
            REGISTERS.with_borrow_mut(|r| r[TILE].fill(0));
        }
        unsafe fn load<const TILE: usize>(from: *const u32, stride: usize) {
            REGISTERS.with_borrow_mut(|r| {
                for row in 0..16 {
                    // SAFETY: the caller vouches for the rows.
                    let words = unsafe { std::slice::from_raw_parts(from.byte_add(row * stride), 16) };
                    r[TILE][16 * row..][..16].copy_from_slice(words);
                }
            });
        }
        unsafe fn store<const TILE: usize>(to: *mut f32, stride: usize) {
            REGISTERS.with_borrow(|r| {
                for row in 0..16 {
                    // SAFETY: the caller vouches for the rows.
                    let words = unsafe { std::slice::from_raw_parts_mut(to.byte_add(row * stride), 16) };
                    for (to, word) in words.iter_mut().zip(&r[TILE][16 * row..]) {
                        *to = f32::from_bits(*word);
                    }
                }
            });
        }
        fn fetch<const FAR: bool>(_: *const u32) {}
        unsafe fn dot<const SUM: usize, const LEFT: usize, const RIGHT: usize>() {
            REGISTERS.with_borrow_mut(|r| {
                let (left, right) = (r[LEFT], r[RIGHT]);
                if Kernel::new(Path::Avx2).is_some() {
                    // SAFETY: the kernel proves AVX2 and FMA.
                    unsafe { dot_fma(&mut r[SUM], &left, &right) };
                } else {
                    dot(&mut r[SUM], &left, &right);
                }
            });
        }
    }

    type Register = [u32; TILE_WORDS];

    #[inline(always)]
    fn dot(sum: &mut Register, left: &Register, right: &Register) {
        let (low, high) = (|w: u32| f32::from_bits(w << 16), |w: u32| f32::from_bits(w & 0xffff_0000));
        for (sum, left) in sum.chunks_exact_mut(16).zip(left.chunks_exact(16)) {
            let (mut even, mut odd) = ([0f32; 16], [0f32; 16]);
            for (a, right) in left.iter().zip(right.chunks_exact(16)) {
                for n in 0..16 {
                    even[n] = low(*a).mul_add(low(right[n]), even[n]);
                    odd[n] = high(*a).mul_add(high(right[n]), odd[n]);
                }
            }
            for n in 0..16 {
                sum[n] = (f32::from_bits(sum[n]) + (even[n] + odd[n])).to_bits();
            }
        }
    }

    /// # Safety
    /// The machine has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn dot_fma(sum: &mut Register, left: &Register, right: &Register) {
        dot(sum, left, right);
    }

    /// The product of a strip and a panel, by the tile loop on the model, for every number of rows and columns.
    #[test]
    fn the_tile_loop_computes_the_product_at_every_edge() {
        let value = |i: usize| ((i * 37 + 11) % 64) as f32 / 8.0 - 4.0; // exact in bf16
        for k in [32, 64, 96] {
            let groups = k / 2;
            for (rows, columns) in [(1, 1), (15, 32), (16, 7), (17, 16), (31, 33 - 1), (32, 31), (32, 32)] {
                let (mut left, mut right) = (vec![0u32; 32 * groups], vec![0u32; groups * PANEL]);
                let pair = |x: f32, y: f32| round(x) | (round(y) << 16);
                for group in 0..groups {
                    for row in 0..rows {
                        let at = row * k + 2 * group;
                        left[group / 16 * 512 + row * 16 + group % 16] = pair(value(at), value(at + 1));
                    }
                    for column in 0..columns {
                        let at = 1000 + column * k + 2 * group;
                        right[group * PANEL + column] = pair(value(at), value(at + 1));
                    }
                }
                let stride = columns + 3;
                let begin: Vec<f32> = (0..rows * stride).map(|i| i as f32).collect();
                let exact = |row: usize, column: usize| -> f32 {
                    (0..k).map(|i| value(row * k + i) * value(1000 + column * k + i)).sum()
                };
                for start in 0..3 {
                    let mut out = begin.clone();
                    let bias: Vec<f32> = (0..columns).map(|c| 100.0 * c as f32).collect();
                    let (from, from_stride) = match start {
                        0 => (std::ptr::null(), 0),
                        1 => (out.as_ptr(), stride),
                        _ => (bias.as_ptr(), 0),
                    };
                    let tile_of = Tile {
                        groups,
                        left: left.as_ptr(),
                        right: right.as_ptr(),
                        from,
                        from_stride,
                        out: out.as_mut_ptr(),
                        stride,
                        rows,
                        columns,
                        next: std::ptr::null(),
                        next_lines: 0,
                    };
                    // SAFETY: the vectors have the sizes that the tile claims, with 32 rows in the strip.
                    unsafe { tile::<Model>(&tile_of) };
                    for row in 0..rows {
                        for place in row * stride..(row + 1) * stride {
                            let column = place - row * stride;
                            let wanted = match start {
                                _ if column >= columns => begin[place],
                                0 => exact(row, column),
                                1 => begin[place] + exact(row, column),
                                _ => bias[column] + exact(row, column),
                            };
                            assert_eq!(out[place], wanted, "{rows} × {columns} × {k}, {row}, {column}");
                        }
                    }
                }
            }
        }
    }
}
