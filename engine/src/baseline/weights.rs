//! What a rollout counts for in a weighted baseline.

use serde::{Deserialize, Serialize};

/// What stands for ‖∇ ln π(y | x)‖², from cheapest to exact. A baseline's excess variance is quadratic in its error, so
/// weights that rank rollouts rightly have most of the gain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// 1.
    #[default]
    Uniform,
    /// Tokens: right if all tokens have equal and orthogonal gradients (OPO, arXiv:2505.23585).
    Length,
    /// Σₜ ‖onehot(yₜ) − πₜ‖²: exact in terms of logits. One log-prob pass.
    Logit,
    /// ‖Σₜ (onehot(yₜ) − πₜ) hₜᵀ‖²: exact for the output head. One log-prob pass and the head once more.
    LmHead,
    /// Exact, over all parameters: from the ledger, in the same backward where the loss allows it.
    Full,
    /// ‖D ∇ ln π‖² with D = 1/(√v̂ + ε) of Adam: exact in the metric in which Adam steps. One backward a rollout more.
    FullAdam,
}

impl Weights {
    /// All, from cheapest to exact.
    pub const ALL: [Self; 6] =
        [Self::Uniform, Self::Length, Self::Logit, Self::LmHead, Self::Full, Self::FullAdam];

    /// Whether rollouts are weighed by exact norms, over all parameters.
    pub fn is_exact(self) -> bool {
        matches!(self, Self::Full | Self::FullAdam)
    }

    /// As recipes spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Length => "length",
            Self::Logit => "logit",
            Self::LmHead => "lm_head",
            Self::Full => "full",
            Self::FullAdam => "full_adam",
        }
    }

    /// Whether the log-prob pass must look.
    pub fn needs_pass(self) -> bool {
        matches!(self, Self::Logit | Self::LmHead)
    }

    /// Whether single rollouts must go through a backward.
    pub fn needs_gradients(self) -> bool {
        matches!(self, Self::Full | Self::FullAdam)
    }
}

/// The weights of some rollouts in each way that was asked for; empty where it was not. Shape `(rollouts,)`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowWeights {
    /// Tokens.
    pub length: Vec<f64>,
    /// See [`Weights::Logit`].
    pub logit: Vec<f64>,
    /// See [`Weights::LmHead`].
    pub lm_head: Vec<f64>,
    /// See [`Weights::Full`] and [`Weights::FullAdam`].
    pub full: Vec<f64>,
}

impl RowWeights {
    /// Those of one way.
    ///
    /// # Panics
    /// If it was not asked for.
    pub fn get(&self, weights: Weights, row: usize) -> f64 {
        match weights {
            Weights::Uniform => 1.0,
            Weights::Length => self.length[row],
            Weights::Logit => self.logit[row],
            Weights::LmHead => self.lm_head[row],
            Weights::Full | Weights::FullAdam => self.full[row],
        }
    }
}
