//! `--stats`: the prompts of a run with what is known of them.

use anyhow::Result;
use data::Table;
use serde::Serialize;
use serde_json::{Map, Value};

use super::sections::{Block, Section, brief};
use crate::prompt_stats::{COLUMNS, sorted};

/// Columns that are printed where any prompt has a value; the file has more.
const SHOWN: [&str; 11] = [
    "prompt",
    "visits",
    "reward_mean",
    "posterior_mean",
    "expected_variance",
    "truncation_rate",
    "tokens_mean",
    "diversity",
    "prediction_error",
    "visit_variance",
    "forgotten",
];

/// Prompts in the order that was asked for.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct StatsTable {
    /// All columns of every prompt.
    pub(super) rows: Vec<Map<String, Value>>,
    #[serde(skip)]
    sort: String,
}

impl StatsTable {
    /// # Errors
    /// If there is no such column.
    pub(super) fn of(table: &Table, sort: &str, ascending: bool) -> Result<Self> {
        let mut rows = sorted(table, sort)?;
        if ascending {
            // what is unknown stays last
            let known = rows.iter().take_while(|row| row.get(sort).is_some_and(|v| !v.is_null())).count();
            rows[..known].reverse();
        }
        Ok(Self { rows, sort: sort.to_owned() })
    }

    pub(super) fn sections(&self, most: usize) -> Vec<Section> {
        let has = |name: &str| self.rows.iter().any(|row| row.get(name).is_some_and(|v| !v.is_null()));
        let mut columns: Vec<&str> = SHOWN.into_iter().filter(|name| has(name)).collect();
        if !columns.contains(&self.sort.as_str()) {
            columns.insert(1, &self.sort);
        }
        let row = |row: &Map<String, Value>| {
            columns.iter().map(|name| shown(row.get(*name).unwrap_or(&Value::Null))).collect()
        };
        let head = columns.iter().map(|name| (*name).to_owned()).collect();
        let shown = self.rows.iter().take(most).map(row).collect::<Vec<Vec<String>>>();
        let title = match self.rows.len() {
            all if all > most => format!("Prompts that were visited: {most} of {all}, by {}", self.sort),
            all => format!("Prompts that were visited: {all}, by {}", self.sort),
        };
        let words = COLUMNS.iter().filter(|(name, _)| columns.contains(name));
        let words = words.map(|(name, meaning)| ((*name).to_owned(), (*meaning).to_owned())).collect();
        vec![Section { title, blocks: vec![Block::Table(head, shown), Block::Words(words)] }]
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => brief(text, 60),
        Value::Number(number) if number.is_f64() => {
            let text = format!("{:.4}", number.as_f64().unwrap_or(f64::NAN));
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        other => other.to_string(),
    }
}
