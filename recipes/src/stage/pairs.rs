//! The pairs that the preference stage learns from: sampled, or read from a file; and in the run's folder, as tokens with the
//! reference's log-probs.
//!
//! Before: the policy that the stage begins with, which is the reference too. After: [`super::preference`] trains.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use data::{Prompt, Rollout, ScoredRollout};
use engine::gradient::Sequence;
use engine::model::Policy;
use engine::pairs::{self, Branch, Pair};
use engine::selection::Shuffled;
use rewards::{RewardError, ScoringError};
use rollout::{RolloutError, SampleProgress, Task};
use serde::{Deserialize, Serialize};

use super::Run;
use super::pair_row::PairRow;
use crate::arrived::{arrived_after, keep_arrived};
use crate::files::{json_lines, write_aside};
use crate::generate::{Generation, SampleRequest, Weights, sampled_so_far};
use crate::interrupt::is_stop;
use crate::manifest::Checksum;
use crate::plan::Plan;
use crate::position::{Progress, StageName};
use crate::progress::{Busy, Display};
use crate::reader::Reader;
use crate::recipe::{PairsFile, PairsRecipe, PreferenceRecipe, SamplePairs};
use crate::restore;
use crate::unfinished::Unfinished;

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

/// The pairs of a stage that begins: made, and written into the run's folder.
///
/// # Errors
/// If they cannot be made or written; rollouts that arrived until then are kept.
pub(super) fn new(
    run: &mut Run<'_>,
    preference: &PreferenceRecipe,
    policy: &Policy,
) -> Result<Vec<(Branch, Pair)>> {
    let place = run.folder.path().join(PAIRS);
    let at = Progress { stage: StageName::Preference, step: 0 };
    let have = arrived_after(run.folder, at)?;
    let pairs = make(run.generation, preference, policy, have).map_err(|error| {
        let arrived = error.downcast_ref::<Unfinished>().map_or(&[][..], |u| &u.arrived);
        match keep_arrived(run.folder, at, arrived) {
            Ok(()) if is_stop(&error) => {
                let text = format!("pairs were being made, and {} of their rollouts are kept", arrived.len());
                run.generation.plan.stop.interrupted(text)
            }
            Ok(()) => error.context("making pairs failed"),
            Err(second) => error
                .context(format!("making pairs failed, and keeping their rollouts failed too: {second:#}")),
        }
    })?;
    write(&place, &pairs)?;
    let sum = Checksum::of(&place).with_context(|| format!("could not read `{}`", place.display()))?;
    run.folder.saves.inputs = BTreeMap::from([(PAIRS.to_owned(), sum)]);
    Ok(pairs)
}

/// The pairs of a stage that goes on, from the run's folder.
///
/// # Errors
/// If they are not what they were when the checkpoint was written.
pub(super) fn kept(run: &Run<'_>) -> Result<Vec<(Branch, Pair)>> {
    restore::check_input(run.folder, PAIRS)?;
    read(&run.folder.path().join(PAIRS))
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
        let weights = Weights { policy, stage: StageName::Preference, version: 0 };
        let mut progress = |progress: SampleProgress<'_>| {
            display.within(&sampled_so_far(&progress, all));
        };
        let stop = Some(&plan.stop);
        let request = SampleRequest {
            weights,
            sampling: &preference.sampling,
            tasks: &tasks,
            sizes: group_size.into(),
            seed: seed.at(0),
            have: &have,
            stop,
        };
        let found = match generation.sample(&request, &mut progress) {
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
        pairs.extend(scored.chunks(group_size).filter_map(best_and_worst).map(|pair| (*branch, pair)));
    }
    Ok(pairs)
}

/// The best and the worst rollout of a group by reward; none if their rewards do not differ. A truncated rollout, whose answer may
/// be missing, does not count.
fn best_and_worst(group: &[ScoredRollout]) -> Option<Pair> {
    let mut known: Vec<_> = group
        .iter()
        .filter(|s| !s.rollout.truncated() && !s.rollout.tokens.is_empty())
        .filter_map(|s| Some((s.score.reward?, &s.rollout)))
        .collect();
    // the sort is stable: of equal rewards the first place counts
    known.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (best, worst) = (known.first()?, known.last()?);
    (best.0 > worst.0).then(|| Pair {
        prompt_tokens: best.1.prompt_tokens.clone(),
        chosen: best.1.tokens.clone(),
        rejected: worst.1.tokens.clone(),
        reference: [0.0; 2],
    })
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

fn write(place: &Path, pairs: &[(Branch, Pair)]) -> Result<()> {
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

fn read(place: &Path) -> Result<Vec<(Branch, Pair)>> {
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
