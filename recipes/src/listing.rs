//! `evenkeel recipes` and `evenkeel presets`: what there is, and how each differs.
//!
//! Before: [`crate::builtin`] and [`crate::preset`]. After: text for people.

use std::io::Write;

use anyhow::Result;

use crate::explain::wrapped;
use crate::keys::{Key, written};
use crate::{builtin, preset};

/// The built-in recipes, each with what its comment says first.
pub(crate) fn recipes(out: &mut dyn Write) -> Result<()> {
    for (name, text) in builtin::recipes() {
        wrapped(&first_comment(text), &format!("{name:27}  "), 29, out)?;
    }
    Ok(())
}

/// The presets, each with its source and what it changes.
pub(crate) fn presets(out: &mut dyn Write) -> Result<()> {
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

/// The lines of comment that a text begins with.
fn first_comment(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix('#'));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

/// What settings of `[rl]` differ from what a recipe has without them.
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

/// Whether this is the choice that there is by default.
fn is_default_choice(key: Option<&Key>, name: &str) -> bool {
    let default = key.and_then(|key| key.default.as_ref());
    default.and_then(|default| default.as_object()).is_some_and(|default| default.contains_key(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_and_preset_is_listed_with_whole_sentences_and_what_changes() {
        let mut out = Vec::new();
        recipes(&mut out).expect("writes");
        let text = String::from_utf8(out).expect("text");
        let flowing = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for (name, recipe) in builtin::recipes() {
            assert!(flowing.contains(name.as_str()), "{name}");
            let comment = first_comment(recipe);
            assert!(comment.ends_with('.'), "{name}: {comment:?} is no sentence");
            assert!(flowing.contains(&comment.split_whitespace().collect::<Vec<_>>().join(" ")), "{comment}");
        }
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
