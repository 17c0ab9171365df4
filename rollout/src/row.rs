//! A rollout on its way: what it has drawn, and how the next token comes to it.
//!
//! Before: logits behind its last token. After: it goes on, or has ended and becomes a [`Rollout`].

use data::{Alternative, PolicyVersion, Rollout, StopReason, TokenSeed};

use crate::draw::{DrawContext, draw};
use crate::error::RolloutError;
use crate::sampling::Sampling;
use crate::stop::Stops;
use crate::task::Task;
use crate::thinking::ThinkingBudget;

/// Settings that all rows are drawn by.
pub(crate) struct Drawing<'a> {
    pub(crate) sampling: &'a Sampling,
    pub(crate) stops: Stops<'a>,
    pub(crate) thinking: Option<ThinkingBudget>,
}

/// A rollout on its way.
pub(crate) struct Row {
    pub(crate) group: usize,
    pub(crate) place: usize,
    pub(crate) tokens: Vec<u32>,
    pub(crate) stop: Option<StopReason>,
    /// Tokens that it may have.
    pub(crate) budget: usize,
    /// Guesses in the pass under way.
    pub(crate) guess: Vec<u32>,
    /// Guesses so far, and those that were right.
    pub(crate) guessed: usize,
    pub(crate) accepted: usize,
    seed: TokenSeed,
    log_probs: Vec<f32>,
    entropy: Vec<f32>,
    top: Vec<Vec<Alternative>>,
    forced: Vec<std::ops::Range<usize>>,
}

impl Row {
    pub(crate) fn new(group: usize, place: usize, seed: TokenSeed, budget: usize) -> Self {
        Self {
            group,
            place,
            tokens: Vec::new(),
            stop: None,
            budget,
            guess: Vec::new(),
            guessed: 0,
            accepted: 0,
            seed,
            log_probs: Vec::new(),
            entropy: Vec::new(),
            top: Vec::new(),
            forced: Vec::new(),
        }
    }

    /// Draws a token and adds it.
    pub(crate) fn push(
        &mut self,
        task: &Task,
        logits: &mut [f32],
        drawing: &Drawing<'_>,
    ) -> Result<(), RolloutError> {
        let sampling = drawing.sampling;
        let token = self.tokens.len();
        let forced = self.forced.last().filter(|run| run.end == token).map_or(0, ExactSizeIterator::len);
        let next = drawing.thinking.as_ref().and_then(|t| t.next(&task.tokens, &self.tokens, forced));
        let id = if let Some(next) = next {
            match self.forced.last_mut().filter(|_| forced > 0) {
                Some(run) => run.end += 1,
                None => self.forced.push(token..token + 1),
            }
            self.log_probs.push(0.0);
            if sampling.entropy {
                self.entropy.push(0.0);
            }
            if sampling.top_log_probs > 0 {
                self.top.push(vec![Alternative { token: next, log_prob: 0.0 }]);
            }
            next
        } else {
            let stop_tokens = &drawing.stops.tokens;
            let context = DrawContext { prompt: &task.tokens, tokens: &self.tokens, stop_tokens };
            let Some(drawn) = draw(logits, sampling, context, self.seed.uniform(token)) else {
                return Err(RolloutError::Logits { id: task.prompt.id.clone(), token });
            };
            self.log_probs.push(drawn.log_prob);
            self.entropy.extend(drawn.entropy);
            if sampling.top_log_probs > 0 {
                self.top.push(drawn.top);
            }
            drawn.token
        };
        self.tokens.push(id);
        self.stop = if drawing.stops.is_stop_token(id) {
            Some(StopReason::Token)
        } else if drawing.stops.reached(&self.tokens)? {
            Some(StopReason::Text)
        } else if self.tokens.len() == self.budget {
            Some(StopReason::Length)
        } else {
            None
        };
        Ok(())
    }

    /// A row that has ended, as a rollout.
    pub(crate) fn rollout(
        self,
        task: &Task,
        policy: PolicyVersion,
        drawing: &Drawing<'_>,
    ) -> Result<Rollout, RolloutError> {
        let stop = self.stop.expect("only stopped rows become rollouts");
        Ok(Rollout {
            prompt: task.prompt.clone(),
            prompt_tokens: task.tokens.clone(),
            text: drawing.stops.text(&self.tokens, stop == StopReason::Text)?,
            tokens: self.tokens,
            log_probs: self.log_probs,
            stop,
            policy,
            occurrence: task.occurrence,
            place: self.place,
            forced: self.forced,
            entropy: self.entropy,
            top_log_probs: self.top,
        })
    }
}
