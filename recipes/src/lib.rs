//! Recipes, and the program that runs them.
//!
//! A [`Recipe`] is what a TOML file says; a [`Plan`] is what it comes to: checked, with its model, prompts and rewards
//! in hand; [`run`] walks the line from prompts to updates. [`App`] is the command line, and the way in for a program
//! with reward functions of its own:
//!
//! ```no_run
//! use evenkeel::{App, Rollout};
//! fn main() -> std::process::ExitCode {
//!     App::new().reward("mine", |rollout: &Rollout| f32::from(rollout.text.contains("42"))).main()
//! }
//! ```

mod ahead;
mod app;
mod bench;
mod benchmark;
mod best;
mod builtin;
mod check;
mod checkpoint_of;
mod cli;
mod compare;
mod compute;
mod device;
mod estimate;
mod evaluate;
mod explain;
mod files;
mod folder;
mod generate;
mod interrupt;
mod judging;
mod keys;
mod learns_nothing;
mod listing;
mod lock;
mod manifest;
mod measure;
mod message;
mod monitor;
mod pair_row;
mod plan;
mod plot;
mod preference;
mod preset;
mod progress;
mod recipe;
mod record;
mod restore;
mod resume;
mod reward;
mod rl;
mod run;
mod sample;
mod save;
mod speaker;
mod standstill;
mod threads;
mod variance;
mod warnings;

pub use app::App;
pub use data::{Prompt, Rollout};
pub use interrupt::Stop;
pub use plan::Plan;
pub use recipe::{Recipe, RecipeError};
pub use run::run;
