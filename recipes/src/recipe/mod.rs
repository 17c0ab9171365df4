//! What a recipe file says: strict, sparse, typed.
//!
//! Before: TOML. After: [`crate::Plan`] resolves it. Unknown keys are refused with line, column and the nearest known
//! key; ranges are types, so that a bad value is refused where it stands. Published settings are in the presets.

mod benchmark;
mod check;
pub(crate) mod error;
pub(crate) mod keys;
mod load;
mod local;
mod numbers;
mod paths;
mod ranges;
mod rewards;
mod rollout;
mod root;
mod set;
mod stages;
mod tables;
mod weighted;
mod wording;

pub use self::error::RecipeError;
pub use self::root::Recipe;

pub(crate) use self::benchmark::{BenchmarkRecipe, generated};
pub(crate) use self::load::rewards_of;
pub(crate) use self::numbers::Count;
pub(crate) use self::paths::matched;
pub(crate) use self::rewards::RewardsRecipe;
pub(crate) use self::stages::{PairsFile, PairsRecipe, PreferenceRecipe, RlRecipe, SamplePairs, SftRecipe};
pub(crate) use self::tables::{ComputeRecipe, DataRecipe, EvalRecipe, FileRecipe, ThinkingRecipe};
