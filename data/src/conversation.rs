//! Conversations as dataset rows write them.
//!
//! Before: a row's column holds a list of messages. After: the [`crate::Body`] of a prompt, or a preference pair.

use serde_json::{Map, Value};

use crate::{Message, row::kind};

/// The messages of a list, each an object with `role` and `content`, or with `from` and `value` as ShareGPT has it.
///
/// Content is text, or a list of parts that are all text. Other entries of a message are left out if they are empty.
/// # Errors
/// What is wrong with which message, counted from 1: no list, no role, no text, or tools, which are not read.
pub fn conversation(value: &Value) -> Result<Vec<Message>, String> {
    let Value::Array(list) = value else {
        return Err(format!("holds {}, wanted a list of messages", kind(value)));
    };
    if list.is_empty() {
        return Err("holds an empty list, wanted at least one message".into());
    }
    let numbered = |(place, value): (usize, &Value)| {
        message(value).map_err(|problem| format!("holds messages of which number {} {problem}", place + 1))
    };
    list.iter().enumerate().map(numbered).collect()
}

fn message(value: &Value) -> Result<Message, String> {
    let Value::Object(entries) = value else {
        return Err(format!("is {}, wanted an object with `role` and `content`", kind(value)));
    };
    let entry = |name: &str| entries.get(name).filter(|value| !value.is_null());
    let role = match (entry("role"), entry("from")) {
        (Some(Value::String(role)), _) => role.as_str(),
        (None, Some(Value::String(from))) => match from.as_str() {
            "human" => "user",
            "gpt" => "assistant",
            other => other,
        },
        (Some(other), _) | (None, Some(other)) => {
            return Err(format!("has {} as its role, wanted text", kind(other)));
        }
        (None, None) => return Err(format!("has no `role`; it has {}", names(entries))),
    };
    let calls = entry("tool_calls").or_else(|| entry("function_call")).filter(|calls| !is_empty(calls));
    if calls.is_some() || matches!(role, "tool" | "function") {
        return Err("has to do with tools, which are not read: wanted turns of text only".into());
    }
    let content = match (entry("content"), entry("value")) {
        (Some(content), _) => text(content)?,
        (None, Some(value)) if entry("role").is_none() => text(value)?,
        _ => return Err(format!("has no `content`; it has {}", names(entries))),
    };
    Ok(Message { role: role.into(), content })
}

/// A message's text: one, or that of its parts.
fn text(content: &Value) -> Result<String, String> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match (part.get("type").and_then(Value::as_str), part.get("text")) {
                (Some("text") | None, Some(Value::String(text))) => Ok(text.as_str()),
                (Some(other), _) if other != "text" => {
                    Err(format!("holds a part of type `{other}`, wanted text only"))
                }
                _ => Err(format!("holds the part {part}, wanted text")),
            })
            .collect(),
        other => Err(format!("has {} as its content, wanted text", kind(other))),
    }
}

fn names(entries: &Map<String, Value>) -> String {
    match entries.is_empty() {
        true => "nothing".into(),
        false => entries.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

/// Whether there is nothing in a value, so that leaving it out changes nothing.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() || matches!(text.trim(), "[]" | "null"),
        Value::Array(list) => list.is_empty(),
        Value::Object(entries) => entries.values().all(Value::is_null),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn turns_of_text_are_read_in_every_common_form() {
        let wanted = vec![
            Message::system("be brief"),
            Message::user("1+1"),
            Message { role: "assistant".into(), content: "2".into() },
        ];
        for value in [
            json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2"}]),
            json!([{"from": "system", "value": "be brief"}, {"from": "human", "value": "1+1"}, {"from": "gpt", "value": "2"}]),
            json!([{"role": "system", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}]},
                {"role": "user", "content": "1+1", "tool_calls": null, "name": null}, {"role": "assistant", "content": "2", "tool_calls": []}]),
        ] {
            assert_eq!(conversation(&value).unwrap(), wanted);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_by_its_message() {
        for (value, wanted) in [
            (json!("hi"), "holds text, wanted a list of messages"),
            (json!([]), "holds an empty list, wanted at least one message"),
            (
                json!(["hi"]),
                "holds messages of which number 1 is text, wanted an object with `role` and `content`",
            ),
            (json!([{"content": "x"}]), "holds messages of which number 1 has no `role`; it has `content`"),
            (json!([{"role": "user"}]), "holds messages of which number 1 has no `content`; it has `role`"),
            (
                json!([{"role": "user", "content": "a"}, {"role": 1, "content": "x"}]),
                "holds messages of which number 2 has a number as its role, wanted text",
            ),
            (
                json!([{"role": "user", "content": 5}]),
                "holds messages of which number 1 has a number as its content, wanted text",
            ),
            (
                json!([{"role": "user", "content": [{"type": "image"}]}]),
                "holds messages of which number 1 holds a part of type `image`, wanted text only",
            ),
            (
                json!([{"role": "assistant", "content": null, "tool_calls": [{"id": 1}]}]),
                "holds messages of which number 1 has to do with tools, which are not read: wanted turns of text only",
            ),
            (
                json!([{"role": "tool", "content": "4"}]),
                "holds messages of which number 1 has to do with tools, which are not read: wanted turns of text only",
            ),
        ] {
            assert_eq!(conversation(&value).unwrap_err(), wanted);
        }
    }
}
