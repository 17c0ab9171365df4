//! The words that the other crates speak, and where prompts come from.
//!
//! [`Prompt`] → [`Rollout`] → [`ScoredRollout`]: each is made in one place, builds on the one before and is not
//! changed after. This crate knows neither tensors nor tokenizers, so that a program which only writes a reward
//! stays small.

mod arithmetic;
mod dataset;
mod error;
mod jsonl;
mod prompt;
mod rollout;
mod score;
mod seed;
mod template;

pub use arithmetic::{Arithmetic, Digits, Operator, Share, Split};
pub use dataset::Dataset;
pub use error::DataError;
pub use jsonl::{Columns, Layout};
pub use prompt::{Body, Message, Prompt};
pub use rollout::{Alternative, PolicyVersion, Rollout, ScoredRollout, StopReason};
pub use score::{Part, Score, Verdict};
pub use seed::{PromptSeed, Seed, StepSeed, TokenSeed};
pub use template::PromptTemplate;
