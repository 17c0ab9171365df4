//! Where a policy lives: the recipe's wish, what the build and the machine have, and the reason for the choice.
//!
//! Before: `device` of `[policy]`. After: [`crate::compute`] decides how to compute there.

use anyhow::Result;
use candle_core::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::usage::Usage;

/// `device` of `[policy]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceRecipe {
    /// The first GPU if this build and this machine have one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU by its number.
    Cuda(u16),
}

impl std::str::FromStr for DeviceRecipe {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            // a number alone: Rust would read "+1" too
            _ => match text.strip_prefix("cuda:").filter(|n| !n.starts_with('+')).map(str::parse) {
                Some(Ok(number)) => Ok(Self::Cuda(number)),
                _ => Err(format!(
                    "device `{text}` is not known; wanted \"auto\", \"cpu\" or \"cuda:0\", \"cuda:1\" …"
                )),
            },
        }
    }
}

impl TryFrom<String> for DeviceRecipe {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DeviceRecipe> for String {
    fn from(device: DeviceRecipe) -> String {
        match device {
            DeviceRecipe::Auto => "auto".into(),
            DeviceRecipe::Cpu => "cpu".into(),
            DeviceRecipe::Cuda(number) => format!("cuda:{number}"),
        }
    }
}

/// The device, and in words which one and why.
///
/// A GPU gets one stream for all threads. Candle's usual device has one for each, which nothing puts in order, so a
/// tensor that one thread makes and another reads, as the sampler's do, might be read before it is there.
pub(crate) fn resolve(wish: DeviceRecipe) -> Result<(Device, String)> {
    match wish {
        DeviceRecipe::Cpu => Ok((Device::Cpu, "the CPU, as the recipe says".into())),
        DeviceRecipe::Auto if !cfg!(feature = "cuda") => {
            Ok((Device::Cpu, "the CPU: this build has no CUDA (build with `--features cuda`)".into()))
        }
        DeviceRecipe::Auto => match Device::new_cuda_with_stream(0) {
            Ok(device) => Ok((device, "GPU 0".into())),
            Err(error) => Ok((Device::Cpu, format!("the CPU: no usable GPU: {error}"))),
        },
        DeviceRecipe::Cuda(number) if !cfg!(feature = "cuda") => Err(Usage::error(format!(
            "device `cuda:{number}` cannot be used: this build has no CUDA; build with `--features cuda` where the CUDA toolkit is, or choose \"auto\" or \"cpu\""
        ))),
        DeviceRecipe::Cuda(number) => match Device::new_cuda_with_stream(usize::from(number)) {
            Ok(device) => Ok((device, format!("GPU {number}"))),
            Err(error) => Err(Usage::error(format!(
                "device `cuda:{number}` cannot be used: {error}; choose another number, \"auto\" or \"cpu\""
            ))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_as_it_is_written() {
        for (text, device) in
            [("auto", DeviceRecipe::Auto), ("cpu", DeviceRecipe::Cpu), ("cuda:3", DeviceRecipe::Cuda(3))]
        {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(String::from(device), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceRecipe::Cuda(0)));
        for text in ["gpu", "metal", "cuda:", "cuda:x", "cuda:-1", "cuda:4294967296", "cuda:+1", ""] {
            let error = text.parse::<DeviceRecipe>().expect_err("refused");
            assert!(error.contains(&format!("`{text}`")) && error.contains("wanted"), "{error}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_cuda_says_so() {
        let error = resolve(DeviceRecipe::Cuda(1)).expect_err("refused").to_string();
        assert!(error.contains("cuda:1") && error.contains("--features cuda"), "{error}");
        let (device, reason) = resolve(DeviceRecipe::Auto).expect("the CPU");
        assert!(device.is_cpu() && reason.contains("no CUDA"), "{reason}");
    }
}
