//! Rewards become advantages.
//!
//! Before: rewards have scored a group. After: [`crate::objective`] weighs log-probs with the advantages. A baseline
//! sees one group at a time, and only the rollouts whose reward is known.

use serde::{Deserialize, Serialize};

/// All that a baseline may look at: the rollouts of one prompt. Shape `(group,)`.
pub struct Group<'a> {
    /// In units of reward; only rollouts that have one.
    pub rewards: &'a [f32],
}

/// Something subtracted from the reward to lower the variance of the policy gradient.
pub trait Baseline: Send + Sync {
    /// In units of reward. Shape `(group,)`; the group is not empty.
    fn baselines(&self, group: &Group<'_>) -> Vec<f32>;
}

/// Which baseline a recipe chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaselineConfig {
    /// The group's mean reward. It contains the rollout's own reward, so the gradient is shrunk by 1/group_size
    /// (arXiv:2402.03300, GRPO).
    #[default]
    GroupMean,
    /// The mean reward of the others in the group: unbiased (arXiv:2402.14740, RLOO). 0 for a group of one.
    LeaveOneOut,
}

impl Baseline for BaselineConfig {
    fn baselines(&self, group: &Group<'_>) -> Vec<f32> {
        let (n, mean) = (group.rewards.len(), mean(group.rewards));
        match self {
            Self::GroupMean => vec![mean; n],
            Self::LeaveOneOut if n == 1 => vec![0.0],
            Self::LeaveOneOut => {
                group.rewards.iter().map(|r| (n as f32 * mean - r) / (n as f32 - 1.0)).collect()
            }
        }
    }
}

/// What an advantage is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// The group's standard deviation with Bessel's correction, plus 1e-4, as in TRL. Weighs prompts by
    /// 1/√(p(1−p)) for rewards of 0 and 1.
    #[default]
    Group,
    /// Nothing (arXiv:2503.20783, Dr. GRPO).
    None,
}

/// Added to a standard deviation before dividing by it.
const SCALE_EPSILON: f32 = 1e-4;

/// The advantages of one group, `(group,)`; `None` where the reward is absent.
///
/// A group whose known rewards are all equal has advantages of exactly 0, whatever rounding would make of them.
pub fn advantages(baseline: &dyn Baseline, scale: Scale, rewards: &[Option<f32>]) -> Vec<Option<f32>> {
    let known: Vec<f32> = rewards.iter().copied().flatten().collect();
    let Some(first) = known.first() else { return vec![None; rewards.len()] };
    let mut values = if known.iter().all(|reward| reward == first) && known.len() > 1 {
        vec![0.0; known.len()]
    } else {
        let divisor = match scale {
            Scale::Group if known.len() > 1 => deviation(&known) + SCALE_EPSILON,
            _ => 1.0,
        };
        let baselines = baseline.baselines(&Group { rewards: &known });
        known.iter().zip(baselines).map(|(reward, baseline)| (reward - baseline) / divisor).collect()
    }
    .into_iter();
    rewards.iter().map(|reward| reward.and_then(|_| values.next())).collect()
}

fn mean(values: &[f32]) -> f32 {
    (values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64) as f32
}

/// Standard deviation with Bessel's correction.
fn deviation(values: &[f32]) -> f32 {
    let mean = f64::from(mean(values));
    let sum: f64 = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum();
    (sum / (values.len() as f64 - 1.0)).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: [Option<f32>; 5] = [Some(1.0), Some(0.0), Some(0.0), Some(1.0), Some(0.0)];

    fn close(found: &[Option<f32>], wanted: &[f32]) {
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(wanted) {
            let found = found.expect("known");
            assert!((found - wanted).abs() < 2e-6, "{found} is not {wanted}");
        }
    }

    #[test]
    fn advantages_match_the_published_formulas() {
        use BaselineConfig::*;
        close(&advantages(&GroupMean, Scale::None, &GROUP), &[0.6, -0.4, -0.4, 0.6, -0.4]);
        close(&advantages(&LeaveOneOut, Scale::None, &GROUP), &[0.75, -0.5, -0.5, 0.75, -0.5]);
        let d = 0.547_722_6 + 1e-4;
        close(&advantages(&GroupMean, Scale::Group, &GROUP), &[0.6, -0.4, -0.4, 0.6, -0.4].map(|a| a / d));
    }

    #[test]
    fn group_mean_advantages_are_leave_one_out_shrunk_by_one_over_group_size() {
        let mean = advantages(&BaselineConfig::GroupMean, Scale::None, &GROUP);
        let others: Vec<f32> = advantages(&BaselineConfig::LeaveOneOut, Scale::None, &GROUP)
            .iter()
            .map(|a| a.expect("known") * 0.8)
            .collect();
        close(&mean, &others);
    }

    #[test]
    fn equal_rewards_give_exactly_zero() {
        for baseline in [BaselineConfig::GroupMean, BaselineConfig::LeaveOneOut] {
            for scale in [Scale::Group, Scale::None] {
                assert_eq!(advantages(&baseline, scale, &[Some(0.1); 7]), [Some(0.0); 7]);
            }
        }
    }

    #[test]
    fn an_absent_reward_is_left_out_and_not_zero() {
        let rewards = [Some(1.0), None, Some(0.0)];
        let found = advantages(&BaselineConfig::GroupMean, Scale::None, &rewards);
        assert_eq!(found, [Some(0.5), None, Some(-0.5)]);
        assert_eq!(advantages(&BaselineConfig::GroupMean, Scale::Group, &[None, None]), [None, None]);
    }

    #[test]
    fn a_group_of_one_keeps_its_reward_without_others_to_compare() {
        assert_eq!(advantages(&BaselineConfig::LeaveOneOut, Scale::Group, &[Some(2.0)]), [Some(2.0)]);
    }

    #[test]
    fn advantages_do_not_depend_on_an_offset_of_the_rewards() {
        let shifted = GROUP.map(|r| r.map(|r| r + 8.0));
        for baseline in [BaselineConfig::GroupMean, BaselineConfig::LeaveOneOut] {
            let plain: Vec<f32> =
                advantages(&baseline, Scale::Group, &GROUP).into_iter().map(|a| a.expect("known")).collect();
            close(&advantages(&baseline, Scale::Group, &shifted), &plain);
        }
    }
}
