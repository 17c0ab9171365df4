//! Means over questions: the question is the unit, however often it was drawn.
//!
//! Before: one number for each question. After: the mean over questions of this kind, with its interval.

use super::{
    Estimate, Interval, Method, StatsError, check_confidence, check_enough, check_values,
    distributions::t_two_sided,
    interval::score_interval,
    mean,
    rare::{FEW, Rare},
    variance,
};

/// How many questions of no spread but that of a coin are added to the spread found.
const PSEUDO_QUESTIONS: f64 = 0.5;

/// The part of all questions that are few.
const FEW_OF_ALL: f64 = 0.2;

/// Questions' worth of a mean below which it is small enough that one kind of question not seen would change it.
const WHOLE: f64 = 0.5;

/// A share, from each question's share of right draws (or pass@k, or majority), as an estimate over questions of this
/// kind.
///
/// With m = Σ wᵢ xᵢ/Σ wᵢ, the weights scaled to a sum of 1, N = 1/Σ wᵢ² questions (their number, if the weights are
/// equal) and c = 0.5:
///
/// V = (Σ wᵢ² (xᵢ − m)² + c m(1 − m)/N²) · N/(N − 1 + c), and n = m(1 − m)/V
///
/// is the number of independent draws that would tell as much. The interval is Wilson's for a share m of n, with Student's
/// t of N − 1 degrees of freedom in place of z: it stays in \[0, 1\] and is not a point where all questions agree. If all
/// are 0 or all are 1, n = N.
///
/// Where few questions carry the mean, or what it lacks of 1, the interval is joined to the gamma interval of Fay and Feuer:
/// a handful of questions cannot show how rare others like them are. Few is an effective number (Σ wᵢ xᵢ)²/Σ (wᵢ xᵢ)² below
/// 30 and below a fifth of all, or a sum below half a question.
///
/// Coverage of 95 % intervals is in the [table](super::coverage): 0.93 to 0.98 of 200 questions and more, and wider for few
/// questions of which few are right, or wrong. Student's t on the same data covers with 0.18 to 0.97, worst near 0 and 1.
///
/// `weights` are fixed beforehand, such as one for each category; none means equal ones.
///
/// # Errors
/// If there are fewer than two questions, a share lies outside \[0, 1\], weights are fewer or more than questions or not
/// above 0, or the confidence is not between 0 and 1.
/// # Source
/// E. Korn and B. Graubard, *Confidence Intervals for Proportions with Small Expected Number of Positive Counts Estimated
/// from Survey Data*, Survey Methodology 24 (1998), for the effective number of draws; C. Franco et al., *Comparative
/// Study of Confidence Intervals for Proportions in Complex Sample Surveys*, J. Survey Statistics and Methodology 7
/// (2019), for Wilson's interval with it; M. Fay and E. Feuer, Statistics in Medicine 16 (1997). The half question (c) and
/// what is few are measured here.
pub fn clustered(shares: &[f64], weights: Option<&[f64]>, confidence: f64) -> Result<Estimate, StatsError> {
    check_confidence(confidence)?;
    check_enough("questions", shares.len(), 2)?;
    check_values("the share", "a share from 0 to 1", shares, |share| (0.0..=1.0).contains(&share))?;
    let weights = checked(weights, shares.len())?;
    Ok(estimate(shares, &weights, confidence, |freedom| t_two_sided(confidence, freedom)))
}

fn estimate(shares: &[f64], weights: &[f64], confidence: f64, t: impl Fn(f64) -> f64) -> Estimate {
    let sum: f64 = weights.iter().sum();
    let squares = |deviation: &dyn Fn(f64) -> f64| -> f64 {
        weights.iter().zip(shares).map(|(weight, share)| (weight / sum * deviation(*share)).powi(2)).sum()
    };
    let n = 1.0 / squares(&|_| 1.0);
    let value = weights.iter().zip(shares).map(|(weight, share)| weight * share).sum::<f64>() / sum;
    let coin = value * (1.0 - value);
    let spread = squares(&|share| share - value);
    let variance = (spread + PSEUDO_QUESTIONS * coin / (n * n)) * n / (n - 1.0 + PSEUDO_QUESTIONS);
    let draws = if variance > 0.0 { coin / variance } else { n };
    let mut interval = score_interval(value, draws, t(n - 1.0));
    let terms = |of: fn(f64) -> f64| Rare::of(weights.iter().zip(shares).map(|(w, x)| (w / sum, of(*x))));
    let (right, wrong) = (terms(|share| share), terms(|share| 1.0 - share));
    if few(&right, n) {
        interval = interval.joined(right.interval(confidence));
    }
    if few(&wrong, n) {
        let Interval { low, high } = wrong.interval(confidence);
        interval = interval.joined(Interval { low: 1.0 - high, high: 1.0 - low });
    }
    Estimate { value, interval, method: Method::Clustered }
}

/// Whether few questions carry a mean, in number and of all there are, or all of them together less than a few would.
fn few(rare: &Rare, questions: f64) -> bool {
    rare.effective() < FEW.min(FEW_OF_ALL * questions) || rare.whole() < WHOLE
}

/// The weights, or equal ones.
fn checked(weights: Option<&[f64]>, questions: usize) -> Result<Vec<f64>, StatsError> {
    let Some(weights) = weights else {
        return Ok(vec![1.0; questions]);
    };
    if weights.len() != questions {
        return Err(StatsError::Length { what: "weights", found: weights.len(), wanted: questions });
    }
    check_values("the weight", "a finite number above 0", weights, |w| w > 0.0 && w.is_finite())?;
    Ok(weights.to_vec())
}

/// The mean of one number for each question, such as tokens of its answers, over questions of this kind: x̄ ± t s/√N, with
/// Student's t of N − 1 degrees of freedom, joined to the interval that Hall's transformation of t gives where the numbers are
/// skewed, as lengths are.
///
/// For a share use [`clustered`]: near 0 and 1 this one is far too narrow.
///
/// # Errors
/// If there are fewer than two numbers, one is not finite, or the confidence is not between 0 and 1.
/// # Source
/// Student, *The Probable Error of a Mean*, Biometrika 6 (1908); P. Hall, *On the Removal of Skewness by Transformation*,
/// J. Royal Statistical Society B 54 (1992).
pub fn mean_interval(values: &[f64], confidence: f64) -> Result<Estimate, StatsError> {
    check_confidence(confidence)?;
    check_enough("numbers", values.len(), 2)?;
    check_values("the number", "a finite number", values, f64::is_finite)?;
    let n = values.len() as f64;
    let (value, deviation) = (mean(values), variance(values).sqrt());
    let (t, error) = (t_two_sided(confidence, n - 1.0), deviation / n.sqrt());
    let students = Interval::around(value, t * error);
    let cubes: f64 = values.iter().map(|x| ((x - value) / deviation).powi(3)).sum();
    // a third of the skewness over √N
    let third = cubes / n / n.sqrt() / 3.0;
    let interval = match third.abs() > 1e-9 {
        true => {
            let untransformed = |x: f64| ((1.0 + 3.0 * third * (x - third / 2.0)).cbrt() - 1.0) / third;
            let bound = |x: f64| value - error * untransformed(x);
            students.joined(Interval { low: bound(t), high: bound(-t) })
        }
        false => students,
    };
    Ok(Estimate { value, interval, method: Method::T })
}

#[cfg(test)]
mod tests {
    use super::super::{
        simulate::{Stream, coverage, difficulties},
        wilson,
    };
    use super::*;

    #[test]
    fn one_draw_a_question_is_wilson_with_one_question_less_and_students_t() {
        // right/wrong questions: V = m(1 − m)(N + c)/(N (N − 1 + c))
        let shares: Vec<f64> = (0..50).map(|i| f64::from(u8::from(i < 20))).collect();
        let found = clustered(&shares, None, 0.95).unwrap();
        let wanted = score_interval(0.4, 50.0 * 49.5 / 50.5, t_two_sided(0.95, 49.0));
        assert!((found.interval.low - wanted.low).abs() < 1e-12, "{found:?}");
        let near = wilson(20, 50, 0.95).unwrap();
        assert!((found.interval.half_width() - near.half_width()).abs() < 0.005, "{found:?} {near:?}");
    }

    #[test]
    fn equal_weights_change_nothing_and_a_repeated_question_counts_by_its_weight() {
        let shares = [0.0, 0.25, 0.5, 1.0, 0.75, 0.125];
        assert_eq!(
            clustered(&shares, Some(&[3.0; 6]), 0.9).unwrap().interval,
            clustered(&shares, None, 0.9).unwrap().interval
        );
        let weighted = clustered(&[0.2, 0.6], Some(&[3.0, 1.0]), 0.9).unwrap();
        assert!((weighted.value - 0.3).abs() < 1e-12, "{weighted:?}");
    }

    #[test]
    fn questions_that_all_agree_leave_doubt() {
        for (share, n) in [(0.0, 10), (1.0, 10), (1.0, 3), (0.5, 30)] {
            let found = clustered(&vec![share; n], None, 0.95).unwrap();
            assert_eq!(found.value, share);
            assert!(found.interval.contains(share) && found.interval.half_width() > 0.005, "{found:?}");
        }
        let t = t_two_sided(0.95, 9.0);
        let low = clustered(&[1.0; 10], None, 0.95).unwrap().interval.low;
        assert!(low < 10.0 / (10.0 + t * t) && (low - (1.0 - 0.368_888)).abs() < 1e-5, "{low}");
    }

    #[test]
    fn the_mean_of_lengths_is_students() {
        // 1, 2, 3: s = 1, t of 2 degrees of freedom 4.30265
        let found = mean_interval(&[1.0, 2.0, 3.0], 0.95).unwrap();
        assert!((found.interval.half_width() - 4.302_652_73 / 3.0_f64.sqrt()).abs() < 1e-8, "{found:?}");
        assert_eq!(found.value, 2.0);
    }

    #[test]
    fn it_covers_as_promised() {
        // (first and second parameter of the beta distribution of shares)
        let mixes = [
            (1.0, 1.0),
            (0.3, 0.3),
            (0.1, 0.1),
            (0.5, 2.0),
            (4.0, 0.3),
            (0.15, 0.6),
            (5.0, 5.0),
            (1.0, 19.0),
        ];
        let mut by_mix = Vec::new();
        for (a, b) in mixes {
            let table = difficulties(a, b);
            for (questions, draws) in [(30, 4), (30, 16), (200, 4), (200, 16)] {
                by_mix.push((a, questions, draws, cover(&table, questions, draws)));
            }
        }
        for (a, questions, draws, found) in &by_mix {
            assert!((0.93..0.985).contains(found), "{a}: {questions} questions of {draws} draws: {found}");
        }
        // one draw: Wilson's swings, so on average over means
        for questions in [30, 200] {
            let means: Vec<f64> = (1..=10).map(|twentieth| f64::from(twentieth) / 20.0).collect();
            let found: Vec<f64> = means.iter().map(|p| cover(&[*p], questions, 1)).collect();
            assert!((0.94..0.97).contains(&mean(&found)), "{found:?}");
            assert!(found.iter().all(|found| (0.925..0.985).contains(found)), "{found:?}");
        }
    }

    #[test]
    fn few_questions_that_hide_a_rare_kind_are_covered() {
        // by Wilson's interval alone with 0.91
        let table = difficulties(0.1, 1.9);
        let found = cover(&table, 30, 16);
        assert!((0.95..0.99).contains(&found), "{found}");
    }

    #[test]
    fn numbers_that_all_are_nearly_1_do_not_make_it_a_point() {
        // votes of many draws: rounding, or one draw in a million
        for near in [1.0 - 1e-12, 1.0 - 1e-7] {
            let found = clustered(&[near; 200], None, 0.95).unwrap().interval;
            assert!(found.low < 1.0 - 2.0 / 200.0 && found.high >= near, "{found:?}");
        }
        let mut one = [0.0; 200];
        one[3] = 1e-4;
        let found = clustered(&one, None, 0.95).unwrap().interval;
        assert!(found.low < 5e-7 && found.high > 3.0 / 200.0, "{found:?}");
    }

    fn cover(table: &[f64], questions: usize, draws: usize) -> f64 {
        let (mut stream, weights) = (Stream::new(questions as u64), vec![1.0; questions]);
        let t = t_two_sided(0.95, questions as f64 - 1.0); // as it would be each time, but once
        let mut shares = vec![0.0; questions];
        coverage(10_000, mean(table), || {
            for share in &mut shares {
                let p = table[stream.below(table.len())];
                *share = stream.successes(draws, p) as f64 / draws as f64;
            }
            estimate(&shares, &weights, 0.95, |_| t).interval
        })
    }
}
