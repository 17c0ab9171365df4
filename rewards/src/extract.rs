//! What a completion gives as its answer.
//!
//! Before: a completion, with all its words. After: [`crate::Math`] and [`crate::ExactMatch`] compare the answer with the
//! reference. No place of the text is read more than a few times, so time is linear in its length, whatever it says.

use serde::{Deserialize, Serialize};

use crate::scan;

/// A place where the answer may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In the last `\boxed{…}` or `\fbox{…}`; if that is not closed, there is no answer. Boxes with nothing but commas or
    /// "and" between are one answer.
    Boxed,
    /// After the last `####`, up to the end of the line.
    Hash,
    /// After the last "answer is", "answer:" or "answer =", up to the end of the sentence: a formula if there is one, else
    /// a number among words, else the words.
    Phrase,
    /// The last capital letter from A to J that stands alone: `(C)`, `C.`, `option C`.
    Choice,
    /// The last number, with its sign, fraction and exponent: `-3`, `1,250`, `1/2`, `\frac{1}{2}`, `2.5 \times 10^3`.
    LastNumber,
    /// The whole text.
    Whole,
}

/// Where in a completion its answer stands: the first of these places that is there at all decides, even if it is blank.
///
/// In a recipe: one place, such as `"boxed"`, a list of them, or `"auto"`, which is
/// `["boxed", "hash", "phrase", "last_number"]`.
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
        Self(vec![Place::Boxed, Place::Hash, Place::Phrase, Place::LastNumber])
    }
}

impl From<Place> for Extract {
    fn from(place: Place) -> Self {
        Self(vec![place])
    }
}

impl Extract {
    /// The answer without blanks around it, or `None` if there is none or it is blank.
    pub fn extract(&self, completion: &str) -> Option<String> {
        let text = said(completion)?;
        let answer = self.0.iter().find_map(|place| place.find(&text))??;
        Some(answer.trim().to_owned()).filter(|answer| !answer.is_empty())
    }
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
    fn find(self, text: &str) -> Option<Option<String>> {
        let whole = |found: Option<&str>| found.map(|answer| Some(answer.to_owned()));
        match self {
            Self::Boxed => boxes(text),
            Self::Hash => whole(after_hash(text)),
            Self::Phrase => phrase(text).map(Some),
            Self::Choice => whole(choice(text)),
            Self::LastNumber => whole(last_number(text)),
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

/// What is in the box that was opened last, joined with those right before it.
fn boxes(text: &str) -> Option<Option<String>> {
    /// Boxes that are taken for one answer.
    const TOGETHER: usize = 16;
    let openers: Vec<Opener> = text.match_indices('\\').filter_map(|(at, _)| Opener::at(text, at)).collect();
    let last = openers.last()?;
    let Some(content) = last.content(&text[last.inside..]) else { return Some(None) };
    let (mut found, mut start) = (vec![content], last.at);
    for opener in openers.iter().rev().skip(1).take(TOGETHER) {
        let Some(content) = opener.content(&text[opener.inside..start]) else { break };
        let end = opener.inside + content.len() + usize::from(opener.braced);
        if !text.get(end..start).is_some_and(joins) {
            break;
        }
        if !found.contains(&content) {
            found.push(content);
        }
        start = opener.at;
    }
    found.reverse();
    Some(Some(found.join(", ")))
}

/// A `\boxed` or `\fbox`: where it is and where its content begins.
struct Opener {
    at: usize,
    inside: usize,
    /// Or else `\boxed 5`, which holds one number.
    braced: bool,
}

impl Opener {
    fn at(text: &str, at: usize) -> Option<Self> {
        let command = &text[at..];
        let rest = command.strip_prefix(r"\boxed").or_else(|| command.strip_prefix(r"\fbox"))?;
        let content = rest.trim_start();
        let (inside, braced) = match content.strip_prefix('{') {
            Some(inside) => (inside, true),
            None => (content, false),
        };
        let there = braced || rest.len() > content.len() && scan::number_len(content).is_some();
        there.then(|| Self { at, inside: text.len() - inside.len(), braced })
    }

    /// Up to the closing brace.
    fn content<'a>(&self, text: &'a str) -> Option<&'a str> {
        if !self.braced {
            return scan::number_len(text).map(|len| &text[..len]);
        }
        let (mut depth, mut escaped) = (0_usize, false);
        for (at, c) in text.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '{' => depth += 1,
                '}' if depth == 0 => return Some(&text[..at]),
                '}' => depth -= 1,
                _ => {}
            }
        }
        None
    }
}

/// Whether two boxes with this between them are one answer.
fn joins(between: &str) -> bool {
    if between.len() > 60 {
        return false;
    }
    let mut rest = between.to_owned();
    for word in [r"\text", r"\quad", r"\qquad", r"\mbox", "and", r"\,", r"\;", r"\ ", "&"] {
        rest = rest.replace(word, " ");
    }
    rest.chars().all(|c| c.is_whitespace() || "$,;{}()[]\\".contains(c)) && !between.contains("\n\n")
}

fn after_hash(text: &str) -> Option<&str> {
    text.rsplit_once("####").map(|(_, answer)| answer.lines().next().unwrap_or_default())
}

/// After the last "answer is" that something follows.
fn phrase(text: &str) -> Option<String> {
    let mut last = None;
    for (at, _) in text.match_indices("nswer") {
        if !text[..at].ends_with(['a', 'A']) {
            continue;
        }
        // only where it begins, as a line may be as long as the text and have many of these
        let from = at + "nswer".len();
        last = follows(&text[from..]).map(|skipped| from + skipped).or(last);
    }
    last.map(|from| answer_of(text[from..].lines().next().unwrap_or_default().trim()))
}

/// Where the answer begins behind "answer", if a verb or a colon is between.
fn follows(rest: &str) -> Option<usize> {
    /// Characters between "answer" and its verb.
    const NEAR: usize = 60;
    let near = rest.char_indices().nth(NEAR).map_or(rest, |(at, _)| &rest[..at]);
    let near = near.split(['\n', '.', '?', '!']).next().unwrap_or_default();
    let verbs = [" is:", " is", " are", " be", " equals", ":", " ="];
    let (at, verb) = verbs.iter().filter_map(|verb| Some((find_word(near, verb)?, verb))).min()?;
    let piece = rest[at + verb.len()..].trim_start_matches(|c: char| c.is_whitespace() || ":*".contains(c));
    (!piece.is_empty()).then_some(rest.len() - piece.len())
}

/// The first place of a verb that is no part of a longer word.
fn find_word(text: &str, verb: &str) -> Option<usize> {
    text.match_indices(verb).map(|(at, _)| at).find(|at| {
        let next = text[at + verb.len()..].chars().next();
        !verb.ends_with(char::is_alphabetic) || next.is_none_or(|c| !c.is_alphanumeric())
    })
}

/// The answer in the words behind "the answer is".
fn answer_of(piece: &str) -> String {
    /// More words than a unit and a joint have are a sentence.
    const WORDS: usize = 3;
    if let Some(formula) = formula(piece) {
        return formula.to_owned();
    }
    let mut piece = sentence(piece).trim_matches(|c: char| c.is_whitespace() || "*\"'`".contains(c));
    for word in
        ["therefore ", "thus ", "simply ", "just ", "now ", "then ", "equal to ", "approximately ", "about "]
    {
        piece = piece.strip_prefix(word).unwrap_or(piece);
    }
    // what is hedged or taken back is not for picking a number out of
    const HEDGES: [&str; 12] = [
        " or ",
        "not ",
        "less than",
        "more than",
        "greater than",
        "at least",
        "at most",
        "between ",
        "either ",
        "minus ",
        " plus ",
        "to the power",
    ];
    let lower = piece.to_lowercase();
    if HEDGES.iter().any(|hedge| lower.contains(hedge)) {
        return piece.to_owned();
    }
    let words = piece.split_whitespace().filter(|word| {
        let letters = word.chars().filter(|c| c.is_alphabetic()).count();
        letters > 1 && !word.contains('\\')
    });
    let words = words.count();
    let begins = piece.starts_with(|c: char| c.is_ascii_digit() || "-−$\\.(".contains(c));
    if begins
        && (words >= WORDS || !crate::math::readable(piece))
        && let Some(len) = scan::number_len(piece)
    {
        // 3^{100} is not 3, nor is 2 million 2
        let rest = piece[len..].trim_start();
        let ends =
            rest.is_empty() || rest.len() < piece.len() - len || rest.starts_with([',', ';', '%', ')']);
        let scaled =
            ["hundred", "thousand", "million", "billion", "trillion", "dozen", "+", "-", "*", "/", "^", ","];
        if ends && !scaled.iter().any(|word| rest.starts_with(word)) {
            return piece[..len].to_owned();
        }
        return piece.to_owned();
    }
    match last_number(piece).filter(|_| words >= WORDS && !begins) {
        Some(number) => number.to_owned(),
        None => piece.to_owned(),
    }
}

/// The formula in `$…$`, `\(…\)` or `\[…\]`; with several that only a comma, "and" or "or" is between, all of them.
fn formula(piece: &str) -> Option<&str> {
    for (open, close) in [("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")] {
        let Some(start) = piece.find(open) else { continue };
        let inside = start + open.len();
        let Some(len) = piece[inside..].find(close) else { continue };
        if len == 0 {
            continue;
        }
        let mut end = inside + len;
        loop {
            let after = &piece[end + close.len()..];
            let Some(next) =
                after.find(open).filter(|next| joins(&after[..*next]) || after[..*next].trim() == "or")
            else {
                break;
            };
            let from = end + close.len() + next + open.len();
            let Some(len) = piece[from..].find(close) else { break };
            end = from + len;
        }
        return Some(&piece[inside..end]);
    }
    None
}

/// Up to the end of the sentence.
fn sentence(piece: &str) -> &str {
    let mut ends = piece.match_indices(['.', '!', '?']).map(|(at, _)| at);
    let end = ends.find(|at| {
        let next = piece[at + 1..].chars().next();
        !piece[at + 1..].starts_with('=')
            && next.is_none_or(|c| c.is_whitespace() || "*\"'".contains(c))
            && !(piece[*at..].starts_with('!') && next.is_some_and(char::is_whitespace))
    });
    piece[..end.unwrap_or(piece.len())].trim_end_matches('.')
}

/// The last capital letter that stands alone; "A bus" and "I think" are words.
fn choice(text: &str) -> Option<&str> {
    let mut last = None;
    let mut before: Option<char> = None;
    for (at, c) in text.char_indices() {
        let after = &text[at + c.len_utf8()..];
        let mut next = after.chars();
        let alone = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && !"'’_^=+\\".contains(c));
        if ('A'..='J').contains(&c) && alone(before) && alone(after.chars().next()) {
            let word = next.next() == Some(' ') && next.next().is_some_and(char::is_lowercase);
            if !(word && (c == 'A' || c == 'I') && before != Some('(')) {
                last = Some(&text[at..at + 1]);
            }
        }
        before = Some(c);
    }
    last
}

fn last_number(text: &str) -> Option<&str> {
    let (mut last, mut at, mut before) = (None, 0, None);
    while let Some(c) = text[at..].chars().next() {
        // After a digit, a word or a bracket, a sign is an operator.
        let operator =
            scan::is_sign(c) && before.is_some_and(|b: char| b.is_alphanumeric() || ")]}%".contains(b));
        let begins = c.is_ascii_digit() || c == '.' || c == '\\' || (scan::is_sign(c) && !operator);
        let found = if begins { scan::number_len(&text[at..]) } else { None };
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

    const PLACES: [Place; 6] =
        [Place::Boxed, Place::Hash, Place::Phrase, Place::Choice, Place::LastNumber, Place::Whole];

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
    fn auto_asks_for_a_box_then_a_hash_then_a_number() {
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
            let text = begin.to_owned() + &piece.repeat(1_000_000 / piece.len()) + " }";
            for extract in all() {
                extract.extract(&text);
            }
            crate::math::equal("7", &text);
        }
        // 150 passes over a megabyte, some seconds; a single quadratic one takes minutes.
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    }
}
