//! Prompts whose predicted chance of success is nearest to a target.

use rand_distr::{Beta, Distribution};
use serde::{Deserialize, Serialize};

use super::{PromptDraw, PromptKnowledge, PromptRecord, Prompts, Selection, Uniform};

/// Of a pool of prompts from the walk through the dataset, those are taken whose chance of success, drawn from each prompt's
/// posterior, is nearest to the target. What was seen seldom is drawn wide, so that it is tried too (Thompson sampling).
///
/// # Source
/// MoPPS, arXiv:2507.04632: posterior, forgetting, pool and target 1/2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// The wanted chance of success, in 0 to 1.
    pub pass_rate: f64,
    /// Prompts in the pool for each that is taken, at least 1. No pool is larger than the dataset.
    pub pool: usize,
    /// Share of a prompt's counts that its next visit keeps in the posterior, in 0 to 1.
    pub forgetting: f64,
}

impl Default for Target {
    fn default() -> Self {
        Self { pass_rate: 0.5, pool: 8, forgetting: 0.5 }
    }
}

impl Selection for Target {
    fn name(&self) -> &'static str {
        "target"
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
        let pool = (self.pool.max(1) * draw.count).min(prompts.count).max(draw.count);
        let candidates = Uniform.draw(prompts, known, drawn, PromptDraw { count: pool, ..draw });
        let mut rng = draw.rng();
        let unknown = PromptRecord::default();
        let mut far: Vec<(f64, usize)> = candidates
            .into_iter()
            .map(|place| {
                let (a, b) = known.stats.get((prompts.id)(place)).unwrap_or(&unknown).posterior();
                // a and b are at least 1, so the distribution is there
                let chance = Beta::new(a, b).map_or(0.5, |beta| beta.sample(&mut rng));
                ((chance - self.pass_rate).abs(), place)
            })
            .collect();
        far.sort_by(|a, b| a.0.total_cmp(&b.0));
        far.into_iter().take(draw.count).map(|(_, place)| place).collect()
    }

    fn problem(&self) -> Option<String> {
        let within = |name: &str, value: f64| {
            (!(0.0..=1.0).contains(&value))
                .then(|| format!("selection.target.{name} is {value}; wanted 0 to 1"))
        };
        within("pass_rate", self.pass_rate)
            .or(within("forgetting", self.forgetting))
            .or((self.pool == 0).then(|| "selection.target.pool is 0; wanted at least 1".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::GroupOutcome;
    use super::*;
    use data::Seed;

    fn id(place: usize) -> &'static str {
        const IDS: [&str; 30] = [
            "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17",
            "18", "19", "20", "21", "22", "23", "24", "25", "26", "27", "28", "29",
        ];
        IDS[place]
    }

    const PROMPTS: Prompts<'static> = Prompts { count: 30, id: &id, order: &[] };

    /// A third of the prompts is solved always, a third half of the time, a third never, each visited so often.
    fn known(selection: &Target, visits: u64) -> PromptKnowledge {
        let mut known = PromptKnowledge::default();
        for step in 0..visits {
            for place in 0..30 {
                let right = [8, 4, 0][place % 3];
                let rewards = (0..8).map(|i| if i < right { 1.0 } else { 0.0 }).collect();
                let outcome = GroupOutcome {
                    prompt: id(place).into(),
                    rewards,
                    rollouts: 8,
                    ..GroupOutcome::default()
                };
                known.observe(selection, PROMPTS, step, &[outcome]);
            }
        }
        known
    }

    #[test]
    fn prompts_near_the_target_are_taken_once_they_are_known() {
        let share = |selection: &Target, known: &PromptKnowledge, third: usize| {
            let mut drawn = 0;
            let all = (0..100).flat_map(|step| {
                let draw = PromptDraw { seed: Seed(2), step, round: 0, count: 4 };
                selection.draw(PROMPTS, known, &mut drawn, draw)
            });
            let places: Vec<usize> = all.collect();
            places.iter().filter(|place| **place % 3 == third).count() as f64 / places.len() as f64
        };
        let half = Target::default();
        assert!(share(&half, &known(&half, 4), 1) > 0.95);
        let easy = Target { pass_rate: 0.95, ..Target::default() };
        assert!(share(&easy, &known(&easy, 4), 0) > 0.95);
        // of prompts that nobody knows each is as likely
        let unknown = share(&half, &PromptKnowledge::default(), 1);
        assert!((unknown - 1.0 / 3.0).abs() < 0.1, "{unknown}");
    }

    #[test]
    fn of_two_prompts_each_is_taken_with_the_chance_that_its_posterior_is_nearer() {
        // towards 1 the larger draw wins: of Beta(3, 1) against Beta(1, 1) with chance E[p] = 3/4
        let selection = Target { pass_rate: 1.0, pool: 2, forgetting: 1.0 };
        let mut known = PromptKnowledge::default();
        let both = |rewards: &[f32]| GroupOutcome {
            prompt: id(0).into(),
            rewards: rewards.into(),
            ..GroupOutcome::default()
        };
        let prompts = Prompts { count: 2, id: &id, order: &[] };
        known.observe(&selection, prompts, 0, &[both(&[1.0, 1.0])]);
        let (draws, mut first) = (20_000u64, 0f64);
        for step in 0..draws {
            let draw = PromptDraw { seed: Seed(4), step, round: 0, count: 1 };
            first += f64::from(u8::from(selection.draw(prompts, &known, &mut 0, draw)[0] == 0));
        }
        let wanted = 0.75 * draws as f64;
        let chi = (first - wanted).powi(2) / wanted + (first - wanted).powi(2) / (draws as f64 - wanted);
        // the 99.9 % point of χ² with 1 degree of freedom
        assert!(chi < 10.83, "{first} of {draws}: {chi}");
    }

    #[test]
    fn no_prompt_is_taken_twice_where_the_dataset_has_enough_of_them() {
        let selection = Target::default();
        let draw = PromptDraw { seed: Seed(2), step: 0, round: 0, count: 30 };
        let mut places = selection.draw(PROMPTS, &PromptKnowledge::default(), &mut 0, draw);
        places.sort_unstable();
        assert_eq!(places, (0..30).collect::<Vec<_>>());
        let more =
            selection.draw(PROMPTS, &PromptKnowledge::default(), &mut 0, PromptDraw { count: 70, ..draw });
        assert_eq!(more.len(), 70);
    }
}
