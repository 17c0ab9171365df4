//! Tiny checkpoints and the numbers that PyTorch, transformers and TRL computed for them in f32.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Tensor};
use engine::kernels::Kernel;
use engine::model::{Compute, ModelConfig, Policy};
use serde_json::Value;

pub(crate) const MODELS: [&str; 3] = ["qwen2-tiny", "qwen3-tiny", "qwen3-tiny-untied"];

/// A checkpoint with its golden numbers.
pub(crate) struct Fixture {
    pub(crate) name: &'static str,
    pub(crate) policy: Policy,
    pub(crate) json: Value,
    golden: HashMap<String, Tensor>,
}

impl Fixture {
    pub(crate) fn load(name: &'static str) -> Self {
        Self::computing(name, Compute::Fused(Kernel::f32().expect("a path")))
    }

    /// The three models, each computed in f32 by own kernels and by candle.
    pub(crate) fn both_ways() -> impl Iterator<Item = Self> {
        let ways = [Compute::Fused(Kernel::f32().expect("a path")), Compute::Composed];
        MODELS.into_iter().flat_map(move |name| ways.map(|way| Self::computing(name, way)))
    }

    /// A model that computes in a certain way.
    pub(crate) fn computing(name: &'static str, compute: Compute) -> Self {
        let text = std::fs::read_to_string(path(name, "config.json")).expect("config");
        let config = ModelConfig::from_json(&text).expect("config");
        let text = std::fs::read_to_string(path(name, "golden.json")).expect("golden numbers");
        let weights = tensors(name, "model.safetensors");
        let policy = Policy::with_compute(config, weights, &Device::Cpu, compute).expect("policy");
        let golden = tensors(name, "golden.safetensors").into_iter().collect();
        Self { name, policy, golden, json: serde_json::from_str(&text).expect("JSON") }
    }

    /// A golden tensor, if it is there.
    pub(crate) fn get(&self, name: &str) -> Option<&Tensor> {
        self.golden.get(name)
    }

    /// Golden tensors whose names begin with `prefix`, under what follows it.
    pub(crate) fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Tensor)> {
        self.golden.iter().filter_map(move |(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)))
    }

    /// Ids, positions or a mask, `(batch, time)`.
    pub(crate) fn ids(&self, name: &str) -> Vec<Vec<u32>> {
        let rows = self.golden[name].to_vec2::<i64>().expect("ids");
        rows.into_iter().map(|row| row.into_iter().map(|id| id as u32).collect()).collect()
    }

    /// One number a token, `(batch, time)`.
    pub(crate) fn grid(&self, name: &str) -> Vec<Vec<f32>> {
        self.golden[name].to_vec2().expect("grid")
    }

    /// One number a row, `(batch,)`.
    pub(crate) fn column(&self, name: &str) -> Vec<f32> {
        self.golden[name].to_vec1().expect("column")
    }

    /// The left-padded case without its padding: 20, 17, 13 and 7 tokens.
    pub(crate) fn prompts(&self) -> Vec<Vec<u32>> {
        kept_rows(&self.ids("leftpad.input_ids"), &self.ids("leftpad.attention_mask"))
    }

    /// The fixed batch of 8 completions: prompts, completions and for each completion a row of a golden grid.
    pub(crate) fn completions(&self) -> Completions {
        let mask = self.ids("grpo.completion_mask");
        let grid = |name: &str| kept_rows(&self.grid(name), &mask);
        Completions {
            prompts: kept_rows(&self.ids("grpo.prompt_ids"), &self.ids("grpo.prompt_mask")),
            completions: kept_rows(&self.ids("grpo.completion_ids"), &mask),
            policy: grid("grpo.policy_logps"),
            old: grid("grpo.old_logps"),
            reference: grid("grpo.ref_logps"),
        }
    }
}

/// Two groups of four completions; log-probs by the policy, by whoever sampled them and by the reference.
pub(crate) struct Completions {
    pub(crate) prompts: Vec<Vec<u32>>,
    pub(crate) completions: Vec<Vec<u32>>,
    pub(crate) policy: Vec<Vec<f32>>,
    pub(crate) old: Vec<Vec<f32>>,
    pub(crate) reference: Vec<Vec<f32>>,
}

impl Completions {
    pub(crate) fn sequences(&self) -> Vec<engine::gradient::Sequence<'_>> {
        self.prompts
            .iter()
            .zip(&self.completions)
            .map(|(prompt, completion)| engine::gradient::Sequence { prompt, completion })
            .collect()
    }

    pub(crate) fn lengths(&self) -> Vec<usize> {
        self.completions.iter().map(Vec::len).collect()
    }
}

/// Tensors of a file of a fixture.
pub(crate) fn tensors(model: &str, file: &str) -> BTreeMap<String, Tensor> {
    candle_core::safetensors::load(path(model, file), &Device::Cpu).expect("tensors").into_iter().collect()
}

fn path(model: &str, file: &str) -> String {
    // seen from any crate of the workspace
    format!("{}/../engine/tests/fixtures/parity/{model}/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// What stands where the mask is 1.
pub(crate) fn kept<T: Copy>(values: &[T], mask: &[u32]) -> Vec<T> {
    values.iter().zip(mask).filter(|(_, mask)| **mask == 1).map(|(value, _)| *value).collect()
}

fn kept_rows<T: Copy>(values: &[Vec<T>], mask: &[Vec<u32>]) -> Vec<Vec<T>> {
    values.iter().zip(mask).map(|(values, mask)| kept(values, mask)).collect()
}

pub(crate) fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|x| x.to_vec1()).expect("f32 values")
}

/// Weights as bits, to be compared exactly.
pub(crate) fn bits(policy: &Policy) -> BTreeMap<String, Vec<u32>> {
    policy
        .tensors()
        .expect("tensors")
        .into_iter()
        .map(|(name, x)| (name, flat(&x).into_iter().map(f32::to_bits).collect()))
        .collect()
}

/// Asserts that no number is further off than `tolerance`.
#[track_caller]
pub(crate) fn near(what: &str, found: &[f32], wanted: &[f32], tolerance: f32) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let worst = found.iter().zip(wanted).map(|(f, w)| (f - w).abs()).fold(0.0, nan_max);
    assert!(worst <= tolerance, "{what}: off by {worst:e}, more than {tolerance:e}");
}

/// The same for one number, with a tolerance relative to the wanted one where that is above 1.
#[track_caller]
pub(crate) fn near_number(what: &str, found: f64, wanted: f64, tolerance: f64) {
    let error = (found - wanted).abs() / wanted.abs().max(1.0);
    assert!(error <= tolerance, "{what}: {found} is not {wanted}, off by {error:e}");
}

/// The same for a tensor, relative to its largest magnitude.
#[track_caller]
pub(crate) fn near_tensor(what: &str, found: &Tensor, wanted: &Tensor, tolerance: f32) {
    assert_eq!(found.dims(), wanted.dims(), "{what}");
    let (found, wanted) = (flat(found), flat(wanted));
    let largest = wanted.iter().fold(0f32, |m, x| m.max(x.abs()));
    let shares = |x: &[f32]| x.iter().map(|x| x / largest).collect::<Vec<_>>();
    near(what, &shares(&found), &shares(&wanted), tolerance);
}

/// The larger of two, and NaN if one is.
fn nan_max(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}
