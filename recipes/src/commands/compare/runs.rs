//! Runs side by side: curves at equal budgets, and the questions that all of them were measured on.
//!
//! Before: run folders. After: tables, a page, and whether a difference is shown. Runs whose recipes differ in nothing but the
//! seed are one group: its value is their mean, and their spread says what another seed may do.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use eval::stats::{Paired, StatsError, Welch};
use eval::{CONFIDENCE, Comparison, Evaluation, Question, Runs};
use serde::Serialize;

use super::args::CompareArgs;
use super::curves::{Axis, Curve, Replicas, read, unevenness};
use super::page;
use super::protocols::check_protocols;
use crate::usage::Usage;

/// A comparison of runs.
#[derive(Debug, Serialize)]
struct RunsComparison<'a> {
    metric: &'a str,
    stage: &'a str,
    #[serde(skip)]
    folders: &'a [PathBuf],
    groups: &'a [Replicas],
    /// The groups' values at equal budgets.
    aligned: Vec<Aligned>,
    /// The first group against each other one by run, where both have several: what another seed would show too.
    by_run: Vec<ByRun>,
    /// The same by question, of these runs only: it leaves out what another seed would do.
    by_question: Vec<Comparison>,
    /// The spread between runs of one recipe.
    spread: Vec<Runs>,
    /// How unevenly each run's steps took time, see [`unevenness`]; absent of short ones.
    unevenness: Vec<Option<f64>>,
}

/// Values with so much spent.
#[derive(Debug, Serialize)]
struct Aligned {
    axis: Axis,
    budgets: Vec<f64>,
    /// Mean of each group's runs at each budget.
    values: Vec<Vec<Option<f64>>>,
}

/// Two groups by their runs' last values.
#[derive(Debug, Serialize)]
struct ByRun {
    a: String,
    b: String,
    /// Absent if no run of either group differs from the others.
    difference: Option<Welch>,
}

/// Compares runs.
pub(super) fn compare(args: &CompareArgs, out: &mut dyn Write) -> Result<()> {
    let lines = args.folders.iter().map(|folder| read(&folder.join("metrics.jsonl")));
    let lines = lines.collect::<Result<Vec<_>>>()?;
    let has = |lines: &[serde_json::Value], stage: &str| !Curve::of(lines, stage, &args.metric).0.is_empty();
    let stages = ["preference", "rl", "sft"];
    let Some(stage) = stages.into_iter().find(|stage| lines.iter().all(|lines| has(lines, stage))) else {
        let without = lines.iter().position(|lines| stages.iter().all(|stage| !has(lines, stage)));
        return Err(Usage::error(match without {
            Some(run) => format!(
                "`{}` has no metric `{}`; eval_accuracy needs [eval] in the recipe, and --metric names another",
                args.folders[run].display(),
                args.metric
            ),
            None => format!("there is no stage in which all of them have a metric `{}`", args.metric),
        }));
    };
    let curve = |lines: &Vec<serde_json::Value>| Curve::of(lines, stage, &args.metric);
    different(&args.folders, &lines.iter().map(curve).collect::<Vec<Curve>>())?;
    let mut groups: Vec<Replicas> = Vec::new();
    for (folder, lines) in args.folders.iter().zip(&lines) {
        let recipe = recipe_of(folder)?;
        let curve = Curve::of(lines, stage, &args.metric);
        match groups.iter_mut().find(|group| group.recipe == recipe) {
            Some(group) => {
                group.runs.push(folder.clone());
                group.curves.push(curve);
            }
            None => groups.push(Replicas {
                name: folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned(),
                runs: vec![folder.clone()],
                curves: vec![curve],
                recipe,
            }),
        }
    }
    let aligned = Axis::ALL.into_iter().filter_map(|axis| aligned(&groups, axis)).collect();
    let (by_question, spread) = by_question(&groups, stage, args.force)?;
    let by_run = groups[1..].iter().filter_map(|group| by_run(&groups[0], group).transpose());
    let by_run = by_run.collect::<Result<Vec<_>>>()?;
    let unevenness = lines.iter().map(|lines| unevenness(lines, stage)).collect();
    let found = RunsComparison {
        metric: &args.metric,
        stage,
        folders: &args.folders,
        groups: &groups,
        aligned,
        by_run,
        by_question,
        spread,
        unevenness,
    };
    if let Some(file) = &args.html {
        std::fs::write(file, page::page(&args.metric, &groups, &sentences(&found)))
            .with_context(|| format!("could not write `{}`", file.display()))?;
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&found)?)?;
        return Ok(());
    }
    print(&found, out)
}

/// Refuses a run that is given twice, by whatever name: it would be counted as another seed. Runs of one recipe and seed are
/// the same if their curves are.
fn different(folders: &[PathBuf], curves: &[Curve]) -> Result<()> {
    let mut known: Vec<(PathBuf, toml::Table)> = Vec::new();
    for (place, folder) in folders.iter().enumerate() {
        let cannot = || format!("could not read `{}`", folder.display());
        let real = folder.canonicalize().with_context(cannot)?;
        let mut recipe = recipe_table(folder)?;
        strip(&mut recipe);
        let same = |other: &usize| {
            let (path, their_recipe) = &known[*other];
            *path == real || (*their_recipe == recipe && curves[*other].same_values(&curves[place]))
        };
        if let Some(other) = (0..known.len()).find(same) {
            return Err(Usage::error(format!(
                "`{}` and `{}` are the same run; wanted each run once, as a run is no second run of itself",
                folders[other].display(),
                folder.display()
            )));
        }
        known.push((real, recipe));
    }
    Ok(())
}

/// A run's recipe without what tells runs of one recipe apart.
fn recipe_of(folder: &Path) -> Result<toml::Table> {
    let mut table = recipe_table(folder)?;
    table.remove("seed");
    strip(&mut table);
    Ok(table)
}

fn recipe_table(folder: &Path) -> Result<toml::Table> {
    let file = folder.join("recipe.toml");
    let text =
        std::fs::read_to_string(&file).with_context(|| format!("could not read `{}`", file.display()))?;
    text.parse().with_context(|| format!("`{}` is no TOML", file.display()))
}

/// Leaves out what changes nothing of what a run learns.
fn strip(recipe: &mut toml::Table) {
    for key in ["name", "save"] {
        recipe.remove(key);
    }
}

/// A quarter, a half, three quarters and all of what the least spending run spent.
fn aligned(groups: &[Replicas], axis: Axis) -> Option<Aligned> {
    let ends = groups.iter().flat_map(|group| &group.curves).map(|curve| curve.end(axis));
    let least = ends.collect::<Option<Vec<f64>>>()?.into_iter().fold(f64::INFINITY, f64::min);
    if least <= 0.0 {
        return None;
    }
    let budgets: Vec<f64> = [0.25, 0.5, 0.75, 1.0].iter().map(|share| share * least).collect();
    let mean = |group: &Replicas, budget: f64| {
        let values = group.curves.iter().map(|curve| curve.value_at(axis, budget));
        let values = values.collect::<Option<Vec<f64>>>()?;
        Some(values.iter().sum::<f64>() / values.len() as f64)
    };
    let values =
        groups.iter().map(|group| budgets.iter().map(|budget| mean(group, *budget)).collect()).collect();
    Some(Aligned { axis, budgets, values })
}

/// The last values of two groups' runs, where both have several.
fn by_run(a: &Replicas, b: &Replicas) -> Result<Option<ByRun>> {
    let last = |group: &Replicas| group.curves.iter().filter_map(|c| c.0.last()).copied().collect::<Vec<_>>();
    let points = [last(a), last(b)];
    if points.iter().any(|points| points.len() < 2) {
        return Ok(None);
    }
    // shares vary from run to run by their draws at least
    let draws = points.iter().flatten().map(|point| point.draws).min().flatten();
    let [first, second] = points.map(|points| points.iter().map(|point| point.value).collect::<Vec<f64>>());
    let difference = match draws {
        Some(draws) => Welch::of_shares(&first, &second, draws, CONFIDENCE).map(Some),
        None => match Welch::of(&first, &second, CONFIDENCE) {
            Err(StatsError::NoSpread) => Ok(None),
            found => found.map(Some),
        },
    };
    Ok(Some(ByRun { a: a.name.clone(), b: b.name.clone(), difference: difference? }))
}

/// The groups on the questions of the last step that all runs were measured at, if they kept them.
fn by_question(groups: &[Replicas], stage: &str, force: bool) -> Result<(Vec<Comparison>, Vec<Runs>)> {
    let last =
        groups.iter().flat_map(|group| &group.curves).map(|curve| curve.0.last().map_or(0, |p| p.step)).min();
    let file = |run: &Path| run.join(format!("evaluations/{stage}-{:06}.json", last.unwrap_or(0)));
    let mut evaluations: Vec<Vec<Evaluation>> = Vec::new();
    for group in groups {
        let mut of_group = Vec::new();
        for run in &group.runs {
            let file = file(run);
            if !file.is_file() {
                return Ok((Vec::new(), Vec::new()));
            }
            let cannot = || format!("could not read `{}`", file.display());
            let bytes = std::fs::read(&file).with_context(cannot)?;
            let mut evaluation: Evaluation = serde_json::from_slice(&bytes).with_context(cannot)?;
            evaluation.model.name = run.file_name().unwrap_or(run.as_os_str()).to_string_lossy().into_owned();
            of_group.push(evaluation);
        }
        evaluations.push(of_group);
    }
    let mut comparisons = Vec::new();
    for (group, theirs) in groups.iter().zip(&evaluations).skip(1) {
        let mut comparison = Comparison::of(&evaluations[0][0], &theirs[0])?;
        check_protocols(&comparison, force)?;
        (comparison.a, comparison.b) = (groups[0].name.clone(), group.name.clone());
        if evaluations[0].len() > 1 || theirs.len() > 1 {
            comparison.paired = paired_means(&evaluations[0], theirs)?;
        }
        comparisons.push(comparison);
    }
    let several = evaluations.iter().filter(|of_group| of_group.len() > 1);
    let spread = several.map(|of_group| Ok(Runs::of(&of_group.iter().collect::<Vec<_>>())?));
    Ok((comparisons, spread.collect::<Result<Vec<_>>>()?))
}

/// Two groups question by question, each question's value the mean of the group's runs.
fn paired_means(a: &[Evaluation], b: &[Evaluation]) -> Result<Paired> {
    let means = |group: &[Evaluation]| {
        let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for question in group.iter().flat_map(|evaluation| &evaluation.questions) {
            all.entry(question.id.clone()).or_default().extend(Question::share(question));
        }
        all.retain(|_, shares| shares.len() == group.len());
        all.into_iter()
            .map(|(id, shares)| (id, shares.iter().sum::<f64>() / shares.len() as f64))
            .collect::<BTreeMap<String, f64>>()
    };
    let (a, b) = (means(a), means(b));
    let (a, b): (Vec<f64>, Vec<f64>) = a.iter().filter_map(|(id, share)| Some((*share, *b.get(id)?))).unzip();
    Ok(Paired::of(&a, &b, CONFIDENCE, data::Seed(0).named("comparison"))?)
}

fn print(found: &RunsComparison<'_>, out: &mut dyn Write) -> Result<()> {
    let width = found.groups.iter().map(|group| group.name.chars().count()).max().unwrap_or(0).max(9);
    for aligned in &found.aligned {
        let budget = |budget: &f64| format!("{:>10}", short(*budget));
        let head: String = aligned.budgets.iter().map(budget).collect();
        writeln!(out, "{:width$}{head}", format!("{} at", aligned.axis.name()))?;
        for (group, values) in found.groups.iter().zip(&aligned.values) {
            let value = |value: &Option<f64>| {
                value.map_or(format!("{:>10}", "–"), |value| format!("{value:>10.4}"))
            };
            let values: String = values.iter().map(value).collect();
            writeln!(out, "{:width$}{values}", group.name)?;
        }
        writeln!(out)?;
    }
    for sentence in sentences(found) {
        writeln!(out, "{sentence}")?;
    }
    Ok(())
}

/// The figures in sentences: what they show, and what they do not.
fn sentences(found: &RunsComparison<'_>) -> Vec<String> {
    let mut said = Vec::new();
    said.push(format!("The metric is {} in stage {}.", found.metric, found.stage));
    said.extend(found.groups.iter().filter(|group| group.runs.len() > 1).map(|group| {
        format!(
            "{} stands for {} runs of one recipe, and its values are their means.",
            group.name,
            group.runs.len()
        )
    }));
    said.extend(found.by_run.iter().map(|ByRun { a, b, difference }| {
        let Some(difference) = difference else {
            return format!(
                "By run, at each run's end: the runs of {a} do not differ among themselves, nor do those of {b}, so their spread says nothing."
            );
        };
        let verdict = match difference.shown() {
            true if difference.value > 0.0 => format!("{b} is higher than {a}"),
            true => format!("{b} is lower than {a}"),
            false => format!("no difference of {b} and {a} is shown"),
        };
        format!(
            "By run, at each run's end: {verdict}: {:+.4} [{:+.4}, {:+.4}] (Welch's t over runs).",
            difference.value, difference.interval.low, difference.interval.high
        )
    }));
    said.extend(found.by_question.iter().map(|comparison| {
        format!(
            "These runs only, by question at the last step that all were measured at, leaving out what another seed would do: {}",
            eval::report::comparison(comparison)
        )
    }));
    said.extend(eval::report::by_chance(found.by_question.len().max(found.by_run.len())));
    if found.by_question.is_empty() && found.groups.len() > 1 {
        said.push(
            "The runs did not keep the same questions at the same step, so they are not compared question by question.".into(),
        );
    }
    said.extend(found.spread.iter().map(eval::report::runs));
    if found.aligned.iter().any(|aligned| aligned.axis == Axis::Seconds) {
        said.push(seconds(found));
    }
    if found.groups.iter().any(|group| group.runs.len() == 1) {
        said.push("A single run says nothing of what its recipe does with another seed: run it with others by --set seed=1.".into());
    }
    said
}

/// What the load of the machine made of the seconds.
fn seconds(found: &RunsComparison<'_>) -> String {
    let runs = found.groups.iter().flat_map(|group| &group.runs);
    let name = |run: &PathBuf| run.file_name().unwrap_or(run.as_os_str()).to_string_lossy().into_owned();
    // groups hold the runs in another order than the command line
    let of = |run: &PathBuf| found.folders.iter().position(|folder| folder == run);
    let told: Vec<String> =
        runs.filter_map(|run| Some(format!("{:.1} of {}", found.unevenness[of(run)?]?, name(run)))).collect();
    let load = match told.is_empty() {
        true => "the runs are too short to tell how much that was".to_owned(),
        false => format!(
            "the slowest tenth of steps took this many times the median time a token: {}",
            told.join(", ")
        ),
    };
    format!(
        "Seconds are those that sampling, scoring and updating took, with all else that the machine did meanwhile: {load}."
    )
}

/// A number in few characters.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e4 => format!("{:.1} k", value / 1e3),
        value if value.fract() == 0.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}
