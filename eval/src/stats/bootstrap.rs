//! Intervals from drawing the questions again.
//!
//! Before: a number, or a pair, for each question. After: the interval of any statistic over questions, also of those
//! with no formula.

use data::Seed;

use super::{
    Interval, StatsError, check_confidence, check_enough,
    distributions::{normal_cdf, normal_quantile, t_two_sided},
    mean,
};

/// Random numbers that are a function of (seed, resample) and their place in it: a counter through SplitMix64's mixer.
///
/// # Source
/// G. Steele, D. Lea and C. Flood, *Fast Splittable Pseudorandom Number Generators*, OOPSLA (2014).
pub(super) struct Stream(u64);

impl Stream {
    pub(super) fn of(seed: Seed) -> Self {
        let key = seed.named("bootstrap").at(0).prompt("").place(0).uniform(0);
        Self((key * (1_u64 << 53) as f64) as u64)
    }

    /// The stream of one resample.
    pub(super) fn at(&self, resample: usize) -> Self {
        Self(Self(self.0.wrapping_add(resample as u64)).bits())
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A whole number in 0..n.
    #[cfg(test)]
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// Whole numbers in 0..n, for n far below 2³²: two from each 64 bits.
    fn fill(&mut self, places: &mut [usize], n: usize) {
        for pair in places.chunks_mut(2) {
            let bits = self.bits();
            for (place, half) in pair.iter_mut().zip([bits >> 32, bits & 0xffff_ffff]) {
                *place = ((half * n as u64) >> 32) as usize;
            }
        }
    }
}

/// The statistic of each of `resamples` sets of as many questions, drawn with putting back; in order of the resamples.
///
/// `statistic` gets the places of the questions drawn, from 0 to `questions` − 1. A resample depends on the seed and its
/// number only.
///
/// # Errors
/// If there are fewer than two questions, or no resamples.
pub fn resampled(
    questions: usize,
    resamples: usize,
    seed: Seed,
    mut statistic: impl FnMut(&[usize]) -> f64,
) -> Result<Vec<f64>, StatsError> {
    check_enough("questions", questions, 2)?;
    check_enough("resamples", resamples, 1)?;
    let (stream, mut places) = (Stream::of(seed), vec![0; questions]);
    Ok((0..resamples)
        .map(|resample| {
            stream.at(resample).fill(&mut places, questions);
            statistic(&places)
        })
        .collect())
}

/// The interval of any statistic over questions: bias-corrected and accelerated, its levels widened for few questions.
///
/// With z₀ = Φ⁻¹(share of resamples below the value, ties half) and the acceleration a = Σ d³/(6 (Σ d²)^{3/2}), d the
/// jackknife's deviations, the bounds are the quantiles of the resamples at Φ(z₀ + (z₀ ± z)/(1 − a (z₀ ± z))). A
/// bootstrap distribution is too narrow by √((n − 1)/n) and knows nothing of Student's t: so z is √(n/(n − 1)) times the
/// t quantile with n − 1 degrees of freedom. `statistic` gets places of questions, as in [`resampled`].
///
/// If the statistic is the same in all resamples, the interval is that point.
///
/// # Errors
/// If there are fewer than two questions or no resamples, or the confidence is not between 0 and 1.
/// # Source
/// B. Efron, *Better Bootstrap Confidence Intervals*, JASA 82 (1987); the widening: T. Hesterberg, *What Teachers Should
/// Know about the Bootstrap*, arXiv:1411.5279 (2014), §4.3 ("expanded percentile").
pub fn bootstrap(
    questions: usize,
    resamples: usize,
    confidence: f64,
    seed: Seed,
    mut statistic: impl FnMut(&[usize]) -> f64,
) -> Result<Interval, StatsError> {
    check_confidence(confidence)?;
    let mut found = resampled(questions, resamples, seed, &mut statistic)?;
    found.sort_by(f64::total_cmp);
    let all: Vec<usize> = (0..questions).collect();
    let value = statistic(&all);
    // leaving out question i: the last question stands in its place
    let mut places = all[..questions - 1].to_vec();
    let jackknife: Vec<f64> = (0..questions)
        .map(|left_out| {
            if left_out < places.len() {
                places[left_out] = questions - 1;
            }
            let found = statistic(&places);
            if left_out < places.len() {
                places[left_out] = left_out;
            }
            found
        })
        .collect();
    let n = questions as f64;
    let z = (n / (n - 1.0)).sqrt() * t_two_sided(confidence, n - 1.0);
    let (bias, acceleration) = (bias(&found, value), acceleration(&jackknife));
    let bound = |z: f64| {
        let moved = bias + z;
        quantile(&found, normal_cdf(bias + moved / (1.0 - acceleration * moved)))
    };
    Ok(Interval { low: bound(-z), high: bound(z) })
}

/// z₀: how far the value lies from the middle of its resamples, in standard errors. Sums in another order differ by
/// rounding, so what is that near counts as a tie.
fn bias(sorted: &[f64], value: f64) -> f64 {
    let near = 1e-12 * value.abs().max(1e-3);
    let below = sorted.partition_point(|found| *found < value - near);
    let tied = sorted.partition_point(|found| *found <= value + near) - below;
    let share = (below as f64 + 0.5 * tied as f64) / sorted.len() as f64;
    let least = 0.5 / sorted.len() as f64;
    normal_quantile(share.clamp(least, 1.0 - least))
}

fn acceleration(jackknife: &[f64]) -> f64 {
    let middle = mean(jackknife);
    let deviations = jackknife.iter().map(|found| middle - found);
    let squares: f64 = deviations.clone().map(|d| d * d).sum();
    let cubes: f64 = deviations.map(|d| d * d * d).sum();
    if squares > 0.0 { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 }
}

/// The quantile at `level`, in a straight line between neighbours.
fn quantile(sorted: &[f64], level: f64) -> f64 {
    let place = (level * (sorted.len() + 1) as f64 - 1.0).clamp(0.0, (sorted.len() - 1) as f64);
    let (below, between) = (place as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + between * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::super::{mean_interval, simulate, variance};
    use super::*;

    fn values(n: usize) -> Vec<f64> {
        let mut stream = simulate::Stream::new(8);
        (0..n).map(|_| stream.normal()).collect()
    }

    #[test]
    fn resampled_means_vary_as_the_standard_error_says() {
        let values = values(50);
        let of =
            |places: &[usize]| places.iter().map(|place| values[*place]).sum::<f64>() / places.len() as f64;
        let found = resampled(50, 20_000, Seed(1), of).unwrap();
        let wanted = variance(&values) / 50.0 * 49.0 / 50.0;
        assert!((variance(&found) / wanted - 1.0).abs() < 0.04, "{}", variance(&found) / wanted);
        assert!((mean(&found) - mean(&values)).abs() < 0.005);
    }

    #[test]
    fn for_a_mean_of_normal_numbers_it_is_nearly_students_interval() {
        let values = values(60);
        let of =
            |places: &[usize]| places.iter().map(|place| values[*place]).sum::<f64>() / places.len() as f64;
        let found = bootstrap(60, 20_000, 0.95, Seed(2), of).unwrap();
        let wanted = mean_interval(&values, 0.95).unwrap().interval;
        let tolerance = 0.1 * wanted.half_width();
        assert!(
            (found.low - wanted.low).abs() < tolerance && (found.high - wanted.high).abs() < tolerance,
            "{found:?} {wanted:?}"
        );
    }

    #[test]
    fn any_statistic_will_do_and_the_seed_decides() {
        let values = values(41);
        let median = |places: &[usize]| {
            let mut drawn: Vec<f64> = places.iter().map(|place| values[*place]).collect();
            drawn.sort_by(f64::total_cmp);
            drawn[drawn.len() / 2]
        };
        let at = |seed| bootstrap(41, 1000, 0.9, Seed(seed), median).unwrap();
        assert_eq!(at(1), at(1));
        assert_ne!(resampled(41, 9, Seed(1), median), resampled(41, 9, Seed(2), median));
        assert!(at(1).contains(median(&(0..41).collect::<Vec<_>>())));
    }

    #[test]
    fn it_covers() {
        for (questions, resamples) in [(40, 299), (200, 199)] {
            let (truth, mut differences) = simulate::improvements(0.5, 2.0, questions, 8);
            let found = simulate::coverage(10_000, truth, || {
                let differences = differences();
                let of = |places: &[usize]| {
                    places.iter().map(|place| differences[*place]).sum::<f64>() / places.len() as f64
                };
                bootstrap(questions, resamples, 0.95, Seed(1), of).unwrap()
            });
            assert!((0.93..0.97).contains(&found), "{questions} questions: {found}");
        }
    }

    #[test]
    fn a_constant_is_a_point_and_nothing_is_refused() {
        assert_eq!(bootstrap(5, 100, 0.95, Seed(0), |_| 0.25), Ok(Interval { low: 0.25, high: 0.25 }));
        assert!(bootstrap(1, 100, 0.95, Seed(0), |_| 0.0).is_err());
        assert!(bootstrap(5, 0, 0.95, Seed(0), |_| 0.0).is_err());
    }
}
