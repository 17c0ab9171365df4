//! Gradients of single rows: measured where they arise, kept in factors, and added up later with a weight each.
//!
//! Before: the backward of [`super`] meets a weight with its inputs and cotangents. After: either the gradient is summed
//! over all rows at once ([`Sink::Sum`]), or every row's squared norm is taken and inputs and cotangents are kept
//! ([`Sink::Rows`]) until it is known what each row counts for. A weight gradient is linear in its cotangents, so the
//! second way costs inner products of tokens, and no second backward.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Fused;
use super::head::Head;
use crate::kernels::{Buffer, Gram, Kernel, MatrixColumns, RowSums, Start, View, product};
use crate::model::flat::Flat;
use crate::model::policy::EMBEDDING;

/// Where the backward's gradients go.
pub(super) enum Sink<'a> {
    /// Into one sum over all rows.
    Sum(&'a mut Flat),
    /// Into norms of single rows.
    Rows(&'a mut RowGrads),
}

/// Gradients of the rows of a micro-batch, each with unit weight, in factors.
pub struct RowGrads {
    /// Tokens of each row.
    pub(super) lengths: Vec<usize>,
    /// ‖gradient‖² of each row, parameter by parameter.
    squared: BTreeMap<String, Vec<f64>>,
    /// What the sum over parameters lacks: twice the inner product of the two parts of a tied embedding.
    crossed: Vec<f64>,
    keep: bool,
    seconds: f64,
    head: HeadSite,
    sites: Vec<Site>,
    /// Gradients of norms and biases, `(rows, width)`.
    vectors: Vec<(String, Buffer)>,
    /// Token ids, and the cotangents of their embeddings.
    embedding: Option<(Vec<u32>, Kept)>,
}

/// Weights that have one input.
struct Site {
    x: Kept,
    dy: Kept,
    /// Tokens of each row.
    lengths: Vec<usize>,
    inputs: usize,
    stride: usize,
    /// Name, first column of `dy`, and how many.
    parts: Vec<(String, usize, usize)>,
}

/// The head, whose cotangents are kept in parts of the vocabulary.
#[derive(Default)]
struct HeadSite {
    name: String,
    hidden: Option<Kept>,
    width: usize,
    /// Scored tokens of each row.
    lengths: Vec<usize>,
    /// First token, how many, and ∂L/∂logits.
    parts: Vec<(usize, usize, Kept)>,
}

/// Numbers in the precision in which products take them.
enum Kept {
    F32(Buffer),
    /// Two in a word, the first in the low half.
    Bf16(Buffer),
}

/// Numbers that a sink may keep: where the backward needs them no longer, they need not be copied.
pub(super) enum Operand<'a> {
    /// To be copied.
    Lent(&'a [f32]),
    /// To be taken.
    Given(Buffer),
}

impl std::ops::Deref for Operand<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match self {
            Self::Lent(x) => x,
            Self::Given(x) => x,
        }
    }
}

impl Kept {
    /// The first `count` numbers.
    fn operand(kernel: Kernel, x: Operand<'_>, count: usize) -> Self {
        match x {
            Operand::Given(x) if !kernel.path().is_bf16() && x.len() == count => Self::F32(x),
            x => Self::new(kernel, &x[..count]),
        }
    }

    fn new(kernel: Kernel, x: &[f32]) -> Self {
        use rayon::prelude::*;
        if !kernel.path().is_bf16() {
            return Self::F32(Buffer::from_slice(x));
        }
        let mut words = Buffer::new(x.len().div_ceil(2));
        words.par_chunks_mut(1 << 14).zip(x.par_chunks(1 << 15)).for_each(|(words, x)| {
            for (word, pair) in words.iter_mut().zip(x.chunks(2)) {
                let high = pair.get(1).map_or(0, |x| rounded(*x));
                *word = f32::from_bits(high | rounded(pair[0]) >> 16);
            }
        });
        Self::Bf16(words)
    }

    /// Copies `out.len()` numbers from `first` on, times `factor`.
    fn read(&self, first: usize, factor: f32, out: &mut [f32]) {
        match self {
            Self::F32(x) => {
                out.iter_mut().zip(&x[first..]).for_each(|(out, x)| *out = x * factor);
            }
            Self::Bf16(words) => {
                let number = |at: usize| {
                    let bits = words[at / 2].to_bits();
                    f32::from_bits(if at.is_multiple_of(2) { bits << 16 } else { bits & 0xffff_0000 })
                };
                if first.is_multiple_of(2) {
                    for (pair, word) in out.chunks_mut(2).zip(&words[first / 2..]) {
                        let bits = word.to_bits();
                        pair[0] = f32::from_bits(bits << 16) * factor;
                        if let Some(second) = pair.get_mut(1) {
                            *second = f32::from_bits(bits & 0xffff_0000) * factor;
                        }
                    }
                } else {
                    out.iter_mut().enumerate().for_each(|(i, out)| *out = number(first + i) * factor);
                }
            }
        }
    }

    /// Bytes.
    fn size(&self) -> usize {
        match self {
            Self::F32(x) | Self::Bf16(x) => 4 * x.len(),
        }
    }
}

/// The bits of a number rounded to bf16, to nearest and ties to even; the low half is 0.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits | 0x0040_0000) & 0xffff_0000;
    }
    (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000
}

impl Sink<'_> {
    /// Gradients of weights with one input: ∂L/∂W = ∂L/∂yᵀ · x for each part `(name, first column of dy, outputs)`.
    pub(super) fn linear(
        &mut self,
        fused: &Fused,
        dy: Operand<'_>,
        stride: usize,
        parts: &[(&str, usize, usize)],
        x: Operand<'_>,
        inputs: usize,
    ) {
        match self {
            Self::Sum(grads) => {
                for (name, first, outputs) in parts {
                    fused.weight_gradient(&dy, stride, *first, *outputs, &x, inputs, grads.get_mut(name));
                }
            }
            Self::Rows(rows) => {
                let begun = Instant::now();
                let gram = Gram::new(fused.kernel, &rows.lengths, MatrixColumns::all(&x, inputs));
                for (name, first, width) in parts {
                    let norms = rows
                        .squared
                        .entry((*name).to_owned())
                        .or_insert_with(|| vec![0.0; rows.lengths.len()]);
                    gram.add_norms(MatrixColumns { data: &dy, stride, first: *first, width: *width }, norms);
                }
                rows.seconds += begun.elapsed().as_secs_f64();
                drop(gram);
                if rows.keep {
                    let own =
                        |(name, first, width): &(&str, usize, usize)| ((*name).to_owned(), *first, *width);
                    let tokens = rows.lengths.iter().sum::<usize>();
                    rows.sites.push(Site {
                        x: Kept::operand(fused.kernel, x, tokens * inputs),
                        dy: Kept::operand(fused.kernel, dy, tokens * stride),
                        lengths: rows.lengths.clone(),
                        inputs,
                        stride,
                        parts: parts.iter().map(own).collect(),
                    });
                }
            }
        }
    }

    /// The gradient of a norm or a bias: `f` puts it where it is told to.
    pub(super) fn vector(&mut self, name: &str, width: usize, f: impl FnOnce(RowSums<'_>)) {
        match self {
            Self::Sum(grads) => f(RowSums::All(grads.get_mut(name))),
            Self::Rows(rows) => {
                let mut each = Buffer::zeros(rows.lengths.len() * width);
                f(RowSums::Each(&rows.lengths, &mut each));
                let norms = each.chunks_exact(width).map(|g| g.iter().map(|g| f64::from(*g).powi(2)).sum());
                rows.squared.insert(name.to_owned(), norms.collect());
                if rows.keep {
                    rows.vectors.push((name.to_owned(), each));
                }
            }
        }
    }
}

impl RowGrads {
    /// For rows of these lengths; `keep` says whether they will be added up.
    pub(super) fn new(lengths: &[usize], keep: bool) -> Self {
        Self {
            lengths: lengths.to_vec(),
            squared: BTreeMap::new(),
            crossed: vec![0.0; lengths.len()],
            keep,
            seconds: 0.0,
            head: HeadSite::default(),
            sites: Vec::new(),
            vectors: Vec::new(),
            embedding: None,
        }
    }

    /// ‖gradient‖² of every row over all parameters.
    pub fn squared_norms(&self) -> Vec<f64> {
        let mut sums = self.crossed.clone();
        for norms in self.squared.values() {
            sums.iter_mut().zip(norms).for_each(|(sum, norm)| *sum += norm);
        }
        // a tied embedding's parts may cancel to less than nothing by rounding
        sums.into_iter().map(|sum| sum.max(0.0)).collect()
    }

    /// The same by parameter, without what joins the two parts of a tied embedding.
    pub fn by_parameter(&self) -> &BTreeMap<String, Vec<f64>> {
        &self.squared
    }

    /// Seconds that measuring took.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Bytes that are kept.
    pub fn kept_bytes(&self) -> usize {
        let sites: usize = self.sites.iter().map(|site| site.x.size() + site.dy.size()).sum();
        let head: usize = self.head.parts.iter().map(|(_, _, e)| e.size()).sum();
        sites + head + self.embedding.iter().map(|(_, dx)| dx.size()).sum::<usize>()
    }

    /// One part of the head's weight gradient: `e` is ∂L/∂logits `(targets, width)` of the tokens from `first` on.
    pub(super) fn head(
        &mut self,
        fused: &Fused,
        gram: &Gram<'_>,
        name: &str,
        e: &[f32],
        first: usize,
        width: usize,
    ) {
        let begun = Instant::now();
        let norms = self.squared.entry(name.to_owned()).or_insert_with(|| vec![0.0; self.lengths.len()]);
        gram.add_norms(MatrixColumns::all(e, width), norms);
        self.seconds += begun.elapsed().as_secs_f64();
        if self.keep {
            self.head.name = name.to_owned();
            self.head.parts.push((first, width, Kept::new(fused.kernel, e)));
        }
    }

    /// What the parts of the head have in common: hidden states before so many `scored` tokens of each row.
    pub(super) fn head_inputs(&mut self, fused: &Fused, scored: &[usize], hidden: &[f32]) {
        if self.keep {
            self.head.lengths = scored.to_vec();
            self.head.hidden = Some(Kept::new(fused.kernel, hidden));
            self.head.width = fused.sizes.hidden;
        }
    }

    /// The embedding's gradient: each token's cotangent goes to the line of its id. Where the embedding is the head as
    /// well, the two parts of a row's gradient have an inner product, Σ e(id) (h · δ).
    pub(super) fn embedding(&mut self, fused: &Fused, tokens: &[u32], dx: &[f32], head: Option<&Head<'_>>) {
        use rayon::prelude::*;
        let width = fused.sizes.hidden;
        let mut first = 0;
        let rows: Vec<(usize, usize)> = self
            .lengths
            .iter()
            .enumerate()
            .map(|(row, length)| {
                first += length;
                (row, first - length)
            })
            .collect();
        let lengths = &self.lengths;
        let both: Vec<(f64, f64)> = rows
            .par_iter()
            .with_min_len(4)
            .map(|(row, first)| {
                let range = *first..first + lengths[*row];
                let mut ids: Vec<u32> = tokens[range.clone()].to_vec();
                ids.sort_unstable();
                ids.dedup();
                let mut sums = vec![0f32; ids.len() * width];
                for (token, dx) in
                    tokens[range.clone()].iter().zip(dx[range.start * width..].chunks_exact(width))
                {
                    let at = ids.binary_search(token).expect("every token is among its row's ids");
                    sums[at * width..][..width].iter_mut().zip(dx).for_each(|(sum, dx)| *sum += dx);
                }
                let norm = sums.iter().map(|x| f64::from(*x).powi(2)).sum();
                (norm, head.map_or(0.0, |head| head.crossed(fused, *row, &ids, &sums)))
            })
            .collect();
        let norms = self.squared.entry(EMBEDDING.to_owned()).or_insert_with(|| vec![0.0; lengths.len()]);
        for ((norm, crossed), (sum, cross)) in norms.iter_mut().zip(&mut self.crossed).zip(&both) {
            *norm += sum;
            *crossed += 2.0 * cross;
        }
        if self.keep {
            self.embedding = Some((tokens.to_vec(), Kept::F32(Buffer::from_slice(dx))));
        }
    }

    /// Adds Σ factor · gradient over rows. Rows with factor 0 are left out.
    ///
    /// # Panics
    /// If there are not as many factors as rows, or nothing was kept.
    pub(in crate::model) fn add(&self, kernel: Kernel, factors: &[f32], grads: &mut Flat) {
        assert_eq!(factors.len(), self.lengths.len(), "one factor a row");
        assert!(self.keep, "rows that were only measured cannot be added up");
        if factors.iter().all(|factor| *factor == 0.0) {
            return;
        }
        for site in &self.sites {
            let tokens = weighted(&site.lengths, factors);
            // inputs are the narrower ones: they take the factors
            let x = taken(&site.x, site.inputs, &tokens, true);
            let dy = taken(&site.dy, site.stride, &tokens, false);
            for (name, first, outputs) in &site.parts {
                let (size, left) =
                    ((*outputs, site.inputs, tokens.len()), View::rows(&dy[*first..], site.stride).t());
                let grad = grads.get_mut(name);
                product(kernel, size, left, View::rows(&x, site.inputs), grad, site.inputs, Start::Add);
            }
        }
        if let HeadSite { name, hidden: Some(hidden), width, lengths, parts } = &self.head {
            let tokens = weighted(lengths, factors);
            let x = taken(hidden, *width, &tokens, true);
            for (first, count, e) in parts {
                let e = taken(e, *count, &tokens, false);
                let grad = &mut grads.get_mut(name)[first * width..(first + count) * width];
                let (size, left) = ((*count, *width, tokens.len()), View::rows(&e, *count).t());
                product(kernel, size, left, View::rows(&x, *width), grad, *width, Start::Add);
            }
        }
        for (name, each) in &self.vectors {
            let grad = grads.get_mut(name);
            for (each, factor) in each.chunks_exact(grad.len()).zip(factors) {
                if *factor != 0.0 {
                    grad.iter_mut().zip(each).for_each(|(grad, each)| *grad += factor * each);
                }
            }
        }
        if let Some((tokens, dx)) = &self.embedding {
            let table = grads.get_mut(EMBEDDING);
            let width = match dx {
                Kept::F32(dx) | Kept::Bf16(dx) => dx.len() / tokens.len().max(1),
            };
            let mut line = vec![0f32; width];
            let mut at = 0;
            for (length, factor) in self.lengths.iter().zip(factors) {
                for token in at..at + length {
                    if *factor != 0.0 {
                        dx.read(token * width, *factor, &mut line);
                        let row = &mut table[tokens[token] as usize * width..][..width];
                        row.iter_mut().zip(&line).for_each(|(row, dx)| *row += dx);
                    }
                }
                at += length;
            }
        }
    }
}

/// The tokens of rows whose factor is not 0, each with it.
fn weighted(lengths: &[usize], factors: &[f32]) -> Vec<(usize, f32)> {
    let mut first = 0;
    let mut tokens = Vec::new();
    for (length, factor) in lengths.iter().zip(factors) {
        if *factor != 0.0 {
            tokens.extend((first..first + length).map(|token| (token, *factor)));
        }
        first += length;
    }
    tokens
}

/// What was kept of some tokens, `width` numbers each, times their factors if they are to be `scaled`. All of them as they
/// are need not be copied.
fn taken<'a>(kept: &'a Kept, width: usize, tokens: &[(usize, f32)], scaled: bool) -> Taken<'a> {
    use rayon::prelude::*;
    if let (Kept::F32(x), false) = (kept, scaled)
        && x.len() == tokens.len() * width
    {
        return Taken::All(x);
    }
    let mut out = Buffer::new(tokens.len() * width);
    out.par_chunks_exact_mut(width.max(1)).zip(tokens).with_min_len(16).for_each(|(out, (token, factor))| {
        kept.read(token * width, if scaled { *factor } else { 1.0 }, out);
    });
    Taken::Some(out)
}

enum Taken<'a> {
    All(&'a [f32]),
    Some(Buffer),
}

impl std::ops::Deref for Taken<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match self {
            Self::All(x) => x,
            Self::Some(x) => x,
        }
    }
}
