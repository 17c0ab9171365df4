//! A completion as text while it grows, for display only.

use engine::model::{ModelError, Tokenizer};

/// Gives the text that each token adds. Bytes of a character that is not whole yet are held back.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    tokens: Vec<u32>,
    /// Tokens before these have been shown whole.
    begin: usize,
    /// Bytes of the text of `tokens[begin..]` that have been shown.
    shown: usize,
}

/// Tokens that a decoder may need before the next one to write it as it would within the whole text.
const CONTEXT: usize = 8;

impl<'a> TextStream<'a> {
    /// A stream that has shown nothing yet.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, tokens: Vec::new(), begin: 0, shown: 0 }
    }

    /// The text that a token completes; special tokens give none.
    ///
    /// # Errors
    /// If the tokenizer library fails.
    pub fn push(&mut self, token: u32) -> Result<String, ModelError> {
        self.tokens.push(token);
        let text = self.tokenizer.decode(&self.tokens[self.begin..], true)?;
        // what is not whole UTF-8 yet ends in the replacement character
        let whole = text.trim_end_matches('\u{fffd}');
        let new = whole.get(self.shown..).unwrap_or("").to_owned();
        self.shown = self.shown.max(whole.len());
        if whole.len() == text.len() && self.tokens.len() - self.begin > 4 * CONTEXT {
            self.begin = self.tokens.len() - CONTEXT;
            self.shown = self.tokenizer.decode(&self.tokens[self.begin..], true)?.len();
        }
        Ok(new)
    }

    /// The text that was held back, as it is.
    ///
    /// # Errors
    /// If the tokenizer library fails.
    pub fn finish(self) -> Result<String, ModelError> {
        let text = self.tokenizer.decode(&self.tokens[self.begin..], true)?;
        Ok(text.get(self.shown..).unwrap_or("").to_owned())
    }
}
