use super::*;

fn kernels() -> impl Iterator<Item = Kernel> {
    Kernel::every()
}

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
}

const SHAPE: HeadLayout = HeadLayout { heads: 6, kv_heads: 2, head_dim: 10 };

fn whole(kernel: Kernel, lengths: &[usize], q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
    let (wide, narrow) = (SHAPE.heads * SHAPE.head_dim, SHAPE.kv_heads * SHAPE.head_dim);
    let mut first = 0;
    let segments: Vec<Segment<'_>> = lengths
        .iter()
        .map(|count| {
            let (k, v) = (&k[first * narrow..], &v[first * narrow..]);
            let keys = Keys::Rows { k, k_stride: narrow, v, v_stride: narrow };
            first += count;
            Segment { first: first - count, count: *count, base: 0, keys }
        })
        .collect();
    let mut out = vec![0f32; first * wide];
    attend(kernel, SHAPE, q, wide, &segments, &mut out, wide);
    out
}

/// Softmax attention in f64.
fn exact(lengths: &[usize], q: &[f32], k: &[f32], v: &[f32]) -> Vec<f64> {
    let (d, shared) = (SHAPE.head_dim, SHAPE.heads / SHAPE.kv_heads);
    let (wide, narrow) = (SHAPE.heads * d, SHAPE.kv_heads * d);
    let (mut out, mut first) = (Vec::new(), 0);
    for length in lengths {
        for i in 0..*length {
            for head in 0..SHAPE.heads {
                let at = |x: &[f32], row: usize, c: usize| {
                    f64::from(x[(first + row) * narrow + head / shared * d + c])
                };
                let scores: Vec<f64> = (0..=i)
                    .map(|j| {
                        let q = |c: usize| f64::from(q[(first + i) * wide + head * d + c]);
                        (0..d).map(|c| q(c) * at(k, j, c)).sum::<f64>() / (d as f64).sqrt()
                    })
                    .collect();
                let total: f64 = scores.iter().map(|s| s.exp()).sum();
                out.extend((0..d).map(|c| {
                    scores.iter().enumerate().map(|(j, s)| s.exp() / total * at(v, j, c)).sum::<f64>()
                }));
            }
        }
        first += length;
    }
    out
}

fn inputs(tokens: usize) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (wide, narrow) = (SHAPE.heads * SHAPE.head_dim, SHAPE.kv_heads * SHAPE.head_dim);
    (numbers(tokens * wide, 1), numbers(tokens * narrow, 2), numbers(tokens * narrow, 3))
}

#[test]
fn whole_sequences_are_attended_as_the_formula_says() {
    let lengths = [1, 70, 0, 5, 129];
    let (q, k, v) = inputs(lengths.iter().sum());
    let wanted = exact(&lengths, &q, &k, &v);
    for kernel in kernels() {
        let bound = if kernel.path().is_bf16() { 2e-2 } else { 1e-6 };
        let found = whole(kernel, &lengths, &q, &k, &v);
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!((f64::from(*found) - wanted).abs() < bound, "{kernel:?}: {found} is not {wanted}");
        }
    }
}

#[test]
fn cached_keys_in_any_portions_give_the_same_bits_as_whole_sequences() {
    let (wide, narrow) = (SHAPE.heads * SHAPE.head_dim, SHAPE.kv_heads * SHAPE.head_dim);
    let length = 101;
    let (q, k, v) = inputs(length);
    for kernel in kernels() {
        let wanted = whole(kernel, &[length], &q, &k, &v);
        let layout = KvLayout::new(kernel, SHAPE, length);
        for portions in [vec![length], vec![1; length], vec![40, 1, 1, 33, 26]] {
            let mut slab = vec![0f32; layout.words()];
            let mut out = vec![0f32; length * wide];
            let mut base = 0;
            for count in portions {
                let (k, v) = (&k[base * narrow..], &v[base * narrow..]);
                layout.write(&mut slab, base, count, k, narrow, v, narrow);
                let chunk = KvChunk { layout: &layout, slab: &slab, tokens: layout.capacity() };
                let segment = Segment { first: base, count, base, keys: Keys::Chunks(&[chunk]) };
                attend(kernel, SHAPE, &q, wide, &[segment], &mut out, wide);
                base += count;
            }
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert!(bits(&out) == bits(&wanted), "{kernel:?}");
        }
    }
}

#[test]
fn a_prompt_read_at_once_into_several_chunks_gives_the_same_bits() {
    let (wide, narrow) = (SHAPE.heads * SHAPE.head_dim, SHAPE.kv_heads * SHAPE.head_dim);
    // more queries than a block has: the first ones see nothing of the later chunks
    let length = 2 * SHAPE.queries() + 5;
    let (q, k, v) = inputs(length);
    for kernel in kernels() {
        let wanted = whole(kernel, &[length], &q, &k, &v);
        for cut in [32, length / 32 * 32] {
            let parts = [cut, length - cut];
            let layouts = parts.map(|tokens| KvLayout::new(kernel, SHAPE, tokens));
            let mut slabs = [0, 1].map(|part| vec![0f32; layouts[part].words()]);
            for (part, first) in [(0, 0), (1, cut)] {
                let (k, v) = (&k[first * narrow..], &v[first * narrow..]);
                layouts[part].write(&mut slabs[part], 0, parts[part], k, narrow, v, narrow);
            }
            let tokens = [cut, layouts[1].capacity()];
            let chunks = [0, 1].map(|part| KvChunk {
                layout: &layouts[part],
                slab: &slabs[part],
                tokens: tokens[part],
            });
            let segment = Segment { first: 0, count: length, base: 0, keys: Keys::Chunks(&chunks) };
            let mut out = vec![0f32; length * wide];
            attend(kernel, SHAPE, &q, wide, &[segment], &mut out, wide);
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert!(bits(&out) == bits(&wanted), "{kernel:?}, {cut}");
        }
    }
}

#[test]
fn a_shared_beginning_and_cuts_change_no_bit() {
    let (wide, narrow) = (SHAPE.heads * SHAPE.head_dim, SHAPE.kv_heads * SHAPE.head_dim);
    for kernel in kernels() {
        for (shared, middle) in [(32, 0), (64, 32), (96, 64)] {
            // five sequences with the same first keys; each has some new tokens behind keys of its own
            let lengths =
                [shared + middle + 1, shared + middle + 40, shared + middle + 3, shared + 2, shared + 70];
            let counts = [1, 5, 3, 1, 30];
            let (_, k0, v0) = inputs(shared);
            let sequences: Vec<[Vec<f32>; 3]> = lengths
                .iter()
                .enumerate()
                .map(|(i, length)| {
                    let (q, k, v) = (
                        numbers(length * wide, 10 + i),
                        numbers(length * narrow, 20 + i),
                        numbers(length * narrow, 30 + i),
                    );
                    [q, [&k0, &k[shared * narrow..]].concat(), [&v0, &v[shared * narrow..]].concat()]
                })
                .collect();
            let slab = |k: &[f32], v: &[f32], from: usize, to: usize| {
                let layout = KvLayout::new(kernel, SHAPE, to - from);
                let mut slab = vec![0f32; layout.words()];
                layout.write(
                    &mut slab,
                    0,
                    to - from,
                    &k[from * narrow..],
                    narrow,
                    &v[from * narrow..],
                    narrow,
                );
                (layout, slab)
            };
            let first = slab(&k0, &v0, 0, shared);
            let own: Vec<Vec<(KvLayout, Vec<f32>, usize)>> = sequences
                .iter()
                .zip(lengths)
                .map(|([_, k, v], length)| {
                    let cut = (shared + middle).min(length);
                    let ends = [(shared, cut), (cut, length)];
                    ends.iter()
                        .filter(|(a, b)| a < b && (*b == length || (b - a) % 32 == 0))
                        .map(|(a, b)| {
                            let (layout, slab) = slab(k, v, *a, *b);
                            (layout, slab, b - a)
                        })
                        .collect()
                })
                .collect();
            let chunks: Vec<Vec<KvChunk<'_>>> = own
                .iter()
                .map(|own| {
                    let begin = KvChunk { layout: &first.0, slab: &first.1, tokens: shared };
                    let own =
                        own.iter().map(|(layout, slab, tokens)| KvChunk { layout, slab, tokens: *tokens });
                    std::iter::once(begin).chain(own).collect()
                })
                .collect();
            assert!(chunks.iter().zip(lengths).all(|(c, n)| c.iter().map(|c| c.tokens).sum::<usize>() == n));
            let mut q = Vec::new();
            let mut segments = Vec::new();
            for (i, count) in counts.into_iter().enumerate() {
                let base = lengths[i] - count;
                segments.push(Segment { first: q.len() / wide, count, base, keys: Keys::Chunks(&chunks[i]) });
                q.extend_from_slice(&sequences[i][0][base * wide..]);
            }
            let mut out = vec![0f32; q.len()];
            attend(kernel, SHAPE, &q, wide, &segments, &mut out, wide);
            let mut wanted = Vec::new();
            for ([q, k, v], (length, count)) in sequences.iter().zip(lengths.into_iter().zip(counts)) {
                wanted.extend_from_slice(&whole(kernel, &[length], q, k, v)[(length - count) * wide..]);
            }
            assert!(
                out.iter().zip(&wanted).all(|(a, b)| a.to_bits() == b.to_bits()),
                "{kernel:?} {shared} {middle}"
            );
        }
    }
}

#[test]
fn the_backward_agrees_with_differences_of_the_forward() {
    let (wide, narrow) = (SHAPE.heads * SHAPE.head_dim, SHAPE.kv_heads * SHAPE.head_dim);
    let lengths = [3, 45];
    let tokens = 48;
    let (q, k, v) = inputs(tokens);
    let d_out = numbers(tokens * wide, 4);
    for kernel in kernels() {
        let out = whole(kernel, &lengths, &q, &k, &v);
        let (mut dq, mut dk, mut dv) =
            (vec![0f32; tokens * wide], vec![0f32; tokens * narrow], vec![0f32; tokens * narrow]);
        attend_backward(
            kernel,
            SHAPE,
            &lengths,
            (&q, wide),
            (&k, narrow),
            (&v, narrow),
            &out,
            &d_out,
            wide,
            Gradient { data: &mut dq, stride: wide },
            Gradient { data: &mut dk, stride: narrow },
            Gradient { data: &mut dv, stride: narrow },
        );
        let value = |q: &[f32], k: &[f32], v: &[f32]| -> f64 {
            exact(&lengths, q, k, v).iter().zip(&d_out).map(|(y, d)| y * f64::from(*d)).sum()
        };
        let bound = if kernel.path().is_bf16() { 5e-2 } else { 2e-3 };
        for (which, grad) in [(0, &dq), (1, &dk), (2, &dv)] {
            for place in (0..grad.len()).step_by(grad.len() / 23) {
                let at = |h: f32| {
                    let (mut q, mut k, mut v) = (q.clone(), k.clone(), v.clone());
                    [&mut q, &mut k, &mut v][which][place] += h;
                    value(&q, &k, &v)
                };
                let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
                let error = (f64::from(grad[place]) - slope).abs();
                assert!(error < bound, "{kernel:?} input {which} at {place}: {} is not {slope}", grad[place]);
            }
        }
    }
}

/// A product takes values by groups of tokens. Those behind a sequence's last token have weight 0, and what a slab held
/// before may be NaN or infinite there.
#[test]
fn what_a_slab_held_before_changes_no_bit() {
    let (wide, narrow) = (SHAPE.heads * SHAPE.head_dim, SHAPE.kv_heads * SHAPE.head_dim);
    let length = 77;
    let (q, k, v) = inputs(length);
    for kernel in kernels() {
        let layout = KvLayout::new(kernel, SHAPE, 96);
        let tokens = layout.capacity();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for portions in [vec![length], vec![1; length], vec![31, 1, 1, 2, 29, 13]] {
                let runs = [false, true].map(|used| {
                    let mut slab = vec![0f32; layout.words()];
                    if used {
                        let bad = vec![bad; tokens * narrow];
                        layout.write(&mut slab, 0, tokens, &bad, narrow, &bad, narrow);
                    }
                    let mut out = vec![0f32; length * wide];
                    let mut base = 0;
                    for count in &portions {
                        let (k, v) = (&k[base * narrow..], &v[base * narrow..]);
                        layout.write(&mut slab, base, *count, k, narrow, v, narrow);
                        let chunk = KvChunk { layout: &layout, slab: &slab, tokens };
                        let segment =
                            Segment { first: base, count: *count, base, keys: Keys::Chunks(&[chunk]) };
                        attend(kernel, SHAPE, &q, wide, &[segment], &mut out, wide);
                        base += count;
                    }
                    out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
                });
                assert!(runs[0] == runs[1], "{kernel:?}: {bad} in {} portions", portions.len());
            }
        }
    }
}

/// A guess that was refused may have had values that are NaN; the tokens that take its places never meet them.
#[test]
fn forgotten_tokens_change_no_bit() {
    let (wide, narrow) = (SHAPE.heads * SHAPE.head_dim, SHAPE.kv_heads * SHAPE.head_dim);
    let (q, k, v) = inputs(70);
    for kernel in kernels() {
        let layout = KvLayout::new(kernel, SHAPE, 96);
        for kept in [1, 2, 31, 32, 33, 62] {
            let runs = [0, 1, 5].map(|guessed| {
                let mut slab = vec![0f32; layout.words()];
                layout.write(&mut slab, 0, kept, &k, narrow, &v, narrow);
                let bad = vec![f32::NAN; 5 * narrow];
                layout.write(&mut slab, kept, guessed, &bad, narrow, &bad, narrow);
                layout.forget(&mut slab, kept);
                let (next_k, next_v) = (&k[kept * narrow..], &v[kept * narrow..]);
                layout.write(&mut slab, kept, 1, next_k, narrow, next_v, narrow);
                let chunk = KvChunk { layout: &layout, slab: &slab, tokens: layout.capacity() };
                let segment = Segment { first: 0, count: 1, base: kept, keys: Keys::Chunks(&[chunk]) };
                let mut out = vec![0f32; wide];
                attend(kernel, SHAPE, &q[kept * wide..], wide, &[segment], &mut out, wide);
                assert!(out.iter().all(|x| x.is_finite()), "{kernel:?} {kept} {guessed}");
                out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            });
            assert!(runs.iter().all(|run| *run == runs[0]), "{kernel:?} {kept}");
        }
    }
}
