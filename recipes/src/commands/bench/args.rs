//! The arguments of `evenkeel bench`.

use std::ffi::OsString;

use clap::{Args, ValueEnum};

use crate::commands::args::count;
use crate::recipe::ComputeRecipe;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
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
    /// The first number that makes no sense, as an error message.
    pub(super) fn problem(&self) -> Option<String> {
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

/// Lists of `evenkeel bench` may have spaces between their values, as well as commas: they become commas.
pub(crate) fn with_commas(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut all: Vec<OsString> = Vec::new();
    let (mut list, mut values) = (None, 0);
    for argument in arguments {
        let text = argument.to_str().unwrap_or_default().to_owned();
        let bench = all.get(1).is_some_and(|command| command == "bench");
        let goes_on = match list {
            Some("--shape") => <BenchPart as ValueEnum>::from_str(&text, false).is_err(),
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
