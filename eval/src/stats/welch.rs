//! Two groups of training runs: is one recipe's figure higher than the other's?
//!
//! Before: a figure of each run. After: the difference of the means with an interval over runs.

use serde::{Deserialize, Serialize};

use super::{
    Interval, StatsError, check_confidence, check_enough, check_values, distributions::t_two_sided, mean,
    runs::floor, variance,
};

/// Difference of two means of independent numbers that need not vary equally.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Welch {
    /// Mean of b minus mean of a.
    pub value: f64,
    /// d ± t s with s² = s²ₐ/nₐ + s²_b/n_b.
    pub interval: Interval,
    /// Degrees of freedom of t.
    pub freedom: f64,
}

impl Welch {
    /// Compares `b` with `a`, a number for each run.
    ///
    /// # Errors
    /// If a group has fewer than two runs or a number that is not finite, or neither group has any spread, or the confidence
    /// is not between 0 and 1.
    /// # Source
    /// B. L. Welch, *The Generalization of "Student's" Problem when Several Different Population Variances are Involved*,
    /// Biometrika 34 (1947).
    pub fn of(a: &[f64], b: &[f64], confidence: f64) -> Result<Self, StatsError> {
        Self::with_floors(a, b, [0.0; 2], confidence)
    }

    /// Compares the accuracies `b` with `a`, a share for each run of so many draws. The variance of a run is taken to be no
    /// less than that of its draws, m̃(1 − m̃)/draws, m̃ the group's mean with half a right and half a wrong draw added: two
    /// runs that happen to agree are not taken for certain. The interval lies in \[−1, 1\].
    ///
    /// # Errors
    /// As [`Self::of`], if a number is no share, or there are no draws.
    pub fn of_shares(a: &[f64], b: &[f64], draws: usize, confidence: f64) -> Result<Self, StatsError> {
        check_enough("draws of a run", draws, 1)?;
        for group in [a, b] {
            check_values("the share", "a share from 0 to 1", group, |share| (0.0..=1.0).contains(&share))?;
            check_enough("runs", group.len(), 2)?;
        }
        let found = Self::with_floors(a, b, [a, b].map(|group| floor(group, draws)), confidence)?;
        Ok(Self { interval: found.interval.within(-1.0, 1.0), ..found })
    }

    /// With the least variance of a run that is believed, for each group.
    fn with_floors(a: &[f64], b: &[f64], floors: [f64; 2], confidence: f64) -> Result<Self, StatsError> {
        check_confidence(confidence)?;
        for group in [a, b] {
            check_enough("runs", group.len(), 2)?;
            check_values("the figure", "a finite number", group, f64::is_finite)?;
        }
        let of = |group: &[f64], floor: f64| variance(group).max(floor) / group.len() as f64;
        let (of_a, of_b) = (of(a, floors[0]), of(b, floors[1]));
        let value = mean(b) - mean(a);
        let sum = of_a + of_b;
        if sum == 0.0 {
            return Err(StatsError::NoSpread);
        }
        let part = |of: f64, n: usize| of * of / (n - 1) as f64;
        let freedom = sum * sum / (part(of_a, a.len()) + part(of_b, b.len()));
        let half = t_two_sided(confidence, freedom) * sum.sqrt();
        Ok(Self { value, interval: Interval::around(value, half), freedom })
    }

    /// Whether 0 lies outside the interval.
    pub fn shown(&self) -> bool {
        !self.interval.contains(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_textbook_case() {
        // s²/n of a: 2.5/5, of b: 10/5; t of (2.5)²/(0.25/4 + 4/4) = 5.882 degrees at 97.5 %: 2.4587
        let a = [1.0, 2.0, 3.0, 4.0, 5.0];
        let b = [2.0, 4.0, 6.0, 8.0, 10.0];
        let found = Welch::of(&a, &b, 0.95).unwrap();
        assert!(
            (found.value - 3.0).abs() < 1e-12 && (found.freedom - 5.882_352_941).abs() < 1e-6,
            "{found:?}"
        );
        assert!((found.interval.half_width() - 2.4587 * 2.5f64.sqrt()).abs() < 2e-3, "{found:?}");
        assert!(!found.shown());
    }

    #[test]
    fn groups_of_one_are_refused_and_groups_without_spread_show_nothing() {
        assert!(Welch::of(&[1.0], &[1.0, 2.0], 0.95).is_err());
        assert_eq!(Welch::of(&[1.0, 1.0], &[2.0, 2.0], 0.95), Err(StatsError::NoSpread));
    }

    #[test]
    fn accuracies_that_happen_to_agree_differ_by_chance_all_the_same() {
        let found = Welch::of_shares(&[0.5, 0.5], &[0.56, 0.56], 100, 0.95).unwrap();
        // the variance of 100 coins, of two runs each: √(0.0025/2 + 0.0025/2) and t of 2 degrees of freedom
        assert!((found.value - 0.06).abs() < 1e-12 && !found.shown(), "{found:?}");
        assert!((found.interval.half_width() - 4.3027 * 0.05).abs() < 2e-3, "{found:?}");
        let sure = Welch::of_shares(&[0.1, 0.1, 0.1], &[0.9, 0.9, 0.9], 1000, 0.95).unwrap();
        assert!(sure.shown(), "{sure:?}");
        assert!(Welch::of_shares(&[0.1, 0.1], &[1.5, 0.9], 100, 0.95).is_err());
        assert!(Welch::of_shares(&[0.1], &[0.5, 0.9], 100, 0.95).is_err());
        let wide = Welch::of_shares(&[0.0, 1.0], &[0.0, 0.9], 10, 0.95).unwrap();
        assert_eq!((wide.interval.low, wide.interval.high), (-1.0, 1.0));
    }

    #[test]
    fn equal_recipes_are_called_different_as_rarely_as_promised() {
        use super::super::simulate::Stream;
        let mut luck = Stream::new(7);
        for (runs, questions, spread) in [(2, 30, 0.0), (2, 200, 0.03), (3, 100, 0.0), (5, 200, 0.03)] {
            let mut accuracies = || -> Vec<f64> {
                let run = |luck: &mut Stream| {
                    let quality = 0.6 + spread * luck.normal();
                    luck.successes(questions, quality) as f64 / questions as f64
                };
                (0..runs).map(|_| run(&mut luck)).collect()
            };
            let called = (0..4000)
                .filter(|_| {
                    let (a, b) = (accuracies(), accuracies());
                    Welch::of_shares(&a, &b, questions, 0.95).unwrap().shown()
                })
                .count();
            assert!(called <= 240, "{runs} runs of {questions} questions: {called} of 4000");
        }
    }
}
