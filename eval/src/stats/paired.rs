//! Two systems on the same questions: is one better, and by how much?
//!
//! Before: for each question, a number from each system: a share of right draws, or a length. After: the report, and
//! [`PairedVerdict`].

use data::Seed;
use serde::{Deserialize, Serialize};

use super::{
    Interval, McNemar, StatsError,
    bootstrap::bootstrap,
    check_confidence, check_enough, check_values,
    distributions::{normal_quantile, t_p_value, t_two_sided},
    mean,
    sign_flip::sign_flip,
    spread, variance,
};

/// How often [`Paired::of`] draws the questions again, and flips signs.
const RESAMPLES: usize = 4000;

/// A comparison of a second system (b) with a first (a) on the same questions. The unit is the question; all differences
/// are b − a.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Number of questions.
    pub questions: usize,
    /// The confidence of the intervals.
    pub confidence: f64,
    /// Mean of a.
    pub mean_a: f64,
    /// Mean of b.
    pub mean_b: f64,
    /// Mean of b − a.
    pub difference: f64,
    /// Interval of the difference over questions of this kind: Student's t on the differences of the questions. Of shares,
    /// half a question where b is right and a wrong and half a question where a is right and b wrong are added before: so
    /// it is no point where no question differs, and says little where few do. It lies in \[−1, 1\].
    ///
    /// Its coverage is in the [table](super::coverage): wider than promised where few questions differ by little.
    pub interval: Interval,
    /// The same by drawing the questions again: see [`bootstrap`]. It follows skewed differences. Coverage: 0.94 for 40
    /// questions, 0.945 for 200. A point where no question differs, as it knows of no others.
    pub bootstrap: Interval,
    /// Standard error of the difference as [`Paired::interval`] has it: with differences dᵢ, √(Σ (dᵢ − d̄)²/(n (n − 1))), of
    /// shares with the halves of a question among them.
    pub standard_error: f64,
    /// What it would be if each system had had questions of its own: √(s²_a/n + s²_b/n).
    pub standard_error_unpaired: f64,
    /// Correlation of the two systems over questions; none if one is the same on all.
    pub correlation: Option<f64>,
    /// Questions where b is higher.
    pub better: usize,
    /// Questions where b is lower.
    pub worse: usize,
    /// Questions where they are equal.
    pub equal: usize,
    /// McNemar's test, if all values are 0 or 1.
    pub mcnemar: Option<McNemar>,
    /// Two-sided p-value of Student's t, at 1 − confidence where 0 is a bound of [`Paired::interval`]; 1 if no question differs.
    pub p_value: f64,
    /// Two-sided p-value from flipping the signs of the differences: exact up to chance of the flips, for any
    /// distribution that is symmetric without a difference. At least 1/(flips + 1).
    pub p_value_sign_flip: f64,
    /// The smallest true difference that this comparison would have shown in 8 of 10 repetitions:
    /// (t_{1 − α/2, n − 1} + z_{0.8}) · standard error.
    pub detectable: f64,
}

/// What a comparison shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairedVerdict {
    /// The whole interval lies above 0, and the test agrees: b is higher than a.
    Better,
    /// The whole interval lies below 0, and the test agrees: b is lower than a.
    Worse,
    /// 0 lies in the interval, or the test does not agree. The systems may still differ, by less than
    /// [`Paired::detectable`] or by bad luck.
    NoDifferenceShown,
}

impl Paired {
    /// Compares `b` with `a`, one number for each question in the same order.
    ///
    /// If the numbers are no shares and all questions differ by the same amount other than 0 there is no spread to take an
    /// interval from. It is then taken as if one more question had shown no difference: few questions that agree prove less
    /// than many.
    ///
    /// # Errors
    /// If the lists differ in length, hold fewer than two questions or a number that is not finite, or the confidence is
    /// not between 0 and 1.
    /// # Source
    /// E. Miller, *Adding Error Bars to Evals*, arXiv:2411.00640 (2024); the half questions: A. Agresti and Y. Min, *Simple
    /// Improved Confidence Intervals for Comparing Matched Proportions*, Statistics in Medicine 24 (2005); the test by
    /// flipping: R. Fisher, *The Design of Experiments* (1935), §21.
    pub fn of(a: &[f64], b: &[f64], confidence: f64, seed: Seed) -> Result<Self, StatsError> {
        Self::with_resamples(a, b, confidence, seed, RESAMPLES)
    }

    /// [`Paired::of`] with a number of resamples and flips of one's own.
    ///
    /// # Errors
    /// As there, or if there are no resamples.
    pub fn with_resamples(
        a: &[f64],
        b: &[f64],
        confidence: f64,
        seed: Seed,
        resamples: usize,
    ) -> Result<Self, StatsError> {
        check_confidence(confidence)?;
        if a.len() != b.len() {
            return Err(StatsError::Length {
                what: "numbers of the second system",
                found: b.len(),
                wanted: a.len(),
            });
        }
        check_enough("questions", a.len(), 2)?;
        for values in [a, b] {
            check_values("the number", "a finite number", values, f64::is_finite)?;
        }
        let n = a.len() as f64;
        let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| b - a).collect();
        let shares = a.iter().chain(b).all(|value| (0.0..=1.0).contains(value));
        let Centred { centre, standard_error } = Centred::of(&differences, shares);
        let quantile = t_two_sided(confidence, n - 1.0);
        let t = if centre == 0.0 { 0.0 } else { centre / standard_error };
        let interval = Interval::around(centre, quantile * standard_error);
        let resampled = |places: &[usize]| {
            places.iter().map(|place| differences[*place]).sum::<f64>() / places.len() as f64
        };
        Ok(Self {
            questions: a.len(),
            confidence,
            mean_a: mean(a),
            mean_b: mean(b),
            difference: mean(&differences),
            interval: if shares { interval.within(-1.0, 1.0) } else { interval },
            bootstrap: bootstrap(a.len(), resamples, confidence, seed.named("paired"), resampled)?,
            standard_error,
            standard_error_unpaired: ((variance(a) + variance(b)) / n).sqrt(),
            correlation: correlation(a, b),
            better: differences.iter().filter(|d| **d > 0.0).count(),
            worse: differences.iter().filter(|d| **d < 0.0).count(),
            equal: differences.iter().filter(|d| **d == 0.0).count(),
            mcnemar: mcnemar(a, b),
            p_value: t_p_value(t, n - 1.0),
            p_value_sign_flip: sign_flip(&differences, seed.named("sign flip"), resamples),
            detectable: (quantile + normal_quantile(0.8)) * standard_error,
        })
    }

    /// What [`Paired::interval`] and [`Paired::p`] show together: a difference only where both do.
    pub fn verdict(&self) -> PairedVerdict {
        let agreed = self.p() <= 1.0 - self.confidence;
        if self.interval.low > 0.0 && agreed {
            PairedVerdict::Better
        } else if self.interval.high < 0.0 && agreed {
            PairedVerdict::Worse
        } else {
            PairedVerdict::NoDifferenceShown
        }
    }

    /// The p-value that goes with the verdict: McNemar's mid-p if all values are 0 or 1, else Student's.
    pub fn p(&self) -> f64 {
        self.mcnemar.map_or(self.p_value, |test| test.mid_p)
    }
}

/// The middle of the interval of a mean difference, and its standard error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Centred {
    pub(super) centre: f64,
    pub(super) standard_error: f64,
}

impl Centred {
    pub(super) fn of(differences: &[f64], shares: bool) -> Self {
        let n = differences.len() as f64;
        if shares {
            // half a question of +1 and half a question of −1: they add nothing to the sum and 1 to the sum of squares
            let centre = differences.iter().sum::<f64>() / (n + 1.0);
            let squares = differences.iter().map(|d| d * d).sum::<f64>() + 1.0;
            let variance = squares / (n + 1.0) - centre * centre;
            return Self { centre, standard_error: (variance / (n + 1.0)).sqrt() };
        }
        let centre = mean(differences);
        let all_equal = differences.iter().all(|d| *d == differences[0]);
        if all_equal && differences[0] != 0.0 {
            // n of d and one 0: sum of squares around their mean d² n/(n + 1)
            return Self { centre, standard_error: differences[0].abs() / (n + 1.0) };
        }
        Self { centre, standard_error: (spread(differences) / (n * (n - 1.0))).sqrt() }
    }
}

fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let (mean_a, mean_b) = (mean(a), mean(b));
    let product: f64 = a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b)).sum();
    let scale = (spread(a) * spread(b)).sqrt();
    (scale > 0.0).then(|| (product / scale).clamp(-1.0, 1.0))
}

fn mcnemar(a: &[f64], b: &[f64]) -> Option<McNemar> {
    let verdicts = a.iter().chain(b).all(|value| *value == 0.0 || *value == 1.0);
    let only = |x: &[f64], y: &[f64]| x.iter().zip(y).filter(|(x, y)| x > y).count();
    verdicts.then(|| McNemar::of(only(a, b), only(b, a)))
}

#[cfg(test)]
mod tests {
    use super::super::simulate::{Stream, coverage, improvements};
    use super::*;

    fn compare(a: &[f64], b: &[f64]) -> Paired {
        Paired::of(a, b, 0.95, Seed(0)).unwrap()
    }

    #[test]
    fn ten_questions_of_which_two_improve_are_the_worked_example() {
        let a: Vec<f64> = (0..10).map(|i| f64::from(u8::from(i < 5))).collect();
        let b: Vec<f64> = (0..10).map(|i| f64::from(u8::from(i < 7))).collect();
        let found = compare(&a, &b);
        assert!((found.difference - 0.2).abs() < 1e-12);
        // sum of squares 2 + 1 of 11 questions, around 2/11
        assert!(
            (found.standard_error - ((3.0 / 11.0 - 4.0 / 121.0) / 11.0_f64).sqrt()).abs() < 1e-12,
            "{found:?}"
        );
        assert!((found.standard_error_unpaired - 0.226).abs() < 5e-4, "{found:?}");
        assert_eq!((found.better, found.worse, found.equal), (2, 0, 8));
        let mcnemar = found.mcnemar.unwrap();
        assert_eq!((mcnemar.first_only, mcnemar.second_only), (0, 2));
        assert!((mcnemar.exact - 0.5).abs() < 1e-12, "{mcnemar:?}");
        assert_eq!(found.verdict(), PairedVerdict::NoDifferenceShown);
        // two signs, of four settings two are as far out
        assert!((found.p_value_sign_flip - 0.5).abs() < 0.03, "{found:?}");
    }

    #[test]
    fn pairing_takes_away_twice_the_covariance() {
        let mut luck = Stream::new(3);
        let a: Vec<f64> = (0..50).map(|_| 2.0 * luck.uniform()).collect();
        let b: Vec<f64> = a.iter().map(|a| 0.7 * a + 0.3 * luck.uniform()).collect();
        let found = compare(&a, &b);
        let covariance = found.correlation.unwrap() * (variance(&a) * variance(&b)).sqrt() / 50.0;
        let expected = found.standard_error_unpaired.powi(2) - 2.0 * covariance;
        assert!((found.standard_error.powi(2) - expected).abs() < 1e-15, "{found:?}");
        assert!(found.correlation.unwrap() > 0.8);
    }

    #[test]
    fn turning_the_systems_round_turns_the_difference_round() {
        let (a, b) = ([0.1, 0.9, 0.5, 0.25, 0.0], [0.3, 1.0, 0.5, 0.75, 0.125]);
        let (found, turned) = (compare(&a, &b), compare(&b, &a));
        assert!((found.interval.low + turned.interval.high).abs() < 1e-15);
        assert_eq!((found.better, found.p_value), (turned.worse, turned.p_value));
        assert_eq!(found.mcnemar, None, "shares are no verdicts");
        assert_eq!(found, compare(&a, &b), "the seed decides");
    }

    #[test]
    fn equal_systems_show_nothing_and_unanimous_few_show_little() {
        let same = compare(&[0.5, 0.25, 1.0], &[0.5, 0.25, 1.0]);
        assert_eq!((same.difference, same.p_value, same.p_value_sign_flip), (0.0, 1.0, 1.0));
        assert_eq!(same.verdict(), PairedVerdict::NoDifferenceShown);
        assert_eq!(compare(&[0.0; 3], &[1.0; 3]).verdict(), PairedVerdict::NoDifferenceShown);
        assert_eq!(compare(&[0.0; 20], &[1.0; 20]).verdict(), PairedVerdict::Better);
        assert_eq!(compare(&[1.0; 20], &[0.0; 20]).verdict(), PairedVerdict::Worse);
        assert_eq!(same.correlation, Some(1.0));
        assert_eq!(compare(&[0.0; 3], &[1.0, 0.0, 1.0]).correlation, None);
    }

    #[test]
    fn no_question_that_differs_is_no_proof_that_none_does() {
        for n in [10, 30, 200, 1319] {
            let same = compare(&vec![1.0; n], &vec![1.0; n]);
            // ± t/(n + 1): about two questions in which they might have differed
            let wanted = t_two_sided(0.95, n as f64 - 1.0) / (n as f64 + 1.0);
            assert!((same.interval.half_width() - wanted).abs() < 1e-12, "{same:?}");
            assert!(same.detectable > wanted, "{same:?}");
        }
    }

    #[test]
    fn no_verdict_contradicts_its_test_and_no_interval_leaves_what_is_possible() {
        for n in [4, 10, 30, 200] {
            for (only_b, only_a) in (0..=n.min(12)).flat_map(|b| (0..=n.min(12) - b).map(move |a| (b, a))) {
                let a: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i < only_a))).collect();
                let b: Vec<f64> = (0..n).map(|i| f64::from(u8::from(n - i <= only_b))).collect();
                let found = Paired::with_resamples(&a, &b, 0.95, Seed(0), 10).unwrap();
                let shown = found.verdict() != PairedVerdict::NoDifferenceShown;
                let test = found.mcnemar.unwrap();
                assert!(!shown || (test.mid_p <= 0.05 && !found.interval.contains(0.0)), "{found:?}");
                assert!(found.interval.low >= -1.0 && found.interval.high <= 1.0, "{found:?}");
                assert!(found.interval.contains(found.difference), "{found:?}");
            }
        }
    }

    #[test]
    fn the_p_value_of_shares_says_what_their_interval_says() {
        let mut luck = Stream::new(9);
        for n in [3, 8, 40] {
            for _ in 0..200 {
                let a: Vec<f64> = (0..n).map(|_| luck.uniform()).collect();
                let b: Vec<f64> =
                    a.iter().map(|a| (a + 0.3 * luck.uniform() - 0.1).clamp(0.0, 1.0)).collect();
                let found = Paired::with_resamples(&a, &b, 0.95, Seed(0), 10).unwrap();
                assert_eq!(found.p_value <= 0.05, !found.interval.contains(0.0), "{found:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let refused = |a: &[f64], b: &[f64]| Paired::of(a, b, 0.95, Seed(0)).unwrap_err().to_string();
        let message = "3 numbers of the second system, but 2 are wanted, as many as there are questions";
        assert_eq!(refused(&[0.0, 1.0], &[0.0; 3]), message);
        assert_eq!(refused(&[0.0], &[1.0]), "1 questions, but at least 2 are needed");
        assert_eq!(
            refused(&[0.0, f64::NAN], &[1.0; 2]),
            "the number NaN at place 1: a finite number is wanted"
        );
    }

    #[test]
    fn the_t_interval_covers() {
        for (a, b) in [(1.0, 1.0), (0.3, 0.3), (0.5, 2.0), (4.0, 1.0)] {
            for (questions, draws) in [(40, 1), (40, 8), (200, 1), (200, 8)] {
                let (truth, mut differences) = improvements(a, b, questions, draws);
                let t = t_two_sided(0.95, questions as f64 - 1.0);
                let found = coverage(10_000, truth, || {
                    let Centred { centre, standard_error } = Centred::of(&differences(), true);
                    Interval::around(centre, t * standard_error)
                });
                // few questions that differ by little: the halves of a question weigh more than they do
                let most = if draws == 1 { 0.975 } else { 0.995 };
                assert!((0.93..most).contains(&found), "{a}, {b}: {questions} questions of {draws}: {found}");
            }
        }
    }

    #[test]
    fn the_detectable_difference_is_shown_in_eight_of_ten_repetitions() {
        let mut luck = Stream::new(4);
        let mut differences =
            |true_one: f64| -> Vec<f64> { (0..60).map(|_| true_one + luck.normal()).collect() };
        let t = t_two_sided(0.95, 59.0);
        let detectable = (t + normal_quantile(0.8)) / 60.0_f64.sqrt();
        let shown = (0..10_000)
            .filter(|_| {
                let Centred { centre, standard_error } = Centred::of(&differences(detectable), false);
                centre - t * standard_error > 0.0
            })
            .count();
        assert!((7800..8200).contains(&shown), "{shown}");
    }
}
