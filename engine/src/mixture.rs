//! Two gradients of one policy, with and without a thinking trace, mixed for the least error.
//!
//! Before: the trainer has the gradient g_t of rollouts (or pairs) that think and g_e of those whose trace is empty. After:
//! α g_t + (1 − α) g_e goes to the optimizer. g_t has the noise of the trace; g_e has none of it but another target.
//!
//! With the target taken to be E g_t, the error is least at
//! α* = [‖d‖² + tr Σ_e − tr Σ_te] / [‖d‖² + tr Σ_t + tr Σ_e − 2 tr Σ_te], d = E g_t − E g_e, cut to 0..1.
//!
//! # Source
//! BVPO, arXiv:2510.05095: the mixture, and that an optimum exists; the closed form and both ways to estimate it are
//! derived here. The authors are said to have used α = 0.5.

use serde::{Deserialize, Serialize};

use crate::stats::Ema;

/// How α is found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Alpha {
    /// This number, in 0..1. At 0 and 1 the other branch is not computed.
    Fixed(f64),
    /// From variances and covariance of the two gradients over chunks of the batch.
    Moment,
    /// From the inner products of two halves of each branch: with two independent estimates of E g_t the numerator
    /// E⟨g_t − g_e, E g_t − g_e⟩ needs no variances, and what the halves of different branches have in common is counted once. It
    /// is `moment` with two chunks, and costs the least.
    Regression,
}

impl Default for Alpha {
    fn default() -> Self {
        Self::Fixed(0.5)
    }
}

/// The mixture's settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct MixtureConfig {
    /// `{ fixed = 0.5 }`, `"moment"` or `"regression"`.
    pub alpha: Alpha,
    /// Share of the past that running means of numerator and denominator keep.
    pub decay: f64,
    /// α until the means have seen so many updates.
    pub first: f64,
    /// Updates that keep α at `first`.
    pub warmup: u64,
}

impl Default for MixtureConfig {
    fn default() -> Self {
        Self { alpha: Alpha::default(), decay: 0.9, first: 0.5, warmup: 3 }
    }
}

impl MixtureConfig {
    /// What makes no sense, if anything.
    pub fn problem(&self) -> Option<String> {
        if let Alpha::Fixed(alpha) = self.alpha
            && !(0.0..=1.0).contains(&alpha)
        {
            return Some(format!("alpha is {alpha}; wanted 0 to 1"));
        }
        if !(0.0..=1.0).contains(&self.first) {
            return Some(format!("first is {}; wanted 0 to 1", self.first));
        }
        if !(0.0..1.0).contains(&self.decay) {
            return Some(format!("decay is {}; wanted at least 0 and below 1", self.decay));
        }
        None
    }
}

/// Second moments of the two gradients of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Moments {
    /// ‖E g_t − E g_e‖².
    pub difference: f64,
    /// tr Var of the thinking branch's gradient.
    pub thinking: f64,
    /// tr Var of the empty branch's.
    pub empty: f64,
    /// tr Cov of the two.
    pub both: f64,
}

crate::numbers! {
    /// Two branches whose gradients are mixed.
    pub struct MixtureMetrics {
        /// Mean reward of rollouts that think.
        reward_mean_thinking: Option<f64> = "reward";
        /// Mean reward of rollouts whose trace is empty.
        reward_mean_empty: Option<f64> = "reward";
        /// The thinking branch's share in the gradient.
        alpha: Option<f64> = "share";
        /// tr Var of the thinking branch's gradient.
        variance_thinking: Option<f64> = "";
        /// tr Var of the other branch's gradient.
        variance_empty: Option<f64> = "";
        /// tr Var of the mixture.
        variance_mixed: Option<f64> = "";
        /// Unbiased estimate of the squared distance between the two expected gradients.
        branch_distance: Option<f64> = "";
    }
}

impl Moments {
    /// Numerator and denominator of α*, when the target is E g_t.
    pub fn fraction(&self) -> (f64, f64) {
        let numerator = self.difference + self.empty - self.both;
        (numerator, self.difference + self.thinking + self.empty - 2.0 * self.both)
    }

    /// tr Var of the mixture.
    pub fn variance(&self, alpha: f64) -> f64 {
        let rest = 1.0 - alpha;
        alpha * alpha * self.thinking + rest * rest * self.empty + 2.0 * alpha * rest * self.both
    }

    /// Squared error of the mixture against E g_t.
    pub fn error(&self, alpha: f64) -> f64 {
        (1.0 - alpha).powi(2) * self.difference + self.variance(alpha)
    }

    /// From the inner products of chunks: of each its numbers of units (pairs or groups), thinking and empty, and ‖t‖², ‖e‖²,
    /// ⟨t, e⟩; and the same three of the sums. A chunk is a share of each branch's mean, which may be of other sizes in the
    /// two. Units of different chunks are independent; those of one chunk need not be. `None` if either branch has no two
    /// chunks with units.
    pub fn estimate(chunks: &[([usize; 2], [f64; 3])], sum: [f64; 3]) -> Option<Self> {
        // see [`crate::stats::Noise::estimate`]; here of products too
        let spread = |units: &dyn Fn([usize; 2]) -> usize, which: usize| {
            let chunks =
                chunks.iter().map(|(both, x)| (units(*both) as f64, x[which])).filter(|(n, _)| *n > 0.0);
            let (count, n) = chunks.clone().fold((0.0, 0.0), |(count, sum), (n, _)| (count + 1.0, sum + n));
            let within: f64 = chunks.map(|(units, x)| x * n * n / units).sum();
            (count > 1.0).then(|| (within - n * sum[which]) / (count - 1.0) / n)
        };
        let (thinking, empty) = (spread(&|units| units[0], 0)?, spread(&|units| units[1], 1)?);
        let both = if chunks.iter().all(|(units, _)| units[0] == units[1]) {
            spread(&|units| units[0], 2)?
        } else {
            // With shares aₖ and bₖ of the two means, E Σₖ ⟨tₖ, eₖ⟩ = Σ aₖ bₖ ⟨E t, E e⟩ + tr Cov and E ⟨t, e⟩ = ⟨E t, E e⟩ + tr Cov,
            // wherever within the chunks the covariance is.
            let total = |branch: usize| chunks.iter().map(|(units, _)| units[branch] as f64).sum::<f64>();
            let (t, e) = (total(0), total(1));
            let share: f64 = chunks.iter().map(|(units, _)| units[0] as f64 / t * units[1] as f64 / e).sum();
            let within: f64 = chunks.iter().map(|(_, x)| x[2]).sum();
            (within - share * sum[2]) / (1.0 - share)
        };
        let apart = sum[0] + sum[1] - 2.0 * sum[2];
        Some(Self { difference: apart - (thinking + empty - 2.0 * both), thinking, empty, both })
    }
}

/// α* of the general case, where the thinking branch is biased too: biases b_t and b_e against any target, and traces of
/// covariances as in [`Moments`]. `None` if the two gradients coincide.
pub fn best_alpha(b_t: &[f64], b_e: &[f64], thinking: f64, empty: f64, both: f64) -> Option<f64> {
    let d: Vec<f64> = b_t.iter().zip(b_e).map(|(t, e)| t - e).collect();
    let along: f64 = b_e.iter().zip(&d).map(|(e, d)| e * d).sum();
    let denominator = d.iter().map(|d| d * d).sum::<f64>() + thinking + empty - 2.0 * both;
    (denominator > 1e-12).then(|| ((empty - both - along) / denominator).clamp(0.0, 1.0))
}

/// What outlives an update: running means of numerator and denominator, and the last α.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Mixture {
    numerator: Ema,
    denominator: Ema,
    seen: u64,
}

impl Mixture {
    /// α for this update, after a numerator and a denominator were seen, if any could be.
    pub fn observe(&mut self, config: &MixtureConfig, fraction: Option<(f64, f64)>) -> f64 {
        if let Alpha::Fixed(alpha) = config.alpha {
            return alpha;
        }
        if let Some((numerator, denominator)) = fraction {
            self.numerator.add(config.decay, numerator);
            self.denominator.add(config.decay, denominator);
            self.seen += 1;
        }
        match (self.numerator.mean(), self.denominator.mean()) {
            (Some(numerator), Some(denominator)) if self.seen > config.warmup && denominator > 1e-30 => {
                (numerator / denominator).clamp(0.0, 1.0)
            }
            _ => config.first,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_alpha_matches_the_worked_numbers() {
        let close = |found: Option<f64>, wanted: f64| {
            let found = found.expect("they differ");
            assert!((found - wanted).abs() < 1e-6, "{found} is not {wanted}");
        };
        close(best_alpha(&[0.1, 0.0], &[0.5, -0.3], 2.0, 0.2, 0.1), 0.173_333);
        close(best_alpha(&[0.0, 0.0], &[0.5, -0.3], 2.0, 0.0, 0.0), 0.145_299);
        close(best_alpha(&[0.0], &[1.0], 0.3, 0.5, 0.4), 1.0); // 1.1 before the cut
        assert_eq!(best_alpha(&[1.0], &[1.0], 0.0, 0.0, 0.0), None, "they coincide");
        let error = |alpha: f64| {
            let bias: f64 =
                [(0.1, 0.5), (0.0, -0.3)].iter().map(|(t, e)| (alpha * t + (1.0 - alpha) * e).powi(2)).sum();
            bias + alpha * alpha * 2.0 + (1.0 - alpha).powi(2) * 0.2 + 2.0 * alpha * (1.0 - alpha) * 0.1
        };
        for (alpha, wanted) in [(0.173_333, 0.4724), (0.0, 0.54), (0.5, 0.7125), (1.0, 2.01)] {
            assert!((error(alpha) - wanted).abs() < 1e-4, "{alpha}");
        }
    }

    #[test]
    fn with_an_unbiased_thinking_branch_both_formulas_agree() {
        let moments = Moments { difference: 0.34, thinking: 2.0, empty: 0.2, both: 0.1 };
        let (numerator, denominator) = moments.fraction();
        let general = best_alpha(&[0.0, 0.0], &[0.5, -0.3], 2.0, 0.2, 0.1).expect("they differ");
        assert!((numerator / denominator - general).abs() < 1e-12);
        // no other α does better, on a grid
        let best = (0..=1000)
            .map(|i| f64::from(i) / 1000.0)
            .min_by(|a, b| moments.error(*a).total_cmp(&moments.error(*b)));
        assert!((best.expect("a grid") - general).abs() < 1e-3);
        for (alpha, share) in [(0.3, 0.09), (0.5, 0.25), (0.8, 0.64)] {
            let still = Moments { empty: 0.0, both: 0.0, ..moments };
            assert!((still.variance(alpha) / still.thinking - share).abs() < 1e-12, "theorem 1");
        }
    }

    #[test]
    fn moments_of_chunks_are_unbiased() {
        // two coordinates; per group t = (3 ± 1, 0), e = (1, ±1), signs independent: all outcomes of 4 groups
        let (mut sum, mut count) = (Moments::default(), 0.0);
        for outcome in 0..256u32 {
            let sign = |bit: u32| if outcome >> bit & 1 == 1 { 1.0 } else { -1.0 };
            // thinking first, empty second
            let groups: Vec<[[f64; 2]; 2]> =
                (0..4).map(|g| [[3.0 + sign(2 * g), 0.0], [1.0, sign(2 * g + 1)]]).collect();
            let products = |range: std::ops::Range<usize>| -> [f64; 3] {
                let total = |branch: usize| {
                    let some = groups[range.clone()].iter().map(|group| group[branch]);
                    some.fold([0.0; 2], |s, x| [s[0] + x[0] / 4.0, s[1] + x[1] / 4.0])
                };
                let (t, e) = (total(0), total(1));
                let inner = |a: [f64; 2], b: [f64; 2]| a[0] * b[0] + a[1] * b[1];
                [inner(t, t), inner(e, e), inner(t, e)]
            };
            let chunks = [([1, 1], products(0..1)), ([1, 1], products(1..2)), ([2, 2], products(2..4))];
            let found = Moments::estimate(&chunks, products(0..4)).expect("three chunks");
            sum.difference += found.difference;
            sum.thinking += found.thinking;
            sum.empty += found.empty;
            sum.both += found.both;
            count += 1.0;
        }
        for (found, wanted) in
            [(sum.difference, 4.0), (sum.thinking, 0.25), (sum.empty, 0.25), (sum.both, 0.0)]
        {
            assert!((found / count - wanted).abs() < 1e-9, "{} is not {wanted}", found / count);
        }
    }

    #[test]
    fn moments_of_branches_of_other_sizes_that_vary_together_are_unbiased() {
        // prompts p, q, r and s have signs; t of p, q, r, s and e of q, s, both with the prompt's sign: all 16 outcomes, and
        // all ways to cut that keep a prompt in one chunk
        let cuts: [&[(&[usize], &[usize])]; 4] = [
            &[(&[0, 1], &[1]), (&[2, 3], &[3])],
            &[(&[0], &[]), (&[1], &[1]), (&[2, 3], &[3])],
            &[(&[1], &[1]), (&[0, 2, 3], &[3])],
            &[(&[0], &[]), (&[1], &[1]), (&[2], &[]), (&[3], &[3])],
        ];
        let dot = |a: [f64; 2], b: [f64; 2]| a[0] * b[0] + a[1] * b[1];
        for cut in cuts {
            let mut found = [0.0; 5];
            for outcome in 0..16u32 {
                let sign = |prompt: usize| if outcome >> prompt & 1 == 1 { 1.0 } else { -1.0 };
                let add = |sum: [f64; 2], x: [f64; 2]| [sum[0] + x[0], sum[1] + x[1]];
                let t = |prompts: &[usize]| {
                    prompts.iter().fold([0.0; 2], |s, p| add(s, [(3.0 + sign(*p)) / 4.0, 0.0]))
                };
                let e = |prompts: &[usize]| {
                    prompts.iter().fold([0.0; 2], |s, p| add(s, [(1.0 + 2.0 * sign(*p)) / 2.0, 0.5]))
                };
                let products = |t: [f64; 2], e: [f64; 2]| [dot(t, t), dot(e, e), dot(t, e)];
                let chunks: Vec<([usize; 2], [f64; 3])> =
                    cut.iter().map(|(ts, es)| ([ts.len(), es.len()], products(t(ts), e(es)))).collect();
                let m =
                    Moments::estimate(&chunks, products(t(&[0, 1, 2, 3]), e(&[1, 3]))).expect("two chunks");
                let all = [m.difference, m.thinking, m.empty, m.both, m.fraction().0];
                found.iter_mut().zip(all).for_each(|(sum, x)| *sum += x / 16.0);
            }
            // tr Σ_t = 1/4, tr Σ_e = 4/2, tr Σ_te = 2 · 2/(4 · 2), ‖d‖² = 2² + 1²
            let wanted = [5.0, 0.25, 2.0, 0.5, 5.0 + 2.0 - 0.5];
            for (found, wanted) in found.iter().zip(wanted) {
                assert!((found - wanted).abs() < 1e-9, "{cut:?}: {found} is not {wanted}");
            }
        }
    }

    #[test]
    fn a_branch_of_a_single_chunk_has_no_variance() {
        let chunks = [([0, 3], [0.0, 1.0, 0.0]), ([1, 2], [1.0, 1.0, 0.5])];
        assert_eq!(Moments::estimate(&chunks, [1.0, 2.0, 1.0]), None);
    }

    #[test]
    fn alpha_stays_where_it_began_until_enough_was_seen() {
        let config = MixtureConfig { alpha: Alpha::Moment, first: 0.4, warmup: 2, decay: 0.5 };
        let mut mixture = Mixture::default();
        assert_eq!(mixture.observe(&config, None), 0.4);
        assert_eq!(mixture.observe(&config, Some((1.0, 4.0))), 0.4);
        assert_eq!(mixture.observe(&config, Some((1.0, 4.0))), 0.4);
        assert!((mixture.observe(&config, Some((1.0, 4.0))) - 0.25).abs() < 1e-6);
        assert!((mixture.observe(&config, None) - 0.25).abs() < 1e-6, "nothing new: as before");
        let mut negative = Mixture::default();
        let eager = MixtureConfig { warmup: 0, ..config };
        assert_eq!(negative.observe(&eager, Some((-1.0, 4.0))), 0.0);
        assert_eq!(Mixture::default().observe(&eager, Some((9.0, 4.0))), 1.0);
        assert_eq!(Mixture::default().observe(&eager, Some((1.0, 0.0))), 0.4, "the branches coincide");
        let fixed = MixtureConfig { alpha: Alpha::Fixed(0.7), ..config };
        assert_eq!(mixture.observe(&fixed, Some((0.0, 1.0))), 0.7);
    }
}
