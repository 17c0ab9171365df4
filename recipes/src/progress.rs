//! What a run shows while it runs: a bar on a terminal, plain lines elsewhere.
//!
//! Whatever is slow, something is said every fifteen seconds: also while nothing reports how far it is, as in an update, a
//! judge or the reading of a large model. A thread watches over that.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use data::printable;
use indicatif::{ProgressBar, ProgressStyle};

/// Least time between two plain lines of steps.
const PLAIN_EVERY: Duration = Duration::from_secs(2);
/// Longest silence, and least time between two plain lines within a step.
const SILENCE: Duration = Duration::from_secs(15);
/// A report that is older than this is said with its age.
const OLD: Duration = Duration::from_secs(5);

/// Shows how far a stage is, on standard error.
pub(crate) struct Display {
    bar: Option<ProgressBar>,
    stage: &'static str,
    total: u64,
    /// Steps that were done when the clock began.
    first: u64,
    done: u64,
    begun: Instant,
    /// When a plain line of a step was last said.
    stepped: Option<Instant>,
    teller: Teller,
    _watch: Watch,
}

impl Display {
    /// A stage of `total` steps of which `done` are done.
    pub(crate) fn new(stage: &'static str, done: u64, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {prefix} {bar:24} {pos}/{len} · {msg}")
                .expect("the template is right");
            let bar = ProgressBar::new(total).with_style(style).with_prefix(stage).with_position(done);
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        Self::with(stage, done, total, bar, SILENCE, Box::new(line))
    }

    fn with(
        stage: &'static str,
        done: u64,
        total: u64,
        bar: Option<ProgressBar>,
        silence: Duration,
        say: Say,
    ) -> Self {
        let teller = Teller { bar: bar.clone(), told: Arc::new(Told::new(stage, silence, say)) };
        // a bar moves by itself
        let watch = if bar.is_some() { Watch::none() } else { Watch::over(&teller.told) };
        let begun = Instant::now();
        Self { bar, stage, total, first: done, done, begun, stepped: None, teller, _watch: watch }
    }

    /// There are more steps than was thought, or fewer.
    pub(crate) fn set_total(&mut self, total: u64) {
        self.total = total;
        if let Some(bar) = &self.bar {
            bar.set_length(total);
        }
    }

    /// The time until now is no measure of the steps to come.
    pub(crate) fn restart(&mut self) {
        (self.first, self.begun) = (self.done, Instant::now());
    }

    /// Step `step` is done.
    pub(crate) fn step(&mut self, step: u64, message: &str) {
        self.done = step;
        let each = self.begun.elapsed().as_secs_f64() / step.saturating_sub(self.first).max(1) as f64;
        let left = duration(each * self.total.saturating_sub(step) as f64);
        match &self.bar {
            Some(bar) => {
                bar.set_position(step);
                bar.set_message(printable(&format!("eta {left} · {message}")).into_owned());
            }
            None => {
                let due = self.stepped.is_none_or(|stepped| stepped.elapsed() >= PLAIN_EVERY);
                if due || step == self.total {
                    self.stepped = Some(Instant::now());
                    let text = format!("{} {step}/{} · eta {left} · {message}", self.stage, self.total);
                    self.teller.told.lock().say(&text);
                }
            }
        }
    }

    /// Reports progress within a long step; shown on a terminal at once, elsewhere only every so often.
    pub(crate) fn within(&self, text: &str) {
        self.teller.within(text);
    }

    /// Says what is done within the stage, from wherever that is.
    pub(crate) fn teller(&self) -> Teller {
        self.teller.clone()
    }

    /// A line that stays.
    pub(crate) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| line(text)),
            None => self.teller.told.lock().say(text),
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Says what a stage is doing. All copies are of one display.
#[derive(Clone)]
pub(crate) struct Teller {
    bar: Option<ProgressBar>,
    told: Arc<Told>,
}

impl Teller {
    /// See [`Display::within`].
    pub(crate) fn within(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(printable(text).into_owned()),
            None => self.told.lock().report(text),
        }
    }
}

/// Something slow outside of any stage, said only if it lasts.
pub(crate) struct Busy {
    told: Arc<Told>,
    _watch: Watch,
}

impl Busy {
    /// Until it is dropped, `text` says what is done.
    pub(crate) fn new(text: &str) -> Self {
        let told = Arc::new(Told::new("", SILENCE, Box::new(line)));
        told.lock().report(text);
        Self { _watch: Watch::over(&told), told }
    }

    /// From now on another text does.
    pub(crate) fn tell(&self, text: &str) {
        self.told.lock().report(text);
    }
}

/// Says a line.
type Say = Box<dyn Fn(&str) + Send>;

/// The last lines of a display, shared with the thread that breaks silences.
struct Told {
    state: Mutex<Telling>,
    ended: Condvar,
}

struct Telling {
    say: Say,
    stage: &'static str,
    silence: Duration,
    /// When anything was last said.
    last: Instant,
    /// The last report of what is being done, and its time.
    doing: Option<(String, Instant)>,
    over: bool,
}

impl Told {
    fn new(stage: &'static str, silence: Duration, say: Say) -> Self {
        let state = Telling { say, stage, silence, last: Instant::now(), doing: None, over: false };
        Self { state: Mutex::new(state), ended: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Telling> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Telling {
    fn say(&mut self, text: &str) {
        self.last = Instant::now();
        (self.say)(text);
    }

    fn report(&mut self, text: &str) {
        match &mut self.doing {
            // the same as before: what counts is when that began
            Some((doing, _)) if doing == text => {}
            doing => *doing = Some((text.to_owned(), Instant::now())),
        }
        self.break_silence();
    }

    fn break_silence(&mut self) {
        if self.last.elapsed() < self.silence {
            return;
        }
        let Some((doing, since)) = &self.doing else { return };
        let between = if self.stage.is_empty() { "" } else { " " };
        let age = since.elapsed();
        let age = if age < OLD.min(self.silence) {
            String::new()
        } else {
            format!(" ({} so far)", duration(age.as_secs_f64()))
        };
        let text = format!("{}{between}{doing}{age}", self.stage);
        self.say(&text);
    }
}

/// A thread that breaks silence until this is dropped.
struct Watch {
    told: Option<Arc<Told>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watch {
    fn none() -> Self {
        Self { told: None, thread: None }
    }

    fn over(told: &Arc<Told>) -> Self {
        let watched = told.clone();
        let thread = std::thread::spawn(move || {
            let mut state = watched.lock();
            while !state.over {
                let wait = state.silence.saturating_sub(state.last.elapsed()).max(Duration::from_millis(5));
                state = match watched.ended.wait_timeout(state, wait) {
                    Ok((state, _)) => state,
                    Err(poisoned) => poisoned.into_inner().0,
                };
                if !state.over {
                    state.break_silence();
                }
                if state.doing.is_none() {
                    // nothing to say yet: look again after a while
                    state.last = Instant::now();
                }
            }
        });
        Self { told: Some(told.clone()), thread: Some(thread) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(told) = &self.told {
            told.lock().over = true;
            told.ended.notify_all();
        }
        if let Some(thread) = self.thread.take() {
            // it does nothing that panics but say a line
            let _ = thread.join();
        }
    }
}

/// "45 s", "12 min", "3 h 20 min"
pub(crate) fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match seconds {
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 100.0 * 60.0 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

/// A number with so many digits behind the point, and no minus in front of zero.
pub(crate) fn fixed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| c == '0' || c == '.') => rest.to_owned(),
        _ => text,
    }
}

/// Writes a line to standard error. Nobody is left to tell if that fails.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", printable(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A display without a terminal, and what it says.
    fn plain(silence: Duration, done: u64) -> (Display, Arc<Mutex<Vec<String>>>) {
        let said = Arc::new(Mutex::new(Vec::new()));
        let kept = said.clone();
        let say = Box::new(move |text: &str| kept.lock().unwrap().push(text.to_owned()));
        (Display::with("rl", done, 10, None, silence, say), said)
    }

    fn until(what: &str, so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !so() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_step_is_said_also_behind_a_report_from_within_it() {
        let (mut display, said) = plain(Duration::ZERO, 0);
        display.within("step 1: 0 of 8 rollouts finished, 1024 tokens drawn");
        display.step(1, "reward 0.5");
        let said = said.lock().unwrap();
        assert!(said.iter().any(|line| line.starts_with("rl step 1: 0 of 8 rollouts finished")), "{said:?}");
        assert!(said.last().unwrap().ends_with("reward 0.5"), "{said:?}");
    }

    #[test]
    fn steps_that_follow_each_other_fast_are_not_all_said_but_the_last_is() {
        let (mut display, said) = plain(SILENCE, 0);
        (1..=10).for_each(|step| display.step(step, "x"));
        let said = said.lock().unwrap();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[1].starts_with("rl 10/10"), "{said:?}");
    }

    #[test]
    fn silence_is_broken_while_nothing_reports() {
        let (display, said) = plain(Duration::from_millis(20), 0);
        display.within("step 1: training");
        until("two lines", || said.lock().unwrap().len() >= 2);
        drop(display);
        let said = said.lock().unwrap();
        assert!(said.iter().all(|line| line.starts_with("rl step 1: training")), "{said:?}");
        assert!(said.last().unwrap().ends_with("s so far)"), "{said:?}");
    }

    #[test]
    fn what_another_process_did_is_no_measure_of_the_time_that_is_left() {
        let (mut display, said) = plain(SILENCE, 8);
        display.begun = Instant::now() - Duration::from_secs(30);
        display.step(9, "x");
        assert!(said.lock().unwrap()[0].starts_with("rl 9/10 · eta 30 s"), "{said:?}");
        let (mut display, said) = plain(SILENCE, 0);
        display.begun = Instant::now() - Duration::from_secs(3000);
        display.restart();
        display.step(1, "x");
        assert!(said.lock().unwrap()[0].starts_with("rl 1/10 · eta 0 s"), "{said:?}");
    }

    #[test]
    fn durations_and_numbers_read_well() {
        let shown: Vec<String> = [0.4, 99.0, 240.0, 7500.0].map(duration).to_vec();
        assert_eq!(shown, ["0 s", "99 s", "4 min", "2 h 5 min"]);
        let shown: Vec<String> = [-0.0, -0.0004, -0.0006, 1.0].map(|x| fixed(x, 3)).to_vec();
        assert_eq!(shown, ["0.000", "0.000", "-0.001", "1.000"]);
    }
}
