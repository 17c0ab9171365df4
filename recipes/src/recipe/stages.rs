//! What a recipe says of the stages: supervised, reinforcement learning, preference.
//!
//! Before and after: see [`super`].

use std::path::PathBuf;

use engine::allocation::{AllocationConfig, DownSample};
use engine::baseline::{BaselineConfig, Scale};
use engine::batch::Truncated;
use engine::ledger::LedgerConfig;
use engine::mixture::MixtureConfig;
use engine::objective::preference::PreferenceLoss;
use engine::objective::{Aggregate, Correction, Kl, LossConfig, ObjectiveConfig};
use engine::pairs::Branch;
use engine::schedule::Schedule;
use engine::selection::SelectionConfig;
use engine::trainer::TrainerConfig;
use engine::transform::OptimizerConfig;
use rollout::Sampling;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::numbers::{Count, GroupSize};

/// `[preference]`: pairs of completions, one preferred (DPO and its family, BVPO).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreferenceRecipe {
    /// Updates.
    pub steps: Count,
    /// Pairs of each branch in an update.
    pub pairs_per_step: Count,
    /// Where pairs come from: `{ sample = { prompts = 256, group_size = 8 } }` takes the best and the worst of each prompt's
    /// rollouts by reward, `{ jsonl = { path = "pairs.jsonl" } }` reads `prompt`, `chosen`, `rejected` (text, or
    /// messages as TRL writes them) and `thinking`.
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PairsRecipe {
    /// Sampled before the stage begins, by the policy that it begins with.
    Sample(SamplePairs),
    /// Read from a file.
    Jsonl(PairsFile),
}

/// `pairs.sample` of `[preference]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PairsFile {
    /// The file, seen from the recipe's folder, or else from where the program was started.
    pub path: PathBuf,
}

/// `[sft]`: prompt → reference answer, with the loss on the answer only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RlRecipe {
    /// A published method whose settings fill in what this table leaves out, see `evenkeel presets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Rounds of sampling and training.
    pub steps: Count,
    /// Prompts in a step.
    pub prompts_per_step: Count,
    /// Rollouts of each prompt: at least 2 where the baseline compares them with each other.
    pub group_size: Count,
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
    /// Which prompts a step draws: `"uniform"`, or more of those that are worth learning from.
    #[serde(default)]
    pub selection: SelectionConfig,
    /// A run, or its `prompts.parquet`, whose statistics of prompts the stage begins with, such as `"runs/first"`: what it knows for
    /// its selection, its allocation and its forecasts. Of the same dataset. By default nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_stats: Option<PathBuf>,
    /// How many rollouts each prompt gets, `group_size` on average: `"uniform"`, or more where they teach more.
    #[serde(default)]
    pub allocation: AllocationConfig,
    /// Of every group only so many rollouts are trained on, those whose rewards vary most: `{ keep = 4 }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_sample: Option<DownSample>,
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
    /// Importance weights for a sampler whose probabilities are not the trainer's: a server, older weights (`overlap`), or a
    /// distribution that top-p, top-k, min-p or a penalty has reshaped.
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

impl RlRecipe {
    /// Settings of the trainer.
    pub(crate) fn trainer(&self) -> TrainerConfig {
        TrainerConfig {
            baseline: self.baseline.clone(),
            scale: self.scale,
            truncated: self.truncated,
            down_sample: self.down_sample,
            loss: LossConfig {
                objective: self.objective.clone(),
                aggregate: self.aggregate,
                kl: self.kl.clone(),
                entropy_bonus: self.entropy_bonus,
                correction: self.correction.clone(),
            },
            optimizer: self.optimizer.clone(),
            schedule: self.schedule.clone(),
            ledger: self.ledger.clone(),
            epochs: self.epochs.get(),
            mini_batches: self.mini_batches.get(),
            micro_batch_tokens: self.micro_batch_tokens.get(),
            temperature: self.sampling.temperature,
            steps: self.steps.get() as u64,
        }
    }
}

/// `dynamic_sampling` of `[rl]`: groups whose rewards are all equal teach nothing, and other prompts take their place
/// (arXiv:2503.14476, DAPO). That holds where rewards are compared within the group. With a baseline from outside
/// (`none`, `greedy`, `history`, `optimal` with `shrink`) such groups do teach, and leaving them out weighs each prompt by
/// the chance that its group differs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
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
