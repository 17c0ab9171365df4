//! Rows of tokens as the policy reads them.

/// Token ids of several rows, end to end and without padding.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sequences {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    lengths: Vec<usize>,
}

impl Sequences {
    /// Adds a row at positions 0, 1, 2 …
    pub fn push(&mut self, tokens: &[u32]) {
        self.push_at(tokens, 0..tokens.len() as u32);
    }

    /// Adds a row at positions of the caller's choice, one for each token; attention stays causal in row order.
    ///
    /// # Panics
    /// If there are not as many positions as tokens.
    pub fn push_at(&mut self, tokens: &[u32], positions: impl IntoIterator<Item = u32>) {
        self.tokens.extend_from_slice(tokens);
        self.positions.extend(positions);
        self.lengths.push(tokens.len());
        assert_eq!(self.tokens.len(), self.positions.len(), "a row needs one position a token");
    }

    /// Tokens of all rows.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Position of every token.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// Tokens of each row.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }
}
