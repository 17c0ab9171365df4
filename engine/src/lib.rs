//! The policy, and everything that turns scored rollouts into one update of its weights.
//!
//! `ScoredRollout ─baseline→ Batch ─objective→ Update ─log→ Metrics`. The trainer knows no algorithm by name: a
//! [`baseline`] turns rewards into advantages, an [`objective`] turns log-probs and advantages into a loss, a
//! [`transform`] turns gradients into a change of the weights. [`model`] imports nothing else from this crate.

// what `numbers!` writes names the crate
extern crate self as engine;

mod advantage;
pub mod allocation;
pub mod baseline;
pub mod batch;
mod error;
pub mod gradient;
pub mod kernels;
pub mod laboratory;
pub mod ledger;
pub mod metrics;
pub mod mixture;
pub mod model;
pub mod objective;
pub mod optimizer;
pub mod pairs;
pub mod schedule;
pub mod selection;
pub mod sketch;
pub mod stats;
pub mod supervised;
pub mod trainer;
pub mod transform;

pub use error::{EngineError, Result};

use std::collections::BTreeMap;

/// Named tensors: weights, gradients, or the state of a transform. Names are those of the checkpoint.
pub type Tensors = BTreeMap<String, candle_core::Tensor>;
