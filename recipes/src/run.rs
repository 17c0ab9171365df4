//! The loop.
//!
//! Before: [`Plan`]. After: a run folder with metrics, rollouts and checkpoints.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use data::{PolicyVersion, Seed};
use engine::Tensors;
use engine::metrics::{Metrics, Timing};
use engine::model::Policy;
use engine::optimizer::Optimizer;
use engine::selection::Shuffled;
use engine::supervised;
use engine::trainer::Trainer;
use eval::Accuracy;
use rollout::{Sampler, Sampling, Task};
use serde_json::{Value, json};

use crate::folder::{Progress, RunFolder, Stage, write_aside};
use crate::plan::Plan;
use crate::progress::{Display, line};
use crate::recipe::{RlRecipe, SftRecipe};
use crate::save;

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Accuracy on held-out prompts before training; absent without `[eval]`.
    pub before: Option<Accuracy>,
    /// The same after it.
    pub after: Option<Accuracy>,
}

/// Trains as the plan says, in a new folder, or goes on in one that is there.
///
/// # Errors
/// If the folder cannot be used, or a step fails; what was done until then is saved.
pub fn run(plan: &Plan, out: &Path, resume: bool) -> Result<Outcome> {
    let mut at = Progress { stage: Stage::Sft, step: 0 };
    let (mut folder, mut policy, mut saved);
    let newest = if resume { save::latest(out)? } else { None };
    match (resume, newest) {
        (true, Some(place)) => {
            let read = save::read(plan, &place)?;
            (at, policy, saved) = (read.progress, read.policy, Some((read.updates, read.optimizer)));
            folder = RunFolder::open(out)?;
            line(&format!("going on after {} step {}", at.stage.name(), at.step));
        }
        (true, None) => {
            (policy, saved) = (plan.policy()?, None);
            folder = RunFolder::open(out)?;
        }
        (false, _) => {
            RunFolder::refuse_existing(out)?;
            // a broken checkpoint must not leave a folder behind
            (policy, saved) = (plan.policy()?, None);
            folder = RunFolder::create(out)?;
        }
    }
    line(&format!("computing in {}", plan.choice.reason));
    if let Some(before) = numerics_of(out).filter(|before| before != plan.choice.numerics()) {
        line(&format!(
            "the run so far was computed in {before} and goes on in {}: it will not be the same, bit for bit, as if it had not been interrupted",
            plan.choice.numerics()
        ));
    }
    folder.trim_metrics(at)?;
    write_aside(&out.join("recipe.toml"), toml::to_string(&plan.recipe)?.as_bytes())?;
    write_aside(&out.join("plan.json"), &serde_json::to_vec_pretty(&crate::check::plan_json(plan))?)?;
    let mut outcome = Outcome { before: first_accuracy(out), after: None };
    if let (Some(sft), Stage::Sft) = (&plan.recipe.sft, at.stage) {
        supervised_stage(plan, sft, &mut folder, &mut policy, at.step, saved.take(), &mut outcome)?;
        at = Progress { stage: Stage::Rl, step: 0 };
    }
    if let Some(rl) = &plan.recipe.rl {
        let step = if at.stage == Stage::Rl { at.step } else { 0 };
        rl_stage(plan, rl, &mut folder, &mut policy, step, saved.take(), &mut outcome)?;
    }
    Ok(outcome)
}

fn rl_stage(
    plan: &Plan,
    rl: &RlRecipe,
    folder: &mut RunFolder,
    policy: &mut Policy,
    done: u64,
    saved: Option<(u64, Tensors)>,
    outcome: &mut Outcome,
) -> Result<()> {
    let config = Plan::trainer(rl);
    let steps = config.steps;
    let mut trainer = if config.objective.build().kl().is_some() {
        if saved.is_none() {
            save::write_reference(folder, policy)?;
        }
        Trainer::new(config, &save::read_reference(plan, folder)?)?
    } else {
        Trainer::new(config, policy)?
    };
    if let Some((updates, state)) = saved {
        trainer.restore(updates, state)?;
    }
    let selection = Shuffled { prompts: plan.tasks.len(), seed: plan.seed() };
    let seed = plan.seed().named("rollout");
    let mut display = Display::new("rl", done, steps);
    if done == 0 {
        let before = measure(plan, policy, 0)?;
        write_accuracy(folder, Stage::Rl, before)?;
        outcome.before = outcome.before.or(before);
        note_accuracy(&display, "before RL", before);
    }
    for step in done..steps {
        let attempt = rl_step(plan, rl, &selection, seed, folder, policy, &mut trainer, &mut display, step);
        let mut metrics = match attempt {
            Ok(metrics) => metrics,
            Err(error) => {
                let at = Progress { stage: Stage::Rl, step };
                return Err(save_failed(plan, folder, at, policy, trainer.optimizer(), error));
            }
        };
        let last = step + 1 == steps;
        if let Some(eval) = &plan.recipe.eval
            && (last || (step + 1).is_multiple_of(eval.every.get() as u64))
        {
            outcome.after = measure(plan, policy, step + 1)?;
            metrics.eval_accuracy = outcome.after.map(|a| a.share());
        }
        folder.write_metrics(&with_stage(Stage::Rl, serde_json::to_value(&metrics)?))?;
        tracing::info!(
            step = metrics.step,
            reward_mean = metrics.reward_mean,
            entropy = metrics.entropy,
            grad_norm = metrics.grad_norm,
            clip_fraction = metrics.clip_fraction,
            "step"
        );
        display.step(step + 1, &progress_line(&metrics, outcome.after));
        if last || (step + 1).is_multiple_of(plan.recipe.save.every.get() as u64) {
            let at = Progress { stage: Stage::Rl, step: step + 1 };
            save::write(plan, folder, at, policy, trainer.optimizer())?;
        }
    }
    if outcome.after.is_none() {
        outcome.after = measure(plan, policy, steps)?;
    }
    Ok(())
}

/// One step: Prompt → Rollout → ScoredRollout → Batch → Update → Metrics.
#[expect(clippy::too_many_arguments, reason = "the one place where all of the loop's parts meet")]
fn rl_step(
    plan: &Plan,
    rl: &RlRecipe,
    selection: &Shuffled,
    seed: Seed,
    folder: &RunFolder,
    policy: &mut Policy,
    trainer: &mut Trainer,
    display: &mut Display,
    step: u64,
) -> Result<Metrics> {
    let prompts = selection.draw(step, rl.prompts_per_step.get());
    let tasks: Vec<Task> = prompts.into_iter().map(|index| plan.tasks[index].clone()).collect();

    let begun = Instant::now();
    let sampler = sampler(plan, policy, step, &rl.sampling, rl.max_rows.get());
    let all = tasks.len() * rl.group_size.get();
    let rollouts = sampler.sample(&tasks, rl.group_size.get(), seed.at(step), &mut |finished, tokens| {
        display.within(&format!("step {}: {finished} of {all} rollouts sampled, {tokens} tokens", step + 1));
    })?;
    let sampled = Instant::now();
    let scored = plan.rewards.score(rollouts);
    let judged = Instant::now();
    // before training, so that a step that fails does not lose them
    if plan.recipe.save.rollouts {
        folder.write_rollouts(step + 1, &scored)?;
    }
    let trained = Instant::now();
    let batch = trainer.batch(&scored)?;
    display.within(&format!("step {}: training", step + 1));
    let update = trainer.step(policy, &batch)?;
    let timing = Timing {
        sample: (sampled - begun).as_secs_f64(),
        score: (judged - sampled).as_secs_f64(),
        update: trained.elapsed().as_secs_f64(),
    };
    Ok(Metrics::new(step + 1, &scored, &batch, &update, timing, !rl.sampling.truncates()))
}

fn supervised_stage(
    plan: &Plan,
    sft: &SftRecipe,
    folder: &mut RunFolder,
    policy: &mut Policy,
    done: u64,
    saved: Option<(u64, Tensors)>,
    outcome: &mut Outcome,
) -> Result<()> {
    let examples = plan.examples(&sft.answer_templates)?;
    let forms = plan.seed().named("answer form");
    let steps = sft.steps.get() as u64;
    let mut optimizer = Optimizer::new(&sft.optimizer, &sft.schedule, steps);
    if let Some((updates, state)) = saved {
        optimizer.restore(updates, state)?;
    }
    let selection = Shuffled { prompts: examples.len(), seed: plan.seed().named("sft") };
    let mut display = Display::new("sft", done, steps);
    if done == 0 {
        let before = measure(plan, policy, 0)?;
        write_accuracy(folder, Stage::Sft, before)?;
        outcome.before = before;
        note_accuracy(&display, "before SFT", before);
    }
    for step in done..steps {
        let batch: Vec<_> = selection
            .draw(step, sft.batch_size.get())
            .into_iter()
            .map(|index| {
                let forms_of = &examples[index];
                let mut draw = forms.at(step).prompt(&plan.tasks[index].prompt.id).place(0);
                forms_of[(draw.uniform(0) * forms_of.len() as f64) as usize].clone()
            })
            .collect();
        let begun = Instant::now();
        let attempt = supervised::step(policy, &mut optimizer, &batch, sft.micro_batch_tokens.get());
        let update = match attempt {
            Ok(update) => update,
            Err(error) => {
                let at = Progress { stage: Stage::Sft, step };
                return Err(save_failed(plan, folder, at, policy, &optimizer, error.into()));
            }
        };
        let mut metrics = json!({
            "step": step + 1,
            "loss": update.loss,
            "grad_norm": update.grad_norm,
            "learning_rate": update.learning_rate,
            "seconds_update": begun.elapsed().as_secs_f64(),
        });
        let last = step + 1 == steps;
        if let Some(eval) = &plan.recipe.eval
            && (last || (step + 1).is_multiple_of(eval.every.get() as u64))
        {
            outcome.after = measure(plan, policy, step + 1)?;
            metrics["eval_accuracy"] = json!(outcome.after.map(|a| a.share()));
        }
        folder.write_metrics(&with_stage(Stage::Sft, metrics))?;
        let accuracy =
            outcome.after.map_or(String::new(), |a| format!(" · held-out {:.1} %", 100.0 * a.share()));
        display.step(step + 1, &format!("loss {:.4}{accuracy}", update.loss));
        if last || (step + 1).is_multiple_of(plan.recipe.save.every.get() as u64) {
            let at = Progress { stage: Stage::Sft, step: step + 1 };
            save::write(plan, folder, at, policy, &optimizer)?;
        }
    }
    if outcome.after.is_none() {
        outcome.after = measure(plan, policy, steps)?;
    }
    Ok(())
}

/// Keeps what was done before a step that failed, and says where.
fn save_failed(
    plan: &Plan,
    folder: &RunFolder,
    done: Progress,
    policy: &Policy,
    optimizer: &Optimizer,
    error: anyhow::Error,
) -> anyhow::Error {
    let stage = done.stage.name();
    let step = done.step + 1;
    match save::write(plan, folder, done, policy, optimizer) {
        Ok(place) => error
            .context(format!("{stage} step {step} failed; the run up to there is in `{}`", place.display())),
        Err(second) => {
            error.context(format!("{stage} step {step} failed, and saving the run failed too: {second:#}"))
        }
    }
}

fn sampler<'a>(
    plan: &'a Plan,
    policy: &'a Policy,
    step: u64,
    sampling: &'a Sampling,
    max_rows: usize,
) -> Sampler<'a> {
    Sampler {
        policy,
        version: PolicyVersion(step),
        tokenizer: &plan.tokenizer,
        sampling,
        stop_tokens: &plan.stop_tokens,
        max_rows,
    }
}

/// Accuracy on the held-out prompts.
fn measure(plan: &Plan, policy: &Policy, step: u64) -> Result<Option<Accuracy>> {
    let (Some(deciding), false) = (&plan.deciding, plan.held_out.is_empty()) else { return Ok(None) };
    let sampling = plan.eval_sampling();
    let rows = plan.recipe.rl.as_ref().map_or(256, |rl| rl.max_rows.get());
    let sampler = sampler(plan, policy, step, &sampling, rows);
    Ok(Some(eval::accuracy(&sampler, &plan.held_out, &plan.rewards, deciding, plan.seed())?))
}

fn with_stage(stage: Stage, metrics: Value) -> Value {
    let mut line = json!({ "stage": stage.name() });
    if let (Some(line), Value::Object(metrics)) = (line.as_object_mut(), metrics) {
        line.extend(metrics);
    }
    line
}

/// Step 0 of a stage: only what was measured before it.
fn write_accuracy(folder: &mut RunFolder, stage: Stage, accuracy: Option<Accuracy>) -> Result<()> {
    match accuracy {
        Some(a) => folder.write_metrics(&json!({
            "stage": stage.name(), "step": 0, "eval_accuracy": a.share(), "eval": a,
        })),
        None => Ok(()),
    }
}

/// How a run that goes on was computed until now.
fn numerics_of(out: &Path) -> Option<String> {
    let plan: Value = serde_json::from_slice(&std::fs::read(out.join("plan.json")).ok()?).ok()?;
    plan["policy"]["numerics"].as_str().map(str::to_owned)
}

/// The accuracy before training, from the metrics of a run that goes on.
fn first_accuracy(out: &Path) -> Option<Accuracy> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).ok()?;
    let first: Value = serde_json::from_str(text.lines().next()?).ok()?;
    serde_json::from_value(first.get("eval")?.clone()).ok()
}

fn note_accuracy(display: &Display, when: &str, accuracy: Option<Accuracy>) {
    if let Some(a) = accuracy {
        display.note(&format!("held-out accuracy {when}: {}", describe(&a)));
    }
}

/// "37.2 % (190 of 512, 95 % interval 33.1–41.4 %)"
pub(crate) fn describe(a: &Accuracy) -> String {
    let i = a.interval();
    let absent = if a.absent > 0 { format!(", {} not judged", a.absent) } else { String::new() };
    format!(
        "{:.1} % ({} of {}, 95 % interval {:.1}–{:.1} %{absent})",
        100.0 * a.share(),
        a.right,
        a.judged,
        100.0 * i.low,
        100.0 * i.high
    )
}

fn progress_line(m: &Metrics, accuracy: Option<Accuracy>) -> String {
    let accuracy = accuracy.map_or(String::new(), |a| format!(" · held-out {:.1} %", 100.0 * a.share()));
    let absent =
        if m.absent_rewards > 0 { format!(" · {} rewards absent", m.absent_rewards) } else { String::new() };
    format!(
        "reward {:.3}{accuracy} · truncated {:.0} % · equal groups {}/{}{absent} · {:.0} tok/s sampled, {:.0} trained",
        m.reward_mean,
        100.0 * m.truncation_rate,
        m.zero_variance_groups,
        m.groups,
        m.sampled_tokens_per_second,
        m.trained_tokens_per_second
    )
}
