//! How far a number reaches, by its form.
//!
//! Before: [`crate::extract`] looks through a completion. After: the number is cut out as it is written. Nothing is computed.

/// Whether this is a plus or a minus, U+2212 included.
pub(crate) fn is_sign(c: char) -> bool {
    matches!(c, '+' | '-' | '−')
}

/// How many bytes of the text the number takes that it begins with; `None` if it begins with something else.
///
/// Understood are `-7`, `+7`, `−7`, `$5`, `1,234,567` (and `1{,}234`, `1\,234`), `.5`, `3/4`, `\frac{3}{4}` (and `\dfrac`,
/// `\tfrac34`), the mixed `3\frac{1}{2}`, `1.2e-3`, `1.2 \times 10^{-3}`.
pub(crate) fn number_len(text: &str) -> Option<usize> {
    let mut scan = Scan { text, at: 0 };
    scan.number().then_some(scan.at)
}

/// A place in a text. Methods that find what they look for go past it; those that do not stay where they were. None
/// calls itself, and none looks further than past one number, so that reading on from any place is linear.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn eat(&mut self, wanted: &str) -> bool {
        let found = self.rest().starts_with(wanted);
        self.at += if found { wanted.len() } else { 0 };
        found
    }

    fn eat_one(&mut self, wanted: &[&str]) -> bool {
        wanted.iter().any(|wanted| self.eat(wanted))
    }

    fn blanks(&mut self) {
        loop {
            self.at = self.text.len() - self.rest().trim_start().len();
            if !self.eat_one(&[r"\,", r"\;", r"\:", r"\!", r"\ ", "~"]) {
                return;
            }
        }
    }

    /// Goes back if it is not there.
    fn attempt(&mut self, read: impl FnOnce(&mut Self) -> bool) -> bool {
        let at = self.at;
        let there = read(self);
        if !there {
            self.at = at;
        }
        there
    }

    fn digits(&mut self) -> usize {
        let rest = self.rest();
        let len = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        self.at += len;
        len
    }

    fn sign(&mut self) -> bool {
        self.eat_one(&["+", "-", "−"])
    }

    fn number(&mut self) -> bool {
        self.attempt(|scan| {
            let signed = scan.sign();
            if scan.eat_one(&[r"\$", "$"]) && !signed {
                scan.sign();
            }
            scan.fraction() || scan.decimal_and_more()
        })
    }

    /// A decimal, with the fraction, denominator or exponent that may follow it.
    fn decimal_and_more(&mut self) -> bool {
        let start = self.at;
        if !self.decimal() {
            return false;
        }
        let whole = !self.text[start..self.at].contains('.');
        let mixed = |scan: &mut Self| {
            scan.blanks();
            scan.fraction()
        };
        let _ = whole && self.attempt(mixed) || self.denominator() || self.exponent();
        true
    }

    /// `12`, `1,234`, `1.50`, `.5`.
    fn decimal(&mut self) -> bool {
        self.attempt(|scan| {
            let zero = scan.rest().starts_with('0');
            let first = scan.digits();
            if (1..=3).contains(&first) && !zero {
                while scan.group() {}
            }
            let places = scan.attempt(|scan| scan.eat(".") && scan.digits() > 0);
            first > 0 || places
        })
    }

    /// A thousands separator and exactly three digits.
    fn group(&mut self) -> bool {
        self.attempt(|scan| scan.eat_one(&[r",\!", ",", "{,}", r"\,"]) && scan.digits() == 3)
    }

    /// `\frac{3}{4}`, `\frac34`.
    fn fraction(&mut self) -> bool {
        self.attempt(|scan| {
            scan.eat_one(&[r"\frac", r"\dfrac", r"\tfrac"]) && scan.argument() && scan.argument()
        })
    }

    /// What a TeX command takes: a decimal in braces, or one digit.
    fn argument(&mut self) -> bool {
        self.blanks();
        if self.eat("{") {
            self.blanks();
            self.sign();
            if !self.decimal() {
                return false;
            }
            self.blanks();
            return self.eat("}");
        }
        let digit = self.rest().starts_with(|c: char| c.is_ascii_digit());
        self.at += usize::from(digit);
        digit
    }

    /// `/ 4`
    fn denominator(&mut self) -> bool {
        self.attempt(|scan| {
            scan.blanks();
            if !scan.eat("/") {
                return false;
            }
            scan.blanks();
            scan.sign();
            scan.decimal()
        })
    }

    /// `e-3`, `\times 10^{-3}`
    fn exponent(&mut self) -> bool {
        self.attempt(|scan| {
            let mut braced = false;
            if !scan.eat_one(&["e", "E"]) {
                scan.blanks();
                if !scan.eat_one(&[r"\times", r"\cdot", "×", "·", "*"]) {
                    return false;
                }
                scan.blanks();
                if !scan.eat("10^") {
                    return false;
                }
                braced = scan.eat("{");
            }
            scan.sign();
            scan.digits() > 0 && (!braced || scan.eat("}"))
        })
    }
}
