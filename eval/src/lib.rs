//! How good a policy is on prompts it did not train on.
//!
//! Before: a policy and held-out prompts. After: a share with its interval, for the progress line, the metrics and the
//! report.

mod interval;

pub use interval::{Interval, wilson};

use data::{ScoredRollout, Seed};
use rewards::{Rewards, ScoringError};
use rollout::RolloutError;
use rollout::backend::{Backend, Job};
use serde::{Deserialize, Serialize};

/// A share of right answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Rollouts with a reward of at least 1 from the deciding reward function.
    pub right: usize,
    /// Rollouts that could be judged.
    pub judged: usize,
    /// Rollouts that could not.
    pub absent: usize,
    /// Rollouts that ran out of tokens.
    pub truncated: usize,
}

impl Accuracy {
    /// Counts, by the verdict of the reward function called `deciding`.
    pub fn of(scored: &[ScoredRollout], deciding: &str) -> Self {
        let mut accuracy = Self { right: 0, judged: 0, absent: 0, truncated: 0 };
        for scored in scored {
            match scored.score.part(deciding).and_then(|verdict| verdict.value) {
                Some(verdict) => {
                    accuracy.judged += 1;
                    accuracy.right += usize::from(verdict >= 1.0);
                }
                None => accuracy.absent += 1,
            }
            accuracy.truncated += usize::from(scored.rollout.truncated());
        }
        accuracy
    }

    /// The share of right answers among those judged; 0 if none was.
    pub fn share(&self) -> f64 {
        if self.judged == 0 { 0.0 } else { self.right as f64 / self.judged as f64 }
    }

    /// 95 % interval of the share over questions of this kind, one rollout a question.
    pub fn interval(&self) -> Interval {
        wilson(self.right, self.judged, 1.959_964)
    }
}

/// Why an accuracy could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// No completions.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// No verdicts.
    #[error(transparent)]
    Scoring(#[from] ScoringError),
}

/// Samples one rollout for each task of the job and counts right answers. The draws are those of step 0 of the seed's `eval`
/// stream at every call, so that two policies meet the same luck.
///
/// # Errors
/// If sampling fails, or judging cannot go on.
pub fn accuracy(
    backend: &dyn Backend,
    job: &Job<'_>,
    rewards: &Rewards,
    deciding: &str,
    seed: Seed,
) -> Result<Accuracy, EvalError> {
    let job = Job { group_size: 1, seed: seed.named("eval").at(0), ..*job };
    let sampled = backend.sample(&job, &mut |_| ())?;
    Ok(Accuracy::of(&rewards.score(sampled.rollouts)?, deciding))
}
