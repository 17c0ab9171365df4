//! The supervised stage: prompt → answer, with the loss on the answer only.
//!
//! Before: prompts with reference answers, as tokens. After: a policy that has seen the task, ready for RL.

use std::sync::Arc;

use crate::Result;
use crate::gradient::{self, Sequence};
use crate::model::Policy;
use crate::objective::Loss;
use crate::optimizer::Optimizer;

/// A prompt and what should follow it, both at least one token.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// What the policy reads.
    pub prompt_tokens: Arc<[u32]>,
    /// What it should write, its stop token included.
    pub answer_tokens: Vec<u32>,
}

/// What a supervised step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SupervisedUpdate {
    /// Mean −ln π over answer tokens, in nats, before the update.
    pub loss: f64,
    /// Global gradient norm before the clip.
    pub grad_norm: f64,
    /// Learning rate used.
    pub learning_rate: f64,
    /// Answer tokens.
    pub tokens: usize,
}

/// One update on the mean negative log-likelihood of the answers' tokens.
///
/// # Errors
/// If a token is outside the vocabulary or a gradient is not finite.
pub fn step(
    policy: &mut Policy,
    optimizer: &mut Optimizer,
    examples: &[Example],
    micro_batch_tokens: usize,
) -> Result<SupervisedUpdate> {
    let sequences: Vec<Sequence<'_>> = examples
        .iter()
        .map(|e| Sequence { prompt: &e.prompt_tokens, completion: &e.answer_tokens })
        .collect();
    let tokens: usize = examples.iter().map(|e| e.answer_tokens.len()).sum();
    // Padding holds log-probs of 0, which add nothing.
    let result = gradient::gradients(policy, &sequences, micro_batch_tokens, 1.0, &|padded| {
        let loss = (padded.log_probs.sum_all()? * (-1.0 / tokens as f64))?;
        Ok(Loss::plain(loss))
    })?;
    let stats = optimizer.update(policy, result.grads, 1.0)?;
    Ok(SupervisedUpdate {
        loss: result.loss,
        grad_norm: stats.grad_norm,
        learning_rate: stats.learning_rate,
        tokens,
    })
}
