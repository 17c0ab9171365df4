//! A row of a file becomes a prompt, whatever the file's format.
//!
//! Before: [`crate::jsonl`] or [`crate::parquet`] has read a row's columns. After: a [`Dataset`] of prompts.

use std::{borrow::Cow, collections::HashMap, path::Path, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, value::RawValue};

use crate::{At, DataError, Dataset, Prompt, PromptTemplate, dataset::repeated, template::Template};

/// What the columns of a file are called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// The question, a text.
    pub question: String,
    /// The reference solution, a text or a number. `""` in a recipe means that the file has none.
    #[serde(deserialize_with = "read_name", serialize_with = "write_name")]
    pub answer: Option<String>,
    /// The id, a text or a number. By default the column `id` of rows that have one, and `<file stem>:<line>` for
    /// those that do not; in Parquet, the number of the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl Default for Columns {
    fn default() -> Self {
        Self { question: "question".into(), answer: Some("answer".into()), id: None }
    }
}

// TOML has no null, and a key that is left out means the default: so "no answer" must be a text, both ways.
fn read_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|name| !name.is_empty()))
}

fn write_name<S: Serializer>(name: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_deref().unwrap_or_default())
}

/// What the answer column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// The answer, as it stands.
    #[default]
    Plain,
    /// As in GSM8K: a worked solution that ends in `#### 42`, or in every row the bare answer. Commas and blanks are
    /// removed from the answer; the solution becomes the field `solution`, unless the row has such a column.
    Gsm8k,
}

/// Rows on their way to a dataset: what has been read so far, and how to read the next.
pub(crate) struct Rows<'a> {
    path: &'a Path,
    stem: Cow<'a, str>,
    columns: &'a Columns,
    layout: Layout,
    template: Template<'a>,
    marks: Marks,
    prompts: Vec<Arc<Prompt>>,
    places: Vec<At>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(
        path: &'a Path,
        columns: &'a Columns,
        layout: Layout,
        template: &'a PromptTemplate,
    ) -> Result<Self, DataError> {
        if layout == Layout::Gsm8k && columns.answer.is_none() {
            return Err(DataError::LayoutNeedsAnswer);
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let (template, marks) = (Template::new(template)?, Marks::default());
        Ok(Self { path, stem, columns, layout, template, marks, prompts: Vec::new(), places: Vec::new() })
    }

    /// The next row becomes the next prompt.
    pub(crate) fn push(&mut self, row: Row<'_>) -> Result<(), DataError> {
        self.places.push(row.at);
        let prompt = self.prompt(row)?;
        self.prompts.push(Arc::new(prompt));
        Ok(())
    }

    /// All rows, if there are some and their ids differ.
    pub(crate) fn finish(self) -> Result<Dataset, DataError> {
        let (path, prompts) = (self.path, self.prompts);
        if prompts.is_empty() {
            return Err(DataError::Empty { dataset: path.display().to_string() });
        }
        if let Some((first, second)) = repeated(prompts.iter().map(|prompt| prompt.id.as_str())) {
            let (first, id) = (self.places[first], prompts[second].id.clone());
            let (path, second) = (path.to_owned(), self.places[second]);
            return Err(DataError::DuplicateId { path, id, first, second });
        }
        Ok(Dataset::of_checked(self.stem.into_owned(), prompts))
    }

    fn prompt(&mut self, row: Row<'_>) -> Result<Prompt, DataError> {
        let columns = self.columns;
        let question = match row.get(&columns.question)? {
            Value::String(question) => question.clone(),
            _ => return Err(row.wrong_type(&columns.question, "text")),
        };
        let id_column = columns.id.as_deref().or(row.columns.contains_key("id").then_some("id"));
        let id = match id_column {
            Some(column) => row.text_or_number(column)?,
            None => format!("{}:{}", self.stem, row.at.number()),
        };
        let (answer, solution) = match &columns.answer {
            Some(column) => self.answer(&row, column)?,
            None => (None, None),
        };
        let body = self.template.fill(|column| match (column, &answer) {
            ("question", _) => Ok(question.clone()),
            ("id", _) => Ok(id.clone()),
            ("answer", Some(answer)) => Ok(answer.clone()),
            _ => row.for_template(column),
        })?;
        let mapped = [Some(columns.question.as_str()), columns.answer.as_deref(), id_column];
        let is_mapped = |name: &str| mapped.contains(&Some(name));
        let mut fields: Map<_, _> = row.columns.into_iter().filter(|(name, _)| !is_mapped(name)).collect();
        if let Some(solution) = solution {
            fields.entry("solution").or_insert(Value::String(solution));
        }
        Ok(Prompt { id, body, answer, fields })
    }

    /// The answer, and the solution that stood before it.
    fn answer(&mut self, row: &Row<'_>, column: &str) -> Result<(Option<String>, Option<String>), DataError> {
        let text = row.text_or_number(column)?;
        if self.layout == Layout::Plain {
            return Ok((Some(text), None));
        }
        let (before, answer) = gsm8k(&text);
        self.marks.check(row, before.is_some())?;
        if answer.is_empty() {
            let (path, at) = (row.path.to_owned(), row.at);
            return Err(DataError::EmptyAnswer { path, at, column: column.to_owned() });
        }
        Ok((Some(answer), before.map(str::to_owned)))
    }
}

/// What stands before the last `####`, if there is one, and the answer without commas and blanks.
fn gsm8k(text: &str) -> (Option<&str>, String) {
    let (solution, answer) = match text.rsplit_once("####") {
        Some((solution, answer)) => (Some(solution.trim_end()), answer),
        None => (None, text),
    };
    (solution, answer.chars().filter(|c| *c != ',' && !c.is_whitespace()).collect())
}

/// The first rows whose answers have a `####` and have none: a file must not have both.
#[derive(Default)]
struct Marks {
    marked: Option<At>,
    bare: Option<At>,
}

impl Marks {
    fn check(&mut self, row: &Row<'_>, is_marked: bool) -> Result<(), DataError> {
        (if is_marked { &mut self.marked } else { &mut self.bare }).get_or_insert(row.at);
        match (self.bare, self.marked) {
            (Some(at), Some(marked)) => {
                Err(DataError::UnmarkedAnswer { path: row.path.to_owned(), at, marked })
            }
            _ => Ok(()),
        }
    }
}

/// One row, as its file has it.
pub(crate) struct Row<'a> {
    pub(crate) path: &'a Path,
    pub(crate) at: At,
    /// The row's JSON, if the file is JSON: numbers are taken from there, digit by digit.
    pub(crate) text: Option<&'a str>,
    pub(crate) columns: Map<String, Value>,
}

impl Row<'_> {
    fn get(&self, column: &str) -> Result<&Value, DataError> {
        self.columns.get(column).ok_or_else(|| DataError::MissingColumn {
            path: self.path.to_owned(),
            at: self.at,
            column: column.to_owned(),
            found: self.columns.keys().cloned().collect(),
        })
    }

    fn text_or_number(&self, column: &str) -> Result<String, DataError> {
        match self.get(column)? {
            Value::String(text) => Ok(text.clone()),
            number @ Value::Number(_) => Ok(self.raw(column, number)),
            _ => Err(self.wrong_type(column, "text or a number")),
        }
    }

    /// Text as it is, anything else but null as JSON.
    fn for_template(&self, column: &str) -> Result<String, DataError> {
        match self.columns.get(column) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Null) => Err(self.wrong_type(column, "something to put into the template")),
            Some(other) => Ok(self.raw(column, other)),
            None => Err(DataError::TemplateColumn {
                place: format!("`{}`, {}", self.path.display(), self.at),
                column: column.to_owned(),
                found: self.columns.keys().cloned().collect(),
            }),
        }
    }

    /// A column's JSON as the file has it: `1.50` stays `1.50`, and a long integer keeps its digits.
    fn raw(&self, column: &str, value: &Value) -> String {
        let row = self.text.and_then(|text| serde_json::from_str::<HashMap<String, &RawValue>>(text).ok());
        match row.as_ref().and_then(|row| row.get(column)) {
            Some(raw) => raw.get().to_owned(),
            None => value.to_string(),
        }
    }

    fn wrong_type(&self, column: &str, wanted: &'static str) -> DataError {
        DataError::WrongType {
            path: self.path.to_owned(),
            at: self.at,
            column: column.into(),
            found: kind(&self.columns[column]),
            wanted,
        }
    }
}

/// What to call a value in a message.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
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
