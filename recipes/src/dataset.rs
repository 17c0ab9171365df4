//! The dataset that a recipe or a benchmark names.
//!
//! Before: `[data]`. After: prompts.

use std::path::{Path, PathBuf};

use anyhow::Result;
use data::{Dataset, Files, PromptTemplate, Seed, Split, SplitPart};

use crate::recipe::{DataRecipe, matched};
use crate::usage::Usage;

/// The dataset that a recipe names; with `held_out`, so many of the problems that it holds back.
pub(crate) fn dataset(
    data: &DataRecipe,
    prompt: &PromptTemplate,
    seed: u64,
    held_out: Option<usize>,
) -> Result<Dataset> {
    let seed = Seed(seed).named("data");
    let held_out = held_out.and_then(std::num::NonZeroUsize::new);
    let file = match data {
        DataRecipe::Arithmetic(arithmetic) => {
            let mut arithmetic = arithmetic.clone();
            if let Some(count) = held_out {
                (arithmetic.split, arithmetic.count) = (Split::Test, count);
            }
            return Ok(Dataset::arithmetic(&arithmetic, seed, prompt)?);
        }
        DataRecipe::Countdown(countdown) => {
            let mut countdown = countdown.clone();
            if let Some(count) = held_out {
                (countdown.split, countdown.count) = (Split::Test, count);
            }
            return Ok(Dataset::countdown(&countdown, seed, prompt)?);
        }
        DataRecipe::Jsonl(file) | DataRecipe::Csv(file) | DataRecipe::Parquet(file) => file,
    };
    let part = if held_out.is_some() { SplitPart::HeldBack } else { SplitPart::Train };
    let files = Files {
        paths: &paths(&file.path)?,
        columns: &file.columns,
        layout: file.layout,
        template: prompt,
        filter: file.filter.as_ref(),
        part: file.hold_back.map(|hold_back| (hold_back, part)),
        csv: matches!(data, DataRecipe::Csv(_)),
    };
    let set = files.read()?;
    Ok(match file.take {
        Some(count) => set.take(count),
        None => set,
    })
}

/// The files at a path, which may be a pattern.
fn paths(path: &Path) -> Result<Vec<PathBuf>> {
    let pattern = path.to_str().filter(|text| text.contains(['*', '?', '[']) && !path.exists());
    let Some(pattern) = pattern else { return Ok(vec![path.to_owned()]) };
    match matched(pattern) {
        Ok(all) if all.is_empty() => Err(Usage::error(format!("no file is at `{pattern}`"))),
        Ok(all) => Ok(all),
        Err(problem) => Err(Usage::error(format!("the pattern `{pattern}` cannot be used: {problem}"))),
    }
}
