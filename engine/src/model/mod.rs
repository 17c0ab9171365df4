//! Qwen2, Qwen2.5 and Qwen3 policies: checkpoint files in and out, tokenizer, chat template, forward and backward.
//!
//! Before: a folder in Hugging Face layout, on disk, on the hub or inside the binary ([`Checkpoint`]). After: a
//! [`Policy`] samples with a [`KvRow`] per rollout and trains through [`Policy::forward`] and [`Policy::backward`].
//! Of the crate this module imports [`crate::kernels`] alone.

mod body;
mod cache;
mod checkpoint;
mod composed;
mod config;
mod error;
mod flat;
mod foreign;
mod fused;
mod grads;
mod head;
mod hub;
mod layers;
mod parameter;
mod policy;
mod sequences;
mod template;
mod tokenizer;
pub mod weights;

pub use body::{ForwardTrace, Hidden, RowDerivatives};
pub use cache::{KvPrefix, KvRow};
pub use checkpoint::Checkpoint;
pub use config::{Family, ModelConfig, NewModel};
pub use error::ModelError;
pub use flat::{Flat, FlatLayout};
pub use fused::RowGrads;
pub use grads::Grads;
pub use hub::Hub;
pub use parameter::ParameterKind;
pub use policy::{Compute, Policy, Recompute, Scores, Targets};
pub use sequences::Sequences;
pub use template::{ChatMessage, ChatTemplate};
pub use tokenizer::Tokenizer;
pub use weights::WeightDtype;
