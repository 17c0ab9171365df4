//! The decoder: one struct for Qwen2, Qwen2.5 and Qwen3, for sampling and for training.
//!
//! Before: a checkpoint's tensors. After: [`Policy::extend`] serves the sampler, [`Policy::log_probs`] and
//! [`Policy::trace`] with [`Policy::backward`] serve the trainer. All read the same weights, f32. The layer loop is
//! here and not in autograd: the forward keeps each layer's input, the backward recomputes a layer at a time, so
//! that memory holds one layer's intermediate values.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor, Var};
use rand::{Rng, RngExt};
use rayon::prelude::*;

use super::layers::{self, Grid, Layer, Rope, Sizes};
use super::{KvRow, ModelConfig, ModelError, head};

const EMBEDDING: &str = "model.embed_tokens.weight";
const NORM: &str = "model.norm.weight";
const HEAD: &str = "lm_head.weight";

/// Token ids of several rows, end to end and without padding.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sequences {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    lengths: Vec<usize>,
}

impl Sequences {
    /// Adds a row at positions 0, 1, 2 …
    pub fn push(&mut self, tokens: &[u32]) {
        self.push_at(tokens, 0..tokens.len() as u32);
    }

    /// Adds a row at positions of the caller's choice, one for each token; attention stays causal in row order.
    ///
    /// # Panics
    /// If there are not as many positions as tokens.
    pub fn push_at(&mut self, tokens: &[u32], positions: impl IntoIterator<Item = u32>) {
        self.tokens.extend_from_slice(tokens);
        self.positions.extend(positions);
        self.lengths.push(tokens.len());
        assert_eq!(self.tokens.len(), self.positions.len(), "a row needs one position a token");
    }

    /// Tokens of all rows.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens of each row.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }
}

/// What a forward pass keeps for its backward: each layer's input.
pub struct Trace {
    tokens: Tensor,
    grid: Grid,
    rope: Rope,
    /// Inputs of the layers, then of the final norm, all `(tokens, hidden)`.
    inputs: Vec<Tensor>,
}

/// A language model whose weights can be trained: f32, each under its name in the checkpoint.
pub struct Policy {
    config: ModelConfig,
    device: Device,
    weights: BTreeMap<String, Var>,
}

impl Policy {
    /// A policy with these weights, which must be the very ones that the configuration asks for.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape (names it and both shapes).
    pub fn new(
        config: ModelConfig,
        mut tensors: BTreeMap<String, Tensor>,
        device: &Device,
    ) -> std::result::Result<Self, ModelError> {
        let mut weights = BTreeMap::new();
        for (name, shape) in config.parameters() {
            let place = || "the weights in memory".to_owned();
            let Some(tensor) = tensors.remove(&name) else {
                return Err(ModelError::MissingTensor { name, place: place(), expected: shape });
            };
            if tensor.dims() != shape {
                let found = tensor.dims().to_vec();
                return Err(ModelError::Shape { name, place: place(), found, expected: shape });
            }
            weights.insert(name, Var::from_tensor(&tensor)?);
        }
        Ok(Self { config, device: device.clone(), weights })
    }

    /// A policy with random weights: matrices from N(0, 0.02²), norms 1, biases 0.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn random(
        config: ModelConfig,
        rng: &mut impl Rng,
        device: &Device,
    ) -> std::result::Result<Self, ModelError> {
        let mut tensors = BTreeMap::new();
        for (name, shape) in config.parameters() {
            let count = shape.iter().product();
            let values: Vec<f32> = if name.ends_with("norm.weight") {
                vec![1.0; count]
            } else if name.ends_with(".bias") {
                vec![0.0; count]
            } else {
                (0..count).map(|_| 0.02 * normal(rng)).collect()
            };
            tensors.insert(name, Tensor::from_vec(values, shape, device)?);
        }
        Self::new(config, tensors, device)
    }

    /// The same weights once more, apart from these: a frozen reference.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn copy(&self) -> Result<Self> {
        let weights = self
            .weights
            .iter()
            .map(|(name, var)| Ok((name.clone(), Var::from_tensor(&var.as_detached_tensor())?)))
            .collect::<Result<_>>()?;
        Ok(Self { config: self.config.clone(), device: self.device.clone(), weights })
    }

    /// Its shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where its weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Every weight under its name in the checkpoint, f32. Setting one changes the policy.
    pub fn weights(&self) -> &BTreeMap<String, Var> {
        &self.weights
    }

    /// The weights as tensors without gradient, for saving.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.weights.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect()
    }

    /// Final hidden states of new tokens, `(new tokens of all rows, hidden)`, row by row. Keys and values are added
    /// to the rows. A row's result depends on that row alone, to the bit.
    ///
    /// # Errors
    /// If a row has no room for its tokens, or a token is outside the vocabulary.
    pub fn extend(&self, rows: &mut [(&mut KvRow, &[u32])]) -> std::result::Result<Tensor, ModelError> {
        let (mut tokens, mut positions, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for (row, new) in rows.iter() {
            let wanted = row.len() + new.len();
            if wanted > row.capacity() {
                return Err(ModelError::CacheFull { capacity: row.capacity(), wanted });
            }
            starts.push(tokens.len());
            positions.extend(row.len() as u32..wanted as u32);
            tokens.extend_from_slice(new);
        }
        self.check(&tokens)?;
        let sizes = self.sizes();
        let rope = self.rope(&positions)?;
        let mut x = self.embed(&Tensor::new(tokens, &self.device)?, false)?;
        for index in 0..self.config.num_hidden_layers {
            let layer = self.layer(index, false);
            let (q, k, v) = layer.query_key_value(&x, &rope, &sizes)?;
            let attended = rows
                .par_iter_mut()
                .zip(&starts)
                .map(|((row, new), start)| {
                    let part = |x: &Tensor| x.narrow(0, *start, new.len());
                    row.write(index, &part(&k)?, &part(&v)?)?;
                    let (keys, values) = row.upto(index, row.length + new.len())?;
                    layers::cached_attention(&part(&q)?, &keys, &values, &sizes)
                })
                .collect::<Result<Vec<_>>>()?;
            x = layer.finish(&x, &Tensor::cat(&attended, 0)?, &sizes)?;
        }
        for (row, new) in rows.iter_mut() {
            row.length += new.len();
        }
        Ok(layers::rms_norm(&x, self.weights[NORM].as_tensor(), sizes.eps)?.detach())
    }

    /// Logits of the next token, f32. Shapes `(rows, hidden)` → `(rows, vocab)`.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        layers::linear(hidden, &self.head(), None)
    }

    /// Final hidden states of whole sequences, `(tokens, hidden)`; nothing is kept for a backward.
    ///
    /// # Errors
    /// If a token is outside the vocabulary.
    pub fn hidden(&self, sequences: &Sequences) -> std::result::Result<Tensor, ModelError> {
        self.forward(sequences, |_| ()).map(|(_, _, _, hidden)| hidden)
    }

    /// The same, with what [`Self::backward`] needs.
    ///
    /// # Errors
    /// If a token is outside the vocabulary.
    pub fn trace(&self, sequences: &Sequences) -> std::result::Result<(Trace, Tensor), ModelError> {
        let mut inputs = Vec::with_capacity(self.config.num_hidden_layers + 1);
        let (tokens, grid, rope, hidden) = self.forward(sequences, |x| inputs.push(x.clone()))?;
        Ok((Trace { tokens, grid, rope, inputs }, hidden))
    }

    /// ln π(target) and the entropy at each position, in nats, `(tokens,)` both, from final hidden states
    /// `(tokens, hidden)` and `targets` `(tokens,)` u32; logits are divided by `temperature` first. No gradient is
    /// recorded.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn log_probs(&self, hidden: &Tensor, targets: &Tensor, temperature: f64) -> Result<(Tensor, Tensor)> {
        head::log_probs(hidden, &self.head(), targets, temperature)
    }

    /// Backward of [`Self::log_probs`]: takes ∂L/∂log π `(tokens,)`, gives ∂L/∂hidden `(tokens, hidden)` and adds the
    /// head's gradient to `grads`.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn log_probs_backward(
        &self,
        hidden: &Tensor,
        targets: &Tensor,
        temperature: f64,
        d_log_probs: &Tensor,
        grads: &mut BTreeMap<String, Tensor>,
    ) -> Result<Tensor> {
        let (d_hidden, d_head) =
            head::log_probs_backward(hidden, &self.head(), targets, temperature, d_log_probs)?;
        let name = if self.config.tie_word_embeddings { EMBEDDING } else { HEAD };
        add(grads, name, d_head)?;
        Ok(d_hidden)
    }

    /// Backward of [`Self::trace`]: takes ∂L/∂hidden `(tokens, hidden)` and adds the gradient of every parameter but
    /// an untied head to `grads`. Each layer is computed once more, then forgotten.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn backward(
        &self,
        trace: Trace,
        d_hidden: &Tensor,
        grads: &mut BTreeMap<String, Tensor>,
    ) -> Result<()> {
        let Trace { tokens, grid, rope, mut inputs } = trace;
        let sizes = self.sizes();
        let last = inputs.pop().expect("a trace ends with the input of the final norm");
        let mut d_output = self.pull(&last, d_hidden, grads, |x| {
            layers::rms_norm(x, self.weights[NORM].as_tensor(), sizes.eps)
        })?;
        for index in (0..self.config.num_hidden_layers).rev() {
            let input = inputs.pop().expect("a trace holds one input a layer");
            let layer = self.layer(index, true);
            d_output =
                self.pull(&input, &d_output, grads, |x| forward_layer(&layer, x, &grid, &rope, &sizes))?;
        }
        let embedding = match grads.remove(EMBEDDING) {
            Some(grad) => grad,
            None => self.weights[EMBEDDING].zeros_like()?.detach(),
        };
        grads.insert(EMBEDDING.into(), embedding.index_add(&tokens, &d_output.contiguous()?, 0)?);
        Ok(())
    }

    /// ∂L/∂x of `y = f(x)` from ∂L/∂y; gradients of the weights that `f` uses go to `grads`.
    fn pull(
        &self,
        x: &Tensor,
        d_output: &Tensor,
        grads: &mut BTreeMap<String, Tensor>,
        f: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let x = Var::from_tensor(x)?;
        let store = (f(x.as_tensor())? * d_output.detach())?.sum_all()?.backward()?;
        for (name, var) in &self.weights {
            if let Some(grad) = store.get(var) {
                add(grads, name, grad.detach())?;
            }
        }
        Ok(store.get(&x).expect("every layer uses its input").detach())
    }

    fn forward(
        &self,
        sequences: &Sequences,
        mut keep: impl FnMut(&Tensor),
    ) -> std::result::Result<(Tensor, Grid, Rope, Tensor), ModelError> {
        self.check(&sequences.tokens)?;
        let sizes = self.sizes();
        let tokens = Tensor::new(sequences.tokens.as_slice(), &self.device)?;
        let grid = Grid::new(&sequences.lengths, &self.device)?;
        let rope = self.rope(&sequences.positions)?;
        let mut x = self.embed(&tokens, false)?;
        for index in 0..self.config.num_hidden_layers {
            keep(&x);
            x = forward_layer(&self.layer(index, false), &x, &grid, &rope, &sizes)?;
        }
        keep(&x);
        let norm = self.weights[NORM].as_detached_tensor();
        Ok((tokens, grid, rope, layers::rms_norm(&x, &norm, sizes.eps)?))
    }

    fn embed(&self, tokens: &Tensor, tracked: bool) -> Result<Tensor> {
        self.weight(EMBEDDING, tracked).index_select(tokens, 0)
    }

    fn head(&self) -> Tensor {
        self.weight(if self.config.tie_word_embeddings { EMBEDDING } else { HEAD }, false)
    }

    fn weight(&self, name: &str, tracked: bool) -> Tensor {
        let var = &self.weights[name];
        if tracked { var.as_tensor().clone() } else { var.as_detached_tensor() }
    }

    fn layer(&self, index: usize, tracked: bool) -> Layer {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let get = |part: &str| self.weight(&name(part), tracked);
        let maybe = |part: &str| self.weights.contains_key(&name(part)).then(|| get(part));
        Layer {
            input_norm: get("input_layernorm.weight"),
            query: get("self_attn.q_proj.weight"),
            query_bias: maybe("self_attn.q_proj.bias"),
            query_norm: maybe("self_attn.q_norm.weight"),
            key: get("self_attn.k_proj.weight"),
            key_bias: maybe("self_attn.k_proj.bias"),
            key_norm: maybe("self_attn.k_norm.weight"),
            value: get("self_attn.v_proj.weight"),
            value_bias: maybe("self_attn.v_proj.bias"),
            output: get("self_attn.o_proj.weight"),
            output_bias: maybe("self_attn.o_proj.bias"),
            post_norm: get("post_attention_layernorm.weight"),
            gate: get("mlp.gate_proj.weight"),
            up: get("mlp.up_proj.weight"),
            down: get("mlp.down_proj.weight"),
        }
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            heads: self.config.num_attention_heads,
            kv_heads: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
            eps: self.config.rms_norm_eps,
        }
    }

    fn rope(&self, positions: &[u32]) -> Result<Rope> {
        let c = &self.config;
        Rope::new(
            positions,
            c.rope_theta,
            c.head_dim,
            c.num_attention_heads,
            c.num_key_value_heads,
            &self.device,
        )
    }

    fn check(&self, tokens: &[u32]) -> std::result::Result<(), ModelError> {
        match tokens.iter().find(|token| **token as usize >= self.config.vocab_size) {
            Some(token) => {
                Err(ModelError::TokenOutside { token: *token, vocab_size: self.config.vocab_size })
            }
            None => Ok(()),
        }
    }
}

fn forward_layer(layer: &Layer, x: &Tensor, grid: &Grid, rope: &Rope, sizes: &Sizes) -> Result<Tensor> {
    let (q, k, v) = layer.query_key_value(x, rope, sizes)?;
    layer.finish(x, &grid.attention(&q, &k, &v, sizes)?, sizes)
}

fn add(grads: &mut BTreeMap<String, Tensor>, name: &str, grad: Tensor) -> Result<()> {
    let sum = match grads.remove(name) {
        Some(sum) => (sum + grad)?,
        None => grad,
    };
    grads.insert(name.into(), sum);
    Ok(())
}

/// One draw from N(0, 1) by Box and Muller.
fn normal(rng: &mut impl Rng) -> f32 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    ((-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}
