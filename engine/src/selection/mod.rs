//! Which prompts a step draws, and what is known of every prompt.
//!
//! Before: the dataset, and the outcomes of the steps until now. After: the sampler. A [`Selection`] is constant: what has been
//! seen of prompts is in [`PromptKnowledge`], which changes with the outcomes of a step, and how far the draws have come is a number,
//! which changes with each draw. So a draw is a function of (seed, step, round, what was known, number), and a resumed run draws
//! what an uninterrupted one would. Where steps are sampled ahead, all draws of a step see what was known when its weights were
//! copied.

mod angle;
mod concentration;
mod diversity;
mod importance;
mod metrics;
mod skip;
mod store;
mod target;
mod uniform;
mod variance;
mod walk;

pub use angle::{Angle, AngleMetric, Length};
pub use concentration::{Concentration, Directions, Released, descending};
pub use diversity::{Diversity, distinct, edit_distance, self_bleu};
pub use importance::Importance;
pub use metrics::SelectionMetrics;
pub use skip::Skip;
pub use store::{GroupOutcome, PromptRecord, PromptStats};
pub use target::Target;
pub use uniform::{Shuffled, Uniform};
pub use variance::{Stale, Variance, VarianceScore, WeightScale};
pub use walk::{End, Walk};

use data::Seed;
use serde::{Deserialize, Serialize};

/// The prompts of a dataset, by their ids.
#[derive(Clone, Copy)]
pub struct Prompts<'a> {
    /// Prompts in the dataset, at least 1.
    pub count: usize,
    /// The id of each.
    pub id: &'a (dyn Fn(usize) -> &'a str + Sync),
    /// Their places in the order that the selection wants, [`Selection::order`]; empty if it wants none.
    pub order: &'a [u32],
}

/// An order of the prompts of a dataset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Order {
    /// From few tokens to many.
    Length,
    /// From concentrated to dispersed directions of the tokens, as the policy has them that training begins with.
    Angle {
        /// The measure.
        metric: AngleMetric,
        /// κ of its sum.
        kappa: f64,
    },
}

/// One call for prompts.
#[derive(Debug, Clone, Copy)]
pub struct PromptDraw {
    /// The run's seed.
    pub seed: Seed,
    /// The step, from 0.
    pub step: u64,
    /// How often the step has asked before, as dynamic sampling does.
    pub round: usize,
    /// Wanted prompts.
    pub count: usize,
}

impl PromptDraw {
    /// A generator for these draws, of its own for every step and round.
    fn rng(&self) -> impl rand::Rng + use<> {
        self.seed.named(&format!("selection {}", self.round)).at(self.step).rng()
    }
}

/// Everything that a selection may know: the statistics of prompts, and what it has made of them. Saved in JSON.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PromptKnowledge {
    /// Statistics of every prompt that was visited.
    pub stats: PromptStats,
    /// The weights of a selection that draws by weights: one a prompt of the dataset, or none yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<f32>,
    /// Steps after which they were made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refreshed: Option<u64>,
    /// Probabilities of drawing a prompt again that was solved always, and one that was never solved, for a selection that skips.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<[f64; 2]>,
    /// The mean of a selection whose window walks along an order, as a position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub walk: Option<f64>,
}

impl PromptKnowledge {
    /// Takes in the outcomes of a step, those of groups that were dropped among them: into the statistics always, and into what
    /// the selection makes of them.
    pub fn observe(
        &mut self,
        selection: &dyn Selection,
        prompts: Prompts<'_>,
        step: u64,
        outcomes: &[GroupOutcome],
    ) {
        for outcome in outcomes {
            self.stats.observe(step, outcome, selection.forgetting());
        }
        selection.learn(self, prompts, step, outcomes);
    }
}

/// Which prompts a step draws. One that is drawn twice in a step is two groups.
pub trait Selection: Send + Sync {
    /// Its name in recipes.
    fn name(&self) -> &'static str;

    /// How it measures how rollouts of a group differ, if it looks at that.
    fn diversity(&self) -> Option<Diversity> {
        None
    }

    /// The order of the prompts that it draws by, if any.
    fn order(&self) -> Option<Order> {
        None
    }

    /// How it measures the concentration of a step's rollouts, if it looks at that.
    fn online(&self) -> Option<AngleMetric> {
        None
    }

    /// Share of a prompt's counts that the next visit keeps in its posterior.
    fn forgetting(&self) -> f64 {
        1.0
    }

    /// Places of the prompts in the dataset. `drawn` is how far the walk through the dataset has come, and is moved on.
    fn draw(
        &self,
        prompts: Prompts<'_>,
        known: &PromptKnowledge,
        drawn: &mut u64,
        draw: PromptDraw,
    ) -> Vec<usize>;

    /// What the gradients of these prompts, drawn in one round, have to be multiplied with, so that the step's is that of all
    /// prompts alike; empty if it is not meant to be, or they all count alike.
    fn factors(&self, prompts: Prompts<'_>, known: &PromptKnowledge, places: &[usize]) -> Vec<f64> {
        let _ = (prompts, known, places);
        Vec::new()
    }

    /// Changes what it has made of the statistics, which hold the outcomes already.
    fn learn(&self, known: &mut PromptKnowledge, prompts: Prompts<'_>, step: u64, outcomes: &[GroupOutcome]) {
        let _ = (known, prompts, step, outcomes);
    }

    /// What makes no sense of its settings, if anything.
    fn problem(&self) -> Option<String> {
        None
    }
}

/// So many places, drawn with replacement in proportion to weights that are at least 0 and not all 0.
fn weighted(weights: &[f64], count: usize, mut uniform: impl FnMut() -> f64) -> Vec<usize> {
    let mut total = 0.0;
    let sums: Vec<f64> = weights
        .iter()
        .map(|weight| {
            total += weight;
            total
        })
        .collect();
    // rounding may leave a target behind the last sum; a place of weight 0 is never taken
    let last = weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0);
    (0..count)
        .map(|_| {
            let target = uniform() * total;
            sums.partition_point(|sum| *sum <= target).min(last)
        })
        .collect()
}

/// How a recipe chooses prompts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SelectionConfig {
    /// Every prompt once, in random order, then all again in another order.
    #[default]
    Uniform,
    /// More of the prompts whose rewards vary (VAS).
    Variance(Variance),
    /// Prompts whose predicted pass rate is nearest to a target (MoPPS).
    Target(Target),
    /// Fewer of the prompts whose rollouts were all right or all wrong (GRESO).
    Skip(Skip),
    /// More of the prompts whose gradients are large, each counting less by as much (PA&DA): the same gradient with less noise.
    Importance(Importance),
    /// A window that walks from prompts whose tokens point one way to those whose tokens do not (GAIN-RL). To be compared with
    /// `length`.
    Angle(Angle),
    /// The same from short prompts to long ones: the control of `angle`.
    Length(Length),
}

impl SelectionConfig {
    /// Every choice with its defaults.
    pub fn all() -> Vec<Self> {
        vec![
            Self::Uniform,
            Self::Variance(Variance::default()),
            Self::Target(Target::default()),
            Self::Skip(Skip::default()),
            Self::Importance(Importance::default()),
            Self::Angle(Angle::default()),
            Self::Length(Length::default()),
        ]
    }

    /// The selection with these settings.
    pub fn build(&self) -> &dyn Selection {
        match self {
            Self::Uniform => &Uniform,
            Self::Variance(variance) => variance,
            Self::Target(target) => target,
            Self::Skip(skip) => skip,
            Self::Importance(importance) => importance,
            Self::Angle(angle) => angle,
            Self::Length(length) => length,
        }
    }
}
