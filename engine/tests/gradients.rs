//! What an update must and must not depend on, on tiny Qwen2 and Qwen3 policies.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;
use common::{Completions, Fixture, MODELS, bits, flat, near, near_number, near_tensor};
use data::{Body, PolicyVersion, Prompt, Rollout, Score, ScoredRollout, StopReason};
use engine::baseline::{BaselineConfig, Scale};
use engine::batch::{Batch, Row, Truncated};
use engine::gradient::{self, Gradients, Sequence};
use engine::ledger::LedgerConfig;
use engine::model::{Grads, Policy};
use engine::objective::{
    Aggregate, Grpo, Kl, KlEstimator, KlPlace, Loss, LossConfig, ObjectiveConfig, Tokens,
};
use engine::optimizer::Optimizer;
use engine::schedule::Schedule;
use engine::trainer::{Trainer, TrainerConfig};
use engine::transform::{AdamW, OptimizerConfig};
use engine::{EngineError, Tensors};
use rand::{RngExt, SeedableRng};

const ADVANTAGES: [f32; 8] = [0.5, -1.0, 0.0, 0.25, 0.0, 1.5, -0.75, 0.0];

/// −Σ A ln π over tokens, and its gradient.
fn weighted(
    policy: &Policy,
    sequences: &[Sequence<'_>],
    advantages: &[f32],
    micro_batch: usize,
) -> Gradients {
    gradient::gradients(policy, sequences, micro_batch, 1.0, &|padded| {
        let advantages = padded.column(|row| advantages[row])?;
        let loss = padded.log_probs.broadcast_mul(&advantages)?.sum_all()?.neg()?;
        Ok(Loss::plain(loss))
    })
    .expect("gradients")
}

/// The value of [`weighted`] in f64, from the forward pass alone.
fn value(policy: &Policy, sequences: &[Sequence<'_>]) -> f64 {
    let stats = gradient::log_probs(policy, sequences, 1 << 20, 1.0, false).expect("log-probs");
    let rows = stats.log_probs.iter().zip(ADVANTAGES);
    -rows.map(|(row, a)| f64::from(a) * row.iter().map(|x| f64::from(*x)).sum::<f64>()).sum::<f64>()
}

#[test]
fn every_parameter_has_a_gradient_that_finite_differences_confirm() {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    for mut f in Fixture::both_ways() {
        let batch = f.completions();
        let sequences = batch.sequences();
        let grads = weighted(&f.policy, &sequences, &ADVANTAGES, 1 << 20).grads.tensors().expect("tensors");
        let weights = f.policy.tensors().expect("tensors");
        assert!(grads.keys().eq(weights.keys()), "{}: a parameter has no gradient", f.name);
        for (name, weight) in &weights {
            let gradient = flat(&grads[name]);
            let length = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!(length.is_finite() && length > 1e-3, "{} {name}: {length}", f.name);
            for _ in 0..2 {
                // Along random signs a slope is about as large as the gradient is long.
                let signs: Vec<f32> =
                    gradient.iter().map(|_| if rng.random() { 1.0 } else { -1.0 }).collect();
                let slope: f64 = gradient.iter().zip(&signs).map(|(g, s)| f64::from(g * s)).sum();
                let signs = Tensor::from_vec(signs, weight.shape(), f.policy.device()).expect("signs");
                let mut at = |step: f64| {
                    let moved = (&signs * step).and_then(|change| weight + change).expect("moved");
                    f.policy.set(&BTreeMap::from([(name.clone(), moved)])).expect("set");
                    value(&f.policy, &sequences)
                };
                let mut difference = |h: f64| (at(h) - at(-h)) / (2.0 * h);
                // Richardson: the error of order h² cancels
                let h = 0.05 / (gradient.len() as f64).sqrt();
                let found = (4.0 * difference(h) - difference(2.0 * h)) / 3.0;
                let error = (found - slope).abs() / length;
                assert!(error < 3e-3, "{} {name}: {found} is not {slope}, off by {error:e}", f.name);
            }
            f.policy.set(&BTreeMap::from([(name.clone(), weight.clone())])).expect("set");
        }
    }
}

#[test]
fn micro_batches_change_a_gradient_by_rounding_only() {
    for f in MODELS.map(Fixture::load) {
        let batch = f.completions();
        let sequences = batch.sequences();
        let all = weighted(&f.policy, &sequences, &ADVANTAGES, 100_000);
        for size in [8, 64] {
            let some = weighted(&f.policy, &sequences, &ADVANTAGES, size);
            near_number("loss", some.loss, all.loss, 2e-5);
            assert_eq!(some.stats.log_probs.len(), 8);
            for (row, (found, wanted)) in some.stats.log_probs.iter().zip(&all.stats.log_probs).enumerate() {
                near(&format!("micro log-probs of row {row}"), found, wanted, 1e-5);
            }
            let some = some.grads.tensors().expect("tensors");
            for (name, wanted) in &all.grads.tensors().expect("tensors") {
                near_tensor(&format!("{} micro-batch {name}", f.name), &some[name], wanted, 5e-6);
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let f = Fixture::load("qwen3-tiny");
    let batch = f.completions();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
        pool.install(|| {
            let mut policy = f.policy.copy().expect("copy");
            let mut trainer = Trainer::new(config(Grpo::default()), &policy).expect("trainer");
            let update = trainer.step(&mut policy, &rows(&batch, &ADVANTAGES)).expect("step");
            (bits(&policy), update)
        })
    };
    let one = on(1);
    assert_ne!(one.0, bits(&f.policy));
    assert!(on(2) == one);
    assert!(on(5) == one);
}

/// One update a step, in small micro-batches.
fn config(objective: Grpo) -> TrainerConfig {
    TrainerConfig {
        baseline: BaselineConfig::GroupMean,
        scale: Scale::Group,
        down_sample: None,
        truncated: Truncated::Keep,
        loss: LossConfig { objective: ObjectiveConfig::Grpo(objective), ..LossConfig::default() },
        optimizer: OptimizerConfig::Adamw(AdamW { weight_decay: 0.1, ..AdamW::default() }),
        schedule: Schedule { learning_rate: 1e-3, ..Schedule::default() },
        ledger: LedgerConfig { chunks: 1, ..LedgerConfig::default() },
        epochs: 1,
        mini_batches: 1,
        micro_batch_tokens: 30,
        temperature: 1.0,
        steps: 4,
    }
}

/// The fixture's completions with advantages of the caller's choice, in two groups.
fn rows(batch: &Completions, advantages: &[f32]) -> Batch {
    let rows = batch
        .prompts
        .iter()
        .zip(&batch.completions)
        .zip(&batch.old)
        .zip(advantages)
        .map(|(((prompt, tokens), old), advantage)| Row {
            prompt_tokens: Arc::from(prompt.as_slice()),
            tokens: tokens.clone(),
            sampled_log_probs: old.clone(),
            forced: vec![],
            reward: None,
            trains: true,
            advantages: vec![*advantage; tokens.len()],
        })
        .collect();
    Batch::from_rows(rows, &[4, 4])
}

fn stepped(config: TrainerConfig, policy: &Policy, batch: &Batch) -> Policy {
    let mut policy = policy.copy().expect("copy");
    Trainer::new(config, &policy).expect("trainer").step(&mut policy, batch).expect("step");
    policy
}

#[test]
fn rows_without_advantage_contribute_exactly_nothing() {
    for f in MODELS.map(Fixture::load) {
        let completions = f.completions();
        let batch = rows(&completions, &ADVANTAGES);
        let kept = batch.rows.iter().filter(|row| row.advantages[0] != 0.0).cloned().collect();
        let mut without = Batch::from_rows(kept, &[3, 2]);
        // groups count alike; here rows shall
        without.groups[0].weight = 1.2;
        without.groups[1].weight = 0.8;
        assert_eq!(without.rows.len(), 5);
        // 8 rows of 10 tokens and 5 of 16 have the same divisor
        let constant = |tokens| {
            let mut config = config(Grpo::default());
            config.loss.aggregate = Aggregate::Constant { tokens };
            config
        };
        let wanted = bits(&stepped(constant(16), &f.policy, &without));
        assert!(wanted == bits(&stepped(constant(10), &f.policy, &batch)), "{}", f.name);
        assert!(wanted != bits(&f.policy));

        let empty = weighted(&f.policy, &completions.sequences(), &[0.0; 8], 30);
        assert!(empty.grads.is_empty(), "nothing to sum, not even zeros");
        assert_eq!(empty.loss, 0.0);
    }
}

#[test]
fn nothing_is_learnt_from_tokens_that_were_put_there() {
    let f = Fixture::load("qwen3-tiny");
    let completions = f.completions();
    // the end of every completion forced, against the same completions without it
    let mut forced = rows(&completions, &ADVANTAGES);
    let mut cut = forced.clone();
    for (with, without) in forced.rows.iter_mut().zip(&mut cut.rows) {
        let length = with.tokens.len();
        let keep = (length / 2).max(1);
        with.forced = std::iter::once(keep..length).filter(|run| !run.is_empty()).collect();
        // whatever a sampler has recorded there
        with.sampled_log_probs[keep..].fill(0.0);
        without.tokens.truncate(keep);
        without.sampled_log_probs.truncate(keep);
        without.advantages.truncate(keep);
        assert_eq!((with.drawn(), with.mask().iter().sum::<f32>()), (keep, keep as f32));
    }
    for aggregate in [Aggregate::TokenMean, Aggregate::SequenceMean, Aggregate::Constant { tokens: 9 }] {
        let mut config = config(Grpo::default());
        config.loss.aggregate = aggregate;
        let run = |batch: &Batch| {
            let mut policy = f.policy.copy().expect("copy");
            let mut trainer = Trainer::new(config.clone(), &policy).expect("trainer");
            let update = trainer.step(&mut policy, batch).expect("step");
            (policy.tensors().expect("tensors"), update)
        };
        let ((with, a), (without, b)) = (run(&forced), run(&cut));
        for (name, wanted) in &without {
            near_tensor(&format!("{aggregate:?} {name}"), &with[name], wanted, 1e-4);
        }
        assert!((a.loss - b.loss).abs() < 1e-6 && (a.entropy - b.entropy).abs() < 1e-6, "{a:?} {b:?}");
        assert_eq!(a.mismatch_max, b.mismatch_max, "what was not drawn is not compared");
    }
}

#[test]
fn rows_without_advantage_are_still_pulled_to_the_reference() {
    let f = Fixture::load("qwen2-tiny");
    let kl =
        Kl { coefficient: 0.5, estimator: KlEstimator::K3, importance_weighted: false, place: KlPlace::Loss };
    let mut config = config(Grpo::default());
    config.loss.kl = Some(kl);
    let mut trainer = Trainer::new(config, &f.policy).expect("trainer");
    let batch = rows(&f.completions(), &[0.0; 8]);
    let mut policy = f.policy.copy().expect("copy");
    let update = trainer.step(&mut policy, &batch).expect("step");
    // the policy is its own reference: no divergence, and no gradient but rounding
    assert!(update.skipped_rows == 0 && update.kl.expect("kl").abs() < 1e-9, "{update:?}");
    let mut other = Fixture::load("qwen2-tiny").policy;
    let mut weights = other.tensors().expect("tensors");
    weights.values_mut().for_each(|weight| *weight = (&*weight * 1.01).expect("scaled"));
    other.set(&weights).expect("set");
    let mut policy = other;
    let update = trainer.step(&mut policy, &batch).expect("step");
    assert!(update.kl.expect("kl") > 1e-4 && update.grad_norm > 1e-3, "{update:?}");
}

#[test]
fn equal_rewards_leave_every_weight_as_it_was() {
    let f = Fixture::load("qwen3-tiny-untied");
    let batch = f.completions();
    let scored: Vec<ScoredRollout> = (0..8)
        .map(|row| ScoredRollout {
            rollout: Rollout {
                prompt: Arc::new(Prompt {
                    id: format!("group {}", row / 4),
                    body: Body::Text(String::new()),
                    answer: None,
                    fields: Default::default(),
                }),
                prompt_tokens: Arc::from(batch.prompts[row].as_slice()),
                tokens: batch.completions[row].clone(),
                text: String::new(),
                log_probs: batch.old[row].clone(),
                stop: StopReason::Token,
                policy: PolicyVersion(0),
                occurrence: 0,
                place: row % 4,
                forced: vec![],
                entropy: vec![],
                top_log_probs: vec![],
            },
            score: Score { reward: Some(0.1), parts: vec![] },
        })
        .collect();
    let mut policy = f.policy.copy().expect("copy");
    let mut trainer = Trainer::new(config(Grpo::default()), &policy).expect("trainer");
    let batch = trainer.batch(&policy, &scored, &BTreeMap::new()).expect("batch");
    assert_eq!(batch.zero_variance_groups, 2);
    let update = trainer.step(&mut policy, &batch).expect("step");
    assert_eq!((update.skipped_rows, update.trained_tokens), (8, 0));
    assert_eq!((update.loss, update.grad_norm), (0.0, 0.0));
    assert!(bits(&policy) == bits(&f.policy), "weight decay included");
    assert!(trainer.optimizer().state().expect("state").is_empty());
    assert_eq!(trainer.optimizer().updates(), 1);
}

#[test]
fn on_policy_the_ratio_is_one_and_its_gradient_is_kept() {
    for f in MODELS.map(Fixture::load) {
        let batch = f.completions();
        // With ε = 1 a first step of Adam is nearly proportional to the gradient.
        let adam = AdamW { epsilon: 1.0, ..AdamW::default() };
        let config = TrainerConfig { optimizer: OptimizerConfig::Adamw(adam), ..config(Grpo::default()) };
        let found = stepped(config.clone(), &f.policy, &rows(&batch, &ADVANTAGES));

        let weights = config.loss.aggregate.weights(&batch.lengths(), &vec![1.0; batch.lengths().len()]);
        let old = gradient::log_probs(&f.policy, &batch.sequences(), 1 << 20, 1.0, false)
            .expect("log-probs")
            .log_probs;
        let ones: Vec<Vec<f32>> = batch.lengths().iter().map(|length| vec![1.0; *length]).collect();
        let explicit = gradient::gradients(&f.policy, &batch.sequences(), 1 << 20, 1.0, &|padded| {
            Ok(config.loss.loss(&Tokens {
                log_probs: padded.log_probs.as_tensor(),
                entropy: padded.entropy.as_tensor(),
                old_log_probs: &padded.grid(|row| &old[row])?,
                sampled_log_probs: &padded.grid(|row| &old[row])?,
                reference_log_probs: None,
                advantages: &padded.column(|row| ADVANTAGES[row])?,
                mask: &padded.grid(|row| &ones[row])?,
                weights: &padded.column(|row| weights[row])?,
            })?)
        })
        .expect("gradients");
        let mut wanted = f.policy.copy().expect("copy");
        Optimizer::new(&config.optimizer, &config.schedule, 4)
            .update(&mut wanted, explicit.grads, 1.0)
            .expect("update");
        let before = f.policy.tensors().expect("tensors");
        let change = |policy: &Policy, name: &str| {
            (&policy.tensors().expect("tensors")[name] - &before[name]).expect("change")
        };
        for name in before.keys() {
            // weights are of order 0.1 and rounded to 1e-8, changes of order 1e-5
            let (found, wanted) = (change(&found, name), change(&wanted, name));
            near(&format!("{} change of {name}", f.name), &flat(&found), &flat(&wanted), 2e-7);
            assert!(flat(&wanted).iter().any(|x| x.abs() > 1e-6), "{} {name} did not change", f.name);
        }
    }
}

fn adamw() -> Optimizer {
    let config = OptimizerConfig::Adamw(AdamW { weight_decay: 0.1, ..AdamW::default() });
    Optimizer::new(&config, &Schedule { learning_rate: 1e-3, warmup: 3, ..Schedule::default() }, 10)
}

fn grads_of(f: &Fixture, policy: &Policy) -> Grads {
    weighted(policy, &f.completions().sequences(), &ADVANTAGES, 64).grads
}

#[test]
fn a_restored_optimizer_continues_to_the_bit() {
    let f = Fixture::load("qwen2-tiny");
    let mut policy = f.policy.copy().expect("copy");
    let mut optimizer = adamw();
    for _ in 0..2 {
        let grads = grads_of(&f, &policy);
        optimizer.update(&mut policy, grads, 1.0).expect("update");
    }
    let mut resumed = policy.copy().expect("copy");
    let mut forgetful = policy.copy().expect("copy");
    let mut restored = adamw();
    restored.restore(optimizer.updates(), optimizer.state().expect("state")).expect("restored");
    let grads = grads_of(&f, &policy);
    let stats = optimizer.update(&mut policy, grads.clone(), 1.0).expect("update");
    assert_eq!(restored.update(&mut resumed, grads.clone(), 1.0).expect("update"), stats);
    assert!(bits(&resumed) == bits(&policy));
    let values = |optimizer: &Optimizer| -> BTreeMap<String, Vec<f64>> {
        let value = |x: &Tensor| x.to_dtype(candle_core::DType::F64)?.flatten_all()?.to_vec1();
        optimizer
            .state()
            .expect("state")
            .iter()
            .map(|(name, x)| (name.clone(), value(x).expect("values")))
            .collect()
    };
    assert!(values(&restored) == values(&optimizer));
    let mut fresh = adamw();
    fresh.restore(2, Tensors::new()).expect("restored");
    fresh.update(&mut forgetful, grads, 1.0).expect("update");
    assert!(bits(&forgetful) != bits(&policy), "moments matter");
}

#[test]
fn a_state_of_another_optimizer_is_refused() {
    let stray = Tensor::new(&[1f32], &candle_core::Device::Cpu).expect("tensor");
    let error =
        adamw().restore(1, [("9.m.model.norm.weight".to_owned(), stray.clone())]).expect_err("refused");
    assert!(error.to_string().contains("9.m.model.norm.weight"), "{error}");
    // a moment of another shape is found when it is used
    let f = Fixture::load("qwen2-tiny");
    let mut policy = f.policy.copy().expect("copy");
    let mut optimizer = adamw();
    optimizer.restore(1, [("1.m.model.norm.weight".to_owned(), stray)]).expect("a known place");
    let error = optimizer.update(&mut policy, grads_of(&f, &f.policy), 1.0).expect_err("refused");
    assert!(error.to_string().contains("has shape [1]; wanted [64]"), "{error}");
    assert!(bits(&policy) == bits(&f.policy));
}

#[test]
fn a_gradient_that_is_not_finite_is_refused_and_changes_nothing() {
    let f = Fixture::load("qwen3-tiny");
    for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut policy = f.policy.copy().expect("copy");
        let mut optimizer = adamw();
        // an infinite or undefined derivative of one log-prob reaches every parameter; the first is named
        let batch = f.completions();
        let result = gradient::gradients(&policy, &batch.sequences(), 64, 1.0, &|padded| {
            let loss = (padded.log_probs.sum_all()? * f64::from(broken))?;
            Ok(Loss::plain(loss))
        });
        let grads = result.expect("gradients").grads;
        match optimizer.update(&mut policy, grads, 1.0) {
            Err(EngineError::NonFinite { name: found, norm }) => {
                assert!(policy.tensors().expect("tensors").contains_key(&found), "{found}");
                assert!(!norm.is_finite());
            }
            other => panic!("{:?}", other.map(|_| ())),
        }
        assert!(bits(&policy) == bits(&f.policy));
        assert_eq!((optimizer.updates(), optimizer.state().expect("state").len()), (0, 0));
    }
}

#[test]
fn a_broken_weight_or_advantage_stops_a_step_before_the_weights_change() {
    let f = Fixture::load("qwen2-tiny");
    let batch = f.completions();
    let mut policy = f.policy.copy().expect("copy");
    let mut trainer = Trainer::new(config(Grpo::default()), &policy).expect("trainer");
    let huge = rows(&batch, &[f32::MAX, -1.0, 0.0, 0.0, 1.0, 1.0, -1.0, 0.0]);
    let error = trainer.step(&mut policy, &huge).expect_err("refused");
    assert!(matches!(error, EngineError::NonFinite { .. }), "{error}");
    assert!(bits(&policy) == bits(&f.policy));
    assert_eq!(trainer.optimizer().updates(), 0);
    // and the trainer can go on as if nothing had been
    let good = rows(&batch, &ADVANTAGES);
    trainer.step(&mut policy, &good).expect("step");
    assert!(bits(&policy) == bits(&stepped(config(Grpo::default()), &f.policy, &good)));

    for (layer, value) in [(0, f32::NAN), (1, f32::INFINITY)] {
        let mut broken = f.policy.copy().expect("copy");
        let name = format!("model.layers.{layer}.mlp.up_proj.weight");
        let weight = &f.policy.tensors().expect("tensors")[&name];
        let mut values = flat(weight);
        values[100] = value;
        let weight = Tensor::from_vec(values, weight.shape(), broken.device()).expect("tensor");
        broken.set(&BTreeMap::from([(name, weight)])).expect("set");
        let mut policy = broken.copy().expect("copy");
        let mut trainer = Trainer::new(config(Grpo::default()), &policy).expect("trainer");
        let error = trainer.step(&mut policy, &good).expect_err("refused");
        let wanted = format!("layer {layer} is the first whose output is not finite");
        assert!(error.to_string().contains(&wanted), "{error}");
        assert!(bits(&policy) == bits(&broken));
    }
}

#[test]
fn several_updates_a_step_use_the_log_probs_from_before_the_first() {
    let f = Fixture::load("qwen3-tiny");
    let batch = rows(&f.completions(), &ADVANTAGES);
    let mut policy = f.policy.copy().expect("copy");
    let several = TrainerConfig { epochs: 3, mini_batches: 2, ..config(Grpo::default()) };
    let mut trainer = Trainer::new(several, &policy).expect("trainer");
    let update = trainer.step(&mut policy, &batch).expect("step");
    assert_eq!(trainer.optimizer().updates(), 6);
    // lr 1e-3 on a tiny model moves ratios beyond the clip within the step
    assert!(update.clip_fraction > 0.05, "{update:?}");
    // the first mini-batch sees unchanged weights: the mismatch is that of the fixture's sampler, not of training
    let wanted = f.completions();
    let first: f64 = (0..4)
        .filter(|row| ADVANTAGES[*row] != 0.0)
        .flat_map(|row| wanted.policy[row].iter().zip(&wanted.old[row]))
        .map(|(now, old)| f64::from(now - old).abs())
        .fold(0.0, f64::max);
    near_number("mismatch", update.mismatch_max, first, 1e-4);
}
