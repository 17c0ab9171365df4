//! Rewards become advantages.
//!
//! Before: rewards have scored a group, and the log-prob pass or the ledger has weighed its rollouts. After:
//! [`crate::objective`] weighs log-probs with the advantages. A baseline sees one group at a time, and only the rollouts
//! whose reward is known.

mod history;
mod optimal;
mod scale;
mod token;
mod weights;

pub use history::History;
pub use optimal::{Mode, Optimal, Shrink, ShrinkEstimate};
pub use scale::{Scale, rescale};
pub(crate) use scale::{divisor, largest};
pub use token::{Tail, Token};
pub use weights::{RowWeights, Weights};

use serde::{Deserialize, Serialize};

/// All that a baseline may look at: the rollouts of one prompt that have a reward. Shape `(group,)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Group<'a> {
    /// In units of reward.
    pub rewards: &'a [f32],
    /// ‖∇ ln π(y | x)‖² of each rollout or what stands for it, see [`Weights`]; at least 0, and as many as rewards.
    pub weights: &'a [f64],
    /// What is known of this prompt's reward without this group, see [`Needs::prior`].
    pub prior: Option<f32>,
    /// Reward of this prompt's greedy rollout, see [`Needs::greedy`].
    pub greedy: Option<f32>,
    /// ‖onehot(token) − π‖² of every token of each rollout, see [`Needs::token_norms`].
    pub token_norms: &'a [Vec<f32>],
    /// What the other groups of the batch say, see [`Needs::others`].
    pub others: Option<Others>,
}

/// Rewards of a batch's other groups. Without two of them there is nothing to say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Others {
    /// Mean over groups of their mean reward.
    pub mean: f64,
    /// Variance of a rollout's reward within its group, unbiased, mean over groups of at least 2.
    pub within: f64,
    /// Mean square of what group means differ from their mean by, or from what was known of them where every group's past is known.
    pub between: f64,
    /// What `within` adds to that by chance: mean over groups of within / size.
    pub chance: f64,
}

/// What a baseline asks for beside rewards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// How rollouts are weighed.
    pub weights: Weights,
    /// The running mean of what its past groups taught ([`Baseline::prior_update`]), or the mean reward of the batch's other
    /// groups while there are none.
    pub prior: bool,
    /// One more rollout a prompt, greedy, which does not train.
    pub greedy: bool,
    /// Norms of single tokens, from the log-prob pass.
    pub token_norms: bool,
    /// How rewards of the batch's other groups vary within groups and between them.
    pub others: bool,
}

impl Needs {
    /// Whether rollouts are measured by their gradients, or by what stands for them: then all of a completion's tokens must
    /// be the policy's own, and all rows have one normaliser.
    pub fn measures_completions(self) -> bool {
        self.weights != Weights::Uniform || self.token_norms
    }
}

/// Something subtracted from the reward to lower the variance of the policy gradient.
pub trait Baseline: Send + Sync {
    /// In units of reward. Shape `(group,)`; the group is not empty.
    fn baselines(&self, group: &Group<'_>) -> Vec<f32>;

    /// A baseline for every token of each rollout, where it is not the same for all; the rollouts' rewards count from
    /// every token on.
    fn token_baselines(&self, _: &Group<'_>) -> Option<Vec<Vec<f32>>> {
        None
    }

    /// What of this group is worth knowing at the prompt's next visit, as its [`Group::prior`]. In units of reward.
    fn prior_update(&self, group: &Group<'_>) -> f32 {
        mean(group.rewards)
    }

    /// What it asks for beside rewards.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Whether all rollouts of a group have the same baseline.
    fn is_constant(&self) -> bool {
        false
    }

    /// Whether rewards of a group are compared with each other: then a group has at least 2 rollouts.
    fn compares(&self) -> bool {
        true
    }

    /// Whether they are compared with each other and with nothing else: where they are all equal, advantages are 0.
    fn is_within_group(&self) -> bool {
        let needs = self.needs();
        self.compares() && !needs.prior && !needs.greedy && !needs.others
    }

    /// The first setting that makes no sense, as an error message.
    fn problem(&self) -> Option<String> {
        None
    }
}

/// Which baseline a recipe chose.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BaselineConfig {
    /// Nothing is subtracted.
    None,
    /// The group's mean reward. It contains the rollout's own reward, so the gradient is shrunk by 1/group_size
    /// (arXiv:2402.03300, GRPO).
    #[default]
    GroupMean,
    /// The mean reward of the others in the group: unbiased (arXiv:2402.14740, RLOO). 0 for a group of one.
    LeaveOneOut,
    /// The weighted mean of least variance.
    Optimal(Optimal),
    /// The same for every token.
    Token(Token),
    /// The reward of the greedy rollout: unbiased, one more rollout a prompt (arXiv:2310.10505, ReMax). Where that reward is
    /// absent, the mean reward of the batch's other groups.
    Greedy,
    /// The mean reward of the prompt's past groups.
    History(History),
}

impl BaselineConfig {
    /// As recipes spell it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::GroupMean => "group_mean",
            Self::LeaveOneOut => "leave_one_out",
            Self::Optimal(_) => "optimal",
            Self::Token(_) => "token",
            Self::Greedy => "greedy",
            Self::History(_) => "history",
        }
    }

    /// The chosen baseline.
    pub fn build(&self) -> &dyn Baseline {
        match self {
            Self::None => &Simple::None,
            Self::GroupMean => &Simple::GroupMean,
            Self::LeaveOneOut => &Simple::LeaveOneOut,
            Self::Optimal(baseline) => baseline,
            Self::Token(baseline) => baseline,
            Self::Greedy => &Simple::Greedy,
            Self::History(baseline) => baseline,
        }
    }
}

/// Those without settings.
enum Simple {
    None,
    GroupMean,
    LeaveOneOut,
    Greedy,
}

impl Baseline for Simple {
    fn baselines(&self, group: &Group<'_>) -> Vec<f32> {
        let (n, mean) = (group.rewards.len(), mean(group.rewards));
        match self {
            Self::None => vec![0.0; n],
            Self::GroupMean => vec![mean; n],
            Self::LeaveOneOut if n == 1 => vec![0.0],
            Self::LeaveOneOut => {
                group.rewards.iter().map(|r| (n as f32 * mean - r) / (n as f32 - 1.0)).collect()
            }
            Self::Greedy => vec![group.greedy.unwrap_or(0.0); n],
        }
    }

    fn needs(&self) -> Needs {
        Needs { greedy: matches!(self, Self::Greedy), ..Needs::default() }
    }

    fn compares(&self) -> bool {
        matches!(self, Self::GroupMean | Self::LeaveOneOut)
    }
}

/// Reward minus baseline of one group, `(group,)`, in units of reward.
///
/// A group of several whose rewards are all equal has advantages of exactly 0, whatever rounding would make of them,
/// unless the baseline comes from outside the group ([`Baseline::is_within_group`]).
pub fn advantages(baseline: &dyn Baseline, group: &Group<'_>) -> Vec<f32> {
    if baseline.is_within_group() && is_equal(group.rewards) {
        return vec![0.0; group.rewards.len()];
    }
    let baselines = baseline.baselines(group);
    group.rewards.iter().zip(baselines).map(|(reward, baseline)| reward - baseline).collect()
}

/// Whether several rewards are all the same.
pub fn is_equal(rewards: &[f32]) -> bool {
    rewards.len() > 1 && rewards.iter().all(|reward| *reward == rewards[0])
}

fn mean(values: &[f32]) -> f32 {
    (values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const REWARDS: [f32; 5] = [1.0, 0.0, 0.0, 1.0, 0.0];

    fn of(baseline: &BaselineConfig, rewards: &[f32]) -> Vec<f32> {
        let weights = vec![1.0; rewards.len()];
        advantages(baseline.build(), &Group { rewards, weights: &weights, ..Group::default() })
    }

    pub(super) fn close(found: &[f32], wanted: &[f32]) {
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(wanted) {
            assert!((found - wanted).abs() < 2e-6, "{found} is not {wanted}");
        }
    }

    #[test]
    fn advantages_match_the_published_formulas() {
        use BaselineConfig::*;
        close(&of(&GroupMean, &REWARDS), &[0.6, -0.4, -0.4, 0.6, -0.4]);
        close(&of(&LeaveOneOut, &REWARDS), &[0.75, -0.5, -0.5, 0.75, -0.5]);
        close(&of(&None, &REWARDS), &REWARDS);
        let greedy = Group { rewards: &REWARDS, greedy: Some(1.0), ..Group::default() };
        close(&advantages(Greedy.build(), &greedy), &[0.0, -1.0, -1.0, 0.0, -1.0]);
    }

    #[test]
    fn group_mean_advantages_are_leave_one_out_shrunk_by_one_over_group_size() {
        let others: Vec<f32> = of(&BaselineConfig::LeaveOneOut, &REWARDS).iter().map(|a| a * 0.8).collect();
        close(&of(&BaselineConfig::GroupMean, &REWARDS), &others);
    }

    #[test]
    fn equal_rewards_give_exactly_zero() {
        for baseline in [BaselineConfig::GroupMean, BaselineConfig::LeaveOneOut] {
            assert_eq!(of(&baseline, &[0.1; 7]), [0.0; 7]);
        }
        assert_eq!(of(&BaselineConfig::None, &[0.5; 3]), [0.5; 3], "nothing is subtracted");
    }

    #[test]
    fn a_group_of_one_keeps_its_reward_without_others_to_compare() {
        assert_eq!(of(&BaselineConfig::LeaveOneOut, &[2.0]), [2.0]);
    }
}
