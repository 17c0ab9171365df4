//! Whether two values are the same: exactly if algebra can tell, else by numbers.
//!
//! Before: [`super`] has two single values. After: the verdict on them.

use super::Comparison;
use crate::math::eval::{Value, value};
use crate::math::lex::{Commas, tokens};
use crate::math::node::{Func, Node};
use crate::math::parse::parse;
use crate::math::poly::Algebra;
use crate::math::{precise, unit};

/// Points at which two expressions are compared where algebra cannot tell.
const POINTS: u64 = 15;
/// What a comparison of ten nodes at many digits may cost.
const PRECISE: u64 = 100;
/// Points at which both have to be defined.
const INFORMATIVE: usize = 4;

impl Comparison<'_> {
    /// Two values, with percent signs, degrees and units on either.
    pub(super) fn same_quantity(self, answer: &Node, found: &Node) -> bool {
        let hundredth = |node: &Node| Node::Div(Box::new(node.clone()), Box::new(Node::integer(100)));
        match (answer, found) {
            (Node::Quantity(a, unit), Node::Quantity(b, other)) => match unit::factor(unit, other) {
                Some(factor) => {
                    let converted = Node::Mul(vec![(**b).clone(), Node::Number(factor)]);
                    self.same_one(a, &converted)
                }
                None => false,
            },
            // 90 radians are not 90°
            (Node::Quantity(a, unit), Node::Degree(b)) | (Node::Degree(b), Node::Quantity(a, unit))
                if unit.to_lowercase().starts_with("rad") =>
            {
                self.same_value(a, &in_radians(b))
            }
            (Node::Quantity(a, unit), b) => self.same_one(a, b) || self.letters_of(a, unit, b),
            (a, Node::Quantity(b, unit)) => self.same_one(a, b) || self.letters_of(b, unit, a),
            (Node::Percent(a), Node::Percent(b)) => self.same_value(a, b),
            (Node::Percent(a), b) => self.same_value(a, b) || self.same_value(&hundredth(a), b),
            (a, Node::Percent(b)) => self.same_value(a, b) || self.same_value(a, &hundredth(b)),
            (Node::Degree(a), Node::Degree(b)) => self.same_value(a, b),
            (Node::Degree(a), b) | (b, Node::Degree(a)) => {
                self.same_value(a, b)
                    || b.any(&|node| *node == Node::Pi) && self.same_value(&in_radians(a), b)
            }
            _ => self.same_value(answer, found),
        }
    }

    /// Whether a unit of single letters was meant as variables: `5 m` for `5m`.
    fn letters_of(self, number: &Node, unit: &str, other: &Node) -> bool {
        let unit = match unit {
            "celsius" => "C",
            "fahrenheit" => "F",
            unit => unit,
        };
        if unit.len() > 12 || !other.any(&|node| matches!(node, Node::Variable(_))) {
            return false;
        }
        let spaced: String =
            unit.chars().flat_map(|c| if c.is_alphabetic() { vec![' ', c] } else { vec![c] }).collect();
        let Some(letters) = parse(&tokens(&spaced, Commas::Part)) else { return false };
        self.same_value(&Node::Mul(vec![number.clone(), letters]), other)
    }

    /// Two expressions.
    pub(super) fn same_value(self, answer: &Node, found: &Node) -> bool {
        if answer == found {
            return true;
        }
        let infinite =
            |node: &Node| node.any(&|n| *n == Node::Infinity) && !node.any(&|n| matches!(n, Node::Limit(..)));
        if infinite(answer) || infinite(found) {
            return false; // equal only if written so
        }
        // a number in a base is another number without it, but not another answer
        if let (Node::Based(digits, _), Node::Number(value)) | (Node::Number(value), Node::Based(digits, _)) =
            (answer, found)
        {
            return *digits == value.to_string();
        }
        if let (Node::Based(_, base), Node::Based(_, other)) = (answer, found)
            && base != other
        {
            return false;
        }
        let mut algebra = Algebra::new(self.budget);
        if let (Some(a), Some(b)) = (algebra.fraction(answer), algebra.fraction(found))
            && let Some(difference) = algebra.difference(&a, &b)
        {
            if difference.is_empty() {
                return true;
            }
            if algebra.is_certain(&difference) && self.tolerance == 0.0 {
                return false;
            }
        }
        self.numbers(answer, found, false)
    }

    /// Whether both have the same value at every point where both have one; or with `factor` a constant times that.
    pub(super) fn numbers(self, answer: &Node, found: &Node, factor: bool) -> bool {
        let free = |node: &Node| node.any(&|n| matches!(n, Node::Variable(_)));
        let complex = [answer, found].iter().any(|node| node.any(&|n| *n == Node::I));
        let constant = !free(answer) && !free(found);
        let points = if constant { 1 } else { POINTS };
        let counts = |node: &Node| {
            node.any(&|n| matches!(n, Node::Call(Func::Factorial | Func::Binomial, _)))
                || node
                    .any(&|n| matches!(n, Node::Apply(name, _) if matches!(name.as_str(), "C" | "P" | "A")))
        };
        let whole = !constant && (counts(answer) || counts(found));
        // some ten nodes are evaluated in a microsecond
        let limits = [answer, found].iter().any(|node| node.any(&|n| matches!(n, Node::Limit(..))));
        let values = if limits { 14 * points } else { points };
        let size = answer.size() + found.size();
        if self.budget.pay(size * values / 10).is_none() {
            return false;
        }
        let mut informative = 0;
        let mut ratio: Option<Value> = None;
        for point in 0..points {
            let at = |name: &str| sample(name, if whole { 3 * point } else { point });
            let (Some(a), Some(b)) = (value(answer, &at, complex), value(found, &at, complex)) else {
                continue;
            };
            let coarse = |v: Value| v.error > 1e-7 * v.size().max(1e-3);
            if coarse(a) || coarse(b) {
                continue;
            }
            if factor {
                if a.size() <= a.error * 4.0 || b.size() <= b.error * 4.0 {
                    if (a.size() <= a.error * 4.0) != (b.size() <= b.error * 4.0) {
                        return false;
                    }
                    continue;
                }
                let square = b.size() * b.size();
                let re = (a.re * b.re + a.im * b.im) / square;
                let im = (a.im * b.re - a.re * b.im) / square;
                let now = Value { re, im, error: 1e-9 * re.hypot(im) };
                let far = |before: Value| (before.re - re).hypot(before.im - im) > before.error + now.error;
                if ratio.is_some_and(far) {
                    return false;
                }
                ratio = Some(now);
            } else {
                let apart = (a.re - b.re).hypot(a.im - b.im);
                let allowed = a.error + b.error + if constant { self.tolerance * a.size() } else { 0.0 };
                if apart > allowed {
                    return false;
                }
            }
            informative += 1;
        }
        let same = informative >= if constant { 1 } else { INFORMATIVE };
        // what f64 cannot tell apart, 77 digits may
        same && !(constant
            && !factor
            && self.tolerance == 0.0
            && self.budget.pay(PRECISE * (10 + size) / 10).is_some()
            && precise::differ(answer, found))
    }
}

/// Degrees in radians.
fn in_radians(degrees: &Node) -> Node {
    let half_turn = Node::Div(Box::new(Node::Pi), Box::new(Node::integer(180)));
    Node::Mul(vec![degrees.clone(), half_turn])
}

/// Where a variable stands at a point: small whole numbers, positive numbers and numbers of either sign in turn.
fn sample(name: &str, point: u64) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ point.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^= hash >> 32;
    let unit = (hash >> 11) as f64 / (1_u64 << 53) as f64;
    match point % 3 {
        0 => 1.0 + (unit * 9.0).floor(),
        1 => 0.2 + 3.0 * unit,
        _ => 6.0 * unit - 3.0,
    }
}
