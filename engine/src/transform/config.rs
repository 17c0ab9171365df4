//! What a recipe says of the optimizer: one by its name, or a chain of transforms.

use serde::{Deserialize, Serialize};

use super::{
    AddDecayedWeights, Chain, ClipByGlobalNorm, Link, Orthogonalize, ScaleByAdam, ScaleByFactor,
    ScaleByLearningRate, ScaleByLion, Trace, Transform,
};
use crate::model::ParameterKind;

/// Which optimizer a recipe chose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OptimizerConfig {
    /// Adam with decoupled weight decay.
    Adamw(AdamW),
    /// Gradient descent, with momentum if wanted.
    Sgd(Sgd),
    /// The sign of momentum.
    Lion(Lion),
    /// Orthogonalised momentum for matrices, AdamW for the rest.
    Muon(Muon),
    /// Transforms of the recipe's own, the first one nearest to the gradients, as `[[rl.optimizer.chain]]`.
    Chain(Vec<TransformConfig>),
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::Adamw(AdamW::default())
    }
}

/// Adam with decoupled weight decay, after a clip of the gradients' global norm. Moments and weights are f32.
///
/// # Source
/// Kingma & Ba, arXiv:1412.6980; Loshchilov & Hutter, arXiv:1711.05101.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AdamW {
    /// Largest share of the last first moment that is kept.
    pub beta1: Beta,
    /// The same of the second moment.
    pub beta2: Beta,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Share of a matrix that a step at learning rate 1 takes away; norms and biases do not decay.
    pub weight_decay: f64,
    /// Gradients above this global norm are scaled down to it; 0 leaves them.
    pub max_grad_norm: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        let ScaleByAdam { beta1, beta2, epsilon } = ScaleByAdam::default();
        Self { beta1, beta2, epsilon, weight_decay: 0.0, max_grad_norm: 1.0 }
    }
}

/// Gradient descent, after a clip of the gradients' global norm, with momentum and decoupled weight decay if wanted.
///
/// # Source
/// As PyTorch's SGD, but for the decay, which is decoupled: Loshchilov & Hutter, arXiv:1711.05101.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Sgd {
    /// Share of the momentum that an update keeps; 0 for none.
    pub momentum: Beta,
    /// Whether the momentum looks ahead.
    pub nesterov: bool,
    /// Share of a matrix that a step at learning rate 1 takes away; norms and biases do not decay.
    pub weight_decay: f64,
    /// Gradients above this global norm are scaled down to it; 0 leaves them.
    pub max_grad_norm: f64,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { momentum: Beta(0.0), nesterov: false, weight_decay: 0.0, max_grad_norm: 1.0 }
    }
}

/// The sign of an interpolated momentum, after a clip of the gradients' global norm, with decoupled weight decay. Every weight
/// changes by about the learning rate, so a learning rate is 3 to 10 times smaller than AdamW's.
///
/// # Source
/// Chen et al., arXiv:2302.06675.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Lion {
    /// Weight of the momentum in the direction.
    pub beta1: Beta,
    /// Share of the momentum that an update keeps.
    pub beta2: Beta,
    /// Share of a matrix that a step at learning rate 1 takes away; norms and biases do not decay.
    pub weight_decay: f64,
    /// Gradients above this global norm are scaled down to it; 0 leaves them.
    pub max_grad_norm: f64,
}

impl Default for Lion {
    fn default() -> Self {
        let ScaleByLion { beta1, beta2 } = ScaleByLion::default();
        Self { beta1, beta2, weight_decay: 0.0, max_grad_norm: 1.0 }
    }
}

/// Orthogonalised momentum for the matrices between hidden states and AdamW for all else, after a clip of the gradients' global
/// norm. Changes of matrices are as large as AdamW's, so a learning rate of AdamW serves for both.
///
/// # Source
/// Jordan et al., Muon, 2024; Liu et al., arXiv:2502.16982.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Muon {
    /// Share of the momentum that an update keeps.
    pub momentum: Beta,
    /// Whether the momentum looks ahead.
    pub nesterov: bool,
    /// Newton–Schulz iterations.
    pub iterations: usize,
    /// Adam's, for embedding, head, norms and biases.
    pub adam: ScaleByAdam,
    /// Share of a matrix that a step at learning rate 1 takes away; norms and biases do not decay.
    pub weight_decay: f64,
    /// Gradients above this global norm are scaled down to it; 0 leaves them.
    pub max_grad_norm: f64,
}

impl Default for Muon {
    fn default() -> Self {
        let Orthogonalize { momentum, nesterov, iterations } = Orthogonalize::default();
        let adam = ScaleByAdam::default();
        Self { momentum, nesterov, iterations, adam, weight_decay: 0.0, max_grad_norm: 1.0 }
    }
}

/// A transform in a chain: exactly one of them, and the kinds of parameters that it is for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct TransformConfig {
    /// Bounds the norm of all gradients together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_by_global_norm: Option<ClipByGlobalNorm>,
    /// Divides by the root of the second moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_by_adam: Option<ScaleByAdam>,
    /// Takes the sign of momentum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_by_lion: Option<ScaleByLion>,
    /// Adds momentum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// Orthogonalises the momentum of matrices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orthogonalize: Option<Orthogonalize>,
    /// Pulls weights towards zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_decayed_weights: Option<AddDecayedWeights>,
    /// Multiplies by a constant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<ScaleByFactor>,
    /// Multiplies by minus the learning rate: the last of a chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_by_learning_rate: Option<ScaleByLearningRate>,
    /// The kinds of parameters that it is for; all of them if there are none here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<ParameterKind>,
}

impl TransformConfig {
    /// Those that are given.
    fn given(&self) -> Vec<Box<dyn Transform>> {
        fn boxed<T: Transform + Copy + 'static>(transform: &Option<T>) -> Option<Box<dyn Transform>> {
            transform.map(|transform| Box::new(transform) as Box<dyn Transform>)
        }
        let all = [
            boxed(&self.clip_by_global_norm),
            boxed(&self.scale_by_adam),
            boxed(&self.scale_by_lion),
            boxed(&self.trace),
            boxed(&self.orthogonalize),
            boxed(&self.add_decayed_weights),
            boxed(&self.scale),
            boxed(&self.scale_by_learning_rate),
        ];
        all.into_iter().flatten().collect()
    }
}

/// A decay rate in [0, 1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "f64", into = "f64")]
pub struct Beta(f64);

impl Beta {
    /// One that is known to be in its range.
    pub(super) const fn new(beta: f64) -> Self {
        assert!(beta >= 0.0 && beta < 1.0);
        Self(beta)
    }
}

impl From<Beta> for f64 {
    fn from(beta: Beta) -> f64 {
        beta.0
    }
}

impl TryFrom<f64> for Beta {
    type Error = String;
    fn try_from(beta: f64) -> std::result::Result<Self, String> {
        if (0.0..1.0).contains(&beta) {
            Ok(Self(beta))
        } else {
            Err(format!("a decay rate is at least 0 and below 1, not {beta}"))
        }
    }
}

impl OptimizerConfig {
    /// Every choice with its defaults, under its name in recipes.
    pub fn all() -> Vec<(&'static str, Self)> {
        vec![
            ("adamw", Self::Adamw(AdamW::default())),
            ("sgd", Self::Sgd(Sgd::default())),
            ("lion", Self::Lion(Lion::default())),
            ("muon", Self::Muon(Muon::default())),
            ("chain", Self::Chain(AdamW::default().chain())),
        ]
    }

    /// The chain of transforms that it stands for.
    pub fn build(&self) -> Chain {
        let transforms = match self {
            Self::Adamw(adamw) => adamw.chain(),
            Self::Sgd(sgd) => {
                let momentum = f64::from(sgd.momentum) > 0.0;
                let trace = Trace { momentum: sgd.momentum, nesterov: sgd.nesterov };
                let direction =
                    momentum.then(|| TransformConfig { trace: Some(trace), ..Default::default() });
                usual(sgd.max_grad_norm, direction, sgd.weight_decay)
            }
            Self::Lion(Lion { beta1, beta2, weight_decay, max_grad_norm }) => {
                let lion = ScaleByLion { beta1: *beta1, beta2: *beta2 };
                let direction = TransformConfig { scale_by_lion: Some(lion), ..Default::default() };
                usual(*max_grad_norm, [direction], *weight_decay)
            }
            Self::Muon(Muon { momentum, nesterov, iterations, adam, weight_decay, max_grad_norm }) => {
                let (matrices, rest): (Vec<_>, Vec<_>) =
                    ParameterKind::ALL.into_iter().partition(|kind| *kind == ParameterKind::Matrix);
                let muon =
                    Orthogonalize { momentum: *momentum, nesterov: *nesterov, iterations: *iterations };
                let directions = [
                    TransformConfig { orthogonalize: Some(muon), kinds: matrices, ..Default::default() },
                    TransformConfig { scale_by_adam: Some(*adam), kinds: rest, ..Default::default() },
                ];
                usual(*max_grad_norm, directions, *weight_decay)
            }
            Self::Chain(transforms) => transforms.clone(),
        };
        let link = |config: &TransformConfig| {
            config
                .given()
                .into_iter()
                .map(|transform| Link::boxed(transform, &config.kinds))
                .collect::<Vec<_>>()
        };
        Chain::new(transforms.iter().flat_map(link).collect())
    }

    /// AdamW's settings, where one pass over weights, gradients and moments does what the chain does.
    pub(crate) fn fused(&self) -> Option<&AdamW> {
        match self {
            Self::Adamw(adamw) => Some(adamw),
            _ => None,
        }
    }

    /// What would make no sense, if anything.
    pub fn problem(&self) -> Option<String> {
        let Self::Chain(transforms) = self else { return None };
        for (place, config) in transforms.iter().enumerate() {
            let given = config.given();
            if given.len() != 1 {
                let names: Vec<&str> = given.iter().map(|transform| transform.name()).collect();
                return Some(format!(
                    "transform {} of optimizer.chain has {}; wanted exactly one",
                    place + 1,
                    if names.is_empty() { "none".into() } else { names.join(", ") }
                ));
            }
        }
        let rates = transforms.iter().filter(|config| config.scale_by_learning_rate.is_some()).count();
        let last = transforms
            .last()
            .is_some_and(|config| config.scale_by_learning_rate.is_some() && config.kinds.is_empty());
        (rates != 1 || !last).then(|| {
            "optimizer.chain must end in scale_by_learning_rate = {}, for all kinds and only there: it makes of what stands \
             before it a change that goes downhill"
                .into()
        })
    }
}

impl AdamW {
    /// How it scales gradients.
    pub(crate) fn scale_by_adam(&self) -> ScaleByAdam {
        ScaleByAdam { beta1: self.beta1, beta2: self.beta2, epsilon: self.epsilon }
    }

    /// The chain that it stands for.
    pub fn chain(&self) -> Vec<TransformConfig> {
        let direction = TransformConfig { scale_by_adam: Some(self.scale_by_adam()), ..Default::default() };
        usual(self.max_grad_norm, [direction], self.weight_decay)
    }
}

/// A clip and a decay around what gives the direction, where they do anything.
fn usual(
    max_grad_norm: f64,
    directions: impl IntoIterator<Item = TransformConfig>,
    weight_decay: f64,
) -> Vec<TransformConfig> {
    let clip = ClipByGlobalNorm { max_norm: max_grad_norm };
    let clip = (max_grad_norm > 0.0)
        .then(|| TransformConfig { clip_by_global_norm: Some(clip), ..Default::default() });
    let decay = AddDecayedWeights { decay: weight_decay, all: false };
    let decay = (weight_decay > 0.0)
        .then(|| TransformConfig { add_decayed_weights: Some(decay), ..Default::default() });
    let rate = TransformConfig { scale_by_learning_rate: Some(ScaleByLearningRate {}), ..Default::default() };
    clip.into_iter().chain(directions).chain(decay).chain([rate]).collect()
}
