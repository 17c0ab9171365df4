//! `--against`: prompts that share runs of words with a benchmark.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use data::{NGrams, Prompt, PromptTemplate, asked};
use serde::Serialize;
use serde_json::json;

use super::report::Report;
use crate::benchmark::{self, Changes};
use crate::dataset::dataset;
use crate::recipe::DataRecipe;
use crate::usage::Usage;

/// Half of a prompt's words in shared runs: little is its own.
const MOST: f64 = 0.5;

/// What the prompts of a recipe share with the questions of a benchmark, in runs of so many words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct OverlapReport {
    pub(super) against: String,
    /// Questions of the benchmark.
    pub(super) questions: usize,
    /// Words of a run.
    pub(super) words: usize,
    /// Prompts that share a run with any question.
    pub(super) sharing: usize,
    /// The same as a share of all prompts.
    pub(super) share: f64,
    /// Prompts half of whose words stand in shared runs.
    pub(super) half: usize,
    /// Prompts that share most, with a question that they share the first run with.
    pub(super) worst: Vec<SharedPrompt>,
}

/// A prompt that shares runs of words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct SharedPrompt {
    pub(super) prompt: String,
    pub(super) question: String,
    /// Words of the prompt that stand in shared runs, as a share of all its words.
    pub(super) share: f64,
}

/// The question alone: what a template puts around it would be shared by all.
fn question(prompt: &Prompt) -> String {
    let column = prompt.fields.get("question").and_then(serde_json::Value::as_str);
    column.map_or_else(|| asked(prompt), str::to_owned)
}

/// What the prompts of a report share with a benchmark, in runs of 13 and of 8 words.
///
/// # Errors
/// If there is no such benchmark or file, or it cannot be read.
pub(super) fn with(report: &Report, name: &str, folder: Option<&Path>) -> Result<[OverlapReport; 2]> {
    let questions = questions(name, folder).with_context(|| format!("--against {name}"))?;
    let texts: Vec<String> = questions.iter().map(|prompt| question(prompt)).collect();
    let own: Vec<(String, String)> =
        report.tasks.iter().map(|task| (task.prompt.id.clone(), question(&task.prompt))).collect();
    Ok([NGrams::LONG, NGrams::SHORT].map(|words| {
        let grams = NGrams::of(words, texts.iter().map(String::as_str));
        let mut worst: Vec<SharedPrompt> = own
            .iter()
            .filter_map(|(id, text)| {
                let overlap = grams.overlap(text)?;
                let question = questions[overlap.text].id.clone();
                Some(SharedPrompt { prompt: id.clone(), question, share: overlap.share })
            })
            .collect();
        worst.sort_by(|a, b| b.share.total_cmp(&a.share).then_with(|| a.prompt.cmp(&b.prompt)));
        OverlapReport {
            against: name.to_owned(),
            questions: texts.len(),
            words: words.get(),
            sharing: worst.len(),
            share: worst.len() as f64 / own.len().max(1) as f64,
            half: worst.iter().filter(|prompt| prompt.share >= MOST).count(),
            worst,
        }
    }))
}

/// The questions of a benchmark, or the rows of a file.
fn questions(name: &str, folder: Option<&Path>) -> Result<Vec<Arc<Prompt>>> {
    let file = Path::new(name);
    let data = match file.is_file() && !name.ends_with(".toml") {
        true => {
            let kind = if name.ends_with(".parquet") { "parquet" } else { "jsonl" };
            serde_json::from_value::<DataRecipe>(json!({ kind: { "path": file } }))?
        }
        // no benchmark has a dot in its name
        false if !file.is_file() && (file.components().count() > 1 || name.contains('.')) => {
            return Err(Usage::error(format!(
                "there is no file `{name}`; wanted JSON lines, a Parquet file, a benchmark's .toml, or a name that `evenkeel benchmarks` lists"
            )));
        }
        false => benchmark::recipe(name, folder, &Changes::default())?.data,
    };
    Ok(dataset(&data, &PromptTemplate::default(), 0, None)?.prompts().to_vec())
}
