//! What can be wrong with a recipe's rewards.
//!
//! Before: the recipe was read. After: its error says which reward cannot be and why.

/// Why the rewards cannot be set up.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RewardError {
    /// Two rewards with one name.
    #[error("two rewards are named `{name}`, wanted a name for each")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A weight that is no number.
    #[error("reward `{name}` has the weight {weight}, wanted a finite number")]
    Weight {
        /// The reward's name.
        name: String,
        /// Its weight.
        weight: f32,
    },
    /// A format reward that checks nothing.
    #[error(
        "the format reward checks nothing, wanted at least one of `boxed`, `think` and `ends` to be true"
    )]
    NoChecks,
}
