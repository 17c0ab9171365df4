//! The decoder composed of differentiable candle ops, for any device; on the CPU the reference that
//! [`super::fused`] is held against.
//!
//! Before and after: see [`super::policy`]. The layer loop is here and not in autograd: the forward keeps each layer's
//! input, the backward recomputes a layer at a time, so that memory holds one layer's intermediate values.

mod body;

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor, Var};
use rayon::prelude::*;

use super::cache::TensorRow;
use super::layers::{self, Grid, Layer, Rope, Sizes};
use super::policy::{EMBEDDING, HEAD, NORM, PassEnd};
use super::{ModelConfig, ModelError, Sequences, head};

/// What a forward pass keeps for its backward: each layer's input.
pub(super) struct ComposedTrace {
    tokens: Tensor,
    grid: Grid,
    rope: Rope,
    /// Inputs of the layers, then of the final norm, all `(tokens, hidden)`.
    inputs: Vec<Tensor>,
}

/// Weights as variables, f32, each under its name in the checkpoint.
pub(super) struct Composed {
    config: ModelConfig,
    device: Device,
    weights: BTreeMap<String, Var>,
}

impl Composed {
    /// Tensors that have the configuration's names and shapes.
    pub(super) fn new(
        config: ModelConfig,
        tensors: BTreeMap<String, Tensor>,
        device: &Device,
    ) -> Result<Self> {
        let weights = tensors
            .into_iter()
            .map(|(name, tensor)| Ok((name, Var::from_tensor(&tensor.to_device(device)?)?)))
            .collect::<Result<_>>()?;
        Ok(Self { config, device: device.clone(), weights })
    }

    pub(super) fn weights(&self) -> &BTreeMap<String, Var> {
        &self.weights
    }

    /// What a pass over new tokens ends with, `(new tokens of all rows, hidden)`, row by row. Keys and values are added
    /// to the rows. A row's result depends on that row alone, to the bit.
    ///
    /// # Errors
    /// If a row has no room for its tokens, or a token is outside the vocabulary.
    pub(super) fn extend(
        &self,
        rows: &mut [(&mut TensorRow, &[u32])],
        end: PassEnd,
    ) -> std::result::Result<Tensor, ModelError> {
        let (mut tokens, mut positions, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for (row, new) in rows.iter() {
            starts.push(tokens.len());
            positions.extend(row.length as u32..(row.length + new.len()) as u32);
            tokens.extend_from_slice(new);
        }
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
            let attended = Tensor::cat(&attended, 0)?;
            x = match end {
                PassEnd::MlpInput if index + 1 == self.config.num_hidden_layers => {
                    layer.mlp_input(&x, &attended, &sizes)?
                }
                _ => layer.finish(&x, &attended, &sizes)?,
            };
        }
        for (row, new) in rows.iter_mut() {
            row.length += new.len();
        }
        Ok(match end {
            PassEnd::Hidden => layers::rms_norm(&x, self.weights[NORM].as_tensor(), sizes.eps)?.detach(),
            PassEnd::MlpInput => x.detach(),
        })
    }

    /// Logits of the next token, f32. Shapes `(rows, hidden)` → `(rows, vocab)`.
    ///
    /// # Errors
    /// If the shapes differ.
    pub(super) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        layers::linear(hidden, &self.head(), None)
    }

    /// Final hidden states of whole sequences, `(tokens, hidden)`; nothing is kept for a backward.
    ///
    /// # Errors
    /// If a token is outside the vocabulary.
    pub(super) fn hidden(&self, sequences: &Sequences) -> std::result::Result<Tensor, ModelError> {
        self.forward(sequences, |_| ()).map(|(_, _, _, hidden)| hidden)
    }

    /// The same, with what [`Self::backward`] needs.
    ///
    /// # Errors
    /// If a token is outside the vocabulary.
    pub(super) fn trace(
        &self,
        sequences: &Sequences,
    ) -> std::result::Result<(ComposedTrace, Tensor), ModelError> {
        let mut inputs = Vec::with_capacity(self.config.num_hidden_layers + 1);
        let (tokens, grid, rope, hidden) = self.forward(sequences, |x| inputs.push(x.clone()))?;
        Ok((ComposedTrace { tokens, grid, rope, inputs }, hidden))
    }

    /// ln π(target), the entropy, both in nats, and Σ p² at each position, `(tokens,)`, from final hidden states
    /// `(tokens, hidden)` and `targets` `(tokens,)` u32; logits are divided by `temperature` first. No gradient is
    /// recorded.
    ///
    /// # Errors
    /// If the shapes differ.
    pub(super) fn log_probs(
        &self,
        hidden: &Tensor,
        targets: &Tensor,
        temperature: f64,
    ) -> Result<[Tensor; 3]> {
        head::log_probs(hidden, &self.head(), targets, temperature)
    }

    /// Backward of [`Self::log_probs`]: takes ∂L/∂log π `(tokens,)`, gives ∂L/∂hidden `(tokens, hidden)` and adds the
    /// head's gradient to `grads`.
    ///
    /// # Errors
    /// If the shapes differ.
    pub(super) fn log_probs_backward(
        &self,
        hidden: &Tensor,
        targets: &Tensor,
        temperature: f64,
        (d_log_probs, d_entropy): (&Tensor, Option<&Tensor>),
        grads: &mut BTreeMap<String, Tensor>,
    ) -> Result<Tensor> {
        let (d_hidden, d_head) =
            head::log_probs_backward(hidden, &self.head(), targets, temperature, d_log_probs, d_entropy)?;
        let name = if self.config.tie_word_embeddings { EMBEDDING } else { HEAD };
        add(grads, name, d_head)?;
        Ok(d_hidden)
    }

    /// Backward of [`Self::trace`]: takes ∂L/∂hidden `(tokens, hidden)` and adds the gradient of every parameter but
    /// an untied head to `grads`. Each layer is computed once more, then forgotten.
    ///
    /// # Errors
    /// If the shapes differ.
    pub(super) fn backward(
        &self,
        trace: ComposedTrace,
        d_hidden: &Tensor,
        grads: &mut BTreeMap<String, Tensor>,
    ) -> Result<()> {
        let ComposedTrace { tokens, grid, rope, mut inputs } = trace;
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
        let sizes = self.sizes();
        let tokens = Tensor::new(sequences.tokens(), &self.device)?;
        let grid = Grid::new(sequences.lengths(), &self.device)?;
        let rope = self.rope(sequences.positions())?;
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
