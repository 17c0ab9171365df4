//! How many rollouts each prompt of a step gets, under a budget that is fixed.
//!
//! Before: [`crate::selection`] has drawn the prompts. After: the sampler draws so many rollouts of each. Prompts count alike in
//! the gradient, however many rollouts they have: that of a prompt is a mean over its own. Sizes that follow from earlier steps
//! alone leave the expected gradient as it is; those that follow from rewards of this step ([`Ada`]) do not, and say how.

mod ada;
mod down_sample;
mod exact;
mod greedy;
mod knapsack;
mod neyman;
mod vip;

pub use ada::Ada;
pub use down_sample::DownSample;
pub use exact::Exact;
pub use knapsack::Knapsack;
pub use neyman::Neyman;
pub use vip::{Estimator, Vip};

use serde::{Deserialize, Serialize};

/// What the past of a prompt lets expect of its next rollouts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// Parameters (a, b) of the Beta posterior of the chance of success; (1, 1) of a prompt that nothing is known of.
    pub posterior: (f64, f64),
    /// Mean ‖∇ ln π(y | x)‖² of right rollouts and of wrong ones; 1 where nothing is known.
    pub norms: (f64, f64),
}

impl Default for Forecast {
    fn default() -> Self {
        Self { posterior: (1.0, 1.0), norms: (1.0, 1.0) }
    }
}

impl Forecast {
    /// Expected chance of success.
    pub fn mean(&self) -> f64 {
        self.posterior.0 / (self.posterior.0 + self.posterior.1)
    }

    /// E[p(1 − p)²] and E[p²(1 − p)] under the posterior.
    fn moments(&self) -> (f64, f64) {
        let (a, b) = self.posterior;
        let n = a + b;
        let common = a * b / (n * (n + 1.0) * (n + 2.0));
        (common * (b + 1.0), common * (a + 1.0))
    }

    /// E[p(1 − p)] under the posterior, the variance of a reward of 0 or 1.
    pub fn variance(&self) -> f64 {
        let (wrong, right) = self.moments();
        wrong + right
    }
}

/// A budget: so many prompts, and as many rollouts as there would be if all had the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolloutBudget {
    /// Prompts, at least 1.
    pub prompts: usize,
    /// Rollouts of a prompt on average, at least 1.
    pub group_size: usize,
}

impl RolloutBudget {
    /// Rollouts of all prompts together.
    pub fn rollouts(&self) -> usize {
        self.prompts * self.group_size
    }
}

/// Least and most rollouts of a prompt, and how much is believed of one that few were seen of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// Least rollouts of a prompt, at least 2: one alone has nothing to be compared with.
    pub least: usize,
    /// Most rollouts of a prompt, as a multiple of `group_size`; at least 1.
    pub most: f64,
    /// Successes and failures that a prompt has in advance, each above 0: with 1 eight failures leave it a third of the variance
    /// of an even one, with 0.1 a twentieth. It has `least` rollouts even so, and one success among them brings it back.
    pub prior: f64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { least: 2, most: 4.0, prior: 1.0 }
    }
}

impl Bounds {
    /// Most rollouts of a prompt under a budget.
    fn most(&self, budget: RolloutBudget) -> usize {
        (self.most * budget.group_size as f64) as usize
    }

    /// What is expected of a prompt with this prior in place of 1 and 1.
    fn forecast(&self, forecast: &Forecast) -> Forecast {
        let (a, b) = forecast.posterior;
        Forecast { posterior: (a - 1.0 + self.prior, b - 1.0 + self.prior), ..*forecast }
    }

    /// What makes no sense of them, with groups of this size on average.
    fn problem(&self, name: &str, group_size: usize) -> Option<String> {
        let Self { least, most, prior } = self;
        if *least < 2 || *least > group_size {
            Some(format!("allocation.{name}.least is {least}; wanted 2 to group_size, which is {group_size}"))
        } else if !(*most >= 1.0 && most.is_finite()) {
            Some(format!("allocation.{name}.most is {most}; wanted at least 1"))
        } else if !(*prior > 0.0 && prior.is_finite()) {
            Some(format!("allocation.{name}.prior is {prior}; wanted more than 0"))
        } else {
            None
        }
    }
}

/// How many rollouts each prompt of a step gets.
///
/// ```
/// use engine::allocation::{Allocation, RolloutBudget, Forecast, Neyman};
///
/// // one prompt that is solved half of the time, one that was solved in each of 98 rollouts
/// let posteriors = [(10.0, 10.0), (99.0, 1.0)];
/// let forecasts = posteriors.map(|posterior| Forecast { posterior, ..Forecast::default() });
/// let sizes = Neyman::default().sizes(&forecasts, RolloutBudget { prompts: 2, group_size: 8 });
/// assert_eq!(sizes, [13, 3]);
/// ```
pub trait Allocation: Send + Sync {
    /// Rollouts of each prompt, one number a forecast, before the step has sampled anything. Their sum is at most the budget's.
    fn sizes(&self, forecasts: &[Forecast], budget: RolloutBudget) -> Vec<usize>;

    /// Rollouts of each prompt that are wanted once these rewards are known, at least as many as there are; the same as
    /// `sizes` if those suffice.
    fn more(&self, sizes: &[usize], rewards: &[Vec<f32>], budget: RolloutBudget) -> Vec<usize> {
        let _ = (rewards, budget);
        sizes.to_vec()
    }

    /// Whether it looks at gradient norms of rollouts.
    fn needs_norms(&self) -> bool {
        false
    }

    /// The first setting that makes no sense, as an error message.
    fn problem(&self, group_size: usize) -> Option<String>;
}

/// How a recipe allocates rollouts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AllocationConfig {
    /// The same number for every prompt.
    #[default]
    Uniform,
    /// A pilot, then rounds for prompts whose rewards are all equal (Reinforce-Ada).
    Ada(Ada),
    /// In proportion to the standard deviation of the reward (Neyman).
    Std(Neyman),
    /// Least variance of the gradient, with rewards of 0 and 1 (VIP).
    Vip(Vip),
    /// Most expected progress, with a preference for hard prompts (Knapsack RL).
    Knapsack(Knapsack),
    /// Least variance of the gradient, with the gradient norms of right and wrong rollouts (CurES).
    Exact(Exact),
}

/// The same number for every prompt.
struct Uniform;

impl Allocation for Uniform {
    fn sizes(&self, forecasts: &[Forecast], budget: RolloutBudget) -> Vec<usize> {
        vec![budget.group_size; forecasts.len()]
    }

    fn problem(&self, _: usize) -> Option<String> {
        None
    }
}

impl AllocationConfig {
    /// Every choice with its defaults.
    pub fn all() -> Vec<Self> {
        vec![
            Self::Uniform,
            Self::Ada(Ada::default()),
            Self::Std(Neyman::default()),
            Self::Vip(Vip::default()),
            Self::Knapsack(Knapsack::default()),
            Self::Exact(Exact::default()),
        ]
    }

    /// As recipes spell it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Ada(_) => "ada",
            Self::Std(_) => "std",
            Self::Vip(_) => "vip",
            Self::Knapsack(_) => "knapsack",
            Self::Exact(_) => "exact",
        }
    }

    /// The allocation with these settings.
    pub fn build(&self) -> &dyn Allocation {
        match self {
            Self::Uniform => &Uniform,
            Self::Ada(ada) => ada,
            Self::Std(neyman) => neyman,
            Self::Vip(vip) => vip,
            Self::Knapsack(knapsack) => knapsack,
            Self::Exact(exact) => exact,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::{BaselineConfig, Group, advantages};
    use crate::batch::{Batch, Row};
    use crate::objective::Aggregate;

    fn row() -> Row {
        Row {
            prompt_tokens: std::sync::Arc::from([1u32]),
            tokens: vec![2],
            sampled_log_probs: vec![0.0],
            forced: vec![],
            reward: Some(0.0),
            trains: true,
            advantages: vec![],
        }
    }

    #[test]
    fn sizes_that_the_past_decides_leave_the_expected_gradient_as_it_is() {
        // two prompts of one action that is right with chance p, whose score is 1 − p or −p; all outcomes of 2 and 4 rollouts
        let (chances, sizes) = ([0.2f64, 0.7], [2usize, 4]);
        let batch = Batch::from_rows(vec![row(); 6], &sizes);
        let shares = batch.shares(&(0..2));
        let weights = Aggregate::Constant { tokens: 1 }.weights(&[1; 6], &shares);
        let mut expected = 0.0;
        for outcome in 0..1u32 << 6 {
            let rewards: Vec<f32> = (0..6).map(|row| (outcome >> row & 1) as f32).collect();
            let (mut chance, mut gradient) = (1.0, 0.0);
            for (group, p) in batch.groups.iter().zip(chances) {
                let of_group = &rewards[group.rows.clone()];
                let group_inputs = Group { rewards: of_group, ..Group::default() };
                let advantages = advantages(BaselineConfig::LeaveOneOut.build(), &group_inputs);
                for ((row, reward), advantage) in group.rows.clone().zip(of_group).zip(advantages) {
                    chance *= if *reward > 0.5 { p } else { 1.0 - p };
                    gradient += f64::from(weights[row] * advantage) * (f64::from(*reward) - p);
                }
            }
            expected += chance * gradient;
        }
        let wanted = chances.iter().map(|p| p * (1.0 - p)).sum::<f64>() / 2.0;
        assert!((expected - wanted).abs() < 1e-6, "{expected} is not {wanted}");
    }

    #[test]
    fn sizes_keep_the_budget_and_the_bounds_whatever_is_expected() {
        let mut state = 1u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / (1u64 << 31) as f64
        };
        for trial in 0..200 {
            let prompts = 1 + trial % 9;
            let forecast = |_| Forecast {
                posterior: (1.0 + 20.0 * uniform(), 1.0 + 20.0 * uniform()),
                norms: (uniform(), uniform()),
            };
            let forecasts: Vec<Forecast> = (0..prompts).map(forecast).collect();
            let budget = RolloutBudget { prompts, group_size: 4 + trial % 5 };
            for config in AllocationConfig::all() {
                let allocation = config.build();
                assert_eq!(allocation.problem(budget.group_size), None, "{config:?}");
                let sizes = allocation.sizes(&forecasts, budget);
                assert_eq!(sizes.len(), prompts);
                assert!(
                    sizes.iter().all(|n| (2..=4 * budget.group_size).contains(n)),
                    "{config:?}: {sizes:?}"
                );
                let all: usize = sizes.iter().sum();
                let whole = !matches!(config, AllocationConfig::Ada(_));
                assert!(
                    if whole { all == budget.rollouts() } else { all <= budget.rollouts() },
                    "{config:?}"
                );
                let text = serde_json::to_string(&config).expect("JSON");
                assert_eq!(serde_json::from_str::<AllocationConfig>(&text).expect("config"), config);
            }
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let neyman =
            |least, most| Neyman(Bounds { least, most, ..Bounds::default() }).problem(8).expect("refused");
        assert_eq!(neyman(1, 4.0), "allocation.std.least is 1; wanted 2 to group_size, which is 8");
        assert_eq!(neyman(9, 4.0), "allocation.std.least is 9; wanted 2 to group_size, which is 8");
        assert_eq!(neyman(2, f64::NAN), "allocation.std.most is NaN; wanted at least 1");
        let ada = Ada { pilot: 9, most: 4.0 }.problem(8).expect("refused");
        assert_eq!(ada, "allocation.ada.pilot is 9; wanted 2 to group_size, which is 8");
    }
}
