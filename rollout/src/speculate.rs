//! Guesses at the next tokens from what was written before.
//!
//! The guesses are read in one pass with the last token, and each is drawn as it would have been without them: a draw is a
//! function of its logits and of (seed, step, prompt, place, token), and logits do not depend on how tokens are
//! portioned. So a guess is either what would have been drawn or is thrown away; a completion and its log-probs are the
//! same bits with and without.
//!
//! # Source
//! Saxena (2023), prompt lookup decoding; the acceptance rule of Leviathan et al., arXiv:2211.17192, with draws that are
//! fixed beforehand becomes equality.

use serde::{Deserialize, Serialize};

/// How to guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Speculate {
    /// Guesses of a row in a pass at most.
    pub tokens: usize,
    /// Last tokens that must have occurred before, in the prompt or the completion: what followed is the guess.
    pub ngram: usize,
    /// Tokens of a pass, all rows together, beyond which nothing is guessed: with more rows a pass costs more than the
    /// guesses save.
    pub pass_tokens: usize,
}

impl Default for Speculate {
    fn default() -> Self {
        Self { tokens: 4, ngram: 3, pass_tokens: 8 }
    }
}

impl Speculate {
    /// The first setting that makes no sense, as an error message.
    pub fn problem(&self) -> Option<String> {
        let zero = [("tokens", self.tokens), ("ngram", self.ngram), ("pass_tokens", self.pass_tokens)];
        let (name, _) = zero.into_iter().find(|(_, value)| *value == 0)?;
        Some(format!("speculate.{name} is 0; wanted at least 1"))
    }

    /// Guesses that each of so many rows may have.
    pub(crate) fn guesses(&self, rows: usize) -> usize {
        self.tokens.min((self.pass_tokens / rows.max(1)).saturating_sub(1))
    }

    /// The tokens that followed when the last ones occurred before, latest occurrence first.
    pub(crate) fn guess(&self, prompt: &[u32], tokens: &[u32], count: usize) -> Vec<u32> {
        if count == 0 || prompt.len() + tokens.len() <= self.ngram {
            return Vec::new();
        }
        let all = [prompt, tokens].concat();
        let last = &all[all.len() - self.ngram..];
        let found = (0..all.len() - self.ngram).rev().find(|at| all[*at..].starts_with(last));
        found.map_or(Vec::new(), |at| all[at + self.ngram..].iter().take(count).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_before_is_guessed() {
        let s = Speculate { tokens: 3, ngram: 2, pass_tokens: 8 };
        assert_eq!(s.guess(&[1, 2, 3, 4], &[9, 1, 2], 3), [3, 4, 9]);
        assert_eq!(s.guess(&[1, 2, 3, 1, 2, 5], &[9, 1, 2], 1), [5], "the latest");
        assert_eq!(s.guess(&[7, 7, 7], &[], 3), [7], "up to its own end");
        assert!(s.guess(&[1, 2, 3], &[4], 3).is_empty());
        assert!(s.guess(&[1], &[2], 3).is_empty());
        assert_eq!([1, 2, 4, 5].map(|rows| s.guesses(rows)), [3, 3, 1, 0]);
    }
}
