//! A model as files: a folder, a repository of the hub, or bytes inside the binary.
//!
//! Before: a name in a recipe. After: configuration, weights, tokenizer and chat template, each from its own file; and
//! the way back, a folder that transformers and vLLM load.

use super::config::ModelConfig;
use super::error::{ModelError, Result};
use super::foreign;
use super::hub::Hub;
use super::template::ChatTemplate;
use super::tokenizer::Tokenizer;
use super::weights::{self, MAX_SHARD_BYTES, SINGLE_FILE, Source, WeightDtype};
use candle_core::{Device, Tensor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files that say how text becomes tokens; copied byte for byte. Loaders take what they know.
const TOKENIZER_FILES: [&str; 8] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
];

/// Files inside the binary: name and bytes.
type Embedded = &'static [(&'static str, &'static [u8])];

/// A checkpoint in Hugging Face layout that exists; its files are read when they are asked for.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    files: Files,
    source: String,
}

#[derive(Debug, Clone)]
enum Files {
    Folder(PathBuf),
    Embedded(Embedded),
}

impl Checkpoint {
    /// Opens a folder, or else a repository of the hub (`organisation/name`), see [`Hub::fetch`]. `revision` is a
    /// branch, tag or commit of the hub, `main` by default.
    ///
    /// # Errors
    /// If it is neither, which says what was tried, or a revision is given for a folder.
    pub fn open(name_or_path: &str, revision: Option<&str>) -> Result<Self> {
        Self::open_with(name_or_path, revision, Hub::from_env)
    }

    /// [`Self::open`] with a hub other than that of the environment, which is made only if it is needed.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        name_or_path: &str,
        revision: Option<&str>,
        hub: impl FnOnce() -> Result<Hub>,
    ) -> Result<Self> {
        let path = Path::new(name_or_path);
        if path.is_dir() {
            return match revision {
                Some(revision) => Err(ModelError::RevisionOfFolder {
                    dir: path.to_path_buf(),
                    revision: revision.to_string(),
                }),
                None => {
                    Ok(Self { files: Files::Folder(path.to_path_buf()), source: name_or_path.to_string() })
                }
            };
        }
        let not_found = |reason: String| ModelError::NotFound {
            name: name_or_path.to_string(),
            reason,
            hint: similar(path).map_or_else(String::new, |name| format!("; there is a folder `{name}`")),
        };
        if path.is_file() {
            return Err(not_found(format!("it is a file: name the folder it is in{}", foreign::file(path))));
        }
        if !is_hub_name(name_or_path) {
            return Err(not_found(
                "it is not a name of the hub, which has the form `organisation/name`".to_string(),
            ));
        }
        let revision = revision.unwrap_or("main");
        if revision.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
            return Err(not_found(format!("{revision:?} is not the name of a revision")));
        }
        let dir = hub()?
            .fetch(name_or_path, revision)
            .map_err(|error| not_found(format!("as a name of the hub, {error}")))?;
        Ok(Self { files: Files::Folder(dir), source: format!("{name_or_path}@{revision}") })
    }

    /// Takes files inside the binary, by the names they would have in a folder; weights in one `model.safetensors`.
    pub fn embedded(files: Embedded) -> Self {
        Self { files: Files::Embedded(files), source: "embedded".to_string() }
    }

    /// Where it came from: the path or `name@revision` as given, or `embedded`.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The folder that holds the files, unless they are inside the binary.
    pub fn dir(&self) -> Option<&Path> {
        match &self.files {
            Files::Folder(dir) => Some(dir),
            Files::Embedded(_) => None,
        }
    }

    /// The shape of the model.
    ///
    /// # Errors
    /// If config.json is missing, or as [`ModelConfig::from_json`].
    pub fn config(&self) -> Result<ModelConfig> {
        let config = self.require("config.json")?;
        let generation = self.file("generation_config.json")?;
        let generation =
            generation.as_deref().map(|bytes| text("generation_config.json", bytes)).transpose()?;
        ModelConfig::from_json_with_generation(text("config.json", &config)?, generation)
    }

    /// Every tensor of the model by its Hugging Face name, in f32, on `device`.
    ///
    /// # Errors
    /// As [`Self::config`] and [`weights::load`].
    pub fn weights(&self, device: &Device) -> Result<BTreeMap<String, Tensor>> {
        let config = self.config()?;
        match &self.files {
            Files::Folder(dir) => weights::load(dir, &config, device),
            Files::Embedded(_) => match self.file(SINGLE_FILE)? {
                Some(bytes) => weights::load_from_slice(SINGLE_FILE, &bytes, &config, device),
                None => Err(ModelError::NoWeights {
                    place: "the embedded checkpoint".to_string(),
                    looked_for: vec![SINGLE_FILE.to_string()],
                    hint: String::new(),
                }),
            },
        }
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// If tokenizer.json is missing, or as [`Tokenizer::from_bytes`].
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let tokenizer = self.require("tokenizer.json")?;
        let config = self.file("tokenizer_config.json")?;
        Tokenizer::from_bytes(&self.place("tokenizer.json"), &tokenizer, config.as_deref())
    }

    /// The chat template; none in most base models.
    ///
    /// # Errors
    /// As [`ChatTemplate::from_files`].
    pub fn template(&self) -> Result<Option<ChatTemplate>> {
        let jinja = self.file("chat_template.jinja")?;
        let jinja = jinja.as_deref().map(|bytes| text("chat_template.jinja", bytes)).transpose()?;
        ChatTemplate::from_files(
            jinja,
            self.file("tokenizer_config.json")?.as_deref(),
            self.file("chat_template.json")?.as_deref(),
        )
    }

    /// Writes a complete checkpoint into the empty folder `dir`: `weights` of a model of shape `config`, this
    /// checkpoint's tokenizer and template byte for byte, and its generation_config.json if it has one. Files are
    /// synced to disk; naming the folder atomically is the caller's part.
    ///
    /// # Errors
    /// If a file cannot be copied or written, or as [`weights::save`].
    pub fn save(
        &self,
        dir: &Path,
        config: &ModelConfig,
        weights: &dyn Source,
        dtype: WeightDtype,
    ) -> Result<()> {
        std::fs::create_dir_all(dir).map_err(ModelError::io("create", dir))?;
        weights::save(dir, config, weights, dtype, MAX_SHARD_BYTES)?;
        weights::write_synced(&dir.join("config.json"), config.to_json(dtype).as_bytes())?;
        let generation = self.file("generation_config.json")?;
        let generation = generation.unwrap_or_else(|| Cow::Owned(config.generation_json().into_bytes()));
        weights::write_synced(&dir.join("generation_config.json"), &generation)?;
        for name in TOKENIZER_FILES {
            if let Some(bytes) = self.file(name)? {
                weights::write_synced(&dir.join(name), &bytes)?;
            }
        }
        Ok(())
    }

    /// The name of a file in messages.
    fn place(&self, name: &str) -> String {
        match &self.files {
            Files::Folder(dir) => dir.join(name).display().to_string(),
            Files::Embedded(_) => format!("{name} (embedded)"),
        }
    }

    /// The bytes of a file, if there is one.
    fn file(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>> {
        match &self.files {
            Files::Embedded(files) => {
                Ok(files.iter().find(|(file, _)| *file == name).map(|(_, bytes)| Cow::Borrowed(*bytes)))
            }
            Files::Folder(dir) => match std::fs::read(dir.join(name)) {
                Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(ModelError::io("read", dir.join(name))(error)),
            },
        }
    }

    fn require(&self, name: &str) -> Result<Cow<'static, [u8]>> {
        let missing = || {
            let (place, hint) = match &self.files {
                Files::Folder(dir) => (format!("`{}`", dir.display()), foreign::folder(dir, name)),
                Files::Embedded(_) => ("the embedded checkpoint".to_string(), String::new()),
            };
            ModelError::MissingFile { file: name.to_string(), place, hint }
        };
        self.file(name)?.ok_or_else(missing)
    }
}

fn text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(bytes)
        .map_err(|error| ModelError::NotText { file: file.to_string(), valid: error.valid_up_to() })
}

/// `organisation/name` of letters, digits, `-`, `_` and `.`, which no path like `./x` or `../x` is.
fn is_hub_name(name: &str) -> bool {
    let good = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    name.split_once('/').is_some_and(|(organisation, name)| good(organisation) && good(name))
}

/// The folder beside `path` whose name is closest to it, if one is close.
fn similar(path: &Path) -> Option<String> {
    let wanted = path.file_name()?.to_str()?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folders = std::fs::read_dir(parent).ok()?.flatten().filter(|entry| entry.path().is_dir());
    let names = folders.filter_map(|entry| entry.file_name().into_string().ok());
    let close = |name: String| (strsim::normalized_damerau_levenshtein(wanted, &name), name);
    let (score, name) = names.map(close).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score > 0.7).then(|| path.with_file_name(name).display().to_string())
}
