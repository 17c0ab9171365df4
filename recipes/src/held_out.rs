//! The held-out questions of a run: problems of the recipe's own kind that training does not see, or a benchmark.
//!
//! Before: `[eval]`. After: [`crate::measure`] asks them while the run trains.

use std::sync::Arc;

use anyhow::{Context, Result};
use eval::{Benchmark, Samples};
use rewards::Rewards;
use rollout::{Sampling, Task};

use crate::benchmark::{self, Changes, QuestionFormat};
use crate::custom::CustomRewards;
use crate::dataset::dataset;
use crate::reader::Reader;
use crate::recipe::{BenchmarkRecipe, DataRecipe, EvalRecipe, Recipe};
use crate::usage::Usage;

/// The held-out questions of a run.
pub(crate) struct HeldOut {
    pub(crate) benchmark: Benchmark,
    /// The questions as the policy reads them.
    pub(crate) tasks: Vec<Task>,
}

/// The questions that a recipe measures its policy on.
///
/// # Errors
/// If their dataset, benchmark or judge is missing or broken.
pub(crate) fn held_out(
    recipe: &Recipe,
    eval: &EvalRecipe,
    rewards: &Arc<Rewards>,
    reader: &Reader<'_>,
    custom: &CustomRewards,
) -> Result<HeldOut> {
    let mut benchmark = match &eval.bench {
        Some(name) => {
            let known = benchmark::recipe(name, None, &Changes::default()).context("[eval] bench")?;
            benchmark::build(&BenchmarkRecipe { take: Some(eval.prompts), ..known }, custom)?
        }
        None => held_out_of(recipe, eval, rewards)?,
    };
    let protocol = &mut benchmark.protocol;
    protocol.enable_thinking = protocol.enable_thinking.or(reader.enable_thinking);
    if let Some(temperature) = eval.temperature {
        protocol.sampling.temperature = temperature;
    }
    if let Some(max_tokens) = eval.max_tokens {
        protocol.sampling.max_tokens = max_tokens.get();
    }
    if let Some(samples) = eval.samples {
        protocol.samples = Samples::Each(samples.get());
    }
    let tasks = benchmark.prompts.iter().map(|prompt| reader.task(prompt)).collect::<Result<_>>()?;
    Ok(HeldOut { benchmark, tasks })
}

/// Held-out questions of the recipe's own kind, judged by its own rewards.
fn held_out_of(recipe: &Recipe, eval: &EvalRecipe, rewards: &Arc<Rewards>) -> Result<Benchmark> {
    // runs that differ in the seed are measured on the same questions
    let set = match (&eval.data, &recipe.data) {
        (Some(data), _) => dataset(data, &recipe.prompt, 0, None)?,
        (None, data @ (DataRecipe::Arithmetic(_) | DataRecipe::Countdown(_))) => {
            dataset(data, &recipe.prompt, 0, Some(eval.prompts.get()))?
        }
        (None, data @ (DataRecipe::Jsonl(file) | DataRecipe::Csv(file) | DataRecipe::Parquet(file)))
            if file.hold_back.is_some() =>
        {
            dataset(data, &recipe.prompt, 0, Some(eval.prompts.get()))?
        }
        (None, DataRecipe::Jsonl(_) | DataRecipe::Csv(_) | DataRecipe::Parquet(_)) => {
            return Err(Usage::error(
                "[eval] needs a dataset of its own, such as [eval.data.jsonl], or a part of this one, such as hold_back = { fraction = 0.05 } beside its path",
            ));
        }
    };
    let set = set.take(eval.prompts.get());
    let sampling = match &recipe.rl {
        Some(rl) => Sampling {
            max_tokens: rl.sampling.max_tokens,
            stop: rl.sampling.stop.clone(),
            stop_tokens: rl.sampling.stop_tokens.clone(),
            thinking_budget: rl.sampling.thinking_budget,
            thinking_close: rl.sampling.thinking_close.clone(),
            ..Sampling::default()
        },
        None => Sampling::default(),
    };
    let generated = matches!(
        eval.data.as_ref().unwrap_or(&recipe.data),
        DataRecipe::Arithmetic(_) | DataRecipe::Countdown(_)
    );
    let benchmark = benchmark::of(
        "held-out",
        set.prompts().to_vec(),
        rewards.clone(),
        &recipe.rewards,
        eval.reward.as_deref(),
        QuestionFormat { prompt: &recipe.prompt, sampling, samples: Samples::Each(1), shots: &[] },
    )
    .context("[eval]")?;
    Ok(Benchmark { generated, ..benchmark })
}
