//! What a recipe file says: strict, sparse, typed.
//!
//! Before: TOML. After: [`crate::Plan`] resolves it. Unknown keys are refused with line, column and the nearest known
//! key; ranges are types, so that a bad value is refused where it stands. Published settings are in the presets.

mod benchmark;
mod numbers;
mod paths;
mod ranges;
mod rewards;
mod rollout;
mod stages;
mod tables;
mod weighted;
mod wording;

use std::path::Path;

use data::PromptTemplate;
use engine::batch::{Overlong, Truncated};
use engine::mixture::Alpha;
use engine::objective::{Aggregate, Correction};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::benchmark::{BenchmarkRecipe, generated};
pub(crate) use self::numbers::{Count, GroupSize};
use self::paths::Places;
pub(crate) use self::rewards::RewardsRecipe;
pub(crate) use self::rollout::RolloutRecipe;
pub(crate) use self::stages::{PairsFile, PairsRecipe, PreferenceRecipe, RlRecipe, SamplePairs, SftRecipe};
pub(crate) use self::tables::{
    ComputeRecipe, DataRecipe, EvalRecipe, FileRecipe, PolicyRecipe, SaveRecipe, ThinkingRecipe,
};
use self::wording::parse_error;

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
    folder: Option<std::path::PathBuf>,
}

/// Why a recipe was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// Neither a file nor a built-in recipe.
    #[error("there is no recipe `{name}`: no such file, and the built-in ones are {known}{hint}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The built-in names.
        known: String,
        /// The nearest name, as a sentence.
        hint: String,
    },
    /// The file cannot be read.
    #[error("could not read recipe `{path}`: {source}")]
    Read {
        /// The file.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The text is not a recipe.
    #[error("invalid recipe `{place}`: {message}{hint}")]
    Parse {
        /// The file or built-in name.
        place: String,
        /// Where and why.
        message: String,
        /// The nearest known key, as a sentence.
        hint: String,
    },
    /// A `--set` is not of the form `key.key=value`, or runs into something that is not a table.
    #[error("`--set {text}`: {problem}")]
    Set {
        /// What was given.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// Keys that do not fit each other.
    #[error("recipe `{name}`: {problem}")]
    Conflict {
        /// The recipe.
        name: String,
        /// What does not fit, and what would.
        problem: String,
    },
}

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
    let (place, text) = crate::builtin::recipe_text(name)?;
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
    paths::locate_parts(None, &mut only.rewards, &places);
    Ok(only.rewards)
}

/// The folder of a recipe that is a file.
fn folder_of(name: &str) -> Option<&Path> {
    let built_in = crate::builtin::recipes().iter().any(|(known, _)| known == name);
    Path::new(name).parent().filter(|_| !built_in)
}

/// Reads a table in which `sets`, and perhaps a preset, have replaced values.
fn replaced<T: serde::de::DeserializeOwned>(
    place: &str,
    table: &toml::Table,
    sets: &[String],
    preset: Option<&str>,
) -> Result<T, RecipeError> {
    let text = toml::to_string(table)
        .map_err(|error| RecipeError::Set { text: sets.join(" "), problem: error.to_string() })?;
    let read =
        toml::from_str(&text).map_err(|error| wording::set_error(place, &text, &error, sets, preset))?;
    match ranges::out_of_range(&text) {
        Some((path, message)) => Err(wording::blamed(place, &path, message, sets, preset)),
        None => Ok(read),
    }
}

impl Recipe {
    /// Reads a recipe: a file, or a built-in one by its name. Each of `sets`, `key.key=value`, replaces a value.
    ///
    /// # Errors
    /// If it is not found, not valid, or a `--set` does not fit.
    pub fn load(name: &str, sets: &[String]) -> Result<Self, RecipeError> {
        let (place, text) = crate::builtin::recipe_text(name)?;
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
                crate::preset::expand(rl).map_err(|(name, known)| {
                    let hint = crate::preset::hint(&name);
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
        let text = toml::to_string(&table).map_err(|error| broken(error.to_string()))?;
        let mut recipe = Self::parse(&format!("{place} with {}", sets.join(", ")), &text)?;
        recipe.resolve();
        recipe.check()?;
        Ok(recipe)
    }

    /// What the run is called.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("run")
    }

    /// Whether a stage wants prompts with and without a trace.
    pub(crate) fn thinks(&self) -> bool {
        let sft = self.sft.as_ref().is_some_and(|sft| !sft.empty_templates.is_empty());
        sft || self.preference.is_some() || self.rl.as_ref().is_some_and(|rl| rl.mixture.is_some())
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

    /// What the types cannot say.
    fn check(&self) -> Result<(), RecipeError> {
        let refuse = |problem: String| Err(RecipeError::Conflict { name: self.name().to_owned(), problem });
        let within =
            |what: &str, a: usize, b: usize, most: usize| match a.checked_mul(b).filter(|all| *all <= most) {
                Some(_) => Ok(()),
                None => refuse(format!("{what} is {a} · {b}; wanted at most {most} together")),
            };
        if self.sft.is_none() && self.rl.is_none() && self.preference.is_none() {
            return refuse("it has no [sft], [rl] or [preference] table, so there is nothing to do".into());
        }
        if let Some(problem) = self.rollout.problem() {
            return refuse(format!("[rollout] {problem}"));
        }
        if let Some(preference) = &self.preference {
            if preference.sampling.thinking_budget.is_some() {
                return refuse("[preference.sampling] thinking_budget puts tokens into completions that the policy did not draw, and pairs learn from all of theirs".into());
            }
            if let Some(problem) = preference.mixture.problem() {
                return refuse(format!("[preference.mixture] {problem}"));
            }
            if !matches!(preference.mixture.alpha, Alpha::Fixed(_)) && preference.pairs_per_step.get() < 2 {
                return refuse("[preference.mixture] alpha is found from how the gradients of pairs differ, and pairs_per_step is 1; wanted at least 2, or alpha = { fixed = 0.5 }".into());
            }
            if let Some(problem) = preference.sampling.problem() {
                return refuse(format!("[preference.sampling] {problem}"));
            }
            if let PairsRecipe::Sample(sample) = &preference.pairs {
                let place = "[preference.pairs.sample] prompts · group_size";
                within(place, sample.prompts.get(), sample.group_size.get(), 1 << 24)?;
            }
            if let PairsRecipe::Sample(sample) = &preference.pairs
                && (sample.branches.is_empty() || preference.sampling.temperature == 0.0)
            {
                return refuse("[preference.pairs.sample] needs at least one branch and a temperature above 0: all rollouts would be alike".into());
            }
        }
        if let Some(sft) = &self.sft {
            if sft.answer_templates.is_empty() {
                return refuse(
                    "[sft] answer_templates is empty; wanted at least one, such as \"{answer}\"".into(),
                );
            }
            if let Some(bad) = sft.answer_templates.iter().find(|template| !template.contains("{answer}")) {
                return refuse(format!(
                    "[sft] answer template {bad:?} has no {{answer}}, so it would teach nothing"
                ));
            }
        }
        if let Some(rl) = &self.rl {
            if let Some(problem) = rl.sampling.problem() {
                return refuse(format!("[rl.sampling] {problem}"));
            }
            if rl.sampling.temperature == 0.0 {
                return refuse("[rl.sampling] temperature is 0, which makes all rollouts of a group alike; wanted more than 0".into());
            }
            let baseline = rl.baseline.build();
            if let Err(problem) = GroupSize::try_from(rl.group_size.get())
                && baseline.compares()
            {
                return refuse(format!(
                    "[rl] group_size: {problem}: baseline = \"{}\" compares the rollouts of a group with each other; \"none\", \"greedy\" and \"history\" do not",
                    rl.baseline.name()
                ));
            }
            if rl.group_size.get() == 1 && rl.dynamic_sampling.is_some() {
                return refuse("[rl] dynamic_sampling waits for groups whose rewards differ, and group_size is 1: there are none".into());
            }
            if rl.sampling.thinking_budget.is_some() && baseline.needs().measures_completions() {
                return refuse("[rl.sampling] thinking_budget puts tokens into completions that the policy did not draw, and a weighted baseline measures gradients of whole completions".into());
            }
            if rl.overlap > 0 && rl.mixture.is_some() {
                return refuse("[rl] overlap and mixture do not go together".into());
            }
            if rl.overlap > 0 && rl.sampling.reshapes() {
                return refuse("[rl] overlap weighs rollouts by π_now/π_sampled, which needs log-probs of the whole distribution: leave top_k, top_p, min_p and what changes logits out of [rl.sampling]".into());
            }
            if let Some(mixture) = &rl.mixture {
                if let Some(problem) = mixture.problem() {
                    return refuse(format!("[rl.mixture] {problem}"));
                }
                if mixture.alpha == Alpha::Regression {
                    return refuse("[rl.mixture] alpha = \"regression\" needs two independent halves of the thinking branch, and the rollouts of a group share its baseline; use \"moment\" here, \"regression\" under [preference]".into());
                }
                if rl.epochs.get() * rl.mini_batches.get() > 1
                    || rl.dynamic_sampling.is_some()
                    || rl.baseline.build().needs().greedy
                {
                    return refuse("[rl.mixture] goes with one update a step, without dynamic_sampling and without the greedy baseline".into());
                }
            }
            if let Some(problem) = crate::plan::Plan::trainer(rl).problem() {
                return refuse(format!("[rl] {problem}"));
            }
            let of_an_update = rl.prompts_per_step.get().div_ceil(rl.mini_batches.get());
            if rl.schedule.snr.is_some() && of_an_update < 2 {
                return refuse(format!(
                    "[rl] schedule.snr compares the gradients of prompt groups within an update, and each has 1: prompts_per_step is {} and mini_batches {}; wanted at least 2 prompts an update",
                    rl.prompts_per_step.get(),
                    rl.mini_batches.get()
                ));
            }
            if rl.mixture.is_some_and(|mixture| mixture.alpha == Alpha::Moment)
                && rl.prompts_per_step.get() < 2
            {
                return refuse("[rl.mixture] alpha = \"moment\" compares the gradients of prompts, and prompts_per_step is 1; wanted at least 2".into());
            }
            if let Truncated::Overlong(Overlong { buffer, .. }) = rl.truncated
                && !(0.0..=1.0).contains(&buffer)
            {
                return refuse(format!("[rl] truncated.overlong.buffer is {buffer}; wanted 0 to 1"));
            }
            within(
                "[rl] prompts_per_step · group_size",
                rl.prompts_per_step.get(),
                rl.group_size.get(),
                1 << 22,
            )?;
            within("[rl] mini_batches · epochs", rl.mini_batches.get(), rl.epochs.get(), 1 << 20)?;
            if rl.mini_batches > rl.prompts_per_step {
                return refuse(format!(
                    "[rl] mini_batches is {}, but a step has only {} prompts, and a group stays whole",
                    rl.mini_batches.get(),
                    rl.prompts_per_step.get()
                ));
            }
        }
        if let Some(eval) = &self.eval {
            let temperature = eval.temperature.unwrap_or(1.0);
            if !(temperature.is_finite() && temperature >= 0.0) {
                return refuse(format!("[eval] temperature is {temperature}; wanted at least 0"));
            }
            if let Some(samples) = eval.samples.filter(|samples| samples.get() > 1 && temperature == 0.0) {
                return refuse(format!(
                    "[eval] samples is {} at temperature 0, where all of them would be the same",
                    samples.get()
                ));
            }
            within(
                "[eval] prompts · samples",
                eval.prompts.get(),
                eval.samples.map_or(1, Count::get),
                1 << 24,
            )?;
            if eval.bench.is_some() && (eval.data.is_some() || eval.reward.is_some()) {
                return refuse("[eval] bench brings its own data and reward; wanted it without them".into());
            }
        }
        if self.eval.is_none() && self.save.best.as_ref().is_some_and(|metric| metric.contains("eval")) {
            return refuse("[save] best is a metric of [eval], which the recipe does not have".into());
        }
        for (stage, schedule) in self
            .sft
            .iter()
            .map(|s| ("sft", &s.schedule))
            .chain(self.rl.iter().map(|r| ("rl", &r.schedule)))
            .chain(self.preference.iter().map(|p| ("preference", &p.schedule)))
        {
            if !(schedule.learning_rate.is_finite() && schedule.learning_rate > 0.0) {
                return refuse(format!(
                    "[{stage}.schedule] learning_rate is {}; wanted a number above 0",
                    schedule.learning_rate
                ));
            }
            if schedule.snr.is_some() && stage != "rl" {
                return refuse(format!(
                    "[{stage}.schedule] has snr, but signal and noise are measured in the [rl] stage only"
                ));
            }
            if !(0.0..=1.0).contains(&schedule.floor) {
                return refuse(format!("[{stage}.schedule] floor is {}; wanted 0 to 1", schedule.floor));
            }
        }
        Ok(())
    }
}

/// Tables inside of tables that `--set` may name: more than any recipe has.
const MOST_KEYS: usize = 16;

fn apply(table: &mut toml::Table, text: &str) -> Result<(), RecipeError> {
    let refuse = |problem: String| RecipeError::Set { text: text.to_owned(), problem };
    let (path, value) =
        text.split_once('=').ok_or_else(|| refuse("wanted key.key=value, such as rl.steps=10".into()))?;
    let value = match format!("value = {value}").parse::<toml::Table>() {
        Ok(mut parsed) if parsed.len() == 1 => parsed.remove("value"),
        _ => None,
    }
    .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let keys: Vec<&str> = path.trim().split('.').collect();
    if keys.len() > MOST_KEYS {
        return Err(refuse(format!(
            "it has {} keys, one inside the other; at most {MOST_KEYS} are allowed",
            keys.len()
        )));
    }
    let Some((last, parents)) = keys.split_last().filter(|_| keys.iter().all(|key| !key.is_empty())) else {
        return Err(refuse("a key is empty".into()));
    };
    let mut here = table;
    for key in parents {
        let next = here.entry(*key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        here = next.as_table_mut().ok_or_else(|| refuse(format!("`{key}` is a value, not a table")))?;
    }
    here.insert((*last).to_owned(), value);
    Ok(())
}

/// A sentence that names the nearest candidate, if one is near: fewer changes than half the word has letters, and about one
/// in four. Hyphens, underscores and capitals count for nothing.
pub(crate) fn did_you_mean<'a>(found: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    let plain = |word: &str| word.to_lowercase().replace(['-', '_', ' '], "");
    let wanted = plain(found);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &plain(candidate)), candidate))
        .min()
        .filter(|(distance, candidate)| {
            *distance <= 1 + candidate.len() / 4 && 2 * distance < wanted.chars().count()
        })
        .map_or_else(String::new, |(_, candidate)| format!("\ndid you mean `{candidate}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny(change: impl Fn(String) -> String) -> Result<Recipe, RecipeError> {
        let (_, text) = crate::builtin::recipe_text("tiny").expect("built in");
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
    fn a_group_of_one_is_refused_exactly_where_rollouts_of_a_group_are_compared() {
        let load = |baseline: &str, more: &[&str]| {
            let sets = ["rl.group_size=1".to_owned(), format!("rl.baseline={baseline}")];
            let more = more.iter().map(|set| (*set).to_owned());
            Recipe::load("tiny", &sets.into_iter().chain(more).collect::<Vec<_>>())
        };
        for baseline in ["none", "greedy", "{history={}}"] {
            let recipe = load(baseline, &[]).expect(baseline);
            assert_eq!(recipe.rl.expect("rl").group_size.get(), 1);
            let error = load(baseline, &["rl.dynamic_sampling={}"]).expect_err(baseline).to_string();
            assert!(error.contains("group_size is 1: there are none"), "{error}");
        }
        let compared =
            ["group_mean", "leave_one_out", "{optimal={}}", "{optimal={shrink=2.0}}", "{token={}}"];
        for baseline in compared {
            let sets = ["rl.aggregate=token_mean"];
            let error = load(baseline, &sets).expect_err(baseline).to_string();
            assert!(
                error.contains("a group needs at least 2 rollouts to compare, not 1: baseline = "),
                "{error}"
            );
        }
        for preset in ["remax", "reinforce", "reinforce-pp"] {
            Recipe::load(&format!("tiny-{preset}"), &["rl.group_size=1".to_owned()]).expect(preset);
        }
    }

    #[test]
    fn what_compares_gradients_of_prompts_wants_two_of_them_in_an_update() {
        let refused = |name: &str, sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            Recipe::load(name, &sets).expect_err(name).to_string()
        };
        let error = refused("tiny-oblr", &["rl.prompts_per_step=4", "rl.mini_batches=4"]);
        assert!(
            error.contains("schedule.snr") && error.contains("prompts_per_step is 4 and mini_batches 4"),
            "{error}"
        );
        Recipe::load("tiny-oblr", &["rl.prompts_per_step=5".into(), "rl.mini_batches=4".into()])
            .expect("one of two");
        let error = refused("tiny-think", &["rl.prompts_per_step=1", "rl.mixture.alpha=moment"]);
        assert!(error.contains("alpha = \"moment\""), "{error}");
        let error = refused("tiny-bvpo", &["preference.pairs_per_step=1", "preference.mixture.alpha=moment"]);
        assert!(error.contains("pairs_per_step is 1"), "{error}");
    }

    #[test]
    fn a_correction_that_would_correct_nothing_is_refused() {
        let load = |correction: &str| Recipe::load("tiny", &[format!("rl.correction={correction}")]);
        let error = load("{level=\"geometric\"}").expect_err("refused").to_string();
        assert!(
            error.contains("correction.level = \"geometric\"") && error.contains("mode = \"mask\""),
            "{error}"
        );
        load("{level=\"geometric\",mode=\"mask\"}").expect("a mask");
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
        assert_eq!(rl.schedule.shape, engine::schedule::Shape::Cosine);
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
        for (name, _) in crate::builtin::recipes() {
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
