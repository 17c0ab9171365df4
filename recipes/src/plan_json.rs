//! `plan.json`: a plan for machines.

use serde_json::{Value, json};

use crate::estimate::memory::memory;
use crate::plan::Plan;
use crate::warnings::warnings;

/// Sizes by part, as JSON.
pub(crate) fn bytes_of(
    sizes: impl IntoIterator<Item = (&'static str, usize)>,
) -> serde_json::Map<String, Value> {
    sizes.into_iter().map(|(part, bytes)| (part.to_owned(), json!(bytes))).collect()
}

/// The plan for machines: resolved sizes, batch algebra and memory, but for what is measured here and now: the plan of a run is the
/// same whenever it is made.
pub(crate) fn plan_json(plan: &Plan) -> Value {
    let memory = bytes_of(memory(plan, 0).into_iter().filter(|(_, bytes)| *bytes > 0));
    let mut value = json!({
        "name": plan.recipe.name(),
        "seed": plan.recipe.seed,
        "policy": {
            "source": plan.checkpoint.source(),
            "family": plan.config.family.model_type(),
            "parameters": plan.config.parameter_count(),
            "context": plan.config.max_position_embeddings,
            "stop_tokens": plan.stop_tokens,
            "compute": plan.choice.reason,
            "numerics": plan.choice.numerics(),
        },
        "data": plan.reading.as_ref().map(ToString::to_string),
        "prompts": plan.tasks.len(),
        "held_out_prompts": plan.held_out.as_ref().map_or(0, |held_out| held_out.tasks.len()),
        "longest_prompt_tokens": plan.longest_prompt(),
        "memory_bytes": memory,
        "warnings": warnings(plan),
    });
    if let Some(sft) = &plan.recipe.sft {
        let examples = sft.steps.get() * sft.batch_size.get();
        value["sft"] = json!({
            "updates": sft.steps,
            "examples": examples,
            "epochs": examples as f64 / plan.tasks.len().max(1) as f64,
        });
    }
    if let Some(preference) = &plan.recipe.preference {
        value["preference"] = json!({
            "updates": preference.steps,
            "pairs_per_update_and_branch": preference.pairs_per_step,
        });
    }
    if let Some(rl) = &plan.recipe.rl {
        let rollouts = rl.prompts_per_step.get() * rl.group_size.get();
        let config = rl.trainer();
        value["rl"] = json!({
            "steps": rl.steps,
            "rollouts_per_step": rollouts,
            "rollouts": rollouts * rl.steps.get(),
            "updates_per_step": rl.epochs.get() * rl.mini_batches.get(),
            "updates": config.updates(),
            "rollouts_per_update": rollouts as f64 / rl.mini_batches.get() as f64,
            "epochs_over_prompts": (rl.steps.get() * rl.prompts_per_step.get()) as f64
                / plan.tasks.len().max(1) as f64,
            "sampled_tokens_per_step_at_most": rollouts * rl.sampling.max_tokens,
            "on_policy": config.updates() == config.steps && rl.overlap == 0,
        });
    }
    value
}
