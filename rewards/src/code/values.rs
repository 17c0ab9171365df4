//! Arguments and results of functions, as they cross between this process and the program's.
//!
//! Before: a test has them as JSON. After: they are written as `codec.py` reads them, or compared with what it wrote. A
//! value that a program returned is compared here, so that it has no say in what is equal.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// JSON as `codec.py` reads it.
pub(super) fn coded(value: &Value) -> Value {
    match value {
        Value::Array(items) => json!(["list", items.iter().map(coded).collect::<Vec<_>>()]),
        Value::Object(items) => {
            let pairs: Vec<Value> = items.iter().map(|(key, item)| json!([key, coded(item)])).collect();
            json!(["dict", pairs])
        }
        plain => plain.clone(),
    }
}

/// Whether a value that `codec.py` wrote is the wanted one, as Python compares: 1 is 1.0 and `True`. Tuples are lists,
/// and keys are text, because JSON has nothing else. Integers beyond 64 bits are compared as floating-point numbers.
pub(super) fn equal(coded: &Value, wanted: &Value) -> bool {
    if let (Some(left), Some(right)) = (number(coded), number(wanted)) {
        return match (left, right) {
            (Number::Int(left), Number::Int(right)) => left == right,
            (left, right) => left.float() == right.float(),
        };
    }
    match wanted {
        Value::Null | Value::String(_) => coded == wanted,
        Value::Array(wanted) => match content(coded) {
            Some(("list" | "tuple", found)) => {
                found.len() == wanted.len()
                    && found.iter().zip(wanted).all(|(found, wanted)| equal(found, wanted))
            }
            _ => false,
        },
        Value::Object(wanted) => match content(coded) {
            Some(("dict", found)) => {
                // What came from the program's process may name a key twice.
                let found: Option<BTreeMap<_, _>> =
                    found.iter().map(|pair| Some((key(&pair[0])?, &pair[1]))).collect();
                let same = |(key, wanted): (&String, &Value)| {
                    found.as_ref().and_then(|found| found.get(key)).is_some_and(|found| equal(found, wanted))
                };
                found.as_ref().is_some_and(|found| found.len() == wanted.len()) && wanted.iter().all(same)
            }
            _ => false,
        },
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The same for the result of a function: some datasets put it into a list of one.
pub(super) fn equal_result(coded: &Value, wanted: &Value) -> bool {
    equal(coded, wanted) || wanted.as_array().is_some_and(|only| only.len() == 1 && equal(coded, &only[0]))
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

enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    fn float(&self) -> f64 {
        match self {
            Self::Int(value) => *value as f64,
            Self::Float(value) => *value,
        }
    }
}

fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Bool(value) => Some(Number::Int(i128::from(*value))),
        Value::Number(value) => match (value.as_i64(), value.as_u64()) {
            (Some(value), _) => Some(Number::Int(value.into())),
            (_, Some(value)) => Some(Number::Int(value.into())),
            _ => value.as_f64().map(Number::Float),
        },
        Value::Array(_) if value[0] == "int" => match value[1].as_str()?.parse::<u64>() {
            Ok(digits) => Some(Number::Int(digits.into())),
            Err(_) => value[1].as_str()?.parse().ok().map(Number::Float),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
