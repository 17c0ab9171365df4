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
    let bare: String = text.chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    let all: Vec<&str> = bare.split_whitespace().collect();
    let kept = |at: usize, word: &str| {
        let lower = word.to_lowercase();
        // "Team A" is not "Team"
        let article =
            matches!(lower.as_str(), "a" | "an" | "the") && at + 1 < all.len() && (at == 0 || lower == word);
        letters <= 1 || !article && !matches!(lower.as_str(), "option" | "choice" | "answer")
    };
    let words = all.iter().enumerate().filter(|(at, word)| kept(*at, word));
    let words: Vec<String> =
        words.map(|(_, word)| if letters > 1 { word.to_lowercase() } else { (*word).to_owned() }).collect();
    match words.join(" ").as_str() {
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
        _ => joined(&words),
    }
}

/// Without blanks, but for those between two numbers.
fn joined(words: &[String]) -> String {
    let mut text = String::new();
    for word in words {
        let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        if digit(text.chars().next_back()) && digit(word.chars().next()) {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}
