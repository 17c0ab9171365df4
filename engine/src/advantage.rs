//! Advantages of a batch: rewards, weights and what is known of the prompts, through the recipe's baseline.
//!
//! Before: [`Batch`] has rewards in groups. After: every row that trains has an advantage for each of its tokens.

use crate::baseline::{
    Baseline, BaselineConfig, Group, Others, RowWeights, Scale, Weights, advantages, is_equal, rescale,
};
use crate::batch::{BaselineStats, Batch, GroupNorms};
use crate::ledger::Ledger;
use crate::stats::correlation;

/// What advantages are made from, beside the batch.
pub(crate) struct Inputs<'a> {
    pub(crate) baseline: &'a BaselineConfig,
    pub(crate) scale: Scale,
    /// Of every row, in the baseline's way.
    pub(crate) weights: &'a RowWeights,
    pub(crate) ledger: &'a Ledger,
    /// β of a KL term in the reward; its d is ln π_old − ln π_ref of every token, 0 of those that were not drawn, empty where it
    /// was left out.
    pub(crate) kl: Option<(f32, &'a [Vec<f32>])>,
}

/// What the baseline may look at of one group, and the rows that it is about.
pub(crate) struct GroupInputs {
    pub(crate) rows: Vec<usize>,
    pub(crate) rewards: Vec<f32>,
    weights: Vec<f64>,
    prior: Option<f32>,
    greedy: Option<f32>,
    token_norms: Vec<Vec<f32>>,
    others: Option<Others>,
}

impl GroupInputs {
    /// A group as the baseline sees it. `weight` gives that of a row.
    pub(crate) fn new(
        batch: &Batch,
        number: usize,
        baseline: &dyn Baseline,
        ledger: &Ledger,
        kl: Option<(f32, &[Vec<f32>])>,
        weight: impl Fn(usize) -> f64,
    ) -> Self {
        let group = &batch.groups[number];
        let needs = baseline.needs();
        let (rows, mut rewards): (Vec<usize>, Vec<f32>) = batch.known(group).unzip();
        if let Some((beta, d)) = kl {
            for (row, reward) in rows.iter().zip(&mut rewards) {
                *reward -= beta * d[*row].iter().sum::<f32>();
            }
        }
        let prior =
            needs.prior.then(|| ledger.prior(&group.prompt).or_else(|| others(batch, number))).flatten();
        let norms =
            |row: &usize| batch.seen.as_ref().map_or(Vec::new(), |seen| seen.logit_norms[*row].clone());
        Self {
            weights: rows.iter().map(|row| weight(*row)).collect(),
            prior,
            greedy: needs.greedy.then(|| group.greedy.or_else(|| others(batch, number))).flatten(),
            others: needs.others.then(|| spread(batch, number, ledger, needs.prior)).flatten(),
            token_norms: if needs.token_norms { rows.iter().map(norms).collect() } else { Vec::new() },
            rewards,
            rows,
        }
    }

    /// For the baseline.
    pub(crate) fn group(&self) -> Group<'_> {
        Group {
            rewards: &self.rewards,
            weights: &self.weights,
            prior: self.prior,
            greedy: self.greedy,
            token_norms: &self.token_norms,
            others: self.others,
        }
    }
}

/// Mean reward of the other groups.
fn others(batch: &Batch, number: usize) -> Option<f32> {
    let groups = batch.groups.iter().enumerate().filter(|(other, _)| *other != number);
    let rewards: Vec<f32> = groups.flat_map(|(_, group)| batch.known(group).map(|(_, r)| r)).collect();
    (!rewards.is_empty()).then(|| rewards.iter().sum::<f32>() / rewards.len() as f32)
}

/// How rewards of the other groups vary, around what was known of their prompts if `past` asks for it.
fn spread(batch: &Batch, number: usize, ledger: &Ledger, past: bool) -> Option<Others> {
    let groups = batch.groups.iter().enumerate().filter(|(other, _)| *other != number);
    let (mut means, mut within, mut chance) = (Vec::new(), Vec::new(), Vec::new());
    for (_, group) in groups {
        let rewards: Vec<f64> = batch.known(group).map(|(_, reward)| f64::from(reward)).collect();
        if rewards.is_empty() {
            continue;
        }
        let n = rewards.len() as f64;
        let mean = rewards.iter().sum::<f64>() / n;
        means.push((mean, ledger.prior(&group.prompt).filter(|_| past).map(f64::from)));
        if rewards.len() > 1 {
            let variance = rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (n - 1.0);
            within.push(variance);
            chance.push(variance / n);
        }
    }
    if means.len() < 2 || within.is_empty() {
        return None;
    }
    let average = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let mean = average(&means.iter().map(|(mean, _)| *mean).collect::<Vec<f64>>());
    // a mean over some groups' pasts and one over the others' grand mean are of two different things
    let known = past && means.iter().all(|(_, prior)| prior.is_some());
    let square = |(own, prior): &(f64, Option<f64>)| (own - prior.filter(|_| known).unwrap_or(mean)).powi(2);
    let between = average(&means.iter().map(square).collect::<Vec<f64>>());
    Some(Others { mean, within: average(&within), between, chance: average(&chance) })
}

/// Gives every row that trains its advantages.
pub(crate) fn assign(batch: &mut Batch, inputs: &Inputs<'_>) {
    let baseline = inputs.baseline.build();
    let kind = baseline.needs().weights;
    let mut all: Vec<Vec<Vec<f32>>> = Vec::new();
    let mut groups = Vec::new();
    let mut stats = Running::default();
    for number in 0..batch.groups.len() {
        let weight = |row| inputs.weights.get(kind, row);
        let seen = GroupInputs::new(batch, number, baseline, inputs.ledger, inputs.kl, weight);
        if seen.rows.is_empty() {
            groups.push(seen);
            all.push(Vec::new());
            continue;
        }
        let group = seen.group();
        let lengths = seen.rows.iter().map(|row| batch.rows[*row].tokens.len());
        let mut rows: Vec<Vec<f32>> = match baseline.token_baselines(&group) {
            Some(_) if is_equal(group.rewards) => lengths.map(|n| vec![0.0; n]).collect(),
            Some(tokens) => {
                let of_row =
                    |(baselines, reward): (Vec<f32>, &f32)| baselines.iter().map(|b| reward - b).collect();
                tokens.into_iter().zip(group.rewards).map(of_row).collect()
            }
            None => {
                let values = advantages(baseline, &group);
                stats.take(baseline, &batch.groups[number].prompt, &seen, &values);
                values.iter().zip(lengths).map(|(a, n)| vec![*a; n]).collect()
            }
        };
        if let Some((beta, d)) = inputs.kl {
            // what was paid before a token is none of its doing
            for (row, advantages) in seen.rows.iter().zip(&mut rows) {
                let mut paid = 0.0;
                for (advantage, d) in advantages.iter_mut().zip(&d[*row]) {
                    *advantage += paid;
                    paid += beta * d;
                }
            }
        }
        for (row, advantages) in seen.rows.iter().zip(&mut rows) {
            batch.rows[*row].keep_drawn(advantages);
        }
        groups.push(seen);
        all.push(rows);
    }
    let rewards: Vec<Vec<f32>> = groups.iter().map(|seen| seen.rewards.clone()).collect();
    rescale(inputs.scale, &rewards, &mut all);
    for (seen, rows) in groups.iter().zip(all) {
        for (row, advantages) in seen.rows.iter().zip(rows) {
            if batch.rows[*row].trains {
                batch.rows[*row].advantages = batch.rows[*row].spread_drawn(advantages);
            }
        }
    }
    stats.into(&mut batch.baseline);
}

/// Sums over groups of what baselines and weights came to.
#[derive(Default)]
pub(crate) struct Running {
    gaps: Vec<f64>,
    rewards: Vec<f64>,
    weights: Vec<f64>,
    prior_updates: Vec<(String, f32)>,
    norms: Vec<(String, GroupNorms)>,
}

impl Running {
    /// One group with its advantages.
    pub(crate) fn take(
        &mut self,
        baseline: &dyn Baseline,
        prompt: &str,
        seen: &GroupInputs,
        advantages: &[f32],
    ) {
        let needs = baseline.needs();
        if needs.prior && !seen.rewards.is_empty() {
            self.prior_updates.push((prompt.to_owned(), baseline.prior_update(&seen.group())));
        }
        let kind = needs.weights;
        if kind == Weights::Uniform || seen.rewards.len() < 2 || is_equal(&seen.rewards) {
            return;
        }
        if kind.is_exact() {
            self.norms.push((prompt.to_owned(), GroupNorms::of(&seen.rewards, &seen.weights)));
        }
        let n = seen.rewards.len() as f64;
        let mean_advantage = advantages.iter().map(|a| f64::from(*a)).sum::<f64>() / n;
        self.gaps.push(-mean_advantage); // mean reward − mean advantage is the mean baseline
        let (r, w) = (
            seen.rewards.iter().map(|r| f64::from(*r)).sum::<f64>() / n,
            seen.weights.iter().sum::<f64>() / n,
        );
        self.rewards.extend(seen.rewards.iter().map(|reward| f64::from(*reward) - r));
        self.weights.extend(seen.weights.iter().map(|weight| if w > 0.0 { weight / w - 1.0 } else { 0.0 }));
    }

    /// Into the batch's statistics.
    pub(crate) fn into(self, stats: &mut BaselineStats) {
        stats.prior_updates.extend(self.prior_updates);
        stats.norms.extend(self.norms);
        if !self.gaps.is_empty() {
            stats.gap = Some(self.gaps.iter().sum::<f64>() / self.gaps.len() as f64);
            stats.reward_weight_correlation = correlation(&self.rewards, &self.weights);
        }
    }
}
