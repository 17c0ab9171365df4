//! What sampling must and must not depend on, on a tiny Qwen3 policy.

#[path = "../../engine/tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Device;
use common::{Fixture, near};
use data::{Body, PolicyVersion, Prompt, Rollout, Seed, StopReason};
use engine::gradient::{self, Sequence};
use engine::kernels::{Kernel, Path};
use engine::model::{Compute, ModelConfig, Policy, Tokenizer};
use rand::SeedableRng;
use rollout::{
    RolloutError, SampleProgress, Sampled, Sampler, Sampling, Slots, Speculate, Task, count_occurrences,
};

/// 128 tokens of a letter and a digit: `a0`, `a1` … `m7`.
fn tokenizer() -> Tokenizer {
    let vocab: serde_json::Map<String, serde_json::Value> =
        (0..128).map(|id| (text(&[id]), serde_json::json!(id))).collect();
    let json = serde_json::json!({
        "version": "1.0",
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "a0" },
        "decoder": { "type": "Fuse" },
    });
    Tokenizer::from_bytes("tiny", json.to_string().as_bytes(), None).expect("tokenizer")
}

fn text(tokens: &[u32]) -> String {
    tokens.iter().map(|id| format!("{}{}", char::from(b'a' + (id / 10) as u8), id % 10)).collect()
}

fn task(id: usize, tokens: &[u32]) -> Task {
    let prompt = Prompt {
        id: format!("prompt {id}"),
        body: Body::Text(text(tokens)),
        answer: None,
        fields: Default::default(),
    };
    Task { prompt: Arc::new(prompt), tokens: Arc::from(tokens), max_tokens: None, occurrence: 0 }
}

/// Prompts of 7 to 20 tokens, and two short ones.
fn tasks(f: &Fixture) -> Vec<Task> {
    let mut prompts = f.prompts();
    prompts.push(vec![5]);
    prompts.push(vec![9, 17]);
    prompts.iter().enumerate().map(|(id, tokens)| task(id, tokens)).collect()
}

/// A sampler's settings, to be varied.
#[derive(Clone)]
struct Setup {
    sampling: Sampling,
    stop_tokens: Vec<u32>,
    slots: Slots,
    group_size: usize,
    threads: usize,
}

impl Setup {
    fn new(max_tokens: usize) -> Self {
        Self {
            sampling: Sampling { max_tokens, ..Sampling::default() },
            stop_tokens: vec![],
            slots: Slots { rows: 8, ..Slots::default() },
            group_size: 3,
            threads: 2,
        }
    }

    fn try_sample(&self, policy: &Policy, tasks: &[Task]) -> Result<Sampled, RolloutError> {
        let tokenizer = tokenizer();
        let sampler = Sampler {
            policy,
            version: PolicyVersion(3),
            tokenizer: &tokenizer,
            sampling: &self.sampling,
            stop_tokens: &self.stop_tokens,
            slots: self.slots,
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build().expect("pool");
        pool.install(|| sampler.sample(tasks, self.group_size, Seed(5).at(2), &mut |_| ()))
    }

    fn sample(&self, policy: &Policy, tasks: &[Task]) -> Vec<Rollout> {
        self.try_sample(policy, tasks).expect("rollouts").rollouts
    }
}

/// Tokens, bits of the log-probs and why it ended, by prompt and place.
type ByPlace = BTreeMap<(String, usize), (Vec<u32>, Vec<u32>, StopReason)>;

fn by_place(rollouts: &[Rollout]) -> ByPlace {
    let bits = |r: &Rollout| r.log_probs.iter().map(|x| x.to_bits()).collect();
    rollouts.iter().map(|r| ((r.prompt.id.clone(), r.place), (r.tokens.clone(), bits(r), r.stop))).collect()
}

#[test]
fn a_prompt_drawn_twice_is_sampled_anew_and_its_first_rollouts_are_those_of_a_prompt_drawn_once() {
    let f = Fixture::load("qwen3-tiny");
    let setup = Setup::new(8);
    let plain = tasks(&f)[..2].to_vec();
    let mut tasks = [plain.clone(), plain.clone()].concat();
    let mut drawn = BTreeMap::new();
    count_occurrences(&mut tasks[..3], &mut drawn);
    count_occurrences(&mut tasks[3..], &mut drawn);
    assert_eq!(tasks.iter().map(|task| task.occurrence).collect::<Vec<_>>(), [0, 0, 1, 1]);
    let all = setup.sample(&f.policy, &tasks);
    let (first, second) = all.split_at(2 * setup.group_size);
    assert!(by_place(first) == by_place(&setup.sample(&f.policy, &plain)));
    assert!(second.iter().all(|rollout| rollout.occurrence == 1));
    for (a, b) in first.iter().zip(second) {
        assert_eq!((&a.prompt.id, a.place), (&b.prompt.id, b.place));
        assert_ne!(a.log_probs, b.log_probs, "{} {}", a.prompt.id, a.place);
    }
    // what an attempt left finds its own place again
    let tokenizer = tokenizer();
    let sampler = Sampler {
        policy: &f.policy,
        version: PolicyVersion(3),
        tokenizer: &tokenizer,
        sampling: &setup.sampling,
        stop_tokens: &[],
        slots: setup.slots,
    };
    for have in [first, second, &all[4..9]] {
        let again = sampler.sample_missing(&tasks, setup.group_size, Seed(5).at(2), have, &mut |_| ());
        assert!(again.expect("rollouts").rollouts == all);
    }
}

/// How the work is arranged must not show in any bit of the rollouts.
fn assert_arrangement_is_invisible(policy: &Policy, tasks: &[Task], setup: &Setup) {
    let first = setup.sample(policy, tasks);
    let places: Vec<(String, usize)> = first.iter().map(|r| (r.prompt.id.clone(), r.place)).collect();
    let wanted_places: Vec<(String, usize)> =
        tasks.iter().flat_map(|t| (0..setup.group_size).map(|place| (t.prompt.id.clone(), place))).collect();
    assert_eq!(places, wanted_places, "group by group, in the order of the prompts");
    let wanted = by_place(&first);
    for max_rows in [1, 3, 8, 64] {
        for threads in [1, 2, 3] {
            let slots = Slots { rows: max_rows, ..setup.slots };
            let found = Setup { slots, threads, ..setup.clone() }.sample(policy, tasks);
            assert!(by_place(&found) == wanted, "{max_rows} rows, {threads} threads");
        }
    }
    // little memory, prompts in small parts, guesses: separately and together
    let arrangements = [
        Slots { memory: 1, ..setup.slots },
        Slots { memory: 40 * policy.kv_bytes(32), rows: 64, ..setup.slots },
        Slots { prompt_tokens: 3, ..setup.slots },
        Slots { prompt_tokens: 0, rows: 0, ..setup.slots },
        Slots { speculate: Some(Speculate { tokens: 3, ngram: 1, pass_tokens: 100 }), ..setup.slots },
        Slots {
            rows: 32,
            memory: 30 * policy.kv_bytes(32),
            prompt_tokens: 5,
            speculate: Some(Speculate { tokens: 2, ngram: 1, pass_tokens: 64 }),
        },
    ];
    for slots in arrangements {
        let found = Setup { slots, ..setup.clone() }.sample(policy, tasks);
        assert!(by_place(&found) == wanted, "{slots:?}");
    }
    let mut shuffled = tasks.to_vec();
    shuffled.reverse();
    shuffled.swap(0, 2);
    assert!(by_place(&setup.sample(policy, &shuffled)) == wanted, "order of the prompts");
    assert!(by_place(&setup.sample(policy, &tasks[1..2])).iter().all(|(key, r)| wanted[key] == *r), "alone");
    let larger = Setup { group_size: setup.group_size + 4, ..setup.clone() }.sample(policy, tasks);
    let larger: ByPlace =
        by_place(&larger).into_iter().filter(|((_, place), _)| *place < setup.group_size).collect();
    assert!(larger == wanted, "group size");
}

#[test]
fn rollouts_do_not_depend_on_how_the_work_is_arranged() {
    let f = Fixture::load("qwen3-tiny");
    let setup = Setup { stop_tokens: vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10], ..Setup::new(24) };
    assert_arrangement_is_invisible(&f.policy, &tasks(&f), &setup);
    // unequal lengths, so that groups take each other's place
    let lengths: std::collections::BTreeSet<usize> =
        setup.sample(&f.policy, &tasks(&f)).iter().map(|r| r.tokens.len()).collect();
    assert!(lengths.len() > 4, "{lengths:?}");
}

#[test]
fn slots_memory_and_guesses_are_used_as_the_settings_say() {
    let f = Fixture::load("qwen3-tiny");
    let tasks: Vec<Task> = (0..40).map(|id| task(id, &[3 + id as u32 % 9; 40])).collect();
    let stop_tokens: Vec<u32> = (1..9).collect();
    let setup = Setup { stop_tokens, group_size: 4, ..Setup::new(60) };
    let all = setup.try_sample(&f.policy, &tasks).expect("rollouts").stats;
    assert_eq!(all.slots, 8);
    // nothing waits longer than a pass, but in the first passes prompts are read before any row is there
    assert!(all.slot_use().expect("rollouts waited") > 0.9, "{all:?}");
    assert_eq!(all.prompt_tokens, 40 * 40, "a prompt is read once for its group");
    assert_eq!((all.preempted, all.guessed), (0, 0));

    let slots = Slots { rows: 160, ..setup.slots };
    let free = Setup { slots, ..setup.clone() }.try_sample(&f.policy, &tasks).expect("rollouts").stats;
    assert_eq!(free.slot_use(), None, "nothing waits for a slot");

    let memory = all.memory / 2;
    let slots = Slots { memory, ..setup.slots };
    let less = Setup { slots, ..setup.clone() }.try_sample(&f.policy, &tasks).expect("rollouts").stats;
    assert!(less.memory <= memory, "{} is more than {memory}", less.memory);
    assert!(less.passes > all.passes);

    let slots = Slots { speculate: Some(Speculate { tokens: 3, ngram: 1, pass_tokens: 64 }), ..setup.slots };
    let guessing = Setup { slots, ..setup }.try_sample(&f.policy, &tasks).expect("rollouts").stats;
    assert!(guessing.guessed > 0 && guessing.accepted <= guessing.guessed);
    assert_eq!(guessing.tokens, all.tokens);
}

#[test]
fn a_common_beginning_and_the_prompt_of_a_group_are_held_once() {
    let f = Fixture::load("qwen3-tiny");
    let policy = &f.policy;
    let mut config = policy.config().clone();
    config.max_position_embeddings = 4096;
    let policy = Policy::new(config, policy.tensors().expect("tensors"), &Device::Cpu).expect("policy");
    let prompt: Vec<u32> = (0..512).map(|i| i * 7 % 128).collect();
    let slots = Slots { rows: 16, ..Slots::default() };
    let one = Setup { slots, group_size: 16, ..Setup::new(64) };
    let stats = one.try_sample(&policy, &[task(0, &prompt)]).expect("rollouts").stats;
    let wanted = policy.kv_bytes(512) + 16 * policy.kv_bytes(64);
    assert!(stats.memory <= wanted + wanted / 10, "{} bytes, wanted about {wanted}", stats.memory);

    // 300 tokens in common, then some of its own
    let tasks: Vec<Task> = (0..6)
        .map(|id| {
            let own = vec![9 + id; 3 + 5 * id as usize];
            task(id as usize, &[&prompt[..300], &own].concat())
        })
        .collect();
    let setup = Setup::new(12);
    let sampled = setup.try_sample(&policy, &tasks).expect("rollouts");
    let own: usize = tasks.iter().map(|task| task.tokens.len() - 300).sum();
    assert!((300 + own..=300 + own + 6 * 32).contains(&sampled.stats.prompt_tokens), "{:?}", sampled.stats);
    for task in &tasks {
        let alone = setup.sample(&policy, std::slice::from_ref(task));
        let together: Vec<Rollout> =
            sampled.rollouts.iter().filter(|r| r.prompt.id == task.prompt.id).cloned().collect();
        assert!(by_place(&alone) == by_place(&together), "alone it is read as a whole");
    }
}

#[test]
fn what_is_there_already_is_not_sampled_again() {
    let f = Fixture::load("qwen3-tiny");
    let (tokenizer, tasks) = (tokenizer(), tasks(&f));
    let setup = Setup::new(8);
    let all = setup.sample(&f.policy, &tasks);
    let sampler = Sampler {
        policy: &f.policy,
        version: PolicyVersion(3),
        tokenizer: &tokenizer,
        sampling: &setup.sampling,
        stop_tokens: &[],
        slots: setup.slots,
    };
    let have: Vec<Rollout> =
        all.iter().enumerate().filter(|(i, _)| i % 3 != 1).map(|(_, r)| r.clone()).collect();
    let mut first = None;
    let sampled = sampler
        .sample_missing(&tasks, 3, Seed(5).at(2), &have, &mut |p| {
            first.get_or_insert(p.finished);
        })
        .expect("rollouts");
    assert_eq!(sampled.rollouts, all);
    assert_eq!(first, Some(have.len()));
    let missing = all.iter().enumerate().filter(|(i, _)| i % 3 == 1).map(|(_, r)| r.tokens.len());
    assert_eq!(sampled.stats.tokens, missing.sum::<usize>());
}

#[test]
fn sampling_that_is_stopped_keeps_what_has_finished_and_goes_on_to_the_same() {
    let f = Fixture::load("qwen3-tiny");
    let (tokenizer, tasks) = (tokenizer(), tasks(&f));
    let mut setup = Setup::new(8);
    setup.slots.rows = 4;
    let all = setup.sample(&f.policy, &tasks);
    let sampler = Sampler {
        policy: &f.policy,
        version: PolicyVersion(3),
        tokenizer: &tokenizer,
        sampling: &setup.sampling,
        stop_tokens: &[],
        slots: setup.slots,
    };
    for most in [0, 1, 5] {
        let stopped = sampler.sample_missing(&tasks, 3, Seed(5).at(2), &[], &mut |p| {
            p.stop.set(p.finished >= most);
        });
        let error = stopped.expect_err("it was asked to");
        assert!(matches!(error, RolloutError::Stopped { .. }), "{error}");
        let arrived = error.arrived().to_vec();
        assert!((most..all.len()).contains(&arrived.len()), "{} of {}", arrived.len(), all.len());
        let rest = sampler.sample_missing(&tasks, 3, Seed(5).at(2), &arrived, &mut |_| ());
        assert_eq!(rest.expect("rollouts").rollouts, all);
    }
    // with nothing missing there is nothing to stop
    let done = sampler.sample_missing(&tasks, 3, Seed(5).at(2), &all, &mut |p| p.stop.set(true));
    assert_eq!(done.expect("rollouts").rollouts, all);
}

/// 128 tokens of a letter and a digit, of which two open and close a thinking block.
fn thinking_tokenizer() -> Tokenizer {
    let name = |id: u32| match id {
        20 => "<think>".to_owned(),
        21 => "</think>".to_owned(),
        id => text(&[id]),
    };
    let vocab: serde_json::Map<String, serde_json::Value> =
        (0..128).map(|id| (name(id), serde_json::json!(id))).collect();
    let special = |id: u32| {
        serde_json::json!({ "id": id, "content": name(id), "special": false, "normalized": false,
        "single_word": false, "lstrip": false, "rstrip": false })
    };
    let json = serde_json::json!({
        "version": "1.0", "added_tokens": [special(20), special(21)],
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "a0" }, "decoder": { "type": "Fuse" },
    });
    Tokenizer::from_bytes("tiny", json.to_string().as_bytes(), None).expect("tokenizer")
}

#[test]
fn a_thinking_block_is_closed_when_its_budget_is_spent() {
    let f = Fixture::load("qwen3-tiny");
    let tokenizer = thinking_tokenizer();
    let sample = |budget: Option<usize>, prompt: &[u32]| {
        let sampling = Sampling {
            max_tokens: 24,
            thinking_budget: budget,
            thinking_close: "</think>".into(),
            // so that it neither closes a block nor opens one by itself
            forbidden_tokens: vec![20, 21],
            ..Sampling::default()
        };
        let sampler = Sampler {
            policy: &f.policy,
            version: PolicyVersion(0),
            tokenizer: &tokenizer,
            sampling: &sampling,
            stop_tokens: &[],
            slots: Slots::default(),
        };
        sampler.sample(&[task(0, prompt)], 4, Seed(5).at(2), &mut |_| ()).expect("rollouts").rollouts
    };
    for (budget, place) in [(5, 5), (0, 0)] {
        for rollout in sample(Some(budget), &[3, 20]) {
            let at: Vec<usize> = (0..24).filter(|i| rollout.tokens[*i] == 21).collect();
            assert_eq!(at, [place], "once, after the budget");
            let runs: Vec<(usize, usize)> = rollout.forced.iter().map(|run| (run.start, run.end)).collect();
            assert_eq!(runs, [(place, place + 1)]);
            assert!(rollout.is_forced(place) && !rollout.is_forced(place + 1));
            assert_eq!(rollout.log_probs[place], 0.0, "it was certain");
        }
    }
    // outside a block, and in one that has been closed, there is no budget
    for prompt in [&[3, 4][..], &[20, 3, 21]] {
        assert_eq!(sample(Some(5), prompt), sample(None, prompt));
    }
    // what was drawn before the end of the block is the same with and without
    let (with, without) = (sample(Some(5), &[3, 20]), sample(None, &[3, 20]));
    assert!(with.iter().zip(&without).all(|(a, b)| a.tokens[..5] == b.tokens[..5]));
}

#[test]
fn a_tokenizer_without_thinking_tokens_and_tokens_that_are_not_there_are_refused() {
    let f = Fixture::load("qwen3-tiny");
    let mut setup = Setup::new(4);
    setup.sampling.thinking_budget = Some(3);
    let error = setup.try_sample(&f.policy, &[task(0, &[3])]).expect_err("refused");
    assert!(error.to_string().contains("`<think>`"), "{error}");
    let mut setup = Setup::new(4);
    setup.sampling.allowed_tokens = vec![3, 128];
    let error = setup.try_sample(&f.policy, &[task(0, &[3])]).expect_err("refused");
    assert!(error.to_string().contains("allowed_tokens names token 128"), "{error}");
}

#[test]
fn text_is_streamed_in_whole_characters_that_add_up() {
    // a byte-level vocabulary: every token is one byte
    let byte = |b: u8| {
        let printable = (33..=126).contains(&b) || (161..=172).contains(&b) || (174..=255).contains(&b);
        let other = (0..b)
            .filter(|b| !((33..=126).contains(b) || (161..=172).contains(b) || (174..=255).contains(b)));
        char::from_u32(if printable { u32::from(b) } else { 256 + other.count() as u32 }).expect("char")
    };
    let vocab: serde_json::Map<String, serde_json::Value> =
        (0..=255u8).map(|b| (byte(b).to_string(), serde_json::json!(b))).collect();
    let json = serde_json::json!({
        "version": "1.0", "model": { "type": "BPE", "vocab": vocab, "merges": [] },
        "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
    });
    let tokenizer = Tokenizer::from_bytes("bytes", json.to_string().as_bytes(), None).expect("tokenizer");
    let text = "Zwölf Äpfel 🍎🍏 und 三 Birnen, ".repeat(5);
    let mut stream = rollout::TextStream::new(&tokenizer);
    let mut shown = String::new();
    for byte in text.bytes() {
        let new = stream.push(u32::from(byte)).expect("text");
        assert!(!new.contains('\u{fffd}'), "{new:?}");
        shown.push_str(&new);
        assert!(text.starts_with(&shown));
    }
    assert_eq!(shown, text);
    // a character that never becomes whole is shown at the end as what it is
    let mut stream = rollout::TextStream::new(&tokenizer);
    assert_eq!(stream.push(0xf0).expect("text"), "");
    assert_eq!(stream.finish().expect("text"), "\u{fffd}");
}

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
