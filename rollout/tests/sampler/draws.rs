//! Tokens that are drawn, and where a completion ends.

use super::*;

#[test]
fn a_wider_model_is_as_independent_of_the_arrangement() {
    // products long enough for the matrix library to cut them up
    let config = serde_json::json!({
        "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": 1000, "hidden_size": 896,
        "intermediate_size": 2432, "num_hidden_layers": 2, "num_attention_heads": 14, "num_key_value_heads": 2,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true,
        "hidden_act": "silu", "torch_dtype": "float32", "eos_token_id": 1,
    });
    let config = ModelConfig::from_json(&config.to_string()).expect("config");
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let policy = Policy::random(config, &mut rng, &Device::Cpu).expect("policy");
    let tasks: Vec<Task> =
        [3usize, 40, 1, 17].iter().enumerate().map(|(id, n)| task(id, &vec![7 + id as u32; *n])).collect();
    let wanted = by_place(&Setup { group_size: 4, ..Setup::new(3) }.sample(&policy, &tasks));
    for (max_rows, threads) in [(1, 1), (1, 2), (8, 1), (16, 2), (16, 1)] {
        let slots = Slots { rows: max_rows, ..Slots::default() };
        let setup = Setup { slots, threads, group_size: 4, ..Setup::new(3) };
        assert!(by_place(&setup.sample(&policy, &tasks)) == wanted, "{max_rows} rows, {threads} threads");
    }
}

#[test]
fn recorded_log_probs_are_those_of_the_trainer() {
    let f = Fixture::load("qwen3-tiny");
    for temperature in [0.7, 1.0, 1.3] {
        let mut setup = Setup::new(24);
        setup.sampling.temperature = temperature;
        let rollouts = setup.sample(&f.policy, &tasks(&f));
        let sequences: Vec<Sequence<'_>> =
            rollouts.iter().map(|r| Sequence { prompt: &r.prompt_tokens, completion: &r.tokens }).collect();
        let trained = gradient::log_probs(&f.policy, &sequences, 100, temperature, false).expect("log-probs");
        for (rollout, trained) in rollouts.iter().zip(&trained.log_probs) {
            assert_eq!(rollout.policy, PolicyVersion(3));
            near(&format!("log-probs at {temperature}"), &rollout.log_probs, trained, 2e-5);
        }
    }
}

#[test]
fn recorded_log_probs_are_those_of_the_trainer_to_the_bit() {
    for name in ["qwen2-tiny", "qwen3-tiny"] {
        for kernel in Path::ALL.into_iter().filter_map(Kernel::new) {
            let f = Fixture::computing(name, Compute::Fused(kernel));
            for (rows, threads, group_size) in [(1, 1, 1), (3, 2, 1), (8, 1, 5), (33, 2, 1), (12, 2, 8)] {
                // prompts of all remainders, most of which a group shares, behind a beginning that all share
                let begin = vec![77; if group_size > 1 { 70 } else { 0 }];
                let tasks: Vec<Task> = (0..rows)
                    .map(|i| task(i, &[begin.clone(), vec![5 + i as u32; 1 + i * 11 % 37]].concat()))
                    .collect();
                let mut setup = Setup { group_size, threads, ..Setup::new(24) };
                setup.slots.speculate =
                    (group_size > 1).then_some(Speculate { tokens: 2, ngram: 1, pass_tokens: 64 });
                setup.sampling.temperature = 0.8;
                setup.stop_tokens = (0..9).collect(); // so that rows end at different lengths
                let rollouts = setup.sample(&f.policy, &tasks);
                let sequences: Vec<Sequence<'_>> = rollouts
                    .iter()
                    .map(|r| Sequence { prompt: &r.prompt_tokens, completion: &r.tokens })
                    .collect();
                let recomputed =
                    gradient::log_probs(&f.policy, &sequences, 100, 0.8, false).expect("log-probs");
                for (rollout, wanted) in rollouts.iter().zip(&recomputed.log_probs) {
                    let what = format!(
                        "{name} {}, {rows} × {group_size} rows, {threads} threads",
                        kernel.path().name()
                    );
                    assert!(
                        rollout.log_probs == *wanted,
                        "{what}: {:?} is not {wanted:?}",
                        rollout.log_probs
                    );
                }
            }
        }
    }
}

#[test]
fn a_policy_of_candles_operations_is_sampled_the_same_way() {
    let f = Fixture::computing("qwen3-tiny", Compute::Composed);
    let mut setup = Setup { group_size: 2, ..Setup::new(16) };
    setup.sampling.temperature = 0.0;
    let wanted = f.ids("greedy.tokens");
    let speculate = Some(Speculate { tokens: 2, ngram: 1, pass_tokens: 64 });
    for slots in [setup.slots, Slots { rows: 3, prompt_tokens: 4, speculate, ..setup.slots }] {
        let rollouts = Setup { slots, ..setup.clone() }.sample(&f.policy, &tasks(&f)[..4]);
        for (index, rollout) in rollouts.iter().enumerate() {
            assert_eq!(rollout.tokens, wanted[index / 2]);
        }
    }
}

#[test]
fn at_temperature_0_the_likeliest_tokens_are_drawn() {
    let f = Fixture::load("qwen3-tiny");
    let mut setup = Setup { group_size: 2, ..Setup::new(16) };
    setup.sampling.temperature = 0.0;
    let rollouts = setup.sample(&f.policy, &tasks(&f)[..4]);
    let wanted = f.ids("greedy.tokens");
    for (index, rollout) in rollouts.iter().enumerate() {
        assert_eq!(rollout.tokens, wanted[index / 2]);
        assert_eq!(rollout.text, text(&rollout.tokens));
        assert_eq!(rollout.stop, StopReason::Length);
        assert!(rollout.truncated());
    }
}

#[test]
fn a_completion_ends_at_a_stop_token_a_stop_text_or_its_budget() {
    let f = Fixture::load("qwen3-tiny");
    let tasks = &tasks(&f)[..1];
    let mut setup = Setup { group_size: 1, ..Setup::new(16) };
    setup.sampling.temperature = 0.0;
    let whole = f.ids("greedy.tokens")[0].clone();

    let stop = whole[5];
    let end = whole.iter().position(|token| *token == stop).expect("there") + 1;
    let by_token = Setup { stop_tokens: vec![stop], ..setup.clone() }.sample(&f.policy, tasks).remove(0);
    assert_eq!((by_token.tokens.as_slice(), by_token.stop), (&whole[..end], StopReason::Token));
    assert_eq!(by_token.log_probs.len(), end, "the stop token is a choice of the policy like any other");

    // the digit of one token and the letter of the next
    let all = text(&whole);
    let across = &all[9..11];
    let at = all.find(across).expect("there");
    setup.sampling.stop = vec!["never this".into(), across.to_owned()];
    let by_text = setup.sample(&f.policy, tasks).remove(0);
    assert_eq!(by_text.stop, StopReason::Text);
    assert_eq!(by_text.text, all[..at], "the stop text is left out");
    assert_eq!(by_text.tokens, whole[..(at + 2).div_ceil(2)], "tokens stay as they were drawn");

    setup.sampling.stop.clear();
    setup.sampling.max_tokens = 3;
    let by_length = setup.sample(&f.policy, tasks).remove(0);
    assert_eq!((by_length.tokens.as_slice(), by_length.stop), (&whole[..3], StopReason::Length));
}

#[test]
fn a_completion_ends_where_the_context_does() {
    let f = Fixture::load("qwen3-tiny");
    let mut config = f.policy.config().clone();
    config.max_position_embeddings = 10;
    let policy = Policy::new(config, f.policy.tensors().expect("tensors"), &Device::Cpu).expect("policy");
    let setup = Setup::new(100);
    for (length, wanted) in [(1, 9), (7, 3), (9, 1)] {
        for rollout in setup.sample(&policy, &[task(0, &vec![3; length])]) {
            assert_eq!((rollout.tokens.len(), rollout.stop), (wanted, StopReason::Length));
        }
    }
    let error = setup.try_sample(&policy, &[task(0, &[3]), task(1, &[3; 10])]).expect_err("refused");
    assert!(matches!(error, RolloutError::PromptTooLong { length: 10, limit: 10, .. }), "{error}");
    assert!(error.to_string().contains("prompt `prompt 1` has 10 tokens"), "{error}");
    let error = setup.try_sample(&policy, &[task(4, &[])]).expect_err("refused");
    assert!(error.to_string().contains("prompt `prompt 4` has no tokens"), "{error}");
}

#[test]
fn broken_weights_are_an_error_and_not_a_token() {
    let mut f = Fixture::load("qwen3-tiny");
    let norm = &f.policy.tensors().expect("tensors")["model.norm.weight"];
    let norm = (norm * f64::NAN).expect("tensor");
    f.policy.set(&[("model.norm.weight".to_owned(), norm)].into()).expect("set");
    let error = Setup::new(4).try_sample(&f.policy, &[task(0, &[3])]).expect_err("refused");
    assert!(matches!(error, RolloutError::Logits { token: 0, .. }), "{error}");
}

#[test]
fn progress_counts_every_rollout_and_every_token() {
    let f = Fixture::load("qwen3-tiny");
    let (tokenizer, tasks) = (tokenizer(), tasks(&f));
    let sampling = Sampling { max_tokens: 12, ..Sampling::default() };
    let sampler = Sampler {
        policy: &f.policy,
        version: PolicyVersion(0),
        tokenizer: &tokenizer,
        sampling: &sampling,
        stop_tokens: &[2, 4, 6, 8, 10, 12, 14],
        slots: Slots { rows: 5, ..Slots::default() },
    };
    let mut heard = Vec::new();
    let mut new = 0;
    let mut hear = |progress: SampleProgress<'_>| {
        heard.push((progress.finished, progress.drawn));
        new += progress.new.len();
        assert_eq!(new, progress.finished, "every rollout is shown once");
    };
    let sampled = sampler.sample(&tasks, 2, Seed(1).at(0), &mut hear).expect("rollouts");
    let rollouts = sampled.rollouts;
    assert_eq!(sampled.stats.tokens, rollouts.iter().map(|r| r.tokens.len()).sum::<usize>());
    assert!(heard.is_sorted(), "{heard:?}");
    assert_eq!(heard.last(), Some(&(rollouts.len(), rollouts.iter().map(|r| r.tokens.len()).sum())));
}

#[test]
fn tokens_are_drawn_as_often_as_the_policy_says() {
    let f = Fixture::load("qwen3-tiny");
    let draws = 40_000;
    let setup = Setup { group_size: draws, ..Setup::new(1) };
    let task = &tasks(&f)[1..2];
    let rollouts = setup.sample(&f.policy, task);
    let mut counts = vec![0.0f64; 128];
    rollouts.iter().for_each(|r| counts[r.tokens[0] as usize] += 1.0);

    let tokens: Vec<[u32; 1]> = (0..128).map(|token| [token]).collect();
    let sequences: Vec<Sequence<'_>> =
        tokens.iter().map(|completion| Sequence { prompt: &task[0].tokens, completion }).collect();
    let log_probs =
        gradient::log_probs(&f.policy, &sequences, 1000, 1.0, false).expect("log-probs").log_probs;
    let (mut statistic, mut cells) = (0.0, 0.0);
    for (token, (count, log_prob)) in counts.iter().zip(&log_probs).enumerate() {
        let p = f64::from(log_prob[0]).exp();
        let expected = p * draws as f64;
        let deviation = (count - expected).abs();
        assert!(
            deviation <= 5.0 * (expected * (1.0 - p)).sqrt() + 1.0,
            "{token}: {count}, expected {expected}"
        );
        if expected >= 5.0 {
            statistic += deviation.powi(2) / expected;
            cells += 1.0;
        }
    }
    assert!(cells > 20.0, "{cells}");
    // χ² has mean k and variance 2k
    assert!((statistic - cells).abs() < 5.0 * (2.0 * cells).sqrt(), "χ² = {statistic} in {cells} cells");
}
