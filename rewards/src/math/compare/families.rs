//! Answers that stand for many: functions by cases, sets with conditions, residues.
//!
//! Before: [`super`] has two single answers. After: the verdict on them.

use num_traits::{Signed, Zero};

use super::Comparison;
use super::shape::steps;
use crate::math::node::{Node, Op, Rational};
use crate::math::poly::Algebra;

impl Comparison<'_> {
    /// The same values under the same conditions, in any order; "otherwise" is whatever condition is left over.
    pub(super) fn same_cases(self, wanted: &[Vec<Node>], given: &[Vec<Node>]) -> bool {
        if wanted.len() != given.len() {
            return false;
        }
        let otherwise = |row: &Vec<Node>| row.get(1) == Some(&Node::Text("otherwise".into()));
        let mut left: Vec<&Vec<Node>> = given.iter().collect();
        // "otherwise" last, when one condition is left
        let (rest, sure): (Vec<_>, Vec<_>) = wanted.iter().partition(|row| otherwise(row));
        for row in sure.into_iter().chain(rest) {
            let fits = |other: &&Vec<Node>| {
                row.len() == other.len()
                    && self.same_one(&row[0], &other[0])
                    && row[1..].iter().zip(&other[1..]).all(|(a, b)| self.same(a, b))
            };
            let last = left.len() == 1;
            let place = left.iter().position(fits).or_else(|| {
                left.iter().position(|other| {
                    (otherwise(other) || otherwise(row) && last) && self.same_one(&row[0], &other[0])
                })
            });
            match place {
                Some(at) => drop(left.remove(at)),
                None => return false,
            }
        }
        true
    }

    /// `{ 2k | k ∈ Z }`: the same with the name of the one unknown exchanged.
    pub(super) fn same_builder(self, a: (&Node, &[Node]), b: (&Node, &[Node])) -> bool {
        let name = |conditions: &[Node]| {
            conditions.iter().find_map(|condition| match condition {
                Node::Relation(sides, ops) if ops.as_slice() == [Op::In] => match &sides[0] {
                    Node::Variable(name) => Some(name.clone()),
                    _ => None,
                },
                _ => None,
            })
        };
        let (own, other) = (name(a.1), name(b.1));
        let renamed = |node: &Node| match (&own, &other) {
            (Some(own), Some(other)) => node.map(&|node| match &node {
                Node::Variable(name) if name == other => Node::Variable(own.clone()),
                _ => node,
            }),
            _ => node.clone(),
        };
        let conditions: Vec<Node> = b.1.iter().map(renamed).collect();
        self.same_one(a.0, &renamed(b.0)) && self.in_any_order(a.1, &conditions)
    }

    /// `3 \pmod 8` against another residue, against `8k + 3`, or against 3.
    pub(super) fn same_residue(self, residue: (&Node, &Node), other: &Node) -> bool {
        let number = |node: &Node| Algebra::new(self.budget).fraction(node)?.rational();
        let (Some(value), Some(modulus)) = (number(residue.0), number(residue.1)) else {
            return matches!(other, Node::Residue(a, m) if self.same_one(residue.0, a) && self.same_one(residue.1, m));
        };
        if modulus.is_zero() {
            return false;
        }
        let congruent =
            |a: &Rational, m: &Rational| m.abs() == modulus.abs() && ((a - &value) / &modulus).is_integer();
        match other {
            Node::Residue(a, m) => match (number(a), number(m)) {
                (Some(a), Some(m)) => congruent(&a, &m),
                _ => false,
            },
            other => match steps(other) {
                Some((first, step)) => match (number(&first), number(&step)) {
                    (Some(first), Some(step)) => congruent(&first, &step),
                    _ => false,
                },
                None => self.same_value(residue.0, other),
            },
        }
    }
}
