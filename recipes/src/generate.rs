//! Rollouts for the stages of a run, from whichever backend the recipe names.
//!
//! Before: [`Plan`] and a policy. After: scored rollouts of a step, or an accuracy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use data::{PolicyVersion, Rollout, ScoredRollout, Seed, StepSeed};
use engine::baseline::is_equal;
use engine::batch::penalised;
use engine::model::Policy;
use engine::selection::Shuffled;
use eval::Accuracy;
use rewards::{RewardError, ScoringError};
use rollout::backend::{Backend, Job};
use rollout::{RolloutError, SampleProgress, SampleStats, Sampled, Sampling, Task};
use serde::{Deserialize, Serialize};

use crate::folder::{RunFolder, Stage};
use crate::interrupt::{Stop, is_stop};
use crate::measure::Measured;
use crate::plan::Plan;
use crate::progress::{Display, Teller};
use crate::recipe::RlRecipe;

/// A plan and where its rollouts come from.
pub(crate) struct Generation<'a> {
    pub(crate) plan: &'a Plan,
    backend: Box<dyn Backend>,
    /// Part of the names of weights: no two processes use the same.
    run: String,
    /// Who hears what is being done.
    teller: Mutex<Option<Teller>>,
}

/// Weights of a run: after so many updates of a stage.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) stage: Stage,
    pub(crate) version: u64,
}

/// The rollouts of a step, and what it took to get them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StepRollouts {
    /// The step, from 0.
    pub(crate) step: u64,
    pub(crate) scored: Vec<ScoredRollout>,
    /// Rewards of greedy rollouts by prompt, penalties for their length included, where the baseline wants them.
    pub(crate) greedy: BTreeMap<String, f32>,
    /// Prompts drawn until then.
    pub(crate) drawn: u64,
    pub(crate) rounds: usize,
    pub(crate) dropped: usize,
    pub(crate) stats: SampleStats,
    /// Not kept in a checkpoint, which is the same however long it took.
    #[serde(default, skip_serializing)]
    pub(crate) seconds_sample: f64,
    /// Likewise.
    #[serde(default, skip_serializing)]
    pub(crate) seconds_score: f64,
}

/// What the rollouts of a step are drawn from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) rl: &'a RlRecipe,
    pub(crate) tasks: &'a [Task],
    pub(crate) selection: &'a Shuffled,
    pub(crate) seed: Seed,
    /// Asks to end early, if that can be.
    pub(crate) stop: Option<&'a Stop>,
}

/// A step's sampling that failed, with the rollouts that are there.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Unfinished {
    pub(crate) arrived: Vec<Rollout>,
    pub(crate) error: Box<dyn std::error::Error + Send + Sync>,
    /// Whether it has not failed, but ended as it was asked to.
    pub(crate) stopped: bool,
}

impl<'a> Generation<'a> {
    /// Rollouts for a run in a folder.
    pub(crate) fn new(plan: &'a Plan, out: &Path) -> Self {
        let recipe = &plan.recipe.rollout;
        let backend = recipe.backend.build(recipe.slots(), out.join("weights"));
        let begun = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // it becomes a folder
        let plain = |c: char| if c.is_alphanumeric() || c == '.' || c == '_' { c } else { '-' };
        let name: String = plan.recipe.name().chars().map(plain).collect();
        let run = format!("{name}-{:x}", begun.map_or(0, |t| t.as_millis() as u64));
        Self { plan, backend, run, teller: Mutex::default() }
    }

    /// From now on says on this display what it is doing.
    pub(crate) fn tell_to(&self, display: &Display) {
        *self.teller.lock().unwrap_or_else(PoisonError::into_inner) = Some(display.teller());
    }

    /// Says what is being done.
    pub(crate) fn tell(&self, text: &str) {
        let teller = self.teller.lock().unwrap_or_else(PoisonError::into_inner);
        teller.iter().for_each(|teller| teller.within(text));
    }

    /// `group_size` rollouts of each task. Ends early once `stop` is requested.
    #[expect(clippy::too_many_arguments, reason = "who, what, how often, with which luck")]
    pub(crate) fn sample(
        &self,
        weights: Weights<'_>,
        sampling: &Sampling,
        tasks: &[Task],
        group_size: usize,
        seed: StepSeed,
        have: &[Rollout],
        stop: Option<&Stop>,
        progress: &mut dyn FnMut(SampleProgress<'_>),
    ) -> Result<Sampled, RolloutError> {
        let label = self.label(weights);
        let job = self.job(weights, &label, sampling, tasks);
        self.backend.sample(&Job { group_size, seed, have, ..job }, &mut |now: SampleProgress<'_>| {
            now.stop.set(stop.is_some_and(Stop::is_requested));
            progress(now);
        })
    }

    /// What the rollouts earned. Ends early once `stop` is requested.
    pub(crate) fn score(
        &self,
        rollouts: Vec<Rollout>,
        stop: Option<&Stop>,
    ) -> Result<Vec<ScoredRollout>, ScoringError> {
        self.plan.rewards.score_while(rollouts, &mut || !stop.is_some_and(Stop::is_requested))
    }

    fn label(&self, weights: Weights<'_>) -> String {
        format!("{}-{}-{}", self.run, weights.stage.name(), weights.version)
    }

    fn job<'j>(
        &'j self,
        weights: Weights<'j>,
        label: &'j str,
        sampling: &'j Sampling,
        tasks: &'j [Task],
    ) -> Job<'j> {
        Job {
            policy: weights.policy,
            version: PolicyVersion(weights.version),
            label,
            tokenizer: &self.plan.tokenizer,
            sampling,
            stop_tokens: &self.plan.stop_tokens,
            tasks,
            group_size: 1,
            seed: self.plan.seed().at(0),
            have: &[],
        }
    }

    /// Accuracy on the held-out prompts, if there are any; the folder keeps what each of them came to.
    pub(crate) fn measure(&self, weights: Weights<'_>, folder: &RunFolder) -> Result<Option<Accuracy>> {
        let measured = Measured::of(self, weights).map_err(|error| match is_stop(&error) {
            true => self.plan.stop.interrupted(format!(
                "the evaluation after {} steps of {} was not finished",
                weights.version,
                weights.stage.name()
            )),
            false => error,
        })?;
        let Some(measured) = measured else { return Ok(None) };
        measured.keep(folder, self.plan.recipe.save.rollouts)?;
        Ok(Some(measured.accuracy))
    }

    /// Samples and scores the groups of a step; with dynamic sampling, until enough have rewards that differ. `drawn` is
    /// how many prompts were drawn before, `have` what an earlier attempt left. `watch` hears how far it is.
    pub(crate) fn step(
        &self,
        source: Source<'_>,
        weights: Weights<'_>,
        step: u64,
        mut drawn: u64,
        have: &[Rollout],
        watch: &mut dyn FnMut(&str),
    ) -> Result<StepRollouts, Unfinished> {
        let Source { rl, tasks: from, selection, seed, stop } = source;
        let (wanted, group_size) = (rl.prompts_per_step.get(), rl.group_size.get());
        let most = rl.dynamic_sampling.map_or(1, |dynamic| dynamic.max_rounds.get());
        let mut sampled = StepRollouts {
            step,
            scored: Vec::new(),
            greedy: BTreeMap::new(),
            drawn,
            rounds: 0,
            dropped: 0,
            stats: SampleStats::default(),
            seconds_sample: 0.0,
            seconds_score: 0.0,
        };
        let (mut occurrences, mut chosen, mut arrived) = (BTreeMap::new(), Vec::<Task>::new(), Vec::new());
        // what an earlier attempt left is kept as well
        let keep = |arrived: &[Rollout], more: &[Rollout]| -> Vec<Rollout> {
            let all = have.iter().chain(arrived).chain(more);
            let key = |r: &'_ Rollout| (r.prompt.id.clone(), r.occurrence, r.place);
            let all: BTreeMap<_, &Rollout> = all.map(|rollout| (key(rollout), rollout)).collect();
            all.into_values().cloned().collect()
        };
        let unfinished = |arrived: &[Rollout], error: RolloutError| Unfinished {
            arrived: keep(arrived, error.arrived()),
            stopped: matches!(error, RolloutError::Stopped { .. }),
            error: Box::new(error),
        };
        let unscored = |arrived: &[Rollout], error: ScoringError| Unfinished {
            arrived: keep(arrived, &error.rollouts),
            stopped: error.error == RewardError::Stopped,
            error: Box::new(error.error),
        };
        while sampled.rounds < most && sampled.scored.len() < wanted * group_size {
            let missing = wanted - sampled.scored.len() / group_size;
            let draws = selection.draw(drawn, missing);
            drawn += missing as u64;
            let mut tasks: Vec<Task> = draws.iter().map(|index| from[*index].clone()).collect();
            // a prompt that the step has drawn before, in this round or in another, is a group of its own
            rollout::count_occurrences(&mut tasks, &mut occurrences);
            let begun = Instant::now();
            let all = tasks.len() * group_size;
            let result = self.sample(
                weights,
                &rl.sampling,
                &tasks,
                group_size,
                seed.at(step),
                have,
                stop,
                &mut |progress| watch(&format!("step {}: {}", step + 1, sampled_so_far(&progress, all))),
            );
            let found = match result {
                Ok(found) => found,
                Err(error) => return Err(unfinished(&arrived, error)),
            };
            sampled.stats = sampled.stats.and(found.stats);
            sampled.seconds_sample += begun.elapsed().as_secs_f64();
            let begun = Instant::now();
            // a later round may fail, and what a server gave is not to be had again
            arrived.extend_from_slice(&found.rollouts);
            watch(&format!("step {}: judging {} rollouts", step + 1, found.rollouts.len()));
            let scored = match self.score(found.rollouts, stop) {
                Ok(scored) => scored,
                Err(error) => return Err(unscored(&arrived, error)),
            };
            sampled.seconds_score += begun.elapsed().as_secs_f64();
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
            // one for all groups of a prompt: the likeliest completion is the same for each
            let mut seen = BTreeSet::new();
            chosen.retain(|task| seen.insert(task.prompt.id.clone()));
            let (greedy, seed) = (rl.sampling.greedy(), seed.named("greedy").at(step));
            let mut progress = |progress: SampleProgress<'_>| {
                let so_far = sampled_so_far(&progress, chosen.len());
                watch(&format!("step {}, greedy: {so_far}", step + 1));
            };
            let found = match self.sample(weights, &greedy, &chosen, 1, seed, &[], stop, &mut progress) {
                Ok(found) => found,
                // the greedy rollouts are of other draws than those of the step
                Err(error) => {
                    let kept = Unfinished { arrived: keep(&arrived, &[]), ..unfinished(&[], error) };
                    return Err(kept);
                }
            };
            sampled.stats = sampled.stats.and(found.stats);
            sampled.seconds_sample += begun.elapsed().as_secs_f64();
            let begun = Instant::now();
            let greedy = match self.score(found.rollouts, stop) {
                Ok(scored) => scored,
                // the greedy rollouts are of other draws than those of the step
                Err(error) => {
                    return Err(unscored(&arrived, ScoringError { rollouts: Vec::new(), ..error }));
                }
            };
            for scored in greedy {
                // what is lost for its length is lost here too, or the baseline would be of another reward
                if let Some(reward) = penalised(&scored, rl.truncated) {
                    sampled.greedy.insert(scored.rollout.prompt.id.clone(), reward);
                }
            }
            sampled.seconds_score += begun.elapsed().as_secs_f64();
        }
        sampled.drawn = drawn;
        Ok(sampled)
    }
}

/// "3 of 64 rollouts finished, 1024 tokens drawn"
pub(crate) fn sampled_so_far(progress: &SampleProgress<'_>, all: usize) -> String {
    format!("{} of {all} rollouts finished, {} tokens drawn", progress.finished, progress.drawn)
}
