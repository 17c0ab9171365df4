//! The baseline of least variance.

use serde::{Deserialize, Serialize};

use super::{Baseline, Group, Needs, Weights};

/// Σ wⱼ rⱼ / Σ wⱼ with wⱼ = ‖∇ ln π(yⱼ | x)‖²: of all constants, the one that gives the policy gradient the least variance.
///
/// It differs from the mean by Cov(w, r)/E w, so it pays where long or surprising answers are right more often, or less
/// often, than others; the excess variance of any other baseline b is E w · (b − b*)². With weights `length` it is OPO's.
///
/// Needs a loss whose rows all have the same normaliser: with one of its own length, E[S/|y|] is not 0 and any baseline
/// shifts the expected gradient.
///
/// # Source
/// Weaver & Tao (2001); Greensmith, Bartlett & Baxter, JMLR 5 (2004); for language models OBLR-PO, arXiv:2511.23310, of
/// which only the abstract is confirmed: leave-one-out, cap, tempering and shrinkage are derived here. OPO: arXiv:2505.23585.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Optimal {
    /// What w is: `"full"`, exact, or something cheaper.
    pub weights: Weights,
    /// Whether a rollout's own reward is in its baseline.
    pub mode: Mode,
    /// Largest W/(W − w): how much a leave-one-out advantage may exceed the one with its own reward. At least 1.
    pub cap: f32,
    /// τ: weights are w^τ; 1 is optimal, 0 the mean.
    pub temper: f32,
    /// κ: how many rollouts a prior counts for, the running mean of the prompt's past baselines; 0 uses none. In small groups
    /// the optimum cannot be told well, and what it gains is lost again without such a prior. Or how κ is estimated:
    /// `"james_stein"`, `"empirical_bayes"`.
    pub shrink: Shrink,
}

/// How much a baseline is drawn to a prior.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Shrink {
    /// The running mean of the prompt's past counts for so many rollouts.
    Rollouts(f32),
    /// As the rewards of the other groups of the batch say.
    Estimated(ShrinkEstimate),
}

/// κ = variance of a rollout's reward within a prompt / variance of prompts around the prior, both from the *other* groups of the
/// batch, so that the baseline knows nothing of its own rollout and stays unbiased. In groups of 2 to 4 that lowers the noise;
/// from 8 on there is little left to gain. Unanimous groups have advantages too.
///
/// # Source
/// JSPO, arXiv:2511.03710. The correction of the variance between prompts and the prompt's own past as prior are derived here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ShrinkEstimate {
    /// As released: towards the mean of the other groups, whose variance is taken as it is seen.
    JamesStein,
    /// Towards the prompt's own past, or the mean of the other groups where there is none; what chance adds to the variance
    /// between prompts is taken off.
    EmpiricalBayes,
}

impl Default for Shrink {
    fn default() -> Self {
        Self::Rollouts(0.0)
    }
}

impl Shrink {
    /// κ in rollouts, and the prior.
    fn prior(self, group: &Group<'_>) -> Option<(f64, f64)> {
        // beyond it rewards of the group count for nothing
        const MOST: f64 = 1e9;
        let ratio = |a: f64, b: f64| if a <= 0.0 { 0.0 } else { (a / b.max(0.0)).min(MOST) };
        match self {
            Self::Rollouts(0.0) => None,
            Self::Rollouts(count) => Some((f64::from(count), f64::from(group.prior?))),
            Self::Estimated(ShrinkEstimate::JamesStein) => {
                let others = group.others?;
                // λ = chance/(chance + between) whatever the weight of the others in the group
                Some(((group.rewards.len() as f64 - 1.0) * ratio(others.chance, others.between), others.mean))
            }
            Self::Estimated(ShrinkEstimate::EmpiricalBayes) => {
                let others = group.others?;
                let kappa = ratio(others.within, others.between - others.chance);
                Some((kappa, group.prior.map_or(others.mean, f64::from)))
            }
        }
    }
}

impl Default for Optimal {
    fn default() -> Self {
        Self {
            weights: Weights::Full,
            mode: Mode::LeaveOneOut,
            cap: 4.0,
            temper: 1.0,
            shrink: Shrink::default(),
        }
    }
}

/// Whether a rollout's own reward is in its baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is: least error in small groups, with a bias of O(1/group_size).
    Own,
    /// It is not: unbiased, A = (r − b)·W/(W − w).
    #[default]
    LeaveOneOut,
}

impl Optimal {
    /// Weights after tempering; all 1 where a policy is so sure that they vanish.
    fn tempered(&self, group: &Group<'_>) -> Vec<f64> {
        let clean = |w: f64| if w.is_finite() { w.max(0.0) } else { 0.0 };
        let weights: Vec<f64> =
            group.weights.iter().map(|w| clean(*w).powf(f64::from(self.temper))).collect();
        if weights.len() == group.rewards.len() && weights.iter().sum::<f64>() > 0.0 {
            weights
        } else {
            vec![1.0; group.rewards.len()]
        }
    }
}

impl Baseline for Optimal {
    fn baselines(&self, group: &Group<'_>) -> Vec<f32> {
        let weights = self.tempered(group);
        let count = weights.len();
        let total: f64 = weights.iter().sum();
        let weighted: f64 = weights.iter().zip(group.rewards).map(|(w, r)| w * f64::from(*r)).sum();
        let (kappa, prior) = self.shrink.prior(group).unwrap_or((0.0, 0.0));
        let pseudo = kappa * total / count as f64;
        let shrunk = |weighted: f64, total: f64| (weighted + pseudo * prior) / (total + pseudo);
        let own = shrunk(weighted, total);
        if self.mode == Mode::Own {
            return vec![own as f32; count];
        }
        let others = weights.iter().zip(group.rewards).enumerate().map(|(place, (w, r))| {
            let (r, rest) = (f64::from(*r), total - w);
            let baseline = if rest + pseudo > 1e-12 * total {
                shrunk(weighted - w * r, rest)
            } else if count == 1 {
                // nobody to compare with: as in RLOO, nothing is subtracted
                return 0.0;
            } else {
                // the others weigh nothing: they count alike
                let rest = group.rewards.iter().enumerate().filter(|(other, _)| *other != place);
                rest.map(|(_, r)| f64::from(*r)).sum::<f64>() / (count - 1) as f64
            };
            let (alone, whole) = (r - baseline, r - own);
            let bounded = f64::from(self.cap) * whole.abs();
            r - if alone.abs() > bounded { bounded.copysign(alone) } else { alone }
        });
        others.map(|baseline| baseline as f32).collect()
    }

    fn prior_update(&self, group: &Group<'_>) -> f32 {
        let weights = self.tempered(group);
        let weighted: f64 = weights.iter().zip(group.rewards).map(|(w, r)| w * f64::from(*r)).sum();
        (weighted / weights.iter().sum::<f64>()) as f32
    }

    fn needs(&self) -> Needs {
        let (prior, others) = match self.shrink {
            Shrink::Rollouts(count) => (count > 0.0, false),
            Shrink::Estimated(ShrinkEstimate::JamesStein) => (false, true),
            Shrink::Estimated(ShrinkEstimate::EmpiricalBayes) => (true, true),
        };
        Needs { weights: self.weights, prior, others, ..Needs::default() }
    }

    fn is_constant(&self) -> bool {
        self.mode == Mode::Own
    }

    fn problem(&self) -> Option<String> {
        let Self { cap, temper, shrink, .. } = self;
        if cap.is_nan() || *cap < 1.0 {
            Some(format!("baseline.optimal.cap is {cap}; wanted at least 1"))
        } else if !(0.0..=1.0).contains(temper) {
            Some(format!("baseline.optimal.temper is {temper}; wanted 0 to 1"))
        } else if let Shrink::Rollouts(count) = shrink
            && !(count.is_finite() && *count >= 0.0)
        {
            Some(format!("baseline.optimal.shrink is {count}; wanted at least 0"))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Others, advantages, tests::close};
    use super::*;

    const REWARDS: [f32; 4] = [1.0, 0.0, 1.0, 0.0];
    const WEIGHTS: [f64; 4] = [4.0, 1.0, 2.0, 3.0];

    fn group(weights: &[f64]) -> Group<'_> {
        Group { rewards: &REWARDS, weights, ..Group::default() }
    }

    fn own() -> Optimal {
        Optimal { mode: Mode::Own, ..Optimal::default() }
    }

    #[test]
    fn baselines_match_the_worked_numbers() {
        close(&own().baselines(&group(&WEIGHTS)), &[0.6; 4]);
        let others = Optimal::default().baselines(&group(&WEIGHTS));
        close(&others, &[1.0 / 3.0, 2.0 / 3.0, 0.5, 0.857_143]);
        let a = advantages(&Optimal::default(), &group(&WEIGHTS));
        close(&a, &[0.666_667, -0.666_667, 0.5, -0.857_143]);
        let weighted: f64 =
            advantages(&own(), &group(&WEIGHTS)).iter().zip(WEIGHTS).map(|(a, w)| f64::from(*a) * w).sum();
        assert!(weighted.abs() < 1e-6, "weighted advantages with the own reward add up to 0");
        // OPO: length as weight
        let rewards = [1.0, 0.0, 0.0, 1.0, 0.0];
        let lengths = [10.0, 20.0, 30.0, 20.0, 20.0];
        let opo = Group { rewards: &rewards, weights: &lengths, ..Group::default() };
        close(&advantages(&own(), &opo), &[0.7, -0.3, -0.3, 0.7, -0.3]);
    }

    #[test]
    fn equal_weights_give_the_mean_and_leave_one_out() {
        close(&own().baselines(&group(&[2.5; 4])), &[0.5; 4]);
        let third = 2.0 / 3.0;
        close(&advantages(&Optimal::default(), &group(&[2.5; 4])), &[third, -third, third, -third]);
        let untempered = Optimal { temper: 0.0, ..own() };
        close(&untempered.baselines(&group(&WEIGHTS)), &[0.5; 4]);
    }

    #[test]
    fn advantages_do_not_depend_on_an_offset_of_rewards_nor_on_a_factor_of_weights() {
        for baseline in
            [own(), Optimal::default(), Optimal { shrink: Shrink::Rollouts(2.0), ..Optimal::default() }]
        {
            let prior = Some(0.25).filter(|_| baseline.needs().prior);
            let plain = advantages(&baseline, &Group { prior, ..group(&WEIGHTS) });
            let rewards = REWARDS.map(|r| r + 8.0);
            let shifted = Group { rewards: &rewards, prior: prior.map(|p| p + 8.0), ..group(&WEIGHTS) };
            close(&advantages(&baseline, &shifted), &plain);
            let scaled = WEIGHTS.map(|w| w * 1e6);
            close(&advantages(&baseline, &Group { prior, ..group(&scaled) }), &plain);
        }
    }

    #[test]
    fn one_dominating_rollout_is_capped_and_none_that_weighs_is_no_harm() {
        let heavy = [1000.0, 1.0, 1.0, 1.0];
        let (whole, alone) =
            (advantages(&own(), &group(&heavy)), advantages(&Optimal::default(), &group(&heavy)));
        assert!((alone[0] / whole[0] - 4.0).abs() < 1e-3, "{alone:?} {whole:?}");
        let unbounded = Optimal { cap: f32::INFINITY, ..Optimal::default() };
        close(&advantages(&unbounded, &group(&heavy))[..1], &[2.0 / 3.0]);
        let third = 2.0 / 3.0;
        for nothing in [[0.0; 4], [f64::NAN; 4]] {
            close(&advantages(&Optimal::default(), &group(&nothing)), &[third, -third, third, -third]);
        }
        // only one weighs at all: the others stand in
        let single = Optimal { cap: f32::INFINITY, ..Optimal::default() };
        close(&single.baselines(&group(&[1.0, 0.0, 0.0, 0.0])), &[1.0 / 3.0, 1.0, 1.0, 1.0]);
        let one = Group { rewards: &[0.7], weights: &[3.0], ..Group::default() };
        close(&Optimal::default().baselines(&one), &[0.0]);
        let known = Group { prior: Some(0.4), ..one };
        close(
            &Optimal { shrink: Shrink::Rollouts(2.0), cap: f32::INFINITY, ..Optimal::default() }
                .baselines(&known),
            &[0.4],
        );
    }

    #[test]
    fn the_bandits_optimum_on_and_off_policy_is_that_of_its_moments() {
        // θ = (0.5, 0, −0.5), r = (1, 0, 0.3); drawn from π, and from μ = (0.3, 0.4, 0.3) with ρ = π/μ
        let exp = [0.5f64, 0.0, -0.5].map(f64::exp);
        let total: f64 = exp.iter().sum();
        let p = exp.map(|e| e / total);
        let squares: f64 = p.iter().map(|p| p * p).sum();
        let norms = p.map(|p| 1.0 - 2.0 * p + squares);
        for (drawn, wanted) in [(p, 0.399_355), ([0.3, 0.4, 0.3], 0.572_680)] {
            // a group in which every action has its share: the weights are μ ρ² ‖S‖²
            let weights: Vec<f64> = (0..3).map(|a| drawn[a] * (p[a] / drawn[a]).powi(2) * norms[a]).collect();
            let group = Group { rewards: &[1.0, 0.0, 0.3], weights: &weights, ..Group::default() };
            close(&own().baselines(&group)[..1], &[wanted]);
        }
    }

    /// Baselines of each of some groups, whose rollouts weigh alike, from what the others say.
    fn shrunk(shrink: ShrinkEstimate, groups: &[&[f32]]) -> Vec<Vec<f32>> {
        let optimal = Optimal { shrink: Shrink::Estimated(shrink), ..Optimal::default() };
        let of = |number: usize| {
            let mean = |group: &[f32]| group.iter().map(|r| f64::from(*r)).sum::<f64>() / group.len() as f64;
            let variance = |group: &[f32]| {
                let mean = mean(group);
                let squares = group.iter().map(|r| (f64::from(*r) - mean).powi(2)).sum::<f64>();
                squares / (group.len() as f64 - 1.0)
            };
            let others =
                groups.iter().enumerate().filter(|(other, _)| *other != number).map(|(_, group)| *group);
            let count = groups.len() as f64 - 1.0;
            let middle = others.clone().map(mean).sum::<f64>() / count;
            let others = Others {
                mean: middle,
                within: others.clone().map(variance).sum::<f64>() / count,
                between: others.clone().map(|group| (mean(group) - middle).powi(2)).sum::<f64>() / count,
                chance: others.map(|group| variance(group) / group.len() as f64).sum::<f64>() / count,
            };
            let weights = vec![1.0; groups[number].len()];
            let group = Group {
                rewards: groups[number],
                weights: &weights,
                others: Some(others),
                ..Group::default()
            };
            advantages(&optimal, &group)
        };
        (0..groups.len()).map(of).collect()
    }

    #[test]
    fn james_stein_matches_the_worked_numbers() {
        let groups: [&[f32]; 4] = [&[1.0, 0.0, 1.0, 1.0], &[0.0, 0.0, 1.0, 0.0], &[1.0; 4], &[0.0; 4]];
        let found = shrunk(ShrinkEstimate::JamesStein, &groups);
        close(&found[0], &[0.359_195, -0.939_655, 0.359_195, 0.359_195]);
        close(&found[2], &[0.2; 4]);
        close(&found[3], &[-0.2; 4]);
        // without what chance adds, the others differ less and count more
        let debiased = shrunk(ShrinkEstimate::EmpiricalBayes, &groups);
        close(&debiased[2], &[1.0 / 3.0; 4]);
    }

    #[test]
    fn groups_that_differ_by_chance_alone_share_their_mean() {
        let groups: [&[f32]; 4] = [&[1.0, 0.0], &[0.0, 1.0], &[1.0, 0.0], &[0.0, 1.0]];
        close(&shrunk(ShrinkEstimate::EmpiricalBayes, &groups)[1], &[-0.5, 0.5]);
        let equal: [&[f32]; 3] = [&[1.0; 2], &[0.0; 2], &[1.0; 2]];
        assert_eq!(
            shrunk(ShrinkEstimate::EmpiricalBayes, &equal)[0],
            [0.0; 2],
            "no rollout of a prompt differs"
        );
    }

    #[test]
    fn a_prior_counts_as_so_many_rollouts() {
        let shrunk = Optimal { shrink: Shrink::Rollouts(4.0), ..own() };
        // (6 + 4 · 2.5 · 0.2) / (10 + 10)
        close(&shrunk.baselines(&Group { prior: Some(0.2), ..group(&WEIGHTS) }), &[0.4; 4]);
        close(&shrunk.baselines(&group(&WEIGHTS)), &[0.6; 4]);
    }
}
