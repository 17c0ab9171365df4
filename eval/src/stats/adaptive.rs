//! A benchmark's mean over draws with as few draws as possible: more for questions that are hard to tell.
//!
//! Before: a pilot of some draws of each question. [`plan`] says how many more each gets, round by round; after,
//! [`adaptive_mean`] gives the mean and its interval.
//!
//! Where draws go depends on what was drawn before, and this biases r/n: a question that looked sure by luck keeps its few
//! lucky draws, one that did not is drawn until it looks as it is. So rounds are kept apart. In each round a question's
//! share is an unbiased estimate, whatever the earlier rounds made its number of draws; and the weight of a round is the
//! same for all questions.

use serde::{Deserialize, Serialize};

use super::{
    Estimate, Method, StatsError, check_confidence, check_enough, check_values,
    distributions::normal_two_sided,
    draws::{Moments, Pooled},
    prior::likely_variances,
};

/// Degrees of freedom by which an interval has to be known before it is narrow enough.
const FREEDOM: f64 = 20.0;

/// How [`plan`] spends draws.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptiveSettings {
    /// The confidence of the interval whose half-width is wanted.
    pub confidence: f64,
    /// Draws of each question in the first round, the pilot, which is the caller's to draw.
    pub pilot: usize,
    /// The least number of draws of a question in a round, at least 2: one alone shows no variance.
    pub least: usize,
    /// In one round no question gets more than this many times the draws that the most drawn one has so far: what a round
    /// tells serves the next.
    pub growth: usize,
    /// The most draws of a question in all.
    pub most: usize,
}

impl Default for AdaptiveSettings {
    fn default() -> Self {
        Self { confidence: 0.95, pilot: 8, least: 2, growth: 3, most: 64 }
    }
}

/// The mean of the questions' shares of right draws, from rounds as [`plan`] asks for; the questions are fixed.
///
/// `rounds[t][i]` is (right, draws) of question i in round t. The mean is Σ λₜ p̄ₜ with p̄ₜ the mean of rₜᵢ/nₜᵢ over questions
/// and λₜ the draws that the most drawn question got in round t, scaled to a sum of 1; its variance is N⁻² Σᵢ p(1 − p) Σₜ
/// λₜ²/nₜᵢ, with p(1 − p) of a question estimated from its draws of all rounds: of a round of two draws alone it would often
/// seem 0. Student's t stands in place of z, with Satterthwaite's degrees of freedom 2V²/Σ Var(Vᵢ): where one question
/// alone is undecided its few draws are all that V is known by, and the last round was the last because V seemed small.
/// A tenth of what the confidence lets be missed is spent on the looks that decided when to stop. Otherwise the interval is
/// that of [`draws`](super::draws()), and for one round it is the same.
///
/// What bias is left comes from stopping when the interval looks narrow: in simulations of 30 to 200 questions, 8 mixes of
/// difficulty, it is at most 0.05 of the half-width, and 95 % intervals cover with 0.93 to 0.98. Σ rᵢ/nᵢ over all rounds
/// would be off by up to 0.6 of the half-width (most questions easy) and cover with as little as 0.72.
///
/// # Errors
/// If there are no rounds or no questions, rounds differ in length, a question has no draws in a round or more right ones
/// than draws, or the confidence is not between 0 and 1.
pub fn adaptive_mean(rounds: &[Vec<(usize, usize)>], confidence: f64) -> Result<Estimate, StatsError> {
    check_confidence(confidence)?;
    Ok(moments(rounds)?.estimate(confidence, rounds.len() > 1, Method::Adaptive))
}

fn moments(rounds: &[Vec<(usize, usize)>]) -> Result<Moments, StatsError> {
    check_enough("rounds", rounds.len(), 1)?;
    let wanted = rounds[0].len();
    if let Some(round) = rounds.iter().find(|round| round.len() != wanted) {
        return Err(StatsError::Length { what: "questions of a round", found: round.len(), wanted });
    }
    let sum: f64 = rounds.iter().map(|round| size(round)).sum();
    let mut questions = vec![Pooled::NONE; wanted];
    for round in rounds {
        let weight = size(round) / sum;
        for (pooled, count) in questions.iter_mut().zip(round) {
            *pooled = pooled.and(*count, weight)?;
        }
    }
    Moments::of(&questions)
}

/// How many draws each question should have in all after the next round; what it has already, if nothing more is to be
/// drawn: the half-width of [`adaptive_mean`] is as wanted and known by 20 degrees of freedom, or the most drawn question has
/// all the draws it may.
///
/// The draws of a round are in proportion to √E[p(1 − p)], which makes the variance of a mean of questions smallest for
/// its draws; the expectation is over what p may be after the draws so far. The round is as large as is likely to be
/// enough, within [`AdaptiveSettings::growth`] and [`AdaptiveSettings::most`], and every question gets some.
///
/// What it costs against as many draws of each question depends on the mix, and is at least (mean of √(p(1 − p)))² over the
/// mean of p(1 − p). To be as sure as with 128 draws of each, 8 of them the pilot: 0.57 of the draws where 7 of 10 questions
/// are nearly always right or wrong, 0.72 where half are (0.56 at least), 0.85 for p of Beta(0.3, 0.3), and nothing is saved
/// for p spread evenly.
///
/// # Errors
/// As [`adaptive_mean`], or if the half-width is not above 0.
/// # Source
/// J. Neyman, *On the Two Different Aspects of the Representative Method*, J. Royal Statistical Society 97 (1934), for the
/// proportion to the standard deviation.
pub fn plan(
    rounds: &[Vec<(usize, usize)>],
    half_width: f64,
    settings: &AdaptiveSettings,
) -> Result<Vec<usize>, StatsError> {
    check_values("the half-width", "a number above 0", &[half_width], |half| half > 0.0)?;
    let found = adaptive_mean(rounds, settings.confidence)?;
    let totals: Vec<(usize, usize)> = (0..rounds[0].len())
        .map(|i| rounds.iter().fold((0, 0), |(right, n), round| (right + round[i].0, n + round[i].1)))
        .collect();
    let drawn: Vec<usize> = totals.iter().map(|(_, n)| *n).collect();
    let least = settings.least.max(2);
    let top = size(&totals) as usize;
    let room = settings.most.saturating_sub(top);
    let narrow = found.interval.half_width() <= half_width;
    // an interval that a question's few draws make seem narrow is looked at again with as many more
    let known = moments(rounds)?.freedom() >= FREEDOM;
    if narrow && known || room < least {
        return Ok(drawn);
    }
    let next = Next::new(rounds, &totals, normal_two_sided(settings.confidence));
    // a round is never so small that the next must follow at once, if room allows
    let mut high = (settings.growth * top).min(room).max(least);
    let mut low = least.max(if narrow { top } else { top / 8 }).min(high);
    while low < high {
        let middle = (low + high) / 2;
        if next.half_width(&next.round(middle, least)) <= half_width {
            high = middle
        } else {
            low = middle + 1
        }
    }
    Ok(next.round(high, least).iter().zip(&drawn).map(|(more, drawn)| more + drawn).collect())
}

/// Draws of the most drawn question.
fn size(round: &[(usize, usize)]) -> f64 {
    round.iter().map(|(_, n)| *n).max().unwrap_or(0) as f64
}

/// What the next round would bring.
struct Next {
    /// √E[p(1 − p)] of each question.
    deviations: Vec<f64>,
    /// Σ mₜ²/nₜᵢ of each question, mₜ the size of round t.
    past: Vec<f64>,
    /// Σ mₜ.
    sizes: f64,
    z: f64,
}

impl Next {
    fn new(rounds: &[Vec<(usize, usize)>], totals: &[(usize, usize)], z: f64) -> Self {
        let term = |round: &Vec<(usize, usize)>, i: usize| size(round).powi(2) / round[i].1 as f64;
        Self {
            deviations: likely_variances(totals).iter().map(|variance| variance.sqrt()).collect(),
            past: (0..totals.len()).map(|i| rounds.iter().map(|round| term(round, i)).sum()).collect(),
            sizes: rounds.iter().map(|round| size(round)).sum(),
            z,
        }
    }

    /// A round that gives `size` draws to the question that is hardest to tell.
    fn round(&self, size: usize, least: usize) -> Vec<usize> {
        let most = self.deviations.iter().copied().fold(0.0, f64::max);
        self.deviations.iter().map(|d| ((size as f64 * d / most).ceil() as usize).max(least)).collect()
    }

    /// The half-width to expect after it.
    fn half_width(&self, round: &[usize]) -> f64 {
        let size = round.iter().copied().max().unwrap_or(0) as f64;
        let parts = self.deviations.iter().zip(&self.past).zip(round);
        let sum: f64 = parts.map(|((d, past), n)| d * d * (past + size * size / *n as f64)).sum();
        self.z * sum.sqrt() / (self.sizes + size) / round.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        draws, mean,
        simulate::{Stream, difficulties},
    };
    use super::*;

    /// Rounds until nothing more is to be drawn.
    fn evaluate(
        shares: &[f64],
        half_width: f64,
        settings: &AdaptiveSettings,
        stream: &mut Stream,
    ) -> Vec<Vec<(usize, usize)>> {
        let mut drawn = vec![8; shares.len()];
        let mut rounds = vec![shares.iter().map(|p| (stream.successes(8, *p), 8)).collect::<Vec<_>>()];
        loop {
            let wanted = plan(&rounds, half_width, settings).unwrap();
            if wanted == drawn {
                return rounds;
            }
            let more = wanted.iter().zip(&drawn).map(|(wanted, drawn)| wanted - drawn);
            rounds.push(more.zip(shares).map(|(n, p)| (stream.successes(n, *p), n)).collect());
            drawn = wanted;
        }
    }

    /// Of many evaluations that are to be as sure as `uniform` draws of each question: (bias in half-widths, the same of
    /// Σ r/n over all rounds, coverage, draws in parts of what uniform ones cost).
    fn measure(shares: &[f64], uniform: usize, evaluations: usize) -> (f64, f64, f64, f64) {
        let n = shares.len() as f64;
        let within: f64 = shares.iter().map(|p| p * (1.0 - p)).sum();
        let half_width = normal_two_sided(0.95) * (within / uniform as f64).sqrt() / n;
        let settings = AdaptiveSettings { most: 8 * uniform, ..AdaptiveSettings::default() };
        let (truth, mut stream) = (mean(shares), Stream::new(9));
        let (mut bias, mut pooled_bias, mut covered, mut cost) = (0.0, 0.0, 0.0, 0.0);
        for _ in 0..evaluations {
            let rounds = evaluate(shares, half_width, &settings, &mut stream);
            let found = adaptive_mean(&rounds, 0.95).unwrap();
            assert!(found.interval.half_width() <= half_width);
            bias += found.value - truth;
            covered += f64::from(u8::from(found.interval.contains(truth)));
            for i in 0..shares.len() {
                let (right, drawn) =
                    rounds.iter().fold((0, 0), |sum, round| (sum.0 + round[i].0, sum.1 + round[i].1));
                pooled_bias += (right as f64 / drawn as f64 - shares[i]) / n;
                cost += drawn as f64 / (n * uniform as f64);
            }
        }
        let times = evaluations as f64;
        (bias / times / half_width, pooled_bias / times / half_width, covered / times, cost / times)
    }

    /// This part of the questions at 0.001 or 0.999, the others from 0.05 to 0.95.
    fn mixed(questions: usize, sure: f64) -> Vec<f64> {
        let certain = (sure * questions as f64) as usize;
        let spread = |i: usize| 0.05 + 0.9 * ((i - certain) as f64 + 0.5) / (questions - certain) as f64;
        (0..questions)
            .map(|i| {
                if i >= certain {
                    spread(i)
                } else if i % 2 == 0 {
                    0.001
                } else {
                    0.999
                }
            })
            .collect()
    }

    fn quantiles(a: f64, b: f64, questions: usize) -> Vec<f64> {
        let table = difficulties(a, b);
        (0..questions).map(|i| table[(2 * i + 1) * table.len() / (2 * questions)]).collect()
    }

    #[test]
    fn a_benchmark_that_is_mostly_settled_costs_little_more_than_half() {
        let (bias, _, covered, cost) = measure(&mixed(30, 0.7), 128, 10_000);
        assert!(cost < 0.6, "{cost}");
        assert!((0.93..0.97).contains(&covered), "{covered}");
        assert!(bias.abs() < 0.05, "{bias}");
        let (_, _, _, cost) = measure(&mixed(30, 0.5), 128, 500);
        assert!((0.56..0.76).contains(&cost), "{cost}; 0.556 is the least, with all shares known");
    }

    #[test]
    fn one_undecided_question_among_thirty_is_covered() {
        let settings = AdaptiveSettings::default();
        let mut stream = Stream::new(12);
        for p in [0.1, 0.2, 0.35, 0.5, 0.7, 0.9] {
            let mut shares = [0.0; 30];
            shares[15..].fill(1.0);
            shares[7] = p;
            let truth = mean(&shares);
            for half_width in [0.006, 0.008, 0.01, 0.012] {
                let covered = (0..1500)
                    .filter(|_| {
                        let rounds = evaluate(&shares, half_width, &settings, &mut stream);
                        adaptive_mean(&rounds, 0.95).unwrap().interval.contains(truth)
                    })
                    .count();
                assert!(covered >= 1380, "{p} to ± {half_width}: {covered} of 1500");
            }
        }
    }

    #[test]
    fn rounds_kept_apart_are_unbiased_where_all_draws_together_are_not() {
        for (a, b) in [(4.0, 0.3), (4.0, 1.0), (1.0, 19.0), (0.3, 0.3)] {
            let (bias, pooled_bias, _, _) = measure(&quantiles(a, b, 100), 64, 500);
            assert!(bias.abs() < 0.1, "{a}, {b}: {bias}"); // the standard error of 500 evaluations is 0.023
            assert!(a == b || pooled_bias.abs() > 0.2, "{a}, {b}: {pooled_bias}");
        }
    }

    #[test]
    fn it_covers_where_most_questions_are_easy() {
        let (_, _, covered, _) = measure(&quantiles(4.0, 0.3, 30), 64, 10_000);
        assert!((0.93..0.97).contains(&covered), "{covered}");
    }

    #[test]
    fn one_round_is_an_evaluation_without_adapting() {
        let round = vec![(3, 8), (8, 8), (0, 8), (5, 16)];
        let (found, wanted) =
            (adaptive_mean(std::slice::from_ref(&round), 0.95).unwrap(), draws(&round, 0.95).unwrap());
        assert_eq!((found.value, found.interval), (wanted.value, wanted.interval));
        assert_eq!(found.method, Method::Adaptive);
    }

    #[test]
    fn a_plan_keeps_its_bounds() {
        let pilot: Vec<(usize, usize)> = (0..=8).map(|right| (right, 8)).collect();
        let settings = AdaptiveSettings::default();
        let plan = |half: f64, settings: &AdaptiveSettings| {
            plan(std::slice::from_ref(&pilot), half, settings).unwrap()
        };
        let narrow = plan(0.001, &settings);
        assert!(narrow.iter().all(|n| (10..=32).contains(n)), "{narrow:?}");
        assert!(narrow[4] == 32 && narrow[0] < narrow[4] && narrow[8] < narrow[4], "{narrow:?}");
        assert_eq!(plan(0.5, &settings), vec![8; 9], "wide enough as it is");
        assert_eq!(plan(0.001, &AdaptiveSettings { most: 8, ..settings }), vec![8; 9]);
        assert!(plan(0.001, &AdaptiveSettings { most: 20, ..settings }).iter().all(|n| *n <= 20));
    }

    #[test]
    fn a_benchmark_without_doubt_is_left_alone_soon() {
        let mut stream = Stream::new(1);
        let rounds = evaluate(&[1.0; 50], 0.01, &AdaptiveSettings::default(), &mut stream);
        assert_eq!(rounds.len(), 1, "400 of 400 is within 0.01 of 1");
    }

    #[test]
    fn rounds_that_do_not_fit_are_refused() {
        let uneven = [vec![(1, 2), (2, 2)], vec![(1, 2)]];
        let wanted = StatsError::Length { what: "questions of a round", found: 1, wanted: 2 };
        assert_eq!(adaptive_mean(&uneven, 0.95), Err(wanted));
        assert!(adaptive_mean(&[], 0.95).is_err() && adaptive_mean(&[vec![]], 0.95).is_err());
        assert!(plan(&[vec![(1, 2)]], 0.0, &AdaptiveSettings::default()).is_err());
    }
}
