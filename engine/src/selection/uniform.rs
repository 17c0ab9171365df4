//! Every prompt once, in random order.

use data::Seed;
use rand::seq::SliceRandom;

use super::{PromptDraw, PromptKnowledge, Prompts, Selection};

/// A walk through a dataset: every prompt once, in random order, then all again in another order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shuffled {
    /// Prompts in the dataset, at least 1.
    pub prompts: usize,
    /// The run's seed.
    pub seed: Seed,
}

impl Shuffled {
    /// Places `first` to `first + count` of the walk, counted over the whole run. They may reach into the next epoch.
    pub fn draw(&self, first: u64, count: usize) -> Vec<usize> {
        let mut epoch = u64::MAX;
        let mut order = Vec::new();
        (first..first + count as u64)
            .map(|place| {
                let now = place / self.prompts as u64;
                if now != epoch {
                    epoch = now;
                    order = (0..self.prompts).collect::<Vec<_>>();
                    order.shuffle(&mut self.seed.named("order").at(epoch).rng());
                }
                order[(place % self.prompts as u64) as usize]
            })
            .collect()
    }
}

/// Every prompt as often as every other one: the walk through the dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Uniform;

impl Selection for Uniform {
    fn name(&self) -> &'static str {
        "uniform"
    }

    fn draw(
        &self,
        prompts: Prompts<'_>,
        _: &PromptKnowledge,
        drawn: &mut u64,
        draw: PromptDraw,
    ) -> Vec<usize> {
        let places = Shuffled { prompts: prompts.count, seed: draw.seed }.draw(*drawn, draw.count);
        *drawn += draw.count as u64;
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_holds_every_prompt_once_and_the_next_another_order() {
        let selection = Shuffled { prompts: 10, seed: Seed(3) };
        let drawn: Vec<usize> = (0..10).flat_map(|step| selection.draw(4 * step, 4)).collect();
        for epoch in drawn.chunks(10) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        // every prompt is as often at each place of an order
        let mut counts = [[0f64; 5]; 5];
        for epoch in 0..5000 {
            let order = Shuffled { prompts: 5, seed: Seed(8) }.draw(5 * epoch, 5);
            order.into_iter().enumerate().for_each(|(place, prompt)| counts[place][prompt] += 1.0);
        }
        let chi: f64 = counts.iter().flatten().map(|n| (n - 1000.0).powi(2) / 1000.0).sum();
        // rows and columns of the table are of equal sums, so this is 5/4 of a χ² with 16 degrees of freedom: its 99.9 % point
        assert!(chi < 1.25 * 39.25, "{chi}: {counts:?}");
        assert_ne!(drawn[..10], drawn[10..20]);
        assert_eq!(selection.draw(28, 4), drawn[28..32]);
    }
}
