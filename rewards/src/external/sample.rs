//! What others are told of a rollout, and how their answer reads.
//!
//! Before: a rollout. After: JSON for a program or a server; and from what comes back, a [`Verdict`].

use data::{Answer, Body, Message, Prompt, Rollout, Verdict};
use serde::Serialize;
use serde_json::{Map, Value};

/// What everybody is told: `{"id", "prompt", "completion", "answer", "fields"}`. Several references are a list.
#[derive(Serialize)]
pub(super) struct Told<'a> {
    id: &'a str,
    prompt: Words<'a>,
    completion: &'a str,
    answer: Option<&'a Answer>,
    fields: &'a Map<String, Value>,
}

/// Text, or a list of messages if it is a chat.
#[derive(Serialize)]
#[serde(untagged)]
enum Words<'a> {
    Text(&'a str),
    Chat(&'a [Message]),
}

impl<'a> From<&'a Rollout> for Told<'a> {
    fn from(rollout: &'a Rollout) -> Self {
        let Prompt { id, body, answer, fields } = &*rollout.prompt;
        let prompt = match body {
            Body::Text(text) => Words::Text(text),
            Body::Chat(messages) => Words::Chat(messages),
        };
        Self { id, prompt, completion: &rollout.text, answer: answer.as_ref(), fields }
    }
}

/// JSON and the end of its line.
pub(super) fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("keys are strings, and nothing of it can fail");
    line.push(b'\n');
    line
}

/// The prompt as one text, for those who do not know conversations: of several messages each begins with its role.
pub(super) fn text(body: &Body) -> String {
    match body {
        Body::Text(text) => text.clone(),
        Body::Chat(messages) => match messages.as_slice() {
            [only] => only.content.clone(),
            messages => {
                let told = messages.iter().map(|message| format!("{}: {}", message.role, message.content));
                told.collect::<Vec<_>>().join("\n\n")
            }
        },
    }
}

/// A number, null, or an object with `reward`, and `reason` and `answer` if there are any, or with `failure`.
pub(super) fn verdict(value: &Value) -> Verdict {
    let Value::Object(parts) = value else {
        return number(value);
    };
    let text = |name: &str| parts.get(name).filter(|part| !part.is_null()).map(as_text);
    if let Some(failure) = text("failure") {
        return Verdict::failed(failure);
    }
    match parts.get("reward") {
        Some(reward) => Verdict { reason: text("reason"), answer: text("answer"), ..number(reward) },
        None => Verdict::failed(format!("returned {}, wanted `reward` in it", short(value))),
    }
}

fn number(value: &Value) -> Verdict {
    match value.as_f64().map(|number| number as f32) {
        Some(number) if number.is_finite() => Verdict::from(number),
        Some(_) => Verdict::failed(format!("returned {value}, wanted a number within f32")),
        None if value.is_null() => Verdict::absent(),
        None => Verdict::failed(format!("returned {}, wanted a number or null", short(value))),
    }
}

fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A value as JSON, or its beginning.
pub(super) fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(120) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

/// A verdict for each of so many values, or what is wrong with their number.
pub(super) fn verdicts(values: &[Value], wanted: usize) -> Result<Vec<Verdict>, String> {
    match values.len() {
        found if found == wanted => Ok(values.iter().map(verdict).collect()),
        found => Err(format!("returned {found} values, wanted {wanted}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_nulls_and_objects_are_verdicts_and_all_else_is_a_failure() {
        assert_eq!(verdict(&json!(0.5)), Verdict::from(0.5));
        assert_eq!(verdict(&json!(2)), Verdict::from(2.0));
        assert_eq!(verdict(&json!(null)), Verdict::absent());
        let whole = json!({"reward": 1, "reason": "same", "answer": 4, "other": []});
        assert_eq!(verdict(&whole), Verdict::from(1.0).because("same").with_answer(Some("4".into())));
        assert_eq!(
            verdict(&json!({"reward": null, "reason": "other task"})),
            Verdict::absent().because("other task")
        );
        for bad in [json!("1"), json!(true), json!([1]), json!({}), json!(1e300), json!({"reward": "1"})] {
            let failure = verdict(&bad).failure.expect("a failure");
            assert!(failure.starts_with("returned ") && failure.contains(", wanted "), "{failure}");
        }
        assert_eq!(verdict(&json!({"failure": "no"})), Verdict::failed("no"));
    }
}
