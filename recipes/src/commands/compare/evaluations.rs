//! Evaluations side by side, question by question.
//!
//! Before: folders with `evaluation.json`. After: a table, and a sentence for each difference.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use eval::report::{Report, terminal};
use eval::{Comparison, Evaluation, Results};

use super::args::CompareArgs;
use super::protocols::check_protocols;
use crate::usage::Usage;

/// The file of an evaluation's figures: in a folder, or the file itself.
pub(super) fn file(place: &Path) -> PathBuf {
    if place.is_file() { place.to_owned() } else { place.join("evaluation.json") }
}

/// Every model against the first, on every benchmark that both were measured on.
pub(super) fn compare(args: &CompareArgs, out: &mut dyn Write) -> Result<()> {
    let mut evaluations: Vec<Evaluation> = Vec::new();
    let mut read: Vec<PathBuf> = Vec::new();
    for folder in &args.folders {
        let file = file(folder);
        let cannot = || format!("could not read `{}`", file.display());
        let real = file.canonicalize().with_context(cannot)?;
        if read.contains(&real) {
            return Err(Usage::error(format!(
                "`{}` is there twice; wanted each evaluation once, as it differs from itself by nothing",
                folder.display()
            )));
        }
        read.push(real);
        let bytes = std::fs::read(&file).with_context(cannot)?;
        let results: Results = serde_json::from_slice(&bytes).with_context(cannot)?;
        for mut evaluation in results.evaluations {
            let same = |other: &Evaluation| {
                other.model.name == evaluation.model.name
                    && other.protocol.benchmark == evaluation.protocol.benchmark
            };
            if evaluations.iter().any(same) {
                let folder = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
                evaluation.model.name = format!("{folder}/{}", evaluation.model.name);
            }
            evaluations.push(evaluation);
        }
    }
    let mut comparisons = Vec::new();
    let mut notes = Vec::new();
    let mut benchmarks: Vec<&str> = Vec::new();
    for evaluation in &evaluations {
        if !benchmarks.contains(&evaluation.protocol.benchmark.as_str()) {
            benchmarks.push(&evaluation.protocol.benchmark);
        }
    }
    for benchmark in benchmarks {
        let of: Vec<&Evaluation> = evaluations.iter().filter(|e| e.protocol.benchmark == benchmark).collect();
        let Some((first, others)) = of.split_first() else { continue };
        for other in others {
            let about = || format!("`{}` and `{}` on {benchmark}", first.model.name, other.model.name);
            let comparison = Comparison::of(first, other).with_context(about)?;
            check_protocols(&comparison, args.force)?;
            for difference in &comparison.differences {
                notes.push(format!("{}: not measured in the same way: {difference}", about()));
            }
            if first.protocol.numerics_are_unknown(&other.protocol) {
                notes.push(format!("{}: a server does not tell whether it computes in f32 or bf16", about()));
            }
            if first.seed != other.seed && first.protocol.sampling.temperature > 0.0 {
                notes.push(format!(
                    "{}: drawn with seeds {} and {}, so they did not meet the same luck",
                    about(),
                    first.seed,
                    other.seed
                ));
            }
            comparisons.push(comparison);
        }
    }
    if comparisons.is_empty() {
        return Err(Usage::error(
            "no two of them were measured on the same benchmark, so there is nothing to compare",
        ));
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&comparisons)?)?;
        return Ok(());
    }
    let report =
        Report { title: "", evaluations: &evaluations, comparisons: &comparisons, runs: &[], readings: &[] };
    write!(out, "{}", terminal(&report))?;
    for note in notes {
        writeln!(out, "note: {note}")?;
    }
    if let Some(file) = &args.html {
        let report = Report { title: "comparison", ..report };
        std::fs::write(file, eval::report::page(&report))
            .with_context(|| format!("could not write `{}`", file.display()))?;
    }
    Ok(())
}
