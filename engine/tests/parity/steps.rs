//! Steps of AdamW, and decoding with a cache.

use super::*;

const BETAS: [f64; 2] = [0.9, 0.99];
const RATE: f64 = 1e-3;

/// What three steps of AdamW leave.
struct Steps {
    losses: Vec<f64>,
    norms: Vec<f64>,
    weights: BTreeMap<String, Tensor>,
    /// By how much each weight may differ from that of another right computation.
    bounds: BTreeMap<String, Vec<f64>>,
}

/// Three steps of AdamW on `loss`, clipped to a norm of 1.
///
/// # How near two computations come
/// Rounding changes a clipped gradient by at most η = 10⁻⁶, of a norm that is at most 1: sums of terms that cancel have an error of
/// their terms' size. Adam divides: a step is m̂/√v̂, which with such a change of every gradient changes by at most (1 + s)·η/√v̂,
/// since m̂ and √v̂ change by at most η each; and by at most 2s in any case, with s the largest |m̂|/√v̂ there is. So where the
/// gradient is itself of the size of η, as a key's bias has it, which softmax hardly sees, even the sign of a step is arbitrary.
fn adamw3(policy: &mut Policy, loss: impl Fn(&Policy) -> Gradients) -> Steps {
    const NOISE: f64 = 1e-6;
    let [beta1, beta2] = BETAS;
    let beta = |beta: f64| Beta::try_from(beta).expect("a decay rate");
    let chain = Chain::new(vec![
        Link::new(ClipByGlobalNorm { max_norm: 1.0 }),
        Link::new(ScaleByAdam { beta1: beta(beta1), beta2: beta(beta2), epsilon: 1e-8 }),
        Link::new(AddDecayedWeights { decay: 0.1, all: true }),
        Link::new(ScaleByLearningRate {}),
    ]);
    let schedule = Schedule { learning_rate: RATE, ..Schedule::default() };
    let mut optimizer = Optimizer::with_chain(chain, &schedule, 3);
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    let mut squares: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut bounds: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for step in 1..=3 {
        let found = loss(policy);
        let norm = optimizer.update(policy, found.grads.clone(), 1.0).expect("update").grad_norm;
        let (corrected, most) = (1.0 - beta2.powi(step), largest_step(step));
        for (name, grad) in found.grads.tensors().expect("tensors") {
            let grad = flat(&grad);
            let squares = squares.entry(name.clone()).or_insert_with(|| vec![0.0; grad.len()]);
            let bounds = bounds.entry(name).or_insert_with(|| vec![2.5e-7; grad.len()]);
            for ((g, square), bound) in grad.iter().zip(squares).zip(bounds) {
                let g = f64::from(*g) / norm.max(1.0);
                *square = beta2 * *square + (1.0 - beta2) * g * g;
                let root = (*square / corrected).sqrt();
                *bound += RATE * (2.0 * most).min((1.0 + most) * NOISE / root);
            }
        }
        losses.push(found.loss);
        norms.push(norm);
    }
    Steps { losses, norms, weights: policy.tensors().expect("tensors"), bounds }
}

/// The largest |m̂|/√v̂ that any gradients give in this step, by Cauchy and Schwarz: √Σ aᵢ²/bᵢ with the weights of both means.
fn largest_step(step: i32) -> f64 {
    let weight = |beta: f64, age: i32| (1.0 - beta) * beta.powi(age) / (1.0 - beta.powi(step));
    (0..step).map(|age| weight(BETAS[0], age).powi(2) / weight(BETAS[1], age)).sum::<f64>().sqrt()
}

/// Asserts that no weight is further off than its bound.
#[track_caller]
fn within(what: &str, found: &Tensor, wanted: &Tensor, bounds: &[f64]) {
    let (found, wanted) = (flat(found), flat(wanted));
    assert_eq!((found.len(), found.len()), (wanted.len(), bounds.len()), "{what}");
    for (place, ((found, wanted), bound)) in found.iter().zip(&wanted).zip(bounds).enumerate() {
        let off = f64::from((found - wanted).abs());
        assert!(
            off <= *bound,
            "{what}: {found} at {place} is not {wanted}, off by {off:e}, more than {bound:e}"
        );
    }
}

#[test]
fn three_steps_of_adamw_match() {
    for f in Fixture::both_ways() {
        let mut policy = f.policy.copy().expect("copy");
        let found = adamw3(&mut policy, |policy| nll(&f, policy));
        let wanted = &f.json["adamw3"];
        for step in 0..3 {
            let what = |quantity: &str| format!("{} adamw {quantity} {step}", f.name);
            near_number(
                &what("loss"),
                found.losses[step],
                number(&wanted["loss_before_each_step"][step]),
                1e-5,
            );
            let norm = number(&wanted["grad_norm_before_clipping"][step]);
            near_number(&what("norm"), found.norms[step], norm, 1e-4);
        }
        let mut count = 0;
        for (name, wanted) in f.under("adamw3.") {
            within(&format!("{} adamw {name}", f.name), &found.weights[name], wanted, &found.bounds[name]);
            count += 1;
        }
        assert!(count >= 3, "{count}");
    }
}

#[test]
fn three_steps_of_adamw_match_where_gradients_are_nearly_zero() {
    // keys' biases have gradients near 1e-7 here
    let config = r#"{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "hidden_size": 96,
        "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128,
        "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": false}"#;
    let config = ModelConfig::from_json(config).expect("config");
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let weights = Policy::random_tensors(&config, &mut rng).expect("tensors");
    let rows: Vec<Vec<u32>> =
        (0..4u32).map(|row| (0..20 - row).map(|at| (7 * row + 13 * at * at + at) % 128).collect()).collect();
    let sequences: Vec<Sequence<'_>> =
        rows.iter().map(|row| Sequence { prompt: &row[..1], completion: &row[1..] }).collect();
    let tokens: usize = sequences.iter().map(|s| s.completion.len()).sum();
    let loss = |policy: &Policy| {
        gradient::gradients(policy, &sequences, 40, 1.0, &|padded| {
            Ok(Loss::plain((padded.log_probs.sum_all()? * (-1.0 / tokens as f64))?))
        })
        .expect("gradients")
    };
    let steps = [Compute::Fused(Kernel::f32().expect("a path")), Compute::Composed].map(|way| {
        let mut policy =
            Policy::with_compute(config.clone(), weights.clone(), &Device::Cpu, way).expect("policy");
        adamw3(&mut policy, loss)
    });
    let [found, wanted] = &steps;
    let mut arbitrary = 0;
    for (name, bounds) in &wanted.bounds {
        within(&format!("adamw {name}"), &found.weights[name], &wanted.weights[name], bounds);
        if name.ends_with("k_proj.bias") {
            arbitrary += bounds.iter().filter(|bound| **bound > RATE).count();
        }
    }
    assert!(arbitrary > 0, "a shape that shows what is meant");
}

#[test]
fn greedy_decoding_with_a_cache_matches() {
    for f in Fixture::both_ways() {
        let prompts = f.prompts();
        let wanted = f.ids("greedy.tokens");
        let steps = wanted[0].len();
        let mut rows: Vec<KvRow> =
            prompts.iter().map(|p| KvRow::new(&f.policy, p.len() + steps).expect("row")).collect();
        let mut next = prompts.clone();
        let mut found: Vec<Vec<u32>> = vec![Vec::new(); prompts.len()];
        for _ in 0..steps {
            let mut inputs: Vec<(&mut KvRow, &[u32])> =
                rows.iter_mut().zip(&next).map(|(row, new)| (row, new.as_slice())).collect();
            let hidden = f.policy.extend(&mut inputs).expect("extend");
            let mut end = 0;
            for (found, next) in found.iter_mut().zip(&mut next) {
                end += next.len() as u32;
                let logits = f.policy.logits(&hidden, &[end - 1]).expect("logits");
                let best =
                    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).expect("tokens");
                found.push(best as u32);
                *next = vec![best as u32];
            }
        }
        assert_eq!(found, wanted, "{}", f.name);
    }
}

#[test]
fn decoding_with_a_cache_and_one_plain_forward_give_the_same_hidden_states() {
    for f in Fixture::both_ways() {
        let prompts = f.prompts();
        let mut sequences = Sequences::default();
        prompts.iter().for_each(|p| sequences.push(p));
        let (hidden, _) = f.policy.forward(&sequences, false).expect("hidden");
        let plain = hidden.numbers().expect("numbers");
        let width = f.policy.config().hidden_size;
        let mut start = 0;
        for prompt in &prompts {
            // 3 tokens at once, then 2, then one by one
            let mut row = KvRow::new(&f.policy, prompt.len()).expect("row");
            let mut cuts = vec![&prompt[..3], &prompt[3..5]];
            cuts.extend(prompt[5..].chunks(1));
            let cached: Vec<f32> = cuts
                .iter()
                .flat_map(|new| {
                    f.policy.extend(&mut [(&mut row, new)]).expect("extend").numbers().expect("numbers")
                })
                .collect();
            assert_eq!(row.len(), prompt.len());
            let wanted = &plain[start * width..(start + prompt.len()) * width];
            match f.policy.compute() {
                Compute::Fused(_) => assert!(cached == wanted, "{}: own kernels give the same bits", f.name),
                Compute::Composed => near(&format!("{} cached", f.name), &cached, wanted, 1e-5),
            }
            start += prompt.len();
        }
    }
}
