//! The preference stage: pairs of completions, one preferred, with and without a thinking trace.
//!
//! Before: pairs as tokens, with log-probs by the frozen reference. After: one update on α L_t + (1 − α) L_e, where L_t is the
//! mean over pairs that think and L_e over pairs whose trace is empty (part of the prompt).
//!
//! # Source
//! BVPO, arXiv:2510.05095, on the losses of [`crate::objective::preference`].

use std::sync::Arc;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::gradient::{self, Sequence};
use crate::ledger::ChunkSums;
use crate::mixture::{Alpha, Mixture, MixtureConfig, Moments};
use crate::model::{Grads, Policy};
use crate::objective::Loss;
use crate::objective::preference::{Pairs, PreferenceLoss};
use crate::optimizer::Optimizer;

/// Two completions of one prompt, each at least a token long.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// What the policy reads; an empty trace is part of it.
    pub prompt_tokens: Arc<[u32]>,
    /// The preferred completion.
    pub chosen: Vec<u32>,
    /// The other.
    pub rejected: Vec<u32>,
    /// ln π_ref of both, summed over tokens, in nats: chosen first.
    pub reference: [f32; 2],
}

/// A pair's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Branch {
    /// With a trace.
    Thinking,
    /// The trace is empty.
    Empty,
}

/// What one update did.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PairsUpdate {
    /// α L_t + (1 − α) L_e, in nats, before the update.
    pub loss: f64,
    /// L_t; absent if that branch was not computed.
    pub loss_thinking: Option<f64>,
    /// L_e likewise.
    pub loss_empty: Option<f64>,
    /// Share of pairs whose preferred completion gained more on the reference than the other.
    pub accuracy: f64,
    /// Mean of (ln π − ln π_ref) of the preferred completion less that of the other, in nats.
    pub margin: f64,
    /// α.
    pub alpha: f64,
    /// Second moments of the two branches' gradients, where they were seen.
    pub moments: Option<Moments>,
    /// Global gradient norm before the clip.
    pub grad_norm: f64,
    /// Learning rate used.
    pub learning_rate: f64,
    /// Tokens that went through the policy with a gradient.
    pub tokens: usize,
}

/// How pairs are trained on.
#[derive(Debug, Clone, PartialEq)]
pub struct PairsConfig {
    /// The loss of a pair.
    pub loss: PreferenceLoss,
    /// How the branches are mixed.
    pub mixture: MixtureConfig,
    /// Parts of each branch whose gradients are seen apart, for [`Alpha::Moment`].
    pub chunks: usize,
    /// Tokens of one forward pass.
    pub micro_batch_tokens: usize,
}

/// What the passes over a branch came to, summed.
#[derive(Default)]
struct BranchSums {
    loss: f64,
    right: f64,
    margin: f64,
    tokens: usize,
}

/// One update on pairs of both branches. A branch whose weight is 0 is not computed; one without pairs leaves the whole
/// update to the other.
///
/// # Errors
/// If a token is outside the vocabulary or a gradient is not finite.
pub fn step(
    policy: &mut Policy,
    optimizer: &mut Optimizer,
    mixture: &mut Mixture,
    config: &PairsConfig,
    thinking: &[&Pair],
    empty: &[&Pair],
) -> Result<PairsUpdate> {
    let fixed = match (thinking.is_empty(), empty.is_empty(), config.mixture.alpha) {
        (true, _, _) => Some(0.0),
        (_, true, _) => Some(1.0),
        (_, _, Alpha::Fixed(alpha)) => Some(alpha),
        _ => None,
    };
    let (mut update, mut total) = (PairsUpdate::default(), Grads::default());
    let (mut seen_t, mut seen_e) = (BranchSums::default(), BranchSums::default());
    let add = |pairs: &[&Pair], weight: f64, whole: usize, into: &mut Grads, seen: &mut BranchSums| {
        gradient_of(policy, config, pairs, weight / whole as f64, into, seen)
    };
    match fixed {
        Some(alpha) => {
            update.alpha = alpha;
            // skipped, not multiplied by 0
            if alpha > 0.0 {
                add(thinking, alpha, thinking.len(), &mut total, &mut seen_t)?;
            }
            if alpha < 1.0 {
                add(empty, 1.0 - alpha, empty.len(), &mut total, &mut seen_e)?;
            }
        }
        None => {
            let parts = match config.mixture.alpha {
                Alpha::Regression => 2,
                _ => config.chunks.max(2),
            };
            let mut sums = ChunkSums::<2>::new();
            let cut = |pairs: usize, part: usize| part * pairs / parts..(part + 1) * pairs / parts;
            for part in 0..parts {
                let some = [&thinking[cut(thinking.len(), part)], &empty[cut(empty.len(), part)]];
                add(some[0], 1.0, thinking.len(), sums.chunk(policy, 0), &mut seen_t)?;
                add(some[1], 1.0, empty.len(), sums.chunk(policy, 1), &mut seen_e)?;
                sums.end_chunk(some.map(<[_]>::len))?;
            }
            update.moments = sums.moments()?;
            let fraction = update.moments.map(|moments| moments.fraction());
            let finite = fraction.filter(|(n, d)| n.is_finite() && d.is_finite());
            update.alpha = mixture.observe(&config.mixture, finite);
            total = sums.mixture(policy, update.alpha)?;
        }
    }
    let mean = |seen: &BranchSums, pairs: usize| (seen.tokens > 0).then(|| seen.loss / pairs as f64);
    update.loss_thinking = mean(&seen_t, thinking.len());
    update.loss_empty = mean(&seen_e, empty.len());
    update.loss = update.alpha * update.loss_thinking.unwrap_or(0.0)
        + (1.0 - update.alpha) * update.loss_empty.unwrap_or(0.0);
    let counted = |seen: &BranchSums, pairs: usize| if seen.tokens > 0 { pairs as f64 } else { 0.0 };
    let pairs = counted(&seen_t, thinking.len()) + counted(&seen_e, empty.len());
    update.accuracy = (seen_t.right + seen_e.right) / pairs.max(1.0);
    update.margin = (seen_t.margin + seen_e.margin) / pairs.max(1.0);
    update.tokens = seen_t.tokens + seen_e.tokens;
    let stats = optimizer.update(policy, total, 1.0)?;
    (update.grad_norm, update.learning_rate) = (stats.grad_norm, stats.learning_rate);
    Ok(update)
}

fn ready(policy: &Policy, grads: &mut Grads) {
    if !grads.is_of(policy) {
        *grads = policy.zero_grads();
    }
}

/// Adds `weight` times the gradient of the sum of the pairs' losses.
fn gradient_of(
    policy: &Policy,
    config: &PairsConfig,
    pairs: &[&Pair],
    weight: f64,
    grads: &mut Grads,
    seen: &mut BranchSums,
) -> Result<()> {
    ready(policy, grads);
    for pair in pairs {
        // both completions in one pass: a loss of the pair needs both sums
        let sequences = [&pair.chosen, &pair.rejected]
            .map(|completion| Sequence { prompt: &pair.prompt_tokens, completion });
        let lengths = [pair.chosen.len() as f32, pair.rejected.len() as f32];
        let budget =
            config.micro_batch_tokens.max(2 * sequences.iter().map(Sequence::length).max().unwrap_or(1));
        let result = gradient::gradients_into(
            policy,
            &sequences,
            budget,
            1.0,
            &|padded| {
                let column = padded.log_probs.sum(1)?;
                let of = |row: usize| {
                    let place =
                        padded.rows.iter().position(|other| *other == row).expect("both are in one pass");
                    column.narrow(0, place, 1)
                };
                let (chosen, rejected) = (of(0)?, of(1)?);
                let number = |x: f32| Tensor::new(&[x], &Device::Cpu);
                let losses = config.loss.losses(&Pairs {
                    chosen: &chosen,
                    rejected: &rejected,
                    reference_chosen: &number(pair.reference[0])?,
                    reference_rejected: &number(pair.reference[1])?,
                    chosen_tokens: &number(lengths[0])?,
                    rejected_tokens: &number(lengths[1])?,
                })?;
                Ok(Loss::plain((losses.sum_all()? * weight)?))
            },
            grads,
        )?;
        let gain = |place: usize| {
            let sum: f64 = result.stats.log_probs[place].iter().map(|x| f64::from(*x)).sum();
            sum - f64::from(pair.reference[place])
        };
        let margin = gain(0) - gain(1);
        seen.loss += result.loss / weight;
        seen.right += f64::from(u8::from(margin > 0.0));
        seen.margin += margin;
        seen.tokens += sequences.iter().map(|s| s.prompt.len() + s.completion.len()).sum::<usize>();
    }
    Ok(())
}

/// Summed log-probs of completions by a policy, in nats: what the reference says of pairs, once for the whole stage.
///
/// # Errors
/// If a token is outside the vocabulary or a tensor operation fails.
pub fn summed(policy: &Policy, sequences: &[Sequence<'_>], micro_batch_tokens: usize) -> Result<Vec<f32>> {
    let stats = gradient::log_probs(policy, sequences, micro_batch_tokens, 1.0, false)?;
    let sum = |row: &Vec<f32>| row.iter().map(|x| f64::from(*x)).sum::<f64>() as f32;
    Ok(stats.log_probs.iter().map(sum).collect())
}
