//! What is measured of every prompt before training: how long it is, and how much the directions of its tokens agree.
//!
//! Before: the tasks of a [`Plan`] and the policy that training begins with. After: a file of JSON lines, a header and then a line a
//! prompt, by which [`order`] puts prompts in order for a selection that walks along them. A scan that was stopped has its lines in
//! `NAME.partial.jsonl` and goes on from there.

mod against;
mod file;
mod measure;
mod report;

use std::path::Path;

use anyhow::{Context, Result};
use engine::model::Policy;
use engine::selection::{AngleMetric, Order, Selection, descending};

pub(crate) use self::against::{Against, against, stats_of};
pub(crate) use self::file::{Scan, ScannedPrompt};
pub(crate) use self::measure::{ScanRequest, measure};
pub(crate) use self::report::Report;
use crate::files::rename;
use crate::manifest::Checksum;
use crate::plan::Plan;
use crate::progress::line;
use crate::restore;
use crate::stage::Run;
use crate::usage::Usage;

/// The scan of a run, in its folder.
pub(crate) const SCAN: &str = "scan.jsonl";

/// The sentence by which every report of an order by angle ends.
pub(crate) const CONTROL: &str = "The control is rl.selection = { length = {} }, the same walk from short prompts to long ones: what an order by angle \
                                  gains is what it gains over that";

/// The order of the prompts that a stage's selection draws by, empty if it wants none. An order by angle is of the policy as the
/// stage begins: it is measured then, and read from the run's folder when the run goes on.
///
/// # Errors
/// If the policy cannot be scanned, the run is asked to end, or the scan of a run that goes on is not there or of other prompts.
pub(crate) fn order(
    run: &mut Run<'_>,
    selection: &dyn Selection,
    policy: &Policy,
    done: u64,
) -> Result<Vec<u32>> {
    let plan = run.generation.plan;
    let id = |place: usize| plan.tasks[place].prompt.id.as_str();
    let (metric, kappa) = match selection.order() {
        None => return Ok(Vec::new()),
        Some(Order::Length) => {
            let lengths: Vec<f64> = plan.tasks.iter().map(|task| -(task.tokens.len() as f64)).collect();
            return Ok(descending(&lengths, id));
        }
        Some(Order::Angle { metric, kappa }) => (metric, kappa),
    };
    let place = run.folder.path().join(SCAN);
    let scan = if done == 0 {
        let given = plan.scan.as_deref();
        measure(&ScanRequest { plan, policy, file: &place, given, kappa, limit: None })?
    } else {
        again(run, &place, kappa)?
    };
    scan.check_prompts(plan).with_context(|| format!("`{}` cannot be used", place.display()))?;
    let sum = Checksum::of(&place).with_context(|| format!("could not read `{}`", place.display()))?;
    run.folder.saves.inputs.insert(SCAN.to_owned(), sum);
    let scores = scan.scores(metric, kappa);
    let without = scores.iter().filter(|score| score.is_nan()).count();
    if without == scores.len() {
        return Err(Usage::error(format!(
            "[rl] selection.angle.metric = \"released\" gives none of the {without} prompts a number: it averages over tokens from twice \
             the {} that all prompts begin with; wanted metric = \"clean\", or longer prompts",
            scan.head.prefix
        )));
    }
    let report = Report::of(&scan, kappa);
    let note = format!(
        "prompts are in the order of their angle concentration; its rank correlation with their length in tokens is {}. {CONTROL}.",
        report.correlation(metric)
    );
    if without > 0 {
        line(&format!("{without} of {} prompts have no number and come last, by their ids", scores.len()));
    }
    line(&note);
    run.outcome.notes.push(note);
    Ok(descending(&scores, id))
}

/// The scan of a run that goes on. If the file is not as it was, and the stage began with the recipe's checkpoint, it is made again.
fn again(run: &mut Run<'_>, place: &Path, kappa: f64) -> Result<Scan> {
    let plan = run.generation.plan;
    if plan.recipe.sft.is_none()
        && let Some(sum) = run.folder.saves.inputs.get(SCAN)
        && let Some(damage) =
            sum.damage(place).with_context(|| format!("could not read `{}`", place.display()))?
    {
        line(&format!("{damage}; it is made again from `{}`", plan.checkpoint.source()));
        let policy = plan.policy()?;
        let aside = place.with_file_name(".tmp-scan.jsonl");
        measure(&ScanRequest { plan, policy: &policy, file: &aside, given: None, kappa, limit: None })?;
        rename(&aside, place).with_context(|| format!("could not write `{}`", place.display()))?;
    }
    restore::check_input(run.folder, SCAN)
        .context("the order of the prompts is by the policy that the stage began with, and cannot be had from later weights")?;
    Scan::read(place)?.with_context(|| format!("`{}` is missing", place.display()))
}

impl Scan {
    /// The scores that prompts are ordered by; NaN where there is none.
    fn scores(&self, metric: AngleMetric, kappa: f64) -> Vec<f64> {
        let of = |prompt: &ScannedPrompt| match metric {
            AngleMetric::Clean => prompt.intra + kappa * prompt.inter,
            AngleMetric::Released => prompt.released.unwrap_or(f64::NAN),
        };
        self.prompts.iter().map(of).collect()
    }

    /// Refuses a scan of other prompts than the plan has, or of some of them only.
    fn check_prompts(&self, plan: &Plan) -> Result<()> {
        let wanted = file::digest_of_prompts(plan);
        anyhow::ensure!(
            self.head.data == wanted,
            "it is a scan of other prompts, or of the same as another template or tokenizer gives them"
        );
        anyhow::ensure!(
            self.prompts.len() == plan.tasks.len(),
            "it has {} of {} prompts; `evenkeel scan` without --limit goes on with it",
            self.prompts.len(),
            plan.tasks.len()
        );
        Ok(())
    }
}
