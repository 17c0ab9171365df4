//! Exact arithmetic: an expression as a fraction of two polynomials.
//!
//! Before: [`super::parse`]. After: [`super::compare`] asks whether a difference is zero. Coefficients are rational. The
//! unknowns are variables, π, e, i (with i² = −1), roots of primes (every real root of a rational is a product of
//! those), and whatever else there is, such as `\sin x`, as one opaque unknown. Powers of the first kinds are linearly independent
//! over the rationals, so that a polynomial of them which is not the zero polynomial is not zero; with an opaque
//! unknown, that is not certain and the numbers decide.
//!
//! Every operation is paid from a budget, in units of about a microsecond; when that is spent there is no exact form.

mod power;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use num_bigint::BigInt;
use num_rational::Ratio;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::node::{Func, Node, Rational};

/// Largest number of bits of a numerator or denominator.
const BITS: u64 = 16_384;
/// Largest power that is multiplied out.
const POWER: i64 = 60;
/// What the exact arithmetic of one comparison of two values may cost at most.
const SHARE: u64 = 1_200;

type Exponent = Ratio<i64>;
/// Unknowns and their powers, sorted.
type Monomial = Vec<(u32, Exponent)>;
/// Σ coefficient · monomial; no coefficient is zero.
pub(crate) type Poly = BTreeMap<Monomial, Rational>;

/// A fraction of two polynomials.
#[derive(Debug, Clone)]
pub(crate) struct Fraction {
    pub(crate) above: Poly,
    pub(crate) below: Poly,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Unknown {
    Variable(String),
    Pi,
    E,
    I,
    Prime(u64),
    Opaque(String),
}

/// The unknowns that expressions to be compared have in common, and what is left to spend.
pub(crate) struct Algebra<'a> {
    budget: &'a Budget,
    unknowns: Vec<Unknown>,
    index: HashMap<Unknown, u32>,
    left: u64,
    /// Whether a difference that is not the zero polynomial is not zero.
    pub(crate) certain: bool,
}

/// What is left to spend on one verdict.
#[derive(Debug)]
pub(crate) struct Budget(Cell<u64>);

impl Budget {
    /// For all of a verdict: some milliseconds.
    pub(crate) fn new() -> Self {
        Self(Cell::new(2_400))
    }

    /// `None` if there is not enough.
    pub(crate) fn pay(&self, cost: u64) -> Option<()> {
        let left = self.0.get().checked_sub(cost);
        self.0.set(left.unwrap_or(0));
        left.map(|_| ())
    }
}

impl<'a> Algebra<'a> {
    pub(crate) fn new(budget: &'a Budget) -> Self {
        Self { budget, unknowns: Vec::new(), index: HashMap::new(), left: SHARE, certain: true }
    }

    fn pay(&mut self, cost: u64) -> Option<()> {
        self.left = self.left.checked_sub(cost)?;
        self.budget.pay(cost)
    }

    fn unknown(&mut self, unknown: Unknown) -> u32 {
        if let Some(at) = self.index.get(&unknown) {
            return *at;
        }
        if matches!(unknown, Unknown::Opaque(_)) {
            self.certain = false;
        }
        let at = self.unknowns.len() as u32;
        self.unknowns.push(unknown.clone());
        self.index.insert(unknown, at);
        at
    }

    fn just(&mut self, unknown: Unknown) -> Fraction {
        let at = self.unknown(unknown);
        Fraction::of(BTreeMap::from([(vec![(at, Exponent::one())], Rational::one())]))
    }

    /// The expression as a fraction, or `None` if it is none or costs too much.
    pub(crate) fn fraction(&mut self, node: &Node) -> Option<Fraction> {
        self.pay(1)?;
        match node {
            Node::Number(value) => {
                small(value)?;
                Some(Fraction::constant(value.clone()))
            }
            Node::Variable(name) => Some(self.just(Unknown::Variable(name.clone()))),
            Node::Pi => Some(self.just(Unknown::Pi)),
            Node::E => Some(self.just(Unknown::E)),
            Node::I => Some(self.just(Unknown::I)),
            Node::Based(digits, base) => {
                let value = BigInt::parse_bytes(digits.to_lowercase().as_bytes(), *base)?;
                Some(Fraction::constant(Rational::from_integer(value)))
            }
            Node::Add(terms) => {
                let mut sum = Fraction::constant(Rational::zero());
                for term in terms {
                    let term = self.fraction(term)?;
                    sum = self.add(&sum, &term)?;
                }
                Some(sum)
            }
            Node::Mul(factors) => {
                let mut product = Fraction::constant(Rational::one());
                for factor in factors {
                    let factor = self.fraction(factor)?;
                    product = self.multiply(&product, &factor)?;
                }
                Some(product)
            }
            Node::Neg(inner) => self.fraction(inner).map(Fraction::negated),
            Node::Div(above, below) => {
                let (above, below) = (self.fraction(above)?, self.fraction(below)?);
                self.divide(&above, &below)
            }
            Node::Pow(base, exponent) => self.power(base, exponent),
            Node::Root(index, under) => {
                let index = self.fraction(index)?.rational()?;
                let degree =
                    index.to_integer().to_i64().filter(|d| index.is_integer() && (2..=64).contains(d))?;
                let under = self.fraction(under)?;
                self.root(&under, 1, degree)
            }
            Node::Call(func, arguments) => self.call(*func, arguments),
            Node::Remainder(value, modulus) => {
                let (value, modulus) =
                    (self.fraction(value)?.rational()?, self.fraction(modulus)?.rational()?);
                let whole = value.is_integer() && modulus.is_integer() && modulus.is_positive();
                let (value, modulus) = (value.to_integer(), modulus.to_integer());
                whole.then(|| {
                    Fraction::constant(Rational::from_integer(((value % &modulus) + &modulus) % &modulus))
                })
            }
            Node::Apply(name, arguments)
                if arguments.len() == 2 && matches!(name.as_str(), "C" | "P" | "A") =>
            {
                self.counted(name, arguments)
            }
            Node::Apply(name, arguments) => {
                let mut written = vec![name.clone()];
                for argument in arguments {
                    let value = self.fraction(argument)?;
                    written.push(self.written(&value));
                }
                Some(self.just(Unknown::Opaque(written.join(" of "))))
            }
            Node::Percent(inner) | Node::Degree(inner) | Node::Quantity(inner, _) => self.fraction(inner),
            Node::Determinant(rows) => self.determinant(rows),
            _ => None,
        }
    }

    /// `C(n, k)`; with `P` or `A`, where the order counts.
    fn counted(&mut self, name: &str, arguments: &[Node]) -> Option<Fraction> {
        let combinations = self.call(Func::Binomial, arguments)?;
        if name == "C" {
            return Some(combinations);
        }
        let orders = self.call(Func::Factorial, &arguments[1..])?;
        self.multiply(&combinations, &orders)
    }

    fn call(&mut self, func: Func, arguments: &[Node]) -> Option<Fraction> {
        let mut exact = Vec::new();
        for argument in arguments {
            exact.push(if func.of_angle() {
                self.fraction(&argument.in_radians())?
            } else {
                self.fraction(argument)?
            });
        }
        let rational: Vec<Option<Rational>> = exact.iter().map(Fraction::rational).collect();
        let known = match (func, rational.as_slice()) {
            (Func::Abs, [Some(value)]) => Some(value.abs()),
            (Func::Floor, [Some(value)]) => Some(value.floor()),
            (Func::Ceil, [Some(value)]) => Some(value.ceil()),
            (Func::Factorial, [Some(value)]) if value.is_integer() && !value.is_negative() => {
                let n = value.to_integer().to_u64().filter(|n| *n <= 400)?;
                self.pay(n)?;
                Some(Rational::from_integer((1..=n).map(BigInt::from).product()))
            }
            (Func::Binomial, [Some(n), Some(k)]) if n.is_integer() && k.is_integer() => {
                let (n, k) = (n.to_integer().to_i64()?, k.to_integer().to_i64()?);
                if !(0..=n).contains(&k) || n > 400 {
                    return None;
                }
                self.pay(k as u64)?;
                let mut value = Rational::one();
                for step in 0..k {
                    value *= Rational::new((n - step).into(), (step + 1).into());
                }
                Some(value)
            }
            (Func::Min, _) => rational.iter().cloned().collect::<Option<Vec<_>>>()?.into_iter().min(),
            (Func::Max, _) => rational.iter().cloned().collect::<Option<Vec<_>>>()?.into_iter().max(),
            (Func::Exp, [_]) => {
                return self.power(&Node::E, &arguments[0]);
            }
            _ => None,
        };
        if let Some(value) = known {
            small(&value)?;
            return Some(Fraction::constant(value));
        }
        let written: Vec<String> = exact.iter().map(|value| self.written(value)).collect();
        Some(self.just(Unknown::Opaque(format!("{func:?}({})", written.join(", ")))))
    }

    fn determinant(&mut self, rows: &[Vec<Node>]) -> Option<Fraction> {
        if rows.len() != rows.first()?.len() || rows.len() > 4 {
            return None;
        }
        if rows.len() == 1 {
            return self.fraction(&rows[0][0]);
        }
        let mut sum = Fraction::constant(Rational::zero());
        for (column, first) in rows[0].iter().enumerate() {
            let minor: Vec<Vec<Node>> = rows[1..]
                .iter()
                .map(|row| {
                    row.iter().enumerate().filter(|(at, _)| *at != column).map(|(_, n)| n.clone()).collect()
                })
                .collect();
            let (first, minor) = (self.fraction(first)?, self.determinant(&minor)?);
            let term = self.multiply(&first, &minor)?;
            sum = self.add(&sum, &if column % 2 == 1 { term.negated() } else { term })?;
        }
        Some(sum)
    }

    pub(crate) fn add(&mut self, a: &Fraction, b: &Fraction) -> Option<Fraction> {
        if a.below == b.below {
            return Some(Fraction { above: self.sum(&a.above, &b.above)?, below: a.below.clone() });
        }
        let left = self.product(&a.above, &b.below)?;
        let right = self.product(&b.above, &a.below)?;
        Some(Fraction { above: self.sum(&left, &right)?, below: self.product(&a.below, &b.below)? })
    }

    pub(crate) fn multiply(&mut self, a: &Fraction, b: &Fraction) -> Option<Fraction> {
        Some(Fraction { above: self.product(&a.above, &b.above)?, below: self.product(&a.below, &b.below)? })
    }

    fn divide(&mut self, a: &Fraction, b: &Fraction) -> Option<Fraction> {
        if b.is_zero() {
            return None;
        }
        if let Some(value) = b.rational() {
            let scaled = Fraction::constant(value.recip());
            return self.multiply(a, &scaled);
        }
        Some(Fraction { above: self.product(&a.above, &b.below)?, below: self.product(&a.below, &b.above)? })
    }

    fn sum(&mut self, a: &Poly, b: &Poly) -> Option<Poly> {
        let mut sum = a.clone();
        self.pay((a.len() + b.len()) as u64 / 4)?;
        for (mono, coefficient) in b {
            self.add_term(&mut sum, mono.clone(), coefficient.clone())?;
        }
        Some(sum)
    }

    fn add_term(&mut self, sum: &mut Poly, mono: Monomial, coefficient: Rational) -> Option<()> {
        self.pay(1 + size(&coefficient).pow(2) / 16)?;
        let value = match sum.remove(&mono) {
            Some(there) => there + coefficient,
            None => coefficient,
        };
        small(&value)?;
        if !value.is_zero() {
            sum.insert(mono, value);
        }
        Some(())
    }

    fn product(&mut self, a: &Poly, b: &Poly) -> Option<Poly> {
        let mut product = Poly::new();
        for (left, of_left) in a {
            for (right, of_right) in b {
                self.pay(1 + (size(of_left) + size(of_right)).pow(2) / 16)?;
                let mut scale = of_left * of_right;
                let mono = if left.is_empty() {
                    right.clone()
                } else if right.is_empty() {
                    left.clone()
                } else {
                    let mut powers: BTreeMap<u32, Exponent> = left.iter().copied().collect();
                    for (at, power) in right {
                        self.raise(&mut powers, &mut scale, *at, *power)?;
                    }
                    powers.into_iter().collect()
                };
                self.add_term(&mut product, mono, scale)?;
            }
        }
        Some(product)
    }

    /// a − b as one polynomial over a common denominator.
    pub(crate) fn difference(&mut self, a: &Fraction, b: &Fraction) -> Option<Poly> {
        let left = self.product(&a.above, &b.below)?;
        let right = self.product(&b.above, &a.below)?;
        let minus = right.into_iter().map(|(mono, value)| (mono, -value)).collect();
        self.sum(&left, &minus)
    }

    /// Whether one polynomial is a constant other than zero times the other.
    pub(crate) fn proportional(&mut self, a: &Poly, b: &Poly) -> bool {
        if a.len() != b.len() || a.is_empty() {
            return false;
        }
        let mut factor: Option<Rational> = None;
        a.iter().zip(b).all(|((left, of_left), (right, of_right))| {
            let ratio = of_left / of_right;
            let same = factor.as_ref().is_none_or(|factor| *factor == ratio);
            factor = Some(ratio);
            left == right && same
        })
    }

    /// Whether a difference that is not the zero polynomial is known not to be zero: no unknown in it is opaque.
    pub(crate) fn is_certain(&self, difference: &Poly) -> bool {
        self.certain
            || difference
                .keys()
                .flatten()
                .all(|(at, _)| !matches!(self.unknowns[*at as usize], Unknown::Opaque(_)))
    }

    /// A text for a fraction: two that are equal as they stand have the same.
    fn written(&self, value: &Fraction) -> String {
        let poly = |poly: &Poly| {
            let terms: Vec<String> = poly
                .iter()
                .map(|(mono, coefficient)| {
                    let mut text = coefficient.to_string();
                    for (at, power) in mono {
                        text.push_str(&format!(" {at}^{power}"));
                    }
                    text
                })
                .collect();
            terms.join(" + ")
        };
        let lead = value.below.values().next().cloned().unwrap_or_else(Rational::one);
        let scaled = |poly: &Poly| poly.iter().map(|(mono, c)| (mono.clone(), c / &lead)).collect::<Poly>();
        format!("{} over {}", poly(&scaled(&value.above)), poly(&scaled(&value.below)))
    }
}

fn size(value: &Rational) -> u64 {
    (value.numer().bits() + value.denom().bits()) / 64
}

fn small(value: &Rational) -> Option<()> {
    (value.numer().bits() <= BITS && value.denom().bits() <= BITS).then_some(())
}

impl Fraction {
    fn of(above: Poly) -> Self {
        Self { above, below: BTreeMap::from([(vec![], Rational::one())]) }
    }

    pub(crate) fn constant(value: Rational) -> Self {
        let above = if value.is_zero() { Poly::new() } else { BTreeMap::from([(vec![], value)]) };
        Self::of(above)
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.above.is_empty()
    }

    fn negated(self) -> Self {
        Self {
            above: self.above.into_iter().map(|(mono, value)| (mono, -value)).collect(),
            below: self.below,
        }
    }

    fn single(&self) -> Option<(&Monomial, Rational)> {
        (self.above.len() == 1).then(|| self.above.iter().next().map(|(mono, c)| (mono, c.clone())))?
    }

    fn below_constant(&self) -> Option<Rational> {
        match self.below.iter().next() {
            Some((mono, value)) if self.below.len() == 1 && mono.is_empty() => Some(value.clone()),
            _ => None,
        }
    }

    /// Whether it is divided by nothing but a number.
    pub(crate) fn is_polynomial(&self) -> bool {
        self.below_constant().is_some()
    }

    /// Its value, if it has no unknowns.
    pub(crate) fn rational(&self) -> Option<Rational> {
        let below = self.below_constant()?;
        if self.above.is_empty() {
            return Some(Rational::zero());
        }
        let (mono, value) = self.single()?;
        mono.is_empty().then(|| value / below)
    }
}
