//! Peak memory of a run, part by part.
//!
//! Before: [`Plan`]. After: bytes that add up to the largest that the process has at a time. Blocks that a step gives back wait
//! for the next, so that what sampling and what training take add up; keys and values alone go back to the system.

use engine::mixture::Alpha;
use engine::model::{Compute, FlatLayout, Policy, Recompute};
use rollout::backend::BackendConfig;

use crate::plan::Plan;
use crate::recipe::RlRecipe;

/// Columns of the head that are computed at a time in training.
const HEAD: usize = 4096;

/// Parts of the peak; `program` is what the process has before any weights.
pub(crate) fn memory(plan: &Plan, program: usize) -> Vec<(&'static str, usize)> {
    let (c, recipe) = (&plan.config, &plan.recipe);
    let weights = 4 * c.parameter_count();
    let bf16 = matches!(plan.choice.compute, Compute::Fused(kernel) if kernel.path().is_bf16());
    let untied = if c.tie_word_embeddings { 0 } else { c.vocab_size * c.hidden_size };
    let panels = match plan.choice.compute {
        Compute::Fused(_) => (weights - 4 * untied) / if bf16 { 2 } else { 1 },
        Compute::Composed => 0,
    };
    let mut parts = vec![("the program, the tokenizer and the prompts", program), ("weights", weights)];
    if panels > 0 {
        parts.push(("the same in panels for products", panels));
    }
    parts.push(("what the optimizer remembers", 4 * optimizer_numbers(plan)));
    let gradients = gradients(plan);
    parts.push(("gradients", gradients * weights));
    if recipe.rl.as_ref().is_some_and(|rl| rl.kl.is_some()) {
        parts.push(("frozen reference", weights + panels));
    }
    if recipe.rl.as_ref().is_some_and(|rl| rl.overlap > 0) {
        // one that samples, and the next in line
        parts.push(("policies that sample ahead", 2 * (weights + panels)));
    }
    let tokens = training_tokens(plan);
    if let Some(kept) = kept_rows(plan) {
        parts.push(("rollouts that wait for their weights, at most", kept));
    }
    parts.push(("activations of a micro-batch", activations(plan, tokens)));
    let (buffers, keys) = sampling(plan);
    if buffers > 0 {
        parts.push(("logits and activations while sampling", buffers));
    }
    // sampling and saving take turns
    let saving = 4 * largest_tensor(plan);
    if keys > saving {
        parts.push(("keys and values while sampling, at most", keys));
    } else {
        parts.push(("a tensor on its way to the disk", saving));
    }
    parts
}

/// Numbers that the optimizer of any stage keeps beside the weights, the stage with most of them.
pub(super) fn optimizer_numbers(plan: &Plan) -> usize {
    let recipe = &plan.recipe;
    let sft = recipe.sft.as_ref().map(|sft| &sft.optimizer);
    let rl = recipe.rl.as_ref().map(|rl| &rl.optimizer);
    let preference = recipe.preference.as_ref().map(|preference| &preference.optimizer);
    let layout = FlatLayout::new(&plan.config);
    let all = sft.into_iter().chain(rl).chain(preference);
    all.map(|optimizer| optimizer.build().kept_numbers(&layout)).max().unwrap_or(0)
}

/// Numbers of the largest tensor.
fn largest_tensor(plan: &Plan) -> usize {
    let sizes = plan.config.parameters().into_iter().map(|(_, shape)| shape.iter().product());
    sizes.max().unwrap_or(0)
}

/// Gradients of the whole model that are there at a time.
fn gradients(plan: &Plan) -> usize {
    let recipe = &plan.recipe;
    let sft = usize::from(recipe.sft.is_some());
    let rl = recipe.rl.as_ref().map_or(0, |rl| {
        let groups = rl.prompts_per_step.get().div_ceil(rl.mini_batches.get());
        let chunks = rl.ledger.chunks.min(groups).max(1);
        let seen = if chunks > 1 { 2 } else { 1 };
        match &rl.mixture {
            // both branches' sums and a chunk of each; or both and what they come to
            Some(mixture) => match (mixture.alpha, chunks) {
                (Alpha::Fixed(_), 1) => 3,
                _ => 4,
            },
            None => seen + two_sums(plan, rl),
        }
    });
    let preference = recipe.preference.as_ref().map_or(0, |preference| match preference.mixture.alpha {
        Alpha::Fixed(_) => 1,
        // two halves are kept beside both sums and a chunk of the other
        Alpha::Regression => 5,
        _ => 5,
    });
    sft.max(rl).max(preference)
}

/// Tokens of a group that may wait for its weights.
pub(super) fn fitting_tokens(plan: &Plan, rl: &RlRecipe) -> usize {
    let room = rl.ledger.room_bytes(plan.config.parameter_count());
    room / Policy::row_bytes_per_token_of(&plan.config, plan.choice.compute).max(1)
}

/// Gradients that stand in for a group which is too large to wait for its weights: a sum of its rollouts by low and one by
/// high reward, where its baseline is the same for all of them.
fn two_sums(plan: &Plan, rl: &RlRecipe) -> usize {
    if !rl.baseline.build().is_constant() || !rl.trainer().weighs_in_one_backward() {
        return 0;
    }
    let fits = fitting_tokens(plan, rl);
    let longest = plan.longest_prompt() + rl.sampling.max_tokens;
    if longest <= fits && rl.group_size.get() * longest > fits { 2 } else { 0 }
}

/// Tokens of the largest pass in training.
fn training_tokens(plan: &Plan) -> usize {
    let recipe = &plan.recipe;
    let prompt = plan.longest_prompt();
    let sft = recipe.sft.as_ref().map_or(0, |sft| sft.micro_batch_tokens.get());
    // a row alone may be longer than the budget
    let rl =
        recipe.rl.as_ref().map_or(0, |rl| rl.micro_batch_tokens.get().max(prompt + rl.sampling.max_tokens));
    let preference = recipe.preference.as_ref().map_or(0, |preference| {
        // a pair goes through in one pass
        2 * (prompt + preference.sampling.max_tokens)
    });
    sft.max(rl).max(preference)
}

/// Bytes of a training pass over so many tokens.
fn activations(plan: &Plan, tokens: usize) -> usize {
    let c = &plan.config;
    let (hidden, inner) = (c.hidden_size, c.intermediate_size);
    let (query, key) = (c.query_size(), c.key_value_size());
    // of a token: the residual stream before each layer, behind the last and after the norm, and its angles
    let stream = hidden * (c.num_hidden_layers + 2) + c.head_dim;
    // of a layer: what its backward needs
    let inside = (query + 2 * key) + (query + key) + query + hidden + 2 * inner;
    let layers = match plan.recipe.policy.recompute {
        Recompute::Layer => 1,
        Recompute::None => c.num_hidden_layers,
    };
    // and the derivatives there
    let backward = 2 * inner + 3 * hidden;
    4 * tokens * (stream + layers * inside + backward + HEAD.min(c.vocab_size))
}

/// Bytes of rows that wait for their weights, where those are measured in the backward that trains on them.
fn kept_rows(plan: &Plan) -> Option<usize> {
    let rl = plan.recipe.rl.as_ref().filter(|rl| rl.trainer().weighs_in_one_backward())?;
    Some(rl.ledger.room_bytes(plan.config.parameter_count()))
}

/// Bytes of buffers while sampling, and of keys and values.
fn sampling(plan: &Plan) -> (usize, usize) {
    let (c, recipe) = (&plan.config, &plan.recipe);
    if recipe.rollout.backend != BackendConfig::Local {
        return (0, 0);
    }
    let slots = recipe.rollout.slots();
    let bf16 = matches!(plan.choice.compute, Compute::Fused(kernel) if kernel.path().is_bf16());
    let of = |rollouts: usize, group: usize, most: usize, prompt: usize| {
        let rows = slots.rows.min(rollouts);
        // a prompt is held once for its group
        let tokens = rows * most + (rows.div_ceil(group) + 1) * prompt;
        let numbers = tokens * 2 * c.num_hidden_layers * c.key_value_size();
        let keys = if bf16 { 2 * numbers } else { 4 * numbers };
        let pass = rows + slots.prompt_tokens;
        let wide = 3 * c.intermediate_size + 2 * c.query_size() + 3 * c.key_value_size() + 4 * c.hidden_size;
        (4 * (rows * c.vocab_size + pass * wide), keys.min(slots.memory))
    };
    let prompt = plan.longest_prompt();
    let mut all = Vec::new();
    if let Some(rl) = &recipe.rl {
        let group = rl.group_size.get();
        all.push(of(rl.prompts_per_step.get() * group, group, rl.sampling.max_tokens, prompt));
    }
    if let Some(preference) = &recipe.preference
        && let crate::recipe::PairsRecipe::Sample(sample) = &preference.pairs
    {
        let group = sample.group_size.get();
        all.push(of(sample.prompts.get() * group, group, preference.sampling.max_tokens, prompt));
    }
    if let (Some(eval), Some(held_out)) = (&recipe.eval, &plan.held_out) {
        let group = eval.samples.map_or(1, |samples| samples.get());
        let longest = held_out.tasks.iter().map(|task| task.tokens.len()).max().unwrap_or(0);
        let most = held_out.benchmark.protocol.sampling.max_tokens;
        all.push(of(held_out.tasks.len() * group, group, most, longest));
    }
    all.into_iter().fold((0, 0), |(a, b), (x, y)| (a.max(x), b.max(y)))
}
