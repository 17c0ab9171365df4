//! Which rows share the next pass.
//!
//! Before: tasks in a queue. After: finished rollouts. A slot that becomes free is filled at once from the queue. A
//! prompt is read once for its group, in parts between tokens of rows that are on their way, and a beginning that all
//! prompts have in common once for all. When keys and values outgrow the memory, the youngest rows are put back to be
//! read again later. None of it shows in a rollout.

mod pass;

use std::cell::Cell;
use std::collections::VecDeque;

use data::{Rollout, StepSeed};
use engine::kernels::awake;
use engine::model::{Compute, KvPrefix, KvRow, Policy};

use crate::error::RolloutError;
use crate::row::{Drawing, Row};
use crate::sampled::{SampleProgress, Sampled};
use crate::sampler::Sampler;
use crate::stats::SampleStats;
use crate::stop::Stops;
use crate::task::{GroupSizes, Task, in_place};
use crate::thinking::ThinkingBudget;

/// Models smaller than this split the rows among the threads; larger ones share each product instead, so that the
/// weights are read once.
const SPLIT_ROWS_BELOW: usize = 64 << 20;

/// A beginning of all prompts that is shorter is read again with each.
const LEAST_COMMON: usize = 64;

/// Runs `f` on a thread of the pool.
fn in_pool<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    rayon::join(f, || ()).0
}

/// State of a group: how far its prompt is, which its rows have in common.
enum GroupState {
    Waiting,
    Reading,
    /// Keys and values of the prompt, and the logits behind it.
    Read(KvPrefix, Vec<f32>),
    Done,
}

/// A prompt on its way into the policy.
struct Reading {
    group: usize,
    cache: KvRow,
    logits: Vec<f32>,
}

/// A row in a slot.
struct Slot {
    row: Row,
    cache: KvRow,
}

impl Slot {
    /// Drawn tokens that are not in the cache yet, at most `most`, and whether that is all of them.
    fn missing(&self, prompt: usize, most: usize) -> (&[u32], bool) {
        let held = self.cache.len() - prompt;
        let missing = &self.row.tokens[held..];
        (&missing[..missing.len().min(most)], missing.len() <= most)
    }
}

/// Work in progress: what waits, what is read, what is drawn.
pub(crate) struct Scheduler<'a, 's> {
    sampler: &'a Sampler<'s>,
    tasks: &'a [Task],
    /// The place in `done` of each task's first rollout.
    firsts: Vec<usize>,
    seed: StepSeed,
    drawing: Drawing<'a>,
    /// The beginning of all prompts.
    common: Option<KvPrefix>,
    groups: Vec<GroupState>,
    /// Rows of each group that have not finished.
    left: Vec<usize>,
    /// Rows that wait: those put back first, then the others in order.
    returned: Vec<Row>,
    queue: VecDeque<(usize, usize)>,
    reading: Vec<Reading>,
    slots: Vec<Slot>,
    done: Vec<Option<Rollout>>,
    /// True if there are more rollouts than slots.
    contended: bool,
    stats: SampleStats,
}

impl<'a, 's> Scheduler<'a, 's> {
    /// All rollouts wait, but for those in `have`.
    pub(crate) fn new(
        sampler: &'a Sampler<'s>,
        tasks: &'a [Task],
        sizes: GroupSizes<'_>,
        seed: StepSeed,
        have: &[Rollout],
    ) -> Result<Self, RolloutError> {
        let mut stop_tokens = sampler.stop_tokens.to_vec();
        stop_tokens.extend(&sampler.sampling.stop_tokens);
        let stops = Stops {
            tokenizer: sampler.tokenizer,
            tokens: stop_tokens,
            texts: &sampler.sampling.stop,
            least: sampler.sampling.min_tokens,
        };
        let prompts: Vec<(&str, usize)> = tasks.iter().map(Task::key).collect();
        let done = in_place(&prompts, sizes, have);
        let all = sizes.places(tasks.len()).into_iter().zip(&done);
        let queue: VecDeque<(usize, usize)> =
            all.filter(|(_, done)| done.is_none()).map(|(place, _)| place).collect();
        let mut left = vec![0; tasks.len()];
        queue.iter().for_each(|(group, _)| left[*group] += 1);
        let slots = sampler.slots.rows.clamp(1, queue.len().max(1));
        let contended = queue.len() > slots;
        Ok(Self {
            sampler,
            tasks,
            firsts: sizes.firsts(tasks.len()),
            seed,
            drawing: Drawing {
                sampling: sampler.sampling,
                stops,
                thinking: ThinkingBudget::new(sampler.sampling, sampler.tokenizer)?,
            },
            common: None,
            groups: tasks.iter().map(|_| GroupState::Waiting).collect(),
            left,
            returned: Vec::new(),
            queue,
            reading: Vec::new(),
            slots: Vec::new(),
            done,
            contended,
            stats: SampleStats { slots, ..SampleStats::default() },
        })
    }

    /// Samples until all have finished.
    pub(crate) fn run(
        mut self,
        progress: &mut dyn FnMut(SampleProgress<'_>),
    ) -> Result<Sampled, RolloutError> {
        self.read_common()?;
        let mut finished = self.done.iter().flatten().count();
        let stop = Cell::new(false);
        loop {
            if stop.get() {
                let arrived = self.done.into_iter().flatten().collect();
                return Err(RolloutError::Stopped { arrived });
            }
            self.fill()?;
            let new = self.finish()?;
            finished += new.len();
            if self.slots.is_empty()
                && self.reading.is_empty()
                && self.queue.is_empty()
                && self.returned.is_empty()
            {
                self.report(finished, &new, &stop, progress);
                break;
            }
            if !new.is_empty() {
                // their slots are free again
                self.report(finished, &new, &stop, progress);
                continue;
            }
            self.put_back();
            self.guess();
            self.stats.passes += 1;
            self.stats.memory = self.stats.memory.max(self.memory());
            if self.contended && !(self.queue.is_empty() && self.returned.is_empty()) {
                self.stats.full_passes += 1;
                self.stats.full_rows += self.slots.len();
            }
            if self.split_rows() || !self.own_kernels() {
                self.pass()?;
            } else {
                in_pool(|| awake(|| self.pass()))?;
            }
            self.end_reading();
            self.report(finished, &[], &stop, progress);
        }
        let rollouts = self.done.into_iter().flatten().collect();
        Ok(Sampled { rollouts, stats: self.stats })
    }

    fn report(
        &self,
        finished: usize,
        new: &[usize],
        stop: &Cell<bool>,
        progress: &mut dyn FnMut(SampleProgress<'_>),
    ) {
        let new = new.iter().filter_map(|place| self.done[*place].as_ref()).collect();
        let first = self.slots.first().map(|slot| slot.row.tokens.as_slice());
        progress(SampleProgress { finished, drawn: self.stats.tokens, new, first, stop });
    }

    /// Reads what all prompts begin with, if it is long enough.
    fn read_common(&mut self) -> Result<(), RolloutError> {
        let Some((first, others)) = self.tasks.split_first().filter(|(_, others)| !others.is_empty()) else {
            return Ok(());
        };
        if self.queue.is_empty() {
            return Ok(());
        }
        let alike =
            |other: &Task| first.tokens.iter().zip(&*other.tokens).take_while(|(a, b)| a == b).count();
        let terms = match self.sampler.policy.compute() {
            Compute::Fused(kernel) => kernel.terms(),
            // there every row has a copy of it
            Compute::Composed => return Ok(()),
        };
        let shortest = self.tasks.iter().map(|task| task.tokens.len()).min().unwrap_or(0);
        // at least the last token of a prompt is read with it, for the logits behind it
        let length =
            others.iter().map(alike).min().unwrap_or(0).min(shortest.saturating_sub(1)) / terms * terms;
        if length < LEAST_COMMON {
            return Ok(());
        }
        let policy = self.sampler.policy;
        let mut cache = KvRow::to_share(policy, length)?;
        for part in first.tokens[..length].chunks(self.prompt_tokens()) {
            policy.extend(&mut [(&mut cache, part)])?;
            self.stats.passes += 1;
        }
        self.stats.prompt_tokens += length;
        self.common = Some(cache.share());
        Ok(())
    }

    fn memory(&self) -> usize {
        let groups = self.groups.iter().map(|group| match group {
            GroupState::Read(prefix, _) => prefix.own_bytes(),
            _ => 0,
        });
        groups.sum::<usize>()
            + self.common.as_ref().map_or(0, KvPrefix::own_bytes)
            + self.slots.iter().map(|slot| slot.cache.own_bytes()).sum::<usize>()
            + self.reading.iter().map(|reading| reading.cache.own_bytes()).sum::<usize>()
    }

    /// Gives free slots to waiting rows whose prompt is read, and begins to read the prompts of the next ones.
    fn fill(&mut self) -> Result<(), RolloutError> {
        let mut memory = self.memory();
        let fits =
            |more: usize, memory: &usize, none: bool| none || memory + more <= self.sampler.slots.memory;
        // rows that were put back come first, and nobody passes whoever does not fit: a large row would otherwise wait until
        // the queue is empty and run alone at the end
        while self.slots.len() < self.stats.slots {
            let group = match (self.returned.last(), self.queue.front()) {
                (Some(row), _) => row.group,
                (None, Some((group, _))) => *group,
                (None, None) => break,
            };
            // its prompt is not read yet: the slot waits for it, so that rows come in order and those of a group together
            let GroupState::Read(prefix, logits) = &self.groups[group] else { break };
            let task = &self.tasks[group];
            let budget = self.sampler.budget(task)?;
            let cache = KvRow::behind(prefix, task.tokens.len() + budget)?;
            // what it holds already is read again in the next pass, so it has to fit at once
            let held = self.returned.last().map_or(0, |row| row.tokens.len());
            let more = cache.own_bytes() + cache.growth_bytes(held.max(1));
            if !fits(more, &memory, self.slots.is_empty()) {
                break;
            }
            memory += more;
            let row = match self.returned.pop() {
                Some(row) => row,
                None => {
                    let (_, place) = self.queue.pop_front().expect("looked at above");
                    let seed = self.seed.prompt(&task.prompt.id).occurrence(task.occurrence).place(place);
                    let mut row = Row::new(group, place, seed, budget);
                    row.push(task, &mut logits.clone(), &self.drawing)?;
                    self.stats.tokens += 1;
                    row
                }
            };
            self.slots.push(Slot { row, cache });
        }
        // neighbours of a group share a pass over its prompt
        self.slots.sort_by_key(|slot| (slot.row.group, slot.row.place));
        // as many prompts ahead as the free slots need, and one more
        let free = self.stats.slots.saturating_sub(self.slots.len());
        let mut ahead = 0;
        let mut tokens: usize =
            self.reading.iter().map(|r| self.tasks[r.group].tokens.len() - r.cache.len()).sum();
        let mut next = 0;
        while let Some((group, _)) = self.queue.get(next).copied() {
            let waiting = self.queue.iter().skip(next).take_while(|(g, _)| *g == group).count();
            next += waiting;
            if let GroupState::Waiting = self.groups[group] {
                let length = self.tasks[group].tokens.len();
                let none = self.slots.is_empty() && self.reading.is_empty();
                let more = self.sampler.policy.kv_bytes(length);
                if tokens >= self.prompt_tokens() || !fits(more, &memory, none) {
                    break;
                }
                let cache = match &self.common {
                    Some(common) => KvRow::behind_to_share(common, length)?,
                    None => KvRow::to_share(self.sampler.policy, length)?,
                };
                tokens += length - cache.len();
                memory += more;
                self.groups[group] = GroupState::Reading;
                self.reading.push(Reading { group, cache, logits: Vec::new() });
            }
            ahead += waiting;
            if ahead > free {
                break;
            }
        }
        Ok(())
    }

    /// Takes finished rows out of their slots; says which rollouts they became.
    fn finish(&mut self) -> Result<Vec<usize>, RolloutError> {
        let mut new = Vec::new();
        for slot in std::mem::take(&mut self.slots) {
            if slot.row.stop.is_none() {
                self.slots.push(slot);
                continue;
            }
            let row = slot.row;
            self.stats.guessed += row.guessed;
            self.stats.accepted += row.accepted;
            self.left[row.group] -= 1;
            if self.left[row.group] == 0 {
                self.groups[row.group] = GroupState::Done;
            }
            let place = self.firsts[row.group] + row.place;
            let (task, version) = (&self.tasks[row.group], self.sampler.version);
            self.done[place] = Some(row.rollout(task, version, &self.drawing)?);
            new.push(place);
        }
        Ok(new)
    }

    /// Puts the youngest rows back until what the next pass adds fits the memory. The oldest always stays, so that some row
    /// ends whatever the memory is; of the others the youngest usually has least to read again. Its tokens and log-probs are kept, and its
    /// next draws depend on its place and the token's number alone: being put back does not show.
    fn put_back(&mut self) {
        loop {
            let slots = self.slots.iter().map(|slot| slot.cache.growth_bytes(1));
            let missing = |r: &Reading| self.tasks[r.group].tokens.len() - r.cache.len();
            let reading = self.reading.iter().map(|r| r.cache.growth_bytes(missing(r)));
            let more = slots.sum::<usize>() + reading.sum::<usize>();
            if self.slots.len() < 2 || more == 0 || self.memory() + more <= self.sampler.slots.memory {
                return;
            }
            let slot = self.slots.pop().expect("at least two");
            self.stats.preempted += 1;
            self.returned.push(slot.row);
        }
    }

    /// Guesses what comes next, where that is asked for and rows are few.
    fn guess(&mut self) {
        let Some(speculate) = self.sampler.slots.speculate else { return };
        let rows = self.slots.len() + self.reading.len();
        let most = if self.reading.is_empty() { speculate.guesses(rows) } else { 0 };
        for slot in &mut self.slots {
            let row = &mut slot.row;
            // the last token that may be drawn needs no guess behind it
            let count = most.min(row.budget - row.tokens.len() - 1);
            let prompt = &self.tasks[row.group].tokens;
            row.guess = speculate.guess(prompt, &row.tokens, count);
        }
    }

    /// Prompts that are read.
    fn end_reading(&mut self) {
        for reading in std::mem::take(&mut self.reading) {
            if reading.cache.len() < self.tasks[reading.group].tokens.len() {
                self.reading.push(reading);
            } else {
                self.groups[reading.group] = GroupState::Read(reading.cache.share(), reading.logits);
            }
        }
    }

    /// Prompt tokens of a pass: at least one, or nothing would ever be read.
    fn prompt_tokens(&self) -> usize {
        self.sampler.slots.prompt_tokens.max(1)
    }

    /// True if threads share the rows instead of each product.
    fn split_rows(&self) -> bool {
        let policy: &Policy = self.sampler.policy;
        self.own_kernels() && 4 * policy.config().parameter_count() < SPLIT_ROWS_BELOW
    }

    /// True if this process computes, and not a GPU.
    fn own_kernels(&self) -> bool {
        matches!(self.sampler.policy.compute(), Compute::Fused(_))
    }
}
