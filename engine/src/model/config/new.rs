//! A model that starts from random weights, described by settings instead of a checkpoint.
//!
//! Before: `[model]` of a recipe. After: a [`ModelConfig`] like one that was read.

use super::{Family, ModelConfig, Result, invalid};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Settings for a Qwen3 model that starts from random weights; `[model]` of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewModel {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the embedding; by default as many as the tokenizer has ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
    /// Longest sequence, in tokens.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: usize,
    /// Base of the rotary frequencies.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// Added to the mean square in every RMS norm.
    #[serde(default = "default_eps")]
    pub rms_norm_eps: f64,
    /// Whether the output head is the embedding.
    #[serde(default = "default_tied")]
    pub tie_word_embeddings: bool,
}

// The values of Qwen3-0.6B.
fn default_positions() -> usize {
    40960
}
fn default_theta() -> f64 {
    1e6
}
fn default_eps() -> f64 {
    1e-6
}
fn default_tied() -> bool {
    true
}

impl NewModel {
    /// The configuration of a new Qwen3 model for a tokenizer with ids below `tokenizer_vocab`.
    ///
    /// # Errors
    /// If a size is zero, the sizes do not fit each other, or `vocab_size` is less than `tokenizer_vocab`.
    pub fn config(
        &self,
        tokenizer_vocab: usize,
        eos_token_ids: Vec<u32>,
        pad_token_id: Option<u32>,
    ) -> Result<ModelConfig> {
        let vocab_size = self.vocab_size.unwrap_or(tokenizer_vocab);
        if vocab_size < tokenizer_vocab {
            return Err(invalid(
                "vocab_size",
                vocab_size,
                format!("the tokenizer has {tokenizer_vocab} ids"),
            ));
        }
        let mut config = ModelConfig {
            family: Family::Qwen3,
            vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            max_position_embeddings: self.max_position_embeddings,
            rope_theta: self.rope_theta,
            rms_norm_eps: self.rms_norm_eps,
            tie_word_embeddings: self.tie_word_embeddings,
            attention_bias: false,
            eos_token_ids,
            pad_token_id,
            json: Map::new(),
        };
        config.check()?;
        // The layout of published checkpoints, which old and new releases of transformers and vLLM read.
        let eos = match config.eos_token_ids.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            many => json!(many),
        };
        let json = json!({
            "architectures": [Family::Qwen3.architecture()],
            "model_type": Family::Qwen3.model_type(),
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": null,
            "eos_token_id": eos,
            "pad_token_id": config.pad_token_id,
            "hidden_act": "silu",
            "initializer_range": 0.02,
            "max_window_layers": config.num_hidden_layers,
            "rope_scaling": null,
            "sliding_window": null,
            "use_sliding_window": false,
            "use_cache": true,
            "torch_dtype": null,
            "dtype": null,
        });
        if let Value::Object(object) = json {
            config.json = object;
        }
        Ok(config)
    }
}
