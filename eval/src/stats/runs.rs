//! Several training runs on the same questions: how much of their spread is quality and how much is luck.
//!
//! Before: for each run (another seed) and each question, a verdict or a share of right draws. After: what an "improved by
//! x" has to be held against.

use serde::{Deserialize, Serialize};

use super::{
    Estimate, Interval, StatsError, check_confidence, check_enough, check_values, distributions::t_two_sided,
    interval::Method, mean, variance,
};

/// The variance of accuracy from run to run, and its parts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RunVariance {
    /// R, the number of runs.
    pub runs: usize,
    /// n, the number of questions.
    pub questions: usize,
    /// V = Var(Aᵣ), with R − 1: the variance of the runs' accuracies Aᵣ on these questions.
    pub total: f64,
    /// V_item = n⁻² Σᵢ Var(Cᵣᵢ): what V would be if runs differed by independent flips of questions only.
    pub item: f64,
    /// V_q = n/(n − 1) · (V − V_item): the variance of the runs' true quality on questions of this kind, which is the mean
    /// covariance of two questions over runs. Unbiased, and so at times below 0.
    pub quality_raw: f64,
    /// m̃(1 − m̃)/N of m̃ the mean accuracy with half a right draw and half a wrong one added, and N the draws of a run: so much
    /// variance runs of one recipe have from their draws alone, hence the least that is believed.
    #[serde(default)]
    pub floor: f64,
    /// err/(2n): what V is for right/wrong questions with two answers, if the runs are calibrated and equally good.
    pub calibrated: f64,
    /// The mean accuracy, with the interval for the mean of infinitely many runs on these questions: Student's t over runs,
    /// the variance of a run no less than the floor, and the interval within \[0, 1\].
    pub accuracy: Estimate,
}

impl RunVariance {
    /// Splits the variance of `correct[run][question]`, numbers from 0 to 1: verdicts, or means over `draws` of each question.
    ///
    /// # Errors
    /// If there are fewer than two runs or questions, no draws, runs differ in their number of questions, a number lies
    /// outside \[0, 1\], or the confidence is not between 0 and 1.
    /// # Source
    /// K. Jordan, *Calibrated Chaos: Variance Between Runs of Neural Network Training is Harmless and Inevitable*,
    /// arXiv:2304.01910 (2023); the estimator of V_q follows from V = V_q + (mean variance − V_q)/n.
    pub fn of(correct: &[Vec<f64>], draws: usize, confidence: f64) -> Result<Self, StatsError> {
        check_confidence(confidence)?;
        check_enough("draws of a question", draws, 1)?;
        check_enough("runs", correct.len(), 2)?;
        let questions = correct[0].len();
        check_enough("questions", questions, 2)?;
        for run in correct {
            if run.len() != questions {
                return Err(StatsError::Length {
                    what: "questions of a run",
                    found: run.len(),
                    wanted: questions,
                });
            }
            check_values("the share", "a share from 0 to 1", run, |share| (0.0..=1.0).contains(&share))?;
        }
        let n = questions as f64;
        let accuracies: Vec<f64> = correct.iter().map(|run| mean(run)).collect();
        let total = variance(&accuracies);
        let column = |i: usize| -> Vec<f64> { correct.iter().map(|run| run[i]).collect() };
        let item = (0..questions).map(|i| variance(&column(i))).sum::<f64>() / (n * n);
        let value = mean(&accuracies);
        let floor = floor(&accuracies, questions * draws);
        let runs = accuracies.len() as f64;
        let half = t_two_sided(confidence, runs - 1.0) * (total.max(floor) / runs).sqrt();
        let interval = Interval::around(value, half).of_a_share();
        let accuracy = Estimate { value, interval, method: Method::Runs };
        Ok(Self {
            runs: correct.len(),
            questions,
            total,
            item,
            quality_raw: n / (n - 1.0) * (total - item),
            floor,
            calibrated: (1.0 - accuracy.value) / (2.0 * n),
            accuracy,
        })
    }

    /// V, or the floor where that is above: what another run may be off by.
    pub fn believed(&self) -> f64 {
        self.total.max(self.floor)
    }

    /// [`RunVariance::quality_raw`], or 0 where that is below.
    pub fn quality(&self) -> f64 {
        self.quality_raw.max(0.0)
    }
}

/// The least variance of a run's accuracy that is believed, from the accuracies of runs with so many draws each.
pub(super) fn floor(accuracies: &[f64], draws: usize) -> f64 {
    let (runs, draws) = (accuracies.len() as f64, draws as f64);
    let share = (accuracies.iter().sum::<f64>() * draws + 0.5) / (runs * draws + 1.0);
    share * (1.0 - share) / draws
}

#[cfg(test)]
mod tests {
    use super::super::simulate::{Stream, difficulties};
    use super::*;

    fn close(found: f64, wanted: f64, tolerance: f64) {
        assert!((found - wanted).abs() <= tolerance, "{found}, not {wanted}");
    }

    #[test]
    fn four_runs_of_four_questions_are_the_worked_example() {
        let correct =
            [[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 0], [1, 1, 0, 1]].map(|run| run.map(f64::from).to_vec());
        let found = RunVariance::of(&correct, 1, 0.95).unwrap();
        close(found.total, 0.02083, 5e-6);
        close(found.item, 0.05208, 5e-6);
        close(found.quality_raw, -0.04167, 5e-6);
        assert_eq!((found.quality(), found.accuracy.value), (0.0, 0.625));
    }

    #[test]
    fn the_quality_variance_is_the_mean_covariance_of_two_questions() {
        let mut stream = Stream::new(5);
        let correct: Vec<Vec<f64>> = (0..7).map(|_| (0..5).map(|_| stream.uniform()).collect()).collect();
        let column = |i: usize| -> Vec<f64> { correct.iter().map(|run| run[i]).collect() };
        let mut covariances = Vec::new();
        for (i, j) in (0..5).flat_map(|i| (0..i).map(move |j| (i, j))) {
            let (x, y) = (column(i), column(j));
            let (mean_x, mean_y) = (mean(&x), mean(&y));
            covariances.push(x.iter().zip(&y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / 6.0);
        }
        close(RunVariance::of(&correct, 1, 0.95).unwrap().quality_raw, mean(&covariances), 1e-14);
    }

    #[test]
    fn calibrated_runs_of_equal_quality_vary_by_error_over_2n() {
        // 400 runs, 500 questions with two answers: a run says the first with chance q, and the truth is the first with
        // chance q. The toolkit's single simulation has V = 2.44e-4, V_item = 2.60e-4, err/2n = 2.69e-4.
        let (mut stream, table) = (Stream::new(1), difficulties(0.5, 0.5));
        let mut simulate = || {
            let chances: Vec<f64> = (0..500).map(|_| table[stream.below(table.len())]).collect();
            let truths: Vec<usize> = chances.iter().map(|q| stream.successes(1, *q)).collect();
            let mut run = || -> Vec<f64> {
                let said = chances.iter().map(|q| stream.successes(1, *q));
                said.zip(&truths).map(|(said, truth)| f64::from(u8::from(said == *truth))).collect()
            };
            RunVariance::of(&(0..400).map(|_| run()).collect::<Vec<_>>(), 1, 0.95).unwrap()
        };
        let found: Vec<RunVariance> = (0..20).map(|_| simulate()).collect();
        let average = |of: fn(&RunVariance) -> f64| mean(&found.iter().map(of).collect::<Vec<_>>());
        close(average(|run| run.calibrated), 2.5e-4, 0.08e-4); // E[q(1 − q)]/n = 0.125/500
        close(average(|run| run.item), 2.5e-4, 0.08e-4);
        close(average(|run| run.total), 2.5e-4, 0.15e-4); // 4 standard errors: √(2/399/20) of it
        close(average(|run| run.quality_raw), 0.0, 0.15e-4);
    }

    #[test]
    fn a_true_quality_variance_is_found_on_average() {
        // 500 questions, 40 runs whose quality differs by 3 points: V_q = 9.0e-4; the toolkit's mean estimate is 8.7e-4
        let mut stream = Stream::new(2);
        let estimates: Vec<f64> = (0..150)
            .map(|_| {
                let chances: Vec<f64> = (0..500).map(|_| 0.2 + 0.6 * stream.uniform()).collect();
                let correct: Vec<Vec<f64>> = (0..40)
                    .map(|_| {
                        let better = 0.03 * stream.normal();
                        chances.iter().map(|p| stream.successes(1, p + better) as f64).collect()
                    })
                    .collect();
                RunVariance::of(&correct, 1, 0.95).unwrap().quality_raw
            })
            .collect();
        close(mean(&estimates), 9.0e-4, 0.9e-4); // 3 standard errors
    }

    #[test]
    fn the_interval_over_runs_covers() {
        let mut stream = Stream::new(3);
        let found = super::super::simulate::coverage(10_000, 0.5, || {
            let quality = |stream: &mut Stream| 0.5 + 0.03 * stream.normal();
            let correct: Vec<Vec<f64>> = (0..4)
                .map(|_| {
                    let p = quality(&mut stream);
                    (0..50).map(|_| stream.successes(1, p) as f64).collect()
                })
                .collect();
            RunVariance::of(&correct, 1, 0.95).unwrap().accuracy.interval
        });
        // most of the spread is that of the draws, whose least is known: Student's t for three degrees of freedom is too much
        assert!((0.95..0.9999).contains(&found), "{found}");
    }

    #[test]
    fn runs_that_happen_to_agree_are_not_taken_for_certain() {
        let one: Vec<f64> = (0..50).map(|i| f64::from(u8::from(i < 20))).collect();
        let found = RunVariance::of(&[one.clone(), one.clone()], 1, 0.95).unwrap();
        assert_eq!((found.total, found.accuracy.value), (0.0, 0.4));
        assert!((found.floor - 0.24 / 50.0).abs() < 1e-4 && found.believed() == found.floor, "{found:?}");
        assert!(found.accuracy.interval.half_width() > 0.1, "{found:?}");
        // more draws of each question tell more, and all right is not certain either
        let many = RunVariance::of(&[one.clone(), one], 16, 0.95).unwrap();
        assert!((many.floor - 0.24 / 800.0).abs() < 1e-5, "{many:?}");
        let all = RunVariance::of(&[vec![1.0; 50], vec![1.0; 50]], 1, 0.95).unwrap();
        assert!(all.accuracy.interval.low < 1.0 && all.accuracy.interval.high == 1.0, "{all:?}");
    }
}
