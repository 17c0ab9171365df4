//! Models to measure: shapes of real ones with arbitrary weights, and checkpoints.

use anyhow::Result;
use candle_core::Device;
use engine::Tensors;
use engine::model::ModelConfig;
use serde_json::json;

use crate::builtin;
use crate::timing::arbitrary_weights;

/// Sizes without weights, by name: family, vocabulary, hidden, intermediate, layers, heads, key heads, head width.
pub(super) const SHAPES: [(&str, &str, [usize; 7]); 4] = [
    ("qwen2.5-0.5b", "qwen2", [151_936, 896, 4864, 24, 14, 2, 64]),
    ("qwen3-0.6b", "qwen3", [151_936, 1024, 3072, 28, 16, 8, 128]),
    ("512x8", "qwen3", [4096, 512, 1536, 8, 8, 4, 64]),
    ("256x6", "qwen3", [2048, 256, 768, 6, 4, 2, 64]),
];

/// True of a shape that is built in, and of what may be a checkpoint.
pub(super) fn known(name: &str) -> bool {
    SHAPES.iter().any(|(known, ..)| *known == name)
        || name == "tiny"
        || std::path::Path::new(name).is_dir()
        || name.contains('/')
}

/// A model to measure: a built-in shape with arbitrary weights, or a checkpoint.
pub(super) fn model(name: &str) -> Result<(ModelConfig, Tensors)> {
    let Some((_, family, [vocab, hidden, intermediate, layers, heads, kv_heads, head_dim])) =
        SHAPES.iter().find(|(known, ..)| *known == name)
    else {
        let checkpoint = builtin::checkpoint(name, None)?;
        return Ok((checkpoint.config()?, checkpoint.weights(&Device::Cpu)?));
    };
    let architecture = if *family == "qwen2" { "Qwen2ForCausalLM" } else { "Qwen3ForCausalLM" };
    let config = json!({
        "model_type": family, "architectures": [architecture], "vocab_size": vocab, "hidden_size": hidden,
        "intermediate_size": intermediate, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": head_dim, "max_position_embeddings": 32_768,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": true, "hidden_act": "silu",
        "torch_dtype": "float32", "eos_token_id": 1,
    });
    let config = ModelConfig::from_json(&config.to_string())?;
    let weights = arbitrary_weights(&config)?;
    Ok((config, weights))
}
