//! Rollouts of mixed lengths, as a step of training samples them.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use data::{Body, PolicyVersion, Prompt, Seed};
use engine::model::{Policy, Tokenizer};
use rollout::{SampleStats, Sampler, Sampling, Slots, Speculate, Task};

use super::args::BenchArgs;

/// Rollouts that were measured.
pub(super) struct RolloutTimes {
    pub(super) rollouts: usize,
    pub(super) seconds: f64,
    pub(super) stats: SampleStats,
}

/// A number in a range, spread evenly and the same everywhere: prompt and completion lengths for other programs to follow.
fn spread(place: usize, step: usize, low: usize, high: usize) -> usize {
    low + place * step % (high - low + 1)
}

/// The prompts: of 64 to 256 tokens, for completions of 16 to 256.
fn tasks(vocabulary: usize, count: usize, group: usize) -> Vec<Task> {
    (0..count.div_ceil(group))
        .map(|place| {
            let length = spread(place, 83, 64, 256);
            let tokens = (0..length).map(|i| ((place * 7919 + i * 104_729) % vocabulary) as u32);
            let prompt = Prompt {
                id: place.to_string(),
                body: Body::Text(String::new()),
                answer: None,
                fields: Default::default(),
            };
            let max_tokens = Some(spread(place, 151, 16, 256));
            Task { prompt: Arc::new(prompt), tokens: tokens.collect(), max_tokens, occurrence: 0 }
        })
        .collect()
}

pub(super) fn measure(policy: &Policy, rows: usize, args: &BenchArgs) -> Result<RolloutTimes> {
    let (vocabulary, count) = (policy.config().vocab_size, args.per_slot * rows);
    let tasks = tasks(vocabulary, count, args.group);
    let sampling = Sampling { max_tokens: 256, ..Sampling::default() };
    // text is of no interest here
    let json = r#"{"version":"1.0","model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}}"#;
    let tokenizer = Tokenizer::from_bytes("bench", json.as_bytes(), None)?;
    let sampler = Sampler {
        policy,
        version: PolicyVersion(0),
        tokenizer: &tokenizer,
        sampling: &sampling,
        stop_tokens: &[],
        slots: Slots { rows, speculate: args.speculate.then(Speculate::default), ..Slots::default() },
    };
    let begun = Instant::now();
    let sampled = sampler.sample(&tasks, args.group, Seed(0).at(0), &mut |_| ())?;
    Ok(RolloutTimes {
        rollouts: sampled.rollouts.len(),
        seconds: begun.elapsed().as_secs_f64(),
        stats: sampled.stats,
    })
}
