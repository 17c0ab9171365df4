//! Least variance of the gradient under equal gradient norms.

use serde::{Deserialize, Serialize};

use super::{Allocation, Bounds, Forecast, RolloutBudget, greedy};

/// Sizes with the least Σ over prompts of the variance of their gradient, if all rollouts had gradients of the same size: for
/// leave-one-out E[p(1 − p)]/(n − 1), for the group's mean E[p(1 − p)]·(n − 1)/n².
///
/// # Source
/// VIP, arXiv:2602.01601. There p comes from a Gaussian process over embeddings, and the released code adds a preference for
/// hard prompts; here it is the prompt's own posterior, and nothing is added.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Vip {
    /// Whose variance it is.
    pub estimator: Estimator,
    /// Least and most rollouts of a prompt.
    pub bounds: Bounds,
}

/// The estimator whose variance is to be least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// Rewards less the mean of the others' (RLOO).
    #[default]
    LeaveOneOut,
    /// Rewards less the group's mean (Dr. GRPO); its groups have at least 3 rollouts.
    GroupMean,
}

impl Vip {
    fn variance(&self, forecast: &Forecast, n: usize) -> f64 {
        let n = n as f64;
        match self.estimator {
            Estimator::LeaveOneOut => forecast.variance() / (n - 1.0),
            Estimator::GroupMean => forecast.variance() * (n - 1.0) / (n * n),
        }
    }

    /// The bounds, where the gain of one more rollout falls with their number.
    fn bounds(&self) -> Bounds {
        let least = match self.estimator {
            Estimator::LeaveOneOut => 2,
            Estimator::GroupMean => 3,
        };
        Bounds { least: self.bounds.least.max(least), ..self.bounds }
    }
}

impl Allocation for Vip {
    fn sizes(&self, forecasts: &[Forecast], budget: RolloutBudget) -> Vec<usize> {
        greedy::sizes(forecasts, budget, self.bounds(), |forecast, n| -self.variance(forecast, n))
    }

    fn problem(&self, group_size: usize) -> Option<String> {
        self.bounds().problem("vip.bounds", group_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of variances, and the sizes, of the paper's setting: p = .1, .3, .5 and .9, 32 rollouts.
    fn of(estimator: Estimator) -> (f64, Vec<usize>) {
        let sure = |p: f64| Forecast { posterior: (p * 1e9, (1.0 - p) * 1e9), ..Forecast::default() };
        let forecasts = [0.1, 0.3, 0.5, 0.9].map(sure);
        let vip = Vip { estimator, ..Vip::default() };
        let sizes = vip.sizes(&forecasts, RolloutBudget { prompts: 4, group_size: 8 });
        let sum = forecasts.iter().zip(&sizes).map(|(f, n)| vip.variance(f, *n)).sum();
        (sum, sizes)
    }

    #[test]
    fn whole_numbers_are_next_to_the_closed_forms() {
        // leave-one-out (6.391, 9.234, 9.984, 6.391) with .08672; group mean (5.772, 9.721, 10.735, 5.772) with .06628
        let (variance, sizes) = of(Estimator::LeaveOneOut);
        assert_eq!(sizes, [7, 9, 10, 6]);
        assert!((0.086_72..0.086_72 * 1.005).contains(&variance), "{variance}");
        let (variance, sizes) = of(Estimator::GroupMean);
        assert_eq!(sizes, [6, 10, 10, 6]);
        assert!((0.066_28..0.066_28 * 1.005).contains(&variance), "{variance}");
    }
}
