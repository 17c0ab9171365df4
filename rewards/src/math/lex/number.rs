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
        if let Some(value) = self.european() {
            return self.push(Token::Number(value, false));
        }
        let first = self.digits();
        let mut digits = first.to_owned();
        let mut plain = true;
        if let Some(base) = self.base_follows(start) {
            return self.push(base);
        }
        if let Some(groups) = self.indian(first) {
            digits.push_str(&groups);
            plain = false;
        } else if (1..=3).contains(&first.len()) && !first.starts_with('0') {
            while let Some(group) = self.group() {
                digits.push_str(group);
                plain = false;
            }
        }
        let mut value = Rational::from_integer(parse(&digits));
        if let Some(places) = self.decimals() {
            let Some(places) = places else { return self.push(Token::Unknown("...".into())) };
            value += places;
            plain = false;
        }
        if let Some(exponent) = self.exponent() {
            let power = Rational::from_integer(BigInt::from(10)).pow(exponent);
            value *= power;
            plain = false;
        }
        self.push(Token::Number(value, plain));
    }

    /// What stands behind the decimal point, or a decimal comma; `Some(None)` if it goes on in a way that is not said, as
    /// in `1.414...`.
    fn decimals(&mut self) -> Option<Option<Rational>> {
        let rest = self.rest();
        let comma = self.decimal_comma && rest.starts_with(',') || rest.starts_with("{,}");
        let point = if rest.starts_with("{,}") { 3 } else { 1 };
        let after = rest.get(point..)?;
        let begins = |rest: &str| {
            rest.starts_with(|c: char| c.is_ascii_digit())
                || ["\\overline", "\\bar", "\\dot"].iter().any(|name| {
                    rest.strip_prefix(name).is_some_and(|rest| {
                        rest.trim_start_matches(['{', ' ']).starts_with(|c: char| c.is_ascii_digit())
                    })
                })
                || rest.strip_prefix('(').is_some_and(|inner| {
                    inner
                        .find(')')
                        .is_some_and(|len| len > 0 && inner[..len].bytes().all(|b| b.is_ascii_digit()))
                })
        };
        if !(rest.starts_with('.') || comma) || !begins(after) {
            return None;
        }
        self.at += point;
        let places = self.digits();
        let scale = BigInt::from(10).pow(places.len().min(4096));
        let mut value = Rational::new(parse(places), scale.clone());
        let mut repeating = self.repeating();
        if repeating.is_empty() && self.ellipsis() {
            match period(places) {
                // 0.1666… is 0.1 and sixes from there on
                Some(period) => repeating = period.to_owned(),
                None => return Some(None),
            }
        }
        if !repeating.is_empty() {
            self.ellipsis();
            let nines: BigInt = BigInt::from(10).pow(repeating.len().min(4096)) - 1;
            value += Rational::new(parse(&repeating), nines * scale);
        }
        Some(Some(value))
    }

    /// The digits that repeat behind a decimal point: `\overline{3}`, `\dot{1}4285\dot{7}`, `(3)`.
    fn repeating(&mut self) -> String {
        let mut found = String::new();
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if let Some(inner) = self.rest().strip_prefix('(')
            && let Some(len) = inner.find(')')
            && digits(&inner[..len])
        {
            found.push_str(&inner[..len]);
            self.at += len + 2;
            return found;
        }
        while self.eat("\\overline") || self.eat("\\bar") {
            match self.braced_digits() {
                Some(inner) => found.push_str(inner),
                None => return found,
            }
        }
        if found.is_empty() && !self.rest().starts_with("\\dots") && self.eat("\\dot") {
            found.push_str(self.braced_digits().unwrap_or_default());
            let start = self.at;
            let between = self.digits();
            if self.eat("\\dot") {
                found.push_str(between);
                found.push_str(self.braced_digits().unwrap_or_default());
            } else {
                self.at = start;
            }
        }
        found
    }

    /// `{12}`, or one digit.
    fn braced_digits(&mut self) -> Option<&'a str> {
        self.blanks();
        let rest = self.rest();
        let (inner, len, whole) = match rest.strip_prefix('{') {
            Some(inner) => {
                let len = inner.find('}')?;
                (inner, len, len + 2)
            }
            None => (rest, rest.chars().next()?.len_utf8(), 1),
        };
        if len == 0 || !inner[..len].bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        self.at += whole;
        Some(&inner[..len])
    }

    fn ellipsis(&mut self) -> bool {
        let there = ["...", "\\ldots", "\\dots", "\\cdots"].iter().any(|dots| self.eat(dots));
        if there {
            while self.eat(".") {}
        }
        there
    }

    /// What follows, as far as a number with separators may reach.
    fn near(&self) -> &'a str {
        let rest = self.rest();
        rest.char_indices().nth(40).map_or(rest, |(at, _)| &rest[..at])
    }

    /// `1.234,56` and `1.234.567`, as written where the comma is the decimal sign.
    fn european(&mut self) -> Option<Rational> {
        let rest = self.near();
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if rest.as_bytes().get(digits) != Some(&b'.') {
            return None;
        }
        let len = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ',')).unwrap_or(rest.len());
        let all = rest[..len].trim_end_matches(['.', ',']);
        let (whole, places) = all.split_once(',').unwrap_or((all, ""));
        let mut groups = whole.split('.');
        let first = groups.next()?;
        let count = whole.matches('.').count();
        let fits = (1..=3).contains(&first.len())
            && !first.starts_with('0')
            && groups.all(|group| group.len() == 3)
            && count >= if places.is_empty() { 2 } else { 1 }
            && places.bytes().all(|b| b.is_ascii_digit());
        if !fits {
            return None;
        }
        self.at += all.len();
        let value = Rational::from_integer(parse(&whole.replace('.', "")));
        let scale = BigInt::from(10).pow(places.len().min(4096));
        Some(value + Rational::new(parse(if places.is_empty() { "0" } else { places }), scale))
    }

    /// `12,34,567`: the groups of a lakh and a crore.
    fn indian(&mut self, first: &str) -> Option<String> {
        if !self.grouped || first.len() > 2 {
            return None;
        }
        let rest = self.near();
        let len = rest.find(|c: char| !(c.is_ascii_digit() || c == ',')).unwrap_or(rest.len());
        let all = rest[..len].trim_end_matches(',');
        let groups: Vec<&str> = all.strip_prefix(',')?.split(',').collect();
        let (last, others) = groups.split_last()?;
        if last.len() != 3 || others.is_empty() || others.iter().any(|group| group.len() != 2) {
            return None;
        }
        self.at += all.len();
        Some(groups.concat())
    }

    /// A separator and exactly three digits.
    fn group(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let sure = [",\\! ", ",\\!", "{,}", "\\,", "\\!", "\\;", "\\:", "\\ ", "~", "'", "_", " "]
            .iter()
            .find(|sign| rest.starts_with(**sign));
        let separator = match sure {
            Some(sign) => *sign,
            None if self.grouped && rest.starts_with(',') => ",",
            None => return None,
        };
        let (group, after) = rest[separator.len()..].split_at_checked(3)?;
        let fits =
            group.bytes().all(|b| b.is_ascii_digit()) && !after.starts_with(|c: char| c.is_ascii_digit());
        // `1 000` is a thousand, `3 100/200` and `2 500 x` are not
        let blank = matches!(separator, " " | "\\;" | "\\:" | "\\ " | "~" | "_");
        if !fits
            || blank && after.trim_start().starts_with(['/', '\\', '^', '\'', '!'])
            || separator == "'" && after.starts_with("''")
        {
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
        let after = text[len..].trim_start();
        // (1011)_2
        let bracketed = self.found.last() == Some(&Token::Sign('(')) && self.text[..start].ends_with('(');
        let after = if bracketed { after.strip_prefix(')')? } else { after };
        let after = after.trim_start().strip_prefix('_')?.trim_start();
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
        if bracketed {
            self.found.pop();
        }
        Some(Token::Based(digits.to_owned(), base))
    }
}

/// The shortest run of digits that stands at the end at least twice.
fn period(places: &str) -> Option<&str> {
    let len = places.len();
    (1..=len / 2).map(|period| &places[len - period..]).find(|run| places[..len - run.len()].ends_with(run))
}

fn parse(digits: &str) -> BigInt {
    digits.parse().unwrap_or_default() // only an empty text is no number
}
