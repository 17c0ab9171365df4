//! Samples that came in rounds, where what came out decided how many the next round drew.
//!
//! Before: [`Question`]s. After: [`crate::Summary`] takes every mean by round: of all samples together, a question that looked
//! sure by luck would count with its few lucky ones.

use crate::record::{Question, Sample, count};

/// The rounds of an evaluation; none if all samples were drawn at once.
pub(crate) struct Rounds {
    /// What each weighs, for all questions alike: the samples of its most drawn question.
    weights: Vec<f64>,
    /// The samples of its least drawn question.
    least: Vec<usize>,
}

impl Rounds {
    pub(crate) fn of(questions: &[Question]) -> Self {
        let rounds = questions.iter().map(|question| question.rounds.len()).max().unwrap_or(0);
        let counts = |round: usize| questions.iter().filter_map(move |q| q.rounds.get(round)).copied();
        Self {
            weights: (0..rounds).map(|round| counts(round).max().unwrap_or(0) as f64).collect(),
            least: (0..rounds).map(|round| counts(round).min().unwrap_or(0)).collect(),
        }
    }

    /// Whether all samples were drawn at once.
    pub(crate) fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// The most judged samples that a question has at once, in a round that gave every question as many.
    pub(crate) fn largest(&self, question: &Question) -> usize {
        if question.rounds.is_empty() {
            return question.judged();
        }
        let round = |(samples, least): (&[Sample], &usize)| count(samples).1.min(*least);
        question.by_round().zip(&self.least).map(round).max().unwrap_or(0)
    }

    /// A figure of a question's samples: of all of them, or the weighted mean of those of its rounds. Rounds in which some
    /// question was to get fewer than `needed` samples are left out for all questions, and a round of which the figure is
    /// absent for this one.
    pub(crate) fn mean(
        &self,
        question: &Question,
        needed: usize,
        mut figure: impl FnMut(&[Sample]) -> Option<f64>,
    ) -> Option<f64> {
        if question.rounds.is_empty() {
            return figure(&question.samples);
        }
        let (mut sum, mut total) = (0.0, 0.0);
        let rounds = question.by_round().zip(&self.weights).zip(&self.least);
        for ((samples, weight), _) in rounds.filter(|(_, least)| **least >= needed) {
            // a round that could not be judged says nothing, so the others have to do
            if let Some(value) = figure(samples) {
                sum += weight * value;
                total += weight;
            }
        }
        (total > 0.0).then(|| sum / total)
    }
}
