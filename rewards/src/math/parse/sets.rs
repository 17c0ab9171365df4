//! Sets: their elements, or what holds for them.
//!
//! Before: [`super::primary`] meets `\{` or `{`. After: a set, an inequality, or a builder.

use super::{Parser, is_inequality};
use crate::math::lex::Token;
use crate::math::node::{Node, Op};
use crate::math::sets::reals;

impl Parser<'_> {
    /// Up to `\}`, or a plain brace: items, or a variable and what holds for it.
    pub(super) fn set(&mut self, close: &Token) -> Option<Node> {
        if self.peek() == Some(close) {
            self.at += 1;
            return Some(Node::Empty);
        }
        // \left\{ before an array is closed by \right.
        if matches!(self.peek(), Some(Token::Begin(_))) {
            let system = self.primary()?;
            self.at += usize::from(self.peek() == Some(close));
            return Some(system);
        }
        // once, as sets may be nested
        self.bars += 1;
        let colons = std::mem::replace(&mut self.colons, false);
        let inner = self.list(false);
        self.colons = colons;
        let inner = inner?;
        self.bars -= 1;
        if matches!(self.peek(), Some(Token::Mid | Token::Sign('|' | ':'))) {
            self.at += 1;
            return self.builder(inner, close);
        }
        if self.peek() != Some(close) {
            return None;
        }
        self.at += 1;
        Some(match inner {
            Node::List(items) => Node::Set(items),
            inner => Node::Set(vec![inner]),
        })
    }

    /// What has to hold, behind `x \mid`.
    fn builder(&mut self, inner: Node, close: &Token) -> Option<Node> {
        let conditions = self.list(false)?;
        if self.peek() != Some(close) {
            return None;
        }
        self.at += 1;
        // { 2k | … } is not what holds for k, and in { x ∈ Z | … } x is whole
        let real = match &inner {
            Node::Variable(_) => true,
            Node::Tuple { items, .. } => items.iter().all(|item| matches!(item, Node::Variable(_))),
            Node::Relation(sides, ops) => {
                ops.as_slice() == [Op::In] && matches!(sides.as_slice(), [Node::Variable(_), Node::Reals])
            }
            _ => false,
        };
        let holds = match &conditions {
            Node::List(items) => items.iter().all(is_inequality),
            Node::Relation(_, ops) => ops.as_slice() != [Op::In] || matches!(&inner, Node::Variable(_)),
            _ => true,
        };
        if let Some(members) = whole_numbers(&inner, &conditions) {
            return Some(members);
        }
        if real && holds {
            return Some(match conditions {
                Node::List(items) => Node::Intersection(items),
                one => one,
            });
        }
        let conditions = match conditions {
            Node::List(items) | Node::Intersection(items) => items,
            one => vec![one],
        };
        Some(Node::Builder(Box::new(inner), conditions))
    }
}

/// The elements of `{ x ∈ Z | 1 ≤ x ≤ 3 }`, if they are few. Whether 0 is in N is a matter of taste, so it is left open.
fn whole_numbers(inner: &Node, conditions: &Node) -> Option<Node> {
    /// Elements.
    const MOST: usize = 100;
    let Node::Relation(sides, ops) = inner else { return None };
    let ([Node::Variable(name), Node::Variable(set)], [Op::In]) = (sides.as_slice(), ops.as_slice()) else {
        return None;
    };
    let natural = set == "set N";
    if !natural && set != "set Z" {
        return None;
    }
    let conditions = match conditions {
        Node::List(items) | Node::Intersection(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let of_name = |node: &Node| node.any(&|node| matches!(node, Node::Variable(other) if other == name));
    if !conditions.iter().all(|condition| is_inequality(condition) && of_name(condition)) {
        return None;
    }
    let mut numbers = reals(&Node::Intersection(conditions.to_vec()))?.whole_numbers(MOST)?;
    if natural {
        if numbers.contains(&0) {
            return None;
        }
        numbers.retain(|number| *number > 0);
    }
    Some(match numbers.is_empty() {
        true => Node::Empty,
        false => Node::Set(numbers.into_iter().map(Node::integer).collect()),
    })
}
