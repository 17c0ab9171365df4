//! The result of a run: its folder, and accuracies before and after.

use std::path::PathBuf;

use eval::Accuracy;

/// The result of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunOutcome {
    /// Accuracy on held-out prompts before training; absent without `[eval]`.
    pub before: Option<Accuracy>,
    /// The same after it.
    pub after: Option<Accuracy>,
    /// What the result has to be compared with, as sentences.
    pub notes: Vec<String>,
    /// The run's folder.
    pub folder: PathBuf,
}

/// "37.2 % (190 of 512, 95 % interval 33.1–41.4 %)"
pub(crate) fn describe(a: &Accuracy) -> String {
    let i = a.interval;
    let absent = if a.absent > 0 { format!(", {} not judged", a.absent) } else { String::new() };
    format!(
        "{:.1} % ({} of {}, 95 % interval {:.1}–{:.1} %{absent})",
        100.0 * a.share,
        a.right,
        a.judged,
        100.0 * i.low,
        100.0 * i.high
    )
}
