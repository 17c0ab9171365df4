//! What a recipe comes to: its model, prompts and rewards, checked against each other.
//!
//! Before: [`crate::Recipe`]. After: [`crate::run`] trains, or `evenkeel check` prints it.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::Device;
use data::{Body, Dataset, Prompt, PromptTemplate, Reading, Seed, Split};
use engine::Tensors;
use engine::model::{ChatTemplate, Checkpoint, ModelConfig, Policy, Tokenizer};
use engine::objective::LossConfig;
use engine::supervised::Example;
use engine::trainer::TrainerConfig;
use eval::{Benchmark, Samples};
use rewards::Rewards;
use rollout::{Sampling, Task};

use crate::app::CustomRewards;
use crate::benchmark::{self, Changes, Shape};
use crate::cli::Usage;
use crate::compute::{self, Choice};
use crate::interrupt::Stop;
use crate::measure::HeldOut;
use crate::progress::Busy;
use crate::recipe::{
    BenchmarkRecipe, DataRecipe, EvalRecipe, PairsRecipe, Recipe, RlRecipe, SftRecipe, ThinkingRecipe,
};
use crate::{device, estimate};

/// A recipe with everything that it names in hand.
pub struct Plan {
    pub(crate) recipe: Recipe,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) config: ModelConfig,
    pub(crate) device: Device,
    pub(crate) choice: Choice,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) stop_tokens: Vec<u32>,
    pub(crate) tasks: Vec<Task>,
    /// The same prompts behind an empty trace, in the same order; empty unless a stage wants them.
    pub(crate) empty_tasks: Vec<Task>,
    /// What the policy is measured on while it trains.
    pub(crate) held_out: Option<HeldOut>,
    pub(crate) rewards: Arc<Rewards>,
    /// Which columns of a file the prompts and answers are; none for generated data.
    pub(crate) reading: Option<Reading>,
    /// Bytes that the process has before any weights.
    program: usize,
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
        if recipe.policy.new.is_some() {
            check_new(&config)?;
        }
        tokenizer.check(&config)?;
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
            program: estimate::memory::resident(),
            stop: Stop::new(),
        })
    }

    /// The same plan, whose run ends early, with its state saved, once this is requested.
    #[must_use]
    pub fn stop_by(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }

    /// The run's seed.
    pub(crate) fn seed(&self) -> Seed {
        Seed(self.recipe.seed)
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

    /// Peak memory in bytes, an estimate, part by part.
    pub(crate) fn memory(&self) -> Vec<(&'static str, usize)> {
        estimate::memory::memory(self, self.program)
    }

    /// Tokens of the longest training prompt.
    pub(crate) fn longest_prompt(&self) -> usize {
        self.tasks.iter().map(|task| task.tokens.len()).max().unwrap_or(0)
    }

    /// What the trainer does.
    pub(crate) fn trainer(rl: &RlRecipe) -> TrainerConfig {
        TrainerConfig {
            baseline: rl.baseline.clone(),
            scale: rl.scale,
            truncated: rl.truncated,
            loss: LossConfig {
                objective: rl.objective.clone(),
                aggregate: rl.aggregate,
                kl: rl.kl.clone(),
                entropy_bonus: rl.entropy_bonus,
                correction: rl.correction.clone(),
            },
            optimizer: rl.optimizer.clone(),
            schedule: rl.schedule.clone(),
            ledger: rl.ledger.clone(),
            epochs: rl.epochs.get(),
            mini_batches: rl.mini_batches.get(),
            micro_batch_tokens: rl.micro_batch_tokens.get(),
            temperature: rl.sampling.temperature,
            steps: rl.steps.get() as u64,
        }
    }
}

/// Whether the stages can be sampled as they ask for, by this policy and from where the recipe says: known before the first
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

/// Turns prompts into tokens.
pub(crate) struct Reader<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) template: Option<ChatTemplate>,
    pub(crate) enable_thinking: Option<bool>,
    pub(crate) thinking: ThinkingRecipe,
    pub(crate) limit: usize,
    pub(crate) place: &'a str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(
        recipe: &Recipe,
        checkpoint: &'a Checkpoint,
        tokenizer: &'a Tokenizer,
        config: &ModelConfig,
    ) -> Result<Self> {
        Ok(Self {
            tokenizer,
            template: checkpoint.template()?,
            enable_thinking: recipe.policy.enable_thinking.or(recipe.thinks().then_some(true)),
            thinking: recipe.thinking.clone(),
            limit: config.max_position_embeddings,
            place: checkpoint.source(),
        })
    }

    /// A prompt as the policy reads it.
    pub(crate) fn task(&self, prompt: &Arc<Prompt>) -> Result<Task> {
        self.tokens(prompt, &self.opened(prompt)?)
    }

    /// The text of a prompt as the policy reads it.
    fn opened(&self, prompt: &Prompt) -> Result<String> {
        let own = prompt.fields.get("enable_thinking").and_then(serde_json::Value::as_bool);
        let text = self.text(prompt, own.or(self.enable_thinking))?;
        Ok(format!("{text}{}", self.thinking.open))
    }

    /// Whether completions of these prompts can have the form that is rewarded.
    fn check_format(&self, format: &rewards::Format, set: &Dataset) -> Result<()> {
        if !format.think {
            return Ok(());
        }
        for prompt in set.prompts() {
            if let Some(misfit) = format.misfit(&self.opened(prompt)?) {
                return Err(Usage::error(format!("[rewards.format] prompt `{}` {misfit}", prompt.id)));
            }
        }
        Ok(())
    }

    /// The same prompt behind an empty trace, under an id of its own.
    pub(crate) fn empty_task(&self, prompt: &Arc<Prompt>) -> Result<Task> {
        let open = self.text(prompt, self.enable_thinking)?;
        let mut text = self.text(prompt, Some(false))?;
        // a template that has no such switch, and a prompt without one
        if matches!(prompt.body, Body::Text(_)) || text == open {
            text.push_str(&self.thinking.empty_trace);
        }
        let own = Prompt { id: format!("{}#empty", prompt.id), ..Prompt::clone(prompt) };
        self.tokens(&Arc::new(own), &text)
    }

    fn text(&self, prompt: &Prompt, enable_thinking: Option<bool>) -> Result<String> {
        Ok(match &prompt.body {
            Body::Text(text) => text.clone(),
            Body::Chat(messages) => {
                let template = self.template.as_ref().with_context(|| {
                    format!(
                        "the prompt is a conversation, but checkpoint `{}` has no chat template; set chat = false under [prompt] or, \
                         if the rows of the dataset are conversations themselves, take a checkpoint that has one",
                        self.place
                    )
                })?;
                template.render(messages, true, enable_thinking)?
            }
        })
    }

    fn tokens(&self, prompt: &Arc<Prompt>, text: &str) -> Result<Task> {
        let task = self.tokenized(prompt, text)?;
        match self.obstacle(&task) {
            Some(obstacle) => anyhow::bail!("prompt `{}` has {obstacle}", prompt.id),
            None => Ok(task),
        }
    }

    fn tokenized(&self, prompt: &Arc<Prompt>, text: &str) -> Result<Task> {
        let tokens: Arc<[u32]> = self.tokenizer.encode(text)?.into();
        anyhow::ensure!(!tokens.is_empty(), "prompt `{}` has no tokens; wanted at least one", prompt.id);
        Ok(Task { prompt: prompt.clone(), tokens, max_tokens: None, occurrence: 0 })
    }

    /// Why the policy cannot complete it, if it cannot: "9000 tokens; …".
    fn obstacle(&self, task: &Task) -> Option<String> {
        let (tokens, limit) = (task.tokens.len(), self.limit);
        (tokens >= limit).then(|| {
            format!(
                "{tokens} tokens; the context of `{}` is {limit}, and a completion needs room too",
                self.place
            )
        })
    }

    /// A prompt as the policy reads it, and why it cannot complete it if so.
    pub(crate) fn question(&self, prompt: &Arc<Prompt>) -> Result<(Task, Option<String>)> {
        let text = self.text(prompt, self.enable_thinking)?;
        let task = self.tokenized(prompt, &format!("{text}{}", self.thinking.open))?;
        let obstacle = self.obstacle(&task);
        Ok((task, obstacle))
    }

    fn tasks(&self, dataset: &Dataset) -> Result<Vec<Task>> {
        dataset.prompts().iter().map(|prompt| self.task(prompt)).collect()
    }
}

/// What a recipe measures its policy on.
fn held_out(
    recipe: &Recipe,
    eval: &EvalRecipe,
    rewards: &Arc<Rewards>,
    reader: &Reader<'_>,
    custom: &CustomRewards,
) -> Result<HeldOut> {
    let mut benchmark = match &eval.bench {
        Some(name) => {
            let known = benchmark::recipe(name, None, &Changes::default()).context("[eval] bench")?;
            benchmark::build(&BenchmarkRecipe { take: Some(eval.prompts), ..known }, custom)?
        }
        None => held_out_of(recipe, eval, rewards)?,
    };
    let protocol = &mut benchmark.protocol;
    protocol.enable_thinking = protocol.enable_thinking.or(reader.enable_thinking);
    if let Some(temperature) = eval.temperature {
        protocol.sampling.temperature = temperature;
    }
    if let Some(max_tokens) = eval.max_tokens {
        protocol.sampling.max_tokens = max_tokens.get();
    }
    if let Some(samples) = eval.samples {
        protocol.samples = Samples::Each(samples.get());
    }
    let tasks = benchmark.prompts.iter().map(|prompt| reader.task(prompt)).collect::<Result<_>>()?;
    Ok(HeldOut { benchmark, tasks })
}

/// Held-out questions of the recipe's own kind, judged by its own rewards.
fn held_out_of(recipe: &Recipe, eval: &EvalRecipe, rewards: &Arc<Rewards>) -> Result<Benchmark> {
    // runs that differ in the seed are measured on the same questions
    let set = match (&eval.data, &recipe.data) {
        (Some(data), _) => dataset(data, &recipe.prompt, 0, None)?,
        (None, data @ (DataRecipe::Arithmetic(_) | DataRecipe::Countdown(_))) => {
            dataset(data, &recipe.prompt, 0, Some(eval.prompts.get()))?
        }
        (None, DataRecipe::Jsonl(_) | DataRecipe::Parquet(_)) => {
            return Err(Usage::error(
                "[eval] needs a dataset of its own, such as [eval.data.jsonl]: a file holds no problems back",
            ));
        }
    };
    let set = set.take(eval.prompts.get());
    let sampling = match &recipe.rl {
        Some(rl) => Sampling {
            max_tokens: rl.sampling.max_tokens,
            stop: rl.sampling.stop.clone(),
            stop_tokens: rl.sampling.stop_tokens.clone(),
            thinking_budget: rl.sampling.thinking_budget,
            thinking_close: rl.sampling.thinking_close.clone(),
            ..Sampling::default()
        },
        None => Sampling::default(),
    };
    let generated = matches!(
        eval.data.as_ref().unwrap_or(&recipe.data),
        DataRecipe::Arithmetic(_) | DataRecipe::Countdown(_)
    );
    let benchmark = benchmark::of(
        "held-out",
        set.prompts().to_vec(),
        rewards.clone(),
        &recipe.rewards,
        eval.reward.as_deref(),
        Shape { prompt: &recipe.prompt, sampling, samples: Samples::Each(1), shots: &[] },
    )
    .context("[eval]")?;
    Ok(Benchmark { generated, ..benchmark })
}

/// The dataset that a recipe names; with `held_out`, so many of the problems that it holds back.
pub(crate) fn dataset(
    data: &DataRecipe,
    prompt: &PromptTemplate,
    seed: u64,
    held_out: Option<usize>,
) -> Result<Dataset> {
    let seed = Seed(seed).named("data");
    let held_out = held_out.and_then(std::num::NonZeroUsize::new);
    let file = match data {
        DataRecipe::Arithmetic(arithmetic) => {
            let mut arithmetic = arithmetic.clone();
            if let Some(count) = held_out {
                (arithmetic.split, arithmetic.count) = (Split::Test, count);
            }
            return Ok(Dataset::arithmetic(&arithmetic, seed, prompt)?);
        }
        DataRecipe::Countdown(countdown) => {
            let mut countdown = countdown.clone();
            if let Some(count) = held_out {
                (countdown.split, countdown.count) = (Split::Test, count);
            }
            return Ok(Dataset::countdown(&countdown, seed, prompt)?);
        }
        DataRecipe::Jsonl(file) | DataRecipe::Parquet(file) => file,
    };
    let set = Dataset::read(&file.path, &file.columns, file.layout, prompt)?;
    Ok(match file.take {
        Some(count) => set.take(count),
        None => set,
    })
}
