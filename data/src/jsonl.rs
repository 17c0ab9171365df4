//! Datasets in JSON: one object a line, or one list of objects.
//!
//! Before: the recipe names a file and its columns. After: [`crate::row`] makes prompts of the rows.

use std::{
    io::{BufRead, Read},
    path::Path,
    str,
};

use serde_json::{Value, value::RawValue};

use crate::{
    At, Columns, DataError, Dataset, Layout, PromptTemplate,
    digits::keep_long_integers,
    packed,
    row::{Keep, Row, Rows, kind},
};

impl Dataset {
    /// The rows of a JSONL file, in its order; or of a file that is one JSON list. Blank lines are skipped, a byte order
    /// mark is allowed. All columns become [`crate::Prompt::fields`].
    /// # Errors
    /// If the file cannot be read or has no rows; if a line is not a JSON object in UTF-8, lacks a column that
    /// `columns`, `layout` or `template` names or holds something else there than these want; if two rows have one id;
    /// if answers do not suit the layout; if LaTeX lost its backslashes to escapes; if the template is malformed.
    pub fn read_jsonl(
        path: impl AsRef<Path>,
        columns: &Columns,
        layout: Layout,
        template: &PromptTemplate,
    ) -> Result<Self, DataError> {
        let path = path.as_ref();
        let mut rows = Rows::new(columns, layout, template, Keep::default())?;
        rows.begin(path, None);
        read_into(path, &mut rows)?;
        rows.finish()
    }
}

/// The file's rows become rows of a dataset.
pub(crate) fn read_into(path: &Path, rows: &mut Rows<'_>) -> Result<(), DataError> {
    each_row(path, |row| rows.push(row))
}

/// Calls `act` with every row of the file.
fn each_row(path: &Path, mut act: impl FnMut(Row<'_>) -> Result<(), DataError>) -> Result<(), DataError> {
    let (mut file, unreadable) = (packed::open(path)?, |source| packed::failure(path, source));
    let (mut bytes, mut begun) = (Vec::new(), false);
    for line in 1.. {
        bytes.clear();
        if file.read_until(b'\n', &mut bytes).map_err(unreadable)? == 0 {
            break;
        }
        if line == 1 && (bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff")) {
            return Err(DataError::Utf16 { path: path.to_owned() });
        }
        let start = if line == 1 && bytes.starts_with("\u{feff}".as_bytes()) { 3 } else { 0 };
        if !begun && bytes[start..].trim_ascii_start().starts_with(b"[") {
            file.read_to_end(&mut bytes).map_err(unreadable)?;
            return each_of_list(path, line, utf8(path, line, start, &bytes)?, act);
        }
        let text = utf8(path, line, start, &bytes)?;
        if !text.trim().is_empty() {
            begun = true;
            act(parse(path, At::Line(line), text.trim_end())?)?;
        }
    }
    Ok(())
}

/// The rows of a file that is one JSON list, which begins in this line.
fn each_of_list(
    path: &Path,
    line: usize,
    text: &str,
    mut act: impl FnMut(Row<'_>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let rows: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|error| malformed(path, line + error.line() - 1, &error))?;
    rows.iter().enumerate().try_for_each(|(place, row)| act(parse(path, At::Row(place + 1), row.get())?))
}

/// Bytes as text, without the byte order mark before `start`.
fn utf8<'a>(path: &Path, line: usize, start: usize, bytes: &'a [u8]) -> Result<&'a str, DataError> {
    str::from_utf8(&bytes[start..]).map_err(|error| {
        let good = &bytes[..start + error.valid_up_to()];
        let before = good.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let line = line + good.iter().filter(|byte| **byte == b'\n').count();
        DataError::Utf8 { path: path.to_owned(), line, byte: good.len() - before + 1 }
    })
}

fn parse<'a>(path: &'a Path, at: At, text: &'a str) -> Result<Row<'a>, DataError> {
    match serde_json::from_str(text) {
        Ok(Value::Object(mut columns)) => {
            keep_long_integers(text, &mut columns);
            Ok(Row { path, at, text: Some(text), columns })
        }
        Ok(other) => Err(DataError::NotAnObject { path: path.to_owned(), at, found: kind(&other) }),
        Err(error) => Err(malformed(path, at.number(), &error)),
    }
}

fn malformed(path: &Path, line: usize, error: &serde_json::Error) -> DataError {
    // The parser saw a single line, so its own "line 1" would only confuse.
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = error.to_string();
    let mut message = message.strip_suffix(&place).unwrap_or(&message).to_owned();
    if message == "invalid escape" {
        message.push_str("; a backslash is written twice in JSON, as in `\\\\sqrt`");
    }
    DataError::Json { path: path.to_owned(), line, column: error.column(), message }
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
    fn a_row_becomes_a_prompt_and_its_columns_the_fields() {
        let dataset =
            read(r#"{"z": [1, 2], "question": "q", "answer": "a", "level": 3, "id": "x-1"}"#).unwrap();
        let fields =
            json!({"z": [1, 2], "question": "q", "level": 3, "id": "x-1"}).as_object().unwrap().clone();
        let wanted =
            Prompt { id: "x-1".into(), body: Body::Text("q".into()), answer: Some("a".into()), fields };
        assert_eq!(**dataset.get(0).unwrap(), wanted);
        assert_eq!(dataset.name(), "rows");
        let order = dataset.get(0).unwrap().fields.keys().collect::<Vec<_>>();
        assert_eq!(order, ["z", "question", "level", "id"]);
    }

    #[test]
    fn columns_can_have_other_names_and_are_fields_under_theirs_and_ours() {
        let columns = Columns { question: "p".into(), answer: Some("s".into()), id: Some("n".into()) };
        let dataset = read_columns(r#"{"p": "q", "s": 1.50, "n": 7, "id": "other"}"#, &columns).unwrap();
        let prompt = dataset.get(0).unwrap();
        assert_eq!((prompt.id.as_str(), prompt.answer.as_deref()), ("7", Some("1.50")));
        assert_eq!(prompt.body, Body::Text("q".into()));
        let fields = json!({"p": "q", "s": 1.5, "n": 7, "id": "other", "question": "q"});
        assert_eq!(prompt.fields, *fields.as_object().unwrap());
        // a column that is called as ours is stays what the file has
        let columns = Columns { question: "p".into(), answer: Some("s".into()), id: None };
        let row = r#"{"p": "q", "s": "a", "question": "other", "answer": "worked"}"#;
        let dataset = read_columns(row, &columns).unwrap();
        let fields = &dataset.get(0).unwrap().fields;
        assert_eq!((&fields["question"], &fields["answer"]), (&json!("other"), &json!("worked")));
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
        let fields = json!({"question": "q", "answer": null});
        assert_eq!(dataset.get(0).unwrap().fields, *fields.as_object().unwrap());
    }

    #[test]
    fn the_template_reads_any_column() {
        let row =
            r#"{"question": "q", "answer": "a", "id": 4, "numbers": [3, 5.0], "level": 2.50, "hard": true}"#;
        let dataset = read_template(row, "{id}|{answer}|{numbers}|{level}|{hard}|{question}").unwrap();
        assert_eq!(texts(&dataset), ["4|a|[3, 5.0]|2.50|true|q"]);
    }

    #[test]
    fn a_byte_order_mark_or_a_list_around_the_rows_changes_nothing() {
        let rows =
            [r#"{"question": "q", "answer": 1.50, "id": 1}"#, r#"{"question": "é", "answer": "b", "id": 2}"#];
        let wanted = read(&rows.join("\n")).unwrap();
        let list = format!("\n[\n  {}\n]\n", rows.join(",\n  "));
        for text in [format!("\u{feff}{}", rows.join("\r\n")), format!("\u{feff}{list}"), list.clone()] {
            assert_eq!(read(&text).unwrap().prompts(), wanted.prompts(), "{text}");
        }
        assert_eq!(read("[]").unwrap_err(), "the dataset `rows.jsonl` is empty, wanted at least one row");
        let error = read("[{\"question\": \"q\", \"answer\": \"a\"},\n 5]").unwrap_err();
        assert_eq!(error, "`rows.jsonl`, row 2: a row must be a JSON object, but this is a number");
        let error = read("[{\"question\": \"q\",\n\"answer\": a}]").unwrap_err();
        assert!(error.starts_with("`rows.jsonl`, line 2, column 11: "), "{error}");
        for bytes in [&b"\xff\xfe{\0}\0"[..], b"\xfe\xff\0{\0}"] {
            let error = read_bytes(bytes, &Columns::default(), Layout::Auto, &PromptTemplate::default());
            assert_eq!(
                error.unwrap_err(),
                "`rows.jsonl` is in UTF-16, wanted UTF-8: save it again in that encoding"
            );
        }
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
        let error = read(r#"{"question": "\sqrt{2}"}"#).unwrap_err();
        assert!(
            error.ends_with(r"invalid escape; a backslash is written twice in JSON, as in `\\sqrt`"),
            "{error}"
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
        const ANSWERS: &str = "text, a number, a boolean or a list of these";
        for (row, column, found, wanted) in [
            (r#"{"question": 5, "answer": "a"}"#, "question", "a number", "text or a list of messages"),
            (r#"{"question": {}, "answer": "a"}"#, "question", "an object", "text or a list of messages"),
            (r#"{"question": "q", "answer": null}"#, "answer", "null", ANSWERS),
            (r#"{"question": "q", "answer": {}}"#, "answer", "an object", ANSWERS),
            (r#"{"question": "q", "answer": []}"#, "answer", "a list", ANSWERS),
            (r#"{"question": "q", "answer": [[1]]}"#, "answer", "a list", ANSWERS),
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
