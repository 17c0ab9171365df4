//! Text broken into lines of a readable width.

use std::io::Write;

use anyhow::Result;

/// Longest line, in characters.
pub(crate) const WIDTH: usize = 100;

/// Words behind `first`, broken where a line is full, with later lines indented.
pub(crate) fn wrapped(text: &str, first: &str, indent: usize, out: &mut dyn Write) -> Result<()> {
    let (mut line, mut used, mut empty) = (first.to_owned(), first.chars().count(), true);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !empty && used + 1 + length > WIDTH {
            writeln!(out, "{}", line.trim_end())?;
            (line, used, empty) = (" ".repeat(indent), indent, true);
        }
        if !empty {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        (used, empty) = (used + length, false);
    }
    Ok(writeln!(out, "{}", line.trim_end())?)
}

/// The lines of comment that a text begins with.
pub(crate) fn first_comment(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix('#'));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}
