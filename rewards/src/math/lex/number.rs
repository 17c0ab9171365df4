//! Numbers, as people and models write them.
//!
//! Before: a digit. After: a token with the exact number.

use num_bigint::BigInt;
use num_traits::Pow;

use super::{Lexer, Token};
use crate::math::node::Rational;

impl<'a> Lexer<'a> {
    fn digits(&mut self) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// Whether the next digit alone is an argument: `\frac12`, and the `2` of it.
    fn one_digit(&self) -> bool {
        let command = |token: Option<&Token>| matches!(token, Some(Token::Frac | Token::Binom));
        match self.found.as_slice() {
            [.., before, Token::Number(..)] => {
                command(Some(before))
                    && self.text[..self.at].trim_end().ends_with(|c: char| c.is_ascii_digit())
            }
            [.., last] => command(Some(last)),
            [] => false,
        }
    }

    pub(super) fn number(&mut self) {
        let start = self.at;
        if self.one_digit() && !self.rest().starts_with('.') {
            self.at += 1;
            return self.push(Token::Number(Rational::from_integer(parse(&self.text[start..self.at])), true));
        }
        let first = self.digits();
        let mut digits = first.to_owned();
        let mut plain = true;
        if let Some(base) = self.base_follows(start) {
            return self.push(base);
        }
        if (1..=3).contains(&first.len()) && !(first.starts_with('0') && first.len() > 1) {
            while let Some(group) = self.group() {
                digits.push_str(group);
                plain = false;
            }
        }
        let mut value = Rational::from_integer(parse(&digits));
        let rest = self.rest();
        let decimals = rest.strip_prefix('.').is_some_and(|after| {
            after.starts_with(|c: char| c.is_ascii_digit() || c == '\\') && !after.starts_with("\\ ")
        });
        if decimals
            && (rest[1..].starts_with(|c: char| c.is_ascii_digit()) || rest[1..].starts_with("\\overline"))
        {
            self.at += 1;
            let places = self.digits();
            plain = false;
            let scale = BigInt::from(10).pow(places.len().min(4096));
            value += Rational::new(parse(places), scale.clone());
            if let Some(repeating) = self.repeating() {
                let nines: BigInt = BigInt::from(10).pow(repeating.len().min(4096)) - 1;
                value += Rational::new(parse(repeating), nines * scale);
            }
        }
        if let Some(exponent) = self.exponent() {
            let power = Rational::from_integer(BigInt::from(10)).pow(exponent);
            value *= power;
            plain = false;
        }
        self.push(Token::Number(value, plain));
    }

    /// `\overline{3}` behind a decimal point.
    fn repeating(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let inner = rest.strip_prefix("\\overline{")?;
        let len = inner.find('}')?;
        if len == 0 || !inner[..len].bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        self.at += "\\overline{".len() + len + 1;
        Some(&inner[..len])
    }

    /// A separator and exactly three digits.
    fn group(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let sure = [",\\! ", ",\\!", "{,}", "\\,", "\\!", " "].iter().find(|sign| rest.starts_with(**sign));
        let separator = match sure {
            Some(sign) => *sign,
            None if self.grouped && rest.starts_with(',') => ",",
            None => return None,
        };
        let (group, after) = rest[separator.len()..].split_at_checked(3)?;
        let fits =
            group.bytes().all(|b| b.is_ascii_digit()) && !after.starts_with(|c: char| c.is_ascii_digit());
        // `1 000` is a thousand, `3 100/200` and `2 500 x` are not
        if !fits || separator == " " && after.trim_start().starts_with(['/', '\\', '^']) {
            return None;
        }
        self.at += separator.len() + 3;
        Some(group)
    }

    /// `e-3` directly behind a number.
    fn exponent(&mut self) -> Option<i32> {
        let rest = self.rest();
        let after = rest.strip_prefix(['e', 'E'])?;
        let (minus, digits) = match after.chars().next()? {
            '-' | '−' => (true, after.trim_start_matches(['-', '−'])),
            '+' => (false, &after[1..]),
            _ => (false, after),
        };
        let len = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        if len == 0 || len > 3 || digits[len..].starts_with(|c: char| c.is_alphanumeric()) {
            return None;
        }
        let exponent: i32 = digits[..len].parse().ok()?;
        self.at += rest.len() - digits[len..].len();
        Some(if minus { -exponent } else { exponent })
    }

    /// `1011_2`, `1A3_{16}`: digits and letters from `start`, all below the base.
    pub(super) fn base_follows(&mut self, start: usize) -> Option<Token> {
        let text = &self.text[start..];
        let len = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
        let digits = &text[..len];
        let after = text[len..].trim_start().strip_prefix('_')?.trim_start();
        let (base, rest) = match after.strip_prefix('{') {
            Some(inner) => {
                let (inner, close) = match inner.strip_prefix("\\text{") {
                    Some(word) => (word, "}}"),
                    None => (inner, "}"),
                };
                let end = inner.find(close)?;
                (inner[..end].trim(), &inner[end + close.len()..])
            }
            None => after.split_at(after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len())),
        };
        let base = match base {
            "two" => 2,
            "eight" => 8,
            "ten" => 10,
            "sixteen" => 16,
            _ => base.parse::<u32>().ok()?,
        };
        let fits = (2..=36).contains(&base) && digits.chars().all(|c| c.is_digit(base) && !c.is_lowercase());
        if !fits {
            return None;
        }
        self.at = self.text.len() - rest.len();
        Some(Token::Based(digits.to_owned(), base))
    }
}

fn parse(digits: &str) -> BigInt {
    digits.parse().unwrap_or_default() // only an empty text is no number
}
