//! Shares of two branches of policy gradients: which one errs least.
//!
//! Before: inner products between the gradients of independent steps of both branches. After: `evenkeel variance` prints
//! the best share, by formula and as measured.

use serde::Serialize;

use super::figure::{Figure, Sums};

/// What a mixture of two branches does at some share of the first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MixedError {
    /// α.
    pub alpha: f64,
    /// E‖α g_t + (1 − α) g_e − E g_t‖².
    pub error: Figure,
    /// tr Var of the mixture.
    pub variance: Figure,
}

/// What was found of a mixture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MixtureFindings {
    /// α from the moments of one half of the steps.
    pub alpha: Figure,
    /// The α of the grid with the least error, on the other half.
    pub best_on_grid: f64,
    /// The error's minimum on that half between grid points, with its interval.
    pub best: Figure,
    /// The grid, on that half.
    pub grid: Vec<MixedError>,
}

/// Compares shares of two branches, whose gradients of independent steps have these inner products: `(2 steps, 2 steps)`,
/// the thinking branch's steps first. The target is the thinking branch's expectation.
///
/// # Panics
/// If there are fewer than eight steps.
pub fn mixture(gram: &[f32], steps: usize) -> MixtureFindings {
    assert!(steps >= 8 && gram.len() == 4 * steps * steps, "two branches of at least eight steps");
    let product = |a: usize, b: usize| f64::from(gram[a * 2 * steps + b]);
    // sums over steps of one half: ⟨t, t⟩, ⟨e, e⟩ and ⟨t, e⟩
    let sums = |half: std::ops::Range<usize>| -> [Sums; 3] {
        let of = |a: usize, b: usize| -> Sums {
            let line = |i: usize| half.clone().map(|j| product(a * steps + i, b * steps + j)).collect();
            Sums::new(&half.clone().map(line).collect::<Vec<Vec<f64>>>())
        };
        [of(0, 0), of(1, 1), of(0, 1)]
    };
    // (distance², Var t, Var e, Cov) without one step
    let moments = |sums: &[Sums; 3], without: Option<usize>| {
        let [(tt, t), (ee, e), (te, both)] = [0, 1, 2].map(|i| sums[i].means(without));
        (tt + ee - 2.0 * te, t - tt, e - ee, both - te)
    };
    let best = |sums: &[Sums; 3], without: Option<usize>| {
        let (distance, t, e, both) = moments(sums, without);
        ((distance + e - both) / (distance + t + e - 2.0 * both)).clamp(0.0, 1.0)
    };
    let jackknife = |count: usize, f: &dyn Fn(Option<usize>) -> f64| -> Figure {
        let value = f(None);
        let left: Vec<f64> = (0..count).map(|step| f(Some(step))).collect();
        let mean = left.iter().sum::<f64>() / count as f64;
        let spread: f64 = left.iter().map(|x| (x - mean).powi(2)).sum();
        Figure::new(value, (count as f64 - 1.0) / count as f64 * spread)
    };
    let middle = steps / 2;
    let (first, second) = (sums(0..middle), sums(middle..steps));
    let rest = steps - middle;
    let grid: Vec<MixedError> = (0..=20)
        .map(|point| {
            let alpha = f64::from(point) / 20.0;
            let variance = |without: Option<usize>| {
                let (_, t, e, both) = moments(&second, without);
                alpha * alpha * t + (1.0 - alpha).powi(2) * e + 2.0 * alpha * (1.0 - alpha) * both
            };
            let error = |without: Option<usize>| {
                (1.0 - alpha).powi(2) * moments(&second, without).0 + variance(without)
            };
            let [error, variance]: [&dyn Fn(Option<usize>) -> f64; 2] = [&error, &variance];
            let [error, variance] = [error, variance].map(|f| jackknife(rest, f).not_negative());
            MixedError { alpha, error, variance }
        })
        .collect();
    let least = grid.iter().min_by(|a, b| a.error.value.total_cmp(&b.error.value));
    MixtureFindings {
        alpha: jackknife(middle, &|without| best(&first, without)).of_a_share(),
        best_on_grid: least.map_or(0.0, |point| point.alpha),
        best: jackknife(rest, &|without| best(&second, without)).of_a_share(),
        grid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn a_mixture_of_known_moments_is_found() {
        // t = (0.5 + noise, 0), e = (0, 0.4 + noise): distance² 0.41, variances 2/3 and 1/3
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let steps = 400;
        let mut uniform = |width: f64| (2.0 * rng.random::<f64>() - 1.0) * width;
        let mut vectors: Vec<[f64; 2]> = (0..steps).map(|_| [0.5 + uniform(2f64.sqrt()), 0.0]).collect();
        vectors.extend((0..steps).map(|_| [0.0, 0.4 + uniform(1.0)]));
        let inner = |a: &[f64; 2], b: &[f64; 2]| (a[0] * b[0] + a[1] * b[1]) as f32;
        let gram: Vec<f32> = vectors.iter().flat_map(|a| vectors.iter().map(move |b| inner(a, b))).collect();
        let found = mixture(&gram, steps);
        let (distance, t, e) = (0.41, 2.0 / 3.0, 1.0 / 3.0);
        let wanted = (distance + e) / (distance + t + e);
        assert!(found.alpha.holds(wanted) && found.best.holds(wanted), "{found:?} {wanted}");
        assert!((found.best_on_grid - found.best.value).abs() <= 0.025 + 1e-9);
        let end = &found.grid[20];
        assert!(end.error.holds(t) && end.variance.holds(t), "{end:?}");
        assert!(found.grid[0].error.holds(distance + e), "{:?}", found.grid[0]);
    }
}
