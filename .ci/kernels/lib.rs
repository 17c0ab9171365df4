//! The kernels of the engine and nothing else.

#[path = "../../engine/src/kernels/mod.rs"]
pub mod kernels;
