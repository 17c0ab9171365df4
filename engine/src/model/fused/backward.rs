//! The backward of the layers, written out: from the last to the first, each from its input and what is inside it.

use super::rows::Operand::{Given, Lent};
use super::rows::{RowGrads, Sink};
use super::{Fused, FusedTrace, Inside, Rope};
use crate::kernels::RowStats;
use crate::kernels::attention::{Gradient, attend_backward};
use crate::kernels::{
    Buffer, RowSums, Start, View, add_columns, product, rms_norm, rms_norm_backward, rotate_back, swiglu,
    swiglu_backward,
};
use crate::model::body::RowDerivatives;
use crate::model::flat::Flat;
use crate::model::policy::{EMBEDDING, NORM, Targets};

impl Fused {
    /// Adds the gradient of everything but the head, from ∂L/∂hidden.
    pub(in crate::model) fn backward(&self, trace: FusedTrace, d_hidden: Buffer, grads: &mut Flat) {
        let (tokens, dx) = self.layers_backward(trace, d_hidden, &mut Sink::Sum(grads));
        let (width, table) = (self.sizes.hidden, grads.get_mut(EMBEDDING));
        for (token, dx) in tokens.iter().zip(dx.chunks_exact(width)) {
            let row = &mut table[*token as usize * width..][..width];
            row.iter_mut().zip(dx).for_each(|(row, dx)| *row += dx);
        }
    }

    /// Gradients of single rows: measures them and, if they are to be kept, keeps what their sum needs. Derivatives are a
    /// row's own, such as 1 a token.
    pub(in crate::model) fn backward_rows(
        &self,
        trace: FusedTrace,
        hidden: &[f32],
        targets: &Targets<'_>,
        stats: &[RowStats],
        &RowDerivatives { d_log_probs, scored, keep }: &RowDerivatives<'_>,
    ) -> RowGrads {
        let mut rows = RowGrads::new(&trace.lengths, keep);
        let (head, d_hidden) = self.head_rows(hidden, targets, stats, d_log_probs, scored, &mut rows);
        let (tokens, dx) = self.layers_backward(trace, d_hidden, &mut Sink::Rows(&mut rows));
        let tied = self.head_name == EMBEDDING;
        rows.embedding(self, &tokens, &dx, tied.then_some(&head));
        rows
    }

    /// From ∂L/∂hidden to the tokens and ∂L/∂(their embeddings).
    fn layers_backward(
        &self,
        trace: FusedTrace,
        d_hidden: Buffer,
        sink: &mut Sink<'_>,
    ) -> (Vec<u32>, Buffer) {
        let s = &self.sizes;
        let FusedTrace { tokens, lengths, rope, mut inputs, mut inside } = trace;
        let last = inputs.pop().expect("a trace ends with the input of the final norm");
        let mut dx = Buffer::zeros(last.len());
        let norm = self.weights.get(NORM);
        sink.vector(NORM, s.hidden, |sums| rms_norm_backward(&last, norm, s.eps, &d_hidden, &mut dx, sums));
        drop((last, d_hidden));
        for layer in (0..self.names.len()).rev() {
            let input = inputs.pop().expect("a trace holds one input a layer");
            let inside = inside.pop().unwrap_or_else(|| self.inside(layer, &input, &lengths, &rope));
            self.layer_backward(layer, &input, inside, &lengths, &rope, &mut dx, sink);
        }
        (tokens, dx)
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
        sink: &mut Sink<'_>,
    ) {
        let (s, names) = (&self.sizes, &self.names[layer]);
        let Inside { projected, rotated, attended, middle, mut gate_up } = inside;
        let tokens = input.len() / s.hidden;
        let (hidden, inner, double) = (s.hidden, s.intermediate, 2 * s.intermediate);

        // the gated unit
        let mut gated = Buffer::new(tokens * inner);
        swiglu(&gate_up, inner, &mut gated);
        let mut d_gated = Buffer::new(tokens * inner);
        self.input_gradient(dx, hidden, 0, &names.down, (tokens, hidden, inner), &mut d_gated, Start::Zero);
        sink.linear(self, Lent(dx), hidden, &[(&names.down, 0, hidden)], Given(gated), inner);
        swiglu_backward(&mut gate_up, inner, &d_gated);
        drop(d_gated);
        let mut normed = Buffer::new(tokens * hidden);
        rms_norm(&middle, self.weights.get(&names.post_norm), s.eps, &mut normed);
        let mut d_normed = Buffer::new(tokens * hidden);
        let size = (tokens, inner, hidden);
        self.input_gradient(&gate_up, double, 0, &names.gate, size, &mut d_normed, Start::Zero);
        self.input_gradient(&gate_up, double, inner, &names.up, size, &mut d_normed, Start::Add);
        let parts: [(&str, usize, usize); 2] = [(&names.gate, 0, inner), (&names.up, inner, inner)];
        sink.linear(self, Given(gate_up), double, &parts, Given(normed), hidden);
        let norm = self.weights.get(&names.post_norm);
        sink.vector(&names.post_norm, hidden, |sums| {
            rms_norm_backward(&middle, norm, s.eps, &d_normed, dx, sums);
        });
        drop(middle);

        // attention
        if self.weights.has(&names.output[1]) {
            sink.vector(&names.output[1], hidden, |sums| add_columns(dx, hidden, 0, hidden, sums));
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
        drop(d_attended);
        sink.linear(self, Lent(dx), hidden, &[(&names.output[0], 0, hidden)], Given(attended), s.query);
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
            let (cos, sin) = (&rope.cos, &rope.sin);
            let mut back = |sums: RowSums<'_>| {
                rotate_back(&projected, from, norm, cos, sin, &d_rotated, to, &mut d_projected, sums);
            };
            match norm {
                Some(_) => sink.vector(name, s.shape.head_dim, back),
                None => back(RowSums::All(&mut vec![0.0; s.shape.head_dim])),
            }
        }
        drop((d_rotated, projected, rotated));
        let mut normed = Buffer::new(tokens * hidden);
        rms_norm(input, self.weights.get(&names.input_norm), s.eps, &mut normed);
        let parts = [
            (&names.query, 0, s.query),
            (&names.key, s.query, s.key_value),
            (&names.value, wide, s.key_value),
        ];
        for (name, first, width) in parts {
            if self.weights.has(&name[1]) {
                sink.vector(&name[1], width, |sums| add_columns(&d_projected, all, first, width, sums));
            }
        }
        let mut start = Start::Zero;
        for (name, first, width) in parts {
            let size = (tokens, width, hidden);
            self.input_gradient(&d_projected, all, first, &name[0], size, &mut d_normed, start);
            start = Start::Add;
        }
        let weights = parts.map(|(name, first, width)| (name[0].as_str(), first, width));
        sink.linear(self, Given(d_projected), all, &weights, Given(normed), hidden);
        let norm = self.weights.get(&names.input_norm);
        sink.vector(&names.input_norm, hidden, |sums| {
            rms_norm_backward(input, norm, s.eps, &d_normed, dx, sums);
        });
    }

    /// ∂L/∂W += ∂L/∂yᵀ · x, with `outputs` columns of `dy` from `first` on and W `(outputs, inputs)`.
    #[expect(clippy::too_many_arguments, reason = "two matrices with their places")]
    pub(super) fn weight_gradient(
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
