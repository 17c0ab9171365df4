//! Datasets in JSONL: one JSON object a line.
//!
//! Before: the recipe names a file and its columns. After: [`crate::row`] makes prompts of the rows.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    str,
};

use serde_json::Value;

use crate::{
    At, Columns, DataError, Dataset, Layout, PromptTemplate,
    row::{Row, Rows, kind},
};

impl Dataset {
    /// The rows of a JSONL file, in its order. Blank lines are skipped, a byte order mark is allowed. Columns that are
    /// not mapped become [`crate::Prompt::fields`].
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
        let mut rows = Rows::new(path, columns, layout, template)?;
        each_row(path, |row| rows.push(row))?;
        rows.finish()
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
            act(parse(path, line, text.trim_end())?)?;
        }
    }
    Ok(())
}

fn parse<'a>(path: &'a Path, line: usize, text: &'a str) -> Result<Row<'a>, DataError> {
    match serde_json::from_str(text) {
        Ok(Value::Object(columns)) => Ok(Row { path, at: At::Line(line), text: Some(text), columns }),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Body, Prompt};

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
            "`rows.jsonl`: the id `5` stands in line 2 and in line 5, but ids must be unique: randomness is keyed by them"
        );
    }
}
