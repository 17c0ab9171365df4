//! Most expected progress.

use serde::{Deserialize, Serialize};

use super::{Allocation, Bounds, Forecast, RolloutBudget, greedy};

/// Sizes with the largest Σ (1 − pⁿ − (1 − p)ⁿ) · p(1 − p)²: the chance that rewards differ, times what is gained then. Hard prompts
/// get many rollouts.
///
/// # Source
/// Knapsack RL, arXiv:2509.25849, which solves it by dynamic programming; the value is concave in n, so going where one more
/// rollout gains most is exact.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Knapsack(pub Bounds);

/// Of n rollouts of a prompt that is solved with chance p.
fn value(n: usize, p: f64) -> f64 {
    let mixed = 1.0 - p.powi(n as i32) - (1.0 - p).powi(n as i32);
    mixed * p * (1.0 - p).powi(2)
}

impl Allocation for Knapsack {
    fn sizes(&self, forecasts: &[Forecast], budget: RolloutBudget) -> Vec<usize> {
        greedy::sizes(forecasts, budget, self.0, |forecast, n| value(n, forecast.mean()))
    }

    fn problem(&self, group_size: usize) -> Option<String> {
        self.0.problem("knapsack", group_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sure(p: f64) -> Forecast {
        Forecast { posterior: (p * 1e9, (1.0 - p) * 1e9), ..Forecast::default() }
    }

    #[test]
    fn sizes_match_the_worked_numbers() {
        assert!((value(8, 0.05) - 0.015_188).abs() < 1e-6 && (value(8, 1.0 / 3.0) - 0.142_345).abs() < 1e-6);
        let knapsack = Knapsack(Bounds { most: 3.0, ..Bounds::default() });
        let sizes =
            knapsack.sizes(&[0.02, 0.1, 0.5, 0.9].map(sure), RolloutBudget { prompts: 4, group_size: 8 });
        assert_eq!(sizes, [2, 21, 7, 2]);
    }

    #[test]
    fn no_other_sizes_are_worth_more() {
        let p = [0.05, 0.3, 0.7];
        let budget = RolloutBudget { prompts: 3, group_size: 5 };
        let found = Knapsack(Bounds { most: 2.0, ..Bounds::default() }).sizes(&p.map(sure), budget);
        let worth = |sizes: &[usize]| sizes.iter().zip(p).map(|(n, p)| value(*n, p)).sum::<f64>();
        for a in 2..=10 {
            for b in 2..=10 {
                let c = 15usize.saturating_sub(a + b);
                if (2..=10).contains(&c) {
                    assert!(worth(&[a, b, c]) <= worth(&found) + 1e-9, "{a} {b} {c} against {found:?}");
                }
            }
        }
    }
}
