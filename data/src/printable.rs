//! Text that others wrote, made safe to show on a terminal.
//!
//! Before: a completion, an identifier, an error of somebody's program. After: text that a terminal shows as it is. Control
//! characters make a terminal do things, such as to move the cursor over what was printed, to set the clipboard or to
//! answer as if typed; bidirectional controls show text in another order than it has; invisible characters hide text.

use std::borrow::Cow;

/// The text with every character that a terminal would obey or hide as `\u001b`, the escape that JSON has for it too. So JSON
/// means the same afterwards. Line feeds, also behind a carriage return, and tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut from = 0;
    for (at, c) in text.char_indices() {
        let line_end = c == '\r' && text[at + 1..].starts_with('\n');
        if !acts(c) || line_end {
            continue;
        }
        shown.push_str(&text[from..at]);
        for unit in c.encode_utf16(&mut [0; 2]) {
            shown.push_str(&format!("\\u{unit:04x}"));
        }
        from = at + c.len_utf8();
    }
    if from == 0 {
        return Cow::Borrowed(text);
    }
    shown.push_str(&text[from..]);
    Cow::Owned(shown)
}

/// Whether a terminal does something else with it than to show it in its place.
fn acts(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control() && !matches!(c, '\n' | '\t');
    }
    matches!(c,
        // C1: what ESC and a letter are in 7 bits
        '\u{80}'..='\u{9f}'
        // directions: marks, embeddings, overrides, isolates
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
        // without a width: joiners, spaces, soft hyphen, invisible operators, byte order mark
        | '\u{ad}' | '\u{34f}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{feff}'
        // fillers that look like blanks
        | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{ffa0}'
        // ends of lines and paragraphs, annotations
        | '\u{2028}' | '\u{2029}' | '\u{fff0}'..='\u{fffb}'
        // shorthand and music controls, tags, and selectors that hide any bytes behind one character
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_hides_becomes_an_escape_and_all_else_stays() {
        for (text, wanted) in [
            ("a\x1b[31mb", r"a\u001b[31mb"),
            ("\x1b]0;title\x07", r"\u001b]0;title\u0007"),
            ("\x1b]52;c;aGk=\x1b\\", "\\u001b]52;c;aGk=\\u001b\\"),
            ("a\rb\x08\x7f", r"a\u000db\u0008\u007f"),
            ("\u{9b}31m\u{90}\u{85}", r"\u009b31m\u0090\u0085"),
            ("user\u{202e}cod.exe\u{2066}\u{200f}", r"user\u202ecod.exe\u2066\u200f"),
            ("a\u{200b}b\u{200d}c\u{feff}\u{ad}", r"a\u200bb\u200dc\ufeff\u00ad"),
            ("\u{e0041}\u{e0100}", r"\udb40\udc41\udb40\udd00"),
            ("\0", r"\u0000"),
            ("line\r\nline\n\ttab", "line\r\nline\n\ttab"),
            ("äöü 数学 العربية 🙂 √2 ≤ \\u001b", "äöü 数学 العربية 🙂 √2 ≤ \\u001b"),
            ("", ""),
        ] {
            assert_eq!(printable(text), wanted, "{text:?}");
            assert_eq!(printable(&printable(text)), wanted, "{text:?}");
        }
    }

    #[test]
    fn json_means_the_same_afterwards() {
        let every: String = (0..=0xf_ffff).filter_map(char::from_u32).collect();
        let json = serde_json::to_string(&every).unwrap();
        let shown = printable(&json);
        assert!(shown.chars().all(|c| !acts(c)));
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), every);
    }
}
