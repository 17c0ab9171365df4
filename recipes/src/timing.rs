//! Work to time: a model of arbitrary weights, and decoding steps of it.
//!
//! `evenkeel bench` prints the times; [`crate::estimate`] predicts a run's from them.

use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use engine::Tensors;
use engine::model::{KvRow, ModelConfig, Policy};
use rayon::prelude::*;
use rollout::{DrawContext, Sampling, draw};

/// Weights of the usual sizes that mean nothing; products take the same time for all.
pub(crate) fn arbitrary_weights(config: &ModelConfig) -> Result<Tensors> {
    let mut weights = Tensors::new();
    for (name, shape) in config.parameters() {
        let count: usize = shape.iter().product();
        let numbers: Vec<f32> = if name.ends_with("norm.weight") {
            vec![1.0; count]
        } else {
            (0..count as u32).into_par_iter().map(scattered).collect()
        };
        weights.insert(name, Tensor::from_vec(numbers, shape, &Device::Cpu)?);
    }
    Ok(weights)
}

/// A number in ±0.035 that depends on the place alone.
fn scattered(place: u32) -> f32 {
    let x = place.wrapping_mul(0x9e37_79b9);
    let x = (x ^ (x >> 15)).wrapping_mul(0x85eb_ca6b);
    ((x ^ (x >> 13)) >> 8) as f32 / (1 << 24) as f32 * 0.07 - 0.035
}

/// Seconds of one decoding step for so many rows behind `context` tokens, drawing included: the median of `tokens` steps, before
/// each of which `between` is called.
pub(crate) fn decode(
    policy: &Policy,
    (rows, context, tokens): (usize, usize, usize),
    shared: bool,
    between: &mut dyn FnMut(),
) -> Result<f64> {
    let vocab = policy.config().vocab_size;
    let prompt: Vec<u32> = (0..context as u32).map(|i| i * 7919 % vocab as u32).collect();
    let mut caches = Vec::new();
    if shared {
        let mut first = KvRow::to_share(policy, context)?;
        policy.extend(&mut [(&mut first, &prompt)])?;
        let prefix = first.share();
        for _ in 0..rows {
            caches.push(KvRow::behind(&prefix, context + tokens + 1)?);
        }
    } else {
        for _ in 0..rows {
            let mut row = KvRow::new(policy, context + tokens + 1)?;
            policy.extend(&mut [(&mut row, &prompt)])?;
            caches.push(row);
        }
    }
    let mut next: Vec<[u32; 1]> = (0..rows as u32).map(|row| [row % vocab as u32]).collect();
    let sampling = Sampling::default();
    let mut times = Vec::new();
    let mut step = |token: usize| -> Result<()> {
        let mut inputs: Vec<(&mut KvRow, &[u32])> =
            caches.iter_mut().zip(&next).map(|(cache, next)| (cache, next.as_slice())).collect();
        let hidden = policy.extend(&mut inputs)?;
        let places: Vec<u32> = (0..rows as u32).collect();
        let mut logits = policy.logits(&hidden, &places)?;
        next.par_iter_mut().zip(logits.par_chunks_exact_mut(vocab)).enumerate().try_for_each(
            |(row, (next, logits))| -> Result<()> {
                let uniform = f64::from(scattered((row * 1000 + token) as u32)) * 14.0 + 0.5;
                let drawn = draw(logits, &sampling, DrawContext::default(), uniform.clamp(0.0, 0.999));
                next[0] = drawn.context("the logits are not finite")?.token;
                Ok(())
            },
        )
    };
    for token in 0..tokens {
        between();
        let begun = Instant::now();
        engine::kernels::awake(|| step(token))?;
        if token > 0 {
            times.push(begun.elapsed().as_secs_f64());
        }
    }
    Ok(middle(times))
}

/// The median; the upper of the two in the middle.
pub(crate) fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
