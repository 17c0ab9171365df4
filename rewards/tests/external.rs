//! Reward functions of others: in Python, as programs and behind URLs, good ones and bad ones.
//!
//! Needs `python3` (3.8 or newer) and `sh`.

#[path = "external/common.rs"]
mod common;
#[path = "external/hostile.rs"]
mod hostile;
#[path = "external/programs.rs"]
mod programs;
#[path = "external/servers.rs"]
mod servers;
#[path = "external/styles.rs"]
mod styles;
