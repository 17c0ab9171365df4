//! Arguments that no caller in this crate would pass: sizes whose products wrap, and places that overlap. Each was read or
//! written beyond a slice, or by two threads at once, where it is refused now.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::attention::{Gradient, HeadLayout, Keys, KvChunk, KvLayout, Segment, attend, attend_backward};
use super::*;

const HUGE: usize = usize::MAX;
/// Half of all numbers of a word: twice it is 0.
const HALF: usize = 1 << (usize::BITS - 1);

/// What `f` says as it refuses.
fn refusal(f: impl FnOnce()) -> String {
    let refused = catch_unwind(AssertUnwindSafe(f)).expect_err("such arguments are refused");
    match refused.downcast::<String>() {
        Ok(message) => *message,
        Err(other) => (*other.downcast::<&str>().expect("a message")).to_owned(),
    }
}

#[track_caller]
fn refused(f: impl FnOnce(), wanted: &str) {
    let message = refusal(f);
    assert!(message.contains(wanted), "`{message}` does not say `{wanted}`");
}

fn kernels() -> impl Iterator<Item = Kernel> {
    Kernel::every()
}

#[test]
fn a_product_refuses_a_result_whose_rows_wrap() {
    let x = [1f32; 64];
    for kernel in kernels() {
        // (m − 1) · stride wraps to 0 and to 8
        for (m, stride) in [(3, HALF), (3, HALF + 4), (5, HALF / 2)] {
            let mut out = [0f32; 16];
            let product = || {
                let (left, right) = (View::rows(&x, 2), View::rows(&x, 4));
                product(kernel, (m, 4, 2), left, right, &mut out, stride, Start::Zero);
            };
            refused(product, "the result is shorter");
        }
        let mut out = [0f32; 16];
        let narrow = || {
            product(kernel, (2, 4, 2), View::rows(&x, 2), View::rows(&x, 4), &mut out, 3, Start::Zero);
        };
        refused(narrow, "the result is shorter");
    }
}

#[test]
fn a_product_refuses_operands_whose_rows_wrap() {
    let x = [1f32; 8];
    for kernel in kernels() {
        let mut out = [0f32; 16];
        for stride in [HALF, HALF + 1, HUGE / 2 + 1] {
            let left = || {
                product(
                    kernel,
                    (3, 4, 2),
                    View::rows(&x, stride),
                    View::rows(&x, 4),
                    &mut out,
                    4,
                    Start::Zero,
                );
            };
            refused(left, "the left operand is shorter");
            let right = || {
                product(
                    kernel,
                    (4, 4, 3),
                    View::rows(&[1.0; 12], 3),
                    View::rows(&x, stride),
                    &mut out,
                    4,
                    Start::Zero,
                );
            };
            refused(right, "the right operand is shorter");
        }
        // row and column each have a place, their sum has none
        let transposed = View::rows(&x, HUGE).t();
        let both = || product(kernel, (2, 2, 2), transposed, View::rows(&x, 4), &mut out, 4, Start::Zero);
        refused(both, "the left operand is shorter");
    }
}

#[test]
fn weights_of_more_words_than_there_are_are_refused() {
    for kernel in kernels() {
        for (outputs, inputs) in [(64, HALF / 32), (HALF, 2), (33, HUGE / 32 + 1), (HUGE, HUGE)] {
            refused(|| drop(Packed::new(kernel, outputs, inputs)), "address space");
        }
        let packed = Packed::new(kernel, 64, 2);
        let mut out = [0f32; 64];
        // the first column and the number of columns wrap to 32
        let beyond = || {
            let right = Right::Columns(&packed, HUGE - 31);
            product(kernel, (1, 64, 2), View::rows(&[1.0; 2], 2), right, &mut out, 64, Start::Zero);
        };
        refused(beyond, "packed for other sizes");
        let mut none = Packed::new(kernel, 0, 4);
        refused(|| none.fill(&[&[1.0; 4]]), "wanted 0 rows");
    }
}

#[test]
fn heads_are_rotated_only_where_they_lie_apart() {
    let x = [1f32; 4096];
    let (cos, sin) = ([1f32; 512], [0f32; 512]); // 256 tokens of heads of 4
    let heads = |stride, first| Heads { stride, first, count: 4, width: 4 };
    let from = heads(16, 0);
    let forward = |to: Heads| {
        let mut out = vec![0f32; 4096];
        rotate(&x, from, None, &cos, &sin, &mut out, to);
    };
    forward(heads(16, 0));
    refused(|| forward(heads(0, 0)), "overlap");
    refused(|| forward(heads(15, 0)), "overlap");
    refused(|| forward(heads(16, 1)), "end beyond");
    refused(|| forward(heads(16, HUGE - 7)), "end beyond"); // the first place wraps to before the slice
    refused(|| forward(heads(HUGE - 15, 64)), "end beyond"); // each place is 16 before the last one
    refused(|| forward(Heads { count: 5, ..from }), "are not");
    refused(|| forward(Heads { width: 2, ..from }), "are not");
    let backward = |from: Heads| {
        let mut dx = vec![0f32; 4096];
        let mut norm = [0f32; 4];
        rotate_back(&x, from, None, &cos, &sin, &x, heads(16, 0), &mut dx, RowSums::All(&mut norm));
    };
    backward(heads(16, 0));
    refused(|| backward(heads(0, 0)), "overlap");
    refused(|| backward(heads(15, 0)), "overlap");
    refused(|| backward(heads(16, HUGE - 7)), "end beyond");
    refused(|| backward(heads(HUGE - 15, 64)), "end beyond");
    for width in [0, 1, 3] {
        let odd = Heads { width, ..from };
        refused(|| rotate(&x, odd, None, &cos, &sin, &mut [0.0; 4096], odd), "pairs of numbers");
    }
}

#[test]
fn lengths_of_rows_that_wrap_are_refused() {
    let x = [1f32; 1 << 16];
    let sums = |lengths: &[usize], sums: usize| {
        let mut out = vec![0f32; sums];
        add_columns(&x, 256, 0, 2, RowSums::Each(lengths, &mut out));
    };
    sums(&[156, 100], 4);
    refused(|| sums(&[HALF, HALF, 256], 6), "the lengths are those of all rows");
    refused(|| sums(&[HUGE, 257], 4), "the lengths are those of all rows");
    refused(|| sums(&[156, 100], 2), "for each length");
}

const SHAPE: HeadLayout = HeadLayout { heads: 4, kv_heads: 2, head_dim: 8 };

#[test]
fn attention_refuses_results_that_overlap() {
    let (q, k) = (vec![0.5f32; 256 * 32], vec![0.5f32; 256 * 16]);
    for kernel in kernels() {
        let run = |firsts: [usize; 2], count: usize, shape: HeadLayout, out_stride: usize| {
            let keys = Keys::Rows { k: &k, k_stride: 16, v: &k, v_stride: 16 };
            let segments = firsts.map(|first| Segment { first, count, base: 0, keys });
            let mut out = vec![0f32; 256 * 32];
            attend(kernel, shape, &q, 32, &segments, &mut out, out_stride);
        };
        run([0, 128], 128, SHAPE, 32);
        refused(|| run([0, 127], 128, SHAPE, 32), "is not behind");
        refused(|| run([0, 0], 128, SHAPE, 32), "is not behind");
        refused(|| run([128, 0], 128, SHAPE, 32), "is not behind");
        refused(|| run([0, 128], 128, SHAPE, 0), "overlap");
        refused(|| run([0, 128], 128, SHAPE, 31), "overlap");
        refused(|| run([0, 129], 128, SHAPE, 32), "end beyond");
        refused(|| run([0, 128], 128, SHAPE, HALF / 64), "end beyond");
        refused(|| run([0, HUGE - 3], 128, SHAPE, 32), "queries from");
        for (heads, kv_heads, head_dim) in [(3, 2, 8), (4, 0, 8), (0, 2, 8), (4, 2, 0)] {
            refused(|| run([0, 128], 128, HeadLayout { heads, kv_heads, head_dim }, 32), "do not share");
        }
        let big = HeadLayout { heads: 4, kv_heads: 2, head_dim: HALF };
        refused(|| run([0, 128], 128, big, 32), "too many");
    }
}

#[test]
fn the_gradients_of_attention_lie_apart() {
    let (q, k) = (vec![0.5f32; 256 * 32], vec![0.5f32; 256 * 16]);
    let kernel = Kernel::f32().expect("a path");
    let run = |lengths: &[usize], strides: [usize; 3]| {
        let (mut dq, mut dk, mut dv) = (vec![0f32; 256 * 32], vec![0f32; 256 * 16], vec![0f32; 256 * 16]);
        attend_backward(
            kernel,
            SHAPE,
            lengths,
            (&q, 32),
            (&k, 16),
            (&k, 16),
            &q,
            &q,
            32,
            Gradient { data: &mut dq, stride: strides[0] },
            Gradient { data: &mut dk, stride: strides[1] },
            Gradient { data: &mut dv, stride: strides[2] },
        );
    };
    run(&[3, 2], [32, 16, 16]);
    for strides in [[0, 16, 16], [31, 16, 16], [32, 0, 16], [32, 15, 16], [32, 16, 0], [32, 16, 8]] {
        refused(|| run(&[3, 2], strides), "overlap");
    }
    refused(|| run(&[256, 1], [32, 16, 16]), "wanted 257 tokens");
    refused(|| run(&[HALF, HALF, 2], [32, 16, 16]), "have no number");
}

#[test]
fn keys_that_are_not_there_are_refused() {
    for kernel in kernels() {
        for (shape, capacity) in [
            (SHAPE, HUGE),
            (SHAPE, HALF),
            (HeadLayout { head_dim: 128, ..SHAPE }, 1 << 58), // words wrap to 0
            (HeadLayout { head_dim: HUGE, ..SHAPE }, 64),
            (HeadLayout { kv_heads: HUGE, ..SHAPE }, 64),
        ] {
            refused(|| assert!(KvLayout::new(kernel, shape, capacity).words() > 0), "address space");
        }
        let layout = KvLayout::new(kernel, SHAPE, 64);
        let slab = vec![0f32; layout.words()];
        let other = KvLayout::new(kernel, HeadLayout { head_dim: 4, ..SHAPE }, 64);
        let q = [0.5f32; 64 * 32];
        let run = |layout: &KvLayout, slab: &[f32], tokens: usize, base: usize| {
            let chunks = [KvChunk { layout, slab, tokens }];
            let segment = Segment { first: 0, count: 2, base, keys: Keys::Chunks(&chunks) };
            attend(kernel, SHAPE, &q, 32, &[segment], &mut [0.0; 64], 32);
        };
        run(&layout, &slab, 64, 62);
        refused(|| run(&layout, &slab, 65, 5), "holds fewer than 65");
        refused(|| run(&layout, &slab[1..], 64, 5), "holds fewer than 64");
        refused(|| run(&layout, &slab, 64, 63), "wanted 65");
        refused(|| run(&layout, &slab, 64, HUGE - 1), "queries from");
        refused(|| run(&other, &slab, 64, 5), "is not for");
        let write = |length: usize, count: usize| {
            let k = [1f32; 16];
            layout.write(&mut slab.clone(), length, count, &k, 16, &k, 16);
        };
        write(63, 1);
        refused(|| write(64, 1), "beyond the slab");
        refused(|| write(HUGE, 1), "beyond the slab");
    }
}

/// Two sequences that read a chunk together must both see all of it: the scores of one that does not are no weights.
#[test]
fn a_shared_chunk_is_seen_whole() {
    let kernel = Kernel::f32().expect("a path");
    let layout = KvLayout::new(kernel, SHAPE, 64);
    let slab = vec![0.5f32; layout.words()];
    let chunks = [KvChunk { layout: &layout, slab: &slab, tokens: 64 }];
    let q = [0.5f32; 64];
    let run = |bases: [usize; 2]| {
        let segment =
            |first: usize| Segment { first, count: 1, base: bases[first], keys: Keys::Chunks(&chunks) };
        attend(kernel, SHAPE, &q, 32, &[segment(0), segment(1)], &mut [0.0; 64], 32);
    };
    run([63, 63]);
    refused(|| run([63, 5]), "a chunk that is shared is whole");
}

#[test]
fn rows_of_the_gated_unit_do_not_wrap() {
    let x = [1f32; 1024];
    for width in [0, HALF, HALF + 1, 3] {
        refused(|| swiglu(&x, width, &mut [0.0; 512]), "rows of");
        refused(|| swiglu_backward(&mut [1.0; 1024], width, &[0.0; 512]), "rows of");
    }
}
