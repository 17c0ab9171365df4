//! What a benchmark's recipe says: which questions, how they are asked, who judges.
//!
//! Before: TOML, or the name of a known benchmark. After: [`crate::benchmark`] makes it ready.

use anyhow::Result;
use data::{Arithmetic, PromptTemplate, Split};
use eval::benchmarks::{Data, Known, KnownJudge};
use eval::{Adaptive, AtKRule, Shot};
use rewards::{CountdownReward, ExactMatch, Format, Math};
use rollout::Sampling;
use serde::{Deserialize, Serialize};

use super::error::RecipeError;
use super::numbers::{Count, folder_name};
use super::paths::{Places, locate_parts};
use super::ranges;
use super::rewards::RewardsRecipe;
use super::set::{apply, replaced};
use super::tables::DataRecipe;
use super::weighted::Weighted;
use super::wording::parse_error;
use crate::usage::Usage;

/// A whole benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BenchmarkRecipe {
    /// What it is called; by default what the file is called. The name of a folder, not a path.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "folder_name")]
    pub(crate) name: Option<String>,
    /// Only the first so many questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) take: Option<Count>,
    /// Completions of each question.
    #[serde(default = "one")]
    pub(crate) samples: Count,
    /// As many completions as it takes to be so sure of the mean, or of each question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) adaptive: Option<AdaptiveRecipe>,
    /// How pass@k, pass^k and maj@k are counted: `"unbiased"` over all choices of k samples, or as `"lighteval"`, `"qwen"`
    /// (Qwen2.5-Math) or `"verl"` do.
    #[serde(default, skip_serializing_if = "AtKRule::is_default")]
    pub(crate) at_k: AtKRule,
    /// The reward that says what is right: a value of at least 1. By default the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reward: Option<String>,
    /// The column that says how hard a question is.
    #[serde(default = "level")]
    pub(crate) level: String,
    /// The column that says what it is about.
    #[serde(default = "subject")]
    pub(crate) subject: String,
    /// Given to the chat template: whether the model may think before it answers. By default the template decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) enable_thinking: Option<bool>,
    /// Where the questions come from.
    pub(crate) data: DataRecipe,
    /// How a question becomes a prompt.
    #[serde(default)]
    pub(crate) prompt: PromptTemplate,
    /// Who judges.
    pub(crate) rewards: RewardsRecipe,
    /// How completions are drawn; by default greedily.
    #[serde(default = "greedy")]
    pub(crate) sampling: Sampling,
    /// Worked examples in front of every question.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) shots: Vec<Shot>,
}

/// `adaptive` of a benchmark
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdaptiveRecipe {
    /// Half-width of the 95 % interval, in 0..1: over draws, or with `each` of each question.
    pub(crate) half_width: f64,
    /// Completions that each question gets first.
    #[serde(default = "pilot")]
    pub(crate) pilot: Count,
    /// Most completions of a question.
    #[serde(default = "most")]
    pub(crate) most: Count,
    /// Be so sure of every question's own share, to label how hard it is, rather than of the mean.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) each: bool,
}

fn one() -> Count {
    Count(1)
}

fn pilot() -> Count {
    Count(8)
}

fn most() -> Count {
    Count(256)
}

fn level() -> String {
    "level".into()
}

fn subject() -> String {
    "subject".into()
}

fn greedy() -> Sampling {
    Sampling { temperature: 0.0, max_tokens: 1024, ..Sampling::default() }
}

impl AdaptiveRecipe {
    /// As the engine reads it.
    pub(crate) fn settings(&self) -> Adaptive {
        Adaptive {
            half_width: self.half_width,
            pilot: self.pilot.get(),
            most: self.most.get(),
            each: self.each,
        }
    }
}

impl BenchmarkRecipe {
    /// A benchmark known by name, with questions from `data`.
    pub(crate) fn of_known(known: &Known, data: DataRecipe) -> Self {
        let mut rewards = RewardsRecipe::default();
        match known.judge {
            KnownJudge::Math { tolerance } => {
                rewards.math = Some(Weighted::of(Math { tolerance, ..Math::default() }, 1.0));
                rewards.format = Some(Weighted::of(Format { boxed: true, ..Format::default() }, 0.0));
            }
            KnownJudge::Exact => rewards.exact_match = Some(Weighted::of(ExactMatch::default(), 1.0)),
            KnownJudge::Countdown => {
                rewards.countdown = Some(Weighted::of(CountdownReward::default(), 1.0));
                rewards.format = Some(Weighted::of(Format { boxed: true, ..Format::default() }, 0.0));
            }
        }
        Self {
            name: Some(known.name.into()),
            take: None,
            samples: Count(known.draw.samples()),
            adaptive: None,
            at_k: AtKRule::default(),
            reward: None,
            level: level(),
            subject: subject(),
            enable_thinking: None,
            data,
            prompt: PromptTemplate {
                template: known.template.into(),
                chat: known.chat,
                ..PromptTemplate::default()
            },
            rewards,
            sampling: known.draw.sampling(known.max_tokens),
            shots: Vec::new(),
        }
    }

    /// A benchmark from a file.
    pub(crate) fn read(path: &str) -> Result<Self, RecipeError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| RecipeError::Read { path: path.to_owned(), source })?;
        let mut recipe: Self = toml::from_str(&text).map_err(|error| parse_error(path, &text, &error))?;
        ranges::check(path, &text)?;
        let stem = std::path::Path::new(path).file_stem().and_then(|stem| stem.to_str());
        recipe.name = recipe.name.or(stem.map(str::to_owned));
        let places = Places { base: std::path::Path::new(path).parent(), sets: &[] };
        locate_parts(Some(&mut recipe.data), &mut recipe.rewards, &places);
        Ok(recipe)
    }

    /// The same with values replaced.
    pub(crate) fn with(self, sets: &[String]) -> Result<Self, RecipeError> {
        if sets.is_empty() {
            return Ok(self);
        }
        let problem = |error: String| RecipeError::Set { text: sets.join(" "), problem: error };
        let mut table = toml::Table::try_from(&self).map_err(|error| problem(error.to_string()))?;
        for set in sets {
            apply(&mut table, set)?;
        }
        let mut recipe: Self = replaced(self.name(), &table, sets, None)?;
        let places = Places { base: None, sets };
        locate_parts(Some(&mut recipe.data), &mut recipe.rewards, &places);
        Ok(recipe)
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("benchmark")
    }

    /// Refuses settings that make no sense together.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |problem: String| Err(Usage::error(format!("benchmark `{}`: {problem}", self.name())));
        if let Some(problem) = self.sampling.problem() {
            return refuse(format!("[sampling] {problem}"));
        }
        if self.sampling.temperature == 0.0 && (self.samples.get() > 1 || self.adaptive.is_some()) {
            return refuse(
                "temperature is 0, so all completions of a question would be the same; wanted samples = 1, or a temperature above 0".into(),
            );
        }
        if let Some(adaptive) = &self.adaptive {
            if !(adaptive.half_width > 0.0 && adaptive.half_width < 0.5) {
                return refuse(format!(
                    "adaptive.half_width is {}; wanted above 0 and below 0.5, such as 0.02",
                    adaptive.half_width
                ));
            }
            if adaptive.pilot.get() < 2 || adaptive.pilot > adaptive.most {
                return refuse(format!(
                    "adaptive.pilot is {} and adaptive.most {}; wanted a pilot of at least 2 and at most `most`",
                    adaptive.pilot.get(),
                    adaptive.most.get()
                ));
            }
        }
        Ok(())
    }
}

/// The generated questions that need no file.
pub(crate) fn generated(data: Data) -> Option<DataRecipe> {
    match data {
        Data::File { .. } => None,
        Data::Arithmetic => {
            let count = std::num::NonZeroUsize::new(500)?;
            Some(DataRecipe::Arithmetic(Arithmetic { split: Split::Test, count, ..Arithmetic::default() }))
        }
        Data::Countdown => {
            let count = std::num::NonZeroUsize::new(500)?;
            Some(DataRecipe::Countdown(data::Countdown {
                split: Split::Test,
                count,
                ..data::Countdown::default()
            }))
        }
    }
}
