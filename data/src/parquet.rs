//! Datasets in Parquet, as the Hugging Face Hub keeps them.
//!
//! Before: the recipe names a file and its columns. After: [`crate::row`] makes prompts of the rows. This file is
//! compiled with the feature `parquet` only.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use ::parquet::{
    errors::ParquetError,
    file::reader::{FileReader, SerializedFileReader},
    record::Field,
};
use serde_json::{Map, Number, Value};

use crate::{
    At, Columns, DataError, Dataset, Layout, PromptTemplate, guard,
    read::PARQUET,
    row::{Keep, Row, Rows},
};

impl Dataset {
    /// The rows of a Parquet file, in its order, read as [`Dataset::read_jsonl`] reads the same rows in JSON; rows
    /// without an id are named `<file stem>:<row>`, counted from 1.
    ///
    /// Lists become JSON lists, structs and maps become objects. Dates, times and decimals become text, bytes become
    /// text if they are UTF-8 and hexadecimal digits if not, and a number that is not finite becomes null. Pages may
    /// be compressed with Snappy, Zstandard, gzip or LZ4.
    /// # Errors
    /// As [`Dataset::read_jsonl`]; if the file is no Parquet file, is cut off or damaged, or is compressed otherwise.
    pub fn read_parquet(
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
    let reader = open(path)?;
    let failed = |row| move |message| DataError::Parquet { path: path.to_owned(), row, message };
    let mut records = guarded(|| reader.get_row_iter(None)).map_err(failed(None))?;
    let mut count = 0;
    loop {
        let failed = failed(Some(count + 1));
        let record = guarded(|| records.next().transpose()).map_err(failed)?;
        let Some(record) = record else { break };
        count += 1;
        let columns = guarded(|| Ok(object(record.get_column_iter()))).map_err(failed)?;
        rows.push(Row { path, at: At::Row(count), text: None, columns })?;
    }
    let promised = reader.metadata().file_metadata().num_rows();
    if usize::try_from(promised) != Ok(count) {
        return Err(failed(None)(format!("it says that there are {promised} rows, but there are {count}")));
    }
    Ok(())
}

pub(crate) fn open(path: &Path) -> Result<SerializedFileReader<File>, DataError> {
    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut begin = Vec::new();
    file.by_ref().take(4).read_to_end(&mut begin).map_err(unreadable)?;
    if begin != PARQUET {
        let found = match begin.as_slice() {
            [] => "nothing, as it is empty".to_owned(),
            begin => format!("`{}`", begin.escape_ascii()),
        };
        return Err(DataError::NotParquet { path: path.to_owned(), found });
    }
    let bytes = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(bytes.saturating_sub(4))).map_err(unreadable)?;
    file.by_ref().take(4).read_to_end(&mut end).map_err(unreadable)?;
    if end != PARQUET || bytes < 12 {
        return Err(DataError::ParquetCut { path: path.to_owned(), bytes });
    }
    let damaged = |message| DataError::Parquet { path: path.to_owned(), row: None, message };
    guarded(|| SerializedFileReader::new(file)).map_err(damaged)
}

/// What the reader gives, or its complaint in words. On some damaged files it panics, which is a complaint too.
pub(crate) fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match guard(read) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(ParquetError::General(message) | ParquetError::NYI(message) | ParquetError::EOF(message))) => {
            Err(match message.strip_prefix("Disabled feature at compile time: ") {
                Some(codec) => {
                    format!("it is compressed with {codec}, wanted Snappy, Zstandard, gzip, LZ4 or none")
                }
                None => message,
            })
        }
        Ok(Err(other)) => Err(other.to_string()),
        Err(panic) => Err(format!("the reader gave up: {panic}")),
    }
}

pub(crate) fn object<'a>(columns: impl Iterator<Item = (&'a String, &'a Field)>) -> Map<String, Value> {
    columns.map(|(name, field)| (name.clone(), json(field))).collect()
}

fn json(field: &Field) -> Value {
    let float = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        Field::Float16(value) => float(f64::from(*value)),
        // through its shortest text, so that 0.1 does not become 0.10000000149
        Field::Float(value) => float(value.to_string().parse().unwrap_or(f64::NAN)),
        Field::Double(value) => float(*value),
        Field::Str(text) => text.as_str().into(),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => text.into(),
            Err(_) => bytes.data().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
        },
        Field::Group(row) => object(row.get_column_iter()).into(),
        Field::ListInternal(list) => list.elements().iter().map(json).collect(),
        Field::MapInternal(map) => {
            let entries = map.entries().iter().map(|(key, value)| (key_text(json(key)), json(value)));
            entries.collect::<Map<_, _>>().into()
        }
        Field::Decimal(_)
        | Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => field.to_string().into(),
    }
}

fn key_text(key: Value) -> String {
    match key {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf, sync::Arc};

    use ::parquet::{
        data_type::{ByteArray, ByteArrayType, Int64Type},
        file::writer::SerializedFileWriter,
        schema::parser::parse_message_type,
    };
    use serde_json::json;

    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
    }

    fn read_file(path: &Path, layout: Layout, template: &str) -> Result<Dataset, String> {
        let template = PromptTemplate { template: template.into(), ..PromptTemplate::default() };
        let name = path.file_name().unwrap().to_str().unwrap();
        Dataset::read_parquet(path, &Columns::default(), layout, &template)
            .map_err(|error| error.to_string().replace(&path.display().to_string(), name))
    }

    fn read_bytes(bytes: &[u8]) -> Result<Dataset, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        fs::write(&path, bytes).unwrap();
        read_file(&path, Layout::Plain, "{question}")
    }

    /// A file with these columns, all texts.
    fn texts(columns: &[(&str, &[&str])]) -> Vec<u8> {
        let names = columns.iter().map(|(name, _)| format!("required binary {name} (UTF8);"));
        let schema = format!("message rows {{ {} }}", names.collect::<String>());
        let schema = Arc::new(parse_message_type(&schema).unwrap());
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Default::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        for (_, rows) in columns {
            let rows: Vec<ByteArray> = rows.iter().map(|text| (*text).into()).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&rows, None, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.into_inner().unwrap()
    }

    fn read(columns: &[(&str, &[&str])], layout: Layout) -> Result<Dataset, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        fs::write(&path, texts(columns)).unwrap();
        read_file(&path, layout, "{question}")
    }

    #[test]
    fn a_row_is_the_prompt_that_it_is_in_json_however_it_is_coded() {
        let rows = [
            json!({"question": "q1", "answer": "a1", "id": "x1", "numbers": [1, 2], "meta": {"level": 3, "tags": ["a", "b"]},
                "steps": [{"text": "s", "numbers": [1]}, {"text": "t", "numbers": []}], "scores": {"k": 1.5, "l": null},
                "nested": [[1], [], null, [2, 3]]}),
            json!({"question": "q2", "answer": "a2", "id": "x2", "numbers": [], "meta": null, "steps": [], "scores": {},
                "nested": []}),
            json!({"question": "é ∞", "answer": "a3", "id": "x3", "numbers": null, "meta": {"level": null, "tags": null},
                "steps": null, "scores": null, "nested": null}),
            json!({"question": "q4", "answer": "a4", "id": "x4", "numbers": [null, 7], "meta": {"level": 1, "tags": []},
                "steps": [null, {"text": null, "numbers": null}], "scores": {"z": 9.0}, "nested": [null, [null]]}),
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        fs::write(&path, rows.map(|row| row.to_string()).join("\n")).unwrap();
        let columns = Columns::default();
        let template = PromptTemplate::default();
        let wanted = Dataset::read_jsonl(&path, &columns, Layout::Plain, &template).unwrap();
        for codec in ["snappy", "zstd", "gzip", "lz4", "none"] {
            let found = read_file(&fixture(&format!("rows_{codec}.parquet")), Layout::Plain, "{question}");
            let found = found.unwrap();
            assert_eq!(found.prompts(), wanted.prompts(), "{codec}");
            assert_eq!(found.get(0).unwrap().fields.keys().next().unwrap(), "question");
        }
    }

    #[test]
    fn every_kind_of_value_has_its_form_in_json() {
        let set = read_file(&fixture("kinds.parquet"), Layout::Plain, "{question} {large} {half}").unwrap();
        let (first, second) = (set.get(0).unwrap(), set.get(1).unwrap());
        assert_eq!((first.id.as_str(), first.answer.as_deref()), ("kinds:1", Some("18.0")));
        assert_eq!(first.body, crate::Body::Text("q 18446744073709551615 0.5".into()));
        let wanted = json!({"question": "q", "single": 0.1, "half": 0.5, "small": -1, "large": u64::MAX, "boolean": true, "date": "2020-01-02",
            "decimal": "12.50", "bytes": "ff00", "category": "x", "nothing": null});
        assert_eq!(Value::Object(first.fields.clone()), wanted);
        let wanted = json!({"question": "r", "single": null, "half": 1.5, "small": 1, "large": 0, "boolean": null, "date": null,
            "decimal": null, "bytes": "text", "category": "y", "nothing": null});
        assert_eq!(Value::Object(second.fields.clone()), wanted);
    }

    #[test]
    fn rows_are_counted_from_one_in_ids_and_in_messages() {
        let set =
            read(&[("question", &["q", "r"]), ("answer", &["x #### 1,0", "#### 2"])], Layout::Gsm8k).unwrap();
        let ids: Vec<_> =
            set.prompts().iter().map(|prompt| (prompt.id.as_str(), prompt.answer.as_deref())).collect();
        assert_eq!(ids, [("rows:1", Some("10")), ("rows:2", Some("2"))]);
        let unmarked =
            read(&[("question", &["q", "r"]), ("answer", &["#### 1", "2"])], Layout::Gsm8k).unwrap_err();
        assert!(
            unmarked.starts_with("`rows.parquet`, row 2: column `answer` has no `####`, by which the layout"),
            "{unmarked}"
        );
        let twice =
            read(&[("question", &["q", "r"]), ("answer", &["1", "2"]), ("id", &["a", "a"])], Layout::Plain);
        assert!(twice.unwrap_err().contains("the id `a` stands in row 1 and in row 2, but"));
        assert_eq!(
            read(&[("questoin", &["q"]), ("answer", &["a"])], Layout::Plain).unwrap_err(),
            "`rows.parquet`, row 1: the row has no column `question`; the columns are `questoin`, `answer`; did you \
             mean `questoin`?"
        );
        let none = read(&[("question", &[]), ("answer", &[])], Layout::Plain).unwrap_err();
        assert_eq!(none, "the dataset `rows.parquet` is empty, wanted at least one row");
    }

    #[test]
    fn a_column_of_the_wrong_kind_is_named_with_what_it_holds() {
        let schema = "message rows { optional int64 question; required int64 answer; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Default::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        for levels in [Some(&[1, 0][..]), None] {
            let mut column = group.next_column().unwrap().unwrap();
            column
                .typed::<Int64Type>()
                .write_batch(&[5, 6][..levels.map_or(2, |_| 1)], levels, None)
                .unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        let error = read_bytes(&writer.into_inner().unwrap()).unwrap_err();
        assert_eq!(
            error,
            "`rows.parquet`, row 1: column `question` holds a number, wanted text or a list of messages"
        );
    }

    #[test]
    fn what_is_no_parquet_file_or_only_its_beginning_is_refused() {
        let whole = texts(&[("question", &["q"]), ("answer", &["a"])]);
        assert_eq!(read_bytes(&whole).unwrap().len(), 1);
        for (bytes, begins) in [(&b""[..], "nothing, as it is empty"), (b"{\"q\xff", "`{\\\"q\\xff`")] {
            let wanted =
                format!("`rows.parquet` is not a Parquet file: it begins with {begins}, wanted `PAR1`");
            assert_eq!(read_bytes(bytes).unwrap_err(), wanted);
        }
        for len in 4..whole.len() {
            let wanted = format!(
                "`rows.parquet` is cut off after {len} bytes: a Parquet file ends with `PAR1` as it begins; fetch or \
                 copy it again"
            );
            assert_eq!(read_bytes(&whole[..len]).unwrap_err(), wanted);
        }
        let codec = read_file(&fixture("rows_brotli.parquet"), Layout::Plain, "{question}").unwrap_err();
        assert_eq!(
            codec,
            "`rows_brotli.parquet`, row 1: cannot read the Parquet file: it is compressed with brotli, wanted Snappy, \
             Zstandard, gzip, LZ4 or none"
        );
        let folder = fixture("");
        assert!(read_file(&folder, Layout::Plain, "").unwrap_err().starts_with("cannot read the dataset"));
    }

    #[test]
    fn a_damaged_file_is_an_error_or_read_as_something_else_and_never_a_panic() {
        let whole = fs::read(fixture("rows_snappy.parquet")).unwrap();
        for at in (4..whole.len() - 4).step_by(5) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x15;
            if let Ok(set) = read_bytes(&damaged) {
                assert_eq!(set.len(), 4);
            }
        }
    }
}
