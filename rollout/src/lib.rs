//! Prompts become rollouts: a policy is sampled with a key-value cache, and every drawn token's log-prob recorded.
//!
//! Before: selection has drawn prompts. After: rewards judge the text, and the engine trains on the tokens.

mod draw;
mod sampler;
mod stop;

pub use draw::{Draw, Sampling, draw};
pub use sampler::{RolloutError, Sampler, Task};
