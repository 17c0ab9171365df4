//! Pairs and branches: what a mixture of two gradients must and must not do.

mod common;

use common::{Completions, Fixture, bits, near_number, near_tensor};
use engine::gradient::Sequence;
use engine::mixture::{Alpha, Mixture, MixtureConfig};
use engine::model::Policy;
use engine::objective::preference::PreferenceLoss;
use engine::optimizer::Optimizer;
use engine::pairs::{self, Pair, PairsConfig, PairsUpdate};
use engine::schedule::Schedule;
use engine::transform::{AdamW, OptimizerConfig};

/// Completions of the fixture as pairs of neighbours, with the policy itself as the reference.
fn pairs_of(f: &Fixture, batch: &Completions) -> Vec<Pair> {
    let sums = pairs::summed(&f.policy, &batch.sequences(), 64).expect("sums");
    (0..4)
        .map(|pair| Pair {
            prompt_tokens: batch.prompts[2 * pair].as_slice().into(),
            chosen: batch.completions[2 * pair].clone(),
            rejected: batch.completions[2 * pair + 1].clone(),
            reference: [sums[2 * pair], sums[2 * pair + 1]],
        })
        .collect()
}

fn config(alpha: Alpha) -> PairsConfig {
    PairsConfig {
        loss: PreferenceLoss::default(),
        mixture: MixtureConfig { alpha, warmup: 0, ..MixtureConfig::default() },
        chunks: 2,
        micro_batch_tokens: 64,
    }
}

/// One update; with a large ε a first step of Adam is all but proportional to the gradient.
fn stepped(f: &Fixture, config: &PairsConfig, thinking: &[&Pair], empty: &[&Pair]) -> (Policy, PairsUpdate) {
    let mut policy = f.policy.copy().expect("copy");
    let adam = OptimizerConfig::Adamw(AdamW { epsilon: 1e3, max_grad_norm: 0.0, ..AdamW::default() });
    let mut optimizer = Optimizer::new(&adam, &Schedule { learning_rate: 10.0, ..Schedule::default() }, 4);
    let mut mixture = Mixture::default();
    let update =
        pairs::step(&mut policy, &mut optimizer, &mut mixture, config, thinking, empty).expect("step");
    (policy, update)
}

#[test]
fn at_the_reference_every_pair_costs_ln_two() {
    let f = Fixture::load("qwen3-tiny");
    let pairs = pairs_of(&f, &f.completions());
    let [thinking, empty] = [[&pairs[0], &pairs[1]], [&pairs[2], &pairs[3]]];
    let (_, update) = stepped(&f, &config(Alpha::Fixed(0.5)), &thinking, &empty);
    for loss in [update.loss, update.loss_thinking.expect("both"), update.loss_empty.expect("both")] {
        near_number("loss", loss, 2f64.ln(), 1e-5);
    }
    assert!(update.margin.abs() < 1e-4 && update.grad_norm > 0.0, "{update:?}");
}

#[test]
fn the_ends_are_plain_losses_on_one_branch_and_skip_the_other() {
    let f = Fixture::load("qwen2-tiny");
    let pairs = pairs_of(&f, &f.completions());
    let (thinking, mut broken) = ([&pairs[0], &pairs[1]], pairs[2].clone());
    broken.reference = [f32::NAN; 2];
    let (alone, plain) = stepped(&f, &config(Alpha::Fixed(0.5)), &thinking, &[]);
    assert_eq!((plain.alpha, plain.loss_empty), (1.0, None), "a missing branch leaves all to the other");
    let (one, update) = stepped(&f, &config(Alpha::Fixed(1.0)), &thinking, &[&broken]);
    assert!(bits(&one) == bits(&alone) && update.loss_empty.is_none(), "skipped, not multiplied by 0");
    let (zero, update) = stepped(&f, &config(Alpha::Fixed(0.0)), &[&broken], &thinking);
    assert!(bits(&zero) == bits(&alone) && update.loss_thinking.is_none());
}

#[test]
fn the_mixture_is_linear_and_its_moments_are_those_of_the_gradients() {
    let f = Fixture::load("qwen3-tiny-untied");
    let pairs = pairs_of(&f, &f.completions());
    let (thinking, empty) = ([&pairs[0], &pairs[1]], [&pairs[2], &pairs[3]]);
    let before = f.policy.tensors().expect("tensors");
    let change = |config: &PairsConfig, t: &[&Pair], e: &[&Pair], name: &str| {
        let (policy, _) = stepped(&f, config, t, e);
        (&policy.tensors().expect("tensors")[name] - &before[name]).expect("change")
    };
    for name in ["model.layers.1.mlp.down_proj.weight", "lm_head.weight"] {
        let t = change(&config(Alpha::Fixed(1.0)), &thinking, &empty, name);
        let e = change(&config(Alpha::Fixed(0.0)), &thinking, &empty, name);
        let mixed = change(&config(Alpha::Fixed(0.3)), &thinking, &empty, name);
        let wanted = ((t * 0.3).expect("t") + (e * 0.7).expect("e")).expect("sum");
        near_tensor(name, &mixed, &wanted, 2e-3);
    }
    // two halves of each branch are two chunks
    let of = |alpha| stepped(&f, &config(alpha), &thinking, &empty).1;
    assert_eq!(of(Alpha::Moment), of(Alpha::Regression));
    // of a branch with a single pair no variance can be told, whatever the other has
    let three = [&pairs[0], &pairs[1], &pairs[2]];
    let (_, update) = stepped(&f, &config(Alpha::Moment), &three, &[&pairs[3]]);
    assert_eq!((update.moments, update.alpha), (None, 0.5));
    let (_, update) = stepped(&f, &config(Alpha::Moment), &three, &[&pairs[2], &pairs[3]]);
    assert!(update.moments.expect("two chunks of each").thinking.is_finite());
    for alpha in [Alpha::Moment, Alpha::Regression] {
        let (_, update) = stepped(&f, &config(alpha), &thinking, &empty);
        let moments = update.moments.expect("two chunks");
        let (numerator, denominator) = moments.fraction();
        assert!((0.0..=1.0).contains(&update.alpha), "{update:?}");
        near_number("alpha", update.alpha, (numerator / denominator).clamp(0.0, 1.0), 1e-5);
        // the same update by hand at the α that was found
        let fixed = stepped(&f, &config(Alpha::Fixed(update.alpha)), &thinking, &empty);
        near_number("norm", update.grad_norm / fixed.1.grad_norm, 1.0, 1e-3);
    }
}

#[test]
fn the_gradient_of_a_pair_is_that_of_the_published_weights() {
    // ∂L/∂ln π(chosen) = −β σ(−h): with a reference that makes h = 0.2 and ε = 1 the change is that of ± these weights
    let f = Fixture::load("qwen2-tiny");
    let batch = f.completions();
    let mut pair = pairs_of(&f, &batch).swap_remove(0);
    pair.reference[0] -= 1.0;
    pair.reference[1] += 1.0;
    let (policy, update) = stepped(&f, &config(Alpha::Fixed(1.0)), &[&pair], &[]);
    near_number("loss", update.loss, 0.598_139, 1e-4);
    let weight = 0.045_016_6;
    let sequences =
        [&pair.chosen, &pair.rejected].map(|completion| Sequence { prompt: &pair.prompt_tokens, completion });
    let result = engine::gradient::gradients(&f.policy, &sequences, 1 << 20, 1.0, &|padded| {
        let factors = padded.column(|row| if row == 0 { -weight } else { weight })?;
        Ok(engine::objective::Loss::plain(padded.log_probs.broadcast_mul(&factors)?.sum_all()?))
    })
    .expect("gradient");
    near_number("norm", update.grad_norm / result.grads.global_norm().expect("norm").0, 1.0, 1e-4);
    assert!(bits(&policy) != bits(&f.policy));
}

#[test]
fn a_mixture_of_pairs_costs_what_the_worked_example_says() {
    use candle_core::{Device, Tensor};
    let one = |x: f32| Tensor::new(&[x], &Device::Cpu).expect("tensor");
    let loss = |chosen: f32, rejected: f32| {
        let pairs = engine::objective::preference::Pairs {
            chosen: &one(chosen),
            rejected: &one(rejected),
            reference_chosen: &one(0.0),
            reference_rejected: &one(0.0),
            chosen_tokens: &one(1.0),
            rejected_tokens: &one(1.0),
        };
        let losses = PreferenceLoss::default().losses(&pairs).expect("loss");
        f64::from(losses.to_vec1::<f32>().expect("one")[0])
    };
    let (thinking, empty) = (loss(4.0, -1.0), loss(1.0, -0.5));
    near_number("with a trace", thinking, 0.474_077, 1e-6);
    near_number("with an empty one", empty, 0.620_957, 1e-6);
    near_number("mixed", 0.5 * thinking + 0.5 * empty, 0.547_517, 1e-6);
}

#[test]
fn simpo_asks_for_a_margin_without_a_reference() {
    use candle_core::{Device, Tensor};
    let one = |x: f32| Tensor::new(&[x], &Device::Cpu).expect("tensor");
    let pairs = engine::objective::preference::Pairs {
        chosen: &one(-6.0),
        rejected: &one(-10.0),
        reference_chosen: &one(f32::NAN),
        reference_rejected: &one(f32::NAN),
        chosen_tokens: &one(3.0),
        rejected_tokens: &one(4.0),
    };
    let loss = PreferenceLoss::Simpo { beta: 2.0, margin: 0.5 }.losses(&pairs).expect("loss");
    // 2 (−2 + 2.5) − 0.5 = 0.5
    near_number(
        "loss",
        f64::from(loss.to_vec1::<f32>().expect("one")[0]),
        (1.0 + (-0.5f64).exp()).ln(),
        1e-6,
    );
}
