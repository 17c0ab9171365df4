//! What an answer says, as a tree.
//!
//! Before: [`super::parse`] reads it. After: [`super::compare`] compares two of them.

use num_rational::BigRational;

/// An exact rational number.
pub(crate) type Rational = BigRational;

/// Functions that have a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Func {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Arcsin,
    Arccos,
    Arctan,
    Arccot,
    Arcsec,
    Arccsc,
    Sinh,
    Cosh,
    Tanh,
    /// Of one argument, or of a base and an argument.
    Log,
    Ln,
    Exp,
    Abs,
    Floor,
    Ceil,
    Factorial,
    Binomial,
    Min,
    Max,
    Gcd,
    Lcm,
}

impl Func {
    /// By the name that TeX, and plain text, use for it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "sin" => Self::Sin,
            "cos" => Self::Cos,
            "tan" | "tg" => Self::Tan,
            "cot" | "ctg" => Self::Cot,
            "sec" => Self::Sec,
            "csc" | "cosec" => Self::Csc,
            "arcsin" | "asin" => Self::Arcsin,
            "arccos" | "acos" => Self::Arccos,
            "arctan" | "atan" => Self::Arctan,
            "arccot" | "acot" => Self::Arccot,
            "arcsec" | "asec" => Self::Arcsec,
            "arccsc" | "acsc" => Self::Arccsc,
            "sinh" => Self::Sinh,
            "cosh" => Self::Cosh,
            "tanh" => Self::Tanh,
            "log" | "lg" => Self::Log,
            "ln" => Self::Ln,
            "exp" => Self::Exp,
            "abs" => Self::Abs,
            "floor" => Self::Floor,
            "ceil" => Self::Ceil,
            "binom" => Self::Binomial,
            "min" => Self::Min,
            "max" => Self::Max,
            "gcd" => Self::Gcd,
            "lcm" => Self::Lcm,
            _ => return None,
        })
    }

    /// Whether its argument is an angle.
    pub(crate) fn of_angle(self) -> bool {
        matches!(self, Self::Sin | Self::Cos | Self::Tan | Self::Cot | Self::Sec | Self::Csc)
    }
}

/// What stands between the two sides of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Equal,
    Approximately,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
}

impl Op {
    /// `=` or `≈`
    pub(crate) fn is_equality(self) -> bool {
        matches!(self, Self::Equal | Self::Approximately)
    }
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Number(Rational),
    /// A variable with its subscript, such as `x_1` or `\alpha`.
    Variable(String),
    Pi,
    E,
    I,
    Infinity,
    Add(Vec<Node>),
    Mul(Vec<Node>),
    Neg(Box<Node>),
    Div(Box<Node>, Box<Node>),
    Pow(Box<Node>, Box<Node>),
    /// The index, then what stands under the root.
    Root(Box<Node>, Box<Node>),
    Call(Func, Vec<Node>),
    /// `f(x)`, `P(A)`: of a function that the answer does not say more about.
    Apply(String, Vec<Node>),
    /// a ± b; or a ∓ b.
    PlusMinus {
        first: Box<Node>,
        second: Box<Node>,
        minus_first: bool,
    },
    Percent(Box<Node>),
    Degree(Box<Node>),
    /// A quantity and its unit, as [`super::unit`] writes it.
    Quantity(Box<Node>, String),
    /// Digits and their base.
    Based(String, u32),
    /// `3:4`
    Ratio(Vec<Node>),
    /// With commas between and no brackets around: in no order.
    List(Vec<Node>),
    Set(Vec<Node>),
    /// A tuple, vector or interval, with what opens and closes it.
    Tuple {
        open: char,
        close: char,
        items: Vec<Node>,
    },
    Union(Vec<Node>),
    Intersection(Vec<Node>),
    Difference(Box<Node>, Box<Node>),
    /// `a < b \le c`: one more side than operators.
    Relation(Vec<Node>, Vec<Op>),
    Matrix(Vec<Vec<Node>>),
    /// A determinant, `|A|` written as `vmatrix`.
    Determinant(Vec<Vec<Node>>),
    /// `cases`: each row a value and where it holds.
    Piecewise(Vec<Vec<Node>>),
    /// `3 \pmod 8`: all that is congruent to the first modulo the second.
    Residue(Box<Node>, Box<Node>),
    /// `17 \bmod 5`: the remainder.
    Remainder(Box<Node>, Box<Node>),
    /// `\{2k \mid k \in \mathbb{Z}\}`: what is in it, and what has to hold.
    Builder(Box<Node>, Vec<Node>),
    /// The name that goes to the first, and the expression whose limit it is.
    Limit(String, Box<Node>, Box<Node>),
    Reals,
    Empty,
    Text(String),
}

impl Node {
    pub(crate) fn integer(value: i64) -> Self {
        Self::Number(Rational::from_integer(value.into()))
    }

    pub(crate) fn negated(self) -> Self {
        match self {
            Self::Number(value) => Self::Number(-value),
            other => Self::Neg(Box::new(other)),
        }
    }

    /// The nodes directly below.
    pub(crate) fn children(&self) -> Vec<&Node> {
        match self {
            Self::Add(items)
            | Self::Mul(items)
            | Self::Call(_, items)
            | Self::Apply(_, items)
            | Self::Ratio(items)
            | Self::List(items)
            | Self::Set(items)
            | Self::Union(items)
            | Self::Intersection(items)
            | Self::Relation(items, _)
            | Self::Tuple { items, .. } => items.iter().collect(),
            Self::Neg(a) | Self::Percent(a) | Self::Degree(a) | Self::Quantity(a, _) => vec![a],
            Self::Div(a, b)
            | Self::Pow(a, b)
            | Self::Root(a, b)
            | Self::Residue(a, b)
            | Self::Remainder(a, b)
            | Self::Limit(_, a, b)
            | Self::Difference(a, b) => vec![a, b],
            Self::PlusMinus { first, second, .. } => vec![first, second],
            Self::Builder(a, conditions) => std::iter::once(&**a).chain(conditions).collect(),
            Self::Matrix(rows) | Self::Determinant(rows) | Self::Piecewise(rows) => {
                rows.iter().flatten().collect()
            }
            Self::Number(_)
            | Self::Variable(_)
            | Self::Pi
            | Self::E
            | Self::I
            | Self::Infinity
            | Self::Based(..)
            | Self::Reals
            | Self::Empty
            | Self::Text(_) => vec![],
        }
    }

    /// With every number of degrees in radians.
    pub(crate) fn in_radians(&self) -> Node {
        self.map(&|node| match node {
            Self::Degree(degrees) => {
                let half_turn = Self::Div(Box::new(Self::Pi), Box::new(Self::integer(180)));
                Self::Mul(vec![*degrees, half_turn])
            }
            node => node,
        })
    }

    /// How many nodes the tree has.
    pub(crate) fn size(&self) -> u64 {
        1 + self.children().into_iter().map(Node::size).sum::<u64>()
    }

    /// Whether any node of the tree is one.
    pub(crate) fn any(&self, is: &dyn Fn(&Node) -> bool) -> bool {
        is(self) || self.children().into_iter().any(|child| child.any(is))
    }

    /// The tree with `change` done to each of its nodes, from the leaves up.
    pub(crate) fn map(&self, change: &dyn Fn(Node) -> Node) -> Node {
        let all = |items: &[Node]| items.iter().map(|item| item.map(change)).collect::<Vec<_>>();
        let one = |item: &Node| Box::new(item.map(change));
        change(match self {
            Self::Add(items) => Self::Add(all(items)),
            Self::Mul(items) => Self::Mul(all(items)),
            Self::Call(func, items) => Self::Call(*func, all(items)),
            Self::Apply(name, items) => Self::Apply(name.clone(), all(items)),
            Self::Ratio(items) => Self::Ratio(all(items)),
            Self::List(items) => Self::List(all(items)),
            Self::Set(items) => Self::Set(all(items)),
            Self::Union(items) => Self::Union(all(items)),
            Self::Intersection(items) => Self::Intersection(all(items)),
            Self::Relation(items, ops) => Self::Relation(all(items), ops.clone()),
            Self::Tuple { open, close, items } => {
                Self::Tuple { open: *open, close: *close, items: all(items) }
            }
            Self::Neg(a) => Self::Neg(one(a)),
            Self::Percent(a) => Self::Percent(one(a)),
            Self::Degree(a) => Self::Degree(one(a)),
            Self::Quantity(a, unit) => Self::Quantity(one(a), unit.clone()),
            Self::Div(a, b) => Self::Div(one(a), one(b)),
            Self::Pow(a, b) => Self::Pow(one(a), one(b)),
            Self::Root(a, b) => Self::Root(one(a), one(b)),
            Self::Difference(a, b) => Self::Difference(one(a), one(b)),
            Self::Residue(a, b) => Self::Residue(one(a), one(b)),
            Self::Remainder(a, b) => Self::Remainder(one(a), one(b)),
            Self::Limit(name, a, b) => Self::Limit(name.clone(), one(a), one(b)),
            Self::Builder(a, conditions) => Self::Builder(one(a), all(conditions)),
            Self::Piecewise(rows) => Self::Piecewise(rows.iter().map(|row| all(row)).collect()),
            Self::PlusMinus { first, second, minus_first } => {
                Self::PlusMinus { first: one(first), second: one(second), minus_first: *minus_first }
            }
            Self::Matrix(rows) => Self::Matrix(rows.iter().map(|row| all(row)).collect()),
            Self::Determinant(rows) => Self::Determinant(rows.iter().map(|row| all(row)).collect()),
            leaf => leaf.clone(),
        })
    }
}
