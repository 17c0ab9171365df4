//! The words that the other crates speak, and where prompts come from.
//!
//! [`Prompt`] → [`Rollout`] → [`ScoredRollout`]: each is made in one place, builds on the one before and is not
//! changed after. This crate knows neither tensors nor tokenizers, so that a program which only writes a reward
//! stays small.

mod answer;
mod arithmetic;
mod conversation;
mod countdown;
mod csv;
mod dataset;
mod digits;
mod duplicates;
mod error;
mod filter;
mod guard;
mod held_back;
mod jinja;
mod jsonl;
mod latex;
mod layout;
mod overlap;
mod packed;
#[cfg(feature = "parquet")]
mod parquet;
mod printable;
mod prompt;
mod read;
mod rollout;
mod row;
mod score;
mod seed;
mod solution;
#[cfg(feature = "parquet")]
mod table;
mod template;

pub use answer::Answer;
pub use arithmetic::{Arithmetic, Digits, Operator, Share, Split};
pub use conversation::conversation;
pub use countdown::Countdown;
pub use dataset::Dataset;
pub use digits::keep_long_integers;
pub use duplicates::same_questions;
pub use error::{At, DataError};
pub use filter::{Expression, Filter, OverlapFilter};
pub use guard::guard;
pub use held_back::{HeldBack, Part as SplitPart};
pub use latex::misread_latex;
pub use layout::{Columns, Layout, Reading};
pub use overlap::{NGrams, Overlap, asked};
pub use printable::printable;
pub use prompt::{Body, Message, Prompt};
pub use read::Files;
pub use rollout::{Alternative, PolicyVersion, Rollout, ScoredRollout, StopReason};
pub use row::find_column;
pub use score::{Part, Score, Verdict};
pub use seed::{PromptSeed, Seed, StepSeed, TokenSeed};
#[cfg(feature = "parquet")]
pub use table::Table;
pub use template::PromptTemplate;
