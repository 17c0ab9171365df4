//! Intervals, inequalities and their unions as sets of real numbers.
//!
//! Before: [`super::parse`]. After: [`super::compare`] compares two sets. Ends are numbers in f64; two that differ by less
//! than 10⁻¹¹ of their size are one.

use super::eval::value;
use super::node::{Func, Node, Op};
use super::text;

/// One piece of a set, from `low` to `high`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Interval {
    low: f64,
    low_in: bool,
    high: f64,
    high_in: bool,
}

/// Pieces in order, apart from each other.
#[derive(Debug, Clone)]
pub(crate) struct Reals(Vec<Interval>);

/// Whether the node can be nothing but a set: a tuple may be one too.
pub(crate) fn is_set(node: &Node) -> bool {
    match node {
        Node::Union(_) | Node::Intersection(_) | Node::Difference(..) | Node::Reals | Node::Empty => true,
        Node::Relation(_, ops) => ops.iter().any(|op| !op.is_equality()),
        _ => false,
    }
}

/// The set that the node describes, if it is one of real numbers in one variable.
pub(crate) fn reals(node: &Node) -> Option<Reals> {
    match node {
        Node::Reals => Some(Reals(vec![WHOLE])),
        Node::Text(words) if text::same(words, "all real numbers") => Some(Reals(vec![WHOLE])),
        Node::Empty => Some(Reals(vec![])),
        Node::Tuple { open: open @ ('(' | '['), close: close @ (')' | ']'), items } if items.len() == 2 => {
            let (low, high) = (end(&items[0])?, end(&items[1])?);
            if low > high {
                return None; // a point
            }
            let piece = Interval { low, low_in: *open == '[', high, high_in: *close == ']' };
            Some(Reals::of(vec![piece]))
        }
        Node::Set(items) | Node::List(items) => {
            let points = items.iter().map(end).collect::<Option<Vec<_>>>()?;
            Some(Reals::of(points.into_iter().map(point).collect()))
        }
        Node::Union(items) => {
            let mut pieces = Vec::new();
            for item in items {
                pieces.extend(reals(item)?.0);
            }
            Some(Reals::of(pieces))
        }
        Node::Intersection(items) => {
            let mut all = Reals(vec![WHOLE]);
            for item in items {
                all = all.and(&reals(item)?);
            }
            // `x < 1, x > 3` means either
            if all.0.is_empty() {
                return reals(&Node::Union(items.clone()));
            }
            Some(all)
        }
        Node::Difference(all, without) => Some(reals(all)?.and(&reals(without)?.others())),
        Node::Relation(sides, ops) => relation(sides, ops),
        _ => None,
    }
}

const WHOLE: Interval =
    Interval { low: f64::NEG_INFINITY, low_in: false, high: f64::INFINITY, high_in: false };

fn point(at: f64) -> Interval {
    Interval { low: at, low_in: true, high: at, high_in: true }
}

fn end(node: &Node) -> Option<f64> {
    match node {
        Node::Infinity => Some(f64::INFINITY),
        Node::Neg(inner) if **inner == Node::Infinity => Some(f64::NEG_INFINITY),
        Node::Quantity(inner, _) | Node::Degree(inner) => end(inner),
        node if node.any(&|n| matches!(n, Node::Variable(_))) => None,
        node => value(node, &|_| f64::NAN, false).map(|value| value.re),
    }
}

/// The finite numbers that intervals and inequalities in the node end at, each with its expression.
pub(crate) fn bounds(node: &Node) -> Vec<(f64, &Node)> {
    let mut found = Vec::new();
    collect(node, &mut found);
    found
}

fn collect<'a>(node: &'a Node, found: &mut Vec<(f64, &'a Node)>) {
    match node {
        Node::Tuple { items, .. }
        | Node::Set(items)
        | Node::List(items)
        | Node::Union(items)
        | Node::Intersection(items)
        | Node::Relation(items, _) => items.iter().for_each(|item| collect(item, found)),
        Node::Difference(a, b) => {
            collect(a, found);
            collect(b, found);
        }
        node => found.extend(end(node).filter(|at| at.is_finite()).map(|at| (at, node))),
    }
}

/// Whether the first is known to be no less than the second.
pub(crate) fn falls(low: &Node, high: &Node) -> bool {
    end(low).zip(end(high)).is_some_and(|(low, high)| low > high)
}

/// `2 \le x < 5`, `x \ne 3`, `x \in S`.
fn relation(sides: &[Node], ops: &[Op]) -> Option<Reals> {
    if let ([Node::Variable(_), set], [Op::In]) = (sides, ops) {
        return reals(set);
    }
    let size = |side: &Node| matches!(side, Node::Call(Func::Abs, inside) if matches!(inside.as_slice(), [Node::Variable(_)]));
    if let Some(at) = sides.iter().position(size) {
        // |x| < 2, 0 < |x| < 2
        let mut all = Reals(vec![WHOLE]);
        for (place, op) in ops.iter().enumerate() {
            let (bound, op) = match place {
                place if place == at => (end(&sides[place + 1])?, *op),
                place if place + 1 == at => (end(&sides[place])?, flipped(*op)),
                _ => return None,
            };
            all = all.and(&distance(bound, op)?);
        }
        return Some(all);
    }
    let at = sides.iter().position(|side| matches!(side, Node::Variable(_)))?;
    let mut all = Reals(vec![WHOLE]);
    for (place, op) in ops.iter().enumerate() {
        // only what stands next to the variable says something of it
        let (other, op) = if place == at {
            (&sides[place + 1], *op)
        } else if place + 1 == at {
            (&sides[place], flipped(*op))
        } else {
            return None;
        };
        let others = match other {
            Node::List(items) | Node::Set(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        for other in others {
            if let (Node::PlusMinus { first, second, .. }, Op::NotEqual) = (other, op) {
                let (middle, by) = (end(first)?, end(second)?);
                for bound in [middle - by, middle + by] {
                    all = all.and(&Reals::of(vec![
                        Interval { high: bound, ..WHOLE },
                        Interval { low: bound, ..WHOLE },
                    ]));
                }
                continue;
            }
            let bound = end(other)?;
            let below = |high_in| Interval { high: bound, high_in, ..WHOLE };
            let above = |low_in| Interval { low: bound, low_in, ..WHOLE };
            let pieces = match op {
                Op::Less => vec![below(false)],
                Op::LessEqual => vec![below(true)],
                Op::Greater => vec![above(false)],
                Op::GreaterEqual => vec![above(true)],
                Op::NotEqual => vec![below(false), above(false)],
                Op::Equal | Op::Approximately => vec![point(bound)],
                Op::In => return None,
            };
            all = all.and(&Reals::of(pieces));
        }
    }
    Some(all)
}

/// `|x| < 2` and the like.
fn distance(bound: f64, op: Op) -> Option<Reals> {
    let within = |closed| Interval { low: -bound, low_in: closed, high: bound, high_in: closed };
    Some(match op {
        Op::Less => Reals::of(vec![within(false)]),
        Op::LessEqual => Reals::of(vec![within(true)]),
        Op::Greater => Reals::of(vec![within(true)]).others(),
        Op::GreaterEqual => Reals::of(vec![within(false)]).others(),
        _ => return None,
    })
}

/// The operator with its sides exchanged.
pub(crate) fn flipped(op: Op) -> Op {
    match op {
        Op::Less => Op::Greater,
        Op::LessEqual => Op::GreaterEqual,
        Op::Greater => Op::Less,
        Op::GreaterEqual => Op::LessEqual,
        same => same,
    }
}

fn near(a: f64, b: f64) -> bool {
    a == b || a.is_finite() && b.is_finite() && (a - b).abs() <= 1e-11 * a.abs().max(b.abs())
}

impl Reals {
    /// Sorted, and pieces that touch made one.
    fn of(mut pieces: Vec<Interval>) -> Self {
        pieces.retain(|p| {
            p.low < p.high && !near(p.low, p.high) || near(p.low, p.high) && p.low_in && p.high_in
        });
        for piece in &mut pieces {
            piece.low_in &= piece.low.is_finite();
            piece.high_in &= piece.high.is_finite();
        }
        pieces.sort_by(|a, b| a.low.total_cmp(&b.low).then(b.low_in.cmp(&a.low_in)));
        let mut joined: Vec<Interval> = Vec::new();
        for piece in pieces {
            match joined.last_mut() {
                Some(last)
                    if piece.low < last.high && !near(piece.low, last.high)
                        || near(piece.low, last.high) && (piece.low_in || last.high_in) =>
                {
                    if near(last.high, piece.high) {
                        last.high_in |= piece.high_in;
                    } else if piece.high > last.high {
                        (last.high, last.high_in) = (piece.high, piece.high_in);
                    }
                    last.low_in |= near(last.low, piece.low) && piece.low_in;
                }
                _ => joined.push(piece),
            }
        }
        Self(joined)
    }

    fn and(&self, other: &Self) -> Self {
        let mut pieces = Vec::new();
        for a in &self.0 {
            for b in &other.0 {
                let (low, low_in) = if near(a.low, b.low) {
                    (a.low, a.low_in && b.low_in)
                } else if a.low > b.low {
                    (a.low, a.low_in)
                } else {
                    (b.low, b.low_in)
                };
                let (high, high_in) = if near(a.high, b.high) {
                    (a.high, a.high_in && b.high_in)
                } else if a.high < b.high {
                    (a.high, a.high_in)
                } else {
                    (b.high, b.high_in)
                };
                pieces.push(Interval { low, low_in, high, high_in });
            }
        }
        Self::of(pieces)
    }

    /// All the numbers that are not in it.
    fn others(&self) -> Self {
        let mut pieces = Vec::new();
        let (mut low, mut low_in) = (f64::NEG_INFINITY, false);
        for piece in &self.0 {
            pieces.push(Interval { low, low_in, high: piece.low, high_in: !piece.low_in });
            (low, low_in) = (piece.high, !piece.high_in);
        }
        pieces.push(Interval { low, low_in, high: f64::INFINITY, high_in: false });
        Self::of(pieces)
    }

    /// The whole numbers in it, if they are at most so many.
    pub(crate) fn whole_numbers(&self, most: usize) -> Option<Vec<i64>> {
        let mut all = Vec::new();
        for piece in &self.0 {
            let (low, high) = (piece.low.ceil(), piece.high.floor());
            // beyond that f64 skips some
            if !(low.abs() < 1e12 && high.abs() < 1e12 && high - low <= most as f64) {
                return None;
            }
            let inside = |at: &i64| {
                let at = *at as f64;
                (at != piece.low || piece.low_in) && (at != piece.high || piece.high_in)
            };
            all.extend((low as i64..=high as i64).filter(inside));
        }
        (all.len() <= most).then_some(all)
    }

    pub(crate) fn same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(a, b)| {
                near(a.low, b.low) && near(a.high, b.high) && a.low_in == b.low_in && a.high_in == b.high_in
            })
    }
}
