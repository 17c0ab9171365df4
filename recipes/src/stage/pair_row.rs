//! A row of a file of preference pairs: prompt and two completions as text, or as conversations in the way of TRL.
//!
//! Before: a line of JSON. After: [`super::pairs`] turns it into tokens. Other columns are left alone.

use data::{Body, Message, conversation};
use serde::Deserialize;
use serde_json::Value;

/// A row as it stands in the file.
#[derive(Debug, Deserialize)]
pub(crate) struct PairRow {
    /// Text or messages; absent where both completions are conversations that begin alike.
    #[serde(default)]
    prompt: Option<Value>,
    chosen: Value,
    rejected: Value,
    /// True if the completions have a trace.
    #[serde(default)]
    pub(crate) thinking: bool,
}

/// A prompt, and what follows it.
#[derive(Debug, PartialEq)]
pub(crate) struct PairTexts {
    pub(crate) prompt: Body,
    pub(crate) chosen: String,
    pub(crate) rejected: String,
}

/// A column: text, or the turns of a conversation.
#[derive(Clone)]
enum Column {
    Text(String),
    Turns(Vec<Message>),
}

impl Column {
    fn of(name: &str, value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(Self::Text(text.clone())),
            other => Ok(Self::Turns(conversation(other).map_err(|problem| format!("`{name}` {problem}"))?)),
        }
    }
}

impl PairRow {
    /// Prompt and completions. With `chat`, a prompt of text is the user's turn of a conversation.
    ///
    /// # Errors
    /// Which column is not as it must be, as a sentence.
    pub(crate) fn texts(&self, chat: bool) -> Result<PairTexts, String> {
        let (chosen, rejected) =
            (Column::of("chosen", &self.chosen)?, Column::of("rejected", &self.rejected)?);
        let prompt = self.prompt.as_ref().filter(|prompt| !prompt.is_null());
        let prompt = match (
            prompt.map(|prompt| Column::of("prompt", prompt)).transpose()?,
            &chosen,
            &rejected,
        ) {
            (Some(prompt), _, _) => prompt,
            (None, Column::Turns(chosen), Column::Turns(rejected)) => {
                let alike = chosen.iter().zip(rejected).take_while(|(one, other)| one == other).count();
                // of completions that are the same one turn each is left, which is said later
                let alike = alike.min(chosen.len().saturating_sub(1));
                Column::Turns(chosen[..alike].to_vec())
            }
            (None, _, _) => {
                return Err(
                    "the row has no `prompt`; wanted one, or `chosen` and `rejected` as conversations that begin alike".into(),
                );
            }
        };
        let conversations = matches!((&chosen, &rejected), (Column::Turns(_), _) | (_, Column::Turns(_)));
        let prompt = match prompt {
            Column::Text(text) if chat || conversations => Column::Turns(vec![Message::user(&text)]),
            other => other,
        };
        if let Column::Turns(turns) = &prompt
            && turns.last().is_none_or(|turn| turn.role != "user")
        {
            let last = turns.last().map_or("none".to_owned(), |turn| format!("`{}`", turn.role));
            return Err(format!(
                "the last turn of the prompt is {last}; wanted the user's, which is answered"
            ));
        }
        let completion = |name: &str, column: &Column| match (column, &prompt) {
            (Column::Text(text), _) => Ok(text.clone()),
            (Column::Turns(turns), Column::Turns(prompt)) => {
                let rest = turns.strip_prefix(prompt.as_slice()).unwrap_or(turns);
                match rest {
                    [turn] if turn.role == "assistant" => Ok(turn.content.clone()),
                    _ => Err(format!(
                        "`{name}` holds {} turns behind the prompt; wanted one, the assistant's",
                        rest.len()
                    )),
                }
            }
            (Column::Turns(_), Column::Text(_)) => unreachable!("a prompt of text was made a turn above"),
        };
        let (chosen, rejected) = (completion("chosen", &chosen)?, completion("rejected", &rejected)?);
        let prompt = match prompt {
            Column::Text(text) => Body::Text(text),
            Column::Turns(turns) => Body::Chat(turns),
        };
        Ok(PairTexts { prompt, chosen, rejected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(row: &str, chat: bool) -> Result<PairTexts, String> {
        serde_json::from_str::<PairRow>(row).expect("a row").texts(chat)
    }

    fn turn(role: &str, content: &str) -> String {
        format!(r#"{{"role":"{role}","content":"{content}"}}"#)
    }

    #[test]
    fn every_form_that_trl_writes_is_the_same_pair() {
        let (user, good, bad) = (turn("user", "2+2"), turn("assistant", "4"), turn("assistant", "5"));
        let forms = [
            r#"{"prompt":"2+2","chosen":"4","rejected":"5","score_chosen":9.5}"#.to_owned(),
            format!(r#"{{"prompt":[{user}],"chosen":[{good}],"rejected":[{bad}]}}"#),
            format!(r#"{{"prompt":"2+2","chosen":[{good}],"rejected":[{bad}]}}"#),
            format!(r#"{{"prompt":"2+2","chosen":[{user},{good}],"rejected":[{user},{bad}]}}"#),
            format!(r#"{{"chosen":[{user},{good}],"rejected":[{user},{bad}]}}"#),
            format!(r#"{{"prompt":null,"chosen":[{user},{good}],"rejected":[{user},{bad}]}}"#),
        ];
        let wanted = PairTexts {
            prompt: Body::Chat(vec![Message::user("2+2")]),
            chosen: "4".into(),
            rejected: "5".into(),
        };
        for form in forms {
            assert_eq!(texts(&form, true).as_ref(), Ok(&wanted), "{form}");
        }
        let plain = texts(r#"{"prompt":"2+2=","chosen":"4","rejected":"5"}"#, false).expect("text");
        assert_eq!(plain.prompt, Body::Text("2+2=".into()));
    }

    #[test]
    fn what_is_no_pair_is_named() {
        let (user, good) = (turn("user", "2+2"), turn("assistant", "4"));
        for (row, wanted) in [
            (r#"{"chosen":"4","rejected":"5"}"#.to_owned(), "no `prompt`"),
            (format!(r#"{{"chosen":[{good}],"rejected":[{good}]}}"#), "the last turn of the prompt is none"),
            (
                format!(r#"{{"prompt":[{user},{good}],"chosen":"4","rejected":"5"}}"#),
                "the last turn of the prompt is `assistant`",
            ),
            (
                format!(r#"{{"prompt":"2+2","chosen":[{good},{user}],"rejected":[{good}]}}"#),
                "`chosen` holds 2 turns behind the prompt",
            ),
            (r#"{"prompt":"2+2","chosen":7,"rejected":"5"}"#.to_owned(), "`chosen` holds"),
        ] {
            let problem = texts(&row, true).expect_err("refused");
            assert!(problem.contains(wanted), "{row}: {problem}");
        }
    }
}
