//! Weights for a sampler whose probabilities are not the trainer's.
//!
//! With w = π_old/π_sampled, both at the weights that sampled. In this process they are the same numbers and w is 1; an
//! external engine, other arithmetic or older weights make them differ.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{Tokens, aggregate::masked};

/// Truncated or masked importance sampling. The weight is a constant: no gradient flows through it.
///
/// # Source
/// Truncated: Ionides (2008), for sampler and trainer Yao et al. (2025), "TIS". Masked: IcePop (2025), "MIS".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Correction {
    /// What a weight belongs to.
    pub level: CorrectionLevel,
    /// What becomes of weights out of bounds.
    pub mode: CorrectionMode,
    /// Largest weight.
    pub upper: f32,
    /// Least weight.
    pub lower: f32,
    /// Rows whose mean of w − 1 − ln w is above it are left out; 0 leaves none out.
    pub max_kl: f32,
}

impl Default for Correction {
    fn default() -> Self {
        Self {
            level: CorrectionLevel::Token,
            mode: CorrectionMode::Truncate,
            upper: 2.0,
            lower: 0.0,
            max_kl: 0.0,
        }
    }
}

/// What a weight belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CorrectionLevel {
    /// A token: low variance, biased in the prefix.
    #[default]
    Token,
    /// A row, the product of its tokens' weights: unbiased before bounds, high variance.
    Sequence,
    /// A row, the geometric mean of its tokens' weights: a measure of distance, for `mask` only.
    Geometric,
}

/// What becomes of weights out of bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CorrectionMode {
    /// They are set to the bound.
    #[default]
    Truncate,
    /// They are set to 0.
    Mask,
}

/// What the weights of some tokens were.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CorrectionStats {
    /// Tokens.
    pub count: f64,
    /// Σ w, after the bounds.
    pub sum: f64,
    /// Σ w², after the bounds.
    pub squares: f64,
    /// The largest before the bounds.
    pub max: f64,
    /// Tokens whose weight was out of bounds.
    pub bounded: f64,
}

crate::numbers! {
    /// Importance weights for another sampler.
    pub struct CorrectionMetrics {
        /// (Σ w)² / (n Σ w²): the share of the tokens that the weighted ones are worth.
        correction_effective_share: Option<f64> = "share";
        /// Largest weight before any bound.
        correction_max: Option<f64> = "";
        /// Share of tokens whose weight was out of bounds.
        correction_bounded: Option<f64> = "share";
    }
}

impl From<CorrectionStats> for CorrectionMetrics {
    fn from(stats: CorrectionStats) -> Self {
        Self {
            correction_effective_share: stats.effective_share(),
            correction_max: Some(stats.max),
            correction_bounded: Some(stats.bounded / stats.count.max(1.0)),
        }
    }
}

impl CorrectionStats {
    /// Takes others in.
    pub fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
        self.max = self.max.max(other.max);
        self.bounded += other.bounded;
    }

    /// (Σ w)² / (n Σ w²): the share of the tokens that the weighted ones are worth; `None` of none.
    pub fn effective_share(&self) -> Option<f64> {
        (self.count > 0.0 && self.squares > 0.0).then(|| self.sum * self.sum / (self.count * self.squares))
    }
}

impl Correction {
    /// The weight of every token, `(batch, time)`, and what the weights were.
    ///
    /// # Errors
    /// If shapes differ.
    pub(super) fn weights(&self, t: &Tokens<'_>) -> Result<(Tensor, CorrectionStats)> {
        let difference = masked(&(t.old_log_probs - t.sampled_log_probs)?.detach(), t.mask)?;
        let tokens = t.mask.sum_keepdim(1)?.maximum(1f32)?;
        let of_rows = |x: Tensor| x.broadcast_as(t.mask.shape());
        let log_weights = match self.level {
            CorrectionLevel::Token => difference.clone(),
            CorrectionLevel::Sequence => of_rows(difference.sum_keepdim(1)?)?,
            CorrectionLevel::Geometric => of_rows(difference.sum_keepdim(1)?.broadcast_div(&tokens)?)?,
        };
        let raw = super::ratio(&log_weights)?;
        let held = raw.clamp(self.lower, self.upper)?;
        let outside = raw.ne(&held)?;
        let mut weights = match self.mode {
            CorrectionMode::Truncate => held,
            CorrectionMode::Mask => outside.where_cond(&raw.zeros_like()?, &raw)?,
        };
        if self.level == CorrectionLevel::Geometric {
            // a measure of distance only: rows that stay keep their weight of 1
            weights = weights.gt(0f32)?.to_dtype(raw.dtype())?;
        }
        if self.max_kl > 0.0 {
            let token = super::ratio(&difference)?;
            let kl =
                masked(&((token - 1.0)? - &difference)?, t.mask)?.sum_keepdim(1)?.broadcast_div(&tokens)?;
            weights = of_rows(kl.le(self.max_kl)?.to_dtype(raw.dtype())?)?.mul(&weights)?;
        }
        let sum =
            |x: &Tensor| -> Result<f64> { Ok(f64::from(masked(x, t.mask)?.sum_all()?.to_scalar::<f32>()?)) };
        let stats = CorrectionStats {
            count: sum(&raw.ones_like()?)?,
            sum: sum(&weights)?,
            squares: sum(&weights.sqr()?)?,
            max: f64::from(masked(&raw, t.mask)?.max_all()?.to_scalar::<f32>()?),
            bounded: sum(&outside.to_dtype(raw.dtype())?)?,
        };
        Ok((weights, stats))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// The published case: ln π_old = (−1, −0.5, −3), ln π_sampled = (−1.2, −0.5, −4).
    fn weights(correction: Correction) -> (Vec<f32>, CorrectionStats) {
        let tensor = |x: [f32; 4]| Tensor::new(&[x], &Device::Cpu).expect("tensor");
        // the last place is padding
        let (old, sampled) = (tensor([-1.0, -0.5, -3.0, f32::NAN]), tensor([-1.2, -0.5, -4.0, 0.0]));
        let (mask, one) = (tensor([1.0, 1.0, 1.0, 0.0]), Tensor::new(&[[1f32]], &Device::Cpu).expect("one"));
        let tokens = Tokens {
            log_probs: &old,
            entropy: &mask,
            old_log_probs: &old,
            sampled_log_probs: &sampled,
            reference_log_probs: None,
            advantages: &one,
            mask: &mask,
            weights: &one,
        };
        let (weights, stats) = correction.weights(&tokens).expect("weights");
        (weights.to_vec2::<f32>().expect("grid")[0][..3].to_vec(), stats)
    }

    fn close(found: &[f32], wanted: [f32; 3]) {
        assert!(found.iter().zip(wanted).all(|(f, w)| (f - w).abs() < 1e-5), "{found:?} is not {wanted:?}");
    }

    #[test]
    fn weights_match_the_published_numbers() {
        let (found, stats) = weights(Correction::default());
        close(&found, [1.221_403, 1.0, 2.0]);
        assert!((stats.effective_share().expect("some") - 0.915_009).abs() < 1e-5, "{stats:?}");
        assert!((stats.max - 1f64.exp()).abs() < 1e-5 && stats.bounded == 1.0 && stats.count == 3.0);
        let (found, _) = weights(Correction { mode: CorrectionMode::Mask, ..Correction::default() });
        close(&found, [1.221_403, 1.0, 0.0]);
        let sequence = Correction { level: CorrectionLevel::Sequence, ..Correction::default() };
        let (found, stats) = weights(sequence);
        close(&found, [2.0; 3]); // 3.320117 before the bound
        assert!((stats.max - 3.320_117).abs() < 1e-5);
        let geometric = |upper| Correction {
            level: CorrectionLevel::Geometric,
            mode: CorrectionMode::Mask,
            upper,
            ..Correction::default()
        };
        close(&weights(geometric(1.6)).0, [1.0; 3]); // 1.491825 is within
        close(&weights(geometric(1.4)).0, [0.0; 3]);
        // mean of w − 1 − ln w is 0.246562
        close(&weights(Correction { max_kl: 0.25, ..Correction::default() }).0, [1.221_403, 1.0, 2.0]);
        close(&weights(Correction { max_kl: 0.24, ..Correction::default() }).0, [0.0; 3]);
    }
}
