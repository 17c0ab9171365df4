//! Two groups of training runs: is one recipe's figure higher than the other's?
//!
//! Before: a figure of each run. After: the difference of the means with an interval over runs.

use serde::{Deserialize, Serialize};

use super::{
    Interval, StatsError, check_confidence, check_enough, check_values, distributions::t_two_sided, mean,
    variance,
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
    /// Compares `b` with `a`, a number for each run. Without any spread in either group the interval is the difference alone:
    /// runs that do not differ among themselves differ from others by chance nowhere.
    ///
    /// # Errors
    /// If a group has fewer than two runs or a number that is not finite, or the confidence is not between 0 and 1.
    /// # Source
    /// B. L. Welch, *The Generalization of "Student's" Problem when Several Different Population Variances are Involved*,
    /// Biometrika 34 (1947).
    pub fn of(a: &[f64], b: &[f64], confidence: f64) -> Result<Self, StatsError> {
        check_confidence(confidence)?;
        for group in [a, b] {
            check_enough("runs", group.len(), 2)?;
            check_values("the figure", "a finite number", group, f64::is_finite)?;
        }
        let [of_a, of_b] = [a, b].map(|group| variance(group) / group.len() as f64);
        let value = mean(b) - mean(a);
        let sum = of_a + of_b;
        if sum == 0.0 {
            return Ok(Self { value, interval: Interval::around(value, 0.0), freedom: f64::MAX });
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
    fn groups_of_one_are_refused_and_groups_without_spread_differ_for_sure() {
        assert!(Welch::of(&[1.0], &[1.0, 2.0], 0.95).is_err());
        let found = Welch::of(&[1.0, 1.0], &[2.0, 2.0], 0.95).unwrap();
        assert!(found.shown() && found.interval.low == 1.0);
        assert!(!Welch::of(&[1.0, 1.0], &[1.0, 1.0], 0.95).unwrap().shown());
    }
}
