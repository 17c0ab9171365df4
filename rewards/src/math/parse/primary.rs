//! What stands alone: numbers, names, brackets, sets, matrices, commands and functions with their arguments.
//!
//! Before: [`super`] wants a factor. After: its powers and signs are read.

use num_traits::One;

use super::{Parser, is_inequality, times};
use crate::math::lex::Token;
use crate::math::node::{Func, Node, Op, Rational};

impl Parser<'_> {
    pub(super) fn primary(&mut self) -> Option<Node> {
        let token = self.peek()?;
        self.at += 1;
        match token {
            Token::Number(value, _) => Some(Node::Number(value.clone())),
            Token::Based(digits, base) => Some(Node::Based(digits.clone(), *base)),
            Token::Variable(name) => {
                let applied = self.attempt(|parser| parser.application(name));
                Some(applied.unwrap_or_else(|| Node::Variable(name.clone())))
            }
            Token::Pi => Some(Node::Pi),
            Token::E => Some(Node::E),
            Token::I => Some(Node::I),
            Token::Infinity => Some(Node::Infinity),
            Token::Reals => Some(Node::Reals),
            Token::Empty => Some(Node::Empty),
            Token::Frac => {
                let above = self.argument()?;
                let below = self.argument()?;
                Some(Node::Div(Box::new(above), Box::new(below)))
            }
            Token::Binom => {
                let above = self.argument()?;
                let below = self.argument()?;
                Some(Node::Call(Func::Binomial, vec![above, below]))
            }
            Token::Sqrt => {
                let index = if self.eat('[') {
                    let index = self.item()?;
                    self.eat(']').then_some(index)?
                } else {
                    Node::integer(2)
                };
                let under = self.whole_argument()?;
                Some(Node::Root(Box::new(index), Box::new(under)))
            }
            Token::Func(func) => self.call(*func),
            Token::Open(func) => {
                let bars = std::mem::take(&mut self.bars);
                let inner = self.item()?;
                self.bars = bars;
                if self.peek() != Some(&Token::Close(*func)) {
                    return None;
                }
                self.at += 1;
                Some(Node::Call(*func, vec![inner]))
            }
            Token::Begin(name) => self.matrix(name),
            Token::SetOpen => self.set(),
            Token::Sign('{') => {
                let node = self.braced()?;
                Some(match node {
                    Node::List(items) => Node::Set(items),
                    node => node,
                })
            }
            Token::Sign(open @ ('(' | '[' | '⟨')) => self.bracket(*open),
            Token::Sign(']') => self.bracket(']'),
            Token::Sign('|') => {
                self.bars += 1;
                let inner = self.item()?;
                self.bars -= 1;
                self.eat('|').then_some(Node::Call(Func::Abs, vec![inner]))
            }
            _ => None,
        }
    }

    /// `(x)` behind a letter that is used for functions; `(1+r)` behind one is a factor.
    fn application(&mut self, name: &str) -> Option<Node> {
        let usual =
            matches!(name, "f" | "g" | "h" | "F" | "G" | "H" | "P" | "Q" | "I" | "V" | "T" | "N" | "S");
        if !self.eat('(') {
            return None;
        }
        let mut arguments = Vec::new();
        loop {
            arguments.push(match self.peek()? {
                Token::Number(value, _) => Node::Number(value.clone()),
                Token::Variable(name) => Node::Variable(name.clone()),
                _ => return None,
            });
            self.at += 1;
            if !self.eat(',') {
                break;
            }
        }
        let variables = arguments.iter().all(|argument| matches!(argument, Node::Variable(_)));
        let closed = self.eat(')');
        // a(t) = …
        let defined = variables && matches!(self.peek(), Some(Token::Relation(Op::Equal)));
        (closed && (usual || defined)).then(|| Node::Apply(name.to_owned(), arguments))
    }

    /// Up to the closing bracket: a group, a tuple or an interval.
    fn bracket(&mut self, open: char) -> Option<Node> {
        let bars = std::mem::take(&mut self.bars);
        if matches!(self.peek(), Some(Token::Sign(')' | ']'))) {
            return None;
        }
        let inner = self.list(false)?;
        self.bars = bars;
        let Some(Token::Sign(close @ (')' | ']' | '[' | '⟩'))) = self.peek() else { return None };
        self.at += 1;
        match inner {
            Node::List(items) => Some(Node::Tuple { open, close: *close, items }),
            inner if open == ']' || *close == '[' => {
                drop(inner);
                None
            }
            inner => Some(inner),
        }
    }

    /// Up to `\}`: items, or a variable and what holds for it.
    fn set(&mut self) -> Option<Node> {
        if self.peek() == Some(&Token::SetClose) {
            self.at += 1;
            return Some(Node::Empty);
        }
        self.bars += 1;
        let inner = self.list(false)?;
        self.bars -= 1;
        let divides = matches!(self.peek(), Some(Token::Mid | Token::Sign('|' | ':')));
        let ratio = match &inner {
            Node::Ratio(terms) if terms.len() == 2 && terms.iter().any(is_inequality) => None,
            Node::Ratio(_) => return None,
            _ => Some(()),
        };
        let node = if divides && ratio.is_some() {
            self.at += 1;
            // { 2k | … } is not what holds for k
            let plain = match &inner {
                Node::Variable(_) => true,
                Node::Tuple { items, .. } => items.iter().all(|item| matches!(item, Node::Variable(_))),
                Node::Relation(sides, ops) => {
                    ops.as_slice() == [Op::In] && matches!(sides[0], Node::Variable(_))
                }
                _ => false,
            };
            if !plain {
                return None;
            }
            self.list(false)?
        } else {
            match inner {
                Node::List(items) => Node::Set(items),
                inner => Node::Set(vec![inner]),
            }
        };
        if self.peek() != Some(&Token::SetClose) {
            return None;
        }
        self.at += 1;
        Some(node)
    }

    fn matrix(&mut self, name: &str) -> Option<Node> {
        let determinant = match name.trim_end_matches('*') {
            "pmatrix" | "bmatrix" | "matrix" | "Bmatrix" | "smallmatrix" | "array" => false,
            "vmatrix" => true,
            _ => return None,
        };
        let bars = std::mem::take(&mut self.bars);
        let mut rows = vec![Vec::new()];
        loop {
            rows.last_mut()?.push(self.item()?);
            match self.peek()? {
                Token::Sign('&') => self.at += 1,
                Token::Row => {
                    self.at += 1;
                    if self.peek() == Some(&Token::End) {
                        self.at += 1;
                        break;
                    }
                    rows.push(Vec::new());
                }
                Token::End => {
                    self.at += 1;
                    break;
                }
                _ => return None,
            }
        }
        self.bars = bars;
        let width = rows[0].len();
        if rows.iter().any(|row| row.len() != width) {
            return None;
        }
        Some(if determinant { Node::Determinant(rows) } else { Node::Matrix(rows) })
    }

    /// What a TeX command takes: braces, or one digit or sign.
    fn argument(&mut self) -> Option<Node> {
        if self.eat('{') {
            return self.braced();
        }
        // \frac12 came as one number of two digits: see `split_digits`
        self.deeper(Self::primary)
    }

    /// What a root takes: braces, or all of a number.
    fn whole_argument(&mut self) -> Option<Node> {
        if self.eat('{') {
            return self.braced();
        }
        self.deeper(Self::primary)
    }

    fn call(&mut self, func: Func) -> Option<Node> {
        let mut power = None;
        let mut base = None;
        loop {
            if self.eat('^') {
                power = Some(self.deeper(Self::exponent)?);
            } else if matches!(func, Func::Log | Func::Min | Func::Max) && self.eat('_') {
                base = Some(self.argument()?);
            } else {
                break;
            }
        }
        let mut arguments = match self.peek()? {
            Token::Sign(open @ ('(' | '[' | '{')) => {
                self.at += 1;
                let inner = if *open == '{' { self.braced()? } else { self.bracket(*open)? };
                match inner {
                    Node::Tuple { items, .. } | Node::List(items) => items,
                    inner => vec![inner],
                }
            }
            _ => vec![self.deeper(Self::bare_argument)?],
        };
        if let (Func::Log, Some(base)) = (func, base) {
            arguments.insert(0, base);
        }
        let mut inverse = func;
        if let Some(Node::Number(value)) = &power
            && *value == -Rational::one()
        {
            inverse = inverse_of(func)?;
            power = None;
        }
        let call = Node::Call(inverse, arguments);
        Some(match power {
            Some(power) => Node::Pow(Box::new(call), Box::new(power)),
            None => call,
        })
    }

    /// `2x` of `\sin 2x`: factors up to a sign, a bracket or another function.
    fn bare_argument(&mut self) -> Option<Node> {
        if self.eat('-') {
            return self.deeper(Self::bare_argument).map(Node::negated);
        }
        let mut node = self.factor()?;
        while self.begins_factor() && !matches!(self.peek(), Some(Token::Func(_) | Token::Sign('(' | '['))) {
            node = times(node, self.factor()?);
        }
        Some(node)
    }
}

fn inverse_of(func: Func) -> Option<Func> {
    Some(match func {
        Func::Sin => Func::Arcsin,
        Func::Cos => Func::Arccos,
        Func::Tan => Func::Arctan,
        Func::Cot => Func::Arccot,
        Func::Sec => Func::Arcsec,
        Func::Csc => Func::Arccsc,
        _ => return None,
    })
}
