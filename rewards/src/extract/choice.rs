//! The letter of a multiple choice.
//!
//! Before: [`super::Place::Choice`] is asked for. After: one capital letter.

/// The last capital letter that stands alone; "A bus" and "I think" are words.
pub(super) fn last(text: &str) -> Option<&str> {
    let mut last = None;
    let mut before: Option<char> = None;
    for (at, c) in text.char_indices() {
        let after = &text[at + c.len_utf8()..];
        let mut next = after.chars();
        let alone = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && !"'’_^=+\\".contains(c));
        if ('A'..='J').contains(&c) && alone(before) && alone(after.chars().next()) {
            let word = next.next() == Some(' ') && next.next().is_some_and(char::is_lowercase);
            if !(word && (c == 'A' || c == 'I') && before != Some('(')) {
                last = Some(&text[at..at + 1]);
            }
        }
        before = Some(c);
    }
    last
}
