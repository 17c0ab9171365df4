//! What advantages are divided by.

use serde::{Deserialize, Serialize};

/// What an advantage is divided by.
///
/// A deviation says how far rewards lie apart, and so what a distance between two of them is worth. A baseline from outside
/// the group can lie much farther from all of them: of such a distance it says nothing, and rewards that are equal, or
/// nearly so, would have their advantages multiplied by up to 10⁴. So equal rewards divide by nothing, and where an
/// advantage exceeds the range of the rewards, none is made larger than the range is worth, at most √(2(n − 1)), or than it
/// was. Advantages about a mean of the rewards themselves never come there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// The standard deviation of the group's rewards with Bessel's correction, plus 1e-4, as in TRL. Weighs prompts by
    /// 1/√(p(1−p)) for rewards of 0 and 1.
    #[default]
    Group,
    /// The standard deviation of the whole batch's rewards, likewise (arXiv:2508.08221, Lite PPO).
    Batch,
    /// The mean over all tokens of the batch is subtracted, and the rest divided by √(variance + 1e-8), with Bessel's
    /// correction (arXiv:2501.03262, REINFORCE++).
    Whiten,
    /// Nothing (arXiv:2503.20783, Dr. GRPO).
    None,
}

/// Added to a standard deviation before dividing by it.
const EPSILON: f32 = 1e-4;

impl Scale {
    /// Whether it looks beyond a group.
    pub fn is_global(self) -> bool {
        matches!(self, Self::Batch | Self::Whiten)
    }
}

/// What the advantages of rollouts with these rewards are divided by, where that is one standard deviation. `largest` is the
/// largest of their absolute values.
pub(crate) fn divisor(rewards: &[f32], largest: f32) -> f32 {
    let (low, high) =
        rewards.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), r| (l.min(*r), h.max(*r)));
    let range = high - low;
    // fewer than two, or all equal
    if !(rewards.len() > 1 && range > 0.0) {
        return 1.0;
    }
    let mean = rewards.iter().map(|r| f64::from(*r)).sum::<f64>() / rewards.len() as f64;
    let sum: f64 = rewards.iter().map(|r| (f64::from(*r) - mean).powi(2)).sum();
    let deviation = (sum / (rewards.len() as f64 - 1.0)).sqrt() as f32 + EPSILON;
    // by more than rounding: from outside
    if largest > range * (1.0 + 1e-4) {
        deviation.max((deviation * (largest / range)).min(1.0))
    } else {
        deviation
    }
}

/// The largest absolute value.
pub(crate) fn largest<'a>(advantages: impl IntoIterator<Item = &'a f32>) -> f32 {
    advantages.into_iter().fold(0.0, |largest, advantage| largest.max(advantage.abs()))
}

/// Divides the advantages of single tokens, group by group and rollout by rollout, by what `scale` says. `rewards` are
/// those of every group's rollouts.
///
/// A group whose advantages are exactly 0 keeps them, but for [`Scale::Whiten`], which knows no groups and whose result is
/// bounded by the root of the number of tokens.
pub fn rescale(scale: Scale, rewards: &[Vec<f32>], advantages: &mut [Vec<Vec<f32>>]) {
    let divide = |rows: &mut Vec<Vec<f32>>, divisor: f32| {
        rows.iter_mut().flatten().for_each(|advantage| *advantage /= divisor);
    };
    match scale {
        Scale::None => {}
        Scale::Group => {
            for (rows, rewards) in advantages.iter_mut().zip(rewards) {
                let divisor = divisor(rewards, largest(rows.iter().flatten()));
                divide(rows, divisor);
            }
        }
        Scale::Batch => {
            let divisor = divisor(&rewards.concat(), largest(advantages.iter().flatten().flatten()));
            advantages.iter_mut().for_each(|rows| divide(rows, divisor));
        }
        Scale::Whiten => {
            let all = || advantages.iter().flatten().flatten().map(|a| f64::from(*a));
            let count = all().count() as f64;
            if count < 2.0 {
                return;
            }
            let mean = all().sum::<f64>() / count;
            let variance = all().map(|a| (a - mean).powi(2)).sum::<f64>() / (count - 1.0);
            let deviation = (variance + 1e-8).sqrt();
            for advantage in advantages.iter_mut().flatten().flatten() {
                *advantage = ((f64::from(*advantage) - mean) / deviation) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::close;
    use super::*;

    fn rows(values: &[&[f32]]) -> Vec<Vec<Vec<f32>>> {
        values.iter().map(|group| group.iter().map(|a| vec![*a]).collect()).collect()
    }

    fn scaled(scale: Scale, rewards: &[&[f32]], advantages: &[&[f32]]) -> Vec<f32> {
        let mut advantages = rows(advantages);
        let rewards: Vec<Vec<f32>> = rewards.iter().map(|group| group.to_vec()).collect();
        rescale(scale, &rewards, &mut advantages);
        advantages.into_iter().flatten().flatten().collect()
    }

    #[test]
    fn scales_match_the_published_numbers() {
        let (rewards, advantages): (&[f32], &[f32]) =
            (&[1.0, 0.0, 0.0, 1.0, 0.0], &[0.6, -0.4, -0.4, 0.6, -0.4]);
        let wanted = [1.095_443, -0.730_295, -0.730_295, 1.095_443, -0.730_295];
        let found = scaled(Scale::Group, &[rewards], &[advantages]);
        // the notes have 1e-6 where TRL has 1e-4
        let exact: Vec<f32> =
            found.iter().map(|a| a * (0.547_722_6 + EPSILON) / (0.547_722_6 + 1e-6)).collect();
        close(&exact, &wanted);
        close(&scaled(Scale::None, &[rewards], &[advantages]), advantages);
        // REINFORCE++: rewards themselves; and its form with a baseline, two groups (1, 0) and (1, 1)
        close(&scaled(Scale::Whiten, &[&[]], &[&[1.0, 0.0, 1.0, 1.0]]), &[0.5, -1.5, 0.5, 0.5]);
        let found = scaled(Scale::Whiten, &[&[], &[]], &[&[0.5, -0.5], &[0.0, 0.0]]);
        close(&found, &[1.224_745, -1.224_745, 0.0, 0.0]);
    }

    #[test]
    fn a_batch_has_one_deviation_for_all_groups() {
        let found = scaled(Scale::Batch, &[&[1.0, 0.0], &[0.0, 0.0]], &[&[0.5, -0.5], &[0.0, 0.0]]);
        close(&found, &[0.5 / 0.5001, -0.5 / 0.5001, 0.0, 0.0]);
    }

    #[test]
    fn a_group_of_equal_rewards_amplifies_no_advantage_about_a_baseline_from_outside() {
        for scale in [Scale::Group, Scale::Batch, Scale::None] {
            for distance in [1e-6, 0.01, -0.3, 7.0] {
                let found = scaled(scale, &[&[1.0; 4]], &[&[distance; 4]]);
                assert_eq!(found, [distance; 4], "{scale:?}");
            }
        }
        // beside a group that differs, as it is
        let found = scaled(Scale::Group, &[&[1.0, 1.0], &[1.0, 0.0]], &[&[0.2, 0.2], &[0.5, -0.5]]);
        let half = 0.5 / (0.5f32.sqrt() + EPSILON);
        close(&found, &[0.2, 0.2, half, -half]);
    }

    #[test]
    fn the_smaller_the_differences_in_a_group_the_nearer_it_is_to_one_of_equal_rewards() {
        for n in [2usize, 4, 16] {
            for exponent in 0..9 {
                let apart = 10f32.powi(-exponent);
                let mut rewards = vec![1.0; n];
                rewards[0] -= apart;
                for baseline in [0.0, 0.4, 0.99, 1.5, -3.0] {
                    let before: Vec<f32> = rewards.iter().map(|r| r - baseline).collect();
                    let after = scaled(Scale::Group, &[&rewards], &[&before]);
                    let bound = (2.0 * (n as f32 - 1.0)).sqrt();
                    for (after, before) in after.iter().zip(&before) {
                        assert!(
                            after.abs() <= before.abs().max(bound),
                            "{n} {apart} {baseline}: {before} {after}"
                        );
                        assert!(after * before >= 0.0);
                    }
                }
            }
        }
        let after = scaled(Scale::Group, &[&[1.0, 1.0 - 1e-6]], &[&[0.5, 0.5 - 1e-6]]);
        close(&after, &[0.5, 0.5]);
    }

    #[test]
    fn a_mean_of_the_group_itself_is_divided_by_the_deviation_whatever_its_size() {
        for apart in [1.0f32, 1e-2, 1e-5] {
            for rewards in
                [[0.0, 0.0, apart, 0.0], [apart, 0.0, apart, 0.0], [0.0, apart, 0.3 * apart, 0.5 * apart]]
            {
                let mean = rewards.iter().sum::<f32>() / 4.0;
                let own = rewards.map(|r| r - mean);
                let others = rewards.map(|r| (4.0 / 3.0) * (r - mean));
                let deviation = (own.iter().map(|a| a * a).sum::<f32>() / 3.0).sqrt() + EPSILON;
                for advantages in [own, others] {
                    let wanted = advantages.map(|a| a / deviation);
                    close(&scaled(Scale::Group, &[&rewards], &[&advantages]), &wanted);
                }
            }
        }
    }

    #[test]
    fn whitening_counts_tokens_not_rollouts() {
        let mut advantages = vec![vec![vec![1.0, 1.0, 1.0], vec![-1.0]]];
        rescale(Scale::Whiten, &[vec![]], &mut advantages);
        let all: Vec<f32> = advantages.into_iter().flatten().flatten().collect();
        close(&all, &[0.5, 0.5, 0.5, -1.5]);
    }
}
