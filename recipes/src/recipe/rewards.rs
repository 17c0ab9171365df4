//! `[rewards]`: what a rollout earns.
//!
//! Before and after: see [`super`]. [`RewardsRecipe::build`] starts what has to be started, so that what is wrong with a
//! function is known before any training.

use anyhow::Result;
use indexmap::IndexMap;
use rewards::{
    Code, Command, CosineLength, CountdownReward, ExactMatch, Format, Http, Judge, Keyword, Language,
    LengthReward, Math, OnNone, Python, Repetition, RewardError, Rewards, SumSettings,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::local::{self, Built, LocalJudge, RewardModel};
use super::weighted::Weighted;
use crate::custom::{CustomRewards, Shared};
use crate::nearest::did_you_mean;
use crate::usage::Usage;

/// `[rewards]`: the sum of what is named here, in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RewardsRecipe {
    /// The reward of a rollout that a `gate` stopped.
    pub gated: f32,
    /// Least and largest reward; one beyond is set to the bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<[f32; 2]>,
    /// The largest share of a step's rollouts that a function may fail for; beyond it the run stops.
    pub max_failures: f32,
    /// 1 if the answer is the reference answer, letter by letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact_match: Option<Weighted<ExactMatch>>,
    /// 1 if the answer says the same as the reference answer, as mathematics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub math: Option<Weighted<Math>>,
    /// 1 if the answer is an expression of the prompt's `numbers` that has the value `target`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub countdown: Option<Weighted<CountdownReward>>,
    /// Whether the code in the completion passes the prompt's tests, in a sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Weighted<Code>>,
    /// Functions in Python files, by name.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub python: IndexMap<String, Weighted<Python>>,
    /// Programs that read and write JSON lines, by name.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub command: IndexMap<String, Weighted<Command>>,
    /// HTTP endpoints, by name.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub http: IndexMap<String, Weighted<Http>>,
    /// Language models behind an OpenAI-compatible endpoint that grade, by name.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub judge: IndexMap<String, Weighted<Judge>>,
    /// Sequence classifiers in folders, by name.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub reward_model: IndexMap<String, Weighted<RewardModel>>,
    /// Language models in folders that grade, by name.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub local_judge: IndexMap<String, Weighted<LocalJudge>>,
    /// Functions of the program that runs the recipe, by name.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub custom: IndexMap<String, Weighted<Custom>>,
    /// 1 if the completion has the form asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Weighted<Format>>,
    /// How far its length is from a target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<Weighted<LengthReward>>,
    /// Short right answers before long ones, long wrong ones before short ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosine_length: Option<Weighted<CosineLength>>,
    /// Minus the share of words that only repeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition: Option<Weighted<Repetition>>,
    /// The share of it in a language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<Weighted<Language>>,
    /// Words that it must and must not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyword: Option<Weighted<Keyword>>,
}

/// `[rewards.custom.NAME]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Custom {}

impl Default for RewardsRecipe {
    fn default() -> Self {
        let SumSettings { gated, max_failures, .. } = SumSettings::default();
        Self {
            gated,
            clip: None,
            max_failures,
            exact_match: None,
            math: None,
            countdown: None,
            code: None,
            python: IndexMap::new(),
            command: IndexMap::new(),
            http: IndexMap::new(),
            judge: IndexMap::new(),
            reward_model: IndexMap::new(),
            local_judge: IndexMap::new(),
            custom: IndexMap::new(),
            format: None,
            length: None,
            cosine_length: None,
            repetition: None,
            language: None,
            keyword: None,
        }
    }
}

impl RewardsRecipe {
    /// True if all of them judge by text alone, in next to no time.
    pub(crate) fn quick(&self) -> bool {
        *self == self.textual()
    }

    /// Those that judge by text alone, in next to no time.
    pub(crate) fn textual(&self) -> Self {
        Self {
            code: None,
            python: IndexMap::new(),
            command: IndexMap::new(),
            http: IndexMap::new(),
            judge: IndexMap::new(),
            reward_model: IndexMap::new(),
            local_judge: IndexMap::new(),
            custom: IndexMap::new(),
            ..self.clone()
        }
    }

    /// Those Python functions that would see so many samples one by one, as each worker's first call has one only: with one
    /// worker, which sees the others in one call.
    pub(crate) fn python_in_batches(&self, samples: usize) -> Self {
        let few = |(_, table): &(&String, &Weighted<Python>)| table.reward.workers + 2 > samples;
        let one = |(name, table): (&String, &Weighted<Python>)| {
            let mut table = table.clone();
            table.reward.workers = 1;
            (name.clone(), table)
        };
        Self { python: self.python.iter().filter(few).map(one).collect(), ..Self::default() }
    }

    /// The rewards, ready to judge.
    ///
    /// # Errors
    /// If a setting makes no sense, or a function cannot be started.
    pub(crate) fn build(&self, custom: &CustomRewards) -> Result<Rewards> {
        let clip = self.clip.map(|[low, high]| (low, high));
        let settings = SumSettings { gated: self.gated, clip, max_failures: self.max_failures };
        let sum = Rewards::with_settings(settings).map_err(|error| mistake("[rewards]", error))?;
        let mut sum = RewardSum(sum);
        sum.add("exact_match", &self.exact_match, |reward| Ok(Box::new(reward)))?;
        sum.add("math", &self.math, |reward: Math| Ok(Box::new(reward.build()?)))?;
        sum.add("countdown", &self.countdown, |reward| Ok(Box::new(reward)))?;
        sum.add("code", &self.code, |reward: Code| Ok(Box::new(reward.build("code")?)))?;
        for (name, table) in &self.python {
            // in TRL a function says None of tasks that are not its own
            let place = format!("python.{name}");
            sum.add_as(name, &place, table, OnNone::Skip, |reward: Python| {
                Ok(Box::new(reward.build(name)?))
            })?;
        }
        for (name, table) in &self.command {
            let place = format!("command.{name}");
            sum.add_as(name, &place, table, OnNone::Drop, |reward| Ok(Box::new(reward.build(name)?)))?;
        }
        for (name, table) in &self.http {
            let place = format!("http.{name}");
            sum.add_as(name, &place, table, OnNone::Drop, |reward: Http| Ok(Box::new(reward.build(name)?)))?;
        }
        for (name, table) in &self.judge {
            let place = format!("judge.{name}");
            sum.add_as(name, &place, table, OnNone::Drop, |reward: Judge| Ok(Box::new(reward.build(name)?)))?;
        }
        for (name, table) in &self.reward_model {
            let place = format!("reward_model.{name}");
            sum.add_as(name, &place, table, OnNone::Drop, |reward| local::reward_model(reward, name))?;
        }
        for (name, table) in &self.local_judge {
            let place = format!("local_judge.{name}");
            sum.add_as(name, &place, table, OnNone::Drop, |reward| local::judge(reward, name))?;
        }
        for (name, table) in &self.custom {
            let Some(reward) = custom.get(name) else {
                let known: Vec<&str> = custom.keys().map(String::as_str).collect();
                let hint = did_you_mean(name, known.iter().copied());
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                return Err(Usage::error(format!(
                    "[rewards.custom.{name}] names a function that this program does not have; it has {known}{hint}"
                )));
            };
            let place = format!("custom.{name}");
            let shared = Box::new(Shared(reward.clone()));
            sum.add_as(name, &place, table, OnNone::Drop, |_| Ok(shared))?;
        }
        sum.add("format", &self.format, |reward: Format| Ok(Box::new(reward.build()?)))?;
        sum.add("length", &self.length, |reward: LengthReward| Ok(Box::new(reward.build()?)))?;
        sum.add("cosine_length", &self.cosine_length, |reward: CosineLength| Ok(Box::new(reward.build()?)))?;
        sum.add("repetition", &self.repetition, |reward: Repetition| Ok(Box::new(reward.build()?)))?;
        sum.add("language", &self.language, |reward: Language| Ok(Box::new(reward.build()?)))?;
        sum.add("keyword", &self.keyword, |reward: Keyword| Ok(Box::new(reward.build()?)))?;
        Ok(sum.0)
    }
}

/// The error of a reward: a failure if it cannot start, else a mistake in the recipe.
fn mistake(place: &str, error: RewardError) -> anyhow::Error {
    match error {
        RewardError::Start { .. } => anyhow::Error::new(error).context(place.to_owned()),
        error => Usage::error(format!("{place}: {error}")),
    }
}

struct RewardSum(Rewards);

impl RewardSum {
    fn add<T: Clone>(
        &mut self,
        name: &str,
        table: &Option<Weighted<T>>,
        build: impl FnOnce(T) -> Built,
    ) -> Result<()> {
        match table {
            Some(table) => self.add_as(name, name, table, OnNone::Drop, build),
            None => Ok(()),
        }
    }

    fn add_as<T: Clone>(
        &mut self,
        name: &str,
        place: &str,
        table: &Weighted<T>,
        usual: OnNone,
        build: impl FnOnce(T) -> Built,
    ) -> Result<()> {
        let added = build(table.reward.clone())
            .and_then(|reward| std::mem::take(&mut self.0).with(name, table.part(usual), reward));
        self.0 = added.map_err(|error| mistake(&format!("[rewards.{place}]"), error))?;
        Ok(())
    }
}
