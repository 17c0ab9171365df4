//! Products and their factors: signs between, powers, marks and subscripts behind.
//!
//! Before: [`super`] reads a sum. After: a product of primaries.

use num_traits::{Signed, Zero};

use super::{Parser, times};
use crate::math::lex::{Token, clean};
use crate::math::node::{Func, Node, Rational};

impl Parser<'_> {
    pub(super) fn product(&mut self) -> Option<Node> {
        let mut node = self.factor()?;
        loop {
            match self.peek() {
                Some(Token::Sign('*')) => {
                    self.at += 1;
                    let right = self.signed_factor()?;
                    node = times(node, right);
                }
                // $20/hour
                Some(Token::Sign('/')) if matches!(self.after(1), Some(Token::Word(_))) => return Some(node),
                Some(Token::Sign('/')) => {
                    self.at += 1;
                    let right = self.signed_factor()?;
                    node = Node::Div(Box::new(node), Box::new(right));
                }
                // 3!2!
                Some(Token::Number(..)) if self.at > 0 && self.tokens[self.at - 1] == Token::Sign('!') => {
                    let right = self.factor()?;
                    node = times(node, right);
                }
                Some(Token::Number(..)) => {
                    // `3 1/2`; any other two numbers side by side are a mistake
                    let fraction = self.attempt(Self::plain_fraction)?;
                    node = mixed(node, fraction)?;
                    node = self.signs(node)?;
                }
                Some(Token::Frac) if self.whole_before(&node) => {
                    let right = self.deeper(Self::primary)?;
                    // 33\frac{1}{3}\% is a third
                    node = match proper(&right) {
                        Some(value) => {
                            let number = mixed(node, value)?;
                            self.signs(number)?
                        }
                        None => {
                            let right = self.signs(right)?;
                            times(node, right)
                        }
                    };
                }
                Some(Token::Mod(false)) => {
                    self.at += 1;
                    let modulus = self.factor()?;
                    node = Node::Remainder(Box::new(node), Box::new(modulus));
                }
                Some(_) if self.begins_factor() => {
                    let right = self.factor()?;
                    node = times(node, right);
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

    pub(super) fn signed_factor(&mut self) -> Option<Node> {
        if self.eat('-') {
            return self.deeper(Self::signed_factor).map(Node::negated);
        }
        self.eat('+');
        self.factor()
    }

    pub(super) fn begins_factor(&self) -> bool {
        match self.peek() {
            Some(
                Token::Number(..)
                | Token::Based(..)
                | Token::Variable(_)
                | Token::Func(_)
                | Token::Sum(_)
                | Token::Limit
                | Token::Reals
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
    pub(super) fn factor(&mut self) -> Option<Node> {
        let node = self.deeper(Self::primary)?;
        self.signs(node)
    }

    /// The powers, factorials, percent and degree signs, primes and subscripts behind a primary.
    pub(super) fn signs(&mut self, mut node: Node) -> Option<Node> {
        loop {
            match self.peek() {
                Some(Token::Sign('^')) => {
                    self.at += 1;
                    if self.attempt(Self::degree_sign).is_some() {
                        node = self.after_degree(node)?;
                        continue;
                    }
                    if let Some(primes) = self.attempt(Self::primes) {
                        node = primed(node, primes)?;
                        continue;
                    }
                    let exponent = self.deeper(Self::exponent)?;
                    let transpose = exponent == Node::Variable("T".into());
                    node = match node {
                        node @ (Node::Tuple { .. } | Node::Matrix(_)) if transpose => transposed(node),
                        node => Node::Pow(Box::new(node), Box::new(exponent)),
                    };
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
                    node = self.after_degree(node)?;
                }
                Some(Token::Word(word)) if matches!(word.as_str(), "degrees" | "degree" | "deg") => {
                    self.at += 1;
                    node = Node::Degree(Box::new(node));
                }
                Some(Token::Word(word)) if word == "percent" => {
                    self.at += 1;
                    node = Node::Percent(Box::new(node));
                }
                Some(Token::Sign('\'')) if matches!(node, Node::Number(_)) => {
                    node = self.feet(node)?;
                }
                Some(Token::Sign('\'')) => {
                    self.at += 1;
                    node = primed(node, 1)?;
                    if let Node::Variable(name) = &node {
                        let name = name.clone();
                        node = self.attempt(|parser| parser.application(&name)).unwrap_or(node);
                    }
                }
                Some(Token::Sign('_')) => {
                    self.at += 1;
                    node = self.subscript(node)?;
                }
                _ => return Some(node),
            }
        }
    }

    fn degree_sign(&mut self) -> Option<()> {
        let braced = self.eat('{');
        if self.peek() != Some(&Token::Degree) {
            return None;
        }
        self.at += 1;
        (!braced || self.eat('}')).then_some(())
    }

    pub(super) fn primes(&mut self) -> Option<usize> {
        let braced = self.eat('{');
        let mut count = 0;
        while self.eat('\'') {
            count += 1;
        }
        (count > 0 && (!braced || self.eat('}'))).then_some(count)
    }

    pub(super) fn exponent(&mut self) -> Option<Node> {
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
    pub(super) fn braced(&mut self) -> Option<Node> {
        let bars = std::mem::take(&mut self.bars);
        let node = self.list(false)?;
        self.bars = bars;
        self.eat('}').then_some(node)
    }

    fn subscript(&mut self, node: Node) -> Option<Node> {
        if let Some(count) = self.attempt(|parser| parser.combinations(&node)) {
            return Some(count);
        }
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

/// A row as a column, and the other way round.
fn transposed(node: Node) -> Node {
    match node {
        Node::Tuple { items, .. } => Node::Matrix(items.into_iter().map(|item| vec![item]).collect()),
        Node::Matrix(rows) => {
            let width = rows.first().map_or(0, Vec::len);
            Node::Matrix((0..width).map(|at| rows.iter().map(|row| row[at].clone()).collect()).collect())
        }
        node => node,
    }
}
