//! Which columns of a file hold what, as the recipe says or as the columns themselves tell.
//!
//! Before: the recipe's `columns` and `layout`, and the first row. After: [`crate::row`] makes prompts of all rows.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::{At, row::Row, solution::Mark};

/// What the columns of a file are called. A name may lead into an object: `reward_model.ground_truth`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// The question: a text, or a conversation as a list of messages.
    pub question: String,
    /// The reference solution: a text, a number, a boolean, or a list of these, of which any is as right. `""` in a
    /// recipe means that the file has none.
    #[serde(deserialize_with = "read_name", serialize_with = "write_name")]
    pub answer: Option<String>,
    /// The id, a text or a number. By default the column `id` of rows that have one, and `<file stem>:<line>` for
    /// those that do not; in Parquet, the number of the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

const QUESTION: &str = "question";
const ANSWER: &str = "answer";
const VERL_ANSWER: &str = "reward_model.ground_truth";

impl Default for Columns {
    fn default() -> Self {
        Self { question: QUESTION.into(), answer: Some(ANSWER.into()), id: None }
    }
}

// TOML has no null, and a key that is left out means the default: so "no answer" must be a text, both ways.
fn read_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|name| !name.is_empty()))
}

fn write_name<S: Serializer>(name: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_deref().unwrap_or_default())
}

/// How the rows of a file are laid out. Columns that a recipe names are taken in every layout; these are the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// What the columns of the first row tell: one of the others, or columns that are usual for questions and answers
    /// (`prompt`, `problem`, `messages`, `conversations` or `input`; `ground_truth`, `solution`, `label` or `completion`).
    #[default]
    Auto,
    /// `question` and `answer`, which is taken as it stands.
    Plain,
    /// As in GSM8K: `question`, and in `answer` a worked solution that ends in `#### 42`. Commas and blanks are removed
    /// from the answer; the solution becomes the field `solution`, unless the row has such a column.
    Gsm8k,
    /// As in MATH: `problem`, and in `solution` a worked solution whose last `\boxed{…}` is the answer.
    Math,
    /// As verl wants it: the conversation `prompt`, and the answer in `reward_model.ground_truth`.
    Verl,
    /// As TRL wants it: `prompt`, a text or a conversation, and the answer in `answer`, `ground_truth`, `solution` or
    /// `completion`; or `messages`, whose last turn of the assistant is the answer unless a column holds one.
    Trl,
}

impl Layout {
    /// Its name in a recipe.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Plain => "plain",
            Self::Gsm8k => "gsm8k",
            Self::Math => "math",
            Self::Verl => "verl",
            Self::Trl => "trl",
        }
    }

    /// What a question's column may be called, the likeliest first.
    fn questions(self) -> &'static [&'static str] {
        match self {
            Self::Auto => &[QUESTION, "prompt", "problem", "messages", "conversations", "input"],
            Self::Plain | Self::Gsm8k => &[QUESTION],
            Self::Math => &["problem", QUESTION],
            Self::Verl => &["prompt"],
            Self::Trl => &["prompt", "messages"],
        }
    }

    /// What an answer's column may be called, the likeliest first.
    fn answers(self) -> &'static [&'static str] {
        match self {
            Self::Auto => &[ANSWER, VERL_ANSWER, "ground_truth", "solution", "label", "completion"],
            Self::Plain | Self::Gsm8k => &[ANSWER],
            Self::Math => &["solution", ANSWER],
            Self::Verl => &[VERL_ANSWER],
            Self::Trl => &[ANSWER, "ground_truth", "solution", "completion"],
        }
    }
}

/// How the rows of a file were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The layout, never [`Layout::Auto`].
    pub layout: Layout,
    /// The column of the question.
    pub question: String,
    /// The column of the answer; none if there is none, or if the last turn of a conversation is the answer.
    pub answer: Option<String>,
    /// Whether questions are conversations: the first row's is.
    pub conversations: bool,
    /// Whether the last turn of a conversation, the assistant's, is no part of the question.
    pub(crate) drops_last: bool,
    /// Whether that turn is the answer.
    pub(crate) last_is_answer: bool,
    /// What stands before the answer within its column.
    pub(crate) mark: Option<Mark>,
    /// The mark that decided the layout by being in the first row, or by not being there: then it is in all or in none.
    pub(crate) deciding: Option<(Mark, At)>,
    /// Rows that were left out, by why.
    pub left_out: Vec<(String, usize)>,
}

impl Reading {
    /// Which rows were left out, and why: "3 by min_chars, 2 by drop.level"; empty if none were.
    pub(crate) fn why_left_out(&self) -> String {
        self.left_out.iter().map(|(why, count)| format!("{count} by {why}")).collect::<Vec<_>>().join(", ")
    }

    /// How a file whose first row this is shall be read.
    pub(crate) fn of(row: &Row<'_>, columns: &Columns, layout: Layout) -> Self {
        let there = |name: &&&str| row.find(name).is_some_and(|value| !value.is_null());
        // files that went through verl's scripts may have kept the columns that they were made from
        let plain = there(&&QUESTION) && there(&&ANSWER);
        let verl = layout == Layout::Auto && !plain && there(&&"prompt") && there(&&VERL_ANSWER);
        let choice = if verl { Layout::Verl } else { layout };
        let pick = |named: &str, default: &str, candidates: &[&str]| match named == default {
            true => candidates.iter().find(there).map(|name| (*name).to_owned()),
            false => Some(named.to_owned()),
        };
        let question = pick(&columns.question, QUESTION, choice.questions())
            .unwrap_or_else(|| choice.questions()[0].to_owned());
        let conversations = row.find(&question).is_some_and(Value::is_array);
        let drops_last = conversations && matches!(question.as_str(), "messages" | "conversations");
        let (mut answer, mut last_is_answer) = (None, false);
        if let Some(named) = &columns.answer {
            answer = pick(named, ANSWER, choice.answers());
            if answer.is_none() && drops_last && matches!(choice, Layout::Auto | Layout::Trl) {
                last_is_answer = true;
            } else {
                // that it is missing is told with the first row
                answer = answer.or_else(|| Some(choice.answers()[0].to_owned()));
            }
        }
        let told = match (choice, answer.as_deref()) {
            (Layout::Auto, Some(ANSWER)) => Some(Mark::Hashes),
            (Layout::Auto | Layout::Trl, Some("solution")) => Some(Mark::Box),
            _ => None,
        };
        let mark = match choice {
            Layout::Gsm8k => Some(Mark::Hashes),
            Layout::Math => Some(Mark::Box),
            _ => {
                let text = answer.as_deref().and_then(|name| row.find(name)).and_then(Value::as_str);
                told.filter(|mark| text.is_some_and(|text| mark.tells(text)))
            }
        };
        let layout = match (choice, mark) {
            (Layout::Auto, Some(Mark::Hashes)) => Layout::Gsm8k,
            (Layout::Auto, _) if conversations || question == "prompt" => Layout::Trl,
            (Layout::Auto, Some(Mark::Box)) => Layout::Math,
            (Layout::Auto, None) => Layout::Plain,
            (other, _) => other,
        };
        let deciding = told.map(|mark| (mark, row.at));
        Self {
            layout,
            question,
            answer,
            conversations,
            drops_last,
            last_is_answer,
            mark,
            deciding,
            left_out: Vec::new(),
        }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layout, question, .. } = self;
        write!(f, "layout {}: the question is `{question}`", layout.name())?;
        if self.conversations {
            f.write_str(", a conversation")?;
        }
        match (&self.answer, self.mark) {
            (Some(answer), None) => write!(f, "; the answer is `{answer}`"),
            (Some(answer), Some(Mark::Hashes)) => write!(f, "; the answer stands in `{answer}` after ####"),
            (Some(answer), Some(Mark::Box)) => write!(f, "; the answer is the last box in `{answer}`"),
            (None, _) if self.last_is_answer => f.write_str("; the answer is the assistant's last turn"),
            (None, _) => f.write_str("; there are no answers"),
        }?;
        match self.left_out.is_empty() {
            true => Ok(()),
            false => write!(f, "; rows left out: {}", self.why_left_out()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_through_a_recipe_unchanged() {
        let none = Columns { answer: None, ..Columns::default() };
        let named = Columns { id: Some("key".into()), ..Columns::default() };
        for columns in [Columns::default(), none.clone(), named] {
            let text = serde_json::to_string(&columns).unwrap();
            assert!(!text.contains("null"), "TOML has none: {text}");
            assert_eq!(serde_json::from_str::<Columns>(&text).unwrap(), columns);
        }
        assert_eq!(serde_json::from_str::<Columns>(r#"{"answer": ""}"#).unwrap(), none);
        assert_eq!(serde_json::from_str::<Columns>("{}").unwrap(), Columns::default());
        let error = serde_json::from_str::<Columns>(r#"{"prompt": "q"}"#).unwrap_err();
        assert!(error.to_string().starts_with("unknown field `prompt`"), "{error}");
    }
}
