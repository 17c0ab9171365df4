//! Numbers that are spelled out.
//!
//! Before: all tokens of an answer. After: "twenty-one", "two hundred and five" and "three quarters" are numbers, where they begin
//! an answer or an item of it.

use num_bigint::BigInt;

use super::Token;
use crate::math::node::{Op, Rational};

/// The tokens with spelled numbers as numbers.
pub(super) fn spelled(tokens: Vec<Token>) -> Vec<Token> {
    let spells =
        |word: &str| word.split('-').any(|part| value(part).is_some() || denominator(part).is_some());
    if !tokens.iter().any(|token| word(token).is_some_and(spells)) {
        return tokens;
    }
    let tokens = parted(tokens);
    let mut found: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let begins = match found.last() {
            None => true,
            Some(Token::Relation(Op::Equal | Op::Approximately) | Token::Currency(_)) => true,
            Some(Token::Sign(sign)) => matches!(sign, ',' | ';' | '(' | '-' | ':'),
            Some(Token::Word(word)) => {
                matches!(word.to_lowercase().as_str(), "is" | "are" | "equals" | "about" | "to")
            }
            _ => false,
        };
        match if begins { number(&tokens[at..]) } else { None } {
            Some((value, len)) => {
                found.push(Token::Number(value, false));
                at += len;
            }
            None => {
                found.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    found
}

/// The tokens with "twenty-one" in three.
fn parted(tokens: Vec<Token>) -> Vec<Token> {
    let mut found = Vec::with_capacity(tokens.len());
    for token in tokens {
        match &token {
            Token::Word(word)
                if word.contains('-')
                    && word.split('-').all(|part| value(part).or(denominator(part)).is_some()) =>
            {
                for (at, part) in word.split('-').enumerate() {
                    if at > 0 {
                        found.push(Token::Sign('-'));
                    }
                    found.push(Token::Word(part.into()));
                }
            }
            _ => found.push(token),
        }
    }
    found
}

fn word(token: &Token) -> Option<&str> {
    match token {
        Token::Word(word) => Some(word),
        _ => None,
    }
}

/// What a word adds: 0 to 19 and the tens.
fn value(word: &str) -> Option<u64> {
    const ONES: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    let lower = word.to_lowercase();
    let place = |list: &[&str]| list.iter().position(|name| *name == lower).map(|at| at as u64);
    place(&ONES).or_else(|| Some(20 + 10 * place(&TENS)?))
}

/// What a word multiplies what is before it by.
fn scale(word: &str) -> Option<u64> {
    Some(match word.to_lowercase().as_str() {
        "hundred" => 100,
        "thousand" => 1000,
        "million" => 1_000_000,
        "billion" => 1_000_000_000,
        "trillion" => 1_000_000_000_000,
        _ => return None,
    })
}

/// What a word divides by: "thirds".
fn denominator(word: &str) -> Option<u64> {
    const NAMES: [&str; 8] = ["third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"];
    let lower = word.to_lowercase();
    let single = lower.strip_suffix('s').unwrap_or(&lower);
    match single {
        "half" | "halve" => Some(2),
        "quarter" => Some(4),
        _ => NAMES.iter().position(|name| *name == single).map(|at| at as u64 + 3),
    }
}

/// The number that the tokens begin with, and how many of them it takes.
fn number(tokens: &[Token]) -> Option<(Rational, usize)> {
    let (mut total, mut part) = (0_u64, 0_u64);
    let mut at = 0;
    let mut last_value = None;
    while let Some(now) = tokens.get(at).and_then(word) {
        if let Some(value) = value(now) {
            // "twenty one", but not "two five"
            let fits = match last_value {
                None => true,
                Some(last) => (20..100).contains(&last) && last % 10 == 0 && (1..10).contains(&value),
            };
            if !fits {
                return None;
            }
            part = part.checked_add(value)?;
            last_value = Some(value);
            at += 1;
        } else if let Some(scale) = scale(now).filter(|_| at > 0) {
            if scale == 100 {
                part = part.max(1).checked_mul(100)?;
            } else {
                total = total.checked_add(part.max(1).checked_mul(scale)?)?;
                part = 0;
            }
            last_value = None;
            at += 1;
            let and = tokens.get(at).and_then(word).is_some_and(|word| word.eq_ignore_ascii_case("and"));
            if and && tokens.get(at + 1).and_then(word).is_some_and(|word| value(word).is_some()) {
                at += 1;
            }
        } else {
            break;
        }
        let joined = tokens.get(at) == Some(&Token::Sign('-'));
        if joined {
            let next = tokens.get(at + 1).and_then(word);
            if next.is_some_and(|next| {
                value(next).is_some() && last_value.is_some() || denominator(next).is_some()
            }) {
                at += 1;
            } else if next.is_some() {
                return None; // two-digit, one-to-one
            }
        }
    }
    let whole = total.checked_add(part)?;
    let of = |above: u64, below: u64| Rational::new(BigInt::from(above), BigInt::from(below));
    let below = tokens.get(at).and_then(word).and_then(denominator);
    match below {
        // "two quarters" are coins as well; "three quarters" of something is a fraction
        Some(below) if at > 0 && whole > 0 => Some((of(whole, below), at + 1)),
        Some(2) if at == 0 && tokens.len() == 1 => Some((of(1, 2), 1)),
        _ if at > 0 => Some((of(whole, 1), at)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelled_numbers_are_read_where_an_item_begins() {
        let spoken = |text: &str| {
            let tokens = text.replace('-', " - ");
            let tokens = tokens.split_whitespace().map(|word| match word {
                "-" => Token::Sign('-'),
                word => Token::Word(word.into()),
            });
            match spelled(tokens.collect()).as_slice() {
                [Token::Number(value, _)] => Some(value.to_string()),
                _ => None,
            }
        };
        for (text, wanted) in [
            ("five", "5"),
            ("twenty-one", "21"),
            ("two hundred and five", "205"),
            ("one thousand two hundred thirty four", "1234"),
            ("three quarters", "3/4"),
            ("one-third", "1/3"),
            ("half", "1/2"),
        ] {
            assert_eq!(spoken(text).as_deref(), Some(wanted), "{text}");
        }
        for text in ["no one", "two-digit numbers", "one-to-one", "two five", "hundred"] {
            assert_eq!(spoken(text), None, "{text}");
        }
    }
}
