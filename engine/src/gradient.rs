//! Token rows go through the policy, forwards and back.
//!
//! Before: [`crate::batch`] or a supervised example names prompts and completions. After: [`crate::optimizer`] turns
//! the gradient into a change of the weights. Rows are cut into micro-batches of bounded size; their gradients are
//! added one after another into one sum.

use candle_core::{Device, Tensor, Var};

use crate::Result;
use crate::model::{Grads, Policy, Scores, Sequences, Targets};
use crate::objective::Loss;

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
    fn length(&self) -> usize {
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
}

/// Rows of one micro-batch on a `(batch, time)` grid on the CPU, padded with zeros on the right.
pub struct Padded<'a> {
    /// Which sequences the rows are.
    pub rows: &'a [usize],
    /// Longest completion among them.
    pub time: usize,
    /// ln π now, `(batch, time)`: a variable, so that the loss can be derived by it.
    pub log_probs: Var,
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

/// Log-probs and entropies of all completion tokens; logits are divided by `temperature` first.
///
/// # Errors
/// If a token is outside the vocabulary or a tensor operation fails.
pub fn log_probs(
    policy: &Policy,
    sequences: &[Sequence<'_>],
    micro_batch_tokens: usize,
    temperature: f64,
) -> Result<TokenStats> {
    let mut stats = empty_stats(sequences.len());
    for rows in micro_batches(sequences, micro_batch_tokens) {
        let packed = Packed::new(sequences, &rows);
        let (hidden, _) = policy.forward(&packed.sequences, false)?;
        let scores = policy.score(&hidden, &packed.targets(temperature))?;
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
    let stats = empty_stats(sequences.len());
    // where there is nothing to add, a line of zeros need not be made
    let grads = if sequences.is_empty() { Grads::default() } else { policy.zero_grads() };
    let mut total = Gradients { stats, grads, ..Gradients::default() };
    for rows in micro_batches(sequences, micro_batch_tokens) {
        let packed = Packed::new(sequences, &rows);
        micro_batch(policy, &packed, &rows, temperature, loss, &mut total)?;
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
) -> Result<()> {
    let (hidden, trace) = policy.forward(&packed.sequences, true)?;
    let trace = trace.expect("a forward that keeps gives a trace");
    let targets = packed.targets(temperature);
    let scores = policy.score(&hidden, &targets)?;
    let stats = packed.stats(&scores);

    let time = packed.completions.iter().copied().max().unwrap_or(0);
    let within: Vec<usize> = (0..rows.len()).collect();
    let log_probs = Var::from_tensor(&pad(&within, time, |row| &stats.log_probs[row])?)?;
    let padded = Padded { rows, time, log_probs };
    let loss = loss(&padded)?;
    if let Some(d_grid) = loss.loss.backward()?.get(&padded.log_probs) {
        let d_grid = d_grid.to_vec2::<f32>()?;
        let d_log_probs: Vec<f32> = d_grid
            .iter()
            .zip(&packed.completions)
            .flat_map(|(row, length)| row[..*length].iter().copied())
            .collect();
        if d_log_probs.iter().any(|d| *d != 0.0) {
            policy.backward(trace, &hidden, &targets, &scores, &d_log_probs, &mut total.grads)?;
        }
    }
    total.loss += f64::from(loss.loss.to_scalar::<f32>()?);
    total.clipped += loss.clipped;
    total.kl += loss.kl;
    scatter(&mut total.stats, rows, stats);
    Ok(())
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
        TokenStats { log_probs: cut(&scores.log_probs), entropy: cut(&scores.entropy) }
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
    TokenStats { log_probs: vec![Vec::new(); count], entropy: vec![Vec::new(); count] }
}

fn scatter(stats: &mut TokenStats, rows: &[usize], part: TokenStats) {
    for ((row, log_probs), entropy) in rows.iter().zip(part.log_probs).zip(part.entropy) {
        stats.log_probs[*row] = log_probs;
        stats.entropy[*row] = entropy;
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
