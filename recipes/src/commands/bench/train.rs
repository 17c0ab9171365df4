//! Training steps.

use std::time::Instant;

use anyhow::Result;
use engine::gradient::{self, Sequence};
use engine::model::Policy;
use engine::objective::Loss;
use engine::optimizer::Optimizer;
use engine::schedule::Schedule;
use engine::transform::OptimizerConfig;

use super::args::BenchArgs;
use crate::timing::middle;

/// Seconds of one training step: forward, backward and AdamW over `batch` rows of `length` tokens.
pub(super) fn train(policy: &mut Policy, args: &BenchArgs) -> Result<f64> {
    let vocab = policy.config().vocab_size as u32;
    let tokens: Vec<Vec<u32>> = (0..args.batch as u32)
        .map(|row| (0..=args.length as u32).map(|i| (row * 7919 + i * 104_729) % vocab).collect())
        .collect();
    let sequences: Vec<Sequence<'_>> =
        tokens.iter().map(|row| Sequence { prompt: &row[..1], completion: &row[1..] }).collect();
    let count = (args.batch * args.length) as f64;
    let schedule = Schedule { learning_rate: 1e-5, ..Schedule::default() };
    let mut optimizer = Optimizer::new(&OptimizerConfig::default(), &schedule, 1000);
    let mut times = Vec::new();
    for step in 0..=args.steps {
        let begun = Instant::now();
        let result = gradient::gradients(policy, &sequences, args.micro_batch, 1.0, &|padded| {
            let loss = (padded.log_probs.sum_all()? * (-1.0 / count))?;
            Ok(Loss::plain(loss))
        })?;
        optimizer.update(policy, result.grads, 1.0)?;
        if step > 0 {
            times.push(begun.elapsed().as_secs_f64());
        }
    }
    Ok(middle(times))
}
