//! The dataset that a recipe or a benchmark names.
//!
//! Before: `[data]`. After: prompts.

use anyhow::Result;
use data::{Dataset, PromptTemplate, Seed, Split};

use crate::recipe::DataRecipe;

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
        DataRecipe::Jsonl(file) | DataRecipe::Parquet(file) => file,
    };
    let set = Dataset::read(&file.path, &file.columns, file.layout, prompt)?;
    Ok(match file.take {
        Some(count) => set.take(count),
        None => set,
    })
}
