//! What failures and logs say on the terminal.
//!
//! Before: an error with its causes, or a line of the log. After: one message, of a length that can be read.

use std::io::{self, Write};

use data::printable;

/// Longest line, in characters; TOML's errors show a line of the file, which may be of any length.
const LINE: usize = 800;
/// Longest message, in bytes.
const MESSAGE: usize = 1900;

/// An error and its causes, each said once: many errors have their cause in their own words already.
pub(crate) fn of(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if message.is_empty() {
            message = text;
        } else if !message.trim_end().ends_with(text.trim_end()) {
            message = format!("{message}: {text}");
        }
    }
    bounded(&message)
}

/// The text without the middle of what is too long: of a line, then of all.
fn bounded(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| cut(line, LINE)).collect();
    let text = lines.join("\n");
    if text.len() <= MESSAGE {
        return text;
    }
    let head = (0..=MESSAGE * 3 / 4).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let tail = text.len() - (MESSAGE / 5);
    let tail = (tail..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    format!("{} … ({} bytes left out) … {}", &text[..head], tail - head, &text[tail..])
}

fn cut(line: &str, most: usize) -> String {
    let count = line.chars().count();
    if count <= most {
        return line.to_owned();
    }
    let (head, tail) = (most / 2, most / 4);
    let begin: String = line.chars().take(head).collect();
    let end: String = line.chars().skip(count - tail).collect();
    format!("{begin} … ({} characters left out) … {end}", count - head - tail)
}

/// Where text for people goes: no byte of it makes a terminal do anything, whoever wrote it, see [`printable`]. All that the
/// program prints goes through this, but JSON for other programs.
#[derive(Debug)]
pub(crate) struct Printable<W: Write> {
    to: W,
    /// The beginning of a character whose other bytes are still to come.
    torn: Vec<u8>,
}

impl<W: Write> Printable<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to, torn: Vec::new() }
    }
}

impl<W: Write> Write for Printable<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.torn.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.torn);
        let mut text = String::new();
        let mut chunks = all.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let torn = chunks.peek().is_none()
                && std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
            match chunk.invalid() {
                [] => {}
                rest if torn => self.torn = rest.to_vec(),
                _ => text.push(char::REPLACEMENT_CHARACTER),
            }
        }
        self.to.write_all(printable(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Standard error for logs: each event is written at once, and what is too long of it is left out, as a name in a damaged file
/// may be of any length.
#[derive(Debug)]
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let mut text = bounded(&String::from_utf8_lossy(event));
        text.push('\n');
        io::stderr().write_all(printable(&text).as_bytes())?;
        Ok(event.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_cause_that_was_said_is_not_said_again() {
        #[derive(Debug, thiserror::Error)]
        #[error("could not read `x`: {source}")]
        struct Outer {
            source: std::io::Error,
        }
        let outer = || Outer { source: std::io::Error::from(std::io::ErrorKind::NotFound) };
        let text = std::io::Error::from(std::io::ErrorKind::NotFound).to_string();
        assert_eq!(of(&outer().into()), format!("could not read `x`: {text}"));
        let wrapped = Err::<(), _>(outer()).context("the plan").unwrap_err();
        assert_eq!(of(&wrapped), format!("the plan: could not read `x`: {text}"));
        assert_eq!(of(&anyhow::anyhow!("alone")), "alone");
    }

    #[test]
    fn what_is_printed_does_nothing_to_a_terminal_however_it_is_cut() {
        let text = "id \u{1b}[2J ä数🙂\u{202e}\u{9b}x\nnext\tline";
        let wanted = "id \\u001b[2J ä数🙂\\u202e\\u009bx\nnext\tline";
        for size in 1..text.len() {
            let mut shown = Printable::new(Vec::new());
            for piece in text.as_bytes().chunks(size) {
                shown.write_all(piece).expect("written");
                shown.flush().expect("flushed");
            }
            assert_eq!(String::from_utf8(shown.to).expect("text"), wanted, "{size}");
        }
        let mut shown = Printable::new(Vec::new());
        shown.write_all(b"a\xffb\xe2\x82 \xf0").expect("written");
        assert_eq!(String::from_utf8(shown.to).expect("text"), "a\u{fffd}b\u{fffd} ");
    }

    #[test]
    fn a_message_of_any_length_can_be_read() {
        let long = format!("begin\n{}\n{}^\nend", "é".repeat(70_000), " ".repeat(70_000));
        let text = of(&anyhow::anyhow!(long));
        assert!(text.len() < 2000 && text.starts_with("begin\n") && text.ends_with("end"), "{text}");
        let many = of(&anyhow::anyhow!("line\n".repeat(9000)));
        assert!(many.len() < 2000, "{}", many.len());
        let short = format!("a {}", "b".repeat(700));
        assert_eq!(of(&anyhow::anyhow!(short.clone())), short);
    }
}
