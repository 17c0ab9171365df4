//! Log-probs and advantages become a loss.
//!
//! Before: [`crate::baseline`] gave each token an advantage. After: [`crate::gradient`] takes the loss's derivative
//! by each log-prob through the policy. Tensors are f32 on the CPU, rows are rollouts, columns completion tokens
//! padded on the right, shape `(batch, time)`; gradients flow through [`Tokens::log_probs`] and, with an entropy bonus,
//! [`Tokens::entropy`]. A surrogate gives each token a loss; [`LossConfig`] corrects it for another sampler, adds the KL
//! term and the entropy bonus, and sums up. Each row comes with its weight in the whole mini-batch, so that a
//! micro-batch need not know the others.

mod aggregate;
mod cispo;
mod correction;
mod gmpo;
mod grpo;
mod kl;
pub mod preference;
mod reinforce;
mod sapo;

pub use aggregate::Aggregate;
pub use cispo::Cispo;
pub use correction::{Correction, CorrectionLevel, CorrectionMetrics, CorrectionMode, CorrectionStats};
pub use gmpo::Gmpo;
pub use grpo::{ClipRange, Grpo, RatioLevel};
pub use kl::{Kl, KlEstimator, KlPlace, kl_k1, kl_k2, kl_k3};
pub use reinforce::Reinforce;
pub use sapo::Sapo;

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// What an objective reads. All tensors are `(batch, time)` unless noted.
pub struct Tokens<'a> {
    /// ln π now, in nats.
    pub log_probs: &'a Tensor,
    /// Entropy of the distribution that each token was drawn from, in nats.
    pub entropy: &'a Tensor,
    /// ln π at the start of the update.
    pub old_log_probs: &'a Tensor,
    /// ln π as the sampler recorded it.
    pub sampled_log_probs: &'a Tensor,
    /// ln π of the frozen reference, if there is a KL term.
    pub reference_log_probs: Option<&'a Tensor>,
    /// Reward minus baseline, scaled; `(batch, time)` or `(batch, 1)`.
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
    /// Sum of the KL estimates in nats; 0 without a KL term in the loss.
    pub kl: f64,
    /// What the correction for another sampler did.
    pub correction: CorrectionStats,
}

impl Loss {
    /// A loss with nothing to count.
    pub fn plain(loss: Tensor) -> Self {
        Self { loss, clipped: 0.0, kl: 0.0, correction: CorrectionStats::default() }
    }
}

/// What a surrogate says of single tokens, all `(batch, time)`. Padding may hold anything.
pub struct Surrogate {
    /// Loss of each token, to be minimised.
    pub losses: Tensor,
    /// π/π_old.
    pub ratio: Tensor,
    /// 1 where a clip bound cut the gradient off or capped the weight, else 0.
    pub clipped: Tensor,
}

/// A surrogate whose gradient improves the policy. On policy, where π = π_old, each has the gradient −A ∂ln π of a token.
pub trait Objective: Send + Sync {
    /// The loss of each token.
    ///
    /// # Errors
    /// If shapes differ.
    fn surrogate(&self, tokens: &Tokens<'_>) -> Result<Surrogate>;
}

/// Which objective a recipe chose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveConfig {
    /// Clipped ratios, of tokens or of sequences.
    Grpo(Grpo),
    /// Capped ratios as constant weights.
    Cispo(Cispo),
    /// A smooth gate in place of the clip.
    Sapo(Sapo),
    /// The geometric mean of clipped ratios.
    Gmpo(Gmpo),
    /// No ratio at all.
    Reinforce(Reinforce),
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
            Self::Gmpo(objective) => objective,
            Self::Reinforce(objective) => objective,
        }
    }
}

/// A surrogate and what is added to it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LossConfig {
    /// The loss of each token.
    pub objective: ObjectiveConfig,
    /// How tokens become one number.
    pub aggregate: Aggregate,
    /// Pull towards a frozen reference.
    pub kl: Option<Kl>,
    /// How much a nat of the policy's entropy earns; 0 leaves it out.
    pub entropy_bonus: f32,
    /// What is done about a sampler whose probabilities differ from the trainer's.
    pub correction: Option<Correction>,
}

impl LossConfig {
    /// The KL term of the loss, if there is one there.
    pub fn kl_in_loss(&self) -> Option<&Kl> {
        self.kl.as_ref().filter(|kl| kl.place == KlPlace::Loss)
    }

    /// Whether a row's gradient is 0 where its advantages are: nothing is added to the surrogate.
    pub fn is_surrogate_alone(&self) -> bool {
        self.kl_in_loss().is_none() && self.entropy_bonus == 0.0
    }

    /// The loss of some rows; over the micro-batches of a mini-batch it adds up to the mini-batch's loss. Padding may hold
    /// anything, infinities included.
    ///
    /// # Errors
    /// If shapes differ, or a KL term has no reference.
    pub fn loss(&self, t: &Tokens<'_>) -> Result<Loss> {
        let Surrogate { mut losses, ratio, clipped } = self.objective.build().surrogate(t)?;
        let mut stats = CorrectionStats::default();
        if let Some(correction) = &self.correction {
            let (weights, seen) = correction.weights(t)?;
            (losses, stats) = ((aggregate::masked(&losses, t.mask)? * weights)?, seen);
        }
        let mut kl = 0.0;
        if let Some(term) = self.kl_in_loss() {
            let estimate = term.estimate(t, &ratio)?;
            let sum = aggregate::masked(&estimate.detach(), t.mask)?.sum_all()?.to_scalar::<f32>()?;
            (losses, kl) = ((losses + (estimate * f64::from(term.coefficient))?)?, f64::from(sum));
        }
        if self.entropy_bonus != 0.0 {
            let entropy = aggregate::masked(t.entropy, t.mask)?;
            losses = (losses - (entropy * f64::from(self.entropy_bonus))?)?;
        }
        let loss = aggregate::masked(&losses, t.mask)?.broadcast_mul(t.weights)?.sum_all()?;
        let clipped = (clipped * t.mask)?.sum_all()?.to_scalar::<f32>()?;
        Ok(Loss { loss, clipped: f64::from(clipped), kl, correction: stats })
    }
}

/// exp(ln π − ln π_old) with the difference held within ±20, where e^20 is still a number.
fn ratio(difference: &Tensor) -> Result<Tensor> {
    difference.clamp(-20f32, 20f32)?.exp()
}

/// ln π − ln π_old, and 0 in padding.
fn difference(t: &Tokens<'_>) -> Result<Tensor> {
    aggregate::masked(&(t.log_probs - t.old_log_probs)?, t.mask)
}

/// The mean over each row's tokens, in every place of the row.
fn row_mean(values: &Tensor, t: &Tokens<'_>) -> Result<Tensor> {
    let tokens = t.mask.sum_keepdim(1)?.maximum(1f32)?;
    values.sum_keepdim(1)?.broadcast_div(&tokens)?.broadcast_as(t.mask.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// Loss and gradient by ln π of single-token rows with ln π_old = 0.
    fn at(objective: &ObjectiveConfig, ratio: f32, advantage: f32) -> (f32, f32) {
        let (loss, grad, _) = counted(objective, ratio, advantage);
        (loss, grad)
    }

    /// The same, and whether the token was counted as clipped.
    fn counted(objective: &ObjectiveConfig, ratio: f32, advantage: f32) -> (f32, f32, bool) {
        let d = &Device::Cpu;
        let log_probs = Var::new(&[[ratio.ln()]], d).expect("var");
        let one = Tensor::new(&[[1f32]], d).expect("tensor");
        let zero = Tensor::new(&[[0f32]], d).expect("tensor");
        let tokens = Tokens {
            log_probs: log_probs.as_tensor(),
            entropy: &zero,
            old_log_probs: &zero,
            sampled_log_probs: &zero,
            reference_log_probs: None,
            advantages: &Tensor::new(&[[advantage]], d).expect("tensor"),
            mask: &one,
            weights: &one,
        };
        let Loss { loss, clipped, .. } =
            LossConfig { objective: objective.clone(), ..LossConfig::default() }.loss(&tokens).expect("loss");
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
            close(at(&ObjectiveConfig::Grpo(grpo.clone()), ratio, advantage), wanted);
        }
        let dual = Grpo { dual_clip: Some(3.0), ..grpo.clone() };
        let at = |grpo: &Grpo, ratio, advantage| at(&ObjectiveConfig::Grpo(grpo.clone()), ratio, advantage);
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
                    let (_, grad, clipped) = counted(&ObjectiveConfig::Grpo(grpo.clone()), ratio, advantage);
                    assert_eq!(clipped, grad == 0.0, "{grpo:?} at {ratio}, {advantage}");
                }
            }
        }
    }

    #[test]
    fn cispo_never_drops_a_token() {
        let cispo = ObjectiveConfig::Cispo(Cispo { cap: 5.0, ..Cispo::default() });
        close(at(&cispo, 2.0, 1.0), (-2.0 * 2f32.ln(), -2.0));
        close(at(&cispo, 8.0, 1.0), (-5.0 * 8f32.ln(), -5.0));
    }

    #[test]
    fn sapo_has_slope_one_on_policy_and_gates_smoothly() {
        let sapo = ObjectiveConfig::Sapo(Sapo { temperature_positive: 1.0, ..Sapo::default() });
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
            ObjectiveConfig::Gmpo(Gmpo::default()),
            ObjectiveConfig::Reinforce(Reinforce::default()),
        ] {
            for advantage in [-0.7, 0.3] {
                assert!((at(&objective, 1.0, advantage).1 + advantage).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn sequence_level_ratios_are_geometric_means() {
        let d = &Device::Cpu;
        let gspo = Grpo {
            level: RatioLevel::Sequence,
            clip_low: ClipRange::new(0.5),
            clip_high: ClipRange::new(0.5),
            ..Grpo::default()
        };
        let gspo = LossConfig {
            objective: ObjectiveConfig::Grpo(gspo),
            aggregate: Aggregate::SequenceMean,
            ..LossConfig::default()
        };
        let log_probs = Var::new(&[[-0.9f32, -2.1, -0.4, f32::NEG_INFINITY]], d).expect("var");
        let old = Tensor::new(&[[-1f32, -2.0, -0.5, 0.0]], d).expect("tensor");
        let tokens = Tokens {
            log_probs: log_probs.as_tensor(),
            entropy: &old,
            old_log_probs: &old,
            sampled_log_probs: &old,
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
