//! How the token losses of a mini-batch become one number.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// What the mean runs over. Every choice is a weight per row, found from the whole mini-batch's counts, so that
/// micro-batches change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// Over all tokens of the mini-batch (arXiv:2503.14476, DAPO).
    #[default]
    TokenMean,
    /// Over a row's tokens, then over rows that have any (arXiv:2402.03300, GRPO).
    SequenceMean,
    /// Sum over rows × a constant number of tokens (arXiv:2503.20783, Dr. GRPO).
    Constant {
        /// Tokens that a row counts as; 0 stands for the largest completion, and a plan puts that in its place.
        #[serde(default)]
        tokens: usize,
    },
}

impl Aggregate {
    /// Weight of a token of each row, from the number of trained tokens of every row of the mini-batch. `(rows,)`.
    pub fn weights(&self, lengths: &[usize]) -> Vec<f32> {
        let inverse = |n: usize| if n == 0 { 0.0 } else { (1.0 / n as f64) as f32 };
        let rows = lengths.iter().filter(|n| **n > 0).count();
        match self {
            Self::TokenMean => vec![inverse(lengths.iter().sum()); lengths.len()],
            Self::SequenceMean => lengths.iter().map(|n| inverse(rows * n)).collect(),
            Self::Constant { tokens } => vec![inverse(lengths.len() * tokens); lengths.len()],
        }
    }
}

/// x where the mask is 1, and exactly 0 elsewhere, whatever stands there: 0 · ∞ would not be 0.
pub(super) fn masked(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    mask.ne(0f32)?.where_cond(x, &x.zeros_like()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_match_the_published_numbers() {
        // Rows (1, 1, 1, 1) and (3, 3).
        for (aggregate, wanted) in [
            (Aggregate::TokenMean, 10.0 / 6.0),
            (Aggregate::SequenceMean, 2.0),
            (Aggregate::Constant { tokens: 8 }, 0.625),
        ] {
            let weights = aggregate.weights(&[4, 2]);
            let found = 4.0 * weights[0] + 6.0 * weights[1];
            assert!((found - wanted).abs() < 1e-6, "{aggregate:?}: {found}");
        }
    }

    #[test]
    fn rows_without_tokens_count_for_nothing() {
        assert_eq!(Aggregate::SequenceMean.weights(&[2, 0]), [0.5, 0.0]);
        assert_eq!(Aggregate::TokenMean.weights(&[0, 0]), [0.0, 0.0]);
    }
}
