//! The figures of one model on one benchmark, each with its interval.
//!
//! Before: [`Question`]s. After: the tables and pages of [`crate::report`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::protocol::Protocol;
use crate::record::{Question, Sample, count, judged};
use crate::rounds::Rounds;
use crate::stats::{
    Estimate, Interval, Method, StatsError, adaptive_mean, clopper_pearson, clustered, draws, mean_interval,
    one_draw,
};

/// Confidence of every interval.
pub const CONFIDENCE: f64 = 0.95;

/// Figures of one model on one benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Questions of the benchmark.
    pub questions: usize,
    /// Samples of all of them.
    pub samples: usize,
    /// Samples that could not be judged; they are in no figure.
    pub absent: usize,
    /// Questions that were not asked, because their prompt did not fit the model; they count as not right.
    pub skipped: usize,
    /// Samples whose answer could not be read as mathematics and was compared as text.
    pub unreadable: usize,
    /// Mean over questions of the share of right samples (avg@n). The interval is over questions: what another set of such
    /// questions might have given. Absent if nothing could be judged.
    pub accuracy: Option<Estimate>,
    /// The same with the exact interval of Clopper and Pearson, where every question has one sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<Estimate>,
    /// The same with an interval over draws: what another seed might have given on these very questions. Absent for greedy
    /// decoding, which has no draws, and where each question has one sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_draws: Option<Estimate>,
    /// Probability that one of k samples is right (pass@k), unbiased, for k = 1, 2, 4 … n. These three are counted by the
    /// protocol's [`crate::AtKRule`]. Where the number of samples was adapted, they are means over the rounds in which every
    /// question got at least k: so pass@1 is the accuracy, and large k have the first round alone.
    pub pass_at: Vec<AtK>,
    /// Probability that all of k samples are right (pass^k).
    pub pass_hat: Vec<AtK>,
    /// Probability that the answer most of k samples give is right (maj@k), ties broken evenly.
    pub majority_at: Vec<AtK>,
    /// Share of samples that have the form the prompt asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format_rate: Option<Estimate>,
    /// Share of samples that ran out of tokens.
    pub truncation_rate: Option<Estimate>,
    /// Tokens of a completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Lengths>,
    /// Accuracy by the data's levels.
    pub by_level: Vec<QuestionShare>,
    /// Accuracy by the data's subjects.
    pub by_subject: Vec<QuestionShare>,
}

/// A figure that depends on how many samples are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AtK {
    /// How many samples.
    pub k: usize,
    /// The figure, with an interval over questions.
    #[serde(flatten)]
    pub estimate: Estimate,
}

/// A part of the questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuestionShare {
    /// What they have in common.
    pub name: String,
    /// How many there are.
    pub questions: usize,
    /// Accuracy on them.
    pub accuracy: Option<Estimate>,
}

/// How long completions are, in tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    /// Mean over questions of the mean of their samples.
    pub mean: f64,
    /// 95 % interval of the mean, over questions; absent for one question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// Half are at most so long.
    pub median: usize,
    /// 95 % are at most so long.
    pub p95: usize,
    /// The longest.
    pub longest: usize,
    /// Mean length of right ones, if there are any.
    pub right: Option<f64>,
    /// Mean length of wrong ones, if there are any.
    pub wrong: Option<f64>,
    /// Samples by length: lower end of each bin, right ones, others.
    pub histogram: Vec<Bin>,
}

/// Samples of about one length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Shortest length.
    pub from: usize,
    /// Right samples.
    pub right: usize,
    /// Other samples.
    pub other: usize,
}

impl Summary {
    /// Counts what was found out by this protocol.
    ///
    /// # Errors
    /// None, as long as every question's samples are its own.
    pub fn of(questions: &[Question], protocol: &Protocol) -> Result<Self, StatsError> {
        let samples = || questions.iter().flat_map(|question| &question.samples);
        let counts: Vec<(usize, usize)> =
            questions.iter().map(|q| (q.right(), q.judged())).filter(|(_, judged)| *judged > 0).collect();
        let rule = protocol.at_k;
        let most = counts.iter().map(|(_, judged)| *judged).max().unwrap_or(0);
        let single = most == 1 && counts.len() == questions.len();
        let exact = || -> Result<Estimate, StatsError> {
            let right = counts.iter().map(|(right, _)| right).sum();
            let interval = clopper_pearson(right, counts.len(), CONFIDENCE)?;
            let value = right as f64 / counts.len() as f64;
            Ok(Estimate { value, interval, method: Method::ClopperPearson })
        };
        let rounds = Rounds::of(questions);
        let rate = |value: &dyn Fn(&Sample) -> Option<bool>| {
            let of = |samples: &[Sample]| {
                let values: Vec<bool> = samples.iter().filter_map(value).collect();
                let yes = values.iter().filter(|yes| **yes).count();
                (!values.is_empty()).then(|| yes as f64 / values.len() as f64)
            };
            let values: Vec<f64> = questions.iter().filter_map(|q| rounds.mean(q, 1, of)).collect();
            share(&values, questions.iter().map(|q| q.samples.len()).max().unwrap_or(0))
        };
        Ok(Self {
            questions: questions.len(),
            samples: samples().count(),
            absent: samples().filter(|sample| sample.right.is_none()).count(),
            skipped: questions.iter().filter(|question| question.skipped.is_some()).count(),
            unreadable: samples().filter(|sample| sample.unreadable).count(),
            accuracy: accuracy(questions)?,
            exact: single.then(exact).transpose()?,
            over_draws: over_draws(questions, &counts, protocol)?,
            pass_at: at(questions, &rounds, |samples, k| rule.pass_at(samples, k))?,
            pass_hat: at(questions, &rounds, |samples, k| rule.pass_hat(samples, k))?,
            majority_at: at(questions, &rounds, |samples, k| rule.majority(samples, k))?,
            format_rate: rate(&|sample| sample.formed)?,
            truncation_rate: rate(&|sample| Some(sample.truncated))?,
            tokens: Lengths::of(questions, &rounds)?,
            by_level: parts(questions, |question| question.level.as_deref())?,
            by_subject: parts(questions, |question| question.subject.as_deref())?,
        })
    }
}

/// What another seed might have given on these very questions.
fn over_draws(
    questions: &[Question],
    counts: &[(usize, usize)],
    protocol: &Protocol,
) -> Result<Option<Estimate>, StatsError> {
    let several = counts.iter().any(|(_, judged)| *judged > 1);
    if protocol.sampling.temperature == 0.0 || !several {
        return Ok(None);
    }
    let by_round: Vec<Vec<(usize, usize)>> =
        questions.iter().map(|question| question.by_round().map(count).collect()).collect();
    let known: Vec<_> =
        by_round.iter().filter(|q| !q.is_empty() && q.iter().all(|(_, judged)| *judged > 0)).collect();
    match known.first().map(|question| question.len()) {
        Some(rounds) => {
            let round = |round: usize| known.iter().map(|question| question[round]).collect();
            adaptive_mean(&(0..rounds).map(round).collect::<Vec<_>>(), CONFIDENCE).map(Some)
        }
        None => draws(counts, CONFIDENCE).map(Some),
    }
}

/// A figure for k = 1, 2, 4 … as far as every question has judged samples: in some round, where there are rounds.
fn at(
    questions: &[Question],
    rounds: &Rounds,
    figure: impl Fn(&[&Sample], usize) -> Result<f64, StatsError>,
) -> Result<Vec<AtK>, StatsError> {
    let asked = |q: &&Question| q.skipped.is_none() && q.judged() > 0;
    let Some(least) = questions.iter().filter(asked).map(|q| rounds.largest(q)).min() else {
        return Ok(Vec::new());
    };
    // rounds differ in size, so no k is that of all samples
    let most = match rounds.is_empty() {
        true => questions.iter().map(Question::judged).max().unwrap_or(0),
        false => usize::MAX,
    };
    let mut found = Vec::new();
    for k in powers(least, most) {
        let mut wrong = Ok(());
        let mut value = |q: &Question| match (q.judged(), &q.skipped) {
            (0, None) => None,
            (0, Some(_)) => Some(0.0),
            _ => rounds.mean(q, k, |samples| {
                let samples = judged(samples);
                let found = (samples.len() >= k).then(|| figure(&samples, k)).transpose();
                found.unwrap_or_else(|error| {
                    wrong = Err(error);
                    None
                })
            }),
        };
        let values: Vec<f64> = questions.iter().filter_map(&mut value).collect();
        wrong?;
        let several = questions.iter().map(Question::judged).max().unwrap_or(0);
        found.extend(share(&values, several)?.map(|estimate| AtK { k, estimate }));
    }
    Ok(found)
}

/// Mean over questions of their shares, with an interval over questions.
pub(crate) fn accuracy(questions: &[Question]) -> Result<Option<Estimate>, StatsError> {
    let values: Vec<f64> = questions.iter().filter_map(Question::share).collect();
    share(&values, questions.iter().map(Question::judged).max().unwrap_or(0))
}

/// A mean of shares: Wilson's interval for one sample a question, else clustered by question.
pub(crate) fn share(values: &[f64], most: usize) -> Result<Option<Estimate>, StatsError> {
    if values.is_empty() {
        return Ok(None);
    }
    let whole = values.iter().all(|value| *value == 0.0 || *value == 1.0);
    if most <= 1 && whole {
        let right = values.iter().filter(|value| **value == 1.0).count();
        return one_draw(right, values.len(), CONFIDENCE).map(Some);
    }
    if values.len() == 1 {
        // one question says nothing of others
        let interval = Interval { low: 0.0, high: 1.0 };
        return Ok(Some(Estimate { value: values[0], interval, method: Method::Clustered }));
    }
    clustered(values, None, CONFIDENCE).map(Some)
}

/// 1, 2, 4 … up to the least number of samples, and that number itself if all questions have it.
fn powers(least: usize, most: usize) -> Vec<usize> {
    let mut ks: Vec<usize> =
        std::iter::successors(Some(1usize), |k| k.checked_mul(2)).take_while(|k| *k <= least).collect();
    if least == most && ks.last() != Some(&least) {
        ks.push(least);
    }
    ks
}

fn parts<'q>(
    questions: &'q [Question],
    name: impl Fn(&'q Question) -> Option<&'q str>,
) -> Result<Vec<QuestionShare>, StatsError> {
    let mut parts: BTreeMap<&str, Vec<Question>> = BTreeMap::new();
    for question in questions {
        if let Some(name) = name(question) {
            parts.entry(name).or_default().push(question.clone());
        }
    }
    let part = |(name, questions): (&str, Vec<Question>)| {
        let accuracy = accuracy(&questions)?;
        Ok(QuestionShare { name: name.to_owned(), questions: questions.len(), accuracy })
    };
    parts.into_iter().map(part).collect()
}

impl Lengths {
    fn of(questions: &[Question], rounds: &Rounds) -> Result<Option<Self>, StatsError> {
        let of =
            |q: &Question| q.samples.iter().filter_map(|s| Some((s.tokens?, s.right))).collect::<Vec<_>>();
        let groups: Vec<Vec<(usize, Option<bool>)>> =
            questions.iter().map(of).filter(|samples| !samples.is_empty()).collect();
        let mean = |lengths: &mut dyn Iterator<Item = usize>| {
            let all: Vec<usize> = lengths.collect();
            (!all.is_empty()).then(|| all.iter().sum::<usize>() as f64 / all.len() as f64)
        };
        let of = |samples: &[Sample]| mean(&mut samples.iter().filter_map(|sample| sample.tokens));
        let means: Vec<f64> = questions.iter().filter_map(|q| rounds.mean(q, 1, of)).collect();
        let all = || groups.iter().flatten().copied();
        let mut sorted: Vec<usize> = all().map(|(tokens, _)| tokens).collect();
        sorted.sort_unstable();
        let Some(longest) = sorted.last().copied() else { return Ok(None) };
        let rank =
            |share: f64| sorted[((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1];
        let width = round_up(longest.div_ceil(24).max(1));
        let mut histogram: Vec<Bin> =
            (0..=longest / width).map(|bin| Bin { from: bin * width, right: 0, other: 0 }).collect();
        for (tokens, right) in all() {
            let bin = &mut histogram[tokens / width];
            if right == Some(true) { bin.right += 1 } else { bin.other += 1 }
        }
        Ok(Some(Self {
            mean: means.iter().sum::<f64>() / means.len() as f64,
            interval: match means.len() {
                1 => None,
                // no completion is shorter than nothing
                _ => Some(mean_interval(&means, CONFIDENCE)?.interval.within(0.0, f64::INFINITY)),
            },
            median: rank(0.5),
            p95: rank(0.95),
            longest,
            right: mean(&mut all().filter(|(_, right)| *right == Some(true)).map(|(tokens, _)| tokens)),
            wrong: mean(&mut all().filter(|(_, right)| *right == Some(false)).map(|(tokens, _)| tokens)),
            histogram,
        }))
    }
}

/// The next of 1, 2, 5, 10, 20 …
fn round_up(width: usize) -> usize {
    let mut scale = 1;
    loop {
        for step in [1, 2, 5] {
            if step * scale >= width {
                return step * scale;
            }
        }
        scale *= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k_goes_by_powers_of_two_and_ends_at_n_where_all_have_n() {
        assert_eq!(powers(1, 1), [1]);
        assert_eq!(powers(8, 8), [1, 2, 4, 8]);
        assert_eq!(powers(11, 11), [1, 2, 4, 8, 11]);
        assert_eq!(powers(15, 16), [1, 2, 4, 8]);
    }

    #[test]
    fn bins_are_round_and_one_question_has_no_interval_of_lengths() {
        assert_eq!([1, 3, 7, 11, 51, 100].map(round_up), [1, 5, 10, 20, 100, 100]);
        let sample = |tokens| Sample {
            right: Some(tokens < 10),
            formed: None,
            truncated: false,
            tokens: Some(tokens),
            vote: None,
            unreadable: false,
        };
        let question = Question {
            id: "q".into(),
            level: None,
            subject: None,
            samples: [4, 5, 99].map(sample).to_vec(),
            rounds: Vec::new(),
            adapted: None,
            interval: None,
            skipped: None,
        };
        let lengths = Lengths::of(&[question], &Rounds::of(&[])).unwrap().unwrap();
        assert_eq!((lengths.mean, lengths.median, lengths.p95, lengths.longest), (36.0, 5, 99, 99));
        assert_eq!((lengths.right, lengths.wrong, lengths.interval), (Some(4.5), Some(99.0), None));
        let bins: Vec<(usize, usize, usize)> = lengths
            .histogram
            .iter()
            .filter(|bin| bin.right + bin.other > 0)
            .map(|b| (b.from, b.right, b.other))
            .collect();
        assert_eq!(bins, [(0, 1, 0), (5, 1, 0), (95, 0, 1)]);
    }
}
