//! Tokens become a tree.
//!
//! Before: [`super::lex`]. After: [`super::compare`]. Recursive descent, no deeper than [`DEPTH`], each token looked at a
//! bounded number of times; what does not fit the grammar is no tree, and its answer is compared as text.

mod environment;
mod left_side;
mod primary;
mod quantity;
mod series;
mod sets;

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
    fn factor(&mut self) -> Option<Node> {
        let node = self.deeper(Self::primary)?;
        self.signs(node)
    }

    /// The powers, factorials, percent and degree signs, primes and subscripts behind a primary.
    fn signs(&mut self, mut node: Node) -> Option<Node> {
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
