//! Datasets in whatever format a file has.
//!
//! Before: the recipe names a file. After: [`crate::jsonl`] or [`crate::parquet`] reads it.

use std::{fs::File, io::Read, path::Path};

use crate::{Columns, DataError, Dataset, Layout, PromptTemplate};

/// What a Parquet file begins with and ends with.
pub(crate) const PARQUET: &[u8; 4] = b"PAR1";

impl Dataset {
    /// The rows of a file: Parquet if it begins with `PAR1` or is called `….parquet`, else JSONL.
    /// # Errors
    /// As [`Dataset::read_jsonl`] and, where there is the feature `parquet`, `Dataset::read_parquet`; without it, a
    /// Parquet file is an error.
    pub fn read(
        path: impl AsRef<Path>,
        columns: &Columns,
        layout: Layout,
        template: &PromptTemplate,
    ) -> Result<Self, DataError> {
        let path = path.as_ref();
        if !is_parquet(path)? {
            return Self::read_jsonl(path, columns, layout, template);
        }
        #[cfg(feature = "parquet")]
        return Self::read_parquet(path, columns, layout, template);
        #[cfg(not(feature = "parquet"))]
        Err(DataError::NoParquet { path: path.to_owned() })
    }
}

fn is_parquet(path: &Path) -> Result<bool, DataError> {
    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    let mut begin = Vec::new();
    File::open(path).map_err(unreadable)?.take(4).read_to_end(&mut begin).map_err(unreadable)?;
    let called = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"));
    Ok(begin == PARQUET || called)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> Result<Dataset, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Dataset::read(&path, &Columns::default(), Layout::Plain, &PromptTemplate::default())
            .map_err(|error| error.to_string().replace(&path.display().to_string(), name))
    }

    #[test]
    fn a_file_is_read_as_what_it_is() {
        let row = br#"{"question": "q", "answer": "a"}"#;
        for name in ["rows.jsonl", "rows.txt", "rows"] {
            assert_eq!(read(name, row).unwrap().len(), 1);
        }
        assert_eq!(
            read("rows.jsonl", b"").unwrap_err(),
            "the dataset `rows.jsonl` is empty, wanted at least one row"
        );
        let missing = Dataset::read(
            "/no/such/file.parquet",
            &Columns::default(),
            Layout::Plain,
            &PromptTemplate::default(),
        );
        assert!(matches!(missing, Err(DataError::Read { .. })), "{missing:?}");
    }

    #[cfg(feature = "parquet")]
    #[test]
    fn what_begins_or_is_called_as_parquet_is_read_as_parquet() {
        let error = read("rows.jsonl", b"PAR1 and no more").unwrap_err();
        assert!(error.starts_with("`rows.jsonl` is cut off after 16 bytes"), "{error}");
        let error = read("rows.PARQUET", b"{}").unwrap_err();
        assert_eq!(error, "`rows.PARQUET` is not a Parquet file: it begins with `{}`, wanted `PAR1`");
    }

    #[cfg(not(feature = "parquet"))]
    #[test]
    fn a_program_without_parquet_says_so() {
        for (name, bytes) in [("rows.jsonl", b"PAR1"), ("rows.parquet", b"{}  ")] {
            let error = read(name, bytes).unwrap_err();
            assert_eq!(
                error,
                format!(
                    "`{name}` is a Parquet file, which this program cannot read, wanted JSONL; to read it, build \
                     `evenkeel-data` with the feature `parquet`"
                )
            );
        }
    }
}
