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

/// The last fenced block that says it is in one of the languages, else the last that says no language: where there are both, the
/// latter shows what the program prints. `None` if there is none or it is not closed: then the policy did not finish it.
///
/// What it thought does not count, see [`crate::Extract`]. If a fence is indented, as in a list, so are its lines.
pub(super) fn last_block(completion: &str, languages: &[impl AsRef<str>]) -> Option<String> {
    let said = said(completion)?;
    let (mut labelled, mut bare_block) = (None, None);
    let mut open: Option<Fence> = None;
    for line in said.split_inclusive('\n') {
        let bare = line.trim();
        let ticks = bare.bytes().take_while(|byte| *byte == b'`').count();
        match &mut open {
            Some(fence) if ticks >= fence.ticks && ticks == bare.len() => match open.take() {
                Some(Fence { code: Some(code), labelled: true, .. }) => labelled = Some(code),
                Some(Fence { code: Some(code), .. }) => bare_block = Some(code),
                _ => {}
            },
            Some(fence) => {
                if let Some(code) = &mut fence.code {
                    let blanks = line.bytes().take(fence.indent).take_while(|byte| *byte == b' ').count();
                    code.push_str(&line[blanks..]);
                }
            }
            None if ticks >= 3 && !bare[ticks..].contains('`') => {
                // as in `python`, `python title="a"`, `python:main.py`, `{.python}`
                let words =
                    bare[ticks..].split(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | ':' | ','));
                let language = words.map(|word| word.trim_start_matches('.')).find(|word| !word.is_empty());
                let language = language.unwrap_or_default().to_ascii_lowercase();
                let ours = languages.iter().any(|own| own.as_ref() == language);
                let indent = line.bytes().take_while(|byte| *byte == b' ').count();
                let code = (ours || language.is_empty()).then(String::new);
                open = Some(Fence { ticks, indent, labelled: ours, code });
            }
            None => {}
        }
    }
    match open {
        Some(Fence { code: Some(_), labelled: true, .. }) => None,
        Some(Fence { code: Some(_), .. }) => labelled,
        _ => labelled.or(bare_block),
    }
}

struct Fence {
    ticks: usize,
    indent: usize,
    /// Whether it says that it is in one of the languages.
    labelled: bool,
    /// Of a block in one of the languages, or that says none.
    code: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::{PYTHON, last_block};

    #[test]
    fn the_last_closed_block_outside_of_thinking_counts_and_one_of_python_rather_than_one_of_nothing() {
        for (text, wanted) in [
            ("```python\na\n```", Some("a\n")),
            ("x\n```py\na\n```\nand\n```\nb\n```\n", Some("a\n")),
            ("```py\na\n```\nprints\n```\n3\n", Some("a\n")),
            ("```\na\n```\nor\n```\nb\n```\n", Some("b\n")),
            ("```\na\n```\nor\n```python\nb\n```\nprints\n```output\n3\n```", Some("b\n")),
            ("```{.python}\na\n```", Some("a\n")),
            ("```python:main.py\na\n```", Some("a\n")),
            ("```\na\n```\n```\nb", None),
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
