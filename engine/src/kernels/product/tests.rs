use super::*;
use crate::kernels::pack::round;
use proptest::prelude::*;

fn kernels() -> impl Iterator<Item = Kernel> {
    Kernel::every()
}

/// Numbers in ±1 that depend on the place alone.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    (0..count as u32)
        .map(|i| {
            let x = (i ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
            let x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
            (x >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn bf16(x: f32) -> f32 {
    f32::from_bits(round(x) << 16)
}

/// `a · b` in f64 from inputs as the kernel sees them; a is `(m, k)`, b is `(n, k)`.
fn exact(kernel: Kernel, (m, n, k): (usize, usize, usize), a: &[f32], b: &[f32]) -> Vec<f64> {
    let seen = |x: f32| f64::from(if kernel.path().is_bf16() { bf16(x) } else { x });
    (0..m * n).map(|i| (0..k).map(|j| seen(a[i / n * k + j]) * seen(b[i % n * k + j])).sum()).collect()
}

fn close(what: &str, found: &[f32], wanted: &[f64], k: usize) {
    let bound = 1e-6 * (k as f64).max(4.0);
    for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        assert!((f64::from(*found) - wanted).abs() < bound, "{what}: element {i} is {found}, not {wanted}");
    }
}

fn transposed(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..x.len()).map(|i| x[i % rows * columns + i / rows]).collect()
}

#[test]
fn every_path_every_layout_and_every_edge_gives_the_product() {
    let sizes = [
        (1, 1, 1),
        (1, 33, 2),
        (2, 31, 3),
        (5, 64, 31),
        (13, 32, 32),
        (14, 100, 33),
        (15, 7, 257),
        (28, 40, 64),
        (33, 65, 100),
        (100, 96, 600),
        (3, 40, 1100),
    ];
    for kernel in kernels() {
        for (m, n, k) in sizes {
            let what = format!("{} {m} × {n} × {k}", kernel.path().name());
            let (a, b) = (numbers(m * k, 1), numbers(n * k, 2));
            let wanted = exact(kernel, (m, n, k), &a, &b);
            let (a_t, b_t) = (transposed(&a, m, k), transposed(&b, n, k));
            let packed = Packed::from_rows(kernel, &b, n, k);
            let lefts = [View::rows(&a, k), View::rows(&a_t, m).t()];
            let rights: [Right<'_>; 3] =
                [(&packed).into(), View::rows(&b, k).t().into(), View::rows(&b_t, n).into()];
            let mut first: Option<Vec<f32>> = None;
            for a in lefts {
                for b in rights {
                    let stride = n + 3;
                    let mut out = vec![7f32; (m - 1) * stride + n];
                    product(kernel, (m, n, k), a, b, &mut out, stride, Start::Zero);
                    let dense: Vec<f32> = (0..m * n).map(|i| out[i / n * stride + i % n]).collect();
                    close(&what, &dense, &wanted, k);
                    for row in 0..m - 1 {
                        assert_eq!(
                            out[row * stride + n..(row + 1) * stride],
                            [7.0; 3],
                            "{what}: wrote beyond a row"
                        );
                    }
                    assert!(*first.get_or_insert(dense.clone()) == dense, "{what}: the layout changes a bit");
                }
            }
            let start = numbers(m * n, 3);
            let mut out = start.clone();
            product(kernel, (m, n, k), lefts[0], rights[0], &mut out, n, Start::Add);
            let sums: Vec<f64> = wanted.iter().zip(&start).map(|(w, s)| w + f64::from(*s)).collect();
            close(&what, &out, &sums, k);
            let bias = numbers(n, 4);
            product(kernel, (m, n, k), lefts[0], rights[0], &mut out, n, Start::Bias(&bias));
            let sums: Vec<f64> = wanted.iter().enumerate().map(|(i, w)| w + f64::from(bias[i % n])).collect();
            close(&what, &out, &sums, k);
        }
    }
}

#[test]
fn a_row_depends_on_that_row_alone_and_not_on_threads() {
    for kernel in kernels() {
        for (n, k) in [(16, 64), (100, 77), (64, 896), (1000, 600), (40, 2600)] {
            let (a, b) = (numbers(300 * k, 5), numbers(n * k, 6));
            let packed = Packed::from_rows(kernel, &b, n, k);
            let on = |threads: usize, first: usize, m: usize, right: Right<'_>| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
                let mut out = vec![0f32; m * n];
                let left = View::rows(&a[first * k..], k);
                pool.install(|| product(kernel, (m, n, k), left, right, &mut out, n, Start::Zero));
                out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            };
            let all = on(2, 0, 300, (&packed).into());
            for (threads, first, m) in
                [(1, 0, 300), (5, 0, 300), (2, 7, 1), (1, 40, 3), (2, 100, 33), (3, 250, 50)]
            {
                for right in [Right::Packed(&packed), View::rows(&b, k).t().into()] {
                    let some = on(threads, first, m, right);
                    assert!(
                        some == all[first * n..(first + m) * n],
                        "{kernel:?} {threads} {first} {m} {n} × {k}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_f32_paths_agree_to_the_bit() {
    let (m, n, k) = (37, 70, 300);
    let (a, b) = (numbers(m * k, 7), numbers(n * k, 8));
    let all: Vec<Vec<f32>> = kernels()
        .filter(|kernel| !kernel.path().is_bf16())
        .map(|kernel| {
            let mut out = vec![0f32; m * n];
            product(kernel, (m, n, k), View::rows(&a, k), View::rows(&b, k).t(), &mut out, n, Start::Zero);
            out
        })
        .collect();
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn nothing_times_nothing_is_the_start() {
    let kernel = Kernel::new(Path::Portable).expect("always there");
    let mut out = [1f32, 2.0];
    product(kernel, (0, 2, 3), View::rows(&[], 3), View::rows(&[], 2), &mut out, 2, Start::Zero);
    assert_eq!(out, [1.0, 2.0]);
    product(kernel, (1, 2, 0), View::rows(&[], 0), View::rows(&[], 2), &mut out, 2, Start::Bias(&[5.0, 6.0]));
    assert_eq!(out, [5.0, 6.0]);
}

#[test]
#[should_panic(expected = "the left operand is shorter than 3 × 4")]
fn a_short_operand_is_refused() {
    let kernel = Kernel::f32().expect("a path");
    let mut out = [0f32; 6];
    product(kernel, (3, 2, 4), View::rows(&[0.0; 11], 4), View::rows(&[0.0; 8], 2), &mut out, 2, Start::Zero);
}

#[test]
fn infinities_and_nan_reach_the_result() {
    for kernel in kernels() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut a = vec![1f32; 64];
            a[40] = bad;
            let mut out = [0f32; 2];
            let ones = [1f32; 128];
            product(kernel, (1, 2, 64), View::rows(&a, 64), View::rows(&ones, 2), &mut out, 2, Start::Zero);
            assert!(
                out.iter().all(|x| !x.is_finite() && x.is_nan() == bad.is_nan()),
                "{kernel:?} {bad}: {out:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_sizes_and_any_offset(m in 1usize..40, n in 1usize..80, k in 1usize..90, offset in 0usize..17) {
        // slices that begin anywhere: nothing is aligned but the panels
        let (a, b) = (numbers(offset + m * k, 9), numbers(offset + n * k, 10));
        let (a, b) = (&a[offset..], &b[offset..]);
        for kernel in kernels() {
            let mut out = vec![0f32; offset + m * n];
            product(kernel, (m, n, k), View::rows(a, k), View::rows(b, k).t(), &mut out[offset..], n, Start::Zero);
            close("any", &out[offset..], &exact(kernel, (m, n, k), a, b), k);
        }
    }
}
