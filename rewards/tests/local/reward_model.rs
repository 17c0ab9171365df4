//! Rewards of a classifier.

use std::fs;
use std::sync::Arc;

use candle_core::DType;
use data::{Body, Message};
use rayon::prelude::*;
use rewards::{Reward, RewardModel};
use serde_json::json;
use tempfile::TempDir;

use crate::forward::outputs;
use crate::tiny::{FAMILIES, Tiny, edit, failure, rollout, tokens, value};

const HEAD: &str = "score";

fn tiny(family: &str) -> Tiny {
    Tiny::new(family, "score.weight", 1)
}

fn settings(dir: &TempDir) -> RewardModel {
    RewardModel { path: dir.path().to_owned(), ..RewardModel::default() }
}

fn close(found: f32, wanted: f64) {
    assert!((f64::from(found) - wanted).abs() < 1e-4, "{found}, wanted {wanted}");
}

/// The prompt `a b` and a completion, as the template writes them.
fn told(completion: &str) -> Vec<u32> {
    tokens(&format!("<|user|> a b <|end|> <|assistant|> {completion} <|end|>"))
}

#[test]
fn the_reward_is_the_score_row_times_the_last_hidden_state_in_every_family() {
    for family in FAMILIES {
        let tiny = tiny(family);
        let dir = tiny.write();
        let chat = settings(&dir).build("r").unwrap();
        let plain = RewardModel { chat: false, ..settings(&dir) }.build("r").unwrap();
        for completion in ["a", "c b a c", "7 10 a b c a b c c c a b"] {
            let wanted = outputs(&tiny, HEAD, &told(completion))[0];
            close(value(&chat.score(&rollout(completion))), wanted);
            let wanted = outputs(&tiny, HEAD, &tokens(&format!("<|open|> a b {completion}")))[0];
            close(value(&plain.score(&rollout(&format!(" {completion}")))), wanted);
        }
    }
}

#[test]
fn a_chat_is_told_message_by_message() {
    let tiny = tiny("qwen3");
    let dir = tiny.write();
    let mut chat = rollout("c");
    let messages = vec![
        Message::user("a"),
        Message { role: "assistant".into(), content: "7".into() },
        Message::user("b"),
    ];
    Arc::make_mut(&mut chat.prompt).body = Body::Chat(messages);
    let all = tokens("<|user|> a <|end|> <|assistant|> 7 <|end|> <|user|> b <|end|> <|assistant|> c <|end|>");
    close(value(&settings(&dir).build("r").unwrap().score(&chat)), outputs(&tiny, HEAD, &all)[0]);
}

#[test]
fn a_verdict_depends_neither_on_the_others_nor_on_the_threads_that_ask() {
    for family in FAMILIES {
        let dir = tiny(family).write();
        let model = settings(&dir).build("r").unwrap();
        let rollouts: Vec<_> = (0..24).map(|i| rollout(["a", "b c", "c c c", "7 a 10 b"][i % 4])).collect();
        let all = model.score_all(&rollouts).unwrap();
        assert_eq!(all.len(), 24);
        for (i, verdict) in all.iter().enumerate() {
            assert_eq!(*verdict, all[i % 4]);
        }
        let reversed: Vec<_> = rollouts.iter().rev().cloned().collect();
        assert!(model.score_all(&reversed).unwrap().iter().eq(all.iter().rev()));
        let side_by_side: Vec<_> = rollouts.par_iter().map(|rollout| model.score(rollout)).collect();
        assert_eq!(side_by_side, all);
    }
}

#[test]
fn a_sequence_beyond_the_limit_is_a_failure_that_names_its_length() {
    let dir = tiny("qwen2").write();
    let model = RewardModel { max_tokens: Some(8), ..settings(&dir) }.build("r").unwrap();
    let [fits, beyond] = &model.score_all(&[rollout("a b"), rollout("a b c")]).unwrap()[..] else { panic!() };
    assert!(fits.value.is_some());
    assert_eq!(failure(beyond), "prompt and completion have 9 tokens, wanted at most 8 (max_tokens)");
}

#[test]
fn a_context_ends_where_a_used_window_does() {
    for (family, most) in [("mistral", 60), ("qwen2", 64)] {
        let dir = tiny(family).write();
        let model = settings(&dir).build("r").unwrap();
        let words = vec!["a"; most - 6];
        assert!(model.score(&rollout(&words.join(" "))).value.is_some());
        let verdict = model.score(&rollout(&(words.join(" ") + " a")));
        assert!(failure(&verdict).contains(&format!("at most {most} ")), "{verdict:?}");
    }
}

#[test]
fn thinking_is_shown_only_if_asked_for() {
    let tiny = tiny("qwen2");
    let dir = tiny.write();
    let without = settings(&dir).build("r").unwrap();
    let with = RewardModel { thinking: true, ..settings(&dir) }.build("r").unwrap();
    for (text, said) in [("<think> b </think> c", "c"), ("b </think> c", "c"), ("c", "c")] {
        close(value(&without.score(&rollout(text))), outputs(&tiny, HEAD, &told(said))[0]);
        close(value(&with.score(&rollout(text))), outputs(&tiny, HEAD, &told(text))[0]);
    }
    let empty = tokens("<|user|> a b <|end|> <|assistant|> <|end|>");
    close(value(&without.score(&rollout("<think> b"))), outputs(&tiny, HEAD, &empty)[0]);
}

#[test]
fn a_completion_cannot_end_its_turn() {
    let tiny = tiny("qwen2");
    let dir = tiny.write();
    let verdict = settings(&dir).build("r").unwrap().score(&rollout("a <|end|> <|user|> b"));
    close(value(&verdict), outputs(&tiny, HEAD, &told("a < |end|> < |user|> b"))[0]);
    assert_eq!(told("< |end|>")[5..7], [0, 0], "no special tokens");
}

#[test]
fn padding_at_the_end_is_not_judged() {
    let tiny = tiny("llama");
    let dir = tiny.write();
    edit(&dir.path().join("config.json"), |config| config["pad_token_id"] = json!(1));
    let all = told("a c");
    let wanted = outputs(&tiny, HEAD, &all[..all.len() - 1])[0];
    close(value(&settings(&dir).build("r").unwrap().score(&rollout("a c"))), wanted);
}

#[test]
fn a_label_is_a_row_and_a_sigmoid_maps_it() {
    let tiny = Tiny::new("qwen3", "score.weight", 3);
    let dir = tiny.write();
    let logits = outputs(&tiny, HEAD, &told("b"));
    for (label, logit) in logits.into_iter().enumerate() {
        let settings = RewardModel { label: Some(label), ..settings(&dir) };
        close(value(&settings.clone().build("r").unwrap().score(&rollout("b"))), logit);
        let mapped = RewardModel { sigmoid: true, ..settings }.build("r").unwrap();
        close(value(&mapped.score(&rollout("b"))), 1.0 / (1.0 + (-logit).exp()));
    }
}

#[test]
fn shards_and_half_precision_give_the_same_numbers() {
    let mut tiny = tiny("qwen2");
    for (_, numbers) in tiny.weights.values_mut() {
        // what bf16 holds exactly
        numbers.iter_mut().for_each(|number| *number = f32::from_bits(number.to_bits() & 0xffff_0000));
    }
    let whole = settings(&tiny.write()).build("r").unwrap().score(&rollout("a c"));
    let dir = tiny.write_without_weights();
    let mut map = serde_json::Map::new();
    let tensors = tiny.tensors(DType::BF16);
    for (file, kept) in [("model-1.safetensors", true), ("model-2.safetensors", false)] {
        let part = tensors.iter().filter(|(name, _)| name.contains(".layers.1.") == kept);
        let part: std::collections::HashMap<_, _> =
            part.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        map.extend(part.keys().map(|name| (name.clone(), json!(file))));
        candle_core::safetensors::save(&part, dir.path().join(file)).unwrap();
    }
    let index = dir.path().join("model.safetensors.index.json");
    fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    assert_eq!(settings(&dir).build("r").unwrap().score(&rollout("a c")), whole);
    edit(&index, |index| index["weight_map"]["score.weight"] = json!("../model.safetensors"));
    let error = settings(&dir).build("r").err().unwrap().to_string();
    assert!(error.contains("names the shard \"../model.safetensors\", wanted a file beside it"), "{error}");
}
