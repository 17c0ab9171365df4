//! Checkpoints of other programs are read right or refused with a reason, and what is written reads back the same.

mod config;
mod damaged;
mod saved;
mod weights_io;

use candle_core::{DType, Device, Tensor};
use engine::model::weights::{self, INDEX_FILE, SINGLE_FILE};
use engine::model::{Checkpoint, Family, ModelConfig, ModelError, NewModel, WeightDtype};
use half::{bf16, f16};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const CPU: Device = Device::Cpu;
const MODELS: [&str; 3] = ["qwen2-tiny", "qwen3-tiny", "qwen3-tiny-untied"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity").join(name)
}

/// A folder with the tiny Qwen3's config.json and model.safetensors, to be broken.
fn copy() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", SINGLE_FILE] {
        std::fs::copy(fixture("qwen3-tiny").join(file), dir.path().join(file)).unwrap();
    }
    dir
}

fn tiny() -> (ModelConfig, BTreeMap<String, Tensor>) {
    let checkpoint = Checkpoint::open(fixture("qwen3-tiny").to_str().unwrap(), None).unwrap();
    (checkpoint.config().unwrap(), checkpoint.weights(&CPU).unwrap())
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|x| x.to_bits()).collect()
}

fn all_bits(weights: &BTreeMap<String, Tensor>) -> BTreeMap<&str, Vec<u32>> {
    weights.iter().map(|(name, tensor)| (name.as_str(), bits(tensor))).collect()
}

/// The error's text, which has to hold every one of `parts`.
fn says<T>(result: Result<T, ModelError>, parts: &[&str]) -> String {
    let text = result.err().expect("should have been refused").to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    text
}

fn config_with(change: impl FnOnce(&mut Map<String, Value>)) -> Result<ModelConfig, ModelError> {
    let text = std::fs::read_to_string(fixture("qwen3-tiny").join("config.json")).unwrap();
    let mut json: Map<String, Value> = serde_json::from_str(&text).unwrap();
    change(&mut json);
    ModelConfig::from_json(&Value::Object(json).to_string())
}

fn config_setting(field: &str, value: Value) -> Result<ModelConfig, ModelError> {
    config_with(|json| drop(json.insert(field.to_string(), value)))
}

/// One tensor for [`write_safetensors`]: name, type, shape, bytes.
type Raw = (String, &'static str, Vec<usize>, Vec<u8>);

/// A writer that shares no code with the one under test.
fn write_safetensors(path: &Path, tensors: &[Raw]) {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        data.extend_from_slice(bytes);
    }
    let header = Value::Object(header).to_string();
    let size = (header.len() as u64).to_le_bytes();
    std::fs::write(path, [&size[..], header.as_bytes(), &data].concat()).unwrap();
}

fn raw(name: &str, tensor: &Tensor) -> Raw {
    let numbers = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    (name.to_string(), "F32", tensor.dims().to_vec(), bytes)
}

/// The tiny Qwen3 with its tensors changed, as a folder.
fn broken(change: impl FnOnce(&mut Vec<Raw>)) -> TempDir {
    let dir = copy();
    let mut tensors: Vec<Raw> = tiny().1.iter().map(|(name, tensor)| raw(name, tensor)).collect();
    change(&mut tensors);
    write_safetensors(&dir.path().join(SINGLE_FILE), &tensors);
    dir
}

fn load(dir: &TempDir) -> Result<BTreeMap<String, Tensor>, ModelError> {
    weights::load(dir.path(), &tiny().0, &CPU)
}

// Configuration
