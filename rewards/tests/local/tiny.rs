//! A tiny random checkpoint of any family, and rollouts in its words.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use data::{Body, Prompt, Rollout, Verdict};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const FAMILIES: [&str; 4] = ["llama", "mistral", "qwen2", "qwen3"];
pub(crate) const HIDDEN: usize = 16;
/// Rows of the embedding, more than there are words.
pub(crate) const VOCAB: usize = 24;

const WORDS: [&str; 14] = [
    "[UNK]",
    "<|end|>",
    "<|pad|>",
    "<|user|>",
    "<|assistant|>",
    "<|open|>",
    "a",
    "b",
    "c",
    "Score:",
    "7",
    "10",
    "<think>",
    "</think>",
];
const TEMPLATE: &str = "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{{ eos_token }}\
                        {% endfor %}{% if add_generation_prompt %}<|assistant|>\
                        {% if enable_thinking is false %}c{% endif %}{% endif %}";

/// Tokens of words with blanks between.
pub(crate) fn tokens(text: &str) -> Vec<u32> {
    text.split(' ').map(|word| WORDS.iter().position(|known| *known == word).unwrap_or(0) as u32).collect()
}

pub(crate) fn word(token: u32) -> &'static str {
    WORDS.get(token as usize).copied().unwrap_or("")
}

/// Name to shape and numbers.
pub(crate) type Weights = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A checkpoint before it is written.
#[derive(Clone)]
pub(crate) struct Tiny {
    pub(crate) config: Value,
    pub(crate) weights: Weights,
}

impl Tiny {
    /// With a head of some name and number of rows.
    pub(crate) fn new(family: &str, head: &str, rows: usize) -> Self {
        let (heads, kv_heads) = if matches!(family, "llama" | "qwen2") { (2, 1) } else { (4, 2) };
        let (width, mlp) = (8, 24);
        let mut config = json!({
            "model_type": family, "architectures": ["TinyForTests"], "vocab_size": VOCAB, "hidden_size": HIDDEN,
            "intermediate_size": mlp, "num_hidden_layers": 2, "num_attention_heads": heads,
            "num_key_value_heads": kv_heads, "head_dim": width, "max_position_embeddings": 64, "rope_theta": 10.0,
            "rms_norm_eps": 1e-6, "hidden_act": "silu", "eos_token_id": 1, "pad_token_id": 2,
            "tie_word_embeddings": false,
        });
        match family {
            "llama" => {
                config["rope_scaling"] = json!({
                    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 32,
                });
            }
            "mistral" => config["sliding_window"] = json!(60),
            _ => config["sliding_window"] = json!(2), // not used: use_sliding_window is absent
        }
        let mut tiny = Self { config, weights: Weights::new() };
        tiny.add("model.embed_tokens.weight", &[VOCAB, HIDDEN]);
        tiny.add("model.norm.weight", &[HIDDEN]);
        tiny.add(head, &[rows, HIDDEN]);
        for layer in 0..2 {
            let mut add =
                |name: &str, shape: &[usize]| tiny.add(&format!("model.layers.{layer}.{name}"), shape);
            add("input_layernorm.weight", &[HIDDEN]);
            add("post_attention_layernorm.weight", &[HIDDEN]);
            for (name, heads) in [("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)] {
                add(&format!("self_attn.{name}.weight"), &[heads * width, HIDDEN]);
                if family == "qwen2" {
                    add(&format!("self_attn.{name}.bias"), &[heads * width]);
                }
            }
            add("self_attn.o_proj.weight", &[HIDDEN, heads * width]);
            if family == "qwen3" {
                add("self_attn.q_norm.weight", &[width]);
                add("self_attn.k_norm.weight", &[width]);
            }
            add("mlp.gate_proj.weight", &[mlp, HIDDEN]);
            add("mlp.up_proj.weight", &[mlp, HIDDEN]);
            add("mlp.down_proj.weight", &[HIDDEN, mlp]);
        }
        tiny
    }

    /// A tensor of numbers in −0.5..0.5, or near 1 for a norm, that depend on nothing but its name and shape.
    fn add(&mut self, name: &str, shape: &[usize]) {
        let mut state =
            name.bytes().fold(7u64, |state, byte| state.wrapping_mul(31).wrapping_add(byte.into()));
        let middle = if name.contains("norm") { 1.0 } else { 0.0 };
        let mut number = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            middle + (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let numbers = (0..shape.iter().product()).map(|_| number()).collect();
        self.weights.insert(name.into(), (shape.to_vec(), numbers));
    }

    /// Makes it write, after each of the first words, the second.
    pub(crate) fn rig(&mut self, follows: &[(&str, &str)]) {
        for (name, (_, numbers)) in &mut self.weights {
            let keep = if name.contains("norm") { 1.0 } else { 0.0 };
            numbers.fill(keep);
        }
        let one = |weights: &mut Weights, name: &str, row: u32, column: u32| {
            weights.get_mut(name).unwrap().1[row as usize * HIDDEN + column as usize] = 1.0;
        };
        for token in 0..WORDS.len() as u32 {
            one(&mut self.weights, "model.embed_tokens.weight", token, token);
        }
        for (before, after) in follows {
            one(&mut self.weights, "lm_head.weight", tokens(after)[0], tokens(before)[0]);
        }
    }

    /// As a folder, the weights in one file.
    pub(crate) fn write(&self) -> TempDir {
        let dir = self.write_without_weights();
        let path = dir.path().join("model.safetensors");
        candle_core::safetensors::save(&self.tensors(DType::F32), path).unwrap();
        dir
    }

    pub(crate) fn write_without_weights(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, json: &Value| fs::write(dir.path().join(file), json.to_string()).unwrap();
        write("config.json", &self.config);
        write(
            "tokenizer_config.json",
            &json!({"eos_token": {"content": "<|end|>"}, "chat_template": TEMPLATE}),
        );
        write("tokenizer.json", &tokenizer());
        dir
    }

    pub(crate) fn tensors(&self, dtype: DType) -> std::collections::HashMap<String, Tensor> {
        let tensor = |(name, (shape, numbers)): (&String, &(Vec<usize>, Vec<f32>))| {
            let tensor = Tensor::from_slice(numbers, shape.as_slice(), &Device::Cpu).unwrap();
            (name.clone(), tensor.to_dtype(dtype).unwrap())
        };
        self.weights.iter().map(tensor).collect()
    }
}

fn tokenizer() -> Value {
    let vocab: BTreeMap<&str, usize> = WORDS.iter().enumerate().map(|(id, word)| (*word, id)).collect();
    let added = |id: usize| {
        json!({"id": id, "content": WORDS[id], "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": id < 6})
    };
    let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "decoder": null,
        "added_tokens": [added(1), added(2), added(3), added(4), added(5), added(12), added(13)],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<|open|>", "type_id": 0}}, sequence("A")],
            "pair": [sequence("A"), sequence("B")],
            "special_tokens": {"<|open|>": {"id": "<|open|>", "ids": [5], "tokens": ["<|open|>"]}},
        },
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"},
    })
}

/// A completion of the prompt `a b`.
pub(crate) fn rollout(text: &str) -> Rollout {
    let prompt = Prompt {
        id: "p".into(),
        body: Body::Text("a b".into()),
        answer: Some("7".into()),
        fields: Default::default(),
    };
    Rollout::of_text(Arc::new(prompt), text)
}

pub(crate) fn value(verdict: &Verdict) -> f32 {
    verdict.value.unwrap_or_else(|| panic!("no value: {verdict:?}"))
}

pub(crate) fn failure(verdict: &Verdict) -> &str {
    assert_eq!(verdict.value, None);
    verdict.failure.as_deref().unwrap_or_else(|| panic!("no failure: {verdict:?}"))
}

pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}
