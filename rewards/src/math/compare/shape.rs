//! What an answer is made of: items, names and what they stand for, tuples.
//!
//! Before: [`crate::math::parse`]. After: [`super`] compares the pieces.

use crate::math::eval::value;
use crate::math::node::{Node, Op};

/// What a chain of equations says that something is: the last of `x = 2 + 3 = 5`, and either of `x = 1/3 ≈ 0.33` if the two
/// are near each other. Of a chain of constants it is for the caller to see that they are equal.
pub(super) fn values<'a>(sides: &'a [Node], ops: &[Op]) -> Vec<&'a Node> {
    if ops.iter().any(|op| !op.is_equality()) {
        return vec![];
    }
    if ops.contains(&Op::Approximately) {
        let said: Vec<&Node> = sides.iter().filter(|side| !is_name(side)).collect();
        let number = |node: &Node| value(node, &|_| f64::NAN, false).map(|value| value.re);
        return match said.as_slice() {
            [a, b] => match (number(a), number(b)) {
                (Some(x), Some(y)) if (x - y).abs() <= 0.01 * x.abs().max(y.abs()) => said,
                _ => vec![a],
            },
            _ => said.into_iter().take(1).collect(),
        };
    }
    let free = |node: &Node| node.any(&|n| matches!(n, Node::Variable(_)));
    match definition(sides, ops) {
        Some((_, value)) => vec![value],
        None if !sides.iter().any(free) => sides.iter().collect(),
        None => vec![],
    }
}

/// `x = 5`, `f(x) = 2x`, `5 = x`: the name and what it is; the last of a chain.
pub(super) fn definition<'a>(sides: &'a [Node], ops: &[Op]) -> Option<(&'a Node, &'a Node)> {
    if ops.iter().any(|op| !op.is_equality()) {
        return None;
    }
    let (first, last) = (sides.first()?, sides.last()?);
    let words = |node: &Node| matches!(node, Node::Text(_));
    if words(first) && words(last) {
        None
    } else if is_name(first) {
        // x ≈ 1/3 ≈ 0.33: what comes first is what was meant
        Some((first, if ops.contains(&Op::Approximately) { sides.get(1)? } else { last }))
    } else if is_name(last) {
        Some((last, first))
    } else {
        None
    }
}

pub(super) fn is_name(node: &Node) -> bool {
    match node {
        Node::Variable(_) | Node::Text(_) | Node::E | Node::I | Node::Apply(..) => true,
        Node::Tuple { items, .. } => items.iter().all(is_name),
        // AB, a segment
        Node::Mul(items) => match items.as_slice() {
            [Node::Variable(a), Node::Variable(b)] => [a, b]
                .iter()
                .all(|name| name.len() == 1 && name.starts_with(|c: char| c.is_ascii_uppercase())),
            _ => false,
        },
        _ => false,
    }
}

/// Whether two names may stand for one thing: `y` and `f(x)`.
pub(super) fn one_thing(a: &Node, b: &Node) -> bool {
    let y = |node: &Node| matches!(node, Node::Variable(name) if name == "y");
    a == b || y(a) && matches!(b, Node::Apply(..)) || y(b) && matches!(a, Node::Apply(..))
}

/// Names that are all different and what each is, in the order of the names, if a list is nothing else.
pub(super) fn named(list: &[Node]) -> Option<Vec<(&Node, &Node)>> {
    let mut named = list
        .iter()
        .map(|node| match node {
            Node::Relation(sides, ops) => definition(sides, ops),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()?;
    named.sort_by_key(|(name, _)| crate::math::text::of(name));
    (named.len() > 1 && named.windows(2).all(|pair| pair[0].0 != pair[1].0)).then_some(named)
}

pub(super) enum Kind {
    One,
    List,
    Set,
}

/// An answer as its items.
pub(super) struct Items {
    pub(super) kind: Kind,
    pub(super) nodes: Vec<Node>,
}

impl Items {
    pub(super) fn of(node: &Node) -> Self {
        let (kind, nodes): (_, Vec<Node>) = match node {
            Node::List(items) => (Kind::List, items.iter().flat_map(both).collect()),
            Node::Set(items) => (Kind::Set, items.iter().flat_map(both).collect()),
            node => {
                let nodes = both(node);
                (if nodes.len() == 1 { Kind::One } else { Kind::List }, nodes)
            }
        };
        Self { kind, nodes }
    }
}

/// The node with + and with − for its ±, or as it is.
fn both(node: &Node) -> Vec<Node> {
    let has = |node: &Node| node.any(&|n| matches!(n, Node::PlusMinus { .. }));
    if !has(node) {
        return vec![node.clone()];
    }
    let with = |minus: bool| {
        node.map(&|node| match node {
            Node::PlusMinus { first, second, minus_first } => {
                let second = if minus == minus_first { *second } else { second.negated() };
                Node::Add(vec![*first, second])
            }
            node => node,
        })
    };
    vec![with(false), with(true)]
}

/// A tuple, or `(x,y) = (4,1)`.
pub(super) fn is_tuple(node: &Node) -> bool {
    match node {
        Node::Relation(sides, ops) => definition(sides, ops)
            .is_some_and(|(name, value)| matches!(name, Node::Tuple { .. }) && ordered(value).is_some()),
        node => ordered(node).is_some(),
    }
}

/// The items of a tuple, or of a matrix of one row or column.
pub(super) fn ordered(node: &Node) -> Option<Vec<Node>> {
    match node {
        Node::Tuple { items, .. } => Some(items.clone()),
        Node::Matrix(rows) if rows.len() == 1 => Some(rows[0].clone()),
        Node::Matrix(rows) if rows.iter().all(|row| row.len() == 1) => {
            Some(rows.iter().flatten().cloned().collect())
        }
        _ => None,
    }
}

/// Numbers times matrices are multiplied out; what is a plain number is written as one.
pub(super) fn tidy(node: &Node) -> Node {
    let scaled = |rows: &[Vec<Node>], by: &dyn Fn(&Node) -> Node| {
        Node::Matrix(rows.iter().map(|row| row.iter().map(by).collect()).collect())
    };
    node.map(&|node| match &node {
        Node::Neg(inner) => match &**inner {
            Node::Matrix(rows) => scaled(rows, &|cell| cell.clone().negated()),
            _ => node,
        },
        Node::Div(above, below) => match &**above {
            Node::Matrix(rows) => scaled(rows, &|cell| Node::Div(Box::new(cell.clone()), below.clone())),
            _ => node,
        },
        Node::Mul(items) => {
            let matrices = items.iter().filter(|item| matches!(item, Node::Matrix(_))).count();
            match items.iter().position(|item| matches!(item, Node::Matrix(_))) {
                Some(at) if matrices == 1 => {
                    let Node::Matrix(rows) = &items[at] else { return node };
                    let others: Vec<Node> =
                        items.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, n)| n.clone()).collect();
                    scaled(rows, &|cell| Node::Mul([others.clone(), vec![cell.clone()]].concat()))
                }
                _ => node,
            }
        }
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
