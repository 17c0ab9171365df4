//! One pass: the next parts of prompts are read, and every row draws at least one token.

use engine::model::KvRow;
use rayon::prelude::*;

use super::{Reading, Scheduler, Slot};
use crate::error::RolloutError;

/// One row of a pass.
enum Work<'a> {
    Prompt(&'a mut Reading, std::ops::Range<usize>),
    Slot(&'a mut Slot),
}

impl Scheduler<'_, '_> {
    /// Reads the next parts of prompts and draws at least one more token for every row.
    pub(super) fn pass(&mut self) -> Result<(), RolloutError> {
        let before: usize = self.slots.iter().map(|slot| slot.row.tokens.len()).sum();
        let (mut slots, mut reading) = (std::mem::take(&mut self.slots), std::mem::take(&mut self.reading));
        let mut room = self.prompt_tokens();
        let mut works: Vec<Work<'_>> = slots.iter_mut().map(Work::Slot).collect();
        for reading in &mut reading {
            let (held, all) = (reading.cache.len(), self.tasks[reading.group].tokens.len());
            let count = room.min(all - held);
            if count > 0 {
                room -= count;
                self.stats.prompt_tokens += count;
                works.push(Work::Prompt(reading, held..held + count));
            }
        }
        // a row's numbers do not depend on the rows beside it, so the cut into parts shows in the time alone
        let parts = if self.split_rows() { rayon::current_num_threads() } else { 1 };
        let result = split(works, parts, |work| match work {
            Work::Prompt(_, range) => range.len(),
            Work::Slot(slot) => 1 + slot.row.guess.len(),
        })
        .into_par_iter()
        .try_for_each(|mut works| self.read(&mut works));
        (self.slots, self.reading) = (slots, reading);
        result?;
        let after: usize = self.slots.iter().map(|slot| slot.row.tokens.len()).sum();
        self.stats.tokens += after - before;
        Ok(())
    }

    /// One pass over some rows.
    fn read(&self, works: &mut [Work<'_>]) -> Result<(), RolloutError> {
        if works.is_empty() {
            return Ok(());
        }
        let most = self.prompt_tokens();
        let (mut news, mut places) = (Vec::new(), Vec::new());
        let mut end = 0;
        for work in works.iter() {
            // the new tokens, and how many of the last need logits
            let (new, wanted) = match work {
                Work::Prompt(reading, range) => {
                    let tokens = &self.tasks[reading.group].tokens;
                    (tokens[range.clone()].to_vec(), usize::from(range.end == tokens.len()))
                }
                Work::Slot(slot) => {
                    let (missing, whole) = slot.missing(self.tasks[slot.row.group].tokens.len(), most);
                    // a row that was put back reads what it had drawn, in parts; guesses come behind the last of them
                    match whole {
                        true => ([missing, &slot.row.guess].concat(), 1 + slot.row.guess.len()),
                        false => (missing.to_vec(), 0),
                    }
                }
            };
            end += new.len();
            places.extend((end - wanted) as u32..end as u32);
            news.push((new, wanted));
        }
        let mut inputs: Vec<(&mut KvRow, &[u32])> = works
            .iter_mut()
            .zip(&news)
            .map(|(work, (new, _))| match work {
                Work::Prompt(reading, _) => (&mut reading.cache, new.as_slice()),
                Work::Slot(slot) => (&mut slot.cache, new.as_slice()),
            })
            .collect();
        let policy = self.sampler.policy;
        let hidden = policy.extend(&mut inputs)?;
        let mut logits = policy.logits(&hidden, &places)?;
        let vocabulary = policy.config().vocab_size;
        let mut rest = &mut logits[..];
        let mut shares = Vec::with_capacity(works.len());
        for (_, wanted) in &news {
            let (own, others) = rest.split_at_mut(wanted * vocabulary);
            shares.push(own);
            rest = others;
        }
        works.par_iter_mut().zip(shares).filter(|(_, logits)| !logits.is_empty()).try_for_each(
            |(work, logits)| match work {
                Work::Prompt(reading, _) => {
                    reading.logits = logits.to_vec();
                    Ok(())
                }
                Work::Slot(slot) => self.take(slot, logits, vocabulary),
            },
        )
    }

    /// Draws from the logits behind the last token and, as long as guesses turn out right, behind each of them.
    fn take(&self, slot: &mut Slot, logits: &mut [f32], vocabulary: usize) -> Result<(), RolloutError> {
        let guess = std::mem::take(&mut slot.row.guess);
        slot.row.guessed += guess.len();
        let task = &self.tasks[slot.row.group];
        for (place, logits) in logits.chunks_exact_mut(vocabulary).enumerate() {
            slot.row.push(task, logits, &self.drawing)?;
            if slot.row.stop.is_some() || guess.get(place) != slot.row.tokens.last() {
                break;
            }
            slot.row.accepted += 1;
        }
        // keys and values of guesses that were wrong go: what follows must not attend to them. The last token drawn is never in
        // the cache, as no pass has read it
        if !guess.is_empty() {
            slot.cache.truncate(task.tokens.len() + slot.row.tokens.len() - 1);
        }
        Ok(())
    }
}

/// The works in `parts` runs of about the same weight.
fn split<T>(works: Vec<T>, parts: usize, weight: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let total: usize = works.iter().map(&weight).sum();
    let mut runs: Vec<Vec<T>> = (0..parts.max(1)).map(|_| Vec::new()).collect();
    let mut sum = 0;
    for work in works {
        let middle = sum + weight(&work) / 2;
        sum += weight(&work);
        let run = (middle * runs.len()).checked_div(total).unwrap_or(0).min(runs.len() - 1);
        runs[run].push(work);
    }
    runs
}
