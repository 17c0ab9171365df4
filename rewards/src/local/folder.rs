//! A checkpoint in Hugging Face layout, file by file.
//!
//! Before: a path in a recipe. After: JSON, text and f32 tensors, or what is missing. Nothing is mapped: a file that
//! another program cuts short gives an error, not a signal.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use candle_core::safetensors::BufferedSafetensors;
use candle_core::{DType, Device, Tensor};
use serde_json::{Map, Value};

use super::shape::Shape;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A folder that exists.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        match path.is_dir() {
            true => Ok(Self(path.to_owned())),
            false => Err(format!("path is {path:?}, wanted a folder with config.json and model.safetensors")),
        }
    }

    /// Where a file is, for messages.
    pub(super) fn place(&self, file: &str) -> String {
        format!("`{}`", self.0.join(file).display())
    }

    fn bytes(&self, file: &str) -> Result<Option<Vec<u8>>, String> {
        match fs::read(self.0.join(file)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot read {}: {error}", self.place(file))),
        }
    }

    /// The text of a file, if it is there.
    pub(super) fn text(&self, file: &str) -> Result<Option<String>, String> {
        let Some(bytes) = self.bytes(file)? else { return Ok(None) };
        String::from_utf8(bytes).map(Some).map_err(|_| format!("{} is not UTF-8", self.place(file)))
    }

    /// A file that must be there.
    pub(super) fn require(&self, file: &str) -> Result<Vec<u8>, String> {
        self.bytes(file)?.ok_or_else(|| format!("there is no {}", self.place(file)))
    }

    /// The object in a file, if it is there.
    pub(super) fn json(&self, file: &str) -> Result<Option<Map<String, Value>>, String> {
        let Some(bytes) = self.bytes(file)? else { return Ok(None) };
        let wrong = |error| format!("{} is no JSON object: {error}", self.place(file));
        serde_json::from_slice(&bytes).map(Some).map_err(wrong)
    }

    /// What config.json says.
    pub(super) fn shape(&self) -> Result<Shape, String> {
        let file = "config.json";
        let json = self.json(file)?.ok_or_else(|| format!("there is no {}", self.place(file)))?;
        Shape::new(&json).map_err(|why| format!("{}: {why}", self.place(file)))
    }

    /// The tensors of `shape`, and the one that is called `head` if there is; in f32 whatever they are stored in, and
    /// wherever they are stored.
    pub(super) fn tensors(
        &self,
        shape: &Shape,
        head: &str,
        device: &Device,
    ) -> Result<HashMap<String, Tensor>, String> {
        let mut wanted: BTreeMap<String, Option<Vec<usize>>> =
            shape.parameters().into_iter().map(|(name, dims)| (name, Some(dims))).collect();
        wanted.insert(head.to_owned(), None);
        let (mut tensors, mut others) = (HashMap::new(), BTreeSet::new());
        for file in self.shards()? {
            let wrong = |error| format!("{}: {error}", self.place(&file));
            let shard = BufferedSafetensors::new(self.require(&file)?).map_err(wrong)?;
            for (name, view) in shard.tensors() {
                let Some(dims) = wanted.get(&name) else {
                    others.insert(name);
                    continue;
                };
                let (name, found) = (&name, view.shape());
                if let Some(dims) = dims.as_ref().filter(|dims| *dims != found) {
                    let place = self.place(&file);
                    return Err(format!("`{name}` in {place} has the shape {found:?}, wanted {dims:?}"));
                }
                match DType::try_from(view.dtype()) {
                    Ok(DType::BF16 | DType::F16 | DType::F32) => {}
                    _ => {
                        let (place, found) = (self.place(&file), view.dtype());
                        return Err(format!(
                            "`{name}` in {place} is stored as {found:?}, wanted BF16, F16 or F32"
                        ));
                    }
                }
                let tensor = shard.load(name, &Device::Cpu).and_then(|tensor| tensor.to_dtype(DType::F32));
                tensors
                    .insert(name.clone(), tensor.and_then(|tensor| tensor.to_device(device)).map_err(wrong)?);
            }
        }
        if let Some(name) = wanted.keys().find(|name| *name != head && !tensors.contains_key(*name)) {
            let folder = self.0.display();
            return Err(format!("the weights in `{folder}` have no `{name}`, which config.json calls for"));
        }
        // An unknown part of the model would be left out of it. Llama once stored its frequencies.
        let unknown = |name: &&String| name.starts_with("model.") && !name.ends_with(".rotary_emb.inv_freq");
        if let Some(name) = others.iter().find(unknown) {
            let folder = self.0.display();
            return Err(format!(
                "the weights in `{folder}` have `{name}`, which config.json has no place for"
            ));
        }
        Ok(tensors)
    }

    /// The files that hold the weights.
    fn shards(&self) -> Result<BTreeSet<String>, String> {
        if self.0.join(SINGLE).is_file() {
            return Ok(BTreeSet::from([SINGLE.to_owned()]));
        }
        let Some(index) = self.json(INDEX)? else {
            return Err(format!("there is neither {} nor {}", self.place(SINGLE), self.place(INDEX)));
        };
        let shard = |file: &Value| {
            let name =
                file.as_str().filter(|name| Path::new(name).file_name().is_some_and(|last| last == *name));
            name.map(str::to_owned).ok_or_else(|| {
                format!("{} names the shard {file}, wanted a file beside it", self.place(INDEX))
            })
        };
        match index.get("weight_map").and_then(Value::as_object).filter(|map| !map.is_empty()) {
            Some(map) => map.values().map(shard).collect(),
            None => Err(format!("{} has no `weight_map`", self.place(INDEX))),
        }
    }
}
