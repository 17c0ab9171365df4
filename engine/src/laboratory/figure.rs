//! Figures with intervals from leaving out one group at a time.
//!
//! Before: inner products between the vectors of groups. After: [`super::compare`] and [`super::mixture()`] report them.

use serde::Serialize;

use super::Pool;

/// A number with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Figure {
    /// An estimate with this variance.
    pub(super) fn new(value: f64, variance: f64) -> Self {
        let half = 1.959_964 * variance.sqrt();
        Self { value, low: value - half, high: value + half }
    }

    /// Of something that is never below 0, with an estimate that may be: the interval is as wide above 0 as it would be
    /// around 0.
    pub(super) fn not_negative(self) -> Self {
        let half = self.high - self.value;
        Self { low: self.low.max(0.0), high: self.value.max(0.0) + half, ..self }
    }

    /// Of a share.
    pub(super) fn of_a_share(self) -> Self {
        Self { low: self.low.clamp(0.0, 1.0), high: self.high.clamp(0.0, 1.0), ..self }
    }

    /// Whether a number is within the interval.
    pub fn holds(&self, number: f64) -> bool {
        (self.low..=self.high).contains(&number)
    }
}

/// Sums over groups and pairs of groups of some inner products, of which any group can be left out.
pub(super) struct Sums {
    groups: usize,
    /// The variance of the mean product of two different groups if the groups' expectation were 0: 2 tr Σ²/(n (n − 1)), with
    /// tr Σ² the mean squared product of different groups around their mean.
    pub(super) at_zero: f64,
    diagonal: Vec<f64>,
    /// Row plus column of each group, its own product counted once.
    lines: Vec<f64>,
    trace: f64,
    all: f64,
}

impl Sums {
    pub(super) fn new(products: &[Vec<f64>]) -> Self {
        let groups = products.len();
        let diagonal: Vec<f64> = (0..groups).map(|i| products[i][i]).collect();
        let line = |i: usize| -> f64 {
            let row: f64 = products[i].iter().sum();
            let column: f64 = products.iter().map(|row| row[i]).sum();
            row + column - products[i][i]
        };
        let all: f64 = products.iter().flatten().sum();
        let n = groups as f64;
        let rows: Vec<f64> = products.iter().map(|row| row.iter().sum::<f64>() / n).collect();
        let columns: Vec<f64> =
            (0..groups).map(|j| products.iter().map(|row| row[j]).sum::<f64>() / n).collect();
        let centred = |i: usize, j: usize| products[i][j] - rows[i] - columns[j] + all / (n * n);
        let pairs = (0..groups).flat_map(|i| (0..groups).map(move |j| (i, j))).filter(|(i, j)| i != j);
        let squares: f64 = pairs.map(|(i, j)| centred(i, j).powi(2)).sum();
        Self {
            groups,
            at_zero: 2.0 * squares / (n * (n - 1.0)).powi(2),
            lines: (0..groups).map(line).collect(),
            trace: diagonal.iter().sum(),
            all,
            diagonal,
        }
    }

    /// (mean product of two different groups, mean product of a group with itself), without one group.
    pub(super) fn means(&self, without: Option<usize>) -> (f64, f64) {
        let (mut n, mut trace, mut all) = (self.groups as f64, self.trace, self.all);
        if let Some(group) = without {
            (n, trace, all) = (n - 1.0, trace - self.diagonal[group], all - self.lines[group]);
        }
        ((all - trace) / (n * (n - 1.0)), trace / n)
    }
}

/// A figure from a function of "everything but one group of one pool", and its jackknife interval.
pub(super) fn figure(pools: &[Pool], f: impl Fn(Option<(usize, usize)>) -> f64) -> Figure {
    figure_with(pools, 0.0, f)
}

/// The same with a variance that the jackknife does not see.
pub(super) fn figure_with(pools: &[Pool], unseen: f64, f: impl Fn(Option<(usize, usize)>) -> f64) -> Figure {
    let value = f(None);
    let mut variance = unseen;
    for (number, pool) in pools.iter().enumerate() {
        let groups = pool.groups();
        let left: Vec<f64> = (0..groups).map(|group| f(Some((number, group)))).collect();
        let mean = left.iter().sum::<f64>() / groups as f64;
        let spread: f64 = left.iter().map(|x| (x - mean).powi(2)).sum();
        variance += (groups as f64 - 1.0) / groups as f64 * spread;
    }
    Figure::new(value, variance)
}
