//! What an answer is made of: items, names and what they stand for, tuples.
//!
//! Before: [`crate::math::parse`]. After: [`super`] compares the pieces.

use crate::math::eval::value;
use crate::math::node::{Func, Node, Op};

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
    let letter = |node: &Node| matches!(node, Node::Variable(_));
    match node {
        Node::Variable(_) | Node::Text(_) | Node::E | Node::I | Node::Apply(..) => true,
        Node::Tuple { items, .. } => items.iter().all(is_name),
        // a : b = 3 : 4, and a/b = 3/4
        Node::Ratio(items) => items.iter().all(is_name),
        Node::Div(above, below) => {
            // dy/dx
            let change = |node: &Node| {
                matches!(node, Node::Mul(items) if items.len() == 2
                    && items[0] == Node::Variable("d".into()) && letter(&items[1]))
            };
            let both = |is: &dyn Fn(&Node) -> bool| is(above) && is(below);
            above != below && (both(&letter) || both(&change) || both(&segment))
        }
        Node::Call(Func::Gcd | Func::Lcm | Func::Min | Func::Max, inside) => inside.iter().all(is_name),
        // (x, y) as a column
        Node::Matrix(rows) => rows.iter().flatten().all(letter),
        // what |x| is leaves two answers for x
        Node::Call(Func::Abs, inside) => inside.iter().all(|node| {
            is_name(node) && !matches!(node, Node::Variable(name) if "xynt".contains(name.as_str()))
        }),
        Node::Call(func, inside) if func.of_angle() => {
            inside.iter().all(|node| letter(node) && !is_unknown(node))
        }
        // m + n = 34
        Node::Add(items) => {
            items.len() > 1
                && items.iter().all(|item| letter(item) || segment(item))
                && items.iter().enumerate().all(|(at, item)| !items[..at].contains(item))
        }
        node => segment(node),
    }
}

/// `AB`
fn segment(node: &Node) -> bool {
    let capital = |name: &String| name.len() == 1 && name.starts_with(|c: char| c.is_ascii_uppercase());
    match node {
        Node::Mul(items) => {
            matches!(items.as_slice(), [Node::Variable(a), Node::Variable(b)] if capital(a) && capital(b))
        }
        _ => false,
    }
}

/// `x`, which an equation is solved for.
fn is_unknown(node: &Node) -> bool {
    matches!(node, Node::Variable(name) if matches!(name.as_str(), "x" | "y" | "t"))
}

/// Whether two names may stand for one thing: `y` and `f(x)`.
pub(super) fn one_thing(a: &Node, b: &Node) -> bool {
    let y = |node: &Node| matches!(node, Node::Variable(name) if name == "y");
    let length = |node: &Node, other: &Node| matches!(node, Node::Call(Func::Abs, inside) if inside.as_slice() == std::slice::from_ref(other));
    a == b
        || length(a, b)
        || length(b, a)
        || y(a) && matches!(b, Node::Apply(..))
        || y(b) && matches!(a, Node::Apply(..))
}

/// Names that are all different and what each is, if a list is nothing else: in the order of the names if they have a usual
/// one, such as x, y, z, else as written.
pub(super) fn named(list: &[Node]) -> Option<Vec<(&Node, &Node)>> {
    if list.len() > super::ITEMS {
        return None;
    }
    let mut named = list
        .iter()
        .map(|node| match node {
            Node::Relation(sides, ops) => definition(sides, ops),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()?;
    let different =
        named.iter().enumerate().all(|(at, (name, _))| named[..at].iter().all(|(other, _)| other != name));
    if in_usual_order(&named) {
        named.sort_by_key(|(name, _)| crate::math::text::of(name));
    }
    (named.len() > 1 && different).then_some(named)
}

/// Whether the names are neighbours in the alphabet, or one letter with numbers.
fn in_usual_order(named: &[(&Node, &Node)]) -> bool {
    let names: Option<Vec<&str>> = named
        .iter()
        .map(|(name, _)| match name {
            Node::Variable(name) => Some(name.as_str()),
            Node::I => Some("i"),
            _ => None,
        })
        .collect();
    let Some(mut names) = names else { return false };
    names.sort_unstable();
    let first = |name: &str| name.bytes().next().unwrap_or_default();
    let letters = names.iter().all(|name| name.len() == 1);
    let neighbours = names.windows(2).all(|pair| first(pair[0]) + 1 == first(pair[1]));
    let space = names.iter().all(|name| matches!(*name, "x" | "y" | "z"));
    let numbered = names.iter().all(|name| name.len() > 1 && first(name) == first(names[0]));
    letters && (neighbours && !matches!(names.as_slice(), ["m", "n"]) || space) || numbered
}

/// What each number of a list counts, if all are quantities with words of their own: `3 men and 4 women`.
pub(super) fn labelled(list: &[Node]) -> Option<Vec<(&str, &Node)>> {
    /// More are no such list.
    const LABELS: usize = 8;
    if list.len() > LABELS {
        return None;
    }
    let labels = list
        .iter()
        .map(|node| match node {
            Node::Quantity(number, unit) => Some((unit.as_str(), &**number)),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()?;
    let same = crate::math::text::same;
    let different = labels
        .iter()
        .enumerate()
        .all(|(at, (label, _))| labels[..at].iter().all(|(other, _)| !same(label, other)));
    (labels.len() > 1 && different).then_some(labels)
}

/// `2i − 3j + k` as the numbers before i, j and k.
pub(super) fn components(node: &Node, dimension: usize) -> Option<Vec<Node>> {
    let terms = match node {
        Node::Add(terms) => terms.as_slice(),
        one => std::slice::from_ref(one),
    };
    let axis = |node: &Node| match node {
        Node::I => Some(0),
        Node::Variable(name) if name == "j" => Some(1),
        Node::Variable(name) if name == "k" => Some(2),
        _ => None,
    };
    let mut found: Vec<Option<Node>> = vec![None; dimension];
    for term in terms {
        let (term, minus) = match term {
            Node::Neg(inner) => (&**inner, true),
            term => (term, false),
        };
        let factors = match term {
            Node::Mul(factors) => factors.as_slice(),
            one => std::slice::from_ref(one),
        };
        let at = factors.iter().position(|factor| axis(factor).is_some())?;
        let mut others: Vec<Node> = factors
            .iter()
            .enumerate()
            .filter(|(place, _)| *place != at)
            .map(|(_, node)| node.clone())
            .collect();
        if others.iter().any(|node| node.any(&|node| axis(node).is_some())) {
            return None;
        }
        if others.is_empty() {
            others.push(Node::integer(1));
        }
        let value = Node::Mul(others);
        let place = found.get_mut(axis(&factors[at])?)?;
        if place.is_some() {
            return None;
        }
        *place = Some(if minus { value.negated() } else { value });
    }
    Some(found.into_iter().map(|component| component.unwrap_or_else(|| Node::integer(0))).collect())
}

/// `8k + 3` as what it is for k = 0 and the step to k = 1, if it has one unknown and goes in equal steps.
pub(super) fn steps(node: &Node) -> Option<(Node, Node)> {
    let mut names: Vec<String> = Vec::new();
    let letters = ["k", "n", "m", "t", "l", "j", "q", "s"];
    for name in letters {
        if node.any(&|inner| matches!(inner, Node::Variable(own) if own == name)) {
            names.push(name.into());
        }
    }
    let [name] = names.as_slice() else { return None };
    if node.any(&|inner| {
        matches!(inner, Node::Variable(own) if own != name) || matches!(inner, Node::Pow(..) | Node::Call(..))
    }) {
        return None;
    }
    let at = |value: i64| {
        node.map(&|inner| match &inner {
            Node::Variable(own) if own == name => Node::integer(value),
            _ => inner,
        })
    };
    let step = |from: i64| Node::Add(vec![at(from + 1), at(from).negated()]);
    Some((at(0), step(0)))
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
    // x ≠ ±1 is one set
    let excluded = matches!(node, Node::Relation(_, ops) if ops.contains(&Op::NotEqual));
    if excluded || !has(node) {
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
