//! How long a run takes: a slice of the model is timed on this machine, and what a step does is counted.
//!
//! Before: [`Plan`]. After: seconds of a step, part by part. The slice has one layer or a few, and as small a share of the
//! vocabulary, so that each of its times is the model's own divided by the same number.

use std::time::Instant;

use anyhow::Result;
use candle_core::Device;
use engine::baseline::Weights;
use engine::gradient::{self, Sequence};
use engine::kernels::awake;
use engine::model::{Compute, Policy};
use engine::objective::Loss;
use engine::optimizer::Optimizer;
use rollout::backend::BackendConfig;

use super::Lengths;
use super::memory::fitting_tokens;
use crate::plan::Plan;
use crate::recipe::{PairsRecipe, RlRecipe};
use crate::timing::{arbitrary_weights, decode};

/// Parameters that a slice has about.
const SLICE: usize = 12_000_000;
/// Seconds that one pass takes at most, about.
const LONGEST: f64 = 1.0;

/// Seconds, part by part.
#[derive(Debug, Clone, Default)]
pub(crate) struct Time {
    pub(crate) stages: Vec<StageTime>,
    /// Of all measurements on held-out prompts together.
    pub(crate) evaluations: f64,
    /// Of sampling pairs before a stage begins.
    pub(crate) pairs: f64,
}

/// Seconds of a stage's steps.
#[derive(Debug, Clone)]
pub(crate) struct StageTime {
    pub(crate) name: &'static str,
    pub(crate) steps: usize,
    /// Of one step.
    pub(crate) parts: Vec<(&'static str, f64)>,
}

impl StageTime {
    /// Of one step.
    pub(crate) fn step(&self) -> f64 {
        self.parts.iter().map(|(_, seconds)| seconds).sum()
    }
}

impl Time {
    /// Of the whole run.
    pub(crate) fn total(&self) -> f64 {
        let stages: f64 = self.stages.iter().map(|stage| stage.steps as f64 * stage.step()).sum();
        stages + self.evaluations + self.pairs
    }
}

/// What the machine takes for this model, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Speed {
    /// A decoding step, whatever the number of rows.
    pass: f64,
    /// Of it each row's share.
    row: f64,
    /// A token of a prompt that is read, or of a pass that only scores.
    forward: f64,
    /// A token that is trained on: forward, backward and what is computed again.
    train: f64,
    /// An update of the weights.
    update: f64,
}

impl Speed {
    /// Times a slice of the model; `None` on a GPU, which is not timed.
    ///
    /// # Errors
    /// If the slice cannot be made.
    pub(crate) fn measure(plan: &Plan) -> Result<Option<Self>> {
        let Compute::Fused(_) = plan.choice.compute else { return Ok(None) };
        let full = &plan.config;
        let layers = (SLICE * full.num_hidden_layers).div_ceil(full.parameter_count().max(1));
        let layers = layers.clamp(1, full.num_hidden_layers);
        let scale = full.num_hidden_layers as f64 / layers as f64;
        let mut config = full.clone();
        config.num_hidden_layers = layers;
        config.vocab_size = ((full.vocab_size as f64 / scale) as usize).max(16);
        let weights = arbitrary_weights(&config)?;
        let mut policy = Policy::with_compute(config, weights, &Device::Cpu, plan.choice.compute)?;
        policy.set_recompute(plan.recipe.policy.recompute);
        let mut evict = Evict::new(plan);
        let (few, many) = (2, rows(plan).clamp(4, 64));
        let tokens = 8;
        let mut at = |rows: usize| decode(&policy, (rows, 128, tokens), false, &mut || evict.run());
        let (low, high) = (at(few)?, at(many)?);
        let row = ((high - low) / (many - few) as f64).max(0.0);
        let pass = (low - few as f64 * row).max(0.0);
        let (forward, train, update) = passes(plan, &mut policy)?;
        let all = |seconds: f64| seconds * scale;
        Ok(Some(Self {
            pass: all(pass),
            row: all(row),
            forward: all(forward),
            train: all(train),
            update: all(update),
        }))
    }

    /// Of sampling so many rollouts, each prompt read once for its group.
    fn sampling(
        &self,
        prompts: usize,
        group: usize,
        prompt_tokens: f64,
        completions: Lengths,
        slots: usize,
    ) -> f64 {
        let rollouts = (prompts * group) as f64;
        let side_by_side = rollouts.min(slots as f64).max(1.0);
        // with a slot for each the longest says how many passes there are; else slots are filled again
        let passes = (rollouts * completions.mean / side_by_side).max(completions.longest);
        prompts as f64 * prompt_tokens * self.forward
            + passes * self.pass
            + rollouts * completions.mean * self.row
    }
}

/// Rollouts that are sampled side by side.
fn rows(plan: &Plan) -> usize {
    let most = plan.recipe.rollout.max_rows.get();
    plan.recipe.rl.as_ref().map_or(8, |rl| rl.prompts_per_step.get() * rl.group_size.get()).min(most)
}

/// Puts other things in the caches, which the slice would fit in and the model does not.
struct Evict(Vec<u64>);

impl Evict {
    fn new(plan: &Plan) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let size = read("/sys/devices/system/cpu/cpu0/cache/index3/size")
            .and_then(|text| text.trim().trim_end_matches('K').parse::<usize>().ok())
            .map_or(32 << 20, |kib| kib << 10);
        // what fits into a cache anyhow stays there
        let fits = 4 * plan.config.parameter_count() < size / 2;
        Self(if fits { Vec::new() } else { vec![1; size.min(512 << 20) / 8] })
    }

    fn run(&mut self) {
        use rayon::prelude::*;
        self.0.par_chunks_mut(1 << 16).for_each(|part| part.iter_mut().for_each(|x| *x = x.wrapping_add(1)));
    }
}

/// Seconds of a token forwards, of a token in training, and of an update.
fn passes(plan: &Plan, policy: &mut Policy) -> Result<(f64, f64, f64)> {
    let vocab = policy.config().vocab_size as u32;
    let most = micro_batch(plan).clamp(16, 2048);
    let row = most.min(256);
    let batch = |tokens: usize| -> Vec<Vec<u32>> {
        (0..tokens.div_ceil(row) as u32)
            .map(|n| (0..=row.min(tokens) as u32).map(|i| (n * 7919 + i * 104_729) % vocab).collect())
            .collect()
    };
    let schedule = engine::schedule::Schedule { learning_rate: 1e-6, ..Default::default() };
    let mut optimizer = Optimizer::new(&Default::default(), &schedule, 1000);
    let mut update = f64::INFINITY;
    let mut train = |tokens: usize| -> Result<f64> {
        let rows = batch(tokens);
        let count = rows.iter().map(|row| row.len() - 1).sum::<usize>();
        let sequences: Vec<Sequence<'_>> =
            rows.iter().map(|row| Sequence { prompt: &row[..1], completion: &row[1..] }).collect();
        let begun = Instant::now();
        let result = gradient::gradients(policy, &sequences, most, 1.0, &|padded| {
            Ok(Loss::plain((padded.log_probs.sum_all()? * (-1.0 / count as f64))?))
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        optimizer.update(policy, result.grads, 1.0)?;
        update = update.min(begun.elapsed().as_secs_f64());
        Ok(seconds / count as f64)
    };
    // few tokens tell how long a whole micro-batch takes, whose tokens are cheaper; it is taken whole unless that is too long
    let guess = train(row.min(64))?;
    let tokens = ((LONGEST / guess) as usize).clamp(row.min(64), most);
    // the first pass of a size fetches pages, so that it is slower than those to come
    let train = train(tokens)?.min(train(tokens)?);
    let rows = batch(tokens);
    let sequences: Vec<Sequence<'_>> =
        rows.iter().map(|row| Sequence { prompt: &row[..1], completion: &row[1..] }).collect();
    let begun = Instant::now();
    awake(|| gradient::log_probs(policy, &sequences, most, 1.0, false))?;
    let count = rows.iter().map(|row| row.len() - 1).sum::<usize>();
    Ok((begun.elapsed().as_secs_f64() / count as f64, train, update))
}

/// Tokens of one forward pass in training.
fn micro_batch(plan: &Plan) -> usize {
    let recipe = &plan.recipe;
    let sft = recipe.sft.as_ref().map(|sft| sft.micro_batch_tokens.get());
    let preference = recipe.preference.as_ref().map(|p| p.micro_batch_tokens.get());
    let rl = recipe.rl.as_ref().map(|rl| rl.micro_batch_tokens.get());
    rl.or(sft).or(preference).unwrap_or(2048)
}

/// What measuring the gradients of rollouts adds to their training, as a share of it, for groups of so many tokens. Those that are
/// too large to wait for their weights are measured in a pass of their own, unless two sums do.
fn weighing(plan: &Plan, rl: &RlRecipe, tokens: f64) -> f64 {
    let needs = rl.baseline.build().needs().weights;
    match (rl.trainer().weighs_in_one_backward(), needs) {
        (true, _) => {
            let fits = fitting_tokens(plan, rl) as f64;
            if tokens > fits && !rl.baseline.build().is_constant() { 0.9 } else { 0.1 }
        }
        (false, Weights::Full | Weights::FullAdam) => 0.9,
        _ => 0.0,
    }
}

/// Seconds of a run at this speed, with completions of these lengths.
pub(crate) fn time(plan: &Plan, speed: &Speed, lengths: impl Fn(usize) -> Lengths) -> Time {
    let recipe = &plan.recipe;
    let mut time = Time::default();
    let mean = |tasks: &[rollout::Task]| {
        tasks.iter().map(|task| task.tokens.len()).sum::<usize>() as f64 / tasks.len().max(1) as f64
    };
    let (prompt, slots) = (mean(&plan.tasks), recipe.rollout.max_rows.get());
    let local = recipe.rollout.backend == BackendConfig::Local;
    if let Some(sft) = &recipe.sft {
        // the reference answers are there to be counted, a few of them
        let answers = plan.examples(sft).unwrap_or_default();
        let some: Vec<usize> = answers
            .iter()
            .take(256)
            .flatten()
            .map(|e| e.prompt_tokens.len() + e.answer_tokens.len())
            .collect();
        let tokens = some.iter().sum::<usize>() as f64 / some.len().max(1) as f64;
        let training = sft.batch_size.get() as f64 * tokens * speed.train;
        let parts = vec![("training", training), ("updates", speed.update)];
        time.stages.push(StageTime { name: "sft", steps: sft.steps.get(), parts });
    }
    if let Some(rl) = &recipe.rl {
        let config = rl.trainer();
        let completions = lengths(rl.sampling.max_tokens);
        let (prompts, group) = (rl.prompts_per_step.get(), rl.group_size.get());
        let branches = if rl.mixture.is_some() { 2.0 } else { 1.0 };
        let mut parts = Vec::new();
        if local {
            let greedy = if rl.baseline.build().needs().greedy {
                speed.sampling(prompts, 1, prompt, completions, slots)
            } else {
                0.0
            };
            let sampled = speed.sampling(prompts, group, prompt, completions, slots);
            parts.push(("sampling", branches * (sampled + greedy)));
        }
        let tokens = branches * (prompts * group) as f64 * (prompt + completions.mean);
        let (kl, needs) = (config.loss.kl.is_some(), rl.baseline.build().needs());
        let seen = needs.weights.needs_pass() || needs.token_norms || !config.is_on_policy() || kl;
        let passes = f64::from(u8::from(seen)) + f64::from(u8::from(kl));
        if passes > 0.0 {
            parts.push(("log-probs", passes * tokens * speed.forward));
        }
        let measured = match rl.ledger.correlations {
            0 => 0.0,
            every => 0.9 / every as f64,
        };
        let weighing = weighing(plan, rl, group as f64 * (prompt + completions.mean));
        parts.push(("training", (rl.epochs.get() as f64 + measured + weighing) * tokens * speed.train));
        parts.push(("updates", (rl.epochs.get() * rl.mini_batches.get()) as f64 * speed.update));
        time.stages.push(StageTime { name: "rl", steps: rl.steps.get(), parts });
    }
    if let Some(preference) = &recipe.preference {
        let completions = lengths(preference.sampling.max_tokens);
        let pairs = 2.0 * preference.pairs_per_step.get() as f64;
        let training = 2.0 * pairs * (prompt + completions.mean) * speed.train;
        let parts = vec![("training", training), ("updates", speed.update)];
        time.stages.push(StageTime { name: "preference", steps: preference.steps.get(), parts });
        if let (PairsRecipe::Sample(sample), true) = (&preference.pairs, local) {
            let (prompts, group) = (sample.prompts.get(), sample.group_size.get());
            time.pairs =
                sample.branches.len() as f64 * speed.sampling(prompts, group, prompt, completions, slots);
        }
    }
    if let (Some(eval), Some(held_out), true) = (&recipe.eval, &plan.held_out, local) {
        let protocol = &held_out.benchmark.protocol;
        let samples = eval.samples.map_or(1, |samples| samples.get());
        let completions = lengths(protocol.sampling.max_tokens);
        let once = speed.sampling(held_out.tasks.len(), samples, mean(&held_out.tasks), completions, slots);
        let every = eval.every.get();
        let times: usize = time.stages.iter().map(|stage| 1 + stage.steps.div_ceil(every)).sum();
        time.evaluations = times as f64 * once;
    }
    time
}
