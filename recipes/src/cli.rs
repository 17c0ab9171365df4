//! The command line.

use std::borrow::Cow;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use data::printable;

use crate::app::CustomRewards;
use crate::checkpoint_of::is_run;
use crate::device::DeviceRecipe;
use crate::interrupt::{self, Interrupted, Session, Stop};
use crate::message::Printable;
use crate::plan::Plan;
use crate::progress::line;
use crate::recipe::{ComputeRecipe, Recipe, RecipeError};
use crate::resume::Resumed;
use crate::run::Place;
use crate::{
    bench, benchmark, builtin, check, compare, evaluate, explain, listing, message, preset, reward, run,
    sample, save, variance,
};

/// Post-trains language models with reinforcement learning, from a short recipe.
///
/// Try `evenkeel train tiny`: it needs nothing but this program, takes some seconds and ends with a policy that does
/// sums. Exit codes: 0 success, 1 a failure, 2 a mistake in the command line or the recipe, 130 ended by Ctrl-C, 143 by SIGTERM
/// and 129 by SIGHUP: `train`, `eval` and `sample --out` then save what they have and print the command that goes on; a second
/// signal ends them at once.
#[derive(Debug, Parser)]
#[command(name = "evenkeel", version, about, long_about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a policy as a recipe says.
    ///
    /// Writes a run folder: the recipe as resolved, metrics.jsonl with one line a step, every step's rollouts, and
    /// checkpoints in Hugging Face layout that transformers and vLLM load.
    Train(TrainArgs),
    /// Show what a recipe comes to, without training.
    ///
    /// Prints the recipe with every default filled in, how many rollouts and updates it makes, what memory, disk and time it
    /// takes, what of that this machine has not, and what its reward says of a few reference answers.
    Check(CheckArgs),
    /// Let a checkpoint, or a model behind a server, complete prompts.
    ///
    /// One prompt is printed as it is written; a file of prompts becomes a file of rollouts, with tokens and log-probs.
    Sample(Box<SampleArgs>),
    /// Measure models on benchmarks, with an interval beside every figure.
    ///
    /// Every model answers every benchmark's questions; with the same seed they meet the same luck. Leaves a folder with all
    /// samples, evaluation.json, a page (report.html) and the figures in the shape of lm-evaluation-harness. Benchmarks are
    /// known by name (see `evenkeel benchmarks`) or files of your own that end in .toml.
    Eval(Box<EvalArgs>),
    /// Compare runs, or evaluations of models: curves side by side, and whether a difference is shown at all.
    ///
    /// Runs are compared by step, rollouts, tokens and time, and on the questions that both were measured on. Evaluations are
    /// compared question by question, if they were measured in the same way.
    Compare(CompareArgs),
    /// List the benchmarks known by name, or print one as a recipe, to start your own from.
    Benchmarks {
        /// Print this one.
        name: Option<String>,
        /// The folder of datasets; by default the variable EVENKEEL_DATA names it.
        #[arg(long, value_name = "FOLDER")]
        data: Option<PathBuf>,
    },
    /// Show what a recipe's rewards say of completions in a file.
    ///
    /// The file has JSON lines: a run's rollouts, or rows with a completion, a prompt and a reference answer. For each the
    /// reward and its parts, the answer that was found, and why it was judged so. No model is loaded; the recipe may hold
    /// nothing but [rewards].
    Reward(RewardArgs),
    /// Measure how much bias and noise each estimator of the policy gradient has, at a fixed policy.
    ///
    /// Draws many groups of rollouts of a few prompts and compares baselines and their weights: slope and bias against an
    /// unbiased reference, variance at equal signal, signal-to-noise ratio, each with a 95 % interval; and where the
    /// optimal baseline pays. Nothing is trained. `bandit` and `two-step` in place of a recipe are toy policies that have
    /// formulas.
    Variance(VarianceArgs),
    /// Measure this machine, and how near training and sampling come to its limits.
    ///
    /// First the peak of multiply-adds and the memory's bandwidth, then matrix products, decoding and training steps at the
    /// shapes of real models, with arbitrary weights. Takes some minutes and, at 0.6B, up to 20 GB of memory.
    Bench(BenchArgs),
    /// List the published methods that a recipe may name by `preset`, or print the settings of one.
    Presets {
        /// Print this one.
        name: Option<String>,
    },
    /// List the built-in recipes, or print one.
    Recipes {
        /// Print this one, to start your own from.
        name: Option<String>,
    },
    /// Say what a key of a recipe is: its type, default and choices, and where it comes from.
    ///
    /// A table is listed with its keys; without a name, the recipe's own are.
    Explain {
        /// A key or a table, such as `rl.baseline.optimal.weights` or `rl.sampling`.
        #[arg(default_value = "")]
        key: String,
        /// Print its JSON Schema.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of a recipe, for editors that complete and check TOML.
    ///
    /// With Taplo or Even Better TOML, write it to a file and put `#:schema FILE` on the first line of a recipe.
    Schema,
}

#[derive(Debug, Args)]
struct TrainArgs {
    /// A recipe file, or a built-in recipe such as `tiny` (see `evenkeel recipes`).
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    recipe: Option<String>,
    /// Replace a value of the recipe, such as `--set rl.steps=10`; may be given several times. With --resume only what the
    /// steps so far do not depend on: the steps of a stage, [save], [eval], and what changes speed or memory.
    #[arg(long, value_name = "KEY.KEY=VALUE")]
    set: Vec<String>,
    /// The run folder to make; by default runs/NAME, or runs/NAME-2 and so on. One that exists is never overwritten.
    #[arg(long, value_name = "FOLDER", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Go on with a run that was interrupted, from its newest whole checkpoint: the result is the same, bit for bit.
    ///
    /// RUN@12 goes on from the checkpoint of step 12 (or RUN@sft-000012, where several stages have one): what came after it
    /// is moved to RUN/set-aside-1, so nothing is lost. A run that is finished goes on with more steps by
    /// `--set rl.steps=…`; where the learning rate follows all steps, it is said what becomes of it.
    #[arg(long, value_name = "RUN[@STEP]")]
    resume: Option<PathBuf>,
}

/// `evenkeel check`
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// A recipe file, the name of a built-in recipe, or a run folder.
    pub(crate) recipe: String,
    /// Replace a value of the recipe, such as `--set rl.steps=10`; may be given several times.
    #[arg(long, value_name = "KEY.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Dataset rows to try the reward on.
    #[arg(long, default_value_t = 3)]
    pub(crate) rows: usize,
    /// Tokens of a completion on average, for the estimates of time and disk; by default half of max_tokens.
    #[arg(long, value_name = "TOKENS")]
    pub(crate) tokens: Option<usize>,
    /// Where the run is to be, for the disk's free space; by default `runs`.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
    /// Leave the estimate of time out, for which a layer of the model is timed on this machine for a second or so.
    #[arg(long)]
    pub(crate) no_time: bool,
    /// Print the plan as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A number of at most `most`; what 0 would mean, the command says itself.
fn count(most: u64) -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::new().range(..=most)
}

/// `evenkeel eval`
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Folders in Hugging Face layout, runs (their newest checkpoint; RUN@best or RUN@120 for another), names on the hub, `tiny`,
    /// or what a server calls them.
    /// NAME=MODEL gives one a name of its own. The first is what the others are compared with.
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    pub(crate) models: Vec<String>,
    /// Benchmarks by name, or files that end in .toml, with commas between them.
    #[arg(
        long,
        short,
        value_name = "NAME,NAME",
        value_delimiter = ',',
        required_unless_present = "resume",
        conflicts_with = "resume"
    )]
    pub(crate) bench: Vec<String>,
    /// The folder of datasets, with gsm8k/test.jsonl and so on; by default the variable EVENKEEL_DATA names it. What is not
    /// there is fetched from the hub, where a copy is known.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// Completions of each question.
    #[arg(long, short = 'n', conflicts_with = "resume", value_parser = count(1_000_000))]
    pub(crate) samples: Option<usize>,
    /// Draw as many completions of each question as it takes for the 95 % interval over draws to be the mean ± this, such as
    /// 0.02; at most 256.
    #[arg(long, value_name = "HALF-WIDTH", conflicts_with_all = ["samples", "resume"])]
    pub(crate) adaptive: Option<f64>,
    /// Draw as many completions of each question as it takes for its own chance of being right to be known to ± this, such as
    /// 0.1, to label questions by how hard they are; about 256 at most.
    #[arg(long, value_name = "HALF-WIDTH", conflicts_with_all = ["samples", "adaptive", "resume"])]
    pub(crate) adaptive_each: Option<f64>,
    /// Only the first so many questions of each benchmark.
    #[arg(long, value_name = "N", conflicts_with = "resume", value_parser = count(1_000_000_000))]
    pub(crate) limit: Option<usize>,
    /// Worked examples in front of every question.
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    pub(crate) few_shot: Option<usize>,
    /// Logits are divided by it; 0 takes the likeliest token. By default the benchmark's.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) temperature: Option<f64>,
    /// Longest completion, in tokens; by default the benchmark's.
    #[arg(long, conflicts_with = "resume", value_parser = count(1 << 24))]
    pub(crate) max_tokens: Option<usize>,
    /// Replace a value of every benchmark, such as `--set prompt.chat=false`; may be given several times.
    #[arg(long, value_name = "KEY.KEY=VALUE", conflicts_with = "resume")]
    pub(crate) set: Vec<String>,
    /// Where the draws come from: the same seed gives the same completions.
    #[arg(long, default_value_t = 0, conflicts_with = "resume")]
    pub(crate) seed: u64,
    /// The models are runs of one recipe that differ in the seed: split their spread into chance and quality.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) replicas: bool,
    /// The folder to make; by default evals/MODEL-BENCHMARK. One that exists is never overwritten.
    #[arg(long, value_name = "FOLDER", conflicts_with = "resume")]
    pub(crate) out: Option<PathBuf>,
    /// Go on with an evaluation that was interrupted: no sample is drawn twice, and the result is the same.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) resume: Option<PathBuf>,
    /// Ask this server with OpenAI's interface, such as http://127.0.0.1:8000.
    #[arg(long, value_name = "URL", conflicts_with = "resume")]
    pub(crate) server: Option<String>,
    /// The environment variable that holds the server's key.
    #[arg(long, value_name = "NAME", requires = "server")]
    pub(crate) key_variable: Option<String>,
    /// Seconds that a completion may take on the server.
    #[arg(long, default_value_t = 600.0, requires = "server")]
    pub(crate) request_seconds: f64,
    /// Completions that are sampled side by side; 64 by default.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rows: Option<u16>,
    /// GiB for keys and values.
    #[arg(long, default_value_t = 4.0)]
    pub(crate) kv_memory: f64,
    /// Branch, tag or commit on the hub.
    #[arg(long)]
    pub(crate) revision: Option<String>,
    /// Where to compute: auto, cpu, cuda:0 …
    #[arg(long, default_value = "auto")]
    pub(crate) device: DeviceRecipe,
    /// How products are computed on the CPU: auto, f32 or bf16.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) compute: ComputeRecipe,
    /// Questions of each benchmark to put on the page.
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub(crate) read: usize,
    /// Print evaluation.json instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `evenkeel compare`
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Run folders, or folders of evaluations. The first is what the others are compared with; runs whose recipes differ in
    /// nothing but the seed are taken together.
    #[arg(required = true, num_args = 2.., value_name = "FOLDER")]
    pub(crate) folders: Vec<PathBuf>,
    /// The metric whose curves are shown.
    #[arg(long, default_value = "eval_accuracy")]
    pub(crate) metric: String,
    /// Compare although they were measured in different ways; the differences are named.
    #[arg(long)]
    pub(crate) force: bool,
    /// Write a page with the curves here.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `evenkeel reward`
#[derive(Debug, Args)]
pub(crate) struct RewardArgs {
    /// JSON lines, `.zst` or not, such as runs/NAME/rollouts/step-000010.jsonl.zst.
    pub(crate) file: PathBuf,
    /// The recipe whose [rewards] judge: a file, or a built-in one.
    #[arg(long, short, value_name = "RECIPE")]
    pub(crate) recipe: String,
    /// Replace a value of the recipe, such as `--set rewards.math.tolerance=0.01`; may be given several times.
    #[arg(long, value_name = "KEY.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// A second recipe, to see where the two differ.
    #[arg(long, value_name = "RECIPE")]
    pub(crate) against: Option<String>,
    /// Rewards of the recipe to compare with each other, such as `--compare math,exact_match`.
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    pub(crate) compare: Option<Vec<String>>,
    /// Only rows that are so.
    #[arg(long)]
    pub(crate) show: Option<Show>,
    /// The column of the completion, where rows are not a run's.
    #[arg(long, default_value = "completion")]
    pub(crate) column: String,
    /// The column of the reference answer; `reward_model.ground_truth` leads into an object.
    #[arg(long, default_value = "answer")]
    pub(crate) answer_column: String,
    /// Rows to print; all are judged.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Judge again whenever the completions, the recipe or a Python file of it changes.
    #[arg(long, conflicts_with = "json")]
    pub(crate) watch: bool,
    /// One JSON object a row.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which rows `evenkeel reward` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Show {
    /// A reward above 0.
    Right,
    /// A reward of 0 or less.
    Wrong,
    /// No reward.
    None,
    /// A function failed.
    Failed,
    /// The two recipes of --against, or the rewards of --compare, say different things.
    Differs,
}

/// `evenkeel sample`
#[derive(Debug, Args)]
pub(crate) struct SampleArgs {
    /// A folder in Hugging Face layout, a run (its newest checkpoint; RUN@best or RUN@120 for another), a name on the hub, or
    /// `tiny`.
    pub(crate) model: String,
    /// What to complete.
    #[arg(long, short, required_unless_present = "prompts")]
    pub(crate) prompt: Option<String>,
    /// A JSONL or Parquet file of prompts. A row's `enable_thinking` goes before the option of that name.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub(crate) prompts: Option<PathBuf>,
    /// The column that the prompt stands in.
    #[arg(long, default_value = "question", requires = "prompts")]
    pub(crate) column: String,
    /// The column of the reference answer, to be kept with the rollouts.
    #[arg(long, requires = "prompts")]
    pub(crate) answer_column: Option<String>,
    /// How the columns of a row become a prompt.
    #[arg(long, default_value = "{question}", requires = "prompts")]
    pub(crate) template: String,
    /// Write rollouts here, one JSON object a line, each as soon as it is finished.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Go on where an earlier call that wrote to --out was interrupted.
    #[arg(long, requires = "out")]
    pub(crate) resume: bool,
    /// Ask this server with OpenAI's interface, such as http://127.0.0.1:8000; MODEL is the name it serves.
    #[arg(long, value_name = "URL", conflicts_with_all = ["empty_trace", "enable_thinking", "speculate"])]
    pub(crate) server: Option<String>,
    /// The environment variable that holds the server's key.
    #[arg(long, value_name = "NAME", requires = "server")]
    pub(crate) key_variable: Option<String>,
    /// Seconds that a completion may take on the server.
    #[arg(long, default_value_t = 600.0, requires = "server")]
    pub(crate) request_seconds: f64,
    /// Completions that are sampled side by side; 64 by default.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rows: Option<u16>,
    /// GiB for keys and values.
    #[arg(long, default_value_t = 4.0)]
    pub(crate) kv_memory: f64,
    /// Guess tokens from what was written before: the same completions, faster where few are sampled side by side.
    #[arg(long)]
    pub(crate) speculate: bool,
    /// End the prompt with an empty trace, so that the policy answers at once.
    #[arg(long)]
    pub(crate) empty_trace: bool,
    /// Send the prompt as the user's message through the checkpoint's chat template.
    #[arg(long)]
    pub(crate) chat: bool,
    /// A system message, with --chat.
    #[arg(long, requires = "chat")]
    pub(crate) system: Option<String>,
    /// Tell the chat template whether the model may think first.
    #[arg(long, requires = "chat")]
    pub(crate) enable_thinking: Option<bool>,
    /// Completions to draw of each prompt.
    #[arg(long, short, default_value_t = 1, value_parser = count(1_000_000))]
    pub(crate) number: usize,
    /// Longest completion, in tokens.
    #[arg(long, default_value_t = 256, value_parser = count(1 << 24))]
    pub(crate) max_tokens: usize,
    /// Logits are divided by it; 0 takes the likeliest token.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) temperature: f64,
    /// Only this many of the likeliest tokens; 0 for all.
    #[arg(long, default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Only the likeliest tokens that together have this share.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) top_p: f64,
    /// Only tokens at least this likely relative to the likeliest.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) min_p: f64,
    /// Logits of tokens that were there before are divided by it if positive, multiplied if not.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) repetition_penalty: f64,
    /// Shortest completion, in tokens.
    #[arg(long, default_value_t = 0)]
    pub(crate) min_tokens: usize,
    /// Close a `<think>` block after so many tokens.
    #[arg(long)]
    pub(crate) thinking_budget: Option<usize>,
    /// Record the entropy of every token's distribution.
    #[arg(long)]
    pub(crate) entropy: bool,
    /// Record so many of the likeliest tokens at every place.
    #[arg(long, default_value_t = 0)]
    pub(crate) top_log_probs: usize,
    /// A text that ends a completion; may be given several times.
    #[arg(long)]
    pub(crate) stop: Vec<String>,
    /// Where the draws come from: the same seed gives the same completions.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Branch, tag or commit on the hub.
    #[arg(long)]
    pub(crate) revision: Option<String>,
    /// Where to compute: auto, cpu, cuda:0 …
    #[arg(long, default_value = "auto")]
    pub(crate) device: DeviceRecipe,
    /// How products are computed on the CPU: auto, f32 or bf16.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) compute: ComputeRecipe,
    /// Print rollouts as JSON lines, with tokens and log-probs.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `evenkeel variance`
#[derive(Debug, Args)]
pub(crate) struct VarianceArgs {
    /// A recipe file, a built-in recipe, or a toy policy: `bandit` or `two-step`.
    pub(crate) recipe: String,
    /// Replace a value of the recipe, such as `--set policy.checkpoint=runs/tiny/checkpoints/step-000120`.
    #[arg(long, value_name = "KEY.KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Prompts to look at; those whose rewards hardly vary are left out.
    #[arg(long, default_value_t = 8, value_parser = count(1_000_000))]
    pub(crate) prompts: usize,
    /// Independent groups of each prompt: 64 of a recipe, 300 of a toy.
    #[arg(long, value_parser = count(1_000_000))]
    pub(crate) groups: Option<usize>,
    /// Rollouts of a group; by default the recipe's, and 4 of a toy.
    #[arg(long, value_parser = count(65_536))]
    pub(crate) group_size: Option<usize>,
    /// Where the draws come from; by default the recipe's seed.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Take inner products from random projections of so many numbers. By default whole gradients are kept if --memory
    /// allows it, else projections of 4096.
    #[arg(long, value_name = "NUMBERS")]
    pub(crate) sketch: Option<usize>,
    /// GiB that the gradients of one prompt's rollouts may take.
    #[arg(long, default_value_t = 4.0)]
    pub(crate) memory: f64,
    /// Write a picture (SVG) here.
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

impl VarianceArgs {
    /// What makes no sense, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.prompts == 0 {
            return Some("--prompts is 0; wanted at least 1".into());
        }
        if let Some(groups) = self.groups.filter(|groups| *groups < 4) {
            return Some(format!("--groups is {groups}; wanted at least 4, to tell noise from signal"));
        }
        if let Some(size) = self.group_size.filter(|size| *size < 2) {
            return Some(format!("--group-size is {size}; wanted at least 2"));
        }
        if let Some(width) = self.sketch.filter(|width| !(64..=1 << 20).contains(width)) {
            return Some(format!("--sketch is {width}; wanted 64 to 1048576"));
        }
        if !(self.memory.is_finite() && self.memory > 0.0) {
            return Some(format!("--memory is {}; wanted more than 0", self.memory));
        }
        None
    }
}

/// `evenkeel bench`
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to measure; by default everything.
    #[arg(value_enum)]
    pub(crate) parts: Vec<BenchPart>,
    /// Models: qwen2.5-0.5b, qwen3-0.6b, 512x8, 256x6, or a checkpoint.
    #[arg(long, value_delimiter = ',', default_values = ["512x8", "qwen2.5-0.5b"])]
    pub(crate) shape: Vec<String>,
    /// Only f32 or only bf16; by default both.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) compute: ComputeRecipe,
    /// Threads; by default one a core.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
    /// Rows of a training step.
    #[arg(long, default_value_t = 8, value_parser = count(65_536))]
    pub(crate) batch: usize,
    /// Tokens of each.
    #[arg(long, default_value_t = 256, value_parser = count(1 << 24))]
    pub(crate) length: usize,
    /// Tokens of a forward pass in training.
    #[arg(long, default_value_t = 2048, value_parser = count(1 << 24))]
    pub(crate) micro_batch: usize,
    /// Measured training steps.
    #[arg(long, default_value_t = 3, value_parser = count(1_000_000))]
    pub(crate) steps: usize,
    /// Rows decoded side by side.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32], value_parser = count(65_536))]
    pub(crate) rows: Vec<usize>,
    /// Tokens before the first decoded one.
    #[arg(long, value_delimiter = ',', default_values_t = [64], value_parser = count(1 << 24))]
    pub(crate) context: Vec<usize>,
    /// Let decoded rows share the keys and values of those tokens, as the rollouts of a group do.
    #[arg(long)]
    pub(crate) shared: bool,
    /// Rollouts for every slot, for the rollout part.
    #[arg(long, default_value_t = 4, value_parser = count(65_536))]
    pub(crate) per_slot: usize,
    /// Rollouts of a prompt, for the rollout part.
    #[arg(long, default_value_t = 1, value_parser = count(65_536))]
    pub(crate) group: usize,
    /// Guess tokens, for the rollout part.
    #[arg(long)]
    pub(crate) speculate: bool,
    /// Decoded tokens of each row.
    #[arg(long, default_value_t = 16, value_parser = count(1 << 24))]
    pub(crate) tokens: usize,
    /// Seconds for each of the shorter measurements.
    #[arg(long, default_value_t = 0.5)]
    pub(crate) seconds: f64,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A part of `evenkeel bench`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BenchPart {
    /// Matrix products.
    Products,
    /// Training steps.
    Train,
    /// Decoding steps.
    Decode,
    /// Rollouts of mixed lengths through the whole sampler: prompts of 64 to 256 tokens, completions of 16 to 256, four
    /// rollouts a slot; only when asked for.
    Rollout,
    /// Updates with the exact optimal baseline against updates with the group mean; only when asked for.
    Ledger,
}

impl BenchArgs {
    /// What makes no sense, if anything.
    fn problem(&self) -> Option<String> {
        let counts = [
            ("batch", self.batch),
            ("length", self.length),
            ("micro-batch", self.micro_batch),
            ("steps", self.steps),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Some(format!("--{name} is 0; wanted at least 1"));
        }
        if self.rows.contains(&0) || self.context.contains(&0) || self.tokens < 2 {
            return Some("--rows and --context must be at least 1 and --tokens at least 2".into());
        }
        if self.group == 0 || self.per_slot == 0 {
            return Some("--group and --per-slot must be at least 1".into());
        }
        if !(self.seconds > 0.0 && self.seconds <= 60.0) {
            return Some(format!("--seconds is {}; wanted more than 0 and at most 60", self.seconds));
        }
        None
    }
}

/// A mistake of the caller: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(String);

impl Usage {
    pub(crate) fn error(text: impl Into<String>) -> anyhow::Error {
        Self(text.into()).into()
    }
}

/// Reads the command line, runs it, says what went wrong.
pub(crate) fn main(
    custom: &CustomRewards,
    stop: Stop,
    signals: bool,
    arguments: impl IntoIterator<Item = std::ffi::OsString>,
) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("EVENKEEL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // a program with a subscriber of its own keeps it
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| crate::message::Log)
        // colours are escape sequences, and a log may quote those of others, which are not obeyed
        .with_ansi(false)
        // it would panic where standard error is closed, as after a terminal that went away
        .log_internal_errors(false)
        .try_init();
    let words: Vec<std::ffi::OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(with_commas(words.iter().cloned())) {
        Ok(cli) => cli,
        Err(error) => {
            // help and version are no mistakes; nobody is left to tell if printing fails
            let text = error.render().to_string();
            match printable(&text) {
                Cow::Borrowed(_) => drop(error.print()),
                Cow::Owned(shown) => line(shown.trim_end()),
            }
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let session = Session::new(stop, words.clone());
    if signals
        && cli.command.keeps()
        && let Err(error) = interrupt::watch_signals(&session.stop)
    {
        line(&format!("signals will end the program at once, as they cannot be handled: {error:#}"));
    }
    let out = std::io::stdout().lock();
    // JSON for another program has its bytes as they are; on a terminal it has other escapes for some characters
    let exact = words.iter().any(|word| word == "--json") && !std::io::IsTerminal::is_terminal(&out);
    let to: Box<dyn Write> = if exact { Box::new(out) } else { Box::new(Printable::new(out)) };
    let mut out = Output { to, closed: false };
    match execute(&cli, custom, &session, &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if out.left(&error) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
                line(&interrupted.to_string());
                session.stop.tell_how_to_go_on();
                return ExitCode::from(interrupted.exit_code());
            }
            line(&format!("error: {}", message::of(&error)));
            session.stop.tell_how_to_go_on();
            ExitCode::from(if is_usage(&error) { 2 } else { 1 })
        }
    }
}

/// Where results are printed, and whether its reader has gone away.
struct Output<W> {
    to: W,
    closed: bool,
}

impl<W: Write> Output<W> {
    /// Whether this is the error of a reader that went away, as `| head` does. A broken pipe elsewhere, such as to a
    /// program that judges or to a server, is a failure.
    fn left(&self, error: &anyhow::Error) -> bool {
        let broken = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
        self.closed && error.root_cause().downcast_ref().is_some_and(broken)
    }

    fn noted<T>(&mut self, outcome: std::io::Result<T>) -> std::io::Result<T> {
        self.closed |= outcome.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe);
        outcome
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let outcome = self.to.write(bytes);
        self.noted(outcome)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let outcome = self.to.flush();
        self.noted(outcome)
    }
}

/// Whether the caller has to mend something.
pub(crate) fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<Usage>() || cause.is::<RecipeError>())
}

impl Command {
    /// Whether it keeps something while it runs, to go on with.
    fn keeps(&self) -> bool {
        match self {
            Self::Train(_) | Self::Eval(_) => true,
            Self::Sample(args) => args.out.is_some(),
            _ => false,
        }
    }
}

fn execute(cli: &Cli, custom: &CustomRewards, session: &Session, out: &mut dyn Write) -> Result<()> {
    match &cli.command {
        Command::Train(args) => train(args, custom, session, out),
        Command::Check(args) => {
            let plan = Plan::new(Recipe::load(&recipe_of(&args.recipe), &args.set)?, custom)?;
            check::print(&plan, args, out)
        }
        Command::Explain { key, json } => explain::explain(key, *json, out),
        Command::Schema => explain::print_schema(out),
        Command::Eval(args) => evaluate::run(args, custom, session, out),
        Command::Compare(args) => compare::run(args, out),
        Command::Benchmarks { name, data } => benchmark::show(name.as_deref(), data.as_deref(), out),
        Command::Reward(args) => reward::run(args, custom, out),
        Command::Sample(args) => sample::sample(args, session, out),
        Command::Variance(args) => variance::variance(args, custom, out),
        Command::Bench(args) => match args.problem() {
            Some(problem) => Err(Usage::error(problem)),
            None => bench::bench(args, out),
        },
        Command::Presets { name: Some(name) } => {
            match preset::PRESETS.iter().find(|(known, _, _)| known == name) {
                Some((_, about, text)) => Ok(write!(out, "# {about}\n{text}")?),
                None => {
                    let hint = preset::hint(name);
                    Err(Usage::error(format!("there is no preset `{name}`; see `evenkeel presets`{hint}")))
                }
            }
        }
        Command::Presets { name: None } => listing::presets(out),
        Command::Recipes { name: Some(name) } => {
            let (_, text) = builtin::recipe_text(name)?;
            Ok(write!(out, "{text}")?)
        }
        Command::Recipes { name: None } => listing::recipes(out),
    }
}

/// The recipe that is meant, where a run's folder means the one that it was made by.
fn recipe_of(name: &str) -> String {
    let folder = std::path::Path::new(name);
    match is_run(folder) {
        true => folder.join("recipe.toml").display().to_string(),
        false => name.to_owned(),
    }
}

/// Lists of `evenkeel bench` may have spaces between their values, as well as commas: they become commas.
fn with_commas(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    let mut all: Vec<std::ffi::OsString> = Vec::new();
    let (mut list, mut values) = (None, 0);
    for argument in arguments {
        let text = argument.to_str().unwrap_or_default().to_owned();
        let bench = all.get(1).is_some_and(|command| command == "bench");
        let goes_on = match list {
            Some("--shape") => <BenchPart as clap::ValueEnum>::from_str(&text, false).is_err(),
            Some(_) => text.split(',').all(|number| number.parse::<usize>().is_ok()),
            None => false,
        } && !text.starts_with('-');
        if goes_on && values > 0 {
            if let Some(last) = all.last_mut() {
                last.push(",");
                last.push(&argument);
            }
            continue;
        }
        let begins = ["--rows", "--context", "--shape"].into_iter().find(|flag| bench && *flag == text);
        (list, values) = if goes_on { (list, 1) } else { (begins, 0) };
        all.push(argument);
    }
    all
}

fn train(args: &TrainArgs, custom: &CustomRewards, session: &Session, out: &mut dyn Write) -> Result<()> {
    let (recipe, place) = match (&args.recipe, &args.resume) {
        (_, Some(run)) => {
            let (resumed, recipe) = Resumed::of(run, &args.set)?;
            (recipe, Place::Resumed(resumed))
        }
        (Some(name), None) => (Recipe::load(name, &args.set)?, Place::New(args.out.clone())),
        (None, None) => return Err(Usage::error("name a recipe, or a run by --resume")),
    };
    let plan = Plan::new(recipe, custom)?.stop_by(session.stop.clone());
    let begun = std::time::Instant::now();
    let outcome = run::train(&plan, &place).inspect_err(|error| {
        if is_usage(error) {
            session.stop.cannot_go_on();
        }
    })?;
    let newest = save::latest(&outcome.folder)?.context("the run left no checkpoint")?;
    if let Some(before) = &outcome.before {
        writeln!(out, "held-out accuracy before: {}", run::describe(before))?;
    }
    if let Some(after) = &outcome.after {
        writeln!(out, "held-out accuracy after:  {}", run::describe(after))?;
        if let Some(target) = plan.recipe.eval.as_ref().and_then(|eval| eval.target) {
            let verdict = if after.share >= target { "reached" } else { "missed" };
            writeln!(out, "target of {:.0} %: {verdict}", 100.0 * target)?;
        }
    }
    writeln!(
        out,
        "{:.0} s; run folder {}; checkpoint {}",
        begun.elapsed().as_secs_f64(),
        outcome.folder.display(),
        newest.display()
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, ErrorKind};

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(Error::from(ErrorKind::BrokenPipe))
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_a_reader_of_our_own_output_that_leaves_is_no_failure() {
        let elsewhere = anyhow::Error::from(Error::from(ErrorKind::BrokenPipe)).context("a server left");
        let mut whole = Output { to: Vec::new(), closed: false };
        writeln!(whole, "text").expect("written");
        assert!(!whole.left(&elsewhere));
        let mut gone = Output { to: Gone, closed: false };
        let own = anyhow::Error::from(writeln!(gone, "text").unwrap_err());
        assert!(gone.left(&own.context("could not print")));
        assert!(!gone.left(&anyhow::anyhow!("something else")));
    }

    #[test]
    fn lists_of_bench_have_spaces_or_commas() {
        let bench = |line: &str| match Cli::try_parse_from(with_commas(line.split(' ').map(Into::into))) {
            Ok(Cli { command: Command::Bench(args) }) => args,
            Ok(_) => panic!("{line}: another command"),
            Err(error) => panic!("{line}: {error}"),
        };
        for line in [
            "evenkeel bench --rows 1 8 32",
            "evenkeel bench --rows 1,8,32",
            "evenkeel bench --rows 1,8 32",
            "evenkeel bench --rows=1,8,32",
            "evenkeel bench",
        ] {
            assert_eq!(bench(line).rows, [1, 8, 32], "{line}");
        }
        let both =
            bench("evenkeel bench --rows 4 8 decode --context 64 128 --shape 256x6 512x8 train --json");
        assert_eq!((both.rows.as_slice(), both.context.as_slice()), (&[4, 8][..], &[64, 128][..]));
        assert_eq!((both.shape.len(), both.parts.len(), both.json), (2, 2, true));
        // other commands keep their words
        let line = ["evenkeel", "sample", "tiny", "--rows", "4", "--prompt", "8"].map(Into::into);
        assert_eq!(with_commas(line.clone()), line);
    }
}
