//! Reward functions that are not of this program: anybody's own, and never waited for without end.
//!
//! Before: a recipe names a Python file, a program, a server or a judge. After: a [`crate::Reward`] like any other.
//!
//! [`Python`] and [`Command`] run in worker processes ([`pool`], [`process`]), [`Http`] and [`Judge`] are asked over the
//! network ([`remote`]). All deal their samples out in the same way ([`deal`]), which is where it is decided what a bad
//! sample costs and when a function that never answers ends the step.

mod command;
mod deal;
mod grade;
mod guard;
mod http;
mod judge;
mod kill;
mod pool;
mod process;
mod python;
mod remote;
mod sample;
mod settings;
mod tail;

pub use command::Command;
pub use grade::Grade;
#[cfg(feature = "local")]
pub(crate) use grade::tail;
pub use http::{Http, Shape};
#[cfg(feature = "local")]
pub(crate) use judge::Grading;
pub use judge::Judge;
pub use python::{Python, Style};
#[cfg(feature = "local")]
pub(crate) use settings::seconds;
