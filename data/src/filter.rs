//! Which rows of a dataset are left out.
//!
//! Before: a row has become a prompt. After: it belongs to the dataset, or is counted as left out by one of the settings.

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf};

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Columns, DataError, Dataset, Layout, NGrams, Prompt, PromptTemplate, asked, row::find_column};

/// Which rows are left out: those that any of these refuses.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Characters of the shortest question that stays, without the prompt's template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_chars: Option<usize>,
    /// Characters of the longest question that stays, without the prompt's template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_chars: Option<usize>,
    /// Regular expressions by column, such as `{ level = "^[345]$" }`: a row stays only if each is found in its column.
    /// `question`, `answer` and `id` are the mapped columns; what is no text is compared as JSON.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub keep: BTreeMap<String, Expression>,
    /// The same, where a row is left out if any is found in its column.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub drop: BTreeMap<String, Expression>,
    /// Leave out questions that stand in a benchmark too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<OverlapFilter>,
}

/// A regular expression, which is found anywhere in a text unless `^` and `$` say otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Expression(pub String);

impl From<&str> for Expression {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Questions that share runs of words with those of a benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OverlapFilter {
    /// A file of questions, in any format that data may have.
    pub path: PathBuf,
    /// Words of a run, letters and digits in lower case; shorter questions are compared as a whole.
    #[serde(default = "long")]
    pub n: NonZeroUsize,
    /// Share of a question's words, 0 to below 1, that may stand in shared runs.
    #[serde(default)]
    pub share: f64,
}

fn long() -> NonZeroUsize {
    NGrams::LONG
}

/// A filter with its expressions compiled and its benchmark read.
pub(crate) struct OpenFilter<'a> {
    settings: &'a Filter,
    keep: Vec<(&'a str, Regex)>,
    drop: Vec<(&'a str, Regex)>,
    overlap: Option<(NGrams, f64)>,
}

impl Filter {
    /// # Errors
    /// If an expression is malformed, a range is empty, or the benchmark cannot be read.
    pub(crate) fn open(&self) -> Result<OpenFilter<'_>, DataError> {
        if let (Some(min), Some(max)) = (self.min_chars, self.max_chars)
            && min > max
        {
            let problem = format!("is {min}, wanted at most max_chars, which is {max}");
            return Err(DataError::Setting { key: "filter.min_chars".into(), problem });
        }
        let overlap = match &self.overlap {
            Some(overlap) => Some((overlap.grams()?, overlap.share)),
            None => None,
        };
        Ok(OpenFilter {
            settings: self,
            keep: compile("keep", &self.keep)?,
            drop: compile("drop", &self.drop)?,
            overlap,
        })
    }
}

impl OverlapFilter {
    fn grams(&self) -> Result<NGrams, DataError> {
        if !(0.0..1.0).contains(&self.share) {
            let problem = format!("is {}; wanted a share from 0 to below 1", self.share);
            return Err(DataError::Setting { key: "filter.overlap.share".into(), problem });
        }
        let columns = Columns { answer: None, ..Columns::default() };
        let set = Dataset::read(&self.path, &columns, Layout::Auto, &PromptTemplate::default())?;
        let mut grams = NGrams::new(self.n);
        set.prompts().iter().for_each(|prompt| grams.add(&asked(prompt)));
        Ok(grams)
    }
}

fn compile<'a>(
    key: &str,
    expressions: &'a BTreeMap<String, Expression>,
) -> Result<Vec<(&'a str, Regex)>, DataError> {
    let one = |(column, Expression(text)): (&'a String, &Expression)| match Regex::new(text) {
        Ok(regex) => Ok((column.as_str(), regex)),
        Err(error) => {
            let problem = format!("is no regular expression that can be read: {error}");
            Err(DataError::Setting { key: format!("filter.{key}.{column} = {text:?}"), problem })
        }
    };
    expressions.iter().map(one).collect()
}

impl OpenFilter<'_> {
    /// The setting that leaves a prompt out, if one does, where `question` is what it asks without its template.
    /// # Errors
    /// A column that the row does not have, and those that it has.
    pub(crate) fn refuses(
        &self,
        prompt: &Prompt,
        question: &str,
    ) -> Result<Option<String>, (String, Vec<String>)> {
        let Filter { min_chars, max_chars, .. } = self.settings;
        let length = question.chars().count();
        if min_chars.is_some_and(|min| length < min) {
            return Ok(Some("min_chars".into()));
        }
        if max_chars.is_some_and(|max| length > max) {
            return Ok(Some("max_chars".into()));
        }
        for (key, all, wanted) in [("keep", &self.keep, true), ("drop", &self.drop, false)] {
            for (column, regex) in all {
                if found(regex, prompt, question, column)? != wanted {
                    return Ok(Some(format!("{key}.{column}")));
                }
            }
        }
        if let Some((grams, share)) = &self.overlap
            && grams.overlap(question).is_some_and(|overlap| overlap.share > *share)
        {
            return Ok(Some("overlap".into()));
        }
        Ok(None)
    }
}

/// Whether an expression is found in a column.
fn found(
    regex: &Regex,
    prompt: &Prompt,
    question: &str,
    column: &str,
) -> Result<bool, (String, Vec<String>)> {
    let value = match column {
        "question" => return Ok(regex.is_match(question)),
        "id" => return Ok(regex.is_match(&prompt.id)),
        "answer" if prompt.answer.is_some() => {
            return Ok(prompt.references().any(|answer| regex.is_match(answer)));
        }
        column => find_column(&prompt.fields, column),
    };
    match value {
        Some(Value::String(text)) => Ok(regex.is_match(text)),
        Some(Value::Null) => Ok(false),
        Some(other) => Ok(regex.is_match(&other.to_string())),
        None => Err((column.to_owned(), prompt.fields.keys().cloned().collect())),
    }
}
