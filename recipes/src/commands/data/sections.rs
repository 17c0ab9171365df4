//! Parts of a report that a terminal and a page show alike.
//!
//! Before: a report. After: text, or one page of HTML that needs nothing else.

use std::fmt::Write as _;
use std::io::Write;

use anyhow::Result;

use super::super::wrap::wrapped;
use crate::plot::escaped;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --line: #ccc; --bar: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #ddd; --paper: #161616; --line: #444; --bar: #56b4e9; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; } th, td { text-align: left; padding: .15em .8em .15em 0; border-bottom: 1px solid var(--line); vertical-align: top; white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; } pre { border: 1px solid var(--line); padding: .6em; white-space: pre-wrap; overflow-wrap: anywhere; }
.bar { display: inline-block; height: .8em; background: var(--bar); } dt { font-weight: 600; }";

/// Cells of a bar on a terminal.
const BAR: usize = 40;

/// A part of a report.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Section {
    pub(super) title: String,
    pub(super) blocks: Vec<Block>,
}

/// What a section is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Block {
    /// A paragraph.
    Text(String),
    /// Text as it is, line by line.
    Verbatim(String),
    /// Names of columns, and rows. Columns of numbers are aligned on the right.
    Table(Vec<String>, Vec<Vec<String>>),
    /// Counts by name, as bars.
    Bars(Vec<(String, usize)>),
    /// Words and what they mean.
    Words(Vec<(String, String)>),
}

/// True of a column of numbers, or of nothing.
fn is_numeric(rows: &[Vec<String>], column: usize) -> bool {
    let number = |cell: &str| cell.is_empty() || cell.trim_end_matches([' ', '%']).parse::<f64>().is_ok();
    rows.iter().all(|row| row.get(column).is_none_or(|cell| number(cell)))
}

impl Section {
    /// Writes it as text.
    pub(super) fn print(&self, out: &mut dyn Write) -> Result<()> {
        writeln!(out, "{}", self.title)?;
        for block in &self.blocks {
            match block {
                Block::Text(text) => wrapped(text, "  ", 2, out)?,
                // lines in pieces, so that a blank at an end shows
                Block::Verbatim(text) => {
                    for line in text.split('\n') {
                        writeln!(out, "  | {line}")?;
                    }
                }
                Block::Table(head, rows) => print_table(head, rows, out)?,
                Block::Bars(bars) => {
                    let most = bars.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
                    let width = bars.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
                    for (name, count) in bars {
                        let cells = (count * BAR).div_ceil(most);
                        writeln!(out, "  {name:>width$}  {} {count}", "#".repeat(cells))?;
                    }
                }
                Block::Words(words) => {
                    let width = words.iter().map(|(word, _)| word.len()).max().unwrap_or(0);
                    for (word, meaning) in words {
                        wrapped(meaning, &format!("  {word:width$} "), width + 4, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn html(&self) -> String {
        let mut html = format!("<h2>{}</h2>\n", escaped(&self.title));
        for block in &self.blocks {
            // writing to a string does not fail
            let _ = match block {
                Block::Text(text) => writeln!(html, "<p>{}</p>", escaped(text)),
                Block::Verbatim(text) => writeln!(html, "<pre>{}</pre>", escaped(text)),
                Block::Table(head, rows) => {
                    let class = |column| if is_numeric(rows, column) { " class=\"number\"" } else { "" };
                    let cells = |tag: &str, cells: &[String]| -> String {
                        let cell = |(column, cell): (usize, &String)| {
                            format!("<{tag}{}>{}</{tag}>", class(column), escaped(cell))
                        };
                        cells.iter().enumerate().map(cell).collect()
                    };
                    let body: String =
                        rows.iter().map(|row| format!("<tr>{}</tr>\n", cells("td", row))).collect();
                    writeln!(
                        html,
                        "<div class=\"wide\"><table>\n<tr>{}</tr>\n{body}</table></div>",
                        cells("th", head)
                    )
                }
                Block::Bars(bars) => {
                    let most = bars.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
                    let row = |(name, count): &(String, usize)| {
                        let width = 24.0 * *count as f64 / most as f64;
                        format!(
                            "<tr><td class=\"number\">{}</td><td><span class=\"bar\" style=\"width:{width:.2}rem\"></span> {count}</td></tr>\n",
                            escaped(name)
                        )
                    };
                    writeln!(html, "<table>{}</table>", bars.iter().map(row).collect::<String>())
                }
                Block::Words(words) => {
                    let row = |(word, meaning): &(String, String)| {
                        format!("<dt>{}</dt><dd>{}</dd>\n", escaped(word), escaped(meaning))
                    };
                    writeln!(html, "<dl>{}</dl>", words.iter().map(row).collect::<String>())
                }
            };
        }
        html
    }
}

fn print_table(head: &[String], rows: &[Vec<String>], out: &mut dyn Write) -> Result<()> {
    let all = || std::iter::once(head).chain(rows.iter().map(Vec::as_slice));
    let width = |column: usize| {
        all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let columns: Vec<(usize, bool)> =
        (0..head.len()).map(|column| (width(column), is_numeric(rows, column))).collect();
    for row in all() {
        let cell = |(cell, (width, right)): (&String, &(usize, bool))| match right {
            true => format!("{cell:>width$}"),
            false => format!("{cell:width$}"),
        };
        let cells: Vec<String> = row.iter().zip(&columns).map(cell).collect();
        writeln!(out, "  {}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// The sections as one page of HTML. All that data or models wrote is text to the browser, and the page's policy forbids scripts
/// and requests.
pub(super) fn page(title: &str, sections: &[Section]) -> String {
    let body: String = sections.iter().map(Section::html).collect();
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\"><meta \
         name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"generator\" content=\"evenkeel\"><link \
         rel=\"icon\" href=\"data:,\"><title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n{body}</body></html>\n"
    )
}

/// The first characters of a text, on one line.
pub(super) fn brief(text: &str, most: usize) -> String {
    let line = text.replace('\n', "\\n");
    match line.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section() -> Section {
        let hostile = "<script>alert(1)</script>";
        Section {
            title: hostile.into(),
            blocks: vec![
                Block::Text(hostile.into()),
                Block::Verbatim(format!("a \n{hostile}\n")),
                Block::Table(
                    vec!["id".into(), "n".into()],
                    vec![vec![hostile.into(), "1.5".into()], vec!["b".into(), "12".into()]],
                ),
                Block::Bars(vec![(hostile.into(), 3), ("none".into(), 0)]),
                Block::Words(vec![(hostile.into(), hostile.into())]),
            ],
        }
    }

    #[test]
    fn what_data_wrote_is_never_markup() {
        let html = page("<b>", &[section()]);
        assert!(!html.contains("<script") && !html.contains("<b>"), "{html}");
        assert_eq!(html.matches("&lt;script&gt;").count(), 7);
    }

    #[test]
    fn text_has_numbers_on_the_right_and_every_line_of_what_is_verbatim() {
        let mut text = Vec::new();
        section().print(&mut text).expect("written");
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("\n  | a \n  | <script>alert(1)</script>\n  | \n"), "{text}");
        assert!(text.contains(" 1.5\n  b ") && text.contains("  12\n"), "{text}");
    }
}
