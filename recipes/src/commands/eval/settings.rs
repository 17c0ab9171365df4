//! What `evenkeel eval` was asked for: kept in the evaluation's folder, so that an interrupted one goes on.
//!
//! Before: the command line. After: [`crate::commands::eval`] evaluates every model on every benchmark.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::args::EvalArgs;
use crate::benchmark::{self, Changes};
use crate::checkpoint_of::checkpoint_of;
use crate::device::DeviceRecipe;
use crate::recipe::{BenchmarkRecipe, ComputeRecipe};
use crate::usage::Usage;

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) models: Vec<ModelSettings>,
    pub(crate) benchmarks: Vec<BenchmarkRecipe>,
    pub(crate) seed: u64,
    pub(crate) replicas: bool,
    pub(crate) device: DeviceRecipe,
    pub(crate) compute: ComputeRecipe,
    pub(crate) rows: usize,
    pub(crate) kv_memory: f64,
    pub(crate) read: usize,
    /// When it was begun, in microseconds since 1970: part of the names of files for lm-evaluation-harness.
    #[serde(default)]
    pub(crate) begun: u64,
}

/// A model that answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelSettings {
    /// Its name in reports.
    pub(crate) name: String,
    /// A folder, a name on the hub, `tiny`, or what a server calls it.
    pub(crate) source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revision: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<ServerSettings>,
}

/// The address of a server, and how to talk to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerSettings {
    pub(crate) url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_variable: Option<String>,
    pub(crate) request_seconds: f64,
}

impl Settings {
    /// The settings that the command line asks for.
    pub(crate) fn of(args: &EvalArgs) -> Result<Self> {
        if !(args.serving.kv_memory.is_finite() && args.serving.kv_memory > 0.0) {
            return Err(Usage::error(format!(
                "--kv-memory is {}; wanted more than 0 GiB",
                args.serving.kv_memory
            )));
        }
        let mut sets = args.sets.set.clone();
        let mut set =
            |key: &str, value: Option<String>| sets.extend(value.map(|value| format!("{key}={value}")));
        set("samples", args.samples.map(|n| n.to_string()));
        set("take", args.limit.map(|n| n.to_string()));
        let name = |rule| eval::AtKRule::NAMES.into_iter().find(|(_, known)| *known == rule);
        set("at_k", args.at_k.and_then(name).map(|(name, _)| name.to_owned()));
        // a number without a point would be an integer to TOML
        set("sampling.temperature", args.temperature.map(|t| format!("{t:?}")));
        set("sampling.max_tokens", args.max_tokens.map(|n| n.to_string()));
        let half_width = args.adaptive.or(args.adaptive_each);
        set("adaptive.half_width", half_width.map(|width| format!("{width:?}")));
        set("adaptive.each", args.adaptive_each.map(|_| "true".into()));
        let changes = Changes { sets: &sets, few_shot: args.few_shot };
        let benchmarks =
            args.bench.iter().map(|name| benchmark::recipe(name, args.datasets.data.as_deref(), &changes));
        let benchmarks = benchmarks.collect::<Result<Vec<_>>>()?;
        unique("benchmark", benchmarks.iter().map(BenchmarkRecipe::name))?;
        let models = models(args)?;
        unique("model", models.iter().map(|model| model.name.as_str()))?;
        if args.replicas && models.len() < 2 {
            return Err(Usage::error("--replicas compares runs of one recipe; wanted at least two models"));
        }
        let twice =
            |place: &usize| models[..*place].iter().any(|other| other.source == models[*place].source);
        if let Some(place) = (0..models.len()).find(twice).filter(|_| args.replicas) {
            return Err(Usage::error(format!(
                "--replicas splits the spread between runs of one recipe, and `{}` is there twice: a run is no second run of itself",
                models[place].source
            )));
        }
        Ok(Self {
            models,
            benchmarks,
            seed: args.seed,
            replicas: args.replicas,
            device: args.load.device,
            compute: args.load.compute,
            rows: args.serving.rows.map_or(64, usize::from),
            kv_memory: args.serving.kv_memory,
            read: args.read,
            begun: micros(SystemTime::now()),
        })
    }

    /// The settings of an evaluation that was begun.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let file = folder.join("settings.json");
        let bytes = std::fs::read(&file).map_err(|error| {
            Usage::error(format!(
                "`{}` is no evaluation to go on with: could not read settings.json: {error}",
                folder.display()
            ))
        })?;
        let damaged = || format!("`{}` is damaged", file.display());
        let mut settings: Self = serde_json::from_slice(&bytes).with_context(damaged)?;
        if settings.begun == 0 {
            // an older version kept no time; the file is written once
            settings.begun = micros(file.metadata().and_then(|file| file.modified()).with_context(damaged)?);
        }
        Ok(settings)
    }

    /// Names for its folder, the first first.
    pub(crate) fn folders(&self) -> impl Iterator<Item = PathBuf> {
        let name = |names: Vec<&str>| match names.as_slice() {
            [one] => (*one).to_owned(),
            [first, ..] => format!("{first}-and-{}-more", names.len() - 1),
            [] => "evaluation".into(),
        };
        let models = name(self.models.iter().map(|model| model.name.as_str()).collect());
        let benchmarks = name(self.benchmarks.iter().map(BenchmarkRecipe::name).collect());
        let stem = eval::report::harness::sanitized(&format!("{models}-{benchmarks}"));
        let first = Path::new("evals").join(&stem);
        let others = (2u64..).map(move |number| Path::new("evals").join(format!("{stem}-{number}")));
        std::iter::once(first).chain(others)
    }
}

/// Microseconds since 1970.
fn micros(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(1, |since| since.as_micros() as u64)
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Usage::error(format!(
                "{what} `{name}` is there twice; wanted each once (a model may be named: NAME=PATH)"
            )));
        }
    }
    Ok(())
}

/// Names and places of the models: NAME=PATH, or a path whose last parts that tell it from the others become its name.
fn models(args: &EvalArgs) -> Result<Vec<ModelSettings>> {
    let server = args.server.as_ref().map(|url| ServerSettings {
        url: url.clone(),
        key_variable: args.serving.key_variable.clone(),
        request_seconds: args.serving.request_seconds,
    });
    let mut found = Vec::new();
    for model in &args.models {
        let (name, source) = match model.split_once('=') {
            Some((name, source)) if !name.is_empty() && !name.contains('/') => {
                (Some(name.to_owned()), source)
            }
            _ => (None, model.as_str()),
        };
        let source = if server.is_some() { source.to_owned() } else { checkpoint_of(source)? };
        let (revision, server) = (args.load.revision.clone(), server.clone());
        found.push((name, ModelSettings { name: String::new(), source, revision, server }));
    }
    let sources: Vec<String> = found.iter().map(|(_, model)| model.source.clone()).collect();
    let named = found.into_iter().enumerate().map(|(place, (name, model))| {
        let name = name.unwrap_or_else(|| short(&sources, place));
        ModelSettings { name, ..model }
    });
    Ok(named.collect())
}

/// The last parts of a path, as many as it takes to tell it from the others.
fn short(sources: &[String], place: usize) -> String {
    let parts = |source: &str| -> Vec<String> {
        source.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
    };
    let own = parts(&sources[place]);
    let tail = |parts: &[String], count: usize| parts[parts.len().saturating_sub(count)..].to_vec();
    let others: Vec<Vec<String>> =
        sources.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, s)| parts(s)).collect();
    let count =
        (1..own.len()).find(|count| others.iter().all(|other| tail(other, *count) != tail(&own, *count)));
    let name = tail(&own, count.unwrap_or(own.len())).into_iter().filter(|part| part != "checkpoints");
    name.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_name_is_as_short_as_the_others_allow() {
        let sources = ["runs/a/checkpoints/step-10", "runs/b/checkpoints/step-10", "./models/qwen/", "tiny"];
        let sources = sources.map(str::to_owned);
        let names: Vec<String> = (0..sources.len()).map(|place| short(&sources, place)).collect();
        assert_eq!(names, ["a/step-10", "b/step-10", "qwen", "tiny"]);
    }

    #[test]
    fn the_same_model_twice_has_the_same_name_and_is_refused() {
        let sources = ["x/y".to_owned(), "x/y".to_owned()];
        assert_eq!(short(&sources, 0), short(&sources, 1));
        let error = unique("model", ["x/y", "x/y"].into_iter()).unwrap_err().to_string();
        assert!(error.contains("model `x/y` is there twice"), "{error}");
    }
}
