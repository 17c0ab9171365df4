//! Tokens become a tree.
//!
//! Before: [`super::lex`]. After: [`super::compare`]. Recursive descent, no deeper than [`DEPTH`], each token looked at a
//! bounded number of times; what does not fit the grammar is no tree, and its answer is compared as text.

mod environment;
mod factor;
mod left_side;
mod primary;
mod quantity;
mod series;
mod sets;

use super::lex::Token;
use super::node::{Func, Node, Op};
use super::text;

/// How deep brackets and powers may nest.
const DEPTH: usize = 40;

/// The tree of all the tokens, or `None` if they are no answer that can be read.
pub(crate) fn parse(tokens: &[Token]) -> Option<Node> {
    let mut words = Vec::new();
    for token in tokens {
        match token {
            Token::Word(word) => words.push(word.as_str()),
            _ => break,
        }
    }
    if let Some(except) = all_but(&words) {
        let set = match parse(&tokens[except..])? {
            Node::List(items) | Node::Set(items) => Node::Set(items),
            one => Node::Set(vec![one]),
        };
        return Some(Node::Difference(Box::new(Node::Reals), Box::new(set)));
    }
    if !tokens.is_empty() && words.len() == tokens.len() {
        if text::same(&words.join(" "), "all real numbers") {
            return Some(Node::Reals);
        }
        let parts: Vec<&[&str]> = words.split(|word| word.eq_ignore_ascii_case("and")).collect();
        let list = parts.len() > 1 && parts.iter().all(|part| (1..=3).contains(&part.len()));
        let mut texts = parts.iter().map(|part| Node::Text(part.join(" ")));
        return Some(if list {
            Node::List(texts.collect())
        } else if parts.len() == 1 {
            texts.next()?
        } else {
            Node::Text(words.join(" "))
        });
    }
    let mut parser = Parser { tokens, at: 0, depth: 0, bars: 0, colons: true };
    let node = parser.list(true)?;
    (parser.at == tokens.len()).then_some(node)
}

/// How many words "all real numbers except" takes, if an answer begins so.
fn all_but(words: &[&str]) -> Option<usize> {
    let at = words.iter().position(|word| matches!(word.to_lowercase().as_str(), "except" | "but"))?;
    text::same(&words[..at].join(" "), "all real numbers").then_some(at + 1)
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    /// Open `|`, and sets, where a `|` cannot begin a factor.
    bars: usize,
    /// Whether a colon is a ratio; before the conditions of a set it is none.
    colons: bool,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn after(&self, steps: usize) -> Option<&'a Token> {
        self.tokens.get(self.at + steps)
    }

    fn is(&self, sign: char) -> bool {
        self.peek() == Some(&Token::Sign(sign))
    }

    fn eat(&mut self, sign: char) -> bool {
        let there = self.is(sign);
        self.at += usize::from(there);
        there
    }

    fn word_is(&self, words: &[&str]) -> bool {
        matches!(self.peek(), Some(Token::Word(word)) if words.contains(&word.to_lowercase().as_str()))
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let there = self.word_is(&[word]);
        self.at += usize::from(there);
        there
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth >= DEPTH {
            return None;
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    /// Goes back if nothing is found.
    fn attempt<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let (at, depth, bars) = (self.at, self.depth, self.bars);
        let found = read(self);
        if found.is_none() {
            (self.at, self.depth, self.bars) = (at, depth, bars);
        }
        found
    }

    /// What stands between commas, or joined by "and"; at the `top` semicolons and "or" too.
    fn list(&mut self, top: bool) -> Option<Node> {
        let mut items = vec![self.item()?];
        let (mut or, mut all_and) = (true, true);
        loop {
            let row = top && self.peek() == Some(&Token::Row);
            self.at += usize::from(row);
            let comma = self.eat(',') || self.eat(';') || row;
            let and = self.word_is(&["and", "&"]);
            let joined = and || self.word_is(&["or"]);
            if joined {
                or &= !and;
                all_and &= and;
                self.at += 1;
            } else if comma {
                (or, all_and) = (false, false);
            }
            if !(comma || joined) {
                break;
            }
            if top && self.peek().is_none() {
                break; // an end of sentence
            }
            items.push(self.item()?);
        }
        if items.len() == 1 {
            return items.pop();
        }
        // `x < 1 or x > 2` is a union; `x > 1 and x < 2` an intersection
        if items.iter().all(is_inequality) && (or || all_and) {
            return Some(if or { Node::Union(items) } else { Node::Intersection(items) });
        }
        if or && items.iter().any(is_inequality) {
            return Some(Node::Union(items));
        }
        // x ≠ -1, 1
        if let [Node::Relation(sides, ops), rest @ ..] = items.as_slice()
            && let ([name @ Node::Variable(_), first], [Op::NotEqual]) = (sides.as_slice(), ops.as_slice())
            && !rest.iter().any(|item| matches!(item, Node::Relation(..)))
        {
            let all = Node::List([std::slice::from_ref(first), rest].concat());
            return Some(Node::Relation(vec![name.clone(), all], ops.clone()));
        }
        // x > 0, x ≠ 1
        if items.iter().all(is_inequality) && of_one_name(&items) {
            return Some(Node::Intersection(items));
        }
        Some(Node::List(items))
    }

    fn item(&mut self) -> Option<Node> {
        self.deeper(Self::relation)
    }

    fn relation(&mut self) -> Option<Node> {
        // `= 5` and `≈ 5`
        if self.at == 0 && matches!(self.peek(), Some(Token::Relation(Op::Equal | Op::Approximately))) {
            self.at += 1;
        }
        let mut sides = vec![self.left_side()?];
        let mut ops = Vec::new();
        loop {
            // x &= 1: aligned there
            if self.is('&') && matches!(self.after(1), Some(Token::Relation(_))) {
                self.at += 1;
            }
            let Some(Token::Relation(op)) = self.peek() else { break };
            self.at += 1;
            ops.push(*op);
            self.eat('&');
            sides.push(self.set_expression()?);
        }
        if let Some(Token::Mod(true)) = self.peek() {
            // x ≡ 3 (mod 8)
            self.at += 1;
            let modulus = Box::new(self.modulus()?);
            let residue = Node::Residue(Box::new(sides.pop()?), modulus);
            sides.push(residue);
        } else if let (Some(Node::Remainder(value, modulus)), [.., Op::Equal]) =
            (sides.last(), ops.as_slice())
            && sides.len() > 1
        {
            let residue = Node::Residue(value.clone(), modulus.clone());
            sides.pop();
            sides.push(residue);
        }
        Some(if ops.is_empty() { sides.pop()? } else { Node::Relation(sides, ops) })
    }

    /// What stands behind `\pmod`.
    fn modulus(&mut self) -> Option<Node> {
        if self.eat('(') {
            let modulus = self.item()?;
            return self.eat(')').then_some(modulus);
        }
        self.argument()
    }

    fn set_expression(&mut self) -> Option<Node> {
        let mut node = self.ratio()?;
        while let Some(Token::Set(op)) = self.peek() {
            self.at += 1;
            self.eat(',');
            let right = self.ratio()?;
            node = match (*op, node) {
                ('∪', Node::Union(mut items)) => {
                    items.push(right);
                    Node::Union(items)
                }
                ('∪', node) => Node::Union(vec![node, right]),
                ('∩', node) => Node::Intersection(vec![node, right]),
                (_, node) => Node::Difference(Box::new(node), Box::new(right)),
            };
        }
        Some(node)
    }

    fn ratio(&mut self) -> Option<Node> {
        let first = self.quantity()?;
        let mut terms = vec![first];
        while self.colons && self.eat(':') || self.eat_word("to") {
            terms.push(self.quantity()?);
        }
        Some(if terms.len() == 1 { terms.pop()? } else { Node::Ratio(terms) })
    }

    fn sum(&mut self) -> Option<Node> {
        let first = match self.peek()? {
            Token::Sign('-') => {
                self.at += 1;
                // -$5 and -(3/4)
                if matches!(self.peek(), Some(Token::Currency(_))) {
                    self.at += 1;
                }
                self.product()?.negated()
            }
            Token::Sign('+') => {
                self.at += 1;
                self.product()?
            }
            Token::PlusMinus(minus_first) => {
                self.at += 1;
                let second = Box::new(self.product()?);
                Node::PlusMinus { first: Box::new(Node::integer(0)), second, minus_first: *minus_first }
            }
            _ => self.product()?,
        };
        let mut terms = vec![first];
        loop {
            match self.peek() {
                Some(Token::Sign('+')) => {
                    self.at += 1;
                    terms.push(self.product()?);
                }
                Some(Token::Sign('-')) => {
                    self.at += 1;
                    terms.push(self.product()?.negated());
                }
                Some(Token::PlusMinus(minus_first)) => {
                    self.at += 1;
                    let second = Box::new(self.product()?);
                    let first = Box::new(sum_of(std::mem::take(&mut terms)));
                    terms.push(Node::PlusMinus { first, second, minus_first: *minus_first });
                }
                Some(Token::Over(choose)) => {
                    // {a + b \over c}
                    self.at += 1;
                    let (above, below) = (sum_of(terms), self.deeper(Self::sum)?);
                    return Some(match choose {
                        true => Node::Call(Func::Binomial, vec![above, below]),
                        false => Node::Div(Box::new(above), Box::new(below)),
                    });
                }
                _ => return Some(sum_of(terms)),
            }
        }
    }
}

fn is_inequality(node: &Node) -> bool {
    match node {
        Node::Relation(_, ops) => ops.iter().all(|op| !op.is_equality()),
        Node::Union(_) | Node::Intersection(_) => true,
        _ => false,
    }
}

/// Whether all say something of one variable.
fn of_one_name(items: &[Node]) -> bool {
    let mut names = Vec::new();
    items.iter().for_each(|item| collect(item, &mut names));
    names.dedup();
    names.len() == 1
}

fn collect<'a>(node: &'a Node, names: &mut Vec<&'a str>) {
    if let Node::Variable(name) = node {
        names.push(name);
    }
    node.children().into_iter().for_each(|child| collect(child, names));
}

fn sum_of(mut terms: Vec<Node>) -> Node {
    match (terms.len(), terms.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            terms.extend(last);
            Node::Add(terms)
        }
    }
}

fn times(left: Node, right: Node) -> Node {
    match left {
        Node::Mul(mut items) => {
            items.push(right);
            Node::Mul(items)
        }
        left => Node::Mul(vec![left, right]),
    }
}
