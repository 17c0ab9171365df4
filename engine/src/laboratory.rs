//! How good estimators of the policy gradient are at a fixed policy: bias, variance and signal-to-noise ratio, with intervals.
//!
//! Before: many groups of rollouts of a few prompts, each rollout with its score S = ∇ ln π(y | x) as far as inner products
//! of them go. After: `evenkeel variance` prints it. A group gives each estimator one vector, (1/G) Σ Aⱼ Sⱼ; all figures are
//! made of inner products between such vectors. Groups are independent draws, so products of two different groups are
//! unbiased; intervals come from leaving out one group at a time (jackknife).

use serde::Serialize;

use crate::baseline::{BaselineConfig, Group, Mode, Optimal, RowWeights, Weights, advantages};
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

/// A number with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Figure {
    /// Whether a number is within the interval.
    pub fn holds(&self, number: f64) -> bool {
        (self.low..=self.high).contains(&number)
    }
}

/// What became of one estimator, over all prompts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Its name.
    pub estimator: String,
    /// ⟨E ĝ, ∇J⟩/‖∇J‖²: 1 if it is unbiased, 1 − 1/G for a group mean with the own reward.
    pub slope: Figure,
    /// ‖E ĝ − ∇J‖²/‖∇J‖²: all of the bias, in any direction.
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
    pub estimators: Vec<Report>,
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
        let optimal = Optimal { shrink: pseudo, cap: f32::INFINITY, ..Optimal::default() };
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

/// Sums over groups and pairs of groups of some inner products, of which any group can be left out.
struct Sums {
    groups: usize,
    diagonal: Vec<f64>,
    /// Row plus column of each group, its own product counted once.
    lines: Vec<f64>,
    trace: f64,
    all: f64,
}

impl Sums {
    fn new(products: &[Vec<f64>]) -> Self {
        let groups = products.len();
        let diagonal: Vec<f64> = (0..groups).map(|i| products[i][i]).collect();
        let line = |i: usize| -> f64 {
            let row: f64 = products[i].iter().sum();
            let column: f64 = products.iter().map(|row| row[i]).sum();
            row + column - products[i][i]
        };
        Self {
            groups,
            lines: (0..groups).map(line).collect(),
            trace: diagonal.iter().sum(),
            all: products.iter().flatten().sum(),
            diagonal,
        }
    }

    /// (mean product of two different groups, mean product of a group with itself), without one group.
    fn means(&self, without: Option<usize>) -> (f64, f64) {
        let (mut n, mut trace, mut all) = (self.groups as f64, self.trace, self.all);
        if let Some(group) = without {
            (n, trace, all) = (n - 1.0, trace - self.diagonal[group], all - self.lines[group]);
        }
        ((all - trace) / (n * (n - 1.0)), trace / n)
    }
}

/// A figure from a function of "everything but one group of one pool", and its jackknife interval.
fn figure(pools: &[Pool], f: impl Fn(Option<(usize, usize)>) -> f64) -> Figure {
    let value = f(None);
    let mut variance = 0.0;
    for (number, pool) in pools.iter().enumerate() {
        let groups = pool.groups();
        let left: Vec<f64> = (0..groups).map(|group| f(Some((number, group)))).collect();
        let mean = left.iter().sum::<f64>() / groups as f64;
        let spread: f64 = left.iter().map(|x| (x - mean).powi(2)).sum();
        variance += (groups as f64 - 1.0) / groups as f64 * spread;
    }
    let half = 1.959_964 * variance.sqrt();
    Figure { value, low: value - half, high: value + half }
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
        let slope = |w| mean_over(&|p, without| crossed[p].means(without).0, w) / truth(w);
        estimators.push(Report {
            estimator: name.clone(),
            slope: figure(pools, slope),
            bias: figure(pools, |w| mean_over(&|p, without| differences[p].means(without).0, w) / truth(w)),
            variance: figure(pools, |w| variance(rule, w)),
            noise: Figure { value: 0.0, low: 0.0, high: 0.0 },
            snr: figure(pools, |w| signal(rule, w) / variance(rule, w)),
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
        report.noise = figure(pools, |w| variance(rule, w) / slope(w).powi(2) / variance(plain, w));
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
                noise: figure(one, |w| of(exact, w) / of(plain, w)),
                variance_closed_form: (power - own[number][oracle].means(None).0) / pool.group_size as f64,
                variance_measured: figure(one, |w| of(oracle, w)),
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

/// What a mixture of two branches does at some share of the first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MixedError {
    /// α.
    pub alpha: f64,
    /// E‖α g_t + (1 − α) g_e − E g_t‖².
    pub error: Figure,
    /// tr Var of the mixture.
    pub variance: Figure,
}

/// What was found of a mixture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MixtureFindings {
    /// α from the moments of one half of the steps.
    pub alpha: Figure,
    /// The α of the grid with the least error, on the other half.
    pub best_on_grid: f64,
    /// The error's minimum on that half between grid points, with its interval.
    pub best: Figure,
    /// The grid, on that half.
    pub grid: Vec<MixedError>,
}

/// Compares shares of two branches, whose gradients of independent steps have these inner products: `(2 steps, 2 steps)`,
/// the thinking branch's steps first. The target is the thinking branch's expectation.
///
/// # Panics
/// If there are fewer than eight steps.
pub fn mixture(gram: &[f32], steps: usize) -> MixtureFindings {
    assert!(steps >= 8 && gram.len() == 4 * steps * steps, "two branches of at least eight steps");
    let product = |a: usize, b: usize| f64::from(gram[a * 2 * steps + b]);
    // sums over steps of one half: ⟨t, t⟩, ⟨e, e⟩ and ⟨t, e⟩
    let sums = |half: std::ops::Range<usize>| -> [Sums; 3] {
        let of = |a: usize, b: usize| -> Sums {
            let line = |i: usize| half.clone().map(|j| product(a * steps + i, b * steps + j)).collect();
            Sums::new(&half.clone().map(line).collect::<Vec<Vec<f64>>>())
        };
        [of(0, 0), of(1, 1), of(0, 1)]
    };
    // (distance², Var t, Var e, Cov) without one step
    let moments = |sums: &[Sums; 3], without: Option<usize>| {
        let [(tt, t), (ee, e), (te, both)] = [0, 1, 2].map(|i| sums[i].means(without));
        (tt + ee - 2.0 * te, t - tt, e - ee, both - te)
    };
    let best = |sums: &[Sums; 3], without: Option<usize>| {
        let (distance, t, e, both) = moments(sums, without);
        ((distance + e - both) / (distance + t + e - 2.0 * both)).clamp(0.0, 1.0)
    };
    let jackknife = |count: usize, f: &dyn Fn(Option<usize>) -> f64| -> Figure {
        let value = f(None);
        let left: Vec<f64> = (0..count).map(|step| f(Some(step))).collect();
        let mean = left.iter().sum::<f64>() / count as f64;
        let spread: f64 = left.iter().map(|x| (x - mean).powi(2)).sum();
        let half = 1.959_964 * ((count as f64 - 1.0) / count as f64 * spread).sqrt();
        Figure { value, low: value - half, high: value + half }
    };
    let middle = steps / 2;
    let (first, second) = (sums(0..middle), sums(middle..steps));
    let rest = steps - middle;
    let grid: Vec<MixedError> = (0..=20)
        .map(|point| {
            let alpha = f64::from(point) / 20.0;
            let variance = |without: Option<usize>| {
                let (_, t, e, both) = moments(&second, without);
                alpha * alpha * t + (1.0 - alpha).powi(2) * e + 2.0 * alpha * (1.0 - alpha) * both
            };
            let error = |without: Option<usize>| {
                (1.0 - alpha).powi(2) * moments(&second, without).0 + variance(without)
            };
            MixedError { alpha, error: jackknife(rest, &error), variance: jackknife(rest, &variance) }
        })
        .collect();
    let least = grid.iter().min_by(|a, b| a.error.value.total_cmp(&b.error.value));
    MixtureFindings {
        alpha: jackknife(middle, &|without| best(&first, without)),
        best_on_grid: least.map_or(0.0, |point| point.alpha),
        best: jackknife(rest, &|without| best(&second, without)),
        grid,
    }
}

/// Policies that are small enough for a formula, to try the laboratory on.
pub mod toy {
    use super::Pool;
    use crate::baseline::RowWeights;

    /// One draw: reward, score S, and length.
    pub type Draw = (f32, Vec<f64>, f64);

    /// A policy: draws from numbers in 0..1.
    pub type Toy = fn(&mut dyn FnMut() -> f64) -> Draw;

    /// θ of the bandit; rewards of its three actions.
    const BANDIT: ([f64; 3], [f32; 3]) = ([0.5, 0.0, -0.5], [1.0, 0.0, 0.3]);

    fn softmax(theta: &[f64; 3]) -> [f64; 3] {
        let total: f64 = theta.iter().map(|t| t.exp()).sum();
        theta.map(|t| t.exp() / total)
    }

    /// A softmax over three actions with θ = (0.5, 0, −0.5) and rewards (1, 0, 0.3).
    pub fn bandit(uniforms: &mut dyn FnMut() -> f64) -> Draw {
        let (theta, rewards) = BANDIT;
        let p = softmax(&theta);
        let u = uniforms();
        let action = if u < p[0] {
            0
        } else if u < p[0] + p[1] {
            1
        } else {
            2
        };
        let score = (0..3).map(|k| f64::from(u8::from(k == action)) - p[k]).collect();
        (rewards[action], score, 1.0)
    }

    /// Two parameters: one decides whether to stop after the first token, with P(stop) = σ(0.3), the other draws the
    /// second token. A long answer is right more often, so reward and squared norm go together.
    pub fn two_step(uniforms: &mut dyn FnMut() -> f64) -> Draw {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let (stop, second) = (sigmoid(0.3), sigmoid(-0.4));
        if uniforms() < stop {
            return (0.2, vec![1.0 - stop, 0.0], 1.0);
        }
        let right = uniforms() < second;
        (if right { 1.0 } else { 0.1 }, vec![-stop, f64::from(u8::from(right)) - second], 2.0)
    }

    /// Groups of draws.
    pub fn pool(
        name: &str,
        draw: Toy,
        groups: usize,
        group_size: usize,
        uniforms: &mut dyn FnMut() -> f64,
    ) -> Pool {
        let draws: Vec<Draw> = (0..groups * group_size).map(|_| draw(uniforms)).collect();
        let inner = |a: &Draw, b: &Draw| a.1.iter().zip(&b.1).map(|(a, b)| a * b).sum::<f64>();
        let norms: Vec<f64> = draws.iter().map(|d| inner(d, d)).collect();
        Pool {
            prompt: name.to_owned(),
            group_size,
            rewards: draws.iter().map(|draw| draw.0).collect(),
            gram: draws.iter().flat_map(|a| draws.iter().map(move |b| inner(a, b) as f32)).collect(),
            weights: RowWeights {
                length: draws.iter().map(|draw| draw.2).collect(),
                // here the logits are the parameters
                logit: norms.clone(),
                lm_head: norms.clone(),
                full: norms,
            },
            others: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    fn findings(draw: toy::Toy, groups: usize) -> Findings {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        compare(&[toy::pool("toy", draw, groups, 4, &mut || rng.random())])
    }

    fn of<'a>(findings: &'a Findings, name: &str) -> &'a Report {
        findings.estimators.iter().find(|report| report.estimator == name).expect(name)
    }

    #[test]
    fn the_bandit_gives_the_enumerated_variances() {
        let found = findings(toy::bandit, 600);
        // twenty figures are looked at: 3.1 standard errors each
        let wide = |f: Figure| {
            let (down, up) = (1.6 * (f.value - f.low), 1.6 * (f.high - f.value));
            Figure { low: f.value - down, high: f.value + up, ..f }
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
    fn a_mixture_of_known_moments_is_found() {
        // t = (0.5 + noise, 0), e = (0, 0.4 + noise): distance² 0.41, variances 2/3 and 1/3
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let steps = 400;
        let mut uniform = |width: f64| (2.0 * rng.random::<f64>() - 1.0) * width;
        let mut vectors: Vec<[f64; 2]> = (0..steps).map(|_| [0.5 + uniform(2f64.sqrt()), 0.0]).collect();
        vectors.extend((0..steps).map(|_| [0.0, 0.4 + uniform(1.0)]));
        let inner = |a: &[f64; 2], b: &[f64; 2]| (a[0] * b[0] + a[1] * b[1]) as f32;
        let gram: Vec<f32> = vectors.iter().flat_map(|a| vectors.iter().map(move |b| inner(a, b))).collect();
        let found = mixture(&gram, steps);
        let (distance, t, e) = (0.41, 2.0 / 3.0, 1.0 / 3.0);
        let wanted = (distance + e) / (distance + t + e);
        assert!(found.alpha.holds(wanted) && found.best.holds(wanted), "{found:?} {wanted}");
        assert!((found.best_on_grid - found.best.value).abs() <= 0.025 + 1e-9);
        let end = &found.grid[20];
        assert!(end.error.holds(t) && end.variance.holds(t), "{end:?}");
        assert!(found.grid[0].error.holds(distance + e), "{:?}", found.grid[0]);
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
