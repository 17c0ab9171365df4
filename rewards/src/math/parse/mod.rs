//! Tokens become a tree.
//!
//! Before: [`super::lex`]. After: [`super::compare`]. Recursive descent, no deeper than [`DEPTH`], each token looked at a
//! bounded number of times; what does not fit the grammar is no tree, and its answer is compared as text.

mod primary;
mod quantity;

use num_traits::{Signed, Zero};

use super::lex::{Token, clean};
use super::node::{Func, Node, Op, Rational};

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
    if !tokens.is_empty() && words.len() == tokens.len() {
        return Some(Node::Text(words.join(" ")));
    }
    let mut parser = Parser { tokens, at: 0, depth: 0, bars: 0 };
    let node = parser.list(true)?;
    (parser.at == tokens.len()).then_some(node)
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    /// Open `|`, and sets, where a `|` cannot begin a factor.
    bars: usize,
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
            let comma = self.eat(',') || self.eat(';');
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
        let mut sides = vec![self.set_expression()?];
        let mut ops = Vec::new();
        while let Some(Token::Relation(op)) = self.peek() {
            self.at += 1;
            ops.push(*op);
            sides.push(self.set_expression()?);
        }
        Some(if ops.is_empty() { sides.pop()? } else { Node::Relation(sides, ops) })
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
        while self.eat(':') || self.eat_word("to") {
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
                _ => return Some(sum_of(terms)),
            }
        }
    }

    fn product(&mut self) -> Option<Node> {
        let mut node = self.factor()?;
        loop {
            match self.peek() {
                Some(Token::Sign('*')) => {
                    self.at += 1;
                    let right = self.signed_factor()?;
                    node = times(node, right);
                }
                Some(Token::Sign('/')) => {
                    self.at += 1;
                    let right = self.signed_factor()?;
                    node = Node::Div(Box::new(node), Box::new(right));
                }
                Some(Token::Number(..)) => {
                    // `3 1/2`; any other two numbers side by side are a mistake
                    let fraction = self.attempt(Self::plain_fraction)?;
                    node = mixed(node, fraction)?;
                }
                Some(_) if self.begins_factor() => {
                    let fraction = self.peek() == Some(&Token::Frac);
                    let right = self.factor()?;
                    node = match (&node, fraction.then(|| proper(&right)).flatten()) {
                        (Node::Number(_), Some(value)) if self.whole_before(&node) => mixed(node, value)?,
                        _ => times(node, right),
                    };
                }
                _ => return Some(node),
            }
        }
    }

    fn whole_before(&self, node: &Node) -> bool {
        matches!(node, Node::Number(value) if value.is_integer() && !value.is_negative())
    }

    /// `1/2` of two plain integers.
    fn plain_fraction(&mut self) -> Option<Rational> {
        let (Some(Token::Number(a, true)), Some(Token::Sign('/')), Some(Token::Number(b, true))) =
            (self.peek(), self.after(1), self.after(2))
        else {
            return None;
        };
        self.at += 3;
        (a < b && !b.is_zero()).then(|| a / b)
    }

    fn signed_factor(&mut self) -> Option<Node> {
        if self.eat('-') {
            return self.deeper(Self::signed_factor).map(Node::negated);
        }
        self.eat('+');
        self.factor()
    }

    fn begins_factor(&self) -> bool {
        match self.peek() {
            Some(
                Token::Number(..)
                | Token::Based(..)
                | Token::Variable(_)
                | Token::Func(_)
                | Token::Frac
                | Token::Sqrt
                | Token::Binom
                | Token::Pi
                | Token::E
                | Token::I
                | Token::Infinity
                | Token::Begin(_)
                | Token::Open(_)
                | Token::Sign('(' | '[' | '{' | '⟨'),
            ) => true,
            Some(Token::Sign('|')) => self.bars == 0,
            _ => false,
        }
    }

    /// A primary with its powers, factorials, percent and degree signs.
    fn factor(&mut self) -> Option<Node> {
        let mut node = self.deeper(Self::primary)?;
        loop {
            match self.peek() {
                Some(Token::Sign('^')) => {
                    self.at += 1;
                    if let Some(degrees) = self.attempt(Self::degree_sign) {
                        node = degrees(node);
                        continue;
                    }
                    if let Some(primes) = self.attempt(Self::primes) {
                        node = primed(node, primes)?;
                        continue;
                    }
                    let exponent = self.deeper(Self::exponent)?;
                    node = Node::Pow(Box::new(node), Box::new(exponent));
                }
                Some(Token::Sign('!')) => {
                    self.at += 1;
                    node = Node::Call(Func::Factorial, vec![node]);
                }
                Some(Token::Sign('%')) => {
                    self.at += 1;
                    node = Node::Percent(Box::new(node));
                }
                Some(Token::Degree) => {
                    self.at += 1;
                    node = Node::Degree(Box::new(node));
                }
                Some(Token::Word(word)) if matches!(word.as_str(), "degrees" | "degree" | "deg") => {
                    self.at += 1;
                    node = Node::Degree(Box::new(node));
                }
                Some(Token::Word(word)) if word == "percent" => {
                    self.at += 1;
                    node = Node::Percent(Box::new(node));
                }
                Some(Token::Sign('\'')) => {
                    self.at += 1;
                    node = primed(node, 1)?;
                }
                Some(Token::Sign('_')) => {
                    self.at += 1;
                    node = self.subscript(node)?;
                }
                _ => return Some(node),
            }
        }
    }

    fn degree_sign(&mut self) -> Option<fn(Node) -> Node> {
        let braced = self.eat('{');
        if self.peek() != Some(&Token::Degree) {
            return None;
        }
        self.at += 1;
        (!braced || self.eat('}')).then_some(|node| Node::Degree(Box::new(node)))
    }

    fn primes(&mut self) -> Option<usize> {
        let braced = self.eat('{');
        let mut count = 0;
        while self.eat('\'') {
            count += 1;
        }
        (count > 0 && (!braced || self.eat('}'))).then_some(count)
    }

    fn exponent(&mut self) -> Option<Node> {
        if self.eat('{') {
            let node = self.braced()?;
            return Some(node);
        }
        if self.eat('-') {
            return self.deeper(Self::exponent).map(Node::negated);
        }
        self.eat('+');
        let node = self.deeper(Self::primary)?;
        // x^y^z
        if self.eat('^') {
            let power = self.deeper(Self::exponent)?;
            return Some(Node::Pow(Box::new(node), Box::new(power)));
        }
        Some(node)
    }

    /// What is left of `{…}`.
    fn braced(&mut self) -> Option<Node> {
        let bars = std::mem::take(&mut self.bars);
        let node = self.list(false)?;
        self.bars = bars;
        self.eat('}').then_some(node)
    }

    fn subscript(&mut self, node: Node) -> Option<Node> {
        let start = self.at;
        let text = if self.eat('{') {
            let mut depth = 1;
            while depth > 0 {
                match self.peek()? {
                    Token::Sign('{') => depth += 1,
                    Token::Sign('}') => depth -= 1,
                    _ => {}
                }
                self.at += 1;
            }
            format!("{:?}", &self.tokens[start + 1..self.at - 1])
        } else {
            self.peek()?;
            self.at += 1;
            format!("{:?}", &self.tokens[start..self.at])
        };
        match node {
            Node::Variable(name) => Some(Node::Variable(format!("{name}_{text}"))),
            Node::E => Some(Node::Variable(format!("e_{text}"))),
            Node::I => Some(Node::Variable(format!("i_{text}"))),
            _ => None,
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

/// 3 and 1/2 are 3½.
fn mixed(whole: Node, fraction: Rational) -> Option<Node> {
    match whole {
        Node::Number(value) if value.is_integer() && !value.is_negative() => {
            Some(Node::Number(value + fraction))
        }
        _ => None,
    }
}

/// A fraction of two positive integers that is less than 1.
fn proper(node: &Node) -> Option<Rational> {
    let Node::Div(a, b) = node else { return None };
    let (Node::Number(a), Node::Number(b)) = (&**a, &**b) else { return None };
    (a.is_integer() && b.is_integer() && a.is_positive() && a < b).then(|| a / b)
}

fn primed(node: Node, count: usize) -> Option<Node> {
    match node {
        Node::Variable(name) => Some(Node::Variable(clean(&format!("{name}{}", "'".repeat(count))))),
        _ => None,
    }
}
