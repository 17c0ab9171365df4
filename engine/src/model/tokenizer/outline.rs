//! The parts of a `tokenizer.json` that decide whether it is safe to use: what could hang, grow without bound or give
//! other tokens each time is found here, before the tokenizer library reads the file.
//!
//! Before: the bytes of the file. After: [`super::Tokenizer`] lets the library read them.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// Most bytes that a byte of text may become in the normalizer, or a byte of a token in the decoder.
const MAX_GROWTH: f64 = 1024.0;

/// Regular expressions of published byte-level tokenizers. On these a search is linear in the text: no two parts of an
/// alternative can match the same characters in many ways.
const LINEAR: [&str; 5] = [
    // Qwen2, Qwen2.5 and Qwen3
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // the same with its contractions in brackets, as some conversions write it
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // Llama 3
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // GPT-2
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"\s+",
];

/// What a `tokenizer.json` is made of, but for its vocabulary.
#[derive(Debug, Deserialize)]
pub(super) struct Outline {
    #[serde(default)]
    added_tokens: Option<Vec<AddedToken>>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    model: Option<Model>,
}

/// A token beside the vocabulary, under the id that the file gives it.
#[derive(Debug, Deserialize)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) content: String,
}

#[derive(Debug, Deserialize)]
struct Model {
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default, rename = "vocab")]
    _vocab: IgnoredAny,
}

impl Outline {
    /// Reads and checks the bytes.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let outline: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if let Some(dropout) = outline.model.as_ref().and_then(|model| model.dropout)
            && dropout != 0.0
        {
            return Err(format!(
                "`model.dropout` is {dropout}, which tokenises the same text differently each time; wanted null"
            ));
        }
        for (part, value) in [("normalizer", &outline.normalizer), ("decoder", &outline.decoder)] {
            let growth = growth(value);
            if growth > MAX_GROWTH {
                return Err(format!(
                    "its `{part}` can make text {growth:.0} times as long; at most {MAX_GROWTH} times is allowed"
                ));
            }
        }
        Ok(outline)
    }

    /// The tokens beside the vocabulary.
    pub(super) fn added_tokens(&self) -> &[AddedToken] {
        self.added_tokens.as_deref().unwrap_or_default()
    }

    /// Whether a regular expression stands in it that is not known to be linear.
    pub(super) fn may_backtrack(&self) -> bool {
        [&self.normalizer, &self.pre_tokenizer, &self.decoder].into_iter().any(may_backtrack)
    }
}

/// Bound on the length of what a step (or a sequence of them) gives, as a multiple of what it takes.
fn growth(step: &Value) -> f64 {
    let length = |key: &str| step.get(key).and_then(Value::as_str).map_or(0.0, |text| text.len() as f64);
    match step.get("type").and_then(Value::as_str) {
        Some("Prepend") => 1.0 + step.get("prepend").and_then(Value::as_str).map_or(0.0, |t| t.len() as f64),
        Some("Replace") => match step.pointer("/pattern/String").and_then(Value::as_str) {
            Some(text) if !text.is_empty() => (length("content") / text.len() as f64).max(1.0),
            // may match between any two bytes
            _ => 1.0 + length("content"),
        },
        // Unicode's own bound is 18 bytes for one, a byte in the alphabet of bytes takes two
        Some("NFKC" | "NFKD" | "NFC" | "NFD" | "Precompiled" | "Lowercase" | "ByteLevel") => 1.0,
        _ => {
            let steps = ["normalizers", "decoders"].into_iter().filter_map(|key| step.get(key)?.as_array());
            steps.flatten().map(growth).product()
        }
    }
}

fn may_backtrack(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, value)| match value {
            Value::String(pattern) if key == "Regex" => !LINEAR.contains(&pattern.as_str()),
            value => may_backtrack(value),
        }),
        Value::Array(list) => list.iter().any(may_backtrack),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn growth_multiplies_along_a_sequence() {
        let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
        let shrink = json!({"type": "Replace", "pattern": {"String": "aaaa"}, "content": "a"});
        let anywhere = json!({"type": "Replace", "pattern": {"Regex": "x*"}, "content": "abc"});
        assert_eq!(growth(&Value::Null), 1.0);
        assert_eq!((growth(&double), growth(&shrink), growth(&anywhere)), (2.0, 1.0, 4.0));
        let many = json!({"type": "Sequence", "normalizers": vec![double; 30]});
        assert_eq!(growth(&many), 2f64.powi(30));
        let nested = json!({"type": "Sequence", "decoders": [{"type": "Sequence", "decoders": [anywhere, {"type": "Fuse"}]}, shrink]});
        assert_eq!(growth(&nested), 4.0);
    }

    #[test]
    fn only_known_expressions_are_taken_for_linear() {
        let split = |pattern: &str| json!({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": pattern}}]});
        assert!(!may_backtrack(&split(LINEAR[0])));
        assert!(may_backtrack(&split("(a+)+$")));
        assert!(!may_backtrack(&json!({"type": "Replace", "pattern": {"String": "(a+)+$"}})));
    }
}
