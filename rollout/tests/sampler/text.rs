//! Thinking budgets, and text as it is streamed.

use super::*;

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
