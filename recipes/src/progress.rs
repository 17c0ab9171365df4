//! What a run shows while it runs: a bar on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Least time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// Least time between two plain lines within a step.
const PLAIN_WITHIN_EVERY: Duration = Duration::from_secs(15);

/// Shows how far a stage is, on standard error.
pub(crate) struct Display {
    bar: Option<ProgressBar>,
    stage: &'static str,
    total: u64,
    first: u64,
    begun: Instant,
    shown: Option<Instant>,
}

impl Display {
    /// A stage of `total` steps of which `done` are done.
    pub(crate) fn new(stage: &'static str, done: u64, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} · eta {eta} · {msg}")
                .expect("the template is right");
            ProgressBar::new(total).with_style(style).with_prefix(stage).with_position(done)
        });
        Self { bar, stage, total, first: done, begun: Instant::now(), shown: None }
    }

    /// There are more steps than was thought, or fewer.
    pub(crate) fn set_total(&mut self, total: u64) {
        self.total = total;
        if let Some(bar) = &self.bar {
            bar.set_length(total);
        }
    }

    /// Step `step` is done.
    pub(crate) fn step(&mut self, step: u64, message: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(step);
                bar.set_message(message.to_owned());
            }
            None => {
                let due = self.shown.is_none_or(|shown| shown.elapsed() >= PLAIN_EVERY);
                if due || step == self.total {
                    self.shown = Some(Instant::now());
                    let each = self.begun.elapsed().as_secs_f64() / (step - self.first).max(1) as f64;
                    let left = each * (self.total - step) as f64;
                    line(&format!("{} {step}/{} · eta {left:.0} s · {message}", self.stage, self.total));
                }
            }
        }
    }

    /// What a long step is doing; shown on a terminal at once, elsewhere only every so often.
    pub(crate) fn within(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => {
                if self.shown.unwrap_or(self.begun).elapsed() >= PLAIN_WITHIN_EVERY {
                    self.shown = Some(Instant::now());
                    line(&format!("{} {text}", self.stage));
                }
            }
        }
    }

    /// A line that stays.
    pub(crate) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| line(text)),
            None => line(text),
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

/// Writes a line to standard error. Nobody is left to tell if that fails.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
