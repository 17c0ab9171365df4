//! What is said of a judge that cannot start.

use std::fs;

use rewards::{LocalJudge, RewardModel};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tiny::{HIDDEN, Tiny, VOCAB, edit};

fn scored() -> TempDir {
    Tiny::new("qwen2", "score.weight", 1).write()
}

fn refused(dir: &TempDir, change: impl FnOnce(&mut RewardModel)) -> String {
    let mut settings = RewardModel { path: dir.path().to_owned(), ..RewardModel::default() };
    change(&mut settings);
    settings.build("taste").err().expect("refused").to_string()
}

fn judge_refused(dir: &TempDir, change: impl FnOnce(&mut LocalJudge)) -> String {
    let mut settings = LocalJudge { path: dir.path().to_owned(), max_tokens: 8, ..LocalJudge::default() };
    change(&mut settings);
    settings.build("taste").err().expect("refused").to_string()
}

fn has(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let dir = scored();
        fs::remove_file(dir.path().join(file)).unwrap();
        has(&refused(&dir, |_| {}), &["reward `taste` cannot start: ", "there is n", file]);
    }
    let dir = scored();
    has(&refused(&dir, |settings| settings.path.push("not")), &["not\", wanted a folder with config.json"]);
    fs::remove_file(dir.path().join("tokenizer_config.json")).unwrap();
    has(&refused(&dir, |_| {}), &["chat is true, but", "tokenizer_config.json", "has no chat_template"]);
}

#[test]
fn a_missing_head_is_named() {
    let causal = Tiny::new("qwen2", "lm_head.weight", VOCAB).write();
    has(
        &refused(&causal, |_| {}),
        &["have no `score.weight`", "a TinyForTests, wanted one …ForSequenceClassification"],
    );
    has(
        &judge_refused(&scored(), |_| {}),
        &["have no `lm_head.weight`", "a TinyForTests, wanted one …ForCausalLM"],
    );
}

#[test]
fn a_tensor_that_does_not_fit_is_named() {
    let whole = Tiny::new("qwen2", "score.weight", 1);
    let with = |change: &dyn Fn(&mut Tiny)| {
        let mut tiny = whole.clone();
        change(&mut tiny);
        refused(&tiny.write(), |_| {})
    };
    let name = "model.layers.1.mlp.up_proj.weight";
    has(&with(&|tiny| drop(tiny.weights.remove(name))), &["have no `model.layers.1.mlp.up_proj.weight`"]);
    let narrow = with(&|tiny| drop(tiny.weights.insert(name.into(), (vec![2, 3], vec![0.0; 6]))));
    has(&narrow, &[name, "has the shape [2, 3], wanted [24, 16]"]);
    let more = with(&|tiny| drop(tiny.weights.insert("model.extra.weight".into(), (vec![1], vec![0.0]))));
    has(&more, &["have `model.extra.weight`, which config.json has no place for"]);
    let head = with(&|tiny| drop(tiny.weights.insert("score.weight".into(), (vec![1, 3], vec![0.0; 3]))));
    has(&head, &[&format!("`score.weight` has the shape [1, 3], wanted [labels, {HIDDEN}]")]);
}

#[test]
fn a_label_must_be_there_and_named_if_there_are_several() {
    let dir = Tiny::new("qwen2", "score.weight", 3).write();
    has(&refused(&dir, |_| {}), &["`score.weight` has 3 labels, wanted one of them as `label`, from 0"]);
    has(
        &refused(&dir, |settings| settings.label = Some(3)),
        &["label is 3, but `score.weight` has 3, from 0"],
    );
}

#[test]
fn a_model_that_would_be_another_one_is_refused() {
    for (field, value, wanted) in [
        (
            "model_type",
            json!("gemma2"),
            "model_type is \"gemma2\", wanted one of llama, mistral, qwen2, qwen3",
        ),
        ("model_type", Value::Null, "model_type is absent"),
        ("hidden_act", json!("gelu"), "hidden_act is not silu"),
        ("rope_scaling", json!({"type": "yarn", "factor": 4.0}), "rope_scaling is {\"type\":\"yarn\""),
        ("attention_bias", json!(true), "attention_bias is true"),
        ("quantization_config", json!({}), "quantization_config is there"),
        ("num_hidden_layers", json!(0), "num_hidden_layers is 0, wanted a number from 1"),
        ("num_key_value_heads", json!(3), "and 3 for keys"),
        ("vocab_size", json!(10), "has the token 13, but config.json a vocab_size of 10 only"),
    ] {
        let dir = scored();
        edit(&dir.path().join("config.json"), |config| config[field] = value);
        has(&refused(&dir, |_| {}), &["config.json", wanted]);
    }
}

#[test]
fn a_setting_that_makes_no_sense_is_refused() {
    let dir = scored();
    has(
        &refused(&dir, |settings| settings.device = "gpu".into()),
        &["device is \"gpu\", wanted \"cpu\" or \"cuda:0\""],
    );
    let many = refused(&dir, |settings| settings.max_tokens = Some(65));
    has(&many, &["max_tokens is 65, wanted 1 to 64, which the model was made for"]);
    let dir = Tiny::new("qwen3", "lm_head.weight", VOCAB).write();
    has(&judge_refused(&dir, |settings| settings.prompt = "x".into()), &["prompt has no {completion}"]);
    has(&judge_refused(&dir, |settings| settings.scale = [2.0, 1.0]), &["scale is [2, 1]"]);
    has(&judge_refused(&dir, |settings| settings.deadline = 0.0), &["deadline is 0, wanted seconds"]);
    has(&judge_refused(&dir, |settings| settings.max_tokens = 64), &["max_tokens is 64 of a context of 64"]);
    let read = serde_json::from_value::<RewardModel>(json!({"path": "x", "labels": 1}));
    has(&read.unwrap_err().to_string(), &["unknown field `labels`"]);
    let read = serde_json::from_value::<LocalJudge>(json!({"path": "x", "url": "y"}));
    has(&read.unwrap_err().to_string(), &["unknown field `url`"]);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_the_program_has_no_part_for_is_refused() {
    has(
        &refused(&scored(), |settings| settings.device = "cuda:0".into()),
        &["device \"cuda:0\" is not there"],
    );
}
