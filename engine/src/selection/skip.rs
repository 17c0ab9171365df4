//! Prompts whose rollouts were all right or all wrong are passed over, more so the longer they were.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{GroupOutcome, PromptDraw, PromptKnowledge, Prompts, Selection, Uniform};

/// A prompt on the walk through the dataset that was unanimous in its last c visits is taken with chance p^c, at least `least`.
/// There is a p of prompts that are solved always and one of those that are never solved; each is moved by `rate` a step, towards
/// as many unanimous groups of its kind as wanted.
///
/// # Source
/// GRESO, arXiv:2506.02177, and its released code: targets of 1/4 of the groups, a third of it for easy prompts and two thirds for
/// hard ones, p in 0.05 to 0.95 from 0.5 on, in steps of 0.01.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Skip {
    /// Wanted share of groups that are solved by all rollouts, in 0 to 1.
    pub easy: f64,
    /// Wanted share of groups that are solved by none, in 0 to 1.
    pub hard: f64,
    /// How much p changes in a step, in 0 to 1.
    pub rate: f64,
    /// Least chance that a prompt is taken, in 0 to 1.
    pub least: f64,
}

impl Default for Skip {
    fn default() -> Self {
        Self { easy: 0.25 / 3.0, hard: 0.5 / 3.0, rate: 0.01, least: 0.01 }
    }
}

/// Bounds of p.
const RANGE: (f64, f64) = (0.05, 0.95);
/// p at the start.
const FIRST: f64 = 0.5;

impl Selection for Skip {
    fn name(&self) -> &'static str {
        "skip"
    }

    fn draw(
        &self,
        prompts: Prompts<'_>,
        known: &PromptKnowledge,
        drawn: &mut u64,
        draw: PromptDraw,
    ) -> Vec<usize> {
        let [easy, hard] = known.again.unwrap_or([FIRST; 2]);
        let mut rng = draw.rng();
        let (mut taken, mut passed) = (Vec::new(), Vec::new());
        // once around the dataset: who was passed over is taken if there are no others
        let most = prompts.count.max(draw.count);
        while taken.len() < draw.count && taken.len() + passed.len() < most {
            let some = (draw.count - taken.len()).min(most - taken.len() - passed.len());
            for place in Uniform.draw(prompts, known, drawn, PromptDraw { count: some, ..draw }) {
                let record = known.stats.get((prompts.id)(place));
                let chance = record.map_or(1.0, |record| {
                    let p = if record.unanimous_success { easy } else { hard };
                    p.powi(record.unanimous.min(1 << 20) as i32).max(self.least)
                });
                if rng.random::<f64>() < chance { taken.push(place) } else { passed.push(place) }
            }
        }
        let missing = draw.count - taken.len();
        taken.extend(passed.into_iter().take(missing));
        taken
    }

    fn learn(&self, known: &mut PromptKnowledge, _: Prompts<'_>, _: u64, outcomes: &[GroupOutcome]) {
        let groups = outcomes.iter().filter(|outcome| !outcome.rewards.is_empty()).count();
        if groups == 0 {
            return;
        }
        let share = |success: bool| {
            let some = outcomes.iter().filter(|outcome| outcome.unanimous() == Some(success));
            some.count() as f64 / groups as f64
        };
        let moved = |p: f64, share: f64, wanted: f64| {
            let towards = if share >= wanted { -self.rate } else { self.rate };
            (p + towards).clamp(RANGE.0, RANGE.1)
        };
        let [easy, hard] = known.again.unwrap_or([FIRST; 2]);
        known.again = Some([moved(easy, share(true), self.easy), moved(hard, share(false), self.hard)]);
    }

    fn problem(&self) -> Option<String> {
        [("easy", self.easy), ("hard", self.hard), ("rate", self.rate), ("least", self.least)]
            .into_iter()
            .find_map(|(name, value)| {
                (!(0.0..=1.0).contains(&value))
                    .then(|| format!("selection.skip.{name} is {value}; wanted 0 to 1"))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data::Seed;

    fn id(place: usize) -> &'static str {
        ["a", "b", "c", "d"][place]
    }

    const PROMPTS: Prompts<'static> = Prompts { count: 4, id: &id, order: &[] };

    fn outcome(place: usize, right: usize) -> GroupOutcome {
        let rewards = (0..4).map(|i| if i < right { 1.0 } else { 0.0 }).collect();
        GroupOutcome { prompt: id(place).into(), rewards, rollouts: 4, ..GroupOutcome::default() }
    }

    #[test]
    fn unanimous_prompts_are_taken_as_often_as_their_chance_says() {
        let selection = Skip::default();
        let mut known = PromptKnowledge::default();
        // a: three times always right; b: once never right; c: mixed; d: never seen
        for step in 0..3 {
            known.observe(&selection, PROMPTS, step, &[outcome(0, 4)]);
        }
        known.observe(&selection, PROMPTS, 3, &[outcome(1, 0), outcome(2, 2)]);
        known.again = Some([0.5, 0.25]);
        // eight more that were never seen, so that no walk around the dataset passes all over
        let id = |place: usize| ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"][place];
        let prompts = Prompts { count: 12, id: &id, order: &[] };
        let (mut counts, mut drawn) = ([0f64; 12], 0);
        for step in 0..20_000 {
            let draw = PromptDraw { seed: Seed(9), step, round: 0, count: 1 };
            counts[selection.draw(prompts, &known, &mut drawn, draw)[0]] += 1.0;
        }
        // on a walk in random order each is taken by its own chance
        let chance = |place: usize| [0.125, 0.25].get(place).copied().unwrap_or(1.0);
        let term = |(place, count): (usize, &f64)| {
            let wanted = 20_000.0 * chance(place) / 10.375;
            (count - wanted).powi(2) / wanted
        };
        let chi: f64 = counts.iter().enumerate().map(term).sum();
        // the 99.9 % point of χ² with 11 degrees of freedom; a walk is more even than independent draws
        assert!(chi < 31.26, "{chi}: {counts:?}");
    }

    #[test]
    fn the_chances_move_towards_the_wanted_shares_and_stay_in_bounds() {
        let selection = Skip::default();
        let mut known = PromptKnowledge::default();
        // half of the groups are easy, none is hard
        for step in 0..3 {
            known.observe(&selection, PROMPTS, step, &[outcome(0, 4), outcome(1, 2)]);
        }
        let [easy, hard] = known.again.expect("moved");
        assert!((easy - 0.47).abs() < 1e-9 && (hard - 0.53).abs() < 1e-9, "{easy} {hard}");
        for step in 3..200 {
            known.observe(&selection, PROMPTS, step, &[outcome(0, 4), outcome(1, 2)]);
        }
        assert_eq!(known.again, Some([0.05, 0.95]));
    }

    #[test]
    fn a_dataset_that_is_solved_is_drawn_all_the_same() {
        let selection = Skip { least: 0.0, ..Skip::default() };
        let mut known = PromptKnowledge::default();
        for step in 0..60 {
            known.observe(
                &selection,
                PROMPTS,
                step,
                &(0..4).map(|place| outcome(place, 4)).collect::<Vec<_>>(),
            );
        }
        let draw = PromptDraw { seed: Seed(9), step: 60, round: 0, count: 4 };
        assert_eq!(selection.draw(PROMPTS, &known, &mut 0, draw).len(), 4);
    }
}
