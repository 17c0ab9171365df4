//! The rollouts of an RL step: its groups, with dynamic sampling until enough have rewards that differ, and greedy rollouts
//! where the baseline wants them.
//!
//! Before: a policy and the number of prompts drawn so far. After: [`StepRollouts`], scored.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use data::{Rollout, ScoredRollout, Seed, StopReason};
use engine::allocation::RolloutBudget;
use engine::baseline::is_equal;
use engine::batch::penalised;
use engine::selection::{Diversity, GroupOutcome, PromptDraw, PromptKnowledge, Prompts, Selection};
use rewards::{RewardError, ScoringError};
use rollout::{GroupSizes, RolloutError, SampleProgress, Task};

use crate::generate::{Generation, SampleRequest, Weights, sampled_so_far};
use crate::interrupt::Stop;
use crate::recipe::RlRecipe;
use crate::step_rollouts::StepRollouts;
use crate::unfinished::Unfinished;

/// Draws the prompts of a step, samples and scores their groups.
#[derive(Clone, Copy)]
pub(crate) struct StepSampler<'a> {
    pub(crate) generation: &'a Generation<'a>,
    pub(crate) rl: &'a RlRecipe,
    pub(crate) tasks: &'a [Task],
    pub(crate) selection: &'a dyn Selection,
    /// The order of the prompts that it draws by; empty if by none.
    pub(crate) order: &'a [u32],
    /// Of the prompts.
    pub(crate) selection_seed: Seed,
    /// Of the tokens.
    pub(crate) seed: Seed,
    /// Once this is requested, sampling ends early; none where a step has to be finished.
    pub(crate) stop: Option<&'a Stop>,
}

impl StepSampler<'_> {
    /// The rollouts of a step, the first being 0. `known` is what the selection may know of prompts, `drawn` how many were drawn
    /// before, `have` what an earlier attempt left. `watch` hears how far it is.
    ///
    /// # Errors
    /// If sampling or judging fails, or is asked to end; what has arrived until then is in the error.
    pub(crate) fn step(
        &self,
        weights: Weights<'_>,
        step: u64,
        (known, drawn): (&PromptKnowledge, u64),
        have: &[Rollout],
        watch: &mut dyn FnMut(&str),
    ) -> Result<StepRollouts, Unfinished> {
        let mut attempt = StepAttempt {
            sampler: *self,
            weights,
            step,
            known,
            have,
            arrived: Vec::new(),
            chosen: Vec::new(),
            rollouts: StepRollouts::none(step, drawn),
        };
        attempt.sample_groups(watch)?;
        if self.rl.baseline.build().needs().greedy {
            attempt.sample_greedy(watch)?;
        }
        Ok(attempt.rollouts)
    }
}

/// An attempt to sample a step.
struct StepAttempt<'a> {
    sampler: StepSampler<'a>,
    weights: Weights<'a>,
    step: u64,
    known: &'a PromptKnowledge,
    /// Rollouts that an earlier attempt left.
    have: &'a [Rollout],
    /// Rollouts of this attempt.
    arrived: Vec<Rollout>,
    /// Prompts whose groups are trained on.
    chosen: Vec<Task>,
    rollouts: StepRollouts,
}

impl StepAttempt<'_> {
    /// Rounds of sampling and scoring until the step has its groups, or has had as many rounds as it may.
    fn sample_groups(&mut self, watch: &mut dyn FnMut(&str)) -> Result<(), Unfinished> {
        let StepSampler { generation, rl, selection, selection_seed, .. } = self.sampler;
        // a branch without a trace draws what the other one draws
        let id = |place: usize| generation.plan.tasks[place].prompt.id.as_str();
        let prompts = Prompts { count: self.sampler.tasks.len(), id: &id, order: self.sampler.order };
        let wanted = rl.prompts_per_step.get();
        let most = rl.dynamic_sampling.map_or(1, |dynamic| dynamic.max_rounds.get());
        let step = self.step;
        let mut occurrences = BTreeMap::new();
        while self.rollouts.rounds < most && self.chosen.len() < wanted {
            let count = wanted - self.chosen.len();
            let draw = PromptDraw { seed: selection_seed, step, round: self.rollouts.rounds, count };
            let draws = selection.draw(prompts, self.known, &mut self.rollouts.drawn, draw);
            let factors = selection.factors(prompts, self.known, &draws);
            let mut tasks: Vec<Task> = draws.iter().map(|index| self.sampler.tasks[*index].clone()).collect();
            // a prompt that the step has drawn before, in this round or in another, is a group of its own
            rollout::count_occurrences(&mut tasks, &mut occurrences);
            let groups = self.allocate(&tasks, watch)?;
            self.rollouts.rounds += 1;
            for (number, ((task, place), group)) in tasks.into_iter().zip(draws).zip(groups).enumerate() {
                self.rollouts.outcomes.push(outcome(id(place), &group, selection.diversity()));
                if rl.dynamic_sampling.is_some() && is_alike(&group) {
                    self.rollouts.dropped += 1;
                } else {
                    // one without rollouts is no group of the batch
                    self.rollouts.factors.extend(factors.get(number).filter(|_| !group.is_empty()));
                    self.rollouts.scored.extend(group);
                    self.chosen.push(task);
                }
            }
        }
        Ok(())
    }

    /// A group of each task, of the sizes that the recipe's allocation gives.
    fn allocate(
        &mut self,
        tasks: &[Task],
        watch: &mut dyn FnMut(&str),
    ) -> Result<Vec<Vec<ScoredRollout>>, Unfinished> {
        let rl = self.sampler.rl;
        let allocation = rl.allocation.build();
        let budget = RolloutBudget { prompts: tasks.len(), group_size: rl.group_size.get() };
        let prompts = tasks.iter().map(|task| task.prompt.id.as_str());
        let mut sizes = allocation.sizes(&self.known.stats.forecasts(prompts), budget);
        let mut groups: Vec<Vec<ScoredRollout>> = vec![Vec::new(); tasks.len()];
        loop {
            let new = self.sample_round(tasks, &sizes, &groups, watch)?;
            for (group, new) in groups.iter_mut().zip(new) {
                group.extend(new);
            }
            let rewards = |group: &Vec<ScoredRollout>| group.iter().filter_map(|s| s.score.reward).collect();
            let rewards: Vec<Vec<f32>> = groups.iter().map(rewards).collect();
            let more = allocation.more(&sizes, &rewards, budget);
            if more == sizes {
                return Ok(groups);
            }
            sizes = more;
        }
    }

    /// The rollouts that groups lack of these sizes.
    fn sample_round(
        &mut self,
        tasks: &[Task],
        sizes: &[usize],
        groups: &[Vec<ScoredRollout>],
        watch: &mut dyn FnMut(&str),
    ) -> Result<Vec<Vec<ScoredRollout>>, Unfinished> {
        let StepSampler { generation, rl, seed, stop, .. } = self.sampler;
        let (step, begun) = (self.step, Instant::now());
        let all: usize = sizes.iter().sum();
        // other groups of the step are of other tasks
        let goes_on = groups.iter().any(|group| !group.is_empty());
        let earlier = if goes_on { Cow::Owned(self.kept(&[])) } else { Cow::Borrowed(self.have) };
        let request = SampleRequest {
            weights: self.weights,
            sampling: &rl.sampling,
            tasks,
            sizes: GroupSizes::Each(sizes),
            seed: seed.at(step),
            have: &earlier,
            stop,
        };
        let result = generation.sample(&request, &mut |progress: SampleProgress<'_>| {
            watch(&format!("step {}: {}", step + 1, sampled_so_far(&progress, all)));
        });
        let found = result.map_err(|error| self.unfinished(error))?;
        self.rollouts.stats = self.rollouts.stats.and(found.stats);
        self.rollouts.seconds_sample += begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let mut rollouts = found.rollouts.into_iter();
        let missing = |(size, group): (&usize, &Vec<ScoredRollout>)| {
            let group_of = rollouts.by_ref().take(*size);
            group_of.skip(group.len()).collect::<Vec<Rollout>>()
        };
        let new: Vec<Vec<Rollout>> = sizes.iter().zip(groups).map(missing).collect();
        let counts: Vec<usize> = new.iter().map(Vec::len).collect();
        let new: Vec<Rollout> = new.into_iter().flatten().collect();
        // a later round may fail, and what a server gave is not to be had again
        self.arrived.extend_from_slice(&new);
        watch(&format!("step {}: judging {} rollouts", step + 1, new.len()));
        let mut scored = generation.score(new, stop).map_err(|error| self.unscored(error))?.into_iter();
        self.rollouts.seconds_score += begun.elapsed().as_secs_f64();
        Ok(counts.into_iter().map(|count| scored.by_ref().take(count).collect()).collect())
    }

    /// A greedy rollout of each chosen prompt, for a baseline of its reward.
    fn sample_greedy(&mut self, watch: &mut dyn FnMut(&str)) -> Result<(), Unfinished> {
        let StepSampler { generation, rl, seed, stop, .. } = self.sampler;
        let step = self.step;
        let begun = Instant::now();
        // one for all groups of a prompt: the likeliest completion is the same for each
        let mut seen = BTreeSet::new();
        self.chosen.retain(|task| seen.insert(task.prompt.id.clone()));
        let all = self.chosen.len();
        let request = SampleRequest {
            weights: self.weights,
            sampling: &rl.sampling.greedy(),
            tasks: &self.chosen,
            sizes: 1.into(),
            seed: seed.named("greedy").at(step),
            have: &[],
            stop,
        };
        let result = generation.sample(&request, &mut |progress: SampleProgress<'_>| {
            watch(&format!("step {}, greedy: {}", step + 1, sampled_so_far(&progress, all)));
        });
        // greedy rollouts are of other draws than those of the step, and are not kept
        let found =
            result.map_err(|error| Unfinished { arrived: self.kept(&[]), ..self.unfinished(error) })?;
        self.rollouts.stats = self.rollouts.stats.and(found.stats);
        self.rollouts.seconds_sample += begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let scored = generation
            .score(found.rollouts, stop)
            .map_err(|error| self.unscored(ScoringError { rollouts: Vec::new(), ..error }))?;
        for scored in scored {
            // what is lost for its length is lost here too, or the baseline would be of another reward
            if let Some(reward) = penalised(&scored, rl.truncated) {
                self.rollouts.greedy.insert(scored.rollout.prompt.id.clone(), reward);
            }
        }
        self.rollouts.seconds_score += begun.elapsed().as_secs_f64();
        Ok(())
    }

    /// All rollouts of the step that are there, each once; those that an earlier attempt left as well.
    fn kept(&self, more: &[Rollout]) -> Vec<Rollout> {
        let all = self.have.iter().chain(&self.arrived).chain(more);
        let key = |r: &Rollout| (r.prompt.id.clone(), r.occurrence, r.place);
        let all: BTreeMap<_, &Rollout> = all.map(|rollout| (key(rollout), rollout)).collect();
        all.into_values().cloned().collect()
    }

    fn unfinished(&self, error: RolloutError) -> Unfinished {
        Unfinished {
            arrived: self.kept(error.arrived()),
            stopped: matches!(error, RolloutError::Stopped { .. }),
            error: Box::new(error),
        }
    }

    fn unscored(&self, error: ScoringError) -> Unfinished {
        Unfinished {
            arrived: self.kept(&error.rollouts),
            stopped: error.error == RewardError::Stopped,
            error: Box::new(error.error),
        }
    }
}

/// What a prompt's group came to.
fn outcome(prompt: &str, group: &[ScoredRollout], diversity: Option<Diversity>) -> GroupOutcome {
    let tokens: Vec<&[u32]> = group.iter().map(|scored| scored.rollout.tokens.as_slice()).collect();
    GroupOutcome {
        prompt: prompt.to_owned(),
        rewards: group.iter().filter_map(|scored| scored.score.reward).collect(),
        truncated: group.iter().filter(|scored| scored.rollout.stop == StopReason::Length).count() as u64,
        tokens: tokens.iter().map(|tokens| tokens.len() as u64).sum(),
        rollouts: group.len() as u64,
        diversity: diversity.map(|measure| measure.of(&tokens)),
        // seen as the step trains
        concentration: None,
    }
}

/// True of a group without two different rewards.
fn is_alike(group: &[ScoredRollout]) -> bool {
    let known: Vec<f32> = group.iter().filter_map(|scored| scored.score.reward).collect();
    known.len() < 2 || is_equal(&known)
}
