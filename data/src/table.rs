//! Tables that the program writes in Parquet for other programs and reads back itself.
//!
//! Before: records as JSON objects. After: a file that pandas, Polars and DuckDB open. This file is compiled with the feature
//! `parquet` only.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use ::parquet::{
    basic::Compression,
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type},
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        properties::WriterProperties,
        reader::FileReader,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::parser::parse_message_type,
};
use serde_json::{Map, Value};

use crate::{
    DataError,
    parquet::{guarded, object, open},
};

/// Rows of named values, and what is said of all of them.
///
/// A column is of whole numbers, of numbers, of truth values or of text, whichever holds all of its values; lists, objects and
/// what is mixed become text, in JSON. A value that a row lacks is null.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// The rows. Names are letters, digits and `_`, and do not begin with a digit.
    pub rows: Vec<Map<String, Value>>,
    /// Facts about the table by name, such as what it was made from.
    pub about: BTreeMap<String, String>,
}

/// What a column holds.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Whole,
    Number,
    Truth,
    Text,
}

impl Kind {
    fn of<'a>(values: impl Iterator<Item = &'a Value> + Clone) -> Self {
        let kinds = [
            (Self::Whole, Value::is_i64 as fn(&Value) -> bool),
            (Self::Number, Value::is_number),
            (Self::Truth, Value::is_boolean),
        ];
        let holds = |fits: fn(&Value) -> bool| values.clone().all(fits);
        kinds.into_iter().find(|(_, fits)| holds(*fits)).map_or(Self::Text, |(kind, _)| kind)
    }

    fn declaration(self, name: &str) -> String {
        match self {
            Self::Whole => format!("optional int64 {name};"),
            Self::Number => format!("optional double {name};"),
            Self::Truth => format!("optional boolean {name};"),
            Self::Text => format!("optional binary {name} (UTF8);"),
        }
    }
}

impl Table {
    /// The names of all columns, in the order in which rows have them.
    pub fn columns(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.rows.iter().flat_map(Map::keys) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// The values of a column, `Null` where a row has none.
    pub fn column<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> + Clone {
        self.rows.iter().map(move |row| row.get(name).unwrap_or(&Value::Null))
    }

    /// The bytes of a Parquet file. The same table gives the same bytes.
    ///
    /// # Errors
    /// What the writer says, if a name is no name.
    pub fn to_parquet(&self) -> Result<Vec<u8>, String> {
        guarded(|| self.write())
    }

    fn write(&self) -> Result<Vec<u8>, ParquetError> {
        let kind = |name| Kind::of(self.column(name).filter(|value| !value.is_null()));
        let columns: Vec<(&str, Kind)> = self.columns().into_iter().map(|name| (name, kind(name))).collect();
        let declared: String = columns.iter().map(|(name, kind)| kind.declaration(name)).collect();
        let schema = Arc::new(parse_message_type(&format!("message rows {{ {declared} }}"))?);
        let about = self.about.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_key_value_metadata(Some(about.collect()));
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties.build()))?;
        let mut group = writer.next_row_group()?;
        for (name, kind) in columns {
            let values = self.column(name);
            match kind {
                Kind::Whole => put::<Int64Type>(&mut group, values.map(Value::as_i64)),
                Kind::Number => put::<DoubleType>(&mut group, values.map(Value::as_f64)),
                Kind::Truth => put::<BoolType>(&mut group, values.map(Value::as_bool)),
                Kind::Text => put::<ByteArrayType>(&mut group, values.map(text)),
            }?;
        }
        group.close()?;
        writer.into_inner()
    }

    /// Reads a Parquet file as a whole.
    ///
    /// # Errors
    /// If the file is not there, is no Parquet file, is cut off, or is damaged.
    pub fn read_parquet(path: &Path) -> Result<Self, DataError> {
        let reader = open(path)?;
        let failed = |row| move |message| DataError::Parquet { path: path.to_owned(), row, message };
        let told = reader.metadata().file_metadata().key_value_metadata().into_iter().flatten();
        let about = told.map(|fact| (fact.key.clone(), fact.value.clone().unwrap_or_default())).collect();
        let mut records = guarded(|| reader.get_row_iter(None)).map_err(failed(None))?;
        let mut rows = Vec::new();
        loop {
            let next = guarded(|| {
                let record = records.next().transpose()?;
                Ok(record.map(|record| object(record.get_column_iter())))
            });
            let Some(row) = next.map_err(failed(Some(rows.len() + 1)))? else { break };
            rows.push(row);
        }
        Ok(Self { rows, about })
    }
}

fn text(value: &Value) -> Option<ByteArray> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.as_str().into()),
        other => Some(other.to_string().as_str().into()),
    }
}

/// Writes the next column of a group; `None` is null.
fn put<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: impl Iterator<Item = Option<T::T>> + Clone,
) -> Result<(), ParquetError> {
    let levels: Vec<i16> = values.clone().map(|value| i16::from(value.is_some())).collect();
    let values: Vec<T::T> = values.flatten().collect();
    let missing = || ParquetError::General("the group has fewer columns than its schema".into());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column.typed::<T>().write_batch(&values, Some(&levels), None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn row(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn read(bytes: &[u8]) -> Result<Table, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.parquet");
        fs::write(&path, bytes).unwrap();
        Table::read_parquet(&path)
    }

    fn table() -> Table {
        let rows = vec![
            row(json!({ "id": "a", "visits": 3, "mean": 2.0, "right": true, "norms": [1, 2.5] })),
            row(json!({ "id": "漢\n", "visits": -4, "mean": 1, "right": false, "mixed": 1 })),
            row(json!({ "id": "", "visits": i64::MAX, "mean": 0.1 + 0.2, "mixed": "x", "nothing": null })),
        ];
        Table { rows, about: [("dataset".to_owned(), "5f\"0c".to_owned())].into() }
    }

    #[test]
    fn a_table_reads_back_exactly_with_its_kinds_and_what_is_said_of_it() {
        let bytes = table().to_parquet().unwrap();
        assert_eq!(bytes, table().to_parquet().unwrap());
        let found = read(&bytes).unwrap();
        assert_eq!(found.about.get("dataset").unwrap(), "5f\"0c");
        let column = |name: &str| found.column(name).cloned().collect::<Vec<_>>();
        assert_eq!(column("id"), ["a", "漢\n", ""]);
        assert_eq!(column("visits"), [json!(3), json!(-4), json!(i64::MAX)]);
        assert_eq!(column("mean"), [json!(2.0), json!(1.0), json!(0.1 + 0.2)]);
        assert_eq!(column("right"), [json!(true), json!(false), json!(null)]);
        assert_eq!(column("norms"), [json!("[1,2.5]"), json!(null), json!(null)]);
        assert_eq!(column("mixed"), [json!(null), json!("1"), json!("x")]);
        let empty = Table { rows: vec![row(json!({ "id": "a" })); 2], ..Table::default() };
        assert_eq!(read(&empty.to_parquet().unwrap()).unwrap().rows, empty.rows);
    }

    #[test]
    fn a_name_that_is_none_and_a_damaged_file_are_errors() {
        let odd = Table { rows: vec![row(json!({ "a;b}": 1 }))], ..Table::default() };
        assert!(odd.to_parquet().is_err());
        let whole = table().to_parquet().unwrap();
        for len in [0, 3, 4, 12, whole.len() - 1] {
            assert!(read(&whole[..len]).is_err(), "{len} bytes");
        }
        for at in (4..whole.len() - 4).step_by(7) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x2d;
            // an error or other values, but never a panic
            let _ = read(&damaged);
        }
    }
}
