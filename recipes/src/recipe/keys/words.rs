//! Doc comments of keys as sentences, and values as TOML writes them.

use serde_json::Value;

/// Docs before their first section.
pub(super) fn body(text: &str) -> String {
    let end = text.find("\n# ").unwrap_or(text.len());
    flowing(text[..end].trim())
}

/// A section of docs by its heading.
pub(super) fn section(text: &str, heading: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("# {heading}\n"))?;
    let end = rest.find("\n# ").unwrap_or(rest.len());
    Some(flowing(rest[..end].trim()))
}

/// Lines of a paragraph in one, links by their words alone.
pub(super) fn flowing(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n").replace("[`", "`").replace("`]", "`")
}

/// The first sentence, or the first two if the first says next to nothing.
pub(super) fn first_sentences(text: &str) -> String {
    let text = body(text).replace("\n\n", " ");
    let ends = text.match_indices(". ").map(|(at, _)| at).filter(|at| {
        // not behind an abbreviation or within code
        text[..*at].matches('`').count().is_multiple_of(2) && !text[..*at].ends_with("e.g")
    });
    match ends.clone().find(|at| *at > 12) {
        Some(end) => text[..end].to_owned(),
        None => text.trim_end_matches('.').to_owned(),
    }
}

/// A value as TOML writes it on one line.
pub(crate) fn written(value: &Value) -> String {
    match value {
        Value::Object(map) if map.is_empty() => "{}".into(),
        Value::Object(map) => {
            let all: Vec<String> = map
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| format!("{key} = {}", written(value)))
                .collect();
            format!("{{ {} }}", all.join(", "))
        }
        Value::Array(all) => format!("[{}]", all.iter().map(written).collect::<Vec<_>>().join(", ")),
        // a basic string of TOML has JSON's escapes
        Value::String(_) => value.to_string(),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(x) if x != 0.0 && (x.abs() < 1e-3 || x.abs() >= 1e7) => format!("{x:e}"),
            Some(x) => format!("{x:?}"),
            None => number.to_string(),
        },
        other => other.to_string(),
    }
}
