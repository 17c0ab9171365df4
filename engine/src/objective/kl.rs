//! Estimates of the divergence from a frozen reference, token by token.
//!
//! With d = ln π − ln π_ref on tokens drawn from π. As a *loss*, with the samples fixed, k1 has gradient 0 in
//! expectation, k2 has that of KL(π ‖ π_ref), and k3 that of KL(π_ref ‖ π), the other direction.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::Tokens;

/// A KL term in the loss or in the reward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(from = "Written")]
pub struct Kl {
    /// β: what the estimate is multiplied with.
    pub coefficient: f32,
    /// Which estimate; by default k3 in the loss and k1 in the reward, where it is always k1.
    pub estimator: KlEstimator,
    /// Multiply the estimate by π/π_old, so that it stays unbiased off policy, as TRL does; in the loss only.
    pub importance_weighted: bool,
    /// Where it counts.
    pub place: KlPlace,
}

/// As recipes have it: the default estimate depends on the place.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Kl"))]
#[serde(deny_unknown_fields)]
struct Written {
    /// β: what the estimate is multiplied with.
    coefficient: f32,
    /// Which estimate; by default k3 in the loss and k1 in the reward, where it is always k1.
    estimator: Option<KlEstimator>,
    /// Multiply the estimate by π/π_old, so that it stays unbiased off policy, as TRL does; in the loss only.
    #[serde(default)]
    importance_weighted: bool,
    /// Where it counts.
    #[serde(default)]
    place: KlPlace,
}

impl From<Written> for Kl {
    fn from(written: Written) -> Self {
        let Written { coefficient, estimator, importance_weighted, place } = written;
        let usual = match place {
            KlPlace::Loss => KlEstimator::K3,
            KlPlace::Reward => KlEstimator::K1,
        };
        Self { coefficient, estimator: estimator.unwrap_or(usual), importance_weighted, place }
    }
}

/// Where a KL term counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum KlPlace {
    /// It is added to the loss of every token.
    #[default]
    Loss,
    /// β d is taken from the reward of every token that it belongs to, with d = ln π_old − ln π_ref held constant: the
    /// exact policy gradient of KL(π ‖ π_ref). The estimator is k1 there: k3 would add −KL(π_ref ‖ π) to what is
    /// minimised, and k2 is biased.
    Reward,
}

/// Which estimate of the divergence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// d: unbiased, signed. Its gradient as a loss is 0 in expectation; it is here to be compared.
    K1,
    /// d²/2: gradient of KL(π ‖ π_ref).
    K2,
    /// e^−d − 1 + d: unbiased and never negative; gradient of KL(π_ref ‖ π).
    #[default]
    K3,
    /// The value of k1 with the gradient of k2, hence of KL(π ‖ π_ref).
    K1Plus,
    /// The value of k3 with the gradient of k2, hence of KL(π ‖ π_ref).
    K3Plus,
}

impl KlEstimator {
    /// As recipes spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::K1 => "k1",
            Self::K2 => "k2",
            Self::K3 => "k3",
            Self::K1Plus => "k1_plus",
            Self::K3Plus => "k3_plus",
        }
    }
}

impl Kl {
    pub(super) fn estimate(&self, t: &Tokens<'_>, ratio: &Tensor) -> Result<Tensor> {
        let reference = t.reference_log_probs.ok_or_else(|| {
            candle_core::Error::Msg(
                "the objective has a KL term but no reference log-probs were given".into(),
            )
        })?;
        let reference = super::aggregate::masked(reference, t.mask)?;
        let log_probs = super::aggregate::masked(t.log_probs, t.mask)?;
        let estimate = match self.estimator {
            KlEstimator::K1 => kl_k1(&log_probs, &reference),
            KlEstimator::K2 => kl_k2(&log_probs, &reference),
            KlEstimator::K3 => kl_k3(&log_probs, &reference),
            KlEstimator::K1Plus => straight_through(kl_k1, &log_probs, &reference),
            KlEstimator::K3Plus => straight_through(kl_k3, &log_probs, &reference),
        }?;
        if self.importance_weighted { estimate * ratio } else { Ok(estimate) }
    }
}

/// The value of one estimate with the gradient of k2.
fn straight_through(
    value: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    log_probs: &Tensor,
    reference: &Tensor,
) -> Result<Tensor> {
    let gradient = kl_k2(log_probs, reference)?;
    (&gradient - gradient.detach())? + value(log_probs, reference)?.detach()
}

/// Per-token estimate of KL(π ‖ π_ref) in nats: d = ln π − ln π_ref. Unbiased if the tokens were drawn from π, and
/// signed. Arguments and result have one shape; gradients flow through `log_probs`.
/// # Errors
/// If the shapes differ.
/// # Source
/// J. Schulman, *Approximating KL Divergence* (2020), estimator k1.
pub fn kl_k1(log_probs: &Tensor, reference_log_probs: &Tensor) -> Result<Tensor> {
    log_probs - reference_log_probs
}

/// d²/2, as [`kl_k1`]: biased at O(d³), low variance.
/// # Errors
/// If the shapes differ.
/// # Source
/// J. Schulman, *Approximating KL Divergence* (2020), estimator k2.
pub fn kl_k2(log_probs: &Tensor, reference_log_probs: &Tensor) -> Result<Tensor> {
    (log_probs - reference_log_probs)?.sqr()? * 0.5
}

/// e^−d − 1 + d, as [`kl_k1`]: unbiased and never negative. The difference is held within ±20.
/// # Errors
/// If the shapes differ.
/// # Source
/// J. Schulman, *Approximating KL Divergence* (2020), estimator k3.
pub fn kl_k3(log_probs: &Tensor, reference_log_probs: &Tensor) -> Result<Tensor> {
    let d = (log_probs - reference_log_probs)?.clamp(-20f32, 20f32)?;
    (d.neg()?.exp()? + &d)? - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{D, Device, Var};

    const POLICY: [f64; 3] = [0.5, 0.3, 0.2];
    const REFERENCE: [f64; 3] = [0.4, 0.4, 0.2];

    type Estimator = fn(&Tensor, &Tensor) -> Result<Tensor>;

    /// Expectation over π, and its gradient by π's logits with the samples held fixed.
    fn expectation(estimator: Estimator) -> (f64, Vec<f64>) {
        let d = &Device::Cpu;
        let log = |p: [f64; 3]| Tensor::new(&p.map(f64::ln), d).expect("tensor");
        let logits = Var::from_tensor(&log(POLICY)).expect("var");
        let sum = logits.exp().and_then(|e| e.sum_keepdim(D::Minus1)).and_then(|s| s.log()).expect("sum");
        let log_probs = logits.broadcast_sub(&sum).expect("log_probs");
        let value = estimator(&log_probs, &log(REFERENCE)).expect("kl");
        let mean = (value * Tensor::new(&POLICY, d).expect("p")).and_then(|x| x.sum_all()).expect("mean");
        let grad = mean.backward().expect("backward").get(&logits).expect("grad").to_vec1().expect("vec");
        (mean.to_scalar().expect("scalar"), grad)
    }

    #[test]
    fn values_and_gradients_are_those_of_the_divergences_they_stand_for() {
        for (estimator, value, gradient) in [
            (kl_k1 as Estimator, 0.025_267_2, [0.0, 0.0, 0.0]),
            (kl_k2, 0.024_862_4, [0.098_938, -0.093_885, -0.005_053]), // ∇KL(π ‖ π_ref)
            (kl_k3, 0.025_267_2, [0.1, -0.1, 0.0]),                    // ∇KL(π_ref ‖ π) = π − π_ref
            (|a, b| straight_through(kl_k3, a, b), 0.025_267_2, [0.098_938, -0.093_885, -0.005_053]),
        ] {
            let (found, grad) = expectation(estimator);
            assert!((found - value).abs() < 1e-7, "{found}");
            for (found, wanted) in grad.iter().zip(gradient) {
                assert!((found - wanted).abs() < 1e-6, "{grad:?}");
            }
        }
    }
}
