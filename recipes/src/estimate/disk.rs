//! What a run writes: checkpoints, of which the older ones go, and rollouts, which all stay.
//!
//! Before: [`Plan`]. After: bytes, part by part, as they are at the run's largest.

use engine::model::WeightDtype;
use rollout::backend::BackendConfig;

use super::Lengths;
use super::memory::optimizer_numbers;
use crate::plan::Plan;

/// Compressed bytes of a rollout: its record, and each token with its id, log-prob and text.
const ROLLOUT: (f64, f64) = (120.0, 7.0);
/// Bytes of a step's metrics.
const METRICS: usize = 2500;

/// Bytes of one checkpoint: the model for others to load, the optimizer, and the exact weights unless the model has them.
pub(crate) fn checkpoint(plan: &Plan) -> usize {
    let parameters = plan.config.parameter_count();
    let dtype = plan.recipe.save.dtype;
    let exact = if dtype == WeightDtype::F32 { 0 } else { 4 };
    parameters * (dtype.size() + exact) + 4 * optimizer_numbers(plan) + tokenizer(plan)
}

/// Bytes of the files beside the weights.
fn tokenizer(plan: &Plan) -> usize {
    let Some(folder) = plan.checkpoint.dir() else { return 20_000 };
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let small = files.filter(|file| {
        file.path()
            .extension()
            .is_some_and(|ending| ["json", "txt", "jinja"].iter().any(|known| ending == *known))
    });
    small.filter_map(|file| std::fs::metadata(file.path()).ok()).map(|data| data.len() as usize).sum()
}

/// Parts of what lies on the disk when it is most.
pub(crate) fn disk(plan: &Plan, lengths: impl Fn(usize) -> Lengths) -> Vec<(String, usize)> {
    let (recipe, one) = (&plan.recipe, checkpoint(plan));
    let steps = [
        recipe.sft.as_ref().map(|sft| sft.steps.get()),
        recipe.rl.as_ref().map(|rl| rl.steps.get()),
        recipe.preference.as_ref().map(|preference| preference.steps.get()),
    ];
    // there is one at the end of each stage
    let made: usize = steps.iter().flatten().map(|steps| steps.div_ceil(recipe.save.every.get())).sum();
    let kept = made.min(recipe.save.keep.get());
    let mut parts = vec![(format!("{kept} checkpoint{}", if kept == 1 { "" } else { "s" }), kept * one)];
    let mut more = |name: &str, bytes: usize| parts.push((name.to_owned(), bytes));
    if recipe.save.best.is_some() && made > kept {
        more("the best checkpoint", one);
    }
    if made > kept {
        more("the checkpoint that is being written", one);
    }
    if recipe.rl.as_ref().is_some_and(|rl| rl.kl.is_some()) {
        more("the frozen reference", 4 * plan.config.parameter_count());
    }
    if let BackendConfig::Vllm(server) | BackendConfig::Sglang(server) = &recipe.rollout.backend {
        more("weights for the server", server.dtype.size() * plan.config.parameter_count());
    }
    let rollouts =
        |count: usize, most: usize| (count as f64 * (ROLLOUT.0 + ROLLOUT.1 * lengths(most).mean)) as usize;
    if let Some(rl) = recipe.rl.as_ref().filter(|_| recipe.save.rollouts) {
        let branches = if rl.mixture.is_some() { 2 } else { 1 };
        let count = branches * rl.steps.get() * rl.prompts_per_step.get() * rl.group_size.get();
        more("rollouts", rollouts(count, rl.sampling.max_tokens));
    }
    if let (Some(eval), Some(held_out)) = (&recipe.eval, &plan.held_out) {
        let times: usize = steps.iter().flatten().map(|steps| 1 + steps.div_ceil(eval.every.get())).sum();
        let count = held_out.tasks.len() * eval.samples.map_or(1, |samples| samples.get());
        // every question's own figures, and its samples if they are kept
        let samples = if recipe.save.rollouts {
            rollouts(count, held_out.benchmark.protocol.sampling.max_tokens)
        } else {
            0
        };
        more("evaluations", times * (samples + 400 * held_out.tasks.len()));
    }
    more("metrics", METRICS * steps.iter().flatten().sum::<usize>());
    parts
}
