//! The decoders of `candle_transformers`, with any head, on one sequence at a time.
//!
//! Before: [`super::folder`] read the tensors, [`super::text`] made tokens. After: the head's outputs behind the last
//! token.
//!
//! Only the causal variants show what they compute, and only behind `lm_head`. So that is where the head goes, whatever
//! its rows are: the words of a vocabulary, or the labels of a classifier.

use std::collections::HashMap;

use candle_core::{DType, Device, Error, Result, Shape as Dims, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Activation, Init, VarBuilder};
use candle_transformers::models::{llama, mistral, qwen2, qwen3};

use super::shape::{Family, Shape};

const HEAD: &str = "lm_head.weight";

/// A decoder and its cache of keys and values.
pub(super) struct Causal {
    model: Model,
    device: Device,
}

enum Model {
    Llama { model: Box<llama::Llama>, empty: Box<llama::Cache>, cache: Box<llama::Cache> },
    Mistral(Box<mistral::Model>),
    Qwen2(Box<qwen2::ModelForCausalLM>),
    Qwen3(Box<qwen3::ModelForCausalLM>),
}

/// `cpu`, or `cuda:0` and the like.
pub(super) fn device(name: &str) -> std::result::Result<Device, String> {
    let number = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        _ => {
            name.strip_prefix("cuda:").filter(|number| !number.starts_with('+')).and_then(|n| n.parse().ok())
        }
    };
    let number =
        number.ok_or_else(|| format!("device is {name:?}, wanted \"cpu\" or \"cuda:0\", \"cuda:1\" …"))?;
    Device::new_cuda(number).map_err(|error| format!("device {name:?} is not there: {error}"))
}

impl Causal {
    /// A model of checked tensors and a head `(outputs, hidden)`.
    pub(super) fn new(
        shape: &Shape,
        mut tensors: HashMap<String, Tensor>,
        head: Tensor,
        device: &Device,
    ) -> Result<Self> {
        tensors.insert(HEAD.to_owned(), head);
        let weights = VarBuilder::from_backend(Box::new(Weights(tensors)), DType::F32, device.clone());
        let model = match shape.family {
            Family::Llama => {
                let config = llama_config(shape);
                let empty = Box::new(llama::Cache::new(true, DType::F32, &config, device)?);
                let model = Box::new(llama::Llama::load(weights, &config)?);
                Model::Llama { model, cache: empty.clone(), empty }
            }
            Family::Mistral => {
                Model::Mistral(Box::new(mistral::Model::new(&mistral_config(shape), weights)?))
            }
            Family::Qwen2 => {
                Model::Qwen2(Box::new(qwen2::ModelForCausalLM::new(&qwen2_config(shape), weights)?))
            }
            Family::Qwen3 => {
                Model::Qwen3(Box::new(qwen3::ModelForCausalLM::new(&qwen3_config(shape), weights)?))
            }
        };
        Ok(Self { model, device: device.clone() })
    }

    /// Forgets the sequence that was read before, however that ended.
    pub(super) fn clear(&mut self) {
        match &mut self.model {
            Model::Llama { empty, cache, .. } => *cache = empty.clone(),
            Model::Mistral(model) => model.clear_kv_cache(),
            Model::Qwen2(model) => model.clear_kv_cache(),
            Model::Qwen3(model) => model.clear_kv_cache(),
        }
    }

    /// The head's outputs behind the last of these tokens, the first of which has place `at` in the sequence. Shape
    /// `(outputs,)`.
    pub(super) fn read(&mut self, tokens: &[u32], at: usize) -> Result<Vec<f32>> {
        let tokens = Tensor::new(tokens, &self.device)?.unsqueeze(0)?;
        let outputs = match &mut self.model {
            Model::Llama { model, cache, .. } => model.forward(&tokens, at, cache)?,
            Model::Mistral(model) => model.forward(&tokens, at)?,
            Model::Qwen2(model) => model.forward(&tokens, at)?,
            Model::Qwen3(model) => model.forward(&tokens, at)?,
        };
        outputs.flatten_all()?.to_vec1()
    }
}

/// Tensors by their names, with the shapes that they have: those of the model were compared, and the head is what it is.
struct Weights(HashMap<String, Tensor>);

impl SimpleBackend for Weights {
    fn get(&self, _: Dims, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        self.get_unchecked(name, dtype, device)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let tensor = self.0.get(name).ok_or_else(|| Error::CannotFindTensor { path: name.to_owned() })?;
        tensor.to_device(device)?.to_dtype(dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

fn llama_config(shape: &Shape) -> llama::Config {
    llama::Config {
        hidden_size: shape.hidden,
        intermediate_size: shape.mlp,
        vocab_size: shape.vocab,
        num_hidden_layers: shape.layers,
        num_attention_heads: shape.heads,
        num_key_value_heads: shape.kv_heads,
        use_flash_attn: false,
        rms_norm_eps: shape.eps,
        rope_theta: shape.theta as f32,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: shape.llama3.clone(),
        max_position_embeddings: shape.context,
        tie_word_embeddings: false,
    }
}

fn mistral_config(shape: &Shape) -> mistral::Config {
    mistral::Config {
        vocab_size: shape.vocab,
        hidden_size: shape.hidden,
        intermediate_size: shape.mlp,
        num_hidden_layers: shape.layers,
        num_attention_heads: shape.heads,
        head_dim: Some(shape.head_dim),
        num_key_value_heads: shape.kv_heads,
        hidden_act: Activation::Silu,
        max_position_embeddings: shape.context,
        rms_norm_eps: shape.eps,
        rope_theta: shape.theta,
        sliding_window: None,
        use_flash_attn: false,
    }
}

fn qwen2_config(shape: &Shape) -> qwen2::Config {
    qwen2::Config {
        vocab_size: shape.vocab,
        hidden_size: shape.hidden,
        intermediate_size: shape.mlp,
        num_hidden_layers: shape.layers,
        num_attention_heads: shape.heads,
        num_key_value_heads: shape.kv_heads,
        max_position_embeddings: shape.context,
        sliding_window: shape.context, // which candle heeds whether it is used or not
        max_window_layers: shape.layers,
        tie_word_embeddings: false,
        rope_theta: shape.theta,
        rms_norm_eps: shape.eps,
        use_sliding_window: false,
        hidden_act: Activation::Silu,
    }
}

fn qwen3_config(shape: &Shape) -> qwen3::Config {
    qwen3::Config {
        vocab_size: shape.vocab,
        hidden_size: shape.hidden,
        intermediate_size: shape.mlp,
        num_hidden_layers: shape.layers,
        num_attention_heads: shape.heads,
        head_dim: shape.head_dim,
        attention_bias: shape.bias,
        num_key_value_heads: shape.kv_heads,
        max_position_embeddings: shape.context,
        sliding_window: None,
        max_window_layers: shape.layers,
        tie_word_embeddings: false,
        rope_theta: shape.theta,
        rms_norm_eps: shape.eps,
        use_sliding_window: false,
        hidden_act: Activation::Silu,
    }
}
