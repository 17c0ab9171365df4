//! Datasets in whatever format their files have.
//!
//! Before: the recipe names files. After: [`crate::jsonl`], [`crate::csv`] or [`crate::parquet`] reads each.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use crate::{
    Columns, DataError, Dataset, Filter, HeldBack, Layout, PromptTemplate, SplitPart, csv, jsonl,
    packed::PACKED,
    row::{Keep, Rows, stem_of},
};

/// What a Parquet file begins with and ends with.
pub(crate) const PARQUET: &[u8; 4] = b"PAR1";

/// Files that are one dataset, and what of them is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// The files, in the order of their rows; at least one.
    pub paths: &'a [PathBuf],
    /// What their columns are called.
    pub columns: &'a Columns,
    /// How they are laid out, all alike: as the first row of the first.
    pub layout: Layout,
    /// How a row becomes a prompt.
    pub template: &'a PromptTemplate,
    /// Which rows are left out.
    pub filter: Option<&'a Filter>,
    /// The part of a split that is wanted; all rows without.
    pub part: Option<(HeldBack, SplitPart)>,
    /// Whether files that are not Parquet are CSV, whatever they are called.
    pub csv: bool,
}

impl Files<'_> {
    /// The dataset: all rows of the files, in their order. Rows without an id are named after their file, and after its
    /// folder too where several files have one name.
    /// # Errors
    /// As [`Dataset::read`], for any of the files; if a filter or a split is malformed or leaves nothing; if ids of two files
    /// are the same.
    pub fn read(&self) -> Result<Dataset, DataError> {
        let filter = self.filter.map(Filter::open).transpose()?;
        if let Some((held_back, _)) = &self.part {
            held_back.check()?;
        }
        let mut rows = Rows::new(self.columns, self.layout, self.template, Keep { filter, part: self.part })?;
        for (path, stem) in self.paths.iter().zip(stems(self.paths)) {
            rows.begin(path, Some(stem));
            if is_parquet(path)? {
                #[cfg(feature = "parquet")]
                crate::parquet::read_into(path, &mut rows)?;
                #[cfg(not(feature = "parquet"))]
                return Err(DataError::NoParquet { path: path.clone() });
            } else if self.csv || is_csv(path) {
                csv::read_into(path, &mut rows)?;
            } else {
                jsonl::read_into(path, &mut rows)?;
            }
        }
        rows.finish()
    }
}

/// What ids of each file's rows begin with: its name, with folders in front where names are the same.
fn stems(paths: &[PathBuf]) -> Vec<String> {
    let mut stems: Vec<String> = paths.iter().map(|path| stem_of(path)).collect();
    let mut folders: Vec<Option<&Path>> = paths.iter().map(|path| path.parent()).collect();
    loop {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        stems.iter().for_each(|stem| *counts.entry(stem).or_default() += 1);
        let same: Vec<bool> = stems.iter().map(|stem| counts[stem.as_str()] > 1).collect();
        let mut longer = false;
        for (place, _) in same.iter().enumerate().filter(|(_, same)| **same) {
            let Some(folder) = folders[place] else { continue };
            if let Some(name) = folder.file_name() {
                stems[place] = format!("{}/{}", name.to_string_lossy(), stems[place]);
                longer = true;
            }
            folders[place] = folder.parent();
        }
        if !longer {
            return stems;
        }
    }
}

impl Dataset {
    /// The rows of a file: Parquet if it begins with `PAR1` or is called `….parquet`, CSV if it is called `….csv` or `….tsv`,
    /// else JSON, one object a line or one list. JSON and CSV may be packed with gzip or Zstandard.
    /// # Errors
    /// As [`Dataset::read_jsonl`] and, where there is the feature `parquet`, `Dataset::read_parquet`; without it, a
    /// Parquet file is an error.
    pub fn read(
        path: impl AsRef<Path>,
        columns: &Columns,
        layout: Layout,
        template: &PromptTemplate,
    ) -> Result<Self, DataError> {
        let paths = [path.as_ref().to_owned()];
        Files { paths: &paths, columns, layout, template, filter: None, part: None, csv: false }.read()
    }
}

fn is_csv(path: &Path) -> bool {
    let ends = |path: &Path, ends: &[&str]| {
        path.extension().is_some_and(|end| ends.iter().any(|wanted| end.eq_ignore_ascii_case(wanted)))
    };
    let inner = path.file_stem().map(Path::new).unwrap_or(path);
    ends(path, &["csv", "tsv"]) || (ends(path, &PACKED) && ends(inner, &["csv", "tsv"]))
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
