//! A recipe by its name: a file or a built-in one, with its preset and what the command line replaces.
//!
//! Before: TOML. After: a [`Recipe`] whose keys fit each other and whose paths are whole.

use std::path::Path;

use engine::batch::{Overlong, Truncated};
use engine::objective::{Aggregate, Correction};
use serde::Deserialize;

use super::error::RecipeError;
use super::paths::{Places, locate_parts};
use super::ranges;
use super::rewards::RewardsRecipe;
use super::root::Recipe;
use super::set::{apply, replaced};
use super::wording::parse_error;
use crate::{builtin, preset};

/// The `[rewards]` of a recipe, which need have nothing else. Each of `sets`, `key.key=value`, replaces a value.
///
/// # Errors
/// If it is not found or not valid, or a `--set` does not fit.
pub(crate) fn rewards_of(name: &str, sets: &[String]) -> Result<RewardsRecipe, RecipeError> {
    #[derive(Deserialize)]
    struct Only {
        #[serde(default)]
        rewards: RewardsRecipe,
    }
    let (place, text) = builtin::recipe_text(name)?;
    let mut only: Only = toml::from_str(&text).map_err(|error| parse_error(&place, &text, &error))?;
    ranges::check(&place, &text)?;
    if !sets.is_empty() {
        let mut table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| parse_error(&place, &text, &error))?;
        for set in sets {
            apply(&mut table, set)?;
        }
        only = replaced(&place, &table, sets, None)?;
    }
    let places = Places { base: folder_of(name), sets };
    locate_parts(None, &mut only.rewards, &places);
    Ok(only.rewards)
}

/// The folder of a recipe that is a file.
fn folder_of(name: &str) -> Option<&Path> {
    let built_in = builtin::recipes().iter().any(|(known, _)| known == name);
    Path::new(name).parent().filter(|_| !built_in)
}

impl Recipe {
    /// Reads a recipe: a file, or a built-in one by its name. Each of `sets`, `key.key=value`, replaces a value.
    ///
    /// # Errors
    /// If it is not found, not valid, or a `--set` does not fit.
    pub fn load(name: &str, sets: &[String]) -> Result<Self, RecipeError> {
        let (place, text) = builtin::recipe_text(name)?;
        // a name may have dots of its own, as that of a model's size
        let file = std::path::Path::new(&place).file_name().and_then(|s| s.to_str()).unwrap_or(&place);
        let stem = file.strip_suffix(".toml").unwrap_or(file);
        // the file by itself first: what is wrong in it is found where it stands
        let mut recipe = Self::parse(&place, &text)?;
        let preset = recipe.rl.as_ref().and_then(|rl| rl.preset.clone());
        if !sets.is_empty() || preset.is_some() {
            let mut table: toml::Table =
                text.parse().map_err(|error: toml::de::Error| parse_error(&place, &text, &error))?;
            for set in sets {
                apply(&mut table, set)?;
            }
            let mut preset = None;
            if let Some(rl) = table.get_mut("rl").and_then(toml::Value::as_table_mut) {
                preset = rl.get("preset").and_then(toml::Value::as_str).map(str::to_owned);
                preset::expand(rl).map_err(|(name, known)| {
                    let hint = preset::hint(&name);
                    let problem =
                        format!("[rl] preset `{name}` is not known; there are {}{hint}", known.join(", "));
                    RecipeError::Conflict { name: stem.to_owned(), problem }
                })?;
            }
            recipe = replaced(stem, &table, sets, preset.as_deref())?;
        }
        if recipe.name.is_none() {
            recipe.name = Some(stem.to_owned());
        }
        recipe.resolve();
        recipe.check()?;
        recipe.locate(&Places { base: folder_of(name), sets });
        Ok(recipe)
    }

    /// Reads a recipe from text; `place` names it in errors.
    ///
    /// # Errors
    /// If it is not valid.
    pub fn parse(place: &str, text: &str) -> Result<Self, RecipeError> {
        let recipe = toml::from_str(text).map_err(|error| parse_error(place, text, &error))?;
        ranges::check(place, text)?;
        Ok(recipe)
    }

    /// A resolved recipe with values replaced, each of `sets` as `key.key=value`; `place` names it in errors.
    ///
    /// # Errors
    /// If a `--set` does not fit, or the result is not valid.
    pub(crate) fn with(&self, place: &str, sets: &[String]) -> Result<Self, RecipeError> {
        let broken = |error: String| RecipeError::Set { text: sets.join(" "), problem: error };
        let mut table = toml::Table::try_from(self).map_err(|error| broken(error.to_string()))?;
        for set in sets {
            apply(&mut table, set)?;
        }
        let mut recipe: Self = replaced(place, &table, sets, None)?;
        recipe.resolve();
        recipe.check()?;
        Ok(recipe)
    }

    /// Puts numbers in the place of those that stand for others.
    fn resolve(&mut self) {
        let Some(rl) = &mut self.rl else { return };
        if let Aggregate::Constant { tokens } = &mut rl.aggregate
            && *tokens == 0
        {
            *tokens = rl.sampling.max_tokens;
        }
        if let Truncated::Overlong(Overlong { limit, .. }) = &mut rl.truncated
            && *limit == 0
        {
            *limit = rl.sampling.max_tokens;
        }
        if rl.overlap > 0 {
            // rollouts of older weights
            rl.correction.get_or_insert_with(Correction::default);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny(change: impl Fn(String) -> String) -> Result<Recipe, RecipeError> {
        let (_, text) = builtin::recipe_text("tiny").expect("built in");
        Recipe::parse("tiny.toml", &change(text))
    }

    #[test]
    fn a_misspelt_key_is_named_with_line_column_and_the_nearest_known_one() {
        let error = tiny(|text| text.replace("group_size", "grup_size")).expect_err("refused").to_string();
        assert!(error.contains("unknown field `grup_size`"), "{error}");
        assert!(error.contains("line ") && error.contains("column "), "{error}");
        assert!(error.contains("did you mean `group_size`?"), "{error}");
    }

    #[test]
    fn a_device_that_is_not_one_is_refused_where_it_stands() {
        for device in ["gpu", "metal", "cuda:first"] {
            let line = format!("[policy]\ndevice = \"{device}\"\n");
            let error = tiny(|text| text.replace("[policy]\n", &line)).expect_err("refused").to_string();
            assert!(error.contains("line ") && error.contains("column 10"), "{error}");
            assert!(error.contains(&format!("device `{device}` is not known; wanted \"auto\"")), "{error}");
        }
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = tiny(|text| text.replace("truncated", "# truncated")).expect_err("refused").to_string();
        assert!(error.contains("missing field `truncated`"), "{error}");
    }

    #[test]
    fn set_replaces_values_of_every_type_and_is_as_strict_as_the_file() {
        let sets = ["seed=7", "rl.schedule.shape=cosine", "rl.steps=3", "rl.sampling.stop=[\"x\"]"];
        let recipe = Recipe::load("tiny", &sets.map(String::from)).expect("valid");
        let rl = recipe.rl.expect("rl");
        assert_eq!((recipe.seed, rl.steps.get()), (7, 3));
        assert_eq!(rl.schedule.shape, engine::schedule::ScheduleShape::Cosine);
        assert_eq!(rl.sampling.stop, ["x"]);
        for (set, wanted) in [
            ("rl.stepz=3", "did you mean `steps`?"),
            ("rl.steps=0", "wanted at least 1, not 0"),
            ("rl.steps", "wanted key.key=value"),
            ("seed.x=1", "`seed` is a value, not a table"),
            ("rl.group_size=1000000000", "wanted 0 to 65536"),
            ("rl.schedule.learning_rate=1e300", "wanted 0 to 1000"),
            ("name=../../x", "wanted the name of a folder"),
            ("name=", "wanted the name of a folder"),
            ("rl.sampling.temperature=0", "alike"),
            ("rl.mini_batches=1000", "a group stays whole"),
            ("sft={steps=1,batch_size=1,schedule={snr={}}}", "in the [rl] stage only"),
        ] {
            let error = Recipe::load("tiny", &[set.to_owned()]).expect_err(set).to_string();
            assert!(error.contains(wanted), "{set}: {error}");
        }
    }

    #[test]
    fn sizes_are_refused_together_where_each_alone_would_do() {
        let sets = ["rl.prompts_per_step=65536", "rl.group_size=65536"].map(String::from);
        let error = Recipe::load("tiny", &sets).expect_err("refused").to_string();
        assert!(error.contains("prompts_per_step · group_size is 65536 · 65536; wanted at most"), "{error}");
        let deep = format!("{}=1", vec!["a"; 100_000].join("."));
        let error = Recipe::load("tiny", &[deep]).expect_err("refused").to_string();
        assert!(error.contains("100000 keys"), "{}", &error[error.len() - 200..]);
        let nested = format!("seed={}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Recipe::load("tiny", &[nested]).is_err());
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        for (name, _) in builtin::recipes() {
            let recipe = Recipe::load(name, &[]).expect(name);
            let text = toml::to_string(&recipe).expect("writes");
            assert_eq!(Recipe::parse(name, &text).expect("reads"), recipe);
            assert_eq!(recipe.name(), name);
        }
    }

    #[test]
    fn an_unknown_recipe_lists_the_known_ones() {
        let error = Recipe::load("tinny", &[]).expect_err("refused").to_string();
        assert!(error.contains("tiny-warmup") && error.contains("did you mean `tiny`?"), "{error}");
    }
}
