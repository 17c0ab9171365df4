//! Matrices are added, multiplied and raised to powers before anything is compared.
//!
//! Before: [`crate::math::parse`]. After: [`super`] compares entry by entry.

use num_traits::ToPrimitive;

use super::shape::is_name;
use crate::math::node::{Func, Node, Op};

type Rows = Vec<Vec<Node>>;

/// Rows and columns up to which matrices are multiplied.
const SIZE: usize = 6;

/// The node with its matrix arithmetic done, and `x = 1, 2` as two equations.
pub(super) fn tidy(node: &Node) -> Node {
    node.map(&|node| match &node {
        Node::Neg(inner) => match &**inner {
            Node::Matrix(rows) => each(rows, &|cell| cell.clone().negated()),
            // −7 mod 5 is 3
            Node::Remainder(value, modulus) => {
                Node::Remainder(Box::new((**value).clone().negated()), modulus.clone())
            }
            _ => node,
        },
        Node::Div(above, below) => match &**above {
            Node::Matrix(rows) => each(rows, &|cell| Node::Div(Box::new(cell.clone()), below.clone())),
            _ => node,
        },
        Node::Add(terms) if terms.iter().any(is_matrix) => sum(terms).unwrap_or(node),
        Node::Mul(factors) if factors.iter().any(is_matrix) => product(factors).unwrap_or(node),
        Node::Pow(base, exponent) => match (&**base, &**exponent) {
            (Node::Matrix(_), Node::Number(power)) => {
                let power =
                    power.to_integer().to_usize().filter(|n| power.is_integer() && (1..=8).contains(n));
                power.and_then(|power| product(&vec![(**base).clone(); power])).unwrap_or(node)
            }
            _ => node,
        },
        Node::Call(Func::Abs, inside) => match inside.as_slice() {
            [Node::Matrix(rows)] => Node::Determinant(rows.clone()),
            _ => node,
        },
        Node::Tuple { items, .. } => nested(items).unwrap_or(node),
        Node::Relation(sides, ops) => match (sides.as_slice(), ops.as_slice()) {
            // x = ±5 is two answers, and so is x = 1, 2
            ([name, Node::List(items)], [Op::Equal]) if is_name(name) => Node::List(
                items
                    .iter()
                    .map(|item| Node::Relation(vec![name.clone(), item.clone()], ops.clone()))
                    .collect(),
            ),
            _ => node,
        },
        _ => node,
    })
}

fn is_matrix(node: &Node) -> bool {
    matches!(node, Node::Matrix(_))
}

fn each(rows: &[Vec<Node>], by: &dyn Fn(&Node) -> Node) -> Node {
    Node::Matrix(rows.iter().map(|row| row.iter().map(by).collect()).collect())
}

/// `[[1,0],[0,1]]`: square brackets in square brackets.
fn nested(items: &[Node]) -> Option<Node> {
    let row = |item: &Node| match item {
        Node::Tuple { open: '[', close: ']', items } => Some(items.clone()),
        _ => None,
    };
    let rows: Rows = items.iter().map(row).collect::<Option<_>>()?;
    rows.iter().all(|row| row.len() == rows[0].len()).then_some(Node::Matrix(rows))
}

fn sum(terms: &[Node]) -> Option<Node> {
    let mut all: Vec<&Rows> = Vec::new();
    for term in terms {
        match term {
            Node::Matrix(rows) => all.push(rows),
            _ => return None,
        }
    }
    let shape = |rows: &Rows| (rows.len(), rows[0].len());
    let (height, width) = shape(all[0]);
    if all.iter().any(|rows| shape(rows) != (height, width)) {
        return None;
    }
    let cell =
        |row: usize, column: usize| Node::Add(all.iter().map(|rows| rows[row][column].clone()).collect());
    Some(Node::Matrix((0..height).map(|row| (0..width).map(|column| cell(row, column)).collect()).collect()))
}

/// Matrices in their order, and what else there is in front of them.
fn product(factors: &[Node]) -> Option<Node> {
    let mut others: Vec<Node> = Vec::new();
    let mut result: Option<Rows> = None;
    for factor in factors {
        let Node::Matrix(rows) = factor else {
            others.push(factor.clone());
            continue;
        };
        result = Some(match result {
            None => rows.clone(),
            Some(left) => multiplied(&left, rows)?,
        });
    }
    let rows = result?;
    if others.is_empty() {
        return Some(Node::Matrix(rows));
    }
    Some(each(&rows, &|cell| Node::Mul([others.clone(), vec![cell.clone()]].concat())))
}

fn multiplied(left: &Rows, right: &Rows) -> Option<Rows> {
    let (height, inner, width) = (left.len(), right.len(), right[0].len());
    if left[0].len() != inner || [height, inner, width].iter().any(|n| *n > SIZE) {
        return None;
    }
    // products of products grow: what is large is left as it is
    if left.iter().flatten().chain(right.iter().flatten()).map(Node::size).sum::<u64>() > 2000 {
        return None;
    }
    let cell = |row: usize, column: usize| {
        Node::Add(
            (0..inner).map(|at| Node::Mul(vec![left[row][at].clone(), right[at][column].clone()])).collect(),
        )
    };
    Some((0..height).map(|row| (0..width).map(|column| cell(row, column)).collect()).collect())
}
