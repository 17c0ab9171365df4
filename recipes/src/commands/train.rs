//! `evenkeel train`: trains a policy as a recipe says, or goes on with a run.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use engine::selection::SelectionConfig;

use super::args::SetArgs;
use crate::custom::CustomRewards;
use crate::interrupt::Session;
use crate::outcome::describe;
use crate::plan::Plan;
use crate::recipe::Recipe;
use crate::resume::Resumed;
use crate::run::{self, Place};
use crate::save;
use crate::usage::{Usage, is_usage};

const SET: &str = "Replace a value of the recipe, such as `--set rl.steps=10`; may be given several times. With --resume only what \
                   the steps so far do not depend on: the steps of a stage, [save], [eval], and what changes speed or memory";

/// `evenkeel train`
#[derive(Debug, Args)]
#[command(mut_arg("set", |set| set.help(SET)))]
pub(crate) struct TrainArgs {
    /// A recipe file, or a built-in recipe such as `tiny` (see `evenkeel recipes`).
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    recipe: Option<String>,
    #[command(flatten)]
    sets: SetArgs,
    /// The run folder to make; by default runs/NAME, or runs/NAME-2 and so on. One that exists is never overwritten.
    #[arg(long, value_name = "FOLDER", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// A file of `evenkeel scan`, for selection = { angle = {} }; by default the run scans the prompts as it begins.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    scan: Option<PathBuf>,
    /// Go on with a run that was interrupted, from its newest whole checkpoint: the result is the same, bit for bit.
    ///
    /// RUN@12 goes on from the checkpoint of step 12 (or RUN@sft-000012, where several stages have one): what came after it
    /// is moved to RUN/set-aside-1, so nothing is lost. A run that is finished goes on with more steps by
    /// `--set rl.steps=…`; where the learning rate follows all steps, it is said what becomes of it.
    #[arg(long, value_name = "RUN[@STEP]")]
    resume: Option<PathBuf>,
}

/// Trains a policy and prints what came of it.
pub(crate) fn run(
    args: &TrainArgs,
    custom: &CustomRewards,
    session: &Session,
    out: &mut dyn Write,
) -> Result<()> {
    let (recipe, place) = match (&args.recipe, &args.resume) {
        (_, Some(run)) => {
            let (resumed, recipe) = Resumed::of(run, &args.sets.set)?;
            (recipe, Place::Resumed(resumed))
        }
        (Some(name), None) => (Recipe::load(name, &args.sets.set)?, Place::New(args.out.clone())),
        (None, None) => return Err(Usage::error("name a recipe, or a run by --resume")),
    };
    if args.scan.is_some()
        && !recipe.rl.as_ref().is_some_and(|rl| matches!(rl.selection, SelectionConfig::Angle(_)))
    {
        return Err(Usage::error("--scan has no effect: wanted a recipe with rl.selection = { angle = {} }"));
    }
    let plan = Plan::new(recipe, custom)?.stop_by(session.stop.clone()).scanned(args.scan.clone());
    let begun = std::time::Instant::now();
    let outcome = run::train(&plan, &place).inspect_err(|error| {
        if is_usage(error) {
            session.stop.cannot_go_on();
        }
    })?;
    let newest = save::latest(&outcome.folder)?.context("the run left no checkpoint")?;
    if let Some(before) = &outcome.before {
        writeln!(out, "held-out accuracy before: {}", describe(before))?;
    }
    if let Some(after) = &outcome.after {
        writeln!(out, "held-out accuracy after:  {}", describe(after))?;
        if let Some(target) = plan.recipe.eval.as_ref().and_then(|eval| eval.target) {
            let verdict = if after.share >= target { "reached" } else { "missed" };
            writeln!(out, "target of {:.0} %: {verdict}", 100.0 * target)?;
        }
    }
    for note in &outcome.notes {
        writeln!(out, "{note}")?;
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
