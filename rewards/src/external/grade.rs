//! The grade in a judge's reply.
//!
//! Before: a judge has replied. After: a number on its scale.

use serde::{Deserialize, Serialize};

use crate::Place;

/// Characters of a reply that a verdict shows.
const SHOWN: usize = 200;

/// How a grade stands in a reply. The last one counts, and nothing that stands in thinking (`</think>` ends it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// The number after the last `Score:`, in whatever case: `Score: 7`, `**Score:** 7/10`.
    #[default]
    Score,
    /// The number of the last `"score"` in JSON.
    Json,
    /// In the last `\boxed{…}`.
    Boxed,
}

impl Grade {
    /// The grade, if there is one.
    pub(super) fn read(self, reply: &str) -> Option<f32> {
        let said = Place::Whole.extract(reply)?;
        let number = match self {
            Self::Boxed => {
                return Place::Boxed.extract(&said)?.parse().ok().filter(|grade: &f32| grade.is_finite());
            }
            Self::Score => after_last(&said, "score")?,
            Self::Json => after_last(&said, "\"score\"")?,
        };
        let end =
            number.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-')).unwrap_or(number.len());
        number[..end].trim_end_matches(['.', '-']).parse().ok().filter(|grade: &f32| grade.is_finite())
    }

    /// What a reply should have.
    pub(super) fn wanted(self) -> &'static str {
        match self {
            Self::Score => "`Score:` and a number",
            Self::Json => "`\"score\":` and a number",
            Self::Boxed => r"a number in `\boxed{}`",
        }
    }
}

/// What follows the last of a word that has a colon after it, without what is wrapped around a number.
fn after_last<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let lower = text.to_ascii_lowercase();
    let dressing = |c: char| c.is_whitespace() || matches!(c, '*' | '_' | '`' | '"' | '[' | '(');
    let after = |(at, _): (usize, &str)| {
        text[at + word.len()..].trim_start_matches(['*', '_', ' ', '"']).strip_prefix(':')
    };
    lower.rmatch_indices(word).find_map(after).map(|rest| rest.trim_start_matches(dressing))
}

/// The end of a reply.
pub(super) fn tail(reply: &str) -> String {
    let reply = reply.trim();
    let from = reply.char_indices().rev().take(SHOWN).last().map_or(0, |(at, _)| at);
    reply[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_grade_counts_however_it_is_dressed() {
        for (reply, grade) in [
            ("Score: 7", Some(7.0)),
            ("score:7.5.", Some(7.5)),
            ("**Score:** 8/10", Some(8.0)),
            ("**Score: 9**", Some(9.0)),
            ("Score: -1", Some(-1.0)),
            ("Score: 3\nno, wait.\nScore: 4", Some(4.0)),
            ("Score: [5]. It scores well.", Some(5.0)),
            ("<think>Score: 1</think>Score: 2", Some(2.0)),
            ("Score: 1</think>Score: 2", Some(2.0)),
            ("Score: 1</think>none", None),
            ("<think>Score: 1", None),
            ("7", None),
            ("Score: high", None),
            ("Score:", None),
            ("", None),
        ] {
            assert_eq!(Grade::Score.read(reply), grade, "{reply}");
        }
        assert_eq!(Grade::Json.read(r#"so {"why": "x", "score": 3}"#), Some(3.0));
        assert_eq!(Grade::Json.read(r#"{"score": "0.5"}"#), Some(0.5));
        assert_eq!(Grade::Json.read(r#"Score: 3"#), None);
        assert_eq!(Grade::Boxed.read(r"so \boxed{2}; no, it must be \boxed{3}"), Some(3.0));
        assert_eq!(Grade::Boxed.read(r"\boxed{two}"), None);
    }

    #[test]
    fn a_tail_is_cut_between_characters() {
        assert_eq!(tail(&"ä".repeat(300)), "ä".repeat(SHOWN));
        assert_eq!(tail(" short "), "short");
    }
}
