//! The reference solution of a prompt.
//!
//! Before: a dataset's row or a generator. After: rewards compare completions with it.

use std::{fmt, ops::Deref};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// The reference solution: one text, or several of which any is as right.
///
/// As a `str` it is the first; in JSON a text, or a list of texts if there are several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    first: String,
    others: Vec<String>,
}

impl Answer {
    /// An answer of these references; none if there are none.
    pub fn any_of(references: impl IntoIterator<Item = String>) -> Option<Self> {
        let mut references = references.into_iter();
        Some(Self { first: references.next()?, others: references.collect() })
    }

    /// A text, number or boolean of JSON, or a list of these; none if it is something else, or an empty list.
    pub fn of_json(value: &Value) -> Option<Self> {
        let one = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        match value {
            Value::Array(list) => Self::any_of(list.iter().map(one).collect::<Option<Vec<_>>>()?),
            value => one(value).map(Self::from),
        }
    }

    /// All references, the first in front.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.first.as_str()).chain(self.others.iter().map(String::as_str))
    }
}

impl Deref for Answer {
    type Target = str;

    fn deref(&self) -> &str {
        &self.first
    }
}

impl From<String> for Answer {
    fn from(first: String) -> Self {
        Self { first, others: Vec::new() }
    }
}

impl From<&str> for Answer {
    fn from(first: &str) -> Self {
        first.to_owned().into()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first)?;
        self.others.iter().try_for_each(|other| write!(f, " or {other}"))
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.others.is_empty() {
            true => serializer.serialize_str(&self.first),
            false => serializer.collect_seq(self.all()),
        }
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            One(String),
            Several(Vec<String>),
        }
        match Written::deserialize(deserializer)? {
            Written::One(text) => Ok(text.into()),
            Written::Several(texts) => {
                Self::any_of(texts).ok_or_else(|| serde::de::Error::custom("an answer without a reference"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reference_is_a_text_and_several_are_a_list_both_ways() {
        let one = Answer::from("1/2");
        let several = Answer::any_of(["1/2", "0.5"].map(str::to_owned)).unwrap();
        for (answer, json, shown) in [(one, r#""1/2""#, "1/2"), (several, r#"["1/2","0.5"]"#, "1/2 or 0.5")] {
            assert_eq!(serde_json::to_string(&answer).unwrap(), json);
            assert_eq!(serde_json::from_str::<Answer>(json).unwrap(), answer);
            assert_eq!(answer.to_string(), shown);
            assert_eq!(&*answer, "1/2");
        }
        let values = serde_json::json!([["1/2", 0.5, true], 2, [], {}, null, [[1]]]);
        let read = values.as_array().unwrap().iter().map(Answer::of_json);
        let shown = read.map(|answer| answer.map(|answer| answer.to_string())).collect::<Vec<_>>();
        assert_eq!(shown, [Some("1/2 or 0.5 or true".into()), Some("2".into()), None, None, None, None]);
        assert_eq!(Answer::any_of([]), None);
        assert!(
            serde_json::from_str::<Answer>("[]").unwrap_err().to_string().contains("without a reference")
        );
    }
}
