//! What several samples of a question are worth together: pass@k, pass^k and maj@k, as several programs count them.
//!
//! Before: the judged samples of a question, in their order. After: a number for each question, which
//! [`crate::Summary`] averages.
//!
//! | rule | pass@k, pass^k | maj@k: which k of n samples | maj@k: a tie | samples without an answer |
//! |---|---|---|---|---|
//! | [`AtKRule::Unbiased`] | all choices of k (Chen et al.) | all choices of k, exactly | each of t answers wins with 1/t | do not vote |
//! | [`AtKRule::Lighteval`] | all choices of k (Chen et al.) | the first k | the answer that came first wins | vote as one answer |
//! | [`AtKRule::Qwen`] | the first k | the first k | the answer that came first wins | vote as one answer |
//! | [`AtKRule::Verl`] | k drawn with putting back: 1 − (1 − c/n)ᵏ and (c/n)ᵏ | k drawn with putting back | the answer drawn first wins, which is 1/t each | vote as one answer |
//!
//! The first k samples are one of many choices: the figure is right on average and as noisy as k samples are. Drawing with
//! putting back takes a sample twice, so pass@k comes out too low and pass^k too high, by much where k is near n: of one right
//! sample in 8, pass@8 is 66 % and not 100 %. verl draws 1000 times at random; here it is the expectation of that. All three
//! compare answers as text; here answers that are equal as mathematics are one vote under every rule.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::record::Sample;
use crate::stats::{StatsError, majority, majority_with_replacement, pass_at_k, pass_hat_k};

/// How pass@k, pass^k and maj@k are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtKRule {
    /// Over all choices of k samples, exactly; ties are broken evenly.
    #[default]
    Unbiased,
    /// As lighteval's `PassAtK` and `MajAtK`.
    Lighteval,
    /// As Qwen2.5-Math's evaluation: of the first k samples.
    Qwen,
    /// As verl's `best@k`, `worst@k` and `maj@k` of its validation metrics.
    Verl,
}

impl AtKRule {
    /// The names that recipes use.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("unbiased", Self::Unbiased),
        ("lighteval", Self::Lighteval),
        ("qwen", Self::Qwen),
        ("verl", Self::Verl),
    ];

    /// Whether it is the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether one of k samples is right, on average. `samples` are judged.
    pub(crate) fn pass_at(self, samples: &[&Sample], k: usize) -> Result<f64, StatsError> {
        let (n, right) = counts(samples);
        match self {
            Self::Unbiased | Self::Lighteval => pass_at_k(n, right, k),
            Self::Qwen => first(samples, k).map(|first| whole(first.iter().any(|sample| is_right(sample)))),
            Self::Verl => first(samples, k).map(|_| 1.0 - (1.0 - right as f64 / n as f64).powi(k as i32)),
        }
    }

    /// Whether all of k samples are right, on average.
    pub(crate) fn pass_hat(self, samples: &[&Sample], k: usize) -> Result<f64, StatsError> {
        let (n, right) = counts(samples);
        match self {
            Self::Unbiased | Self::Lighteval => pass_hat_k(n, right, k),
            Self::Qwen => first(samples, k).map(|first| whole(first.iter().all(|sample| is_right(sample)))),
            Self::Verl => first(samples, k).map(|_| (right as f64 / n as f64).powi(k as i32)),
        }
    }

    /// Whether the answer that most of k samples give is right, on average.
    pub(crate) fn majority(self, samples: &[&Sample], k: usize) -> Result<f64, StatsError> {
        let (right, mut others, silent) = ballot(samples);
        match self {
            Self::Unbiased => majority(right, &others, silent, k),
            Self::Lighteval | Self::Qwen => first(samples, k).map(majority_of_all),
            Self::Verl => {
                others.extend((silent > 0).then_some(silent));
                majority_with_replacement(right, &others, 0, k)
            }
        }
    }
}

impl FromStr for AtKRule {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::NAMES.into_iter().find(|(known, _)| *known == name);
        known.map(|(_, rule)| rule).ok_or_else(|| {
            let names: Vec<&str> = Self::NAMES.iter().map(|(name, _)| *name).collect();
            format!("there is no rule `{name}`; wanted one of {}", names.join(", "))
        })
    }
}

fn is_right(sample: &Sample) -> bool {
    sample.right == Some(true)
}

fn whole(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

/// How many there are, and how many are right.
fn counts(samples: &[&Sample]) -> (usize, usize) {
    (samples.len(), samples.iter().filter(|sample| is_right(sample)).count())
}

fn first<'a, 's>(samples: &'a [&'s Sample], k: usize) -> Result<&'a [&'s Sample], StatsError> {
    let wrong = StatsError::Choice { found: k, draws: samples.len() };
    if k == 0 { Err(wrong) } else { samples.get(..k).ok_or(wrong) }
}

/// How samples vote: right ones, wrong ones by answer, and those that give none.
pub(crate) fn ballot(samples: &[&Sample]) -> (usize, Vec<usize>, usize) {
    let (mut others, mut silent) = (std::collections::BTreeMap::<usize, usize>::new(), 0);
    for sample in samples.iter().filter(|sample| sample.right == Some(false)) {
        match sample.vote {
            Some(vote) => *others.entry(vote).or_default() += 1,
            None => silent += 1,
        }
    }
    (counts(samples).1, others.into_values().collect(), silent)
}

/// Whether the answer that most of them give is right; of answers with as many votes the one that came first.
fn majority_of_all(samples: &[&Sample]) -> f64 {
    // right ones are one answer, and those without an answer another
    let answer = |sample: &Sample| if is_right(sample) { (true, None) } else { (false, sample.vote) };
    let mut tally: Vec<((bool, Option<usize>), usize)> = Vec::new();
    for sample in samples {
        match tally.iter_mut().find(|(known, _)| *known == answer(sample)) {
            Some((_, votes)) => *votes += 1,
            None => tally.push((answer(sample), 1)),
        }
    }
    // the first of the largest: max_by_key would give the last
    let most = tally.iter().map(|(_, votes)| *votes).max().unwrap_or(0);
    whole(tally.iter().find(|(_, votes)| *votes == most).is_some_and(|((right, _), _)| *right))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `r` right, a digit a wrong answer, `-` none.
    fn samples(letters: &str) -> Vec<Sample> {
        let sample = |letter: char| Sample {
            right: Some(letter == 'r'),
            formed: None,
            truncated: false,
            tokens: None,
            vote: match letter {
                'r' => Some(0),
                '-' => None,
                digit => digit.to_digit(10).map(|digit| digit as usize),
            },
            unreadable: false,
        };
        letters.chars().map(sample).collect()
    }

    fn found(rule: AtKRule, letters: &str, k: usize) -> [f64; 3] {
        let samples = samples(letters);
        let samples: Vec<&Sample> = samples.iter().collect();
        [AtKRule::pass_at, AtKRule::pass_hat, AtKRule::majority].map(|of| of(rule, &samples, k).unwrap())
    }

    #[test]
    fn the_first_k_vote_and_the_answer_that_came_first_wins_a_tie() {
        assert_eq!(found(AtKRule::Qwen, "1r2r11", 4), [1.0, 0.0, 1.0]);
        assert_eq!(found(AtKRule::Qwen, "1r2r11", 6), [1.0, 0.0, 0.0]);
        assert_eq!(found(AtKRule::Lighteval, "1r", 2)[2], 0.0, "1 came first");
        assert_eq!(found(AtKRule::Lighteval, "r1", 2)[2], 1.0);
        assert_eq!(found(AtKRule::Lighteval, "--r", 3)[2], 0.0, "no answer is an answer");
        // pass@k by lighteval is Chen's
        assert_eq!(found(AtKRule::Lighteval, "1r23", 2)[0], 0.5);
        assert_eq!(found(AtKRule::Qwen, "11rr", 2)[0], 0.0);
    }

    #[test]
    fn drawing_with_putting_back_is_lower_and_is_what_resampling_gives() {
        let [pass, all, vote] = found(AtKRule::Verl, "r1234567", 8);
        assert!((pass - (1.0 - 0.875_f64.powi(8))).abs() < 1e-12 && pass < 0.66, "{pass}");
        assert!((all - 0.125_f64.powi(8)).abs() < 1e-15, "{all}");
        assert!((vote - 0.125).abs() < 1e-12, "eight answers, one sample each: {vote}");
        // rr1-: draws of two are rr (1/4), r with another (1/2, a tie), the rest is wrong
        assert!((found(AtKRule::Verl, "rr1-", 2)[2] - (0.25 + 0.25)).abs() < 1e-12);
    }

    #[test]
    fn all_rules_agree_on_one_sample_on_average_and_unknown_ones_are_named() {
        for (name, rule) in AtKRule::NAMES {
            assert_eq!(name.parse(), Ok(rule));
            assert_eq!(found(rule, "rrr", 3), [1.0; 3]);
            assert_eq!(found(rule, "12-", 3)[0], 0.0);
            assert_eq!(serde_json::to_value(rule).unwrap(), name);
            let samples = samples("r1");
            let samples: Vec<&Sample> = samples.iter().collect();
            assert!(rule.pass_at(&samples, 3).is_err() && rule.majority(&samples, 0).is_err(), "{name}");
        }
        let error = "trl".parse::<AtKRule>().unwrap_err();
        assert_eq!(error, "there is no rule `trl`; wanted one of unbiased, lighteval, qwen, verl");
    }
}
