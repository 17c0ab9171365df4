//! Reinforcement learning in one file: a tiny model learns to add and subtract, by GRPO.
//!
//! `cargo run --release --example rl_loop -- 40`
//!
//! The whole line on the public API of the crates: Prompt → Rollout → ScoredRollout → Batch → Update → Metrics. It is what
//! `evenkeel train tiny` does, to the bit, without the recipe, the held-out questions, the checkpoints and the resuming.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

use candle_core::Device;
use data::{Arithmetic, Body, Dataset, PolicyVersion, PromptTemplate, Seed};
use engine::baseline::{BaselineConfig, Scale};
use engine::batch::Truncated;
use engine::ledger::LedgerConfig;
use engine::metrics::{Metrics, Timing};
use engine::model::{Checkpoint, Policy};
use engine::objective::LossConfig;
use engine::schedule::Schedule;
use engine::selection::Shuffled;
use engine::trainer::{Trainer, TrainerConfig};
use engine::transform::OptimizerConfig;
use rewards::{ExactMatch, PartSettings, Rewards};
use rollout::{Sampler, Sampling, Slots, Task};

const PROMPTS_PER_STEP: usize = 32;
const GROUP_SIZE: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let steps = std::env::args().nth(1).map_or(Ok(40), |steps| steps.parse())?;
    train(&mut tiny()?, steps, |metrics| {
        let reward = metrics.rollouts.reward_mean.unwrap_or(f64::NAN);
        Ok(writeln!(std::io::stdout(), "step {}: reward {reward:.3}", metrics.step)?)
    })
}

/// A model of a million parameters that knows a little arithmetic, and its tokenizer.
pub(crate) fn tiny() -> Result<(Policy, Checkpoint), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tiny");
    let checkpoint = Checkpoint::open(&folder.to_string_lossy(), None)?;
    let policy = Policy::new(checkpoint.config()?, checkpoint.weights(&Device::Cpu)?, &Device::Cpu)?;
    Ok((policy, checkpoint))
}

/// Trains for some steps; `watch` sees the metrics of each.
pub(crate) fn train(
    (policy, checkpoint): &mut (Policy, Checkpoint),
    steps: u64,
    mut watch: impl FnMut(&Metrics) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let seed = Seed(0);
    let tokenizer = checkpoint.tokenizer()?;
    let stop_tokens = policy.config().stop_tokens(&tokenizer);

    // prompts, as text and as the policy reads them
    let problems = Arithmetic { count: NonZeroUsize::new(10_000).expect("not 0"), ..Arithmetic::default() };
    let dataset = Dataset::arithmetic(&problems, seed.named("data"), &PromptTemplate::default())?;
    let mut tasks = Vec::new();
    for prompt in dataset.prompts() {
        let Body::Text(text) = &prompt.body else { return Err("a conversation".into()) };
        let tokens = tokenizer.encode(text)?.into();
        tasks.push(Task { prompt: prompt.clone(), tokens, max_tokens: None, occurrence: 0 });
    }

    // the parts of the loop
    let rewards =
        Rewards::new().with("exact_match", PartSettings::weight(1.0), Box::new(ExactMatch::default()))?;
    let selection = Shuffled { prompts: tasks.len(), seed };
    let sampling = Sampling { max_tokens: 12, ..Sampling::default() };
    let config = TrainerConfig {
        baseline: BaselineConfig::default(),
        scale: Scale::default(),
        down_sample: None,
        truncated: Truncated::Keep,
        loss: LossConfig::default(),
        optimizer: OptimizerConfig::default(),
        schedule: Schedule { learning_rate: 3e-4, warmup: 5, ..Schedule::default() },
        ledger: LedgerConfig::default(),
        epochs: 1,
        mini_batches: 1,
        micro_batch_tokens: 4096,
        temperature: sampling.temperature,
        steps,
    };
    let mut trainer = Trainer::new(config, policy)?;

    for step in 0..steps {
        // Prompt
        let drawn = selection.draw(step * PROMPTS_PER_STEP as u64, PROMPTS_PER_STEP);
        let mut prompts: Vec<Task> = drawn.into_iter().map(|index| tasks[index].clone()).collect();
        rollout::count_occurrences(&mut prompts, &mut BTreeMap::new());
        // → Rollout
        let begun = Instant::now();
        let sampler = Sampler {
            policy,
            version: PolicyVersion(step),
            tokenizer: &tokenizer,
            sampling: &sampling,
            stop_tokens: &stop_tokens,
            slots: Slots::default(),
        };
        let seed = seed.named("rollout").at(step);
        let sampled = sampler.sample(&prompts, GROUP_SIZE, seed, &mut |_| ())?;
        let sample = begun.elapsed().as_secs_f64();
        // → ScoredRollout
        let begun = Instant::now();
        let scored = rewards.score(sampled.rollouts)?;
        let score = begun.elapsed().as_secs_f64();
        // → Batch → Update
        let begun = Instant::now();
        let batch = trainer.batch(policy, &scored, &BTreeMap::new())?;
        let update = trainer.step(policy, &batch)?;
        // → Metrics
        let timing = Timing {
            sample,
            sampled_tokens: sampled.stats.tokens,
            score,
            update: begun.elapsed().as_secs_f64(),
        };
        watch(&Metrics::new(step + 1, &scored, &batch, &update, timing, false))?;
    }
    Ok(())
}
