//! The few figures that a run writes down each time it is measured.
//!
//! Before: held-out questions were answered. After: the metrics and the progress line.

use serde::{Deserialize, Serialize};

use crate::record::Question;
use crate::stats::{Interval, StatsError};
use crate::summary::accuracy;

/// How good a policy is on held-out questions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Mean over questions of the share of right samples; 0 if none could be judged.
    pub share: f64,
    /// 95 % interval of it, over questions of this kind.
    pub interval: Interval,
    /// Questions that were asked.
    pub questions: usize,
    /// Samples that are right.
    pub right: usize,
    /// Samples that could be judged.
    pub judged: usize,
    /// Samples that could not.
    pub absent: usize,
    /// Share of samples that ran out of tokens.
    pub truncation_rate: f64,
    /// Share of samples that have the form asked for, where one is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format_rate: Option<f64>,
    /// Mean length of a sample in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_mean: Option<f64>,
}

impl Accuracy {
    /// Counts.
    ///
    /// # Errors
    /// None, as long as every question's samples are its own.
    pub fn of(questions: &[Question]) -> Result<Self, StatsError> {
        let samples = || questions.iter().flat_map(|question| &question.samples);
        let all = samples().count();
        let share = |count: usize, of: usize| if of == 0 { 0.0 } else { count as f64 / of as f64 };
        let formed: Vec<bool> = samples().filter_map(|sample| sample.formed).collect();
        let tokens: Vec<usize> = samples().filter_map(|sample| sample.tokens).collect();
        let estimate = accuracy(questions)?;
        Ok(Self {
            share: estimate.map_or(0.0, |estimate| estimate.value),
            interval: estimate.map_or(Interval { low: 0.0, high: 1.0 }, |estimate| estimate.interval),
            questions: questions.len(),
            right: questions.iter().map(Question::right).sum(),
            judged: questions.iter().map(Question::judged).sum(),
            absent: samples().filter(|sample| sample.right.is_none()).count(),
            truncation_rate: share(samples().filter(|sample| sample.truncated).count(), all),
            format_rate: (!formed.is_empty())
                .then(|| share(formed.iter().filter(|formed| **formed).count(), formed.len())),
            tokens_mean: (!tokens.is_empty()).then(|| share(tokens.iter().sum(), tokens.len())),
        })
    }
}
