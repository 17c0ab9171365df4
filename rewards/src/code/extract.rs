//! The program that a completion gives.
//!
//! Before: a completion. After: [`super::run`] runs the program. No place of the text is read more than a few times.

use crate::extract::said;

/// The completion but its thinking, or `None` if that is blank or the thinking was cut off.
pub(super) fn whole(completion: &str) -> Option<String> {
    said(completion).filter(|said| !said.trim().is_empty())
}

/// What a block of Python says it is.
pub(super) const PYTHON: [&str; 3] = ["python", "py", "python3"];

/// The last fenced block of one of the languages, or `None` if there is none or it is not closed: then the policy did not
/// finish it.
///
/// What it thought does not count, see [`crate::Extract`]. A block that says no language counts as well; if its fence is
/// indented, as in a list, so are its lines.
pub(super) fn last_block(completion: &str, languages: &[impl AsRef<str>]) -> Option<String> {
    let said = said(completion)?;
    let mut last = None;
    let mut open: Option<Fence> = None;
    for line in said.split_inclusive('\n') {
        let bare = line.trim();
        let ticks = bare.bytes().take_while(|byte| *byte == b'`').count();
        match &mut open {
            Some(fence) if ticks >= fence.ticks && ticks == bare.len() => {
                if let Some(code) = open.take().and_then(|fence| fence.code) {
                    last = Some(code);
                }
            }
            Some(fence) => {
                if let Some(code) = &mut fence.code {
                    let blanks = line.bytes().take(fence.indent).take_while(|byte| *byte == b' ').count();
                    code.push_str(&line[blanks..]);
                }
            }
            None if ticks >= 3 && !bare[ticks..].contains('`') => {
                let language =
                    bare[ticks..].split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
                let ours = language.is_empty() || languages.iter().any(|own| own.as_ref() == language);
                let indent = line.bytes().take_while(|byte| *byte == b' ').count();
                open = Some(Fence { ticks, indent, code: ours.then(String::new) });
            }
            None => {}
        }
    }
    match open {
        Some(Fence { code: Some(_), .. }) => None,
        _ => last,
    }
}

struct Fence {
    ticks: usize,
    indent: usize,
    /// Of a block in one of the languages.
    code: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::{PYTHON, last_block};

    #[test]
    fn the_last_closed_block_of_python_outside_of_thinking_counts() {
        for (text, wanted) in [
            ("```python\na\n```", Some("a\n")),
            ("x\n```py\na\n```\nand\n```\nb\n```\n", Some("b\n")),
            ("```Python3 title\na\n```\n```text\nb\n```", Some("a\n")),
            ("````python\na\n```\nb\n````", Some("a\n```\nb\n")),
            ("1. so\n   ```python\n   if a:\n     b\n   ```", Some("if a:\n  b\n")),
            ("```python\r\na\r\n```", Some("a\r\n")),
            ("<think>```python\na\n```</think>", None),
            ("<think>\n```python\na\n```\n</think>\n```python\nb\n```", Some("b\n")),
            ("<think>\n```python\na\n```", None),
            ("```python\na\n```\n```python\nb", None),
            ("```python\na\n```\n```text\nb", Some("a\n")),
            ("a `b` ```c``` d", None),
            ("", None),
        ] {
            assert_eq!(last_block(text, &PYTHON).as_deref(), wanted, "{text}");
        }
    }
}
