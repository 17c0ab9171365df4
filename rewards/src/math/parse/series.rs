//! Sums and products over an index, and limits.
//!
//! Before: [`super::primary`] meets `\sum`, `\prod` or `\lim`. After: with whole bounds all terms are written out; an infinite
//! geometric series is its value; a limit is left to [`crate::math::eval`].

use num_traits::{One, Signed, ToPrimitive, Zero};

use super::{Parser, times};
use crate::math::lex::Token;
use crate::math::node::{Node, Op, Rational};
use crate::math::poly::{Algebra, Budget};

/// Terms that are written out.
const TERMS: i64 = 120;

impl Parser<'_> {
    /// Behind `\sum` or `\prod`.
    pub(super) fn series(&mut self, product: bool) -> Option<Node> {
        let (mut below, mut above) = (None, None);
        for _ in 0..2 {
            if self.eat('_') {
                self.eat('{').then_some(())?;
                below = Some(self.braced()?);
            } else if self.eat('^') {
                above = Some(self.deeper(Self::exponent)?);
            }
        }
        let Some(Node::Relation(sides, ops)) = below else { return None };
        let ([name, from], [Op::Equal]) = (sides.as_slice(), ops.as_slice()) else { return None };
        let (name, from, above) = (name_of(name)?, whole(from)?, above?);
        let body = self.body()?;
        let term = |at: i64| substituted(&body, &name, &Node::integer(at));
        if above == Node::Infinity {
            return if product { None } else { geometric(&[0, 1, 2, 3, 4].map(|step| term(from + step))) };
        }
        let to = whole(&above)?;
        if !(0..TERMS).contains(&(to - from)) || (to - from) as u64 * body.size() > 4000 {
            return None;
        }
        let terms = (from..=to).map(term).collect();
        Some(if product { Node::Mul(terms) } else { Node::Add(terms) })
    }

    /// What a sum or limit is of: a product, as far as it goes.
    fn body(&mut self) -> Option<Node> {
        let mut node = self.deeper(Self::signed_factor)?;
        loop {
            if self.eat('*') {
                let right = self.signed_factor()?;
                node = times(node, right);
            } else if self.eat('/') {
                let right = self.signed_factor()?;
                node = Node::Div(Box::new(node), Box::new(right));
            } else if self.begins_factor() && !matches!(self.peek(), Some(Token::Number(..))) {
                let right = self.factor()?;
                node = times(node, right);
            } else {
                return Some(node);
            }
        }
    }

    /// Behind `\lim`.
    pub(super) fn limit(&mut self) -> Option<Node> {
        if !(self.eat('_') && self.eat('{')) {
            return None;
        }
        let name = match self.peek()? {
            Token::Variable(name) => name.clone(),
            _ => return None,
        };
        self.at += 1;
        if self.peek() != Some(&Token::Arrow) {
            return None;
        }
        self.at += 1;
        let at = self.item()?;
        if !self.eat('}') {
            return None;
        }
        let body = self.body()?;
        Some(Node::Limit(name, Box::new(at), Box::new(body)))
    }
}

fn name_of(node: &Node) -> Option<String> {
    match node {
        Node::Variable(name) => Some(name.clone()),
        Node::I => Some("i".into()),
        _ => None,
    }
}

fn whole(node: &Node) -> Option<i64> {
    match node {
        Node::Number(value) if value.is_integer() => {
            value.to_integer().to_i64().filter(|n| n.abs() < 1_000_000)
        }
        Node::Neg(inner) => whole(inner).map(|n| -n),
        _ => None,
    }
}

fn substituted(body: &Node, name: &str, value: &Node) -> Node {
    body.map(&|node| match &node {
        Node::Variable(own) if own == name => value.clone(),
        Node::I if name == "i" => value.clone(),
        _ => node,
    })
}

/// The value of an infinite sum with these first terms, if each is the one before times the same number.
fn geometric(terms: &[Node]) -> Option<Node> {
    let budget = Budget::new();
    let mut exact = Vec::new();
    for term in terms {
        exact.push(Algebra::new(&budget).fraction(term)?.rational()?);
    }
    if exact.iter().any(Zero::is_zero) {
        return None;
    }
    let ratio = &exact[1] / &exact[0];
    let same = exact.windows(2).all(|pair| &pair[1] / &pair[0] == ratio);
    (same && ratio.abs() < Rational::one()).then(|| Node::Number(&exact[0] / (Rational::one() - &ratio)))
}
