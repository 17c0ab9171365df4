//! A pilot, then rounds for prompts that say nothing yet.

use serde::{Deserialize, Serialize};

use super::{Allocation, Forecast, RolloutBudget};
use crate::baseline::is_equal;

/// A pilot of every prompt; then, as long as the budget lasts, rounds of the same size for prompts whose rewards are all equal.
/// All rollouts of a prompt are one group.
///
/// When to end is decided by the rewards that are trained on, so the expected gradient is not the prompts' mean. With rewards
/// of 0 and 1 and a leave-one-out baseline it is each prompt's own, times a factor of its chance of success that grows from ½
/// towards 0 and 1: with a pilot of 4 and at most 16 rollouts 1.10 at p = 0.5, 1.19 at 0.3, 1.58 at 0.1, 1.79 at 0.05 (by
/// enumeration). So a prompt's direction stays, and hard and easy prompts count more.
///
/// # Source
/// Reinforce-Ada, arXiv:2510.04996, whose variant trains on a balanced part of what was sampled; the factor is ours.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Ada {
    /// Rollouts of a round, at least 2: one alone has nothing to be compared with.
    pub pilot: usize,
    /// Most rollouts of a prompt, as a multiple of `group_size`; at least 1.
    pub most: f64,
}

impl Default for Ada {
    fn default() -> Self {
        Self { pilot: 4, most: 4.0 }
    }
}

impl Allocation for Ada {
    fn sizes(&self, forecasts: &[Forecast], budget: RolloutBudget) -> Vec<usize> {
        vec![self.pilot.min(budget.group_size); forecasts.len()]
    }

    fn more(&self, sizes: &[usize], rewards: &[Vec<f32>], budget: RolloutBudget) -> Vec<usize> {
        let most = (self.most * budget.group_size as f64) as usize;
        let mut left = (sizes.len() * budget.group_size).saturating_sub(sizes.iter().sum());
        let more = |(size, rewards): (&usize, &Vec<f32>)| {
            let silent = rewards.len() < 2 || is_equal(rewards);
            let wanted = if silent { self.pilot.min(most.saturating_sub(*size)).min(left) } else { 0 };
            left -= wanted;
            size + wanted
        };
        sizes.iter().zip(rewards).map(more).collect()
    }

    fn problem(&self, group_size: usize) -> Option<String> {
        let Self { pilot, most } = self;
        if *pilot < 2 || *pilot > group_size {
            Some(format!("allocation.ada.pilot is {pilot}; wanted 2 to group_size, which is {group_size}"))
        } else if !(*most >= 1.0 && most.is_finite()) {
            Some(format!("allocation.ada.most is {most}; wanted at least 1"))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_go_on_until_rewards_differ_or_the_budget_ends() {
        let ada = Ada { pilot: 2, most: 2.0 };
        let budget = RolloutBudget { prompts: 3, group_size: 4 };
        let mut sizes = ada.sizes(&[Forecast::default(); 3], budget);
        assert_eq!(sizes, [2, 2, 2]);
        sizes = ada.more(&sizes, &[vec![0.0, 1.0], vec![0.0; 2], vec![1.0; 2]], budget);
        assert_eq!(sizes, [2, 4, 4]);
        sizes = ada.more(&sizes, &[vec![0.0, 1.0], vec![0.0; 4], vec![1.0; 4]], budget);
        assert_eq!(sizes, [2, 6, 4], "the budget is 12 in all");
        assert_eq!(ada.more(&sizes, &[vec![0.0, 1.0], vec![0.0; 6], vec![1.0; 4]], budget), sizes);
        // no prompt beyond the most, and one whose rewards are all absent goes on
        assert_eq!(
            ada.more(&[8, 2], &[vec![0.0; 8], vec![]], RolloutBudget { prompts: 2, group_size: 8 }),
            [10, 4]
        );
        assert_eq!(
            ada.more(&[8, 2], &[vec![0.0; 8], vec![]], RolloutBudget { prompts: 2, group_size: 4 }),
            [8, 2]
        );
    }

    /// E[s f / (n (n − 1))] over where it ends, s of n rollouts having been solved: what leave-one-out makes of p(1 − p).
    fn expected(ada: &Ada, most: usize, p: f64, (solved, n): (usize, usize), chance: f64) -> f64 {
        let mut sum = 0.0;
        let size = if n == 0 { ada.pilot } else { ada.pilot.min(most - n) };
        for new in 0..=size {
            let ways = (0..new).fold(1.0, |ways, i| ways * (size - i) as f64 / (i + 1) as f64);
            let chance = chance * ways * p.powi(new as i32) * (1.0 - p).powi((size - new) as i32);
            let (solved, n) = (solved + new, n + size);
            if (solved == 0 || solved == n) && n < most {
                sum += expected(ada, most, p, (solved, n), chance);
            } else {
                sum += chance * (solved * (n - solved)) as f64 / (n * (n - 1)) as f64;
            }
        }
        sum
    }

    #[test]
    fn the_factor_of_a_prompts_gradient_is_as_documented() {
        let ada = Ada::default();
        for (p, factor) in [(0.5, 1.103), (0.3, 1.189), (0.1, 1.581), (0.05, 1.790)] {
            let found = expected(&ada, 16, p, (0, 0), 1.0) / (p * (1.0 - p));
            assert!((found - factor).abs() < 5e-4, "{p}: {found}");
            let other = expected(&ada, 16, 1.0 - p, (0, 0), 1.0) / (p * (1.0 - p));
            assert!((found - other).abs() < 1e-9, "right and wrong are treated alike");
            let fixed = expected(&ada, 4, p, (0, 0), 1.0) / (p * (1.0 - p));
            assert!((fixed - 1.0).abs() < 1e-12, "without rounds it is unbiased");
        }
    }
}
