//! Text to tokens and back, as the checkpoint's own `tokenizer.json` says.
//!
//! Before: a conversation or a plain text. After: [`super::causal`] reads the tokens.

use tokenizers::Tokenizer;

use super::chat::{Chat, special};
use super::folder::Folder;
use super::shape::{Shape, ids};
use data::{Message, guard};

/// What turns text into tokens.
pub(super) struct Text {
    tokenizer: Tokenizer,
    chat: Option<Chat>,
    /// How the special tokens are spelt.
    special: Vec<String>,
    /// Tokens that end a turn.
    pub(super) ends: Vec<u32>,
}

impl Text {
    pub(super) fn open(folder: &Folder, shape: &Shape) -> Result<Self, String> {
        let bytes = folder.require("tokenizer.json")?;
        let place = folder.place("tokenizer.json");
        let wrong = |error: tokenizers::Error| format!("{place} is no tokenizer: {error}");
        let mut tokenizer = guard(|| Tokenizer::from_bytes(bytes))
            .map_err(|panic| format!("{place} is no tokenizer: its library gave up: {panic}"))?
            .map_err(wrong)?;
        tokenizer.with_truncation(None).map_err(wrong)?;
        tokenizer.with_padding(None);
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
        if largest as usize >= shape.vocab {
            let vocab = shape.vocab;
            return Err(format!(
                "{place} has the token {largest}, but config.json a vocab_size of {vocab} only"
            ));
        }
        // as transformers decides: generation_config.json first, then config.json, then the tokenizer
        let mut ends = vec![];
        for file in ["generation_config.json", "config.json"] {
            if ends.is_empty() {
                let json = folder.json(file)?.unwrap_or_default();
                ends = ids(&json, "eos_token_id").map_err(|why| format!("{}: {why}", folder.place(file)))?;
            }
        }
        let config = folder.json("tokenizer_config.json")?.unwrap_or_default();
        if ends.is_empty() {
            ends.extend(special(&config, "eos_token").and_then(|token| tokenizer.token_to_id(token)));
        }
        let added = tokenizer.get_added_tokens_decoder().into_values();
        let special = added.filter(|token| token.special).map(|token| token.content).collect();
        Ok(Self { tokenizer, chat: Chat::open(folder)?, special, ends })
    }

    /// Whether the checkpoint has a chat template.
    pub(super) fn has_chat(&self) -> bool {
        self.chat.is_some()
    }

    /// The tokens of a conversation. The template writes all special tokens itself.
    pub(super) fn chat(
        &self,
        messages: &[Message],
        open: bool,
        thinking: Option<bool>,
    ) -> Result<Vec<u32>, String> {
        let chat = self.chat.as_ref().ok_or("the checkpoint has no chat template")?;
        self.encode(&chat.render(messages, open, thinking)?, false)
    }

    /// The tokens of a text, with those that the tokenizer puts around one.
    pub(super) fn plain(&self, text: &str) -> Result<Vec<u32>, String> {
        self.encode(text, true)
    }

    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, String> {
        let encoding = guard(|| self.tokenizer.encode_fast(text, special))
            .map_err(|panic| format!("cannot tokenise: the tokenizer's library gave up: {panic}"))?;
        Ok(encoding.map_err(|error| format!("cannot tokenise: {error}"))?.get_ids().to_vec())
    }

    /// The text of tokens, without special ones.
    pub(super) fn decode(&self, tokens: &[u32]) -> Result<String, String> {
        guard(|| self.tokenizer.decode(tokens, true))
            .map_err(|panic| format!("cannot decode: the tokenizer's library gave up: {panic}"))?
            .map_err(|error| format!("cannot decode: {error}"))
    }

    /// The text with a space inside of whatever spells a special token, so that it cannot end its turn and speak as
    /// somebody else.
    pub(super) fn harmless(&self, text: &str) -> String {
        self.special.iter().fold(text.to_owned(), |text, token| {
            let Some(first) = token.chars().next().filter(|_| text.contains(token.as_str())) else {
                return text;
            };
            let (head, rest) = token.split_at(first.len_utf8());
            text.replace(token.as_str(), &format!("{head} {rest}"))
        })
    }
}
