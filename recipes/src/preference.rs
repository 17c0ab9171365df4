//! The preference stage: pairs with and without a thinking trace, and the updates on them.
//!
//! Before: the policy that the stage begins with, which is the reference too. After: a policy, and `pairs.jsonl` in the run
//! folder, which holds every pair as tokens with the reference's log-probs, so that nothing is sampled or scored twice.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use data::{Prompt, Rollout};
use engine::gradient::Sequence;
use engine::mixture::{Alpha, Mixture};
use engine::model::Policy;
use engine::optimizer::Optimizer;
use engine::pairs::{self, Branch, Pair, PairsConfig};
use engine::selection::Shuffled;
use rewards::{RewardError, ScoringError};
use rollout::{RolloutError, SampleProgress, Task};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::files::json_lines;
use crate::folder::{Progress, RunFolder, Stage, write_aside};
use crate::generate::{Generation, Unfinished, Weights, sampled_so_far};
use crate::interrupt::is_stop;
use crate::manifest::Sum;
use crate::pair_row::PairRow;
use crate::plan::{Plan, Reader};
use crate::progress::{Busy, Display, fixed};
use crate::recipe::{PairsFile, PairsRecipe, PreferenceRecipe, SamplePairs};
use crate::record::{Record, Trained};
use crate::restore::{self, Resume};
use crate::run::{Outcome, with_stage};
use crate::save::{self, Kept};
use crate::standstill::Facts;

/// The pairs, in the run's folder.
const PAIRS: &str = "pairs.jsonl";

/// A pair as it is kept in the run folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct KeptPair {
    branch: Branch,
    prompt: String,
    prompt_tokens: Vec<u32>,
    chosen: Vec<u32>,
    rejected: Vec<u32>,
    reference: [f32; 2],
}

/// Trains on pairs as the recipe says.
pub(crate) fn stage(
    generation: &Generation<'_>,
    preference: &PreferenceRecipe,
    folder: &mut RunFolder,
    policy: &mut Policy,
    done: u64,
    saved: Option<Resume>,
    outcome: &mut Outcome,
) -> Result<()> {
    let plan = generation.plan;
    let steps = preference.steps.get() as u64;
    let mut optimizer = Optimizer::new(&preference.optimizer, &preference.schedule, steps);
    let mut mixture = Mixture::default();
    let place = folder.path().join(PAIRS);
    let pairs = match saved {
        Some(saved) => {
            optimizer.restore(saved.updates, saved.optimizer)?;
            mixture = saved.kept.mixture;
            restore::check_input(folder, PAIRS)?;
            read(&place)?
        }
        None => {
            let at = Progress { stage: Stage::Preference, step: 0 };
            let have = restore::arrived_after(folder, at)?;
            let pairs = make(generation, preference, policy, have).map_err(|error| {
                let arrived = error.downcast_ref::<Unfinished>().map_or(&[][..], |u| &u.arrived);
                match save::keep_arrived(folder, at, arrived) {
                    Ok(()) if is_stop(&error) => {
                        let text = format!(
                            "pairs were being made, and {} of their rollouts are kept",
                            arrived.len()
                        );
                        plan.stop.interrupted(text)
                    }
                    Ok(()) => error.context("making pairs failed"),
                    Err(second) => error.context(format!(
                        "making pairs failed, and keeping their rollouts failed too: {second:#}"
                    )),
                }
            })?;
            write(&place, &pairs)?;
            let sum = Sum::of(&place).with_context(|| format!("could not read `{}`", place.display()))?;
            folder.saves.inputs = BTreeMap::from([(PAIRS.to_owned(), sum)]);
            pairs
        }
    };
    let of = |branch: Branch| -> Vec<&Pair> {
        pairs.iter().filter(|(kind, _)| *kind == branch).map(|(_, pair)| pair).collect()
    };
    let branches = [of(Branch::Thinking), of(Branch::Empty)];
    let [thinking, empty] = [branches[0].len(), branches[1].len()];
    anyhow::ensure!(thinking + empty > 0, "there are no pairs: in no group of rollouts did rewards differ");
    let config = PairsConfig {
        loss: preference.loss,
        mixture: preference.mixture,
        chunks: preference.chunks.get(),
        micro_batch_tokens: preference.micro_batch_tokens.get(),
    };
    let selections =
        [thinking, empty].map(|count| Shuffled { prompts: count.max(1), seed: plan.seed().named("pairs") });
    let mut display = Display::new("preference", done, steps);
    display.note(&format!("{thinking} pairs with a trace, {empty} with an empty one"));
    if !matches!(preference.mixture.alpha, Alpha::Fixed(_)) && [thinking, empty].contains(&1) {
        display.note(&format!(
            "warning: alpha stays at {}: it is found from how the gradients of pairs differ, and a branch has a single one",
            preference.mixture.first
        ));
    }
    let facts = Facts::of(plan, Stage::Preference, steps);
    let mut record = Record::new(generation, folder, facts, Vec::new(), done, outcome)?;
    let kept = Kept { mixture, ..Kept::default() };
    record.begin(done, Trained { policy, optimizer: &optimizer }, &kept, &mut display)?;
    for step in done..steps {
        let count = preference.pairs_per_step.get();
        let draw = |branch: usize| -> Vec<&Pair> {
            let all = &branches[branch];
            let count = count.min(all.len());
            selections[branch].draw(step * count as u64, count).into_iter().map(|index| all[index]).collect()
        };
        let begun = Instant::now();
        display.within(&format!("step {}: training", step + 1));
        let last = mixture;
        let update = match pairs::step(policy, &mut optimizer, &mut mixture, &config, &draw(0), &draw(1)) {
            Ok(update) => update,
            Err(error) => {
                let kept = Kept { mixture: last, ..Kept::default() };
                let (what, trained) =
                    (format!("preference step {}", step + 1), Trained { policy, optimizer: &optimizer });
                return Err(record.failed(&what, step, trained, &kept, error.into()));
            }
        };
        let seconds = begun.elapsed().as_secs_f64();
        let metrics = json!({
            "step": step + 1,
            "loss": update.loss,
            "loss_thinking": update.loss_thinking,
            "loss_empty": update.loss_empty,
            "accuracy": update.accuracy,
            "margin": update.margin,
            "alpha": update.alpha,
            "moments": update.moments,
            "grad_norm": update.grad_norm,
            "learning_rate": update.learning_rate,
            "seconds_update": seconds,
            "trained_tokens_per_second": update.tokens as f64 / seconds.max(1e-9),
        });
        let line = with_stage(Stage::Preference, metrics);
        let trained = Trained { policy, optimizer: &optimizer };
        let mut kept = || Kept { mixture, ..Kept::default() };
        let line = record.step(step + 1, line, trained, &mut kept, &display)?;
        let accuracy =
            record.outcome.after.map_or(String::new(), |a| format!(" · held-out {:.1} %", 100.0 * a.share));
        display.step(
            step + 1,
            &format!(
                "loss {:.4} · margin {} · preferred {:.0} % · alpha {:.3}{accuracy}",
                update.loss,
                fixed(update.margin, 3),
                100.0 * update.accuracy,
                update.alpha
            ),
        );
        record.save(step + 1, &line, trained, &mut kept)?;
    }
    Ok(())
}

/// Pairs with what the reference, which is the policy as it is now, says of them.
fn make(
    generation: &Generation<'_>,
    preference: &PreferenceRecipe,
    policy: &Policy,
    have: Vec<Rollout>,
) -> Result<Vec<(Branch, Pair)>> {
    let mut pairs = match &preference.pairs {
        PairsRecipe::Sample(sample) => sampled(generation, preference, sample, policy, have)?,
        PairsRecipe::Jsonl(file) => from_file(generation.plan, file)?,
    };
    let sequences: Vec<Sequence<'_>> = pairs
        .iter()
        .flat_map(|(_, pair)| {
            [&pair.chosen, &pair.rejected]
                .map(|completion| Sequence { prompt: &pair.prompt_tokens, completion })
        })
        .collect();
    let _busy = Busy::new("preference: log-probs of the reference");
    let sums = pairs::summed(policy, &sequences, preference.micro_batch_tokens.get())?;
    drop(sequences);
    for ((_, pair), sums) in pairs.iter_mut().zip(sums.chunks(2)) {
        pair.reference = [sums[0], sums[1]];
    }
    Ok(pairs)
}

/// The best and the worst of each prompt's rollouts, branch by branch. A group without two different rewards gives none;
/// nor does a truncated rollout, whose answer may be missing. `have` is what an earlier attempt left, and whoever fails leaves it
/// in [`Unfinished`].
fn sampled(
    generation: &Generation<'_>,
    preference: &PreferenceRecipe,
    sample: &SamplePairs,
    policy: &Policy,
    mut have: Vec<Rollout>,
) -> Result<Vec<(Branch, Pair)>> {
    let plan = generation.plan;
    let group_size = sample.group_size.get();
    let seed = plan.seed().named("pairs");
    let order = Shuffled { prompts: plan.tasks.len(), seed };
    let indices = order.draw(0, sample.prompts.get().min(plan.tasks.len()));
    let mut pairs = Vec::new();
    let display = Display::new("pairs", 0, 1);
    for branch in &sample.branches {
        let from = match branch {
            Branch::Thinking => &plan.tasks,
            Branch::Empty => &plan.empty_tasks,
        };
        let tasks: Vec<Task> = indices.iter().map(|index| from[*index].clone()).collect();
        let all = tasks.len() * group_size;
        let weights = Weights { policy, stage: Stage::Preference, version: 0 };
        let mut progress = |progress: SampleProgress<'_>| {
            display.within(&sampled_so_far(&progress, all));
        };
        let (sampling, seed) = (&preference.sampling, seed.at(0));
        let stop = Some(&plan.stop);
        let found = match generation.sample(
            weights,
            sampling,
            &tasks,
            group_size,
            seed,
            &have,
            stop,
            &mut progress,
        ) {
            Ok(found) => found,
            Err(error) => {
                let stopped = matches!(error, RolloutError::Stopped { .. });
                // those of the other branch, and all of this one
                have.extend_from_slice(error.arrived());
                return Err(Unfinished { arrived: have, stopped, error: Box::new(error) }.into());
            }
        };
        display.within(&format!("judging {all} rollouts"));
        have.extend_from_slice(&found.rollouts);
        let scored = match generation.score(found.rollouts, stop) {
            Ok(scored) => scored,
            Err(ScoringError { error, .. }) => {
                let stopped = error == RewardError::Stopped;
                return Err(Unfinished { arrived: have, stopped, error: Box::new(error) }.into());
            }
        };
        for group in scored.chunks(group_size) {
            let mut known: Vec<_> = group
                .iter()
                .filter(|s| !s.rollout.truncated() && !s.rollout.tokens.is_empty())
                .filter_map(|s| Some((s.score.reward?, &s.rollout)))
                .collect();
            // the sort is stable: of equal rewards the first place counts
            known.sort_by(|a, b| b.0.total_cmp(&a.0));
            if let (Some(best), Some(worst)) = (known.first(), known.last())
                && best.0 > worst.0
            {
                pairs.push((
                    *branch,
                    Pair {
                        prompt_tokens: best.1.prompt_tokens.clone(),
                        chosen: best.1.tokens.clone(),
                        rejected: worst.1.tokens.clone(),
                        reference: [0.0; 2],
                    },
                ));
            }
        }
    }
    Ok(pairs)
}

fn from_file(plan: &Plan, file: &PairsFile) -> Result<Vec<(Branch, Pair)>> {
    let name = file.path.display();
    let reader = Reader::new(&plan.recipe, &plan.checkpoint, &plan.tokenizer, &plan.config)?;
    let opened = std::fs::File::open(&file.path).with_context(|| format!("could not open `{name}`"))?;
    let stop = plan.stop_tokens.first().copied().context("the checkpoint names no end-of-text token")?;
    let mut pairs = Vec::new();
    for (number, text) in std::io::BufReader::new(opened).lines().enumerate() {
        let place = || format!("`{name}`, line {}", number + 1);
        let text = text.with_context(place)?;
        if text.trim().is_empty() {
            continue;
        }
        let row: PairRow = serde_json::from_str(text.trim_start_matches('\u{feff}')).with_context(place)?;
        let line = row.texts(plan.recipe.prompt.chat).map_err(anyhow::Error::msg).with_context(place)?;
        let id = format!("pair {}", number + 1);
        let prompt = Arc::new(Prompt { id, body: line.prompt, answer: None, fields: Default::default() });
        let branch = if row.thinking { Branch::Thinking } else { Branch::Empty };
        let task = match branch {
            Branch::Thinking => reader.task(&prompt),
            Branch::Empty => reader.empty_task(&prompt),
        }
        .with_context(place)?;
        let encode = |text: &str| -> Result<Vec<u32>> {
            let mut tokens = plan.tokenizer.encode(text)?;
            tokens.push(stop);
            let whole = task.tokens.len() + tokens.len();
            let limit = plan.config.max_position_embeddings;
            anyhow::ensure!(
                whole <= limit,
                "prompt and completion have {whole} tokens; the context is {limit}"
            );
            Ok(tokens)
        };
        let (chosen, rejected) =
            (encode(&line.chosen).with_context(place)?, encode(&line.rejected).with_context(place)?);
        anyhow::ensure!(chosen != rejected, "{}: chosen and rejected are the same", place());
        pairs.push((branch, Pair { prompt_tokens: task.tokens, chosen, rejected, reference: [0.0; 2] }));
    }
    anyhow::ensure!(!pairs.is_empty(), "`{name}` holds no pairs");
    Ok(pairs)
}

fn write(place: &std::path::Path, pairs: &[(Branch, Pair)]) -> Result<()> {
    let mut text = String::new();
    for (number, (branch, pair)) in pairs.iter().enumerate() {
        let kept = KeptPair {
            branch: *branch,
            prompt: format!("pair {}", number + 1),
            prompt_tokens: pair.prompt_tokens.to_vec(),
            chosen: pair.chosen.clone(),
            rejected: pair.rejected.clone(),
            reference: pair.reference,
        };
        text.push_str(&serde_json::to_string(&kept)?);
        text.push('\n');
    }
    write_aside(place, text.as_bytes())
}

fn read(place: &std::path::Path) -> Result<Vec<(Branch, Pair)>> {
    let found = json_lines::<KeptPair>(place)?;
    if let Some(number) = found.broken.first() {
        anyhow::bail!("`{}` line {number} is no pair", place.display());
    }
    if let Some(why) = &found.torn {
        anyhow::bail!("`{}`: the last line is no pair: {why}", place.display());
    }
    let pair = |kept: KeptPair| {
        let pair = Pair {
            prompt_tokens: kept.prompt_tokens.into(),
            chosen: kept.chosen,
            rejected: kept.rejected,
            reference: kept.reference,
        };
        (kept.branch, pair)
    };
    Ok(found.values().map(pair).collect())
}
