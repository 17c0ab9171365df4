//! The answer in the last `\boxed{…}`.
//!
//! Before: [`super::Place::Boxed`] is asked for. After: the content of the box, with that of boxes right before it.

use crate::scan;

/// Boxes that are taken for one answer.
const TOGETHER: usize = 16;

/// What is in the box that was opened last, joined with those right before it; and where in the text that box begins.
pub(super) fn last(text: &str) -> Option<(usize, Option<String>)> {
    let openers: Vec<Opener> = text.match_indices('\\').filter_map(|(at, _)| Opener::at(text, at)).collect();
    let last = openers.last()?;
    let Some(content) = last.content(&text[last.inside..]) else { return Some((last.at, None)) };
    let (mut found, mut start) = (vec![content], last.at);
    for opener in openers.iter().rev().skip(1).take(TOGETHER) {
        let Some(content) = opener.content(&text[opener.inside..start]) else { break };
        let end = opener.inside + content.len() + usize::from(opener.braced);
        if !text.get(end..start).is_some_and(joins) {
            break;
        }
        if !found.contains(&content) {
            found.push(content);
        }
        start = opener.at;
    }
    found.reverse();
    Some((last.at, Some(found.join(", "))))
}

/// A `\boxed` or `\fbox`: where it is and where its content begins.
struct Opener {
    at: usize,
    inside: usize,
    /// Or else `\boxed 5`, which holds one number.
    braced: bool,
}

impl Opener {
    fn at(text: &str, at: usize) -> Option<Self> {
        let command = &text[at..];
        let rest = command.strip_prefix(r"\boxed").or_else(|| command.strip_prefix(r"\fbox"))?;
        let content = rest.trim_start();
        let (inside, braced) = match content.strip_prefix('{') {
            Some(inside) => (inside, true),
            None => (content, false),
        };
        let there = braced || rest.len() > content.len() && scan::number_len(content).is_some();
        there.then(|| Self { at, inside: text.len() - inside.len(), braced })
    }

    /// Up to the closing brace.
    fn content<'a>(&self, text: &'a str) -> Option<&'a str> {
        if !self.braced {
            return scan::number_len(text).map(|len| &text[..len]);
        }
        let (mut depth, mut escaped) = (0_usize, false);
        for (at, c) in text.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '{' => depth += 1,
                '}' if depth == 0 => return Some(&text[..at]),
                '}' => depth -= 1,
                _ => {}
            }
        }
        None
    }
}

/// Whether two boxes, or two formulas, with this between them are one answer.
pub(super) fn joins(between: &str) -> bool {
    if between.len() > 60 {
        return false;
    }
    let mut rest = between.to_owned();
    for word in [r"\text", r"\quad", r"\qquad", r"\mbox", "and", r"\,", r"\;", r"\ ", "&"] {
        rest = rest.replace(word, " ");
    }
    rest.chars().all(|c| c.is_whitespace() || "$,;{}()[]\\".contains(c)) && !between.contains("\n\n")
}
