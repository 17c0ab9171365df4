//! Token rows go through the policy, forwards and back.
//!
//! Before: [`crate::batch`] or a supervised example names prompts and completions. After: [`crate::optimizer`] turns
//! the gradient into a change of the weights. Rows are cut into micro-batches of bounded size; their gradients are
//! added in a fixed order, so that the number of threads changes nothing.

use candle_core::{DType, Device, Tensor, Var};
use rayon::prelude::*;

use crate::model::{Policy, Sequences};
use crate::objective::Loss;
use crate::{Result, Tensors};

/// Gradients that fit in this many bytes together may be computed side by side.
const SIDE_BY_SIDE: usize = 256 << 20;

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
    /// ∂loss/∂weight under the weight's name; empty if the loss depends on no log-prob.
    pub grads: Tensors,
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
    let batches = micro_batches(sequences, micro_batch_tokens);
    let mut stats = empty_stats(sequences.len());
    for wave in batches.chunks(at_once(policy)) {
        let parts = wave
            .par_iter()
            .map(|rows| {
                let packed = Packed::new(policy, sequences, rows)?;
                let hidden = policy.hidden(&packed.sequences)?.index_select(&packed.places, 0)?;
                packed.stats(policy.log_probs(&hidden, &packed.targets, temperature)?)
            })
            .collect::<Result<Vec<_>>>()?;
        for (rows, part) in wave.iter().zip(parts) {
            scatter(&mut stats, rows, part);
        }
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
    let batches = micro_batches(sequences, micro_batch_tokens);
    let mut total = Gradients { stats: empty_stats(sequences.len()), ..Gradients::default() };
    for wave in batches.chunks(at_once(policy)) {
        let parts = wave
            .par_iter()
            .map(|rows| micro_batch(policy, &Packed::new(policy, sequences, rows)?, rows, temperature, loss))
            .collect::<Result<Vec<_>>>()?;
        for (rows, part) in wave.iter().zip(parts) {
            total.loss += part.loss;
            total.clipped += part.clipped;
            total.kl += part.kl;
            scatter(&mut total.stats, rows, part.stats);
            for (name, grad) in part.grads {
                let sum = match total.grads.remove(&name) {
                    Some(sum) => (sum + grad)?,
                    None => grad,
                };
                total.grads.insert(name, sum);
            }
        }
    }
    Ok(total)
}

fn micro_batch(
    policy: &Policy,
    packed: &Packed,
    rows: &[usize],
    temperature: f64,
    loss: &LossOf<'_>,
) -> Result<Gradients> {
    let (trace, hidden) = policy.trace(&packed.sequences)?;
    let chosen = hidden.index_select(&packed.places, 0)?;
    let stats = packed.stats(policy.log_probs(&chosen, &packed.targets, temperature)?)?;

    let time = packed.completions.iter().copied().max().unwrap_or(0);
    let within: Vec<usize> = (0..rows.len()).collect();
    let log_probs = Var::from_tensor(&pad(&within, time, |row| &stats.log_probs[row])?)?;
    let padded = Padded { rows, time, log_probs };
    let loss = loss(&padded)?;
    let mut grads = Tensors::new();
    if let Some(d_grid) = loss.loss.backward()?.get(&padded.log_probs) {
        let d_grid = d_grid.to_vec2::<f32>()?;
        let d_log_probs: Vec<f32> = d_grid
            .iter()
            .zip(&packed.completions)
            .flat_map(|(row, length)| row[..*length].iter().copied())
            .collect();
        if d_log_probs.iter().any(|d| *d != 0.0) {
            let count = d_log_probs.len();
            let d_log_probs = Tensor::from_vec(d_log_probs, count, policy.device())?;
            let d_chosen =
                policy.log_probs_backward(&chosen, &packed.targets, temperature, &d_log_probs, &mut grads)?;
            let d_hidden = hidden.zeros_like()?.index_add(&packed.places, &d_chosen, 0)?;
            policy.backward(trace, &d_hidden, &mut grads)?;
        }
    }
    let value = f64::from(loss.loss.to_scalar::<f32>()?);
    Ok(Gradients { grads, loss: value, clipped: loss.clipped, kl: loss.kl, stats })
}

/// The rows of one micro-batch, ready for the policy.
struct Packed {
    sequences: Sequences,
    /// Positions among all tokens whose next token is scored, `(completion tokens,)`.
    places: Tensor,
    /// The tokens that come next there, `(completion tokens,)`.
    targets: Tensor,
    completions: Vec<usize>,
}

impl Packed {
    fn new(policy: &Policy, all: &[Sequence<'_>], rows: &[usize]) -> Result<Self> {
        let mut sequences = Sequences::default();
        let (mut places, mut targets, mut completions) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let Sequence { prompt, completion } = all[*row];
            let start = (sequences.tokens().len() + prompt.len() - 1) as u32;
            places.extend(start..start + completion.len() as u32);
            targets.extend_from_slice(completion);
            completions.push(completion.len());
            let read: Vec<u32> = prompt.iter().chain(&completion[..completion.len() - 1]).copied().collect();
            sequences.push(&read);
        }
        let device = policy.device();
        Ok(Self {
            sequences,
            places: Tensor::new(places, device)?,
            targets: Tensor::new(targets, device)?,
            completions,
        })
    }

    /// Values for all tokens in a line, cut into rows.
    fn stats(&self, (log_probs, entropy): (Tensor, Tensor)) -> Result<TokenStats> {
        let cut = |x: Tensor| -> Result<Vec<Vec<f32>>> {
            let flat = x.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            let mut rest = flat.as_slice();
            Ok(self
                .completions
                .iter()
                .map(|length| {
                    let (row, tail) = rest.split_at(*length);
                    rest = tail;
                    row.to_vec()
                })
                .collect())
        };
        Ok(TokenStats { log_probs: cut(log_probs)?, entropy: cut(entropy)? })
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

/// How many micro-batches to compute side by side.
fn at_once(policy: &Policy) -> usize {
    let bytes = 4 * policy.config().parameter_count();
    rayon::current_num_threads().min(SIDE_BY_SIDE / bytes.max(1)).max(1)
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
