//! Losses on pairs of completions, one preferred to the other.
//!
//! Before: log-probs of both completions, summed over their tokens, by the policy and by a frozen reference. After:
//! the gradient goes back through the policy's two sums. Arguments and results are `(pairs,)`, in nats.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// Summed log-probs of pairs, each `(pairs,)`; gradients flow through the policy's.
pub struct Pairs<'a> {
    /// ln π of the preferred completion.
    pub chosen: &'a Tensor,
    /// ln π of the other.
    pub rejected: &'a Tensor,
    /// ln π_ref of the preferred completion.
    pub reference_chosen: &'a Tensor,
    /// ln π_ref of the other.
    pub reference_rejected: &'a Tensor,
    /// Tokens of the preferred completion, for losses that take means.
    pub chosen_tokens: &'a Tensor,
    /// Tokens of the other.
    pub rejected_tokens: &'a Tensor,
}

/// Which loss, with its β where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PreferenceLoss {
    /// −ln σ(h), h = β(Δchosen − Δrejected) with Δ = ln π − ln π_ref (arXiv:2305.18290, DPO). With `smoothing` ε
    /// the labels are wrong that often: −(1−ε) ln σ(h) − ε ln σ(−h).
    Sigmoid {
        /// β.
        #[serde(default = "beta")]
        beta: f64,
        /// ε.
        #[serde(default)]
        smoothing: f64,
    },
    /// max(0, 1 − h) (arXiv:2305.10425, SLiC).
    Hinge {
        /// β.
        beta: f64,
    },
    /// (Δ̄chosen − Δ̄rejected − 1/2β)², Δ̄ per token (arXiv:2310.12036, IPO).
    Ipo {
        /// β.
        beta: f64,
    },
    /// (−(1−ε) ln σ(h) + ε ln σ(−h)) / (1 − 2ε): unbiased under labels wrong with probability ε
    /// (arXiv:2403.00409, robust DPO).
    Robust {
        /// β.
        beta: f64,
        /// ε, below ½.
        smoothing: f64,
    },
    /// 1 − σ(βΔchosen) + σ(βΔrejected): chosen up, rejected down (arXiv:2408.06266, APO-zero).
    ApoZero {
        /// β.
        beta: f64,
    },
    /// [`Self::Sigmoid`] on differences per token.
    SigmoidPerToken {
        /// β.
        beta: f64,
    },
    /// −ln σ(β (ln π⁺/|y⁺| − ln π⁻/|y⁻|) − γ): no reference (arXiv:2405.14734, SimPO).
    Simpo {
        /// β.
        beta: f64,
        /// γ, the margin that is asked for.
        margin: f64,
    },
}

/// The default of the paper on DPO.
fn beta() -> f64 {
    0.1
}

impl Default for PreferenceLoss {
    fn default() -> Self {
        Self::Sigmoid { beta: beta(), smoothing: 0.0 }
    }
}

impl PreferenceLoss {
    /// The loss of each pair, `(pairs,)`.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn losses(&self, pairs: &Pairs<'_>) -> Result<Tensor> {
        let chosen = (pairs.chosen - pairs.reference_chosen)?;
        let rejected = (pairs.rejected - pairs.reference_rejected)?;
        let per_token = || (&chosen / pairs.chosen_tokens)? - (&rejected / pairs.rejected_tokens)?;
        let margin = |beta: f64| (&chosen - &rejected)? * beta;
        match *self {
            Self::Sigmoid { beta, smoothing } => {
                let h = margin(beta)?;
                (softplus(&h.neg()?)? * (1.0 - smoothing))? + (softplus(&h)? * smoothing)?
            }
            Self::Hinge { beta } => (1.0 - margin(beta)?)?.relu(),
            Self::Ipo { beta } => (per_token()? - 1.0 / (2.0 * beta))?.sqr(),
            Self::Robust { beta, smoothing } => {
                let h = margin(beta)?;
                let sum = ((softplus(&h.neg()?)? * (1.0 - smoothing))? - (softplus(&h)? * smoothing)?)?;
                sum / (1.0 - 2.0 * smoothing)
            }
            Self::ApoZero { beta } => (1.0 - sigmoid(&(&chosen * beta)?)?)? + sigmoid(&(&rejected * beta)?)?,
            Self::SigmoidPerToken { beta } => softplus(&(per_token()? * -beta)?),
            Self::Simpo { beta, margin } => {
                let mean = |sum: &Tensor, tokens: &Tensor| sum / tokens;
                let apart = (mean(pairs.chosen, pairs.chosen_tokens)?
                    - mean(pairs.rejected, pairs.rejected_tokens)?)?;
                softplus(&(margin - (apart * beta)?)?)
            }
        }
    }
}

/// ln(1 + eˣ) as max(x, 0) + ln(1 + e^−|x|), which does not overflow.
fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    ((x * 0.5)?.tanh()? + 1.0)? * 0.5
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn the_worked_number_of_dpo_and_its_gradient() {
        let one = |x: f64| Tensor::new(&[x], &Device::Cpu).expect("tensor");
        let chosen = Var::new(&[-12f64], &Device::Cpu).expect("var");
        let loss = PreferenceLoss::Sigmoid { beta: 0.1, smoothing: 0.0 }
            .losses(&Pairs {
                chosen: chosen.as_tensor(),
                rejected: &one(-15.0),
                reference_chosen: &one(-13.0),
                reference_rejected: &one(-14.0),
                chosen_tokens: &one(1.0),
                rejected_tokens: &one(1.0),
            })
            .expect("loss");
        assert!((loss.to_vec1::<f64>().expect("vec")[0] - 0.598_139).abs() < 1e-6);
        let grad =
            loss.backward().expect("backward").get(&chosen).expect("grad").to_vec1::<f64>().expect("vec");
        assert!((grad[0] + 0.045_016_6).abs() < 1e-7);
    }
}
