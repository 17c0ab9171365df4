//! `evenkeel scan`: how concentrated the directions of each prompt's tokens are, before anything is trained.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use engine::selection::SelectionConfig;
use serde_json::json;

use super::args::{SetArgs, count};
use crate::custom::CustomRewards;
use crate::interrupt::Session;
use crate::plan::Plan;
use crate::recipe::Recipe;
use crate::scan::{Against, Report, ScanRequest, against, measure, stats_of};
use crate::usage::{Usage, is_usage};

/// `evenkeel scan`
#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    /// A recipe file, or a built-in recipe such as `tiny` (see `evenkeel recipes`).
    recipe: String,
    #[command(flatten)]
    sets: SetArgs,
    /// The file to write, JSON lines; by default scan-NAME.jsonl. One that is there is gone on with, if it is a scan of the same
    /// policy and prompts. `evenkeel train --scan FILE` uses it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Scan only so many prompts, the first of the dataset; a later call goes on with the others.
    #[arg(long, value_name = "PROMPTS", value_parser = count(u32::MAX as u64))]
    limit: Option<usize>,
    /// Set the scores against what a run of the same prompts has seen: rank correlations with pass rates and, if it measured them,
    /// gradient norms, plain and given length.
    #[arg(long, value_name = "RUN")]
    stats: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Scans the prompts of a recipe and prints what that came to.
pub(crate) fn run(
    args: &ScanArgs,
    custom: &CustomRewards,
    session: &Session,
    out: &mut dyn Write,
) -> Result<()> {
    if args.limit == Some(0) {
        return Err(Usage::error("--limit is 0; wanted at least 1"));
    }
    let stats = args.stats.as_deref().map(stats_of).transpose()?;
    let plan = Plan::new(Recipe::load(&args.recipe, &args.sets.set)?, custom)?.stop_by(session.stop.clone());
    let kappa = match plan.recipe.rl.as_ref().map(|rl| &rl.selection) {
        Some(SelectionConfig::Angle(angle)) => angle.kappa,
        _ => 1.0,
    };
    let file = args.out.clone().unwrap_or_else(|| format!("scan-{}.jsonl", plan.recipe.name()).into());
    let policy = plan.policy()?;
    session.again_as_it_is();
    let _heeding = plan.stop.heed();
    let request =
        ScanRequest { plan: &plan, policy: &policy, file: &file, given: None, kappa, limit: args.limit };
    let scan = measure(&request).inspect_err(|error| {
        if is_usage(error) {
            session.stop.cannot_go_on();
        }
    })?;
    let report = Report::of(&scan, kappa);
    let seen = stats.map(|stats| against(&scan, kappa, &stats)).transpose()?;
    if args.json {
        let value = json!({ "file": file, "scan": scan.head, "report": report, "against": seen });
        writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?;
        return Ok(());
    }
    report.print(&scan, out)?;
    if let Some(seen) = seen {
        writeln!(out, "\n{}", Against::head())?;
        for row in seen {
            writeln!(out, "{}", row.line())?;
        }
    }
    writeln!(out, "\n{}", file.display())?;
    Ok(())
}
