//! Whether two answers are the same.
//!
//! Before: [`super::parse`] read both. After: [`super::equal`] gives the verdict. Structure first (lists in any order, tuples in
//! order, sets, intervals, matrices, equations), then values: exactly by [`super::poly`], and where that cannot tell, by
//! [`super::eval`] at fixed points.

mod families;
mod matrix;
mod shape;
mod value;

use num_traits::Signed;

use super::eval::value;
use super::node::{Node, Op};
use super::poly::{Algebra, Budget, Poly};
use super::sets::{bounds, falls, flipped, is_set, reals};
use super::text;
use super::unit::says_otherwise;
use matrix::tidy;
use shape::{
    Items, Kind, components, definition, is_name, is_tuple, labelled, named, one_thing, ordered, values,
};

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

    /// The same, where the answer found may have a remark behind it: "84, altogether".
    pub(crate) fn same_remark(self, answer: &Node, found: &Node) -> bool {
        if let Node::List(items) = found
            && !matches!(answer, Node::Text(_))
            && !answer.any(&|node| matches!(node, Node::Text(_)))
        {
            let remark =
                |node: &Node| matches!(node, Node::Text(words) if !words.split(' ').any(says_otherwise));
            let kept = items.iter().rposition(|item| !remark(item)).map_or(0, |at| at + 1);
            if kept > 0 && kept < items.len() {
                let rest = if kept == 1 { items[0].clone() } else { Node::List(items[..kept].to_vec()) };
                return self.same(answer, &rest);
            }
        }
        self.same(answer, found)
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
                    || named(&wanted.nodes).is_none()
                        && ordered(found).is_some_and(|items| self.in_any_order(&wanted.nodes, &items))
            }
            // 3/4 or 0.75
            (Kind::One, Kind::List) => {
                given.nodes.len() <= ITEMS && given.nodes.iter().all(|node| self.same_one(answer, node))
            }
            (Kind::Set, _) | (_, Kind::Set) => {
                let (wanted, given) = (self.distinct(wanted.nodes), self.distinct(given.nodes));
                self.in_any_order(&wanted, &given)
            }
            _ => self.same_list(&wanted.nodes, &given.nodes),
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
        let in_order = |values: &[&Node]| items.iter().zip(values).all(|(a, b)| self.same_one(a, b));
        match (named(list), names) {
            (Some(named), Some(names)) => {
                let value = |name| named.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
                let values: Option<Vec<&Node>> = names.iter().map(value).collect();
                values.is_some_and(|values| values.len() == items.len() && in_order(&values))
            }
            (Some(named), None) => in_order(&named.iter().map(|(_, value)| *value).collect::<Vec<_>>()),
            (None, _) => in_order(&list.iter().collect::<Vec<_>>()),
        }
    }

    /// Lists in any order; but names that stand for numbers have one.
    fn same_list(self, wanted: &[Node], given: &[Node]) -> bool {
        let values =
            |list: Vec<(&Node, &Node)>| list.into_iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
        let in_order =
            |a: &[Node], b: &[Node]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.same_one(a, b));
        if let (Some(a), Some(b)) = (labelled(wanted), labelled(given))
            && a.iter().all(|(label, _)| b.iter().any(|(other, _)| text::same(label, other)))
        {
            return a.len() == b.len()
                && a.iter().all(|(label, number)| {
                    b.iter().any(|(other, value)| text::same(label, other) && self.same_one(number, value))
                });
        }
        match (named(wanted), named(given)) {
            (Some(_), None) if given.iter().any(|node| matches!(node, Node::Relation(..))) => false,
            (Some(names), None) => in_order(&values(names), given),
            // x = 1, x = 2 is not x = 1, y = 2
            (None, Some(_)) if wanted.iter().any(|node| matches!(node, Node::Relation(..))) => false,
            (None, Some(names)) => in_order(wanted, &values(names)),
            _ => self.in_any_order(wanted, given),
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
            (Node::Piecewise(a), Node::Piecewise(b)) => self.same_cases(a, b),
            (Node::Builder(a, of_a), Node::Builder(b, of_b)) => self.same_builder((a, of_a), (b, of_b)),
            (Node::Residue(value, modulus), other) | (other, Node::Residue(value, modulus)) => {
                self.same_residue((value, modulus), other)
            }
            // a point has a name: P(5, 2)
            (Node::Apply(name, items), Node::Tuple { items: others, open: '(', .. })
            | (Node::Tuple { items: others, open: '(', .. }, Node::Apply(name, items))
                if name.len() == 1 && items.len() == others.len() =>
            {
                items.iter().zip(others).all(|(a, b)| self.same_one(a, b))
            }
            (Node::Tuple { items: rows, .. }, Node::Matrix(matrix))
            | (Node::Matrix(matrix), Node::Tuple { items: rows, .. })
                if rows.len() == matrix.len() && rows.iter().all(|row| matches!(row, Node::Tuple { .. })) =>
            {
                rows.iter().zip(matrix).all(|(row, cells)| {
                    ordered(row).is_some_and(|row| {
                        row.len() == cells.len() && row.iter().zip(cells).all(|(a, b)| self.same_one(a, b))
                    })
                })
            }
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
                // 2i − 3j + k
                (Some(items), None) | (None, Some(items)) => {
                    let other = if ordered(answer).is_some() { found } else { answer };
                    let vector =
                        other.any(&|node| matches!(node, Node::Variable(name) if name == "j" || name == "k"));
                    let parts = if vector { components(other, items.len()) } else { None };
                    parts.is_some_and(|parts| parts.iter().zip(&items).all(|(a, b)| self.same_one(a, b)))
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
        // nothing is in proportion to nothing
        let zero =
            |node: &Node| value(node, &|_| 1.37, false).is_none_or(|value| value.size() <= value.error);
        if a.iter().chain(b).any(zero) {
            return false;
        }
        let times = |x: &Node, y: &Node| Node::Mul(vec![x.clone(), y.clone()]);
        a.iter().zip(b).skip(1).all(|(x, y)| self.same_value(&times(&a[0], y), &times(&b[0], x)))
    }

    fn same_set(self, answer: &Node, found: &Node) -> bool {
        if let (Node::Relation(a, _), Node::Relation(b, _)) = (answer, found) {
            let names = |sides: &[Node]| -> Vec<Node> {
                sides.iter().filter(|side| matches!(side, Node::Variable(_))).cloned().collect()
            };
            let (a, b) = (names(a), names(b));
            if !a.is_empty() && !b.is_empty() && !a.iter().any(|name| b.contains(name)) {
                return false;
            }
        }
        if let (Some(a), Some(b)) = (reals(answer), reals(found)) {
            return a.same(&b) && self.same_ends(answer, found);
        }
        match (answer, found) {
            // x ∈ S is S
            (Node::Relation(sides, ops), other) | (other, Node::Relation(sides, ops))
                if ops.as_slice() == [Op::In]
                    && !matches!(other, Node::Relation(_, o) if o.as_slice() == [Op::In]) =>
            {
                let set = !matches!(sides[1], Node::Number(_) | Node::Variable(_) | Node::Text(_));
                is_name(&sides[0]) && set && self.same_tidy(&sides[1], other)
            }
            (Node::Relation(..), Node::Relation(..)) => self.same_relation(answer, found),
            (Node::Union(a), Node::Union(b)) | (Node::Intersection(a), Node::Intersection(b)) => {
                self.in_any_order(a, b)
            }
            (Node::Difference(a, b), Node::Difference(c, d)) => self.same_tidy(a, c) && self.same_tidy(b, d),
            _ => false,
        }
    }

    /// Whether what stands at the ends of two sets that are the same in f64 is the same exactly: 1.41421356237 is not √2.
    fn same_ends(self, answer: &Node, found: &Node) -> bool {
        let (wanted, given) = (bounds(answer), bounds(found));
        wanted.iter().all(|(at, node)| {
            let near = |other: f64| (other - at).abs() <= 1e-11 * at.abs().max(other.abs());
            let mut beside = given.iter().filter(|(other, _)| near(*other)).peekable();
            // an end that is in one of them only is no end of the set
            beside.peek().is_none() || beside.any(|(_, other)| self.same_one(node, other))
        })
    }

    fn same_relation(self, answer: &Node, found: &Node) -> bool {
        match (answer, found) {
            (Node::Relation(a, of_a), Node::Relation(b, of_b)) => {
                if let (Some((name, left)), Some((other, right))) = (definition(a, of_a), definition(b, of_b))
                    && one_thing(name, other)
                {
                    // two constants, with their units, say all
                    let free = |node: &Node| node.any(&|n| matches!(n, Node::Variable(_)));
                    let same = self.same_tidy(left, right);
                    if same || name == other && !free(left) && !free(right) {
                        return same;
                    }
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
                let said = values(sides, ops);
                // 5 = 6 says nothing
                let chain = definition(sides, ops).is_none() && !ops.contains(&Op::Approximately);
                let true_chain = !chain || said.iter().skip(1).all(|side| self.same_one(said[0], side));
                true_chain && said.iter().any(|value| self.same_tidy(value, other))
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
            // what is multiplied by a denominator is another inequality
            let whole = either || f.is_polynomial() && g.is_polynomial();
            if whole && algebra.proportional(&f.above, &g.above) {
                return either || positive_factor(&f.above, &g.above);
            }
            if algebra.certain {
                return false;
            }
        }
        either && self.numbers(&first, &second, true)
    }
}

fn positive_factor(a: &Poly, b: &Poly) -> bool {
    match (a.values().next(), b.values().next()) {
        (Some(a), Some(b)) => a.is_positive() == b.is_positive(),
        _ => false,
    }
}
