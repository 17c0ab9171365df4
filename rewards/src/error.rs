//! What can be wrong with a recipe's rewards, and with judging.
//!
//! Before: the recipe was read, or rollouts were sampled. After: the error says which reward, what was found and what
//! was wanted.

use data::Rollout;

/// Why the rewards cannot be set up, or cannot go on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RewardError {
    /// Two rewards with one name.
    #[error("two rewards are named `{name}`, wanted a name for each")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A weight, bound or threshold that is no number.
    #[error("reward `{name}` has the {what} {value}, wanted a finite number")]
    NotFinite {
        /// The reward's name.
        name: String,
        /// What it is: `weight`, `gate`, ….
        what: &'static str,
        /// Its value.
        value: f32,
    },
    /// A setting that makes no sense.
    #[error("{what}")]
    Setting {
        /// What was found and what was wanted.
        what: String,
    },
    /// A function that cannot start: a file that is not there, a syntax error, no such program.
    #[error("reward `{name}` cannot start: {why}")]
    Start {
        /// The reward's name.
        name: String,
        /// What went wrong, with the traceback if there is one.
        why: String,
    },
    /// Too many rollouts of a step could not be judged.
    #[error(
        "reward `{name}` failed for {failed} of {of} rollouts, wanted a share of at most {bound}; the first: {first}"
    )]
    Failures {
        /// The reward's name.
        name: String,
        /// Rollouts it failed for.
        failed: usize,
        /// Rollouts it was asked about.
        of: usize,
        /// The recipe's bound.
        bound: f32,
        /// The first failure.
        first: String,
    },
    /// A function of this program that does not give a verdict for each rollout.
    #[error("reward `{name}` judged {found} rollouts, wanted a verdict for each of {wanted}")]
    Count {
        /// The reward's name.
        name: String,
        /// Verdicts it gave.
        found: usize,
        /// Rollouts there were.
        wanted: usize,
    },
    /// Whoever wanted the verdicts does not any more, see [`crate::Rewards::score_while`].
    #[error("judging was stopped")]
    Stopped,
    /// A function that gave nothing at all within its deadline.
    #[error("reward `{name}` does not answer: {why}")]
    Hangs {
        /// The reward's name.
        name: String,
        /// What was waited for, and how long.
        why: String,
    },
}

/// Judging that could not go on, with the rollouts it was to judge.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{error}")]
pub struct ScoringError {
    /// Why.
    pub error: RewardError,
    /// All the rollouts, so that none has to be sampled again.
    pub rollouts: Vec<Rollout>,
}
