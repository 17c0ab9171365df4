//! Products and fused operations on plain slices of f32, as fast as the processor allows.
//!
//! Before: [`crate::model`] holds weights and activations. After: the same slices, multiplied, normalised, attended.
//! Nothing here knows of models or of reinforcement learning, and nothing else of this crate is imported.
//!
//! What holds for all of it: **row i of a result depends on row i alone, to the bit**. Every element of a product is
//! one chain of multiply-adds in the order of k, whatever the number of rows, columns and threads; sums along a row are
//! kept in [`LANES`] interleaved parts that are added in a fixed order. So a row sampled alone and the same row trained
//! among thousands get the same numbers. The f32 paths (`portable`, `avx2`, `avx512`) agree with each other to the bit
//! as well; the two bf16 paths agree with each other up to rounding.

#[cfg(target_arch = "x86_64")]
mod amx;
pub mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod awake;
mod buffer;
mod gated;
mod gram;
#[cfg(test)]
mod hostile;
mod kernel;
mod math;
mod norm;
mod optimizer;
mod pack;
mod peak;
mod portable;
mod product;
mod rotate;
mod rows;
mod softmax;

pub use awake::awake;
pub use buffer::{Buffer, trim, trim_heap};
pub use gated::{swiglu, swiglu_backward};
pub use gram::{Gram, MatrixColumns};
pub use kernel::{Kernel, Path, UnknownPath};
pub use math::{LANES, exp};
pub use norm::{rms_norm, rms_norm_backward};
pub use optimizer::{
    AdamStep, adam, add_scaled, each, each_with, each_with_mut, inner, preconditioned_norm, scale_by_adam,
    squared_norm,
};
pub use pack::{Packed, View};
pub use peak::{bandwidth, peak_flops};
pub use product::{Right, Start, product};
pub use rotate::{Heads, rotate, rotate_back};
pub use rows::{RowSums, add_columns, health};
pub use softmax::{RowStats, softmax_backward, softmax_stats};
