//! Prompts in proportion to the size of their gradients, with weights that keep the gradient unbiased.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{PromptDraw, PromptKnowledge, Prompts, Selection, Uniform};
use crate::allocation::Forecast;

/// A share τ of a step's prompts is drawn with replacement, in proportion to how large the gradient of a prompt's group is expected
/// to be, the rest walks through the dataset. The gradient of prompt i counts 1/(N·qᵢ) times, where qᵢ is the chance of a draw to
/// be of it: so the step's gradient is that of all prompts alike, in expectation, with less noise where the expectations hold. No
/// weight is above 1/(1 − τ).
///
/// The size of a rollout's term, (r − p)·∇ ln π, is √(p(1 − p)((1 − p)·n₊ + p·n₋)) with the posterior of the pass rate p and squared
/// gradient norms n₊ and n₋ of right and wrong rollouts, where a step has measured them (`weights = "full"` of the baseline
/// `optimal`); where none has, norms are taken as equal, and it is the deviation of rewards.
///
/// # Source
/// The data half of PA&DA, arXiv:2302.14772, whose released code leaves out the weights, and is a curriculum by that. The size from
/// posterior and norms, and the walk in place of uniform draws, are ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Importance {
    /// Share of a step's prompts that is drawn by size, τ, from 0 to less than 1.
    pub mixture: f64,
    /// Share of a prompt's counts that its next visit keeps in the posterior, in 0 to 1.
    pub forgetting: f64,
}

impl Default for Importance {
    fn default() -> Self {
        Self { mixture: 0.5, forgetting: 0.5 }
    }
}

/// Size of the gradient that a rollout of a prompt is expected to add.
fn size(forecast: &Forecast) -> f64 {
    let (a, b) = forecast.posterior;
    let p = a / (a + b);
    let variance = a * b / ((a + b) * (a + b + 1.0));
    let (right, wrong) = forecast.norms;
    (variance * ((1.0 - p) * right + p * wrong)).max(0.0).sqrt()
}

impl Importance {
    /// Prompts of a step that are drawn by size.
    fn by_size(&self, count: usize) -> usize {
        (self.mixture * count as f64).floor() as usize
    }

    /// Sizes of all prompts, and their sum.
    fn sizes(prompts: Prompts<'_>, known: &PromptKnowledge) -> (Vec<f64>, f64) {
        let ids = (0..prompts.count).map(|place| (prompts.id)(place));
        let sizes: Vec<f64> = known.stats.forecasts(ids).iter().map(size).collect();
        let sum = sizes.iter().sum();
        (sizes, sum)
    }
}

/// 1/(N·q) of a prompt whose share of all sizes is `share`, where so many of a step's draws are by size.
fn factor(share: f64, prompts: usize, by_size: usize, count: usize) -> f64 {
    let by_size = by_size as f64 / count as f64;
    1.0 / (prompts as f64 * by_size * share + 1.0 - by_size)
}

impl Selection for Importance {
    fn name(&self) -> &'static str {
        "importance"
    }

    fn forgetting(&self) -> f64 {
        self.forgetting
    }

    fn draw(
        &self,
        prompts: Prompts<'_>,
        known: &PromptKnowledge,
        drawn: &mut u64,
        draw: PromptDraw,
    ) -> Vec<usize> {
        let (sizes, sum) = Self::sizes(prompts, known);
        let by_size = if sum > 0.0 { self.by_size(draw.count) } else { 0 };
        let mut places =
            Uniform.draw(prompts, known, drawn, PromptDraw { count: draw.count - by_size, ..draw });
        let mut rng = draw.rng();
        places.extend(super::weighted(&sizes, by_size, || rng.random()));
        places
    }

    fn factors(&self, prompts: Prompts<'_>, known: &PromptKnowledge, places: &[usize]) -> Vec<f64> {
        let (sizes, sum) = Self::sizes(prompts, known);
        let by_size = if sum > 0.0 { self.by_size(places.len()) } else { 0 };
        let of = |place: &usize| match by_size {
            0 => 1.0,
            _ => factor(sizes[*place] / sum, prompts.count, by_size, places.len()),
        };
        places.iter().map(of).collect()
    }

    fn problem(&self) -> Option<String> {
        let refuse = |name: &str, value: f64, wanted: &str| {
            format!("selection.importance.{name} is {value}; wanted {wanted}")
        };
        if !(0.0..1.0).contains(&self.mixture) {
            return Some(refuse("mixture", self.mixture, "0 to less than 1, or weights have no bound"));
        }
        (!(0.0..=1.0).contains(&self.forgetting)).then(|| refuse("forgetting", self.forgetting, "0 to 1"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{GroupOutcome, PromptStats};
    use super::*;
    use crate::batch::GroupNorms;
    use data::Seed;

    fn id(place: usize) -> &'static str {
        ["a", "b", "c", "d", "e"][place]
    }

    const PROMPTS: Prompts<'static> = Prompts { count: 5, id: &id, order: &[] };

    /// Four prompts of different pass rates and norms, and one that nobody knows.
    fn known() -> PromptKnowledge {
        let mut stats = PromptStats::default();
        for (place, right, norm) in [(0, 0, 4.0), (1, 2, 1.0), (2, 4, 9.0), (3, 7, 2.0)] {
            let rewards: Vec<f32> = (0..8).map(|i| if i < right { 1.0 } else { 0.0 }).collect();
            stats.observe_norms(id(place), GroupNorms::of(&rewards, &[norm; 8]));
            stats.observe(
                0,
                &GroupOutcome { prompt: id(place).into(), rewards, ..GroupOutcome::default() },
                1.0,
            );
        }
        PromptKnowledge { stats, ..PromptKnowledge::default() }
    }

    #[test]
    fn weights_and_variances_are_those_of_the_worked_example() {
        // norms 4, 1, 1, 2 and τ = 1/2
        let sizes = [4.0, 1.0, 1.0, 2.0];
        for (size, chance, weight) in
            [(4.0, 0.375, 2.0 / 3.0), (1.0, 0.1875, 4.0 / 3.0), (1.0, 0.1875, 4.0 / 3.0), (2.0, 0.25, 1.0)]
        {
            let found: f64 = factor(size / 8.0, 4, 1, 2);
            assert!((found - weight).abs() < 1e-12 && (1.0 / (4.0 * found) - chance).abs() < 1e-12);
        }
        let gradients = [4.0, -1.0, 1.0, 2.0];
        for (by_size, wanted) in [(0, 3.25), (1, 2.083_333), (2, 1.75)] {
            let (mut mean, mut square) = (0.0, 0.0);
            for (size, gradient) in sizes.iter().zip(gradients) {
                let weight = factor(size / 8.0, 4, by_size, 2);
                let chance = 1.0 / (4.0 * weight);
                mean += chance * weight * gradient;
                square += chance * (weight * gradient) * (weight * gradient);
            }
            assert!((mean - 1.5).abs() < 1e-12, "unbiased");
            assert!((square - mean * mean - wanted).abs() < 1e-6, "{by_size}: {}", square - mean * mean);
        }
    }

    #[test]
    fn a_size_is_the_deviation_of_rewards_where_norms_are_equal_and_grows_with_them() {
        let of = |posterior, norms| size(&Forecast { posterior, norms });
        let deviation = |a: f64, b: f64| (a * b / ((a + b) * (a + b + 1.0))).sqrt();
        assert!((of((3.0, 7.0), (1.0, 1.0)) - deviation(3.0, 7.0)).abs() < 1e-12);
        assert!((of((3.0, 7.0), (4.0, 4.0)) - 2.0 * deviation(3.0, 7.0)).abs() < 1e-12);
        // a hard prompt's right rollouts are what tells
        assert!(of((1.0, 9.0), (4.0, 1.0)) > of((1.0, 9.0), (1.0, 4.0)));
    }

    #[test]
    fn the_mean_over_draws_is_the_mean_over_prompts() {
        let (selection, known) = (Importance::default(), known());
        let gradients = [3.0, -1.0, 10.0, 0.5, 2.0];
        let mean = gradients.iter().sum::<f64>() / 5.0;
        let (steps, count) = (20_000, 4);
        let (mut sum, mut squares, mut drawn, mut counts) = (0.0, 0.0, 0, [0f64; 5]);
        for step in 0..steps {
            let draw = PromptDraw { seed: Seed(6), step, round: 0, count };
            let places = selection.draw(PROMPTS, &known, &mut drawn, draw);
            let factors = selection.factors(PROMPTS, &known, &places);
            assert!(factors.iter().all(|factor| *factor > 0.0 && *factor <= 2.0 + 1e-12));
            let of = |(place, factor): (&usize, f64)| gradients[*place] * factor;
            let step: f64 = places.iter().zip(factors).map(of).sum::<f64>() / count as f64;
            (sum, squares) = (sum + step, squares + step * step);
            // those by size stand behind the others
            places[2..].iter().for_each(|place| counts[*place] += 1.0);
        }
        let found = sum / steps as f64;
        let error = ((squares / steps as f64 - found * found) / steps as f64).sqrt();
        assert!((found - mean).abs() < 4.0 * error, "{found} ± {error}, wanted {mean}");
        let (sizes, all) = Importance::sizes(PROMPTS, &known);
        let wanted = sizes.iter().map(|size| 2.0 * steps as f64 * size / all);
        let chi: f64 = counts.iter().zip(wanted).map(|(n, wanted)| (n - wanted).powi(2) / wanted).sum();
        // the 99.9 % point of χ² with 4 degrees of freedom
        assert!(chi < 18.47, "{chi}: {counts:?}");
    }

    #[test]
    fn one_prompt_a_step_and_a_mixture_of_0_walk_through_the_dataset_with_weights_of_1() {
        for (mixture, count) in [(0.5, 1), (0.0, 6)] {
            let selection = Importance { mixture, ..Importance::default() };
            let draw = PromptDraw { seed: Seed(6), step: 3, round: 0, count };
            let places = selection.draw(PROMPTS, &known(), &mut 0, draw);
            assert_eq!(places, Uniform.draw(PROMPTS, &known(), &mut 0, draw));
            assert_eq!(selection.factors(PROMPTS, &known(), &places), vec![1.0; count]);
        }
    }
}
