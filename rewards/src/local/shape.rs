//! `config.json`: which model it is, and which tensors it must have.
//!
//! Before: [`super::folder`] read the file. After: every tensor is compared with [`Shape::parameters`], and
//! [`super::causal`] is built to it. What would make another model of the same weights, if it were ignored, is refused.

use candle_transformers::models::llama::{Llama3RopeConfig, Llama3RopeType};
use serde_json::{Map, Value};

/// Which decoder it is. They share everything but biases and norms in the attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
}

/// `model_type` of each.
const FAMILIES: [(&str, Family); 4] = [
    ("llama", Family::Llama),
    ("mistral", Family::Mistral),
    ("qwen2", Family::Qwen2),
    ("qwen3", Family::Qwen3),
];

/// A checked configuration.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) family: Family,
    /// `architectures`, for messages.
    pub(super) architecture: String,
    pub(super) vocab: usize,
    pub(super) hidden: usize,
    pub(super) mlp: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    /// Longest sequence. Within it no attention window cuts anything off.
    pub(super) context: usize,
    pub(super) theta: f64,
    pub(super) llama3: Option<Llama3RopeConfig>,
    pub(super) eps: f64,
    /// `attention_bias`.
    pub(super) bias: bool,
    /// Whether the output head is the embedding.
    pub(super) tied: bool,
    pub(super) pad: Option<u32>,
}

type Json = Map<String, Value>;

fn given<'a>(json: &'a Json, field: &str) -> Option<&'a Value> {
    json.get(field).filter(|value| !value.is_null())
}

fn size(json: &Json, field: &str) -> Result<Option<usize>, String> {
    let Some(value) = given(json, field) else { return Ok(None) };
    let size = value.as_u64().filter(|size| (1..=u64::from(u32::MAX)).contains(size));
    size.map(|size| Some(size as usize)).ok_or_else(|| format!("{field} is {value}, wanted a number from 1"))
}

fn number(json: &Json, field: &str) -> Result<Option<f64>, String> {
    let Some(value) = given(json, field) else { return Ok(None) };
    value.as_f64().map(Some).ok_or_else(|| format!("{field} is {value}, wanted a number"))
}

fn flag(json: &Json, field: &str) -> Result<bool, String> {
    let Some(value) = given(json, field) else { return Ok(false) };
    value.as_bool().ok_or_else(|| format!("{field} is {value}, wanted true or false"))
}

/// Token ids under a field: none, one or a list.
pub(super) fn ids(json: &Json, field: &str) -> Result<Vec<u32>, String> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids = match given(json, field) {
        None => Some(vec![]),
        Some(Value::Array(list)) => list.iter().map(id).collect(),
        Some(value) => id(value).map(|id| vec![id]),
    };
    ids.ok_or_else(|| format!("{field} is {}, wanted a token id or a list of them", json[field]))
}

impl Shape {
    /// Reads the fields that published checkpoints have, and those that transformers 5 writes (`rope_parameters`).
    pub(super) fn new(json: &Json) -> Result<Self, String> {
        let wanted = FAMILIES.map(|(name, _)| name).join(", ");
        let found = given(json, "model_type").map_or("absent".to_owned(), Value::to_string);
        let family =
            FAMILIES.iter().find(|(name, _)| json.get("model_type").is_some_and(|found| found == name));
        let Some((_, family)) = family else {
            return Err(format!("model_type is {found}, wanted one of {wanted}"));
        };
        let must =
            |field: &str| size(json, field)?.ok_or_else(|| format!("{field} is absent, wanted a number"));
        let (hidden, heads) = (must("hidden_size")?, must("num_attention_heads")?);
        let rope = rope(json, *family)?;
        let architecture = json.get("architectures").and_then(|names| names.get(0)).and_then(Value::as_str);
        let shape = Self {
            family: *family,
            architecture: architecture.unwrap_or("model without `architectures`").to_owned(),
            vocab: must("vocab_size")?,
            hidden,
            mlp: must("intermediate_size")?,
            layers: must("num_hidden_layers")?,
            heads,
            kv_heads: size(json, "num_key_value_heads")?.unwrap_or(heads),
            head_dim: size(json, "head_dim")?.unwrap_or(hidden / heads),
            context: must("max_position_embeddings")?.min(window(json, *family)?),
            theta: rope.0,
            llama3: rope.1,
            eps: number(json, "rms_norm_eps")?.ok_or("rms_norm_eps is absent, wanted a number")?,
            bias: flag(json, "attention_bias")?,
            tied: flag(json, "tie_word_embeddings")?,
            pad: ids(json, "pad_token_id")?.first().copied(),
        };
        shape.check(json)?;
        Ok(shape)
    }

    fn check(&self, json: &Json) -> Result<(), String> {
        let Self { family, hidden, heads, kv_heads, head_dim, .. } = self;
        if heads % kv_heads != 0 || head_dim % 2 != 0 {
            return Err(format!(
                "there are {heads} heads of width {head_dim} and {kv_heads} for keys, wanted an even width, and heads \
                 in equal shares"
            ));
        }
        if matches!(family, Family::Llama | Family::Qwen2) && heads * head_dim != *hidden {
            return Err(format!(
                "{heads} heads of width {head_dim} do not make up the hidden_size, {hidden}"
            ));
        }
        let refused = [
            ("attention_bias", self.bias && *family != Family::Qwen3, "is true, wanted false in this family"),
            ("mlp_bias", flag(json, "mlp_bias")?, "is true, wanted false"),
            (
                "hidden_act",
                given(json, "hidden_act").is_some_and(|act| act != "silu"),
                "is not silu, wanted that",
            ),
            (
                "quantization_config",
                given(json, "quantization_config").is_some(),
                "is there, wanted bf16, f16 or f32",
            ),
        ];
        match refused.into_iter().find(|(_, refused, _)| *refused) {
            Some((field, _, why)) => Err(format!("{field} {why}")),
            None => Ok(()),
        }
    }

    /// Name and shape of every tensor but the head's. Matrices are `(out, in)`.
    pub(super) fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let Self { family, hidden, mlp, head_dim, .. } = *self;
        let (query, key) = (self.heads * head_dim, self.kv_heads * head_dim);
        let bias = family == Family::Qwen2 || self.bias;
        let mut all = vec![
            ("model.embed_tokens.weight".to_owned(), vec![self.vocab, hidden]),
            ("model.norm.weight".to_owned(), vec![hidden]),
        ];
        for layer in 0..self.layers {
            let mut add = |name: &str, shape: &[usize]| {
                all.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
            };
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                add(&format!("{norm}.weight"), &[hidden]);
            }
            for (name, width) in [("q_proj", query), ("k_proj", key), ("v_proj", key)] {
                add(&format!("self_attn.{name}.weight"), &[width, hidden]);
                if bias {
                    add(&format!("self_attn.{name}.bias"), &[width]);
                }
            }
            add("self_attn.o_proj.weight", &[hidden, query]);
            if self.bias {
                add("self_attn.o_proj.bias", &[hidden]);
            }
            if family == Family::Qwen3 {
                add("self_attn.q_norm.weight", &[head_dim]);
                add("self_attn.k_norm.weight", &[head_dim]);
            }
            add("mlp.gate_proj.weight", &[mlp, hidden]);
            add("mlp.up_proj.weight", &[mlp, hidden]);
            add("mlp.down_proj.weight", &[hidden, mlp]);
        }
        all
    }
}

/// Tokens that the attention reaches back, or no limit. Sequences that fit are as with full attention.
fn window(json: &Json, family: Family) -> Result<usize, String> {
    let sliding = |kinds: &Vec<Value>| kinds.iter().any(|kind| kind != "full_attention");
    let used = family == Family::Mistral
        || flag(json, "use_sliding_window")?
        || json.get("layer_types").and_then(Value::as_array).is_some_and(sliding);
    Ok(size(json, "sliding_window")?.filter(|_| used).unwrap_or(usize::MAX))
}

/// The base of the rotary frequencies, and Llama 3's scaling of them.
fn rope(json: &Json, family: Family) -> Result<(f64, Option<Llama3RopeConfig>), String> {
    let inner = |place: &str| json.get(place).and_then(Value::as_object);
    let theta = match inner("rope_parameters").map(|rope| number(rope, "rope_theta")).transpose()?.flatten() {
        Some(theta) => theta,
        None => number(json, "rope_theta")?.unwrap_or(10_000.0), // what transformers takes
    };
    let mut llama3 = None;
    for place in ["rope_scaling", "rope_parameters"] {
        let Some(rope) = inner(place) else { continue };
        let kind = given(rope, "rope_type").or(given(rope, "type")).map_or(Some("default"), Value::as_str);
        let at = |field: &str| {
            let value =
                number(rope, field)?.ok_or_else(|| format!("{place} has no {field}, wanted a number"))?;
            Ok::<f64, String>(value)
        };
        let scaled = number(rope, "factor")?.is_some_and(|factor| factor != 1.0);
        let partial = number(rope, "partial_rotary_factor")?.is_some_and(|factor| factor != 1.0);
        match kind {
            Some("default") if !scaled && !partial => {}
            Some("llama3") if family == Family::Llama && !partial => {
                llama3 = Some(Llama3RopeConfig {
                    factor: at("factor")? as f32,
                    low_freq_factor: at("low_freq_factor")? as f32,
                    high_freq_factor: at("high_freq_factor")? as f32,
                    original_max_position_embeddings: at("original_max_position_embeddings")? as usize,
                    rope_type: Llama3RopeType::Llama3,
                });
            }
            _ => {
                let rope = Value::Object(rope.clone());
                return Err(format!("{place} is {rope}, wanted none, or that of Llama 3 in a llama"));
            }
        }
    }
    Ok((theta, llama3))
}
