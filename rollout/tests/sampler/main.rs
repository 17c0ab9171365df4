//! What sampling must and must not depend on, on a tiny Qwen3 policy.

mod arrangement;
mod draws;
mod text;

#[path = "../../../engine/tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Device;
use common::{Fixture, near};
use data::{Body, PolicyVersion, Prompt, Rollout, Seed, StopReason};
use engine::gradient::{self, Sequence};
use engine::kernels::{Kernel, Path};
use engine::model::{Compute, ModelConfig, Policy, Tokenizer};
use rand::SeedableRng;
use rollout::{
    RolloutError, SampleProgress, Sampled, Sampler, Sampling, Slots, Speculate, Task, count_occurrences,
};

/// 128 tokens of a letter and a digit: `a0`, `a1` … `m7`.
fn tokenizer() -> Tokenizer {
    let vocab: serde_json::Map<String, serde_json::Value> =
        (0..128).map(|id| (text(&[id]), serde_json::json!(id))).collect();
    let json = serde_json::json!({
        "version": "1.0",
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "a0" },
        "decoder": { "type": "Fuse" },
    });
    Tokenizer::from_bytes("tiny", json.to_string().as_bytes(), None).expect("tokenizer")
}

fn text(tokens: &[u32]) -> String {
    tokens.iter().map(|id| format!("{}{}", char::from(b'a' + (id / 10) as u8), id % 10)).collect()
}

fn task(id: usize, tokens: &[u32]) -> Task {
    let prompt = Prompt {
        id: format!("prompt {id}"),
        body: Body::Text(text(tokens)),
        answer: None,
        fields: Default::default(),
    };
    Task { prompt: Arc::new(prompt), tokens: Arc::from(tokens), max_tokens: None, occurrence: 0 }
}

/// Prompts of 7 to 20 tokens, and two short ones.
fn tasks(f: &Fixture) -> Vec<Task> {
    let mut prompts = f.prompts();
    prompts.push(vec![5]);
    prompts.push(vec![9, 17]);
    prompts.iter().enumerate().map(|(id, tokens)| task(id, tokens)).collect()
}

/// A sampler's settings, to be varied.
#[derive(Clone)]
struct Setup {
    sampling: Sampling,
    stop_tokens: Vec<u32>,
    slots: Slots,
    group_size: usize,
    threads: usize,
}

impl Setup {
    fn new(max_tokens: usize) -> Self {
        Self {
            sampling: Sampling { max_tokens, ..Sampling::default() },
            stop_tokens: vec![],
            slots: Slots { rows: 8, ..Slots::default() },
            group_size: 3,
            threads: 2,
        }
    }

    fn try_sample(&self, policy: &Policy, tasks: &[Task]) -> Result<Sampled, RolloutError> {
        let tokenizer = tokenizer();
        let sampler = Sampler {
            policy,
            version: PolicyVersion(3),
            tokenizer: &tokenizer,
            sampling: &self.sampling,
            stop_tokens: &self.stop_tokens,
            slots: self.slots,
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build().expect("pool");
        pool.install(|| sampler.sample(tasks, self.group_size, Seed(5).at(2), &mut |_| ()))
    }

    fn sample(&self, policy: &Policy, tasks: &[Task]) -> Vec<Rollout> {
        self.try_sample(policy, tasks).expect("rollouts").rollouts
    }
}

/// Tokens, bits of the log-probs and why it ended, by prompt and place.
type ByPlace = BTreeMap<(String, usize), (Vec<u32>, Vec<u32>, StopReason)>;

fn by_place(rollouts: &[Rollout]) -> ByPlace {
    let bits = |r: &Rollout| r.log_probs.iter().map(|x| x.to_bits()).collect();
    rollouts.iter().map(|r| ((r.prompt.id.clone(), r.place), (r.tokens.clone(), bits(r), r.stop))).collect()
}
