//! What a run knows of its prompts, as a table that other programs read and a later run can start from.
//!
//! Before: [`PromptStats`] at a checkpoint. After: `prompts.parquet` in the run's folder, a row a prompt that was visited: all that
//! the record has, and what follows from it. Which dataset it is of is kept with it as a hash.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data::Table;
use engine::selection::{PromptRecord, PromptStats};
use rollout::Task;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::files::write_aside;
use crate::nearest::did_you_mean;
use crate::plan::Plan;
use crate::usage::Usage;

/// The file in a run's folder.
pub(crate) const FILE: &str = "prompts.parquet";
/// The name under which the file has the hash of its dataset.
const DATASET: &str = "evenkeel.dataset";

/// The columns, with what each is.
pub(crate) const COLUMNS: [(&str, &str); 30] = [
    ("prompt", "the prompt's id"),
    ("visits", "groups that were sampled of it, those that were dropped among them"),
    ("rollouts", "rollouts of all visits"),
    ("known", "rewards that were known"),
    ("reward_mean", "mean of all known rewards"),
    ("posterior_mean", "predicted chance of success: the mean of the Beta posterior, whose prior is uniform"),
    ("posterior_deviation", "its standard deviation"),
    ("expected_variance", "E[p(1 − p)] under the posterior: how much a group's rewards will differ"),
    ("truncation_rate", "share of rollouts whose token budget ran out"),
    ("tokens_mean", "tokens of a completion on average"),
    (
        "diversity",
        "how the last visit's rollouts differ, 0 for all alike; only where the selection asks for it",
    ),
    ("prediction_error", "mean of |reward − predicted chance of success| (after EL2N, arXiv:2107.07075)"),
    ("visit_variance", "variance of the visits' mean rewards (after VoG, arXiv:2008.11600)"),
    ("forgotten", "visits below half right after one that was not (forgetting events, arXiv:1812.05159)"),
    ("unanimous", "visits in a row, until the last, whose rewards were all equal"),
    ("unanimous_success", "whether those were all right"),
    (
        "norm_right",
        "mean squared gradient norm of right rollouts, where norms are measured; later visits count more",
    ),
    ("norm_wrong", "the same of wrong ones"),
    ("last_step", "step of the last visit, from 0"),
    ("judged", "visits with known rewards"),
    ("sum", "Σ of known rewards"),
    ("sum_of_squares", "Σ of their squares"),
    ("means", "Σ over visits of their mean rewards"),
    ("means_squared", "Σ over visits of the squares of those"),
    ("surprise", "Σ over known rewards of |reward − predicted chance of success|"),
    ("truncated", "rollouts whose token budget ran out"),
    ("tokens", "tokens of all completions"),
    ("successes", "successes of the posterior, beside the prior's 1"),
    ("failures", "failures of the posterior, beside the prior's 1"),
    ("last", "known rewards of the last visit, their mean and their variance, as JSON"),
];

/// SHA-256 of the ids and texts of prompts, in their order, before any chat template or tokenizer.
pub(crate) fn dataset_hash(tasks: &[Task]) -> String {
    let mut digest = Sha256::new();
    for task in tasks {
        let body = serde_json::to_vec(&task.prompt.body).unwrap_or_default();
        for part in [task.prompt.id.as_bytes(), &body] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A row of the table: the record's own values under their names, and what follows from them.
fn row(id: &str, record: &PromptRecord) -> Result<Map<String, Value>> {
    let own = serde_json::to_value(record)?;
    let (a, b) = record.posterior();
    let share = |count: u64| (record.rollouts > 0).then(|| count as f64 / record.rollouts as f64);
    let (right, wrong) = record.norms.unwrap_or_default().means();
    let mut row = Map::new();
    let mut all: Map<String, Value> = own.as_object().cloned().unwrap_or_default();
    for (name, value) in [
        ("prompt", json!(id)),
        ("reward_mean", json!(record.mean_reward())),
        ("posterior_mean", json!(a / (a + b))),
        ("posterior_deviation", json!((a * b / (a + b + 1.0)).sqrt() / (a + b))),
        ("expected_variance", json!(record.expected_variance())),
        ("truncation_rate", json!(share(record.truncated))),
        ("tokens_mean", json!(share(record.tokens))),
        ("prediction_error", json!(record.error())),
        ("visit_variance", json!(record.variance_of_visits())),
        ("norm_right", json!(right)),
        ("norm_wrong", json!(wrong)),
    ] {
        all.insert(name.to_owned(), value);
    }
    for (name, _) in COLUMNS {
        row.extend(all.remove_entry(name));
    }
    row.extend(all);
    Ok(row)
}

/// The table of these statistics.
fn table(stats: &PromptStats, dataset: String) -> Result<Table> {
    let rows = stats.iter().map(|(id, record)| row(id, record)).collect::<Result<_>>()?;
    Ok(Table { rows, about: [(DATASET.to_owned(), dataset)].into() })
}

/// Writes the file anew into a run's folder, if any prompt was visited.
///
/// # Errors
/// If it cannot be written; the one before it stands then.
pub(crate) fn write(plan: &Plan, folder: &Path, stats: &PromptStats) -> Result<()> {
    if stats.is_empty() {
        return Ok(());
    }
    let place = folder.join(FILE);
    let cannot = || format!("could not write `{}`", place.display());
    let bytes = table(stats, plan.dataset_hash().to_owned())?.to_parquet();
    write_aside(&place, &bytes.map_err(anyhow::Error::msg).with_context(cannot)?)
}

/// The table of a run or of a file.
///
/// # Errors
/// If it is not there, cannot be read, or is no table of prompts.
pub(crate) fn read(place: &Path) -> Result<Table> {
    let file = file_of(place);
    if !file.is_file() {
        let hint = match place.is_dir() {
            true => "; a run writes it with the checkpoints of its RL stage",
            false => "",
        };
        return Err(Usage::error(format!("there is no `{}`{hint}", file.display())));
    }
    let table = Table::read_parquet(&file)?;
    if !table.about.contains_key(DATASET) || table.column("prompt").any(|id| !id.is_string()) {
        return Err(Usage::error(format!(
            "`{}` is not what a run knows of its prompts: wanted the `{FILE}` of a run",
            file.display()
        )));
    }
    Ok(table)
}

fn file_of(place: &Path) -> PathBuf {
    if place.is_dir() { place.join(FILE) } else { place.to_owned() }
}

/// Refuses a table of other prompts.
///
/// # Errors
/// A mistake of the caller that names both hashes.
pub(crate) fn check_dataset(table: &Table, place: &Path, wanted: &str) -> Result<()> {
    let found = table.about.get(DATASET).map_or("", String::as_str);
    if found == wanted {
        return Ok(());
    }
    let brief = |hash: &str| hash.chars().take(12).collect::<String>();
    Err(Usage::error(format!(
        "`{}` is of another dataset: the hash of its prompts' ids and texts begins with {}, that of the recipe's with {}; wanted the same \
         [data] and [prompt]",
        file_of(place).display(),
        brief(found),
        brief(wanted)
    )))
}

/// What the RL stage knows of its prompts as it begins: nothing, or what an earlier run knew. Visits are then those of before its
/// first step.
///
/// # Errors
/// If `rl.prompt_stats` names a file that is not there, cannot be read, or is of another dataset.
pub(crate) fn at_start(plan: &Plan) -> Result<PromptStats> {
    let Some(place) = plan.recipe.rl.as_ref().and_then(|rl| rl.prompt_stats.as_ref()) else {
        return Ok(PromptStats::default());
    };
    let load = || -> Result<PromptStats> {
        let table = read(place)?;
        check_dataset(&table, place, plan.dataset_hash())?;
        let record = |row: &Map<String, Value>| -> Result<(String, PromptRecord)> {
            let id = row.get("prompt").and_then(Value::as_str).unwrap_or_default().to_owned();
            let mut record: PromptRecord = serde_json::from_value(record_of(row))
                .with_context(|| format!("`{}`, prompt `{id}`", file_of(place).display()))?;
            record.last_step = 0;
            Ok((id, record))
        };
        table.rows.iter().map(record).collect()
    };
    load().context("[rl] prompt_stats")
}

/// The record's own values: what was made text, being no single value, is JSON again, and what is unknown is left out.
fn record_of(row: &Map<String, Value>) -> Value {
    let value = |value: &Value| match value {
        Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| value.clone()),
        other => other.clone(),
    };
    let known = row.iter().filter(|(name, value)| *name != "prompt" && !value.is_null());
    known.map(|(name, known)| (name.clone(), value(known))).collect::<Map<_, _>>().into()
}

/// Rows of a table in the order of a column, the largest first, those without a value last.
///
/// # Errors
/// If there is no such column.
pub(crate) fn sorted(table: &Table, column: &str) -> Result<Vec<Map<String, Value>>> {
    let columns = table.columns();
    if !columns.contains(&column) {
        let hint = did_you_mean(column, columns.iter().copied());
        return Err(Usage::error(format!(
            "--sort is `{column}`; wanted one of {}{hint}",
            columns.join(", ")
        )));
    }
    let mut rows = table.rows.clone();
    let key = |row: &Map<String, Value>| match row.get(column) {
        Some(Value::Bool(truth)) => Some(f64::from(u8::from(*truth))),
        other => other.and_then(Value::as_f64),
    };
    let text = |row: &Map<String, Value>| row.get(column).and_then(Value::as_str).unwrap_or("").to_owned();
    rows.sort_by(|a, b| {
        let (first, second) = (key(a), key(b));
        let numbers = match (first, second) {
            (Some(first), Some(second)) => second.total_cmp(&first),
            (first, second) => second.is_some().cmp(&first.is_some()),
        };
        numbers.then_with(|| text(a).cmp(&text(b)))
    });
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::batch::GroupNorms;
    use engine::selection::GroupOutcome;

    fn stats() -> PromptStats {
        let mut stats = PromptStats::default();
        let outcome = |prompt: &str, rewards: &[f32], diversity| GroupOutcome {
            prompt: prompt.into(),
            rewards: rewards.to_vec(),
            rollouts: rewards.len() as u64 + 1,
            tokens: 17,
            diversity,
            ..GroupOutcome::default()
        };
        stats.observe(0, &outcome("b", &[1.0, 0.0, 1.0], None), 0.5);
        stats.observe(1, &outcome("a\n", &[0.0, 0.0], Some(0.3)), 0.5);
        stats.observe(7, &outcome("b", &[0.1, 0.7], Some(0.6)), 0.5);
        stats.observe(8, &outcome("c", &[], None), 0.5);
        stats.observe_norms("b", GroupNorms { right: (2.5, 2.0), wrong: (0.3, 1.0) });
        stats
    }

    #[test]
    fn every_column_is_explained_and_every_name_is_a_column() {
        let table = table(&stats(), "5f".into()).expect("a table");
        let columns = table.columns();
        // the one that holds what norm_right and norm_wrong are made of
        let own: Vec<&&str> =
            columns.iter().filter(|name| COLUMNS.iter().all(|(known, _)| known != *name)).collect();
        assert_eq!(own, [&"norms"]);
        for (name, _) in COLUMNS {
            assert!(columns.contains(&name), "{name}");
        }
    }

    #[test]
    fn statistics_read_back_exactly_from_the_file() {
        let folder = tempfile::tempdir().expect("folder");
        let bytes = table(&stats(), "5f".into()).expect("a table").to_parquet().expect("bytes");
        std::fs::write(folder.path().join(FILE), bytes).expect("written");
        let found = read(folder.path()).expect("read");
        let back: PromptStats = found
            .rows
            .iter()
            .map(|row| {
                let id = row["prompt"].as_str().expect("an id").to_owned();
                (id, serde_json::from_value(record_of(row)).expect("a record"))
            })
            .collect();
        assert_eq!(back, stats());
    }

    #[test]
    fn rows_are_sorted_by_any_column_with_what_is_unknown_last() {
        let table = table(&stats(), "5f".into()).expect("a table");
        let ids = |column: &str| -> Vec<String> {
            let rows = sorted(&table, column).expect("sorted");
            rows.iter().map(|row| row["prompt"].as_str().expect("an id").to_owned()).collect()
        };
        assert_eq!(ids("reward_mean"), ["b", "a\n", "c"]);
        assert_eq!(ids("last_step"), ["c", "b", "a\n"]);
        assert_eq!(ids("prompt"), ["a\n", "b", "c"]);
        let error = sorted(&table, "vists").unwrap_err().to_string();
        assert!(error.contains("`vists`") && error.contains("visits"), "{error}");
    }
}
