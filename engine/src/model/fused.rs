//! The decoder on the CPU, by own kernels, with a backward that is written out.
//!
//! Before and after: see [`super::policy`]. Tokens of all rows lie end to end in one axis without padding. A layer is the
//! same code for new tokens behind cached ones and for whole sequences; only the keys that attention looks at lie
//! elsewhere. So the sampler and the trainer get the same bits. Weights are one line of f32, with a copy in panels for
//! products; gradients are added straight into a line of the same layout.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;

use super::cache::SlabRow;
use super::error::{ModelError, Result};
use super::flat::{Flat, Layout};
use super::policy::{EMBEDDING, HEAD, NORM, Recompute, Scores};
use super::{ModelConfig, Sequences};
use crate::kernels::attention::{Gradient, Keys, KvLayout, Segment, Shape, attend, attend_backward};
use crate::kernels::{
    Buffer, Heads, Kernel, Packed, Right, RowStats, Start, View, add_columns, product, rms_norm,
    rms_norm_backward, rotate, rotate_back, softmax_backward, softmax_stats, swiglu, swiglu_backward,
};

/// Columns of the head that are computed at a time; a multiple of [`RowStats::BLOCK`].
const VOCAB: usize = 2 * RowStats::BLOCK;

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
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    hidden: usize,
    intermediate: usize,
    query: usize,
    key_value: usize,
    vocab: usize,
    shape: Shape,
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
    pub(super) fn new(
        config: &ModelConfig,
        tensors: &BTreeMap<String, Tensor>,
        kernel: Kernel,
    ) -> Result<Self> {
        let c = config;
        let shape =
            Shape { heads: c.num_attention_heads, kv_heads: c.num_key_value_heads, head_dim: c.head_dim };
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
        let weights = Flat::zeros(&Arc::new(Layout::new(config)));
        let mut fused = Self { kernel, sizes, weights, names, panels, head, head_name };
        fused.set(tensors)?;
        Ok(fused)
    }

    pub(super) fn kernel(&self) -> Kernel {
        self.kernel
    }

    pub(super) fn weights(&self) -> &Flat {
        &self.weights
    }

    pub(super) fn kv_layout(&self, capacity: usize) -> KvLayout {
        KvLayout::new(self.kernel, self.sizes.shape, capacity)
    }

    pub(super) fn set(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, tensor) in tensors {
            let numbers = tensor.flatten_all()?.to_vec1::<f32>()?;
            self.weights.get_mut(name).copy_from_slice(&numbers);
        }
        self.pack();
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

    /// Gates and ups of the residual stream after attention.
    fn gate_up(&self, layer: usize, x: &[f32]) -> Buffer {
        let s = &self.sizes;
        let tokens = x.len() / s.hidden;
        let mut normed = Buffer::new(x.len());
        rms_norm(x, self.weights.get(&self.names[layer].post_norm), s.eps, &mut normed);
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
            .filter(|segment| segment.count > 0)
            .collect();
        let mut attended = Buffer::new(first * s.query);
        attend(self.kernel, s.shape, rotated, wide, &segments, &mut attended, s.query);
        attended
    }

    pub(super) fn extend(&self, rows: &mut [(&mut SlabRow, &[u32])]) -> Result<Buffer> {
        let s = &self.sizes;
        let (mut tokens, mut positions, mut firsts) = (Vec::new(), Vec::new(), Vec::new());
        for (row, new) in rows.iter() {
            firsts.push(tokens.len());
            positions.extend(row.length as u32..(row.length + new.len()) as u32);
            tokens.extend_from_slice(new);
        }
        let rope = self.rope(&positions);
        let mut x = self.embed(&tokens);
        let mut attended = Buffer::new(tokens.len() * s.query);
        for layer in 0..self.names.len() {
            let (projected, rotated) = self.project(layer, &x, &rope);
            for ((row, new), first) in rows.iter_mut().zip(&firsts) {
                let (k, v) = (&rotated[first * s.rotated()..], &projected[first * s.all()..]);
                let (layout, length) = (row.layout, row.length);
                if !new.is_empty() {
                    let (k, v) = (&k[s.query..], &v[s.rotated()..]);
                    layout.write(row.layer_mut(layer), length, new.len(), k, s.rotated(), v, s.all());
                }
            }
            let segments: Vec<Segment<'_>> = rows
                .iter()
                .zip(&firsts)
                .filter(|((_, new), _)| !new.is_empty())
                .map(|((row, new), first)| {
                    let keys = Keys::Slab(&row.layout, row.layer(layer));
                    Segment { first: *first, count: new.len(), base: row.length, keys }
                })
                .collect();
            attend(self.kernel, s.shape, &rotated, s.rotated(), &segments, &mut attended, s.query);
            self.add_attended(layer, &attended, &mut x);
            let gate_up = self.gate_up(layer, &x);
            self.add_gated(layer, &gate_up, &mut x);
            guard(layer, &x)?;
        }
        for (row, new) in rows.iter_mut() {
            row.length += new.len();
        }
        Ok(self.final_norm(&x))
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

    /// The hidden states at some places, one under another.
    fn gather(&self, hidden: &[f32], places: &[u32]) -> Buffer {
        let width = self.sizes.hidden;
        let mut rows = Buffer::new(places.len() * width);
        for (place, row) in places.iter().zip(rows.chunks_exact_mut(width)) {
            row.copy_from_slice(&hidden[*place as usize * width..][..width]);
        }
        rows
    }

    pub(super) fn logits(&self, hidden: &[f32], places: &[u32]) -> Buffer {
        let s = &self.sizes;
        let rows = self.gather(hidden, places);
        let mut logits = Buffer::new(places.len() * s.vocab);
        let size = (places.len(), s.vocab, s.hidden);
        product(
            self.kernel,
            size,
            View::rows(&rows, s.hidden),
            &self.head,
            &mut logits,
            s.vocab,
            Start::Zero,
        );
        logits
    }

    /// Calls `f` with logits `(rows, width)` of one part of the vocabulary after another, and the part's first token.
    fn logits_by_part(&self, rows: &[f32], mut f: impl FnMut(&mut [f32], usize, usize)) {
        let s = &self.sizes;
        let count = rows.len() / s.hidden;
        let mut logits = Buffer::new(count * VOCAB.min(s.vocab));
        for first in (0..s.vocab).step_by(VOCAB) {
            let width = VOCAB.min(s.vocab - first);
            let logits = &mut logits[..count * width];
            let right = Right::Columns(&self.head, first);
            let size = (count, width, s.hidden);
            product(self.kernel, size, View::rows(rows, s.hidden), right, logits, width, Start::Zero);
            f(logits, first, width);
        }
    }

    fn stats(&self, rows: &[f32], targets: &[u32], inverse: f32) -> (Vec<RowStats>, Vec<f32>) {
        let mut stats = vec![RowStats::default(); targets.len()];
        let mut chosen = vec![0f32; targets.len()];
        self.logits_by_part(rows, |logits, first, width| {
            softmax_stats(logits, width, width, first, inverse, &mut stats);
            for (row, (target, chosen)) in targets.iter().zip(&mut chosen).enumerate() {
                let target = *target as usize;
                if (first..first + width).contains(&target) {
                    *chosen = logits[row * width + target - first];
                }
            }
        });
        (stats, chosen)
    }

    pub(super) fn score(&self, hidden: &[f32], places: &[u32], targets: &[u32], temperature: f64) -> Scores {
        let inverse = (1.0 / temperature) as f32;
        let (stats, chosen) = self.stats(&self.gather(hidden, places), targets, inverse);
        Scores {
            log_probs: stats.iter().zip(&chosen).map(|(stats, z)| stats.log_prob(*z, inverse)).collect(),
            entropy: stats.iter().map(RowStats::entropy).collect(),
            sum_of_squares: stats.iter().map(RowStats::sum_of_squares).collect(),
            best: stats.iter().map(|stats| stats.best).collect(),
            best_probability: stats.iter().map(|stats| 1.0 / stats.sum).collect(),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what the two forward calls took and gave")]
    pub(super) fn backward(
        &self,
        trace: FusedTrace,
        hidden: &[f32],
        places: &[u32],
        targets: &[u32],
        temperature: f64,
        d_log_probs: &[f32],
        grads: &mut Flat,
    ) {
        let s = &self.sizes;
        let FusedTrace { tokens, lengths, rope, mut inputs, mut inside } = trace;
        let d_hidden = self.head_backward(hidden, places, targets, temperature, d_log_probs, grads);
        let last = inputs.pop().expect("a trace ends with the input of the final norm");
        let mut dx = Buffer::zeros(last.len());
        let norm = self.weights.get(NORM);
        rms_norm_backward(&last, norm, s.eps, &d_hidden, &mut dx, grads.get_mut(NORM));
        drop((last, d_hidden));
        for layer in (0..self.names.len()).rev() {
            let input = inputs.pop().expect("a trace holds one input a layer");
            let inside = inside.pop().unwrap_or_else(|| self.inside(layer, &input, &lengths, &rope));
            self.layer_backward(layer, &input, inside, &lengths, &rope, &mut dx, grads);
        }
        let table = grads.get_mut(EMBEDDING);
        for (token, dx) in tokens.iter().zip(dx.chunks_exact(s.hidden)) {
            let row = &mut table[*token as usize * s.hidden..][..s.hidden];
            row.iter_mut().zip(dx).for_each(|(row, dx)| *row += dx);
        }
    }

    /// ∂L/∂hidden; the head's gradient is added to `grads`. One part of the vocabulary at a time:
    /// ∂ ln π(y)/∂z = onehot(y) − p.
    fn head_backward(
        &self,
        hidden: &[f32],
        places: &[u32],
        targets: &[u32],
        temperature: f64,
        d_log_probs: &[f32],
        grads: &mut Flat,
    ) -> Buffer {
        let s = &self.sizes;
        let inverse = (1.0 / temperature) as f32;
        let rows = self.gather(hidden, places);
        let (stats, _) = self.stats(&rows, targets, inverse);
        let (weight, d_weight) = (self.weights.get(self.head_name), grads.get_mut(self.head_name));
        let mut d_rows = Buffer::zeros(rows.len());
        self.logits_by_part(&rows, |logits, first, width| {
            softmax_backward(logits, width, first, inverse, &stats, targets, d_log_probs);
            let d_logits = View::rows(logits, width);
            let part = first * s.hidden..(first + width) * s.hidden;
            let weight = View::rows(&weight[part.clone()], s.hidden);
            let size = (targets.len(), s.hidden, width);
            product(self.kernel, size, d_logits, weight, &mut d_rows, s.hidden, Start::Add);
            let size = (width, s.hidden, targets.len());
            let right = View::rows(&rows, s.hidden);
            product(self.kernel, size, d_logits.t(), right, &mut d_weight[part], s.hidden, Start::Add);
        });
        let mut d_hidden = Buffer::zeros(hidden.len());
        for (place, row) in places.iter().zip(d_rows.chunks_exact(s.hidden)) {
            let to = &mut d_hidden[*place as usize * s.hidden..][..s.hidden];
            to.iter_mut().zip(row).for_each(|(to, from)| *to += from);
        }
        d_hidden
    }

    /// The values inside a layer, once more.
    fn inside(&self, layer: usize, input: &[f32], lengths: &[usize], rope: &Rope) -> Inside {
        let (projected, rotated) = self.project(layer, input, rope);
        let attended = self.attended(lengths, &projected, &rotated);
        let mut middle = Buffer::from_slice(input);
        self.add_attended(layer, &attended, &mut middle);
        let gate_up = self.gate_up(layer, &middle);
        Inside { projected, rotated, attended, middle, gate_up }
    }

    /// From ∂L/∂output to ∂L/∂input, in place in `dx`.
    #[expect(clippy::too_many_arguments, reason = "a layer's input, inside and gradients")]
    fn layer_backward(
        &self,
        layer: usize,
        input: &[f32],
        inside: Inside,
        lengths: &[usize],
        rope: &Rope,
        dx: &mut [f32],
        grads: &mut Flat,
    ) {
        let (s, names) = (&self.sizes, &self.names[layer]);
        let Inside { projected, rotated, attended, middle, mut gate_up } = inside;
        let tokens = input.len() / s.hidden;
        let (hidden, inner, double) = (s.hidden, s.intermediate, 2 * s.intermediate);

        // the gated unit
        {
            let mut gated = Buffer::new(tokens * inner);
            swiglu(&gate_up, inner, &mut gated);
            self.weight_gradient(dx, hidden, 0, hidden, &gated, inner, grads.get_mut(&names.down));
            let d_gated = &mut gated;
            self.input_gradient(dx, hidden, 0, &names.down, (tokens, hidden, inner), d_gated, Start::Zero);
            swiglu_backward(&mut gate_up, inner, d_gated);
        }
        let mut normed = Buffer::new(tokens * hidden);
        rms_norm(&middle, self.weights.get(&names.post_norm), s.eps, &mut normed);
        self.weight_gradient(&gate_up, double, 0, inner, &normed, hidden, grads.get_mut(&names.gate));
        self.weight_gradient(&gate_up, double, inner, inner, &normed, hidden, grads.get_mut(&names.up));
        let d_normed = &mut normed;
        let size = (tokens, inner, hidden);
        self.input_gradient(&gate_up, double, 0, &names.gate, size, d_normed, Start::Zero);
        self.input_gradient(&gate_up, double, inner, &names.up, size, d_normed, Start::Add);
        drop(gate_up);
        let norm = self.weights.get(&names.post_norm);
        rms_norm_backward(&middle, norm, s.eps, d_normed, dx, grads.get_mut(&names.post_norm));
        drop(middle);

        // attention
        self.weight_gradient(dx, hidden, 0, hidden, &attended, s.query, grads.get_mut(&names.output[0]));
        if self.weights.has(&names.output[1]) {
            add_columns(dx, hidden, 0, grads.get_mut(&names.output[1]));
        }
        let mut d_attended = Buffer::new(tokens * s.query);
        let size = (tokens, hidden, s.query);
        self.input_gradient(dx, hidden, 0, &names.output[0], size, &mut d_attended, Start::Zero);
        let (all, wide) = (s.all(), s.rotated());
        let mut d_projected = Buffer::new(tokens * all);
        let mut d_rotated = Buffer::new(tokens * wide);
        let (mut d_keys, mut d_values) =
            (Buffer::new(tokens * s.key_value), Buffer::new(tokens * s.key_value));
        attend_backward(
            self.kernel,
            s.shape,
            lengths,
            (&rotated, wide),
            (&rotated[s.query.min(rotated.len())..], wide),
            (&projected[wide.min(projected.len())..], all),
            &attended,
            &d_attended,
            s.query,
            Gradient { data: &mut d_rotated, stride: wide },
            Gradient { data: &mut d_keys, stride: s.key_value },
            Gradient { data: &mut d_values, stride: s.key_value },
        );
        drop((d_attended, attended));
        for token in 0..tokens {
            let part = token * s.key_value..(token + 1) * s.key_value;
            d_rotated[token * wide + s.query..][..s.key_value].copy_from_slice(&d_keys[part.clone()]);
            d_projected[token * all + wide..][..s.key_value].copy_from_slice(&d_values[part]);
        }
        for (from, to, name) in [
            (s.queries(all), s.queries(wide), &names.query_norm),
            (s.keys(all), s.keys(wide), &names.key_norm),
        ] {
            let norm = self.head_norm(name);
            let d_norm = norm.map(|_| grads.get_mut(name));
            rotate_back(
                &projected,
                from,
                norm,
                &rope.cos,
                &rope.sin,
                &d_rotated,
                to,
                &mut d_projected,
                d_norm,
            );
        }
        drop((d_rotated, projected, rotated));
        rms_norm(input, self.weights.get(&names.input_norm), s.eps, &mut normed);
        let parts = [
            (&names.query, 0, s.query),
            (&names.key, s.query, s.key_value),
            (&names.value, wide, s.key_value),
        ];
        for (name, first, width) in parts {
            self.weight_gradient(&d_projected, all, first, width, &normed, hidden, grads.get_mut(&name[0]));
            if self.weights.has(&name[1]) {
                add_columns(&d_projected, all, first, grads.get_mut(&name[1]));
            }
        }
        let mut start = Start::Zero;
        for (name, first, width) in parts {
            let size = (tokens, width, hidden);
            self.input_gradient(&d_projected, all, first, &name[0], size, &mut normed, start);
            start = Start::Add;
        }
        let norm = self.weights.get(&names.input_norm);
        rms_norm_backward(input, norm, s.eps, &normed, dx, grads.get_mut(&names.input_norm));
    }

    /// ∂L/∂W += ∂L/∂yᵀ · x, with `outputs` columns of `dy` from `first` on and W `(outputs, inputs)`.
    #[expect(clippy::too_many_arguments, reason = "two matrices with their places")]
    fn weight_gradient(
        &self,
        dy: &[f32],
        stride: usize,
        first: usize,
        outputs: usize,
        x: &[f32],
        inputs: usize,
        grad: &mut [f32],
    ) {
        let tokens = x.len() / inputs;
        if tokens > 0 {
            let left = View::rows(&dy[first..], stride).t();
            let size = (outputs, inputs, tokens);
            product(self.kernel, size, left, View::rows(x, inputs), grad, inputs, Start::Add);
        }
    }

    /// ∂L/∂x = start + ∂L/∂y · W, with `(tokens, outputs, inputs)` and columns of `dy` from `first` on.
    #[expect(clippy::too_many_arguments, reason = "two matrices with their places")]
    fn input_gradient(
        &self,
        dy: &[f32],
        stride: usize,
        first: usize,
        weight: &str,
        (tokens, outputs, inputs): (usize, usize, usize),
        dx: &mut [f32],
        start: Start<'_>,
    ) {
        if tokens > 0 {
            let right = View::rows(self.weights.get(weight), inputs);
            let left = View::rows(&dy[first..], stride);
            product(self.kernel, (tokens, inputs, outputs), left, right, dx, inputs, start);
        }
    }
}

/// Names the layer if its output is not finite.
fn guard(layer: usize, x: &[f32]) -> Result<()> {
    // the sum of x − x is 0 just if every x is finite
    if crate::kernels::all_finite(x) {
        return Ok(());
    }
    let place = x.iter().position(|x| !x.is_finite()).unwrap_or(0);
    Err(ModelError::NonFiniteLayer { layer, value: x[place] })
}
