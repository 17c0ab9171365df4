//! Samples are dealt to whatever judges them side by side: processes, or connections to a server.
//!
//! Before: [`crate::Reward::score_all`] has rollouts. After: a verdict for each, in their order, whoever gave it and when.
//!
//! The first call of each lane has one sample, of different prompts and short, since what hangs a function rarely is.
//! So one bad sample, or all samples of one bad prompt, cannot look like a function that never answers. The rest goes
//! in batches of neighbours, so that a bad prompt spoils few of them; a batch that fails is asked one by one. A function that stops
//! answering on the way is given up after a few rounds of waiting.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use data::{Rollout, Verdict};

use crate::RewardError;

/// Calls without an answer, beside none with one, that show a function which never answers: those that waited out the
/// deadline, and those that broke off, which costs less time and says less.
const OVERRAN: usize = 2;
const LOST: usize = 8;
/// Calls of each lane that wait out the deadline in a row, and no call of any lane that is answered meanwhile: a function that
/// answered before and does so no more.
const ROUNDS: usize = 3;

/// How a call ended.
pub(super) enum Outcome {
    /// With a verdict for each sample.
    Answered(Vec<Verdict>),
    /// With an answer that says nothing about any single sample.
    Failed(String),
    /// Not within its deadline.
    Overran,
    /// Without an answer: a crash, no connection, something that is no answer.
    Lost(String),
    /// Not at all: it was told to halt.
    Halted,
    /// It is no use to go on.
    Stop(RewardError),
}

/// One of several that judge side by side.
pub(super) trait Lane: Send {
    /// Judges these samples. It ends at its deadline, and soon after `halt` is set.
    fn ask(&mut self, samples: &[usize], halt: &AtomicBool) -> Outcome;
}

/// Who is asked, and how.
pub(super) struct Terms<'a> {
    /// The reward's name.
    pub(super) name: &'a str,
    /// What is called, for people.
    pub(super) what: &'a str,
    /// Most samples of a call.
    pub(super) batch: usize,
    /// Of a call.
    pub(super) deadline: Duration,
}

struct State<'a> {
    terms: &'a Terms<'a>,
    rollouts: &'a [Rollout],
    queue: VecDeque<Vec<usize>>,
    busy: usize,
    verdicts: Vec<Option<Verdict>>,
    answered: bool,
    /// Whether all samples are of one prompt, so that several cannot be asked for.
    one_prompt: bool,
    lanes: usize,
    overran: Silence<'a>,
    lost: Silence<'a>,
    end: Option<RewardError>,
}

/// Calls without an answer.
#[derive(Default)]
struct Silence<'a> {
    calls: usize,
    /// The prompts that each of them has samples of: while there is one, it may be the only bad one.
    common: HashSet<&'a str>,
}

/// The lanes' verdicts, in the order of the rollouts.
pub(super) fn deal<L: Lane>(
    terms: &Terms<'_>,
    rollouts: &[Rollout],
    lanes: &mut [L],
) -> Result<Vec<Verdict>, RewardError> {
    let queue = calls(rollouts, lanes.len(), terms.batch);
    let working = lanes.len().min(queue.len());
    let state = Mutex::new(State {
        terms,
        rollouts,
        queue,
        busy: 0,
        verdicts: vec![None; rollouts.len()],
        answered: false,
        one_prompt: rollouts.windows(2).all(|two| two[0].prompt.id == two[1].prompt.id),
        lanes: working,
        overran: Silence::default(),
        lost: Silence::default(),
        end: None,
    });
    let (changed, halt) = (Condvar::new(), AtomicBool::new(false));
    thread::scope(|scope| {
        for lane in &mut lanes[..working] {
            let (state, changed, halt) = (&state, &changed, &halt);
            scope.spawn(move || work(lane, state, changed, halt));
        }
    });
    let state = state.into_inner().expect("no one panics while holding it");
    match state.end {
        Some(error) => Err(error),
        None => Ok(state.verdicts.into_iter().map(|verdict| verdict.expect("every call ended")).collect()),
    }
}

fn work<L: Lane>(lane: &mut L, state: &Mutex<State<'_>>, changed: &Condvar, halt: &AtomicBool) {
    let lock = || state.lock().expect("no one panics while holding it");
    while let Some(samples) = next(lock(), changed) {
        let outcome = catch_unwind(AssertUnwindSafe(|| lane.ask(&samples, halt))).unwrap_or_else(|_| {
            Outcome::Failed("the call panicked; its message is on standard error".into())
        });
        let mut state = lock();
        state.busy -= 1;
        state.take(&samples, outcome);
        halt.fetch_or(state.end.is_some(), Ordering::Relaxed);
        drop(state);
        changed.notify_all();
    }
}

/// The next call, or `None` if there will be none. What others are busy with may come back as several calls.
fn next(mut state: MutexGuard<'_, State<'_>>, changed: &Condvar) -> Option<Vec<usize>> {
    loop {
        if state.end.is_some() {
            return None;
        }
        if let Some(samples) = state.queue.pop_front() {
            state.busy += 1;
            return Some(samples);
        }
        if state.busy == 0 {
            return None;
        }
        state = changed.wait(state).expect("no one panics while holding it");
    }
}

impl<'a> State<'a> {
    fn take(&mut self, samples: &[usize], outcome: Outcome) {
        match outcome {
            Outcome::Answered(verdicts) => {
                self.answers();
                for (sample, verdict) in samples.iter().zip(verdicts) {
                    self.verdicts[*sample] = Some(verdict);
                }
            }
            Outcome::Failed(why) => {
                self.answers();
                self.fail(samples, why);
            }
            Outcome::Overran => {
                let seconds = self.terms.deadline.as_secs_f64();
                let why = format!("no answer within {seconds} s (deadline)");
                self.overran.add(self.rollouts, samples);
                self.end_if_silent(samples, &why);
                self.fail(samples, why);
            }
            Outcome::Lost(why) => {
                self.lost.add(self.rollouts, samples);
                self.end_if_silent(samples, &why);
                self.fail(samples, why);
            }
            Outcome::Halted => {}
            Outcome::Stop(error) => {
                self.end.get_or_insert(error);
            }
        }
    }

    /// Silence is counted from the last answer.
    fn answers(&mut self) {
        self.answered = true;
        self.overran = Silence::default();
        self.lost = Silence::default();
    }

    fn end_if_silent(&mut self, last: &[usize], why: &str) {
        let silent = |silence: &Silence<'_>, enough: usize| {
            silence.calls >= enough && (silence.common.is_empty() || self.one_prompt)
        };
        let ends = match self.answered {
            false => silent(&self.overran, OVERRAN) || silent(&self.lost, LOST),
            // a prompt that is bad, and one beside it, may be half of a small step
            true => !self.one_prompt && silent(&self.overran, ROUNDS * self.lanes.max(OVERRAN)),
        };
        if !ends {
            return;
        }
        let calls = self.overran.calls + self.lost.calls;
        let what = self.terms.what;
        let since = if self.answered { "the last" } else { "any of its" };
        let (count, id) = (last.len(), &self.rollouts[last[0]].prompt.id);
        let why = format!(
            "{what} gave no answer to {since} {calls} calls; the last was about {count} of the rollouts, prompt `{id}` first: {why}"
        );
        let name = self.terms.name.to_owned();
        self.end.get_or_insert(RewardError::Hangs { name, why });
    }

    /// Of several samples each gets a call of its own; of one it is the verdict.
    fn fail(&mut self, samples: &[usize], why: String) {
        match samples {
            [sample] => self.verdicts[*sample] = Some(Verdict::failed(why)),
            _ => self.queue.extend(samples.iter().map(|sample| vec![*sample])),
        }
    }
}

impl<'a> Silence<'a> {
    fn add(&mut self, rollouts: &'a [Rollout], samples: &[usize]) {
        let prompts: HashSet<&str> =
            samples.iter().map(|sample| rollouts[*sample].prompt.id.as_str()).collect();
        self.common = if self.calls == 0 { prompts } else { &self.common & &prompts };
        self.calls += 1;
    }
}

/// The calls in the order in which they are handed out: single samples for a start, then batches of neighbours.
fn calls(rollouts: &[Rollout], lanes: usize, batch: usize) -> VecDeque<Vec<usize>> {
    let first = firsts(rollouts, lanes);
    let rest: Vec<usize> = (0..rollouts.len()).filter(|sample| !first.contains(sample)).collect();
    let batch = batch.min(rest.len().div_ceil(lanes)).max(1);
    let singles = first.iter().map(|sample| vec![*sample]);
    singles.chain(rest.chunks(batch).map(<[usize]>::to_vec)).collect()
}

/// One sample for each lane, of as many prompts as can be, and the shortest that there are.
fn firsts(rollouts: &[Rollout], lanes: usize) -> BTreeSet<usize> {
    let mut shortest: Vec<usize> = (0..rollouts.len()).collect();
    shortest.sort_by_key(|sample| rollouts[*sample].text.len());
    let mut seen = HashSet::new();
    let (new, again): (Vec<usize>, Vec<usize>) =
        shortest.into_iter().partition(|sample| seen.insert(rollouts[*sample].prompt.id.as_str()));
    new.into_iter().chain(again).take(lanes).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::rollout;

    /// As many samples of each prompt as told, all of the same length but the last of a prompt, which is shorter.
    fn rollouts(prompts: usize, group_size: usize) -> Vec<Rollout> {
        let one = |i: usize| {
            let mut one = rollout(if i % group_size == group_size - 1 { "s" } else { "long" }, None);
            Arc::make_mut(&mut one.prompt).id = format!("p{}", i / group_size);
            one
        };
        (0..prompts * group_size).map(one).collect()
    }

    struct Scripted<'a>(&'a (dyn Fn(&[usize]) -> Outcome + Sync));

    impl Lane for Scripted<'_> {
        fn ask(&mut self, samples: &[usize], _: &AtomicBool) -> Outcome {
            (self.0)(samples)
        }
    }

    fn dealt(
        rollouts: &[Rollout],
        lanes: usize,
        ask: &(dyn Fn(&[usize]) -> Outcome + Sync),
    ) -> Result<Vec<Verdict>, RewardError> {
        let terms = Terms { name: "r", what: "`f`", batch: 4, deadline: Duration::from_secs(1) };
        let mut lanes: Vec<Scripted<'_>> = (0..lanes).map(|_| Scripted(ask)).collect();
        deal(&terms, rollouts, &mut lanes)
    }

    #[test]
    fn every_sample_is_asked_about_once_first_alone_then_with_its_neighbours() {
        let calls = calls(&rollouts(4, 4), 3, 4);
        assert_eq!(calls.iter().take(3).cloned().collect::<Vec<_>>(), [[3], [7], [11]]);
        assert_eq!(calls.iter().skip(3).map(Vec::len).collect::<Vec<_>>(), [4, 4, 4, 1]);
        let mut all: Vec<usize> = calls.into_iter().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, (0..16).collect::<Vec<_>>());
        // there are more lanes than samples
        assert_eq!(super::calls(&rollouts(1, 3), 8, 4).len(), 3);
        assert!(super::calls(&[], 8, 4).is_empty());
    }

    #[test]
    fn verdicts_are_in_order_whoever_gave_them() {
        let ask = |samples: &[usize]| {
            Outcome::Answered(samples.iter().map(|sample| Verdict::from(*sample as f32)).collect())
        };
        for lanes in [1, 2, 7, 40] {
            let values = dealt(&rollouts(4, 8), lanes, &ask).unwrap();
            assert!(values.iter().enumerate().all(|(i, verdict)| verdict.value == Some(i as f32)));
        }
    }

    #[test]
    fn a_prompt_that_hangs_costs_only_itself() {
        for bad in [0..8, 8..16, 24..32] {
            let ask = |samples: &[usize]| match samples.iter().any(|sample| bad.contains(sample)) {
                true => Outcome::Overran,
                false => Outcome::Answered(vec![Verdict::from(1.0); samples.len()]),
            };
            for lanes in [1, 2, 16] {
                for (i, verdict) in dealt(&rollouts(4, 8), lanes, &ask).unwrap().iter().enumerate() {
                    let failure = bad.contains(&i).then_some("no answer within 1 s (deadline)");
                    assert_eq!(verdict.failure.as_deref(), failure, "{i} of {lanes}");
                }
            }
        }
    }

    #[test]
    fn two_samples_of_two_prompts_that_hang_before_any_answer_end_it() {
        for (prompts, group_size) in [(2, 1), (100, 8), (1, 8)] {
            let error = dealt(&rollouts(prompts, group_size), 2, &|_| Outcome::Overran).unwrap_err();
            let RewardError::Hangs { name, why } = error else { panic!("{error}") };
            assert_eq!(name, "r");
            assert!(
                why.starts_with(
                    "`f` gave no answer to any of its 2 calls; the last was about 1 of the rollouts"
                ),
                "{why}"
            );
        }
        let one = dealt(&rollouts(1, 1), 2, &|_| Outcome::Overran).unwrap();
        assert!(one[0].failure.is_some());
    }

    #[test]
    fn a_function_that_answers_no_more_ends_it_after_some_rounds() {
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let ask = |samples: &[usize]| match asked.fetch_add(1, Ordering::Relaxed) {
            0..5 => Outcome::Answered(vec![Verdict::from(1.0); samples.len()]),
            _ => Outcome::Overran,
        };
        let error = dealt(&rollouts(100, 8), 2, &ask).unwrap_err();
        assert!(error.to_string().contains("`f` gave no answer to the last 6 calls"), "{error}");
        assert!(asked.load(Ordering::Relaxed) <= 5 + 6 + 1);
    }

    #[test]
    fn a_few_crashes_are_failures_and_nothing_but_crashes_ends_it() {
        let crash = |_: &[usize]| Outcome::Lost("ended".into());
        assert!(dealt(&rollouts(5, 1), 2, &crash).unwrap().iter().all(|verdict| verdict.failure.is_some()));
        assert!(matches!(dealt(&rollouts(9, 1), 2, &crash), Err(RewardError::Hangs { .. })));
    }

    #[test]
    fn what_fails_together_is_asked_one_by_one() {
        let ask = |samples: &[usize]| match samples {
            [5] => Outcome::Failed("no".into()),
            samples if samples.contains(&5) => Outcome::Failed("not all".into()),
            samples => Outcome::Answered(vec![Verdict::from(1.0); samples.len()]),
        };
        let verdicts = dealt(&rollouts(4, 4), 2, &ask).unwrap();
        let failures: Vec<_> =
            verdicts.iter().enumerate().filter(|(_, verdict)| verdict.failure.is_some()).collect();
        assert_eq!(failures, [(5, &Verdict::failed("no"))]);
    }
}
