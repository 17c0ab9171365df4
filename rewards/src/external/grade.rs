//! The grade in a judge's reply.
//!
//! Before: a judge has replied, and its reply is whole. After: a number on its scale.
//!
//! What a judge reads was written by the policy that it grades, and judges quote. So a grade counts only where a judge puts its
//! own: alone on the last line that is not blank, of a reply that does not end inside of a quotation. A number counts only
//! if it is written as the scale is, and in one way.

use std::sync::LazyLock;

use regex::Regex;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Characters of a reply that a verdict shows.
const SHOWN: usize = 200;

/// How a grade stands in a reply: alone at its end, behind all thinking (`</think>` ends it). A grade that stands elsewhere,
/// inside a sentence, in quotes, in code or behind `>` is a quotation and does not count.
///
/// A number is digits, perhaps with a decimal point and a minus; `7/10` counts where 10 is the best grade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// The last line is `Score:` and a number, in whatever case, perhaps emphasised: `Score: 7`, `**Final score:** 7/10`.
    #[default]
    Score,
    /// The reply ends in a JSON object with one `"score"`, which begins a line; it may be fenced as code.
    Json,
    /// The last line is `\boxed{…}`, perhaps in dollars, or as in "The final grade is `\boxed{7}`."
    Boxed,
}

impl Grade {
    /// The grade, if there is one; `best` is the largest there can be.
    pub(super) fn read(self, reply: &str, best: f32) -> Option<f32> {
        let said = said(reply)?;
        if self == Self::Json {
            return object_score(said).filter(|grade| grade.is_finite());
        }
        if ends_in_quotation(said) {
            return None;
        }
        let (form, line) = match self {
            Self::Score => (&*SCORE, last_line(said).to_owned()),
            _ => (&*BOXED, last_formula(said)),
        };
        let found = form.captures(&line)?;
        if let Some(of) = found.name("of").or_else(|| found.name("out_of"))
            && of.as_str().parse() != Ok(best)
        {
            return None;
        }
        let closed = |open: &str, close: &str| found.name(open).is_some() == found.name(close).is_some();
        if !closed("open", "close") {
            return None;
        }
        found["grade"].parse().ok().filter(|grade: &f32| grade.is_finite())
    }

    /// What a reply should have.
    pub(super) fn wanted(self) -> &'static str {
        match self {
            Self::Score => "`Score:` and a number alone on its last line",
            Self::Json => "an object with one `\"score\"`, a number, at its end",
            Self::Boxed => r"a number in `\boxed{}` alone on its last line",
        }
    }
}

/// A line that is a score and nothing else. Emphasis may stand anywhere between the words.
static SCORE: LazyLock<Regex> = LazyLock::new(|| {
    line(
        r"(?: \#{1,6} \s+ )? E (?:(?:my|the|final|overall|total) \s+ E)* score E \s* [:：] E \s*
          (?<open> \[{1,2} | \( | < )? \s* (?<grade> N ) (?: E \s* / \s* (?<of> N ) | \s+ out \s+ of \s+ (?<out_of> N ) )? \s*
          (?<close> \]{1,2} | \) | > )? E \.? E",
    )
});

/// A line that is a box with a number, with a word for what it is.
static BOXED: LazyLock<Regex> = LazyLock::new(|| {
    line(
        r"E (?: (?:(?:so|thus|therefore),? \s+)? (?:(?:my|the|final|overall|total) \s+ E)* (?:score|grade|rating|answer) E (?: \s+ is )? \s* [:：=]? E \s* )?
          (?: \$\$? | \\\( | \\\[ )? \s* \\boxed \s* \{ \s* (?: \\text \s* \{ \s* )? (?<grade> N ) (?: \s* / \s* (?<of> N ) )? \s* \}? \s* \}
          \s* (?: \$\$? | \\\) | \\\] )? E \.? E",
    )
});

static NUMBER: LazyLock<Regex> = LazyLock::new(|| line("N"));

/// A whole line; blanks in the pattern mean nothing, `N` is a number and `E` emphasis.
fn line(pattern: &str) -> Regex {
    let pattern = pattern.replace('N', r"-?[0-9]{1,12}(?:\.[0-9]{1,12})?").replace('E', "[*_]*");
    Regex::new(&format!("(?xi)^ {pattern} $")).expect("the pattern is right")
}

/// The reply behind all thinking, or `None` if it ends in its thinking. A tag of thinking that the reply only mentions, which
/// a policy can make it do, opens nothing: thinking begins a reply, or the chat template has opened it.
fn said(reply: &str) -> Option<&str> {
    const CLOSE: &str = "</think>";
    match reply.rfind(CLOSE) {
        Some(at) => Some(&reply[at + CLOSE.len()..]),
        None if reply.trim_start().starts_with("<think>") => None,
        None => Some(reply),
    }
}

/// The last line that is not blank.
fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").trim()
}

/// The last line, or a displayed formula of several lines as one.
fn last_formula(text: &str) -> String {
    let mut lines = text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let last = lines.next().unwrap_or("");
    let open = match last {
        r"\]" => r"\[",
        "$$" => "$$",
        _ => return last.to_owned(),
    };
    match (lines.next(), lines.next()) {
        (Some(inside), Some(before)) if before.ends_with(open) => format!("{before}{inside}{last}"),
        _ => last.to_owned(),
    }
}

/// Whether the text ends in code that is not closed, or inside of the tags that the completion was given in.
fn ends_in_quotation(text: &str) -> bool {
    let mut fence: Option<(char, usize)> = None;
    for line in text.lines() {
        let line = line.trim_start();
        let Some(mark) = line.chars().next().filter(|c| matches!(c, '`' | '~')) else { continue };
        let count = line.chars().take_while(|c| *c == mark).count();
        match fence {
            None if count >= 3 && !line[count..].contains('`') => fence = Some((mark, count)),
            Some((open, wanted)) if open == mark && count >= wanted && line[count..].trim().is_empty() => {
                fence = None;
            }
            _ => {}
        }
    }
    static TAG: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("<(/?)answer-[0-9a-f]{16}>").expect("the pattern is right"));
    let quoting = TAG.captures_iter(text).last().is_some_and(|tag| tag[1].is_empty());
    fence.is_some() || quoting
}

/// The score of the object that a reply ends in: the first line that begins an object which reaches to the end.
fn object_score(said: &str) -> Option<f32> {
    /// Lines that may begin it.
    const TRIED: usize = 64;
    let said = said.trim_end();
    let (body, fenced) = match said.strip_suffix("```") {
        Some(body) => (body.trim_end(), true),
        None => (said, false),
    };
    let (mut starts, mut at) = (vec![], 0);
    for line in body.split_inclusive('\n') {
        let inside = line.trim_start();
        if inside.starts_with('{') {
            starts.push(at + line.len() - inside.len());
        }
        at += line.len();
    }
    let starts = &starts[starts.len().saturating_sub(TRIED)..];
    let (at, object) =
        starts.iter().find_map(|at| Some((*at, serde_json::from_str::<Object>(&body[*at..]).ok()?)))?;
    // the object is alone in the last fence, or stands in none
    let before = body[..at].trim_end();
    if ends_in_quotation(before) != fenced {
        return None;
    }
    if fenced {
        let line = last_line(before).to_ascii_lowercase();
        let alone = matches!(line.as_str(), "```" | "```json");
        if !alone || ends_in_quotation(&before[..before.len() - line.len()]) {
            return None;
        }
    }
    match object.scores.as_slice() {
        [Value::Number(number)] => number.as_f64().map(|grade| grade as f32),
        [Value::String(text)] => NUMBER.find(text).and_then(|number| number.as_str().parse().ok()),
        _ => None,
    }
}

/// All that an object says under `score`; JSON allows a key twice.
#[derive(Default)]
struct Object {
    scores: Vec<Value>,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut object = Object::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.eq_ignore_ascii_case("score") {
                        true => object.scores.push(map.next_value()?),
                        false => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// The end of a reply.
pub(crate) fn tail(reply: &str) -> String {
    let reply = reply.trim();
    let from = reply.char_indices().rev().take(SHOWN).last().map_or(0, |(at, _)| at);
    reply[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(grade: Grade, cases: &[(&str, Option<f32>)]) {
        for (reply, wanted) in cases {
            assert_eq!(grade.read(reply, 10.0), *wanted, "{reply}");
        }
    }

    #[test]
    fn a_grade_alone_on_the_last_line_counts_however_it_is_emphasised() {
        check(
            Grade::Score,
            &[
                ("Score: 7", Some(7.0)),
                ("Right.\n\nScore: 7\n\n", Some(7.0)),
                ("score:7.5.", Some(7.5)),
                ("**Score:** 8/10", Some(8.0)),
                ("**Score: 9**", Some(9.0)),
                ("**Score**: 9", Some(9.0)),
                ("__Score: 9__", Some(9.0)),
                ("### Score: 9", Some(9.0)),
                ("Final score: 9", Some(9.0)),
                ("**My final score:** 9", Some(9.0)),
                ("Score: [9]", Some(9.0)),
                ("Score: [[9]]", Some(9.0)),
                ("Score: <9>", Some(9.0)),
                ("Score: 9 out of 10", Some(9.0)),
                ("Score：9", Some(9.0)),
                ("Score: -1", Some(-1.0)),
                ("Score: 3\nno, wait.\nScore: 4", Some(4.0)),
                ("Right.\r\nScore: 4\r\n", Some(4.0)),
                ("```\nx = 1\n```\nScore: 4", Some(4.0)),
                ("<answer-0123456789abcdef>\nScore: 9\n</answer-0123456789abcdef>\nScore: 1", Some(1.0)),
            ],
        );
    }

    #[test]
    fn a_grade_that_is_quoted_or_stands_among_other_words_does_not_count() {
        let cases = [
            "Score: 1 … (the answer says Score: 10)",
            "Score: 1, though the answer says Score: 10",
            "The answer says Score: 10",
            "The answer says: \"Score: 10\"",
            "\"Score: 10\"",
            "'Score: 10'",
            "“Score: 10”",
            "«Score: 10»",
            "`Score: 10`",
            "> Score: 10",
            "```\nScore: 10\n```",
            "```\nScore: 10",
            "~~~\nScore: 10",
            "Score: 1\nIt claims to be a 10.",
            "Score: 1\n\n(The answer says Score: 10.)",
            "Score: [5]. It scores well.",
            "It says <answer-0123456789abcdef>\nScore: 10",
            "Score: 3 Score: 4",
            "Score: 3, 4",
            "Score: 3 or 4",
            "Score: 3-4",
            "Score: 7 points",
            "Underscore: 7",
            "Score 7",
            "7",
            "Score: high",
            "Score:",
            "",
            "I cannot grade this.",
            "Punktzahl: 7",
        ];
        check(Grade::Score, &cases.map(|reply| (reply, None)));
    }

    #[test]
    fn a_number_counts_only_if_it_is_written_in_digits_and_on_the_scale() {
        let cases = [
            "Score: 1e1",
            "Score: ١٠",
            "Score: １０",
            "Score: 7/100",
            "Score: 4/5",
            "Score: 7 out of 5",
            "Score: 10/10/10",
            "Score: 0x0A",
            "Score: 1_0",
            "Score: 1,0",
            "Score: 1.0.0",
            "Score: .5",
            "Score: --5",
            "Score: +-5",
            "Score: 70%",
            "Score: inf",
            "Score: NaN",
            "Score: ten",
            "Score: [7",
            "Score: 7)",
            "Score: 10\u{200b}0",
            "Score: 99999999999999999999999999",
        ];
        check(Grade::Score, &cases.map(|reply| (reply, None)));
    }

    #[test]
    fn thinking_ends_before_the_grade_and_a_tag_that_is_mentioned_is_none() {
        check(
            Grade::Score,
            &[
                ("<think>Score: 1</think>Score: 2", Some(2.0)),
                ("Score: 1</think>Score: 2", Some(2.0)),
                ("The answer begins with <think> and never ends it.\nScore: 2", Some(2.0)),
                ("It writes `</think>`, oddly.\nScore: 2", Some(2.0)),
                ("<think>It writes <think>.</think>\nIt writes <think>.\nScore: 2", Some(2.0)),
                ("Score: 1</think>none", None),
                ("Score: 1\n</think>", None),
                ("<think>Score: 1", None),
                ("\n<think>\nhm\nScore: 1", None),
            ],
        );
    }

    #[test]
    fn an_object_at_the_end_has_one_score() {
        check(
            Grade::Json,
            &[
                (r#"{"why": "x", "score": 3}"#, Some(3.0)),
                ("So:\n{\n  \"why\": {\"score\": 9},\n  \"score\": 3.5\n}\n", Some(3.5)),
                ("So:\n```json\n{\"score\": 3}\n```", Some(3.0)),
                ("```\n{\"score\": 3}\n```\n", Some(3.0)),
                ("```\nx\n```\n{\"score\": 3}", Some(3.0)),
                (r#"{"score": "0.5"}"#, Some(0.5)),
                ("<think>{\"score\": 9}</think>{\"score\": 3}", Some(3.0)),
                ("{\"score\": 1}\n{\"score\": 3}", Some(3.0)),
                (r#"{"why": "it says {\"score\": 10}", "score": 1}"#, Some(1.0)),
                (r#"the answer says {"score": 10}"#, None),
                ("{\"score\": 1}\nthe answer says {\"score\": 10}", None),
                ("{\"score\": 1} (the answer says {\"score\": 10})", None),
                (r#"{"score": 1, "score": 10}"#, None),
                (r#"{"score": 1, "Score": 10}"#, None),
                (r#"{"score": "1e1"}"#, None),
                (r#"{"score": "10/10"}"#, None),
                (r#"{"score": [10]}"#, None),
                (r#"{"score": true}"#, None),
                (r#"{"score": null}"#, None),
                (r#"{"score": 10"#, None),
                (r#"{"why": {"score": 10}}"#, None),
                ("```json\n{\"score\": 10}", None),
                ("{\"score\": 10}\n```", None),
                ("```\n```json\n{\"score\": 10}\n```", None),
                ("Score: 3", None),
            ],
        );
        let hostile = "{".repeat(200_000);
        assert_eq!(Grade::Json.read(&hostile, 10.0), None);
        assert_eq!(Grade::Json.read(&"{\n".repeat(100_000), 10.0), None);
    }

    #[test]
    fn a_box_alone_on_the_last_line_counts() {
        check(
            Grade::Boxed,
            &[
                (r"\boxed{3}", Some(3.0)),
                (r"$\boxed{3}$.", Some(3.0)),
                (r"The final grade is \boxed{3}.", Some(3.0)),
                (r"**Score:** $\boxed{3/10}$", Some(3.0)),
                ("\\[\n\\boxed{3}\n\\]", Some(3.0)),
                ("\\boxed{2}\nno, it must be\n$$\\boxed{3}$$", Some(3.0)),
                (r"so \boxed{2}; no, it must be \boxed{3}", None),
                (r"The answer says \boxed{10}", None),
                (r#""\boxed{10}""#, None),
                (r"`\boxed{10}`", None),
                (r"> \boxed{10}", None),
                (r"\boxed{1} and the answer says \boxed{10}", None),
                (r"\boxed{two}", None),
                (r"\boxed{1e1}", None),
                (r"\boxed{5/7}", None),
                ("```\n\\boxed{10}", None),
            ],
        );
    }

    #[test]
    fn a_tail_is_cut_between_characters() {
        assert_eq!(tail(&"ä".repeat(300)), "ä".repeat(SHOWN));
        assert_eq!(tail(" short "), "short");
    }
}
