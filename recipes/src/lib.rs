//! Recipes, and the program that runs them.
//!
//! A [`Recipe`] is what a TOML file says; a [`Plan`] is what it comes to: checked, with its model, prompts and rewards
//! in hand; [`run()`] walks the line from prompts to updates. [`App`] is the command line, and the way in for a program
//! with reward functions of its own:
//!
//! ```no_run
//! use evenkeel::{App, Rollout};
//! fn main() -> std::process::ExitCode {
//!     App::new().reward("mine", |rollout: &Rollout| f32::from(rollout.text.contains("42"))).main()
//! }
//! ```

mod app;
mod arrived;
mod benchmark;
mod best;
mod builtin;
mod checkpoint_of;
mod cli;
mod commands;
mod compute;
mod custom;
mod dataset;
mod device;
mod estimate;
mod files;
mod folder;
mod generate;
mod generator;
mod held_out;
mod interrupt;
mod learns_nothing;
mod lock;
mod machine;
mod manifest;
mod measure;
mod message;
mod monitor;
mod nearest;
mod outcome;
mod plan;
mod plan_json;
mod plot;
mod position;
mod preset;
mod progress;
mod prompt_stats;
mod reader;
mod recipe;
mod restore;
mod resume;
mod run;
mod save;
mod scan;
mod stage;
mod standstill;
mod step_rollouts;
mod threads;
mod timing;
mod unfinished;
mod usage;
mod warnings;

pub use app::App;
pub use data::{Prompt, Rollout};
pub use interrupt::Stop;
pub use plan::Plan;
pub use recipe::{Recipe, RecipeError};
pub use run::run;
