//! How the questions of a benchmark differ: what a few draws of one tell, given the draws of all.

/// Shares at which the distribution over questions may have mass: dense near 0 and 1, and both included.
const GRID: usize = 21;
const STEPS: usize = 12;

/// E[p(1 − p)] of each question given its (right, draws), under a distribution of p over questions that makes all draws
/// likely: some steps of EM from equal mass on the grid, with half a question spread over it throughout. So 8 of 8 counts as
/// nearly certain where many questions are at 1, and as luck where none is.
///
/// Where the next draws go may depend on the draws so far: the likelihood is the same.
///
/// # Source
/// J. Kiefer and J. Wolfowitz, *Consistency of the Maximum Likelihood Estimator in the Presence of Infinitely Many
/// Incidental Parameters*, Annals of Mathematical Statistics 27 (1956); by EM: N. Laird, JASA 73 (1978).
pub(super) fn likely_variances(counts: &[(usize, usize)]) -> Vec<f64> {
    let grid: [f64; GRID] =
        std::array::from_fn(|k| (std::f64::consts::FRAC_PI_2 * k as f64 / (GRID - 1) as f64).sin().powi(2));
    let logs = grid.map(|p| (p.ln(), (1.0 - p).ln()));
    let power = |log: f64, of: usize| if of == 0 { 0.0 } else { of as f64 * log };
    let likelihoods: Vec<[f64; GRID]> = counts
        .iter()
        .map(|(right, n)| {
            let log = logs.map(|(p, q)| power(p, *right) + power(q, n - right));
            let most = log.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            log.map(|log| (log - most).exp())
        })
        .collect();
    let mut mass = [1.0 / GRID as f64; GRID];
    for _ in 0..STEPS {
        let mut next = [0.5 / GRID as f64; GRID];
        for likelihood in &likelihoods {
            let posterior = posterior(&mass, likelihood);
            next.iter_mut().zip(posterior).for_each(|(sum, part)| *sum += part);
        }
        let sum: f64 = next.iter().sum();
        mass = next.map(|part| part / sum);
    }
    let variance = |likelihood: &[f64; GRID]| {
        posterior(&mass, likelihood).iter().zip(grid).map(|(mass, p)| mass * p * (1.0 - p)).sum()
    };
    likelihoods.iter().map(variance).collect()
}

fn posterior(mass: &[f64; GRID], likelihood: &[f64; GRID]) -> [f64; GRID] {
    let joint: [f64; GRID] = std::array::from_fn(|k| mass[k] * likelihood[k]);
    let sum: f64 = joint.iter().sum();
    joint.map(|part| part / sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_eight_of_eight_means_depends_on_the_others() {
        let among = |others: &[(usize, usize)]| {
            let mut counts = others.to_vec();
            counts.push((8, 8));
            *likely_variances(&counts).last().expect("one was pushed")
        };
        let sure: Vec<_> = [(8, 8), (0, 8)].repeat(20);
        let spread: Vec<_> = (1..8).map(|right| (right, 8)).collect::<Vec<_>>().repeat(6);
        assert!(among(&sure) < 0.005, "{}", among(&sure));
        assert!(among(&spread) > 0.05, "{}", among(&spread));
    }

    #[test]
    fn many_draws_tell_by_themselves() {
        let counts = [(500, 1000), (100, 1000), (1000, 1000)];
        for (found, wanted) in likely_variances(&counts).iter().zip([0.25, 0.09, 0.0]) {
            assert!((found - wanted).abs() < 0.01, "{found}, not {wanted}");
        }
    }

    #[test]
    fn right_and_wrong_are_alike() {
        let counts = [(0, 8), (1, 8), (4, 8), (7, 8), (8, 8)];
        let found = likely_variances(&counts);
        assert!((found[0] - found[4]).abs() < 1e-12 && (found[1] - found[3]).abs() < 1e-12, "{found:?}");
        assert!(found[0] < found[1] && found[1] < found[2], "{found:?}");
    }
}
