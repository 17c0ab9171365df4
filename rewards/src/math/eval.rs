//! An expression as a number, with a bound on its error.
//!
//! Before: [`super::poly`] could not decide exactly. After: [`super::compare`] takes two values as equal if they differ by no
//! more than their bounds. The bound of every operation is the derivative times the bounds of what goes in, plus rounding
//! (4 units in the last place for functions of the standard library), to first order.

use num_traits::ToPrimitive;

use super::node::{Func, Node};

/// A complex number, and how far off it may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Value {
    pub(crate) re: f64,
    pub(crate) im: f64,
    pub(crate) error: f64,
}

/// Where variables stand at.
pub(crate) type Point<'a> = &'a dyn Fn(&str) -> f64;

const ULP: f64 = f64::EPSILON;

impl Value {
    fn real(re: f64) -> Self {
        Self { re, im: 0.0, error: re.abs() * ULP }
    }

    pub(crate) fn size(self) -> f64 {
        self.re.hypot(self.im)
    }

    /// With rounding added, or `None` if it is not finite or means nothing.
    fn checked(self) -> Option<Self> {
        let error = self.error + 4.0 * ULP * self.size();
        (self.re.is_finite() && self.im.is_finite() && error.is_finite()).then_some(Self { error, ..self })
    }

    fn plus(self, other: Self) -> Option<Self> {
        // what cancels was rounded at the size of what went in
        let rounding = ULP * (self.size() + other.size());
        let error = self.error + other.error + rounding;
        Self { re: self.re + other.re, im: self.im + other.im, error }.checked()
    }

    fn times(self, other: Self) -> Option<Self> {
        let error = self.size() * other.error + other.size() * self.error + self.error * other.error;
        if !(self.size() * other.size()).is_normal() && self.size() > 0.0 && other.size() > 0.0 {
            return None;
        }
        Self {
            re: self.re * other.re - self.im * other.im,
            im: self.re * other.im + self.im * other.re,
            error: error + 2.0 * ULP * self.size() * other.size(),
        }
        .checked()
    }

    fn inverse(self) -> Option<Self> {
        let size = self.size();
        if size <= self.error * 2.0 || size == 0.0 {
            return None;
        }
        let square = size * size;
        Self { re: self.re / square, im: -self.im / square, error: 2.0 * self.error / square }.checked()
    }

    fn exp(self) -> Option<Self> {
        let size = self.re.exp();
        if !size.is_normal() {
            return None; // 5^{-2024} is not 0
        }
        let error = size * (self.error + ULP * self.size()).min(1e9);
        Self { re: size * self.im.cos(), im: size * self.im.sin(), error }.checked()
    }

    fn ln(self) -> Option<Self> {
        let size = self.size();
        if size <= self.error * 2.0 {
            return None;
        }
        Self { re: size.ln(), im: self.im.atan2(self.re), error: 2.0 * self.error / size + ULP }.checked()
    }

    fn is_real(self) -> bool {
        self.im == 0.0
    }

    /// A real function with this derivative at the point.
    fn apply(self, value: f64, derivative: f64) -> Option<Self> {
        if !self.is_real() || derivative.is_nan() {
            return None;
        }
        let error = self.error * (derivative.abs() + 1e-6) + ULP * self.re.abs() * derivative.abs();
        Self { re: value, im: 0.0, error }.checked()
    }

    /// The whole number that it is, as far as one can tell.
    fn whole(self) -> Option<f64> {
        let whole = self.re.round();
        (self.is_real() && (self.re - whole).abs() <= self.error.max(1e-12)).then_some(whole)
    }
}

/// The value of the expression; `None` where it is not defined. Unless `complex`, a root or logarithm of a negative
/// number is not defined either.
pub(crate) fn value(node: &Node, point: Point<'_>, complex: bool) -> Option<Value> {
    let of = |node: &Node| value(node, point, complex);
    match node {
        Node::Number(number) => {
            let re = number.to_f64()?;
            Value { re, im: 0.0, error: re.abs() * ULP }.checked()
        }
        Node::Variable(name) => Value::real(point(name)).checked(),
        Node::Pi => Value::real(std::f64::consts::PI).checked(),
        Node::E => Value::real(std::f64::consts::E).checked(),
        Node::I => complex.then_some(Value { re: 0.0, im: 1.0, error: 0.0 }),
        Node::Based(digits, base) => {
            let mut sum = 0.0;
            for digit in digits.chars() {
                sum = sum * f64::from(*base) + f64::from(digit.to_digit(*base)?);
            }
            Value::real(sum).checked()
        }
        Node::Add(terms) => terms.iter().try_fold(Value::real(0.0), |sum, term| sum.plus(of(term)?)),
        Node::Mul(factors) => {
            factors.iter().try_fold(Value::real(1.0), |product, factor| product.times(of(factor)?))
        }
        Node::Neg(inner) => of(inner).map(|v| Value { re: -v.re, im: -v.im, error: v.error }),
        Node::Div(above, below) => of(above)?.times(of(below)?.inverse()?),
        Node::Pow(base, exponent) => power(of(base)?, of(exponent)?, complex),
        Node::Root(index, under) => root(of(under)?, of(index)?.whole()?, complex),
        Node::Percent(inner) | Node::Degree(inner) | Node::Quantity(inner, _) => of(inner),
        Node::Call(func, arguments) => {
            let mut values = Vec::with_capacity(arguments.len());
            for argument in arguments {
                values.push(if func.of_angle() { of(&argument.in_radians())? } else { of(argument)? });
            }
            call(*func, &values, complex)
        }
        Node::Determinant(rows) => determinant(rows, &of),
        Node::Apply(name, arguments) if arguments.len() == 2 && matches!(name.as_str(), "C" | "P" | "A") => {
            let count = call(Func::Binomial, &[of(&arguments[0])?, of(&arguments[1])?], complex)?;
            match name.as_str() {
                "C" => Some(count),
                _ => count.times(call(Func::Factorial, &[of(&arguments[1])?], complex)?),
            }
        }
        Node::Limit(name, at, body) => limit(name, at, body, point, complex),
        _ => None,
    }
}

fn power(base: Value, exponent: Value, complex: bool) -> Option<Value> {
    if let Some(whole) = exponent.whole().filter(|whole| whole.abs() <= 1024.0) {
        let mut result = Value { re: 1.0, im: 0.0, error: 0.0 };
        let mut square = base;
        let mut left = whole.abs() as u32;
        if left == 0 && base.size() <= base.error {
            return None;
        }
        while left > 0 {
            if left % 2 == 1 {
                result = result.times(square)?;
            }
            left /= 2;
            if left > 0 {
                square = square.times(square)?;
            }
        }
        return if whole < 0.0 { result.inverse() } else { Some(result) };
    }
    if base.size() == 0.0 {
        return (exponent.is_real() && exponent.re > 0.0).then_some(base);
    }
    if base.is_real() && base.re < 0.0 && !complex {
        // the real root of a negative number, if the exponent is a fraction with an odd denominator
        for q in [3.0, 5.0, 7.0, 9.0] {
            let p = Value { re: exponent.re * q, im: 0.0, error: exponent.error * q };
            if let Some(p) = p.whole().filter(|p| p.abs() < 1e6) {
                let size = power(Value { re: -base.re, ..base }, exponent, complex)?;
                return Some(if p % 2.0 == 0.0 { size } else { Value { re: -size.re, ..size } });
            }
        }
        return None;
    }
    base.ln()?.times(exponent)?.exp()
}

fn root(under: Value, degree: f64, complex: bool) -> Option<Value> {
    if !(1.0..=1000.0).contains(&degree) {
        return None;
    }
    if under.is_real() && under.re >= 0.0 {
        let re = if degree == 2.0 { under.re.sqrt() } else { under.re.powf(1.0 / degree) };
        // a root of what may be zero is off by the root of the bound
        let error = if under.re <= under.error {
            under.error.powf(1.0 / degree)
        } else {
            under.error * re / (degree * under.re)
        };
        return Value { re, im: 0.0, error }.checked();
    }
    if under.is_real() && degree % 2.0 == 1.0 {
        let positive = root(Value { re: -under.re, ..under }, degree, complex)?;
        return Some(Value { re: -positive.re, ..positive });
    }
    if !complex {
        return None;
    }
    under.ln()?.times(Value::real(1.0 / degree))?.exp()
}

fn call(func: Func, values: &[Value], complex: bool) -> Option<Value> {
    let two = |derive: fn(f64, f64) -> Option<f64>| {
        let (a, b) = (values.first()?.whole()?, values.get(1)?.whole()?);
        Value::real(derive(a, b)?).checked()
    };
    let x = *values.first()?;
    let r = x.re;
    match func {
        Func::Log if values.len() == 2 => values[1].ln()?.times(x.ln()?.inverse()?),
        _ if values.len() > 1
            && !matches!(func, Func::Binomial | Func::Min | Func::Max | Func::Gcd | Func::Lcm) =>
        {
            None
        }
        Func::Sin => x.apply(r.sin(), r.cos()),
        Func::Cos => x.apply(r.cos(), r.sin()),
        Func::Tan => {
            let cos = r.cos();
            if cos.abs() < 1e-9 {
                return None;
            }
            x.apply(r.tan(), 1.0 / (cos * cos))
        }
        Func::Cot => call(Func::Cos, values, complex)?.times(call(Func::Sin, values, complex)?.inverse()?),
        Func::Sec => call(Func::Cos, values, complex)?.inverse(),
        Func::Csc => call(Func::Sin, values, complex)?.inverse(),
        Func::Arcsin => x.apply(r.asin(), 1.0 / (1.0 - r * r).max(1e-8).sqrt()),
        Func::Arccos => x.apply(r.acos(), 1.0 / (1.0 - r * r).max(1e-8).sqrt()),
        Func::Arctan => x.apply(r.atan(), 1.0 / (1.0 + r * r)),
        Func::Arccot => x.apply(std::f64::consts::FRAC_PI_2 - r.atan(), 1.0 / (1.0 + r * r)),
        Func::Arcsec => call(Func::Arccos, &[x.inverse()?], complex),
        Func::Arccsc => call(Func::Arcsin, &[x.inverse()?], complex),
        Func::Sinh => x.apply(r.sinh(), r.cosh()),
        Func::Cosh => x.apply(r.cosh(), r.sinh()),
        Func::Tanh => x.apply(r.tanh(), 1.0),
        Func::Ln | Func::Log => {
            if !(complex || x.is_real() && r > 0.0) {
                return None;
            }
            let natural = x.ln()?;
            if func == Func::Ln {
                Some(natural)
            } else {
                natural.times(Value::real(std::f64::consts::LOG10_E))
            }
        }
        Func::Exp => x.exp(),
        Func::Abs => Value { re: x.size(), im: 0.0, error: x.error }.checked(),
        Func::Floor | Func::Ceil => {
            if !x.is_real() {
                return None;
            }
            let rounded = match x.whole() {
                Some(whole) => whole,
                None if func == Func::Floor => r.floor(),
                None => r.ceil(),
            };
            Some(Value { re: rounded, im: 0.0, error: 0.0 })
        }
        Func::Factorial => {
            let n = x.whole().filter(|n| (0.0..=170.0).contains(n))?;
            Value::real((1..=n as u32).map(f64::from).product()).checked()
        }
        Func::Binomial => two(|n, k| {
            let k = k.min(n - k);
            (0.0..=200.0)
                .contains(&k)
                .then(|| (0..k as u32).fold(1.0, |c, i| c * (n - f64::from(i)) / f64::from(i + 1)))
        }),
        Func::Min | Func::Max => values.iter().skip(1).try_fold(x, |best, other| {
            let less = other.re < best.re;
            (best.is_real() && other.is_real()).then_some(if less == (func == Func::Min) {
                *other
            } else {
                best
            })
        }),
        Func::Gcd => two(|a, b| Some(gcd(a, b))),
        Func::Lcm => two(|a, b| Some((a * b).abs() / gcd(a, b)).filter(|v| v.is_finite())),
    }
}

/// The limit as what Richardson's extrapolation comes to, if it settles.
fn limit(name: &str, at: &Node, body: &Node, point: Point<'_>, complex: bool) -> Option<Value> {
    /// Halvings of the distance.
    const STEPS: usize = 7;
    // each limit takes many values, and each limit in it as many for each of these
    if body.any(&|node| matches!(node, Node::Limit(..))) {
        return None;
    }
    let infinite = match at {
        Node::Infinity => Some(1.0),
        Node::Neg(inner) if **inner == Node::Infinity => Some(-1.0),
        _ => None,
    };
    let center = if infinite.is_some() { 0.0 } else { value(at, point, complex)?.re };
    let along = |side: f64| {
        let mut table: Vec<f64> = Vec::new();
        let mut last: Option<f64> = None;
        for step in 0..STEPS {
            let distance = 0.125 / f64::from(1 << step);
            let x = match infinite {
                Some(sign) => sign / distance,
                None => center + side * distance,
            };
            let inner = |own: &str| if own == name { x } else { point(own) };
            let now = value(body, &inner, complex).filter(|v| v.is_real())?.re;
            let mut column = now;
            let mut factor = 2.0;
            for before in &mut table {
                let finer = column + (column - *before) / (factor - 1.0);
                *before = std::mem::replace(&mut column, finer);
                factor *= 2.0;
            }
            table.push(column);
            if step + 1 == STEPS {
                let best = *table.last()?;
                let near = last.is_some_and(|last| (last - best).abs() <= 1e-8 * best.abs().max(1e-3));
                return near.then_some(best);
            }
            last = Some(column);
        }
        None
    };
    let right = along(1.0)?;
    let left = if infinite.is_some() { right } else { along(-1.0)? };
    let apart = (right - left).abs();
    let size = right.abs().max(1e-3);
    (apart <= 1e-8 * size).then_some(Value { re: 0.5 * (right + left), im: 0.0, error: 1e-8 * size })
}

fn gcd(a: f64, b: f64) -> f64 {
    let (mut a, mut b) = (a.abs(), b.abs());
    while b > 0.0 {
        (a, b) = (b, a % b);
    }
    a
}

fn determinant(rows: &[Vec<Node>], of: &dyn Fn(&Node) -> Option<Value>) -> Option<Value> {
    if rows.len() != rows.first()?.len() || rows.len() > 4 {
        return None;
    }
    if rows.len() == 1 {
        return of(&rows[0][0]);
    }
    let mut sum = Value::real(0.0);
    for column in 0..rows.len() {
        let minor: Vec<Vec<Node>> = rows[1..]
            .iter()
            .map(|row| {
                row.iter().enumerate().filter(|(at, _)| *at != column).map(|(_, n)| n.clone()).collect()
            })
            .collect();
        let sign = Value::real(if column % 2 == 1 { -1.0 } else { 1.0 });
        sum = sum.plus(of(&rows[0][column])?.times(determinant(&minor, of)?)?.times(sign)?)?;
    }
    Some(sum)
}
