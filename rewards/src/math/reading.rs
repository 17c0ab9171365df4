//! The ways in which an answer can be read.
//!
//! Before: an answer, as text. After: [`super::compare`] compares what was read. "The answer is" before it and "where x > 0" behind
//! it are no part of it.

use super::compare::Comparison;
use super::lex::{Commas, Token, tokens};
use super::node::{Node, Op, Rational};
use super::parse;

/// An answer's tokens, the one or two ways to read them, and for what it is said to hold.
pub(crate) struct Reading {
    pub(crate) tokens: Vec<Token>,
    pub(crate) nodes: [Option<Node>; 2],
    conditions: Vec<Node>,
}

impl Reading {
    pub(crate) fn of(answer: &str) -> Self {
        let grouped = tokens(answer, Commas::Group);
        let (main, behind) = qualified(said(&grouped));
        let first = parse::parse(main);
        // 1,234 may be a number or a list
        let second =
            answer.contains(',').then(|| tokens(answer, Commas::Part)).filter(|other| *other != grouped);
        let second = second.and_then(|tokens| parse::parse(qualified(said(&tokens)).0));
        let conditions = match parse::parse(behind) {
            Some(Node::List(items) | Node::Intersection(items)) => items,
            Some(one) => vec![one],
            None => vec![],
        };
        Self { tokens: grouped, nodes: [first, second], conditions }
    }

    /// The name that is said to run through the whole numbers, or another set.
    fn member(&self) -> Option<&str> {
        self.conditions.iter().find_map(|condition| match condition {
            Node::Relation(sides, ops) if ops.as_slice() == [Op::In] => match &sides[0] {
                Node::Variable(name) => Some(name.as_str()),
                _ => None,
            },
            _ => None,
        })
    }

    /// The one letter, of those that whole numbers usually have, that is here and not in the other.
    fn usual_member(&self, other: &Self) -> Option<&'static str> {
        let has = |reading: &Self, letter: &str| {
            let is = |node: &Node| matches!(node, Node::Variable(name) if name == letter);
            reading.nodes.iter().flatten().any(|node| node.any(&is))
        };
        let mut found =
            ["k", "n", "m", "l"].into_iter().filter(|letter| has(self, letter) && !has(other, letter));
        found.next().filter(|_| found.next().is_none())
    }

    /// With `n\pi, n \in \mathbb{Z}` as `k\pi`, if the other has that name for it; one of the two has to say what its name is.
    pub(crate) fn named_as(mut self, other: &Self) -> Self {
        let (own, wanted) = (self.member(), other.member());
        let either = own.is_some() || wanted.is_some();
        let own = own.or_else(|| self.usual_member(other).filter(|_| either)).map(str::to_owned);
        let wanted = wanted.or_else(|| other.usual_member(&self).filter(|_| either));
        if let (Some(own), Some(wanted)) = (own, wanted)
            && own != wanted
        {
            let rename = |node: &Node| {
                node.map(&|node| match &node {
                    Node::Variable(name) if *name == own => Node::Variable(wanted.to_owned()),
                    _ => node,
                })
            };
            self.nodes = self.nodes.map(|node| node.as_ref().map(rename));
        }
        self
    }

    pub(crate) fn unread(&self) -> bool {
        self.nodes.iter().all(Option::is_none)
    }

    /// Whether neither holds for something else than the other says: only if both say so, as "where x > 0" may go without
    /// saying.
    pub(crate) fn holds_where(&self, other: &Self, comparison: Comparison<'_>) -> bool {
        let bound = |node: &&Node| {
            matches!(node, Node::Relation(sides, ops) if ops.iter().all(|op| *op != Op::In && !op.is_equality())
                && sides.iter().any(|side| matches!(side, Node::Variable(_))))
        };
        let (a, b): (Vec<_>, Vec<_>) =
            (self.conditions.iter().filter(bound).collect(), other.conditions.iter().filter(bound).collect());
        a.is_empty()
            || b.is_empty()
            || a.len() == b.len() && a.iter().all(|a| b.iter().any(|b| comparison.same(a, b)))
    }
}

/// What follows "the answer is", if the answer begins so.
fn said(tokens: &[Token]) -> &[Token] {
    let words = tokens.iter().take_while(|token| matches!(token, Token::Word(_))).count();
    match words.checked_sub(1).map(|last| &tokens[last]) {
        Some(Token::Word(last)) if words < tokens.len() => {
            let last = last.rsplit(' ').next().unwrap_or_default().to_lowercase();
            let ends = matches!(last.as_str(), "is" | "are" | "equals" | "be" | "answer");
            let colon = usize::from(tokens[words] == Token::Sign(':'));
            if ends { &tokens[words + colon..] } else { tokens }
        }
        _ => tokens,
    }
}

/// The tokens up to "where", "for all" or a last `k \in \mathbb{Z}`, and those behind.
fn qualified(tokens: &[Token]) -> (&[Token], &[Token]) {
    let mut depth = 0_i32;
    let mut comma = None;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign('(' | '[' | '{') | Token::SetOpen | Token::Begin(_) => depth += 1,
            Token::Sign(')' | ']' | '}') | Token::SetClose | Token::End => depth -= 1,
            Token::Sign(',' | ';') if depth == 0 => comma = Some(at),
            _ => {}
        }
        let marks = match token {
            Token::ForAll => true,
            Token::Word(word) => matches!(
                word.to_lowercase().as_str(),
                "where" | "for" | "with" | "when" | "whenever" | "provided" | "given" | "since" | "because"
            ),
            _ => false,
        };
        if marks && at > 0 && depth <= 1 {
            let open = depth == 1 && tokens[at - 1] == Token::Sign('(');
            if depth == 1 && !open {
                continue;
            }
            let end = if open || matches!(tokens[at - 1], Token::Sign(',' | ';')) { at - 1 } else { at };
            let behind = &tokens[at + 1..];
            let words = behind.iter().take_while(|t| matches!(t, Token::Word(w) if matches!(w.to_lowercase().as_str(), "all" | "any" | "some" | "every" | "each")));
            let skip = words.count();
            let behind = &behind[skip..];
            // "5 with remainder 2" is not 5
            let numbers = behind.iter().any(|token| matches!(token, Token::Number(..)));
            let says = behind.iter().any(|token| matches!(token, Token::Relation(_)));
            let reason = matches!(token, Token::Word(word) if matches!(word.to_lowercase().as_str(), "since" | "because"));
            if numbers && !says && !reason {
                continue;
            }
            let behind =
                if open { behind.strip_suffix(&[Token::Sign(')')]).unwrap_or(behind) } else { behind };
            return if end == 0 { (tokens, &[]) } else { (&tokens[..end], behind) };
        }
    }
    // x = 3 + 8k, k ∈ Z; or (k ∈ Z)
    let member = |part: &[Token]| {
        matches!(part, [Token::Variable(_), Token::Relation(Op::In), rest @ ..] if rest.len() <= 4
            && matches!(rest[0], Token::Reals | Token::Variable(_)))
    };
    // x > 2, x ∈ Z has other solutions than x > 2
    let solved = |main: &[Token], part: &[Token]| {
        let inequality = main.iter().any(|token| matches!(token, Token::Relation(op) if !op.is_equality()));
        inequality && main.contains(&part[0]) && !matches!(part, [_, _, Token::Reals])
    };
    if let Some(at) =
        comma.filter(|at| *at > 0 && member(&tokens[at + 1..]) && !solved(&tokens[..*at], &tokens[at + 1..]))
    {
        return (&tokens[..at], &tokens[at + 1..]);
    }
    let integer = |part: &[Token]| matches!(part, [Token::Variable(_), Token::Word(word)] if word.eq_ignore_ascii_case("integer"));
    if let Some(at) = comma.filter(|at| *at > 0 && integer(&tokens[at + 1..])) {
        return (&tokens[..at], &tokens[at + 1..]);
    }
    if let [.., Token::Sign(')')] = tokens
        && let Some(open) = tokens.iter().rposition(|token| *token == Token::Sign('('))
        && open > 0
        && member(&tokens[open + 1..tokens.len() - 1])
    {
        return (&tokens[..open], &tokens[open + 1..tokens.len() - 1]);
    }
    (tokens, &[])
}

/// The number that an answer is if its one comma is the decimal sign.
pub(crate) fn comma_decimal(text: &str) -> Option<Node> {
    let bare = text.trim().trim_matches('$');
    let (whole, places) = bare.split_once(',')?;
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let first = whole.trim_start_matches(['-', '−']);
    let count = digits(places);
    let bare_digits: String = first.split(' ').collect();
    let grouped = first.split(' ').skip(1).all(|group| group.len() == 3);
    let fits = !bare_digits.is_empty()
        && grouped
        && digits(&bare_digits) == bare_digits.len()
        && count > 0
        && (count != 3 || first == "0")
        && !places[count..].contains([',', '.', ')', ']', '}']);
    fits.then(|| parse::parse(&tokens(bare, Commas::Decimal)))?
}

/// Whether a node is a number, and not a whole one.
pub(crate) fn is_broken(node: &Node) -> bool {
    match node {
        Node::Number(value) => !Rational::is_integer(value),
        Node::Neg(inner) | Node::Quantity(inner, _) | Node::Percent(inner) | Node::Degree(inner) => {
            is_broken(inner)
        }
        Node::Div(above, below) => {
            matches!((&**above, &**below), (Node::Number(a), Node::Number(b)) if a % b != Rational::from_integer(0.into()))
        }
        _ => false,
    }
}
