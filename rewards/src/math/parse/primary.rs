//! What stands alone: numbers, names, brackets, sets, matrices, commands and functions with their arguments.
//!
//! Before: [`super`] wants a factor. After: its powers and signs are read.

use num_traits::One;

use super::{Parser, times};
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
            Token::Reals => self.reals(),
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
            Token::Begin(name) => self.environment(name),
            Token::Sum(product) => self.series(*product),
            Token::Limit => self.limit(),
            Token::SetOpen => self.set(&Token::SetClose),
            Token::Sign('{') if self.is('}') => {
                self.at += 1;
                self.combinations_behind()
            }
            Token::Sign('^' | '_') if self.at == 1 => {
                self.at -= 1;
                self.combinations_behind()
            }
            Token::Sign('{')
                if matches!(self.peek(), Some(Token::Variable(_)))
                    && matches!(self.after(1), Some(Token::Mid | Token::Sign('|' | ':'))) =>
            {
                self.set(&Token::Sign('}'))
            }
            Token::Sign('{') => Some(match self.braced()? {
                Node::List(items) => Node::Set(items),
                node => node,
            }),
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
    pub(super) fn application(&mut self, name: &str) -> Option<Node> {
        let usual = matches!(
            name,
            "f" | "g"
                | "h"
                | "F"
                | "G"
                | "H"
                | "P"
                | "Q"
                | "I"
                | "V"
                | "T"
                | "N"
                | "S"
                | "C"
                | "f'"
                | "f''"
                | "g'"
                | "A"
        );
        if !self.eat('(') {
            return None;
        }
        let mut arguments = Vec::new();
        loop {
            let minus = self.eat('-');
            let argument = match self.peek()? {
                Token::Number(value, _) => Node::Number(value.clone()),
                Token::Variable(name) => Node::Variable(name.clone()),
                _ => return None,
            };
            arguments.push(if minus { argument.negated() } else { argument });
            self.at += 1;
            if !self.eat(',') {
                break;
            }
        }
        let variables = arguments.iter().all(|argument| matches!(argument, Node::Variable(_)));
        let closed = self.eat(')');
        // a(t) = …, and C(5,2), which is a number or a point
        let defined = variables && matches!(self.peek(), Some(Token::Relation(Op::Equal)));
        let usual = usual && (!matches!(name, "C" | "A") || arguments.len() > 1);
        let point =
            arguments.len() > 1 && name.len() == 1 && name.starts_with(|c: char| c.is_ascii_uppercase());
        (closed && (usual || defined || point)).then(|| Node::Apply(name.to_owned(), arguments))
    }

    /// `\mathbb{R}`, with `^+`.
    fn reals(&mut self) -> Option<Node> {
        let above = |sign: char| {
            move |parser: &mut Self| {
                let begins = parser.eat('^') || parser.eat('_');
                let braced = parser.eat('{');
                (begins && parser.eat(sign) && (!braced || parser.eat('}'))).then_some(())
            }
        };
        let half = |sign: char| {
            let zero = Node::integer(0);
            let items =
                if sign == '+' { vec![zero, Node::Infinity] } else { vec![Node::Infinity.negated(), zero] };
            Node::Tuple { open: '(', close: ')', items }
        };
        for sign in ['+', '-'] {
            if self.attempt(above(sign)).is_some() {
                return Some(half(sign));
            }
        }
        // R − {0}
        if self.is('-') && matches!(self.after(1), Some(Token::SetOpen | Token::Sign('{'))) {
            self.at += 1;
            let without = self.primary()?;
            let without = match without {
                set @ (Node::Set(_) | Node::List(_)) => set,
                one => Node::Set(vec![one]),
            };
            return Some(Node::Difference(Box::new(Node::Reals), Box::new(without)));
        }
        Some(Node::Reals)
    }

    /// Behind a `C` or `A`: `_{10}^{3}`.
    pub(super) fn combinations(&mut self, name: &Node) -> Option<Node> {
        let Node::Variable(name) = name else { return None };
        if !matches!(name.as_str(), "C" | "A" | "P") {
            return None;
        }
        let lower = self.argument()?;
        let upper = if self.eat('^') { self.deeper(Self::exponent)? } else { return None };
        counted(name, lower, upper)
    }

    /// `^5C_2`, `_5P_2`, behind an empty group or not.
    fn combinations_behind(&mut self) -> Option<Node> {
        if !(self.eat('^') || self.eat('_')) {
            return None;
        }
        let of = self.argument()?;
        let Some(Token::Variable(name)) = self.peek() else { return None };
        if !matches!(name.as_str(), "C" | "A" | "P") {
            return None;
        }
        self.at += 1;
        if !(self.eat('_') || self.eat('^')) {
            return None;
        }
        let taken = self.argument()?;
        Some(Node::Apply(name.clone(), vec![of, taken]))
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

    /// What a TeX command takes: braces, or one digit or sign.
    pub(super) fn argument(&mut self) -> Option<Node> {
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

/// `C_n^k` and `A_n^k`, if that cannot be a constant C₁ squared.
fn counted(name: &str, lower: Node, upper: Node) -> Option<Node> {
    let number = |node: &Node| match node {
        Node::Number(value) => Some(value.clone()),
        _ => None,
    };
    let fits = match (number(&lower), number(&upper)) {
        (Some(n), Some(k)) => {
            n.is_integer() && k.is_integer() && n >= k && n > Rational::from_integer(2.into())
        }
        (None, _) => lower.any(&|node| matches!(node, Node::Variable(name) if name == "n" || name == "m")),
        _ => false,
    };
    fits.then(|| Node::Apply(name.to_owned(), vec![lower, upper]))
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
