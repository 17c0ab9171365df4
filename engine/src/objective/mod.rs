//! Log-probs and advantages become a loss.
//!
//! Before: [`crate::baseline`] gave each rollout an advantage. After: [`crate::gradient`] takes the loss's derivative
//! by each log-prob through the policy. Tensors are f32 on the CPU, rows are rollouts, columns completion tokens
//! padded on the right, shape `(batch, time)`; gradients flow through [`Tokens::log_probs`] only. Each row comes with
//! its weight in the whole mini-batch, so that a micro-batch need not know the others.

mod aggregate;
mod cispo;
mod grpo;
mod kl;
pub mod preference;
mod sapo;

pub use aggregate::Aggregate;
pub use cispo::Cispo;
pub use grpo::{ClipRange, Grpo, Level};
pub use kl::{Kl, KlEstimator, kl_k1, kl_k2, kl_k3};
pub use sapo::Sapo;

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// What an objective reads. All tensors are `(batch, time)` unless noted.
pub struct Tokens<'a> {
    /// ln π now, in nats: the one tensor that gradients flow through.
    pub log_probs: &'a Tensor,
    /// ln π at the start of the update.
    pub old_log_probs: &'a Tensor,
    /// ln π of the frozen reference, if the objective has a KL term.
    pub reference_log_probs: Option<&'a Tensor>,
    /// `(batch, 1)`.
    pub advantages: &'a Tensor,
    /// 1 where a token trains, else 0.
    pub mask: &'a Tensor,
    /// What a token of each row counts for in the mini-batch's mean, `(batch, 1)`; see [`Aggregate`].
    pub weights: &'a Tensor,
}

/// A loss, and sums over the tokens that the mask keeps, for metrics.
pub struct Loss {
    /// Scalar, to be minimised.
    pub loss: Tensor,
    /// How many tokens had their gradient cut off by a clip bound.
    pub clipped: f64,
    /// Sum of the KL estimates in nats; 0 without a KL term.
    pub kl: f64,
}

/// A surrogate whose gradient improves the policy.
pub trait Objective: Send + Sync {
    /// The loss of some rows; over the micro-batches of a mini-batch it adds up to the mini-batch's loss.
    ///
    /// # Errors
    /// If shapes differ, or a KL term has no reference.
    fn loss(&self, tokens: &Tokens<'_>) -> Result<Loss>;
    /// How rows become one number.
    fn aggregate(&self) -> Aggregate;
    /// The KL term, if there is one.
    fn kl(&self) -> Option<&Kl>;
}

/// Which objective a recipe chose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveConfig {
    /// Clipped ratios.
    Grpo(Grpo),
    /// Capped ratios as constant weights.
    Cispo(Cispo),
    /// A smooth gate in place of the clip.
    Sapo(Sapo),
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self::Grpo(Grpo::default())
    }
}

impl ObjectiveConfig {
    /// The chosen objective.
    pub fn build(&self) -> &dyn Objective {
        match self {
            Self::Grpo(objective) => objective,
            Self::Cispo(objective) => objective,
            Self::Sapo(objective) => objective,
        }
    }
}

/// exp(ln π − ln π_old) with the difference held within ±20, where e^20 is still a number.
fn ratio(difference: &Tensor) -> Result<Tensor> {
    difference.clamp(-20f32, 20f32)?.exp()
}

/// Adds the KL term to a token loss and sums up. Padding may hold anything, infinities included.
fn finish(
    token_loss: Tensor,
    ratio: &Tensor,
    kl: Option<&Kl>,
    clipped: &Tensor,
    t: &Tokens<'_>,
) -> Result<Loss> {
    let (token_loss, kl) = match kl {
        Some(kl) => {
            let estimate = kl.estimate(t, ratio)?;
            let sum = aggregate::masked(&estimate.detach(), t.mask)?.sum_all()?.to_scalar::<f32>()?;
            ((token_loss + (estimate * f64::from(kl.coefficient))?)?, f64::from(sum))
        }
        None => (token_loss, 0.0),
    };
    let loss = aggregate::masked(&token_loss, t.mask)?.broadcast_mul(t.weights)?.sum_all()?;
    let clipped = (clipped * t.mask)?.sum_all()?.to_scalar::<f32>()?;
    Ok(Loss { loss, clipped: f64::from(clipped), kl })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// Loss and gradient by ln π of single-token rows with ln π_old = 0.
    fn at(objective: &dyn Objective, ratio: f32, advantage: f32) -> (f32, f32) {
        let (loss, grad, _) = counted(objective, ratio, advantage);
        (loss, grad)
    }

    /// The same, and whether the token was counted as clipped.
    fn counted(objective: &dyn Objective, ratio: f32, advantage: f32) -> (f32, f32, bool) {
        let d = &Device::Cpu;
        let log_probs = Var::new(&[[ratio.ln()]], d).expect("var");
        let one = Tensor::new(&[[1f32]], d).expect("tensor");
        let tokens = Tokens {
            log_probs: log_probs.as_tensor(),
            old_log_probs: &Tensor::new(&[[0f32]], d).expect("tensor"),
            reference_log_probs: None,
            advantages: &Tensor::new(&[[advantage]], d).expect("tensor"),
            mask: &one,
            weights: &one,
        };
        let Loss { loss, clipped, .. } = objective.loss(&tokens).expect("loss");
        let grads = loss.backward().expect("backward");
        let grad = grads.get(&log_probs).map_or(0.0, |g| g.to_vec2::<f32>().expect("grad")[0][0]);
        (loss.to_scalar().expect("scalar"), grad, clipped == 1.0)
    }

    fn close(found: (f32, f32), wanted: (f32, f32)) {
        let near = |a: f32, b: f32| (a - b).abs() < 1e-5;
        assert!(near(found.0, wanted.0) && near(found.1, wanted.1), "{found:?} is not {wanted:?}");
    }

    #[test]
    fn the_clip_stops_the_gradient_on_the_side_where_it_would_go_too_far() {
        let grpo = Grpo { clip_low: ClipRange::new(0.2), clip_high: ClipRange::new(0.28), ..Grpo::default() };
        for (ratio, advantage, wanted) in [
            (0.5, 1.0, (-0.5, -0.5)),
            (1.25, 1.0, (-1.25, -1.25)),
            (1.5, 1.0, (-1.28, 0.0)),
            (0.5, -1.0, (0.8, 0.0)),
            (0.9, -1.0, (0.9, 0.9)),
            (1.5, -1.0, (1.5, 1.5)),
            (4.0, -1.0, (4.0, 4.0)),
        ] {
            close(at(&grpo, ratio, advantage), wanted);
        }
        let dual = Grpo { dual_clip: Some(3.0), ..grpo.clone() };
        close(at(&dual, 4.0, -1.0), (3.0, 0.0));
        close(at(&dual, 1.5, -1.0), (1.5, 1.5));
        let two_sided = Grpo { ratio_cap: Some(2.0), ..grpo };
        close(at(&two_sided, 4.0, -1.0), (2.0, 0.0));
    }

    #[test]
    fn the_tokens_counted_as_clipped_are_those_without_gradient() {
        for (dual_clip, ratio_cap) in
            [(None, None), (Some(1.6), None), (None, Some(2.0)), (None, Some(1.1)), (Some(3.0), Some(2.0))]
        {
            let grpo = Grpo { dual_clip, ratio_cap, ..Grpo::default() };
            for ratio in [0.5, 0.79, 0.85, 1.0, 1.05, 1.15, 1.25, 1.7, 2.5, 4.0] {
                for advantage in [-1.0, 2.0] {
                    let (_, grad, clipped) = counted(&grpo, ratio, advantage);
                    assert_eq!(clipped, grad == 0.0, "{grpo:?} at {ratio}, {advantage}");
                }
            }
        }
    }

    #[test]
    fn cispo_never_drops_a_token() {
        let cispo = Cispo { cap: 5.0, ..Cispo::default() };
        close(at(&cispo, 2.0, 1.0), (-2.0 * 2f32.ln(), -2.0));
        close(at(&cispo, 8.0, 1.0), (-5.0 * 8f32.ln(), -5.0));
    }

    #[test]
    fn sapo_has_slope_one_on_policy_and_gates_smoothly() {
        let sapo = Sapo { temperature_positive: 1.0, ..Sapo::default() };
        for (ratio, value, slope) in
            [(0.5, 1.510_163, 0.940_015), (1.0, 2.0, 1.0), (1.5, 2.489_837, 0.940_015)]
        {
            close(at(&sapo, ratio, 1.0), (-value, -slope * ratio)); // dρ/d ln π = ρ
        }
    }

    #[test]
    fn on_policy_every_objective_has_the_same_gradient() {
        for objective in [
            ObjectiveConfig::Grpo(Grpo::default()),
            ObjectiveConfig::Cispo(Cispo::default()),
            ObjectiveConfig::Sapo(Sapo::default()),
        ] {
            for advantage in [-0.7, 0.3] {
                assert!((at(objective.build(), 1.0, advantage).1 + advantage).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn sequence_level_ratios_are_geometric_means() {
        let d = &Device::Cpu;
        let gspo = Grpo {
            level: Level::Sequence,
            clip_low: ClipRange::new(0.5),
            clip_high: ClipRange::new(0.5),
            aggregate: Aggregate::SequenceMean,
            ..Grpo::default()
        };
        let log_probs = Var::new(&[[-0.9f32, -2.1, -0.4, f32::NEG_INFINITY]], d).expect("var");
        let tokens = Tokens {
            log_probs: log_probs.as_tensor(),
            old_log_probs: &Tensor::new(&[[-1f32, -2.0, -0.5, 0.0]], d).expect("tensor"),
            reference_log_probs: None,
            advantages: &Tensor::new(&[[1f32]], d).expect("tensor"),
            mask: &Tensor::new(&[[1f32, 1.0, 1.0, 0.0]], d).expect("tensor"),
            weights: &Tensor::new(&[[1f32 / 3.0]], d).expect("tensor"),
        };
        let loss = gspo.loss(&tokens).expect("loss").loss;
        assert!((loss.to_scalar::<f32>().expect("scalar") + 1.033_895).abs() < 1e-5);
        let grads = loss.backward().expect("backward");
        let grad = grads.get(&log_probs).expect("grad").to_vec2::<f32>().expect("vec");
        for g in &grad[0][..3] {
            assert!((g + 1.033_895 / 3.0).abs() < 1e-5, "{g}");
        }
        assert_eq!(grad[0][3], 0.0); // padding, though its log-prob is −∞
    }
}
