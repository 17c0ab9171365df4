//! `evenkeel benchmarks`: the benchmarks known by name, or one of them as a recipe.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use eval::benchmarks::{BENCHMARKS, Data, known};

use super::args::DatasetArgs;
use crate::benchmark::{Changes, file_of, jsonl, recipe};
use crate::recipe::BenchmarkRecipe;

/// `evenkeel benchmarks`
#[derive(Debug, Args)]
pub(crate) struct BenchmarksArgs {
    /// Print this one.
    name: Option<String>,
    #[command(flatten)]
    datasets: DatasetArgs,
}

/// Prints the list, or one of them as a recipe.
pub(crate) fn run(args: &BenchmarksArgs, out: &mut dyn Write) -> Result<()> {
    let Some(name) = args.name.as_deref() else {
        for known in BENCHMARKS {
            writeln!(out, "{:14}  {}", known.name, known.about)?;
        }
        return Ok(());
    };
    let folder = args.datasets.data.as_deref();
    let recipe = match known(name).map(|known| (known, known.data)) {
        // where its questions are is for the reader to say, if nobody knows
        Some((known, Data::File { path, .. })) => BenchmarkRecipe::of_known(
            known,
            file_of(known, folder).unwrap_or_else(|_| jsonl(PathBuf::from(path))),
        ),
        _ => recipe(name, folder, &Changes::default())?,
    };
    Ok(write!(out, "{}", toml::to_string(&recipe)?)?)
}
