//! Powers and roots, exactly.
//!
//! Before: [`super::Algebra::fraction`] meets a power. After: a fraction. Roots of rational numbers become roots of primes.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};

use super::{Algebra, BITS, Exponent, Fraction, POWER, Unknown, small};
use crate::math::node::{Node, Rational};

impl Algebra<'_> {
    pub(super) fn power(&mut self, base: &Node, exponent: &Node) -> Option<Fraction> {
        let exact = self.fraction(exponent)?;
        let base_value = self.fraction(base)?;
        if let Some(power) = exact.rational() {
            if power.is_integer() {
                return self.integer_power(&base_value, power.to_integer().to_i64()?);
            }
            let (p, q) = (power.numer().to_i64()?, power.denom().to_i64()?);
            if q > 64 || p.abs() > POWER * 64 {
                return None;
            }
            return self.root(&base_value, p, q);
        }
        // e^{x+1} and 2^{n}: an unknown of its own; a sum in the exponent is left to the numbers
        let (base, exponent) = (self.written(&base_value), self.written(&exact));
        Some(self.just(Unknown::Opaque(format!("({base})^({exponent})"))))
    }

    fn integer_power(&mut self, base: &Fraction, power: i64) -> Option<Fraction> {
        if power < 0 {
            let upside_down = self.divide(&Fraction::constant(Rational::one()), base)?;
            return self.integer_power(&upside_down, power.checked_neg()?);
        }
        if let Some(value) = base.rational() {
            if power == 0 && value.is_zero() {
                return None;
            }
            let bits = value.numer().bits().max(value.denom().bits());
            let power = if bits > 1 { power as u64 } else { power as u64 % 2 + 2 };
            if bits.checked_mul(power)? > BITS {
                return None;
            }
            self.pay(1 + (bits * power / 64).pow(2) / 16)?;
            return Some(Fraction::constant(Pow::pow(value, power)));
        }
        // x^{100} has one term, however high the power
        let single = base.above.len() == 1 && base.below.len() == 1;
        if power > if single { 10_000 } else { POWER } {
            return None;
        }
        let (mut result, mut square, mut left) = (Fraction::constant(Rational::one()), base.clone(), power);
        while left > 0 {
            if left % 2 == 1 {
                result = self.multiply(&result, &square)?;
            }
            left /= 2;
            if left > 0 {
                square = self.multiply(&square, &square)?;
            }
        }
        Some(result)
    }

    /// base^(p/q), the real one for an odd q.
    pub(super) fn root(&mut self, base: &Fraction, p: i64, q: i64) -> Option<Fraction> {
        if base.is_zero() {
            return (p > 0).then(|| Fraction::constant(Rational::zero()));
        }
        if let Some(value) = base.rational() {
            if let Some(found) = self.root_of_rational(&value, p, q) {
                return Some(found);
            }
        } else if let (Some((mono, coefficient)), Some(below)) = (base.single(), base.below_constant()) {
            // the root of a number times a root of something positive: \sqrt{2\pi}, \sqrt{\sqrt{2}}
            let positive = mono.iter().all(|(at, power)| match &self.unknowns[*at as usize] {
                Unknown::Pi | Unknown::E | Unknown::Prime(_) => true,
                Unknown::Variable(_) => power.is_integer() && power.numer() % (2 * q) == 0,
                _ => false,
            });
            if positive && let Some(number) = self.root_of_rational(&(coefficient / below), p, q) {
                let mut powers = BTreeMap::new();
                let mut scale = Rational::one();
                for (at, power) in mono {
                    self.raise(&mut powers, &mut scale, *at, *power * Exponent::new(p, q))?;
                }
                let poly = BTreeMap::from([(powers.into_iter().collect(), scale)]);
                let rest = Fraction::of(poly);
                return self.multiply(&number, &rest);
            }
        }
        let written = self.written(base);
        let opaque = self.just(Unknown::Opaque(format!("root {q} of {written}")));
        self.integer_power(&opaque, p)
    }

    fn root_of_rational(&mut self, value: &Rational, p: i64, q: i64) -> Option<Fraction> {
        let mut scale = Rational::one();
        let mut powers = BTreeMap::new();
        if value.is_negative() {
            if q % 2 == 0 {
                if q != 2 {
                    return None;
                }
                let i = self.unknown(Unknown::I);
                self.raise(&mut powers, &mut scale, i, Exponent::from_integer(p))?;
            } else if p % 2 != 0 {
                scale = -scale;
            }
        }
        for (number, sign) in [(value.numer().abs(), 1), (value.denom().clone(), -1)] {
            for (prime, count) in factors(&number)? {
                self.pay(1)?;
                let at = self.unknown(Unknown::Prime(prime));
                self.raise(&mut powers, &mut scale, at, Exponent::new(sign * count * p, q))?;
            }
        }
        Some(Fraction::of(BTreeMap::from([(powers.into_iter().collect(), scale)])))
    }

    /// One more power of an unknown in a monomial: whole powers of primes, and of i², go into the coefficient.
    pub(super) fn raise(
        &mut self,
        powers: &mut BTreeMap<u32, Exponent>,
        scale: &mut Rational,
        at: u32,
        power: Exponent,
    ) -> Option<()> {
        let sum = powers.get(&at).copied().unwrap_or_default() + power;
        let kept = match &self.unknowns[at as usize] {
            Unknown::Prime(prime) => {
                let whole = sum.floor().to_integer();
                if whole != 0 {
                    if whole.unsigned_abs() * 64 > BITS {
                        return None;
                    }
                    *scale *= Pow::pow(Rational::from_integer((*prime).into()), whole as i32);
                    small(scale)?;
                }
                sum - Exponent::from_integer(whole)
            }
            Unknown::I if sum.is_integer() => {
                let turn = sum.to_integer().rem_euclid(4);
                if turn >= 2 {
                    *scale = -std::mem::take(scale);
                }
                Exponent::from_integer(turn % 2)
            }
            _ => sum,
        };
        if sum.numer().abs() > 1_000_000 || *sum.denom() > 1_000_000 {
            return None;
        }
        if kept.is_zero() {
            powers.remove(&at);
        } else {
            powers.insert(at, kept);
        }
        Some(())
    }
}

/// Primes and how often; `None` if what is left after division by small ones is too large to tell.
fn factors(number: &BigInt) -> Option<Vec<(u64, i64)>> {
    let mut left = number.to_u128()?;
    let mut found = Vec::new();
    let mut divide = |left: &mut u128, prime: u64| {
        let mut count = 0;
        while left.is_multiple_of(u128::from(prime)) {
            *left /= u128::from(prime);
            count += 1;
        }
        if count > 0 {
            found.push((prime, count));
        }
    };
    divide(&mut left, 2);
    let mut prime = 3;
    while prime < 3000 && u128::from(prime * prime) <= left {
        divide(&mut left, prime);
        prime += 2;
    }
    if left > 1 {
        // no factor below 3000: a prime, or the square of one, or out of reach
        if left < 3000 * 3000 || prime < 3000 {
            found.push((u64::try_from(left).ok()?, 1));
        } else {
            let root = left.isqrt();
            if root * root == left && root < 3000 * 3000 {
                found.push((root as u64, 2));
            } else {
                return None;
            }
        }
    }
    Some(found)
}
