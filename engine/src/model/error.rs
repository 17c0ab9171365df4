//! What can go wrong between a checkpoint on disk or on the hub and a policy in memory.
//!
//! Before: files that other people wrote. After: [`crate::model`] holds values that passed every check here.
//! Each message names the thing, the value found and the value wanted.

use std::path::PathBuf;

/// Why a model could not be read, checked or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The operating system refused a file operation.
    #[error("could not {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },

    /// A file is not the JSON that it should be.
    #[error("`{file}` is not valid JSON of the expected kind: {source}{hint}")]
    Json {
        /// The file, or what it is called inside a checkpoint.
        file: String,
        /// Where and why.
        source: serde_json::Error,
        /// Empty, or what it is instead.
        hint: String,
    },

    /// A checkpoint lacks a file that every one has.
    #[error("there is no `{file}` in {place}{hint}")]
    MissingFile {
        /// The file.
        file: String,
        /// The folder, or a name for what is inside the binary.
        place: String,
        /// Empty, or what the folder holds instead.
        hint: String,
    },

    /// A text file is not text.
    #[error("`{file}` is not UTF-8 text from byte {valid} on")]
    NotText {
        /// The file.
        file: String,
        /// Bytes before the first that is wrong.
        valid: usize,
    },

    /// A configuration lacks a field that has no safe default.
    #[error("config.json has no `{field}`, which a {family} model needs")]
    MissingField {
        /// The field, under its Hugging Face name.
        field: &'static str,
        /// The model family, as far as it is known.
        family: String,
    },

    /// A field has a value that cannot be right.
    #[error("`{field}` is {value}, but {wanted}")]
    InvalidField {
        /// The field, under its Hugging Face name.
        field: String,
        /// The value found.
        value: String,
        /// What it should be.
        wanted: String,
    },

    /// A field asks for something that other programs can do and this one cannot.
    #[error("`{field}` is {value}, which is not supported: {reason}")]
    UnsupportedField {
        /// The field, under its Hugging Face name.
        field: String,
        /// The value found.
        value: String,
        /// Why it cannot be ignored.
        reason: String,
    },

    /// The checkpoint is of a family that is not implemented.
    #[error(
        "`{field}` is {found}; supported are the model types qwen2 (Qwen2, Qwen2.5) and qwen3, with the \
             architectures Qwen2ForCausalLM and Qwen3ForCausalLM"
    )]
    UnsupportedModel {
        /// `model_type` or `architectures`.
        field: &'static str,
        /// The value found.
        found: String,
    },

    /// No file of weights where they should be.
    #[error("no weights in {place}: looked for {}{hint}", looked_for.join(" and "))]
    NoWeights {
        /// Empty, or what the folder holds instead.
        hint: String,
        /// The folder, or a name for what is inside the binary.
        place: String,
        /// File names that would do.
        looked_for: Vec<String>,
    },

    /// The index names a shard that is not there.
    #[error("`{index}` places tensors in `{shard}`, but there is no such file beside it")]
    MissingShard {
        /// The index file.
        index: String,
        /// The missing file.
        shard: String,
    },

    /// The index holds a shard name that is not a plain file name.
    #[error("`{index}` names the shard `{shard}`; a shard must be a file beside the index, not a path")]
    ShardOutside {
        /// The index file.
        index: String,
        /// The name found.
        shard: String,
    },

    /// A safetensors file ends too early, or goes on for too long.
    #[error("`{file}` has {found} bytes, but {part} says {expected}: the file is cut off or damaged{hint}")]
    WrongLength {
        /// Empty, or what it is instead.
        hint: String,
        /// The file.
        file: String,
        /// What says how long the file should be.
        part: &'static str,
        /// Bytes that there should be.
        expected: u64,
        /// Bytes that there are.
        found: u64,
    },

    /// The header of a safetensors file cannot be read.
    #[error("`{file}` has a damaged safetensors header: {reason}{hint}")]
    Header {
        /// Empty, or what it is instead.
        hint: String,
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A tensor that the configuration asks for is in no file.
    #[error("tensor `{name}` is missing from {place}; by config.json it has shape {expected:?}")]
    MissingTensor {
        /// Hugging Face name.
        name: String,
        /// Where it was looked for.
        place: String,
        /// Its shape by the configuration.
        expected: Vec<usize>,
    },

    /// A tensor is not of the shape that the configuration asks for.
    #[error("tensor `{name}` has shape {found:?} in {place}, but config.json makes it {expected:?}")]
    Shape {
        /// Hugging Face name.
        name: String,
        /// Where it was found.
        place: String,
        /// Its shape there.
        found: Vec<usize>,
        /// Its shape by the configuration.
        expected: Vec<usize>,
    },

    /// A tensor belongs to a layer that the configuration does not have.
    #[error("{place} has tensor `{name}`, but config.json has only {layers} layers (0 to {})", layers.saturating_sub(1))]
    LayerBeyond {
        /// Hugging Face name.
        name: String,
        /// Where it was found.
        place: String,
        /// `num_hidden_layers`.
        layers: usize,
    },

    /// Two shards hold the same tensor.
    #[error("tensor `{name}` is in two shards; the second is `{file}`")]
    DuplicateTensor {
        /// Hugging Face name.
        name: String,
        /// The second file.
        file: String,
    },

    /// A tensor to be saved has no place in a model of this configuration.
    #[error("tensor `{name}` is not part of a model of this configuration and would be lost")]
    UnknownTensor {
        /// The name given.
        name: String,
    },

    /// A tensor is stored in a type that is not read.
    #[error("tensor `{name}` in `{file}` is stored as {found}; supported are BF16, F16 and F32")]
    Dtype {
        /// Hugging Face name.
        name: String,
        /// The file.
        file: String,
        /// The stored type.
        found: String,
    },

    /// A weight is not a finite number.
    #[error("tensor `{name}` in {place} is {value} at flat index {index}; weights must be finite")]
    NonFinite {
        /// Hugging Face name.
        name: String,
        /// Where: the file read, or the file and type written.
        place: String,
        /// Position in row-major order of the first such value.
        index: usize,
        /// The value: NaN or an infinity.
        value: f32,
    },

    /// Saving would leave a folder with weights of two layouts, of which a loader takes one.
    #[error("`{}` already holds weights (`{file}`); save into an empty folder", dir.display())]
    WeightsPresent {
        /// The folder.
        dir: PathBuf,
        /// A file of weights in it.
        file: String,
    },

    /// The tokenizer file was refused by the tokenizer library.
    #[error("`{file}` is not a usable tokenizer: {reason}")]
    Tokenizer {
        /// The file.
        file: String,
        /// The library's reason.
        reason: String,
    },

    /// Text could not be turned into tokens, or tokens into text.
    #[error("the tokenizer `{file}` failed to {action}: {reason}")]
    Tokenize {
        /// `encode` or `decode`.
        action: &'static str,
        /// The file that it was read from.
        file: String,
        /// The library's reason.
        reason: String,
    },

    /// A special token has no id.
    #[error(
        "`{field}` in tokenizer_config.json is {token:?}, which the vocabulary of tokenizer.json does not have"
    )]
    SpecialToken {
        /// `eos_token`, `pad_token` or `bos_token`.
        field: &'static str,
        /// The token's text.
        token: String,
    },

    /// The tokenizer can produce ids that the embedding has no row for.
    #[error(
        "the tokenizer's largest id is {largest} ({token:?}), but config.json has `vocab_size` {vocab_size}: ids must stay below it"
    )]
    VocabTooSmall {
        /// The largest id.
        largest: u32,
        /// Its token.
        token: String,
        /// Rows of the embedding.
        vocab_size: usize,
    },

    /// The chat template does not parse or render.
    #[error("the chat template of {place} failed: {source}")]
    Template {
        /// The file that holds the template.
        place: String,
        /// The template engine's reason, with the line.
        source: Box<minijinja::Error>,
    },

    /// `chat_template` in tokenizer_config.json is neither a template nor a list with a default.
    #[error("`chat_template` in {place} {reason}")]
    TemplateKind {
        /// The file.
        place: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A model name is neither a folder nor of the form of a hub name.
    #[error("no model `{name}`: there is no such folder, and {reason}{hint}")]
    NotFound {
        /// What was asked for.
        name: String,
        /// Why it is not a hub name either, or what the hub said.
        reason: String,
        /// Empty, or a similar name that exists.
        hint: String,
    },

    /// A revision was given for a folder.
    #[error("revision `{revision}` was asked for, but `{}` is a folder, which has none", dir.display())]
    RevisionOfFolder {
        /// The folder.
        dir: PathBuf,
        /// The revision given.
        revision: String,
    },

    /// There is nowhere to keep what the hub gives.
    #[error(
        "no folder for the Hugging Face cache: there is no home folder, and neither HF_HOME nor HF_HUB_CACHE is set"
    )]
    NoCache,

    /// The hub could not be asked, and the cache does not have the files.
    #[error("`{repo}` (revision `{revision}`) is not complete in the cache folder `{}`, and {reason}", cache.display())]
    Hub {
        /// `organisation/name`.
        repo: String,
        /// Branch, tag or commit.
        revision: String,
        /// The cache folder that was looked in.
        cache: PathBuf,
        /// What failed on the network, or that the network is switched off.
        reason: String,
    },

    /// The hub has the repository, but a file of a complete model is not in it.
    #[error(
        "`{repo}` (revision `{revision}`) has no {missing}; it is not a model in safetensors layout{hint}"
    )]
    HubIncomplete {
        /// Empty, or what the repository holds instead.
        hint: String,
        /// `organisation/name`.
        repo: String,
        /// Branch, tag or commit.
        revision: String,
        /// What is missing.
        missing: String,
    },

    /// A token id that the embedding has no row for.
    #[error("token {token} is outside the model's vocabulary of {vocab_size} ids")]
    TokenOutside {
        /// The id.
        token: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },

    /// The environment asks for kernels that do not exist.
    #[error(transparent)]
    Kernels(#[from] crate::kernels::UnknownPath),

    /// Own kernels run on the CPU alone.
    #[error("own kernels compute on the CPU; on another device candle does")]
    FusedElsewhere,

    /// Keys, hidden states or gradients of a policy of another shape, or that computes in another way.
    #[error("the keys, hidden states or gradient belong to a policy of another shape or way to compute")]
    Foreign,

    /// A layer gave a number that no later layer can use.
    #[error(
        "layer {layer} is the first whose output is not finite ({value}): its weights or its input are broken"
    )]
    NonFiniteLayer {
        /// The layer, counted from 0.
        layer: usize,
        /// The value found.
        value: f32,
    },

    /// A sequence grew beyond the room that was made for its keys and values.
    #[error("a sequence of {wanted} tokens does not fit in a cache row of {capacity}")]
    CacheFull {
        /// Tokens there is room for.
        capacity: usize,
        /// Tokens wanted.
        wanted: usize,
    },

    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// Result of reading, checking or writing a model.
pub(crate) type Result<T, E = ModelError> = std::result::Result<T, E>;

impl ModelError {
    /// An [`ModelError::Io`] maker for `map_err`.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> ModelError {
        let path = path.into();
        move |source| ModelError::Io { action, path, source }
    }
}
