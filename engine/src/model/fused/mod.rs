//! The decoder on the CPU, by own kernels, with a backward that is written out.
//!
//! Before and after: see [`super::policy`]. Tokens of all rows lie end to end in one axis without padding. A layer is the
//! same code for new tokens behind cached ones and for whole sequences; only the keys that attention looks at lie
//! elsewhere. So the sampler and the trainer get the same bits. Weights are one line of f32, with a copy in panels for
//! products; gradients are added straight into a line of the same layout.

mod backward;
mod body;
mod extend;
mod head;
mod rows;

pub use rows::RowGrads;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Tensor;

use super::cache::{SlabRow, Spare};
use super::error::{ModelError, Result};
use super::flat::{Flat, FlatLayout};
use super::policy::{EMBEDDING, HEAD, NORM, Recompute};
use super::{ModelConfig, Sequences};
use crate::kernels::attention::{HeadLayout, Keys, KvLayout, Segment, attend};
use crate::kernels::{
    Buffer, Heads, Kernel, Packed, Start, View, health, product, rms_norm, rotate, swiglu, trim_heap,
};

/// Names of a layer's parameters.
struct Names {
    input_norm: String,
    query: [String; 2],
    query_norm: String,
    key: [String; 2],
    key_norm: String,
    value: [String; 2],
    output: [String; 2],
    post_norm: String,
    gate: String,
    up: String,
    down: String,
}

impl Names {
    fn new(layer: usize) -> Self {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let both =
            |part: &str| [name(&format!("self_attn.{part}.weight")), name(&format!("self_attn.{part}.bias"))];
        Self {
            input_norm: name("input_layernorm.weight"),
            query: both("q_proj"),
            query_norm: name("self_attn.q_norm.weight"),
            key: both("k_proj"),
            key_norm: name("self_attn.k_norm.weight"),
            value: both("v_proj"),
            output: both("o_proj"),
            post_norm: name("post_attention_layernorm.weight"),
            gate: name("mlp.gate_proj.weight"),
            up: name("mlp.up_proj.weight"),
            down: name("mlp.down_proj.weight"),
        }
    }
}

/// A layer's weights in panels.
#[derive(Clone)]
struct Panels {
    query_key_value: Packed,
    bias: Option<Vec<f32>>,
    output: Packed,
    gate_up: Packed,
    down: Packed,
}

pub(super) struct Fused {
    kernel: Kernel,
    sizes: Sizes,
    weights: Flat,
    names: Vec<Names>,
    panels: Vec<Panels>,
    head: Packed,
    head_name: &'static str,
    spare: Arc<Spare>,
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    hidden: usize,
    intermediate: usize,
    query: usize,
    key_value: usize,
    vocab: usize,
    shape: HeadLayout,
    eps: f32,
    theta: f64,
}

impl Sizes {
    /// Width of queries, keys and values together.
    fn all(&self) -> usize {
        self.query + 2 * self.key_value
    }

    /// Width of rotated queries and keys together.
    fn rotated(&self) -> usize {
        self.query + self.key_value
    }

    fn queries(&self, stride: usize) -> Heads {
        Heads { stride, first: 0, count: self.shape.heads, width: self.shape.head_dim }
    }

    fn keys(&self, stride: usize) -> Heads {
        Heads { stride, first: self.query, count: self.shape.kv_heads, width: self.shape.head_dim }
    }
}

/// Cosines and sines of every token's position, `(tokens, head_dim / 2)`.
struct Rope {
    cos: Buffer,
    sin: Buffer,
}

/// What a layer's backward needs beside its input.
struct Inside {
    /// Queries, keys and values as projected.
    projected: Buffer,
    /// Queries and keys, normalised and rotated.
    rotated: Buffer,
    attended: Buffer,
    /// The residual stream after attention.
    middle: Buffer,
    gate_up: Buffer,
}

pub(super) struct FusedTrace {
    tokens: Vec<u32>,
    lengths: Vec<usize>,
    rope: Rope,
    /// Inputs of the layers, then of the final norm.
    inputs: Vec<Buffer>,
    /// What was kept from inside the layers; empty if that is computed again.
    inside: Vec<Inside>,
}

impl Fused {
    /// Takes the tensors one by one, so that the weights are not held twice.
    pub(super) fn new(
        config: &ModelConfig,
        tensors: BTreeMap<String, Tensor>,
        kernel: Kernel,
    ) -> Result<Self> {
        let c = config;
        let shape = HeadLayout {
            heads: c.num_attention_heads,
            kv_heads: c.num_key_value_heads,
            head_dim: c.head_dim,
        };
        let sizes = Sizes {
            hidden: c.hidden_size,
            intermediate: c.intermediate_size,
            query: shape.heads * shape.head_dim,
            key_value: shape.kv_heads * shape.head_dim,
            vocab: c.vocab_size,
            shape,
            eps: c.rms_norm_eps as f32,
            theta: c.rope_theta,
        };
        let names: Vec<Names> = (0..c.num_hidden_layers).map(Names::new).collect();
        let panels = (0..c.num_hidden_layers)
            .map(|_| Panels {
                query_key_value: Packed::new(kernel, sizes.all(), sizes.hidden),
                bias: None,
                output: Packed::new(kernel, sizes.hidden, sizes.query),
                gate_up: Packed::new(kernel, 2 * sizes.intermediate, sizes.hidden),
                down: Packed::new(kernel, sizes.hidden, sizes.intermediate),
            })
            .collect();
        let head = Packed::new(kernel, sizes.vocab, sizes.hidden);
        let head_name = if c.tie_word_embeddings { EMBEDDING } else { HEAD };
        let weights = Flat::fresh(&Arc::new(FlatLayout::new(config)));
        let spare = Arc::default();
        let mut fused = Self { kernel, sizes, weights, names, panels, head, head_name, spare };
        for (name, tensor) in tensors {
            fused.set_one(&name, &tensor)?;
        }
        trim_heap();
        fused.pack();
        Ok(fused)
    }

    /// The same weights once more.
    pub(super) fn copy(&self) -> Self {
        Self {
            kernel: self.kernel,
            sizes: self.sizes,
            weights: self.weights.clone(),
            names: (0..self.names.len()).map(Names::new).collect(),
            panels: self.panels.clone(),
            head: self.head.clone(),
            head_name: self.head_name,
            spare: Arc::default(),
        }
    }

    pub(super) fn kernel(&self) -> Kernel {
        self.kernel
    }

    pub(super) fn weights(&self) -> &Flat {
        &self.weights
    }

    fn kv_layout(&self) -> KvLayout {
        KvLayout::new(self.kernel, self.sizes.shape, 0)
    }

    /// An empty row.
    pub(super) fn row(&self) -> SlabRow {
        SlabRow::new(self.kv_layout(), self.names.len(), self.spare.clone())
    }

    /// Whether a row is one of this model's.
    pub(super) fn made(&self, row: &SlabRow) -> bool {
        row.layout() == self.kv_layout() && row.layers() == self.names.len()
    }

    /// Gives the memory of keys and values that are not needed any more back to the system.
    pub(super) fn forget_rows(&self) {
        self.spare.clear();
    }

    /// Bytes of keys and values of so many tokens that lie in one chunk.
    pub(super) fn kv_bytes(&self, tokens: usize) -> usize {
        4 * self.names.len() * self.kv_layout().with_capacity(tokens).words()
    }

    pub(super) fn set(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, tensor) in tensors {
            self.set_one(name, tensor)?;
        }
        self.pack();
        Ok(())
    }

    fn set_one(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let numbers = tensor.flatten_all()?.to_vec1::<f32>()?;
        self.weights.get_mut(name).copy_from_slice(&numbers);
        Ok(())
    }

    pub(super) fn update<R>(&mut self, f: impl FnOnce(&mut Flat) -> R) -> R {
        let result = f(&mut self.weights);
        self.pack();
        result
    }

    /// Brings the panels up to date with the weights.
    fn pack(&mut self) {
        let Self { weights, names, panels, head, head_name, .. } = self;
        for (names, panels) in names.iter().zip(panels) {
            let projections = [&names.query, &names.key, &names.value];
            let get = |name: &String| weights.get(name);
            panels.query_key_value.fill(&projections.map(|name| get(&name[0])));
            panels.bias = weights
                .has(&names.query[1])
                .then(|| projections.iter().flat_map(|name| get(&name[1]).iter().copied()).collect());
            panels.output.fill(&[get(&names.output[0])]);
            panels.gate_up.fill(&[get(&names.gate), get(&names.up)]);
            panels.down.fill(&[get(&names.down)]);
        }
        head.fill(&[weights.get(head_name)]);
    }

    /// Angles are rounded to f32 where the reference implementation rounds.
    fn rope(&self, positions: &[u32]) -> Rope {
        let half = self.sizes.shape.head_dim / 2;
        let power = |i: usize| self.sizes.theta.powf((2 * i) as f64 / (2 * half) as f64);
        let frequencies: Vec<f32> = (0..half).map(|i| 1.0 / power(i) as f32).collect();
        let (mut cos, mut sin) = (Buffer::new(positions.len() * half), Buffer::new(positions.len() * half));
        let rows = cos.chunks_exact_mut(half).zip(sin.chunks_exact_mut(half));
        for (position, (cos, sin)) in positions.iter().zip(rows) {
            for (i, frequency) in frequencies.iter().enumerate() {
                let angle = f64::from(*position as f32 * frequency);
                (cos[i], sin[i]) = (angle.cos() as f32, angle.sin() as f32);
            }
        }
        Rope { cos, sin }
    }

    fn embed(&self, tokens: &[u32]) -> Buffer {
        let width = self.sizes.hidden;
        let table = self.weights.get(EMBEDDING);
        let mut x = Buffer::new(tokens.len() * width);
        for (token, x) in tokens.iter().zip(x.chunks_exact_mut(width)) {
            x.copy_from_slice(&table[*token as usize * width..][..width]);
        }
        x
    }

    fn head_norm(&self, name: &str) -> Option<(&[f32], f32)> {
        self.weights.has(name).then(|| (self.weights.get(name), self.sizes.eps))
    }

    /// Everything before attention: queries, keys and values as projected, then queries and keys rotated.
    fn project(&self, layer: usize, x: &[f32], rope: &Rope) -> (Buffer, Buffer) {
        let (s, names, panels) = (&self.sizes, &self.names[layer], &self.panels[layer]);
        let tokens = x.len() / s.hidden;
        let mut normed = Buffer::new(x.len());
        rms_norm(x, self.weights.get(&names.input_norm), s.eps, &mut normed);
        let mut projected = Buffer::new(tokens * s.all());
        let start = panels.bias.as_deref().map_or(Start::Zero, Start::Bias);
        let size = (tokens, s.all(), s.hidden);
        let left = View::rows(&normed, s.hidden);
        product(self.kernel, size, left, &panels.query_key_value, &mut projected, s.all(), start);
        let mut rotated = Buffer::new(tokens * s.rotated());
        for (from, to, norm) in [
            (s.queries(s.all()), s.queries(s.rotated()), &names.query_norm),
            (s.keys(s.all()), s.keys(s.rotated()), &names.key_norm),
        ] {
            rotate(&projected, from, self.head_norm(norm), &rope.cos, &rope.sin, &mut rotated, to);
        }
        (projected, rotated)
    }

    /// Adds the output projection of what was attended to the residual stream.
    fn add_attended(&self, layer: usize, attended: &[f32], x: &mut [f32]) {
        let (s, names) = (&self.sizes, &self.names[layer]);
        if self.weights.has(&names.output[1]) {
            let bias = self.weights.get(&names.output[1]);
            x.chunks_exact_mut(s.hidden).for_each(|x| x.iter_mut().zip(bias).for_each(|(x, b)| *x += b));
        }
        let size = (x.len() / s.hidden, s.hidden, s.query);
        let left = View::rows(attended, s.query);
        product(self.kernel, size, left, &self.panels[layer].output, x, s.hidden, Start::Add);
    }

    /// The input of a layer's gated unit, from the residual stream after attention.
    fn post_norm(&self, layer: usize, x: &[f32]) -> Buffer {
        let mut normed = Buffer::new(x.len());
        rms_norm(x, self.weights.get(&self.names[layer].post_norm), self.sizes.eps, &mut normed);
        normed
    }

    /// Gates and ups of the residual stream after attention.
    fn gate_up(&self, layer: usize, x: &[f32]) -> Buffer {
        let s = &self.sizes;
        let tokens = x.len() / s.hidden;
        let normed = self.post_norm(layer, x);
        let mut gate_up = Buffer::new(tokens * 2 * s.intermediate);
        let size = (tokens, 2 * s.intermediate, s.hidden);
        let left = View::rows(&normed, s.hidden);
        product(
            self.kernel,
            size,
            left,
            &self.panels[layer].gate_up,
            &mut gate_up,
            2 * s.intermediate,
            Start::Zero,
        );
        gate_up
    }

    /// Adds the gated unit's output to the residual stream.
    fn add_gated(&self, layer: usize, gate_up: &[f32], x: &mut [f32]) {
        let s = &self.sizes;
        let mut gated = Buffer::new(gate_up.len() / 2);
        swiglu(gate_up, s.intermediate, &mut gated);
        let size = (x.len() / s.hidden, s.hidden, s.intermediate);
        let left = View::rows(&gated, s.intermediate);
        product(self.kernel, size, left, &self.panels[layer].down, x, s.hidden, Start::Add);
    }

    /// Attention of whole sequences.
    fn attended(&self, lengths: &[usize], projected: &[f32], rotated: &[f32]) -> Buffer {
        let s = &self.sizes;
        let (all, wide) = (s.all(), s.rotated());
        let mut first = 0;
        let segments: Vec<Segment<'_>> = lengths
            .iter()
            .filter(|count| **count > 0)
            .map(|count| {
                let keys = Keys::Rows {
                    k: &rotated[first * wide + s.query..],
                    k_stride: wide,
                    v: &projected[first * all + s.rotated()..],
                    v_stride: all,
                };
                first += count;
                Segment { first: first - count, count: *count, base: 0, keys }
            })
            .collect();
        let mut attended = Buffer::new(first * s.query);
        attend(self.kernel, s.shape, rotated, wide, &segments, &mut attended, s.query);
        attended
    }

    fn final_norm(&self, x: &[f32]) -> Buffer {
        let mut hidden = Buffer::new(x.len());
        rms_norm(x, self.weights.get(NORM), self.sizes.eps, &mut hidden);
        hidden
    }

    pub(super) fn forward(
        &self,
        sequences: &Sequences,
        keep: Option<Recompute>,
    ) -> Result<(Buffer, Option<FusedTrace>)> {
        let rope = self.rope(sequences.positions());
        let lengths = sequences.lengths();
        let mut x = self.embed(sequences.tokens());
        let (mut inputs, mut inside) = (Vec::new(), Vec::new());
        for layer in 0..self.names.len() {
            if keep.is_some() {
                inputs.push(x.clone());
            }
            let (projected, rotated) = self.project(layer, &x, &rope);
            let attended = self.attended(lengths, &projected, &rotated);
            self.add_attended(layer, &attended, &mut x);
            let gate_up = self.gate_up(layer, &x);
            if keep == Some(Recompute::None) {
                inside.push(Inside { projected, rotated, attended, middle: x.clone(), gate_up });
                self.add_gated(layer, &inside[layer].gate_up, &mut x);
            } else {
                self.add_gated(layer, &gate_up, &mut x);
            }
            guard(layer, &x)?;
        }
        let hidden = self.final_norm(&x);
        let trace = keep.is_some().then(|| {
            inputs.push(x);
            FusedTrace {
                tokens: sequences.tokens().to_vec(),
                lengths: lengths.to_vec(),
                rope,
                inputs,
                inside,
            }
        });
        Ok((hidden, trace))
    }
}

/// Names the layer if its output is not finite; warns, once, if much of it is subnormal.
fn guard(layer: usize, x: &[f32]) -> Result<()> {
    static WARNED: AtomicBool = AtomicBool::new(false);
    let (finite, subnormal) = health(x);
    if subnormal * 10 > x.len() && !WARNED.swap(true, Ordering::Relaxed) {
        let share = subnormal as f64 / x.len() as f64;
        tracing::warn!(
            layer,
            share,
            "many of the layer's outputs are subnormal: its weights have nearly vanished"
        );
    }
    if finite {
        return Ok(());
    }
    let place = x.iter().position(|x| !x.is_finite()).unwrap_or(0);
    Err(ModelError::NonFiniteLayer { layer, value: x[place] })
}
