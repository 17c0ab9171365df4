//! The commands of the program, each with its arguments and what it does.
//!
//! Before: [`crate::cli`] has read the command line. After: results on standard output, and the folders and files that the
//! command writes.

mod args;
pub(crate) mod bench;
pub(crate) mod benchmarks;
pub(crate) mod check;
pub(crate) mod compare;
pub(crate) mod data;
pub(crate) mod eval;
pub(crate) mod explain;
pub(crate) mod metrics;
pub(crate) mod presets;
pub(crate) mod recipes;
pub(crate) mod reward;
pub(crate) mod sample;
pub(crate) mod scan;
pub(crate) mod schema;
pub(crate) mod train;
pub(crate) mod variance;
mod wrap;
