//! What this machine can do at most: multiply-adds on registers, and bytes from memory.

use anyhow::Result;
use engine::kernels::{Kernel, bandwidth, peak_flops};

use super::args::BenchArgs;
use crate::usage::Usage;

/// A way to multiply, and the most it can do.
pub(super) struct PathLimit {
    pub(super) kernel: Kernel,
    /// Multiplications and additions a second.
    pub(super) flops: f64,
}

/// Limits of this machine.
pub(super) struct Limits {
    pub(super) paths: Vec<PathLimit>,
    /// Bytes read from memory a second.
    pub(super) bandwidth: f64,
}

impl Limits {
    pub(super) fn measure(args: &BenchArgs) -> Result<Self> {
        let usage = |error: engine::kernels::UnknownPath| Usage::error(error.to_string());
        let mut kernels = vec![Kernel::f32().map_err(usage)?];
        kernels.extend(Kernel::bf16().map_err(usage)?);
        let limit = |kernel| PathLimit { kernel, flops: peak_flops(kernel, args.seconds) };
        Ok(Self { paths: kernels.into_iter().map(limit).collect(), bandwidth: bandwidth() })
    }
}
