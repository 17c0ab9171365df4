//! Numbers as people and models write them, read exactly.
//!
//! Before: an answer was found, or a reference answer is at hand. After: two of them can be compared with no rounding.

/// An exact rational number whose numerator and denominator fit in 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Number {
    // Without common divisors, the denominator above 0: equal numbers have equal fields.
    numerator: i128,
    denominator: i128,
}

/// Whether both texts are numbers, and the same one.
pub fn equal(a: &str, b: &str) -> bool {
    Number::parse(a).is_some_and(|number| Number::parse(b) == Some(number))
}

impl Number {
    /// Reads a whole text as a number, or `None` if it is anything else or too large to be exact.
    ///
    /// Understood are `-7`, `+7`, `−7`, `1,234,567` (and `1{,}234`, `1\,234`), `.5`, `3/4`, `\frac{3}{4}` (and `\dfrac`,
    /// `\tfrac34`), the mixed `3\frac{1}{2}`, `1.2e-3`, `1.2 \times 10^{-3}`. Left out of account are `$…$`, `\(…\)`,
    /// `\[…\]` around, a currency sign in front, and after it a percent or degree sign, units as `\text{ cm}^2` and a full
    /// stop. So `30\%` is 30.
    pub fn parse(text: &str) -> Option<Self> {
        let mut scan = Scan { text: bare(text), at: 0 };
        let number = scan.number(true)?;
        scan.unit();
        if scan.at == scan.text.len() { number } else { None }
    }

    /// numerator / denominator in lowest terms, or `None` if the denominator is 0 or either is the one number of 128
    /// bits that cannot change its sign.
    fn new(numerator: i128, denominator: i128) -> Option<Self> {
        if denominator == 0 || numerator == i128::MIN || denominator == i128::MIN {
            return None;
        }
        let divisor = gcd(numerator.abs(), denominator.abs()) * denominator.signum();
        Some(Self { numerator: numerator / divisor, denominator: denominator / divisor })
    }

    fn negated(self) -> Self {
        Self { numerator: -self.numerator, ..self } // `new` has refused the one that has no opposite
    }

    fn plus(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::new(left.checked_add(right)?, self.denominator.checked_mul(other.denominator)?)
    }

    /// Divides out what is common first, so that nothing overflows which the result does not.
    fn over(self, other: Self) -> Option<Self> {
        let tops = Self::new(self.numerator, other.numerator)?;
        let bottoms = Self::new(other.denominator, self.denominator)?;
        Self::new(
            tops.numerator.checked_mul(bottoms.numerator)?,
            tops.denominator.checked_mul(bottoms.denominator)?,
        )
    }

    /// self · 10^exponent.
    fn scaled(self, exponent: i32) -> Option<Self> {
        if self.numerator == 0 {
            return Some(self);
        }
        let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
        let (numerator, denominator) = if exponent < 0 { (power, 1) } else { (1, power) };
        self.over(Self { numerator, denominator })
    }
}

/// The greatest common divisor of two numbers that are not negative and not both 0.
fn gcd(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Whether this is a plus or a minus, U+2212 included.
pub(crate) fn is_sign(c: char) -> bool {
    matches!(c, '+' | '-' | '−')
}

/// How many bytes of the text the number takes that it begins with; `None` if it begins with something else.
pub(crate) fn prefix_len(text: &str) -> Option<usize> {
    let mut scan = Scan { text, at: 0 };
    scan.number(false).map(|_| scan.at)
}

/// The text without blanks, delimiters of formulas and one full stop around it.
fn bare(mut text: &str) -> &str {
    loop {
        text = text.trim();
        text = text.strip_suffix('.').unwrap_or(text).trim_end();
        let inside = [("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")]
            .into_iter()
            .find_map(|(open, close)| text.strip_prefix(open)?.strip_suffix(close));
        match inside {
            Some(inside) if !text.ends_with(r"\$") => text = inside,
            _ => return text,
        }
    }
}

/// A place in a text. Methods that find what they look for go past it; those that do not stay where they were. None
/// calls itself, and none looks further than past one number, so that reading on from any place is linear.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

/// A number by its form; `None` within if it is too large, or divided by 0.
type Value = Option<Number>;

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

    fn attempt<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let start = self.at;
        let found = read(self);
        if found.is_none() {
            self.at = start;
        }
        found
    }

    /// A run of digits, perhaps none.
    fn digits(&mut self) -> &'a str {
        let rest = self.rest();
        let digits = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];
        self.at += digits.len();
        digits
    }

    /// Goes past a sign; whether it was a minus.
    fn minus(&mut self) -> bool {
        !self.eat("+") && self.eat_one(&["-", "−"])
    }

    /// A number at this place. With `loose`, blanks may follow the sign and the currency sign.
    fn number(&mut self, loose: bool) -> Option<Value> {
        self.attempt(|scan| {
            let start = scan.at;
            let mut minus = scan.minus();
            let signed = scan.at > start;
            if loose {
                scan.blanks();
            }
            if scan.eat_one(&[r"\$", "$"]) {
                if loose {
                    scan.blanks();
                }
                if !signed {
                    minus = scan.minus();
                }
            }
            let value = scan.fraction().or_else(|| scan.decimal_and_more())?;
            Some(if minus { value.map(Number::negated) } else { value })
        })
    }

    /// A decimal, with the fraction, denominator or exponent that may follow it.
    fn decimal_and_more(&mut self) -> Option<Value> {
        let start = self.at;
        let value = self.decimal()?;
        if !self.text[start..self.at].contains('.')
            && let Some(fraction) = self.attempt(|scan| {
                scan.blanks();
                scan.fraction()
            })
        {
            let proper = fraction.filter(|fraction| fraction.numerator >= 0);
            return Some(value.zip(proper).and_then(|(value, fraction)| value.plus(fraction)));
        }
        if let Some(denominator) = self.denominator() {
            return Some(value.zip(denominator).and_then(|(value, denominator)| value.over(denominator)));
        }
        match self.exponent() {
            Some(exponent) => Some(value.and_then(|value| value.scaled(exponent))),
            None => Some(value),
        }
    }

    /// `12`, `1,234`, `1.50`, `.5`.
    fn decimal(&mut self) -> Option<Value> {
        self.attempt(|scan| {
            let first = scan.digits();
            let mut digits = append(Some(0), first);
            if (1..=3).contains(&first.len()) && !first.starts_with('0') {
                while let Some(group) = scan.group() {
                    digits = append(digits, group);
                }
            }
            let places = scan.attempt(|scan| {
                let places = if scan.eat(".") { scan.digits() } else { "" };
                (!places.is_empty()).then_some(places)
            });
            if first.is_empty() && places.is_none() {
                return None;
            }
            let places = places.unwrap_or_default().trim_end_matches('0'); // 9.000… is 9, however long
            let value = append(digits, places).and_then(|digits| Number::new(digits, 1));
            let exponent = i32::try_from(places.len()).map_or(i32::MIN, |places| -places);
            Some(value.and_then(|value| value.scaled(exponent)))
        })
    }

    /// A thousands separator and exactly three digits.
    fn group(&mut self) -> Option<&'a str> {
        self.attempt(|scan| {
            if !scan.eat_one(&[r",\!", ",", "{,}", r"\,"]) {
                return None;
            }
            let (group, after) = scan.rest().split_at_checked(3)?;
            let is_digit = |c: char| c.is_ascii_digit();
            scan.at += 3;
            (group.chars().all(is_digit) && !after.starts_with(is_digit)).then_some(group)
        })
    }

    /// `\frac{3}{4}`, `\frac34`.
    fn fraction(&mut self) -> Option<Value> {
        self.attempt(|scan| {
            if !scan.eat_one(&[r"\frac", r"\dfrac", r"\tfrac"]) {
                return None;
            }
            let (numerator, denominator) = (scan.argument()?, scan.argument()?);
            Some(numerator.zip(denominator).and_then(|(numerator, denominator)| numerator.over(denominator)))
        })
    }

    /// What a TeX command takes: a decimal in braces, or one digit.
    fn argument(&mut self) -> Option<Value> {
        self.blanks();
        if self.eat("{") {
            self.blanks();
            let value = self.signed_decimal()?;
            self.blanks();
            return self.eat("}").then_some(value);
        }
        let digit = self.rest().chars().next()?.to_digit(10)?;
        self.at += 1;
        Some(Number::new(digit.into(), 1))
    }

    /// `/ 4`
    fn denominator(&mut self) -> Option<Value> {
        self.attempt(|scan| {
            scan.blanks();
            if !scan.eat("/") {
                return None;
            }
            scan.blanks();
            scan.signed_decimal()
        })
    }

    fn signed_decimal(&mut self) -> Option<Value> {
        let minus = self.minus();
        let value = self.decimal()?;
        Some(if minus { value.map(Number::negated) } else { value })
    }

    /// `e-3`, `\times 10^{-3}`, and no larger than the numbers of 32 bits.
    fn exponent(&mut self) -> Option<i32> {
        self.attempt(|scan| {
            let mut braced = false;
            if !scan.eat_one(&["e", "E"]) {
                scan.blanks();
                if !scan.eat_one(&[r"\times", r"\cdot", "×", "·", "*"]) {
                    return None;
                }
                scan.blanks();
                if !scan.eat("10^") {
                    return None;
                }
                braced = scan.eat("{");
            }
            let minus = scan.minus();
            let digits = scan.digits();
            if digits.is_empty() || braced && !scan.eat("}") {
                return None;
            }
            let exponent = digits.parse().unwrap_or(i32::MAX); // digits alone fail only if they are too many
            Some(if minus { -exponent } else { exponent })
        })
    }

    /// Goes past a percent or degree sign and a unit, if they are there.
    fn unit(&mut self) {
        self.blanks();
        self.eat_one(&[r"\%", "%", r"^\circ", r"^{\circ}", "°"]);
        self.blanks();
        self.attempt(|scan| {
            if !scan.eat_one(&[r"\text{", r"\mathrm{", r"\textrm{", r"\mbox{"]) {
                return None;
            }
            let unit = scan.rest().split_once('}')?.0;
            if unit.contains(|c: char| c == '{' || c.is_numeric()) {
                return None; // `5\text{ or 6}` is not 5
            }
            scan.at += unit.len() + 1;
            scan.eat_one(&["^2", "^3", "^{2}", "^{3}"]);
            Some(())
        });
        self.blanks();
    }
}

/// The digits at the end of the number, or `None` if that gets too large.
fn append(number: Option<i128>, digits: &str) -> Option<i128> {
    digits
        .bytes()
        .try_fold(number?, |number, digit| number.checked_mul(10)?.checked_add(i128::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(numerator: i128, denominator: i128) -> Option<Number> {
        Some(Number::new(numerator, denominator).unwrap())
    }

    #[test]
    fn numbers_are_read_exactly() {
        for (text, numerator, denominator) in [
            ("0", 0, 1),
            ("-0", 0, 1),
            ("007", 7, 1),
            ("+17", 17, 1),
            ("-7", -7, 1),
            ("−7", -7, 1),
            ("- 7", -7, 1),
            (" 5 ", 5, 1),
            ("5.", 5, 1),
            ("9.0", 9, 1),
            (".25", 1, 4),
            ("-0.75", -3, 4),
            ("9.00000000000000000000000000000000000000000000000000", 9, 1),
            ("1,000", 1000, 1),
            ("1,234,567.5", 2_469_135, 2),
            ("12{,}000", 12_000, 1),
            (r"12\,000", 12_000, 1),
            (r"1,\!000", 1000, 1),
            ("3/4", 3, 4),
            ("6 / 8", 3, 4),
            ("-3/4", -3, 4),
            ("3/-4", -3, 4),
            ("1.5/0.5", 3, 1),
            ("1,000/4", 250, 1),
            (r"\frac{3}{4}", 3, 4),
            (r"\dfrac{3}{4}", 3, 4),
            (r"\tfrac34", 3, 4),
            (r"\frac{12}7", 12, 7),
            (r"\frac 3 4", 3, 4),
            (r"-\frac{ 2 }{ 5 }", -2, 5),
            (r"\frac{-2}{5}", -2, 5),
            (r"\frac{2}{-5}", -2, 5),
            (r"3\frac{1}{2}", 7, 2),
            (r"-3 \frac12", -7, 2),
            ("1e3", 1000, 1),
            ("2.5E-1", 1, 4),
            ("1e+2", 100, 1),
            (r"2.5 \times 10^{3}", 2500, 1),
            (r"1.2 \cdot 10^{-2}", 3, 250),
            ("3×10^12", 3_000_000_000_000, 1),
            ("0e999999999999", 0, 1),
            (r"30\%", 30, 1),
            ("12.5 %", 25, 2),
            ("$12", 12, 1),
            (r"\$1,250.50", 2501, 2),
            ("-$5", -5, 1),
            ("$-5", -5, 1),
            ("$5$", 5, 1),
            ("$5$.", 5, 1),
            ("$$ 5. $$", 5, 1),
            (r"\(5\)", 5, 1),
            (r"\[ \frac{1}{2} \]", 1, 2),
            (r"$\$5$", 5, 1),
            (r"15\text{ cm}", 15, 1),
            (r"15 \mathrm{cm}^2", 15, 1),
            (r"15\ \text{ cm}^{3}.", 15, 1),
            (r"60^\circ", 60, 1),
            (r"60^{\circ}", 60, 1),
            ("60°", 60, 1),
        ] {
            assert_eq!(Number::parse(text), number(numerator, denominator), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        for text in [
            "",
            " ",
            ".",
            "-",
            "$",
            "$$",
            "+-5",
            "--5",
            "five",
            "x",
            "5x",
            "x=5",
            "6!",
            "5 6",
            "1/2/3",
            "1/",
            "/2",
            "1/0",
            "1e",
            "1e3x",
            "2^3",
            "1.2.3",
            "5..",
            "0.333...",
            "1,23",
            "1,2345",
            "0,123",
            "1234,567",
            "1,234,56",
            ",123",
            "1,,000",
            r"\frac{1}",
            r"\frac{1}{0}",
            r"\frac{1}{2",
            r"\frac{x}{2}",
            r"\frac1",
            r"3\frac{-1}{2}",
            r"1.5\frac12",
            r"\sqrt{4}",
            r"\pi",
            r"5\text{ or }6",
            r"5\text{ or 6}",
            r"5\text{ cm",
            r"5\%\%",
            r"10^{2}",
            "NaN",
            "inf",
            "٣",
            "½",
            "1_000",
            "0x10",
            "(5)",
            r"2 \times 10",
            "5$",
        ] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_just_fits_is_not() {
        let largest = i128::MAX.to_string();
        assert_eq!(Number::parse(&largest), number(i128::MAX, 1));
        assert_eq!(Number::parse(&format!("-{largest}")), number(-i128::MAX, 1));
        assert_eq!(Number::parse(&format!("{largest}/{largest}")), number(1, 1));
        assert_eq!(Number::parse("170141183460469231731687303715884105728"), None); // 2¹²⁷
        assert_eq!(Number::parse(r"\frac{-85070591730234615865843651857942052864}{0.5}"), None); // −2¹²⁷
        assert_eq!(Number::parse("1e38"), number(10_i128.pow(38), 1));
        assert_eq!(Number::parse("1e-38"), number(1, 10_i128.pow(38)));
        for text in ["1e39", "1e-39", "1e2147483648", "1e-99999999999999999999", r"5 \times 10^{-400}"] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
        assert_eq!(Number::parse(&"9".repeat(1000)), None);
    }

    #[test]
    fn equal_numbers_are_equal_however_they_are_written() {
        for (answer, found, wanted) in [
            ("57", "57", true),
            ("57", "58", false),
            ("-7", "7", false),
            ("1000", "1,000", true),
            ("12000", "12{,}000", true),
            ("1250000", "1,250,000", true),
            ("9", "9.0", true),
            ("17", "+17", true),
            ("120", "12", false),
            ("6", "6!", false),
            ("0.25", ".25", true),
            ("3.14", "3.1", false),
            ("0.333", "0.334", false),
            ("2500", r"2.5 \times 10^{3}", true),
            (r"1.2 \times 10^{-2}", "0.012", true),
            (r"6.02 \times 10^{23}", r"6.02 \times 10^{22}", false),
            ("-0.75", r"-\frac{3}{4}", true),
            ("1000.5", "1,000.5", true),
            (r"\frac{3}{4}", "3/4", true),
            (r"\frac{3}{4}", "0.75", true),
            (r"\frac{3}{4}", r"\frac{6}{8}", true),
            (r"\frac{3}{4}", r"\tfrac34", true),
            (r"-\frac{2}{5}", r"\frac{2}{-5}", true),
            (r"\frac{1}{3}", "0.33", false),
            (r"\frac{1}{3}", r"\frac{1}{4}", false),
            (r"\frac{7}{2}", r"3\frac{1}{2}", true),
            (r"5\frac{3}{4}", "5.75", true),
            (r"3\frac{1}{2}", r"\frac{3}{2}", false),
            (r"\frac{14}{3}", "14/3", true),
            (r"\frac{22}{7}", r"\pi", false),
            (r"25\%", "25%", true),
            (r"30\%", "30", true),
            (r"50\%", r"60\%", false),
            ("12", r"\$12", true),
            ("12", r"12\text{ dollars}", true),
            (r"15\text{ cm}", r"15 \text{ cm}", true),
            (r"60^\circ", "60", true),
            ("12", r"\$21", false),
            (r"45^\circ", r"54^\circ", false),
            (r"3\text{ hours}", "3", true),
        ] {
            assert_eq!(equal(answer, found), wanted, "{answer} and {found}");
        }
        assert!(!equal("x", "x"));
    }

    proptest! {
        #[test]
        fn integers_come_back(n in any::<i64>()) {
            prop_assert_eq!(Number::parse(&n.to_string()), number(n.into(), 1));
        }

        #[test]
        fn a_common_factor_changes_nothing(a in any::<i32>(), b in any::<i32>(), k in any::<i32>()) {
            prop_assume!(b != 0 && k != 0);
            let (a, b, k) = (i64::from(a), i64::from(b), i64::from(k));
            let fraction = Number::parse(&format!("{a}/{b}"));
            prop_assert_eq!(fraction, number(a.into(), b.into()));
            prop_assert_eq!(Number::parse(&format!(r"\frac{{{}}}{{{}}}", a * k, b * k)), fraction);
        }

        #[test]
        fn a_decimal_is_its_digits_over_a_power_of_ten(digits in any::<u32>(), places in 1_usize..12) {
            let text = format!("{digits:0>width$}", width = places + 1);
            let (whole, rest) = text.split_at(text.len() - places);
            let wanted = number(digits.into(), 10_i128.pow(places as u32));
            prop_assert_eq!(Number::parse(&format!("{whole}.{rest}")), wanted);
            prop_assert_eq!(Number::parse(&format!("{digits}e-{places}")), wanted);
        }

        #[test]
        fn thousands_may_be_separated(n in any::<u64>()) {
            let digits = n.to_string();
            let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap()).collect();
            prop_assert_eq!(Number::parse(&groups.join(",")), number(n.into(), 1));
        }
    }
}
