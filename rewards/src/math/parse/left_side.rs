//! What stands left of an equals sign and is no expression: `P(X=1)`, `E[X]`, `S_{ABC}`.
//!
//! Before: [`super`] reads a relation. After: a name for it, made of its tokens.

use super::Parser;
use crate::math::lex::Token;
use crate::math::node::{Node, Op};

/// Whether there are relations or events in it: `P(X = 1)`, `P(A ∩ B)`.
fn about_sets(node: &Node) -> bool {
    matches!(node, Node::Mul(_))
        && node.any(&|inner| {
            matches!(inner, Node::Relation(..) | Node::Intersection(_) | Node::Union(_) | Node::Text(_))
        })
}

impl Parser<'_> {
    /// An expression; or, before an equals sign, anything with letters in it.
    pub(super) fn left_side(&mut self) -> Option<Node> {
        let start = self.at;
        let read = self.attempt(|parser| parser.set_expression());
        // one item of the answer itself, so that this is tried once
        if self.depth > 1 || start != 0 {
            return read;
        }
        let equals = self.equals(start);
        match (read, equals) {
            (Some(node), Some(at)) if self.at == at && (about_sets(&node) || self.applied(start, at)) => {
                let named = self.named(start, at);
                if named.is_none() { Some(node) } else { named }
            }
            (Some(node), Some(at))
                if self.at < at
                    && !matches!(self.peek(), Some(Token::Relation(_) | Token::Sign(',' | ';'))) =>
            {
                let named = self.named(start, at);
                if named.is_none() { Some(node) } else { named }
            }
            (Some(node), _) => Some(node),
            (None, Some(at)) => self.named(start, at),
            (None, None) => None,
        }
    }

    /// Whether the tokens are a letter for a function, or its inverse, and one bracket: `f(g(1))`.
    fn applied(&self, start: usize, end: usize) -> bool {
        let letter = matches!(&self.tokens[start], Token::Variable(name)
            if matches!(name.as_str(), "f" | "g" | "h" | "F" | "G" | "H" | "P" | "E" | "d" | "N" | "set P" | "set E"));
        let all = &self.tokens[start + 1..end];
        // f^{-1}(x)
        let inner = match all {
            [
                Token::Sign('^'),
                Token::Sign('{'),
                Token::Sign('-'),
                Token::Number(..),
                Token::Sign('}'),
                rest @ ..,
            ] => rest,
            all => all,
        };
        let brackets = inner.iter().filter(|token| **token == Token::Sign('(')).count();
        letter
            && brackets > usize::from(inner.len() == all.len())
            && inner.first() == Some(&Token::Sign('('))
            && inner.last() == Some(&Token::Sign(')'))
    }

    /// The first equals sign outside of brackets.
    fn equals(&self, start: usize) -> Option<usize> {
        let mut depth = 0_i32;
        self.tokens[start..]
            .iter()
            .position(|token| {
                match token {
                    Token::Sign('(' | '[' | '{') | Token::SetOpen => depth += 1,
                    Token::Sign(')' | ']' | '}') | Token::SetClose => depth -= 1,
                    Token::Relation(Op::Equal | Op::Approximately) => return depth == 0,
                    _ => {}
                }
                false
            })
            .map(|at| start + at)
    }

    fn named(&mut self, start: usize, end: usize) -> Option<Node> {
        let side = &self.tokens[start..end];
        let letters =
            side.iter().any(|token| matches!(token, Token::Variable(_) | Token::Word(_) | Token::Func(_)));
        let brackets = side.iter().any(|token| matches!(token, Token::Sign('(' | '[' | '{' | '|')));
        let separated =
            side.iter().any(|token| matches!(token, Token::Row | Token::Begin(_) | Token::Unknown(_)));
        if !letters || !brackets || separated || side.len() > 40 {
            return None;
        }
        self.at = end;
        Some(Node::Apply(format!("{side:?}"), vec![]))
    }
}
