//! Products and attention at the shapes of training and decoding, on every path of this machine.
//!
//! `RAYON_NUM_THREADS=1 cargo bench -p evenkeel-engine --bench kernels` for one thread. Throughput is in multiply-adds,
//! counted twice, a second.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::kernels::attention::{HeadLayout, Keys, Segment, attend};
use engine::kernels::{Kernel, Packed, Path, Start, View, product};

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919) % 2003) as f32 / 1001.0 - 1.0).collect()
}

fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("product");
    group.sample_size(10);
    for (m, k, n) in [
        (2048, 896, 4864),
        (2048, 4864, 896),
        (2048, 896, 896),
        (1024, 896, 16384),
        (32, 896, 4864),
        (8, 896, 4864),
        (1, 896, 151_936),
    ] {
        let (a, b) = (numbers(m * k), numbers(n * k));
        let mut out = vec![0f32; m * n];
        group.throughput(Throughput::Elements(2 * (m * n * k) as u64));
        for kernel in Path::ALL.into_iter().filter(|path| *path > Path::Avx2).filter_map(Kernel::new) {
            let name = |kind: &str| {
                BenchmarkId::new(format!("{} {kind}", kernel.path().name()), format!("{m}x{k}x{n}"))
            };
            let packed = Packed::from_rows(kernel, &b, n, k);
            group.bench_function(name("packed"), |bench| {
                bench.iter(|| {
                    product(kernel, (m, n, k), View::rows(&a, k), &packed, &mut out, n, Start::Zero)
                });
            });
            if m >= 1024 {
                let right = View::rows(&b, n);
                group.bench_function(name("view"), |bench| {
                    bench.iter(|| {
                        product(kernel, (m, n, k), View::rows(&a, k), right, &mut out, n, Start::Zero)
                    });
                });
                let left = View::rows(&a, m).t();
                group.bench_function(name("gradient"), |bench| {
                    bench.iter(|| product(kernel, (m, n, k), left, right, &mut out, n, Start::Add));
                });
            }
        }
    }
    group.finish();
}

fn attention(c: &mut Criterion) {
    let mut group = c.benchmark_group("attention");
    group.sample_size(10);
    let shape = HeadLayout { heads: 14, kv_heads: 2, head_dim: 64 };
    let tokens = 512;
    let (q, k, v) = (numbers(tokens * 896), numbers(tokens * 128), numbers(tokens * 128));
    let mut out = vec![0f32; tokens * 896];
    for kernel in Path::ALL.into_iter().filter_map(Kernel::new) {
        group.bench_function(format!("{} 512 tokens", kernel.path().name()), |bench| {
            bench.iter(|| {
                let keys = Keys::Rows { k: &k, k_stride: 128, v: &v, v_stride: 128 };
                let segment = Segment { first: 0, count: tokens, base: 0, keys };
                attend(kernel, shape, &q, 896, &[segment], &mut out, 896);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, products, attention);
criterion_main!(benches);
