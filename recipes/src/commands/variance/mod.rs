//! `evenkeel variance`: bias and noise of each estimator of the policy gradient, at a fixed policy.
//!
//! Before: a recipe names policy, prompts and rewards, or one of two toy policies is asked for. After: a table, JSON, and
//! a picture. Nothing is trained.

mod args;

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result};
use data::{PolicyVersion, Seed};
use engine::baseline::RowWeights;
use engine::gradient::{self, Sequence};
use engine::kernels::{Kernel, Start, View, product};
use engine::laboratory::{Figure, Findings, Pool, compare, mixture, toy};
use engine::model::Policy;
use engine::selection::Shuffled;
use engine::sketch::Sketch;
use engine::trainer::Trainer;
use rollout::{Sampler, Task};
use serde_json::json;

pub(crate) use self::args::VarianceArgs;
use crate::custom::CustomRewards;
use crate::files::write_aside;
use crate::plan::Plan;
use crate::plot;
use crate::progress::{Busy, line};
use crate::recipe::{Recipe, RlRecipe};
use crate::usage::Usage;

/// Measures the estimators and prints what they came to.
pub(crate) fn run(args: &VarianceArgs, custom: &CustomRewards, out: &mut dyn Write) -> Result<()> {
    if let Some(problem) = args.problem() {
        return Err(Usage::error(problem));
    }
    let (name, pools, note) = match args.recipe.as_str() {
        "bandit" => ("bandit".to_owned(), vec![toys("bandit", toy::bandit, args)], None),
        "two-step" => ("two-step".to_owned(), vec![toys("two-step", toy::two_step, args)], None),
        recipe => {
            let plan = Plan::new(Recipe::load(recipe, &args.sets.set)?, custom)?;
            if plan.recipe.rl.as_ref().is_some_and(|rl| rl.mixture.is_some()) {
                return branches(&plan, args, out);
            }
            let (pools, note) = pools(&plan, args)?;
            (plan.recipe.name().to_owned(), pools, Some(note))
        }
    };
    let findings = compare(&pools);
    if let Some(file) = &args.plot {
        write_aside(file, plot::variance(&name, &findings).as_bytes())?;
    }
    let first = pools.first().context("there is at least one pool")?;
    if args.json {
        let text = serde_json::to_string_pretty(&json!({
            "name": name, "group_size": first.group_size, "groups": first.groups(), "prompts": pools.len(),
            "note": note, "findings": findings,
        }))?;
        writeln!(out, "{text}")?;
        return Ok(());
    }
    writeln!(
        out,
        "{name}: {} prompt{}, {} groups of {} rollouts each; 95 % intervals{}\n",
        pools.len(),
        if pools.len() == 1 { "" } else { "s" },
        first.groups(),
        first.group_size,
        note.map_or(String::new(), |note| format!("; {note}"))
    )?;
    table(&findings, out)
}

fn toys(name: &str, draw: toy::Toy, args: &VarianceArgs) -> Pool {
    let mut seed = Seed(args.seed.unwrap_or(0)).named(name).at(0).prompt(name).place(0);
    let mut token = 0;
    let mut uniforms = || {
        token += 1;
        seed.uniform(token)
    };
    toy::pool(name, draw, args.groups.unwrap_or(300), args.group_size.unwrap_or(4), &mut uniforms)
}

/// Samples in this process, wherever the recipe's runs do: the policy is fixed, and log-probs have to be exact.
fn sampler<'a>(plan: &'a Plan, rl: &'a RlRecipe, policy: &'a Policy) -> Sampler<'a> {
    Sampler {
        policy,
        version: PolicyVersion(0),
        tokenizer: &plan.tokenizer,
        sampling: &rl.sampling,
        stop_tokens: &plan.stop_tokens,
        slots: plan.recipe.rollout.slots(),
    }
}

/// For a recipe that mixes two branches: independent steps of both, and the error of every share.
fn branches(plan: &Plan, args: &VarianceArgs, out: &mut dyn Write) -> Result<()> {
    let rl = plan.recipe.rl.as_ref().context("a mixture is a part of [rl]")?;
    let policy = plan.policy()?;
    let steps = args.groups.unwrap_or(32).max(8);
    let group_size = args.group_size.unwrap_or(rl.group_size.get());
    let bytes = 8 * steps * policy.config().parameter_count();
    let room = (args.memory * (1u64 << 30) as f64) as usize;
    let width = args.sketch.or((bytes > room).then_some(4096));
    let sketch = width.map(|width| Sketch::new(width, plan.recipe.seed));
    let mut config = rl.trainer();
    config.ledger.chunks = 1;
    let mut trainer = Trainer::new(config, &policy)?;
    let seed = Seed(args.seed.unwrap_or(plan.recipe.seed)).named("variance");
    let selection = Shuffled { prompts: plan.tasks.len(), seed };
    let mut rows: [Vec<f32>; 2] = [Vec::new(), Vec::new()];
    let mut rewards = [0.0; 2];
    let busy = Busy::new("variance");
    for step in 0..steps {
        busy.tell(&format!("variance: step {} of {steps}", step + 1));
        let count = rl.prompts_per_step.get();
        let draws = selection.draw((step * count) as u64, count);
        for (branch, from) in [&plan.tasks, &plan.empty_tasks].into_iter().enumerate() {
            let mut tasks: Vec<Task> = draws.iter().map(|index| from[*index].clone()).collect();
            rollout::count_occurrences(&mut tasks, &mut BTreeMap::new());
            let sampler = sampler(plan, rl, &policy);
            let sampled = sampler.sample(&tasks, group_size, seed.at(step as u64), &mut |_| ())?;
            let scored = plan.rewards.score(sampled.rollouts)?;
            let known: Vec<f64> = scored.iter().filter_map(|s| s.score.reward.map(f64::from)).collect();
            rewards[branch] += known.iter().sum::<f64>() / known.len().max(1) as f64 / steps as f64;
            let batch = trainer.batch(&policy, &scored, &Default::default())?;
            let numbers = match trainer.look(&policy, &batch)?.numbers()? {
                Some(numbers) => numbers,
                // no group's rewards differ: the gradient is 0
                None => vec![0.0; policy.config().parameter_count()],
            };
            match &sketch {
                Some(sketch) => rows[branch].extend(sketch.of(&numbers)),
                None => rows[branch].extend(numbers),
            }
        }
    }
    let all = rows.concat();
    let (count, width) = (2 * steps, all.len() / (2 * steps));
    let mut gram = vec![0f32; count * count];
    let (left, right) = (View::rows(&all, width), View::rows(&all, width).t());
    product(Kernel::f32()?, (count, count, width), left, right, &mut gram, count, Start::Zero);
    let found = mixture(&gram, steps);
    let name = plan.recipe.name();
    if args.json {
        let text = serde_json::to_string_pretty(&json!({
            "name": name, "steps": steps, "prompts_per_step": rl.prompts_per_step, "group_size": group_size,
            "reward_mean_thinking": rewards[0], "reward_mean_empty": rewards[1], "findings": found,
        }))?;
        writeln!(out, "{text}")?;
        return Ok(());
    }
    writeln!(
        out,
        "{name}: {steps} independent steps of {} prompts × {group_size} rollouts with a trace (mean reward {:.3}) and with an empty one ({:.3}); 95 % intervals\n",
        rl.prompts_per_step.get(),
        rewards[0],
        rewards[1]
    )?;
    writeln!(out, "{:<8} {:<34} variance", "alpha", "error against E g_thinking")?;
    for point in found.grid.iter().step_by(2) {
        writeln!(out, "{:<8.2} {:<34} {}", point.alpha, shown(&point.error), shown(&point.variance))?;
    }
    writeln!(
        out,
        "\nalpha from the moments of one half of the steps: {}\nleast error on the other half: {} (on the grid at {:.2})",
        shown(&found.alpha),
        shown(&found.best),
        found.best_on_grid
    )?;
    Ok(())
}

/// Groups of a policy's own rollouts, of prompts whose rewards differ at all.
fn pools(plan: &Plan, args: &VarianceArgs) -> Result<(Vec<Pool>, String)> {
    let Some(rl) = &plan.recipe.rl else {
        return Err(Usage::error("the recipe has no [rl] stage, so there are no groups to look at"));
    };
    let policy = plan.policy()?;
    let group_size = args.group_size.unwrap_or(rl.group_size.get());
    let groups = args.groups.unwrap_or(64);
    let rollouts = groups * group_size;
    let numbers = policy.config().parameter_count();
    let bytes = 4 * rollouts * numbers;
    let room = (args.memory * (1u64 << 30) as f64) as usize;
    let width = match args.sketch {
        Some(width) => Some(width),
        None if bytes > room => Some(4096),
        None => None,
    };
    let sketch = width.map(|width| Sketch::new(width, plan.recipe.seed));
    let note = match &sketch {
        Some(sketch) => format!(
            "inner products from sketches of {} numbers ({:.1} GiB of gradients, of which --memory allows {}), norms exact",
            sketch.width(),
            bytes as f64 / (1u64 << 30) as f64,
            args.memory
        ),
        None => "inner products of whole gradients".to_owned(),
    };
    let seed = Seed(args.seed.unwrap_or(plan.recipe.seed)).named("variance");
    let selection = Shuffled { prompts: plan.tasks.len(), seed };
    let tries = (4 * args.prompts).min(plan.tasks.len());
    let mut pools = Vec::new();
    let busy = Busy::new("variance");
    for (tried, index) in selection.draw(0, tries).into_iter().enumerate() {
        if pools.len() == args.prompts {
            break;
        }
        let task = &plan.tasks[index];
        busy.tell(&format!("variance: rollouts and gradients of prompt `{}`", task.prompt.id));
        let sampler = sampler(plan, rl, &policy);
        let drawn = sampler.sample(std::slice::from_ref(task), rollouts, seed.at(0), &mut |_| ())?;
        let scored = plan.rewards.score(drawn.rollouts)?;
        let rewards: Vec<f32> = scored.iter().filter_map(|s| s.score.reward).collect();
        let mean = rewards.iter().sum::<f32>() / rewards.len().max(1) as f32;
        let right = |rewards: &[f32]| rewards.iter().filter(|r| **r != rewards[0]).count();
        if rewards.len() < rollouts || right(&rewards) * 20 < rollouts || right(&rewards) * 20 > 19 * rollouts
        {
            line(&format!(
                "prompt `{}`: mean reward {mean:.3}; left out, as it varies too little",
                task.prompt.id
            ));
            continue;
        }
        line(&format!(
            "prompt {} of {} (`{}`): mean reward {mean:.3}; gradients of {rollouts} rollouts",
            pools.len() + 1,
            args.prompts,
            task.prompt.id
        ));
        let completions: Vec<&[u32]> = scored.iter().map(|s| s.rollout.tokens.as_slice()).collect();
        pools.push(pool(
            &policy,
            task,
            &completions,
            rewards,
            group_size,
            sketch.as_ref(),
            rl.sampling.temperature,
        )?);
        if tried + 1 == tries && pools.len() < args.prompts {
            line(&format!("only {} of {tries} prompts vary enough", pools.len()));
        }
    }
    let means: Vec<f32> =
        pools.iter().map(|pool| pool.rewards.iter().sum::<f32>() / pool.rewards.len() as f32).collect();
    for (number, pool) in pools.iter_mut().enumerate() {
        let rest = means.iter().enumerate().filter(|(other, _)| *other != number).map(|(_, mean)| *mean);
        pool.others = (means.len() > 1).then(|| rest.sum::<f32>() / (means.len() - 1) as f32);
    }
    anyhow::ensure!(
        !pools.is_empty(),
        "none of {tries} prompts has rewards that vary (at least 5 % of rollouts must differ from the rest): nothing to compare"
    );
    Ok((pools, note))
}

fn pool(
    policy: &Policy,
    task: &Task,
    completions: &[&[u32]],
    rewards: Vec<f32>,
    group_size: usize,
    sketch: Option<&Sketch>,
    temperature: f64,
) -> Result<Pool> {
    let sequences: Vec<Sequence<'_>> =
        completions.iter().map(|completion| Sequence { prompt: &task.tokens, completion }).collect();
    let count = sequences.len();
    let pass = gradient::log_probs(policy, &sequences, 4096, temperature, true)?;
    let mut rows: Vec<f32> = Vec::new();
    let mut norms = Vec::with_capacity(count);
    for sequence in &sequences {
        let (grads, _) = gradient::row_gradient(policy, sequence, temperature)?;
        norms.push(grads.global_norm()?.0.powi(2));
        let numbers = grads.numbers()?.context("every rollout has a gradient")?;
        match sketch {
            Some(sketch) => rows.extend(sketch.of(&numbers)),
            None => rows.extend(numbers),
        }
    }
    let width = rows.len() / count;
    let mut gram = vec![0f32; count * count];
    let (left, right) = (View::rows(&rows, width), View::rows(&rows, width).t());
    product(Kernel::f32()?, (count, count, width), left, right, &mut gram, count, Start::Zero);
    for (row, norm) in norms.iter().enumerate() {
        gram[row * count + row] = *norm as f32;
    }
    let sum = |row: &Vec<f32>| row.iter().map(|norm| f64::from(*norm)).sum();
    Ok(Pool {
        prompt: task.prompt.id.clone(),
        group_size,
        rewards,
        gram,
        weights: RowWeights {
            length: completions.iter().map(|tokens| tokens.len() as f64).collect(),
            logit: pass.logit_norms.iter().map(sum).collect(),
            lm_head: pass.head_norms,
            full: norms,
        },
        others: None,
    })
}

/// "0.812 [0.790, 0.834]"
fn shown(figure: &Figure) -> String {
    let digits = |x: f64| {
        if x.abs() >= 100.0 || (x != 0.0 && x.abs() < 1e-3) { format!("{x:.2e}") } else { format!("{x:.3}") }
    };
    format!("{} [{}, {}]", digits(figure.value), digits(figure.low), digits(figure.high))
}

fn table(findings: &Findings, out: &mut dyn Write) -> Result<()> {
    writeln!(
        out,
        "{:<30} {:<24} {:<26} {:<26} {:<24}",
        "estimator of one group", "slope (1: unbiased)", "bias² / ‖∇J‖²", "noise at equal signal", "SNR"
    )?;
    for report in &findings.estimators {
        writeln!(
            out,
            "{:<30} {:<24} {:<26} {:<26} {:<24}",
            report.estimator,
            shown(&report.slope),
            shown(&report.bias),
            shown(&report.noise),
            shown(&report.snr)
        )?;
    }
    writeln!(
        out,
        "\nnoise is the variance as a share of that of leave-one-out, once estimators are scaled to one signal."
    )?;
    writeln!(
        out,
        "\n{:<24} {:>7} {:>7}  {:<24} {:<24} {:<26} optimal / plain noise",
        "prompt", "reward", "corr", "best constant, formula", "measured", "difference"
    )?;
    for optimum in &findings.optima {
        writeln!(
            out,
            "{:<24} {:>7.3} {:>7}  {:<24} {:<24} {:<26} {}",
            optimum.prompt,
            optimum.mean_reward,
            optimum.correlation.map_or("–".into(), |c| format!("{c:.3}")),
            shown(&optimum.closed_form),
            shown(&optimum.measured),
            shown(&optimum.difference),
            shown(&optimum.noise)
        )?;
    }
    let ranks: Vec<String> =
        findings.ranks.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
    writeln!(out, "\nrank correlation with exact squared norms within prompts: {}", ranks.join(", "))?;
    writeln!(
        out,
        "corr is that of reward and squared gradient norm: the optimal baseline pays where it is far from 0."
    )?;
    Ok(())
}
