//! In proportion to the standard deviation of the reward.

use serde::{Deserialize, Serialize};

use super::{Allocation, Bounds, Forecast, RolloutBudget, greedy};

/// Neyman's allocation: sizes with the least Σ E[p(1 − p)]/n, hence n ∝ √E[p(1 − p)] up to the bounds and to whole numbers.
/// Expectations are over the posterior, so a prompt of which little is known is not given up.
///
/// # Source
/// Neyman (1934), stratified sampling; for reinforcement learning with rewards of 0 and 1 in GVM and CurES, arXiv:2510.01037.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Neyman(pub Bounds);

impl Allocation for Neyman {
    fn sizes(&self, forecasts: &[Forecast], budget: RolloutBudget) -> Vec<usize> {
        greedy::sizes(forecasts, budget, self.0, |forecast, n| -forecast.variance() / n as f64)
    }

    fn problem(&self, group_size: usize) -> Option<String> {
        self.0.problem("std", group_size)
    }
}
