//! Prompts become rollouts: a policy is sampled with a key-value cache, and every drawn token's log-prob recorded.
//!
//! Before: selection has drawn prompts. After: rewards judge the text, and the engine trains on the tokens. The policy is
//! sampled in this process ([`Sampler`]) or by a server that is handed its weights ([`backend`]).

pub mod backend;
mod draw;
mod row;
mod sampler;
mod scheduler;
mod speculate;
mod stop;
mod stream;
mod thinking;

pub use draw::{Before, Draw, Sampling, draw};
pub use sampler::{
    RolloutError, SampleProgress, SampleStats, Sampled, Sampler, Slots, Task, count_occurrences,
};
pub use speculate::Speculate;
pub use stream::TextStream;
