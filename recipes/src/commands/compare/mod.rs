//! `evenkeel compare`: runs, or evaluations, side by side.
//!
//! Before: folders that `evenkeel train` or `evenkeel eval` left. After: what can be said of their differences, and what cannot.

mod args;
mod curves;
mod evaluations;
mod page;
mod protocols;
mod runs;

use std::io::Write;
use std::path::Path;

use anyhow::Result;

pub(crate) use self::args::CompareArgs;
use crate::usage::Usage;

/// Compares.
pub(crate) fn run(args: &CompareArgs, out: &mut dyn Write) -> Result<()> {
    let kind =
        |folder: &Path| match (folder.join("metrics.jsonl").is_file(), evaluations::file(folder).is_file()) {
            (true, _) => Ok(Kind::Run),
            (false, true) => Ok(Kind::Evaluation),
            (false, false) => Err(Usage::error(format!(
                "`{}` is neither a run nor an evaluation: it has neither metrics.jsonl nor evaluation.json",
                folder.display()
            ))),
        };
    let kinds = args.folders.iter().map(|folder| kind(folder)).collect::<Result<Vec<_>>>()?;
    if let Some(other) = kinds.iter().position(|kind| *kind != kinds[0]) {
        return Err(Usage::error(format!(
            "`{}` and `{}` are not of one kind: compare runs with runs and evaluations with evaluations",
            args.folders[0].display(),
            args.folders[other].display()
        )));
    }
    match kinds[0] {
        Kind::Run => runs::compare(args, out),
        Kind::Evaluation => evaluations::compare(args, out),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Run,
    Evaluation,
}
