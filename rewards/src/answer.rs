//! What a completion gives as its answer.
//!
//! Before: a completion, with all its words. After: [`crate::NumericMatch`] and [`crate::ExactMatch`] compare the
//! answer with the reference. No place of the text is read more than a few times, so time is linear in its length,
//! whatever it says.

use serde::{Deserialize, Serialize};

use crate::number;

/// Where in a completion its answer stands.
///
/// What stands between `<think>` and `</think>` never counts. A block that is not closed gives no answer; if there is
/// only a `</think>`, because the chat template opened the block, what follows it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extract {
    /// In the last `\boxed{…}` or `\fbox{…}`. If that is not closed, there is no answer.
    Boxed,
    /// After the last `####`, up to the end of the line.
    Hash,
    /// The last number, with its sign, fraction and exponent: `-3`, `1,250`, `1/2`, `\frac{1}{2}`, `2.5 \times 10^3`.
    LastNumber,
    /// The whole text.
    Whole,
    /// [`Extract::Boxed`] if there is a box at all, else [`Extract::Hash`] if there is a `####`, else
    /// [`Extract::LastNumber`].
    #[default]
    Auto,
}

impl Extract {
    /// The answer without blanks around it, or `None` if there is none or it is blank.
    pub fn extract(self, completion: &str) -> Option<String> {
        let text = said(completion)?;
        let answer = match self {
            Self::Boxed => last_box(&text)?,
            Self::Hash => after_hash(&text),
            Self::LastNumber => last_number(&text),
            Self::Whole => Some(text.as_str()),
            Self::Auto => {
                last_box(&text).or_else(|| after_hash(&text).map(Some)).unwrap_or_else(|| last_number(&text))
            }
        };
        answer.map(str::trim).filter(|answer| !answer.is_empty()).map(str::to_owned)
    }
}

/// The completion without its thinking, or `None` if that was cut off.
fn said(completion: &str) -> Option<String> {
    const OPEN: &str = "<think>";
    const CLOSE: &str = "</think>";
    let (mut said, mut thinking, mut from) = (String::new(), false, 0);
    for (at, _) in completion.match_indices('<') {
        let tag = &completion[at..];
        if tag.starts_with(OPEN) && !thinking {
            said.push_str(&completion[from..at]);
            thinking = true;
        } else if tag.starts_with(CLOSE) {
            if !thinking {
                said.clear();
            }
            thinking = false;
            from = at + CLOSE.len();
        }
    }
    if thinking {
        return None;
    }
    said.push_str(&completion[from..]);
    Some(said)
}

/// What is in the box that was opened last: `None` if there is no box, `Some(None)` if it is not closed.
fn last_box(text: &str) -> Option<Option<&str>> {
    let content = |(at, _)| {
        let command: &str = &text[at..];
        let rest = command.strip_prefix(r"\boxed").or_else(|| command.strip_prefix(r"\fbox"))?;
        rest.trim_start().strip_prefix('{')
    };
    let content = text.match_indices('\\').filter_map(content).next_back()?;
    let (mut depth, mut escaped) = (0_usize, false);
    for (at, c) in content.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' if depth == 0 => return Some(Some(&content[..at])),
            '}' => depth -= 1,
            _ => {}
        }
    }
    Some(None)
}

fn after_hash(text: &str) -> Option<&str> {
    text.rsplit_once("####").map(|(_, answer)| answer.lines().next().unwrap_or_default())
}

fn last_number(text: &str) -> Option<&str> {
    let (mut last, mut at, mut before) = (None, 0, None);
    while let Some(c) = text[at..].chars().next() {
        // After a digit, a word or a bracket, a sign is an operator.
        let operator =
            number::is_sign(c) && before.is_some_and(|b: char| b.is_alphanumeric() || ")]}%".contains(b));
        let begins = c.is_ascii_digit() || c == '.' || c == '\\' || (number::is_sign(c) && !operator);
        let found = if begins { number::prefix_len(&text[at..]) } else { None };
        if let Some(len) = found {
            last = Some(&text[at..at + len]);
        }
        let step = found.unwrap_or(c.len_utf8());
        before = text[..at + step].chars().next_back();
        at += step;
    }
    last
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    const ALL: [Extract; 5] =
        [Extract::Boxed, Extract::Hash, Extract::LastNumber, Extract::Whole, Extract::Auto];

    fn check(extract: Extract, cases: &[(&str, Option<&str>)]) {
        for (text, wanted) in cases {
            assert_eq!(extract.extract(text).as_deref(), *wanted, "{text}");
        }
    }

    #[test]
    fn the_last_box_counts_with_balanced_braces() {
        check(
            Extract::Boxed,
            &[
                (r"So the total is \boxed{42}.", Some("42")),
                (r"First \boxed{5}. No, \boxed{6}.", Some("6")),
                (r"$\boxed{\frac{1}{2}}$", Some(r"\frac{1}{2}")),
                (r"\boxed{\sqrt{a_{1}^{2}+b}}", Some(r"\sqrt{a_{1}^{2}+b}")),
                (r"\fbox{18}", Some("18")),
                (r"\boxed{1} or \fbox{2}", Some("2")),
                (r"\boxed {7}", Some("7")),
                (r"\boxed{\{1,2\}}", Some(r"\{1,2\}")),
                (r"\boxed{\}}", Some(r"\}")),
                (r"\boxed{a\\}", Some(r"a\\")),
                (r"\boxed{\boxed{5}}", Some("5")),
                (r"\boxed{é ∞}", Some("é ∞")),
                (r"\boxed{}", None),
                (r"\boxed{ }", None),
                (r"\boxed{4", None),
                (r"\boxed{5} and \boxed{4", None),
                (r"\boxed{\boxed{\boxed{", None),
                (r"\boxed 5", None),
                ("5", None),
                ("", None),
            ],
        );
    }

    #[test]
    fn the_last_hash_counts_up_to_the_end_of_its_line() {
        check(
            Extract::Hash,
            &[
                ("6 times 7 is 42.\n#### 42", Some("42")),
                ("#### 41\n#### 42\nand so on", Some("42")),
                ("####42\r\nmore", Some("42")),
                ("#### a b ", Some("a b")),
                ("#### ", None),
                ("####\n42", None),
                ("### 42", None),
                ("42", None),
            ],
        );
    }

    #[test]
    fn the_last_number_is_whole() {
        check(
            Extract::LastNumber,
            &[
                ("The answer is 5.", Some("5")),
                ("The final answer is: $5$", Some("5")),
                ("Answer: -3", Some("-3")),
                ("Answer: −3", Some("−3")),
                ("So the answer is 1/2.", Some("1/2")),
                ("48 in April and 24 in May, so the answer is $72$ clips.", Some("72")),
                ("it costs $1,250.50!", Some("1,250.50")),
                ("it loses -$5", Some("-$5")),
                ("10-3", Some("3")),
                ("(1)-3", Some("3")),
                ("x^{2}-3", Some("3")),
                ("pages 10 - 12", Some("12")),
                ("5 -3", Some("-3")),
                (r"x = -\frac{3}{4}$", Some(r"-\frac{3}{4}")),
                (r"1-\frac34 x", Some(r"\frac34")),
                (r"about 2.5 \times 10^{3} m", Some(r"2.5 \times 10^{3}")),
                ("about 6.02e23 of them", Some("6.02e23")),
                ("the list 1, 2,3", Some("3")),
                ("1,2345", Some("2345")),
                ("half is .5", Some(".5")),
                ("wait... 7...", Some("7")),
                (r"7 \frac{x}{y}", Some("7")),
                (r"\frac{5", Some("5")),
                ("2 + 2 =", Some("2")),
                ("no number", None),
                ("-", None),
                ("", None),
            ],
        );
    }

    #[test]
    fn auto_asks_for_a_box_then_a_hash_then_a_number() {
        check(
            Extract::Auto,
            &[
                ("#### 1\n\\boxed{2} 3", Some("2")),
                ("#### 1\n3", Some("1")),
                ("1 3", Some("3")),
                (r"The answer is \boxed{4", None),
                (r"4 \boxed{}", None),
                ("4 ####", None),
                ("I cannot solve this problem.", None),
            ],
        );
    }

    #[test]
    fn whole_is_all_but_the_blanks_around_it() {
        check(Extract::Whole, &[(" a b\n", Some("a b")), (" \n", None), ("-77", Some("-77"))]);
    }

    #[test]
    fn thinking_never_counts() {
        check(
            Extract::Whole,
            &[
                ("<think>a</think>b", Some("b")),
                ("a<think>b</think>c<think>d</think>e", Some("ace")),
                ("<think>a<think>b</think>c", Some("c")),
                ("a</think>b", Some("b")),
                ("a</think>b<think>c</think>d", Some("bd")),
                ("a</think>b</think>c", Some("c")),
                ("<think>a", None),
                ("<think>a</think>b<think>c", None),
                ("<think>a</think>", None),
                ("a < b <thin", Some("a < b <thin")),
            ],
        );
        let cut_off = r"<think> Maybe \boxed{6}, #### 6, I should go on and";
        for extract in ALL {
            assert_eq!(extract.extract(cut_off), None);
        }
        check(Extract::Auto, &[("<think>\n\\boxed{5}? No.\n</think>\n\nIt is \\boxed{6}.", Some("6"))]);
    }

    fn pieces() -> impl Strategy<Value = String> {
        let pieces = [
            r"\boxed{",
            r"\fbox",
            "{",
            "}",
            "\\",
            "<think>",
            "</think>",
            "<",
            "####",
            "\n",
            " ",
            "-",
            "−",
            "+",
            "$",
            r"\$",
            ".",
            ",",
            "{,}",
            r"\,",
            "/",
            "e",
            "^",
            r"\times 10^{",
            r"\frac",
            r"\frac{",
            r"\tfrac12",
            r"\text{",
            "0",
            "7",
            "12",
            "234",
            "99999999999999999999999999999999999999999",
            "%",
            "é",
            "∞",
            "½",
            "٣",
        ];
        let piece = prop_oneof![4 => prop::sample::select(pieces.to_vec()).prop_map(str::to_owned), 1 => any::<String>()];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_text_gives_a_trimmed_piece_of_itself_or_nothing(text in pieces()) {
            for extract in ALL {
                let Some(answer) = extract.extract(&text) else { continue };
                prop_assert!(!answer.is_empty());
                prop_assert_eq!(answer.trim(), &answer);
                prop_assert!(text.contains("</think>") || text.contains(&answer));
                number::Number::parse(&answer);
            }
            number::Number::parse(&text);
        }

        #[test]
        fn a_number_that_was_found_is_found_again_whole(text in pieces()) {
            if let Some(found) = Extract::LastNumber.extract(&text) {
                prop_assert_eq!(Extract::LastNumber.extract(&found), Some(found));
            }
        }
    }

    #[test]
    fn time_is_linear_in_the_text() {
        let start = Instant::now();
        for (begin, piece) in [
            ("", r"\boxed{"),
            ("", r"\boxed "),
            ("", r"\boxed{}"),
            (r"\boxed{", r"\{"),
            ("", "<think>"),
            ("", "</think>"),
            ("", "<"),
            ("", "####"),
            ("", r"\frac{"),
            ("", r"\frac{1"),
            ("", r"1\frac{1"),
            (r"\frac{1", "1"),
            (r"1\frac{1}{", " "),
            (r"1\times 10^{", "1"),
            ("", "1"),
            ("", "1,"),
            ("", "1,000"),
            ("", "1/"),
            ("1/", " "),
            ("", "1 "),
            ("", "1e"),
            ("", "-"),
            ("", "$"),
            ("", "."),
            (r"5\text{", "a"),
        ] {
            let text = begin.to_owned() + &piece.repeat(1_000_000 / piece.len()) + " }";
            for extract in ALL {
                extract.extract(&text);
            }
            number::Number::parse(&text);
        }
        // 150 passes over a megabyte, some seconds; a single quadratic one takes minutes.
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    }
}
