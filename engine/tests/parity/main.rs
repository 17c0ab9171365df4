//! The same numbers as PyTorch, transformers and TRL on tiny Qwen2 and Qwen3 checkpoints, in f32.

mod losses;
mod model;
mod steps;

#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use common::{Completions, Fixture, flat, kept, near, near_number, near_tensor, tensors};
use engine::baseline::{BaselineConfig, Group, Scale, advantages, rescale};
use engine::gradient::{self, Gradients, Sequence};
use engine::kernels::Kernel;
use engine::model::{Compute, KvRow, ModelConfig, Policy, Sequences, Targets};
use engine::objective::preference::{Pairs, PreferenceLoss};
use engine::objective::{
    Aggregate, Cispo, ClipRange, Grpo, Kl, KlEstimator, KlPlace, Loss, LossConfig, ObjectiveConfig,
    RatioLevel, Sapo, Tokens,
};
use engine::optimizer::Optimizer;
use engine::schedule::Schedule;
use engine::transform::{
    AddDecayedWeights, Beta, Chain, ClipByGlobalNorm, Link, ScaleByAdam, ScaleByLearningRate,
};
use rand::SeedableRng;
use serde_json::Value;

/// Padded tokens of a pass where one pass should hold everything.
const ALL: usize = 1 << 20;

/// Mean −ln π over every token of the left-padded batch but each row's first, with its gradient.
fn nll(f: &Fixture, policy: &Policy) -> Gradients {
    let prompts = f.prompts();
    let sequences: Vec<Sequence<'_>> =
        prompts.iter().map(|row| Sequence { prompt: &row[..1], completion: &row[1..] }).collect();
    let tokens: usize = sequences.iter().map(|s| s.completion.len()).sum();
    assert_eq!(f.json["nll"]["tokens"], tokens);
    gradient::gradients(policy, &sequences, 40, 1.0, &|padded| {
        let loss = (padded.log_probs.sum_all()? * (-1.0 / tokens as f64))?;
        Ok(Loss::plain(loss))
    })
    .expect("gradients")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}
