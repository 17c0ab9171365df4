//! What order, memory and slots change: nothing.

use super::*;

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
