//! What a recipe file says: strict, sparse, typed.
//!
//! Before: TOML. After: [`crate::Plan`] resolves it. Unknown keys are refused with line, column and the nearest known
//! key; ranges are types, so that a bad value is refused where it stands. Defaults are the published settings.

use std::path::PathBuf;

use data::{Arithmetic, Columns, Layout, PromptTemplate};
use engine::baseline::{BaselineConfig, Scale};
use engine::batch::{Overlong, Truncated};
use engine::ledger::LedgerConfig;
use engine::mixture::{Alpha, MixtureConfig};
use engine::model::{NewModel, Recompute, WeightDtype};
use engine::objective::preference::PreferenceLoss;
use engine::objective::{Aggregate, Correction, Kl, ObjectiveConfig};
use engine::pairs::Branch;
use engine::schedule::Schedule;
use engine::transform::OptimizerConfig;
use indexmap::IndexMap;
use rewards::{Checks, Extract};
use rollout::backend::BackendConfig;
use rollout::{Sampling, Slots, Speculate};
use serde::{Deserialize, Serialize};

use crate::device::DeviceRecipe;

/// A whole recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What the run is called; by default what the recipe file is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where all randomness comes from.
    #[serde(default)]
    pub seed: u64,
    /// Which model.
    pub policy: PolicyRecipe,
    /// Which prompts to train on.
    pub data: DataRecipe,
    /// How a dataset row becomes a prompt.
    #[serde(default)]
    pub prompt: PromptTemplate,
    /// Where rollouts come from.
    #[serde(default)]
    pub rollout: RolloutRecipe,
    /// What a rollout earns.
    #[serde(default)]
    pub rewards: RewardsRecipe,
    /// The supervised stage, if there is one; it comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sft: Option<SftRecipe>,
    /// The reinforcement-learning stage, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rl: Option<RlRecipe>,
    /// The preference stage, if there is one; it comes last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<PreferenceRecipe>,
    /// How the policy thinks, for stages that mix answers with and without a trace.
    #[serde(default)]
    pub thinking: ThinkingRecipe,
    /// How progress is measured, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval: Option<EvalRecipe>,
    /// What is kept.
    #[serde(default)]
    pub save: SaveRecipe,
}

/// `[policy]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRecipe {
    /// A folder in Hugging Face layout, a name on the hub such as `Qwen/Qwen2.5-0.5B-Instruct`, or `tiny`, which is
    /// inside the binary.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// `[preference]`: pairs of completions, one preferred (DPO and its family, BVPO).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreferenceRecipe {
    /// Updates.
    pub steps: Count,
    /// Pairs of each branch in an update.
    pub pairs_per_step: Count,
    /// Where pairs come from: `{ sample = { prompts = 256, group_size = 8 } }` takes the best and the worst of each prompt's
    /// rollouts by reward, `{ jsonl = { path = "pairs.jsonl" } }` reads `prompt`, `chosen`, `rejected` and `thinking`.
    pub pairs: PairsRecipe,
    /// The loss of a pair.
    #[serde(default)]
    pub loss: PreferenceLoss,
    /// α of the gradient with traces in the mixture with that of empty traces.
    #[serde(default)]
    pub mixture: MixtureConfig,
    /// Parts of each branch whose gradients are seen apart, for `alpha = "moment"`.
    #[serde(default = "eight")]
    pub chunks: Count,
    /// Tokens of one forward pass; a pair is never split.
    #[serde(default = "micro_batch_tokens")]
    pub micro_batch_tokens: Count,
    /// How gradients become changes.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// Learning rate.
    #[serde(default)]
    pub schedule: Schedule,
    /// How completions are drawn, where they are.
    #[serde(default)]
    pub sampling: Sampling,
}

fn eight() -> Count {
    Count(8)
}

/// `pairs` of `[preference]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairsRecipe {
    /// Sampled before the stage begins, by the policy that it begins with.
    Sample(SamplePairs),
    /// Read from a file.
    Jsonl(PairsFile),
}

/// `pairs.sample` of `[preference]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplePairs {
    /// Prompts to sample.
    pub prompts: Count,
    /// Rollouts of each prompt and branch.
    pub group_size: GroupSize,
    /// Which branches.
    #[serde(default = "both_branches")]
    pub branches: Vec<Branch>,
}

fn both_branches() -> Vec<Branch> {
    vec![Branch::Thinking, Branch::Empty]
}

/// `pairs.jsonl` of `[preference]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairsFile {
    /// The file, seen from where the program was started.
    pub path: PathBuf,
}

/// `[data.arithmetic]` or `[data.jsonl]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataRecipe {
    /// Generated problems such as `12+7=`.
    Arithmetic(Arithmetic),
    /// A file with one JSON object a line.
    Jsonl(JsonlRecipe),
}

/// `[data.jsonl]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonlRecipe {
    /// The file, seen from where the program was started.
    pub path: PathBuf,
    /// `gsm8k` takes the number after `####` as the answer.
    #[serde(default)]
    pub layout: Layout,
    /// What the columns are called.
    #[serde(default)]
    pub columns: Columns,
    /// Only the first rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take: Option<usize>,
}

/// `[rewards]`: the sum of what is named here.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardsRecipe {
    /// 1 if the answer is the reference answer, letter by letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_match: Option<MatchRecipe>,
    /// 1 if the answer is the same number as the reference answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numeric_match: Option<MatchRecipe>,
    /// 1 if the completion has the form asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FormatRecipe>,
    /// Functions of the program that runs the recipe, by name.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub custom: IndexMap<String, CustomRecipe>,
}

/// `[rewards.exact_match]` and `[rewards.numeric_match]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchRecipe {
    /// Factor in the sum; 0 only shows it.
    #[serde(default = "one")]
    pub weight: f32,
    /// Where the answer stands: by default the whole text for an exact match, and box, `####` or last number for a
    /// numeric one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extract: Option<Extract>,
}

/// `[rewards.format]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormatRecipe {
    /// Factor in the sum; 0 only shows it.
    #[serde(default = "one")]
    pub weight: f32,
    /// The answer stands in a `\boxed{}`.
    #[serde(default)]
    pub boxed: bool,
    /// It begins with one `<think>` block.
    #[serde(default)]
    pub think: bool,
    /// The policy ended it by itself.
    #[serde(default)]
    pub ends: bool,
}

impl FormatRecipe {
    /// The checks that were chosen.
    pub fn checks(&self) -> Checks {
        Checks { boxed: self.boxed, think: self.think, ends: self.ends }
    }
}

/// `[rewards.custom.NAME]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomRecipe {
    /// Factor in the sum; 0 only shows it.
    #[serde(default = "one")]
    pub weight: f32,
}

fn one() -> f32 {
    1.0
}

/// `[sft]`: prompt → reference answer, with the loss on the answer only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftRecipe {
    /// Updates.
    pub steps: Count,
    /// Examples in an update.
    pub batch_size: Count,
    /// What the policy should write: `{answer}` stands for the reference answer and `{prompt}` for a plain-text
    /// prompt. With several, one is drawn each time an example is used.
    #[serde(default = "answer_templates")]
    pub answer_templates: Vec<String>,
    /// The same behind an empty trace; `{trace}` is the prompt's column of that name, here and above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty_templates: Vec<String>,
    /// Padded tokens of one forward pass.
    #[serde(default = "micro_batch_tokens")]
    pub micro_batch_tokens: Count,
    /// How gradients become changes.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// Learning rate.
    pub schedule: Schedule,
}

fn answer_templates() -> Vec<String> {
    vec!["{answer}".to_owned()]
}

/// `[rl]`: sample groups, score them, update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RlRecipe {
    /// A published method whose settings fill in what this table leaves out, see `evenkeel presets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Rounds of sampling and training.
    pub steps: Count,
    /// Prompts in a step.
    pub prompts_per_step: Count,
    /// Rollouts of each prompt.
    pub group_size: GroupSize,
    /// Times that each rollout is trained on.
    #[serde(default = "one_count")]
    pub epochs: Count,
    /// Updates in an epoch; at most `prompts_per_step`.
    #[serde(default = "one_count")]
    pub mini_batches: Count,
    /// Padded tokens of one forward pass.
    #[serde(default = "micro_batch_tokens")]
    pub micro_batch_tokens: Count,
    /// What becomes of a rollout that ran out of tokens: `"keep"`, `"mask"`, `{ penalise = 0.5 }`, or
    /// `{ overlong = { buffer = 0.2 } }`, which takes from the reward of all that come near the end of the budget.
    pub truncated: Truncated,
    /// Sample on until the step's groups all have rewards that differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic_sampling: Option<DynamicSampling>,
    /// What is subtracted from rewards.
    #[serde(default)]
    pub baseline: BaselineConfig,
    /// What advantages are divided by: `"group"`, `"batch"`, `"whiten"` or `"none"`.
    #[serde(default)]
    pub scale: Scale,
    /// The loss of a token.
    #[serde(default)]
    pub objective: ObjectiveConfig,
    /// How tokens become one number: `"token_mean"`, `"sequence_mean"` or `{ constant = { tokens = 400 } }`, which takes
    /// the largest completion if it says no number.
    #[serde(default)]
    pub aggregate: Aggregate,
    /// A pull towards the policy that the stage began with, in the loss or in the reward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<Kl>,
    /// What a nat of the policy's entropy earns.
    #[serde(default)]
    pub entropy_bonus: f32,
    /// Importance weights for a sampler whose probabilities are not the trainer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<Correction>,
    /// What is watched of gradients.
    #[serde(default)]
    pub ledger: LedgerConfig,
    /// Sample each prompt with and without a trace, and mix the two gradients (ours, after BVPO).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixture: Option<MixtureConfig>,
    /// How gradients become changes.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// Learning rate.
    #[serde(default)]
    pub schedule: Schedule,
    /// How completions are drawn.
    #[serde(default)]
    pub sampling: Sampling,
    /// Steps that sampling may be ahead of training, side by side with it: rollouts are then of weights that are up to so
    /// many updates old, which `correction` is for. 0: they take turns.
    #[serde(default)]
    pub overlap: usize,
}

/// `dynamic_sampling` of `[rl]`: groups whose rewards are all equal teach nothing, and other prompts take their place
/// (arXiv:2503.14476, DAPO).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DynamicSampling {
    /// Rounds of sampling in a step; after that it trains on what there is.
    pub max_rounds: Count,
}

impl Default for DynamicSampling {
    fn default() -> Self {
        Self { max_rounds: Count(10) }
    }
}

fn one_count() -> Count {
    Count(1)
}

fn micro_batch_tokens() -> Count {
    Count(4096)
}

/// `[rollout]`: where rollouts come from, and what sampling may use at a time. But for the backend nothing of it shows in a
/// rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutRecipe {
    /// `"local"`: this process. `{ vllm = { url = "http://…" } }` or `{ sglang = { … } }`: a server that is handed the
    /// weights.
    pub backend: BackendConfig,
    /// Rollouts sampled side by side.
    pub max_rows: Count,
    /// GiB for keys and values.
    pub kv_memory: f64,
    /// Prompt tokens read in one pass.
    pub prompt_tokens: Count,
    /// Guess tokens from what was written before: the same rollouts, faster where rows are few and texts repeat
    /// themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speculate: Option<Speculate>,
}

impl Default for RolloutRecipe {
    fn default() -> Self {
        Self {
            backend: BackendConfig::Local,
            max_rows: Count(256),
            kv_memory: 4.0,
            prompt_tokens: Count(512),
            speculate: None,
        }
    }
}

impl RolloutRecipe {
    /// The same for the sampler.
    pub(crate) fn slots(&self) -> Slots {
        Slots {
            rows: self.max_rows.get(),
            memory: (self.kv_memory * (1u64 << 30) as f64) as usize,
            prompt_tokens: self.prompt_tokens.get(),
            speculate: self.speculate,
        }
    }

    fn problem(&self) -> Option<String> {
        if !(self.kv_memory.is_finite() && self.kv_memory > 0.0) {
            return Some(format!("kv_memory is {}; wanted more than 0 GiB", self.kv_memory));
        }
        self.speculate.and_then(|s| s.problem()).or_else(|| self.backend.problem())
    }
}

/// `[eval]`: accuracy on held-out prompts, one rollout each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalRecipe {
    /// Steps between measurements; the first is before training, the last after it.
    pub every: Count,
    /// Prompts to take.
    pub prompts: Count,
    /// Where they come from; may be left out for `[data.arithmetic]`, which holds problems back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataRecipe>,
    /// Longest completion in tokens; by default that of `[rl.sampling]`, or 256 without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<Count>,
    /// Temperature of the draws; 0 takes the likeliest token.
    #[serde(default = "one_f64")]
    pub temperature: f64,
    /// The reward function that decides; by default the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<String>,
    /// Accuracy that the run is meant to reach, in 0..1: the last line says whether it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<f64>,
}

fn one_f64() -> f64 {
    1.0
}

/// `[save]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SaveRecipe {
    /// Steps between checkpoints; there is always one at the end of a stage.
    pub every: Count,
    /// Checkpoints kept, the newest ones.
    pub keep: Count,
    /// Number format of the weights in a checkpoint. Resuming is exact whatever it is.
    pub dtype: WeightDtype,
    /// Whether every step's rollouts are written.
    pub rollouts: bool,
}

impl Default for SaveRecipe {
    fn default() -> Self {
        Self { every: Count(50), keep: Count(2), dtype: WeightDtype::Bf16, rollouts: true }
    }
}

/// A number of things, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "usize", into = "usize")]
pub struct Count(usize);

impl Count {
    /// The number.
    pub fn get(self) -> usize {
        self.0
    }
}

impl From<Count> for usize {
    fn from(count: Count) -> usize {
        count.0
    }
}

impl TryFrom<usize> for Count {
    type Error = String;
    fn try_from(n: usize) -> Result<Self, String> {
        if n == 0 { Err("wanted at least 1, not 0".into()) } else { Ok(Self(n)) }
    }
}

/// Rollouts of one prompt, at least 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "usize", into = "usize")]
pub struct GroupSize(usize);

impl GroupSize {
    /// The number.
    pub fn get(self) -> usize {
        self.0
    }
}

impl From<GroupSize> for usize {
    fn from(size: GroupSize) -> usize {
        size.0
    }
}

impl TryFrom<usize> for GroupSize {
    type Error = String;
    fn try_from(n: usize) -> Result<Self, String> {
        if n < 2 {
            return Err(format!("a group needs at least 2 rollouts to compare, not {n}"));
        }
        Ok(Self(n))
    }
}

/// Why a recipe was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// Neither a file nor a built-in recipe.
    #[error("there is no recipe `{name}`: no such file, and the built-in ones are {known}{hint}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The built-in names.
        known: String,
        /// The nearest name, as a sentence.
        hint: String,
    },
    /// The file cannot be read.
    #[error("could not read recipe `{path}`: {source}")]
    Read {
        /// The file.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The text is not a recipe.
    #[error("invalid recipe `{place}`: {message}{hint}")]
    Parse {
        /// The file or built-in name.
        place: String,
        /// Where and why.
        message: String,
        /// The nearest known key, as a sentence.
        hint: String,
    },
    /// A `--set` is not of the form `key.key=value`, or runs into something that is not a table.
    #[error("`--set {text}`: {problem}")]
    Set {
        /// What was given.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// Keys that do not fit each other.
    #[error("recipe `{name}`: {problem}")]
    Conflict {
        /// The recipe.
        name: String,
        /// What does not fit, and what would.
        problem: String,
    },
}

impl Recipe {
    /// Reads a recipe: a file, or a built-in one by its name. Each of `sets`, `key.key=value`, replaces a value.
    ///
    /// # Errors
    /// If it is not found, not valid, or a `--set` does not fit.
    pub fn load(name: &str, sets: &[String]) -> Result<Self, RecipeError> {
        let (place, text) = crate::builtin::recipe_text(name)?;
        let stem = std::path::Path::new(&place).file_stem().and_then(|s| s.to_str()).unwrap_or(&place);
        // the file by itself first: what is wrong in it is found where it stands
        let mut recipe = Self::parse(&place, &text)?;
        let preset = recipe.rl.as_ref().and_then(|rl| rl.preset.clone());
        if !sets.is_empty() || preset.is_some() {
            let mut table: toml::Table =
                text.parse().map_err(|error: toml::de::Error| parse_error(&place, &error))?;
            for set in sets {
                apply(&mut table, set)?;
            }
            let mut with = sets.to_vec();
            if let Some(rl) = table.get_mut("rl").and_then(toml::Value::as_table_mut) {
                with.extend(rl.get("preset").map(|name| format!("preset {name}")));
                crate::preset::expand(rl).map_err(|(name, known)| {
                    let hint = did_you_mean(&name, known.iter().copied());
                    let problem =
                        format!("[rl] preset `{name}` is not known; there are {}{hint}", known.join(", "));
                    RecipeError::Conflict { name: stem.to_owned(), problem }
                })?;
            }
            let text = toml::to_string(&table)
                .map_err(|error| RecipeError::Set { text: sets.join(" "), problem: error.to_string() })?;
            recipe = Self::parse(&format!("{place} with {}", with.join(", ")), &text)?;
        }
        if recipe.name.is_none() {
            recipe.name = Some(stem.to_owned());
        }
        recipe.resolve();
        recipe.check()?;
        Ok(recipe)
    }

    /// Reads a recipe from text; `place` names it in errors.
    ///
    /// # Errors
    /// If it is not valid.
    pub fn parse(place: &str, text: &str) -> Result<Self, RecipeError> {
        toml::from_str(text).map_err(|error| parse_error(place, &error))
    }

    /// What the run is called.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("run")
    }

    /// Whether a stage wants prompts with and without a trace.
    pub(crate) fn thinks(&self) -> bool {
        let sft = self.sft.as_ref().is_some_and(|sft| !sft.empty_templates.is_empty());
        sft || self.preference.is_some() || self.rl.as_ref().is_some_and(|rl| rl.mixture.is_some())
    }

    /// Puts numbers in the place of those that stand for others.
    fn resolve(&mut self) {
        let Some(rl) = &mut self.rl else { return };
        if let Aggregate::Constant { tokens } = &mut rl.aggregate
            && *tokens == 0
        {
            *tokens = rl.sampling.max_tokens;
        }
        if let Truncated::Overlong(Overlong { limit, .. }) = &mut rl.truncated
            && *limit == 0
        {
            *limit = rl.sampling.max_tokens;
        }
        if rl.overlap > 0 {
            // rollouts of older weights
            rl.correction.get_or_insert_with(Correction::default);
        }
    }

    /// What the types cannot say.
    fn check(&self) -> Result<(), RecipeError> {
        let refuse = |problem: String| Err(RecipeError::Conflict { name: self.name().to_owned(), problem });
        if self.sft.is_none() && self.rl.is_none() && self.preference.is_none() {
            return refuse("it has no [sft], [rl] or [preference] table, so there is nothing to do".into());
        }
        if let Some(problem) = self.rollout.problem() {
            return refuse(format!("[rollout] {problem}"));
        }
        if let Some(preference) = &self.preference {
            if preference.sampling.thinking_budget.is_some() {
                return refuse("[preference.sampling] thinking_budget puts tokens into completions that the policy did not draw, and pairs learn from all of theirs".into());
            }
            if let Some(problem) = preference.mixture.problem() {
                return refuse(format!("[preference.mixture] {problem}"));
            }
            if let Some(problem) = preference.sampling.problem() {
                return refuse(format!("[preference.sampling] {problem}"));
            }
            if let PairsRecipe::Sample(sample) = &preference.pairs
                && (sample.branches.is_empty() || preference.sampling.temperature == 0.0)
            {
                return refuse("[preference.pairs.sample] needs at least one branch and a temperature above 0: all rollouts would be alike".into());
            }
        }
        if let Some(sft) = &self.sft {
            if sft.answer_templates.is_empty() {
                return refuse(
                    "[sft] answer_templates is empty; wanted at least one, such as \"{answer}\"".into(),
                );
            }
            if let Some(bad) = sft.answer_templates.iter().find(|template| !template.contains("{answer}")) {
                return refuse(format!(
                    "[sft] answer template {bad:?} has no {{answer}}, so it would teach nothing"
                ));
            }
        }
        if let Some(rl) = &self.rl {
            if let Some(problem) = rl.sampling.problem() {
                return refuse(format!("[rl.sampling] {problem}"));
            }
            if rl.sampling.temperature == 0.0 {
                return refuse("[rl.sampling] temperature is 0, which makes all rollouts of a group alike; wanted more than 0".into());
            }
            if rl.sampling.thinking_budget.is_some()
                && matches!(rl.baseline, BaselineConfig::Optimal(_) | BaselineConfig::Token(_))
            {
                return refuse("[rl.sampling] thinking_budget puts tokens into completions that the policy did not draw, and a weighted baseline measures gradients of whole completions".into());
            }
            if rl.overlap > 0 && rl.mixture.is_some() {
                return refuse("[rl] overlap and mixture do not go together".into());
            }
            if rl.overlap > 0 && rl.sampling.reshapes() {
                return refuse("[rl] overlap weighs rollouts by π_now/π_sampled, which needs log-probs of the whole distribution: leave top_k, top_p, min_p and what changes logits out of [rl.sampling]".into());
            }
            if let Some(mixture) = &rl.mixture {
                if let Some(problem) = mixture.problem() {
                    return refuse(format!("[rl.mixture] {problem}"));
                }
                if mixture.alpha == Alpha::Regression {
                    return refuse("[rl.mixture] alpha = \"regression\" needs two independent halves of the thinking branch, and the rollouts of a group share its baseline; use \"moment\" here, \"regression\" under [preference]".into());
                }
                if rl.epochs.get() * rl.mini_batches.get() > 1
                    || rl.dynamic_sampling.is_some()
                    || rl.baseline.build().needs().greedy
                {
                    return refuse("[rl.mixture] goes with one update a step, without dynamic_sampling and without the greedy baseline".into());
                }
            }
            if let Some(problem) = crate::plan::Plan::trainer(rl).problem() {
                return refuse(format!("[rl] {problem}"));
            }
            if let Truncated::Overlong(Overlong { buffer, .. }) = rl.truncated
                && !(0.0..=1.0).contains(&buffer)
            {
                return refuse(format!("[rl] truncated.overlong.buffer is {buffer}; wanted 0 to 1"));
            }
            if rl.mini_batches > rl.prompts_per_step {
                return refuse(format!(
                    "[rl] mini_batches is {}, but a step has only {} prompts, and a group stays whole",
                    rl.mini_batches.get(),
                    rl.prompts_per_step.get()
                ));
            }
        }
        if let Some(eval) = &self.eval
            && !(eval.temperature.is_finite() && eval.temperature >= 0.0)
        {
            return refuse(format!("[eval] temperature is {}; wanted at least 0", eval.temperature));
        }
        for (stage, schedule) in self
            .sft
            .iter()
            .map(|s| ("sft", &s.schedule))
            .chain(self.rl.iter().map(|r| ("rl", &r.schedule)))
            .chain(self.preference.iter().map(|p| ("preference", &p.schedule)))
        {
            if !(schedule.learning_rate.is_finite() && schedule.learning_rate > 0.0) {
                return refuse(format!(
                    "[{stage}.schedule] learning_rate is {}; wanted a number above 0",
                    schedule.learning_rate
                ));
            }
            if schedule.snr.is_some() && stage != "rl" {
                return refuse(format!(
                    "[{stage}.schedule] has snr, but signal and noise are measured in the [rl] stage only"
                ));
            }
            if !(0.0..=1.0).contains(&schedule.floor) {
                return refuse(format!("[{stage}.schedule] floor is {}; wanted 0 to 1", schedule.floor));
            }
        }
        Ok(())
    }
}

fn apply(table: &mut toml::Table, text: &str) -> Result<(), RecipeError> {
    let refuse = |problem: String| RecipeError::Set { text: text.to_owned(), problem };
    let (path, value) =
        text.split_once('=').ok_or_else(|| refuse("wanted key.key=value, such as rl.steps=10".into()))?;
    let value = match format!("value = {value}").parse::<toml::Table>() {
        Ok(mut parsed) if parsed.len() == 1 => parsed.remove("value"),
        _ => None,
    }
    .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let keys: Vec<&str> = path.trim().split('.').collect();
    let Some((last, parents)) = keys.split_last().filter(|_| keys.iter().all(|key| !key.is_empty())) else {
        return Err(refuse("a key is empty".into()));
    };
    let mut here = table;
    for key in parents {
        let next = here.entry(*key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        here = next.as_table_mut().ok_or_else(|| refuse(format!("`{key}` is a value, not a table")))?;
    }
    here.insert((*last).to_owned(), value);
    Ok(())
}

fn parse_error(place: &str, error: &toml::de::Error) -> RecipeError {
    RecipeError::Parse {
        place: place.to_owned(),
        message: error.to_string().trim_end().to_owned(),
        hint: unknown_key_hint(error.message()),
    }
}

/// "unknown field `grup_size`, expected one of `steps`, …" names the candidates itself.
fn unknown_key_hint(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    match quoted.next() {
        Some(found) if message.starts_with("unknown ") => did_you_mean(found, quoted),
        _ => String::new(),
    }
}

/// A sentence that names the nearest candidate, if one is near.
pub(crate) fn did_you_mean<'a>(found: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(found, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .map_or_else(String::new, |(_, candidate)| format!("\ndid you mean `{candidate}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny(change: impl Fn(String) -> String) -> Result<Recipe, RecipeError> {
        let (_, text) = crate::builtin::recipe_text("tiny").expect("built in");
        Recipe::parse("tiny.toml", &change(text))
    }

    #[test]
    fn a_misspelt_key_is_named_with_line_column_and_the_nearest_known_one() {
        let error = tiny(|text| text.replace("group_size", "grup_size")).expect_err("refused").to_string();
        assert!(error.contains("unknown field `grup_size`"), "{error}");
        assert!(error.contains("line ") && error.contains("column "), "{error}");
        assert!(error.contains("did you mean `group_size`?"), "{error}");
    }

    #[test]
    fn a_group_of_one_is_refused_where_it_stands() {
        let error =
            tiny(|text| text.replace("group_size = 8", "group_size = 1")).expect_err("refused").to_string();
        assert!(error.contains("a group needs at least 2 rollouts to compare, not 1"), "{error}");
        assert!(error.contains("group_size = 1\n"), "{error}");
    }

    #[test]
    fn a_device_that_is_not_one_is_refused_where_it_stands() {
        for device in ["gpu", "metal", "cuda:first"] {
            let line = format!("[policy]\ndevice = \"{device}\"\n");
            let error = tiny(|text| text.replace("[policy]\n", &line)).expect_err("refused").to_string();
            assert!(error.contains("line ") && error.contains("column 10"), "{error}");
            assert!(error.contains(&format!("device `{device}` is not known; wanted \"auto\"")), "{error}");
        }
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = tiny(|text| text.replace("truncated", "# truncated")).expect_err("refused").to_string();
        assert!(error.contains("missing field `truncated`"), "{error}");
    }

    #[test]
    fn set_replaces_values_of_every_type_and_is_as_strict_as_the_file() {
        let sets = ["seed=7", "rl.schedule.shape=cosine", "rl.steps=3", "rl.sampling.stop=[\"x\"]"];
        let recipe = Recipe::load("tiny", &sets.map(String::from)).expect("valid");
        let rl = recipe.rl.expect("rl");
        assert_eq!((recipe.seed, rl.steps.get()), (7, 3));
        assert_eq!(rl.schedule.shape, engine::schedule::Shape::Cosine);
        assert_eq!(rl.sampling.stop, ["x"]);
        for (set, wanted) in [
            ("rl.stepz=3", "did you mean `steps`?"),
            ("rl.steps=0", "wanted at least 1, not 0"),
            ("rl.steps", "wanted key.key=value"),
            ("seed.x=1", "`seed` is a value, not a table"),
            ("rl.sampling.temperature=0", "alike"),
            ("rl.mini_batches=1000", "a group stays whole"),
            ("sft={steps=1,batch_size=1,schedule={snr={}}}", "in the [rl] stage only"),
        ] {
            let error = Recipe::load("tiny", &[set.to_owned()]).expect_err(set).to_string();
            assert!(error.contains(wanted), "{set}: {error}");
        }
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        for (name, _) in crate::builtin::recipes() {
            let recipe = Recipe::load(name, &[]).expect(name);
            let text = toml::to_string(&recipe).expect("writes");
            assert_eq!(Recipe::parse(name, &text).expect("reads"), recipe);
        }
    }

    #[test]
    fn an_unknown_recipe_lists_the_known_ones() {
        let error = Recipe::load("tinny", &[]).expect_err("refused").to_string();
        assert!(error.contains("tiny-warmup") && error.contains("did you mean `tiny`?"), "{error}");
    }
}
