//! Worker processes that judge side by side, and are replaced when they fail.
//!
//! Before: [`super::Python`] or [`super::Command`] says what to run and what to tell it. After: the workers are warm, and
//! [`crate::Reward::score_all`] deals samples to them, see [`super::deal`].

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use data::{Rollout, Verdict};

use super::deal::{Lane, Outcome, Terms, deal};
use super::process::{Lapse, Process};
use super::tail::Log;
use crate::{Reward, RewardError};

/// What is said to a worker, and how its answers read.
pub(super) trait Speech: Send + Sync {
    /// The columns that any prompt may have.
    fn expect(&self, _columns: &[String]) {}

    /// How it is started.
    fn command(&self) -> Command;

    /// What is said first, if it answers when it is ready, and how long that may take.
    fn hello(&self) -> Option<(Vec<u8>, Duration)>;

    /// What is wrong with its answer to that, if anything.
    fn greeted(&self, line: &[u8]) -> Result<(), String>;

    /// Makes the request for some of these rollouts.
    fn requests<'a>(&'a self, rollouts: &'a [Rollout]) -> Requests<'a>;

    /// What the lines say of so many samples.
    fn read(&self, lines: &[Vec<u8>], samples: usize) -> Reading;
}

/// The request for some rollouts, by their places.
pub(super) type Requests<'a> = Box<dyn Fn(&[usize]) -> Request + Sync + 'a>;

/// Bytes, and how many lines answer them.
pub(super) struct Request {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: usize,
}

/// What lines of a worker say.
pub(super) enum Reading {
    /// Of each sample.
    Verdicts(Vec<Verdict>),
    /// That the call failed; the worker can be asked something else.
    Failed(String),
    /// Nothing. The worker may be out of step.
    Garbled(String),
}

/// How many workers, and how they are asked.
pub(super) struct Size {
    pub(super) workers: usize,
    pub(super) batch: usize,
    pub(super) deadline: Duration,
}

/// The reward that the workers' verdicts make.
pub(super) struct Pool<S> {
    name: String,
    what: String,
    speech: S,
    size: Size,
    log: Log,
    /// `None` where one was lost and not needed since. Locked for as long as a step is judged.
    workers: Mutex<Vec<Option<Process>>>,
}

impl<S: Speech> Pool<S> {
    /// Starts the workers, all at once, and waits until they are ready.
    pub(super) fn new(name: &str, what: String, speech: S, size: Size) -> Result<Self, RewardError> {
        let count = size.workers;
        let pool = Self {
            name: name.to_owned(),
            what,
            speech,
            size,
            log: Log::default(),
            workers: Mutex::default(),
        };
        let halt = AtomicBool::new(false);
        let started: Vec<_> = thread::scope(|scope| {
            let starting: Vec<_> = (0..count).map(|_| scope.spawn(|| pool.start(&halt))).collect();
            starting.into_iter().map(|started| started.join().expect("starting does not panic")).collect()
        });
        let workers = started.into_iter().collect::<Result<Vec<_>, RewardError>>()?;
        *pool.workers.lock().expect("nobody has it yet") = workers;
        Ok(pool)
    }

    /// A worker that is ready, or `None` if it was told to halt before that.
    fn start(&self, halt: &AtomicBool) -> Result<Option<Process>, RewardError> {
        let failed = |why: String| RewardError::Start { name: self.name.clone(), why };
        let command = self.speech.command();
        let program = command.get_program().to_string_lossy().into_owned();
        let mut process = Process::start(command, self.log.clone())
            .map_err(|error| failed(format!("`{program}` cannot be run: {error}")))?;
        let Some((hello, deadline)) = self.speech.hello() else {
            return Ok(Some(process));
        };
        match process.ask(hello, 1, deadline, halt) {
            Ok(lines) => self.speech.greeted(&lines[0]).map_err(failed)?,
            Err(Lapse::Halted) => return Ok(None),
            Err(Lapse::Ended(why) | Lapse::Garbled(why)) => return Err(failed(why)),
            Err(Lapse::Overran) => {
                let seconds = deadline.as_secs_f64();
                let printed = process.printed();
                return Err(failed(format!(
                    "{} was not ready within {seconds} s (start_deadline); it printed: {printed}",
                    self.what
                )));
            }
        }
        Ok(Some(process))
    }
}

impl<S: Speech> Reward for Pool<S> {
    /// One call about one sample. Asking about many at once is faster by far.
    fn score(&self, rollout: &Rollout) -> Verdict {
        match self.score_all(std::slice::from_ref(rollout)) {
            Ok(mut verdicts) => verdicts.pop().expect("one for each"),
            Err(error) => Verdict::failed(error.to_string()),
        }
    }

    fn expect(&self, columns: &[String]) {
        self.speech.expect(columns);
    }

    fn log_to(&self, file: &Path) -> std::io::Result<()> {
        self.log.keep(file)
    }

    fn score_all(&self, rollouts: &[Rollout]) -> Result<Vec<Verdict>, RewardError> {
        let requests = self.speech.requests(rollouts);
        // a panic leaves workers that are looked at before they are asked
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = |worker| Slot { pool: self, requests: &requests, worker };
        let mut slots: Vec<_> = workers.iter_mut().map(slot).collect();
        let Size { batch, deadline, .. } = self.size;
        deal(&Terms { name: &self.name, what: &self.what, batch, deadline }, rollouts, &mut slots)
    }
}

/// A place for a worker, while a step is judged.
struct Slot<'a, S> {
    pool: &'a Pool<S>,
    requests: &'a Requests<'a>,
    worker: &'a mut Option<Process>,
}

impl<S: Speech> Lane for Slot<'_, S> {
    /// The clock starts when the worker is ready. A worker that did not answer as it should is replaced by the next call.
    fn ask(&mut self, samples: &[usize], halt: &AtomicBool) -> Outcome {
        let Pool { speech, size, .. } = self.pool;
        let mut process = match self.worker.take().filter(Process::is_ready) {
            Some(process) => process,
            None => match self.pool.start(halt) {
                Ok(Some(process)) => process,
                Ok(None) => return Outcome::Halted,
                Err(error) => return Outcome::Stop(error),
            },
        };
        let Request { bytes, lines } = (self.requests)(samples);
        let lines = match process.ask(bytes, lines, size.deadline, halt) {
            Ok(lines) => lines,
            Err(Lapse::Overran) => return Outcome::Overran,
            Err(Lapse::Ended(why) | Lapse::Garbled(why)) => return Outcome::Lost(why),
            Err(Lapse::Halted) => return Outcome::Halted,
        };
        let outcome = match speech.read(&lines, samples.len()) {
            Reading::Verdicts(verdicts) => Outcome::Answered(verdicts),
            Reading::Failed(why) => Outcome::Failed(why),
            Reading::Garbled(why) => return Outcome::Lost(why),
        };
        *self.worker = Some(process);
        outcome
    }
}
