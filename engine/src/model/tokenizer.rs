//! Text to tokens and back, as the checkpoint's own `tokenizer.json` says.
//!
//! Before: a checkpoint's `tokenizer.json` and `tokenizer_config.json`. After: the sampler encodes prompts and decodes
//! what was drawn. A rollout is never encoded again: tokens are the truth, text is derived from them.

mod outline;
mod special;

use super::config::ModelConfig;
use super::error::{ModelError, Result};
use super::foreign;
use data::guard;
use outline::Outline;
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// How long a text may take in a tokenizer with regular expressions of its own.
const DEADLINE: Duration = Duration::from_secs(10);

/// A byte-level tokenizer with the special tokens that a policy needs.
///
/// The tokenizer library panics on some damaged files and texts: such a panic becomes an error. Its regular expressions
/// backtrack; a single search ends after ten million steps, which is an error too. What many searches may add up to
/// has no bound in the library, so that a tokenizer with an expression of its own works in a thread that is given up
/// after ten seconds. The expressions of published tokenizers are known to be linear and need none.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    /// Its name in messages.
    file: Arc<str>,
    /// How long a text may take, if there is reason to ask.
    deadline: Option<Duration>,
    eos: Option<u32>,
    pad: Option<u32>,
}

/// What `tokenizer_config.json` says about special tokens and the chat template.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenizerConfig {
    json: Map<String, Value>,
}

impl TokenizerConfig {
    pub(crate) fn parse(file: &str, bytes: &[u8]) -> Result<Self> {
        Ok(Self { json: foreign::json(file, bytes)? })
    }

    /// A special token's text; it is written as a string or as an object with `content`.
    pub(crate) fn token(&self, field: &str) -> Result<Option<&str>> {
        let Some(value) = self.json.get(field).filter(|value| !value.is_null()) else { return Ok(None) };
        match value.as_str().or_else(|| value.get("content")?.as_str()) {
            Some(token) => Ok(Some(token)),
            None => Err(ModelError::InvalidField {
                field: format!("{field} of tokenizer_config.json"),
                value: value.to_string(),
                wanted: "it must be a text, or an object with `content`".to_string(),
            }),
        }
    }

    pub(crate) fn chat_template(&self) -> Option<&Value> {
        self.field("chat_template")
    }

    fn field(&self, field: &str) -> Option<&Value> {
        self.json.get(field).filter(|value| !value.is_null())
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a checkpoint folder, and `tokenizer_config.json` if it is there.
    ///
    /// # Errors
    /// If a file cannot be read, or as [`Self::from_bytes`].
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let tokenizer = std::fs::read(&path).map_err(ModelError::io("read", &path))?;
        let config_path = dir.join("tokenizer_config.json");
        let config = match std::fs::read(&config_path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(ModelError::io("read", config_path)(error)),
        };
        Self::from_bytes(&path.display().to_string(), &tokenizer, config.as_deref())
    }

    /// Takes the bytes of `tokenizer.json` (`file` is its name in messages) and of `tokenizer_config.json`.
    /// Truncation and padding that the file may ask for are switched off: nothing is cut silently.
    ///
    /// # Errors
    /// If the bytes are not a tokenizer, or its end or padding token is not in its vocabulary.
    pub fn from_bytes(file: &str, tokenizer: &[u8], config: Option<&[u8]>) -> Result<Self> {
        let refused = |reason: String| ModelError::Tokenizer { file: file.to_string(), reason };
        let tokenizer = tokenizer.strip_prefix(b"\xef\xbb\xbf").unwrap_or(tokenizer);
        let outline = Outline::read(tokenizer)
            .map_err(|reason| refused(format!("{reason}{}", foreign::hint(tokenizer))))?;
        let read = || {
            let mut inner = tokenizers::Tokenizer::from_bytes(tokenizer)?;
            inner.with_truncation(None)?;
            inner.with_padding(None);
            Ok(inner)
        };
        let mut inner = guard(read)
            .map_err(|panic| refused(format!("the tokenizer library gave up: {panic}")))?
            .map_err(|error: tokenizers::Error| refused(error.to_string()))?;
        for token in outline.added_tokens() {
            // As in transformers, where tokens beside the vocabulary are numbered on from its size.
            if let Some(found) = inner.token_to_id(&token.content).filter(|found| *found != token.id) {
                tracing::warn!(
                    "`{file}` gives the added token {:?} the id {}, but by its place in the vocabulary it is {found}, \
                     which is used",
                    token.content,
                    token.id
                );
            }
        }
        let config = match config {
            Some(bytes) => TokenizerConfig::parse("tokenizer_config.json", bytes)?,
            None => TokenizerConfig::default(),
        };
        let known = inner.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
        for (id, token) in special::missing(&config, &known)? {
            let content = token.content.clone();
            guard(|| inner.add_tokens([token]).map(drop))
                .map_err(|panic| refused(format!("the tokenizer library gave up: {panic}")))?
                .map_err(|error| refused(error.to_string()))?;
            let found = inner.token_to_id(&content);
            if id.is_some() && found != id {
                return Err(ModelError::InvalidField {
                    field: format!("added_tokens_decoder of tokenizer_config.json, token {content:?},"),
                    value: id.unwrap_or_default().to_string(),
                    wanted: format!("after the tokens of `{file}` it would be {}", found.unwrap_or_default()),
                });
            }
        }
        let id = |field: &'static str| match config.token(field)? {
            None => Ok(None),
            Some(token) => inner
                .token_to_id(token)
                .map(Some)
                .ok_or_else(|| ModelError::SpecialToken { field, token: token.to_string() }),
        };
        let (eos, pad) = (id("eos_token")?, id("pad_token")?);
        let deadline = outline.may_backtrack().then_some(DEADLINE);
        Ok(Self { inner: Arc::new(inner), file: file.into(), deadline, eos, pad })
    }

    /// The tokens of `text`. Special tokens written out in the text become themselves; none are added.
    ///
    /// # Errors
    /// If the tokenizer library fails, which it does for no text in a byte-level vocabulary; or, with a regular
    /// expression that is not known, takes too long.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let text = text.to_owned();
        self.call("encode", move |inner| Ok(inner.encode_fast(text, false)?.get_ids().to_vec()))
    }

    /// The text of `tokens`, with or without special tokens. Bytes that are not whole UTF-8 give U+FFFD, ids
    /// without a token (the padding of the embedding) give nothing, and spaces are left as they are: as
    /// Hugging Face does with `clean_up_tokenization_spaces` off.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn decode(&self, tokens: &[u32], skip_special: bool) -> Result<String> {
        let tokens = tokens.to_vec();
        self.call("decode", move |inner| inner.decode(&tokens, skip_special))
    }

    /// Lets the library work, in a thread of its own where it might not end.
    fn call<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&tokenizers::Tokenizer) -> tokenizers::Result<T> + Send + 'static,
    ) -> Result<T> {
        let failed = |reason: String| ModelError::Tokenize { action, file: self.file.to_string(), reason };
        let outcome = match self.deadline {
            None => guard(|| work(&self.inner)),
            Some(deadline) => {
                let (sender, receiver) = mpsc::channel();
                let inner = self.inner.clone();
                std::thread::Builder::new()
                    .name("tokenizer".to_string())
                    // nobody listens after the deadline
                    .spawn(move || drop(sender.send(guard(|| work(&inner)))))
                    .map_err(|error| failed(format!("no thread for it: {error}")))?;
                receiver.recv_timeout(deadline).map_err(|_| {
                    failed(format!(
                        "it was not done after {} s; one of its regular expressions backtracks too much on this text",
                        deadline.as_secs_f64()
                    ))
                })?
            }
        };
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(panic) if panic.contains("retry-limit") => Err(failed(format!(
                "one of its regular expressions backtracks too much on this text ({panic})"
            ))),
            Err(panic) => Err(failed(format!("the tokenizer library gave up: {panic}"))),
        }
    }

    /// The id of a token, special or not, by its text in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The vocabulary's text of a token; bytes are written in the byte-level alphabet.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// How many tokens there are, added ones included. Embeddings often have more rows.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// One more than the largest id: the rows that an embedding needs. Where ids have holes this is more than
    /// [`Self::vocab_size`].
    pub fn rows(&self) -> usize {
        self.largest().map_or(0, |(_, id)| id as usize + 1)
    }

    fn largest(&self) -> Option<(String, u32)> {
        self.inner.get_vocab(true).into_iter().max_by_key(|(_, id)| *id)
    }

    /// `eos_token` of tokenizer_config.json. Qwen's chat models end a turn with it; config.json may name more.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// `pad_token` of tokenizer_config.json.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// Whether every id has a row in the embedding.
    ///
    /// # Errors
    /// If the largest id is not below `vocab_size`; names both.
    pub fn check(&self, config: &ModelConfig) -> Result<()> {
        match self.largest() {
            Some((token, largest)) if largest as usize >= config.vocab_size => {
                Err(ModelError::VocabTooSmall { largest, token, vocab_size: config.vocab_size })
            }
            _ => Ok(()),
        }
    }
}
