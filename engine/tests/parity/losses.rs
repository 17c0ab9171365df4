//! Advantages and losses of completions.

use super::*;

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
