//! The arguments of `evenkeel variance`.

use std::path::PathBuf;

use clap::Args;

use crate::commands::args::{SetArgs, count};

const SET: &str =
    "Replace a value of the recipe, such as `--set policy.checkpoint=runs/tiny/checkpoints/step-000120`";

/// `evenkeel variance`
#[derive(Debug, Args)]
#[command(mut_arg("set", |set| set.help(SET)))]
pub(crate) struct VarianceArgs {
    /// A recipe file, a built-in recipe, or a toy policy: `bandit` or `two-step`.
    pub(crate) recipe: String,
    #[command(flatten)]
    pub(crate) sets: SetArgs,
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
    /// The first number that makes no sense, as an error message.
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
