//! A baseline from the past.

use serde::{Deserialize, Serialize};

use super::{Baseline, Group, Needs};

/// The running mean reward of the prompt's past groups; while there are none, that of the batch's other groups. It
/// knows nothing of this group, so it is unbiased for groups of any size, one included.
///
/// # Source
/// The exponential average of REINFORCE, here one a prompt; the ledger keeps it, see [`crate::ledger`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct History {}

impl Baseline for History {
    fn baselines(&self, group: &Group<'_>) -> Vec<f32> {
        vec![group.prior.unwrap_or(0.0); group.rewards.len()]
    }

    fn needs(&self) -> Needs {
        Needs { prior: true, ..Needs::default() }
    }

    fn compares(&self) -> bool {
        false
    }
}
