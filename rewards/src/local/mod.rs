//! Models that judge inside of this program, from a folder in Hugging Face layout.
//!
//! Before: a recipe names a folder. After: a [`crate::Reward`] that asks nobody outside.
//!
//! [`RewardModel`] reads a reward off the last token; [`LocalJudge`] writes a reply that is read as [`crate::Judge`]'s is.
//! [`folder`] holds the files, [`shape`] says what must be in them, [`chat`] and [`text`] make tokens, [`causal`] runs the
//! model on one sequence at a time, so that no verdict depends on which others are asked for, and [`held`] keeps the
//! threads apart.

mod causal;
mod chat;
mod folder;
mod held;
mod judge;
mod reward_model;
mod shape;
mod text;

pub use judge::LocalJudge;
pub use reward_model::RewardModel;

use crate::RewardError;

/// What a reward that cannot start says: who it is and why.
fn start(name: &str) -> impl Fn(String) -> RewardError + Copy {
    move |why| RewardError::Start { name: name.to_owned(), why }
}

/// Longest sequence unless a recipe says something else: attention takes memory that grows with its square.
const LIMIT: usize = 4096;

/// Longest sequence: what the recipe says, or else `usual`, and no more than the model was made for.
fn limit(what: &str, said: Option<usize>, usual: usize, model: usize) -> Result<usize, String> {
    match said {
        None => Ok(usual.min(model)),
        Some(said) if (1..=model).contains(&said) => Ok(said),
        Some(said) => Err(format!("{what} is {said}, wanted 1 to {model}, which the model was made for")),
    }
}
