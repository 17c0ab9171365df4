//! Groups of completions from a policy in this process.
//!
//! Before: prompts as tokens. After: [`data::Rollout`]s, group by group, in the order of the prompts. A prompt is read
//! once for its whole group; rows have their own lengths, and when rows finish, the next group takes their place.
//! A rollout is a function of the policy, its prompt and (seed, step, prompt, place): which rows share a pass changes
//! nothing, to the bit.

use std::collections::VecDeque;
use std::sync::Arc;

use data::{PolicyVersion, Prompt, Rollout, StepSeed, StopReason, TokenSeed};
use engine::kernels::awake;
use engine::model::{Compute, KvRow, ModelError, Policy, Tokenizer};
use rayon::prelude::*;

use crate::draw::{Draw, Sampling, draw};
use crate::stop::Stops;

/// Models smaller than this split the rows among the threads; larger ones share each product instead, so that the
/// weights are read once.
const SPLIT_ROWS_BELOW: usize = 64 << 20;

/// A prompt to complete.
#[derive(Debug, Clone)]
pub struct Task {
    /// The problem.
    pub prompt: Arc<Prompt>,
    /// As the policy reads it, at least one token.
    pub tokens: Arc<[u32]>,
}

/// Why sampling could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RolloutError {
    /// A prompt leaves no room for a completion.
    #[error(
        "prompt `{id}` has {length} tokens; the model's context of {limit} leaves no room for a completion"
    )]
    PromptTooLong {
        /// The prompt.
        id: String,
        /// Its tokens.
        length: usize,
        /// The model's context.
        limit: usize,
    },
    /// A prompt has no token to continue.
    #[error("prompt `{id}` has no tokens; wanted at least one")]
    EmptyPrompt {
        /// The prompt.
        id: String,
    },
    /// The policy gave no usable distribution.
    #[error("the policy's logits for token {token} of prompt `{id}` are not finite: its weights are broken")]
    Logits {
        /// The prompt.
        id: String,
        /// Position in the completion.
        token: usize,
    },
    /// The policy or tokenizer failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A tensor operation failed.
    #[error("tensor operation: {0}")]
    Candle(#[from] candle_core::Error),
}

/// Samples from one policy.
pub struct Sampler<'a> {
    /// Who is sampled.
    pub policy: &'a Policy,
    /// How many updates it has seen.
    pub version: PolicyVersion,
    /// Turns tokens into text.
    pub tokenizer: &'a Tokenizer,
    /// How tokens are drawn.
    pub sampling: &'a Sampling,
    /// Tokens that end a completion.
    pub stop_tokens: &'a [u32],
    /// Rows that are sampled side by side: bounds the memory for keys and values.
    pub max_rows: usize,
}

/// Runs `f` on a thread of the pool.
fn in_pool<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    rayon::join(f, || ()).0
}

/// A rollout on its way.
struct Row {
    group: usize,
    place: usize,
    cache: KvRow,
    seed: TokenSeed,
    tokens: Vec<u32>,
    log_probs: Vec<f32>,
    budget: usize,
    stop: Option<StopReason>,
}

impl Sampler<'_> {
    /// `group_size` rollouts of each prompt, prompt by prompt. `progress` hears of finished rollouts and of tokens
    /// drawn so far.
    ///
    /// # Errors
    /// If a prompt is empty or too long for the model, or the policy's logits are not finite.
    pub fn sample(
        &self,
        tasks: &[Task],
        group_size: usize,
        seed: StepSeed,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<Rollout>, RolloutError> {
        for task in tasks {
            self.budget(task)?;
        }
        let stops = Stops { tokenizer: self.tokenizer, tokens: self.stop_tokens, texts: &self.sampling.stop };
        let mut waiting: VecDeque<usize> = (0..tasks.len()).collect();
        let mut active: Vec<Row> = Vec::new();
        let mut done: Vec<Option<Rollout>> = (0..tasks.len() * group_size).map(|_| None).collect();
        let (mut finished, mut drawn) = (0, 0);
        loop {
            let mut admitted = Vec::new();
            while let Some(group) = waiting.front().copied() {
                let rows = active.len() + (admitted.len() + 1) * group_size;
                if rows > self.max_rows && rows > group_size {
                    break;
                }
                waiting.pop_front();
                admitted.push(group);
            }
            if !admitted.is_empty() {
                let new = self.admit(tasks, &admitted, group_size, seed, &stops)?;
                drawn += new.len();
                active.extend(new);
            }
            if active.is_empty() {
                break;
            }
            let (stopped, running): (Vec<Row>, Vec<Row>) = active.into_iter().partition(|r| r.stop.is_some());
            active = running;
            for row in stopped {
                finished += 1;
                let place = row.group * group_size + row.place;
                done[place] = Some(self.rollout(&tasks[row.group], row, &stops)?);
            }
            progress(finished, drawn);
            if !active.is_empty() {
                drawn += active.len();
                if self.split_rows() || !self.own_kernels() {
                    self.advance(tasks, &mut active, &stops)?;
                } else {
                    in_pool(|| awake(|| self.advance(tasks, &mut active, &stops)))?;
                }
            }
        }
        Ok(done.into_iter().map(|rollout| rollout.expect("every row of every group has finished")).collect())
    }

    /// Reads the prompts of some groups, each once, and draws the first token of every rollout.
    fn admit(
        &self,
        tasks: &[Task],
        groups: &[usize],
        group_size: usize,
        seed: StepSeed,
        stops: &Stops<'_>,
    ) -> Result<Vec<Row>, RolloutError> {
        let mut caches = groups
            .iter()
            .map(|group| {
                let task = &tasks[*group];
                Ok(KvRow::new(self.policy, task.tokens.len() + self.budget(task)?)?)
            })
            .collect::<Result<Vec<_>, RolloutError>>()?;
        let mut inputs: Vec<(&mut KvRow, &[u32])> =
            caches.iter_mut().zip(groups).map(|(cache, group)| (cache, &*tasks[*group].tokens)).collect();
        let hidden = self.policy.extend(&mut inputs)?;
        let ends: Vec<u32> = groups
            .iter()
            .scan(0, |end, group| {
                *end += tasks[*group].tokens.len() as u32;
                Some(*end - 1)
            })
            .collect();
        let logits = self.policy.logits(&hidden, &ends)?;
        let logits = logits.chunks_exact(self.policy.config().vocab_size);
        let mut rows = Vec::new();
        for ((cache, group), logits) in caches.into_iter().zip(groups).zip(logits) {
            let task = &tasks[*group];
            let mut cache = Some(cache);
            for place in 0..group_size {
                let own = if place + 1 == group_size { cache.take() } else { None };
                let own = match (own, &cache) {
                    (Some(own), _) => own,
                    (None, Some(shared)) => shared.fork()?,
                    (None, None) => unreachable!("only the last place takes the group's cache"),
                };
                let mut row = Row {
                    group: *group,
                    place,
                    cache: own,
                    seed: seed.prompt(&task.prompt.id).place(place),
                    tokens: Vec::new(),
                    log_probs: Vec::new(),
                    budget: self.budget(task)?,
                    stop: None,
                };
                self.push(task, &mut row, logits, stops)?;
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// Draws one more token for every row.
    fn advance(&self, tasks: &[Task], rows: &mut [Row], stops: &Stops<'_>) -> Result<(), RolloutError> {
        let parts = if self.split_rows() { rayon::current_num_threads() } else { 1 };
        let size = rows.len().div_ceil(parts);
        rows.par_chunks_mut(size).try_for_each(|rows| {
            let lasts: Vec<[u32; 1]> =
                rows.iter().map(|row| [*row.tokens.last().expect("a row begins with a token")]).collect();
            let mut inputs: Vec<(&mut KvRow, &[u32])> =
                rows.iter_mut().zip(&lasts).map(|(row, last)| (&mut row.cache, last.as_slice())).collect();
            let hidden = self.policy.extend(&mut inputs)?;
            let places: Vec<u32> = (0..rows.len() as u32).collect();
            let logits = self.policy.logits(&hidden, &places)?;
            rows.par_iter_mut()
                .zip(logits.par_chunks_exact(self.policy.config().vocab_size))
                .try_for_each(|(row, logits)| self.push(&tasks[row.group], row, logits, stops))
        })
    }

    /// Whether threads share the rows instead of each product.
    fn split_rows(&self) -> bool {
        self.own_kernels() && 4 * self.policy.config().parameter_count() < SPLIT_ROWS_BELOW
    }

    /// Whether this process computes, and not a GPU.
    fn own_kernels(&self) -> bool {
        matches!(self.policy.compute(), Compute::Fused(_))
    }

    fn push(
        &self,
        task: &Task,
        row: &mut Row,
        logits: &[f32],
        stops: &Stops<'_>,
    ) -> Result<(), RolloutError> {
        let token = row.tokens.len();
        let Some(Draw { token: id, log_prob }) = draw(logits, self.sampling, row.seed.uniform(token)) else {
            return Err(RolloutError::Logits { id: task.prompt.id.clone(), token });
        };
        row.tokens.push(id);
        row.log_probs.push(log_prob);
        row.stop = if stops.is_stop_token(id) {
            Some(StopReason::Token)
        } else if stops.reached(&row.tokens)? {
            Some(StopReason::Text)
        } else if row.tokens.len() == row.budget {
            Some(StopReason::Length)
        } else {
            None
        };
        Ok(())
    }

    fn rollout(&self, task: &Task, row: Row, stops: &Stops<'_>) -> Result<Rollout, RolloutError> {
        Ok(Rollout {
            prompt: task.prompt.clone(),
            prompt_tokens: task.tokens.clone(),
            text: stops.text(&row.tokens)?,
            tokens: row.tokens,
            log_probs: row.log_probs,
            stop: row.stop.expect("only stopped rows become rollouts"),
            policy: self.version,
            place: row.place,
        })
    }

    /// Tokens that a completion of this prompt may have.
    fn budget(&self, task: &Task) -> Result<usize, RolloutError> {
        let (length, limit) = (task.tokens.len(), self.policy.config().max_position_embeddings);
        if length == 0 {
            return Err(RolloutError::EmptyPrompt { id: task.prompt.id.clone() });
        }
        if length >= limit {
            return Err(RolloutError::PromptTooLong { id: task.prompt.id.clone(), length, limit });
        }
        Ok(self.sampling.max_tokens.min(limit - length))
    }
}
