//! Arguments and results of functions, as they cross between this process and the program's.
//!
//! Before: a test has them as JSON. After: they are written as `codec.py` reads them, or compared with what it wrote. A
//! value that a program returned is compared here, so that it has no say in what is equal.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::output::close;

/// Keys of the objects that stand for numbers which JSON, or its reader, has no place for; no dataset has such a key.
const INTEGER: &str = "\0int";
const FLOAT: &str = "\0float";

/// JSON of which no digit is lost: integers beyond 64 bits, and `NaN` and `Infinity` as Python writes them, are objects that
/// the functions here understand.
///
/// # Errors
/// If it is no JSON.
pub(super) fn read(text: &str) -> serde_json::Result<Value> {
    let (mut kept, mut from, mut at) = (String::new(), 0, 0);
    let bytes = text.as_bytes();
    while let Some(byte) = bytes.get(at) {
        let end = match byte {
            b'"' => {
                let mut end = at + 1;
                while end < bytes.len() && bytes[end] != b'"' {
                    end += if bytes[end] == b'\\' { 2 } else { 1 };
                }
                end + 1
            }
            b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                let word = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
                let end = at + bytes[at..].iter().take_while(word).count();
                let (kind, content) = match &text[at..end] {
                    "NaN" => (FLOAT, "nan"),
                    "Infinity" => (FLOAT, "inf"),
                    "-Infinity" => (FLOAT, "-inf"),
                    digits if is_integer(digits) && !is_short(digits) => (INTEGER, digits),
                    _ => ("", ""),
                };
                if !kind.is_empty() {
                    kept.push_str(&text[from..at]);
                    kept.push_str(&json!({ kind: content }).to_string());
                    from = end;
                }
                end
            }
            _ => at + 1,
        };
        at = end;
    }
    kept.push_str(&text[from..]);
    serde_json::from_str(&kept)
}

/// An integer as JSON and Python write it.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let some = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    some && (digits == "0" || !digits.starts_with('0'))
}

fn is_short(digits: &str) -> bool {
    digits.parse::<i64>().is_ok() || digits.parse::<u64>().is_ok()
}

/// What an object stands for, if for a number.
fn number_within(object: &Map<String, Value>) -> Option<(&'static str, &str)> {
    let content = |key| object.get(key).and_then(Value::as_str);
    match object.len() {
        1 => content(INTEGER)
            .map(|digits| ("int", digits))
            .or_else(|| content(FLOAT).map(|word| ("float", word))),
        _ => None,
    }
}

/// JSON as the dataset has it.
pub(super) fn written(value: &Value) -> String {
    let joined = |all: Vec<String>| all.join(",");
    match value {
        Value::Array(items) => format!("[{}]", joined(items.iter().map(written).collect())),
        Value::Object(items) => match number_within(items) {
            Some((_, number)) => number.to_owned(),
            None => {
                let entry = |(key, item): (&String, &Value)| format!("{}:{}", json!(key), written(item));
                format!("{{{}}}", joined(items.iter().map(entry).collect()))
            }
        },
        plain => plain.to_string(),
    }
}

/// JSON as `codec.py` reads it.
pub(super) fn coded(value: &Value) -> Value {
    match value {
        Value::Object(items) if let Some((kind, content)) = number_within(items) => json!([kind, content]),
        Value::Array(items) => json!(["list", items.iter().map(coded).collect::<Vec<_>>()]),
        Value::Object(items) => {
            let pairs: Vec<Value> = items.iter().map(|(key, item)| json!([key, coded(item)])).collect();
            json!(["dict", pairs])
        }
        plain => plain.clone(),
    }
}

/// Whether a value that `codec.py` wrote is the wanted one, as Python compares: 1 is 1.0 and `True`, and integers are compared
/// to the last digit. Beyond that, floating-point numbers may differ by the tolerance, see [`super::Code`], and NaN is NaN.
/// Tuples are lists, and keys are text, because JSON has nothing else.
pub(super) fn equal(coded: &Value, wanted: &Value, tolerance: f64) -> bool {
    if let (Some(left), Some(right)) = (number(coded), number(wanted)) {
        return match (left, right) {
            (Number::Int(left), Number::Int(right)) => left == right,
            (Number::Float(left), Number::Float(right)) => {
                left.is_nan() && right.is_nan() || close(left, right, tolerance)
            }
            (Number::Int(digits), Number::Float(value)) | (Number::Float(value), Number::Int(digits)) => {
                // Rust writes all digits of a float, so this is exact
                value.is_finite() && digits == format!("{:.0}", value + 0.0) && value.fract() == 0.0
            }
        };
    }
    match wanted {
        Value::Null | Value::String(_) => coded == wanted,
        Value::Array(wanted) => match content(coded) {
            Some(("list" | "tuple", found)) => {
                found.len() == wanted.len()
                    && found.iter().zip(wanted).all(|(found, wanted)| equal(found, wanted, tolerance))
            }
            _ => false,
        },
        Value::Object(wanted) => match content(coded) {
            Some(("dict", found)) => {
                // Two keys may be the same as text, and what came from the program's process may name one twice.
                if found.len() != wanted.len() {
                    return false;
                }
                let found: Option<BTreeMap<_, _>> =
                    found.iter().map(|pair| Some((key(&pair[0])?, &pair[1]))).collect();
                let same = |(key, wanted): (&String, &Value)| {
                    let found = found.as_ref().and_then(|found| found.get(key));
                    found.is_some_and(|found| equal(found, wanted, tolerance))
                };
                found.as_ref().is_some_and(|found| found.len() == wanted.len()) && wanted.iter().all(same)
            }
            _ => false,
        },
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The same for the result of a function: some datasets put it into a list of one.
pub(super) fn equal_result(coded: &Value, wanted: &Value, tolerance: f64) -> bool {
    let only = wanted.as_array().and_then(|list| list.first().filter(|_| list.len() == 1));
    equal(coded, wanted, tolerance) || only.is_some_and(|only| equal(coded, only, tolerance))
}

/// What people read.
pub(super) fn shown(coded: &Value) -> String {
    match content(coded) {
        Some((_, items)) if coded[0] != "dict" => {
            format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        Some((_, items)) => {
            let pairs = items.iter().map(|pair| format!("{}: {}", shown(&pair[0]), shown(&pair[1])));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        None if coded[0] == "ref" => "an object that is no plain value".into(),
        None => coded[1].as_str().map_or_else(|| coded.to_string(), str::to_owned),
    }
}

fn content(coded: &Value) -> Option<(&str, &Vec<Value>)> {
    coded[0].as_str().zip(coded[1].as_array())
}

fn key(coded: &Value) -> Option<String> {
    match coded {
        Value::String(text) => Some(text.clone()),
        Value::Array(_) => None,
        plain => Some(plain.to_string()),
    }
}

enum Number<'a> {
    /// By its digits.
    Int(Cow<'a, str>),
    Float(f64),
}

fn number(value: &Value) -> Option<Number<'_>> {
    let long = |digits| is_integer(digits).then_some(Number::Int(Cow::Borrowed(digits)));
    let float = |word| match word {
        "nan" => Some(f64::NAN),
        "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        _ => None,
    };
    match value {
        Value::Bool(value) => Some(Number::Int(u8::from(*value).to_string().into())),
        Value::Number(value) if value.is_f64() => value.as_f64().map(Number::Float),
        Value::Number(value) => Some(Number::Int(value.to_string().into())),
        Value::Array(_) if value[0] == "int" => long(value[1].as_str()?),
        Value::Array(_) if value[0] == "float" => float(value[1].as_str()?).map(Number::Float),
        Value::Object(items) => match number_within(items)? {
            ("int", digits) => long(digits),
            (_, word) => float(word).map(Number::Float),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equal(coded: &Value, wanted: &Value) -> bool {
        super::equal(coded, wanted, 1e-6)
    }

    fn equal_result(coded: &Value, wanted: &Value) -> bool {
        super::equal_result(coded, wanted, 1e-6)
    }

    #[test]
    fn integers_are_compared_to_the_last_digit() {
        let factorial = "15511210043330985984000000";
        let wanted = read(factorial).unwrap();
        assert_eq!(coded(&wanted), json!(["int", factorial]));
        assert_eq!(
            written(&read(&format!("[{factorial},{{\"a\":-1}}]")).unwrap()),
            format!("[{factorial},{{\"a\":-1}}]")
        );
        assert!(equal(&json!(["int", factorial]), &wanted));
        for wrong in [
            json!(["int", "15511210043330985985000000"]),
            json!(["int", "15511210043330985984000001"]),
            json!(["int", "+15511210043330985984000000"]),
            json!(["int", "015511210043330985984000000"]),
            json!(["int", "1.5511210043330985984e25"]),
            json!(1.5511210043330986e25),
            json!(factorial),
        ] {
            assert!(!equal(&wrong, &wanted), "{wrong}");
        }
        let power = read(&format!("[-{}]", 2u128.pow(100))).unwrap();
        assert!(equal(&json!(["list", [-(2f64.powi(100))]]), &power));
        let long = "7".repeat(9000);
        assert!(equal(&json!(["int", long]), &read(&long).unwrap()));
        assert!(!equal(&json!(["int", long]), &read(&(long.clone() + "7")).unwrap()));
        assert!(!equal(&json!(9_007_199_254_740_993_u64), &json!(9_007_199_254_740_992.0)));
        assert!(!equal(&json!(9_007_199_254_740_992.0), &json!(9_007_199_254_740_993_u64)));
    }

    #[test]
    fn floats_may_differ_by_the_tolerance_and_nan_is_nan() {
        let words = read("[NaN, Infinity, -Infinity, \"NaN\", \"\\\"-Infinity\"]").unwrap();
        let coded_words =
            json!(["list", [["float", "nan"], ["float", "inf"], ["float", "-inf"], "NaN", "\"-Infinity"]]);
        assert_eq!(coded(&words), coded_words);
        assert!(equal(&coded_words, &words));
        for (found, wanted) in [
            (json!(0.1 + 0.2), json!(0.3)),
            (json!(1e9 + 1e-4), json!(1e9)),
            (json!(-0.0), json!(0.0)),
            (json!(-0.0), json!(0)),
            (json!(5), json!(5.0)),
        ] {
            assert!(equal(&found, &wanted), "{found} {wanted}");
        }
        for (found, wanted) in [
            (json!(0.3001), json!(0.3)),
            (json!(5.000_000_1), json!(5)),
            (json!(5), json!(5.000_000_1)),
            (json!(["float", "inf"]), json!(1e300)),
            (json!(["float", "inf"]), read("-Infinity").unwrap()),
            (json!(["float", "nan"]), json!(0.0)),
            (json!(0.5), json!(0)),
        ] {
            assert!(!equal(&found, &wanted), "{found} {wanted}");
        }
        assert!(!super::equal(&json!(0.1 + 0.2), &json!(0.3), 0.0));
    }

    #[test]
    fn what_is_no_json_is_none() {
        for text in ["", "[1", "NaNs", "01", "--1", "\"a", "\"\\", "[1]]", "1 2", "\u{e9}"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_read_as_the_program_reads_it_is_equal_to_itself() {
        let values = json!([null, true, 1, -2, 0.5, "a", [], [1, [2]], {}, {"k": [1]}, u64::MAX, 1e300]);
        for value in values.as_array().unwrap() {
            assert!(equal(&coded(value), value), "{value}");
        }
        assert!(equal(&coded(&values), &values));
    }

    #[test]
    fn equality_is_that_of_python_as_far_as_json_goes() {
        for (coded, wanted) in [
            (json!(1.0), json!(1)),
            (json!(true), json!(1)),
            (json!(["tuple", [1, "a"]]), json!([1, "a"])),
            (json!(["dict", [[1, 2]]]), json!({"1": 2})),
            (json!(["int", "18446744073709551615"]), json!(u64::MAX)),
        ] {
            assert!(equal(&coded, &wanted), "{coded} {wanted}");
        }
        for (coded, wanted) in [
            (json!("1"), json!(1)),
            (json!(null), json!(0)),
            (json!(["list", [1]]), json!([1, 2])),
            (json!(["set", [1]]), json!([1])),
            (json!(["dict", [["a", 1], ["a", 1]]]), json!({"a": 1, "b": 1})),
            (json!(["dict", []]), json!([])),
            (json!(["dict", [[1, 2], ["1", 2]]]), json!({"1": 2})),
            (json!(["ref", 0]), json!([])),
            (json!(["float", "nan"]), json!(0)),
            (json!(9_007_199_254_740_993_u64), json!(9_007_199_254_740_992_u64)),
            (json!([]), json!([])),
        ] {
            assert!(!equal(&coded, &wanted), "{coded} {wanted}");
        }
        assert!(equal_result(&json!(3), &json!([3])) && !equal_result(&json!(3), &json!([3, 4])));
    }
}
