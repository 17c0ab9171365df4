//! The decoder: one struct for Qwen2, Qwen2.5 and Qwen3, for sampling and for training.
//!
//! Before: a checkpoint's tensors. After: [`Policy::extend`] serves the sampler, [`Policy::forward`], [`Policy::score`]
//! and [`Policy::backward`] serve the trainer. There are two bodies: [`super::fused`] on the CPU, where sampler and
//! trainer get the same bits, and [`super::composed`] of candle ops on any other device.

use std::borrow::Cow;
use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use rand::{Rng, RngExt};

use super::body::{Body, ForwardTrace, Hidden, RowDerivatives};
use super::cache::RowBody;
use super::composed::Composed;
use super::error::Result;
use super::flat::{Flat, FlatLayout};
use super::fused::{Fused, RowGrads};
use super::weights::{Source, missing};
use super::{Grads, KvRow, ModelConfig, ModelError, Sequences};
use crate::kernels::{Buffer, Kernel, RowStats};

pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";
pub(super) const NORM: &str = "model.norm.weight";
pub(super) const HEAD: &str = "lm_head.weight";

/// How a policy computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compute {
    /// Own kernels on the CPU.
    Fused(Kernel),
    /// Candle's operations, on any device.
    Composed,
}

/// What a backward pass does about the values inside a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// Compute them once more from the layer's input: least memory.
    #[default]
    Layer,
    /// Keep them from the forward: 10 to 25 % faster.
    None,
}

/// What a pass over new tokens ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PassEnd {
    /// Hidden states after the last norm.
    Hidden,
    /// The normalised input of the last layer's MLP.
    MlpInput,
}

/// Tokens to be scored.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// The hidden state before each of them.
    pub places: &'a [u32],
    /// Their ids, one for each place.
    pub tokens: &'a [u32],
    /// Logits are divided by it; above 0.
    pub temperature: f64,
}

/// What a policy says of [`Targets`], all `(targets,)`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    /// ln π(target) in nats.
    pub log_probs: Vec<f32>,
    /// Entropy of the distribution that the target was scored under, in nats.
    pub entropy: Vec<f32>,
    /// Σ p² of that distribution.
    pub squares: Vec<f32>,
    /// The likeliest token and more of that distribution; empty where candle computes.
    pub rows: Vec<RowStats>,
}

/// A language model whose weights can be trained: f32, each under its name in the checkpoint.
pub struct Policy {
    config: ModelConfig,
    device: Device,
    recompute: Recompute,
    body: Box<dyn Body>,
}

impl Policy {
    /// A policy with these weights, which must be the very ones that the configuration asks for. On the CPU it computes
    /// in f32 by the fastest path there, elsewhere by candle.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape (names it and both shapes), or `EVENKEEL_KERNELS` names no path.
    pub fn new(config: ModelConfig, tensors: BTreeMap<String, Tensor>, device: &Device) -> Result<Self> {
        let compute = match device {
            Device::Cpu => Compute::Fused(Kernel::f32()?),
            _ => Compute::Composed,
        };
        Self::with_compute(config, tensors, device, compute)
    }

    /// The same with a choice of how to compute.
    ///
    /// # Errors
    /// As [`Self::new`], or if own kernels are asked for on a device other than the CPU.
    pub fn with_compute(
        config: ModelConfig,
        tensors: BTreeMap<String, Tensor>,
        device: &Device,
        compute: Compute,
    ) -> Result<Self> {
        check(&config, &tensors)?;
        let body: Box<dyn Body> = match compute {
            Compute::Fused(_) if !device.is_cpu() => return Err(ModelError::FusedElsewhere),
            Compute::Fused(kernel) => Box::new(Fused::new(&config, tensors, kernel)?),
            Compute::Composed => Box::new(Composed::new(config.clone(), tensors, device)?),
        };
        Ok(Self { config, device: device.clone(), recompute: Recompute::default(), body })
    }

    /// Random weights on the CPU: matrices from N(0, 0.02²), norms 1, biases 0.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn random_tensors(config: &ModelConfig, rng: &mut impl Rng) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        for (name, shape) in config.parameters() {
            let count = shape.iter().product();
            let values: Vec<f32> = if name.ends_with("norm.weight") {
                vec![1.0; count]
            } else if name.ends_with(".bias") {
                vec![0.0; count]
            } else {
                (0..count).map(|_| 0.02 * normal(rng)).collect()
            };
            tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu)?);
        }
        Ok(tensors)
    }

    /// A policy with [`Self::random_tensors`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn random(config: ModelConfig, rng: &mut impl Rng, device: &Device) -> Result<Self> {
        let tensors = Self::random_tensors(&config, rng)?;
        Self::new(config, tensors, device)
    }

    /// The same weights once more, apart from these: a frozen reference.
    ///
    /// # Errors
    /// If the device has no memory for it.
    pub fn copy(&self) -> Result<Self> {
        let body = self.body.copy()?;
        let (config, device) = (self.config.clone(), self.device.clone());
        Ok(Self { config, device, recompute: self.recompute, body })
    }

    /// Its shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where its weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How it computes.
    pub fn compute(&self) -> Compute {
        self.body.compute()
    }

    /// What its backward passes do about the values inside a layer. The composed body always recomputes.
    pub fn set_recompute(&mut self, recompute: Recompute) {
        self.recompute = recompute;
    }

    /// A copy of the weights under their names in the checkpoint, f32.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn tensors(&self) -> candle_core::Result<BTreeMap<String, Tensor>> {
        self.body.tensors()
    }

    /// A weight's numbers, in row-major order, by its name in the checkpoint.
    ///
    /// # Errors
    /// If there is no weight of that name.
    pub fn weight(&self, name: &str) -> Result<Cow<'_, [f32]>> {
        let unknown = || ModelError::UnknownTensor { name: name.to_owned() };
        Ok(self.body.numbers(name).ok_or_else(unknown)??)
    }

    /// Gives some weights new values, of the same shapes.
    ///
    /// # Errors
    /// If there is no weight of a name, or it has another shape.
    pub fn set(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let parameters: BTreeMap<String, Vec<usize>> = self.config.parameters().into_iter().collect();
        for (name, tensor) in tensors {
            let Some(expected) = parameters.get(name) else {
                return Err(ModelError::UnknownTensor { name: name.clone() });
            };
            if tensor.dims() != expected {
                let (found, expected) = (tensor.dims().to_vec(), expected.clone());
                return Err(ModelError::Shape {
                    name: name.clone(),
                    place: IN_MEMORY.into(),
                    found,
                    expected,
                });
            }
        }
        self.body.set(tensors)
    }

    /// All weights in one line, to be changed by `f`. `layout` is the one that `f` counts on.
    ///
    /// # Errors
    /// If the weights are laid out otherwise, or not in one line as candle computes: nothing has changed then.
    pub fn update_flat<R>(&mut self, layout: &FlatLayout, f: impl FnOnce(&mut Flat) -> R) -> Result<R> {
        if self.layout().is_none_or(|own| **own != *layout) {
            return Err(ModelError::Foreign);
        }
        let (mut f, mut result) = (Some(f), None);
        self.body.update(&mut |weights| result = f.take().map(|f| f(weights)))?;
        result.ok_or(ModelError::Foreign)
    }

    /// How weights and gradients lie in one line, where they do.
    pub(super) fn layout(&self) -> Option<&std::sync::Arc<FlatLayout>> {
        self.body.layout()
    }

    /// Bytes that [`Self::backward_rows`] keeps of a token, about.
    pub fn row_bytes_per_token(&self) -> usize {
        Self::row_bytes_per_token_of(&self.config, self.compute())
    }

    /// The same of a policy that is not there yet.
    pub fn row_bytes_per_token_of(c: &ModelConfig, compute: Compute) -> usize {
        let inputs = 2 * c.hidden_size + c.query_size() + c.intermediate_size;
        let outputs = c.query_size() + 2 * c.key_value_size() + 2 * c.hidden_size + 2 * c.intermediate_size;
        let numbers = c.num_hidden_layers * (inputs + outputs) + c.vocab_size + c.hidden_size;
        let bf16 = matches!(compute, Compute::Fused(kernel) if kernel.path().is_bf16());
        numbers * if bf16 { 2 } else { 4 } + 4 * c.hidden_size
    }

    /// A gradient of zeros for this policy.
    pub fn zero_grads(&self) -> Grads {
        Grads { body: self.body.zero_grads(), any: false }
    }

    /// Gives the memory of rows that are gone back to the system; until then the next rows use it.
    pub fn forget_rows(&self) {
        self.body.forget_rows();
    }

    /// Bytes of keys and values of so many neighbouring tokens of a sequence.
    pub fn kv_bytes(&self, tokens: usize) -> usize {
        self.body.kv_bytes(tokens)
    }

    pub(super) fn row(&self, capacity: usize) -> candle_core::Result<RowBody> {
        self.body.row(capacity)
    }

    /// Final hidden states of new tokens, row by row. Keys and values are added to the rows. A row's result depends on
    /// that row alone; with own kernels to the bit.
    ///
    /// # Errors
    /// If a row has no room for its tokens or is another policy's, a token is outside the vocabulary, or a layer gives
    /// numbers that are not finite (names the first).
    pub fn extend(&self, rows: &mut [(&mut KvRow, &[u32])]) -> Result<Hidden> {
        self.pass(rows, PassEnd::Hidden)
    }

    /// The normalised input of the last layer's MLP at new tokens, f32, `(new tokens of all rows, hidden)`, row by row. Keys and
    /// values are added to the rows; no logits are computed.
    ///
    /// # Errors
    /// As [`Self::extend`].
    pub fn mlp_input(&self, rows: &mut [(&mut KvRow, &[u32])]) -> Result<Buffer> {
        Ok(Buffer::from_slice(&self.pass(rows, PassEnd::MlpInput)?.numbers()?))
    }

    fn pass(&self, rows: &mut [(&mut KvRow, &[u32])], end: PassEnd) -> Result<Hidden> {
        for (row, new) in rows.iter() {
            let wanted = row.len() + new.len();
            if wanted > row.capacity() {
                return Err(ModelError::CacheFull { capacity: row.capacity(), wanted });
            }
            self.check_tokens(new)?;
        }
        self.body.extend(rows, end)
    }

    /// Logits of the token after each of the hidden states at `places`, `(places, vocab)` row by row.
    ///
    /// # Errors
    /// If a tensor operation fails.
    ///
    /// # Panics
    /// If a place is beyond the hidden states.
    pub fn logits(&self, hidden: &Hidden, places: &[u32]) -> Result<Buffer> {
        self.body.logits(hidden, places)
    }

    /// Final hidden states of whole sequences, and what a backward needs if `keep`.
    ///
    /// # Errors
    /// If a token is outside the vocabulary, or a layer gives numbers that are not finite (names the first).
    pub fn forward(&self, sequences: &Sequences, keep: bool) -> Result<(Hidden, Option<ForwardTrace>)> {
        self.check_tokens(sequences.tokens())?;
        self.body.forward(sequences, keep.then_some(self.recompute))
    }

    /// What the policy says of some targets. Nothing of shape `(tokens, vocab)` exists at any time.
    ///
    /// # Errors
    /// If a target is outside the vocabulary or a tensor operation fails.
    ///
    /// # Panics
    /// If there are not as many places as tokens, or a place is beyond the hidden states.
    pub fn score(&self, hidden: &Hidden, targets: &Targets<'_>) -> Result<Scores> {
        assert_eq!(targets.places.len(), targets.tokens.len(), "a target needs one place");
        self.check_tokens(targets.tokens)?;
        self.body.score(hidden, targets)
    }

    /// Backward of [`Self::forward`] and [`Self::score`], from what they took and gave: takes ∂L/∂ln π(target), one for
    /// each target, and ∂L/∂entropy, one for each or none at all, and adds the gradient of every parameter to `grads`.
    ///
    /// # Errors
    /// If a tensor operation fails, or trace, hidden states and gradient are another policy's.
    ///
    /// # Panics
    /// If there are not as many derivatives as targets, or the scores are of other targets.
    pub fn backward(
        &self,
        trace: ForwardTrace,
        hidden: &Hidden,
        targets: &Targets<'_>,
        scores: &Scores,
        (d_log_probs, d_entropy): (&[f32], &[f32]),
        grads: &mut Grads,
    ) -> Result<()> {
        let count = targets.tokens.len();
        assert!(targets.places.len() == count && d_log_probs.len() == count, "one derivative a target");
        assert!(
            d_entropy.is_empty() || d_entropy.len() == count,
            "one derivative of the entropy a target, or none"
        );
        self.body.backward(trace, hidden, targets, scores, (d_log_probs, d_entropy), &mut grads.body)?;
        grads.any = true;
        Ok(())
    }

    /// Backward of [`Self::forward`] and [`Self::score`] for each row by itself. A row's gradient is that of Σ d · ln π over
    /// its `scored` targets. Measures the rows and, with `keep`, keeps what [`Self::add_rows`] needs; no gradient is added
    /// up yet. `None` where candle computes: there rows go through [`Self::backward`] one at a time.
    ///
    /// # Errors
    /// If trace and hidden states are another policy's.
    ///
    /// # Panics
    /// As [`Self::backward`], or if `scored` does not add up to the targets.
    pub fn backward_rows(
        &self,
        trace: ForwardTrace,
        hidden: &Hidden,
        targets: &Targets<'_>,
        scores: &Scores,
        rows: &RowDerivatives<'_>,
    ) -> Result<Option<RowGrads>> {
        let count = targets.tokens.len();
        assert!(targets.places.len() == count && rows.d_log_probs.len() == count, "one derivative a target");
        assert_eq!(rows.scored.iter().sum::<usize>(), count, "targets of all rows");
        self.body.backward_rows(trace, hidden, targets, scores, rows)
    }

    /// ‖∂ Σ ln π/∂(head)‖² over each row's `scored` targets, with the temperature's factor: the exact gradient norm of the
    /// head alone, without a backward. A tied embedding's input side is not in it.
    ///
    /// # Errors
    /// If the hidden states are another policy's, or a tensor operation fails.
    ///
    /// # Panics
    /// If `scored` does not add up to the targets.
    pub fn head_norms(
        &self,
        hidden: &Hidden,
        targets: &Targets<'_>,
        scores: &Scores,
        scored: &[usize],
    ) -> Result<Vec<f64>> {
        assert_eq!(scored.iter().sum::<usize>(), targets.tokens.len(), "targets of all rows");
        self.body.head_norms(hidden, targets, scores, scored)
    }

    /// Adds Σ factor · gradient over rows that [`Self::backward_rows`] kept; rows with factor 0 cost nothing.
    ///
    /// # Errors
    /// If the gradient is another policy's.
    ///
    /// # Panics
    /// If there are not as many factors as rows, or the rows were not kept.
    pub fn add_rows(&self, rows: &RowGrads, factors: &[f32], grads: &mut Grads) -> Result<()> {
        self.body.add_rows(rows, factors, &mut grads.body)?;
        grads.any |= factors.iter().any(|factor| *factor != 0.0);
        Ok(())
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let vocab_size = self.config.vocab_size;
        match tokens.iter().find(|token| **token as usize >= vocab_size) {
            Some(token) => Err(ModelError::TokenOutside { token: *token, vocab_size }),
            None => Ok(()),
        }
    }
}

impl Source for Policy {
    fn entries(&self) -> Vec<(String, Vec<usize>)> {
        self.config.parameters()
    }

    fn tensor(&self, name: &str) -> candle_core::Result<Tensor> {
        self.body.tensor(name).ok_or_else(|| missing(name))?
    }

    fn numbers(&self, name: &str) -> candle_core::Result<Cow<'_, [f32]>> {
        self.body.numbers(name).ok_or_else(|| missing(name))?
    }
}

const IN_MEMORY: &str = "the weights in memory";

/// Whether the tensors are the configuration's, neither more nor fewer.
fn check(config: &ModelConfig, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let parameters = config.parameters();
    for (name, expected) in &parameters {
        match tensors.get(name) {
            None => {
                let (name, expected) = (name.clone(), expected.clone());
                return Err(ModelError::MissingTensor { name, place: IN_MEMORY.into(), expected });
            }
            Some(tensor) if tensor.dims() != expected => {
                let (name, found, expected) = (name.clone(), tensor.dims().to_vec(), expected.clone());
                return Err(ModelError::Shape { name, place: IN_MEMORY.into(), found, expected });
            }
            Some(_) => {}
        }
    }
    match tensors.keys().find(|name| !parameters.iter().any(|(known, _)| known == *name)) {
        Some(name) => Err(ModelError::UnknownTensor { name: name.clone() }),
        None => Ok(()),
    }
}

/// One draw from N(0, 1) by Box and Muller.
fn normal(rng: &mut impl Rng) -> f32 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    ((-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}
