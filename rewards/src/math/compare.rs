//! Whether two answers are the same.
//!
//! Before: [`super::parse`] read both. After: [`super::equal`] gives the verdict. Structure first (lists in any order, tuples in
//! order, sets, intervals, matrices, equations), then values: exactly by [`super::poly`], and where that cannot tell, by
//! [`super::eval`] at fixed points.

use num_traits::Signed;

use super::eval::{Value, value};
use super::node::{Node, Op};
use super::poly::{Algebra, Budget, Poly};
use super::sets::{falls, flipped, is_set, reals};
use super::{text, unit};

/// Points at which two expressions are compared where algebra cannot tell.
const POINTS: u64 = 15;
/// Points at which both have to be defined.
const INFORMATIVE: usize = 4;
/// Items of a list that are matched with each other.
const ITEMS: usize = 64;

/// What counts as the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comparison<'a> {
    /// What the verdict may cost. Once it is spent, what is not written alike is not the same.
    pub(crate) budget: &'a Budget,
    /// Largest relative difference of two numbers; 0 for none.
    pub(crate) tolerance: f64,
}

impl Comparison<'_> {
    /// Whether `found` says the same as `answer`.
    pub(crate) fn same(self, answer: &Node, found: &Node) -> bool {
        let (answer, found) = (tidy(answer), tidy(found));
        self.same_tidy(&answer, &found)
    }

    fn same_tidy(self, answer: &Node, found: &Node) -> bool {
        let (wanted, given) = (Items::of(answer), Items::of(found));
        match (wanted.kind, given.kind) {
            (Kind::One, Kind::One) => self.same_one(answer, found),
            (Kind::One, _) if is_set(answer) => self.same_set(answer, found),
            (_, Kind::One) if is_set(found) => self.same_set(answer, found),
            (Kind::One, Kind::List) if is_tuple(answer) => self.tuple_and_list(answer, &given.nodes),
            (Kind::List, Kind::One) if is_tuple(found) => {
                self.tuple_and_list(found, &wanted.nodes)
                    || ordered(found).is_some_and(|items| self.in_any_order(&wanted.nodes, &items))
            }
            // 3/4 or 0.75
            (Kind::One, Kind::List) => {
                given.nodes.len() <= ITEMS && given.nodes.iter().all(|node| self.same_one(answer, node))
            }
            (Kind::Set, _) | (_, Kind::Set) => {
                let (wanted, given) = (self.distinct(wanted.nodes), self.distinct(given.nodes));
                self.in_any_order(&wanted, &given)
            }
            _ => self.in_any_order(&wanted.nodes, &given.nodes),
        }
    }

    fn in_any_order(self, wanted: &[Node], given: &[Node]) -> bool {
        if wanted.len() != given.len() || wanted.len() > ITEMS {
            return false;
        }
        // most lists have the same order, and then nothing has to be tried
        let mut left: Vec<&Node> = given.iter().collect();
        wanted.iter().all(|item| match left.iter().position(|other| self.same_one(item, other)) {
            Some(at) => {
                left.remove(at);
                true
            }
            None => false,
        })
    }

    fn distinct(self, nodes: Vec<Node>) -> Vec<Node> {
        let mut kept: Vec<Node> = Vec::new();
        for node in nodes.into_iter().take(ITEMS + 1) {
            if !kept.iter().any(|other| self.same_one(other, &node)) {
                kept.push(node);
            }
        }
        kept
    }

    /// `(4,1)` and `4,1`, or `x=4, y=1` in any order of the names; a tuple may say which names it means: `(x,y)=(4,1)`.
    fn tuple_and_list(self, tuple: &Node, list: &[Node]) -> bool {
        let (names, items) = match tuple {
            Node::Relation(sides, ops) => match definition(sides, ops) {
                Some((Node::Tuple { items: names, .. }, value)) => (Some(names), ordered(value)),
                _ => return false,
            },
            tuple => (None, ordered(tuple)),
        };
        let Some(items) = items.filter(|items| items.len() == list.len()) else { return false };
        let named: Option<Vec<(&Node, &Node)>> = list
            .iter()
            .map(|node| match node {
                Node::Relation(sides, ops) => definition(sides, ops),
                _ => None,
            })
            .collect();
        let in_order = |values: &[&Node]| items.iter().zip(values).all(|(a, b)| self.same_one(a, b));
        match (named, names) {
            (Some(named), Some(names)) => {
                let value = |name| named.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
                let values: Option<Vec<&Node>> = names.iter().map(value).collect();
                values.is_some_and(|values| values.len() == items.len() && in_order(&values))
            }
            (Some(mut named), None) => {
                named.sort_by_key(|(name, _)| text::of(name));
                let apart = named.windows(2).all(|pair| pair[0].0 != pair[1].0);
                apart && in_order(&named.iter().map(|(_, value)| *value).collect::<Vec<_>>())
            }
            (None, _) => in_order(&list.iter().collect::<Vec<_>>()),
        }
    }

    /// Two answers, each of one item.
    fn same_one(self, answer: &Node, found: &Node) -> bool {
        if answer == found {
            return true;
        }
        if self.budget.pay(1).is_none() {
            return false;
        }
        if let (Some(a), Some(b)) = (text::of(answer), text::of(found))
            && (matches!(answer, Node::Text(_) | Node::Empty) || matches!(found, Node::Text(_) | Node::Empty))
        {
            return text::same(&a, &b);
        }
        if is_set(answer) || is_set(found) {
            return self.same_set(answer, found);
        }
        match (answer, found) {
            (Node::Relation(..), _) | (_, Node::Relation(..)) => self.same_relation(answer, found),
            (Node::Matrix(a), Node::Matrix(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .zip(b)
                        .all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.same_one(a, b)))
            }
            (Node::Tuple { open, close, items }, Node::Tuple { open: o, close: c, items: others }) => {
                // from 3 to -1 there is no interval: that is a point
                let interval = items.len() == 2
                    && [*open, *o].iter().all(|sign| "([".contains(*sign))
                    && !falls(&items[0], &items[1]);
                items.len() == others.len()
                    && (!interval || (open, close) == (o, c))
                    && items.iter().zip(others).all(|(a, b)| self.same_tidy(a, b))
            }
            (Node::Tuple { .. }, _)
            | (_, Node::Tuple { .. })
            | (Node::Matrix(_), _)
            | (_, Node::Matrix(_)) => match (ordered(answer), ordered(found)) {
                (Some(a), Some(b)) => {
                    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| self.same_one(a, b))
                }
                _ => false,
            },
            (Node::Ratio(a), Node::Ratio(b)) => {
                a.len() == b.len()
                    && (a.iter().zip(b).all(|(a, b)| self.same_one(a, b)) || self.same_proportion(a, b))
            }
            (Node::Ratio(terms), other) | (other, Node::Ratio(terms)) => match terms.as_slice() {
                [above, below] => {
                    let quotient = Node::Div(Box::new(above.clone()), Box::new(below.clone()));
                    self.same_value(&quotient, other)
                }
                _ => false,
            },
            (Node::List(_) | Node::Set(_), _) | (_, Node::List(_) | Node::Set(_)) => {
                self.same_tidy(answer, found)
            }
            _ => self.same_quantity(answer, found),
        }
    }

    fn same_proportion(self, a: &[Node], b: &[Node]) -> bool {
        let times = |x: &Node, y: &Node| Node::Mul(vec![x.clone(), y.clone()]);
        a.iter().zip(b).skip(1).all(|(x, y)| self.same_value(&times(&a[0], y), &times(&b[0], x)))
    }

    fn same_set(self, answer: &Node, found: &Node) -> bool {
        if let (Some(a), Some(b)) = (reals(answer), reals(found)) {
            return a.same(&b);
        }
        match (answer, found) {
            // x ∈ S is S
            (Node::Relation(sides, ops), other) | (other, Node::Relation(sides, ops))
                if ops.as_slice() == [Op::In]
                    && !matches!(other, Node::Relation(_, o) if o.as_slice() == [Op::In]) =>
            {
                self.same_tidy(&sides[1], other)
            }
            (Node::Relation(..), Node::Relation(..)) => self.same_relation(answer, found),
            (Node::Union(a), Node::Union(b)) | (Node::Intersection(a), Node::Intersection(b)) => {
                self.in_any_order(a, b)
            }
            (Node::Difference(a, b), Node::Difference(c, d)) => self.same_tidy(a, c) && self.same_tidy(b, d),
            _ => false,
        }
    }

    fn same_relation(self, answer: &Node, found: &Node) -> bool {
        match (answer, found) {
            (Node::Relation(a, of_a), Node::Relation(b, of_b)) => {
                if let (Some((name, left)), Some((other, right))) = (definition(a, of_a), definition(b, of_b))
                    && (name == other || is_function(name) && is_function(other))
                    && self.same_tidy(left, right)
                {
                    return true;
                }
                match (a.as_slice(), of_a.as_slice(), b.as_slice(), of_b.as_slice()) {
                    ([a, c], [op], [b, d], [other]) => self.same_two_sides((a, *op, c), (b, *other, d)),
                    _ => {
                        let forward = of_a == of_b && a.len() == b.len();
                        forward && a.iter().zip(b).all(|(a, b)| self.same_one(a, b))
                    }
                }
            }
            (Node::Relation(sides, ops), other) | (other, Node::Relation(sides, ops)) => {
                values(sides, ops).iter().any(|value| self.same_tidy(value, other))
            }
            _ => false,
        }
    }

    /// Two equations, or two inequalities: the same if one is the other times a constant.
    fn same_two_sides(self, a: (&Node, Op, &Node), b: (&Node, Op, &Node)) -> bool {
        let turned = |(left, op, right): (&Node, Op, &Node)| match op {
            Op::Greater | Op::GreaterEqual => (right.clone(), flipped(op), left.clone()),
            _ => (left.clone(), op, right.clone()),
        };
        let ((a, op, c), (b, other, d)) = (turned(a), turned(b));
        if op != other {
            return false;
        }
        if self.same_one(&a, &b) && self.same_one(&c, &d) {
            return true;
        }
        let minus = |x: &Node, y: &Node| Node::Add(vec![x.clone(), y.clone().negated()]);
        let (first, second) = (minus(&a, &c), minus(&b, &d));
        let either = op.is_equality() || op == Op::NotEqual;
        let mut algebra = Algebra::new(self.budget);
        if let (Some(f), Some(g)) = (algebra.fraction(&first), algebra.fraction(&second)) {
            if algebra.proportional(&f.above, &g.above) {
                return either || positive_factor(&f.above, &g.above);
            }
            if algebra.certain {
                return false;
            }
        }
        either && self.numbers(&first, &second, true)
    }

    /// Two values, with percent signs, degrees and units on either.
    fn same_quantity(self, answer: &Node, found: &Node) -> bool {
        let hundredth = |node: &Node| Node::Div(Box::new(node.clone()), Box::new(Node::integer(100)));
        match (answer, found) {
            (Node::Quantity(a, unit), Node::Quantity(b, other)) => match unit::factor(unit, other) {
                Some(factor) => {
                    let converted = Node::Mul(vec![(**b).clone(), Node::Number(factor)]);
                    self.same_one(a, &converted)
                }
                None => false,
            },
            (Node::Quantity(a, _), b) => self.same_one(a, b),
            (a, Node::Quantity(b, _)) => self.same_one(a, b),
            (Node::Percent(a), Node::Percent(b)) => self.same_value(a, b),
            (Node::Percent(a), b) => self.same_value(a, b) || self.same_value(&hundredth(a), b),
            (a, Node::Percent(b)) => self.same_value(a, b) || self.same_value(a, &hundredth(b)),
            (Node::Degree(a), Node::Degree(b)) => self.same_value(a, b),
            (Node::Degree(a), b) | (b, Node::Degree(a)) => {
                let turned = || {
                    let half = Node::Div(Box::new(Node::Pi), Box::new(Node::integer(180)));
                    Node::Mul(vec![(**a).clone(), half])
                };
                self.same_value(a, b) || b.any(&|node| *node == Node::Pi) && self.same_value(&turned(), b)
            }
            _ => self.same_value(answer, found),
        }
    }

    /// Two expressions.
    fn same_value(self, answer: &Node, found: &Node) -> bool {
        if answer == found {
            return true;
        }
        let infinite = |node: &Node| node.any(&|n| *n == Node::Infinity);
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
            if algebra.certain && self.tolerance == 0.0 {
                return false;
            }
        }
        self.numbers(answer, found, false)
    }

    /// Whether both have the same value at every point where both have one; or with `factor` a constant times that.
    fn numbers(self, answer: &Node, found: &Node, factor: bool) -> bool {
        let free = |node: &Node| node.any(&|n| matches!(n, Node::Variable(_)));
        let complex = [answer, found].iter().any(|node| node.any(&|n| *n == Node::I));
        let constant = !free(answer) && !free(found);
        let points = if constant { 1 } else { POINTS };
        // some ten nodes are evaluated in a microsecond
        if self.budget.pay((answer.size() + found.size()) * points / 10).is_none() {
            return false;
        }
        let mut informative = 0;
        let mut ratio: Option<Value> = None;
        for point in 0..points {
            let at = |name: &str| sample(name, point);
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
                let now = Value { re: a.re / b.re, im: 0.0, error: 1e-9 * (a.re / b.re).abs() };
                if ratio.is_some_and(|before| (before.re - now.re).abs() > before.error + now.error) {
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
        informative >= if constant { 1 } else { INFORMATIVE }
    }
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

fn positive_factor(a: &Poly, b: &Poly) -> bool {
    match (a.values().next(), b.values().next()) {
        (Some(a), Some(b)) => a.is_positive() == b.is_positive(),
        _ => false,
    }
}

/// What a chain of equations says that something is: the last of `x = 2 + 3 = 5`, and any of `x = 1/3 ≈ 0.33`.
fn values<'a>(sides: &'a [Node], ops: &[Op]) -> Vec<&'a Node> {
    if ops.iter().any(|op| !op.is_equality()) {
        return vec![];
    }
    if ops.contains(&Op::Approximately) {
        return sides.iter().filter(|side| !is_name(side)).collect();
    }
    let free = |node: &Node| node.any(&|n| matches!(n, Node::Variable(_)));
    match definition(sides, ops) {
        Some((_, value)) => vec![value],
        None if !sides.iter().any(free) => sides.last().into_iter().collect(),
        None => vec![],
    }
}

/// `x = 5`, `f(x) = 2x`, `5 = x`: the name and what it is; the last of a chain.
fn definition<'a>(sides: &'a [Node], ops: &[Op]) -> Option<(&'a Node, &'a Node)> {
    if ops.iter().any(|op| !op.is_equality()) {
        return None;
    }
    let (first, last) = (sides.first()?, sides.last()?);
    if is_name(first) {
        Some((first, last))
    } else if is_name(last) {
        Some((last, first))
    } else {
        None
    }
}

fn is_name(node: &Node) -> bool {
    match node {
        Node::Variable(_) | Node::Text(_) | Node::E | Node::I => true,
        Node::Tuple { items, .. } => items.iter().all(is_name),
        _ => is_function(node),
    }
}

/// `y`, `f(x)`, `P(A)`, and `a(t)`, which was read as a product.
fn is_function(node: &Node) -> bool {
    match node {
        Node::Variable(name) => name == "y",
        Node::Apply(..) => true,
        Node::Mul(items) => match items.as_slice() {
            [Node::Variable(_), Node::Variable(_)] => true,
            [Node::Variable(_), Node::Tuple { items, .. }] => items.iter().all(is_name),
            _ => false,
        },
        _ => false,
    }
}

enum Kind {
    One,
    List,
    Set,
}

/// An answer as its items.
struct Items {
    kind: Kind,
    nodes: Vec<Node>,
}

impl Items {
    fn of(node: &Node) -> Self {
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
fn is_tuple(node: &Node) -> bool {
    match node {
        Node::Relation(sides, ops) => definition(sides, ops)
            .is_some_and(|(name, value)| matches!(name, Node::Tuple { .. }) && ordered(value).is_some()),
        node => ordered(node).is_some(),
    }
}

/// The items of a tuple, or of a matrix of one row or column.
fn ordered(node: &Node) -> Option<Vec<Node>> {
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
fn tidy(node: &Node) -> Node {
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
