//! The loop.
//!
//! Before: [`Plan`]. After: a run folder with metrics, rollouts and checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use data::{PolicyVersion, ScoredRollout, Seed};
use engine::baseline::is_equal;
use engine::metrics::{Metrics, Timing};
use engine::mixture::{Mixture, MixtureConfig};
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
use crate::save::{self, Kept, Resume};

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
    let first = if plan.recipe.sft.is_some() { Stage::Sft } else { Stage::Rl };
    let mut at = Progress { stage: first, step: 0 };
    let (mut folder, mut policy, mut saved);
    let newest = if resume { save::latest(out)? } else { None };
    match (resume, newest) {
        (true, Some(place)) => {
            let read = save::read(plan, &place)?;
            (at, policy, saved) = (read.progress, read.policy, Some(read.resume));
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
    folder.trim_metrics(saved.is_some().then_some(at))?;
    write_aside(&out.join("recipe.toml"), toml::to_string(&plan.recipe)?.as_bytes())?;
    write_aside(&out.join("plan.json"), &serde_json::to_vec_pretty(&crate::check::plan_json(plan))?)?;
    let mut outcome = Outcome { before: first_accuracy(out), after: None };
    if let (Some(sft), Stage::Sft) = (&plan.recipe.sft, at.stage) {
        supervised_stage(plan, sft, &mut folder, &mut policy, at.step, saved.take(), &mut outcome)?;
        at = Progress { stage: Stage::Rl, step: 0 };
    }
    if let (Some(rl), Stage::Rl) = (&plan.recipe.rl, at.stage) {
        rl_stage(plan, rl, &mut folder, &mut policy, at.step, saved.take(), &mut outcome)?;
    }
    if at.stage < Stage::Preference {
        at = Progress { stage: Stage::Preference, step: 0 };
    }
    if let Some(preference) = &plan.recipe.preference {
        // a checkpoint of this stage, or none: the end of the stage before
        let saved = saved.take().filter(|_| at.step > 0);
        crate::preference::stage(plan, preference, &mut folder, &mut policy, at.step, saved, &mut outcome)?;
    }
    Ok(outcome)
}

fn rl_stage(
    plan: &Plan,
    rl: &RlRecipe,
    folder: &mut RunFolder,
    policy: &mut Policy,
    done: u64,
    saved: Option<Resume>,
    outcome: &mut Outcome,
) -> Result<()> {
    let config = Plan::trainer(rl);
    let steps = config.steps;
    let mut trainer = if config.loss.kl.is_some() {
        if saved.is_none() {
            save::write_reference(folder, policy)?;
        }
        Trainer::new(config, &save::read_reference(plan, folder)?)?
    } else {
        Trainer::new(config, policy)?
    };
    let (mut drawn, mut mixture) = (0, Mixture::default());
    if let Some(Resume { updates, optimizer, kept }) = saved {
        trainer.restore(updates, optimizer, kept.ledger)?;
        let usual = done * rl.prompts_per_step.get() as u64;
        (drawn, mixture) = (kept.drawn.unwrap_or(usual), kept.mixture);
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
        let before = (drawn, mixture);
        let mut parts = Parts { plan, rl, selection: &selection, seed, folder, display: &mut display };
        let mut metrics = match rl_step(&mut parts, policy, &mut trainer, &mut mixture, &mut drawn, step) {
            Ok(metrics) => metrics,
            Err(error) => {
                let at = Progress { stage: Stage::Rl, step };
                let kept =
                    Kept { drawn: Some(before.0), ledger: trainer.ledger().clone(), mixture: before.1 };
                return Err(save_failed(plan, folder, at, policy, trainer.optimizer(), &kept, error));
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
            let kept = Kept { drawn: Some(drawn), ledger: trainer.ledger().clone(), mixture };
            save::write(plan, folder, at, policy, trainer.optimizer(), &kept)?;
        }
    }
    if outcome.after.is_none() {
        outcome.after = measure(plan, policy, steps)?;
    }
    Ok(())
}

/// What the steps of a stage have in common.
struct Parts<'a> {
    plan: &'a Plan,
    rl: &'a RlRecipe,
    selection: &'a Shuffled,
    seed: Seed,
    folder: &'a RunFolder,
    display: &'a mut Display,
}

/// One step: Prompt → Rollout → ScoredRollout → Batch → Update → Metrics.
fn rl_step(
    parts: &mut Parts<'_>,
    policy: &mut Policy,
    trainer: &mut Trainer,
    mixture: &mut Mixture,
    drawn: &mut u64,
    step: u64,
) -> Result<Metrics> {
    let (plan, rl) = (parts.plan, parts.rl);
    let mut timing = Timing::default();
    if let Some(config) = &rl.mixture {
        return mixed_step(parts, config, policy, trainer, mixture, drawn, step);
    }
    let Sampled { scored, greedy, rounds, dropped } =
        sample_step(parts, &plan.tasks, policy, drawn, step, &mut timing)?;
    // before training, so that a step that fails does not lose them
    if plan.recipe.save.rollouts {
        parts.folder.write_rollouts(step + 1, &scored)?;
    }
    let trained = Instant::now();
    let batch = trainer.batch(policy, &scored, &greedy)?;
    parts.display.within(&format!("step {}: training", step + 1));
    let update = trainer.step(policy, &batch)?;
    timing.update = trained.elapsed().as_secs_f64();
    let (comparable, snr) = (!rl.sampling.truncates(), rl.schedule.snr.is_some());
    let mut metrics = Metrics::new(step + 1, &scored, &batch, &update, timing, comparable, snr);
    if rl.dynamic_sampling.is_some() {
        metrics.sampling_rounds = Some(rounds);
        metrics.dropped_groups = Some(dropped);
    }
    Ok(metrics)
}

/// One step on rollouts with and without a trace of the same prompts.
fn mixed_step(
    parts: &mut Parts<'_>,
    config: &MixtureConfig,
    policy: &mut Policy,
    trainer: &mut Trainer,
    mixture: &mut Mixture,
    drawn: &mut u64,
    step: u64,
) -> Result<Metrics> {
    let (plan, rl) = (parts.plan, parts.rl);
    let mut timing = Timing::default();
    let mut again = *drawn;
    let thinking = sample_step(parts, &plan.tasks, policy, drawn, step, &mut timing)?;
    let empty = sample_step(parts, &plan.empty_tasks, policy, &mut again, step, &mut timing)?;
    let all = [thinking.scored.as_slice(), empty.scored.as_slice()].concat();
    if plan.recipe.save.rollouts {
        parts.folder.write_rollouts(step + 1, &all)?;
    }
    let trained = Instant::now();
    let batches = [
        trainer.batch(policy, &thinking.scored, &thinking.greedy)?,
        trainer.batch(policy, &empty.scored, &empty.greedy)?,
    ];
    parts.display.within(&format!("step {}: training", step + 1));
    let (update, mixed) = trainer.mixed_step(policy, &batches[0], &batches[1], config, mixture)?;
    timing.update = trained.elapsed().as_secs_f64();
    let (comparable, snr) = (!rl.sampling.truncates(), rl.schedule.snr.is_some());
    let mut metrics = Metrics::new(step + 1, &all, &batches[0], &update, timing, comparable, snr);
    metrics.groups += batches[1].groups.len();
    metrics.zero_variance_groups += batches[1].zero_variance_groups;
    metrics.absent_rewards += batches[1].absent_rewards;
    let mean = |scored: &[ScoredRollout]| {
        let known: Vec<f64> = scored.iter().filter_map(|s| s.score.reward.map(f64::from)).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    };
    metrics.reward_mean_thinking = mean(&thinking.scored);
    metrics.reward_mean_empty = mean(&empty.scored);
    metrics.alpha = Some(mixed.alpha);
    if let Some(moments) = mixed.moments {
        metrics.variance_thinking = Some(moments.thinking);
        metrics.variance_empty = Some(moments.empty);
        metrics.variance_mixed = Some(moments.variance(mixed.alpha));
        metrics.branch_distance = Some(moments.difference);
    }
    Ok(metrics)
}

/// The rollouts of a step, and what it took to get them.
struct Sampled {
    scored: Vec<ScoredRollout>,
    /// Rewards of greedy rollouts by prompt, where the baseline wants them.
    greedy: BTreeMap<String, f32>,
    rounds: usize,
    dropped: usize,
}

/// Samples and scores groups; with dynamic sampling, until enough have rewards that differ.
fn sample_step(
    parts: &mut Parts<'_>,
    from: &[Task],
    policy: &Policy,
    drawn: &mut u64,
    step: u64,
    timing: &mut Timing,
) -> Result<Sampled> {
    let (plan, rl) = (parts.plan, parts.rl);
    let (wanted, group_size) = (rl.prompts_per_step.get(), rl.group_size.get());
    let most = rl.dynamic_sampling.map_or(1, |dynamic| dynamic.max_rounds.get());
    let mut sampled = Sampled { scored: Vec::new(), greedy: BTreeMap::new(), rounds: 0, dropped: 0 };
    let (mut seen, mut chosen) = (BTreeSet::new(), Vec::new());
    while sampled.rounds < most && sampled.scored.len() < wanted * group_size {
        let missing = wanted - sampled.scored.len() / group_size;
        let mut draws = parts.selection.draw(*drawn, missing);
        *drawn += missing as u64;
        if rl.dynamic_sampling.is_some() {
            // the same prompt twice in a step would be the same rollouts twice
            draws.retain(|index| seen.insert(*index));
        }
        let tasks: Vec<Task> = draws.iter().map(|index| from[*index].clone()).collect();
        let begun = Instant::now();
        let sampler = sampler(plan, policy, step, &rl.sampling, rl.max_rows.get());
        let all = tasks.len() * group_size;
        let display = &mut *parts.display;
        let rollouts = sampler.sample(&tasks, group_size, parts.seed.at(step), &mut |finished, tokens| {
            display
                .within(&format!("step {}: {finished} of {all} rollouts sampled, {tokens} tokens", step + 1));
        })?;
        timing.sample += begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let scored = plan.rewards.score(rollouts);
        timing.score += begun.elapsed().as_secs_f64();
        sampled.rounds += 1;
        for (task, group) in tasks.iter().zip(scored.chunks(group_size)) {
            let known: Vec<f32> = group.iter().filter_map(|s| s.score.reward).collect();
            if rl.dynamic_sampling.is_some() && (known.len() < 2 || is_equal(&known)) {
                sampled.dropped += 1;
            } else {
                sampled.scored.extend_from_slice(group);
                chosen.push(task.clone());
            }
        }
    }
    if rl.baseline.build().needs().greedy {
        let begun = Instant::now();
        let greedy = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..rl.sampling.clone() };
        let sampler = sampler(plan, policy, step, &greedy, rl.max_rows.get());
        let rollouts = sampler.sample(&chosen, 1, parts.seed.named("greedy").at(step), &mut |_, _| ())?;
        timing.sample += begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        for scored in plan.rewards.score(rollouts) {
            if let Some(reward) = scored.score.reward {
                sampled.greedy.insert(scored.rollout.prompt.id.clone(), reward);
            }
        }
        timing.score += begun.elapsed().as_secs_f64();
    }
    Ok(sampled)
}

fn supervised_stage(
    plan: &Plan,
    sft: &SftRecipe,
    folder: &mut RunFolder,
    policy: &mut Policy,
    done: u64,
    saved: Option<Resume>,
    outcome: &mut Outcome,
) -> Result<()> {
    let examples = plan.examples(sft)?;
    let forms = plan.seed().named("answer form");
    let steps = sft.steps.get() as u64;
    let mut optimizer = Optimizer::new(&sft.optimizer, &sft.schedule, steps);
    if let Some(saved) = saved {
        optimizer.restore(saved.updates, saved.optimizer)?;
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
            .draw(step * sft.batch_size.get() as u64, sft.batch_size.get())
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
                return Err(save_failed(
                    plan,
                    folder,
                    at,
                    policy,
                    &optimizer,
                    &Kept::default(),
                    error.into(),
                ));
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
            save::write(plan, folder, at, policy, &optimizer, &Kept::default())?;
        }
    }
    if outcome.after.is_none() {
        outcome.after = measure(plan, policy, steps)?;
    }
    Ok(())
}

/// Keeps what was done before a step that failed, and says where.
pub(crate) fn save_failed(
    plan: &Plan,
    folder: &RunFolder,
    done: Progress,
    policy: &Policy,
    optimizer: &Optimizer,
    kept: &Kept,
    error: anyhow::Error,
) -> anyhow::Error {
    let stage = done.stage.name();
    let step = done.step + 1;
    match save::write(plan, folder, done, policy, optimizer, kept) {
        Ok(place) => error
            .context(format!("{stage} step {step} failed; the run up to there is in `{}`", place.display())),
        Err(second) => {
            error.context(format!("{stage} step {step} failed, and saving the run failed too: {second:#}"))
        }
    }
}

pub(crate) fn sampler<'a>(
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
pub(crate) fn measure(plan: &Plan, policy: &Policy, step: u64) -> Result<Option<Accuracy>> {
    let (Some(deciding), false) = (&plan.deciding, plan.held_out.is_empty()) else { return Ok(None) };
    let sampling = plan.eval_sampling();
    let rows = plan.recipe.rl.as_ref().map_or(256, |rl| rl.max_rows.get());
    let sampler = sampler(plan, policy, step, &sampling, rows);
    Ok(Some(eval::accuracy(&sampler, &plan.held_out, &plan.rewards, deciding, plan.seed())?))
}

pub(crate) fn with_stage(stage: Stage, metrics: Value) -> Value {
    let mut line = json!({ "stage": stage.name() });
    if let (Some(line), Value::Object(metrics)) = (line.as_object_mut(), metrics) {
        line.extend(metrics);
    }
    line
}

/// Step 0 of a stage: only what was measured before it.
pub(crate) fn write_accuracy(folder: &mut RunFolder, stage: Stage, accuracy: Option<Accuracy>) -> Result<()> {
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

pub(crate) fn note_accuracy(display: &Display, when: &str, accuracy: Option<Accuracy>) {
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
