//! The statistics of an evaluation: shares and means with their intervals, comparisons, and how much to sample.
//!
//! Before: how many draws of each question were right, or a number for each question. After: estimates for the
//! progress line, the metrics and the report. Nothing here knows what a question is, and nothing reads a clock: what is
//! random comes from a [`data::Seed`].
//!
//! Two kinds of uncertainty are kept apart. [`clustered`] and [`Paired`] speak about *questions of this kind*: the
//! questions are a sample, and a question is the unit. [`draws`] and [`adaptive_mean`] speak about *these very
//! questions*: only the draws are a sample. [`RunVariance`] speaks about training runs.

mod adaptive;
mod bootstrap;
mod budget;
mod clustered;
#[cfg(test)]
mod covered;
mod distributions;
mod draws;
mod interval;
mod majority;
mod mcnemar;
mod paired;
mod pass;
mod prior;
mod rare;
mod runs;
mod sign_flip;
#[cfg(test)]
mod simulate;
mod welch;

pub use adaptive::{AdaptiveSettings, adaptive_mean, plan};
pub use bootstrap::{bootstrap, resampled};
pub use budget::{Budget, BudgetSettings};
pub use clustered::{clustered, mean_interval};
pub use draws::draws;
pub use interval::{Estimate, Interval, Method, clopper_pearson, one_draw, wilson};
pub use majority::{majority, majority_with_replacement};
pub use mcnemar::McNemar;
pub use paired::{Paired, PairedVerdict};
pub use pass::{pass_at_k, pass_hat_k};
pub use runs::RunVariance;
pub use welch::Welch;

#[doc = include_str!("../../docs/coverage.md")]
pub mod coverage {}

/// Why a statistic cannot be had.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StatsError {
    /// A confidence that is no share between 0 and 1.
    #[error("a confidence lies between 0 and 1, such as 0.95, and is not {found}")]
    Confidence {
        /// The confidence given.
        found: f64,
    },
    /// A count above its total.
    #[error("{found} right of {total} draws: at most {total} can be")]
    Right {
        /// The count given.
        found: usize,
        /// Its total.
        total: usize,
    },
    /// Choosing none, or more than there are.
    #[error("k = {found}, but the question has {draws} draws: k lies between 1 and {draws}")]
    Choice {
        /// The k given.
        found: usize,
        /// Draws of the question.
        draws: usize,
    },
    /// Too little to tell anything.
    #[error("{found} {what}, but at least {wanted} are needed")]
    TooFew {
        /// What there is too little of.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many are needed.
        wanted: usize,
    },
    /// Numbers that do not differ, where their spread is what is asked for.
    #[error("the runs of both groups do not differ among themselves, so their spread says nothing")]
    NoSpread,
    /// Two lists that must be equally long.
    #[error("{found} {what}, but {wanted} are wanted, as many as there are questions")]
    Length {
        /// What the list holds.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length it should have.
        wanted: usize,
    },
    /// A number that is not finite, or outside its range.
    #[error("{what} {found} at place {place}: {wanted} is wanted")]
    Value {
        /// What the number is.
        what: &'static str,
        /// The number given.
        found: f64,
        /// Where it stands, from 0.
        place: usize,
        /// What would do.
        wanted: &'static str,
    },
}

/// # Errors
/// If the confidence is not strictly between 0 and 1.
fn check_confidence(confidence: f64) -> Result<(), StatsError> {
    if confidence > 0.0 && confidence < 1.0 {
        Ok(())
    } else {
        Err(StatsError::Confidence { found: confidence })
    }
}

/// # Errors
/// If there are fewer than `wanted`.
fn check_enough(what: &'static str, found: usize, wanted: usize) -> Result<(), StatsError> {
    if found < wanted { Err(StatsError::TooFew { what, found, wanted }) } else { Ok(()) }
}

/// # Errors
/// At the first number that is not as wanted.
fn check_values(
    what: &'static str,
    wanted: &'static str,
    values: &[f64],
    good: impl Fn(f64) -> bool,
) -> Result<(), StatsError> {
    match values.iter().position(|value| !good(*value)) {
        Some(place) => Err(StatsError::Value { what, found: values[place], place, wanted }),
        None => Ok(()),
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sum of squares around the mean.
fn spread(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum()
}

/// Sample variance, with n − 1.
fn variance(values: &[f64]) -> f64 {
    spread(values) / (values.len() - 1) as f64
}
