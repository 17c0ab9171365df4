//! For tests: evaluations drawn at random, many and fast.

use super::{Interval, distributions::beta_quantile};

/// Random numbers for tests, by the same mixer as the bootstrap's.
pub(super) struct Stream(super::bootstrap::Stream);

impl Stream {
    pub(super) fn new(seed: u64) -> Self {
        Self(super::bootstrap::Stream::of(data::Seed(seed)))
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0.below(n)
    }

    /// In [0, 1).
    pub(super) fn uniform(&mut self) -> f64 {
        (self.0.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller's method.
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Successes among n draws of chance p: two draws from each 64 bits.
    pub(super) fn successes(&mut self, n: usize, p: f64) -> usize {
        let bar = (p * (1_u64 << 32) as f64) as u64;
        let mut right = 0;
        for pair in 0..n.div_ceil(2) {
            let bits = self.0.bits();
            right += usize::from(bits >> 32 < bar);
            right += usize::from(2 * pair + 1 < n && (bits & 0xffff_ffff) < bar);
        }
        right
    }
}

/// 1024 shares whose distribution is beta's, in rising order: its quantiles at the middles of 1024 equal steps.
pub(super) fn difficulties(a: f64, b: f64) -> Vec<f64> {
    (0..1024).map(|place| beta_quantile((f64::from(place) + 0.5) / 1024.0, a, b)).collect()
}

/// How often intervals contain the truth.
pub(super) fn coverage(evaluations: usize, truth: f64, mut evaluate: impl FnMut() -> Interval) -> f64 {
    (0..evaluations).filter(|_| evaluate().contains(truth)).count() as f64 / evaluations as f64
}

/// Differences of two systems, each with a share of `draws` draws, on questions of beta-distributed difficulty: the second
/// is better by a tenth of what is missing. And the mean of the true differences.
pub(super) fn improvements(
    a: f64,
    b: f64,
    questions: usize,
    draws: usize,
) -> (f64, impl FnMut() -> Vec<f64>) {
    let table = difficulties(a, b);
    let truth = 0.1 * (1.0 - super::mean(&table));
    let mut stream = Stream::new(11);
    let mut difference = move || {
        let p = table[stream.below(table.len())];
        let first = stream.successes(draws, p) as f64;
        (stream.successes(draws, p + 0.1 * (1.0 - p)) as f64 - first) / draws as f64
    };
    (truth, move || (0..questions).map(|_| difference()).collect())
}
