//! The output head: logits, what they say of given tokens, and the backward of that, part by part of the vocabulary.

use super::Fused;
use super::rows::RowGrads;
use crate::kernels::{
    Buffer, Gram, MatrixColumns, Right, RowStats, Start, View, exp, product, softmax_backward, softmax_stats,
};
use crate::model::flat::Flat;
use crate::model::policy::{Scores, Targets};

/// Columns of the head that are computed at a time; a multiple of [`RowStats::BLOCK`].
const VOCAB: usize = 2 * RowStats::BLOCK;

impl Fused {
    /// The hidden states at some places, one under another.
    fn gather(&self, hidden: &[f32], places: &[u32]) -> Buffer {
        let width = self.sizes.hidden;
        let mut rows = Buffer::new(places.len() * width);
        for (place, row) in places.iter().zip(rows.chunks_exact_mut(width)) {
            row.copy_from_slice(&hidden[*place as usize * width..][..width]);
        }
        rows
    }

    pub(in crate::model) fn logits(&self, hidden: &[f32], places: &[u32]) -> Buffer {
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

    pub(in crate::model) fn score(&self, hidden: &[f32], targets: &Targets<'_>) -> Scores {
        let inverse = (1.0 / targets.temperature) as f32;
        let mut stats = vec![RowStats::default(); targets.tokens.len()];
        let mut chosen = vec![0f32; targets.tokens.len()];
        self.logits_by_part(&self.gather(hidden, targets.places), |logits, first, width| {
            softmax_stats(logits, width, first, inverse, &mut stats);
            for (row, (token, chosen)) in targets.tokens.iter().zip(&mut chosen).enumerate() {
                let token = *token as usize;
                if (first..first + width).contains(&token) {
                    *chosen = logits[row * width + token - first];
                }
            }
        });
        Scores {
            log_probs: stats.iter().zip(&chosen).map(|(stats, z)| stats.log_prob(*z, inverse)).collect(),
            entropy: stats.iter().map(RowStats::entropy).collect(),
            squares: stats.iter().map(RowStats::sum_of_squares).collect(),
            rows: stats,
        }
    }

    /// ∂L/∂hidden, from the statistics that [`Self::score`] gave; the head's gradient is added to `grads`. One part of the
    /// vocabulary at a time: ∂ ln π(y)/∂z = onehot(y) − p.
    pub(in crate::model) fn head_backward(
        &self,
        hidden: &[f32],
        targets: &Targets<'_>,
        stats: &[RowStats],
        (d_log_probs, d_entropy): (&[f32], &[f32]),
        grads: &mut Flat,
    ) -> Buffer {
        let s = &self.sizes;
        let (tokens, inverse) = (targets.tokens, (1.0 / targets.temperature) as f32);
        let rows = self.gather(hidden, targets.places);
        let (weight, d_weight) = (self.weights.get(self.head_name), grads.get_mut(self.head_name));
        let mut d_rows = Buffer::zeros(rows.len());
        self.logits_by_part(&rows, |logits, first, width| {
            softmax_backward(logits, width, first, inverse, stats, tokens, d_log_probs, d_entropy);
            let d_logits = View::rows(logits, width);
            let part = first * s.hidden..(first + width) * s.hidden;
            let weight = View::rows(&weight[part.clone()], s.hidden);
            let size = (tokens.len(), s.hidden, width);
            product(self.kernel, size, d_logits, weight, &mut d_rows, s.hidden, Start::Add);
            let size = (width, s.hidden, tokens.len());
            let right = View::rows(&rows, s.hidden);
            product(self.kernel, size, d_logits.t(), right, &mut d_weight[part], s.hidden, Start::Add);
        });
        let mut d_hidden = Buffer::zeros(hidden.len());
        for (place, row) in targets.places.iter().zip(d_rows.chunks_exact(s.hidden)) {
            let to = &mut d_hidden[*place as usize * s.hidden..][..s.hidden];
            to.iter_mut().zip(row).for_each(|(to, from)| *to += from);
        }
        d_hidden
    }

    /// ‖∂ Σ ln π/∂(head)‖² of each row of `scored` targets: what of its gradient the head alone gives.
    pub(in crate::model) fn head_norms(
        &self,
        hidden: &[f32],
        targets: &Targets<'_>,
        stats: &[RowStats],
        scored: &[usize],
    ) -> Vec<f64> {
        let (inverse, ones) = ((1.0 / targets.temperature) as f32, vec![1.0; stats.len()]);
        let chosen = self.gather(hidden, targets.places);
        let gram = Gram::new(self.kernel, scored, MatrixColumns::all(&chosen, self.sizes.hidden));
        let mut norms = vec![0.0; scored.len()];
        self.logits_by_part(&chosen, |logits, first, width| {
            softmax_backward(logits, width, first, inverse, stats, targets.tokens, &ones, &[]);
            gram.add_norms(MatrixColumns::all(logits, width), &mut norms);
        });
        norms
    }

    /// The head's part of the gradients of single rows, of which each has so many `scored` targets. Gives ∂L/∂hidden too.
    pub(super) fn head_rows<'a>(
        &self,
        hidden: &[f32],
        targets: &'a Targets<'_>,
        stats: &'a [RowStats],
        d_log_probs: &'a [f32],
        scored: &[usize],
        rows: &mut RowGrads,
    ) -> (Head<'a>, Buffer) {
        let s = &self.sizes;
        let (tokens, inverse) = (targets.tokens, (1.0 / targets.temperature) as f32);
        let chosen = self.gather(hidden, targets.places);
        let weight = self.weights.get(self.head_name);
        let mut d_rows = Buffer::zeros(chosen.len());
        let gram = Gram::new(self.kernel, scored, MatrixColumns::all(&chosen, s.hidden));
        self.logits_by_part(&chosen, |logits, first, width| {
            softmax_backward(logits, width, first, inverse, stats, tokens, d_log_probs, &[]);
            let weight = View::rows(&weight[first * s.hidden..(first + width) * s.hidden], s.hidden);
            let (size, d_logits) = ((tokens.len(), s.hidden, width), View::rows(logits, width));
            product(self.kernel, size, d_logits, weight, &mut d_rows, s.hidden, Start::Add);
            rows.head(self, &gram, self.head_name, logits, first, width);
        });
        rows.head_inputs(self, scored, &chosen);
        let mut d_hidden = Buffer::zeros(hidden.len());
        for (place, row) in targets.places.iter().zip(d_rows.chunks_exact(s.hidden)) {
            let to = &mut d_hidden[*place as usize * s.hidden..][..s.hidden];
            to.iter_mut().zip(row).for_each(|(to, from)| *to += from);
        }
        let begins = scored.iter().scan(0, |first, count| {
            *first += count;
            Some(*first - count..*first)
        });
        (Head { hidden: chosen, tokens, stats, d_log_probs, inverse, rows: begins.collect() }, d_hidden)
    }
}

/// The head's gradients of single rows, as far as the embeddings have to do with them.
pub(super) struct Head<'a> {
    /// Hidden states before the scored tokens, `(targets, hidden)`.
    hidden: Buffer,
    tokens: &'a [u32],
    stats: &'a [RowStats],
    d_log_probs: &'a [f32],
    inverse: f32,
    /// The targets of each row.
    rows: Vec<std::ops::Range<usize>>,
}

impl Head<'_> {
    /// ⟨Σₜ eₜ hₜᵀ, Σ_id 1_id δ_idᵀ⟩ of a row with a tied embedding: the head's gradient, with e = ∂L/∂logits, against that
    /// of the embeddings of `ids`, `(ids, hidden)`.
    pub(super) fn crossed(&self, fused: &Fused, row: usize, ids: &[u32], d_embeddings: &[f32]) -> f64 {
        let (width, count) = (fused.sizes.hidden, ids.len());
        let targets = self.rows[row].clone();
        if targets.is_empty() || ids.is_empty() {
            return 0.0;
        }
        let table = fused.gather(fused.weights.get(fused.head_name), ids);
        let left = View::rows(&self.hidden[targets.start * width..], width);
        let against = |right: &[f32]| {
            let mut out = Buffer::new(targets.len() * count);
            let size = (targets.len(), count, width);
            product(fused.kernel, size, left, View::rows(right, width).t(), &mut out, count, Start::Zero);
            out
        };
        let (logits, along) = (against(&table), against(d_embeddings));
        let mut sum = 0.0;
        for (line, target) in targets.enumerate() {
            let (stats, d) = (&self.stats[target], self.d_log_probs[target] * self.inverse);
            for (at, id) in ids.iter().enumerate() {
                let at = line * count + at;
                let p = exp(logits[at] * self.inverse - stats.max) / stats.sum;
                let e = d * (f32::from(*id == self.tokens[target]) - p);
                sum += f64::from(e * along[at]);
            }
        }
        sum
    }
}
