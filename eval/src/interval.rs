//! Intervals for shares.

use serde::{Deserialize, Serialize};

/// A lower and an upper bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

/// Score interval of a share, `successes` of `trials` independent ones, at `z` standard errors. (0, 1) without trials.
///
/// # Source
/// E. B. Wilson, *Probable Inference, the Law of Succession, and Statistical Inference*, JASA 22 (1927).
pub fn wilson(successes: usize, trials: usize, z: f64) -> Interval {
    if trials == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let (n, p) = (trials as f64, successes as f64 / trials as f64);
    let centre = p + z * z / (2.0 * n);
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 / (1.0 + z * z / n);
    Interval { low: ((centre - half) * scale).max(0.0), high: ((centre + half) * scale).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_solve_the_equation_they_come_from() {
        // |p̂ − p| = z √(p(1−p)/n) at both ends
        for (right, trials) in [(3, 10), (50, 100), (999, 1000)] {
            let interval = wilson(right, trials, 1.96);
            let share = right as f64 / trials as f64;
            for p in [interval.low, interval.high] {
                let distance = 1.96 * (p * (1.0 - p) / trials as f64).sqrt();
                assert!(((share - p).abs() - distance).abs() < 1e-12, "{right} of {trials}: {p}");
            }
        }
        assert!(wilson(0, 20, 1.96).low.abs() < 1e-12);
        assert!((wilson(20, 20, 1.96).high - 1.0).abs() < 1e-12);
    }
}
