//! A budget for thinking: a block that has grown too long is closed for the policy.

use engine::model::Tokenizer;

use crate::error::RolloutError;
use crate::sampling::Sampling;

/// The budget in tokens, with the tokens that open and close a block.
#[derive(Debug, Clone)]
pub(crate) struct ThinkingBudget {
    budget: usize,
    open: u32,
    close: u32,
    /// The tokens that close the block.
    closing: Vec<u32>,
}

impl ThinkingBudget {
    /// The budget that the settings ask for.
    ///
    /// # Errors
    /// If `<think>` or `</think>` is not a token of its own.
    pub(crate) fn new(sampling: &Sampling, tokenizer: &Tokenizer) -> Result<Option<Self>, RolloutError> {
        let Some(budget) = sampling.thinking_budget else { return Ok(None) };
        let (open, close) = match ["<think>", "</think>"].map(|token| tokenizer.token_to_id(token)) {
            [Some(open), Some(close)] => (open, close),
            _ => {
                let reason = sampling.thinking_problem(tokenizer).unwrap_or_default();
                return Err(RolloutError::Sampling { reason });
            }
        };
        Ok(Some(Self { budget, open, close, closing: tokenizer.encode(&sampling.thinking_close)? }))
    }

    /// The token that has to come next whatever the policy says, if there is one. `forced` is how many of the last
    /// tokens were put there for the same reason.
    pub(crate) fn next(&self, prompt: &[u32], tokens: &[u32], forced: usize) -> Option<u32> {
        if forced > 0 && forced < self.closing.len() {
            return Some(self.closing[forced]);
        }
        let mut thinks = false;
        let mut thought = 0;
        for (place, token) in prompt.iter().chain(tokens).enumerate() {
            if *token == self.open {
                thinks = true;
            } else if *token == self.close {
                thinks = false;
            } else if thinks && place >= prompt.len() {
                thought += 1;
            }
        }
        (thinks && thought >= self.budget).then(|| self.closing[0])
    }
}
