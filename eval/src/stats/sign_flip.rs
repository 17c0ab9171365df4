//! Whether differences could as well have had other signs.
//!
//! Before: the differences of two systems, question by question. After: a p-value for [`Paired`](super::Paired).

use data::Seed;

use super::bootstrap::Stream;

/// The share of sign settings whose sum is at least as far from 0 as the one found: (1 + such flips)/(1 + flips), with
/// `flips` drawn at random. Rounding does not break ties.
///
/// # Source
/// R. Fisher, *The Design of Experiments* (1935), §21; the two ones: B. Phipson and G. Smyth, *Permutation P-values Should
/// Never Be Zero*, Statistical Applications in Genetics and Molecular Biology 9 (2010).
pub(super) fn sign_flip(differences: &[f64], seed: Seed, flips: usize) -> f64 {
    let differences: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
    let size: f64 = differences.iter().map(|d| d.abs()).sum();
    let found = differences.iter().sum::<f64>().abs() - 1e-12 * size;
    let stream = Stream::of(seed);
    let as_far = (0..flips)
        .filter(|flip| {
            let mut stream = stream.at(*flip);
            let mut sum = 0.0;
            for chunk in differences.chunks(64) {
                let mut bits = stream.bits();
                for difference in chunk {
                    sum += if bits & 1 == 1 { *difference } else { -*difference };
                    bits >>= 1;
                }
            }
            sum.abs() >= found
        })
        .count();
    (1 + as_far) as f64 / (1 + flips) as f64
}

#[cfg(test)]
mod tests {
    use super::super::{distributions::t_p_value, mean, simulate, variance};
    use super::*;

    #[test]
    fn few_differences_have_few_settings() {
        // of 2ⁿ settings, two are as extreme as all alike
        for n in [1, 3, 6] {
            let found = sign_flip(&vec![0.5; n], Seed(1), 20_000);
            let wanted = 2.0_f64.powi(1 - n as i32);
            assert!((found - wanted).abs() < 0.01, "{n}: {found}, not {wanted}");
        }
        assert_eq!(sign_flip(&[0.0; 9], Seed(1), 100), 1.0);
        assert_eq!(sign_flip(&[1.0, -1.0], Seed(1), 100), 1.0);
    }

    #[test]
    fn questions_without_a_difference_do_not_matter() {
        let with = sign_flip(&[0.5, 0.0, 0.25, 0.0, -0.125, 0.5], Seed(3), 500);
        assert_eq!(with, sign_flip(&[0.5, 0.25, -0.125, 0.5], Seed(3), 500));
    }

    #[test]
    fn of_normal_differences_it_is_students_p_value() {
        let mut stream = simulate::Stream::new(2);
        for shift in [0.0, 0.1, 0.2] {
            let differences: Vec<f64> = (0..150).map(|_| shift + stream.normal()).collect();
            let t = mean(&differences) / (variance(&differences) / 150.0).sqrt();
            let (found, wanted) = (sign_flip(&differences, Seed(4), 20_000), t_p_value(t, 149.0));
            assert!((found - wanted).abs() < 0.015, "{shift}: {found}, not {wanted}");
        }
    }
}
