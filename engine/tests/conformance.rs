//! What holds for every baseline, objective and scale alike. A new one is added to the lists and meets all of it.

mod common;

use common::{Fixture, near, near_number, near_tensor};
use engine::baseline::{
    BaselineConfig, Group, History, Mode, Optimal, Others, Scale, Shrink, ShrinkEstimate, Tail, Token,
    Weights, advantages, rescale,
};
use engine::gradient;
use engine::objective::{
    Aggregate, Cispo, Correction, Gmpo, Grpo, Kl, KlEstimator, KlPlace, LossConfig, ObjectiveConfig,
    RatioLevel, Reinforce, Sapo, Tokens,
};

const REWARDS: [f32; 5] = [1.0, 0.0, 0.3, 1.0, -0.5];
const WEIGHTS: [f64; 5] = [3.0, 1.0, 2.5, 0.5, 4.0];
const PRIOR: f32 = 0.2;

fn baselines() -> Vec<BaselineConfig> {
    let mut all = vec![
        BaselineConfig::GroupMean,
        BaselineConfig::LeaveOneOut,
        BaselineConfig::Token(Token::default()),
        BaselineConfig::Token(Token { tail: Tail::Own }),
        BaselineConfig::Greedy,
        BaselineConfig::History(History::default()),
    ];
    for weights in Weights::ALL {
        for mode in [Mode::Own, Mode::LeaveOneOut] {
            for shrink in [
                Shrink::Rollouts(0.0),
                Shrink::Rollouts(2.0),
                Shrink::Estimated(ShrinkEstimate::JamesStein),
                Shrink::Estimated(ShrinkEstimate::EmpiricalBayes),
            ] {
                all.push(BaselineConfig::Optimal(Optimal { weights, mode, shrink, ..Optimal::default() }));
            }
        }
    }
    all
}

fn objectives() -> Vec<ObjectiveConfig> {
    vec![
        ObjectiveConfig::Grpo(Grpo::default()),
        ObjectiveConfig::Grpo(Grpo { dual_clip: Some(3.0), ratio_cap: Some(4.0), ..Grpo::default() }),
        ObjectiveConfig::Grpo(Grpo { level: RatioLevel::Sequence, ..Grpo::default() }),
        ObjectiveConfig::Cispo(Cispo::default()),
        ObjectiveConfig::Cispo(Cispo { floor: 0.8, cap: 1.28 }),
        ObjectiveConfig::Sapo(Sapo::default()),
        ObjectiveConfig::Gmpo(Gmpo::default()),
        ObjectiveConfig::Reinforce(Reinforce::default()),
    ]
}

/// Advantages with everything that a baseline may ask for; a token each where it has one a token.
fn of(baseline: &BaselineConfig, rewards: &[f32], weights: &[f64], outside: f32) -> Vec<f32> {
    let norms: Vec<Vec<f32>> = weights.iter().map(|w| vec![*w as f32 / 4.0; 3]).collect();
    let others = Others { mean: outside.into(), within: 0.2, between: 0.1, chance: 0.05 };
    let outside = Some(outside);
    let group = Group {
        rewards,
        weights,
        prior: outside,
        greedy: outside,
        token_norms: &norms,
        others: Some(others),
    };
    let built = baseline.build();
    match built.token_baselines(&group) {
        Some(tokens) => {
            let rows = tokens.iter().zip(rewards);
            rows.flat_map(|(row, reward)| row.iter().map(|b| reward - b).collect::<Vec<_>>()).collect()
        }
        None => advantages(built, &group),
    }
}

#[test]
fn an_offset_of_all_rewards_changes_no_advantage() {
    for baseline in baselines() {
        let plain = of(&baseline, &REWARDS, &WEIGHTS, PRIOR);
        let shifted = of(&baseline, &REWARDS.map(|r| r + 4.0), &WEIGHTS, PRIOR + 4.0);
        near(&format!("{baseline:?}"), &shifted, &plain, 2e-6);
    }
}

#[test]
fn a_factor_of_all_rewards_is_one_of_all_advantages() {
    for baseline in baselines() {
        let plain = of(&baseline, &REWARDS, &WEIGHTS, PRIOR);
        let scaled = of(&baseline, &REWARDS.map(|r| 3.0 * r), &WEIGHTS, 3.0 * PRIOR);
        let wanted: Vec<f32> = plain.iter().map(|a| 3.0 * a).collect();
        near(&format!("{baseline:?}"), &scaled, &wanted, 2e-6);
    }
}

#[test]
fn an_order_of_the_group_is_one_of_the_advantages() {
    let order = [3, 0, 4, 2, 1];
    for baseline in baselines() {
        let plain = of(&baseline, &REWARDS, &WEIGHTS, PRIOR);
        let each = plain.len() / 5;
        let mixed = of(&baseline, &order.map(|i| REWARDS[i]), &order.map(|i| WEIGHTS[i]), PRIOR);
        let wanted: Vec<f32> = order.iter().flat_map(|i| plain[i * each..(i + 1) * each].to_vec()).collect();
        near(&format!("{baseline:?}"), &mixed, &wanted, 2e-6);
    }
}

#[test]
fn a_factor_of_all_weights_changes_nothing() {
    for baseline in baselines() {
        let plain = of(&baseline, &REWARDS, &WEIGHTS, PRIOR);
        near(
            &format!("{baseline:?}"),
            &of(&baseline, &REWARDS, &WEIGHTS.map(|w| 50.0 * w), PRIOR),
            &plain,
            2e-5,
        );
    }
}

#[test]
fn a_group_of_equal_rewards_teaches_exactly_nothing_unless_something_outside_is_known() {
    for baseline in baselines() {
        let needs = baseline.build().needs();
        let found = of(&baseline, &[0.7; 5], &WEIGHTS, 0.7);
        let exact = !needs.prior && !needs.greedy && !needs.token_norms;
        let largest = found.iter().fold(0f32, |m, a| m.max(a.abs()));
        assert!(largest <= if exact { 0.0 } else { 1e-6 }, "{baseline:?}: {found:?}");
    }
}

#[test]
fn equal_weights_reduce_a_weighted_baseline_to_the_plain_one() {
    for (mode, plain) in
        [(Mode::Own, BaselineConfig::GroupMean), (Mode::LeaveOneOut, BaselineConfig::LeaveOneOut)]
    {
        let weighted = BaselineConfig::Optimal(Optimal { mode, ..Optimal::default() });
        let wanted = of(&plain, &REWARDS, &[1.0; 5], PRIOR);
        near(&format!("{mode:?}"), &of(&weighted, &REWARDS, &[2.0; 5], PRIOR), &wanted, 2e-6);
    }
}

#[test]
fn leave_one_out_advantages_do_not_know_their_own_reward() {
    // the baseline of a rollout stays when its own reward changes
    for weights in Weights::ALL {
        let baseline = BaselineConfig::Optimal(Optimal { weights, cap: f32::INFINITY, ..Optimal::default() });
        for baseline in [baseline, BaselineConfig::LeaveOneOut] {
            let mut other = REWARDS;
            other[2] = 9.0;
            let own = |rewards: &[f32; 5]| rewards[2] - of(&baseline, rewards, &WEIGHTS, PRIOR)[2];
            assert!((own(&REWARDS) - own(&other)).abs() < 2e-6, "{baseline:?}");
        }
    }
}

#[test]
fn every_scale_is_blind_to_a_factor_of_rewards_or_is_linear_in_it() {
    for scale in [Scale::Group, Scale::Batch, Scale::Whiten, Scale::None] {
        let scaled = |factor: f32| -> Vec<f32> {
            let rewards = vec![REWARDS.map(|r| factor * r).to_vec(), vec![0.0, factor]];
            let mut all: Vec<Vec<Vec<f32>>> = rewards
                .iter()
                .map(|group| {
                    let weights = vec![1.0; group.len()];
                    let a = of(&BaselineConfig::GroupMean, group, &weights, PRIOR);
                    a.into_iter().map(|a| vec![a; 2]).collect()
                })
                .collect();
            rescale(scale, &rewards, &mut all);
            all.into_iter().flatten().flatten().collect()
        };
        let factor = if scale == Scale::None { 1000.0 } else { 1.0 };
        let wanted: Vec<f32> = scaled(1.0).iter().map(|a| a * factor).collect();
        // the epsilon beside a standard deviation is felt a little
        near(&format!("{scale:?}"), &scaled(1000.0), &wanted, 1e-3);
    }
}

/// The gradient of a loss on the fixture, with so many tokens a pass.
fn loss(f: &Fixture, config: &LossConfig, micro_batch: usize) -> gradient::Gradients {
    let batch = f.completions();
    let weights = config.aggregate.weights(&batch.lengths(), &vec![1.0; batch.lengths().len()]);
    let ones: Vec<Vec<f32>> = batch.lengths().iter().map(|length| vec![1.0; *length]).collect();
    gradient::gradients(&f.policy, &batch.sequences(), micro_batch, 1.0, &|padded| {
        Ok(config.loss(&Tokens {
            log_probs: padded.log_probs.as_tensor(),
            entropy: padded.entropy.as_tensor(),
            old_log_probs: &padded.grid(|row| &batch.old[row])?,
            sampled_log_probs: &padded.grid(|row| &batch.old[row])?,
            reference_log_probs: Some(&padded.grid(|row| &batch.reference[row])?),
            advantages: &padded.column(|row| REWARDS[row % 5] - 0.4)?,
            mask: &padded.grid(|row| &ones[row])?,
            weights: &padded.column(|row| weights[row])?,
        })?)
    })
    .expect("gradients")
}

fn losses() -> Vec<LossConfig> {
    let mut all = Vec::new();
    for objective in objectives() {
        for aggregate in [Aggregate::TokenMean, Aggregate::SequenceMean, Aggregate::Constant { tokens: 9 }] {
            all.push(LossConfig { objective: objective.clone(), aggregate, ..LossConfig::default() });
        }
    }
    let estimators =
        [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3, KlEstimator::K1Plus, KlEstimator::K3Plus];
    for estimator in estimators {
        let kl = Kl { coefficient: 0.3, estimator, importance_weighted: false, place: KlPlace::Loss };
        all.push(LossConfig { kl: Some(kl), entropy_bonus: 0.05, ..LossConfig::default() });
    }
    all.push(LossConfig { correction: Some(Correction::default()), ..LossConfig::default() });
    all
}

#[test]
fn micro_batches_change_no_loss_but_by_rounding() {
    let f = Fixture::load("qwen3-tiny");
    for config in losses() {
        let (whole, cut) = (loss(&f, &config, 1 << 20), loss(&f, &config, 20));
        near_number(&format!("{config:?}"), cut.loss, whole.loss, 2e-5);
        let (whole, cut) = (whole.grads.tensors().expect("tensors"), cut.grads.tensors().expect("tensors"));
        let name = "model.layers.0.mlp.up_proj.weight";
        near_tensor(&format!("{config:?}"), &cut[name], &whole[name], 2e-5);
    }
}

#[test]
fn an_empty_mask_costs_nothing_whatever_stands_in_it() {
    use candle_core::{Device, Tensor, Var};
    let d = &Device::Cpu;
    for config in losses() {
        let log_probs = Var::new(&[[f32::NEG_INFINITY, f32::NAN, -0.5]], d).expect("var");
        let entropy = Var::new(&[[f32::NAN, 1.0, 1.0]], d).expect("var");
        let (zero, one) = (Tensor::new(&[[0f32; 3]], d).expect("0"), Tensor::new(&[[1f32]], d).expect("1"));
        let other = Tensor::new(&[[f32::INFINITY, -1.0, f32::NAN]], d).expect("other");
        let found = config
            .loss(&Tokens {
                log_probs: log_probs.as_tensor(),
                entropy: entropy.as_tensor(),
                old_log_probs: &other,
                sampled_log_probs: &other,
                reference_log_probs: Some(&other),
                advantages: &one,
                mask: &zero,
                weights: &one,
            })
            .expect("loss");
        assert_eq!(found.loss.to_scalar::<f32>().expect("scalar"), 0.0, "{config:?}");
        assert_eq!((found.clipped, found.kl), (0.0, 0.0), "{config:?}");
    }
}

#[test]
fn an_entropy_bonus_has_the_gradient_of_finite_differences() {
    for compute in
        [Fixture::load("qwen3-tiny"), Fixture::computing("qwen3-tiny", engine::model::Compute::Composed)]
    {
        let mut f = compute;
        let config = LossConfig {
            objective: ObjectiveConfig::Reinforce(Reinforce::default()),
            entropy_bonus: 1.0,
            ..LossConfig::default()
        };
        let alone = LossConfig { entropy_bonus: 0.0, ..config.clone() };
        let name = "model.layers.1.self_attn.o_proj.weight".to_owned();
        let of = |f: &Fixture, config: &LossConfig| loss(f, config, 1 << 20);
        let grad = |config: &LossConfig| of(&f, config).grads.tensors().expect("tensors")[&name].clone();
        let bonus = (grad(&config) - grad(&alone)).expect("difference");
        let weight = f.policy.tensors().expect("tensors")[&name].clone();
        let direction = bonus.clone();
        let norm = bonus.sqr().and_then(|x| x.sum_all()).and_then(|x| x.to_scalar::<f32>()).expect("norm");
        let mut at = |h: f64| {
            let moved =
                (&weight + (&direction * (h / f64::from(norm.sqrt()))).expect("step")).expect("moved");
            f.policy.set(&std::collections::BTreeMap::from([(name.clone(), moved)])).expect("set");
            of(&f, &config).loss - of(&f, &alone).loss
        };
        let slope = (at(0.05) - at(-0.05)) / 0.1;
        near_number("slope", slope / f64::from(norm.sqrt()), 1.0, 2e-2);
    }
}
