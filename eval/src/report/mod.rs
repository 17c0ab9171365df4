//! What people and other programs read of an evaluation.
//!
//! Before: [`crate::Evaluation`]s. After: files.

mod appendix;
mod breakdown;
mod chart;
mod figures;
pub mod harness;
mod markdown;
mod page;
mod samples;
mod spread;
mod terminal;
mod words;

#[cfg(test)]
pub(crate) use page::tests;

pub use markdown::markdown;
pub use page::page;
pub use spread::{by_chance, comparison, runs};
pub use terminal::terminal;

use crate::record::SampleText;
use crate::result::{Comparison, Evaluation, Runs};

/// What goes into a page.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// What it is called.
    pub title: &'a str,
    /// One for each model and benchmark.
    pub evaluations: &'a [Evaluation],
    /// Models compared on the same questions.
    pub comparisons: &'a [Comparison],
    /// What runs of one recipe say together.
    pub runs: &'a [Runs],
    /// Samples to read.
    pub readings: &'a [Readings<'a>],
}

/// Some samples of one model on one benchmark.
#[derive(Debug, Clone, Copy)]
pub struct Readings<'a> {
    /// The model.
    pub model: &'a str,
    /// The benchmark.
    pub benchmark: &'a str,
    /// The samples that were chosen.
    pub samples: &'a [SampleText],
    /// How many there are in all.
    pub all: usize,
}
