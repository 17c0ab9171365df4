//! Weights from safetensors files, checked against the configuration.
//!
//! Before: files that may be anything. After: f32 tensors, complete, finite and of the right shapes.

use super::{BLOCK, INDEX_FILE, SINGLE_FILE, TASK, WeightDtype, first_where};
use crate::model::config::ModelConfig;
use crate::model::error::{ModelError, Result};
use crate::model::foreign;
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;

/// Longest header that the safetensors format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// What a tied head is tied to.
const EMBEDDING: &str = "model.embed_tokens.weight";
/// The head's own matrix.
const HEAD: &str = "lm_head.weight";

/// Reads the weights of a checkpoint folder: `model.safetensors`, or the shards that
/// `model.safetensors.index.json` names.
///
/// Gives every tensor of [`ModelConfig::parameters`], in f32, on `device`. Tensors that the model does not know are
/// left out with a warning, `lm_head.weight` of a tied model silently where it equals the embedding.
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
            let hint = foreign::folder(dir, "weights");
            return Err(ModelError::NoWeights { place: loader.place, looked_for, hint });
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

/// Every tensor of a safetensors file as it is, f32 or u32: what resuming needs, whatever it is called. Tensor by tensor, so
/// that memory holds them once.
///
/// # Errors
/// If the file is missing, cut off or damaged, or a tensor has another type.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let file = path.display().to_string();
    let mut reader = File::open(path).map_err(ModelError::io("read", path))?;
    let length = reader.metadata().map_err(ModelError::io("read", path))?.len();
    let (data_start, header) = read_header(&file, length, &mut reader)?;
    let mut tensors = BTreeMap::new();
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let start = data_start + info.data_offsets.0 as u64;
        reader.seek(SeekFrom::Start(start)).map_err(ModelError::io("read", path))?;
        let (count, shape) = (info.shape.iter().product::<usize>(), info.shape.as_slice());
        let tensor = match info.dtype {
            Dtype::F32 => {
                let numbers = read_numbers(&mut reader, WeightDtype::F32, count);
                Tensor::from_vec(numbers.map_err(ModelError::io("read", path))?, shape, &Device::Cpu)?
            }
            Dtype::U32 => {
                let mut bytes = vec![0; 4 * count];
                reader.read_exact(&mut bytes).map_err(ModelError::io("read", path))?;
                let (words, _) = bytes.as_chunks::<4>();
                let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
                Tensor::from_vec(words, shape, &Device::Cpu)?
            }
            other => return Err(ModelError::Dtype { name, file, found: format!("{other:?}") }),
        };
        tensors.insert(name, tensor);
    }
    Ok(tensors)
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
    let parsed: Index = foreign::json(index, text.as_bytes())?;
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
    /// The head of a model that is tied to its embedding, where a file has one, and that file.
    tied_head: Option<(String, Vec<f32>)>,
}

impl<'a> Loader<'a> {
    fn new(config: &'a ModelConfig, device: &'a Device, place: String) -> Self {
        let wanted = config.parameters().into_iter().collect();
        Self { config, device, place, wanted, found: BTreeMap::new(), tied_head: None }
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
                if name == HEAD && info.shape == [self.config.vocab_size, self.config.hidden_size] {
                    let numbers = self.numbers(file, &name, info, data_start, &mut reader)?;
                    self.tied_head = Some((file.to_string(), numbers));
                    continue;
                }
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
            let numbers = self.numbers(file, &name, info, data_start, &mut reader)?;
            if let Some(index) = first_where(&numbers, |number| !number.is_finite()) {
                let value = numbers[index];
                return Err(ModelError::NonFinite { name, place: format!("`{file}`"), index, value });
            }
            let tensor = Tensor::from_vec(numbers, info.shape.as_slice(), self.device)?;
            self.found.insert(name, tensor);
        }
        Ok(())
    }

    /// The numbers of one tensor.
    fn numbers(
        &self,
        file: &str,
        name: &str,
        info: &TensorInfo,
        data_start: u64,
        reader: &mut (impl Read + Seek),
    ) -> Result<Vec<f32>> {
        let dtype = match info.dtype {
            Dtype::BF16 => WeightDtype::Bf16,
            Dtype::F16 => WeightDtype::F16,
            Dtype::F32 => WeightDtype::F32,
            other => {
                return Err(ModelError::Dtype {
                    name: name.to_string(),
                    file: file.to_string(),
                    found: format!("{other:?}"),
                });
            }
        };
        let start = data_start + info.data_offsets.0 as u64;
        reader.seek(SeekFrom::Start(start)).map_err(ModelError::io("read", file))?;
        let count = info.shape.iter().product();
        read_numbers(reader, dtype, count).map_err(ModelError::io("read", file))
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
        tracing::warn!(tensor = name, file, "ignored a tensor that this model does not have");
        Ok(())
    }

    /// Some tools store the tied matrix under both names. Where the two differ, transformers ties and takes the
    /// embedding, and so it is here; but someone may have meant the head.
    fn compare_head(&self) -> Result<()> {
        let (Some((file, head)), Some(embedding)) = (&self.tied_head, self.found.get(EMBEDDING)) else {
            return Ok(());
        };
        let embedding = embedding.flatten_all()?.to_vec1::<f32>()?;
        let differ = head.iter().zip(&embedding).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        if differ > 0 {
            tracing::warn!(
                "`{HEAD}` in `{file}` is ignored: config.json says `tie_word_embeddings`, so the head is the embedding, \
                 although {differ} of {} numbers differ; if the head was trained apart, set `tie_word_embeddings` to false",
                head.len()
            );
        }
        Ok(())
    }

    fn finish(mut self) -> Result<BTreeMap<String, Tensor>> {
        self.compare_head()?;
        self.wanted.retain(|name, _| !self.found.contains_key(name));
        match self.wanted.pop_first() {
            None => Ok(self.found),
            Some((name, expected)) => Err(ModelError::MissingTensor { name, place: self.place, expected }),
        }
    }
}

/// The header, checked against the file's length, and where the data start.
fn read_header(file: &str, length: u64, reader: &mut (impl Read + Seek)) -> Result<(u64, Metadata)> {
    let mut begin = Vec::new();
    reader.take(512).read_to_end(&mut begin).map_err(ModelError::io("read", file))?;
    reader.seek(SeekFrom::Start(8)).map_err(ModelError::io("read", file))?;
    let hint = || foreign::hint(&begin);
    let wrong_length = |part, expected| ModelError::WrongLength {
        file: file.to_string(),
        part,
        expected,
        found: length,
        hint: hint(),
    };
    let damaged = |reason: String| ModelError::Header { file: file.to_string(), reason, hint: hint() };
    let Some(size) = begin.first_chunk() else {
        return Err(wrong_length("the safetensors format", 8));
    };
    let size = u64::from_le_bytes(*size);
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
    let expected = (8 + size).saturating_add(header.data_len() as u64);
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
