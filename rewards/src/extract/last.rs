//! The last number, and the last expression.
//!
//! Before: nothing in the text says where the answer is. After: what stands last in it.

use super::spans::{self, Span};
use crate::scan;

/// The last number, wherever it stands.
pub(super) fn number(text: &str) -> Option<&str> {
    let (mut last, mut at, mut before) = (None, 0, None);
    while let Some(c) = text[at..].chars().next() {
        // After a digit, a word or a bracket, a sign is an operator.
        let operator =
            scan::is_sign(c) && before.is_some_and(|b: char| b.is_alphanumeric() || ")]}%".contains(b));
        let begins = c.is_ascii_digit() || c == '.' || c == '\\' || (scan::is_sign(c) && !operator);
        let found = if begins { scan::number_len(&text[at..]) } else { None };
        if let Some(len) = found {
            last = Some(&text[at..at + len]);
        }
        let step = found.unwrap_or(c.len_utf8());
        before = text[..at + step].chars().next_back();
        at += step;
    }
    last
}

/// The last expression that is more than a name; `Some(None)` if it lacks its end, as `2 + 2 =` does.
pub(super) fn expression(text: &str) -> Option<Option<&str>> {
    let mut name = None;
    let mut end = text.trim_end().len();
    let all = end;
    while end > 0 && all - end < BEHIND {
        let start = paragraph(text, end);
        let piece = &text[start..end];
        let line = piece.trim_start_matches(|c: char| c.is_whitespace() || c == '#' || c == '>');
        let base = end - line.len();
        let stop = base + reasoned(line).len();
        let line = &text[base..stop];
        let spans = if line.len() > LONG { spans::spans(tail(line)) } else { spans::spans(line) };
        let base = if line.len() > LONG { stop - tail(line).len() } else { base };
        for Span { at, unfinished, name: bare } in spans.into_iter().rev() {
            let found = text[base + at.start..base + at.end].trim();
            if !bare {
                return Some((!unfinished).then_some(result(found)));
            }
            name = name.or(Some(found));
        }
        // without the line break, or it would be met again
        end = text[..start].trim_end().len();
    }
    name.map(Some)
}

/// The line without a reason in brackets at its end: "x = 5 (as x > 0)."
fn reasoned(line: &str) -> &str {
    let bare = line.trim_end_matches(['.', ' ']);
    let Some(open) = bare.strip_suffix(')').and_then(|bare| bare.rfind('(')) else { return line };
    let inside = &bare[open + 1..];
    let reason =
        ["as ", "since ", "because ", "for ", "where ", "so "].iter().any(|word| inside.starts_with(word));
    if reason && open > 0 { &line[..open] } else { line }
}

/// What a sum comes to: 12 of `3 + 9 = 12`. An equation with letters is itself the answer.
fn result(found: &str) -> &str {
    match found.rsplit_once('=') {
        Some((sum, result))
            if !sum.contains(|c: char| c.is_alphabetic() || c == '\\')
                && !sum.ends_with(['<', '>', '!'])
                && result.contains(|c: char| c.is_numeric() || c == '\\') =>
        {
            result.trim()
        }
        _ => found,
    }
}

/// Bytes behind a last expression, at most: what is further up is the work and no answer.
const BEHIND: usize = 20_000;
/// Bytes of a line of which only the end is read.
const LONG: usize = 4000;

fn tail(line: &str) -> &str {
    let mut from = line.len() - LONG;
    while !line.is_char_boundary(from) {
        from += 1;
    }
    let cut = &line[from..];
    cut.find(char::is_whitespace).map_or(cut, |blank| &cut[blank..])
}

/// Where the line begins that ends at `end`, or the displayed formula.
fn paragraph(text: &str, end: usize) -> usize {
    let line = text[..end].rfind('\n').map_or(0, |at| at + 1);
    let last = text[..end].trim_end().trim_end_matches(['.', ',', ';']);
    for (open, close) in [(r"\[", r"\]"), ("$$", "$$")] {
        let Some(before) = last.strip_suffix(close).filter(|before| before.len() >= line) else { continue };
        if before[line..].contains(open) {
            continue;
        }
        // a displayed formula has few lines
        let mut from = before.len().saturating_sub(LONG);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        if let Some(at) = before[from..].rfind(open) {
            return from + at;
        }
    }
    line
}
