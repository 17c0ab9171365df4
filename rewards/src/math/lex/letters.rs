//! Runs of letters: names of functions, units, words, or products of variables.
//!
//! Before: a letter. After: tokens. `GMm`, `mgh` and the `at` of `e^{at}` are products; `even`, `cm` and `area` are words. A
//! run without vowels is no word, and neither is one in a fraction, a power or a root.

use super::{Lexer, Token, letter};
use crate::math::node::Func;
use crate::math::unit;

/// Short words that are no products, wherever they stand.
const WORDS: &[&str] = &[
    "or", "no", "is", "in", "at", "of", "to", "by", "and", "if", "for", "the", "not", "yes", "all", "odd",
    "so", "as", "an", "on", "be", "we", "one", "two", "six", "ten", "men", "day", "pen", "egg", "way", "box",
    "bag", "hat", "cat", "dog", "pig", "hen", "cow", "bus", "car", "kid", "boy", "set", "sum", "red", "any",
    "nth", "none", "zero", "even", "prime", "both",
];
/// Short forms without vowels, or that stand directly behind digits.
const SHORT: &[&str] = &[
    "th", "st", "nd", "rd", "hrs", "lbs", "mph", "kph", "rpm", "pts", "Mr", "Mrs", "Dr", "sqft", "yrs", "yr",
    "mins", "secs", "pcs", "TV", "PhD", "cm", "mm", "km", "vs", "Rs", "ct", "cts", "pct", "ppl", "cc", "bp",
    "dm", "wk", "wks", "mo", "mos", "doz", "gal", "qt", "pt", "mod", "sq", "cu", "DNE", "LCM", "GCD", "QED",
    "BC", "AD",
];

impl Lexer<'_> {
    /// A run of letters; `blank` if there is a blank before it.
    pub(super) fn letters(&mut self, blank: bool) {
        let rest = self.rest();
        let len = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let run = &rest[..len];
        if len > 1 && run.bytes().all(|b| b.is_ascii_uppercase()) {
            let at = self.at;
            if let Some(token) = self.base_follows(at) {
                return self.push(token);
            }
        }
        if self.unit_to_the_end(blank) {
            return;
        }
        self.at += len;
        match run {
            "pi" => return self.push(Token::Pi),
            "inf" | "infinity" | "oo" | "Infinity" => return self.push(Token::Infinity),
            "sqrt" => return self.push(Token::Sqrt),
            "mod" => return self.modulo(),
            "Rs" | "INR" | "USD" | "EUR" | "GBP" | "US" | "AU" if self.money_follows(run) => return,
            "e" => return self.push(Token::E),
            "i" => return self.push(Token::I),
            "U" if self.found.last().is_some_and(|t| matches!(t, Token::Sign(')' | ']'))) => {
                return self.push(Token::Set('∪'));
            }
            _ => {}
        }
        if len == 1 {
            return self.push(letter(run));
        }
        if run == "min" && self.behind_number() {
            return self.push(Token::Word(run.to_owned()));
        }
        if let Some(func) = Func::named(run) {
            return self.push(Token::Func(func));
        }
        if self.is_product(run, blank) {
            for c in run.chars() {
                self.push(letter(c.encode_utf8(&mut [0; 4])));
            }
        } else if let Some((func, argument)) = func_and_letter(run) {
            self.push(Token::Func(func));
            self.push(letter(argument));
        } else {
            self.push(Token::Word(run.to_owned()));
        }
    }

    /// Whether the run that was just read is a product of its letters.
    fn is_product(&self, run: &str, blank: bool) -> bool {
        let len = run.len();
        if len > 6 {
            return false;
        }
        let word = WORDS.contains(&run.to_ascii_lowercase().as_str());
        // \exp(at), e^{at}
        let argument = matches!(self.found.as_slice(), [.., Token::Func(_), Token::Sign('(')])
            && self.rest().starts_with(')');
        if word && len == 2 && (argument || self.braces > 0) {
            return !matches!(run, "or" | "is" | "of");
        }
        if word {
            return false;
        }
        let known = unit::is_unit(run) || SHORT.contains(&run);
        if self.braces > 0 {
            return len <= 5 && !(known && blank && self.behind_number()) && func_and_letter(run).is_none();
        }
        let next = self.rest().chars().next();
        let beside = next.is_some_and(|c| "^_+*\\(".contains(c))
            || !blank && matches!(self.found.last(), Some(Token::Sign('+' | '*' | '^' | ')')));
        if known {
            // mg/k is a quotient of variables; 5 mg is a mass
            return !self.behind_number() && len <= 2 && (beside || next == Some('/'));
        }
        let vowel = |c: char| "aeiouyAEIOUY".contains(c);
        let upper = run.bytes().skip(1).any(|b| b.is_ascii_uppercase());
        let capitals = run.bytes().all(|b| b.is_ascii_uppercase());
        let usual =
            ["xyz", "abc", "pqr", "uvw", "rst"].iter().any(|set| run.chars().all(|c| set.contains(c)));
        len == 2
            || func_and_letter(run).is_none()
                && (!run.contains(vowel) && !capitals
                    || upper && !capitals && len <= 4
                    || len == 3 && usual
                    || len == 3 && !blank && self.behind_digits()
                    || len <= 4 && beside && !capitals)
    }

    /// A unit behind a number and a blank, if nothing follows: `12 m^3`, `9.8 m/s^2`.
    fn unit_to_the_end(&mut self, blank: bool) -> bool {
        if !blank || !self.behind_digits() || self.braces > 0 {
            return false;
        }
        // the h of 1 h 20 min
        let mut words = self.rest().split(' ').filter(|word| !word.is_empty());
        if let (Some(first), Some(number), Some(second), None) =
            (words.next(), words.next(), words.next(), words.next())
            && matches!(first, "h" | "m" | "g" | "L" | "s")
            && number.bytes().all(|b| b.is_ascii_digit())
            && unit::is_expression(second)
        {
            self.at += 1;
            self.push(Token::Word(first.to_owned()));
            return true;
        }
        let unit = self.rest().trim_end_matches(|c: char| c.is_whitespace() || ".$".contains(c));
        if unit.len() > 24 || !unit::is_expression(unit) {
            return false;
        }
        let unit: String = unit.chars().filter(|c| !"{}".contains(*c)).collect();
        self.at = self.text.len();
        self.push(Token::Word(unit));
        true
    }

    /// The name of a currency before a sum: `Rs. 12`, `US$5`.
    fn money_follows(&mut self, run: &str) -> bool {
        let rest = self.rest();
        let after = rest.trim_start_matches('.').trim_start();
        let dollar = after.starts_with('$') || after.starts_with("\\$");
        let amount = after.starts_with(|c: char| c.is_ascii_digit());
        let currency = match run {
            "Rs" | "INR" => "rupee",
            "EUR" => "euro",
            "GBP" => "pound",
            "USD" => "dollar",
            _ => "",
        };
        if !(dollar && run.starts_with(['U', 'A']) || amount && !currency.is_empty()) {
            return false;
        }
        self.at += rest.len() - after.len();
        if dollar {
            self.at += if after.starts_with('$') { 1 } else { 2 };
        }
        self.push(Token::Currency(if dollar { "dollar" } else { currency }));
        true
    }

    /// `mod`; with a bracket before it, which the modulus closes, as `\pmod` is.
    pub(super) fn modulo(&mut self) {
        let bracket = self.found.last() == Some(&Token::Sign('('));
        if !bracket {
            return self.push(Token::Mod(false));
        }
        self.found.pop();
        self.push(Token::Mod(true));
        self.push(Token::Sign('('));
    }
}

/// `sinx`, `lnx`
fn func_and_letter(run: &str) -> Option<(Func, &str)> {
    let (name, argument) = run.split_at(run.len() - 1);
    let func = Func::named(name).filter(|_| matches!(argument, "x" | "t" | "y" | "n"))?;
    Some((func, argument))
}
