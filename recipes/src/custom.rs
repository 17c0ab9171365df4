//! Reward functions of a user's own program, by the names that recipes have for them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use data::{Rollout, Verdict};
use rewards::{Reward, RewardError};

/// Reward functions by name; a recipe uses one by `[rewards.custom.NAME]`.
pub(crate) type CustomRewards = BTreeMap<String, Arc<dyn Reward>>;

/// A reward function that several plans may use.
pub(crate) struct Shared(pub(crate) Arc<dyn Reward>);

impl Reward for Shared {
    fn score(&self, rollout: &Rollout) -> Verdict {
        self.0.score(rollout)
    }

    fn score_all(&self, rollouts: &[Rollout]) -> Result<Vec<Verdict>, RewardError> {
        self.0.score_all(rollouts)
    }

    fn expect(&self, columns: &[String]) {
        self.0.expect(columns);
    }

    fn about(&self) -> Option<String> {
        self.0.about()
    }

    fn warnings(&self) -> Vec<String> {
        self.0.warnings()
    }

    fn log_to(&self, file: &Path) -> std::io::Result<()> {
        self.0.log_to(file)
    }
}
