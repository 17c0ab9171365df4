//! Units of quantities.
//!
//! Before: [`super::parse`] found words behind a number. After: [`super::compare`]. A unit may be missing, and words that are
//! no known unit say nothing; two known units have to be the same, or of one kind and then the numbers are converted.

use num_rational::BigRational;

use super::node::Rational;

/// What is measured, in which power, and how many of the base unit one is: numerator and denominator.
type Known = (&'static str, i32, i64, i64);

/// By name in lower case and singular.
const UNITS: &[(&str, Known)] = &[
    ("mm", ("length", 1, 1, 1000)),
    ("millimeter", ("length", 1, 1, 1000)),
    ("millimetre", ("length", 1, 1, 1000)),
    ("cm", ("length", 1, 1, 100)),
    ("centimeter", ("length", 1, 1, 100)),
    ("centimetre", ("length", 1, 1, 100)),
    ("m", ("length", 1, 1, 1)),
    ("meter", ("length", 1, 1, 1)),
    ("metre", ("length", 1, 1, 1)),
    ("km", ("length", 1, 1000, 1)),
    ("kilometer", ("length", 1, 1000, 1)),
    ("kilometre", ("length", 1, 1000, 1)),
    ("in", ("length", 1, 254, 10_000)),
    ("inch", ("length", 1, 254, 10_000)),
    ("inche", ("length", 1, 254, 10_000)),
    ("ft", ("length", 1, 3048, 10_000)),
    ("foot", ("length", 1, 3048, 10_000)),
    ("feet", ("length", 1, 3048, 10_000)),
    ("yd", ("length", 1, 9144, 10_000)),
    ("yard", ("length", 1, 9144, 10_000)),
    ("mile", ("length", 1, 1_609_344, 1000)),
    ("mi", ("length", 1, 1_609_344, 1000)),
    ("mg", ("mass", 1, 1, 1_000_000)),
    ("g", ("mass", 1, 1, 1000)),
    ("gram", ("mass", 1, 1, 1000)),
    ("kg", ("mass", 1, 1, 1)),
    ("kilogram", ("mass", 1, 1, 1)),
    ("lb", ("weight", 1, 16, 1)),
    ("pound", ("weight", 1, 16, 1)),
    ("oz", ("weight", 1, 1, 1)),
    ("ounce", ("weight", 1, 1, 1)),
    ("ton", ("ton", 1, 1, 1)),
    ("ms", ("time", 1, 1, 1000)),
    ("s", ("time", 1, 1, 1)),
    ("sec", ("time", 1, 1, 1)),
    ("second", ("time", 1, 1, 1)),
    ("min", ("time", 1, 60, 1)),
    ("minute", ("time", 1, 60, 1)),
    ("h", ("time", 1, 3600, 1)),
    ("hr", ("time", 1, 3600, 1)),
    ("hour", ("time", 1, 3600, 1)),
    ("day", ("time", 1, 86_400, 1)),
    ("week", ("time", 1, 604_800, 1)),
    ("month", ("month", 1, 1, 1)),
    ("year", ("month", 1, 12, 1)),
    ("ml", ("volume", 1, 1, 1000)),
    ("milliliter", ("volume", 1, 1, 1000)),
    ("l", ("volume", 1, 1, 1)),
    ("liter", ("volume", 1, 1, 1)),
    ("litre", ("volume", 1, 1, 1)),
    ("gallon", ("gallon", 1, 1, 1)),
    ("quart", ("gallon", 1, 1, 4)),
    ("pint", ("gallon", 1, 1, 8)),
    ("cup", ("gallon", 1, 1, 16)),
    ("cent", ("dollar", 1, 1, 100)),
    ("penny", ("dollar", 1, 1, 100)),
    ("dollar", ("dollar", 1, 1, 1)),
    ("usd", ("dollar", 1, 1, 1)),
    ("buck", ("dollar", 1, 1, 1)),
    ("euro", ("euro", 1, 1, 1)),
    ("radian", ("angle", 1, 1, 1)),
    ("hz", ("hertz", 1, 1, 1)),
    ("hertz", ("hertz", 1, 1, 1)),
    ("joule", ("joule", 1, 1, 1)),
    ("watt", ("watt", 1, 1, 1)),
    ("newton", ("newton", 1, 1, 1)),
    ("kelvin", ("kelvin", 1, 1, 1)),
];

/// Whether two letters are a unit and not a product.
pub(crate) fn is_unit(run: &str) -> bool {
    matches!(
        run,
        "cm" | "mm"
            | "km"
            | "kg"
            | "mg"
            | "ml"
            | "mL"
            | "ft"
            | "in"
            | "mi"
            | "yd"
            | "hr"
            | "oz"
            | "lb"
            | "Hz"
            | "am"
            | "pm"
            | "AM"
            | "PM"
            | "kJ"
            | "kN"
            | "kW"
    )
}

/// Whether the word is a unit that can be converted.
pub(crate) fn is_known(word: &str) -> bool {
    word.is_ascii() && known(word).is_some()
}

/// What a word right behind a number makes of it.
pub(crate) enum Scaled {
    Times(i64),
    Power(i64),
}

/// `5 million`, `5 squared`
pub(crate) fn scaled(word: &str) -> Option<Scaled> {
    Some(match word.to_lowercase().as_str() {
        "dozen" => Scaled::Times(12),
        "hundred" => Scaled::Times(100),
        "thousand" => Scaled::Times(1000),
        "million" => Scaled::Times(1_000_000),
        "billion" => Scaled::Times(1_000_000_000),
        "trillion" => Scaled::Times(1_000_000_000_000),
        "squared" => Scaled::Power(2),
        "cubed" => Scaled::Power(3),
        _ => return None,
    })
}

/// Whether a word behind a number takes it back, or goes on to another one: then it is no unit.
pub(crate) fn says_otherwise(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "not",
        "no",
        "is",
        "isn't",
        "are",
        "wrong",
        "incorrect",
        "plus",
        "minus",
        "times",
        "half",
        "alternatively",
        "maybe",
        "perhaps",
        "but",
        "either",
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
        "if",
        "because",
        "except",
    ];
    WORDS.contains(&word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase().as_str())
}

/// Words of which two different ones cannot both be right.
const OPPOSITES: &[&[&str]] = &[
    &["am", "pm"],
    &["increase", "decrease"],
    &["increased", "decreased"],
    &["profit", "loss"],
    &["gain", "loss"],
    &["north", "south", "east", "west"],
    &["more", "less", "fewer"],
    &["left", "right"],
    &["up", "down"],
    &["above", "below"],
];

/// Whether two units have opposite words.
fn opposite(first: &str, second: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let plain = text.to_lowercase().replace('.', "");
        plain.split([' ', '/']).map(str::to_owned).collect()
    };
    let (first, second) = (words(first), words(second));
    let has = |words: &[String], word: &str| words.iter().any(|other| other == word);
    OPPOSITES.iter().any(|group| {
        let of = |words: &[String]| group.iter().filter(|word| has(words, word)).count();
        let both = group.iter().any(|word| has(&first, word) && has(&second, word));
        of(&first) > 0 && of(&second) > 0 && !both
    })
}

/// Whether the unit is a sum of money.
pub(crate) fn is_currency(unit: &str) -> bool {
    let first = unit.split([' ', '/']).next().unwrap_or_default();
    matches!(known(first), Some(("dollar" | "euro", ..)))
}

fn known(word: &str) -> Option<Known> {
    let lower = word.to_lowercase();
    let find = |name: &str| UNITS.iter().find(|(unit, _)| *unit == name).map(|(_, known)| *known);
    find(&lower).or_else(|| find(lower.strip_suffix('s')?)).or_else(|| find(lower.strip_suffix("es")?))
}

/// A unit as what it measures, sorted, and how many base units one is; `None` if any word of it is unknown.
fn dimension(unit: &str) -> Option<(Vec<(&'static str, i32)>, Rational)> {
    let mut dimensions: Vec<(&'static str, i32)> = Vec::new();
    let mut scale = BigRational::from_integer(1.into());
    let text = unit.replace(" per ", "/").replace('*', " ").replace("mph", "mile/hour");
    for (place, part) in text.split('/').enumerate() {
        let mut power = 1;
        for word in part.split_whitespace() {
            match word.to_lowercase().trim_end_matches('.') {
                "square" | "sq" => {
                    power = 2;
                    continue;
                }
                "cubic" | "cu" => {
                    power = 3;
                    continue;
                }
                "squared" => {
                    dimensions.last_mut()?.1 *= 2;
                    continue;
                }
                "cubed" => {
                    dimensions.last_mut()?.1 *= 3;
                    continue;
                }
                _ => {}
            }
            let (name, written) = word.split_once('^').unwrap_or((word, "1"));
            // an unknown word says nothing of what is measured
            let Some((what, own, above, below)) = known(name.trim_end_matches('.')) else {
                power = 1;
                continue;
            };
            let mut power = own
                * std::mem::replace(&mut power, 1)
                * written.parse::<i32>().ok().filter(|p| p.abs() < 10)?;
            if place > 0 {
                power = -power;
            }
            scale *= num_traits::Pow::pow(BigRational::new(above.into(), below.into()), power);
            match dimensions.iter_mut().find(|(known, _)| *known == what) {
                Some((_, sum)) => *sum += power,
                None => dimensions.push((what, power)),
            }
        }
    }
    dimensions.sort_unstable();
    (!dimensions.is_empty()).then_some((dimensions, scale))
}

/// What a number in the second unit has to be multiplied by to be in the first: 1 if either is unknown, `None` if they
/// measure different things.
pub(crate) fn factor(first: &str, second: &str) -> Option<Rational> {
    let one = || Some(BigRational::from_integer(1.into()));
    if opposite(first, second) {
        return None;
    }
    match (dimension(first), dimension(second)) {
        (Some((a, of_a)), Some((b, of_b))) if a == b => Some(of_b / of_a),
        (Some(_), Some(_)) => None,
        _ => one(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(above: i64, below: i64) -> Option<Rational> {
        Some(BigRational::new(above.into(), below.into()))
    }

    #[test]
    fn units_of_one_kind_are_converted_and_of_two_are_not() {
        assert_eq!(factor("cm", "centimeters"), ratio(1, 1));
        assert_eq!(factor("cm", "m"), ratio(100, 1));
        assert_eq!(factor("m^2", "square meters"), ratio(1, 1));
        assert_eq!(factor("m/s", "km per hour"), ratio(1000, 3600));
        assert_eq!(factor("dollar", "cents"), ratio(1, 100));
        assert_eq!(factor("cm", "kg"), None);
        assert_eq!(factor("cm", "cm^2"), None);
        assert_eq!(factor("apples", "kg"), ratio(1, 1));
        assert_eq!(factor("red apples", "apples"), ratio(1, 1));
    }
}
