//! A Gaussian window that walks along an order of the prompts.
//!
//! Before: [`super::Prompts::order`]. After: the prompts of a step, mostly near the window's mean, which moves on as far as the
//! last step's accuracy and concentration say.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{GroupOutcome, PromptDraw, PromptKnowledge, Prompts};

/// Position k of the order is drawn with chances in proportion to exp(−(k − μ)²/2σ²), without replacement. After a step with
/// accuracy A, in 0 to 1, and mean concentration C, μ moves on by s·tanh(a(A − β)) + s·tanh(a·C), held to `least` and `most`. With
/// `least = 0` it never moves back.
///
/// # Source
/// GAIN-RL, arXiv:2506.02281, and its released code, whose numbers of positions, for 7 500 prompts, are shares of the dataset here:
/// σ = 1000 is 0.13 of it, s = 500 is 0.067, the largest move 1000 is 0.13. The first draw is by the mean that the step before has
/// led to, as in the released path for large runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Walk {
    /// The mean at the start, μ₀: a position, from 0.
    pub first: f64,
    /// Standard deviation of the window, σ, in positions, above 0; 0.13 of the dataset if it says none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<f64>,
    /// Scale of a move, s, in positions, at least 0; 0.067 of the dataset if it says none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// How sharply accuracy and concentration tell in a move, a, at least 0.
    pub sensitivity: f64,
    /// The accuracy above which the window moves faster, β, in 0 to 1.
    pub accuracy: f64,
    /// Least move, in positions: below 0 lets the window go back.
    pub least: f64,
    /// Largest move, in positions; 0.13 of the dataset if it says none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most: Option<f64>,
    /// What becomes of a window that has come to the end of the order.
    pub end: End,
    /// Whether the concentration of a step's rollouts is measured, by a forward pass of its own over them; else a move follows
    /// the accuracy alone.
    pub online: bool,
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            first: 0.0,
            width: None,
            scale: None,
            sensitivity: 2.0,
            accuracy: 0.5,
            least: 0.0,
            most: None,
            end: End::Stay,
            online: true,
        }
    }
}

/// What becomes of a window that has come to the end of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It stays at the last prompt.
    #[default]
    Stay,
    /// It begins again at the first.
    Wrap,
}

/// Shares of the dataset that σ, s and the largest move are.
const WIDTH: f64 = 0.13;
const SCALE: f64 = 0.067;
const MOST: f64 = 0.13;

impl Walk {
    /// Logarithm of a position's chance, but for a constant.
    fn log_chance(&self, position: usize, mean: f64, prompts: usize) -> f64 {
        let width = self.width.unwrap_or(WIDTH * prompts as f64);
        -0.5 * ((position as f64 - mean) / width).powi(2)
    }

    /// The window's mean, held to the order.
    pub(super) fn mean(&self, known: &PromptKnowledge, prompts: usize) -> f64 {
        known.walk.unwrap_or(self.first).clamp(0.0, (prompts - 1) as f64)
    }

    /// Places of prompts in the dataset, in their order. Who asks for more prompts than there are gets all, and then some again.
    ///
    /// The largest of log-chance plus Gumbel noise are a draw one by one without replacement; no chance is ever computed, so none
    /// underflows, however far the mean is.
    ///
    /// # Panics
    /// If the prompts have no order.
    pub(super) fn draw(&self, prompts: Prompts<'_>, known: &PromptKnowledge, draw: PromptDraw) -> Vec<usize> {
        assert_eq!(prompts.order.len(), prompts.count, "a walk needs an order of all prompts");
        let mean = self.mean(known, prompts.count);
        let mut rng = draw.rng();
        let mut places = Vec::with_capacity(draw.count);
        while places.len() < draw.count {
            let count = (draw.count - places.len()).min(prompts.count);
            let mut keys: Vec<(f64, usize)> = (0..prompts.count)
                .map(|position| {
                    let gumbel = -(-rng.random::<f64>().ln()).ln();
                    (self.log_chance(position, mean, prompts.count) + gumbel, position)
                })
                .collect();
            if count < keys.len() {
                keys.select_nth_unstable_by(count, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                keys.truncate(count);
            }
            let mut positions: Vec<usize> = keys.into_iter().map(|(_, position)| position).collect();
            positions.sort_unstable();
            places.extend(positions.into_iter().map(|position| prompts.order[position] as usize));
        }
        places
    }

    /// How far the mean moves after a step, in positions. A step without a concentration moves by its accuracy alone.
    pub fn movement(&self, prompts: usize, accuracy: f64, concentration: Option<f64>) -> f64 {
        let n = prompts as f64;
        let (scale, most) = (self.scale.unwrap_or(SCALE * n), self.most.unwrap_or(MOST * n));
        let term = |x: f64| scale * (self.sensitivity * x).tanh();
        let both = term(accuracy - self.accuracy) + concentration.map_or(0.0, term);
        both.max(self.least).min(most.max(self.least))
    }

    /// Moves the mean as the outcomes of a step say; a step of which no reward is known leaves it where it is.
    pub(super) fn learn(&self, known: &mut PromptKnowledge, prompts: Prompts<'_>, outcomes: &[GroupOutcome]) {
        let mean = |values: Vec<f64>| {
            let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        // prompts count alike, however many rollouts each has
        let pass_rate = |outcome: &GroupOutcome| {
            let sum: f64 = outcome.rewards.iter().map(|reward| f64::from(reward.clamp(0.0, 1.0))).sum();
            (!outcome.rewards.is_empty()).then(|| sum / outcome.rewards.len() as f64)
        };
        let Some(accuracy) = mean(outcomes.iter().filter_map(pass_rate).collect()) else { return };
        let concentration =
            mean(outcomes.iter().filter_map(|outcome| outcome.concentration.map(f64::from)).collect());
        let moved = self.mean(known, prompts.count) + self.movement(prompts.count, accuracy, concentration);
        let last = (prompts.count - 1) as f64;
        known.walk = Some(match self.end {
            End::Wrap if moved > last => 0.0,
            _ => moved.clamp(0.0, last),
        });
    }

    /// What makes no sense of the settings, if anything. `table` is where they stand.
    pub(super) fn problem(&self, table: &str) -> Option<String> {
        let refuse = |name: &str, value: f64, wanted: &str| {
            Some(format!("{table}.{name} is {value}; wanted {wanted}"))
        };
        let least = |name: &str, value: Option<f64>| {
            let value = value.filter(|value| !(*value >= 0.0 && value.is_finite()))?;
            refuse(name, value, "at least 0")
        };
        let width = self.width.filter(|width| !(*width > 0.0 && width.is_finite()));
        width
            .and_then(|width| refuse("width", width, "above 0"))
            .or(least("first", Some(self.first)))
            .or(least("scale", self.scale))
            .or(least("sensitivity", Some(self.sensitivity)))
            .or((!(0.0..=1.0).contains(&self.accuracy))
                .then(|| refuse("accuracy", self.accuracy, "0 to 1"))
                .flatten())
            .or((!self.least.is_finite()).then(|| refuse("least", self.least, "a number")).flatten())
            .or(self
                .most
                .filter(|most| !(*most >= self.least && most.is_finite()))
                .and_then(|most| refuse("most", most, &format!("at least `least`, which is {}", self.least))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data::Seed;

    fn id(_: usize) -> &'static str {
        ""
    }

    fn released() -> Walk {
        Walk { width: Some(1000.0), scale: Some(500.0), most: Some(1000.0), ..Walk::default() }
    }

    fn chances(walk: &Walk, mean: f64, prompts: usize) -> Vec<f64> {
        let all: Vec<f64> = (0..prompts).map(|k| walk.log_chance(k, mean, prompts).exp()).collect();
        let sum: f64 = all.iter().sum();
        all.into_iter().map(|chance| chance / sum).collect()
    }

    /// Draws of so many of five prompts with μ = 1 and σ = 1.5.
    fn five(count: usize, draws: u64) -> Vec<Vec<usize>> {
        let walk = Walk { width: Some(1.5), ..Walk::default() };
        let prompts = Prompts { count: 5, id: &id, order: &[0, 1, 2, 3, 4] };
        let known = PromptKnowledge { walk: Some(1.0), ..PromptKnowledge::default() };
        (0..draws)
            .map(|step| walk.draw(prompts, &known, PromptDraw { seed: Seed(3), step, round: 0, count }))
            .collect()
    }

    #[test]
    fn chances_are_those_of_the_worked_examples() {
        let walk = Walk { width: Some(1.5), ..Walk::default() };
        let wanted = [0.254_370, 0.317_670, 0.254_370, 0.130_598, 0.042_992];
        for (found, wanted) in chances(&walk, 1.0, 5).into_iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-6, "{found}, wanted {wanted}");
        }
        for (mean, index, quantile) in
            [(0.0, 797.566, 1645), (1000.0, 1287.415, 2378), (3700.0, 3700.100, 4981)]
        {
            let all = chances(&released(), mean, 7473);
            let found: f64 = all.iter().enumerate().map(|(k, chance)| k as f64 * chance).sum();
            assert!((found - index).abs() < 1e-3, "mean index {found} at {mean}");
            let mut sum = 0.0;
            let found = all.iter().position(|chance| {
                sum += chance;
                sum >= 0.9
            });
            assert_eq!(found, Some(quantile), "at {mean}");
        }
    }

    #[test]
    fn first_draws_follow_the_chances() {
        let mut counts = [0f64; 5];
        five(1, 20_000).into_iter().flatten().for_each(|place| counts[place] += 1.0);
        let wanted = [0.254_370, 0.317_670, 0.254_370, 0.130_598, 0.042_992].map(|p| 20_000.0 * p);
        let chi: f64 = counts.iter().zip(wanted).map(|(n, wanted)| (n - wanted).powi(2) / wanted).sum();
        // the 99.9 % point of χ² with 4 degrees of freedom
        assert!(chi < 18.47, "{chi}: {counts:?}");
    }

    #[test]
    fn sets_are_drawn_as_one_by_one_without_replacement() {
        let p = [0.254_370, 0.317_670, 0.254_370, 0.130_598, 0.042_992];
        let mut counts = [[0f64; 5]; 5];
        for pair in five(2, 20_000) {
            assert!(pair[0] < pair[1], "sorted, and no prompt twice: {pair:?}");
            counts[pair[0]][pair[1]] += 1.0;
        }
        let mut chi = 0.0;
        for a in 0..5 {
            for b in a + 1..5 {
                let wanted = 20_000.0 * p[a] * p[b] * (1.0 / (1.0 - p[a]) + 1.0 / (1.0 - p[b]));
                chi += (counts[a][b] - wanted).powi(2) / wanted;
            }
        }
        // the 99.9 % point of χ² with 9 degrees of freedom
        assert!(chi < 27.88, "{chi}: {counts:?}");
    }

    #[test]
    fn moves_are_those_of_the_worked_examples() {
        for (accuracy, concentration, wanted) in [
            (0.2, 0.35, 33.6591),
            (0.5, 0.35, 302.1839),
            (0.8, 0.35, 570.7087),
            (0.0, 0.35, 0.0),
            (0.0, 0.6, 36.0302),
            (1.0, 0.9, 854.2001),
        ] {
            let found = released().movement(7473, accuracy, Some(concentration));
            assert!((found - wanted).abs() < 1e-3, "{accuracy}, {concentration}: {found}, wanted {wanted}");
        }
        let back = Walk { least: -1000.0, ..released() };
        assert!((back.movement(7473, 0.0, Some(0.35)) + 78.61).abs() < 0.01);
        assert_eq!(released().movement(7473, 0.3, None), 0.0);
        // shares of the dataset are what was published, for a dataset of its size
        let scaled = Walk::default().movement(7473, 0.5, Some(0.35));
        assert!((scaled / 302.1839 - 1.0).abs() < 0.01, "{scaled}");
    }

    #[test]
    fn the_mean_never_moves_back_stays_at_the_end_or_begins_again() {
        let prompts = Prompts { count: 40, id: &id, order: &[] };
        let outcome = |reward: f32| GroupOutcome {
            rewards: vec![reward; 4],
            concentration: Some(0.4),
            ..GroupOutcome::default()
        };
        for (end, last) in [(End::Stay, 39.0), (End::Wrap, 0.0)] {
            let walk = Walk { end, ..Walk::default() };
            let mut known = PromptKnowledge::default();
            let (mut means, mut rewards) = (vec![0.0], [0.0, 1.0, 0.5, 7.0, -3.0].into_iter().cycle());
            while means.len() < 60 {
                walk.learn(&mut known, prompts, &[outcome(rewards.next().unwrap_or(0.0))]);
                means.push(known.walk.unwrap_or(f64::NAN));
            }
            let backwards: Vec<&[f64]> = means.windows(2).filter(|pair| pair[1] < pair[0]).collect();
            assert!(backwards.iter().all(|pair| pair[1] == last), "{end:?}: {means:?}");
            assert_eq!(backwards.is_empty(), end == End::Stay, "{end:?}: {means:?}");
            assert!(means.iter().all(|mean| (0.0..=39.0).contains(mean)));
        }
        // a step of which nothing is known, and one whose concentration is no number
        let mut known = PromptKnowledge { walk: Some(3.0), ..PromptKnowledge::default() };
        Walk::default().learn(&mut known, prompts, &[GroupOutcome::default()]);
        assert_eq!(known.walk, Some(3.0));
        let strange = GroupOutcome { concentration: Some(f32::NAN), ..outcome(0.5) };
        Walk::default().learn(&mut known, prompts, &[strange]);
        assert_eq!(known.walk, Some(3.0));
    }

    #[test]
    fn a_narrow_window_far_from_all_prompts_draws_the_nearest_ones() {
        let walk = Walk { width: Some(1e-3), first: 1e12, ..Walk::default() };
        let order: &'static [u32] = Vec::leak((0..50).rev().collect());
        let prompts = Prompts { count: 50, id: &id, order };
        let draw = PromptDraw { seed: Seed(1), step: 0, round: 0, count: 3 };
        assert_eq!(walk.draw(prompts, &PromptKnowledge::default(), draw), [2, 1, 0]);
        // all of them, and some again
        let mut all = walk.draw(prompts, &PromptKnowledge::default(), PromptDraw { count: 52, ..draw });
        assert_eq!(all.split_off(50), [1, 0]);
        all.sort_unstable();
        assert_eq!(all, (0..50).collect::<Vec<_>>());
    }
}
