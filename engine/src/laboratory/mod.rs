//! How good estimators of the policy gradient are at a fixed policy: bias, variance and signal-to-noise ratio, with intervals.
//!
//! Before: many groups of rollouts of a few prompts, each rollout with its score S = ∇ ln π(y | x) as far as inner products
//! of them go. After: `evenkeel variance` prints it. A group gives each estimator one vector, (1/G) Σ Aⱼ Sⱼ; all figures are
//! made of inner products between such vectors. Groups are independent draws, so products of two different groups are
//! unbiased; intervals come from leaving out one group at a time (jackknife), and are cut to where a figure can be.
//!
//! A squared norm that is 0 is where the jackknife fails: the mean product of two groups is then as often below 0 as above, and
//! the smaller it is, the smaller its leave-one-out spread. So the variance that it has at 0, 2 tr Σ²/(n (n − 1)), is added, and
//! the interval is never wholly below 0.

mod figure;
mod mixture;
pub mod toy;

use serde::Serialize;

pub use self::figure::Figure;
use self::figure::{Sums, figure, figure_with};
pub use self::mixture::{MixedError, MixtureFindings, mixture};
use crate::baseline::{BaselineConfig, Group, Mode, Optimal, RowWeights, Shrink, Weights, advantages};
use crate::stats::correlation;

/// Independent groups of rollouts of one prompt.
pub struct Pool {
    /// What the prompt is called.
    pub prompt: String,
    /// Rollouts of a group.
    pub group_size: usize,
    /// Reward of every rollout, group by group.
    pub rewards: Vec<f32>,
    /// ⟨Sᵢ, Sⱼ⟩ of all rollouts, `(rollouts, rollouts)`; the diagonal holds the exact norms.
    pub gram: Vec<f32>,
    /// How rollouts are weighed, in each way that is to be compared.
    pub weights: RowWeights,
    /// Mean reward of other prompts' rollouts, if there are any: what a first visit knows.
    pub others: Option<f32>,
}

/// What became of one estimator, over all prompts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EstimatorReport {
    /// Its name.
    pub estimator: String,
    /// ⟨E ĝ, ∇J⟩/‖∇J‖²: 1 if it is unbiased, 1 − 1/G for a group mean with the own reward.
    pub slope: Figure,
    /// ‖E ĝ − ∇J‖²/‖∇J‖²: all of the bias, in any direction. The estimate is unbiased, so at times below 0; its interval
    /// begins at 0 at least.
    pub bias: Figure,
    /// tr Var ĝ of one group, mean over prompts.
    pub variance: Figure,
    /// Its variance over slope², as a share of that of leave-one-out: what is left of the noise at equal signal.
    pub noise: Figure,
    /// ‖E ĝ‖² / tr Var ĝ of one group.
    pub snr: Figure,
}

/// What the optimum is, by formula and as measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Optimum {
    /// The prompt.
    pub prompt: String,
    /// Mean reward.
    pub mean_reward: f64,
    /// Σ w r / Σ w with exact weights.
    pub closed_form: Figure,
    /// The constant at which the measured variance is least.
    pub measured: Figure,
    /// Measured minus closed form.
    pub difference: Figure,
    /// Correlation of reward and squared norm over rollouts; absent where either does not vary.
    pub correlation: Option<f64>,
    /// Variance with the optimal leave-one-out baseline, as a share of that with the plain one.
    pub noise: Figure,
    /// tr Var of a group's gradient with the best constant, by formula.
    pub variance_closed_form: f64,
    /// The same as measured, with the constant found on the other half of the rollouts.
    pub variance_measured: Figure,
}

/// All that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Findings {
    /// One for each estimator.
    pub estimators: Vec<EstimatorReport>,
    /// One for each prompt.
    pub optima: Vec<Optimum>,
    /// Spearman's correlation of each cheap weight with the exact one, within prompts.
    pub ranks: Vec<(String, f64)>,
}

/// Advantages of a group of a pool: number of the group, its rewards, and the weights of its rollouts.
type Rule = Box<dyn Fn(&Pool, usize) -> Vec<f32>>;

/// Reward of leave-one-out, to which others are compared.
const PLAIN: &str = "leave-one-out";
const EXACT: &str = "optimal, full, leave-one-out";
const ORACLE: &str = "best constant";

/// Every estimator that is compared, by name.
fn rules() -> Vec<(String, Rule)> {
    let simple = |baseline: BaselineConfig| -> Rule {
        Box::new(move |pool, group| {
            let range = pool.range(group);
            advantages(baseline.build(), &Group { rewards: &pool.rewards[range], ..Group::default() })
        })
    };
    let mut all: Vec<(String, Rule)> = vec![
        ("no baseline".into(), simple(BaselineConfig::None)),
        ("group mean".into(), simple(BaselineConfig::GroupMean)),
        (PLAIN.into(), simple(BaselineConfig::LeaveOneOut)),
    ];
    for weights in [Weights::Length, Weights::Logit, Weights::LmHead, Weights::Full] {
        for (mode, name) in [(Mode::Own, "own"), (Mode::LeaveOneOut, "leave-one-out")] {
            let optimal = Optimal { weights, mode, cap: f32::INFINITY, ..Optimal::default() };
            let rule: Rule = Box::new(move |pool, group| {
                let range = pool.range(group);
                let weights: Vec<f64> =
                    range.clone().map(|row| pool.weights.get(optimal.weights, row)).collect();
                let seen = Group { rewards: &pool.rewards[range], weights: &weights, ..Group::default() };
                advantages(&optimal, &seen)
            });
            all.push((format!("optimal, {}, {name}", weights.name()), rule));
        }
    }
    for (pseudo, own) in [(2.0, true), (8.0, true), (2.0, false)] {
        let optimal = Optimal { shrink: Shrink::Rollouts(pseudo), cap: f32::INFINITY, ..Optimal::default() };
        let rule: Rule = Box::new(move |pool, group| {
            let range = pool.range(group);
            let weights: Vec<f64> = range.clone().map(|row| pool.norm(row)).collect();
            let prior = if own { Some(pool.mean(group, true) as f32) } else { pool.others };
            let seen = Group { rewards: &pool.rewards[range], weights: &weights, prior, ..Group::default() };
            advantages(&optimal, &seen)
        });
        let prior = if own { "its past" } else { "others" };
        all.push((format!("optimal, full, {pseudo} of {prior}"), rule));
    }
    // constants found on the other half of the rollouts, hence unbiased
    all.push((
        "mean of other rollouts".into(),
        Box::new(|pool, group| pool.less(group, pool.mean(group, false))),
    ));
    all.push((ORACLE.into(), Box::new(|pool, group| pool.less(group, pool.mean(group, true)))));
    all
}

impl Pool {
    /// Groups.
    pub fn groups(&self) -> usize {
        self.rewards.len() / self.group_size
    }

    fn range(&self, group: usize) -> std::ops::Range<usize> {
        group * self.group_size..(group + 1) * self.group_size
    }

    /// Mean reward, weighed by squared norms or not, of the half of the groups that does not hold this one.
    fn mean(&self, group: usize, weighted: bool) -> f64 {
        let half = self.groups() / 2;
        let other = if group < half { half..self.groups() } else { 0..half };
        self.constant(other.flat_map(|group| self.range(group)), weighted)
    }

    fn constant(&self, rows: impl Iterator<Item = usize>, weighted: bool) -> f64 {
        let (mut sum, mut total) = (0.0, 0.0);
        for row in rows {
            let weight = if weighted { self.norm(row) } else { 1.0 };
            sum += weight * f64::from(self.rewards[row]);
            total += weight;
        }
        if total > 0.0 { sum / total } else { 0.0 }
    }

    fn norm(&self, row: usize) -> f64 {
        f64::from(self.gram[row * self.rewards.len() + row])
    }

    fn less(&self, group: usize, constant: f64) -> Vec<f32> {
        self.rewards[self.range(group)].iter().map(|r| (f64::from(*r) - constant) as f32).collect()
    }

    /// Inner products between the groups' vectors of two estimators, `(groups, groups)`.
    fn products(&self, a: &[Vec<f32>], b: &[Vec<f32>]) -> Vec<Vec<f64>> {
        let (n, g) = (self.rewards.len(), self.group_size as f64);
        let of_pair = |i: usize, j: usize| {
            let (rows, columns) = (self.range(i), self.range(j));
            let mut sum = 0.0;
            for (row, a) in rows.zip(&a[i]) {
                let line = &self.gram[row * n..][columns.clone()];
                let inner: f64 = line.iter().zip(&b[j]).map(|(k, b)| f64::from(*k) * f64::from(*b)).sum();
                sum += f64::from(*a) * inner;
            }
            sum / (g * g)
        };
        (0..self.groups()).map(|i| (0..self.groups()).map(|j| of_pair(i, j)).collect()).collect()
    }
}

/// Compares all estimators on some pools.
///
/// # Panics
/// If a pool has fewer than four groups, or its sizes do not fit each other.
pub fn compare(pools: &[Pool]) -> Findings {
    for pool in pools {
        let n = pool.rewards.len();
        assert!(pool.groups() >= 4 && pool.groups() * pool.group_size == n && pool.gram.len() == n * n);
    }
    let rules = rules();
    // of every pool and estimator: advantages of every group
    let advantages: Vec<Vec<Vec<Vec<f32>>>> = pools
        .iter()
        .map(|pool| {
            rules.iter().map(|(_, rule)| (0..pool.groups()).map(|g| rule(pool, g)).collect()).collect()
        })
        .collect();
    let place = |name: &str| rules.iter().position(|(known, _)| known == name).expect("a rule of this list");
    let (plain, exact, oracle) = (place(PLAIN), place(EXACT), place(ORACLE));
    let sums = |pool: usize, a: &[Vec<f32>], b: &[Vec<f32>]| Sums::new(&pools[pool].products(a, b));
    let own: Vec<Vec<Sums>> =
        (0..pools.len()).map(|p| advantages[p].iter().map(|a| sums(p, a, a)).collect()).collect();
    let mean_over = |f: &dyn Fn(usize, Option<usize>) -> f64, without: Option<(usize, usize)>| -> f64 {
        let one = |p: usize| f(p, without.filter(|(pool, _)| *pool == p).map(|(_, group)| group));
        (0..pools.len()).map(one).sum::<f64>() / pools.len() as f64
    };
    let signal = |rule: usize, w| mean_over(&|p, without| own[p][rule].means(without).0, w);
    let variance = |rule: usize, w| {
        let one = |p: usize, without| {
            let (between, within) = own[p][rule].means(without);
            within - between
        };
        mean_over(&one, w)
    };
    let mut estimators = Vec::new();
    let mut slopes = Vec::new();
    for (rule, (name, _)) in rules.iter().enumerate() {
        let crossed: Vec<Sums> =
            (0..pools.len()).map(|p| sums(p, &advantages[p][rule], &advantages[p][oracle])).collect();
        let differences: Vec<Sums> = (0..pools.len())
            .map(|p| {
                let minus = |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).map(|(a, b)| a - b).collect();
                let d: Vec<Vec<f32>> =
                    advantages[p][rule].iter().zip(&advantages[p][oracle]).map(minus).collect();
                sums(p, &d, &d)
            })
            .collect();
        let truth = |w| signal(oracle, w);
        // of the mean over pools
        let at_zero = |sums: &mut dyn Iterator<Item = f64>| sums.sum::<f64>() / (pools.len() as f64).powi(2);
        let slope = |w| mean_over(&|p, without| crossed[p].means(without).0, w) / truth(w);
        estimators.push(EstimatorReport {
            estimator: name.clone(),
            slope: figure(pools, slope),
            bias: {
                let unseen = at_zero(&mut differences.iter().map(|sums| sums.at_zero)) / truth(None).powi(2);
                let bias = |w| mean_over(&|p, without| differences[p].means(without).0, w) / truth(w);
                figure_with(pools, unseen, bias).not_negative()
            },
            variance: figure(pools, |w| variance(rule, w)).not_negative(),
            noise: Figure { value: 0.0, low: 0.0, high: 0.0 },
            snr: {
                let unseen =
                    at_zero(&mut own.iter().map(|sums| sums[rule].at_zero)) / variance(rule, None).powi(2);
                figure_with(pools, unseen, |w| signal(rule, w) / variance(rule, w)).not_negative()
            },
        });
        slopes.push(crossed);
    }
    // at equal signal: by the slope that theory gives where it is exact, as it is known without noise
    let group_size = pools.first().map_or(1, |pool| pool.group_size) as f64;
    for (rule, report) in estimators.iter_mut().enumerate() {
        let slope = |w| match report.estimator.as_str() {
            "group mean" => 1.0 - 1.0 / group_size,
            name if name.ends_with("own") => {
                mean_over(&|p, without| slopes[rule][p].means(without).0, w) / signal(oracle, w)
            }
            _ => 1.0,
        };
        let noise = |w| variance(rule, w) / slope(w).powi(2) / variance(plain, w);
        report.noise = figure(pools, noise).not_negative();
    }
    let optima = pools
        .iter()
        .map(|pool| {
            let one = std::slice::from_ref(pool);
            let (p, q): (Vec<Vec<f32>>, Vec<Vec<f32>>) = (0..pool.groups())
                .map(|g| (pool.rewards[pool.range(g)].to_vec(), vec![1.0; pool.group_size]))
                .unzip();
            let (pq, qq) = (Sums::new(&pool.products(&p, &q)), Sums::new(&pool.products(&q, &q)));
            let spread = |sums: &Sums, without| {
                let (between, within) = sums.means(without);
                within - between
            };
            let measured = |w: Option<(usize, usize)>| {
                let without = w.map(|(_, group)| group);
                spread(&pq, without) / spread(&qq, without)
            };
            let formula = |w: Option<(usize, usize)>| {
                let kept = (0..pool.groups()).filter(|g| w.map(|(_, group)| group) != Some(*g));
                pool.constant(kept.flat_map(|g| pool.range(g)), true)
            };
            let number = pools.iter().position(|other| std::ptr::eq(other, pool)).expect("one of them");
            let of = |rule: usize, w: Option<(usize, usize)>| {
                spread(&own[number][rule], w.map(|(_, group)| group))
            };
            let rewards: Vec<f64> = pool.rewards.iter().map(|r| f64::from(*r)).collect();
            let norms: Vec<f64> = (0..rewards.len()).map(|row| pool.norm(row)).collect();
            let b = formula(None);
            let power = norms.iter().zip(&rewards).map(|(w, r)| w * (r - b).powi(2)).sum::<f64>()
                / norms.len() as f64;
            Optimum {
                prompt: pool.prompt.clone(),
                mean_reward: pool.constant(0..rewards.len(), false),
                closed_form: figure(one, formula),
                measured: figure(one, measured),
                difference: figure(one, |w| measured(w) - formula(w)),
                correlation: correlation(&rewards, &norms),
                noise: figure(one, |w| of(exact, w) / of(plain, w)).not_negative(),
                variance_closed_form: (power - own[number][oracle].means(None).0) / pool.group_size as f64,
                variance_measured: figure(one, |w| of(oracle, w)).not_negative(),
            }
        })
        .collect();
    Findings { estimators, optima, ranks: ranks(pools) }
}

/// Rank correlations of cheap weights with exact norms, mean over pools.
fn ranks(pools: &[Pool]) -> Vec<(String, f64)> {
    let one = |weights: Weights| {
        let values: Vec<f64> = pools
            .iter()
            .filter_map(|pool| {
                let rows = 0..pool.rewards.len();
                let exact: Vec<f64> = rows.clone().map(|row| pool.norm(row)).collect();
                let cheap: Vec<f64> = rows.map(|row| pool.weights.get(weights, row)).collect();
                crate::stats::rank_correlation(&cheap, &exact)
            })
            .collect();
        (!values.is_empty())
            .then(|| (weights.name().to_owned(), values.iter().sum::<f64>() / values.len() as f64))
    };
    [Weights::Length, Weights::Logit, Weights::LmHead].into_iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    fn findings(draw: toy::Toy, groups: usize) -> Findings {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        compare(&[toy::pool("toy", draw, groups, 4, &mut || rng.random())])
    }

    fn of<'a>(findings: &'a Findings, name: &str) -> &'a EstimatorReport {
        findings.estimators.iter().find(|report| report.estimator == name).expect(name)
    }

    #[test]
    fn the_bandit_gives_the_enumerated_variances() {
        let found = findings(toy::bandit, 600);
        // twenty figures are looked at: 3.1 standard errors each
        let wide = |f: Figure| {
            let (down, up) = (1.6 * (f.value - f.low), 1.6 * (f.high - f.value));
            // an estimate may lie below what is possible
            Figure { low: (f.value - down).min(f.low), high: f.value + up, ..f }
        };
        for (name, variance, slope) in [
            ("group mean", 0.015_780, 0.75),
            ("leave-one-out", 0.028_054, 1.0),
            ("optimal, full, own", 0.011_915, f64::NAN),
            ("optimal, full, leave-one-out", 0.024_862, 1.0),
            ("best constant", 0.006_594, 1.0),
            ("mean of other rollouts", 0.042_704_2 / 4.0, 1.0),
            ("no baseline", 0.124_362 / 4.0, 1.0),
        ] {
            let report = of(&found, name);
            assert!(wide(report.variance).holds(variance), "{name}: {:?} is not {variance}", report.variance);
            assert!(
                slope.is_nan() || wide(report.slope).holds(slope),
                "{name}: {:?} is not {slope}",
                report.slope
            );
            if slope == 1.0 {
                assert!(wide(report.bias).holds(0.0), "{name}: {:?}", report.bias);
            }
        }
        assert!(of(&found, "group mean").bias.low > 0.03, "1/16 of ‖∇J‖²");
        let optimum = &found.optima[0];
        assert!(wide(optimum.closed_form).holds(0.399_355), "{optimum:?}");
        assert!(wide(optimum.difference).holds(0.0), "{optimum:?}");
        assert!((optimum.variance_closed_form - 0.026_375_9 / 4.0).abs() < 5e-4, "{optimum:?}");
    }

    #[test]
    fn the_bias_of_unbiased_estimators_is_told_as_such_by_nearly_all_seeds() {
        let (mut below, mut above, mut all) = (0, 0, 0);
        for seed in 0..150 {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let found = compare(&[toy::pool("toy", toy::bandit, 24, 4, &mut || rng.random())]);
            for name in ["no baseline", "leave-one-out", "mean of other rollouts"] {
                let bias = of(&found, name).bias;
                (below, above, all) =
                    (below + u32::from(bias.high < 0.0), above + u32::from(bias.low > 0.0), all + 1);
            }
            for report in &found.estimators {
                for figure in [report.bias, report.variance, report.noise, report.snr] {
                    assert!(figure.low >= 0.0 && figure.high >= figure.low, "{report:?}");
                }
            }
        }
        assert_eq!(below, 0, "no squared norm is below 0");
        assert!(above * 100 <= 7 * all, "{above} of {all}");
    }

    #[test]
    fn two_steps_reward_long_answers_and_weights_tell_them_apart() {
        let found = findings(toy::two_step, 300);
        let optimum = &found.optima[0];
        assert!(optimum.correlation.expect("both vary") > 0.2, "{optimum:?}");
        // of four rollouts the optimum cannot be told well, and a bad guess costs more than the mean; known, it pays
        assert!(optimum.noise.low > 1.0, "{optimum:?}");
        let (best, shrunk) =
            (of(&found, "best constant").noise, of(&found, "optimal, full, 8 of its past").noise);
        assert!(best.high < 1.0 && shrunk.high < optimum.noise.low, "{best:?} {shrunk:?}");
        assert!(optimum.difference.holds(0.0), "{optimum:?}");
        assert!(found.ranks.iter().all(|(_, value)| *value > 0.3), "{:?}", found.ranks);
    }

    #[test]
    fn a_length_of_its_own_in_the_divisor_moves_the_score_off_its_centre() {
        // E[S/length] of the two-step policy, first coordinate: σ(1 − σ)(1 − ½)
        let stop = 1.0 / (1.0 + (-0.3f64).exp());
        let wanted: f64 = stop * (1.0 - stop) - (1.0 - stop) * stop / 2.0;
        assert!((wanted - 0.122_229).abs() < 1e-6);
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut sums = [0.0; 2];
        for _ in 0..200_000 {
            let (_, score, length) = toy::two_step(&mut || rng.random());
            sums[0] += score[0];
            sums[1] += score[0] / length;
        }
        assert!((sums[0] / 2e5).abs() < 5e-3 && (sums[1] / 2e5 - wanted).abs() < 5e-3, "{sums:?}");
    }
}
