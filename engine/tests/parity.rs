//! The same numbers as PyTorch, transformers and TRL on tiny Qwen2 and Qwen3 checkpoints, in f32.

mod common;

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use common::{Completions, Fixture, flat, kept, near, near_number, near_tensor, tensors};
use engine::baseline::{BaselineConfig, Group, Scale, advantages, rescale};
use engine::gradient::{self, Gradients, Sequence};
use engine::kernels::Kernel;
use engine::model::{Compute, KvRow, ModelConfig, Policy, Sequences, Targets};
use engine::objective::preference::{Pairs, PreferenceLoss};
use engine::objective::{
    Aggregate, Cispo, ClipRange, Grpo, Kl, KlEstimator, KlPlace, Loss, LossConfig, ObjectiveConfig,
    RatioLevel, Sapo, Tokens,
};
use engine::optimizer::Optimizer;
use engine::schedule::Schedule;
use engine::transform::{
    AddDecayedWeights, Beta, Chain, ClipByGlobalNorm, Link, ScaleByAdam, ScaleByLearningRate,
};
use rand::SeedableRng;
use serde_json::Value;

/// Padded tokens of a pass where one pass should hold everything.
const ALL: usize = 1 << 20;

#[test]
fn logits_log_probs_and_entropies_match() {
    for f in Fixture::both_ways() {
        for case in ["plain", "leftpad", "rightpad", "offset", "gap"] {
            let name = |part: &str| format!("{case}.{part}");
            let ids = f.ids(&name("input_ids"));
            let mask = match f.get(&name("attention_mask")) {
                Some(_) => f.ids(&name("attention_mask")),
                None => ids.iter().map(|row| vec![1; row.len()]).collect(),
            };
            let positions = f.get(&name("position_ids")).map(|_| f.ids(&name("position_ids")));
            let (mut sequences, mut targets) = (Sequences::default(), Vec::new());
            for (row, (ids, mask)) in ids.iter().zip(&mask).enumerate() {
                let tokens = kept(ids, mask);
                match &positions {
                    Some(positions) => sequences.push_at(&tokens, kept(&positions[row], mask)),
                    None => sequences.push(&tokens),
                }
                targets.extend_from_slice(&tokens[1..]);
                targets.push(0); // what follows the last token is not compared
            }
            let (hidden, _) = f.policy.forward(&sequences, false).expect("hidden");
            let places: Vec<u32> = (0..targets.len() as u32).collect();
            let targets = Targets { places: &places, tokens: &targets, temperature: 1.0 };
            let scores = f.policy.score(&hidden, &targets).expect("scores");
            let what = |quantity: &str| format!("{} {case} {quantity}", f.name);

            let wanted: Vec<f32> =
                f.grid(&name("entropy")).iter().zip(&mask).flat_map(|(row, mask)| kept(row, mask)).collect();
            near(&what("entropy"), &scores.entropy, &wanted, 1e-4);

            let log_probs = scores.log_probs;
            let mut start = 0;
            for ((wanted, mask), length) in
                f.grid(&name("token_logps")).iter().zip(&mask).zip(sequences.lengths())
            {
                let both: Vec<u32> = mask.windows(2).map(|pair| pair[0] * pair[1]).collect();
                near(&what("log-probs"), &log_probs[start..start + length - 1], &kept(wanted, &both), 1e-4);
                start += length;
            }

            if let Some(wanted) = f.get(&name("logits")) {
                let wanted: Vec<Vec<f32>> = wanted
                    .to_vec3::<f32>()
                    .expect("logits")
                    .iter()
                    .zip(&mask)
                    .flat_map(|(rows, mask)| {
                        rows.iter().zip(mask).filter(|(_, m)| **m == 1).map(|(row, _)| row.clone())
                    })
                    .collect();
                let logits = f.policy.logits(&hidden, &places).expect("logits");
                near(&what("logits"), &logits, &wanted.concat(), 1e-4);
            }
        }
    }
}

/// Mean −ln π over every token of the left-padded batch but each row's first, with its gradient.
fn nll(f: &Fixture, policy: &Policy) -> Gradients {
    let prompts = f.prompts();
    let sequences: Vec<Sequence<'_>> =
        prompts.iter().map(|row| Sequence { prompt: &row[..1], completion: &row[1..] }).collect();
    let tokens: usize = sequences.iter().map(|s| s.completion.len()).sum();
    assert_eq!(f.json["nll"]["tokens"], tokens);
    gradient::gradients(policy, &sequences, 40, 1.0, &|padded| {
        let loss = (padded.log_probs.sum_all()? * (-1.0 / tokens as f64))?;
        Ok(Loss::plain(loss))
    })
    .expect("gradients")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

#[test]
fn the_gradient_of_every_parameter_matches() {
    for f in Fixture::both_ways() {
        let found = nll(&f, &f.policy);
        near_number(&format!("{} nll", f.name), found.loss, number(&f.json["nll"]["value"]), 1e-5);
        let wanted = tensors(f.name, "grads_nll.safetensors");
        let grads = found.grads.tensors().expect("tensors");
        assert!(grads.keys().eq(wanted.keys()), "{}", f.name);
        for (name, wanted) in &wanted {
            near_tensor(&format!("{} nll gradient {name}", f.name), &grads[name], wanted, 1e-4);
        }
    }
}

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

#[test]
fn log_probs_of_completions_match() {
    for f in Fixture::both_ways() {
        let batch = f.completions();
        let found = gradient::log_probs(&f.policy, &batch.sequences(), 30, 1.0, false).expect("log-probs");
        for (found, wanted) in found.log_probs.iter().zip(&batch.policy) {
            near(&format!("{} completions", f.name), found, wanted, 1e-4);
        }
    }
}

#[test]
fn advantages_match() {
    for f in Fixture::both_ways() {
        let rewards = f.column("grpo.rewards");
        for (scale, name) in [(Scale::Group, "group"), (Scale::None, "none")] {
            let groups: Vec<Vec<f32>> = rewards.chunks(4).map(<[f32]>::to_vec).collect();
            let of_group = |rewards: &Vec<f32>| -> Vec<Vec<f32>> {
                let group = Group { rewards, ..Group::default() };
                advantages(BaselineConfig::GroupMean.build(), &group).into_iter().map(|a| vec![a]).collect()
            };
            let mut found: Vec<Vec<Vec<f32>>> = groups.iter().map(of_group).collect();
            rescale(scale, &groups, &mut found);
            let found: Vec<f32> = found.into_iter().flatten().flatten().collect();
            let wanted = f.column(&format!("grpo.advantages_{name}"));
            near(&format!("{} advantages {name}", f.name), &found, &wanted, 2e-6);
        }
    }
}

/// The loss that a run of TRL's trainer stands for.
fn loss(run: &Value) -> LossConfig {
    let get = |key: &str| run[key].as_f64().map(|x| x as f32);
    let low = get("epsilon").unwrap_or(0.2);
    let high = get("epsilon_high").unwrap_or(low);
    let kl = get("beta").filter(|beta| *beta != 0.0).map(|coefficient| Kl {
        coefficient,
        estimator: KlEstimator::K3,
        importance_weighted: run["use_bias_correction_kl"].as_bool().unwrap_or(true),
        place: KlPlace::Loss,
    });
    let clip = ObjectiveConfig::Grpo(Grpo {
        clip_low: ClipRange::new(low),
        clip_high: ClipRange::new(high),
        ratio_cap: get("delta"),
        level: match run["importance_sampling_level"].as_str() {
            Some("sequence") => RatioLevel::Sequence,
            _ => RatioLevel::Token,
        },
        ..Grpo::default()
    });
    let (objective, aggregate) = match run["loss_type"].as_str().expect("a loss") {
        "grpo" => (clip, Aggregate::SequenceMean),
        "bnpo" | "dapo" => (clip, Aggregate::TokenMean),
        "dr_grpo" => (clip, Aggregate::Constant { tokens: 10 }),
        "cispo" => (ObjectiveConfig::Cispo(Cispo { cap: high, ..Cispo::default() }), Aggregate::TokenMean),
        "sapo" => (ObjectiveConfig::Sapo(Sapo::default()), Aggregate::SequenceMean),
        other => panic!("no objective for {other}"),
    };
    LossConfig { objective, aggregate, kl, ..LossConfig::default() }
}

/// The loss of a run and its gradient.
fn run(f: &Fixture, batch: &Completions, run: &Value, micro_batch_tokens: usize) -> Gradients {
    let config = loss(run);
    let advantages = f.column(run["advantages"].as_str().expect("a name"));
    let weights = config.aggregate.weights(&batch.lengths(), &vec![1.0; batch.lengths().len()]);
    let old = (run["old_logps"] == "grpo.old_logps").then_some(&batch.old);
    let ones: Vec<Vec<f32>> = batch.lengths().iter().map(|length| vec![1.0; *length]).collect();
    let temperature = run["temperature"].as_f64().unwrap_or(1.0);
    gradient::gradients(&f.policy, &batch.sequences(), micro_batch_tokens, temperature, &|padded| {
        let now = padded.log_probs.as_detached_tensor();
        let old = old.map(|old| padded.grid(|row| &old[row])).transpose()?.unwrap_or(now);
        Ok(config.loss(&Tokens {
            log_probs: padded.log_probs.as_tensor(),
            entropy: padded.entropy.as_tensor(),
            old_log_probs: &old,
            sampled_log_probs: &old,
            reference_log_probs: Some(&padded.grid(|row| &batch.reference[row])?),
            advantages: &padded.column(|row| advantages[row])?,
            mask: &padded.grid(|row| &ones[row])?,
            weights: &padded.column(|row| weights[row])?,
        })?)
    })
    .expect("gradients")
}

#[test]
fn every_grpo_run_matches() {
    for f in Fixture::both_ways() {
        let batch = f.completions();
        let tokens = batch.lengths().iter().sum::<usize>() as f64;
        let runs = f.json["grpo"]["runs"].as_array().expect("runs");
        assert_eq!(runs.len(), 17);
        let mut compared = 0;
        for (index, wanted) in runs.iter().enumerate() {
            for micro_batch_tokens in [30, ALL] {
                let found = run(&f, &batch, wanted, micro_batch_tokens);
                let what = |quantity: &str| format!("{} grpo run {index} {quantity}", f.name);
                near_number(&what("loss"), found.loss, number(&wanted["loss"]), 1e-5);
                let (norm, wanted_norm) =
                    (found.grads.global_norm().expect("norm").0, number(&wanted["grad_norm"]));
                near_number(&what("norm"), norm / wanted_norm, 1.0, 1e-4);
                for (name, wanted) in f.under(&format!("grpo.grad.{index}.")) {
                    near_tensor(&what(name), &found.grads.tensors().expect("tensors")[name], wanted, 1e-4);
                    compared += 1;
                }
                let metrics = &wanted["metrics"];
                let entropy = found.stats.entropy.iter().flatten().map(|e| f64::from(*e)).sum::<f64>();
                near_number(&what("entropy"), entropy / tokens, number(&metrics["entropy"]), 1e-5);
                if let Some(kl) = metrics["kl"].as_f64() {
                    near_number(&what("kl"), found.kl / tokens, kl, 1e-5);
                }
                // Where a ratio belongs to a sequence, TRL counts sequences and not tokens. With a cap it counts
                // neither those that the cap cuts off nor those below, whose gradient the clip has taken. Of CISPO's
                // capped tokens it counts those with a positive advantage only.
                let comparable = wanted["importance_sampling_level"].is_null() && wanted["delta"].is_null();
                if let Some(clipped) = metrics["clip_ratio/region_mean"].as_f64().filter(|_| comparable) {
                    near_number(&what("clip fraction"), found.clipped / tokens, clipped, 1e-6);
                }
            }
        }
        assert_eq!(compared, 8, "gradients of four runs, twice");
    }
}

fn preference(run: &Value) -> PreferenceLoss {
    let beta = number(&run["beta"]);
    let smoothing = run["label_smoothing"].as_f64().unwrap_or(0.0);
    match run["loss_type"].as_str().expect("a loss") {
        "sigmoid" => PreferenceLoss::Sigmoid { beta, smoothing },
        "hinge" => PreferenceLoss::Hinge { beta },
        "ipo" => PreferenceLoss::Ipo { beta },
        "robust" => PreferenceLoss::Robust { beta, smoothing },
        "apo_zero" => PreferenceLoss::ApoZero { beta },
        "sigmoid_norm" => PreferenceLoss::SigmoidPerToken { beta },
        other => panic!("no loss for {other}"),
    }
}

#[test]
fn every_preference_run_matches() {
    for f in Fixture::both_ways() {
        let (ids, completion) = (f.ids("dpo.input_ids"), f.ids("dpo.completion_mask"));
        let rows: Vec<(Vec<u32>, Vec<u32>)> = ids
            .iter()
            .zip(f.ids("dpo.attention_mask"))
            .zip(&completion)
            .map(|((ids, attention), completion)| {
                let prompt: Vec<u32> = attention.iter().zip(completion).map(|(a, c)| a * (1 - c)).collect();
                (kept(ids, &prompt), kept(ids, completion))
            })
            .collect();
        let sequences: Vec<Sequence<'_>> =
            rows.iter().map(|(prompt, completion)| Sequence { prompt, completion }).collect();
        let tokens: Vec<f32> = rows.iter().map(|(_, completion)| completion.len() as f32).collect();
        let reference = f.column("dpo.ref_logps");
        let sums: Vec<f32> = gradient::log_probs(&f.policy, &sequences, ALL, 1.0, false)
            .expect("log-probs")
            .log_probs
            .iter()
            .map(|row| row.iter().sum())
            .collect();
        near(&format!("{} summed log-probs", f.name), &sums, &f.column("dpo.policy_logps"), 1e-4);

        let device = f.policy.device();
        let half = |x: &[f32], second: usize| Tensor::new(&x[4 * second..4 * second + 4], device);
        for wanted in f.json["dpo"]["runs"].as_array().expect("runs") {
            let loss = preference(wanted);
            let found = gradient::gradients(&f.policy, &sequences, ALL, 1.0, &|padded| {
                assert_eq!(padded.rows.len(), 8, "both halves of every pair in one pass");
                let place = |row| padded.rows.iter().position(|r| *r == row).expect("row") as u32;
                let sums = padded.log_probs.sum(1)?;
                let pick = |rows: std::ops::Range<usize>| -> candle_core::Result<Tensor> {
                    sums.index_select(&Tensor::new(rows.map(place).collect::<Vec<_>>(), device)?, 0)
                };
                let losses = loss.losses(&Pairs {
                    chosen: &pick(0..4)?,
                    rejected: &pick(4..8)?,
                    reference_chosen: &half(&reference, 0)?,
                    reference_rejected: &half(&reference, 1)?,
                    chosen_tokens: &half(&tokens, 0)?,
                    rejected_tokens: &half(&tokens, 1)?,
                })?;
                Ok(Loss::plain(losses.mean_all()?))
            })
            .expect("gradients");
            let what =
                |quantity: &str| format!("{} {} {} {quantity}", f.name, wanted["loss_type"], wanted["beta"]);
            near_number(&what("loss"), found.loss, number(&wanted["loss"]), 1e-5);
            let norm = found.grads.global_norm().expect("norm").0;
            near_number(&what("norm"), norm / number(&wanted["grad_norm"]), 1.0, 1e-4);
            if wanted["loss_type"] == "sigmoid" && wanted["beta"] == 0.1 {
                let mut names = 0;
                for (name, wanted) in f.under("dpo.grad.sigmoid_0.1.") {
                    near_tensor(&what(name), &found.grads.tensors().expect("tensors")[name], wanted, 1e-4);
                    names += 1;
                }
                assert_eq!(names, 1);
            }

            let beta = number(&wanted["beta"]);
            let reward = |row: usize| beta * f64::from(sums[row] - reference[row]);
            let mean = |values: &dyn Fn(usize) -> f64| (0..4).map(values).sum::<f64>() / 4.0;
            let metric = |name: &str, found: f64| {
                near_number(&what(name), found, number(&wanted["metrics"][name]), 1e-5 * beta.max(1.0));
            };
            metric("rewards/chosen", mean(&reward));
            metric("rewards/rejected", mean(&|pair| reward(pair + 4)));
            metric("rewards/margins", mean(&|pair| reward(pair) - reward(pair + 4)));
            metric("rewards/accuracies", mean(&|pair| f64::from(u8::from(reward(pair) > reward(pair + 4)))));
            metric("logps/chosen", mean(&|pair| f64::from(sums[pair])));
            metric("logps/rejected", mean(&|pair| f64::from(sums[pair + 4])));
        }
    }
}
