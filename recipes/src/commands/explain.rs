//! `evenkeel explain`: type, default, choices and source of a key of a recipe.
//!
//! Before: [`crate::recipe::keys`]. After: text for people, or the key's JSON Schema.

use std::io::Write;

use anyhow::Result;
use clap::Args;

use super::wrap::wrapped;
use crate::nearest::did_you_mean;
use crate::recipe::keys::{Choice, Key, NoKey, elsewhere, named, written};
use crate::usage::Usage;
use crate::{builtin, preset};

/// `evenkeel explain`
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A key or a table, such as `rl.baseline.optimal.weights` or `rl.sampling`.
    #[arg(default_value = "")]
    key: String,
    /// Print its JSON Schema.
    #[arg(long)]
    json: bool,
}

/// Prints what a key is; a table with its keys.
pub(crate) fn run(args: &ExplainArgs, out: &mut dyn Write) -> Result<()> {
    explain(&args.key, args.json, out)
}

fn explain(name: &str, json: bool, out: &mut dyn Write) -> Result<()> {
    let key = find(name)?;
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&key.schema())?)?;
        return Ok(());
    }
    if key.path.is_empty() {
        writeln!(out, "a recipe: the tables and keys that it may have\n")?;
        return keys(&key, out);
    }
    let text = key.text();
    writeln!(out, "{}{}\n", key.name(), if key.is_table() { "  (a table)" } else { "" })?;
    paragraphs(&text, "  ", out)?;
    if !text.is_empty() {
        writeln!(out)?;
    }
    if !key.is_table() {
        fact("type", &key.kind(), out)?;
    }
    match &key.default {
        // its keys say theirs
        _ if key.is_table() && !key.required => {}
        Some(default) => fact("default", &written(default), out)?,
        None if key.required => fact("default", "none: it has to be given", out)?,
        None => fact("default", "left out", out)?,
    }
    let choices = key.choices();
    if !choices.is_empty() {
        print_choices(&choices, out)?;
    }
    if let Some(source) = source(&key) {
        fact("source", &source, out)?;
    }
    if let Some(stage) = key.path.first().filter(|_| key.path.len() > 1) {
        let table = Key::find([stage.as_str()]).map(|table| table.short()).unwrap_or_default();
        fact("where", &format!("[{stage}]: {table}"), out)?;
    }
    let set = set_by(&key.path);
    if !set.is_empty() {
        fact("set by", &set.join("; "), out)?;
    }
    if key.is_table() {
        writeln!(out)?;
        keys(&key, out)?;
    }
    Ok(())
}

/// The key of this name, or a mistake that says what there is.
fn find(name: &str) -> Result<Key> {
    let name = name.trim().trim_matches(|c| c == '[' || c == ']');
    if name.is_empty() || name == "recipe" {
        return Ok(Key::root());
    }
    match Key::find(name.split('.')) {
        Ok(key) => Ok(key),
        // `explain group_size` may mean the one key of that name
        Err(none) => match named(&none.name).as_slice() {
            [only] if name == none.name => Ok(Key::find(only.split('.')).expect("it was found")),
            _ => Err(Usage::error(missing(name, &none))),
        },
    }
}

fn missing(name: &str, NoKey { table, name: wrong }: &NoKey) -> String {
    let place = if table.path.is_empty() { "a recipe".into() } else { format!("`{}`", table.name()) };
    let mut known: Vec<String> = table.children().iter().filter_map(|key| key.path.last().cloned()).collect();
    let taken: Vec<String> = table.choices().into_iter().map(|choice| choice.name).collect();
    known.extend(taken.iter().filter(|name| !known.contains(name)).cloned().collect::<Vec<_>>());
    let hint = match did_you_mean(wrong, known.iter().map(String::as_str)) {
        hint if !hint.is_empty() => hint,
        _ => elsewhere(wrong),
    };
    if taken.contains(wrong) {
        return format!(
            "`{name}`: `{wrong}` is a choice of {place} that takes no settings; see `evenkeel explain {}`",
            table.name()
        );
    }
    match known.is_empty() {
        true => format!("there is no key `{name}`: {place} is no table but {}{hint}", table.kind()),
        false => {
            format!("there is no key `{name}`: {place} has no `{wrong}`; it has {}{hint}", known.join(", "))
        }
    }
}

/// The source that the key names, or else the nearest table above it.
fn source(key: &Key) -> Option<String> {
    (0..=key.path.len()).rev().find_map(|length| {
        let above = Key::find(key.path[..length].iter().map(String::as_str)).ok()?;
        above.source()
    })
}

/// Presets and built-in recipes that say something of it, and what.
fn set_by(path: &[String]) -> Vec<String> {
    let value = |text: &str, path: &[String]| {
        let table: toml::Table = text.parse().ok()?;
        let found = path.iter().try_fold(&toml::Value::Table(table), |value, name| value.get(name))?.clone();
        (!found.is_table()).then(|| found.to_string())
    };
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    let mut add = |value: String, who: String| match all.iter_mut().find(|(known, _)| *known == value) {
        Some((_, names)) => names.push(who),
        None => all.push((value, vec![who])),
    };
    if let Some(("rl", rest)) = path.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        for (name, _, text) in preset::PRESETS {
            if let Some(value) = value(text, rest) {
                add(value, format!("preset {name}"));
            }
        }
    }
    for (name, text) in builtin::files() {
        if let Some(value) = value(text, path) {
            add(value, (*name).to_owned());
        }
    }
    all.into_iter().map(|(value, names)| format!("{value} in {}", names.join(", "))).collect()
}

/// The keys of a table, a line each.
fn keys(table: &Key, out: &mut dyn Write) -> Result<()> {
    let mut rows: Vec<(String, String, String)> = Vec::new();
    for key in table.children() {
        let name = key.path.last().cloned().unwrap_or_default();
        let default = match &key.default {
            _ if key.is_table() => String::new(),
            Some(value) => shortened(&written(value)),
            None if key.required => "required".into(),
            None => "left out".into(),
        };
        rows.push((if key.is_table() { format!("[{name}]") } else { name }, default, key.short()));
    }
    if table.free().is_some() {
        let name = format!("[{}.NAME]", table.name());
        rows.push((name, String::new(), "each with a name of your own".into()));
    }
    let width = |of: fn(&(String, String, String)) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let (names, defaults) = (width(|row| row.0.chars().count()), width(|row| row.1.chars().count()));
    for (name, default, about) in &rows {
        let first = format!("  {name:names$}  {default:defaults$}  ");
        wrapped(about, &first, names + defaults + 6, out)?;
    }
    Ok(())
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= 24 {
        text.to_owned()
    } else {
        text.chars().take(22).collect::<String>() + " …"
    }
}

fn print_choices(choices: &[Choice], out: &mut dyn Write) -> Result<()> {
    let width = choices.iter().map(|choice| choice.written.chars().count()).max().unwrap_or(0).min(34);
    for (place, choice) in choices.iter().enumerate() {
        let label = if place == 0 { "choices" } else { "" };
        let first = format!("  {label:8}  {:width$}  ", choice.written);
        wrapped(&choice.about, &first, width + 14, out)?;
    }
    Ok(())
}

fn fact(name: &str, text: &str, out: &mut dyn Write) -> Result<()> {
    wrapped(text, &format!("  {name:8}  "), 12, out)
}

fn paragraphs(text: &str, indent: &str, out: &mut dyn Write) -> Result<()> {
    for (place, paragraph) in text.split("\n\n").filter(|paragraph| !paragraph.is_empty()).enumerate() {
        if place > 0 {
            writeln!(out)?;
        }
        wrapped(paragraph, indent, indent.len(), out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::wrap::WIDTH;

    fn said(name: &str) -> String {
        let mut out = Vec::new();
        explain(name, false, &mut out).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_key_is_explained_with_type_default_choices_source_and_who_sets_it() {
        let text = said("rl.baseline.optimal.weights");
        for wanted in
            ["choices", "\"full\"", "\"length\"", "default", "source", "2511.23310", "in preset oblr"]
        {
            assert!(text.contains(wanted), "no {wanted} in\n{text}");
        }
        let text = said("rl.truncated");
        assert!(text.contains("it has to be given") && text.contains("penalise"), "{text}");
        // the one key of that name
        assert_eq!(said("prompts_per_step"), said("rl.prompts_per_step"));
    }

    #[test]
    fn a_table_lists_its_keys_and_a_misspelt_key_is_told_the_nearest() {
        let text = said("rl.sampling");
        for key in ["temperature", "max_tokens", "stop_tokens"] {
            assert!(text.contains(key), "{text}");
        }
        assert!(said("").contains("[policy]") && said("[rewards]").contains("exact_match"));
        for (name, wanted) in [
            ("rl.sampling.temprature", "did you mean `temperature`?"),
            ("rl.learning_rate", "`rl.schedule.learning_rate`"),
            ("rl.truncated.keep", "takes no settings"),
            ("seed.x", "is no table but a whole number"),
            ("nonsense", "there is no key `nonsense`"),
        ] {
            let error = explain(name, false, &mut Vec::new()).expect_err(name).to_string();
            assert!(error.contains(wanted), "{name}: {error}");
        }
    }

    #[test]
    fn every_key_can_be_explained_within_the_width() {
        for key in crate::recipe::keys::all() {
            let text = said(&key.name());
            let long = text.lines().find(|line| line.chars().count() > WIDTH && line.trim().contains(' '));
            // a word alone may be longer than a line
            assert!(
                long.is_none_or(|line| line.split_whitespace().any(|word| word.chars().count() > 40)),
                "{long:?}"
            );
        }
    }
}
