//! Gradients of single rollouts, and what is made of them, against gradients written out.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{Completions, Fixture, MODELS, bits, flat, near_number, near_tensor};
use data::{Body, PolicyVersion, Prompt, Rollout, Score, ScoredRollout, StopReason};
use engine::baseline::{BaselineConfig, Group, Mode, Optimal, Scale, Shrink, Weights, advantages};
use engine::batch::{Advantages, Batch, Truncated};
use engine::gradient::{self, DeferredRows};
use engine::kernels::{Kernel, Path};
use engine::ledger::{Ledger, LedgerConfig};
use engine::model::{Compute, Policy, Recompute};
use engine::objective::{Aggregate, Kl, KlEstimator, KlPlace, LossConfig, ObjectiveConfig, Reinforce};
use engine::schedule::{Schedule, Snr};
use engine::trainer::{Trainer, TrainerConfig};
use engine::transform::{AdamW, OptimizerConfig};

const REWARDS: [f32; 8] = [1.0, 0.0, 0.3, 0.0, 0.0, 1.0, 1.0, 0.0];

fn kernels() -> impl Iterator<Item = Kernel> {
    Path::ALL.into_iter().filter_map(Kernel::new)
}

/// ‖∇ Σ ln π‖² of each completion by a backward of its own.
fn squared(policy: &Policy, batch: &Completions, temperature: f64) -> Vec<f64> {
    let norm = |sequence| {
        let (grads, _) = gradient::row_gradient(policy, sequence, temperature).expect("gradient");
        grads.global_norm().expect("norm").0.powi(2)
    };
    batch.sequences().iter().map(norm).collect()
}

#[test]
fn row_norms_are_those_of_a_backward_for_each_row() {
    for name in MODELS {
        let composed = Fixture::computing(name, Compute::Composed);
        let batch = composed.completions();
        for temperature in [1.0, 0.7] {
            let wanted = squared(&composed.policy, &batch, temperature);
            for (budget, recompute) in [(1 << 20, Recompute::Layer), (30, Recompute::None)] {
                for compute in kernels().map(Compute::Fused).chain([Compute::Composed]) {
                    let mut f = Fixture::computing(name, compute);
                    f.policy.set_recompute(recompute);
                    let found = gradient::row_norms(&f.policy, &batch.sequences(), budget, temperature)
                        .expect("norms");
                    let bf16 = matches!(compute, Compute::Fused(kernel) if kernel.path().is_bf16());
                    for (found, wanted) in found.squared.iter().zip(&wanted) {
                        let tolerance = if bf16 { 3e-2 } else { 2e-5 };
                        near_number(&format!("{name} {compute:?}"), found / wanted, 1.0, tolerance);
                    }
                    assert_eq!(found.by_parameter.len(), f.policy.tensors().expect("tensors").len());
                }
            }
        }
    }
}

#[test]
fn norms_by_parameter_and_of_the_head_are_those_of_the_gradient() {
    for f in Fixture::both_ways() {
        let batch = f.completions();
        let found = gradient::row_norms(&f.policy, &batch.sequences(), 64, 1.0).expect("norms");
        let (grads, _) = gradient::row_gradient(&f.policy, &batch.sequences()[1], 1.0).expect("gradient");
        let tied = f.policy.config().tie_word_embeddings;
        for (name, gradient) in grads.tensors().expect("tensors") {
            if tied
                && name.starts_with("model.embed_tokens")
                && matches!(f.policy.compute(), Compute::Fused(_))
            {
                continue; // its two parts are measured apart
            }
            let wanted: f64 = flat(&gradient).iter().map(|x| f64::from(*x).powi(2)).sum();
            near_number(&format!("{} {name}", f.name), found.by_parameter[&name][1] / wanted, 1.0, 1e-4);
        }
        let pass = gradient::log_probs(&f.policy, &batch.sequences(), 64, 1.0, true).expect("pass");
        if !tied {
            let head = &found.by_parameter["lm_head.weight"];
            for (found, wanted) in pass.head_norms.iter().zip(head) {
                near_number("head", found / wanted, 1.0, 1e-4);
            }
        }
        assert!(pass.head_norms.iter().zip(&found.squared).all(|(head, all)| *head > 0.0 && head < all));
        // the logit proxy is 1 − 2π + Σπ² summed up, hence between 0 and 2 a token
        for (norms, tokens) in pass.logit_norms.iter().zip(batch.lengths()) {
            assert!(norms.len() == tokens && norms.iter().all(|norm| (0.0..2.0).contains(norm)));
        }
    }
}

#[test]
fn kept_rows_add_up_to_the_weighted_gradient_with_any_weights() {
    let factors = [0.5f32, -1.0, 0.0, 0.25, 0.0, 1.5, -0.75, 0.0];
    for name in MODELS {
        for kernel in kernels() {
            let f = Fixture::computing(name, Compute::Fused(kernel));
            let batch = f.completions();
            let open = DeferredRows::new(&f.policy, &batch.sequences(), 1.0).expect("open").expect("kept");
            let mut found = f.policy.zero_grads();
            open.add(&f.policy, &factors, &mut found).expect("added");
            let wanted = gradient::gradients(&f.policy, &batch.sequences(), 1 << 20, 1.0, &|padded| {
                let factors = padded.column(|row| factors[row])?;
                let loss = padded.log_probs.broadcast_mul(&factors)?.sum_all()?;
                Ok(engine::objective::Loss::plain(loss))
            })
            .expect("gradient");
            let (found, wanted) =
                (found.tensors().expect("tensors"), wanted.grads.tensors().expect("tensors"));
            for (name, wanted) in &wanted {
                let tolerance = if kernel.path().is_bf16() { 4e-2 } else { 1e-5 };
                near_tensor(&format!("{} {name}", kernel.path().name()), &found[name], wanted, tolerance);
            }
            let mut none = f.policy.zero_grads();
            open.add(&f.policy, &[0.0; 8], &mut none).expect("added");
            assert!(none.is_empty(), "rows with factor 0 add nothing, not even zeros");
        }
    }
}

fn config(baseline: BaselineConfig) -> TrainerConfig {
    TrainerConfig {
        baseline,
        scale: Scale::None,
        down_sample: None,
        truncated: Truncated::Keep,
        loss: LossConfig {
            objective: ObjectiveConfig::Reinforce(Reinforce::default()),
            aggregate: Aggregate::Constant { tokens: 12 },
            ..LossConfig::default()
        },
        // with ε = 1 a first step of Adam is nearly proportional to the gradient
        optimizer: OptimizerConfig::Adamw(AdamW { epsilon: 1.0, max_grad_norm: 0.0, ..AdamW::default() }),
        schedule: Schedule { learning_rate: 1e-2, ..Schedule::default() },
        ledger: LedgerConfig { chunks: 1, ..LedgerConfig::default() },
        epochs: 1,
        mini_batches: 1,
        micro_batch_tokens: 64,
        temperature: 1.0,
        steps: 10,
    }
}

fn scored(batch: &Completions, rewards: &[f32]) -> Vec<ScoredRollout> {
    let one = |row: usize| ScoredRollout {
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
            log_probs: batch.policy[row].clone(),
            stop: StopReason::Token,
            policy: PolicyVersion(0),
            occurrence: 0,
            place: row % 4,
            forced: vec![],
            entropy: vec![],
            top_log_probs: vec![],
        },
        score: Score { reward: Some(rewards[row]), parts: vec![] },
    };
    (0..8).map(one).collect()
}

/// One step from the fixture's weights.
fn stepped(config: &TrainerConfig, f: &Fixture, rewards: &[f32]) -> (Policy, engine::trainer::Update, Batch) {
    let mut policy = f.policy.copy().expect("copy");
    let mut trainer = Trainer::new(config.clone(), &policy).expect("trainer");
    let batch = trainer.batch(&policy, &scored(&f.completions(), rewards), &BTreeMap::new()).expect("batch");
    let update = trainer.step(&mut policy, &batch).expect("step");
    (policy, update, batch)
}

fn close(what: &str, found: &Policy, wanted: &Policy, f: &Fixture, tolerance: f32) {
    let before = f.policy.tensors().expect("tensors");
    let (found, wanted) = (found.tensors().expect("tensors"), wanted.tensors().expect("tensors"));
    let change = |of: &BTreeMap<String, candle_core::Tensor>, name: &String| {
        (&of[name] - &before[name]).expect("change")
    };
    for name in before.keys() {
        near_tensor(&format!("{what} {name}"), &change(&found, name), &change(&wanted, name), tolerance);
    }
}

#[test]
fn the_optimal_baseline_of_one_backward_is_that_of_two() {
    for f in MODELS.map(Fixture::load) {
        let weights = squared(&f.policy, &f.completions(), 1.0);
        for mode in [Mode::Own, Mode::LeaveOneOut] {
            let optimal = Optimal { mode, ..Optimal::default() };
            let one = config(BaselineConfig::Optimal(optimal.clone()));
            assert!(one.weighs_in_one_backward());
            let (found, update, batch) = stepped(&one, &f, &REWARDS);
            assert!(batch.advantages == Advantages::Deferred && update.mismatch_max < 1e-4);
            // the same advantages by hand, through the usual backward
            let mut by_hand = batch.clone();
            by_hand.advantages = Advantages::Decided;
            for group in 0..2 {
                let rows = 4 * group..4 * group + 4;
                let seen = Group {
                    rewards: &REWARDS[rows.clone()],
                    weights: &weights[rows.clone()],
                    ..Group::default()
                };
                for (row, a) in rows.zip(advantages(&optimal, &seen)) {
                    by_hand.rows[row].advantages = vec![a; by_hand.rows[row].tokens.len()];
                }
            }
            let mut wanted = f.policy.copy().expect("copy");
            let mut trainer = Trainer::new(one.clone(), &wanted).expect("trainer");
            let explicit = trainer.step(&mut wanted, &by_hand).expect("step");
            close(&format!("{} {mode:?}", f.name), &found, &wanted, &f, 2e-4);
            near_number("norm", update.grad_norm / explicit.grad_norm, 1.0, 1e-4);
            assert!(update.baseline.gap.is_some() && update.baseline.reward_weight_correlation.is_some());
            // where a group does not fit, and where candle computes, other ways lead to the same
            let mut small = one.clone();
            small.micro_batch_tokens = 12;
            close("small micro-batches", &stepped(&small, &f, &REWARDS).0, &found, &f, 2e-4);
            let composed = Fixture::computing(f.name, Compute::Composed);
            close("composed", &stepped(&one, &composed, &REWARDS).0, &found, &f, 2e-3);
            // room for no rollout, for one but not for its group, and for all
            let tokens = |gradients: f64| {
                gradients * 4.0 * f.policy.config().parameter_count() as f64
                    / f.policy.row_bytes_per_token() as f64
            };
            let one_rollout = 30.0 / tokens(1.0);
            for room in [0.0, one_rollout, 1e3] {
                let mut tight = one.clone();
                tight.ledger.room = Some(room);
                close(&format!("room {room}"), &stepped(&tight, &f, &REWARDS).0, &found, &f, 3e-4);
            }
            // with mini-batches norms are taken in a pass of their own
            let several = TrainerConfig { mini_batches: 2, ..one.clone() };
            assert!(!several.weighs_in_one_backward());
            assert_eq!(stepped(&several, &f, &REWARDS).2.advantages, Advantages::Decided);
        }
    }
}

#[test]
fn weights_of_a_pass_and_of_the_optimizer_are_used() {
    let f = Fixture::load("qwen3-tiny");
    let with = |weights| {
        stepped(&config(BaselineConfig::Optimal(Optimal { weights, ..Optimal::default() })), &f, &REWARDS)
    };
    let full = bits(&with(Weights::Full).0);
    for weights in Weights::ALL {
        let (policy, _, batch) = with(weights);
        assert_eq!(batch.advantages == Advantages::Deferred, weights == Weights::Full);
        assert_eq!(batch.seen.is_some(), weights.needs_pass(), "{weights:?}");
        let other = bits(&policy);
        match weights {
            // Adam has no second moment yet: its metric is the plain one
            Weights::FullAdam => close("full_adam", &policy, &with(Weights::Full).0, &f, 2e-4),
            Weights::Full => assert!(other == full),
            _ => assert!(other != full, "{weights:?} changes nothing"),
        }
    }
}

#[test]
fn chunks_change_a_gradient_by_rounding_only_and_measure_its_noise() {
    let f = Fixture::load("qwen2-tiny");
    for baseline in [BaselineConfig::LeaveOneOut, BaselineConfig::Optimal(Optimal::default())] {
        let whole = config(baseline);
        let chunked =
            TrainerConfig { ledger: LedgerConfig { chunks: 8, ..LedgerConfig::default() }, ..whole.clone() };
        let (one, update, _) = stepped(&whole, &f, &REWARDS);
        assert_eq!(update.ledger, None);
        let (two, update, _) = stepped(&chunked, &f, &REWARDS);
        close("chunked", &two, &one, &f, 2e-4);
        let stats = update.ledger.expect("two chunks");
        let norm = update.grad_norm.powi(2);
        near_number("signal and noise add up", (stats.signal + stats.noise) / norm, 1.0, 1e-4);
        assert!(stats.noise > 0.0);
    }
}

#[test]
fn the_learning_rate_follows_signal_and_noise() {
    let f = Fixture::load("qwen3-tiny");
    let mut snr = config(BaselineConfig::LeaveOneOut);
    snr.schedule.snr = Some(Snr { floor: 0.05, warmup: 0 });
    assert!(snr.problem().expect("refused").contains("at least 2 chunks"));
    snr.ledger.chunks = 4;
    assert_eq!(snr.problem(), None);
    let (policy, update, _) = stepped(&snr, &f, &REWARDS);
    let stats = update.ledger.expect("chunks");
    let wanted = (stats.snr / (1.0 + stats.snr)).clamp(0.05, 1.0);
    near_number("factor", update.snr_factor, wanted, 1e-9);
    near_number("rate", update.learning_rate, 1e-2 * wanted, 1e-9);
    let plain = TrainerConfig {
        schedule: Schedule { learning_rate: 1e-2 * wanted, ..Schedule::default() },
        ..snr.clone()
    };
    close("the same rate by hand", &policy, &stepped(&plain, &f, &REWARDS).0, &f, 1e-4);
    // all rewards equal: nothing is known of the gradient, and nothing breaks
    let (still, update, _) = stepped(&snr, &f, &[0.5; 8]);
    assert!(bits(&still) == bits(&f.policy) && update.snr_factor == 0.05, "{update:?}");
}

#[test]
fn cheap_weights_are_compared_with_exact_norms_when_asked() {
    let f = Fixture::load("qwen3-tiny");
    let mut watched = config(BaselineConfig::GroupMean);
    watched.ledger.correlations = 2;
    let (_, _, batch) = stepped(&watched, &f, &REWARDS);
    let names: Vec<&str> = batch.baseline.rank_correlations.iter().map(|(name, _)| *name).collect();
    assert!(names.contains(&"logit") && names.contains(&"lm_head"), "{names:?}");
    assert!(batch.baseline.rank_correlations.iter().all(|(_, value)| (-1.0..=1.0).contains(value)));
    let mut trainer = Trainer::new(watched, &f.policy).expect("trainer");
    trainer.restore(1, Default::default(), Ledger::default()).expect("restored");
    let batch =
        trainer.batch(&f.policy, &scored(&f.completions(), &REWARDS), &BTreeMap::new()).expect("batch");
    assert!(batch.baseline.rank_correlations.is_empty(), "every second step");
}

#[test]
fn a_normaliser_of_each_row_is_refused_for_weighted_baselines() {
    let mut wrong = config(BaselineConfig::Optimal(Optimal::default()));
    wrong.loss.aggregate = Aggregate::SequenceMean;
    let problem = wrong.problem().expect("refused");
    assert!(
        problem.contains("sequence_mean") && problem.contains("E[∇ ln π / length] is not 0"),
        "{problem}"
    );
    wrong.baseline = BaselineConfig::GroupMean;
    assert_eq!(wrong.problem(), None);
}

/// The fixture's rollouts, the second half of each longer one put there by a thinking budget.
fn forced(batch: &Completions, rewards: &[f32]) -> Vec<ScoredRollout> {
    let mut all = scored(batch, rewards);
    for rollout in all.iter_mut().map(|scored| &mut scored.rollout) {
        let length = rollout.tokens.len();
        if length > 1 {
            rollout.forced = std::iter::once(length / 2..length).collect();
        }
    }
    all
}

#[test]
fn a_kl_term_in_the_reward_counts_tokens_that_the_policy_drew_and_no_others() {
    let f = Fixture::load("qwen3-tiny");
    let mut reference = f.policy.copy().expect("copy");
    let scaled = f.policy.tensors().expect("tensors");
    let scaled = scaled.iter().map(|(name, x)| (name.clone(), (x * 1.05).expect("scaled"))).collect();
    reference.set(&scaled).expect("set");
    let mut config = config(BaselineConfig::None);
    let beta = 0.5;
    config.loss.kl = Some(Kl {
        coefficient: beta,
        estimator: KlEstimator::K1,
        importance_weighted: false,
        place: KlPlace::Reward,
    });
    let batch = f.completions();
    let mut trainer = Trainer::new(config, &reference).expect("trainer");
    let rows = trainer.batch(&f.policy, &forced(&batch, &REWARDS), &BTreeMap::new()).expect("batch");
    let of = |policy: &Policy| {
        gradient::log_probs(policy, &batch.sequences(), 1 << 20, 1.0, false).expect("log-probs").log_probs
    };
    let (now, before) = (of(&f.policy), of(&reference));
    let (mut sum, mut count) = (0.0, 0.0);
    for (row, (now, before)) in rows.rows.iter().zip(now.iter().zip(&before)) {
        let mask = row.mask();
        let d: Vec<f32> = now.iter().zip(before).zip(&mask).map(|((a, b), drawn)| (a - b) * drawn).collect();
        assert!(mask.contains(&0.0) || d.len() == 1);
        for (token, advantage) in row.advantages.iter().enumerate().filter(|(token, _)| mask[*token] != 0.0) {
            let wanted = row.reward.expect("known") - beta * d[token..].iter().sum::<f32>();
            assert!((advantage - wanted).abs() < 1e-4, "{advantage} is not {wanted}");
        }
        sum += f64::from(d.iter().sum::<f32>());
        count += f64::from(mask.iter().sum::<f32>());
    }
    let mut policy = f.policy.copy().expect("copy");
    let update = trainer.step(&mut policy, &rows).expect("step");
    near_number("kl", update.kl.expect("kl"), sum / count, 1e-4);
}

#[test]
fn whitening_looks_at_tokens_that_the_policy_drew_and_no_others() {
    let f = Fixture::load("qwen2-tiny");
    let config = TrainerConfig { scale: Scale::Whiten, ..config(BaselineConfig::None) };
    let mut trainer = Trainer::new(config, &f.policy).expect("trainer");
    let batch =
        trainer.batch(&f.policy, &forced(&f.completions(), &REWARDS), &BTreeMap::new()).expect("batch");
    let of_row = |row: &engine::batch::Row| -> Vec<f64> {
        let drawn = row.advantages.iter().zip(row.mask()).filter(|(_, drawn)| *drawn != 0.0);
        assert_eq!(row.advantages.len(), row.tokens.len());
        drawn.map(|(advantage, _)| f64::from(*advantage)).collect()
    };
    let all: Vec<f64> = batch.rows.iter().flat_map(of_row).collect();
    let n = all.len() as f64;
    let mean = all.iter().sum::<f64>() / n;
    let variance = all.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / (n - 1.0);
    assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-4, "{mean} {variance}");
}

#[test]
fn equal_rewards_beside_a_baseline_from_outside_do_not_swamp_the_step() {
    let f = Fixture::load("qwen3-tiny-untied");
    let mut rewards = [1.0f32; 8];
    rewards[4..].copy_from_slice(&[0.0, 1.0, 0.0, 0.0]);
    let open = Optimal { shrink: Shrink::Rollouts(2.0), ..Optimal::default() };
    let cheap = Optimal { weights: Weights::Length, ..open.clone() };
    for baseline in [
        BaselineConfig::History(Default::default()),
        BaselineConfig::Optimal(open),
        BaselineConfig::Optimal(cheap),
        BaselineConfig::Greedy,
        BaselineConfig::None,
    ] {
        let norm = |scale: Scale, rewards: &[f32]| {
            stepped(&TrainerConfig { scale, ..config(baseline.clone()) }, &f, rewards).1.grad_norm
        };
        for scale in [Scale::Group, Scale::Batch, Scale::Whiten] {
            let (with, without) = (norm(scale, &rewards), norm(Scale::None, &rewards));
            assert!(with < 10.0 * without, "{baseline:?} {scale:?}: {with} against {without}");
            let nearly = rewards.map(|r| if r == 1.0 { 1.0 } else { 1.0 - 1e-6 });
            let largest = norm(scale, &nearly);
            assert!(
                largest < 10.0 * norm(Scale::None, &rewards).max(1.0),
                "{baseline:?} {scale:?}: {largest}"
            );
        }
    }
}

#[test]
fn a_step_of_fewer_groups_than_mini_batches_leaves_the_schedule_where_the_step_ends() {
    let f = Fixture::load("qwen2-tiny");
    let config = TrainerConfig { mini_batches: 5, epochs: 2, ..config(BaselineConfig::GroupMean) };
    let mut policy = f.policy.copy().expect("copy");
    let mut trainer = Trainer::new(config.clone(), &policy).expect("trainer");
    for step in 1..=2 {
        let scored = scored(&f.completions(), &REWARDS);
        let batch = trainer.batch(&policy, &scored, &BTreeMap::new()).expect("batch");
        assert_eq!(batch.groups.len(), 2);
        trainer.step(&mut policy, &batch).expect("step");
        assert_eq!(trainer.optimizer().updates(), step * 10);
    }
    assert_eq!(config.updates(), 100);
}

#[test]
fn where_a_greedy_reward_is_absent_the_other_groups_stand_in() {
    let f = Fixture::load("qwen2-tiny");
    let mut trainer = Trainer::new(config(BaselineConfig::Greedy), &f.policy).expect("trainer");
    let greedy = BTreeMap::from([("group 0".to_owned(), 0.25)]);
    let batch = trainer.batch(&f.policy, &scored(&f.completions(), &REWARDS), &greedy).expect("batch");
    let others = REWARDS[..4].iter().sum::<f32>() / 4.0;
    for (place, (row, reward)) in batch.rows.iter().zip(REWARDS).enumerate() {
        let (found, wanted) = (reward - row.advantages[0], if place < 4 { 0.25 } else { others });
        assert!((found - wanted).abs() < 1e-6, "{found} is not {wanted}");
    }
}
