//! The distributions that intervals and tests are read from: normal, t, beta, gamma, binomial, Poisson.
//!
//! `statrs` gives ln Γ and the error function. Its incomplete beta function stops after 140 terms, which is too few for
//! parameters above some ten thousand, and its inverse is searched in (0.0001, 0.9999); so those two are here.

use statrs::function::{
    erf::erfc_inv,
    gamma::{gamma_lr, ln_gamma},
};

/// The z with P(|Z| < z) = `confidence`, Z standard normal.
pub(super) fn normal_two_sided(confidence: f64) -> f64 {
    std::f64::consts::SQRT_2 * erfc_inv(1.0 - confidence)
}

/// P(Z < z).
pub(super) fn normal_cdf(z: f64) -> f64 {
    0.5 * statrs::function::erf::erfc(-z / std::f64::consts::SQRT_2)
}

/// The z with P(Z < z) = `p`.
pub(super) fn normal_quantile(p: f64) -> f64 {
    -std::f64::consts::SQRT_2 * erfc_inv(2.0 * p)
}

/// The t with P(|T| < t) = `confidence`, T of Student's distribution with `freedom` degrees of freedom.
pub(super) fn t_two_sided(confidence: f64, freedom: f64) -> f64 {
    // P(|T| > t) = I_x(ν/2, 1/2) with x = ν/(ν + t²); 1 − x is found, which is small where ν is large
    let rest = beta_quantile(confidence, 0.5, freedom / 2.0);
    (freedom * rest / (1.0 - rest)).sqrt()
}

/// P(|T| > |t|), T of Student's distribution with `freedom` degrees of freedom. 0 if t is infinite.
pub(super) fn t_p_value(t: f64, freedom: f64) -> f64 {
    beta_cdf(freedom / (freedom + t * t), freedom / 2.0, 0.5)
}

/// ln C(n, k).
pub(super) fn ln_choose(n: usize, k: usize) -> f64 {
    ln_gamma(n as f64 + 1.0) - ln_gamma(k as f64 + 1.0) - ln_gamma((n - k) as f64 + 1.0)
}

/// P(X = k), X binomial of n trials with 0 < p < 1.
pub(super) fn binomial(n: usize, k: usize, p: f64) -> f64 {
    (ln_choose(n, k) + k as f64 * p.ln() + (n - k) as f64 * (-p).ln_1p()).exp()
}

/// P(X = k), X Poisson with this mean, above 0.
pub(super) fn poisson(k: usize, mean: f64) -> f64 {
    (k as f64 * mean.ln() - mean - ln_gamma(k as f64 + 1.0)).exp()
}

/// The x with P(X < x) = `p`, X of the gamma distribution with this shape, at least 1, and scale 1: Newton steps inside a
/// bracket that only shrinks, halving it where they leave it.
pub(super) fn gamma_quantile(p: f64, shape: f64) -> f64 {
    // by Wilson and Hilferty's cube
    let ninth = 1.0 / (9.0 * shape);
    let cube = shape * (1.0 - ninth + normal_quantile(p) * ninth.sqrt()).powi(3);
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut x = if cube > 1e-3 * shape { cube } else { 1e-3 * shape };
    let ln_gamma = ln_gamma(shape);
    for _ in 0..300 {
        let error = gamma_lr(shape, x) - p;
        if error > 0.0 {
            high = x
        } else {
            low = x
        }
        let newton = x - error / ((shape - 1.0) * x.ln() - x - ln_gamma).exp();
        let middle = if high.is_finite() { 0.5 * (low + high) } else { 2.0 * x };
        let next = if newton > low && newton < high { newton } else { middle };
        if (next - x).abs() <= 1e-13 * x || high - low <= 1e-15 * low {
            return next;
        }
        x = next;
    }
    x
}

/// I_x(a, b), the distribution function of the beta distribution: a continued fraction by Lentz's method.
///
/// # Source
/// W. Press et al., *Numerical Recipes* (3rd edition, 2007), §6.4.
pub(super) fn beta_cdf(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * continued_fraction(x, a, b) / a
    } else {
        1.0 - front * continued_fraction(1.0 - x, b, a) / b
    }
}

fn continued_fraction(x: f64, a: f64, b: f64) -> f64 {
    let away = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    // some √(a + b) terms are needed where it converges slowest
    for m in 1..20_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for term in [even, odd] {
            d = 1.0 / away(1.0 + term * d);
            c = away(1.0 + term / c);
            change = c * d;
            fraction *= change;
        }
        if (change - 1.0).abs() < 1e-15 {
            break;
        }
    }
    fraction
}

/// The x with I_x(a, b) = `p`: Newton steps inside a bracket that only shrinks, halving it where they leave it.
pub(super) fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    let mut x = a / (a + b);
    let ln_beta = ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b);
    for _ in 0..200 {
        let error = beta_cdf(x, a, b) - p;
        if error > 0.0 {
            high = x
        } else {
            low = x
        }
        let density = ((a - 1.0) * x.ln() + (b - 1.0) * (-x).ln_1p() - ln_beta).exp();
        let newton = x - error / density;
        let next = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
        if (next - x).abs() <= 1e-14 * x || high - low <= 1e-15 * low {
            return next;
        }
        x = next;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wanted numbers are scipy's.
    fn close(found: f64, wanted: f64, tolerance: f64) {
        assert!((found - wanted).abs() <= tolerance * wanted.abs(), "{found}, not {wanted}");
    }

    #[test]
    fn the_beta_distribution_is_right_also_for_large_parameters() {
        close(beta_cdf(0.4, 2.0, 3.0), 0.5248, 1e-12);
        close(beta_cdf(0.1, 0.5, 0.5), 0.204_832_764_699_133_45, 1e-12);
        close(beta_cdf(0.001, 0.1, 20.0), 0.707_997_008_423_415_6, 1e-12);
        close(beta_cdf(0.998, 3e4, 70.0), 0.884_924_432_718_309_1, 1e-9);
        close(beta_cdf(0.5005, 5e5, 5e5), 0.841_344_746_068_556_9, 1e-8);
        assert_eq!((beta_cdf(0.0, 2.0, 3.0), beta_cdf(1.0, 2.0, 3.0)), (0.0, 1.0));
    }

    #[test]
    fn its_quantiles_are_right_also_near_0() {
        close(beta_quantile(0.025, 5.0, 4.0), 0.244_863_216_366_551_6, 1e-11);
        close(beta_quantile(0.95, 0.5, 500.0), 0.003_836_003_084_633_424_6, 1e-11);
        close(beta_quantile(0.005, 1.0, 8.0), 0.000_626_371_475_374_834, 1e-11);
        close(beta_quantile(0.01, 0.3, 0.3), 1.536_602_076_389_846_8e-6, 1e-10);
        close(beta_quantile(0.975, 1e6, 1e6), 0.500_692_951_666_050_5, 1e-10);
    }

    #[test]
    fn students_t_is_right_from_one_degree_of_freedom_to_a_million() {
        let table = [
            (1.0, 12.706_204_736_174_694),
            (2.0, 4.302_652_729_749_462),
            (9.0, 2.262_157_162_798_205),
            (199.0, 1.971_956_544_251_753_3),
            (1e6, 1.959_966_356_814_107),
        ];
        for (freedom, wanted) in table {
            close(t_two_sided(0.95, freedom), wanted, 1e-8);
        }
        close(t_p_value(2.5, 9.0), 0.033_861_827_682_985_735, 1e-10);
        close(t_p_value(-12.0, 100.0), 4.395_087_715_604_393e-21, 1e-9);
        assert_eq!((t_p_value(0.0, 9.0), t_p_value(f64::INFINITY, 9.0)), (1.0, 0.0));
    }

    #[test]
    fn the_gamma_distributions_quantiles_are_right_from_shape_1_on() {
        // χ² of 2 s degrees of freedom is twice a gamma of shape s; shape 1: −ln(1 − p)
        close(gamma_quantile(0.975, 1.0), -(0.025_f64.ln()), 1e-10);
        close(gamma_quantile(0.025, 5.0), 1.623_486_390_118_382, 1e-9);
        close(gamma_quantile(0.95, 1000.0), 1_052.577_423_493_29, 1e-6);
        for shape in [1.0, 1.3, 7.5, 300.0, 1e5] {
            for p in [1e-6, 0.025, 0.5, 0.975] {
                close(gamma_lr(shape, gamma_quantile(p, shape)), p, 1e-9);
            }
        }
    }

    #[test]
    fn the_normal_distribution_and_the_binomial_are_right() {
        close(normal_two_sided(0.95), 1.959_963_984_540_054, 1e-12);
        close(normal_quantile(0.8), 0.841_621_233_572_914_3, 1e-12);
        close(normal_cdf(1.3), 0.903_199_515_414_389_7, 1e-10);
        let sum: f64 = (0..=1024).map(|k| binomial(1024, k, 0.3)).sum();
        close(sum, 1.0, 1e-11);
        close(poisson(3, 2.0), 0.180_447_044_315_483_55, 1e-12);
    }
}
