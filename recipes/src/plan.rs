//! What a recipe comes to: its model, prompts and rewards, checked against each other.
//!
//! Before: [`crate::Recipe`]. After: [`crate::run()`] trains, or `evenkeel check` prints it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use candle_core::Device;
use data::{Body, Reading, Seed};
use engine::Tensors;
use engine::model::{Checkpoint, ModelConfig, Policy, Tokenizer};
use engine::supervised::Example;
use rewards::Rewards;
use rollout::Task;

use crate::compute::{self, ComputeChoice};
use crate::custom::CustomRewards;
use crate::dataset::dataset;
use crate::held_out::{HeldOut, held_out};
use crate::interrupt::Stop;
use crate::progress::Busy;
use crate::prompt_stats::dataset_hash;
use crate::reader::Reader;
use crate::recipe::{PairsRecipe, Recipe, SftRecipe};
use crate::usage::Usage;
use crate::{device, machine};

/// A recipe with everything that it names in hand.
pub struct Plan {
    pub(crate) recipe: Recipe,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) config: ModelConfig,
    pub(crate) device: Device,
    pub(crate) choice: ComputeChoice,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) stop_tokens: Vec<u32>,
    pub(crate) tasks: Vec<Task>,
    /// The same prompts behind an empty trace, in the same order; empty unless a stage wants them.
    pub(crate) empty_tasks: Vec<Task>,
    /// The questions that the policy is measured on while it trains.
    pub(crate) held_out: Option<HeldOut>,
    pub(crate) rewards: Arc<Rewards>,
    /// Which columns of a file the prompts and answers are; none for generated data.
    pub(crate) reading: Option<Reading>,
    /// Bytes that the process has before any weights.
    pub(crate) program: usize,
    /// A file of `evenkeel scan` for a selection that walks by angle; else the run makes one.
    pub(crate) scan: Option<PathBuf>,
    /// [`Self::dataset_hash`], once it was asked for.
    dataset_hash: OnceLock<String>,
    /// Asks a run of it to end early.
    pub(crate) stop: Stop,
}

impl Plan {
    /// Opens the checkpoint (not yet its weights), reads the prompts and builds the rewards.
    ///
    /// # Errors
    /// If any of them is missing, broken or does not fit the others.
    pub fn new(recipe: Recipe, custom: &CustomRewards) -> Result<Self> {
        let _busy = Busy::new("opening the checkpoint, the data and the rewards");
        recipe.require_files()?;
        let (checkpoint, tokenizer, config) = open(&recipe)?;
        if recipe.policy.new.is_some() {
            check_new(&config)?;
        }
        check_sampling(&recipe, &config, &tokenizer)?;
        let (device, place) = device::resolve(recipe.policy.device)?;
        let choice = compute::choose(recipe.policy.compute, config.parameter_count(), &device, &place)?;
        let stop_tokens = config.stop_tokens(&tokenizer);
        let reader = Reader::new(&recipe, &checkpoint, &tokenizer, &config)?;
        let set = dataset(&recipe.data, &recipe.prompt, recipe.seed, None)?;
        let tasks = reader.tasks(&set)?;
        if let Some(format) = &recipe.rewards.format {
            reader.check_format(&format.reward, &set)?;
        }
        let empty_tasks = match recipe.thinks() {
            true => set.prompts().iter().map(|prompt| reader.empty_task(prompt)).collect::<Result<_>>()?,
            false => Vec::new(),
        };
        let rewards = Arc::new(recipe.rewards.build(custom)?);
        let held_out = match &recipe.eval {
            Some(eval) => Some(held_out(&recipe, eval, &rewards, &reader, custom)?),
            None => None,
        };
        let prompts = || tasks.iter().chain(held_out.iter().flat_map(|held_out| &held_out.tasks));
        let columns: BTreeSet<&String> = prompts().flat_map(|task| task.prompt.fields.keys()).collect();
        rewards.expect(&columns.into_iter().cloned().collect::<Vec<_>>());
        let sampled_pairs =
            recipe.preference.as_ref().is_some_and(|p| matches!(p.pairs, PairsRecipe::Sample(_)));
        if (recipe.rl.is_some() || sampled_pairs) && !rewards.count() {
            return Err(Usage::error(
                "a stage that samples needs a reward: name one under [rewards] with a weight other than 0, such as [rewards.math]",
            ));
        }
        Ok(Self {
            recipe,
            checkpoint,
            config,
            device,
            choice,
            tokenizer,
            stop_tokens,
            tasks,
            empty_tasks,
            held_out,
            rewards,
            reading: set.reading().cloned(),
            program: machine::resident(),
            scan: None,
            dataset_hash: OnceLock::new(),
            stop: Stop::new(),
        })
    }

    /// The same plan, whose run ends early, with its state saved, once this is requested.
    #[must_use]
    pub fn stop_by(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }

    /// The same plan, whose run takes this file of `evenkeel scan` for its own.
    #[must_use]
    pub fn scanned(mut self, file: Option<PathBuf>) -> Self {
        self.scan = file;
        self
    }

    /// The run's seed.
    pub(crate) fn seed(&self) -> Seed {
        Seed(self.recipe.seed)
    }

    /// SHA-256 of the ids and texts of the prompts.
    pub(crate) fn dataset_hash(&self) -> &str {
        self.dataset_hash.get_or_init(|| dataset_hash(&self.tasks))
    }

    /// The policy that the run begins with.
    pub(crate) fn policy(&self) -> Result<Policy> {
        let _busy = Busy::new(&format!("reading the weights of `{}`", self.checkpoint.source()));
        if self.recipe.policy.new.is_some() {
            let mut rng = self.seed().named("init").at(0).rng();
            return self.build(Policy::random_tensors(&self.config, &mut rng)?);
        }
        self.build(self.checkpoint.weights(&Device::Cpu)?)
    }

    /// A policy with these weights that computes as the plan says.
    pub(crate) fn build(&self, weights: Tensors) -> Result<Policy> {
        let mut policy =
            Policy::with_compute(self.config.clone(), weights, &self.device, self.choice.compute)?;
        policy.set_recompute(self.recipe.policy.recompute);
        Ok(policy)
    }

    /// For every prompt its reference answer in each of the recipe's forms, as tokens, for the supervised stage; those
    /// behind an empty trace come last.
    pub(crate) fn examples(&self, sft: &SftRecipe) -> Result<Vec<Vec<Example>>> {
        let stop =
            self.stop_tokens.first().copied().context(
                "the checkpoint names no end-of-text token, so a supervised answer would have no end",
            )?;
        let example = |task: &Task, template: &String| {
            let answer = task.prompt.answer.as_deref().with_context(|| {
                format!("prompt `{}` has no reference answer, which [sft] needs", task.prompt.id)
            })?;
            let mut text = match &task.prompt.body {
                Body::Text(text) => template.replace("{prompt}", text),
                Body::Chat(_) if template.contains("{prompt}") => {
                    anyhow::bail!(
                        "[sft] answer template {template:?} names {{prompt}}, but prompts are conversations"
                    )
                }
                Body::Chat(_) => template.clone(),
            };
            if text.contains("{trace}") {
                let trace = task.prompt.fields.get("trace").and_then(|trace| trace.as_str());
                let trace = trace.with_context(|| {
                    format!("[sft] answer template {template:?} names {{trace}}, but prompt `{}` has no column `trace`", task.prompt.id)
                })?;
                text = text.replace("{trace}", trace);
            }
            let mut answer_tokens = self.tokenizer.encode(&text.replace("{answer}", answer))?;
            answer_tokens.push(stop);
            Ok(Example { prompt_tokens: task.tokens.clone(), answer_tokens })
        };
        let all = self.tasks.iter().enumerate().map(|(place, task)| {
            let plain = sft.answer_templates.iter().map(|template| example(task, template));
            let empty =
                sft.empty_templates.iter().map(|template| example(&self.empty_tasks[place], template));
            plain.chain(empty).collect()
        });
        all.collect()
    }

    /// Tokens of the longest training prompt.
    pub(crate) fn longest_prompt(&self) -> usize {
        self.tasks.iter().map(|task| task.tokens.len()).max().unwrap_or(0)
    }
}

/// The checkpoint that a recipe names, without its weights.
///
/// # Errors
/// If it is not there, is broken, or its tokenizer does not fit it.
pub(crate) fn open(recipe: &Recipe) -> Result<(Checkpoint, Tokenizer, ModelConfig)> {
    let checkpoint =
        crate::builtin::checkpoint(&recipe.policy.checkpoint, recipe.policy.revision.as_deref())?;
    let tokenizer = checkpoint.tokenizer()?;
    let config = match &recipe.policy.new {
        Some(new) => {
            let eos = tokenizer.eos().into_iter().collect();
            new.config(tokenizer.rows(), eos, tokenizer.pad()).context("[policy.new]")?
        }
        None => checkpoint.config()?,
    };
    tokenizer.check(&config)?;
    Ok((checkpoint, tokenizer, config))
}

/// Refuses sampling that this policy, or the backend of the recipe, cannot do: known before the first
/// step, not at the first rollout.
fn check_sampling(recipe: &Recipe, config: &ModelConfig, tokenizer: &Tokenizer) -> Result<()> {
    let rl = recipe.rl.as_ref().map(|rl| ("rl", &rl.sampling));
    let pairs = recipe.preference.as_ref().filter(|p| matches!(p.pairs, PairsRecipe::Sample(_)));
    for (stage, sampling) in rl.into_iter().chain(pairs.map(|p| ("preference", &p.sampling))) {
        let problem = sampling
            .token_problem(config.vocab_size)
            .or_else(|| sampling.thinking_problem(tokenizer))
            .or_else(|| recipe.rollout.backend.unsupported(sampling));
        if let Some(problem) = problem {
            return Err(Usage::error(format!("[{stage}.sampling] {problem}")));
        }
    }
    Ok(())
}

/// Refuses a new model whose weights alone, in f32, are more than this machine's memory and swap: they would be drawn for
/// hours before the system ends the process. A checkpoint's weights are bounded by its files.
fn check_new(config: &ModelConfig) -> Result<()> {
    let wanted = 4 * config.parameter_count() as u64;
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = |field: &str| {
        let line = text.lines().find(|line| line.starts_with(field))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
    };
    // where the system does not tell, as much as the largest machines have
    let there = total("MemTotal:").map_or(1 << 44, |memory| memory + total("SwapTotal:").unwrap_or(0));
    if wanted > there {
        return Err(Usage::error(format!(
            "[policy.new] has {} parameters, {:.0} GiB in f32; wanted at most the {:.0} GiB of this machine",
            config.parameter_count(),
            wanted as f64 / (1u64 << 30) as f64,
            there as f64 / (1u64 << 30) as f64
        )));
    }
    Ok(())
}
