//! What the machine can do at most: multiply-adds on registers, and numbers streamed from memory.
#![allow(unsafe_code)]

use std::time::Instant;

use rayon::prelude::*;

use super::buffer::Buffer;
use super::kernel::{Kernel, Path};
use super::math::{LANES, total, wide};
use super::pack::View;
use super::product::{Start, product};

/// Floating-point operations a second on all threads of the pool, a multiply-add counted twice, over about `seconds`.
/// Nothing but registers is involved, except on the portable path, which multiplies matrices that lie in the first cache.
pub fn peak_flops(kernel: Kernel, seconds: f64) -> f64 {
    let begun = Instant::now();
    let per_thread = rayon::broadcast(|_| {
        let mut done = 0.0;
        while begun.elapsed().as_secs_f64() < seconds {
            done += burst(kernel);
        }
        done
    });
    per_thread.iter().sum::<f64>() / begun.elapsed().as_secs_f64()
}

/// Some operations; says how many.
fn burst(kernel: Kernel) -> f64 {
    const ROUNDS: usize = 20_000;
    match kernel.path() {
        // SAFETY: holding a kernel of this path proves that the machine has its instructions.
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => unsafe { super::avx2::peak(ROUNDS) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => unsafe { super::avx512::peak_f32(ROUNDS) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Path::Avx512Bf16 => unsafe { super::avx512::peak_bf16(ROUNDS) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Path::Amx => unsafe { super::amx::peak(ROUNDS) },
        _ => {
            let (a, b, mut out) = ([0.5f32; 24 * 32], [0.5f32; 64 * 32], [0f32; 24 * 64]);
            let size = (24, 64, 32);
            for _ in 0..100 {
                product(kernel, size, View::rows(&a, 32), View::rows(&b, 64), &mut out, 64, Start::Add);
            }
            std::hint::black_box(out);
            100.0 * 2.0 * (24 * 64 * 32) as f64
        }
    }
}

/// Bytes a second that all threads together read from memory, in the best of five passes over 1 GiB.
pub fn bandwidth() -> f64 {
    let mut numbers = Buffer::fresh(1 << 28);
    // pages that were never written may all be one and the same
    numbers.par_chunks_mut(1 << 18).for_each(|x| x.fill(1.0));
    let pass = || {
        let begun = Instant::now();
        let total: f32 = numbers.par_chunks(1 << 18).map(|x| wide(|| sums(x))).sum();
        std::hint::black_box(total);
        (4 * numbers.len()) as f64 / begun.elapsed().as_secs_f64()
    };
    (0..5).map(|_| pass()).fold(0.0, f64::max)
}

/// Four vectors of sums side by side, so that additions do not wait for each other.
#[inline(always)]
fn sums(x: &[f32]) -> f32 {
    let mut parts = [[0f32; LANES]; 4];
    for x in x.chunks_exact(4 * LANES) {
        for (parts, x) in parts.iter_mut().zip(x.chunks_exact(LANES)) {
            for (part, x) in parts.iter_mut().zip(x) {
                *part += x;
            }
        }
    }
    parts.into_iter().map(total).sum()
}
