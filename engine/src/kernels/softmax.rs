//! Statistics of a softmax over the vocabulary, block by block, and the backward of a log-prob.

use rayon::prelude::*;

use super::math::{LANES, exp, max, sum, total, wide};
use super::rows::SMALL;

/// What a softmax over some logits needs and tells: fed block by block in order, the same for one row and for many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowStats {
    /// The largest logit so far, over the temperature.
    pub max: f32,
    /// Σ e^(z − max).
    pub sum: f32,
    /// Σ e^(z − max) (z − max).
    pub weighted: f32,
    /// Σ e^(2 (z − max)).
    pub squares: f32,
    /// Where the largest is.
    pub best: u32,
}

impl Default for RowStats {
    fn default() -> Self {
        Self { max: f32::NEG_INFINITY, sum: 0.0, weighted: 0.0, squares: 0.0, best: 0 }
    }
}

impl RowStats {
    /// Logits that are taken at a time: the order of summation, hence part of the result.
    pub const BLOCK: usize = 2048;

    /// All logits of a row, over the temperature.
    pub fn of(logits: &[f32], inverse_temperature: f32) -> Self {
        let mut stats = Self::default();
        for (block, logits) in logits.chunks(Self::BLOCK).enumerate() {
            stats.take(logits, block * Self::BLOCK, inverse_temperature);
        }
        stats
    }

    /// The largest logit over the temperature, Σ e^(z − max) and where the largest is, the same bits as [`Self::of`] has;
    /// and of every block its own largest and the sum of e^(z − that).
    pub fn for_draw(logits: &[f32], inverse_temperature: f32) -> (Self, Vec<(f32, f32)>) {
        let mut stats = Self::default();
        let mut blocks = Vec::with_capacity(logits.len().div_ceil(Self::BLOCK));
        for (block, logits) in logits.chunks(Self::BLOCK).enumerate() {
            let (max, best) = wide(|| largest(logits, inverse_temperature));
            stats.raise(max, block * Self::BLOCK + best);
            let max = stats.max;
            let sum = wide(|| sum(logits, |z| exp(z * inverse_temperature - max)));
            stats.sum += sum;
            blocks.push((max, sum));
        }
        (stats, blocks)
    }

    /// Sums so far in terms of a larger maximum, if it is one.
    fn raise(&mut self, max: f32, best: usize) {
        if max > self.max {
            let shift = self.max - max;
            if self.sum > 0.0 {
                let scale = exp(shift);
                self.weighted = scale * (self.weighted + self.sum * shift);
                self.squares *= scale * scale;
                self.sum *= scale;
            }
            self.max = max;
            self.best = best as u32;
        }
    }

    /// The next [`Self::BLOCK`] logits, the first of which is number `first`.
    pub fn take(&mut self, logits: &[f32], first: usize, inverse_temperature: f32) {
        let (max, best) = wide(|| largest(logits, inverse_temperature));
        self.raise(max, first + best);
        let max = self.max;
        let [sum, weighted, squares] = wide(|| {
            let mut parts = [[0f32; LANES]; 3];
            let mut add = |lane: usize, z: f32| {
                let z = z * inverse_temperature - max;
                let e = exp(z);
                parts[0][lane] += e;
                // e is 0 where z is −∞
                parts[1][lane] += e * z.max(-1e4);
                parts[2][lane] += e * e;
            };
            let mut whole = logits.chunks_exact(LANES);
            for chunk in &mut whole {
                for (lane, z) in chunk.iter().enumerate() {
                    add(lane, *z);
                }
            }
            for (lane, z) in whole.remainder().iter().enumerate() {
                add(lane, *z);
            }
            parts.map(total)
        });
        self.sum += sum;
        self.weighted += weighted;
        self.squares += squares;
    }

    /// ln p of a logit of this row, in nats.
    pub fn log_prob(&self, logit: f32, inverse_temperature: f32) -> f32 {
        (f64::from(logit * inverse_temperature - self.max) - f64::from(self.sum).ln()) as f32
    }

    /// Entropy in nats.
    pub fn entropy(&self) -> f32 {
        (f64::from(self.sum).ln() - f64::from(self.weighted) / f64::from(self.sum)) as f32
    }

    /// Probability of the likeliest.
    pub fn best_probability(&self) -> f32 {
        1.0 / self.sum
    }

    /// Σ p².
    pub fn sum_of_squares(&self) -> f32 {
        self.squares / (self.sum * self.sum)
    }
}

/// The largest number times `factor` and the first place that holds it. NaN is taken for the largest.
#[inline(always)]
fn largest(logits: &[f32], factor: f32) -> (f32, usize) {
    let max = max(logits, |z| z * factor);
    (max, logits.iter().position(|z| z * factor == max).unwrap_or(0))
}

/// Takes a block of logits `(rows, width)`, the first of which are number `first`, into the statistics of each row.
///
/// # Panics
/// If there are not as many rows as statistics.
pub fn softmax_stats(
    logits: &[f32],
    width: usize,
    first: usize,
    inverse_temperature: f32,
    stats: &mut [RowStats],
) {
    assert_eq!(logits.len(), stats.len() * width, "a row of logits for each of the statistics");
    let one = |(row, stats): (usize, &mut RowStats)| {
        let row = &logits[row * width..][..width];
        for (block, logits) in row.chunks(RowStats::BLOCK).enumerate() {
            stats.take(logits, first + block * RowStats::BLOCK, inverse_temperature);
        }
    };
    if stats.len() * width < SMALL {
        stats.iter_mut().enumerate().for_each(one);
    } else {
        stats.par_iter_mut().enumerate().with_min_len(8).for_each(one);
    }
}

/// Backward of ln π at each row's target: logits `(rows, width)`, which begin with token `first`, become their own
/// gradient `d (onehot(target) − p) / temperature`, with `p` from the row's statistics over all tokens. With `d_entropy`,
/// one for each row or none at all, that of the entropy H is added: `−d_entropy p (ln p + H) / temperature`.
///
/// # Panics
/// If rows, statistics, targets and derivatives differ in number.
#[expect(
    clippy::too_many_arguments,
    reason = "a part of the logits, its place, and what is known of each row"
)]
pub fn softmax_backward(
    logits: &mut [f32],
    width: usize,
    first: usize,
    inverse_temperature: f32,
    stats: &[RowStats],
    targets: &[u32],
    d_log_probs: &[f32],
    d_entropy: &[f32],
) {
    assert!(
        logits.len() == stats.len() * width
            && stats.len() == targets.len()
            && stats.len() == d_log_probs.len()
            && (d_entropy.is_empty() || d_entropy.len() == stats.len())
    );
    let one = |(row, logits): (usize, &mut [f32])| {
        let (stats, d) = (&stats[row], d_log_probs[row] * inverse_temperature);
        let factor = -d / stats.sum;
        match d_entropy.get(row).filter(|d| **d != 0.0) {
            None => wide(|| {
                for z in logits.iter_mut() {
                    *z = factor * exp(*z * inverse_temperature - stats.max);
                }
            }),
            Some(d_entropy) => {
                let spread = -d_entropy * inverse_temperature / stats.sum;
                // ln p + H, of which ln p = z − max − ln Σ
                let shift = stats.entropy() - stats.sum.ln();
                wide(|| {
                    for z in logits.iter_mut() {
                        let x = *z * inverse_temperature - stats.max;
                        // e is 0 where z is −∞
                        *z = exp(x) * (factor + spread * (x.max(-1e4) + shift));
                    }
                });
            }
        }
        let target = targets[row] as usize;
        if (first..first + width).contains(&target) {
            logits[target - first] += d;
        }
    };
    if logits.len() < SMALL {
        logits.chunks_exact_mut(width.max(1)).enumerate().for_each(one);
    } else {
        logits.par_chunks_exact_mut(width.max(1)).enumerate().with_min_len(8).for_each(one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + 13) % 4001) as f32 / 300.0 - 6.0).collect()
    }

    #[test]
    fn a_draw_and_a_score_of_the_same_logits_have_the_same_bits() {
        for count in [1, 15, 2048, 2049, 10_000] {
            for inverse in [1.0, 1.4] {
                let mut z = logits(count);
                // the largest comes late, so that sums so far are scaled
                z[count - 1] += 9.0;
                let (drawn, scored) = (RowStats::for_draw(&z, inverse).0, RowStats::of(&z, inverse));
                assert_eq!(
                    (drawn.max, drawn.sum, drawn.best),
                    (scored.max, scored.sum, scored.best),
                    "{count} logits"
                );
                assert_eq!(scored.best as usize, count - 1);
            }
        }
    }

    #[test]
    fn statistics_are_those_of_the_softmax() {
        let z = logits(5000);
        let stats = RowStats::of(&z, 0.5);
        let e: Vec<f64> = z.iter().map(|z| (f64::from(*z) / 2.0).exp()).collect();
        let total: f64 = e.iter().sum();
        let p = || e.iter().map(|e| e / total);
        let close =
            |found: f32, wanted: f64| assert!((f64::from(found) - wanted).abs() < 1e-5, "{found} {wanted}");
        close(stats.log_prob(z[77], 0.5), (e[77] / total).ln());
        close(stats.entropy(), -p().map(|p| p * p.ln()).sum::<f64>());
        close(stats.sum_of_squares(), p().map(|p| p * p).sum());
        close(stats.best_probability(), p().fold(0.0, f64::max));
    }

    #[test]
    fn forbidden_tokens_and_nan_are_seen() {
        let stats = RowStats::of(&[f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY], 1.0);
        assert_eq!((stats.best, stats.entropy(), stats.log_prob(0.0, 1.0)), (1, 0.0, 0.0));
        assert_eq!(stats.log_prob(f32::NEG_INFINITY, 1.0), f32::NEG_INFINITY);
        assert!(RowStats::of(&[1.0, f32::NAN], 1.0).sum.is_nan());
    }

    #[test]
    fn the_gradient_of_a_row_sums_to_nothing() {
        let (mut z, width) = (logits(600), 300);
        let stats = [RowStats::of(&z[..width], 2.0), RowStats::of(&z[width..], 2.0)];
        softmax_backward(&mut z, width, 0, 2.0, &stats, &[3, 299], &[0.5, -1.5], &[]);
        for (row, target, d) in [(0, 3, 0.5f32), (1, 299, -1.5)] {
            let row = &z[row * width..][..width];
            assert!(row.iter().sum::<f32>().abs() < 1e-5);
            assert!(row.iter().enumerate().all(|(i, g)| (i == target) == (g * d > 0.0)));
        }
    }

    #[test]
    fn the_gradient_of_the_entropy_is_that_of_finite_differences() {
        let (z, inverse) = (logits(40), 0.7f32);
        let stats = [RowStats::of(&z, inverse)];
        let mut gradient = z.clone();
        softmax_backward(&mut gradient, 40, 0, inverse, &stats, &[0], &[0.0], &[1.0]);
        let entropy = |z: &[f32]| {
            let e: Vec<f64> = z.iter().map(|z| (f64::from(*z) * f64::from(inverse)).exp()).collect();
            let total: f64 = e.iter().sum();
            -e.iter().map(|e| e / total * (e / total).ln()).sum::<f64>()
        };
        for i in [0, 7, 39] {
            let at = |h: f32| {
                entropy(
                    &z.iter().enumerate().map(|(j, z)| if i == j { z + h } else { *z }).collect::<Vec<_>>(),
                )
            };
            let slope = (at(0.02) - at(-0.02)) / 0.04;
            assert!((f64::from(gradient[i]) - slope).abs() < 1e-5, "{} is not {slope}", gradient[i]);
        }
    }
}
