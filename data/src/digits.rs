//! Integers that are too long for a number in memory.
//!
//! Before: a row of JSON lines is read into [`Value`]s, which hold 64 bits and turn longer integers into floats without a word.
//! After: such a column is the text that stands in the file, so that whoever understands it has every digit.

use std::collections::HashMap;

use serde_json::{Map, Value, value::RawValue};

/// Replaces each column of a row that has an integer beyond 64 bits, alone or inside of a list or an object, by its JSON as
/// text. `text` is the row that `columns` were read from.
pub fn keep_long_integers(text: &str, columns: &mut Map<String, Value>) {
    // most rows have none, and are not read twice
    if !has_long_integer(text) {
        return;
    }
    let Ok(entries) = serde_json::from_str::<HashMap<String, &RawValue>>(text) else { return };
    for (name, raw) in entries.into_iter().filter(|(_, raw)| has_long_integer(raw.get())) {
        if let Some(value) = columns.get_mut(&name) {
            *value = Value::String(raw.get().to_owned());
        }
    }
}

/// Whether JSON has such an integer outside of its strings.
fn has_long_integer(json: &str) -> bool {
    let bytes = json.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let len = bytes[at..].iter().take_while(part).count();
                let number = &json[at..at + len];
                let integer = !number.contains(['.', 'e', 'E']);
                if integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
                    return true;
                }
                at += len;
            }
            _ => at += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_with_an_integer_beyond_64_bits_is_its_text_and_others_stay() {
        let row = r#"{"a": 15511210043330985984000000, "b": {"outputs": [1, [-15511210043330985984000000]]}, "c": 18446744073709551615,
            "d": -9223372036854775808, "e": 1.5e300, "f": "15511210043330985984000000 \" 15511210043330985984000000", "g": [1e30]}"#;
        let before: Map<String, Value> = serde_json::from_str(row).unwrap();
        let mut columns = before.clone();
        keep_long_integers(row, &mut columns);
        assert_eq!(columns["a"], "15511210043330985984000000");
        assert_eq!(columns["b"], r#"{"outputs": [1, [-15511210043330985984000000]]}"#);
        for name in ["c", "d", "e", "f", "g"] {
            assert_eq!(columns[name], before[name], "{name}");
        }
    }
}
