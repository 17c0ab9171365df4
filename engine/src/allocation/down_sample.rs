//! Training on fewer rollouts of a group than were sampled.

use data::ScoredRollout;
use serde::{Deserialize, Serialize};

/// Of every group the rollouts whose rewards vary most are trained on; the others are left out, of the baseline too.
///
/// The choice follows the rewards, so the gradient is biased: a prompt counts by the spread of its extremes.
///
/// # Source
/// PODS, arXiv:2504.13818: the subset of largest variance is some of the lowest rewards and some of the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DownSample {
    /// Rollouts of a group that are trained on, at least 2.
    pub keep: usize,
}

impl DownSample {
    /// Places of the kept ones among these rewards, in their order; all of them if no reward is known, so that no group is lost.
    /// Rollouts without a reward are left out first; of subsets of equal
    /// variance that with more of the lowest rewards is taken, and of equal rewards the first.
    pub fn places(&self, rewards: &[Option<f32>]) -> Vec<usize> {
        let mut known: Vec<(f32, usize)> =
            rewards.iter().enumerate().filter_map(|(place, reward)| Some(((*reward)?, place))).collect();
        if known.is_empty() {
            return (0..rewards.len()).collect();
        }
        if known.len() <= self.keep {
            return known.into_iter().map(|(_, place)| place).collect();
        }
        known.sort_by(|a, b| a.0.total_cmp(&b.0));
        let split = |low: usize| known[..low].iter().chain(&known[known.len() - (self.keep - low)..]);
        let variance = |low: usize| {
            let n = self.keep as f64;
            let mean = split(low).map(|(r, _)| f64::from(*r)).sum::<f64>() / n;
            split(low).map(|(r, _)| (f64::from(*r) - mean).powi(2)).sum::<f64>()
        };
        let best = (0..=self.keep).fold(self.keep, |best, low| {
            let (new, old) = (variance(low), variance(best));
            if new > old || (new == old && low > best) { low } else { best }
        });
        let mut places: Vec<usize> = split(best).map(|(_, place)| *place).collect();
        places.sort_unstable();
        places
    }

    /// The rollouts that are trained on, group by group.
    pub(crate) fn of(&self, scored: &[ScoredRollout]) -> Vec<ScoredRollout> {
        let groups = scored.chunk_by(|a, b| a.rollout.is_of_the_group_of(&b.rollout));
        let kept = groups.flat_map(|group| {
            let rewards: Vec<Option<f32>> = group.iter().map(|scored| scored.score.reward).collect();
            self.places(&rewards).into_iter().map(|place| group[place].clone())
        });
        kept.collect()
    }

    /// What makes no sense of it, with groups of this size.
    pub fn problem(&self, group_size: usize) -> Option<String> {
        let keep = self.keep;
        (keep < 2 || keep > group_size)
            .then(|| format!("down_sample.keep is {keep}; wanted 2 to group_size, which is {group_size}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(keep: usize, rewards: &[f32]) -> Vec<usize> {
        DownSample { keep }.places(&rewards.iter().map(|r| Some(*r)).collect::<Vec<_>>())
    }

    #[test]
    fn the_subset_has_the_largest_variance_of_all() {
        let rewards = [0.1f32, 0.9, 0.4, 0.35, 1.0, 0.0, 0.5];
        for keep in 2..=7usize {
            let found = kept(keep, &rewards);
            assert_eq!(found.len(), keep);
            let variance = |places: &[usize]| {
                let mean = places.iter().map(|p| f64::from(rewards[*p])).sum::<f64>() / places.len() as f64;
                places.iter().map(|p| (f64::from(rewards[*p]) - mean).powi(2)).sum::<f64>()
            };
            for subset in 0..1u32 << rewards.len() {
                let places: Vec<usize> = (0..rewards.len()).filter(|i| subset >> i & 1 == 1).collect();
                if places.len() == keep {
                    assert!(variance(&places) <= variance(&found) + 1e-12, "{places:?} against {found:?}");
                }
            }
        }
    }

    #[test]
    fn right_and_wrong_are_balanced_and_absent_rewards_are_left_out() {
        assert_eq!(kept(4, &[0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0]), [0, 1, 5, 6]);
        assert_eq!(kept(4, &[0.0; 6]), [0, 1, 2, 3]);
        assert_eq!(kept(4, &[0.0, 0.0, 0.0, 0.0, 1.0]), [0, 1, 2, 4]);
        assert_eq!(DownSample { keep: 3 }.places(&[None, Some(1.0), None, Some(0.0)]), [1, 3]);
        assert_eq!(DownSample { keep: 2 }.places(&[None; 3]), [0, 1, 2], "the group stays");
    }
}
