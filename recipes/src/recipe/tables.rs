//! What a recipe says of the policy, data, rewards, measuring and keeping.
//!
//! Before and after: see [`super`].

use std::path::PathBuf;

use data::{Arithmetic, Columns, Countdown, Filter, HeldBack, Layout};
use engine::model::{NewModel, Recompute, WeightDtype};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::numbers::Count;
use crate::device::DeviceRecipe;

/// `[policy]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyRecipe {
    /// A folder in Hugging Face layout, seen from the recipe's folder or else from where the program was started; a name on
    /// the hub such as `Qwen/Qwen2.5-0.5B-Instruct`; or `tiny`, which is inside the binary.
    pub checkpoint: String,
    /// Branch, tag or commit on the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Given to the chat template: whether the model may think before it answers. By default the template decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_thinking: Option<bool>,
    /// Where the policy lives: `"cpu"`, `"cuda:0"`, or `"auto"`: the GPU if build and machine have one.
    #[serde(default)]
    pub device: DeviceRecipe,
    /// How products are computed on the CPU: `"f32"`, `"bf16"` (inputs rounded to bf16, everything else f32), or
    /// `"auto"`: bf16 where the processor multiplies it faster and the model is large enough to gain.
    #[serde(default)]
    pub compute: ComputeRecipe,
    /// What a backward pass does about the values inside a layer: `"layer"` computes them again and takes least memory,
    /// `"none"` keeps them and is faster.
    #[serde(default)]
    pub recompute: Recompute,
    /// Start from random weights of this shape instead, with the checkpoint's tokenizer and template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<NewModel>,
}

/// `compute` of `[policy]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum ComputeRecipe {
    /// The program chooses and says what and why.
    #[default]
    Auto,
    /// Everything in f32.
    F32,
    /// Inputs of products in bf16.
    Bf16,
}

/// `[thinking]`: what a prompt ends with. A chat template that knows `enable_thinking` opens and closes the block itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ThinkingRecipe {
    /// Put behind the prompt where the policy is to think.
    pub open: String,
    /// Put behind the prompt where it is not: an empty trace, which is part of the prompt and never trained on.
    pub empty_trace: String,
}

impl Default for ThinkingRecipe {
    fn default() -> Self {
        Self { open: String::new(), empty_trace: "<think>\n\n</think>\n\n".into() }
    }
}

/// `[data.arithmetic]`, `[data.countdown]`, `[data.jsonl]`, `[data.csv]` or `[data.parquet]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataRecipe {
    /// Generated problems such as `12+7=`.
    Arithmetic(Arithmetic),
    /// Generated problems: reach a target with given numbers.
    Countdown(Countdown),
    /// A file with one JSON object a line, or one list of objects; it may be packed (`.gz`, `.zst`).
    Jsonl(FileRecipe),
    /// A file of comma-separated values (tabs in a `.tsv`) whose first line names the columns; it may be packed.
    Csv(FileRecipe),
    /// A Parquet file, as datasets of the hub are.
    Parquet(FileRecipe),
}

/// `[data.jsonl]`, `[data.csv]` and `[data.parquet]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRecipe {
    /// The file, seen from the recipe's folder, or else from where the program was started; or several by a pattern such as
    /// `"data/train-*.parquet"`, in the order of their names.
    pub path: PathBuf,
    /// What the columns hold: by default what those of the first row tell, which `evenkeel check` prints. `"plain"` takes
    /// `question` and `answer` as they stand, `"gsm8k"` the number after `####`, `"math"` the last `\\boxed{}` of
    /// `solution`, `"verl"` and `"trl"` the columns of these libraries.
    #[serde(default)]
    pub layout: Layout,
    /// What the columns are called; a name such as `reward_model.ground_truth` leads into an object.
    #[serde(default)]
    pub columns: Columns,
    /// Only the first rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take: Option<usize>,
    /// Which rows are left out, such as `{ max_chars = 2000, keep = { level = "^[345]$" } }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Rows that are not trained on, such as `{ fraction = 0.05 }`; `[eval]` asks them if it has no data of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_back: Option<HeldBack>,
}

impl FileRecipe {
    /// All rows of a file.
    pub(crate) fn of(path: PathBuf, layout: Layout, columns: Columns) -> Self {
        Self { path, layout, columns, take: None, filter: None, hold_back: None }
    }
}

/// `[eval]`: accuracy on held-out prompts while training. The draws are the same at every step and in every run of one seed, so
/// that curves can be compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvalRecipe {
    /// Steps between measurements; the first is before training, the last after it.
    pub every: Count,
    /// Prompts to take.
    pub prompts: Count,
    /// Where they come from; may be left out for `[data.arithmetic]` and `[data.countdown]`, which hold problems back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataRecipe>,
    /// A benchmark instead, by name or a file that ends in .toml: with its own prompts, judge, sampling and token budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bench: Option<String>,
    /// Rollouts of each prompt; by default one, or the benchmark's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Count>,
    /// Longest completion in tokens; by default that of `[rl.sampling]`, or 256 without one, or the benchmark's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<Count>,
    /// Temperature of the draws, 0 for the likeliest token; by default 1, or the benchmark's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The reward function that decides; by default the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<String>,
    /// Accuracy that the run is meant to reach, in 0..1: the last line says whether it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<f64>,
}

/// `[save]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SaveRecipe {
    /// Steps between checkpoints; there is always one at the end of a stage.
    pub every: Count,
    /// Checkpoints kept, the newest ones.
    pub keep: Count,
    /// Number format of the weights in a checkpoint. Resuming is exact whatever it is.
    pub dtype: WeightDtype,
    /// Keep the checkpoint with the largest value of this metric as well, such as `"eval_accuracy"`; with a minus in front
    /// smaller is better, as in `"-eval.tokens_mean"`. Of many noisy figures the best is better than it will be again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<String>,
    /// Whether every step's rollouts are written.
    pub rollouts: bool,
}

impl Default for SaveRecipe {
    fn default() -> Self {
        Self { every: Count(50), keep: Count(2), dtype: WeightDtype::Bf16, best: None, rollouts: true }
    }
}
