//! `evenkeel data`: what a recipe's policy will read, and what a run knows of its prompts.
//!
//! Before: a recipe, or a run's `prompts.parquet`. After: text for people, JSON for programs, or a page. No weights are loaded.

mod overlap;
mod report;
mod sections;
mod stats;

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use self::report::Report;
use self::sections::{Section, page};
use self::stats::StatsTable;
use super::args::{DatasetArgs, SetArgs, count};
use super::check::recipe_of;
use crate::prompt_stats;
use crate::recipe::Recipe;
use crate::usage::Usage;

/// `evenkeel data`
#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// A recipe file, the name of a built-in recipe, or a run folder; not needed with --stats.
    #[arg(required_unless_present = "stats")]
    recipe: Option<String>,
    #[command(flatten)]
    sets: SetArgs,
    /// Prompts to show as the policy reads them, the first ones.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count(1 << 20))]
    show: usize,
    /// A benchmark (see `evenkeel benchmarks`) or a file of questions that no prompt should be like; may be given several times.
    ///
    /// A prompt shares a run of words with a question if so many words in a row stand in both; only letters and digits count,
    /// whatever their case. Runs of 13 words are those of GPT-3 (arXiv:2005.14165), runs of 8 those of PaLM (arXiv:2204.02311);
    /// a question or prompt that is shorter is one run. Of a prompt with half of its words in shared runs little is its own
    /// (Tülu 3, arXiv:2411.15124, drops those). Word problems of one kind share runs without being the same.
    #[arg(long, value_name = "BENCHMARK")]
    against: Vec<String>,
    #[command(flatten)]
    datasets: DatasetArgs,
    /// A run, or its prompts.parquet, whose prompts are listed with what is known of them; `rl.prompt_stats` starts from it.
    #[arg(long, value_name = "RUN")]
    stats: Option<PathBuf>,
    /// The column that --stats is sorted by, the largest first: any of the file.
    #[arg(long, value_name = "COLUMN", default_value = "visits", requires = "stats")]
    sort: String,
    /// The smallest first.
    #[arg(long, requires = "stats")]
    ascending: bool,
    /// Rows of a table that are printed; JSON has all.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = count(1 << 32))]
    rows: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Write a page, which needs nothing else, to this file; one that is there is replaced.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Prints what the recipe's policy will read, and with `--stats` what a run knows of its prompts.
pub(crate) fn run(args: &DataArgs, out: &mut dyn Write) -> Result<()> {
    if let (None, [first, ..]) = (&args.recipe, args.against.as_slice()) {
        return Err(Usage::error(format!("--against {first} compares the prompts of a recipe; name one")));
    }
    let report = match &args.recipe {
        Some(name) => Some(report_of(name, args)?),
        None => None,
    };
    let stats = match &args.stats {
        Some(place) => {
            let table = prompt_stats::read(place)?;
            if let Some(report) = &report {
                prompt_stats::check_dataset(&table, place, &report.sha256)?;
            }
            Some(StatsTable::of(&table, &args.sort, args.ascending)?)
        }
        None => None,
    };
    let mut sections: Vec<Section> = report.iter().flat_map(|report| report.sections(args.rows)).collect();
    sections.extend(stats.iter().flat_map(|stats| stats.sections(args.rows)));
    if let Some(file) = &args.html {
        let title =
            args.recipe.as_deref().map_or("Prompts of a run".into(), |name| format!("Data of {name}"));
        fs::write(file, page(&title, &sections))
            .with_context(|| format!("could not write `{}`", file.display()))?;
    }
    if args.json {
        let value = json!({ "data": report, "stats": stats.map(|stats| stats.rows) });
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?);
    }
    for (place, section) in sections.iter().enumerate() {
        if place > 0 {
            writeln!(out)?;
        }
        section.print(out)?;
    }
    Ok(())
}

fn report_of(name: &str, args: &DataArgs) -> Result<Report> {
    let recipe = Recipe::load(&recipe_of(name), &args.sets.set)?;
    let mut report = Report::of(&recipe, args.show)?;
    for against in &args.against {
        report.overlaps.extend(overlap::with(&report, against, args.datasets.data.as_deref())?);
    }
    Ok(report)
}
