//! Whether two systems differ on questions that each got right or wrong: the exact test.
//!
//! Before: the two numbers of questions that only one system got right. After: p-values for
//! [`Paired`](super::Paired).

use serde::{Deserialize, Serialize};

use super::distributions::binomial;

/// McNemar's test of two systems on the same questions, one verdict each.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// b: questions that only the first system got right.
    pub first_only: usize,
    /// c: questions that only the second system got right.
    pub second_only: usize,
    /// min(1, 2 P(X ≤ min(b, c))) with X binomial of b + c coins. At least as large as its level says: never too bold.
    pub exact: f64,
    /// The same with half the chance of X = min(b, c): right on average; without a difference it falls
    /// to 0.05 with chance 0.077 at most.
    pub mid_p: f64,
}

impl McNemar {
    /// Both p-values are 1 where no question tells the systems apart.
    ///
    /// # Source
    /// Q. McNemar, Psychometrika 12 (1947); the mid-p form: M. Fagerland, S. Lydersen and P. Laake, *The McNemar test for
    /// binary matched-pairs data*, BMC Medical Research Methodology 13:91 (2013).
    pub fn of(first_only: usize, second_only: usize) -> Self {
        let (coins, fewer) = (first_only + second_only, first_only.min(second_only));
        let tail: f64 = (0..=fewer).map(|heads| binomial(coins, heads, 0.5)).sum();
        let here = binomial(coins, fewer, 0.5);
        let mid_p = if first_only == second_only { 1.0 } else { 2.0 * tail - here };
        Self { first_only, second_only, exact: (2.0 * tail).min(1.0), mid_p: mid_p.min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_p_values_are_sums_of_binomial_chances() {
        // 1 and 6: 2 (1 + 7)/128; mid-p takes away one of the two 7/128
        let test = McNemar::of(1, 6);
        assert!((test.exact - 16.0 / 128.0).abs() < 1e-13, "{test:?}");
        assert!((test.mid_p - 9.0 / 128.0).abs() < 1e-13, "{test:?}");
        assert_eq!(McNemar::of(6, 1).exact, test.exact);
    }

    #[test]
    fn nothing_tells_equal_systems_apart() {
        for (b, c) in [(0, 0), (1, 1), (7, 7)] {
            let test = McNemar::of(b, c);
            assert_eq!((test.exact, test.mid_p), (1.0, 1.0), "{b}, {c}");
        }
        assert_eq!(McNemar::of(0, 1).exact, 1.0);
    }

    #[test]
    fn the_exact_test_is_never_too_bold_and_mid_p_hardly() {
        // chance of p ≤ 0.05 without a difference, for each number of questions that differ
        let mut bold = 0.0;
        for coins in 1..=100_usize {
            let rejected = |p: fn(&McNemar) -> f64| -> f64 {
                let rejects = |b: &usize| p(&McNemar::of(*b, coins - b)) <= 0.05;
                (0..=coins).filter(rejects).map(|b| binomial(coins, b, 0.5)).sum()
            };
            assert!(rejected(|test| test.exact) <= 0.05 + 1e-12, "{coins}");
            bold += rejected(|test| test.mid_p) / 100.0;
            assert!(rejected(|test| test.mid_p) <= 0.078, "{coins}: {}", rejected(|test| test.mid_p));
        }
        assert!((0.04..0.055).contains(&bold), "{bold}");
    }
}
