//! A run that is asked to end: by a signal, or by the program that runs it.
//!
//! Before: Ctrl-C, SIGTERM, SIGHUP or [`Stop::request`]. After: what is under way has seen the request, has kept what it had, and
//! ended with [`Interrupted`], from which the command that goes on is told.
//!
//! The handlers are those of [`crate::App::main`] only, and only while a command runs that has something to keep: a program
//! that calls [`crate::App::run`] or [`crate::run()`] keeps its own and hands in a [`Stop`] if it likes. A signal that was ignored
//! when the program began stays ignored, as `nohup` and shells with jobs in the background want it. The first signal is a request
//! where one is heeded, and ends the program at once where nothing would be lost; the second ends it at once.

use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use eval::EvalError;
use rewards::{RewardError, ScoringError};
use rollout::RolloutError;

use crate::progress::line;
use crate::unfinished::Unfinished;

/// Asks a run to end early, with its state saved. All copies are the same request.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// The signal that asks, [`NO_SIGNAL`] if something else does, or 0.
    request: AtomicI32,
    /// Number of calls under way that look at it.
    heeding: AtomicUsize,
    /// The command that goes on, if there is something to go on with.
    resume: Mutex<Option<String>>,
    /// The name of the program.
    program: Mutex<Option<String>>,
}

const NO_SIGNAL: i32 = -1;

impl Stop {
    /// A request that nobody has made yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes it. What is under way ends within about a second: sampling between two passes, judging and servers at once; an
    /// update is finished.
    pub fn request(&self) {
        self.ask(NO_SIGNAL);
    }

    /// True once it was made.
    pub fn is_requested(&self) -> bool {
        self.0.request.load(Ordering::Relaxed) != 0
    }

    fn ask(&self, signal: i32) {
        let _ = self.0.request.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn signal(&self) -> Option<i32> {
        Some(self.0.request.load(Ordering::Relaxed)).filter(|signal| *signal > 0)
    }

    /// From now until the guard is dropped the request is looked at, and there is something to keep.
    pub(crate) fn heed(&self) -> Heeding {
        self.0.heeding.fetch_add(1, Ordering::Relaxed);
        Heeding(self.clone())
    }

    /// From now on whoever reads that the call was ended or failed is told that `COMMAND --resume FOLDER` goes on.
    pub(crate) fn resumable(&self, command: &str, folder: &Path) {
        self.go_on_by(&format!("{command} --resume {}", quoted(&folder.to_string_lossy())));
    }

    fn go_on_by(&self, command: &str) {
        let program = self.0.program.lock().unwrap_or_else(PoisonError::into_inner);
        let command = format!("{} {command}", program.as_deref().unwrap_or("evenkeel"));
        *self.0.resume.lock().unwrap_or_else(PoisonError::into_inner) = Some(command);
    }

    /// There is nothing to go on with, or something has to be mended first.
    pub(crate) fn cannot_go_on(&self) {
        *self.0.resume.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Says which command goes on, if there is one.
    pub(crate) fn tell_how_to_go_on(&self) {
        let command = self.0.resume.lock().unwrap_or_else(PoisonError::into_inner);
        command.iter().for_each(|command| line(&format!("to go on: {command}")));
    }

    fn is_heeded(&self) -> bool {
        self.0.heeding.load(Ordering::Relaxed) > 0
    }

    /// The error that ends a run which heeded the request. `place` says what was reached and where it is kept.
    pub(crate) fn interrupted(&self, place: impl Into<String>) -> anyhow::Error {
        Interrupted { signal: self.signal(), place: place.into() }.into()
    }
}

/// Somebody looks at a request.
pub(crate) struct Heeding(Stop);

impl Drop for Heeding {
    fn drop(&mut self) {
        self.0.0.heeding.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A run that ended because it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("{}: {place}", by(*signal))]
pub(crate) struct Interrupted {
    signal: Option<i32>,
    /// The step that was reached, and the place where it is kept.
    place: String,
}

impl Interrupted {
    /// 128 and the signal, as a shell has it: 130 after Ctrl-C, which is also that of a request without a signal.
    pub(crate) fn exit_code(&self) -> u8 {
        exit_code(self.signal)
    }
}

fn exit_code(signal: Option<i32>) -> u8 {
    128 + signal.and_then(|signal| u8::try_from(signal).ok()).unwrap_or(2)
}

fn by(signal: Option<i32>) -> String {
    signal.map_or_else(|| "interrupted".into(), |signal| format!("interrupted by {}", name(signal)))
}

fn name(signal: i32) -> &'static str {
    match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        15 => "SIGTERM",
        _ => "a signal",
    }
}

/// True of what is no failure: sampling, judging or an evaluation that ended because it was asked to.
pub(crate) fn is_stop(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Interrupted>()
            || cause.downcast_ref::<Unfinished>().is_some_and(|unfinished| unfinished.stopped)
            || cause.downcast_ref::<EvalError>().is_some_and(EvalError::is_stop)
            || matches!(cause.downcast_ref(), Some(RolloutError::Stopped { .. }))
            || cause.downcast_ref::<ScoringError>().is_some_and(|e| e.error == RewardError::Stopped)
    })
}

/// A call of a command that can be gone on with.
pub(crate) struct Session {
    /// The request to end early.
    pub(crate) stop: Stop,
    /// The command line, the program's name first.
    words: Vec<OsString>,
}

impl Session {
    /// A call of the program that ends when this is requested.
    pub(crate) fn new(stop: Stop, words: Vec<OsString>) -> Self {
        let program = words.first().and_then(|own| Path::new(own).file_name());
        let program = program.map(|own| quoted(&own.to_string_lossy()));
        *stop.0.program.lock().unwrap_or_else(PoisonError::into_inner) = program;
        Self { stop, words }
    }

    /// From now on whoever reads that the call was ended or failed is told that the same once more goes on.
    pub(crate) fn again_as_it_is(&self) {
        let words: Vec<String> =
            self.words.iter().skip(1).map(|word| quoted(&word.to_string_lossy())).collect();
        self.stop.go_on_by(&words.join(" "));
    }

    /// From now on whoever reads that the call was ended or failed is told that the same with `--resume` goes on.
    pub(crate) fn resumable_as_it_is(&self) {
        let words = self.words.iter().skip(1).map(|word| word.to_string_lossy());
        let words: Vec<String> = words.filter(|word| word != "--resume").map(|word| quoted(&word)).collect();
        self.stop.go_on_by(&format!("{} --resume", words.join(" ")));
    }
}

/// A word as a shell reads it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// Lets SIGINT, SIGTERM and SIGHUP make the request, until the program ends.
///
/// # Errors
/// If the system allows no handler.
#[cfg(unix)]
pub(crate) fn watch_signals(stop: &Stop) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    let wanted = [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| !is_ignored(*signal));
    let mut signals = Signals::new(wanted)?;
    let stop = stop.clone();
    std::thread::spawn(move || {
        for signal in &mut signals {
            if stop.is_requested() || !stop.is_heeded() {
                if stop.is_heeded() {
                    line(&format!("{}: ended at once", name(signal)));
                    stop.tell_how_to_go_on();
                }
                signal_hook::low_level::exit(exit_code(Some(signal)).into());
            }
            stop.ask(signal);
            line(&format!(
                "{}: what is under way is kept or finished, and saved; a second signal ends the program at once",
                name(signal)
            ));
        }
    });
    Ok(())
}

/// Elsewhere there are no such signals.
#[cfg(not(unix))]
pub(crate) fn watch_signals(_: &Stop) -> Result<()> {
    Ok(())
}

/// True if the program was begun with this signal ignored.
#[cfg(unix)]
#[expect(unsafe_code, reason = "the system call has no wrapper")]
fn is_ignored(signal: i32) -> bool {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with no new action the call changes nothing; it fills `now`, which is read only if it says so.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) == 0
            && now.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_request_is_the_one_that_counts() {
        let stop = Stop::new();
        assert!(!stop.is_requested());
        let other = stop.clone();
        other.ask(15);
        stop.ask(2);
        assert_eq!((stop.signal(), stop.is_requested()), (Some(15), true));
        let error = stop.interrupted("it is in `x`");
        assert_eq!(error.to_string(), "interrupted by SIGTERM: it is in `x`");
        assert_eq!(error.downcast_ref::<Interrupted>().unwrap().exit_code(), 143);
        assert!(is_stop(&error.context("more")));
    }

    #[test]
    fn a_request_of_the_program_itself_ends_like_ctrl_c() {
        let stop = Stop::new();
        stop.request();
        let error = stop.interrupted("done");
        assert_eq!(error.to_string(), "interrupted: done");
        assert_eq!(error.downcast_ref::<Interrupted>().unwrap().exit_code(), 130);
    }

    #[test]
    fn it_is_heeded_for_as_long_as_anybody_does() {
        let stop = Stop::new();
        let (one, two) = (stop.heed(), stop.heed());
        drop(one);
        assert!(stop.is_heeded());
        drop(two);
        assert!(!stop.is_heeded());
    }

    #[test]
    fn a_folder_with_a_space_can_be_copied_to_a_shell() {
        assert_eq!(quoted("runs/tiny-2"), "runs/tiny-2");
        assert_eq!(quoted("my runs/it's"), r"'my runs/it'\''s'");
        let words = ["/usr/bin/evenkeel", "sample", "tiny", "-p", "1 + 1", "--resume", "--out", "f"];
        let session = Session::new(Stop::new(), words.map(OsString::from).to_vec());
        let told = || session.stop.0.resume.lock().unwrap().clone();
        assert_eq!(told(), None);
        session.stop.resumable("train", Path::new("a b"));
        assert_eq!(told().unwrap(), "evenkeel train --resume 'a b'");
        session.resumable_as_it_is();
        assert_eq!(told().unwrap(), "evenkeel sample tiny -p '1 + 1' --out f --resume");
    }
}
