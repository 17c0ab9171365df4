//! Units of quantities.
//!
//! Before: [`super::parse`] found words behind a number. After: [`super::compare`]. A unit may be missing, and words that are
//! no known unit say nothing; two known units have to be the same, or of one kind and then the numbers are converted.

use num_rational::BigRational;

use super::node::Rational;

/// What is measured, as powers of what is basic, and how many of the basic unit one is: numerator and denominator.
type Known = (&'static [(&'static str, i32)], i64, i64);

const LENGTH: &[(&str, i32)] = &[("length", 1)];
const MASS: &[(&str, i32)] = &[("mass", 1)];
const TIME: &[(&str, i32)] = &[("time", 1)];
const VOLUME: &[(&str, i32)] = &[("length", 3)];
const FORCE: &[(&str, i32)] = &[("length", 1), ("mass", 1), ("time", -2)];
const ENERGY: &[(&str, i32)] = &[("length", 2), ("mass", 1), ("time", -2)];
const POWER: &[(&str, i32)] = &[("length", 2), ("mass", 1), ("time", -3)];
const CURRENT: &[(&str, i32)] = &[("current", 1)];
const VOLTAGE: &[(&str, i32)] = &[("current", -1), ("length", 2), ("mass", 1), ("time", -3)];
const RESISTANCE: &[(&str, i32)] = &[("current", -2), ("length", 2), ("mass", 1), ("time", -3)];
const CHARGE: &[(&str, i32)] = &[("current", 1), ("time", 1)];
const FREQUENCY: &[(&str, i32)] = &[("time", -1)];
const PRESSURE: &[(&str, i32)] = &[("length", -1), ("mass", 1), ("time", -2)];
const WEIGHT: &[(&str, i32)] = &[("weight", 1)];
const MONTH: &[(&str, i32)] = &[("month", 1)];
const GALLON: &[(&str, i32)] = &[("gallon", 1)];
const DOLLAR: &[(&str, i32)] = &[("dollar", 1)];

/// By symbol, as it is written; those of the first list take prefixes.
const PREFIXED: &[(&str, Known)] = &[
    ("m", (LENGTH, 1, 1)),
    ("g", (MASS, 1, 1000)),
    ("s", (TIME, 1, 1)),
    ("l", (VOLUME, 1, 1000)),
    ("L", (VOLUME, 1, 1000)),
    ("N", (FORCE, 1, 1)),
    ("J", (ENERGY, 1, 1)),
    ("W", (POWER, 1, 1)),
    ("A", (CURRENT, 1, 1)),
    ("V", (VOLTAGE, 1, 1)),
    ("Hz", (FREQUENCY, 1, 1)),
    ("Pa", (PRESSURE, 1, 1)),
    ("ohm", (RESISTANCE, 1, 1)),
    ("mol", (&[("mole", 1)], 1, 1)),
    ("eV", (&[("electronvolt", 1)], 1, 1)),
    ("cal", (&[("calorie", 1)], 1, 1)),
];
const SYMBOLS: &[(&str, Known)] = &[
    ("h", (TIME, 3600, 1)),
    ("C", (CHARGE, 1, 1)),
    ("K", (&[("kelvin", 1)], 1, 1)),
    ("Wh", (ENERGY, 3600, 1)),
    ("kWh", (ENERGY, 3_600_000, 1)),
    ("cc", (VOLUME, 1, 1_000_000)),
    ("ha", (&[("length", 2)], 10_000, 1)),
];
const PREFIXES: &[(&str, &str, i32)] = &[
    ("k", "kilo", 3),
    ("c", "centi", -2),
    ("m", "milli", -3),
    ("d", "deci", -1),
    ("μ", "micro", -6),
    ("µ", "micro", -6),
    ("u", "micro", -6),
    ("n", "nano", -9),
    ("p", "pico", -12),
    ("M", "mega", 6),
    ("G", "giga", 9),
    ("h", "hecto", 2),
];

/// By name in lower case and singular; those of the first list take prefixes.
const PREFIXED_NAMES: &[(&str, Known)] = &[
    ("meter", (LENGTH, 1, 1)),
    ("metre", (LENGTH, 1, 1)),
    ("gram", (MASS, 1, 1000)),
    ("liter", (VOLUME, 1, 1000)),
    ("litre", (VOLUME, 1, 1000)),
    ("second", (TIME, 1, 1)),
    ("newton", (FORCE, 1, 1)),
    ("joule", (ENERGY, 1, 1)),
    ("watt", (POWER, 1, 1)),
    ("volt", (VOLTAGE, 1, 1)),
    ("ampere", (CURRENT, 1, 1)),
    ("amp", (CURRENT, 1, 1)),
    ("ohm", (RESISTANCE, 1, 1)),
    ("hertz", (FREQUENCY, 1, 1)),
    ("pascal", (PRESSURE, 1, 1)),
    ("coulomb", (CHARGE, 1, 1)),
    ("calorie", (&[("calorie", 1)], 1, 1)),
];
const NAMES: &[(&str, Known)] = &[
    ("in", (LENGTH, 254, 10_000)),
    ("inch", (LENGTH, 254, 10_000)),
    ("inche", (LENGTH, 254, 10_000)),
    ("ft", (LENGTH, 3048, 10_000)),
    ("foot", (LENGTH, 3048, 10_000)),
    ("feet", (LENGTH, 3048, 10_000)),
    ("yd", (LENGTH, 9144, 10_000)),
    ("yard", (LENGTH, 9144, 10_000)),
    ("mile", (LENGTH, 1_609_344, 1000)),
    ("mi", (LENGTH, 1_609_344, 1000)),
    ("hectare", (&[("length", 2)], 10_000, 1)),
    ("acre", (&[("acre", 1)], 1, 1)),
    ("tonne", (MASS, 1000, 1)),
    ("lb", (WEIGHT, 16, 1)),
    ("pound", (WEIGHT, 16, 1)),
    ("oz", (WEIGHT, 1, 1)),
    ("ounce", (WEIGHT, 1, 1)),
    ("ton", (&[("ton", 1)], 1, 1)),
    ("sec", (TIME, 1, 1)),
    ("min", (TIME, 60, 1)),
    ("minute", (TIME, 60, 1)),
    ("hr", (TIME, 3600, 1)),
    ("hour", (TIME, 3600, 1)),
    ("day", (TIME, 86_400, 1)),
    ("week", (TIME, 604_800, 1)),
    ("month", (MONTH, 1, 1)),
    ("year", (MONTH, 12, 1)),
    ("yr", (MONTH, 12, 1)),
    ("decade", (MONTH, 120, 1)),
    ("century", (MONTH, 1200, 1)),
    ("gallon", (GALLON, 1, 1)),
    ("quart", (GALLON, 1, 4)),
    ("pint", (GALLON, 1, 8)),
    ("cup", (GALLON, 1, 16)),
    ("cent", (DOLLAR, 1, 100)),
    ("penny", (DOLLAR, 1, 100)),
    ("pennie", (DOLLAR, 1, 100)),
    ("nickel", (DOLLAR, 5, 100)),
    ("dime", (DOLLAR, 10, 100)),
    ("quarter", (DOLLAR, 25, 100)),
    ("dollar", (DOLLAR, 1, 1)),
    ("usd", (DOLLAR, 1, 1)),
    ("buck", (DOLLAR, 1, 1)),
    ("euro", (&[("euro", 1)], 1, 1)),
    ("eur", (&[("euro", 1)], 1, 1)),
    ("rupee", (&[("rupee", 1)], 1, 1)),
    ("paise", (&[("rupee", 1)], 1, 100)),
    ("yen", (&[("yen", 1)], 1, 1)),
    ("radian", (&[("angle", 1)], 1, 1)),
    ("kelvin", (&[("kelvin", 1)], 1, 1)),
    ("celsius", (&[("celsius", 1)], 1, 1)),
    ("fahrenheit", (&[("fahrenheit", 1)], 1, 1)),
    ("kph", (&[("length", 1), ("time", -1)], 1000, 3600)),
    ("kmph", (&[("length", 1), ("time", -1)], 1000, 3600)),
    ("mph", (&[("length", 1), ("time", -1)], 1_609_344, 3_600_000)),
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
    known(word).is_some()
}

/// Whether a text is units and nothing else: `m/s^2`, `N m`, `cm^{2}`.
pub(crate) fn is_expression(text: &str) -> bool {
    let letters = |c: char| c.is_alphabetic();
    let rest_fits = text.chars().all(|c| letters(c) || " /^{}-*·.".contains(c) || c.is_ascii_digit());
    let mut runs = text.split(|c: char| !letters(c)).filter(|run| !run.is_empty()).peekable();
    // 2 m h is a product
    let several =
        text.trim().contains(' ') && !text.contains('/') && text.split(' ').all(|run| run.len() < 2);
    rest_fits
        && !several
        && text.starts_with(letters)
        && runs.peek().is_some()
        && runs.all(|run| known(run).is_some() && (run.chars().count() > 1 || "mghsLNJWVAK".contains(run)))
        && !text.contains("^ ")
        && !text.as_bytes().windows(2).any(|pair| pair[0] == b' ' && pair[1].is_ascii_digit())
}

/// Whether a text is units with "square", "cubic" or "per": `sq m`.
pub(crate) fn is_phrase(text: &str) -> bool {
    let modifier = |word: &str| {
        matches!(word, "square" | "sq" | "sq." | "cubic" | "cu" | "cu." | "per" | "squared" | "cubed")
    };
    let word = |word: &str| modifier(word) || known(word.trim_end_matches('.')).is_some();
    text.split_whitespace().all(word) && text.split_whitespace().any(|word| !modifier(word))
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
        "lakh" | "lakhs" => Scaled::Times(100_000),
        "crore" | "crores" => Scaled::Times(10_000_000),
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
    let word = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    WORDS.contains(&word.as_str()) || super::moment::MONTHS.contains(&word.as_str())
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
    &["men", "women"],
    &["man", "woman"],
    &["boys", "girls"],
    &["boy", "girl"],
    &["adults", "children"],
    &["males", "females"],
    &["male", "female"],
    &["cats", "dogs"],
    &["apples", "oranges", "pears", "bananas"],
    &["heads", "tails"],
    &["wins", "losses"],
    &["pens", "pencils"],
    &["ducks", "chickens", "cows", "pigs", "sheep", "goats", "horses", "rabbits"],
    &["red", "blue", "green", "yellow", "white", "black"],
    &["square", "cubic"],
    &["sq", "cubic"],
    &["square", "cu"],
    &["sq", "cu"],
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

/// Whether the unit is a coin, of which a number is not the same as its worth in others.
pub(crate) fn is_coin(unit: &str) -> bool {
    let name = unit.trim().to_lowercase();
    matches!(name.trim_end_matches('s'), "penny" | "pennie" | "nickel" | "dime" | "quarter")
}

/// Whether the unit is a sum of money.
pub(crate) fn is_currency(unit: &str) -> bool {
    let first = unit.split([' ', '/']).next().unwrap_or_default();
    matches!(known(first), Some(([("dollar" | "euro" | "rupee" | "yen", 1)], ..)))
}

fn known(word: &str) -> Option<Known> {
    let ((what, above, below), power) = prefixed(word)?;
    let scale = 10_i64.checked_pow(power.unsigned_abs())?;
    let (above, below) =
        if power < 0 { (above, below.checked_mul(scale)?) } else { (above.checked_mul(scale)?, below) };
    Some((what, above, below))
}

/// A known unit, and the power of ten of its prefix.
fn prefixed(word: &str) -> Option<(Known, i32)> {
    fn find(list: &[(&str, Known)], name: &str) -> Option<Known> {
        list.iter().find(|(unit, _)| *unit == name).map(|(_, known)| *known)
    }
    if word.is_empty() || word.len() > 24 {
        return None;
    }
    if let Some(known) = find(PREFIXED, word).or_else(|| find(SYMBOLS, word)) {
        return Some((known, 0));
    }
    let lower = word.to_lowercase();
    let name = |lower: &str| {
        if lower.chars().count() < 2 {
            return None;
        }
        if let Some(known) = find(NAMES, lower).or_else(|| find(PREFIXED_NAMES, lower)) {
            return Some((known, 0));
        }
        PREFIXES.iter().find_map(|(_, long, power)| {
            let known = find(PREFIXED_NAMES, lower.strip_prefix(long)?)?;
            Some((known, *power))
        })
    };
    let symbol = |word: &str| {
        PREFIXES.iter().find_map(|(short, _, power)| {
            let known = find(PREFIXED, word.strip_prefix(short)?)?;
            Some((known, *power))
        })
    };
    name(&lower)
        .or_else(|| name(lower.strip_suffix('s')?))
        .or_else(|| name(lower.strip_suffix("es")?))
        .or_else(|| symbol(word))
        // KM and ML, but no single letter
        .or_else(|| {
            symbol(&lower).filter(|_| lower.len() > 1 && word.bytes().skip(1).any(|b| b.is_ascii_uppercase()))
        })
        .or_else(|| find(PREFIXED, lower.as_str()).filter(|_| lower.len() > 1).map(|known| (known, 0)))
}

/// A unit as what it measures, sorted, and how many base units one is; `None` if any word of it is unknown.
fn dimension(unit: &str) -> Option<(Vec<(&'static str, i32)>, Rational)> {
    let mut dimensions: Vec<(&'static str, i32)> = Vec::new();
    let mut scale = BigRational::from_integer(1.into());
    let mut last: (&[(&'static str, i32)], i32) = (&[], 0);
    let mut last_unit: Option<Known> = None;
    let text = unit.replace(" per ", "/").replace(['*', '·'], " ").replace(['{', '}'], "");
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
                "squared" | "cubed" => {
                    // once more for the square, twice for the cube
                    let more = if word.eq_ignore_ascii_case("squared") { 1 } else { 2 };
                    add(&mut dimensions, last.0, last.1 * more);
                    let (what, above, below) = last_unit?;
                    debug_assert_eq!(what, last.0);
                    let one = BigRational::new(above.into(), below.into());
                    scale *= num_traits::Pow::pow(one, last.1 * more);
                    continue;
                }
                _ => {}
            }
            let (name, written) = word.split_once('^').unwrap_or((word, "1"));
            // an unknown word says nothing of what is measured
            let Some((what, above, below)) = known(name.trim_end_matches('.')) else {
                power = 1;
                continue;
            };
            let mut power =
                std::mem::replace(&mut power, 1) * written.parse::<i32>().ok().filter(|p| p.abs() < 10)?;
            if place > 0 {
                power = -power;
            }
            scale *= num_traits::Pow::pow(BigRational::new(above.into(), below.into()), power);
            last = (what, power);
            last_unit = Some((what, above, below));
            add(&mut dimensions, what, power);
        }
    }
    dimensions.retain(|(_, power)| *power != 0);
    dimensions.sort_unstable();
    (!dimensions.is_empty()).then_some((dimensions, scale))
}

fn add(dimensions: &mut Vec<(&'static str, i32)>, what: &[(&'static str, i32)], times: i32) {
    for (name, power) in what {
        match dimensions.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += power * times,
            None => dimensions.push((name, power * times)),
        }
    }
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
        assert_eq!(factor("L", "cm^3"), ratio(1, 1000));
        assert_eq!(factor("N m", "J"), ratio(1, 1));
        assert_eq!(factor("m", "μm"), ratio(1, 1_000_000));
        assert_eq!(factor("km/h", "mph"), ratio(1_609_344, 1_000_000));
        assert_eq!(factor("square feet", "feet squared"), ratio(1, 1));
        assert_eq!(factor("nickels", "dimes"), ratio(2, 1));
        assert_eq!(factor("cm", "kg"), None);
        assert_eq!(factor("cm", "cm^2"), None);
        assert_eq!(factor("apples", "kg"), ratio(1, 1));
        assert_eq!(factor("red apples", "apples"), ratio(1, 1));
    }
}
