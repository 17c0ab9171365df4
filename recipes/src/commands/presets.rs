//! `evenkeel presets`: the published methods that a recipe may name, and the settings of each.

use std::io::Write;

use anyhow::Result;
use clap::Args;

use super::wrap::{first_comment, wrapped};
use crate::preset;
use crate::recipe::keys::{Key, written};
use crate::usage::Usage;

/// `evenkeel presets`
#[derive(Debug, Args)]
pub(crate) struct PresetsArgs {
    /// Print this one.
    name: Option<String>,
}

/// Prints the settings of one preset, or all presets with their sources and what each changes.
pub(crate) fn run(args: &PresetsArgs, out: &mut dyn Write) -> Result<()> {
    let Some(name) = &args.name else { return list(out) };
    match preset::PRESETS.iter().find(|(known, _, _)| known == name) {
        Some((_, about, text)) => Ok(write!(out, "# {about}\n{text}")?),
        None => {
            let hint = preset::hint(name);
            Err(Usage::error(format!("there is no preset `{name}`; see `evenkeel presets`{hint}")))
        }
    }
}

fn list(out: &mut dyn Write) -> Result<()> {
    for (name, about, text) in preset::PRESETS {
        writeln!(out, "{name:22}  {about}")?;
        let comment = first_comment(text);
        if !comment.is_empty() {
            wrapped(&comment, &" ".repeat(24), 24, out)?;
        }
        wrapped(&changes(text), &" ".repeat(24), 24, out)?;
    }
    Ok(())
}

/// Settings of `[rl]` that differ from what a recipe has without them.
fn changes(text: &str) -> String {
    let table: toml::Table = text.parse().expect("presets are valid TOML, as a test says");
    let mut all = Vec::new();
    for (name, value) in table {
        let value = serde_json::to_value(value).unwrap_or_default();
        differences(&["rl".to_owned(), name], &value, &mut all);
    }
    if all.is_empty() { "as by default".into() } else { all.join(", ") }
}

fn differences(path: &[String], value: &serde_json::Value, all: &mut Vec<String>) {
    let key = Key::find(path.iter().map(String::as_str)).ok();
    if key.as_ref().and_then(|key| key.default.as_ref()) == Some(value) {
        return;
    }
    match value.as_object().filter(|map| !map.is_empty()) {
        Some(map) => {
            for (name, value) in map {
                let before = all.len();
                differences(&[path, std::slice::from_ref(name)].concat(), value, all);
                // a choice shows by its name even if its settings are those that it has anyhow
                if all.len() == before
                    && key.as_ref().is_some_and(Key::is_choice)
                    && !is_default_choice(key.as_ref(), name)
                {
                    all.push(format!("{} = {name}", path[1..].join(".")));
                }
            }
        }
        None => match key.as_ref() {
            _ if value.is_object() => {
                all.push(format!("{} = {}", path[1..path.len() - 1].join("."), path[path.len() - 1]))
            }
            _ => all.push(format!("{} = {}", path[1..].join("."), written(value))),
        },
    }
}

/// True of the choice that there is by default.
fn is_default_choice(key: Option<&Key>, name: &str) -> bool {
    let default = key.and_then(|key| key.default.as_ref());
    default.and_then(|default| default.as_object()).is_some_and(|default| default.contains_key(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_says_what_it_changes() {
        for (name, _, text) in preset::PRESETS {
            let changes = changes(text);
            assert!(!changes.is_empty() && !changes.contains("rl."), "{name}: {changes}");
        }
        assert!(changes("baseline = \"leave_one_out\"").contains("baseline = \"leave_one_out\""));
        assert!(
            changes("objective = { grpo = { clip_high = 0.28 } }")
                .contains("objective.grpo.clip_high = 0.28")
        );
        assert!(changes("objective = { reinforce = {} }").contains("objective = reinforce"));
        assert_eq!(changes("scale = \"group\""), "as by default");
    }
}
