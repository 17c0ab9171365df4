//! How a policy computes: the recipe's wish, the machine's abilities, and the reason for the choice.
//!
//! Before: `compute` of `[policy]`. After: [`crate::Plan`] builds policies so, and says so.

use anyhow::Result;
use candle_core::Device;
use engine::kernels::Kernel;
use engine::model::Compute;

use crate::recipe::ComputeRecipe;
use crate::usage::Usage;

/// Parameters from which bf16 is chosen: below, a step is short enough to be exact.
const LARGE: usize = 50_000_000;

/// The chosen arithmetic, and the reason.
#[derive(Debug, Clone)]
pub(crate) struct ComputeChoice {
    pub(crate) compute: Compute,
    pub(crate) reason: String,
}

impl ComputeChoice {
    /// The numerics that two runs must share to give the same bits: the f32 paths agree among themselves, no others do.
    pub(crate) fn numerics(&self) -> &'static str {
        match self.compute {
            Compute::Composed => "candle",
            Compute::Fused(kernel) if kernel.path().is_bf16() => kernel.path().name(),
            Compute::Fused(_) => "f32",
        }
    }

    /// What products are computed in: `f32` or `bf16`.
    pub(crate) fn precision(&self) -> &'static str {
        match self.compute {
            Compute::Fused(kernel) if kernel.path().is_bf16() => "bf16",
            _ => "f32",
        }
    }

    /// How, in a few words: `f32 by avx2`.
    pub(crate) fn numerics_by(&self) -> String {
        match self.compute {
            Compute::Composed => "f32 by candle".into(),
            Compute::Fused(kernel) if kernel.path().is_bf16() => format!("bf16 by {}", kernel.path().name()),
            Compute::Fused(kernel) => format!("f32 by {}", kernel.path().name()),
        }
    }
}

/// Decides for a model of so many parameters on a device, described by `place`.
pub(crate) fn choose(
    wish: ComputeRecipe,
    parameters: usize,
    device: &Device,
    place: &str,
) -> Result<ComputeChoice> {
    if !device.is_cpu() {
        if wish == ComputeRecipe::Bf16 {
            return Err(Usage::error(
                "compute = \"bf16\" is for the CPU; on a GPU everything is f32, wanted \"auto\" or \"f32\"",
            ));
        }
        return Ok(ComputeChoice {
            compute: Compute::Composed,
            reason: format!("f32 by candle, on {place}"),
        });
    }
    let usage = |error: engine::kernels::UnknownPath| Usage::error(error.to_string());
    let (f32, bf16) = (Kernel::f32().map_err(usage)?, Kernel::bf16().map_err(usage)?);
    let name = |kernel: Kernel| kernel.path().name();
    let (kernel, reason) = match (wish, bf16) {
        (ComputeRecipe::F32, _) => (f32, format!("f32 by {}, as the recipe says", name(f32))),
        (ComputeRecipe::Bf16, Some(bf16)) => (bf16, format!("bf16 by {}, as the recipe says", name(bf16))),
        (ComputeRecipe::Bf16, None) => {
            return Err(Usage::error(format!(
                "compute = \"bf16\" needs AMX or AVX-512 BF16, which this machine lacks or EVENKEEL_KERNELS forbids (it would use {}); set compute = \"f32\" or \"auto\"",
                name(f32)
            )));
        }
        (ComputeRecipe::Auto, None) => {
            (f32, format!("f32 by {}: the processor has neither AMX nor AVX-512 BF16", name(f32)))
        }
        (ComputeRecipe::Auto, Some(_)) if parameters < LARGE => {
            (f32, format!("f32 by {}: at {parameters} parameters it is fast enough to be exact", name(f32)))
        }
        (ComputeRecipe::Auto, Some(bf16)) => (bf16, format!("bf16 by {}: the fastest here", name(bf16))),
    };
    Ok(ComputeChoice { compute: Compute::Fused(kernel), reason: format!("{reason}; on {place}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_model_is_computed_in_f32_and_a_wish_is_granted_or_refused() {
        let small = choose(ComputeRecipe::Auto, 1_000_000, &Device::Cpu, "the CPU").expect("a choice");
        let Compute::Fused(kernel) = small.compute else { panic!("own kernels on the CPU") };
        assert!(!kernel.path().is_bf16(), "{}", small.reason);
        match choose(ComputeRecipe::Bf16, 1, &Device::Cpu, "the CPU") {
            Ok(choice) => assert!(choice.reason.starts_with("bf16 by "), "{}", choice.reason),
            Err(error) => assert!(error.to_string().contains("needs AMX or AVX-512 BF16"), "{error}"),
        }
        let f32 = choose(ComputeRecipe::F32, 1 << 30, &Device::Cpu, "the CPU").expect("a choice");
        assert!(f32.reason.starts_with("f32 by "), "{}", f32.reason);
    }
}
