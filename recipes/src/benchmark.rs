//! A benchmark's recipe becomes questions with a judge.
//!
//! Before: [`crate::recipe::BenchmarkRecipe`], or a known name and the folder of datasets. After: [`eval::Benchmark`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use data::{Columns, Layout, Prompt, PromptTemplate};
use engine::model::Hub;
use eval::benchmarks::{BENCHMARKS, Data, Known, known};
use eval::{AtKRule, Benchmark, Protocol, Questions, Samples, Shot, Shots, shots, with_shots};
use rewards::Rewards;
use rollout::Sampling;

use crate::custom::CustomRewards;
use crate::dataset::dataset;
use crate::nearest::did_you_mean;
use crate::recipe::{BenchmarkRecipe, Count, DataRecipe, FileRecipe, RewardsRecipe, generated};
use crate::usage::Usage;

/// The variable that names the folder of datasets.
pub(crate) const FOLDER: &str = "EVENKEEL_DATA";

/// Changes of a benchmark that have options of their own.
#[derive(Debug, Default)]
pub(crate) struct Changes<'a> {
    pub(crate) sets: &'a [String],
    pub(crate) few_shot: Option<usize>,
}

/// Finds a benchmark: a known name, or a file that ends in `.toml`.
pub(crate) fn recipe(name: &str, folder: Option<&Path>, changes: &Changes<'_>) -> Result<BenchmarkRecipe> {
    let (mut recipe, examples) = match known(name) {
        Some(known) => {
            let data = match known.data {
                Data::File { .. } => file_of(known, folder)?,
                other => generated(other).context("a generated benchmark has a generator")?,
            };
            (BenchmarkRecipe::of_known(known, data), shots(known.shots))
        }
        None if name.ends_with(".toml") => {
            let recipe = BenchmarkRecipe::read(name)?;
            let examples = recipe.shots.clone();
            (recipe, examples)
        }
        None => {
            let names: Vec<&str> = BENCHMARKS.iter().map(|known| known.name).collect();
            let hint = did_you_mean(name, names.iter().copied());
            return Err(Usage::error(format!(
                "there is no benchmark `{name}`; there are {}, and files that end in .toml{hint}",
                names.join(", ")
            )));
        }
    };
    recipe = recipe.with(changes.sets)?;
    if let Some(wanted) = changes.few_shot {
        if wanted > examples.len() {
            return Err(Usage::error(format!(
                "--few-shot is {wanted}; benchmark `{name}` has {} worked examples",
                examples.len()
            )));
        }
        recipe.shots = examples[..wanted].to_vec();
    }
    recipe.check()?;
    Ok(recipe)
}

/// The questions of a known benchmark: a file below the folder of datasets, or on the hub.
pub(crate) fn file_of(known: &Known, folder: Option<&Path>) -> Result<DataRecipe> {
    let Data::File { path, hub } = known.data else {
        anyhow::bail!("benchmark `{}` is generated", known.name)
    };
    let named = folder.map(Path::to_owned).or_else(|| std::env::var_os(FOLDER).map(PathBuf::from));
    if let Some(folder) = &named {
        let file = folder.join(path);
        if file.is_file() {
            return Ok(jsonl(file));
        }
    }
    let looked = match &named {
        Some(folder) => format!("there is no `{}`", folder.join(path).display()),
        None => format!("no folder of datasets is named, by --data or {FOLDER}, which would have `{path}`"),
    };
    let Some(hub) = hub else {
        return Err(Usage::error(format!(
            "benchmark `{}`: {looked}, and no file of the hub is known for it",
            known.name
        )));
    };
    let found = Hub::from_env().and_then(|client| client.dataset_file(hub.dataset, hub.revision, hub.file));
    let path =
        found.with_context(|| format!("benchmark `{}`: {looked}, and the hub did not help", known.name))?;
    let columns = Columns {
        question: hub.question.into(),
        answer: Some(hub.answer.into()),
        id: hub.id.map(str::to_owned),
    };
    let layout = if hub.solution { Layout::Gsm8k } else { Layout::Plain };
    let parquet = hub.file.ends_with(".parquet");
    let file = FileRecipe::of(path, layout, columns);
    Ok(if parquet { DataRecipe::Parquet(file) } else { DataRecipe::Jsonl(file) })
}

/// Reads the questions and builds the judges.
pub(crate) fn build(recipe: &BenchmarkRecipe, custom: &CustomRewards) -> Result<Benchmark> {
    let name = recipe.name();
    let about = || format!("benchmark `{name}`");
    let set = dataset(&recipe.data, &recipe.prompt, 0, None).with_context(about)?;
    let mut prompts = set.prompts().to_vec();
    prompts.truncate(recipe.take.map_or(usize::MAX, Count::get));
    let rewards = Arc::new(recipe.rewards.build(custom).with_context(about)?);
    let columns: BTreeSet<&String> = prompts.iter().flat_map(|prompt| prompt.fields.keys()).collect();
    rewards.expect(&columns.into_iter().cloned().collect::<Vec<_>>());
    let format = QuestionFormat {
        prompt: &recipe.prompt,
        sampling: recipe.sampling.clone(),
        samples: match &recipe.adaptive {
            Some(adaptive) => Samples::Adaptive(adaptive.settings()),
            None => Samples::Each(recipe.samples.get()),
        },
        shots: &recipe.shots,
    };
    let reward = recipe.reward.as_deref();
    let benchmark = of(name, prompts, rewards, &recipe.rewards, reward, format).with_context(about)?;
    let (enable_thinking, at_k) = (recipe.enable_thinking, recipe.at_k);
    let protocol = Protocol { enable_thinking, at_k, ..benchmark.protocol };
    let generated = matches!(recipe.data, DataRecipe::Arithmetic(_) | DataRecipe::Countdown(_));
    Ok(Benchmark {
        protocol,
        generated,
        level: recipe.level.clone(),
        subject: recipe.subject.clone(),
        ..benchmark
    })
}

/// The form in which questions are asked: prompt template, worked examples, sampling, and draws of each.
pub(crate) struct QuestionFormat<'a> {
    pub(crate) prompt: &'a PromptTemplate,
    pub(crate) sampling: Sampling,
    pub(crate) samples: Samples,
    pub(crate) shots: &'a [Shot],
}

/// A benchmark of these prompts. `reward` says what is right; by default the first does.
pub(crate) fn of(
    name: &str,
    prompts: Vec<Arc<Prompt>>,
    rewards: Arc<Rewards>,
    recipe: &RewardsRecipe,
    reward: Option<&str>,
    format: QuestionFormat<'_>,
) -> Result<Benchmark> {
    let names: Vec<String> = rewards.parts().map(|(name, _)| name.to_owned()).collect();
    let deciding = match reward {
        Some(name) if names.iter().any(|known| known == name) => name.to_owned(),
        Some(other) => {
            let hint = did_you_mean(other, names.iter().map(String::as_str));
            return Err(Usage::error(format!("reward is `{other}`, which [rewards] does not name{hint}")));
        }
        None => names.first().cloned().ok_or_else(|| {
            Usage::error(
                "a reward function has to decide what is right: name one under [rewards], such as [rewards.math]",
            )
        })?,
    };
    let protocol = Protocol {
        benchmark: name.to_owned(),
        // what they are is what they ask, whatever stands in front of them
        questions: Questions::of(&prompts),
        prompt: format.prompt.clone(),
        shots: Shots::of(format.shots),
        enable_thinking: None,
        rewards: serde_json::to_value(recipe)?,
        deciding: deciding.clone(),
        grader: grader(&rewards, recipe)?,
        // a model's, which is not known here
        numerics: None,
        sampling: format.sampling,
        samples: format.samples,
        at_k: AtKRule::default(),
    };
    Ok(Benchmark {
        protocol,
        prompts: with_shots(prompts, format.shots, format.prompt)?,
        rewards,
        format: names.iter().find(|name| *name == "format" && **name != deciding).cloned(),
        mathematics: deciding == "math",
        generated: false,
        quick: recipe.quick(),
        level: "level".into(),
        subject: "subject".into(),
    })
}

/// What judges, by what it does; of functions that do more than look at text the program's version, as they are not tried.
fn grader(rewards: &Rewards, recipe: &RewardsRecipe) -> Result<String> {
    if recipe.quick() {
        return Ok(eval::grader(rewards));
    }
    let textual = recipe.textual().build(&CustomRewards::default())?;
    Ok(format!("{} and evenkeel {}", eval::grader(&textual), env!("CARGO_PKG_VERSION")))
}

/// A JSONL file with the usual columns.
pub(crate) fn jsonl(path: PathBuf) -> DataRecipe {
    DataRecipe::Jsonl(FileRecipe::of(path, Layout::Plain, Columns::default()))
}
