//! Where a run is: which stage, and how many steps of it are done.

use serde::{Deserialize, Serialize};

/// One part of a run; they come in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StageName {
    Sft,
    Rl,
    Preference,
}

impl StageName {
    pub(crate) const ALL: [Self; 3] = [Self::Sft, Self::Rl, Self::Preference];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Rl => "rl",
            Self::Preference => "preference",
        }
    }

    /// The beginning of the names of its checkpoints.
    fn prefix(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Rl => "step",
            Self::Preference => "preference",
        }
    }
}

/// The progress of a run: `step` steps of `stage` are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) stage: StageName,
    pub(crate) step: u64,
}

impl Progress {
    /// The name of the checkpoint there: `step-000123`.
    pub(crate) fn checkpoint(self) -> String {
        format!("{}-{:06}", self.stage.prefix(), self.step)
    }

    /// The progress that the name of a checkpoint says.
    pub(crate) fn of_checkpoint(name: &str) -> Option<Self> {
        let (prefix, step) = name.split_once('-')?;
        let stage = StageName::ALL.into_iter().find(|stage| stage.prefix() == prefix)?;
        let progress = Self { stage, step: step.parse().ok()? };
        (progress.checkpoint() == name).then_some(progress)
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} step {}", self.stage.name(), self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_checkpoints_say_how_far_the_run_is() {
        for (name, stage, step) in [
            ("step-000012", StageName::Rl, 12),
            ("sft-000000", StageName::Sft, 0),
            ("preference-1000000", StageName::Preference, 1_000_000),
        ] {
            let progress = Progress { stage, step };
            assert_eq!(Progress::of_checkpoint(name), Some(progress));
            assert_eq!(progress.checkpoint(), name);
        }
        for name in ["step-12", "step-000012.part", "latest", "step-000012-copy", "rl-000012", "step-+00012"]
        {
            assert_eq!(Progress::of_checkpoint(name), None, "{name}");
        }
    }
}
