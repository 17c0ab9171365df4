//! Prompts become rollouts: a policy is sampled with a key-value cache, and every drawn token's log-prob recorded.
//!
//! Before: selection has drawn prompts. After: rewards judge the text, and the engine trains on the tokens. The policy is
//! sampled in this process ([`Sampler`]) or by a server that is handed its weights ([`backend`]).

pub mod backend;
mod draw;
mod error;
mod row;
mod sampled;
mod sampler;
mod sampling;
mod scheduler;
mod speculate;
mod stats;
mod stop;
mod stream;
mod task;
mod thinking;

pub use draw::{Draw, DrawContext, draw};
pub use error::RolloutError;
pub use sampled::{SampleProgress, Sampled};
pub use sampler::{Sampler, Slots};
pub use sampling::Sampling;
pub use speculate::Speculate;
pub use stats::SampleStats;
pub use stream::TextStream;
pub use task::{GroupSizes, Task, count_occurrences};
