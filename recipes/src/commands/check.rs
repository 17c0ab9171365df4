//! `evenkeel check`: what a recipe comes to, before anything is trained.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use data::Rollout;
use rollout::backend::BackendConfig;
use serde_json::{Value, json};

use super::args::SetArgs;
use crate::checkpoint_of::is_run;
use crate::custom::CustomRewards;
use crate::estimate::disk::disk;
use crate::estimate::memory::memory;
use crate::estimate::time::{Speed, StageTime, Time, time};
use crate::estimate::{Lengths, available_memory, free_disk, misfits};
use crate::plan::Plan;
use crate::plan_json::{bytes_of, plan_json};
use crate::recipe::Recipe;

/// `evenkeel check`
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// A recipe file, the name of a built-in recipe, or a run folder.
    pub(crate) recipe: String,
    #[command(flatten)]
    pub(crate) sets: SetArgs,
    /// Dataset rows to try the reward on.
    #[arg(long, default_value_t = 3)]
    pub(crate) rows: usize,
    /// Tokens of a completion on average, for the estimates of time and disk; by default half of max_tokens.
    #[arg(long, value_name = "TOKENS")]
    pub(crate) tokens: Option<usize>,
    /// Where the run is to be, for the disk's free space; by default `runs`.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
    /// Leave the estimate of time out, for which a layer of the model is timed on this machine for a second or so.
    #[arg(long)]
    pub(crate) no_time: bool,
    /// Print the plan as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Prints what the recipe comes to.
pub(crate) fn run(args: &CheckArgs, custom: &CustomRewards, out: &mut dyn Write) -> Result<()> {
    let plan = Plan::new(Recipe::load(&recipe_of(&args.recipe), &args.sets.set)?, custom)?;
    crate::prompt_stats::at_start(&plan)?;
    print(&plan, args, out)
}

/// The recipe that is meant, where a run's folder means the one that it was made by.
pub(super) fn recipe_of(name: &str) -> String {
    let folder = Path::new(name);
    match is_run(folder) {
        true => folder.join("recipe.toml").display().to_string(),
        false => name.to_owned(),
    }
}

/// The plan with what it takes of this machine.
fn print_json(plan: &Plan, args: &CheckArgs, out: &mut dyn Write) -> Result<()> {
    let mut value = plan_json(plan);
    value["memory_bytes"] = bytes_of(memory(plan, plan.program)).into();
    let lengths = |most: usize| Lengths::of(most, args.tokens);
    let disk = disk(plan, lengths);
    let sum =
        |parts: &Value| parts.as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum::<u64>();
    let parts: serde_json::Map<String, Value> =
        disk.iter().map(|(part, bytes)| (part.clone(), json!(bytes))).collect();
    value["memory_bytes_available"] = json!(available_memory());
    value["disk_bytes"] = parts.into();
    let folder = args.out.clone().unwrap_or_else(|| "runs".into());
    value["disk_bytes_available"] = json!(free_disk(&folder));
    let (memory, disk) = (sum(&value["memory_bytes"]), sum(&value["disk_bytes"]));
    let mut warnings = crate::warnings::warnings(plan);
    warnings.extend(misfits(plan, memory as usize, disk as usize, &folder));
    value["warnings"] = json!(warnings);
    if let (false, Some(speed)) = (args.no_time, Speed::measure(plan)?) {
        let time = time(plan, &speed, lengths);
        let stage = |stage: &StageTime| {
            let mut all: serde_json::Map<String, Value> =
                stage.parts.iter().map(|(part, seconds)| ((*part).to_owned(), json!(seconds))).collect();
            all.insert("step".into(), json!(stage.step()));
            (stage.name.to_owned(), Value::from(all))
        };
        value["seconds"] = time.stages.iter().map(stage).collect::<serde_json::Map<_, _>>().into();
        value["seconds"]["evaluations"] = json!(time.evaluations);
        value["seconds"]["total"] = json!(time.total());
    }
    Ok(writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?)
}

/// Prints the plan, the resolved recipe, and what the reward says of a few reference answers.
fn print(plan: &Plan, args: &CheckArgs, out: &mut dyn Write) -> Result<()> {
    if args.json {
        return print_json(plan, args, out);
    }
    let c = &plan.config;
    writeln!(out, "recipe `{}`, with every default filled in:\n", plan.recipe.name())?;
    writeln!(out, "{}", toml::to_string(&plan.recipe)?)?;
    writeln!(
        out,
        "policy    {} from {}: {} parameters, {} layers × {}, context {}",
        c.family.model_type(),
        plan.checkpoint.source(),
        count(c.parameter_count()),
        c.num_hidden_layers,
        c.hidden_size,
        c.max_position_embeddings
    )?;
    writeln!(out, "compute   {}", plan.choice.reason)?;
    let stops: Vec<String> = plan
        .stop_tokens
        .iter()
        .map(|id| format!("{id} ({})", plan.tokenizer.id_to_token(*id).unwrap_or_default()))
        .collect();
    writeln!(
        out,
        "ends at   {}",
        if stops.is_empty() { "no token: only at max_tokens".into() } else { stops.join(", ") }
    )?;
    if let Some(reading) = &plan.reading {
        writeln!(out, "data      {reading}")?;
    }
    writeln!(
        out,
        "prompts   {} to train on, {} held out; the longest has {} tokens",
        plan.tasks.len(),
        plan.held_out.as_ref().map_or(0, |held_out| held_out.tasks.len()),
        plan.longest_prompt()
    )?;
    if let Some(sft) = &plan.recipe.sft {
        writeln!(
            out,
            "sft       {} updates × {} examples = {:.1} epochs",
            sft.steps.get(),
            sft.batch_size.get(),
            (sft.steps.get() * sft.batch_size.get()) as f64 / plan.tasks.len().max(1) as f64
        )?;
    }
    if let Some(rl) = &plan.recipe.rl {
        let (prompts, group) = (rl.prompts_per_step.get(), rl.group_size.get());
        writeln!(
            out,
            "rl        {} steps × {prompts} prompts × {group} rollouts = {} rollouts; a step makes {} update{}, each on {:.0} rollouts{}",
            rl.steps.get(),
            rl.steps.get() * prompts * group,
            rl.epochs.get() * rl.mini_batches.get(),
            if rl.epochs.get() * rl.mini_batches.get() == 1 { "" } else { "s" },
            (prompts * group) as f64 / rl.mini_batches.get() as f64,
            match (rl.epochs.get() * rl.mini_batches.get(), rl.overlap) {
                (1, 0) => " (on policy: the clip never acts)",
                (1, _) => " (the clip never acts; older weights are corrected for)",
                _ => "",
            }
        )?;
        writeln!(
            out,
            "          prompts are seen {:.2} times; at most {} tokens are sampled a step",
            (rl.steps.get() * prompts) as f64 / plan.tasks.len().max(1) as f64,
            count(prompts * group * rl.sampling.max_tokens)
        )?;
    }
    if plan.recipe.rl.is_some() || plan.recipe.preference.is_some() {
        let rollout = &plan.recipe.rollout;
        let place = match &rollout.backend {
            BackendConfig::Local => format!(
                "this process, {} slots, at most {} GiB for keys and values",
                rollout.max_rows.get(),
                rollout.kv_memory
            ),
            BackendConfig::Vllm(server) => format!("vLLM at {}", server.url),
            BackendConfig::Sglang(server) => format!("SGLang at {}", server.url),
        };
        let ahead = plan.recipe.rl.as_ref().filter(|rl| rl.overlap > 0).map_or(String::new(), |rl| {
            format!(
                ", {} ahead of training",
                if rl.overlap == 1 { "a step".into() } else { format!("{} steps", rl.overlap) }
            )
        });
        writeln!(out, "rollouts  by {place}{ahead}")?;
    }
    if let Some(preference) = &plan.recipe.preference {
        writeln!(
            out,
            "pairs     {} updates × at most {} pairs with a trace and as many with an empty one",
            preference.steps.get(),
            preference.pairs_per_step.get()
        )?;
    }
    needs(plan, args, out)?;
    for warning in crate::warnings::warnings(plan) {
        writeln!(out, "warning   {warning}")?;
    }
    let names: Vec<String> =
        plan.rewards.parts().map(|(name, part)| format!("{} × {name}", part.weight)).collect();
    writeln!(out, "reward    {}", if names.is_empty() { "none".into() } else { names.join(" + ") })?;
    for (name, about) in plan.rewards.about() {
        writeln!(out, "          {name}:")?;
        for line in about.lines() {
            writeln!(out, "            {line}")?;
        }
    }
    try_rewards(plan, args.rows, out)
}

/// The rewards of answers to a few prompts: all in one batch, as in a run, so that a function that gives as many
/// values for any batch is found out.
fn try_rewards(plan: &Plan, rows: usize, out: &mut dyn Write) -> Result<()> {
    let tasks = &plan.tasks[..rows.min(plan.tasks.len())];
    let answers = |task: &rollout::Task| {
        let answer = task.prompt.answer.as_deref().unwrap_or_default().to_owned();
        [answer.clone(), format!("\\boxed{{{answer}}}"), String::new()]
    };
    let all: Vec<Rollout> =
        tasks.iter().flat_map(|task| answers(task).map(|text| pretend(task, text))).collect();
    let lone = plan.recipe.rewards.python_in_batches(all.len());
    let alone = match lone.python.is_empty() {
        true => Vec::new(),
        false => lone.build(&Default::default())?.score(all.clone())?,
    };
    let scored = plan.rewards.score(all)?;
    let mut failures: Vec<(String, String, usize)> = Vec::new();
    for part in scored.iter().chain(&alone).flat_map(|scored| &scored.score.parts) {
        let Some(why) = part.verdict.failure.as_ref() else { continue };
        match failures.iter_mut().find(|(name, known, _)| *name == part.name && known == why) {
            Some((_, _, count)) => *count += 1,
            None => failures.push((part.name.clone(), why.clone(), 1)),
        }
    }
    let mut scored = scored.into_iter();
    for task in tasks {
        let prompt_text = plan.tokenizer.decode(&task.tokens, false)?;
        writeln!(out, "\n  prompt  {prompt_text:?} ({} tokens)", task.tokens.len())?;
        for text in answers(task) {
            let score = scored.next().expect("one for one").score;
            let parts: Vec<String> = score
                .parts
                .iter()
                .map(|part| format!("{} {}", part.name, shown(part.verdict.value)))
                .collect();
            writeln!(out, "  {text:>24?}  earns {}  ({})", shown(score.reward), parts.join(", "))?;
        }
    }
    for (name, why, count) in failures {
        writeln!(out, "\nwarning   reward `{name}` failed, {count} times: {why}")?;
    }
    Ok(())
}

/// Memory, disk and time, and what of that this machine has not.
fn needs(plan: &Plan, args: &CheckArgs, out: &mut dyn Write) -> Result<()> {
    let sum = |parts: &[(String, usize)]| parts.iter().map(|(_, bytes)| bytes).sum::<usize>();
    let memory: Vec<(String, usize)> =
        memory(plan, plan.program).into_iter().map(|(part, bytes)| (part.to_owned(), bytes)).collect();
    let lengths = |most: usize| Lengths::of(most, args.tokens);
    let disk = disk(plan, lengths);
    let have =
        |have: Option<usize>| have.map_or(String::new(), |have| format!("; {} available here", bytes(have)));
    let folder = args.out.clone().unwrap_or_else(|| "runs".into());
    for (name, when, parts, have) in [
        ("memory", "at the peak", &memory, have(available_memory())),
        ("disk", "at most", &disk, have(free_disk(&folder))),
    ] {
        writeln!(out, "{name:9} about {} {when}{have}:", bytes(sum(parts)))?;
        for (part, size) in parts.iter().filter(|(_, size)| *size > 0) {
            writeln!(out, "          {:>10}  {part}", bytes(*size))?;
        }
    }
    if !args.no_time {
        match Speed::measure(plan)? {
            Some(speed) => print_time(&time(plan, &speed, lengths), args.tokens, out)?,
            None => writeln!(out, "time      is not estimated on a GPU")?,
        }
    }
    for misfit in misfits(plan, sum(&memory), sum(&disk), &folder) {
        writeln!(out, "warning   {misfit}")?;
    }
    Ok(())
}

fn print_time(time: &Time, tokens: Option<usize>, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "time      about {} in all, if nothing else computes here:", spell(time.total()))?;
    for stage in &time.stages {
        let each: Vec<String> = stage
            .parts
            .iter()
            .filter(|(_, seconds)| *seconds > 0.0)
            .map(|(name, seconds)| format!("{name} {}", spell(*seconds)))
            .collect();
        let (name, steps, step) = (stage.name, stage.steps, spell(stage.step()));
        writeln!(out, "          {name}: {steps} steps of {step}: {}", each.join(", "))?;
    }
    if time.pairs > 0.0 {
        writeln!(out, "          {} to sample pairs before", spell(time.pairs))?;
    }
    if time.evaluations > 0.0 {
        writeln!(out, "          {} for all evaluations", spell(time.evaluations))?;
    }
    let assumed = match tokens {
        Some(tokens) => format!("completions of {tokens} tokens"),
        None => "completions of half of max_tokens (--tokens for another length)".into(),
    };
    writeln!(
        out,
        "          from a slice of the model, timed just now; with {assumed}; without what rewards take"
    )?;
    Ok(())
}

/// Seconds for people.
fn spell(seconds: f64) -> String {
    match seconds {
        ..1.0 => format!("{:.0} ms", 1e3 * seconds),
        ..100.0 => format!("{seconds:.1} s"),
        ..6000.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

/// A rollout that says `text`, to try a reward on.
fn pretend(task: &rollout::Task, text: String) -> Rollout {
    Rollout { prompt_tokens: task.tokens.clone(), ..Rollout::of_text(Arc::clone(&task.prompt), text) }
}

fn shown(value: Option<f32>) -> String {
    value.map_or_else(|| "nothing (not judged)".into(), |value| value.to_string())
}

/// 1234567 → "1.2 M"
fn count(n: usize) -> String {
    match n {
        0..10_000 => n.to_string(),
        10_000..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.2} G", n as f64 / 1e9),
    }
}

fn bytes(n: usize) -> String {
    if n < 1 << 30 {
        format!("{:.1} MiB", n as f64 / (1 << 20) as f64)
    } else {
        format!("{:.2} GiB", n as f64 / (1u64 << 30) as f64)
    }
}
