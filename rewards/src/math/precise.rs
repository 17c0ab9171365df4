//! Constants at many digits, with a bound on the error, to tell near misses apart.
//!
//! Before: [`super::eval`] takes two constants for equal. After: [`super::compare`] knows whether they differ after all:
//! √(10²⁰ + 1) is not 10¹⁰, and no decimal is ln 2. A number is a whole multiple of 2⁻³²⁰ with a bound, in such multiples, on how far
//! off it is. Real numbers up to 2⁴⁰⁰ only; what cannot be computed here is not told apart.

use num_bigint::BigInt;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::node::{Func, Node, Rational};

/// Bits behind the point.
const BITS: u64 = 320;
/// Bits of the largest number.
const LARGEST: u64 = BITS + 400;

/// Whether two constants are certainly different.
pub(crate) fn differ(a: &Node, b: &Node) -> bool {
    let (Some(a), Some(b)) = (Ball::of(a), Ball::of(b)) else { return false };
    (&a.mid - &b.mid).abs() > a.off + b.off
}

/// All numbers at most `off` away from `mid`.
#[derive(Debug, Clone)]
struct Ball {
    mid: BigInt,
    off: BigInt,
}

fn one() -> BigInt {
    BigInt::one() << BITS
}

impl Ball {
    fn new(mid: BigInt, off: BigInt) -> Option<Self> {
        // nothing is known of what is off by a millionth
        (mid.bits() < LARGEST && off.bits() + 20 < BITS).then_some(Self { mid, off })
    }

    fn whole(n: i64) -> Self {
        Self { mid: BigInt::from(n) << BITS, off: BigInt::zero() }
    }

    fn rational(value: &Rational) -> Option<Self> {
        if value.numer().bits() > LARGEST || value.denom().bits() > 4 * LARGEST {
            return None;
        }
        Self::new((value.numer() << BITS) / value.denom(), BigInt::one())
    }

    fn of(node: &Node) -> Option<Self> {
        match node {
            Node::Number(value) => Self::rational(value),
            Node::Pi => Some(Self::pi()),
            Node::E => Self::whole(1).exp(),
            Node::Add(terms) => terms.iter().try_fold(Self::whole(0), |sum, term| sum.plus(&Self::of(term)?)),
            Node::Mul(factors) => {
                factors.iter().try_fold(Self::whole(1), |product, factor| product.times(&Self::of(factor)?))
            }
            Node::Neg(inner) => Self::of(inner).map(Self::negated),
            Node::Div(above, below) => Self::of(above)?.over(&Self::of(below)?),
            Node::Percent(inner) | Node::Degree(inner) | Node::Quantity(inner, _) => Self::of(inner),
            Node::Root(index, under) => {
                let Node::Number(index) = &**index else { return None };
                let degree =
                    index.to_integer().to_u32().filter(|d| index.is_integer() && (2..=64).contains(d))?;
                Self::of(under)?.root(degree)
            }
            Node::Pow(base, exponent) => Self::power(base, exponent),
            Node::Call(func, arguments) => Self::call(*func, arguments),
            _ => None,
        }
    }

    fn power(base: &Node, exponent: &Node) -> Option<Self> {
        let exponent = match exponent {
            Node::Number(value) => Some(value.clone()),
            Node::Neg(inner) => match &**inner {
                Node::Number(value) => Some(-value),
                _ => None,
            },
            Node::Div(above, below) => match (&**above, &**below) {
                (Node::Number(a), Node::Number(b)) if !b.is_zero() => Some(a / b),
                _ => None,
            },
            _ => None,
        }
        .ok_or(exponent);
        let base = Self::of(base)?;
        let rational = match exponent {
            Ok(rational) => rational,
            Err(node) => return base.ln()?.times(&Self::of(node)?)?.exp(),
        };
        let degree = rational.denom().to_u32().filter(|d| *d <= 64)?;
        let power = rational.numer().to_i64().filter(|p| p.abs() <= 2000)?;
        let base = if degree == 1 { base } else { base.root(degree)? };
        let mut result = Self::whole(1);
        let (mut square, mut left) = (base, power.unsigned_abs());
        while left > 0 {
            if left % 2 == 1 {
                result = result.times(&square)?;
            }
            left /= 2;
            if left > 0 {
                square = square.times(&square)?;
            }
        }
        if power < 0 { Self::whole(1).over(&result) } else { Some(result) }
    }

    fn call(func: Func, arguments: &[Node]) -> Option<Self> {
        let argument = |at: usize| {
            let node = arguments.get(at)?;
            if func.of_angle() { Self::of(&node.in_radians()) } else { Self::of(node) }
        };
        let x = argument(0)?;
        if arguments.len() == 2 {
            return if func == Func::Log { argument(1)?.ln()?.over(&x.ln()?) } else { None };
        }
        match func {
            Func::Ln => x.ln(),
            Func::Log => x.ln()?.over(&Self::whole(10).ln()?),
            Func::Exp => x.exp(),
            Func::Abs => Some(Self { mid: x.mid.abs(), off: x.off }),
            Func::Sin => x.sin(),
            Func::Cos => x.cos(),
            Func::Tan => x.sin()?.over(&x.cos()?),
            Func::Cot => x.cos()?.over(&x.sin()?),
            Func::Sec => Self::whole(1).over(&x.cos()?),
            Func::Csc => Self::whole(1).over(&x.sin()?),
            Func::Arctan => x.arctan(),
            Func::Arcsin => x.arcsin(),
            Func::Arccos => Self::half_pi().plus(&x.arcsin()?.negated()),
            Func::Arccot => Self::half_pi().plus(&x.arctan()?.negated()),
            _ => None,
        }
    }

    fn negated(self) -> Self {
        Self { mid: -self.mid, off: self.off }
    }

    fn plus(&self, other: &Self) -> Option<Self> {
        Self::new(&self.mid + &other.mid, &self.off + &other.off)
    }

    fn times(&self, other: &Self) -> Option<Self> {
        let off = self.mid.abs() * &other.off + other.mid.abs() * &self.off + &self.off * &other.off;
        Self::new((&self.mid * &other.mid) >> BITS, (off >> BITS) + 2)
    }

    fn over(&self, other: &Self) -> Option<Self> {
        let size = other.mid.abs();
        if size <= &other.off * 4 {
            return None;
        }
        let quotient: BigInt = (&self.mid << BITS) / &other.mid;
        // (a + δ) / (b + ε): the bounds of both, at the smaller size
        let off = ((&self.off << BITS) + quotient.abs() * &other.off) * 2 / &size;
        Self::new(quotient, off + 2)
    }

    fn root(&self, degree: u32) -> Option<Self> {
        if self.mid.is_negative() {
            return if degree % 2 == 1 {
                self.clone().negated().root(degree).map(Self::negated)
            } else {
                None
            };
        }
        if self.mid <= &self.off * 4 {
            return (self.mid.is_zero() && self.off.is_zero()).then(|| Self::whole(0));
        }
        let mid = (&self.mid << (BITS * u64::from(degree - 1))).nth_root(degree);
        // the root's relative bound is the degree-th part; twice that for safety
        let off = &self.off * &mid * 2 / &self.mid;
        Self::new(mid, off + 2)
    }

    fn half(&self) -> Self {
        Self { mid: &self.mid >> 1, off: (&self.off >> 1) + 1 }
    }

    /// Σ xᵏ·cₖ as long as terms are not zero, where each term is the one before times x over a whole number.
    fn series(first: Self, x: &Self, below: impl Fn(i64) -> i64) -> Option<Self> {
        let (mut sum, mut term) = (first.clone(), first);
        for step in 1..400 {
            term = term.times(x)?;
            term = Self::new(&term.mid / below(step), &term.off / below(step).abs() + 2)?;
            if term.mid.bits() < 3 {
                break;
            }
            sum = sum.plus(&term)?;
        }
        Self::new(sum.mid, sum.off + 8)
    }

    fn exp(&self) -> Option<Self> {
        /// Halvings of the argument.
        const HALVINGS: u32 = 16;
        if self.mid.abs() > Self::whole(200).mid {
            return None;
        }
        let small = Self { mid: &self.mid >> HALVINGS, off: (&self.off >> HALVINGS) + 1 };
        let mut power = Self::series(Self::whole(1), &small, |step| step)?;
        for _ in 0..HALVINGS {
            power = power.times(&power)?;
        }
        Some(power)
    }

    fn ln(&self) -> Option<Self> {
        if self.mid <= &self.off * 4 {
            return None;
        }
        // x = m·2ᵏ with m in ½..1
        let shift = self.mid.bits() as i64 - BITS as i64;
        let scaled = |value: &BigInt| if shift >= 0 { value >> shift } else { value << -shift };
        let mantissa = Self::new(scaled(&self.mid), scaled(&self.off) + 1)?;
        let twos = Self::arctanh(&Self::whole(1).over(&Self::whole(3))?)?;
        let twos = Self { mid: twos.mid * 2 * shift, off: twos.off * 2 * shift.abs() + 1 };
        let ratio = mantissa.plus(&Self::whole(-1))?.over(&mantissa.plus(&Self::whole(1))?)?;
        let rest = Self::arctanh(&ratio)?;
        twos.plus(&rest.plus(&rest)?)
    }

    /// x + x³/3 + x⁵/5 + … for |x| ≤ ⅓; with `alternating`, the arcus tangens.
    fn odd(x: &Self, alternating: bool) -> Option<Self> {
        let square = x.times(x)?;
        let (mut sum, mut power) = (x.clone(), x.clone());
        for step in 1..400_i64 {
            power = power.times(&square)?;
            let sign = if alternating && step % 2 == 1 { -1 } else { 1 };
            let term = Self::new(&power.mid / (sign * (2 * step + 1)), power.off.clone() + 1)?;
            if term.mid.bits() < 3 {
                break;
            }
            sum = sum.plus(&term)?;
        }
        Self::new(sum.mid, sum.off + 8)
    }

    fn arctanh(x: &Self) -> Option<Self> {
        Self::odd(x, false)
    }

    fn arctan(&self) -> Option<Self> {
        /// Times the angle is halved.
        const HALVINGS: u32 = 3;
        let one_ball = Self::whole(1);
        if self.mid.abs() > one() {
            let rest = one_ball.over(self)?.arctan()?;
            let quarter = Self::half_pi();
            let quarter = if self.mid.is_negative() { quarter.negated() } else { quarter };
            return quarter.plus(&rest.negated());
        }
        let mut x = self.clone();
        for _ in 0..HALVINGS {
            let below = one_ball.plus(&one_ball.plus(&x.times(&x)?)?.root(2)?)?;
            x = x.over(&below)?;
        }
        let small = Self::odd(&x, true)?;
        Self::new(small.mid << HALVINGS, small.off << HALVINGS)
    }

    fn arcsin(&self) -> Option<Self> {
        if self.mid.abs() == one() && self.off.is_zero() || self.mid.abs() >= one() - (&self.off * 8 + 8) {
            return None;
        }
        let below = Self::whole(1).plus(&self.times(self)?.negated())?.root(2)?;
        self.over(&below)?.arctan()
    }

    /// Machin's formula.
    fn pi() -> Self {
        let arctan = |n: i64| {
            let x = Self { mid: one() / n, off: BigInt::one() };
            Self::odd(&x, true).map(|ball| (ball.mid, ball.off)).unwrap_or_default()
        };
        let ((a, of_a), (b, of_b)) = (arctan(5), arctan(239));
        Self { mid: a * 16 - b * 4, off: of_a * 16 + of_b * 4 }
    }

    fn half_pi() -> Self {
        Self::pi().half()
    }

    fn sin(&self) -> Option<Self> {
        self.turned(0)
    }

    fn cos(&self) -> Option<Self> {
        self.turned(1)
    }

    /// sin(x + quarters · π/2).
    fn turned(&self, quarters: i64) -> Option<Self> {
        let half_pi = Self::half_pi();
        let turns: BigInt = (&self.mid * 2 + &half_pi.mid) / (&half_pi.mid * 2);
        let turns = turns.to_i64().filter(|n| n.abs() < 1_000_000)?;
        let rest = self.plus(&Self { mid: half_pi.mid * -turns, off: half_pi.off * turns.abs() })?;
        let square = rest.times(&rest)?.negated();
        let quarter = (turns + quarters).rem_euclid(4);
        let value = if quarter % 2 == 0 {
            Self::series(rest, &square, |step| (2 * step) * (2 * step + 1))?
        } else {
            Self::series(Self::whole(1), &square, |step| (2 * step - 1) * (2 * step))?
        };
        Some(if quarter >= 2 { value.negated() } else { value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::lex::{Commas, tokens};
    use crate::math::parse::parse;

    fn ball(text: &str) -> Ball {
        Ball::of(&parse(&tokens(text, Commas::Group)).unwrap()).unwrap()
    }

    #[test]
    fn values_are_those_of_published_digits() {
        for (text, digits) in [
            ("\\pi", "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899"),
            ("e", "2.71828182845904523536028747135266249775724709369995957496696762772407663035354759"),
            ("\\ln 2", "0.69314718055994530941723212145817656807550013436025525412068000949339362196969471"),
            (
                "\\sqrt{2}",
                "1.41421356237309504880168872420969807856967187537694807317667973799073247846210703",
            ),
            ("\\ln 10", "2.30258509299404568401799145468436420760110148862877297603332790096757260967735248"),
            ("\\sin 1", "0.84147098480789650665250232163029899962256306079837106567275170999191040439123966"),
            ("\\cos 1", "0.54030230586813971740093660744297660373231042061792222767009725538110039477447176"),
            ("\\arctan 2", "1.10714871779409050301706546017853704007004764540143264667653920743270"),
            ("\\sqrt[3]{3}", "1.44224957030740838232163831078010958839186925349935057754641619454168"),
        ] {
            let (a, b) = (ball(text), ball(digits));
            let apart = (&a.mid - &b.mid).abs();
            assert!(apart.bits() < BITS - 210, "{text} is off by 2^{}", apart.bits() as i64 - BITS as i64);
            assert!(a.off.bits() < 60, "{text} claims to be off by 2^{}", a.off.bits());
        }
    }

    #[test]
    fn identities_hold_within_the_bounds_and_near_misses_do_not() {
        for (a, b) in [
            ("\\sqrt{5+2\\sqrt{6}}", "\\sqrt{2}+\\sqrt{3}"),
            ("\\ln 6", "\\ln 2+\\ln 3"),
            ("\\arctan\\frac12+\\arctan\\frac13", "\\frac{\\pi}{4}"),
            ("\\sin^2 7+\\cos^2 7", "1"),
            ("\\cos 36^\\circ", "\\frac{1+\\sqrt5}{4}"),
            ("e^{\\ln 7}", "7"),
            ("\\arcsin\\frac12", "\\frac{\\pi}{6}"),
            ("2^{\\log_2 5}", "5"),
        ] {
            let (a, b) = (ball(a), ball(b));
            let apart = (&a.mid - &b.mid).abs();
            if a.mid != b.mid && apart > &a.off + &b.off {
                panic!("{a:?} {b:?}");
            }
        }
        for (a, b) in [
            ("\\sqrt{10^{20}+1}", "10^{10}"),
            ("\\ln 2", "0.6931471805599453094172321214581765680755"),
            ("\\sin 1", "0.8414709848078965066525023216303"),
        ] {
            let (a, b) = (ball(a), ball(b));
            assert!((&a.mid - &b.mid).abs() > a.off + b.off);
        }
    }
}
