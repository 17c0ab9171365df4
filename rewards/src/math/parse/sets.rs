//! Sets: their elements, or what holds for them.
//!
//! Before: [`super::primary`] meets `\{` or `{`. After: a set, an inequality, or a builder.

use super::{Parser, is_inequality};
use crate::math::lex::Token;
use crate::math::node::{Node, Op};

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
