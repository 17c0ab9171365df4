//! In proportion to the standard deviation of a rollout's gradient.

use serde::{Deserialize, Serialize};

use super::{Allocation, Bounds, Forecast, RolloutBudget, greedy};

/// Sizes with the least Σ E[w (r − b)²]/n, w = ‖∇ ln π(y | x)‖²: the variance of each prompt's mean gradient, but for the square
/// of its expectation. With b = p and rewards of 0 and 1 that is E[p(1 − p)²] w₊ + E[p²(1 − p)] w₋, w₊ and w₋ being the mean
/// squared norms of right and wrong rollouts at earlier visits, measured exactly, and of the other prompts where a prompt has
/// none.
///
/// # Source
/// CurES, arXiv:2510.01037, which takes the norms of a block of the model; exact norms are ours.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Exact(pub Bounds);

impl Allocation for Exact {
    fn sizes(&self, forecasts: &[Forecast], budget: RolloutBudget) -> Vec<usize> {
        let power = |forecast: &Forecast| {
            let (wrong, right) = forecast.moments();
            wrong * forecast.norms.0 + right * forecast.norms.1
        };
        greedy::sizes(forecasts, budget, self.0, |forecast, n| -power(forecast) / n as f64)
    }

    fn needs_norms(&self) -> bool {
        true
    }

    fn problem(&self, group_size: usize) -> Option<String> {
        self.0.problem("exact", group_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_whose_right_rollouts_have_large_gradients_get_more() {
        let sure = |p: f64, norms| Forecast { posterior: (p * 1e9, (1.0 - p) * 1e9), norms };
        let of = |forecasts: &[Forecast]| {
            Exact::default().sizes(forecasts, RolloutBudget { prompts: forecasts.len(), group_size: 8 })
        };
        assert_eq!(of(&[sure(0.5, (1.0, 1.0)), sure(0.5, (1.0, 1.0))]), [8, 8]);
        // (9 + 1)/2 against 1: n in the ratio √5
        assert_eq!(of(&[sure(0.5, (9.0, 1.0)), sure(0.5, (1.0, 1.0))]), [11, 5]);
        // of a hard prompt the right rollouts weigh by (1 − p)², the wrong ones by p (1 − p)
        let moments = sure(0.25, (1.0, 1.0)).moments();
        assert!((moments.0 - 0.140_625).abs() < 1e-6 && (moments.1 - 0.046_875).abs() < 1e-6);
        assert!((sure(0.25, (1.0, 1.0)).variance().sqrt() - 0.433_013).abs() < 1e-6, "CurES at equal norms");
    }
}
