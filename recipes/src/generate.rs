//! Rollouts for the stages of a run, from whichever backend the recipe names.
//!
//! Before: [`Plan`] and a policy. After: scored rollouts of a step, or an accuracy.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use data::{PolicyVersion, Rollout, ScoredRollout, StepSeed};
use engine::model::Policy;
use rewards::ScoringError;
use rollout::backend::{Backend, Job};
use rollout::{GroupSizes, RolloutError, SampleProgress, Sampled, Sampling, Task};

use crate::interrupt::Stop;
use crate::plan::Plan;
use crate::position::StageName;
use crate::progress::{Display, Teller};

/// A plan and where its rollouts come from.
pub(crate) struct Generation<'a> {
    pub(crate) plan: &'a Plan,
    backend: Box<dyn Backend>,
    /// Part of the names of weights: no two processes use the same.
    run: String,
    /// The display that shows what is being done.
    teller: Mutex<Option<Teller>>,
}

/// Weights of a run: after so many updates of a stage.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) stage: StageName,
    pub(crate) version: u64,
}

/// Rollouts that are asked for: whose, of which tasks, how many of each, and how they are drawn.
#[derive(Clone, Copy)]
pub(crate) struct SampleRequest<'a> {
    pub(crate) weights: Weights<'a>,
    pub(crate) sampling: &'a Sampling,
    pub(crate) tasks: &'a [Task],
    /// Rollouts of each task.
    pub(crate) sizes: GroupSizes<'a>,
    pub(crate) seed: StepSeed,
    /// Rollouts that are there already and are not drawn again.
    pub(crate) have: &'a [Rollout],
    /// Once this is requested, sampling ends early.
    pub(crate) stop: Option<&'a Stop>,
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

    /// Rollouts as requested. `progress` hears how far it is.
    ///
    /// # Errors
    /// If the backend fails, or the request's `stop` is made; what has arrived until then is in the error.
    pub(crate) fn sample(
        &self,
        request: &SampleRequest<'_>,
        progress: &mut dyn FnMut(SampleProgress<'_>),
    ) -> Result<Sampled, RolloutError> {
        let SampleRequest { weights, sampling, tasks, sizes, seed, have, stop } = *request;
        let job = Job {
            policy: weights.policy,
            version: PolicyVersion(weights.version),
            label: &format!("{}-{}-{}", self.run, weights.stage.name(), weights.version),
            tokenizer: &self.plan.tokenizer,
            sampling,
            stop_tokens: &self.plan.stop_tokens,
            tasks,
            sizes,
            seed,
            have,
        };
        self.backend.sample(&job, &mut |now: SampleProgress<'_>| {
            now.stop.set(stop.is_some_and(Stop::is_requested));
            progress(now);
        })
    }

    /// The rollouts with what they earned. Ends early once `stop` is requested.
    pub(crate) fn score(
        &self,
        rollouts: Vec<Rollout>,
        stop: Option<&Stop>,
    ) -> Result<Vec<ScoredRollout>, ScoringError> {
        self.plan.rewards.score_while(rollouts, &mut || !stop.is_some_and(Stop::is_requested))
    }
}

/// "3 of 64 rollouts finished, 1024 tokens drawn"
pub(crate) fn sampled_so_far(progress: &SampleProgress<'_>, all: usize) -> String {
    format!("{} of {all} rollouts finished, {} tokens drawn", progress.finished, progress.drawn)
}
