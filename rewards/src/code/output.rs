//! Whether what a program printed is what was wanted.
//!
//! Before: a program ran. After: a verdict on a case. Lines are compared without blanks at their ends; where they differ, word
//! by word, as numbers may be written in several ways.

/// Whether the output is the wanted one, with numbers as close as `tolerance` says, see [`super::Code`].
pub(super) fn same(found: &str, wanted: &str, tolerance: f64) -> bool {
    let (mut found, mut wanted) = (lines(found), lines(wanted));
    loop {
        match (found.next(), wanted.next()) {
            (None, None) => return true,
            (Some(found), Some(wanted)) if found == wanted || same_words(found, wanted, tolerance) => {}
            _ => return false,
        }
    }
}

/// Lines without blanks at their ends, and without empty ones at the end.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.trim_end().lines().map(str::trim_end)
}

/// Lines with the same blanks between words that are the same, or numbers close to each other.
fn same_words(found: &str, wanted: &str, tolerance: f64) -> bool {
    let (mut found, mut wanted) = (found.split(' '), wanted.split(' '));
    loop {
        match (found.next(), wanted.next()) {
            (None, None) => return true,
            (Some(found), Some(wanted)) if found == wanted || same_number(found, wanted, tolerance) => {}
            _ => return false,
        }
    }
}

/// Integers are the same only if they are written in the same way. Where one has a point or an exponent, the same value
/// counts, and if the wanted one has, a value close to it.
fn same_number(found: &str, wanted: &str, tolerance: f64) -> bool {
    let (Some(left), Some(right)) = (Written::of(found), Written::of(wanted)) else { return false };
    if !left.broken && !right.broken {
        return false;
    }
    left.value() == right.value() && left.is_exact() && right.is_exact()
        || right.broken && close(left.value(), right.value(), tolerance)
}

/// Whether two numbers differ by at most the tolerance, or by that share of the wanted one.
pub(super) fn close(found: f64, wanted: f64, tolerance: f64) -> bool {
    found == wanted
        || (found - wanted).abs() <= tolerance * wanted.abs().max(1.0)
            && found.is_finite()
            && wanted.is_finite()
}

/// A decimal number as it is written: a minus, digits, perhaps a point and an exponent.
struct Written<'a> {
    text: &'a str,
    /// Whether it has a point or an exponent.
    broken: bool,
}

impl<'a> Written<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let body = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (mantissa, exponent) = match body.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (body, None),
        };
        let (whole, part) = match mantissa.split_once('.') {
            Some((whole, part)) => (whole, Some(part)),
            None => (mantissa, None),
        };
        let good_part = part.is_none_or(|part| part.is_empty() || digits(part));
        let some = digits(whole) || (whole.is_empty() && part.is_some_and(digits));
        let good_exponent =
            exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)));
        // `007` is a name rather than a number
        let plain = whole.len() < 2 || !whole.starts_with('0');
        (some && good_part && good_exponent && plain)
            .then_some(Self { text, broken: part.is_some() || exponent.is_some() })
    }

    fn value(&self) -> f64 {
        self.text.parse().unwrap_or(f64::NAN)
    }

    /// Whether no digit is lost in `value`.
    fn is_exact(&self) -> bool {
        self.text.bytes().filter(u8::is_ascii_digit).count() <= 15
    }
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn lines_are_compared_without_blanks_at_their_ends() {
        assert!(same("a b \nc\n\n", "a b\nc", 0.0) && same("", "\n", 0.0) && same("a\r\nb", "a\nb", 0.0));
        for (found, wanted) in [("a  b", "a b"), ("a\n\nb", "a\nb"), ("a", "a\nb"), (" a", "a"), ("A", "a")] {
            assert!(!same(found, wanted, 1e-6), "{found:?} {wanted:?}");
        }
    }

    #[test]
    fn numbers_with_a_point_may_differ_by_the_tolerance_and_integers_may_not() {
        for (found, wanted) in [
            ("0.3333333333", "0.333333"),
            ("0.30000000000000004", "0.3"),
            ("x = 1234567.9 m", "x = 1234567.8 m"),
            ("5.0", "5"),
            ("5", "5.0"),
            ("5", "5.000"),
            ("1e3", "1000.0"),
            ("-0.0", "0.0"),
            (".5", "0.5"),
            ("1.5 2.5\n3.50", "1.5 2.50\n3.5"),
        ] {
            assert!(same(found, wanted, 1e-6), "{found:?} {wanted:?}");
        }
        for (found, wanted) in [
            ("0.33334", "0.333333"),
            ("1000001", "1000000"),
            ("15511210043330985984000001", "15511210043330985984000000"),
            ("15511210043330985984000000.0", "15511210043330985984000001"),
            ("5.0000001", "5"),
            ("007", "7"),
            ("0010", "10"),
            ("1.5 2.5", "1.5"),
            ("nan", "0.5"),
            ("inf", "0.5"),
            ("1e999", "0.5"),
            ("1_0.0", "10.0"),
            ("0x1.0", "1.0"),
            ("1.2.3", "1.2"),
            ("٣.٥", "3.5"),
            ("Infinity", "1e999"),
        ] {
            assert!(!same(found, wanted, 1e-6), "{found:?} {wanted:?}");
        }
        assert!(!same("0.30000000000000004", "0.3", 0.0) && same("0.30", "0.3", 0.0));
    }
}
