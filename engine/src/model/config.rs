//! The shape of a model: `config.json` in Hugging Face layout, read, checked and written.
//!
//! Before: a checkpoint's `config.json` and `generation_config.json`, or `[model]` of a recipe. After:
//! [`super::weights`] compares every tensor with [`ModelConfig::parameters`], and the policy is built to it.

mod fields;
mod new;

pub use new::NewModel;

use super::error::{ModelError, Result};
use super::tokenizer::Tokenizer;
use super::weights::WeightDtype;
use fields::{DEFAULT_HEAD, DEFAULT_POSITIONS, Fields, family, parse, refuse_unsupported, token_ids};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Which decoder it is. They share everything but biases and norms in the attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Qwen2 and Qwen2.5: biases on q, k and v.
    Qwen2,
    /// Qwen3: an RMS norm over each head of q and k.
    Qwen3,
}

impl Family {
    /// `model_type` in config.json.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
        }
    }

    /// The one entry of `architectures` in config.json.
    pub fn architecture(self) -> &'static str {
        match self {
            Family::Qwen2 => "Qwen2ForCausalLM",
            Family::Qwen3 => "Qwen3ForCausalLM",
        }
    }
}

/// A checked model configuration. Fields have their Hugging Face names; sizes are counts, never zero.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Which decoder.
    pub family: Family,
    /// Rows of the embedding: at least the tokenizer's ids, often padded.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head, even; need not be `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Longest sequence the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Added to the mean square in every RMS norm.
    pub rms_norm_eps: f64,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// As in config.json; false where it is absent. See [`Self::qkv_bias`] for what the layers do.
    pub attention_bias: bool,
    /// Tokens that end a completion: those of generation_config.json, or else of config.json, as in transformers.
    pub eos_token_ids: Vec<u32>,
    /// Padding token, if one is named.
    pub pad_token_id: Option<u32>,
    /// config.json as it was read, so that writing it back loses nothing.
    json: Map<String, Value>,
}

impl ModelConfig {
    /// Reads `config.json` of a checkpoint folder, and the end tokens of `generation_config.json` if it is there.
    ///
    /// # Errors
    /// If a file cannot be read, or as [`Self::from_json`].
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let config = std::fs::read_to_string(&path).map_err(ModelError::io("read", &path))?;
        let path = dir.join("generation_config.json");
        let generation = match std::fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(ModelError::io("read", path)(error)),
        };
        Self::from_json_with_generation(&config, generation.as_deref())
    }

    /// Reads the text of a `config.json`: the layout of published checkpoints (`rope_theta`, `torch_dtype`) and
    /// the one that transformers 5 writes (`rope_parameters`, `dtype`).
    ///
    /// # Errors
    /// If it is not JSON, is of another family, lacks a field, has a size that cannot be, or asks for something
    /// that is not implemented here (a sliding window, RoPE scaling, another activation, quantised weights).
    pub fn from_json(text: &str) -> Result<Self> {
        Self::from_json_with_generation(text, None)
    }

    /// [`Self::from_json`] with the text of `generation_config.json`, whose end tokens go before those of config.json.
    ///
    /// # Errors
    /// As [`Self::from_json`], of either file.
    pub fn from_json_with_generation(config: &str, generation: Option<&str>) -> Result<Self> {
        let json = parse("config.json", config)?;
        let generation = generation.map(|text| parse("generation_config.json", text)).transpose()?;
        let family = family(&json)?;
        refuse_unsupported(&json)?;

        let fields = Fields { json: &json, family };
        let hidden_size = fields.size("hidden_size", most("hidden_size"))?;
        let num_attention_heads = fields.size("num_attention_heads", most("num_attention_heads"))?;
        let head_dim = match json.get("head_dim") {
            None if family == Family::Qwen3 => DEFAULT_HEAD,
            None | Some(Value::Null) => {
                if !hidden_size.is_multiple_of(num_attention_heads) {
                    let wanted = format!(
                        "without `head_dim` it must be a multiple of `num_attention_heads` {num_attention_heads}"
                    );
                    return Err(invalid("hidden_size", hidden_size, wanted));
                }
                hidden_size / num_attention_heads
            }
            Some(_) => fields.size("head_dim", most("head_dim"))?,
        };
        let num_key_value_heads = match json.get("num_key_value_heads") {
            Some(Value::Null) => num_attention_heads,
            _ => fields.size("num_key_value_heads", most("num_key_value_heads"))?,
        };

        let ids = |field| {
            let own = match &generation {
                Some(generation) => token_ids("generation_config.json", generation, field)?,
                None => Vec::new(),
            };
            let other = token_ids("config.json", &json, field)?;
            Ok::<_, ModelError>(if own.is_empty() { other } else { own })
        };
        let (mut eos_token_ids, pad) = (ids("eos_token_id")?, ids("pad_token_id")?);
        let mut seen = Vec::with_capacity(eos_token_ids.len());
        eos_token_ids.retain(|id| {
            !seen.contains(id) && {
                seen.push(*id);
                true
            }
        });

        let config = Self {
            family,
            vocab_size: fields.size("vocab_size", most("vocab_size"))?,
            hidden_size,
            intermediate_size: fields.size("intermediate_size", most("intermediate_size"))?,
            num_hidden_layers: fields.size("num_hidden_layers", most("num_hidden_layers"))?,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            max_position_embeddings: fields.size_or(
                "max_position_embeddings",
                most("max_position_embeddings"),
                DEFAULT_POSITIONS,
            )?,
            rope_theta: fields.rope_theta()?,
            rms_norm_eps: fields.number("rms_norm_eps")?,
            // transformers leaves these out where they are false.
            tie_word_embeddings: fields.flag("tie_word_embeddings")?,
            attention_bias: fields.flag("attention_bias")?,
            eos_token_ids,
            pad_token_id: pad.first().copied(),
            json,
        };
        config.check()?;
        Ok(config)
    }

    /// The tokens that end a completion, as transformers decides: those that the checkpoint's configuration names, or
    /// else the tokenizer's own end token.
    pub fn stop_tokens(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        match (self.eos_token_ids.as_slice(), tokenizer.eos()) {
            ([], own) => own.into_iter().collect(),
            (named, Some(own)) if !named.contains(&own) => {
                tracing::warn!(
                    "the tokenizer's end token {own} is not among those that end a completion, {named:?} by \
                     generation_config.json or config.json; as in transformers, it does not end one"
                );
                named.to_vec()
            }
            (named, _) => named.to_vec(),
        }
    }

    /// Whether q, k and v projections have a bias.
    pub fn qkv_bias(&self) -> bool {
        match self.family {
            Family::Qwen2 => true,
            Family::Qwen3 => self.attention_bias,
        }
    }

    /// Whether the attention's output projection has a bias.
    pub fn output_bias(&self) -> bool {
        self.family == Family::Qwen3 && self.attention_bias
    }

    /// Whether q and k pass an RMS norm over `head_dim`.
    pub fn qk_norm(&self) -> bool {
        self.family == Family::Qwen3
    }

    /// Width of all query heads together.
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn key_value_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Name and shape of every tensor under its Hugging Face name, in the order of the forward pass.
    /// Matrices are `(out, in)`. A tied head has no tensor of its own.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, mlp) = (self.hidden_size, self.intermediate_size);
        let (query, key_value) = (self.query_size(), self.key_value_size());
        let mut all = vec![("model.embed_tokens.weight".to_string(), vec![self.vocab_size, hidden])];
        for layer in 0..self.num_hidden_layers {
            let mut add = |name: &str, shape: &[usize]| {
                all.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
            };
            add("input_layernorm.weight", &[hidden]);
            for (name, width) in [("q_proj", query), ("k_proj", key_value), ("v_proj", key_value)] {
                add(&format!("self_attn.{name}.weight"), &[width, hidden]);
                if self.qkv_bias() {
                    add(&format!("self_attn.{name}.bias"), &[width]);
                }
            }
            if self.qk_norm() {
                add("self_attn.q_norm.weight", &[self.head_dim]);
                add("self_attn.k_norm.weight", &[self.head_dim]);
            }
            add("self_attn.o_proj.weight", &[hidden, query]);
            if self.output_bias() {
                add("self_attn.o_proj.bias", &[hidden]);
            }
            add("post_attention_layernorm.weight", &[hidden]);
            add("mlp.gate_proj.weight", &[mlp, hidden]);
            add("mlp.up_proj.weight", &[mlp, hidden]);
            add("mlp.down_proj.weight", &[hidden, mlp]);
        }
        all.push(("model.norm.weight".to_string(), vec![hidden]));
        if !self.tie_word_embeddings {
            all.push(("lm_head.weight".to_string(), vec![self.vocab_size, hidden]));
        }
        all
    }

    /// How many numbers the model holds; a tied head counts once.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// The text of a `config.json` for weights of type `dtype`. What was read is kept, unknown fields too.
    pub fn to_json(&self, dtype: WeightDtype) -> String {
        let mut json = self.json.clone();
        // A field is replaced only where it says something else, so that 1e-06 does not become 1e-6.
        let mut set = |name: &str, value: Value| {
            let same = json
                .get(name)
                .is_some_and(|old| *old == value || (value.is_number() && old.as_f64() == value.as_f64()));
            if !same {
                json.insert(name.to_string(), value);
            }
        };
        for (name, size) in self.sizes() {
            let implied =
                name == "head_dim" && self.family == Family::Qwen2 && self.query_size() == self.hidden_size;
            if !implied {
                set(name, json!(size));
            }
        }
        set("rms_norm_eps", json!(self.rms_norm_eps));
        set("tie_word_embeddings", json!(self.tie_word_embeddings));
        match json.get_mut("rope_parameters") {
            Some(Value::Object(rope)) => drop(rope.insert("rope_theta".to_string(), json!(self.rope_theta))),
            _ => drop(json.insert("rope_theta".to_string(), json!(self.rope_theta))),
        }

        let name = Value::from(dtype.torch_name());
        let old_name = json.contains_key("torch_dtype");
        if old_name {
            json.insert("torch_dtype".to_string(), name.clone());
        }
        if !old_name || json.contains_key("dtype") {
            json.insert("dtype".to_string(), name);
        }
        format!("{:#}\n", Value::Object(json))
    }

    /// The text of a `generation_config.json` that names the end and padding tokens.
    pub fn generation_json(&self) -> String {
        let mut json = Map::new();
        match self.eos_token_ids.as_slice() {
            [] => {}
            [one] => drop(json.insert("eos_token_id".to_string(), json!(one))),
            many => drop(json.insert("eos_token_id".to_string(), json!(many))),
        }
        if let Some(pad) = self.pad_token_id {
            json.insert("pad_token_id".to_string(), json!(pad));
        }
        format!("{:#}\n", Value::Object(json))
    }

    /// The counts, under their names in config.json.
    fn sizes(&self) -> [(&'static str, usize); 8] {
        [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ]
    }

    /// Whether the sizes fit each other.
    fn check(&self) -> Result<()> {
        for (field, size) in self.sizes() {
            let most = most(field);
            if !(1..=most).contains(&size) {
                return Err(invalid(field, size, format!("it must be a whole number from 1 to {most}")));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let wanted = format!("`num_key_value_heads` {} must divide it", self.num_key_value_heads);
            return Err(invalid("num_attention_heads", self.num_attention_heads, wanted));
        }
        if self.query_size() > most("hidden_size") {
            let wanted =
                format!("heads of {} would be wider than {} together", self.head_dim, most("hidden_size"));
            return Err(invalid("num_attention_heads", self.num_attention_heads, wanted));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(invalid("head_dim", self.head_dim, "rotary embeddings need an even number"));
        }
        // Beyond these, f32 turns one into 0 or infinity, and the numbers of the model into NaN.
        for (field, value, least, most) in
            [("rope_theta", self.rope_theta, 1e-3, 1e15), ("rms_norm_eps", self.rms_norm_eps, 1e-30, 1.0)]
        {
            if !(value >= least && value <= most) {
                return Err(invalid(field, value, format!("it must be a number from {least:e} to {most:e}")));
            }
        }
        for (field, id) in self
            .eos_token_ids
            .iter()
            .map(|id| ("eos_token_id", *id))
            .chain(self.pad_token_id.map(|id| ("pad_token_id", id)))
        {
            if id as usize >= self.vocab_size {
                return Err(invalid(field, id, format!("it must be below `vocab_size` {}", self.vocab_size)));
            }
        }
        Ok(())
    }
}

/// The largest size of a field. None of the published models comes near; and with them no product of sizes, such as the
/// bytes of all weights, exceeds 2⁶³.
fn most(field: &str) -> usize {
    match field {
        "num_hidden_layers" => 1 << 12,
        "num_attention_heads" | "num_key_value_heads" | "head_dim" => 1 << 14,
        "max_position_embeddings" => u32::MAX as usize,
        "vocab_size" => 1 << 24,
        _ => 1 << 20,
    }
}

fn invalid(field: &str, value: impl ToString, wanted: impl Into<String>) -> ModelError {
    ModelError::InvalidField { field: field.to_string(), value: value.to_string(), wanted: wanted.into() }
}
