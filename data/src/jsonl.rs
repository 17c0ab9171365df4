//! Datasets in JSONL: one JSON object a line.
//!
//! Before: the recipe names a file and its columns. After: a [`Dataset`] of prompts.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    str,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, value::RawValue};

use crate::{DataError, Dataset, Prompt, PromptTemplate, dataset::repeated, template::Template};

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
    /// those that do not.
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

impl Dataset {
    /// The rows of a JSONL file, in its order. Blank lines are skipped, a byte order mark is allowed. Columns that are
    /// not mapped become [`Prompt::fields`].
    /// # Errors
    /// If the file cannot be read or has no rows; if a line is not a JSON object in UTF-8, lacks a column that
    /// `columns` or `template` names or holds something else there than text (or a number, for answers and ids); if
    /// two rows have one id; if answers do not suit the layout; if the template itself is malformed.
    pub fn read_jsonl(
        path: impl AsRef<Path>,
        columns: &Columns,
        layout: Layout,
        template: &PromptTemplate,
    ) -> Result<Self, DataError> {
        let path = path.as_ref();
        if layout == Layout::Gsm8k && columns.answer.is_none() {
            return Err(DataError::LayoutNeedsAnswer);
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let template = Template::new(template)?;
        let mut marks = Marks::default();
        let (mut prompts, mut lines) = (Vec::new(), Vec::new());
        each_row(path, |row| {
            lines.push(row.line);
            prompts.push(Arc::new(prompt(row, &stem, columns, layout, &template, &mut marks)?));
            Ok(())
        })?;
        if prompts.is_empty() {
            return Err(DataError::Empty { dataset: path.display().to_string() });
        }
        if let Some((first, second)) = repeated(prompts.iter().map(|prompt| prompt.id.as_str())) {
            let (path, id) = (path.to_owned(), prompts[second].id.clone());
            return Err(DataError::DuplicateId { path, id, first: lines[first], second: lines[second] });
        }
        Ok(Self::of_checked(stem.into_owned(), prompts))
    }
}

/// Calls `act` with every row of the file.
fn each_row(path: &Path, mut act: impl FnMut(Row<'_>) -> Result<(), DataError>) -> Result<(), DataError> {
    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if file.read_until(b'\n', &mut bytes).map_err(unreadable)? == 0 {
            break;
        }
        let start = if line == 1 && bytes.starts_with("\u{feff}".as_bytes()) { 3 } else { 0 };
        let text = str::from_utf8(&bytes[start..]).map_err(|error| {
            let byte = start + error.valid_up_to() + 1;
            DataError::Utf8 { path: path.to_owned(), line, byte }
        })?;
        if !text.trim().is_empty() {
            act(Row::new(path, line, text.trim_end())?)?;
        }
    }
    Ok(())
}

fn prompt(
    row: Row<'_>,
    stem: &str,
    columns: &Columns,
    layout: Layout,
    template: &Template<'_>,
    marks: &mut Marks,
) -> Result<Prompt, DataError> {
    let question = match row.get(&columns.question)? {
        Value::String(question) => question.clone(),
        _ => return Err(row.wrong_type(&columns.question, "text")),
    };
    let id_column = columns.id.as_deref().or(row.columns.contains_key("id").then_some("id"));
    let id = match id_column {
        Some(column) => row.text_or_number(column)?,
        None => format!("{stem}:{}", row.line),
    };
    let mut solution = None;
    let answer = match &columns.answer {
        None => None,
        Some(column) => {
            let text = row.text_or_number(column)?;
            Some(match layout {
                Layout::Plain => text,
                Layout::Gsm8k => {
                    let (before, answer) = gsm8k(&text);
                    marks.check(&row, before.is_some())?;
                    if answer.is_empty() {
                        let (path, line) = (row.path.to_owned(), row.line);
                        return Err(DataError::EmptyAnswer { path, line, column: column.clone() });
                    }
                    solution = before.map(str::to_owned);
                    answer
                }
            })
        }
    };
    let body = template.fill(|column| match (column, &answer) {
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

/// What stands before the last `####`, if there is one, and the answer without commas and blanks.
fn gsm8k(text: &str) -> (Option<&str>, String) {
    let (solution, answer) = match text.rsplit_once("####") {
        Some((solution, answer)) => (Some(solution.trim_end()), answer),
        None => (None, text),
    };
    (solution, answer.chars().filter(|c| *c != ',' && !c.is_whitespace()).collect())
}

/// The first lines whose answers have a `####` and have none: a file must not have both.
#[derive(Default)]
struct Marks {
    marked: Option<usize>,
    bare: Option<usize>,
}

impl Marks {
    fn check(&mut self, row: &Row<'_>, is_marked: bool) -> Result<(), DataError> {
        (if is_marked { &mut self.marked } else { &mut self.bare }).get_or_insert(row.line);
        match (self.bare, self.marked) {
            (Some(line), Some(marked)) => {
                Err(DataError::UnmarkedAnswer { path: row.path.to_owned(), line, marked })
            }
            _ => Ok(()),
        }
    }
}

struct Row<'a> {
    path: &'a Path,
    line: usize,
    text: &'a str,
    columns: Map<String, Value>,
}

impl<'a> Row<'a> {
    fn new(path: &'a Path, line: usize, text: &'a str) -> Result<Self, DataError> {
        match serde_json::from_str(text) {
            Ok(Value::Object(columns)) => Ok(Self { path, line, text, columns }),
            Ok(other) => Err(DataError::NotAnObject { path: path.to_owned(), line, found: kind(&other) }),
            Err(error) => {
                // The parser saw a single line, so its own "line 1" would only confuse.
                let place = format!(" at line {} column {}", error.line(), error.column());
                let message = error.to_string();
                let message = message.strip_suffix(&place).unwrap_or(&message).to_owned();
                Err(DataError::Json { path: path.to_owned(), line, column: error.column(), message })
            }
        }
    }

    fn get(&self, column: &str) -> Result<&Value, DataError> {
        self.columns.get(column).ok_or_else(|| DataError::MissingColumn {
            path: self.path.to_owned(),
            line: self.line,
            column: column.to_owned(),
            found: self.columns.keys().cloned().collect(),
        })
    }

    fn text_or_number(&self, column: &str) -> Result<String, DataError> {
        match self.get(column)? {
            Value::String(text) => Ok(text.clone()),
            Value::Number(_) => Ok(self.raw(column)),
            _ => Err(self.wrong_type(column, "text or a number")),
        }
    }

    /// Text as it is, anything else but null as JSON.
    fn for_template(&self, column: &str) -> Result<String, DataError> {
        match self.columns.get(column) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Null) => Err(self.wrong_type(column, "something to put into the template")),
            Some(_) => Ok(self.raw(column)),
            None => Err(DataError::TemplateColumn {
                place: format!("`{}`, line {}", self.path.display(), self.line),
                column: column.to_owned(),
                found: self.columns.keys().cloned().collect(),
            }),
        }
    }

    /// A column's JSON as the file has it: `1.50` stays `1.50`, and a long integer keeps its digits.
    fn raw(&self, column: &str) -> String {
        let row: HashMap<String, &RawValue> = serde_json::from_str(self.text).expect("`new` has parsed it");
        row.get(column).expect("the caller has found it").get().to_owned()
    }

    fn wrong_type(&self, column: &str, wanted: &'static str) -> DataError {
        let found = kind(&self.columns[column]);
        DataError::WrongType {
            path: self.path.to_owned(),
            line: self.line,
            column: column.into(),
            found,
            wanted,
        }
    }
}

fn kind(value: &Value) -> &'static str {
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
    use serde_json::json;

    use super::*;
    use crate::Body;

    /// Reads `bytes` as the file `rows.jsonl`. An error is its text, with the folder left out.
    fn read_bytes(
        bytes: &[u8],
        columns: &Columns,
        layout: Layout,
        template: &PromptTemplate,
    ) -> Result<Dataset, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, bytes).unwrap();
        Dataset::read_jsonl(&path, columns, layout, template)
            .map_err(|error| error.to_string().replace(&path.display().to_string(), "rows.jsonl"))
    }

    fn read(text: &str) -> Result<Dataset, String> {
        read_bytes(text.as_bytes(), &Columns::default(), Layout::Plain, &PromptTemplate::default())
    }

    fn read_columns(text: &str, columns: &Columns) -> Result<Dataset, String> {
        read_bytes(text.as_bytes(), columns, Layout::Plain, &PromptTemplate::default())
    }

    fn read_gsm8k(text: &str) -> Result<Dataset, String> {
        read_bytes(text.as_bytes(), &Columns::default(), Layout::Gsm8k, &PromptTemplate::default())
    }

    fn read_template(text: &str, template: &str) -> Result<Dataset, String> {
        let template = PromptTemplate { template: template.into(), ..PromptTemplate::default() };
        read_bytes(text.as_bytes(), &Columns::default(), Layout::Plain, &template)
    }

    fn texts(dataset: &Dataset) -> Vec<&str> {
        let bodies = dataset.prompts().iter().map(|prompt| &prompt.body);
        bodies
            .map(|body| match body {
                Body::Text(text) => text.as_str(),
                Body::Chat(_) => panic!("the template is plain"),
            })
            .collect()
    }

    fn answers(dataset: &Dataset) -> Vec<Option<&str>> {
        dataset.prompts().iter().map(|prompt| prompt.answer.as_deref()).collect()
    }

    #[test]
    fn a_row_becomes_a_prompt_and_what_is_not_mapped_its_fields() {
        let dataset =
            read(r#"{"z": [1, 2], "question": "q", "answer": "a", "level": 3, "id": "x-1"}"#).unwrap();
        let fields = json!({"z": [1, 2], "level": 3}).as_object().unwrap().clone();
        let wanted =
            Prompt { id: "x-1".into(), body: Body::Text("q".into()), answer: Some("a".into()), fields };
        assert_eq!(**dataset.get(0).unwrap(), wanted);
        assert_eq!(dataset.name(), "rows");
        assert_eq!(dataset.get(0).unwrap().fields.keys().collect::<Vec<_>>(), ["z", "level"]);
    }

    #[test]
    fn columns_can_have_other_names_and_the_template_still_knows_the_question() {
        let columns = Columns { question: "p".into(), answer: Some("s".into()), id: Some("n".into()) };
        let dataset = read_columns(r#"{"p": "q", "s": "a", "n": 7, "id": "other"}"#, &columns).unwrap();
        let prompt = dataset.get(0).unwrap();
        assert_eq!((prompt.id.as_str(), prompt.answer.as_deref()), ("7", Some("a")));
        assert_eq!(prompt.body, Body::Text("q".into()));
        assert_eq!(prompt.fields, *json!({"id": "other"}).as_object().unwrap());
    }

    #[test]
    fn rows_without_an_id_are_named_by_their_line() {
        let dataset = read(
            "\n{\"question\": \"q\", \"answer\": \"a\"}\r\n \t\r\n{\"question\": \"r\", \"answer\": \"b\"}",
        );
        let dataset = dataset.unwrap();
        assert_eq!(dataset.prompts().iter().map(|p| p.id.as_str()).collect::<Vec<_>>(), ["rows:2", "rows:4"]);
        assert_eq!(texts(&dataset), ["q", "r"]);
    }

    #[test]
    fn numbers_keep_the_digits_that_the_file_has() {
        let long = "12345678901234567890123456789";
        let rows: String = [long, "1.50", "-3", "1e3", "10.0"]
            .map(|number| format!("{{\"question\": \"q\", \"answer\": {number}}}\n"))
            .concat();
        let dataset = read(&rows).unwrap();
        assert_eq!(answers(&dataset), [long, "1.50", "-3", "1e3", "10.0"].map(Some));
    }

    #[test]
    fn a_dataset_may_have_no_answers() {
        let columns = Columns { answer: None, ..Columns::default() };
        let dataset = read_columns(r#"{"question": "q", "answer": null}"#, &columns).unwrap();
        assert_eq!(answers(&dataset), [None]);
        assert_eq!(dataset.get(0).unwrap().fields, *json!({"answer": null}).as_object().unwrap());
    }

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

    #[test]
    fn the_template_reads_any_column() {
        let row =
            r#"{"question": "q", "answer": "a", "id": 4, "numbers": [3, 5.0], "level": 2.50, "hard": true}"#;
        let dataset = read_template(row, "{id}|{answer}|{numbers}|{level}|{hard}|{question}").unwrap();
        assert_eq!(texts(&dataset), ["4|a|[3, 5.0]|2.50|true|q"]);
    }

    #[test]
    fn both_forms_of_gsm8k_come_to_the_same_prompt() {
        let full = read_gsm8k(r##"{"question": "q", "answer": "1 #### 2\n3\n#### 1,234 "}"##).unwrap();
        let bare =
            read_gsm8k(r##"{"question": "q", "answer": "1,234", "solution": "1 #### 2\n3"}"##).unwrap();
        assert_eq!(answers(&full), [Some("1234")]);
        assert_eq!(full, bare);
        let numeric = read_gsm8k(r#"{"question": "q", "answer": 1234}"#).unwrap();
        assert_eq!(answers(&numeric), [Some("1234")]);
        let own = read_gsm8k(r##"{"question": "q", "answer": "x #### 5", "solution": "mine"}"##).unwrap();
        assert_eq!(own.get(0).unwrap().fields["solution"], "mine");
    }

    #[test]
    fn a_plain_answer_is_left_alone() {
        let dataset = read(r##"{"question": "q", "answer": " 1 #### 1,234 "}"##).unwrap();
        assert_eq!(answers(&dataset), [Some(" 1 #### 1,234 ")]);
    }

    #[test]
    fn gsm8k_answers_are_all_marked_or_none_is() {
        let (marked, bare) =
            (r##"{"question": "q", "answer": "so #### 1"}"##, r#"{"question": "q", "answer": "1"}"#);
        let message = "the answer has no `####`, though that of line";
        let rest = "has one; in the gsm8k layout either all answers end in `#### 42` or none does";
        let error = read_gsm8k(&[marked, marked, bare].join("\n")).unwrap_err();
        assert_eq!(error, format!("`rows.jsonl`, line 3: {message} 1 {rest}"));
        let error = read_gsm8k(&[bare, bare, marked].join("\n")).unwrap_err();
        assert_eq!(error, format!("`rows.jsonl`, line 1: {message} 3 {rest}"));
    }

    #[test]
    fn gsm8k_needs_answers() {
        let error = read_gsm8k(r##"{"question": "q", "answer": "so #### , "}"##).unwrap_err();
        assert_eq!(
            error,
            "`rows.jsonl`, line 1: column `answer` has no final answer, wanted one such as `#### 42` or `42`"
        );
        let columns = Columns { answer: None, ..Columns::default() };
        let error = read_bytes(b"{}", &columns, Layout::Gsm8k, &PromptTemplate::default()).unwrap_err();
        assert_eq!(
            error,
            "the gsm8k layout needs an answer column, but `answer` is empty, which means that there is none"
        );
    }

    #[test]
    fn a_missing_file_is_named_with_the_systems_reason() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().join("absent.jsonl"), folder.path().to_owned()] {
            let (columns, template) = (Columns::default(), PromptTemplate::default());
            let error = Dataset::read_jsonl(&path, &columns, Layout::Plain, &template).unwrap_err();
            assert_eq!(error.to_string(), format!("cannot read the dataset `{}`", path.display()));
            assert!(std::error::Error::source(&error).is_some());
        }
    }

    #[test]
    fn bad_json_is_placed_in_the_file() {
        let good = r#"{"question": "q", "answer": "a"}"#;
        let error = read(&format!("{good}\n\n{{\"question\": x}}\n")).unwrap_err();
        assert_eq!(
            error,
            "`rows.jsonl`, line 3, column 14: wanted one JSON object on the line: expected value"
        );
        let error = read("{\"question\":\n").unwrap_err();
        let end = "EOF while parsing a value";
        assert_eq!(
            error,
            format!("`rows.jsonl`, line 1, column 12: wanted one JSON object on the line: {end}")
        );
        let error = read(&format!("{good}\n[{good}]")).unwrap_err();
        assert_eq!(error, "`rows.jsonl`, line 2: a row must be a JSON object, but this is a list");
    }

    #[test]
    fn a_byte_order_mark_is_skipped_and_bad_utf8_is_placed() {
        let dataset = read("\u{feff}{\"question\": \"é\", \"answer\": \"a\"}").unwrap();
        assert_eq!(texts(&dataset), ["é"]);
        let bytes = b"{\"question\": \"q\", \"answer\": \"a\"}\n{\"q\xff\"}";
        let error =
            read_bytes(bytes, &Columns::default(), Layout::Plain, &PromptTemplate::default()).unwrap_err();
        assert_eq!(error, "`rows.jsonl`, line 2: byte 4 of the line is not UTF-8, as datasets must be");
    }

    #[test]
    fn a_missing_column_is_named_with_those_that_are_there() {
        let rows = "{\"question\": \"q\", \"answer\": \"a\"}\n{\"questoin\": \"q\", \"answer\": \"a\"}";
        assert_eq!(
            read(rows).unwrap_err(),
            "`rows.jsonl`, line 2: the row has no column `question`; the columns are `questoin`, `answer`; did you \
             mean `questoin`?"
        );
        assert_eq!(
            read(r#"{"question": "q"}"#).unwrap_err(),
            "`rows.jsonl`, line 1: the row has no column `answer`; the columns are `question`"
        );
        let columns = Columns { id: Some("key".into()), ..Columns::default() };
        assert_eq!(
            read_columns(r#"{"question": "q", "answer": "a"}"#, &columns).unwrap_err(),
            "`rows.jsonl`, line 1: the row has no column `key`; the columns are `question`, `answer`"
        );
    }

    #[test]
    fn a_template_can_only_name_what_the_row_has() {
        let row = r#"{"question": "q", "answer": "a", "level": null}"#;
        assert_eq!(
            read_template(row, "{levle}").unwrap_err(),
            "`rows.jsonl`, line 1: the template names the column `levle`, which is not there; the columns are \
             `question`, `answer`, `level`; did you mean `level`?"
        );
        assert_eq!(
            read_template(row, "{level}").unwrap_err(),
            "`rows.jsonl`, line 1: column `level` holds null, wanted something to put into the template"
        );
        assert!(read_template(row, "{question").unwrap_err().contains("never closed"));
    }

    #[test]
    fn a_column_of_the_wrong_kind_is_named_with_what_it_holds() {
        for (row, column, found, wanted) in [
            (r#"{"question": 5, "answer": "a"}"#, "question", "a number", "text"),
            (r#"{"question": [], "answer": "a"}"#, "question", "a list", "text"),
            (r#"{"question": "q", "answer": null}"#, "answer", "null", "text or a number"),
            (r#"{"question": "q", "answer": {}}"#, "answer", "an object", "text or a number"),
            (r#"{"question": "q", "answer": "a", "id": true}"#, "id", "a boolean", "text or a number"),
        ] {
            let wanted = format!("`rows.jsonl`, line 1: column `{column}` holds {found}, wanted {wanted}");
            assert_eq!(read(row).unwrap_err(), wanted);
        }
    }

    #[test]
    fn an_empty_file_and_a_repeated_id_are_refused() {
        for text in ["", "\n \n", "\u{feff}\n"] {
            assert_eq!(read(text).unwrap_err(), "the dataset `rows.jsonl` is empty, wanted at least one row");
        }
        let row = |id| format!("{{\"question\": \"q\", \"answer\": \"a\", \"id\": {id}}}\n");
        let error = read(&format!("\n{}{}\n{}", row("5"), row("6"), row("\"5\""))).unwrap_err();
        assert_eq!(
            error,
            "`rows.jsonl`: the id `5` stands in lines 2 and 5, but ids must be unique: randomness is keyed by them"
        );
    }
}
