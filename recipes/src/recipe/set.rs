//! `--set`: values of a recipe or a benchmark that the command line replaces.

use super::error::RecipeError;
use super::{ranges, wording};

/// Reads a table in which `sets`, and perhaps a preset, have replaced values.
pub(super) fn replaced<T: serde::de::DeserializeOwned>(
    place: &str,
    table: &toml::Table,
    sets: &[String],
    preset: Option<&str>,
) -> Result<T, RecipeError> {
    let text = toml::to_string(table)
        .map_err(|error| RecipeError::Set { text: sets.join(" "), problem: error.to_string() })?;
    let read =
        toml::from_str(&text).map_err(|error| wording::set_error(place, &text, &error, sets, preset))?;
    match ranges::out_of_range(&text) {
        Some((path, message)) => Err(wording::blamed(place, &path, message, sets, preset)),
        None => Ok(read),
    }
}

/// Tables inside of tables that `--set` may name: more than any recipe has.
const MOST_KEYS: usize = 16;

/// Puts a value, `key.key=value`, into the table.
///
/// # Errors
/// If the text is not of that form, or a key on the way is not a table.
pub(super) fn apply(table: &mut toml::Table, text: &str) -> Result<(), RecipeError> {
    let refuse = |problem: String| RecipeError::Set { text: text.to_owned(), problem };
    let (path, value) =
        text.split_once('=').ok_or_else(|| refuse("wanted key.key=value, such as rl.steps=10".into()))?;
    let value = match format!("value = {value}").parse::<toml::Table>() {
        Ok(mut parsed) if parsed.len() == 1 => parsed.remove("value"),
        _ => None,
    }
    .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let keys: Vec<&str> = path.trim().split('.').collect();
    if keys.len() > MOST_KEYS {
        return Err(refuse(format!(
            "it has {} keys, one inside the other; at most {MOST_KEYS} are allowed",
            keys.len()
        )));
    }
    let Some((last, parents)) = keys.split_last().filter(|_| keys.iter().all(|key| !key.is_empty())) else {
        return Err(refuse("a key is empty".into()));
    };
    let mut here = table;
    for key in parents {
        let next = here.entry(*key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        here = next.as_table_mut().ok_or_else(|| refuse(format!("`{key}` is a value, not a table")))?;
    }
    here.insert((*last).to_owned(), value);
    Ok(())
}
