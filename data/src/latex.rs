//! LaTeX in dataset rows: commands that were misread as escapes, and the answer in a box.
//!
//! Before: text of a file or a recipe. After: an error that names the damage, or the answer of a worked solution.

/// Rests of commands by the escape that took their beginning: none is an English word, and `{` must follow where it
/// stands here. After a backspace, which no text has, everything is one.
const RESTS: [(char, &str, char, &[&str]); 5] = [
    ('\u{8}', "backspace", 'b', &[]),
    ('\u{c}', "form feed", 'f', &["rac", "orall", "box{"]),
    (
        '\t',
        "tab",
        't',
        &["ext{", "extbf", "extit", "extrm", "imes", "heta", "frac", "binom", "riangle", "herefore", "ilde"],
    ),
    ('\r', "carriage return", 'r', &["ight", "ightarrow", "ho"]),
    ('\n', "line break", 'n', &["eq", "abla", "otin", "ewline"]),
];

/// The first LaTeX command in a text whose backslash was written once where JSON and TOML want it doubled, so that
/// `\frac` became a form feed and `rac`: what it is and how to write it. None if there is no such command.
pub fn misread_latex(text: &str) -> Option<String> {
    text.char_indices().find_map(|(at, c)| {
        let (_, control, letter, rests) = RESTS.iter().find(|(control, ..)| *control == c)?;
        let after = &text[at + c.len_utf8()..];
        let (word, then) = after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
        let is_rest = |rest: &&str| match rest.strip_suffix('{') {
            Some(rest) => word == rest && then.starts_with('{'),
            None => word == *rest,
        };
        let misread = match word {
            "" => false,
            // a line may begin with `eq. (3)`, but not in the middle of a formula
            "eq" => in_formula(&text[..at]) && !then.starts_with(['.', ',', ':', ')']),
            _ => rests.is_empty() || rests.iter().any(is_rest),
        };
        misread.then(|| {
            format!(
                "a {control} before `{word}`: `\\{letter}{word}` with a single backslash, of which `\\{letter}` was read \
                 as an escape; write `\\\\{letter}{word}`"
            )
        })
    })
}

/// Whether what stands here may be one side of a formula: it ends in a blank, a digit, a bracket or a single letter.
fn in_formula(before: &str) -> bool {
    let mut back = before.chars().rev();
    match back.next() {
        Some(c) if c.is_ascii_alphabetic() => back.next().is_none_or(|c| !c.is_alphabetic()),
        Some(c) => matches!(c, ' ' | ')' | '}' | ']') || c.is_ascii_digit(),
        None => false,
    }
}

/// What stands in the last `\boxed{…}` or `\fbox{…}` of a text, without blanks around it.
pub(crate) fn boxed(text: &str) -> Option<&str> {
    let begin = [r"\boxed", r"\fbox"].iter().filter_map(|name| Some(text.rfind(name)? + name.len())).max()?;
    let rest = text[begin..].trim_start();
    let Some(inside) = rest.strip_prefix('{') else {
        // `\boxed 5`
        let end = rest.find(|c: char| c.is_whitespace() || c == '$').unwrap_or(rest.len());
        return Some(&rest[..end]).filter(|answer| !answer.is_empty());
    };
    let (mut depth, mut escaped) = (1, false);
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(inside[..at].trim());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_lost_their_backslash_to_an_escape_are_named() {
        for (json, control, command) in [
            (r#""\frac{1}{2}""#, "form feed", "frac"),
            (r#""so \boxed{4}""#, "backspace", "boxed"),
            (r#""\begin{cases} x""#, "backspace", "begin"),
            (r#""5\text{ cm}""#, "tab", "text"),
            (r#""2\times3""#, "tab", "times"),
            (r#""\theta = 1""#, "tab", "theta"),
            (r#""(1, 2\right)""#, "carriage return", "right"),
            (r#""\rho g""#, "carriage return", "rho"),
            (r#""x \neq 0""#, "line break", "neq"),
            (r#""x \notin A""#, "line break", "notin"),
            (r#""\forall x""#, "form feed", "forall"),
        ] {
            let text: String = serde_json::from_str(json).unwrap();
            let found = misread_latex(&text).unwrap_or_else(|| panic!("{json}"));
            let rest = &command[1..];
            assert!(found.starts_with(&format!("a {control} before `{rest}`: `\\{command}`")), "{found}");
            assert!(found.ends_with(&format!("write `\\\\{command}`")), "{found}");
            // as it should have been written
            let doubled: String = serde_json::from_str(&json.replace('\\', r"\\")).unwrap();
            assert_eq!(misread_latex(&doubled), None, "{doubled}");
        }
    }

    #[test]
    fn text_that_has_tabs_breaks_and_pages_is_left_alone() {
        for text in [
            "a\ttable\nof\trows\r\nnumbers: 3\tten\to ten\tan\textra\text",
            "page one\u{c}page two\u{c}foreword\u{c}box",
            "see\neq. (3) or\neq 5\neg, this\nnot that\ne = 2.7\nu is",
            "a\rb",
            "",
        ] {
            assert_eq!(misread_latex(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_last_box_is_found_with_its_braces() {
        for (text, wanted) in [
            (r"so \boxed{\frac{1}{2}}.", Some(r"\frac{1}{2}")),
            (r"\boxed{1} then $\boxed{ 2 }$", Some("2")),
            (r"\fbox{a} and \boxed {b}", Some("b")),
            (r"$\boxed 5$", Some("5")),
            (r"\boxed{\{1, 2\}}", Some(r"\{1, 2\}")),
            (r"\boxed{\left\{ 3 \right\}}", Some(r"\left\{ 3 \right\}")),
            (r"\boxed{}", Some("")),
            (r"\boxed{1", None),
            ("no box", None),
        ] {
            assert_eq!(boxed(text), wanted, "{text}");
        }
    }
}
