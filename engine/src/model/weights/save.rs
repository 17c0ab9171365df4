//! Weights to safetensors files, one or many.
//!
//! Before: named tensors of a model in training. After: files that transformers, vLLM and [`super::load()`] read.

use super::{BLOCK, INDEX_FILE, SINGLE_FILE, Source, TASK, WeightDtype, first_where};
use crate::model::config::ModelConfig;
use crate::model::error::{ModelError, Result};
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Name and shape.
type Parameter = (String, Vec<usize>);

/// Writes the weights of a model into a folder: `model.safetensors`, or, where that would hold more than
/// `max_shard_bytes` of numbers, shards and their index. Files are synced to disk; naming the folder atomically is
/// the caller's part. Gives the files written.
///
/// `weights` are those of [`ModelConfig::parameters`], on any device; one tensor at a time is asked for and brought to
/// the CPU.
///
/// # Errors
/// If the folder already holds weights, a tensor is missing, unknown or of another shape, a value is not finite in
/// `dtype` (f16 ends at 65504), or a file cannot be written.
pub fn save(
    dir: &Path,
    config: &ModelConfig,
    weights: &dyn Source,
    dtype: WeightDtype,
    max_shard_bytes: u64,
) -> Result<Vec<PathBuf>> {
    let parameters = config.parameters();
    check_complete(&parameters, weights)?;
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

fn check_complete(parameters: &[Parameter], weights: &dyn Source) -> Result<()> {
    let place = "the weights to be saved".to_string();
    let mut found: BTreeMap<String, Vec<usize>> = weights.entries().into_iter().collect();
    for (name, shape) in parameters {
        let (name, expected, place) = (name.clone(), shape.clone(), place.clone());
        match found.remove(&name) {
            None => return Err(ModelError::MissingTensor { name, place, expected }),
            Some(found) if found != *shape => return Err(ModelError::Shape { name, place, found, expected }),
            Some(_) => {}
        }
    }
    match found.pop_first() {
        Some((name, _)) => Err(ModelError::UnknownTensor { name }),
        None => Ok(()),
    }
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

fn write_file(path: &Path, tensors: &[Parameter], weights: &dyn Source, dtype: WeightDtype) -> Result<()> {
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
        let numbers = weights.numbers(name)?;
        for (at, block) in numbers.chunks(BLOCK).enumerate() {
            if let Some(index) = first_where(block, |number| !dtype.holds(number)) {
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
