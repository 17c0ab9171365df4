//! Qwen2, Qwen2.5 and Qwen3 policies: checkpoint files in and out, tokenizer, chat template, forward and backward.
//!
//! Before: a folder in Hugging Face layout, on disk, on the hub or inside the binary ([`Checkpoint`]). After: a
//! [`Policy`] samples with a [`KvRow`] per rollout and trains through [`Policy::trace`] and [`Policy::backward`].
//! This module imports nothing else from the crate.

mod cache;
mod checkpoint;
mod config;
mod error;
mod head;
mod hub;
mod layers;
mod policy;
mod template;
mod tokenizer;
pub mod weights;

pub use cache::KvRow;
pub use checkpoint::Checkpoint;
pub use config::{Family, ModelConfig, NewModel};
pub use error::ModelError;
pub use hub::Hub;
pub use policy::{Policy, Sequences, Trace};
pub use template::{ChatMessage, ChatTemplate};
pub use tokenizer::Tokenizer;
pub use weights::WeightDtype;
