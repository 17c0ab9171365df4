//! What can be wrong with a dataset.
//!
//! Before: a file or a generator's settings were read. After: the recipe's error names the file, the line and what
//! was wanted there.

use std::{fmt, io, path::PathBuf};

use crate::arithmetic::{Operator, Split};

/// Where a row stands in its file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// In a file of lines.
    Line(usize),
    /// In a table.
    Row(usize),
}

impl At {
    /// The line or the row.
    pub fn number(self) -> usize {
        match self {
            Self::Line(number) | Self::Row(number) => number,
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// Why there is no dataset. Lines, rows, columns of text and bytes count from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file is missing or unreadable.
    #[error("cannot read the dataset `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not UTF-8.
    #[error("`{}`, line {line}: byte {byte} of the line is not UTF-8, as datasets must be", path.display())]
    Utf8 {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The first bad byte within the line.
        byte: usize,
    },
    /// A line is not JSON.
    #[error("`{}`, line {line}, column {column}: wanted one JSON object on the line: {message}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The place within the line, in bytes.
        column: usize,
        /// What the JSON parser said.
        message: String,
    },
    /// The file begins with the mark of UTF-16.
    #[error("`{}` is in UTF-16, wanted UTF-8: save it again in that encoding", path.display())]
    Utf16 {
        /// The file.
        path: PathBuf,
    },
    /// A row is JSON, but not an object.
    #[error("`{}`, {at}: a row must be a JSON object, but this is {found}", path.display())]
    NotAnObject {
        /// The file.
        path: PathBuf,
        /// The line or row.
        at: At,
        /// The kind of value that stands there.
        found: &'static str,
    },
    /// The file is no Parquet file.
    #[error("`{}` is not a Parquet file: it begins with {found}, wanted `PAR1`", path.display())]
    NotParquet {
        /// The file.
        path: PathBuf,
        /// How it begins.
        found: String,
    },
    /// The file begins as a Parquet file and does not end as one.
    #[error(
        "`{}` is cut off after {bytes} bytes: a Parquet file ends with `PAR1` as it begins; fetch or copy it again",
        path.display()
    )]
    ParquetCut {
        /// The file.
        path: PathBuf,
        /// How long it is.
        bytes: u64,
    },
    /// The Parquet file is damaged, or has something that is not read here.
    #[error("`{}`, {}: cannot read the Parquet file: {message}", path.display(), match row {
        Some(row) => format!("row {row}"),
        None => "its footer".to_owned(),
    })]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The row, or else the footer, which describes the rows.
        row: Option<usize>,
        /// What the Parquet reader said.
        message: String,
    },
    /// A Parquet file, and a program that reads none.
    #[error(
        "`{}` is a Parquet file, which this program cannot read, wanted JSONL; to read it, build `evenkeel-data` with \
         the feature `parquet`",
        path.display()
    )]
    NoParquet {
        /// The file.
        path: PathBuf,
    },
    /// A row lacks a column that the recipe names.
    #[error(
        "`{}`, {at}: the row has no column `{column}`; {}",
        path.display(),
        the_columns(column, found)
    )]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The line or row.
        at: At,
        /// The column that was wanted.
        column: String,
        /// The columns that the row has.
        found: Vec<String>,
    },
    /// The template names a column that there is not.
    #[error(
        "{place}: the template names the column `{column}`, which is not there; {}",
        the_columns(column, found)
    )]
    TemplateColumn {
        /// The file and the line or row, or the generator.
        place: String,
        /// The column that was wanted.
        column: String,
        /// The columns that there are.
        found: Vec<String>,
    },
    /// A column holds a value of the wrong kind.
    #[error("`{}`, {at}: column `{column}` holds {found}, wanted {wanted}", path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The line or row.
        at: At,
        /// The column.
        column: String,
        /// The kind of value that it holds.
        found: &'static str,
        /// The kinds that would do.
        wanted: &'static str,
    },
    /// The prompt template cannot be read.
    #[error("the template `{template}` has {problem}, at character {at}")]
    Template {
        /// The whole template.
        template: String,
        /// Where in it, in characters.
        at: usize,
        /// What is wrong there, and what to write.
        problem: &'static str,
    },
    /// A system message for prompts that are plain text.
    #[error(
        "`system` is set but `chat` is false: plain text has no system message, so set `chat = true` or drop it"
    )]
    SystemWithoutChat,
    /// A question alone cannot fill the template.
    #[error("the template names the column `{column}`, but a worked example has only a `question`")]
    NotAQuestion {
        /// The column.
        column: String,
    },
    /// There is not one row.
    #[error("the dataset `{dataset}` is empty, wanted at least one row")]
    Empty {
        /// The file or the dataset's name.
        dataset: String,
    },
    /// Two rows of a file have one id.
    #[error(
        "`{}`: the id `{id}` stands in {first} and in {second}, but ids must be unique: randomness is keyed by them",
        path.display()
    )]
    DuplicateId {
        /// The file.
        path: PathBuf,
        /// The id.
        id: String,
        /// Where it stands first.
        first: At,
        /// Where it comes again.
        second: At,
    },
    /// Rows of two files have one id.
    #[error(
        "the id `{id}` stands in `{}`, {first}, and in `{}`, {second}, but ids must be unique: randomness is keyed by them",
        path.display(),
        other.display()
    )]
    DuplicateAcross {
        /// The file where it stands first.
        path: PathBuf,
        /// The id.
        id: String,
        /// Where it stands there.
        first: At,
        /// The file where it comes again.
        other: PathBuf,
        /// Where it stands there.
        second: At,
    },
    /// Every row was left out.
    #[error(
        "nothing is left of the {rows} row{} of the dataset `{dataset}`{}{}",
        if *rows == 1 { "" } else { "s" },
        match part {
            Some((name, fraction)) => format!(" in the part `{name}` of its split, where {fraction} of the rows are held back"),
            None => String::new(),
        },
        if why.is_empty() { String::new() } else { format!(": left out were {why}") }
    )]
    NothingLeft {
        /// The files.
        dataset: String,
        /// Rows that were read.
        rows: usize,
        /// How many were left out by which filters.
        why: String,
        /// The part of a split that was wanted, and the share of rows that are held back.
        part: Option<(&'static str, f64)>,
    },
    /// A packed file is cut off or damaged.
    #[error("`{}`: its {format} data {}", path.display(), match message {
        Some(message) => format!("cannot be unpacked: {message}"),
        None => "end too early, the file is cut off; fetch or copy it again".to_owned(),
    })]
    Packed {
        /// The file.
        path: PathBuf,
        /// `gzip` or `Zstandard`.
        format: &'static str,
        /// What the unpacker said; none if the data end too early.
        message: Option<String>,
    },
    /// A table is malformed.
    #[error("`{}`, line {line}: {message}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// The line on which the row begins.
        line: usize,
        /// What is wrong there, and what was wanted.
        message: String,
    },
    /// A setting of a filter or a split that cannot be.
    #[error("the data's {key} {problem}")]
    Setting {
        /// The setting.
        key: String,
        /// What is wrong with it, and what was wanted.
        problem: String,
    },
    /// A template in Jinja cannot be read.
    #[error("the prompt's `jinja` {problem}")]
    Jinja {
        /// What is wrong.
        problem: String,
    },
    /// A template in Jinja fails on a row.
    #[error("{place}: the prompt's `jinja` fails: {problem}")]
    JinjaRow {
        /// The file and the line or row.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// Two prompts that did not come from a file have one id.
    #[error(
        "dataset `{dataset}`: prompts {first} and {second}, counted from 0, have the id `{id}`, but ids must be unique: \
         randomness is keyed by them"
    )]
    DuplicatePrompt {
        /// The dataset's name.
        dataset: String,
        /// The id.
        id: String,
        /// The index where it stands first.
        first: usize,
        /// The index where it comes again.
        second: usize,
    },
    /// A column of worked solutions has one without the mark that stands before its answer.
    #[error(
        "`{}`, {at}: column `{column}` has no `{mark}`, {}",
        path.display(),
        match first {
            Some(first) => format!("though that of {first} has one: either all rows have it or none has"),
            None => "by which the layout finds the answer of a worked solution; if the column holds bare answers, set \
                     `layout = \"plain\"`".into(),
        }
    )]
    UnmarkedAnswer {
        /// The file.
        path: PathBuf,
        /// The line or row.
        at: At,
        /// The answer's column.
        column: String,
        /// The mark.
        mark: &'static str,
        /// The row whose mark decided the layout, if the recipe did not.
        first: Option<At>,
    },
    /// A column of bare answers has a worked solution.
    #[error(
        "`{}`, {at}: column `{column}` has a worked solution with `{mark}`, though that of {first} has none: either all \
         rows have it or none has",
        path.display()
    )]
    MarkedAnswer {
        /// The file.
        path: PathBuf,
        /// The line or row.
        at: At,
        /// The answer's column.
        column: String,
        /// The mark.
        mark: &'static str,
        /// The first row, which has none.
        first: At,
    },
    /// The answer of a worked solution is blank.
    #[error("`{}`, {at}: column `{column}` has nothing after or in its last `{mark}`, wanted an answer there", path.display())]
    EmptyAnswer {
        /// The file.
        path: PathBuf,
        /// The line or row.
        at: At,
        /// The answer's column.
        column: String,
        /// The mark.
        mark: &'static str,
    },
    /// Worked solutions without a column that holds them.
    #[error(
        "the {layout} layout needs an answer column, but `answer` is empty, which means that there is none"
    )]
    LayoutNeedsAnswer {
        /// The layout.
        layout: &'static str,
    },
    /// A column holds no conversation, or one that cannot be a prompt.
    #[error("`{}`, {at}: column `{column}` {problem}", path.display())]
    Conversation {
        /// The file.
        path: PathBuf,
        /// The line or row.
        at: At,
        /// The column.
        column: String,
        /// What is wrong with it.
        problem: String,
    },
    /// LaTeX in a row was read as an escape.
    #[error("`{}`, {at}: column `{column}` has {problem}", path.display())]
    MisreadLatex {
        /// The file.
        path: PathBuf,
        /// The line or row.
        at: At,
        /// The column.
        column: String,
        /// What stands there and what was meant.
        problem: String,
    },
    /// LaTeX in a recipe was read as an escape.
    #[error("the prompt's `{name}` has {problem}")]
    MisreadTemplate {
        /// `template` or `system`.
        name: &'static str,
        /// What stands there and what was meant.
        problem: String,
    },
    /// An empty range of digits.
    #[error("`min_digits` is {min_digits}, wanted at most `digits`, which is {digits}")]
    Digits {
        /// The least number of digits.
        min_digits: usize,
        /// The largest number of digits.
        digits: usize,
    },
    /// No operator to choose from.
    #[error("`operators` is empty, wanted at least one of `+`, `-` and `*`")]
    NoOperators,
    /// An operator that is listed twice.
    #[error("`operators` names `{operator}` twice, wanted each once: all are equally likely")]
    RepeatedOperator {
        /// The operator.
        operator: Operator,
    },
    /// No level to choose from.
    #[error("`levels` is empty, wanted at least one of 2, 3 and 4")]
    NoLevels,
    /// More problems are wanted than there are.
    #[error(
        "`count` is {count}, but the {split} split has no more than {exist} distinct problems; raise `digits` or lower \
         `count`"
    )]
    TooFewProblems {
        /// How many are wanted.
        count: usize,
        /// The split that they should come from.
        split: Split,
        /// How many there are.
        exist: u64,
    },
    /// The problems of a split are too rare to be found by drawing.
    #[error(
        "`count` is {count}, but {draws} draws found only {found} distinct problems of the {split} split; lower `count` \
         or give that split a larger share by `held_out`"
    )]
    RareProblems {
        /// How many are wanted.
        count: usize,
        /// The split that they should come from.
        split: Split,
        /// How many were found.
        found: usize,
        /// How many were drawn.
        draws: u64,
    },
}

/// The columns that there are, and the one that was probably meant.
fn the_columns(wanted: &str, found: &[String]) -> String {
    let list = match found {
        [] => "there are no columns at all".to_owned(),
        _ => format!("the columns are `{}`", found.join("`, `")),
    };
    match nearest(wanted, found) {
        Some(column) => format!("{list}; did you mean `{column}`?"),
        None => list,
    }
}

/// The name closest to `wanted`, letter case aside, if no more than a third of it has to be edited.
fn nearest<'a>(wanted: &str, found: &'a [String]) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    let allowed = (wanted.chars().count() / 3).max(1);
    found
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&wanted, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name.as_str())
}

#[cfg(test)]
mod tests;
