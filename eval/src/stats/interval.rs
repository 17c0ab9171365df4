//! Intervals, and those for a share of independent draws.
//!
//! Before: counts. After: an [`Interval`], alone or in an [`Estimate`] that says how it was found.

use serde::{Deserialize, Serialize};

use super::{
    StatsError, check_confidence,
    distributions::{beta_quantile, normal_two_sided},
    rare::Rare,
};

/// Below so many right draws, or wrong ones, Wilson's interval is not to be trusted.
const FEWEST: usize = 5;

/// A lower and an upper bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

impl Interval {
    /// From `half` below the centre to `half` above it.
    pub fn around(centre: f64, half: f64) -> Self {
        Self { low: centre - half, high: centre + half }
    }

    /// Half the distance between the bounds: the h of "± h".
    pub fn half_width(&self) -> f64 {
        0.5 * (self.high - self.low)
    }

    /// Whether the value lies within; the bounds do.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// The part of the interval where values can be: what lies beyond a bound is moved to it.
    pub fn within(self, low: f64, high: f64) -> Self {
        Self { low: self.low.clamp(low, high), high: self.high.clamp(low, high) }
    }

    /// The part of the interval that lies in [0, 1].
    pub(super) fn of_a_share(self) -> Self {
        self.within(0.0, 1.0)
    }

    /// The least interval that holds both.
    pub(super) fn joined(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }
}

/// How an interval was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Method {
    /// [`one_draw`]: independent draws, one for each question.
    Wilson,
    /// [`clopper_pearson`]: the same, exact and therefore wide.
    ClopperPearson,
    /// [`clustered`](super::clustered()): a share over questions with several draws each.
    Clustered,
    /// Student's t over questions: [`mean_interval`](super::mean_interval), [`Paired`](super::Paired).
    T,
    /// [`bootstrap`](super::bootstrap()): questions drawn again.
    Bootstrap,
    /// [`draws`](super::draws()): draws of these very questions.
    Draws,
    /// [`adaptive_mean`](super::adaptive_mean): the same, where hard-to-tell questions got more draws.
    Adaptive,
    /// [`RunVariance`](super::RunVariance): Student's t over training runs.
    Runs,
}

/// A number and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The estimate itself. It need not be the middle of its interval.
    pub value: f64,
    /// Where the true value is, with the confidence asked for.
    pub interval: Interval,
    /// How the interval was found.
    pub method: Method,
}

/// Score interval of a share, `successes` of `trials` independent ones: all p with |p̂ − p| ≤ z √(p(1 − p)/n).
///
/// (0, 1) without trials. Its coverage swings around the confidence as p moves, and is right on average over p; for p
/// within a few successes of 0 or 1 single dips are deeper.
///
/// # Errors
/// If there are more successes than trials, or the confidence is not between 0 and 1.
/// # Source
/// E. B. Wilson, *Probable Inference, the Law of Succession, and Statistical Inference*, JASA 22 (1927).
pub fn wilson(successes: usize, trials: usize, confidence: f64) -> Result<Interval, StatsError> {
    check(successes, trials, confidence)?;
    if trials == 0 {
        return Ok(Interval { low: 0.0, high: 1.0 });
    }
    Ok(score_interval(successes as f64 / trials as f64, trials as f64, normal_two_sided(confidence)))
}

/// All p with |share − p| ≤ z √(p(1 − p)/n); neither n nor n · share need be whole.
pub(super) fn score_interval(share: f64, n: f64, z: f64) -> Interval {
    let centre = share + z * z / (2.0 * n);
    let half = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 / (1.0 + z * z / n);
    Interval { low: (centre - half) * scale, high: (centre + half) * scale }.of_a_share()
}

/// A share of independent draws, one of each question: [`wilson`], joined to the exact interval of a Poisson mean where
/// fewer than five are right, or wrong.
///
/// Of so few Wilson's bound towards 0 (or 1) is too near: where 1 of 10 is right it is 0.018, although a share of 0.017 gives
/// one or more in 16 of 100 evaluations.
///
/// # Errors
/// If there are no draws, more right ones than draws, or the confidence is not between 0 and 1.
pub fn one_draw(right: usize, draws: usize, confidence: f64) -> Result<Estimate, StatsError> {
    super::check_enough("draws", draws, 1)?;
    let mut interval = wilson(right, draws, confidence)?;
    let weight = 1.0 / draws as f64;
    let rare = |count: usize| Rare::of((0..draws).map(|draw| (weight, f64::from(u8::from(draw < count)))));
    if right < FEWEST {
        interval = interval.joined(rare(right).interval(confidence));
    }
    if draws - right < FEWEST {
        let Interval { low, high } = rare(draws - right).interval(confidence);
        interval = interval.joined(Interval { low: 1.0 - high, high: 1.0 - low });
    }
    Ok(Estimate { value: right as f64 / draws as f64, interval, method: Method::Wilson })
}

/// Exact interval of a share, `successes` of `trials` independent ones: all p under which neither so few nor so many
/// successes would be rarer than (1 − confidence)/2.
///
/// low = B⁻¹(α/2; s, n − s + 1) and high = B⁻¹(1 − α/2; s + 1, n − s), with B⁻¹ the quantile of the beta distribution
/// and α = 1 − confidence; low is 0 where s = 0, high is 1 where s = n. (0, 1) without trials. Covers with at least the
/// confidence whatever p is, hence mostly with more.
///
/// # Errors
/// If there are more successes than trials, or the confidence is not between 0 and 1.
/// # Source
/// C. J. Clopper and E. S. Pearson, *The use of confidence or fiducial limits*, Biometrika 26 (1934).
pub fn clopper_pearson(successes: usize, trials: usize, confidence: f64) -> Result<Interval, StatsError> {
    check(successes, trials, confidence)?;
    Ok(exact_interval(successes as f64, trials as f64, confidence))
}

/// [`clopper_pearson`] also between whole numbers of successes.
pub(super) fn exact_interval(s: f64, n: f64, confidence: f64) -> Interval {
    let tail = 0.5 * (1.0 - confidence);
    let low = if s <= 0.0 { 0.0 } else { beta_quantile(tail, s, n - s + 1.0) };
    let high = if s >= n { 1.0 } else { 1.0 - beta_quantile(tail, n - s, s + 1.0) };
    Interval { low, high }
}

fn check(successes: usize, trials: usize, confidence: f64) -> Result<(), StatsError> {
    check_confidence(confidence)?;
    if successes > trials { Err(StatsError::Right { found: successes, total: trials }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::distributions::binomial;
    use super::*;

    fn close(found: Interval, low: f64, high: f64, tolerance: f64) {
        let error = (found.low - low).abs().max((found.high - high).abs());
        assert!(error <= tolerance, "{found:?}, not [{low}, {high}]");
    }

    #[test]
    fn the_exact_interval_gives_the_worked_numbers() {
        let table =
            [(5, 8, 0.2449, 0.9148), (8, 8, 0.6306, 1.0), (0, 8, 0.0, 0.3694), (40, 64, 0.4951, 0.7430)];
        for (right, trials, low, high) in table {
            close(clopper_pearson(right, trials, 0.95).unwrap(), low, high, 5e-5);
        }
        // scipy's
        close(
            clopper_pearson(999, 1000, 0.95).unwrap(),
            0.994_441_075_720_150_2,
            0.999_974_682_512_508_3,
            1e-11,
        );
    }

    #[test]
    fn the_ends_are_exact() {
        // 0 of n: 1 − (α/2)^(1/n)
        let found = clopper_pearson(0, 8, 0.99).unwrap();
        close(found, 0.0, 1.0 - 0.005_f64.powf(1.0 / 8.0), 1e-12);
        close(clopper_pearson(0, 0, 0.95).unwrap(), 0.0, 1.0, 0.0);
        close(wilson(0, 0, 0.95).unwrap(), 0.0, 1.0, 0.0);
        close(clopper_pearson(30_000, 40_000, 0.95).unwrap(), 0.745_728, 0.754_236, 1e-5);
    }

    #[test]
    fn wilsons_bounds_solve_the_equation_they_come_from() {
        // |p̂ − p| = z √(p(1 − p)/n) at both ends
        let z = normal_two_sided(0.95);
        for (right, trials) in [(3, 10), (50, 100), (999, 1000)] {
            let interval = wilson(right, trials, 0.95).unwrap();
            let share = right as f64 / trials as f64;
            for p in [interval.low, interval.high] {
                let distance = z * (p * (1.0 - p) / trials as f64).sqrt();
                assert!(((share - p).abs() - distance).abs() < 1e-12, "{right} of {trials}: {p}");
            }
        }
        close(wilson(5, 8, 0.95).unwrap(), 0.305_742_394_602_627_3, 0.863_155_714_176_402_7, 1e-12); // scipy's
        assert!(wilson(0, 20, 0.95).unwrap().low.abs() < 1e-12);
        assert!((wilson(20, 20, 0.95).unwrap().high - 1.0).abs() < 1e-12);
    }

    /// The chance that the interval contains p, summed over all outcomes.
    fn coverage(n: usize, p: f64, intervals: &[Interval]) -> f64 {
        (0..=n).filter(|right| intervals[*right].contains(p)).map(|right| binomial(n, right, p)).sum()
    }

    #[test]
    fn the_exact_interval_covers_at_least_and_wilsons_on_average() {
        for n in [8, 30, 100, 500] {
            let exact: Vec<Interval> =
                (0..=n).map(|right| clopper_pearson(right, n, 0.95).unwrap()).collect();
            let score: Vec<Interval> = (0..=n).map(|right| wilson(right, n, 0.95).unwrap()).collect();
            let grid: Vec<f64> = (1..100).map(|percent| f64::from(percent) / 100.0 + 0.0003).collect();
            assert!(grid.iter().all(|p| coverage(n, *p, &exact) >= 0.95), "{n}");
            let all: Vec<f64> = grid.iter().map(|p| coverage(n, *p, &score)).collect();
            let (average, least) = (super::super::mean(&all), all.iter().copied().fold(1.0, f64::min));
            assert!((0.945..0.965).contains(&average), "{n}: {average}");
            // single dips: with 8 draws 0.83 near 0, otherwise within n p of 5 on
            assert!(least >= if n == 8 { 0.82 } else { 0.85 }, "{n}: {least}");
            let inner = grid.iter().zip(&all).filter(|(p, _)| p.min(1.0 - *p) * n as f64 >= 5.0);
            assert!(
                inner.clone().all(|(_, found)| (0.92..0.98).contains(found)),
                "{n}: {:?}",
                inner.collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn one_draw_a_question_covers_however_rare_right_ones_are() {
        for n in [10, 30, 200] {
            let found: Vec<Interval> =
                (0..=n).map(|right| one_draw(right, n, 0.95).unwrap().interval).collect();
            for p in [0.001, 0.003, 0.005, 0.01, 0.017, 0.03, 0.05] {
                for p in [p, 1.0 - p] {
                    let covered = coverage(n, p, &found);
                    assert!(covered >= 0.93, "{n} draws at {p}: {covered}");
                }
            }
            let middle = wilson(n / 2, n, 0.95).unwrap();
            assert_eq!(found[n / 2], middle, "where neither is rare it is Wilson's");
        }
        assert!(one_draw(0, 0, 0.95).is_err() && one_draw(2, 1, 0.95).is_err());
    }

    #[test]
    fn thirty_coins_are_known_to_nine_points() {
        // a 30-item test at 50 %, one draw each: √(0.25/30) = 0.0913, which Wilson divides by √(1 + z²/30)
        let z = normal_two_sided(0.95);
        let deviation = wilson(15, 30, 0.95).unwrap().half_width() / z * (1.0 + z * z / 30.0).sqrt();
        assert!((deviation - 0.091).abs() < 5e-4, "{deviation}");
    }

    #[test]
    fn impossible_counts_are_refused() {
        assert_eq!(wilson(9, 8, 0.95), Err(StatsError::Right { found: 9, total: 8 }));
        assert_eq!(clopper_pearson(9, 8, 0.95), Err(StatsError::Right { found: 9, total: 8 }));
        assert!(wilson(1, 8, 95.0).is_err() && wilson(1, 8, f64::NAN).is_err());
    }

    #[test]
    fn a_method_is_written_in_snake_case() {
        assert_eq!(serde_json::to_string(&Method::ClopperPearson).unwrap(), "\"clopper_pearson\"");
        let estimate = Estimate { value: 0.5, interval: Interval::around(0.5, 0.1), method: Method::T };
        let again: Estimate = serde_json::from_str(&serde_json::to_string(&estimate).unwrap()).unwrap();
        assert_eq!(again, estimate);
    }
}
