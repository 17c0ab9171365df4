//! Datasets in CSV: a header with the names of the columns, then a row a line, or more lines where a quoted cell has them.
//!
//! Before: [`crate::read`] has seen what a file is. After: [`crate::row`] makes prompts of the rows.

use std::path::Path;

use csv::{ByteRecord, ErrorKind, ReaderBuilder};
use serde_json::{Map, Value};

use crate::{
    At, DataError, packed,
    row::{Row, Rows},
};

/// The file's rows become rows of a dataset; every cell is a text. A name that ends in `.tsv` means tabs between cells.
pub(crate) fn read_into(path: &Path, rows: &mut Rows<'_>) -> Result<(), DataError> {
    let tabs = path
        .to_string_lossy()
        .to_lowercase()
        .trim_end_matches(".gz")
        .trim_end_matches(".zst")
        .ends_with(".tsv");
    let malformed = |line: usize, message: String| DataError::Csv { path: path.to_owned(), line, message };
    let failed = |error: csv::Error| {
        let line = error.position().map_or(1, |position| position.line() as usize);
        match error.into_kind() {
            ErrorKind::Io(source) => packed::failure(path, source),
            ErrorKind::UnequalLengths { expected_len, len, .. } => malformed(
                line,
                format!(
                    "the row has {len} cell{}, wanted {expected_len} as in the header; a cell with a comma, a quote or a line \
                     break in it stands in quotes",
                    if len == 1 { "" } else { "s" }
                ),
            ),
            other => malformed(line, format!("{other:?}")),
        }
    };
    let text = |line: usize, cell: &[u8], number: usize| match std::str::from_utf8(cell) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) if cell.starts_with(b"\xff\xfe") || cell.starts_with(b"\xfe\xff") => {
            Err(DataError::Utf16 { path: path.to_owned() })
        }
        Err(error) => Err(malformed(
            line,
            format!("byte {} of cell {number} is not UTF-8, as datasets must be", error.valid_up_to() + 1),
        )),
    };
    let mut reader = ReaderBuilder::new()
        .delimiter(if tabs { b'\t' } else { b',' })
        .has_headers(false)
        .from_reader(packed::open(path)?);
    let mut record = ByteRecord::new();
    let mut names: Option<Vec<String>> = None;
    while reader.read_byte_record(&mut record).map_err(failed)? {
        let line = record.position().map_or(1, |position| position.line() as usize);
        let cells = record.iter().enumerate().map(|(place, cell)| text(line, cell, place + 1));
        let mut cells = cells.collect::<Result<Vec<_>, _>>()?;
        let Some(names) = &names else {
            if let Some(first) = cells.first_mut() {
                *first = first.trim_start_matches('\u{feff}').to_owned();
            }
            if let Some(twice) = cells.iter().enumerate().find(|(place, name)| cells[..*place].contains(name))
            {
                return Err(malformed(line, format!("the header has the column `{}` twice", twice.1)));
            }
            names = Some(cells);
            continue;
        };
        let columns: Map<String, Value> =
            names.iter().cloned().zip(cells.into_iter().map(Value::String)).collect();
        rows.push(Row { path, at: At::Line(line), text: None, columns })?;
    }
    Ok(())
}
