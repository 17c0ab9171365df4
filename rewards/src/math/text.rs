//! Answers that are words.
//!
//! Before: [`super::parse`]. After: [`super::compare`]. Case, articles, punctuation and blanks do not count.

use super::node::Node;

/// A node as words, if it can be: words, a variable, the empty set.
pub(crate) fn of(node: &Node) -> Option<String> {
    match node {
        Node::Text(words) => Some(words.clone()),
        Node::Variable(name) => Some(name.clone()),
        Node::E => Some("e".into()),
        Node::I => Some("i".into()),
        Node::Empty => Some("no solution".into()),
        Node::Mul(items) => items.iter().map(of).collect(),
        Node::Number(value) => Some(value.to_string()),
        _ => None,
    }
}

/// Whether two texts say the same.
pub(crate) fn same(a: &str, b: &str) -> bool {
    let (a, b) = (plain(a), plain(b));
    !a.is_empty() && a == b
}

/// Words in lower case without articles and punctuation; one of several ways to say the same.
fn plain(text: &str) -> String {
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let lower = if letters > 1 { text.to_lowercase() } else { text.to_owned() };
    let words: String = lower.chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    let words: Vec<&str> = words
        .split_whitespace()
        .filter(|word| letters <= 1 || !matches!(*word, "a" | "an" | "the" | "option" | "choice" | "answer"))
        .collect();
    let joined = words.join(" ");
    match joined.as_str() {
        "no solution"
        | "no solutions"
        | "none"
        | "empty set"
        | "no real solution"
        | "no real solutions"
        | "no such"
        | "there is no solution"
        | "there are no solutions"
        | "no value"
        | "no values" => "no solution".into(),
        "dne" | "does not exist" | "undefined" | "not defined" | "limit does not exist" => {
            "does not exist".into()
        }
        "all real numbers" | "all reals" | "real numbers" => "all real numbers".into(),
        _ => joined.replace(' ', ""),
    }
}
