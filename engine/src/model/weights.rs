//! Weights between safetensors files and named f32 tensors.
//!
//! Before: a folder in Hugging Face layout, and the [`ModelConfig`] that says what must be in it. After: the policy
//! takes the tensors. Files are read tensor by tensor, in blocks, so that memory holds the f32 weights and little
//! more. Nothing is mapped: a file that another program cuts short gives an error, not a signal.

use super::config::ModelConfig;
use super::error::{ModelError, Result};
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;
use safetensors::{Dtype, tensor::Metadata};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The one file of an unsharded checkpoint.
pub const SINGLE_FILE: &str = "model.safetensors";
/// What names the shards of a sharded one.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// Size from which [`save`] starts a new shard unless told otherwise, in bytes.
pub const MAX_SHARD_BYTES: u64 = 5_000_000_000;

/// Numbers converted at a time; a multiple of [`TASK`].
const BLOCK: usize = 1 << 20;
/// Numbers that one thread converts in a row.
const TASK: usize = 1 << 16;
/// Name and shape.
type Parameter = (String, Vec<usize>);

/// Longest header that the safetensors format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// A type in which weights are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
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
        match self {
            WeightDtype::Bf16 => bf16::from_f32(number).is_finite(),
            WeightDtype::F16 => f16::from_f32(number).is_finite(),
            WeightDtype::F32 => number.is_finite(),
        }
    }
}

/// Reads the weights of a checkpoint folder: `model.safetensors`, or the shards that
/// `model.safetensors.index.json` names.
///
/// Gives every tensor of [`ModelConfig::parameters`], in f32, on `device`. Tensors that the model does not know are
/// left out with a warning, `lm_head.weight` of a tied model silently.
///
/// # Errors
/// If a file is missing, cut off or damaged, if a tensor is missing, has another shape, an unsupported type or a
/// value that is not finite, or if there are more layers than the configuration says.
pub fn load(dir: &Path, config: &ModelConfig, device: &Device) -> Result<BTreeMap<String, Tensor>> {
    let mut loader = Loader::new(config, device, format!("`{}`", dir.display()));
    let single = dir.join(SINGLE_FILE);
    if single.exists() {
        loader.read_file(&single)?;
        return loader.finish();
    }
    let index = dir.join(INDEX_FILE);
    let text = match std::fs::read_to_string(&index) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let looked_for = vec![SINGLE_FILE.to_string(), INDEX_FILE.to_string()];
            return Err(ModelError::NoWeights { place: loader.place, looked_for });
        }
        Err(error) => return Err(ModelError::io("read", index)(error)),
    };
    let index_name = index.display().to_string();
    let shards = shard_names(&index_name, &text)?;
    for shard in &shards {
        if !dir.join(shard).is_file() {
            return Err(ModelError::MissingShard { index: index_name, shard: shard.clone() });
        }
    }
    for shard in &shards {
        loader.read_file(&dir.join(shard))?;
    }
    loader.finish()
}

/// [`load`] for one safetensors file in memory, such as one embedded in the binary. `name` is for messages.
///
/// # Errors
/// As [`load`].
pub fn load_from_slice(
    name: &str,
    bytes: &[u8],
    config: &ModelConfig,
    device: &Device,
) -> Result<BTreeMap<String, Tensor>> {
    let mut loader = Loader::new(config, device, format!("`{name}`"));
    loader.read(name, bytes.len() as u64, Cursor::new(bytes))?;
    loader.finish()
}

/// The shards that an index names, each once, by name.
///
/// # Errors
/// If the text is not an index, or a name is not that of a file beside it.
pub(crate) fn shard_names(index: &str, text: &str) -> Result<BTreeSet<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let parsed: Index =
        serde_json::from_str(text).map_err(|source| ModelError::Json { file: index.to_string(), source })?;
    let shards: BTreeSet<String> = parsed.weight_map.into_values().collect();
    match shards.iter().find(|shard| !is_file_name(shard)) {
        Some(shard) => Err(ModelError::ShardOutside { index: index.to_string(), shard: shard.clone() }),
        None => Ok(shards),
    }
}

fn is_file_name(name: &str) -> bool {
    !name.contains(['/', '\\', ':']) && Path::new(name).file_name().is_some_and(|file| file == name)
}

/// Collects the tensors of a model from one file after another.
struct Loader<'a> {
    config: &'a ModelConfig,
    device: &'a Device,
    place: String,
    wanted: BTreeMap<String, Vec<usize>>,
    found: BTreeMap<String, Tensor>,
}

impl<'a> Loader<'a> {
    fn new(config: &'a ModelConfig, device: &'a Device, place: String) -> Self {
        let wanted = config.parameters().into_iter().collect();
        Self { config, device, place, wanted, found: BTreeMap::new() }
    }

    fn read_file(&mut self, path: &Path) -> Result<()> {
        let file = File::open(path).map_err(ModelError::io("read", path))?;
        let length = file.metadata().map_err(ModelError::io("read", path))?.len();
        self.read(&path.display().to_string(), length, file)
    }

    fn read(&mut self, file: &str, length: u64, mut reader: impl Read + Seek) -> Result<()> {
        let (data_start, header) = read_header(file, length, &mut reader)?;
        for name in header.offset_keys() {
            let Some(info) = header.info(&name) else { continue };
            let Some(expected) = self.wanted.get(&name) else {
                self.unknown(file, &name)?;
                continue;
            };
            if self.found.contains_key(&name) {
                return Err(ModelError::DuplicateTensor { name, file: file.to_string() });
            }
            if info.shape != *expected {
                return Err(ModelError::Shape {
                    name,
                    place: format!("`{file}`"),
                    found: info.shape.clone(),
                    expected: expected.clone(),
                });
            }
            let dtype = match info.dtype {
                Dtype::BF16 => WeightDtype::Bf16,
                Dtype::F16 => WeightDtype::F16,
                Dtype::F32 => WeightDtype::F32,
                other => {
                    return Err(ModelError::Dtype {
                        name,
                        file: file.to_string(),
                        found: format!("{other:?}"),
                    });
                }
            };
            let start = data_start + info.data_offsets.0 as u64;
            reader.seek(SeekFrom::Start(start)).map_err(ModelError::io("read", file))?;
            let count = info.shape.iter().product();
            let numbers = read_numbers(&mut reader, dtype, count).map_err(ModelError::io("read", file))?;
            if let Some(index) = first_non_finite(&numbers) {
                let value = numbers[index];
                return Err(ModelError::NonFinite { name, place: format!("`{file}`"), index, value });
            }
            let tensor = Tensor::from_vec(numbers, info.shape.as_slice(), self.device)?;
            self.found.insert(name, tensor);
        }
        Ok(())
    }

    /// Decides about a tensor that the configuration does not have.
    fn unknown(&self, file: &str, name: &str) -> Result<()> {
        let layers = self.config.num_hidden_layers;
        let layer =
            name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        if layer.is_some_and(|layer| layer >= layers) {
            return Err(ModelError::LayerBeyond {
                name: name.to_string(),
                place: format!("`{file}`"),
                layers,
            });
        }
        // Some tools store the tied matrix under both names.
        if name != "lm_head.weight" {
            tracing::warn!(tensor = name, file, "ignored a tensor that this model does not have");
        }
        Ok(())
    }

    fn finish(mut self) -> Result<BTreeMap<String, Tensor>> {
        self.wanted.retain(|name, _| !self.found.contains_key(name));
        match self.wanted.pop_first() {
            None => Ok(self.found),
            Some((name, expected)) => Err(ModelError::MissingTensor { name, place: self.place, expected }),
        }
    }
}

/// The header, checked against the file's length, and where the data start.
fn read_header(file: &str, length: u64, reader: &mut impl Read) -> Result<(u64, Metadata)> {
    let wrong_length =
        |part, expected| ModelError::WrongLength { file: file.to_string(), part, expected, found: length };
    let damaged = |reason: String| ModelError::Header { file: file.to_string(), reason };
    if length < 8 {
        return Err(wrong_length("the safetensors format", 8));
    }
    let mut size = [0; 8];
    reader.read_exact(&mut size).map_err(ModelError::io("read", file))?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER {
        return Err(damaged(format!("it claims {size} bytes, at most {MAX_HEADER} are allowed")));
    }
    if 8 + size > length {
        return Err(wrong_length("the length of its header", 8 + size));
    }
    let mut header = vec![0; size as usize];
    reader.read_exact(&mut header).map_err(ModelError::io("read", file))?;
    // Deserialising checks that the tensors lie end to end and that each has the size of its shape.
    let header: Metadata = serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
    let expected = 8 + size + header.data_len() as u64;
    if expected != length {
        return Err(wrong_length("its header", expected));
    }
    Ok((8 + size, header))
}

fn read_numbers(reader: &mut impl Read, dtype: WeightDtype, count: usize) -> std::io::Result<Vec<f32>> {
    let mut numbers = vec![0f32; count];
    let mut bytes = vec![0u8; count.min(BLOCK) * dtype.size()];
    for block in numbers.chunks_mut(BLOCK) {
        let bytes = &mut bytes[..block.len() * dtype.size()];
        reader.read_exact(bytes)?;
        block
            .par_chunks_mut(TASK)
            .zip(bytes.par_chunks(TASK * dtype.size()))
            .for_each(|(out, bytes)| dtype.decode(bytes, out));
    }
    Ok(numbers)
}

fn first_non_finite(numbers: &[f32]) -> Option<usize> {
    // Without an early exit the loop is vectorised; the search runs only where it will find something.
    let all_finite = |task: &[f32]| task.iter().fold(true, |all, number| all & number.is_finite());
    let task = numbers.par_chunks(TASK).position_first(|task| !all_finite(task))?;
    let start = task * TASK;
    numbers[start..].iter().position(|number| !number.is_finite()).map(|at| start + at)
}

/// Writes the weights of a model into a folder: `model.safetensors`, or, where that would hold more than
/// `max_shard_bytes` of numbers, shards and their index. Files are synced to disk; naming the folder atomically is
/// the caller's part. Gives the files written.
///
/// `weights` are those of [`ModelConfig::parameters`], on any device; one tensor at a time is brought to the CPU.
///
/// # Errors
/// If the folder already holds weights, a tensor is missing, unknown or of another shape, a value is not finite in
/// `dtype` (f16 ends at 65504), or a file cannot be written.
pub fn save(
    dir: &Path,
    config: &ModelConfig,
    weights: &BTreeMap<String, Tensor>,
    dtype: WeightDtype,
    max_shard_bytes: u64,
) -> Result<Vec<PathBuf>> {
    let parameters = config.parameters();
    check_complete(config, &parameters, weights)?;
    refuse_present(dir)?;

    let bytes_of = |shape: &[usize]| (shape.iter().product::<usize>() * dtype.size()) as u64;
    let mut shards: Vec<(u64, Vec<Parameter>)> = Vec::new();
    for (name, shape) in parameters {
        let size = bytes_of(&shape);
        match shards.last_mut() {
            Some((total, tensors)) if *total + size <= max_shard_bytes => {
                *total += size;
                tensors.push((name, shape));
            }
            _ => shards.push((size, vec![(name, shape)])),
        }
    }

    let mut files = Vec::with_capacity(shards.len() + 1);
    if let [(_, tensors)] = shards.as_slice() {
        let path = dir.join(SINGLE_FILE);
        write_file(&path, tensors, weights, dtype)?;
        files.push(path);
        return Ok(files);
    }
    let mut weight_map = Map::new();
    for (at, (_, tensors)) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{:05}.safetensors", at + 1, shards.len());
        let path = dir.join(&file);
        write_file(&path, tensors, weights, dtype)?;
        weight_map.extend(tensors.iter().map(|(name, _)| (name.clone(), Value::from(file.as_str()))));
        files.push(path);
    }
    let total: u64 = shards.iter().map(|(size, _)| size).sum();
    let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
    let path = dir.join(INDEX_FILE);
    write_synced(&path, format!("{index:#}\n").as_bytes())?;
    files.push(path);
    Ok(files)
}

/// Writes a small file and waits until the disk has it.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(ModelError::io("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(ModelError::io("write", path))
}

fn check_complete(
    config: &ModelConfig,
    parameters: &[Parameter],
    weights: &BTreeMap<String, Tensor>,
) -> Result<()> {
    let place = "the weights to be saved".to_string();
    for (name, shape) in parameters {
        let (name, expected) = (name.clone(), shape.clone());
        match weights.get(&name) {
            None => return Err(ModelError::MissingTensor { name, place, expected }),
            Some(tensor) if tensor.dims() != shape => {
                return Err(ModelError::Shape { name, place, found: tensor.dims().to_vec(), expected });
            }
            Some(_) => {}
        }
    }
    if weights.len() > parameters.len() {
        let known: BTreeSet<String> = config.parameters().into_iter().map(|(name, _)| name).collect();
        if let Some(name) = weights.keys().find(|name| !known.contains(*name)) {
            return Err(ModelError::UnknownTensor { name: name.clone() });
        }
    }
    Ok(())
}

fn refuse_present(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir).map_err(ModelError::io("read", dir))? {
        let file = entry.map_err(ModelError::io("read", dir))?.file_name().to_string_lossy().into_owned();
        if file.ends_with(".safetensors") || file == INDEX_FILE {
            return Err(ModelError::WeightsPresent { dir: dir.to_path_buf(), file });
        }
    }
    Ok(())
}

fn write_file(
    path: &Path,
    tensors: &[Parameter],
    weights: &BTreeMap<String, Tensor>,
    dtype: WeightDtype,
) -> Result<()> {
    let mut header = Map::from_iter([("__metadata__".to_string(), json!({ "format": "pt" }))]);
    let mut offset = 0;
    for (name, shape) in tensors {
        let end = offset + shape.iter().product::<usize>() * dtype.size();
        let info = json!({ "dtype": dtype.header_name(), "shape": shape, "data_offsets": [offset, end] });
        header.insert(name.clone(), info);
        offset = end;
    }
    let mut header = Value::Object(header).to_string();
    // The data start at a multiple of 8, as the format asks for.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));

    let failed = |error| ModelError::io("write", path)(error);
    let mut file = BufWriter::new(File::create(path).map_err(ModelError::io("create", path))?);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
    file.write_all(header.as_bytes()).map_err(failed)?;
    let mut bytes = Vec::new();
    for (name, _) in tensors {
        let tensor = weights.get(name).expect("check_complete saw every parameter");
        let numbers = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        for (at, block) in numbers.chunks(BLOCK).enumerate() {
            if let Some(index) = block.par_iter().position_first(|number| !dtype.holds(*number)) {
                let place = format!("`{}` as {}", path.display(), dtype.torch_name());
                let (index, value) = (at * BLOCK + index, block[index]);
                return Err(ModelError::NonFinite { name: name.clone(), place, index, value });
            }
            bytes.resize(block.len() * dtype.size(), 0);
            block
                .par_chunks(TASK)
                .zip(bytes.par_chunks_mut(TASK * dtype.size()))
                .for_each(|(numbers, bytes)| dtype.encode(numbers, bytes));
            file.write_all(&bytes).map_err(failed)?;
        }
    }
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)
}
