//! How the token losses of a mini-batch become one number.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// What the mean runs over. Every choice is a weight per row, found from the whole mini-batch's counts, so that
/// micro-batches change nothing. Where groups differ in size, each counts as much as one of the mean size.
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
    /// Weight of a token of each row, from the number of trained tokens of every row of the mini-batch and from how much each
    /// row counts, which is 1 on average. `(rows,)`.
    pub fn weights(&self, lengths: &[usize], shares: &[f64]) -> Vec<f32> {
        let part = |share: f64, whole: f64| if whole == 0.0 { 0.0 } else { (share / whole) as f32 };
        let rows = || lengths.iter().zip(shares);
        match self {
            Self::TokenMean => {
                let tokens: f64 = rows().map(|(n, share)| *n as f64 * share).sum();
                shares.iter().map(|share| part(*share, tokens)).collect()
            }
            Self::SequenceMean => {
                let trained: f64 = rows().filter(|(n, _)| **n > 0).map(|(_, share)| share).sum();
                rows().map(|(n, share)| part(*share, trained * *n as f64)).collect()
            }
            Self::Constant { tokens } => {
                shares.iter().map(|share| part(*share, (lengths.len() * tokens) as f64)).collect()
            }
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
            let weights = aggregate.weights(&[4, 2], &[1.0; 2]);
            let found = 4.0 * weights[0] + 6.0 * weights[1];
            assert!((found - wanted).abs() < 1e-6, "{aggregate:?}: {found}");
        }
    }

    #[test]
    fn rows_without_tokens_count_for_nothing() {
        assert_eq!(Aggregate::SequenceMean.weights(&[2, 0], &[1.0; 2]), [0.5, 0.0]);
        assert_eq!(Aggregate::TokenMean.weights(&[0, 0], &[1.0; 2]), [0.0, 0.0]);
    }

    #[test]
    fn groups_of_any_size_count_alike() {
        // a group of one and a group of three, 4 tokens a row: each group's tokens weigh one half together
        let shares = [2.0, 2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0];
        for aggregate in [Aggregate::TokenMean, Aggregate::SequenceMean, Aggregate::Constant { tokens: 4 }] {
            let weights = aggregate.weights(&[4; 4], &shares);
            assert!((weights[0] * 4.0 - 0.5).abs() < 1e-6, "{aggregate:?}: {weights:?}");
            assert!(
                (weights[1..].iter().sum::<f32>() * 4.0 - 0.5).abs() < 1e-6,
                "{aggregate:?}: {weights:?}"
            );
        }
    }
}
