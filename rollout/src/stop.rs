//! Where a completion ends, and its text.

use engine::model::{ModelError, Tokenizer};

/// What ends a completion beside its budget.
pub(crate) struct Stops<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) tokens: &'a [u32],
    pub(crate) texts: &'a [String],
}

impl Stops<'_> {
    pub(crate) fn is_stop_token(&self, token: u32) -> bool {
        self.tokens.contains(&token)
    }

    /// Whether the text of `tokens` holds a stop text that the last token completed. A token adds at least a byte,
    /// so that a stop text of n bytes lies within the last n tokens; a few more give the decoder its context.
    pub(crate) fn reached(&self, tokens: &[u32]) -> Result<bool, ModelError> {
        let Some(longest) = self.texts.iter().map(String::len).max() else { return Ok(false) };
        let text = self.tokenizer.decode(&tokens[tokens.len().saturating_sub(longest + 8)..], true)?;
        Ok(self.texts.iter().any(|stop| text.contains(stop.as_str())))
    }

    /// The completion as text: special tokens left out, and cut before the first stop text.
    pub(crate) fn text(&self, tokens: &[u32]) -> Result<String, ModelError> {
        let mut text = self.tokenizer.decode(tokens, true)?;
        if let Some(end) = self.texts.iter().filter_map(|stop| text.find(stop.as_str())).min() {
            text.truncate(end);
        }
        Ok(text)
    }
}
