//! How often at least one of k draws is right, and how often all are.
//!
//! Before: how many of a question's n draws were right. After: a number for each question, to be averaged over
//! questions by [`clustered`](super::clustered()) or compared by [`Paired`](super::Paired).

use super::StatsError;

/// The share of choices of k among n draws, c of them right, that hold a right one: 1 − C(n − c, k)/C(n, k).
///
/// The unbiased estimate of 1 − (1 − p)ᵏ. Computed as 1 − ∏ (1 − k/i) over i = n − c + 1 … n; exactly 0 where none is
/// right and exactly 1 where fewer than k are wrong.
///
/// # Errors
/// If k is 0 or above n, or c is above n.
/// # Source
/// M. Chen et al., *Evaluating Large Language Models Trained on Code*, arXiv:2107.03374 (2021), §2.1.
pub fn pass_at_k(n: usize, right: usize, k: usize) -> Result<f64, StatsError> {
    check(n, right, k)?;
    Ok(if right == 0 { 0.0 } else { 1.0 - all_of(n, n - right, k) })
}

/// The share of choices of k among n draws, c of them right, that hold right ones only: C(c, k)/C(n, k).
///
/// The unbiased estimate of pᵏ: how far a policy can be relied on. 0 where fewer than k are right.
///
/// # Errors
/// If k is 0 or above n, or c is above n.
/// # Source
/// S. Yao et al., *τ-bench*, arXiv:2406.12045 (2024), there pass^k.
pub fn pass_hat_k(n: usize, right: usize, k: usize) -> Result<f64, StatsError> {
    check(n, right, k)?;
    Ok(all_of(n, right, k))
}

pub(super) fn check(n: usize, right: usize, k: usize) -> Result<(), StatsError> {
    check_right(n, right)?;
    if k == 0 || k > n { Err(StatsError::Choice { found: k, draws: n }) } else { Ok(()) }
}

pub(super) fn check_right(n: usize, right: usize) -> Result<(), StatsError> {
    if right > n { Err(StatsError::Right { found: right, total: n }) } else { Ok(()) }
}

/// C(c, k)/C(n, k), by the shorter of its two products.
fn all_of(n: usize, c: usize, k: usize) -> f64 {
    if c < k {
        return 0.0;
    }
    let (share, terms) = if k < n - c { (c, k) } else { (n - k, n - c) };
    (0..terms).map(|j| (share - j) as f64 / (n - j) as f64).product()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C(n, k), exactly.
    fn choose(n: usize, k: usize) -> f64 {
        if k > n { 0.0 } else { (0..k).fold(1.0, |c, j| c * (n - j) as f64 / (j + 1) as f64) }
    }

    #[test]
    fn they_are_shares_of_all_choices() {
        for n in 1..=12 {
            for (right, k) in (0..=n).flat_map(|right| (1..=n).map(move |k| (right, k))) {
                let pass = 1.0 - choose(n - right, k) / choose(n, k);
                let all = choose(right, k) / choose(n, k);
                assert!((pass_at_k(n, right, k).unwrap() - pass).abs() < 1e-14, "{n}, {right}, {k}");
                assert!((pass_hat_k(n, right, k).unwrap() - all).abs() < 1e-14, "{n}, {right}, {k}");
            }
        }
    }

    #[test]
    fn with_one_draw_both_are_the_share_and_with_all_draws_they_are_certain() {
        assert_eq!(pass_at_k(7, 3, 1), Ok(1.0 - 4.0 / 7.0));
        assert!((pass_hat_k(7, 3, 1).unwrap() - 3.0 / 7.0).abs() < 1e-15);
        assert_eq!((pass_at_k(7, 1, 7), pass_at_k(7, 0, 7)), (Ok(1.0), Ok(0.0)));
        assert_eq!((pass_hat_k(7, 7, 7), pass_hat_k(7, 6, 7)), (Ok(1.0), Ok(0.0)));
        assert_eq!(pass_at_k(8, 5, 4), Ok(1.0), "only three are wrong");
    }

    #[test]
    fn they_are_unbiased() {
        // Σ over right of binomial(right; n, p) · estimate = 1 − (1 − p)ᵏ and pᵏ
        let (n, k, p) = (20, 5, 0.3);
        let expected = |of: fn(usize, usize, usize) -> Result<f64, StatsError>| -> f64 {
            (0..=n).map(|c| super::super::distributions::binomial(n, c, p) * of(n, c, k).unwrap()).sum()
        };
        assert!((expected(pass_at_k) - (1.0 - 0.7_f64.powi(5))).abs() < 1e-12);
        assert!((expected(pass_hat_k) - 0.3_f64.powi(5)).abs() < 1e-12);
    }

    #[test]
    fn thousands_of_draws_are_no_trouble() {
        // one right of n: it is among k with chance k/n
        assert!((pass_at_k(100_000, 1, 250).unwrap() - 0.0025).abs() < 1e-12);
        assert!((pass_hat_k(1024, 1023, 512).unwrap() - 0.5).abs() < 1e-12);
        assert!(pass_at_k(1024, 512, 64).unwrap() > 1.0 - 1e-15);
    }

    #[test]
    fn impossible_choices_say_what_is_wrong() {
        let message = |k| pass_at_k(8, 3, k).unwrap_err().to_string();
        assert_eq!(message(9), "k = 9, but the question has 8 draws: k lies between 1 and 8");
        assert_eq!(message(0), "k = 0, but the question has 8 draws: k lies between 1 and 8");
        assert_eq!(pass_hat_k(8, 9, 1).unwrap_err().to_string(), "9 right of 8 draws: at most 8 can be");
    }
}
