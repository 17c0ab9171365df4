//! Tokens that `tokenizer_config.json` adds to those of `tokenizer.json`, as transformers does on loading.
//!
//! Before: both files. After: [`super::Tokenizer`] knows the same tokens as transformers' does, under the same ids.

use super::{ModelError, Result, TokenizerConfig};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use tokenizers::AddedToken;

/// A token of `added_tokens_decoder`, or a special token that is written as an object.
#[derive(Debug, Deserialize)]
struct Described {
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: Option<bool>,
}

impl Described {
    fn token(self) -> AddedToken {
        let normalized = self.normalized.unwrap_or(!self.special);
        AddedToken::from(self.content, self.special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(normalized)
    }
}

/// The tokens to add, in order, each with the id that the file gives it if it gives one: all of `added_tokens_decoder` by
/// id, then `additional_special_tokens`; those that are in `known` are left out.
///
/// # Errors
/// If a field is of another kind.
pub(super) fn missing(
    config: &TokenizerConfig,
    known: &HashSet<String>,
) -> Result<Vec<(Option<u32>, AddedToken)>> {
    let wrong = |field: &str, value: &Value, wanted: &str| ModelError::InvalidField {
        field: format!("{field} of tokenizer_config.json"),
        value: value.to_string(),
        wanted: wanted.to_string(),
    };
    let mut tokens: Vec<(Option<u32>, AddedToken)> = Vec::new();
    if let Some(value) = config.field("added_tokens_decoder") {
        let described: BTreeMap<u32, Described> = serde_json::from_value(value.clone()).map_err(|_| {
            wrong("added_tokens_decoder", value, "it must have a token with `content` by each id")
        })?;
        tokens.extend(described.into_iter().map(|(id, token)| (Some(id), token.token())));
    }
    if let Some(value) = config.field("additional_special_tokens") {
        let refused = || {
            wrong(
                "additional_special_tokens",
                value,
                "it must be a list of texts or of objects with `content`",
            )
        };
        for token in value.as_array().ok_or_else(refused)? {
            let text = token.as_str().or_else(|| token.get("content")?.as_str()).ok_or_else(refused)?;
            tokens.push((None, AddedToken::from(text, true)));
        }
    }
    let mut seen = known.clone();
    tokens.retain(|(_, token)| !token.content.is_empty() && seen.insert(token.content.clone()));
    Ok(tokens)
}
