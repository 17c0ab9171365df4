//! Flags that several commands have. A command may give one of them a description of its own.

use std::path::PathBuf;

use clap::Args;
use clap::builder::RangedU64ValueParser;

use crate::device::DeviceRecipe;
use crate::recipe::ComputeRecipe;

/// The parser of a number of at most `most`; what 0 would mean, the command says itself.
pub(crate) fn count(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(..=most)
}

/// `--set`
#[derive(Debug, Default, Args)]
pub(crate) struct SetArgs {
    /// Replace a value of the recipe, such as `--set rl.steps=10`; may be given several times.
    #[arg(long, value_name = "KEY.KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// `--data`
#[derive(Debug, Args)]
pub(crate) struct DatasetArgs {
    /// The folder of datasets; by default the variable EVENKEEL_DATA names it.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
}

/// The rest of what is said about a server, behind `--server`, and how much is sampled at a time.
#[derive(Debug, Args)]
pub(crate) struct ServingArgs {
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
}

/// Flags of how a model is loaded: which version of it, where, and with which arithmetic.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Branch, tag or commit on the hub.
    #[arg(long)]
    pub(crate) revision: Option<String>,
    /// Where to compute: auto, cpu, cuda:0 …
    #[arg(long, default_value = "auto")]
    pub(crate) device: DeviceRecipe,
    /// How products are computed on the CPU: auto, f32 or bf16.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) compute: ComputeRecipe,
}
