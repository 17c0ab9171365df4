//! What a completion gives as its answer.
//!
//! Before: a completion, with all its words. After: [`crate::Math`] and [`crate::ExactMatch`] compare the answer with the
//! reference. No place of the text is read more than a few times, so time is linear in its length, whatever it says.

mod boxes;
mod choice;
mod last;
mod phrase;
mod spans;

use data::Rollout;
use serde::{Deserialize, Serialize};

/// A place where the answer may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In the last `\boxed{…}` or `\fbox{…}`; if that is not closed, there is no answer. Boxes with nothing but commas or
    /// "and" between are one answer.
    Boxed,
    /// After the last `####` that begins no heading, up to the end of the line, without words that comment on it.
    Hash,
    /// After the last "answer is", "answer:" or "answer =", or below a heading "Answer", up to the end of the sentence: a
    /// formula if there is one, else an expression among words, else the words. Words that comment on it ("84, in total")
    /// or say what it is the value of ("the largest $n$ is 34") are left out.
    Phrase,
    /// The last capital letter from A to J that stands alone: `(C)`, `C.`, `option C`.
    Choice,
    /// The last expression that is more than a name: `\sqrt{2}` of "the side is $\sqrt{2}$", `12 cm^2`, `5x + 2`, `(3, 4)`. One
    /// that lacks its end, such as `2 + 2 =`, is no answer. In a completion that was cut off there is none, as what
    /// stands last there is a step of the work.
    LastExpression,
    /// The last number, with its sign, fraction and exponent: `-3`, `1,250`, `1/2`, `\frac{1}{2}`, `2.5 \times 10^3`; even
    /// inside an expression, and in a completion that was cut off.
    LastNumber,
    /// The whole text.
    Whole,
}

/// Where in a completion its answer stands: the first of these places that is there at all decides, even if it is blank.
///
/// In a recipe: one place, such as `"boxed"`, a list of them, or `"auto"`, which is
/// `["boxed", "hash", "phrase", "last_expression"]`. With both `"boxed"` and `"phrase"`, a "final answer is" behind the last box
/// goes before it.
///
/// `"phrase"` and `"last_expression"` look into the last `<answer>…</answer>` alone, if there is one.
///
/// Of a completion that was cut off by its token budget, `"hash"` and `"phrase"` leave out the last sentence, which may have been
/// cut in the middle of a number.
///
/// What stands between `<think>` and `</think>` never counts. A block that is not closed gives no answer; if there is
/// only a `</think>`, because the chat template opened the block, what follows it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "Written", into = "Written")]
pub struct Extract(Vec<Place>);

#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
enum Written {
    One(String),
    Several(Vec<Place>),
}

impl TryFrom<Written> for Extract {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::One(name) if name == "auto" => Ok(Self::default()),
            Written::One(name) => {
                let place = serde_json::from_value(serde_json::Value::String(name));
                Ok(Self(vec![place.map_err(|error| {
                    error.to_string().replace("expected one of", "wanted `auto` or one of")
                })?]))
            }
            Written::Several(places) if places.is_empty() => {
                Err("no place to look for the answer, wanted one".into())
            }
            Written::Several(places) => Ok(Self(places)),
        }
    }
}

impl From<Extract> for Written {
    fn from(extract: Extract) -> Self {
        match extract.0.as_slice() {
            _ if extract == Extract::default() => Self::One("auto".into()),
            [place] => match serde_json::to_value(place) {
                Ok(serde_json::Value::String(name)) => Self::One(name),
                _ => Self::Several(extract.0),
            },
            _ => Self::Several(extract.0),
        }
    }
}

impl Default for Extract {
    fn default() -> Self {
        Self(vec![Place::Boxed, Place::Hash, Place::Phrase, Place::LastExpression])
    }
}

impl From<Place> for Extract {
    fn from(place: Place) -> Self {
        Self(vec![place])
    }
}

impl Extract {
    /// The answer of a completion that ended by itself, without blanks around it, or `None` if there is none or it is blank.
    pub fn extract(&self, completion: &str) -> Option<String> {
        self.find(completion, false)
    }

    /// The answer of a rollout, as [`Extract::extract`] finds it; less counts if its token budget cut it off.
    pub fn of(&self, rollout: &Rollout) -> Option<String> {
        self.find(&rollout.text, rollout.truncated())
    }

    fn find(&self, completion: &str, cut_off: bool) -> Option<String> {
        let text = said(completion)?;
        let (place, answer) = self.0.iter().find_map(|place| Some((place, place.find(&text, cut_off)?)))?;
        let answer = match place {
            Place::Boxed if self.0.contains(&Place::Phrase) => final_phrase(&text, cut_off).or(answer),
            _ => answer,
        };
        Some(answer?.trim().to_owned()).filter(|answer| !answer.is_empty())
    }
}

/// What follows a "final answer is" behind the last box.
fn final_phrase(text: &str, cut_off: bool) -> Option<String> {
    let (at, _) = boxes::last(text)?;
    phrase::last_final(finished(text, cut_off), at).map(str::to_owned)
}

/// What is in the last `<answer>…</answer>`, if there is one, else all of the text.
fn answer_block(text: &str) -> &str {
    let block = text.rsplit_once("</answer>").and_then(|(before, _)| before.rsplit_once("<answer>"));
    block.map_or(text, |(_, inside)| inside)
}

/// The text without the sentence that was cut off.
fn finished(text: &str, cut_off: bool) -> &str {
    if !cut_off {
        return text;
    }
    let ends = [". ", ".\n", "? ", "! ", "\n"];
    let end = ends.iter().filter_map(|end| Some(text.rfind(end)? + end.len())).max();
    &text[..end.unwrap_or(0)]
}

/// An answer as a verdict shows it: of a long one, the beginning.
pub(crate) fn shown(answer: Option<String>) -> Option<String> {
    /// Characters.
    const SHOWN: usize = 500;
    answer.map(|answer| match answer.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &answer[..at]),
        None => answer,
    })
}

impl Place {
    /// The answer at this place, without blanks around it.
    pub fn extract(self, completion: &str) -> Option<String> {
        Extract::from(self).extract(completion)
    }

    /// `None` if the place is not there, `Some(None)` if it is and holds no answer.
    fn find(self, text: &str, cut_off: bool) -> Option<Option<String>> {
        let whole = |found: Option<&str>| found.map(|answer| Some(answer.to_owned()));
        match self {
            Self::Boxed => boxes::last(text).map(|(_, answer)| answer),
            Self::Hash => whole(phrase::after_hash(finished(text, cut_off))),
            Self::Phrase => whole(phrase::last(finished(answer_block(text), cut_off))),
            Self::Choice => whole(choice::last(text)),
            Self::LastExpression if cut_off => None,
            Self::LastExpression => {
                last::expression(answer_block(text)).map(|found| found.map(str::to_owned))
            }
            Self::LastNumber => whole(last::number(text)),
            Self::Whole => Some(Some(text.to_owned())),
        }
    }
}

/// The completion without its thinking, or `None` if that was cut off.
pub(crate) fn said(completion: &str) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    const PLACES: [Place; 7] = [
        Place::Boxed,
        Place::Hash,
        Place::Phrase,
        Place::Choice,
        Place::LastExpression,
        Place::LastNumber,
        Place::Whole,
    ];

    fn all() -> Vec<Extract> {
        PLACES.into_iter().map(Extract::from).chain([Extract::default()]).collect()
    }

    fn check(extract: impl Into<Extract>, cases: &[(&str, Option<&str>)]) {
        let extract = extract.into();
        for (text, wanted) in cases {
            assert_eq!(extract.extract(text).as_deref(), *wanted, "{text}");
        }
    }

    #[test]
    fn the_last_box_counts_with_balanced_braces() {
        check(
            Place::Boxed,
            &[
                (r"So the total is \boxed{42}.", Some("42")),
                (r"First \boxed{5}. No, \boxed{6}.", Some("6")),
                (r"$\boxed{\frac{1}{2}}$", Some(r"\frac{1}{2}")),
                (r"\boxed{\sqrt{a_{1}^{2}+b}}", Some(r"\sqrt{a_{1}^{2}+b}")),
                (r"\fbox{18}", Some("18")),
                (r"\boxed{1} or \fbox{2}", Some("2")),
                (r"$\boxed{1}$ and $\boxed{2}$", Some("1, 2")),
                (r"\boxed{1}, \boxed{1}", Some("1")),
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
                (r"$\boxed 5$", Some("5")),
                (r"\boxed x", None),
                ("5", None),
                ("", None),
            ],
        );
    }

    #[test]
    fn the_last_hash_counts_up_to_the_end_of_its_line() {
        check(
            Place::Hash,
            &[
                ("6 times 7 is 42.\n#### 42", Some("42")),
                ("#### 41\n#### 42\nand so on", Some("42")),
                ("####42\r\nmore", Some("42")),
                ("#### a b ", Some("a b")),
                ("#### ", None),
                ("####\n42", None),
                ("#### Final Answer\n42", None),
                ("#### 42\n#### Check\n6 times 7", Some("42")),
                ("#### 42 (forty-two)", Some("42")),
                ("##### 42", None),
                ("### 42", None),
                ("42", None),
            ],
        );
    }

    #[test]
    fn the_last_number_is_whole() {
        check(
            Place::LastNumber,
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
    fn the_last_expression_is_whole_and_more_than_a_name() {
        check(
            Place::LastExpression,
            &[
                (r"The side is $\sqrt{2}$.", Some(r"\sqrt{2}")),
                ("The area is 12 cm^2.", Some("12 cm^2")),
                ("It simplifies to 5x + 2, of course.", Some("5x + 2")),
                ("The point is (3, 4).", Some("(3, 4)")),
                ("The largest $n$ is 34", Some("34")),
                ("So 34 is the value of $n$.", Some("34")),
                ("It costs $5 and $7.", Some("$7")),
                ("It is 34.\n\nThat is all.\nBye", Some("34")),
                ("nothing\n\nhere\n", None),
                ("So\n\\[\nx = 2\n\\]", Some("x = 2")),
                ("in 2020, 12 people", Some("12")),
                ("the roots are 1, 2, 3.", Some("1, 2, 3")),
                ("3 hours and 30 minutes", Some("3 hours and 30 minutes")),
                ("2 + 2 =", None),
                ("no number", None),
                ("", None),
            ],
        );
    }

    #[test]
    fn of_a_completion_that_was_cut_off_only_what_is_complete_counts() {
        let of = |extract: Extract, text: &str| {
            let cut_off = Rollout { stop: data::StopReason::Length, ..crate::testing::rollout(text, None) };
            (extract.extract(text), extract.of(&cut_off))
        };
        let some = |text: &str| Some(text.to_owned());
        let auto = || Extract::default();
        assert_eq!(of(auto(), "First, 2 + 2 = 4. Then 12"), (some("12"), None));
        assert_eq!(of(auto(), "#### 12"), (some("12"), None));
        assert_eq!(of(auto(), "#### 12\nCheck:"), (some("12"), some("12")));
        assert_eq!(of(auto(), "The answer is 12"), (some("12"), None));
        assert_eq!(of(auto(), "The answer is 12. I"), (some("12"), some("12")));
        assert_eq!(of(auto(), r"\boxed{12} and"), (some("12"), some("12")));
        assert_eq!(of(Place::LastExpression.into(), "we get 12"), (some("12"), None));
        // asked for by name
        assert_eq!(of(Place::LastNumber.into(), "we get 12"), (some("12"), some("12")));
        let both = Extract(vec![Place::Boxed, Place::LastNumber]);
        assert_eq!(of(both, "we get 12"), (some("12"), some("12")));
    }

    #[test]
    fn a_final_answer_behind_the_last_box_goes_before_it() {
        let revised = "\\boxed{10,000}. But wait.\n\nThe final answer is 10,455.";
        check(Extract::default(), &[(revised, Some("10,455")), (r"\boxed{7}. The answer is 8.", Some("7"))]);
        check(Place::Boxed, &[(revised, Some("10,000"))]);
    }

    #[test]
    fn auto_asks_for_a_box_then_a_hash_then_an_expression() {
        check(
            Extract::default(),
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
        check(Place::Whole, &[(" a b\n", Some("a b")), (" \n", None), ("-77", Some("-77"))]);
    }

    #[test]
    fn thinking_never_counts() {
        check(
            Place::Whole,
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
        for extract in all() {
            assert_eq!(extract.extract(cut_off), None);
        }
        check(Extract::default(), &[("<think>\n\\boxed{5}? No.\n</think>\n\nIt is \\boxed{6}.", Some("6"))]);
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
            for extract in all() {
                let Some(answer) = extract.extract(&text) else { continue };
                prop_assert!(!answer.is_empty());
                prop_assert_eq!(answer.trim(), &answer);
                prop_assert!(text.contains("</think>") || text.contains(&answer));
            }
            crate::math::equal("7", &text);
        }

        #[test]
        fn a_number_that_was_found_is_found_again_whole(text in pieces()) {
            if let Some(found) = Extract::from(Place::LastNumber).extract(&text) {
                prop_assert_eq!(Extract::from(Place::LastNumber).extract(&found), Some(found));
            }
        }
    }

    #[test]
    fn phrases_and_choices_are_found() {
        check(
            Place::Phrase,
            &[
                ("The answer is 5.", Some("5")),
                ("The final answer is: $x^2$. I hope it is correct.", Some("x^2")),
                ("So the answer is $72$ clips.", Some("72")),
                ("The answers are $x=2$ and $x=3$.", Some("x=2$ and $x=3")),
                ("Answer: **B**", Some("B")),
                ("the answer is that he has 5 of them left", Some("5")),
                ("The answer is 5 because 2+3=5", Some("5")),
                ("The answer is\n42", Some("42")),
                ("The answer is 6. No, the answer is 7.", Some("7")),
                ("The answer is no solution.", Some("no solution")),
                ("The answer is 84, in total.", Some("84")),
                ("The answer is 84 (even).", Some("84")),
                ("The answer: the largest $n$ is 34.", Some("34")),
                ("**Final Answer**\n84", Some("84")),
                ("The answer is _7_.", Some("7")),
                ("I have no answer", None),
                ("answer is", None),
            ],
        );
        check(
            Place::Choice,
            &[
                ("So (C) is right.", Some("C")),
                ("Not A, but B.", Some("B")),
                ("A bus has 4 wheels, I think", None),
                ("x_A = B'", None),
            ],
        );
    }

    #[test]
    fn places_are_written_as_one_or_several() {
        let read = |json: &str| serde_json::from_str::<Extract>(json);
        assert_eq!(read(r#""auto""#).unwrap(), Extract::default());
        assert_eq!(read(r#""boxed""#).unwrap(), Place::Boxed.into());
        assert_eq!(read(r#"["boxed", "choice"]"#).unwrap(), Extract(vec![Place::Boxed, Place::Choice]));
        for text in [r#""auto""#, r#""last_number""#, r#"["choice","whole"]"#] {
            assert_eq!(serde_json::to_string(&read(text).unwrap()).unwrap(), text);
        }
        let error = read(r#""box""#).unwrap_err().to_string();
        assert!(error.contains("unknown variant `box`, wanted `auto` or one of"), "{error}");
        assert!(read("[]").unwrap_err().to_string().contains("wanted one"));
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
            ("", "answer is "),
            ("", "answer: 5. "),
            ("the answer is ", "$1$, "),
            ("the answer is ", "a. "),
            ("", "(A) "),
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
            let text = begin.to_owned() + &piece.repeat(400_000 / piece.len()) + " }";
            for extract in all() {
                extract.extract(&text);
            }
            crate::math::equal("7", &text);
        }
        // 240 passes over 400 kB, a second or two; a single quadratic one takes minutes.
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    }
}
