//! `tojson` of chat templates: the text that Python's `json.dumps` gives.
//!
//! Before: a value of a template. After: text in the prompt. In transformers the filter has the arguments of
//! `json.dumps`, with `ensure_ascii` off, and escapes nothing for HTML.

use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind};
use serde::Serialize;
use std::io;

/// Widest indentation of a level. Python has no bound, but every line of every level pays for it.
const MAX_INDENT: i64 = 64;

/// `value | tojson(indent=…, separators=…, sort_keys=…, ensure_ascii=…)`.
pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<i64> = options.get("indent")?;
    if let Some(indent) = indent.filter(|indent| *indent > MAX_INDENT) {
        let message = format!("tojson(indent={indent}) is too wide; at most {MAX_INDENT} is allowed");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    let separators: Option<Vec<String>> = options.get("separators")?;
    let (item, key) = match separators.as_deref() {
        None if indent.is_some() => (",", ": "),
        None => (", ", ": "),
        Some([item, key]) => (item.as_str(), key.as_str()),
        Some(other) => {
            let message = format!("tojson(separators={other:?}): wanted two texts");
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
    };
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;

    let failed = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let indent = indent.map(|indent| usize::try_from(indent).unwrap_or(0));
    let style = Style { item, key, indent, ascii, depth: 0, filled: false };
    let mut bytes = Vec::new();
    let mut out = serde_json::Serializer::with_formatter(&mut bytes, style);
    if sort {
        let mut value = serde_json::to_value(value).map_err(failed)?;
        value.sort_all_objects();
        value.serialize(&mut out).map_err(failed)?;
    } else {
        value.serialize(&mut out).map_err(failed)?;
    }
    let text = String::from_utf8(bytes).expect("serde_json writes UTF-8");
    Ok(Value::from_safe_string(text))
}

/// How `json.dumps` writes.
struct Style<'a> {
    /// Between items.
    item: &'a str,
    /// Between a key and its value.
    key: &'a str,
    /// Every item on a line of its own, with so many spaces for each level.
    indent: Option<usize>,
    /// Escape what is not ASCII.
    ascii: bool,
    depth: usize,
    /// Whether the list or object that ends has an item.
    filled: bool,
}

impl Style<'_> {
    fn line<W: ?Sized + io::Write>(&self, out: &mut W) -> io::Result<()> {
        let Some(indent) = self.indent else { return Ok(()) };
        write!(out, "\n{:width$}", "", width = indent * self.depth)
    }

    fn begin<W: ?Sized + io::Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        out.write_all(bracket)
    }

    fn next<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(self.item.as_bytes())?;
        }
        self.line(out)
    }

    fn end<W: ?Sized + io::Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.filled {
            self.line(out)?;
        }
        self.filled = true;
        out.write_all(bracket)
    }
}

impl serde_json::ser::Formatter for Style<'_> {
    fn begin_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"[")
    }
    fn end_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"]")
    }
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.next(out, first)
    }
    fn end_array_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }
    fn begin_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"{")
    }
    fn end_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"}")
    }
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.next(out, first)
    }
    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.key.as_bytes())
    }
    fn end_object_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        if !self.ascii || text.is_ascii() {
            return out.write_all(text.as_bytes());
        }
        for character in text.chars() {
            match character.is_ascii() {
                true => write!(out, "{character}")?,
                false => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        write!(out, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(())
    }
}
