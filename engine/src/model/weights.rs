//! Weights between safetensors files and named f32 tensors.
//!
//! Before: a folder in Hugging Face layout, and the [`ModelConfig`](super::config::ModelConfig) that says what must be in it. After: the policy
//! takes the tensors. Files are read tensor by tensor, in blocks, so that memory holds the f32 weights and little
//! more. Nothing is mapped: a file that another program cuts short gives an error, not a signal.

mod load;
mod save;

pub(crate) use load::shard_names;
pub use load::{load, load_from_slice, read_tensors};
pub use save::save;
pub(crate) use save::write_synced;

use candle_core::{DType, Tensor};
use half::{bf16, f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The one file of an unsharded checkpoint.
pub const SINGLE_FILE: &str = "model.safetensors";
/// What names the shards of a sharded one.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// Size from which [`save()`] starts a new shard unless told otherwise, in bytes.
pub const MAX_SHARD_BYTES: u64 = 5_000_000_000;

/// Numbers converted at a time; a multiple of [`TASK`].
const BLOCK: usize = 1 << 20;
/// Numbers that one thread converts in a row.
const TASK: usize = 1 << 16;

/// Named tensors that are asked for one at a time, so that a model need not exist twice to be saved.
pub trait Source {
    /// All names, with shapes.
    fn entries(&self) -> Vec<(String, Vec<usize>)>;
    /// The tensor.
    ///
    /// # Errors
    /// If there is none, or it cannot be made.
    fn tensor(&self, name: &str) -> candle_core::Result<Tensor>;
    /// Its numbers as f32, row by row: borrowed where they lie in memory so, since a copy of a model's largest tensor is worth
    /// saving.
    ///
    /// # Errors
    /// As [`Self::tensor`], or if it cannot be brought to the CPU.
    fn numbers(&self, name: &str) -> candle_core::Result<Cow<'_, [f32]>> {
        Ok(Cow::Owned(self.tensor(name)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?))
    }
}

impl Source for BTreeMap<String, Tensor> {
    fn entries(&self) -> Vec<(String, Vec<usize>)> {
        self.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect()
    }
    fn tensor(&self, name: &str) -> candle_core::Result<Tensor> {
        self.get(name).cloned().ok_or_else(|| missing(name))
    }
}

/// No tensor has this name.
pub(crate) fn missing(name: &str) -> candle_core::Error {
    candle_core::Error::CannotFindTensor { path: name.to_owned() }
}

/// A type in which weights are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WeightDtype {
    /// bfloat16, rounded to nearest, ties to even.
    Bf16,
    /// IEEE half precision, rounded likewise.
    F16,
    /// As in memory.
    F32,
}

impl WeightDtype {
    /// The name in config.json.
    pub fn torch_name(self) -> &'static str {
        match self {
            WeightDtype::Bf16 => "bfloat16",
            WeightDtype::F16 => "float16",
            WeightDtype::F32 => "float32",
        }
    }

    /// The name in a safetensors header.
    fn header_name(self) -> &'static str {
        match self {
            WeightDtype::Bf16 => "BF16",
            WeightDtype::F16 => "F16",
            WeightDtype::F32 => "F32",
        }
    }

    /// Bytes per number.
    pub fn size(self) -> usize {
        match self {
            WeightDtype::Bf16 | WeightDtype::F16 => 2,
            WeightDtype::F32 => 4,
        }
    }

    /// Little-endian bytes to f32; exact. `bytes` holds `out.len()` numbers.
    fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            WeightDtype::Bf16 => {
                for (number, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *number = f32::from_bits(u32::from(u16::from_le_bytes([pair[0], pair[1]])) << 16);
                }
            }
            WeightDtype::F16 => {
                // The slice conversion uses the processor's instruction where there is one.
                let halves: Vec<f16> =
                    bytes.chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]])).collect();
                halves.convert_to_f32_slice(out);
            }
            WeightDtype::F32 => {
                for (number, four) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                    *number = f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
                }
            }
        }
    }

    /// f32 to little-endian bytes, rounded to nearest even. `bytes` has room for exactly `numbers`.
    fn encode(self, numbers: &[f32], bytes: &mut [u8]) {
        match self {
            WeightDtype::Bf16 => {
                for (number, pair) in numbers.iter().zip(bytes.chunks_exact_mut(2)) {
                    pair.copy_from_slice(&bf16::from_f32(*number).to_le_bytes());
                }
            }
            WeightDtype::F16 => {
                let mut halves = vec![f16::ZERO; numbers.len()];
                halves.convert_from_f32_slice(numbers);
                for (half, pair) in halves.iter().zip(bytes.chunks_exact_mut(2)) {
                    pair.copy_from_slice(&half.to_le_bytes());
                }
            }
            WeightDtype::F32 => {
                for (number, four) in numbers.iter().zip(bytes.chunks_exact_mut(4)) {
                    four.copy_from_slice(&number.to_le_bytes());
                }
            }
        }
    }

    /// Whether the number stays finite when it is stored.
    fn holds(self, number: f32) -> bool {
        // The first magnitude that rounds to infinity: half a step beyond the largest number.
        let limit = match self {
            WeightDtype::Bf16 => f32::from_bits(0x7f7f_8000),
            WeightDtype::F16 => 65520.0,
            WeightDtype::F32 => f32::INFINITY,
        };
        number.abs() < limit
    }
}
/// The place of the first number that `is_wrong`.
fn first_where(numbers: &[f32], is_wrong: impl Fn(f32) -> bool + Sync) -> Option<usize> {
    // Without an early exit the loop is vectorised; the search runs only where it will find something.
    let any = |task: &[f32]| task.iter().fold(false, |any, number| any | is_wrong(*number));
    let start = numbers.par_chunks(TASK).position_first(any)? * TASK;
    numbers[start..].iter().position(|number| is_wrong(*number)).map(|at| start + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_held_just_if_its_rounding_is_finite() {
        let bf16_max = bf16::MAX.to_f32();
        let near =
            [65504.0, 65519.99, 65520.0, 65536.0, bf16_max, f32::MAX, f32::INFINITY, f32::NAN, 0.0, 1e-40];
        let steps = (0x7f7f_0000u32..0x7f80_0001).step_by(0x100).map(f32::from_bits);
        for number in near.into_iter().chain(steps).flat_map(|x| [x, -x]) {
            assert_eq!(WeightDtype::Bf16.holds(number), bf16::from_f32(number).is_finite(), "{number}");
            assert_eq!(WeightDtype::F16.holds(number), f16::from_f32(number).is_finite(), "{number}");
            assert_eq!(WeightDtype::F32.holds(number), number.is_finite(), "{number}");
        }
    }

    #[test]
    fn every_half_decodes_as_the_reference_does_and_encodes_back() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for (dtype, reference) in [
            (WeightDtype::Bf16, (|x| bf16::from_bits(x).to_f32()) as fn(u16) -> f32),
            (WeightDtype::F16, |x| f16::from_bits(x).to_f32()),
        ] {
            let mut numbers = vec![0f32; 1 << 16];
            dtype.decode(&bytes, &mut numbers);
            let mut back = vec![0u8; 2 << 16];
            dtype.encode(&numbers, &mut back);
            for x in 0..=u16::MAX {
                let number = numbers[x as usize];
                assert_eq!(number.is_nan(), reference(x).is_nan());
                if !number.is_nan() {
                    assert_eq!(number.to_bits(), reference(x).to_bits());
                    assert_eq!(back[2 * x as usize..][..2], x.to_le_bytes());
                }
            }
        }
    }

    #[test]
    fn the_first_of_many_is_found() {
        let mut numbers = vec![0f32; 3 * TASK + 5];
        assert_eq!(first_where(&numbers, |x| x > 0.0), None);
        (numbers[3 * TASK + 4], numbers[TASK + 7], numbers[TASK + 9]) = (1.0, 1.0, 1.0);
        assert_eq!(first_where(&numbers, |x| x > 0.0), Some(TASK + 7));
    }
}
