//! Token rows go through the policy, forwards and back.
//!
//! Before: [`crate::batch`] or a supervised example names prompts and completions. After: [`crate::optimizer`] turns
//! the gradient into a change of the weights. Rows are cut into micro-batches of bounded size; their gradients are
//! added one after another into one sum.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};

use crate::Result;
use crate::model::{Grads, Policy, RowDerivatives, RowGrads, Scores, Sequences, Targets};
use crate::objective::{CorrectionStats, Loss};

/// One prompt, at least a token long, and one completion of it, at least a token long.
#[derive(Debug, Clone, Copy)]
pub struct Sequence<'a> {
    /// What the policy read.
    pub prompt: &'a [u32],
    /// What it is scored on.
    pub completion: &'a [u32],
}

impl Sequence<'_> {
    /// Tokens that the policy reads: the last one is only predicted.
    pub(crate) fn length(&self) -> usize {
        self.prompt.len() + self.completion.len() - 1
    }
}

/// Numbers for every completion token: outer index the sequence, inner the token.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenStats {
    /// ln π(token | prefix) in nats.
    pub log_probs: Vec<Vec<f32>>,
    /// Entropy of the distribution it was drawn from, in nats.
    pub entropy: Vec<Vec<f32>>,
    /// ‖onehot(token) − π‖² = 1 − 2 π(token) + Σ π²: the squared gradient of ln π by the logits (arXiv:2602.07078).
    pub logit_norms: Vec<Vec<f32>>,
    /// Of every sequence ‖∂ Σ ln π/∂(head)‖²; empty unless asked for.
    pub head_norms: Vec<f64>,
}

/// The gradient of a loss, and what was seen on the way.
#[derive(Default)]
pub struct Gradients {
    /// ∂loss/∂weight; empty if the loss depends on no log-prob.
    pub grads: Grads,
    /// The loss.
    pub loss: f64,
    /// Tokens whose gradient a clip bound cut off.
    pub clipped: f64,
    /// Sum of KL estimates over tokens, in nats.
    pub kl: f64,
    /// Log-probs and entropies before the update.
    pub stats: TokenStats,
    /// What the correction for another sampler did.
    pub correction: CorrectionStats,
}

/// Rows of one micro-batch on a `(batch, time)` grid on the CPU, padded with zeros on the right.
pub struct Padded<'a> {
    /// Which sequences the rows are.
    pub rows: &'a [usize],
    /// Longest completion among them.
    pub time: usize,
    /// ln π now, `(batch, time)`: a variable, so that the loss can be derived by it.
    pub log_probs: Var,
    /// Entropy of the distribution that each token was drawn from, likewise.
    pub entropy: Var,
}

impl Padded<'_> {
    /// Lays one value for each token of each row out like the log-probs.
    ///
    /// # Errors
    /// If the tensor cannot be made.
    pub fn grid<'v>(&self, values: impl Fn(usize) -> &'v [f32]) -> Result<Tensor> {
        pad(self.rows, self.time, values)
    }

    /// One value for each row, `(batch, 1)`.
    ///
    /// # Errors
    /// If the tensor cannot be made.
    pub fn column(&self, value: impl Fn(usize) -> f32) -> Result<Tensor> {
        let values: Vec<f32> = self.rows.iter().map(|row| value(*row)).collect();
        Ok(Tensor::from_vec(values, (self.rows.len(), 1), &Device::Cpu)?)
    }
}

/// From the log-probs of some rows to their share of the loss.
pub type LossOf<'a> = dyn Fn(&Padded<'_>) -> Result<Loss> + Sync + 'a;

/// Log-probs and entropies of all completion tokens; logits are divided by `temperature` first. With `head` the exact
/// gradient norm of the head is taken as well, which costs about as much as the head's own pass.
///
/// # Errors
/// If a token is outside the vocabulary or a tensor operation fails.
pub fn log_probs(
    policy: &Policy,
    sequences: &[Sequence<'_>],
    micro_batch_tokens: usize,
    temperature: f64,
    head: bool,
) -> Result<TokenStats> {
    let mut stats = empty_stats(sequences.len());
    stats.head_norms = vec![0.0; if head { sequences.len() } else { 0 }];
    for rows in micro_batches(sequences, micro_batch_tokens) {
        let packed = Packed::new(sequences, &rows);
        let (hidden, _) = policy.forward(&packed.sequences, false)?;
        let targets = packed.targets(temperature);
        let scores = policy.score(&hidden, &targets)?;
        if head {
            let norms = policy.head_norms(&hidden, &targets, &scores, &packed.completions)?;
            rows.iter().zip(norms).for_each(|(row, norm)| stats.head_norms[*row] = norm);
        }
        scatter(&mut stats, &rows, packed.stats(&scores));
    }
    Ok(stats)
}

/// The gradient of a loss over all sequences.
///
/// # Errors
/// If a token is outside the vocabulary, the loss fails or a tensor operation fails.
pub fn gradients(
    policy: &Policy,
    sequences: &[Sequence<'_>],
    micro_batch_tokens: usize,
    temperature: f64,
    loss: &LossOf<'_>,
) -> Result<Gradients> {
    // where there is nothing to add, a line of zeros need not be made
    let mut grads = if sequences.is_empty() { Grads::default() } else { policy.zero_grads() };
    let mut total = gradients_into(policy, sequences, micro_batch_tokens, temperature, loss, &mut grads)?;
    total.grads = grads;
    Ok(total)
}

/// The same, with the gradient added to `grads`; that of the result is empty.
///
/// # Errors
/// As [`gradients`].
pub fn gradients_into(
    policy: &Policy,
    sequences: &[Sequence<'_>],
    micro_batch_tokens: usize,
    temperature: f64,
    loss: &LossOf<'_>,
    grads: &mut Grads,
) -> Result<Gradients> {
    let mut total = Gradients { stats: empty_stats(sequences.len()), ..Gradients::default() };
    for rows in micro_batches(sequences, micro_batch_tokens) {
        let packed = Packed::new(sequences, &rows);
        micro_batch(policy, &packed, &rows, temperature, loss, &mut total, grads)?;
    }
    Ok(total)
}

/// Adds the share of some rows.
fn micro_batch(
    policy: &Policy,
    packed: &Packed,
    rows: &[usize],
    temperature: f64,
    loss: &LossOf<'_>,
    total: &mut Gradients,
    grads: &mut Grads,
) -> Result<()> {
    let (hidden, trace) = policy.forward(&packed.sequences, true)?;
    let trace = trace.expect("a forward that keeps gives a trace");
    let targets = packed.targets(temperature);
    let scores = policy.score(&hidden, &targets)?;
    let stats = packed.stats(&scores);

    let time = packed.completions.iter().copied().max().unwrap_or(0);
    let within: Vec<usize> = (0..rows.len()).collect();
    let log_probs = Var::from_tensor(&pad(&within, time, |row| &stats.log_probs[row])?)?;
    let entropy = Var::from_tensor(&pad(&within, time, |row| &stats.entropy[row])?)?;
    let padded = Padded { rows, time, log_probs, entropy };
    let loss = loss(&padded)?;
    let store = loss.loss.backward()?;
    let line = |var: &Var| -> Result<Vec<f32>> {
        let Some(grid) = store.get(var) else { return Ok(Vec::new()) };
        let grid = grid.to_vec2::<f32>()?;
        let rows = grid.iter().zip(&packed.completions);
        let line: Vec<f32> = rows.flat_map(|(row, length)| row[..*length].iter().copied()).collect();
        Ok(if line.iter().any(|d| *d != 0.0) { line } else { Vec::new() })
    };
    let (mut d_log_probs, d_entropy) = (line(&padded.log_probs)?, line(&padded.entropy)?);
    if !(d_log_probs.is_empty() && d_entropy.is_empty()) {
        d_log_probs.resize(packed.next.len(), 0.0);
        policy.backward(trace, &hidden, &targets, &scores, (&d_log_probs, &d_entropy), grads)?;
    }
    total.loss += f64::from(loss.loss.to_scalar::<f32>()?);
    total.clipped += loss.clipped;
    total.kl += loss.kl;
    total.correction.join(&loss.correction);
    scatter(&mut total.stats, rows, stats);
    Ok(())
}

/// Squared gradient norms of single rows, each the gradient of Σ ln π over its completion.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowNorms {
    /// ‖S‖² of every row, over all parameters.
    pub squared: Vec<f64>,
    /// The same by parameter. A tied embedding has that of its two parts, without what joins them.
    pub by_parameter: BTreeMap<String, Vec<f64>>,
    /// Log-probs and entropies.
    pub stats: TokenStats,
}

/// Measures every row's own gradient, without adding any up: one forward and one backward without weight gradients.
/// Where candle computes, a row at a time goes through a whole backward.
///
/// # Errors
/// If a token is outside the vocabulary or a tensor operation fails.
pub fn row_norms(
    policy: &Policy,
    sequences: &[Sequence<'_>],
    micro_batch_tokens: usize,
    temperature: f64,
) -> Result<RowNorms> {
    let mut norms = RowNorms { stats: empty_stats(sequences.len()), ..RowNorms::default() };
    norms.squared = vec![0.0; sequences.len()];
    for rows in micro_batches(sequences, micro_batch_tokens) {
        let packed = Packed::new(sequences, &rows);
        match open(policy, packed, temperature, false)? {
            Some(open) => {
                for (row, norm) in rows.iter().zip(&open.squared_norms) {
                    norms.squared[*row] = *norm;
                }
                for (name, values) in open.rows.by_parameter() {
                    let all =
                        norms.by_parameter.entry(name.clone()).or_insert_with(|| vec![0.0; sequences.len()]);
                    rows.iter().zip(values).for_each(|(row, value)| all[*row] = *value);
                }
                scatter(&mut norms.stats, &rows, open.stats);
            }
            None => {
                for row in rows {
                    let (grads, stats) = row_gradient(policy, &sequences[row], temperature)?;
                    for (name, gradient) in grads.tensors()? {
                        let squared = f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
                        let all =
                            norms.by_parameter.entry(name).or_insert_with(|| vec![0.0; sequences.len()]);
                        (all[row], norms.squared[row]) = (squared, norms.squared[row] + squared);
                    }
                    scatter(&mut norms.stats, &[row], stats);
                }
            }
        }
    }
    Ok(norms)
}

/// The gradient of Σ ln π over one completion: the score S of a rollout.
///
/// # Errors
/// If a token is outside the vocabulary or a tensor operation fails.
pub fn row_gradient(
    policy: &Policy,
    sequence: &Sequence<'_>,
    temperature: f64,
) -> Result<(Grads, TokenStats)> {
    let result = gradients(policy, std::slice::from_ref(sequence), usize::MAX, temperature, &|padded| {
        Ok(Loss::plain(padded.log_probs.sum_all()?))
    })?;
    Ok((result.grads, result.stats))
}

/// Rows that went through a backward with unit weight, and wait to be added up with weights of the caller's.
pub struct DeferredRows {
    rows: RowGrads,
    /// ‖S‖² of every row, over all parameters.
    pub squared_norms: Vec<f64>,
    /// Log-probs and entropies.
    pub stats: TokenStats,
}

impl DeferredRows {
    /// All sequences in one pass; `None` where candle computes, which keeps nothing.
    ///
    /// # Errors
    /// If a token is outside the vocabulary or a tensor operation fails.
    pub fn new(policy: &Policy, sequences: &[Sequence<'_>], temperature: f64) -> Result<Option<Self>> {
        let rows: Vec<usize> = (0..sequences.len()).collect();
        open(policy, Packed::new(sequences, &rows), temperature, true)
    }

    /// Adds Σ factor · S over rows to `grads`.
    ///
    /// # Errors
    /// If the gradient is another policy's.
    pub fn add(&self, policy: &Policy, factors: &[f32], grads: &mut Grads) -> Result<()> {
        Ok(policy.add_rows(&self.rows, factors, grads)?)
    }

    /// Bytes that the rows hold.
    pub fn bytes(&self) -> usize {
        self.rows.kept_bytes()
    }

    /// Seconds that measuring took.
    pub fn seconds(&self) -> f64 {
        self.rows.seconds()
    }
}

fn open(policy: &Policy, packed: Packed, temperature: f64, keep: bool) -> Result<Option<DeferredRows>> {
    if matches!(policy.compute(), crate::model::Compute::Composed) {
        return Ok(None);
    }
    let (hidden, trace) = policy.forward(&packed.sequences, true)?;
    let trace = trace.expect("a forward that keeps gives a trace");
    let targets = packed.targets(temperature);
    let scores = policy.score(&hidden, &targets)?;
    let ones = vec![1.0; packed.next.len()];
    let own = RowDerivatives { d_log_probs: &ones, scored: &packed.completions, keep };
    let rows = policy.backward_rows(trace, &hidden, &targets, &scores, &own)?;
    Ok(rows.map(|rows| DeferredRows {
        squared_norms: rows.squared_norms(),
        rows,
        stats: packed.stats(&scores),
    }))
}

/// The rows of one micro-batch, ready for the policy.
struct Packed {
    sequences: Sequences,
    /// Positions among all tokens whose next token is scored, one for each completion token.
    places: Vec<u32>,
    /// The tokens that come next there.
    next: Vec<u32>,
    completions: Vec<usize>,
}

impl Packed {
    fn new(all: &[Sequence<'_>], rows: &[usize]) -> Self {
        let mut packed = Self {
            sequences: Sequences::default(),
            places: Vec::new(),
            next: Vec::new(),
            completions: Vec::new(),
        };
        for row in rows {
            let Sequence { prompt, completion } = all[*row];
            let start = (packed.sequences.tokens().len() + prompt.len() - 1) as u32;
            packed.places.extend(start..start + completion.len() as u32);
            packed.next.extend_from_slice(completion);
            packed.completions.push(completion.len());
            let read: Vec<u32> = prompt.iter().chain(&completion[..completion.len() - 1]).copied().collect();
            packed.sequences.push(&read);
        }
        packed
    }

    fn targets(&self, temperature: f64) -> Targets<'_> {
        Targets { places: &self.places, tokens: &self.next, temperature }
    }

    /// Values for all tokens in a line, cut into rows.
    fn stats(&self, scores: &Scores) -> TokenStats {
        let cut = |mut rest: &[f32]| -> Vec<Vec<f32>> {
            let rows = self.completions.iter().map(|length| {
                let (row, tail) = rest.split_at(*length);
                rest = tail;
                row.to_vec()
            });
            rows.collect()
        };
        let squares = scores.log_probs.iter().zip(&scores.squares);
        let logit_norms: Vec<f32> =
            squares.map(|(log_prob, squares)| (1.0 - 2.0 * log_prob.exp() + squares).max(0.0)).collect();
        TokenStats {
            log_probs: cut(&scores.log_probs),
            entropy: cut(&scores.entropy),
            logit_norms: cut(&logit_norms),
            head_norms: Vec::new(),
        }
    }
}

fn pad<'v>(rows: &[usize], time: usize, values: impl Fn(usize) -> &'v [f32]) -> Result<Tensor> {
    let mut grid = vec![0f32; rows.len() * time];
    for (line, row) in grid.chunks_mut(time.max(1)).zip(rows) {
        let values = values(*row);
        line[..values.len()].copy_from_slice(values);
    }
    Ok(Tensor::from_vec(grid, (rows.len(), time), &Device::Cpu)?)
}

fn empty_stats(count: usize) -> TokenStats {
    let none = || vec![Vec::new(); count];
    TokenStats { log_probs: none(), entropy: none(), logit_norms: none(), head_norms: Vec::new() }
}

fn scatter(stats: &mut TokenStats, rows: &[usize], part: TokenStats) {
    for (all, part) in [
        (&mut stats.log_probs, part.log_probs),
        (&mut stats.entropy, part.entropy),
        (&mut stats.logit_norms, part.logit_norms),
    ] {
        rows.iter().zip(part).for_each(|(row, values)| all[*row] = values);
    }
}

/// Rows by falling length, so that neighbours are about as long, cut where `budget` tokens are full. A row alone may
/// exceed the budget.
fn micro_batches(sequences: &[Sequence<'_>], budget: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by_key(|row| std::cmp::Reverse(sequences[*row].length()));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut longest = 0;
    for row in order {
        match batches.last_mut() {
            Some(batch) if (batch.len() + 1) * longest <= budget => batch.push(row),
            _ => {
                longest = sequences[row].length();
                batches.push(vec![row]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_batches_hold_every_row_once_within_their_budget() {
        let tokens = [0u32; 64];
        let sequences: Vec<Sequence<'_>> = [3, 60, 5, 5, 20, 1, 9]
            .iter()
            .map(|n| Sequence { prompt: &tokens[..1], completion: &tokens[..*n] })
            .collect();
        let batches = micro_batches(&sequences, 24);
        let mut seen: Vec<usize> = batches.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..7).collect::<Vec<_>>());
        for batch in &batches {
            let longest = batch.iter().map(|row| sequences[*row].length()).max().expect("not empty");
            assert!(batch.len() == 1 || batch.len() * longest <= 24, "{batch:?}");
        }
        assert_eq!(batches[0], [1]); // alone, though beyond the budget
    }
}
