//! The output head: log-probs and entropies of tokens, and their backward, in chunks.
//!
//! Before: final hidden states. After: an objective weighs the log-probs. Logits of a chunk of tokens live only as
//! long as the chunk, so nothing of shape `[tokens, vocab]` exists, and the backward is written out instead of
//! recorded:  ∂ log π(y)/∂z = onehot(y) − p  and  ∂H/∂z = −p (ln p + H), with z the logits over the temperature.

use candle_core::{D, DType, Result, Tensor};

/// Numbers in one chunk of logits: 64 MiB of f32.
const CHUNK: usize = 1 << 24;

/// Logits of a chunk over the temperature, with what a softmax needs.
struct Chunk {
    logits: Tensor,
    /// e^(z − max), `(chunk, vocab)`, and its sum, `(chunk, 1)`.
    exp: Tensor,
    sum: Tensor,
    /// ln Σ e^z, `(chunk, 1)`.
    log_sum_exp: Tensor,
}

impl Chunk {
    fn new(hidden: &Tensor, head: &Tensor, temperature: f64) -> Result<Self> {
        let logits = (super::layers::linear(hidden, head, None)? / temperature)?;
        let max = logits.max_keepdim(D::Minus1)?;
        let exp = logits.broadcast_sub(&max)?.exp()?;
        let sum = exp.sum_keepdim(D::Minus1)?;
        let log_sum_exp = (sum.log()? + max)?;
        Ok(Self { logits, exp, sum, log_sum_exp })
    }

    fn log_probs(&self, targets: &Tensor) -> Result<Tensor> {
        self.logits.gather(targets, 1)? - &self.log_sum_exp
    }

    fn entropy(&self) -> Result<Tensor> {
        &self.log_sum_exp - (&self.exp * &self.logits)?.sum_keepdim(D::Minus1)?.div(&self.sum)?
    }
}

fn chunks(hidden: &Tensor, head: &Tensor) -> Result<Vec<(usize, usize)>> {
    let (tokens, size) = (hidden.dim(0)?, (CHUNK / head.dim(0)?).max(1));
    Ok((0..tokens).step_by(size).map(|start| (start, size.min(tokens - start))).collect())
}

/// ln π(target), entropy and Σ p² of the next-token distribution at each position, the first two in nats, `(tokens,)`.
/// `hidden` is `(tokens, hidden)` after the final norm, `head` `(vocab, hidden)`, `targets` `(tokens,)` u32.
/// No gradient is recorded: see [`log_probs_backward`].
pub(super) fn log_probs(
    hidden: &Tensor,
    head: &Tensor,
    targets: &Tensor,
    temperature: f64,
) -> Result<[Tensor; 3]> {
    let (mut log_probs, mut entropy, mut squares) = (Vec::new(), Vec::new(), Vec::new());
    for (start, size) in chunks(hidden, head)? {
        let chunk = Chunk::new(&hidden.narrow(0, start, size)?, head, temperature)?;
        let targets = targets.narrow(0, start, size)?.unsqueeze(1)?;
        log_probs.push(chunk.log_probs(&targets)?.squeeze(1)?);
        entropy.push(chunk.entropy()?.squeeze(1)?);
        squares.push(chunk.exp.broadcast_div(&chunk.sum)?.sqr()?.sum(1)?);
    }
    if log_probs.is_empty() {
        let none = || Tensor::zeros(0, DType::F32, hidden.device());
        return Ok([none()?, none()?, none()?]);
    }
    Ok([Tensor::cat(&log_probs, 0)?, Tensor::cat(&entropy, 0)?, Tensor::cat(&squares, 0)?])
}

/// Backward of [`log_probs`]: from ∂L/∂log π and, if there is one, ∂L/∂entropy, `(tokens,)`, to ∂L/∂hidden `(tokens, hidden)` and ∂L/∂head
/// `(vocab, hidden)`.
pub(super) fn log_probs_backward(
    hidden: &Tensor,
    head: &Tensor,
    targets: &Tensor,
    temperature: f64,
    d_log_probs: &Tensor,
    d_entropy: Option<&Tensor>,
) -> Result<(Tensor, Tensor)> {
    let (mut d_hidden, mut d_head) = (Vec::new(), None::<Tensor>);
    for (start, size) in chunks(hidden, head)? {
        let hidden = hidden.narrow(0, start, size)?.contiguous()?;
        let chunk = Chunk::new(&hidden, head, temperature)?;
        let weights = (d_log_probs.narrow(0, start, size)?.unsqueeze(1)? / temperature)?;
        let targets = targets.narrow(0, start, size)?.unsqueeze(1)?.contiguous()?;
        let d_logits = chunk.exp.broadcast_mul(&weights.neg()?.div(&chunk.sum)?)?;
        let mut d_logits = d_logits.scatter_add(&targets, &weights.contiguous()?, 1)?;
        if let Some(d_entropy) = d_entropy {
            let factor = (d_entropy.narrow(0, start, size)?.unsqueeze(1)? / -temperature)?;
            let p = chunk.exp.broadcast_div(&chunk.sum)?;
            let log_p = chunk.logits.broadcast_sub(&chunk.log_sum_exp)?;
            let spread = (&p * log_p.broadcast_add(&chunk.entropy()?)?)?;
            d_logits = (d_logits + spread.broadcast_mul(&factor)?)?;
        }
        d_hidden.push(d_logits.matmul(head)?);
        let part = d_logits.t()?.matmul(&hidden)?;
        d_head = Some(match d_head {
            Some(sum) => (sum + part)?,
            None => part,
        });
    }
    match d_head {
        Some(d_head) => Ok((Tensor::cat(&d_hidden, 0)?, d_head)),
        None => Ok((hidden.zeros_like()?, head.zeros_like()?)),
    }
}
