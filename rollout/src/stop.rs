//! Where a completion ends, and its text.

use engine::model::{ModelError, Tokenizer};

/// Tokens and texts that end a completion, beside its budget.
pub(crate) struct Stops<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) tokens: Vec<u32>,
    pub(crate) texts: &'a [String],
    /// Tokens that a completion has at least.
    pub(crate) least: usize,
}

impl Stops<'_> {
    pub(crate) fn is_stop_token(&self, token: u32) -> bool {
        self.tokens.contains(&token)
    }

    /// True if the text of `tokens` holds a stop text that the last token completed. A token adds at least a byte,
    /// so that a stop text of n bytes lies within the last n tokens; a few more give the decoder its context.
    pub(crate) fn reached(&self, tokens: &[u32]) -> Result<bool, ModelError> {
        let Some(longest) = self.texts.iter().map(String::len).max() else { return Ok(false) };
        if tokens.len() < self.least {
            return Ok(false);
        }
        let text = self.tokenizer.decode(&tokens[tokens.len().saturating_sub(longest + 8)..], true)?;
        Ok(self.texts.iter().any(|stop| text.contains(stop.as_str())))
    }

    /// The completion as text: special tokens left out, and cut before the stop text that ended it, if one did.
    pub(crate) fn text(&self, tokens: &[u32], ended_by_text: bool) -> Result<String, ModelError> {
        let mut text = self.tokenizer.decode(tokens, true)?;
        if !ended_by_text {
            return Ok(text);
        }
        // one that came before `min_tokens` is text like any other
        let early = match self.least.min(tokens.len()) {
            0 => 0,
            least => self.tokenizer.decode(&tokens[..least - 1], true)?.len(),
        };
        let first = |stop: &String| {
            let begin = (early + 1).saturating_sub(stop.len());
            let begin = (begin..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
            Some(begin + text[begin..].find(stop.as_str())?)
        };
        if let Some(end) = self.texts.iter().filter_map(first).min() {
            text.truncate(end);
        }
        Ok(text)
    }
}
