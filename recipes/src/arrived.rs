//! Rollouts of a step that failed, kept in the run's folder until the step is tried again.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use data::Rollout;

use crate::files::{compressed, decompressed, write_aside};
use crate::folder::RunFolder;
use crate::position::Progress;

/// Their file.
pub(crate) const ARRIVED: &str = "arrived.jsonl.zst";

/// Keeps rollouts of the step behind `at`, which failed, for when it is tried again.
pub(crate) fn keep_arrived(folder: &RunFolder, at: Progress, rollouts: &[Rollout]) -> Result<()> {
    if rollouts.is_empty() {
        return Ok(());
    }
    let mut lines = vec![serde_json::to_value(at)?];
    for rollout in rollouts {
        lines.push(serde_json::to_value(rollout)?);
    }
    write_aside(&folder.path().join(ARRIVED), &compressed(&lines)?)
}

/// Takes away rollouts of a step that is done.
pub(crate) fn drop_arrived(folder: &RunFolder, at: Progress) -> Result<()> {
    let file = folder.path().join(ARRIVED);
    if file.exists() && !arrived(&file).is_ok_and(|(of, _)| of == at) {
        fs::remove_file(&file).with_context(|| format!("could not remove `{}`", file.display()))?;
    }
    Ok(())
}

/// Rollouts of a step that failed, and what was done before it.
fn arrived(file: &Path) -> Result<(Progress, Vec<Rollout>)> {
    let mut lines = decompressed::<serde_json::Value>(file)?.into_iter();
    let at = lines.next().with_context(|| format!("`{}` is empty", file.display()))?;
    let rollouts = lines.map(|line| Ok(serde_json::from_value(line)?));
    Ok((serde_json::from_value(at)?, rollouts.collect::<Result<_>>()?))
}

/// The rollouts of the step behind `at` that an attempt which failed has left.
pub(crate) fn arrived_after(folder: &RunFolder, at: Progress) -> Result<Vec<Rollout>> {
    let file = folder.path().join(ARRIVED);
    if !file.exists() {
        return Ok(Vec::new());
    }
    match arrived(&file) {
        Ok((of, rollouts)) if of == at => Ok(rollouts),
        read => {
            if let Err(error) = read {
                let text =
                    format!("`{ARRIVED}` is damaged ({error:#}); the step's rollouts are sampled anew");
                folder.warn(at, &text)?;
            }
            fs::remove_file(&file).with_context(|| format!("could not remove `{}`", file.display()))?;
            Ok(Vec::new())
        }
    }
}
