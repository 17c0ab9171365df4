//! Whether a completion reaches the target of a countdown problem with just the numbers that were given.
//!
//! Before: the prompt has the columns `numbers` and `target`, see [`data::Countdown`]. After: a part of the rollout's
//! [`data::Score`]. Expressions are worked out in whole fractions; long and deep ones are refused, so time is bounded.

use std::collections::BTreeMap;

use data::{Prompt, Rollout, Verdict};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::Zero;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::extract::{said, shown};
use crate::{Extract, Place, Reward};

/// 1 if the completion's expression uses each of the prompt's `numbers` once and comes to its `target`, else 0 with the
/// reason. Fails if the prompt has no such columns.
///
/// Read are numbers, `+ - * / × ÷ · x`, parentheses, a sign in front, and of LaTeX `\times`, `\cdot`, `\div`, `\frac` and
/// dollar signs; behind the expression there may be `=` and the target.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CountdownReward {
    /// Where the expression stands. Here `"auto"` is the last `<answer>…</answer>`, else the last box, else what
    /// follows the last `####`, else what follows the last "answer is", else the last line.
    pub extract: Extract,
}

impl Reward for CountdownReward {
    fn score(&self, rollout: &Rollout) -> Verdict {
        let (numbers, target) = match problem(&rollout.prompt) {
            Ok(problem) => problem,
            Err(why) => return Verdict::failed(why),
        };
        let found = match self.extract == Extract::default() {
            true => expression(&rollout.text),
            false => self.extract.of(rollout),
        };
        let judged = match &found {
            Some(text) => judge(text, &numbers, &target),
            None => Err("there is no expression".to_owned()),
        };
        let verdict = Verdict::right(judged.is_ok()).with_answer(shown(found));
        match judged {
            Ok(()) => verdict,
            Err(why) => verdict.because(why),
        }
    }
}

/// The prompt's numbers and its target, in digits without signs, and the target as it is.
fn problem(prompt: &Prompt) -> Result<(Vec<String>, BigInt), String> {
    let column = |name: &str, wanted: &str| match prompt.fields.get(name) {
        Some(value) => Ok(value),
        None => Err(format!("the prompt has no column `{name}`, wanted {wanted}")),
    };
    let (list, one) = ("a list of whole numbers", "a whole number");
    let numbers = column("numbers", list)?;
    let whole = numbers.as_array().filter(|numbers| !numbers.is_empty());
    let whole = whole.and_then(|numbers| numbers.iter().map(whole_number).collect::<Option<Vec<_>>>());
    let Some(whole) = whole else {
        return Err(format!(
            "the prompt's column `numbers` is {}, wanted {list}",
            brief(&numbers.to_string())
        ));
    };
    let target = column("target", one)?;
    let Some(target_number) = whole_number(target) else {
        return Err(format!("the prompt's column `target` is {}, wanted {one}", brief(&target.to_string())));
    };
    Ok((whole.iter().map(|number| number.magnitude().to_string()).collect(), target_number))
}

/// A number, or a text with one; `3.0` is whole.
fn whole_number(value: &Value) -> Option<BigInt> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    text.strip_suffix(".0").unwrap_or(&text).parse().ok()
}

/// The expression in a completion.
fn expression(completion: &str) -> Option<String> {
    let text = said(completion)?;
    let filled = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    if let Some((_, inside)) = text.rsplit_once("<answer>") {
        let (answer, _) = inside.split_once("</answer>")?;
        return Place::Boxed.extract(answer).or_else(|| filled(answer));
    }
    if text.contains(r"\boxed") || text.contains(r"\fbox") {
        return Place::Boxed.extract(&text);
    }
    if text.contains("####") {
        return Place::Hash.extract(&text);
    }
    Place::Phrase.extract(&text).or_else(|| filled(text.trim_end().lines().next_back()?))
}

/// Whether the expression uses just these numbers and comes to the target, or else why not.
fn judge(text: &str, numbers: &[String], target: &BigInt) -> Result<(), String> {
    /// Bytes. A problem with four numbers needs some 20.
    const LONGEST: usize = 2000;
    if text.len() > LONGEST {
        return Err(format!("the expression has {} bytes, wanted at most {LONGEST}", text.len()));
    }
    let tokens = tokens(text)?;
    let (left, right) = match tokens.iter().position(|token| *token == Token::Equals) {
        Some(at) => (&tokens[..at], Some(&tokens[at + 1..])),
        None => (tokens.as_slice(), None),
    };
    uses(left, numbers)?;
    let wanted = BigRational::from(target.clone());
    let value = Parser::value(left)?;
    if value != wanted {
        return Err(format!("it comes to {}, wanted {target}", brief(&value.to_string())));
    }
    match right.map(Parser::value) {
        None => Ok(()),
        Some(Ok(said)) if said == wanted => Ok(()),
        Some(Ok(said)) => {
            Err(format!("it says that it comes to {}, wanted {target}", brief(&said.to_string())))
        }
        Some(Err(why)) => Err(format!("behind the `=`: {why}")),
    }
}

/// Whether the numbers are those that were given, each as often.
fn uses(tokens: &[Token], given: &[String]) -> Result<(), String> {
    let mut counts = BTreeMap::<&str, (usize, usize)>::new();
    let used = tokens.iter().filter_map(|token| match token {
        Token::Number(digits) => Some(digits.as_str()),
        _ => None,
    });
    used.for_each(|digits| counts.entry(digits).or_default().0 += 1);
    given.iter().for_each(|digits| counts.entry(digits).or_default().1 += 1);
    let Some((digits, (used, there))) = counts.into_iter().find(|(_, (used, there))| used != there) else {
        return Ok(());
    };
    let times = |count| match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        _ => format!("{count} times"),
    };
    let digits = brief(digits);
    let what = match (used, there) {
        (_, 0) => format!("it uses {digits}, which was not given"),
        (0, 1) => format!("it does not use {digits}"),
        (0, _) => format!("it does not use {digits}, which was given {}", times(there)),
        (_, 1) => format!("it uses {digits} {}", times(used)),
        _ => format!("it uses {digits} {}, though it was given {}", times(used), times(there)),
    };
    Err(format!("{what}; given were {}", brief(&given.join(", "))))
}

/// The text, or the beginning of a long one.
fn brief(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// Digits, without zeros in front.
    Number(String),
    /// One of `+ - * /`.
    Operator(char),
    /// With the character that closes it.
    Open(char),
    Close(char),
    /// `\frac`, whose two arguments follow.
    Fraction,
    Equals,
}

/// Words of LaTeX, those first that others begin with; those without a token are skipped.
const WORDS: [(&str, Option<Token>); 23] = [
    (r"\dfrac", Some(Token::Fraction)),
    (r"\tfrac", Some(Token::Fraction)),
    (r"\cfrac", Some(Token::Fraction)),
    (r"\frac", Some(Token::Fraction)),
    (r"\times", Some(Token::Operator('*'))),
    (r"\cdot", Some(Token::Operator('*'))),
    (r"\ast", Some(Token::Operator('*'))),
    (r"\div", Some(Token::Operator('/'))),
    (r"\left", None),
    (r"\right", None),
    (r"\bigl", None),
    (r"\bigr", None),
    (r"\big", None),
    (r"\displaystyle", None),
    (r"\(", None),
    (r"\)", None),
    (r"\[", None),
    (r"\]", None),
    (r"\,", None),
    (r"\;", None),
    (r"\:", None),
    (r"\!", None),
    (r"\ ", None),
];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let around = |c: char| c.is_whitespace() || "*`".contains(c);
    let mut rest = text.trim_matches(around).trim_end_matches(['.', ',', '!']).trim_matches(around);
    let mut tokens = Vec::new();
    while let Some(c) = rest.chars().next() {
        if c.is_ascii_digit() {
            // \frac82 is 8/2: without braces an argument is one digit
            let argument =
                matches!(&tokens[..], [.., Token::Fraction] | [.., Token::Fraction, Token::Number(_)]);
            let all = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let end = if argument { 1 } else { all };
            let digits = rest[..end].trim_start_matches('0');
            tokens.push(Token::Number(if digits.is_empty() { "0" } else { digits }.to_owned()));
            rest = &rest[end..];
            continue;
        }
        if let Some((word, token)) = WORDS.iter().find(|(word, _)| rest.starts_with(word)) {
            tokens.extend(token.clone());
            rest = &rest[word.len()..];
            continue;
        }
        tokens.extend(match c {
            '+' => Some(Token::Operator('+')),
            '-' | '−' | '–' => Some(Token::Operator('-')),
            '*' | '×' | '·' | '⋅' | '∗' | 'x' | 'X' => Some(Token::Operator('*')),
            '/' | '÷' | '∕' | '⁄' => Some(Token::Operator('/')),
            '(' => Some(Token::Open(')')),
            '[' => Some(Token::Open(']')),
            '{' => Some(Token::Open('}')),
            ')' | ']' | '}' => Some(Token::Close(c)),
            '=' => Some(Token::Equals),
            '$' => None,
            c if c.is_whitespace() => None,
            _ => return Err(format!("cannot read `{}`", brief(rest))),
        });
        rest = &rest[c.len_utf8()..];
    }
    Ok(tokens)
}

/// An expression being worked out from left to right.
struct Parser<'a> {
    rest: &'a [Token],
    depth: usize,
}

impl Parser<'_> {
    fn value(tokens: &[Token]) -> Result<BigRational, String> {
        let mut parser = Parser { rest: tokens, depth: 0 };
        let value = parser.sum()?;
        match parser.rest.first() {
            None => Ok(value),
            Some(token) => Err(format!("{} stands where an operator should", token.text())),
        }
    }

    fn eat(&mut self, wanted: &Token) -> bool {
        let found = self.rest.first() == Some(wanted);
        self.rest = &self.rest[usize::from(found)..];
        found
    }

    fn sum(&mut self) -> Result<BigRational, String> {
        let mut value = self.product()?;
        loop {
            if self.eat(&Token::Operator('+')) {
                value += self.product()?;
            } else if self.eat(&Token::Operator('-')) {
                value -= self.product()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<BigRational, String> {
        let mut value = self.factor()?;
        loop {
            if self.eat(&Token::Operator('*')) {
                value *= self.factor()?;
            } else if self.eat(&Token::Operator('/')) {
                value = quotient(value, self.factor()?)?;
            } else if matches!(self.rest.first(), Some(Token::Open(_))) {
                value *= self.factor()?; // as in 2(3 + 4)
            } else {
                return Ok(value);
            }
        }
    }

    fn factor(&mut self) -> Result<BigRational, String> {
        /// Parentheses and signs within each other.
        const DEEPEST: usize = 50;
        if self.depth == DEEPEST {
            return Err(format!("it is nested deeper than {DEEPEST} times"));
        }
        let Some((token, rest)) = self.rest.split_first() else {
            return Err("it ends where a number should stand".to_owned());
        };
        self.rest = rest;
        self.depth += 1;
        let value = match token {
            Token::Number(digits) => {
                digits.parse::<BigInt>().map(BigRational::from).map_err(|error| error.to_string())?
            }
            Token::Operator('-') => -self.factor()?,
            Token::Operator('+') => self.factor()?,
            Token::Open(close) => {
                let value = self.sum()?;
                if !self.eat(&Token::Close(*close)) {
                    return Err(format!("a parenthesis is not closed by `{close}`"));
                }
                value
            }
            Token::Fraction => quotient(self.factor()?, self.factor()?)?,
            other => return Err(format!("{} stands where a number should", other.text())),
        };
        self.depth -= 1;
        Ok(value)
    }
}

fn quotient(a: BigRational, b: BigRational) -> Result<BigRational, String> {
    if b.is_zero() { Err("it divides by 0".to_owned()) } else { Ok(a / b) }
}

impl Token {
    fn text(&self) -> String {
        match self {
            Self::Number(digits) => brief(digits),
            Self::Operator(c) | Self::Close(c) => format!("`{c}`"),
            Self::Open(close) => format!("the parenthesis that `{close}` closes"),
            Self::Fraction => r"`\frac`".to_owned(),
            Self::Equals => "`=`".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
