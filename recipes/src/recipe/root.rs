//! The root table of a recipe.
//!
//! Before and after: see [`super`].

use data::PromptTemplate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::numbers;
use super::rewards::RewardsRecipe;
use super::rollout::RolloutRecipe;
use super::stages::{PreferenceRecipe, RlRecipe, SftRecipe};
use super::tables::{DataRecipe, EvalRecipe, PolicyRecipe, SaveRecipe, ThinkingRecipe};
use crate::position::StageName;

/// A whole recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What the run is called; by default what the recipe file is called. The name of a folder, not a path.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "numbers::folder_name")]
    pub name: Option<String>,
    /// Where all randomness comes from.
    #[serde(default)]
    pub seed: u64,
    /// Which model.
    pub policy: PolicyRecipe,
    /// Which prompts to train on.
    pub data: DataRecipe,
    /// How a dataset row becomes a prompt.
    #[serde(default)]
    pub prompt: PromptTemplate,
    /// Where rollouts come from.
    #[serde(default)]
    pub rollout: RolloutRecipe,
    /// What a rollout earns.
    #[serde(default)]
    pub rewards: RewardsRecipe,
    /// The supervised stage, if there is one; it comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sft: Option<SftRecipe>,
    /// The reinforcement-learning stage, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rl: Option<RlRecipe>,
    /// The preference stage, if there is one; it comes last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<PreferenceRecipe>,
    /// How the policy thinks, for stages that mix answers with and without a trace.
    #[serde(default)]
    pub thinking: ThinkingRecipe,
    /// How progress is measured, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval: Option<EvalRecipe>,
    /// What is kept.
    #[serde(default)]
    pub save: SaveRecipe,
    /// The folder of its file, where paths are seen from; none if it has none.
    #[serde(skip)]
    pub(super) folder: Option<std::path::PathBuf>,
}

impl Recipe {
    /// What the run is called.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("run")
    }

    /// Steps of a stage; none if the recipe does not have it.
    pub(crate) fn steps(&self, stage: StageName) -> Option<u64> {
        let steps = match stage {
            StageName::Sft => self.sft.as_ref()?.steps,
            StageName::Rl => self.rl.as_ref()?.steps,
            StageName::Preference => self.preference.as_ref()?.steps,
        };
        Some(steps.get() as u64)
    }

    /// True if a stage wants prompts with and without a trace.
    pub(crate) fn thinks(&self) -> bool {
        let sft = self.sft.as_ref().is_some_and(|sft| !sft.empty_templates.is_empty());
        sft || self.preference.is_some() || self.rl.as_ref().is_some_and(|rl| rl.mixture.is_some())
    }
}
