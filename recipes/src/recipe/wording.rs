//! What is wrong in a recipe, in a recipe's own terms.
//!
//! Before: an error of the TOML reader, which speaks of Rust's types. After: [`RecipeError`] names the key, what was found
//! and what is wanted, with the choices and docs that [`super::keys`] knows.

use toml::de::{DeTable, DeValue};

use super::error::RecipeError;
use super::keys::{Key, elsewhere};
use crate::nearest::did_you_mean;

/// A mistake in a recipe, and the key it is in.
pub(super) struct Wrong {
    /// Names from the root on; empty if the text is no TOML.
    pub(super) path: Vec<String>,
    /// In words.
    pub(super) message: String,
    /// The nearest known key, as a sentence, if that may help.
    pub(super) hint: String,
}

/// The error of the TOML reader about `text`, with its place there.
pub(super) fn parse_error(place: &str, text: &str, error: &toml::de::Error) -> RecipeError {
    let Wrong { message, hint, .. } = wrong(text, error);
    let whole = error.to_string();
    let whole = whole.trim_end();
    let located = whole.strip_suffix(error.message().trim_end()).unwrap_or_default();
    RecipeError::Parse { place: place.to_owned(), message: format!("{located}{message}"), hint }
}

/// The error of the TOML reader about a text that nobody wrote: a recipe with some values replaced by `sets`. The one that is
/// to blame is named; none is where a preset, which `blame` names, brought the key.
pub(super) fn set_error(
    place: &str,
    text: &str,
    error: &toml::de::Error,
    sets: &[String],
    preset: Option<&str>,
) -> RecipeError {
    let Wrong { path, message, hint } = wrong(text, error);
    let same = sets.iter().any(|set| keys_of(set) == path);
    let key = if path.is_empty() || same { String::new() } else { format!("`{}`: ", path.join(".")) };
    blamed(place, &path, format!("{key}{message}{hint}"), sets, preset)
}

/// The error of a key at `path`, which one of `sets` brought, or else the preset.
pub(super) fn blamed(
    place: &str,
    path: &[String],
    message: String,
    sets: &[String],
    preset: Option<&str>,
) -> RecipeError {
    let guilty = |set: &&String| {
        let keys = keys_of(set);
        let shared = keys.iter().zip(path).take_while(|(a, b)| a == b).count();
        shared == keys.len().min(path.len()) && !keys.is_empty()
    };
    match (sets.iter().rev().find(guilty), preset) {
        (Some(set), _) => RecipeError::Set { text: set.clone(), problem: message },
        (None, Some(preset)) => RecipeError::Conflict {
            name: place.to_owned(),
            problem: format!("with preset `{preset}`, {message}"),
        },
        (None, None) => RecipeError::Set { text: sets.join(" "), problem: message },
    }
}

/// The key of a `--set`.
pub(super) fn keys_of(set: &str) -> Vec<String> {
    let path = set.split_once('=').map_or("", |(path, _)| path.trim());
    path.split('.').filter(|key| !key.is_empty()).map(str::to_owned).collect()
}

fn wrong(text: &str, error: &toml::de::Error) -> Wrong {
    let table = DeTable::parse(text).ok();
    let path = match (&table, error.span()) {
        (Some(table), Some(span)) => path_at(table.get_ref(), span.start).unwrap_or_default(),
        _ => Vec::new(),
    };
    let written = error.span().and_then(|span| text.get(span)).unwrap_or_default();
    let found = table.as_ref().and_then(|table| names_at(table.get_ref(), &path)).unwrap_or_default();
    let (message, hint) = reworded(error.message().trim_end(), &path, written, &found);
    Wrong { path, message, hint }
}

/// The key whose name or value stands at this byte.
fn path_at(table: &DeTable<'_>, at: usize) -> Option<Vec<String>> {
    table.iter().find_map(|(key, value)| {
        let name = || key.get_ref().to_string();
        // the name of a table may stand in the header of one within it, `[data.jsonl]`
        if key.span().contains(&at) {
            return Some(vec![name()]);
        }
        if let DeValue::Table(inner) = value.get_ref()
            && let Some(mut path) = path_at(inner, at)
        {
            path.insert(0, name());
            return Some(path);
        }
        value.span().contains(&at).then(|| vec![name()])
    })
}

/// The names within a table of the text.
fn names_at(table: &DeTable<'_>, path: &[String]) -> Option<Vec<String>> {
    let Some((first, rest)) = path.split_first() else {
        return Some(table.iter().map(|(key, _)| key.get_ref().to_string()).collect());
    };
    let (_, value) = table.iter().find(|(key, _)| key.get_ref().as_ref() == first.as_str())?;
    match value.get_ref() {
        DeValue::Table(inner) => names_at(inner, rest),
        _ => None,
    }
}

/// The message and a hint. `written` is the text at fault, `names` are those within it if it is a table.
fn reworded(message: &str, path: &[String], written: &str, names: &[String]) -> (String, String) {
    let key = Key::find(path.iter().map(String::as_str)).ok();
    let wanted = |fallback: &str| key.as_ref().map_or_else(|| fallback.to_owned(), Key::wanted);
    let plain = |message: String| (message, String::new());
    if let Some(name) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        // where the whole recipe lacks it, its first key is pointed at
        let key = (0..=path.len())
            .rev()
            .find_map(|length| Key::find(path[..length].iter().map(String::as_str).chain([name])).ok());
        return plain(match key {
            Some(key) => {
                let table = &key.path[..key.path.len() - 1];
                let place =
                    if table.is_empty() { String::new() } else { format!(" of [{}]", table.join(".")) };
                format!("missing field `{name}`{place}: {}\nwanted {}", key.short(), key.wanted())
            }
            None => format!("missing field `{name}`"),
        });
    }
    if message.starts_with("unknown ") {
        let mut quoted = message.split('`').skip(1).step_by(2);
        let name = quoted.next().unwrap_or_default();
        let near = did_you_mean(name, quoted);
        let far = || if message.starts_with("unknown field") { elsewhere(name) } else { String::new() };
        return (message.to_owned(), if near.is_empty() { far() } else { near });
    }
    if message.starts_with("wanted exactly 1 element, more than 1") {
        let all: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let place = path.join(".");
        return (
            format!("[{place}] is one of several things, and here are {}: {}", all.len(), all.join(" and ")),
            format!("\nleave one; `--set` puts one in the place of another by `{place}={{ … }}`"),
        );
    }
    if message.starts_with("wanted exactly 1 element") {
        return plain(format!("[{}] is empty; wanted {}", path.join("."), wanted("one key")));
    }
    if message == "wanted string or table" {
        return plain(format!("found `{written}`, wanted {}", wanted("a text in quotes or a table")));
    }
    if message.contains("did not match any variant of untagged enum") {
        return plain(format!("found `{}`, wanted {}", one_line(written), wanted("something else")));
    }
    if message.starts_with("expected table, found")
        && let Some((last, above)) = path.split_last()
        && let Ok(choice) = Key::find(above.iter().map(String::as_str))
    {
        return plain(format!("`{last}` is a choice without settings; wanted {}", choice.wanted()));
    }
    if let Some(rest) = message.strip_prefix("invalid length ")
        && let Some((count, _)) = rest.split_once(',')
    {
        return plain(format!("found a list of {count}, wanted {}", wanted("another length")));
    }
    let split = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        .and_then(|rest| rest.split_once(", expected "));
    let Some((found, expected)) = split else { return plain(message.to_owned()) };
    if found == "unit variant" {
        let name = written.trim_matches(['"', '\'']);
        let choice =
            key.as_ref().and_then(|key| key.choices().into_iter().find(|choice| choice.name == name));
        return plain(match (choice, path.last()) {
            (Some(choice), Some(last)) => {
                format!("\"{name}\" needs settings: wanted {last} = {}", choice.written)
            }
            _ => format!("\"{name}\" needs settings: wanted a table of that name"),
        });
    }
    // a list may be right and what is in it wrong
    let expected = match (&key, in_words(expected)) {
        (_, None) => expected.to_owned(),
        (Some(key), Some(words)) => key.wanted_in_place_of(words),
        (None, Some(words)) => words.to_owned(),
    };
    plain(format!("found {}, wanted {expected}", found_in_words(found, written)))
}

/// A type of Rust's, as serde calls it, in words.
fn in_words(expected: &str) -> Option<&'static str> {
    Some(match expected {
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "a whole number of at least 0",
        "a nonzero u8" | "a nonzero u16" | "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => {
            "a whole number of at least 1"
        }
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" | "bool" => "true or false",
        "a string" | "a borrowed string" | "str" | "path string" => "a text in quotes",
        "a sequence" => "a list",
        "a map" => "a table",
        _ if expected.starts_with("struct ") || expected.starts_with("internally tagged") => "a table",
        _ if expected.starts_with("enum ") => "one of its choices",
        _ if expected.starts_with("an array of length") || expected.starts_with("a tuple of size") => {
            "a list of another length"
        }
        _ => return None,
    })
}

/// The value that was found, in words.
fn found_in_words(found: &str, written: &str) -> String {
    match found.split(' ').next() {
        Some("map") => "a table".into(),
        Some("sequence") => "a list".into(),
        _ if written.is_empty() => found.to_owned(),
        _ => format!("`{}`", one_line(written)),
    }
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use crate::recipe::root::Recipe;

    const BASE: &str = "policy = { checkpoint = \"tiny\" }\ndata = { arithmetic = {} }\n";
    const RL: &str = "[rl]\nsteps = 1\nprompts_per_step = 1\ngroup_size = 2\ntruncated = \"keep\"\n";

    fn error(text: &str) -> String {
        Recipe::parse("test.toml", text).expect_err(text).to_string()
    }

    /// Refuses names of Rust's, which nobody who writes a recipe need know.
    fn assert_plain(error: &str) {
        for word in [
            "usize", "u64", "u32", "f64", "f32", "struct ", "enum ", "newtype", "variant,", "sequence",
            "untagged", "elements", "i128", "Option",
        ] {
            assert!(!error.contains(word), "{word:?} in {error}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_is_told_what_is_wanted_in_plain_words() {
        let rl = |line: &str| {
            let key = line.split(' ').next().unwrap_or_default();
            let rest: Vec<&str> = RL.lines().filter(|line| !line.starts_with(key)).collect();
            format!("{BASE}{}\n{line}\n", rest.join("\n"))
        };
        for (text, wanted) in [
            (rl("steps = \"ten\""), "found `\"ten\"`, wanted a whole number of at least 1"),
            (rl("steps = -1"), "found `-1`, wanted a whole number of at least 1"),
            (rl("steps = 1.5"), "found `1.5`, wanted a whole number of at least 1"),
            (rl("steps = 99999999999999999999999"), "wanted a whole number of at least 1"),
            (rl("steps = [1]"), "found a list, wanted a whole number"),
            (rl("steps = {}"), "found a table, wanted a whole number"),
            (rl("entropy_bonus = \"x\""), "found `\"x\"`, wanted a number"),
            (rl("overlap = true"), "found `true`, wanted a whole number of at least 0"),
            (rl("preset = 3"), "found `3`, wanted a text in quotes"),
            (rl("kl = 0.1"), "found `0.1`, wanted a table"),
            (rl("truncated = 3"), "wanted \"keep\", \"mask\", { penalise = NUMBER } or { overlong = { … } }"),
            (
                rl("truncated = \"penalise\""),
                "\"penalise\" needs settings: wanted truncated = { penalise = NUMBER }",
            ),
            (rl("truncated = { keep = 1 }"), "`keep` is a choice without settings"),
            (rl("truncated = { overlong = 1 }"), "found `1`, wanted a table"),
            (rl("sampling = { stop = \"x\" }"), "found `\"x\"`, wanted a list"),
            (rl("sampling = { stop = [1] }"), "found `1`, wanted a text in quotes in the list"),
            (rl("sampling = { entropy = 1 }"), "found `1`, wanted true or false"),
            (
                format!("{BASE}rollout = {{ backend = \"vllm\" }}\n"),
                "\"vllm\" needs settings: wanted backend = { vllm = { url = \"…\" } }",
            ),
            (format!("{BASE}rollout = {{ backend = 3 }}\n"), "\"local\""),
            (format!("{BASE}rewards = {{ math = {{ extract = 3 }} }}\n"), "wanted"),
            (format!("{BASE}rewards = {{ clip = [1.0] }}\n"), "a list of 2"),
            (format!("{BASE}save = 3\n"), "found `3`, wanted a table"),
            (format!("{BASE}policy = 3\n"), "duplicate key"),
        ] {
            let error = error(&text);
            assert!(error.contains(wanted), "{text}\n{error}");
            assert!(error.contains("line ") && error.contains("column "), "{error}");
            assert_plain(&error);
        }
    }

    #[test]
    fn a_missing_key_is_told_with_what_it_is_and_its_choices() {
        let text = format!("{BASE}[rl]\nsteps = 1\nprompts_per_step = 1\ngroup_size = 2\n");
        let error_rl = error(&text);
        for wanted in [
            "missing field `truncated` of [rl]",
            "ran out of tokens",
            "\"keep\", \"mask\", { penalise = NUMBER }",
        ] {
            assert!(error_rl.contains(wanted), "no {wanted} in {error_rl}");
        }
        let error_root = error("policy = { checkpoint = \"tiny\" }\n");
        assert!(
            error_root.contains("missing field `data`")
                && error_root.contains("{ jsonl = { path = \"…\" } }"),
            "{error_root}"
        );
        assert_plain(&error_rl);
        assert_plain(&error_root);
    }

    #[test]
    fn two_of_several_choices_are_both_named_and_none_is_told_all() {
        let text = "policy = { checkpoint = \"tiny\" }\n[data.arithmetic]\n[data.jsonl]\npath = \"x\"\n";
        let two = error(text);
        assert!(two.contains("`arithmetic` and `jsonl`") && two.contains("[data]"), "{two}");
        assert_plain(&two);
        let none = error("policy = { checkpoint = \"tiny\" }\n[data]\n");
        assert!(none.contains("[data] is empty; wanted { arithmetic = { … } }"), "{none}");
    }

    #[test]
    fn a_key_of_another_table_is_told_where_it_belongs() {
        let error = error(&format!("{BASE}{RL}learning_rate = 1e-6\n"));
        assert!(error.contains("`rl.schedule.learning_rate`"), "{error}");
    }

    #[test]
    fn a_wrong_set_is_named_and_no_line_is_that_nobody_wrote() {
        for (sets, wanted) in [
            (
                &["rl.steps=ten"][..],
                "`--set rl.steps=ten`: found `\"ten\"`, wanted a whole number of at least 1",
            ),
            (&["seed=1", "rl.steps=0"], "`--set rl.steps=0`: wanted at least 1, not 0"),
            (&["rl.stepz=3"], "`--set rl.stepz=3`: unknown field `stepz`"),
            (&["rl={}"], "`--set rl={}`: missing field `steps`"),
            (&["rl.objective.grpo.clip_high=0.3", "rl.objective.cispo.cap=3.0"], "`grpo` and `cispo`"),
            (&["rollout.backend=vllm"], "needs settings"),
            (&["rl.preset=dapo", "rl.steps=x"], "`--set rl.steps=x`: found"),
            (&["rl.preset=cispo"], "with preset `cispo`, `rl.objective`"),
        ] {
            let all: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            let error = Recipe::load("tiny", &all).map(|_| ()).map_err(|error| error.to_string());
            // a preset gives way to a choice that the recipe has made
            let Err(error) = error else {
                assert_eq!(sets, ["rl.preset=cispo"]);
                continue;
            };
            assert!(error.contains(wanted), "{sets:?}: {error}");
            assert!(!error.contains("line ") && !error.contains("TOML"), "{error}");
            assert_plain(&error);
        }
    }
}
