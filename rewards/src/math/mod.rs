//! Whether a completion's answer is the reference answer, as mathematics.
//!
//! Before: a completion and the prompt's reference answer. After: a part of the rollout's [`data::Score`].
//! [`Extract`] finds the answer, `lex` and `parse` read it, `compare` decides.
//!
//! # What is the same
//! Numbers are exact: `0.5` is `1/2`, `0.33` is not `1/3`, but `0.333...` is, `1.41` is not `\sqrt{2}`. A unit, a currency, a degree or a
//! percent sign may be missing; `25\%` is 25 and 0.25. Two known units must measure the same thing, and then numbers are
//! converted: `3 hours 30 minutes` is `3.5 hours`, `1 L` is `1000 cm^3`. Times of day, dates and spelled numbers are read.
//! Tuples and intervals are ordered, a list without brackets and a set are not; numbers with words of their own, such as `3 men and 4
//! women`, go by these words. `x = 5` is 5, `P(A) = 1/2` is 1/2, and `y = 2x + 1` is `2x - y + 1 = 0`. Names that stand for numbers
//! are in alphabetical order if they are neighbours in the alphabet, else as written: `m=2, b=3` is `(2,3)`. An inequality is the set
//! of its solutions, `x > 0, x \ne 1` those of both. A residue is its class: `3 \pmod 8` is `x = 8k + 3`. What an answer is said to hold
//! for ("where x > 0", `k \in \mathbb{Z}`) may be missing. Words count without case, articles and punctuation. An answer that is
//! missing, or a missing reference, is never right.
//!
//! # How sure it is
//! Rational numbers, polynomials and their quotients in any unknowns, real roots of rational numbers, π, e, i and their sums and
//! products are decided exactly. Anything else (trigonometry, logarithms, nested roots, powers with unknown
//! exponents) is evaluated in f64 with a running bound on the error: at one point if it is a constant, else at 15 fixed points, of
//! which at least 4 must be defined on both sides. Two that are taken as different are different. Real constants that f64 cannot tell
//! apart are computed to some 90 digits, so that `\ln 2` is no decimal; two expressions in unknowns that are taken as equal may differ by
//! less than the bound, about 10⁻¹⁴ of their size where little cancels and never more than 2·10⁻⁷. A limit is extrapolated, to 10⁻⁸.
//!
//! # Time
//! An answer above [`LENGTH`] bytes is compared as text. Nesting, the size of numbers and the work of exact
//! arithmetic are bounded, so that no answer takes longer than some milliseconds.

mod compare;
mod eval;
mod lex;
mod moment;
mod node;
mod parse;
mod poly;
mod precise;
mod reading;
mod sets;
mod text;
mod unit;

use data::{Rollout, Verdict};
use serde::{Deserialize, Serialize};

use crate::extract::shown;
use crate::{Extract, Reward, RewardError};
use compare::Comparison;
use lex::Token;
use node::Node;
use poly::Budget;
use reading::Reading;

/// Answers of more bytes are compared as text.
pub const LENGTH: usize = 2000;

/// 1 if the answer says the same as the reference answer, as mathematics, else 0. Of several reference answers any will
/// do. Absent if the prompt has none. A prompt's field `tolerance`, if it is a number, goes before the setting.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Math {
    /// Where the answer stands; by default in a box, else after `####`, else after "the answer is", else it is the last
    /// expression of a completion that was not cut off.
    pub extract: Extract,
    /// Largest relative difference of two numbers, such as 0.01 for measurements; by default they must be equal.
    pub tolerance: f64,
}

impl Math {
    /// Checked settings.
    ///
    /// # Errors
    /// If the tolerance is not in 0..1.
    pub fn build(self) -> Result<Self, RewardError> {
        if !(0.0..1.0).contains(&self.tolerance) {
            let what = format!("tolerance is {}, wanted a number in 0..1", self.tolerance);
            return Err(RewardError::Setting { what });
        }
        Ok(self)
    }
}

impl Reward for Math {
    fn score(&self, rollout: &Rollout) -> Verdict {
        if rollout.prompt.reference().is_none() {
            return Verdict::absent();
        }
        let own = rollout.prompt.fields.get("tolerance").and_then(|value| match value {
            serde_json::Value::String(text) => text.trim().parse().ok(),
            value => value.as_f64(),
        });
        let tolerance = own.filter(|t| (0.0..1.0).contains(t)).unwrap_or(self.tolerance);
        let found = self.extract.of(rollout);
        let Some(given) = &found else {
            return Verdict::right(false).with_answer(None).because("no answer was found");
        };
        let right = rollout.prompt.references().any(|answer| judge(answer, given, tolerance));
        let answer = || rollout.prompt.references().collect::<Vec<_>>().join(" or ");
        let reason = if right {
            None
        } else if readable(given) {
            Some(format!("it is not {}", answer()))
        } else {
            Some(format!("it cannot be read as mathematics, and is not {}", answer()))
        };
        Verdict { reason, ..Verdict::right(right).with_answer(shown(found)) }
    }
}

/// Whether `found` says the same as `answer`, as mathematics. Either may be LaTeX, with dollar signs or without, or plain text.
/// See the module for what counts as the same. If either is blank the answer is no.
pub fn equal(answer: &str, found: &str) -> bool {
    judge(answer, found, 0.0)
}

/// Whether a word behind a number is a unit.
pub(crate) fn is_unit(word: &str) -> bool {
    unit::is_known(word)
}

/// Whether a word behind a number multiplies it, as "million" does.
pub(crate) fn is_scale(word: &str) -> bool {
    matches!(unit::scaled(word), Some(unit::Scaled::Times(_)))
}

/// Whether the grader can read an answer as mathematics; if not it is compared as text.
pub fn readable(answer: &str) -> bool {
    answer.len() <= LENGTH && Reading::of(answer).nodes.iter().any(Option::is_some)
}

fn judge(answer: &str, found: &str, tolerance: f64) -> bool {
    // emphasis and quotes around it are not the answer
    let bare = |text: &str| text.trim_matches(|c: char| c.is_whitespace() || "*`\"".contains(c)).to_owned();
    let (answer, found) = (bare(answer), bare(found));
    let (answer, found) = (answer.as_str(), found.as_str());
    if answer.is_empty() || found.is_empty() {
        return false;
    }
    if answer == found {
        return true;
    }
    if answer.len() > LENGTH || found.len() > LENGTH {
        return same_solid(answer, found);
    }
    let budget = Budget::new();
    let comparison = Comparison { budget: &budget, tolerance };
    if let Some(same) = moment::same(answer, found) {
        return same;
    }
    let wanted = Reading::of(answer);
    let given = Reading::of(found).named_as(&wanted);
    if !wanted.holds_where(&given, comparison) {
        return false;
    }
    let letter = choice_letter(&wanted.tokens).is_some();
    for a in wanted.nodes.iter().flatten() {
        // A = B is no choice
        let chooses = |b: &&Node| !(letter && matches!(b, Node::Relation(..)));
        if given.nodes.iter().flatten().filter(chooses).any(|b| comparison.same_remark(a, b)) {
            return true;
        }
        // 3,5 may be three and a half, but 3, 5 for three and five is no answer
        if let Some(b) = reading::comma_decimal(found).filter(|_| reading::is_broken(a))
            && comparison.same(a, &b)
        {
            return true;
        }
    }
    if !wanted.tokens.is_empty() && same_tokens(&wanted.tokens, &given.tokens) {
        return true;
    }
    if wanted.unread() && given.unread() && solid(answer).eq(solid(found)) {
        return true;
    }
    if let (Some(a), Some(b)) = (chosen_several(answer), chosen_several(found)) {
        return a == b;
    }
    match (choice_letter(&wanted.tokens), choice_letter(&given.tokens)) {
        (Some(letter), _) => chosen(&given.tokens) == Some(letter),
        // the reference may have the choice and what it says
        (None, Some(letter)) if wanted.tokens.first() == Some(&Token::Sign('(')) => {
            chosen(&wanted.tokens) == Some(letter)
        }
        _ => {
            // words in both, such as "June 5" and "june 5."
            match (wordy(&wanted.tokens), wordy(&given.tokens)) {
                (Some(a), Some(b)) => (wanted.unread() || given.unread()) && text::same(&a, &b),
                _ => false,
            }
        }
    }
}

/// Whether two texts are the same but for blanks and dollar signs; they may be of a megabyte.
fn same_solid(a: &str, b: &str) -> bool {
    /// Bytes that are compared at a time.
    const CHUNK: usize = 4096;
    let chunks = a.as_bytes().chunks(CHUNK).zip(b.as_bytes().chunks(CHUNK));
    let mut same = CHUNK * chunks.take_while(|(a, b)| a == b && a.len() == CHUNK).count();
    while !a.is_char_boundary(same) {
        same -= 1;
    }
    let (a, b) = (&a[same..], &b[same..]);
    solid(a).eq(solid(b))
}

/// The text without blanks and dollar signs.
fn solid(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| !c.is_whitespace() && *c != '$')
}

fn same_tokens(a: &[Token], b: &[Token]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| match (a, b) {
            (Token::Word(a), Token::Word(b)) => text::same(a, b),
            (a, b) => a == b,
        })
}

/// The text of an answer that has words in it and no operators.
fn wordy(tokens: &[Token]) -> Option<String> {
    let mut text = String::new();
    let mut words = false;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            // a minus sign, and no hyphen
            Token::Sign('-') if at == 0 || matches!(tokens.get(at + 1), Some(Token::Number(..))) => {
                return None;
            }
            Token::Word(word) => {
                words = true;
                text.push_str(word);
            }
            Token::Variable(name) => text.push_str(name),
            Token::E => text.push('e'),
            Token::I => text.push('i'),
            Token::Number(value, _) => text.push_str(&value.to_string()),
            Token::Sign(',' | '-' | '\'' | ':' | '(' | ')') => {}
            Token::Unknown(sign) if sign == "." => {}
            _ => return None,
        }
        text.push(' ');
    }
    words.then_some(text)
}

/// The letter of a multiple choice, if that is all the answer: `C`, `(C)`, `\text{(C)}`.
fn choice_letter(tokens: &[Token]) -> Option<char> {
    let inner = match tokens {
        [Token::Sign('('), inner, Token::Sign(')')] | [inner] => inner,
        _ => return None,
    };
    match inner {
        Token::Variable(name) => name.chars().next().filter(|c| name.len() == 1 && ('A'..='J').contains(c)),
        _ => None,
    }
}

/// The letters of several choices, sorted: `A, C, D` is `ACD`. A run in another order, such as `DAB`, is a name.
fn chosen_several(text: &str) -> Option<Vec<char>> {
    let bare = text.trim_start_matches("\\text{").trim_end_matches(['}', '.']);
    let parts: Vec<&str> =
        bare.split([',', ' ', ';']).filter(|part| !part.is_empty() && *part != "and").collect();
    let mut letters: Vec<char> = match parts.as_slice() {
        [run] => run.chars().collect(),
        parts => parts.iter().flat_map(|part| part.trim_matches(['(', ')']).chars()).collect(),
    };
    let several =
        letters.len() > 1 && letters.len() <= 10 && (parts.len() == 1 || parts.len() == letters.len());
    let choices = letters.iter().all(|letter| ('A'..='J').contains(letter));
    let sorted = letters.windows(2).all(|two| two[0] < two[1]);
    if !several || !choices || !sorted && parts.len() == 1 {
        return None;
    }
    letters.sort_unstable();
    Some(letters)
}

/// The letter at the beginning of `(C) 12`, `C. 12`, `C: 12`, `Option C`, unless another choice follows.
fn chosen(tokens: &[Token]) -> Option<char> {
    let tokens = match tokens {
        [Token::Word(word), rest @ ..]
            if matches!(word.to_lowercase().as_str(), "option" | "choice" | "answer") =>
        {
            rest
        }
        all => all,
    };
    let single = |token: &Token| choice_letter(std::slice::from_ref(token));
    let (letter, rest) = match tokens {
        [Token::Sign('('), inner, Token::Sign(')'), rest @ ..] => (single(inner)?, rest),
        [letter, Token::Sign(')' | ':'), rest @ ..] => (single(letter)?, rest),
        [letter, Token::Unknown(sign), rest @ ..] if sign == "." => (single(letter)?, rest),
        [letter] => return single(letter),
        _ => return None,
    };
    let another = rest.iter().enumerate().any(|(at, token)| {
        let joined = at == 0 || matches!(&rest[at - 1], Token::Sign(',' | '(') | Token::Word(_));
        let closed =
            matches!(rest.get(at + 1), None | Some(Token::Sign(')' | ':' | ',') | Token::Unknown(_)));
        single(token).is_some() && joined && closed
    });
    (!another).then_some(letter)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Place;
    use crate::testing::rollout;

    #[test]
    fn a_verdict_has_the_answer_and_says_why() {
        let math = Math::default();
        let right = math.score(&rollout("so \\boxed{0.5}", Some("\\frac12")));
        assert_eq!((right.value, right.answer.as_deref(), right.reason), (Some(1.0), Some("0.5"), None));
        let wrong = math.score(&rollout("so 7", Some("8")));
        assert_eq!((wrong.value, wrong.reason.as_deref()), (Some(0.0), Some("it is not 8")));
        let unread = math.score(&rollout("\\boxed{((}", Some("8")));
        assert!(unread.reason.unwrap().contains("cannot be read as mathematics"));
        let none = math.score(&rollout("I do not know.", Some("8")));
        assert_eq!((none.value, none.reason.as_deref()), (Some(0.0), Some("no answer was found")));
        for answer in [None, Some(" ")] {
            assert_eq!(math.score(&rollout("8", answer)), Verdict::absent());
        }
    }

    #[test]
    fn a_tolerance_is_relative_and_a_prompts_own_goes_first() {
        let math = Math { extract: Place::Whole.into(), tolerance: 0.01 };
        let at = |text: &str, own: Option<serde_json::Value>| {
            let mut rollout = rollout(text, Some("200"));
            if let Some(own) = own {
                Arc::make_mut(&mut rollout.prompt).fields.insert("tolerance".into(), own);
            }
            math.score(&rollout).value.unwrap()
        };
        assert_eq!((at("201.9", None), at("202.1", None), at("198.1", None)), (1.0, 0.0, 1.0));
        assert_eq!((at("201.9", Some(0.0.into())), at("200", Some(0.0.into()))), (0.0, 1.0));
        assert_eq!(at("209", Some("5e-2".into())), 1.0);
        assert!(Math { tolerance: 1.0, ..Math::default() }.build().is_err());
    }

    #[test]
    fn a_long_answer_is_compared_as_text_and_shown_in_part() {
        let long = "1+".repeat(LENGTH) + "1";
        let verdict =
            Math { extract: Place::Whole.into(), tolerance: 0.0 }.score(&rollout(&long, Some(&long)));
        assert_eq!(verdict.value, Some(1.0));
        assert!(verdict.answer.unwrap().chars().count() <= 501);
        assert!(equal(&long, &long.replace('+', " + ")) && !equal(&long, "1"));
    }
}
