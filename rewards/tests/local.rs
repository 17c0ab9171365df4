//! Judges inside of the program, on tiny models that are made here, against a plain forward pass that is written out.
#![cfg(feature = "local")]

#[path = "local/forward.rs"]
mod forward;
#[path = "local/judge.rs"]
mod judge;
#[path = "local/reward_model.rs"]
mod reward_model;
#[path = "local/start.rs"]
mod start;
#[path = "local/tiny.rs"]
mod tiny;
