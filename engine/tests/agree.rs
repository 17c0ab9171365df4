//! Own kernels against the composed operations, and every path of this machine against itself.

mod common;

use candle_core::{Device, Tensor};
use common::{Fixture, MODELS, flat, near, near_tensor};
use engine::Tensors;
use engine::gradient::{self, Gradients};
use engine::kernels::{Kernel, Path};
use engine::model::{Compute, KvRow, ModelError, Policy, Recompute, Sequences, Targets};
use engine::objective::Loss;

const ADVANTAGES: [f32; 8] = [0.5, -1.0, 0.0, 0.25, 0.0, 1.5, -0.75, 0.0];

fn weighted(f: &Fixture, policy: &Policy, temperature: f64) -> Gradients {
    gradient::gradients(policy, &f.completions().sequences(), 40, temperature, &|padded| {
        let advantages = padded.column(|row| ADVANTAGES[row])?;
        let loss = padded.log_probs.broadcast_mul(&advantages)?.sum_all()?.neg()?;
        Ok(Loss::plain(loss))
    })
    .expect("gradients")
}

fn flat_tensor(x: &Tensor) -> Tensor {
    x.flatten_all().expect("numbers")
}

/// ‖found − wanted‖ over ‖wanted‖.
fn distance(found: &Tensor, wanted: &Tensor) -> f32 {
    let (found, wanted) = (flat(found), flat(wanted));
    let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
    norm(&mut found.iter().zip(&wanted).map(|(f, w)| f - w)) / norm(&mut wanted.iter().copied())
}

fn kernels() -> impl Iterator<Item = Kernel> {
    Path::ALL.into_iter().filter_map(Kernel::new)
}

#[test]
fn every_path_has_the_gradients_of_the_composed_operations() {
    for name in MODELS {
        let composed = Fixture::computing(name, Compute::Composed);
        for temperature in [1.0, 0.7] {
            let wanted = weighted(&composed, &composed.policy, temperature);
            let wanted_grads = wanted.grads.tensors().expect("tensors");
            for kernel in kernels() {
                let f = Fixture::computing(name, Compute::Fused(kernel));
                let found = weighted(&f, &f.policy, temperature);
                let (gradient, log_prob) = if kernel.path().is_bf16() { (2e-2, 2e-1) } else { (1e-5, 2e-5) };
                let found_grads = found.grads.tensors().expect("tensors");
                assert!(found_grads.keys().eq(wanted_grads.keys()));
                for (parameter, wanted) in &wanted_grads {
                    let what = format!("{name} {} {parameter}", kernel.path().name());
                    if kernel.path().is_bf16() {
                        // Single tensors can be what is left of large numbers that cancel, such as the bias of keys,
                        // which moves a softmax by its rotation alone.
                        let error = distance(&found_grads[parameter], wanted);
                        assert!(error <= 2.0 * gradient, "{what}: off by {error:e}");
                    } else {
                        near_tensor(&what, &found_grads[parameter], wanted, gradient);
                    }
                }
                let line =
                    |grads: &Tensors| Tensor::cat(&grads.values().map(flat_tensor).collect::<Vec<_>>(), 0);
                let error = distance(&line(&found_grads).expect("line"), &line(&wanted_grads).expect("line"));
                assert!(
                    error <= gradient,
                    "{name} {}: the gradient is off by {error:e}",
                    kernel.path().name()
                );
                for (found, wanted) in found.stats.log_probs.iter().zip(&wanted.stats.log_probs) {
                    near(&format!("{name} {} log-probs", kernel.path().name()), found, wanted, log_prob);
                }
                for (found, wanted) in found.stats.entropy.iter().zip(&wanted.stats.entropy) {
                    near(&format!("{name} {} entropy", kernel.path().name()), found, wanted, log_prob);
                }
            }
        }
    }
}

#[test]
fn keeping_what_is_inside_a_layer_changes_no_bit() {
    for name in MODELS {
        for kernel in kernels() {
            let mut f = Fixture::computing(name, Compute::Fused(kernel));
            let bits = |g: &Gradients| -> Vec<u32> {
                g.grads.flat().expect("in one line").numbers().iter().map(|x| x.to_bits()).collect()
            };
            let again = bits(&weighted(&f, &f.policy, 1.0));
            f.policy.set_recompute(Recompute::None);
            assert!(bits(&weighted(&f, &f.policy, 1.0)) == again, "{name} {}", kernel.path().name());
        }
    }
}

#[test]
fn the_statistics_of_a_distribution_are_those_of_its_logits() {
    let f = Fixture::load("qwen3-tiny");
    let prompts = f.prompts();
    let mut sequences = Sequences::default();
    prompts.iter().for_each(|p| sequences.push(p));
    let (hidden, _) = f.policy.forward(&sequences, false).expect("hidden");
    let places: Vec<u32> = (0..sequences.tokens().len() as u32).collect();
    let tokens: Vec<u32> = places.iter().map(|place| place * 7 % 128).collect();
    let logits = f.policy.logits(&hidden, &places).expect("logits");
    for temperature in [0.5, 1.0, 2.0] {
        let targets = Targets { places: &places, tokens: &tokens, temperature };
        let scores = f.policy.score(&hidden, &targets).expect("scores");
        for (row, z) in logits.chunks(128).enumerate() {
            let e: Vec<f64> = z.iter().map(|z| (f64::from(*z) / temperature).exp()).collect();
            let total: f64 = e.iter().sum();
            let p: Vec<f64> = e.iter().map(|e| e / total).collect();
            let (best, largest) =
                p.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).expect("a distribution");
            let close = |what: &str, found: f32, wanted: f64| {
                assert!(
                    (f64::from(found) - wanted).abs() < 1e-5,
                    "{what} of row {row}: {found}, not {wanted}"
                );
            };
            close("log-prob", scores.log_probs[row], p[tokens[row] as usize].ln());
            close("entropy", scores.entropy[row], -p.iter().map(|p| p * p.ln()).sum::<f64>());
            close("sum of squares", scores.rows[row].sum_of_squares(), p.iter().map(|p| p * p).sum());
            close("largest", scores.rows[row].best_probability(), *largest);
            assert_eq!(scores.rows[row].best as usize, best);
        }
    }
}

#[test]
fn no_rows_empty_rows_and_single_tokens_are_computed_like_any() {
    for kernel in kernels() {
        let f = Fixture::computing("qwen3-tiny", Compute::Fused(kernel));
        let width = f.policy.config().hidden_size;
        let alone = |rows: &[&[u32]]| {
            let mut sequences = Sequences::default();
            rows.iter().for_each(|row| sequences.push(row));
            let (hidden, trace) = f.policy.forward(&sequences, true).expect("hidden");
            let places: Vec<u32> = (0..sequences.tokens().len() as u32).collect();
            let targets = Targets { places: &places, tokens: sequences.tokens(), temperature: 1.0 };
            let scores = f.policy.score(&hidden, &targets).expect("scores");
            let (trace, d) = (trace.expect("kept"), vec![1.0; places.len()]);
            let mut grads = f.policy.zero_grads();
            f.policy.backward(trace, &hidden, &targets, &scores, (&d, &[]), &mut grads).expect("backward");
            (hidden.numbers().expect("numbers"), grads.flat().expect("in one line").numbers().to_vec())
        };
        let (hidden, grads) = alone(&[]);
        assert!(hidden.is_empty() && grads.iter().all(|g| *g == 0.0));
        let (hidden, grads) = alone(&[&[], &[]]);
        assert!(hidden.is_empty() && grads.iter().all(|g| *g == 0.0));
        let (one, grads) = alone(&[&[5]]);
        assert!(one.len() == width && grads.iter().all(|g| g.is_finite()));
        let with_empty = alone(&[&[], &[5], &[7, 8, 9], &[]]);
        assert!(with_empty.0[..width] == one && with_empty == alone(&[&[5], &[7, 8, 9]]), "{kernel:?}");
    }
}

#[test]
fn what_belongs_to_another_policy_is_refused() {
    let kernels: Vec<Kernel> = kernels().collect();
    let load = |name, compute| Fixture::computing(name, compute).policy;
    let policy = load("qwen3-tiny", Compute::Fused(kernels[0]));
    let mut others =
        vec![load("qwen2-tiny", Compute::Fused(kernels[0])), load("qwen3-tiny", Compute::Composed)];
    others.extend(kernels[1..].iter().map(|kernel| load("qwen3-tiny", Compute::Fused(*kernel))));
    for other in &others {
        let mut row = KvRow::new(other, 8).expect("row");
        assert!(other.extend(&mut [(&mut row, &[1, 2])]).is_ok());
        assert!(matches!(policy.extend(&mut [(&mut row, &[3])]), Err(ModelError::Foreign)));
    }
}

/// Inputs of the last layer's MLP for whole rows.
fn mlp_input(policy: &Policy, rows: &[&[u32]]) -> Vec<f32> {
    let mut caches: Vec<KvRow> = rows.iter().map(|row| KvRow::new(policy, row.len()).expect("row")).collect();
    let mut pairs: Vec<(&mut KvRow, &[u32])> = caches.iter_mut().zip(rows.iter().copied()).collect();
    policy.mlp_input(&mut pairs).expect("inputs").to_vec()
}

#[test]
fn the_input_of_the_last_mlp_is_what_the_residual_stream_says() {
    let rows: [&[u32]; 2] = [&[5, 9, 2, 7, 11, 3], &[8, 1, 4]];
    for f in Fixture::both_ways() {
        // without the output of its MLP the last layer leaves the stream as it is after attention
        let layer = f.policy.config().num_hidden_layers - 1;
        let down = format!("model.layers.{layer}.mlp.down_proj.weight");
        let mut tensors = f.policy.tensors().expect("weights");
        let input = mlp_input(&f.policy, &rows);
        tensors.insert(down.clone(), tensors[&down].zeros_like().expect("zeros"));
        let policy =
            Policy::with_compute(f.policy.config().clone(), tensors, &Device::Cpu, f.policy.compute());
        let policy = policy.expect("policy");
        assert!(mlp_input(&policy, &rows) == input, "{}: the MLP's own output plays no part", f.name);
        let mut caches: Vec<KvRow> =
            rows.iter().map(|r| KvRow::new(&policy, r.len()).expect("row")).collect();
        let mut pairs: Vec<(&mut KvRow, &[u32])> = caches.iter_mut().zip(rows).collect();
        let hidden = policy.extend(&mut pairs).expect("hidden").numbers().expect("numbers");
        let last = policy.weight("model.norm.weight").expect("norm");
        let post = format!("model.layers.{layer}.post_attention_layernorm.weight");
        let post = policy.weight(&post).expect("norm");
        let width = policy.config().hidden_size;
        assert_eq!(input.len(), 9 * width);
        for (place, (input, hidden)) in input.iter().zip(hidden.iter()).enumerate() {
            let (norm, post) = (last[place % width], post[place % width]);
            assert!((input * norm - hidden * post).abs() < 1e-4, "{}: {input} of {place}", f.name);
        }
    }
}

#[test]
fn the_input_of_the_last_mlp_is_the_same_behind_a_shared_beginning() {
    let whole: [&[u32]; 2] = [&[5, 9, 2, 7, 11, 3], &[5, 9, 2, 4]];
    for f in Fixture::both_ways() {
        let mut begin = KvRow::to_share(&f.policy, 3).expect("row");
        let first = f.policy.mlp_input(&mut [(&mut begin, &whole[0][..3])]).expect("inputs").to_vec();
        let begin = begin.share();
        let mut rows: Vec<KvRow> =
            whole.iter().map(|row| KvRow::behind(&begin, row.len()).expect("row")).collect();
        let mut pairs: Vec<(&mut KvRow, &[u32])> =
            rows.iter_mut().zip(whole).map(|(row, tokens)| (row, &tokens[3..])).collect();
        let rest = f.policy.mlp_input(&mut pairs).expect("inputs").to_vec();
        let width = f.policy.config().hidden_size;
        let (one, two) = (mlp_input(&f.policy, &whole[..1]), mlp_input(&f.policy, &whole[1..]));
        let wanted: Vec<f32> = [&one[..], &two[3 * width..]].concat();
        let found: Vec<f32> = [first, rest].concat();
        if matches!(f.policy.compute(), Compute::Fused(_)) {
            assert!(found == wanted, "{}", f.name);
        }
        let off = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(found.len() == wanted.len() && off < 1e-5, "{}: {off}", f.name);
    }
    let both = |name| {
        Fixture::both_ways().filter(|f| f.name == name).map(|f| mlp_input(&f.policy, &whole)).collect()
    };
    for name in MODELS {
        let both: Vec<Vec<f32>> = both(name);
        let off = both[0].iter().zip(&both[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 1e-4, "{name}: own kernels and candle differ by {off}");
    }
}
