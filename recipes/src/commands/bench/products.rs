//! Matrix products of the shapes that training and decoding have.

use std::time::Instant;

use engine::kernels::{Packed, Path, Start, View, product};

use super::limits::Limits;
use crate::timing::middle;

/// A product that was measured.
pub(super) struct Product {
    pub(super) path: Path,
    /// Rows, terms and columns.
    pub(super) size: (usize, usize, usize),
    pub(super) kind: &'static str,
    pub(super) flops: f64,
}

/// The shapes of a training pass and of decoding a 0.5B model.
pub(super) fn products(limits: &Limits, seconds: f64) -> Vec<Product> {
    let mut rows = Vec::new();
    for (m, k, n) in [
        (4096, 896, 4864),
        (4096, 4864, 896),
        (4096, 896, 896),
        (1024, 896, 16384),
        (32, 896, 4864),
        (8, 896, 151_936),
        (1, 896, 151_936),
    ] {
        let a: Vec<f32> = (0..m * k).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect();
        let b: Vec<f32> = (0..n * k).map(|i| (i % 241) as f32 / 241.0 - 0.5).collect();
        let mut out = vec![0f32; m * n];
        for path in &limits.paths {
            let kernel = path.kernel;
            let mut add = |kind, time: f64| {
                let flops = 2.0 * (m * n * k) as f64 / time;
                rows.push(Product { path: kernel.path(), size: (m, k, n), kind, flops });
            };
            let packed = Packed::from_rows(kernel, &b, n, k);
            let left = View::rows(&a, k);
            add(
                "x·Wᵀ",
                median(seconds, || product(kernel, (m, n, k), left, &packed, &mut out, n, Start::Zero)),
            );
            if m >= 1024 {
                let right = View::rows(&b, n);
                add(
                    "dy·W",
                    median(seconds, || product(kernel, (m, n, k), left, right, &mut out, n, Start::Zero)),
                );
                let left = View::rows(&a, m).t();
                add(
                    "dyᵀ·x",
                    median(seconds, || product(kernel, (m, n, k), left, right, &mut out, n, Start::Add)),
                );
            }
        }
    }
    rows
}

/// Seconds of the median of repetitions that fill about `seconds`, at least three.
fn median(seconds: f64, mut f: impl FnMut()) -> f64 {
    f(); // caches, pages and clocks
    let (begun, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || (begun.elapsed().as_secs_f64() < seconds && times.len() < 1000) {
        let begun = Instant::now();
        f();
        times.push(begun.elapsed().as_secs_f64());
    }
    middle(times)
}
