//! Text to tokens and back, as the checkpoint's own `tokenizer.json` says.
//!
//! Before: a checkpoint's `tokenizer.json` and `tokenizer_config.json`. After: the sampler encodes prompts and decodes
//! what was drawn. A rollout is never encoded again: tokens are the truth, text is derived from them.

use super::config::ModelConfig;
use super::error::{ModelError, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// A byte-level tokenizer with the special tokens that a policy needs.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
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
        let json = serde_json::from_slice(bytes)
            .map_err(|source| ModelError::Json { file: file.to_string(), source })?;
        Ok(Self { json })
    }

    /// A special token's text; it is written as a string or as an object with `content`.
    pub(crate) fn token(&self, field: &str) -> Option<&str> {
        let value = self.json.get(field)?;
        value.as_str().or_else(|| value.get("content")?.as_str())
    }

    pub(crate) fn chat_template(&self) -> Option<&Value> {
        self.json.get("chat_template").filter(|template| !template.is_null())
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
        let refused = |error: tokenizers::Error| ModelError::Tokenizer {
            file: file.to_string(),
            reason: error.to_string(),
        };
        let mut inner = tokenizers::Tokenizer::from_bytes(tokenizer).map_err(refused)?;
        inner.with_truncation(None).map_err(refused)?;
        inner.with_padding(None);
        let config = match config {
            Some(bytes) => TokenizerConfig::parse("tokenizer_config.json", bytes)?,
            None => TokenizerConfig::default(),
        };
        let id = |field: &'static str| match config.token(field) {
            None => Ok(None),
            Some(token) => inner
                .token_to_id(token)
                .map(Some)
                .ok_or_else(|| ModelError::SpecialToken { field, token: token.to_string() }),
        };
        let (eos, pad) = (id("eos_token")?, id("pad_token")?);
        Ok(Self { inner, eos, pad })
    }

    /// The tokens of `text`. Special tokens written out in the text become themselves; none are added.
    ///
    /// # Errors
    /// If the tokenizer library fails, which it does for no text in a byte-level vocabulary.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| ModelError::Tokenize { action: "encode", reason: error.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `tokens`, with or without special tokens. Bytes that are not whole UTF-8 give U+FFFD, ids
    /// without a token (the padding of the embedding) give nothing, and spaces are left as they are: as
    /// Hugging Face does with `clean_up_tokenization_spaces` off.
    ///
    /// # Errors
    /// If the tokenizer library fails.
    pub fn decode(&self, tokens: &[u32], skip_special: bool) -> Result<String> {
        self.inner
            .decode(tokens, skip_special)
            .map_err(|error| ModelError::Tokenize { action: "decode", reason: error.to_string() })
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
        let largest = self.inner.get_vocab(true).into_iter().max_by_key(|(_, id)| *id);
        match largest {
            Some((token, largest)) if largest as usize >= config.vocab_size => {
                Err(ModelError::VocabTooSmall { largest, token, vocab_size: config.vocab_size })
            }
            _ => Ok(()),
        }
    }
}
