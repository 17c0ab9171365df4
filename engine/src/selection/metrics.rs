//! What the prompts that a step drew were worth.

use std::collections::BTreeSet;

use super::{GroupOutcome, PromptKnowledge};

crate::numbers! {
    /// Prompts that a step drew, those of groups that were dropped among them.
    pub struct SelectionMetrics {
        /// Share of groups whose rewards differ: those that teach something where a baseline compares within the group.
        mixed_groups: Option<f64> = "share";
        /// Share of groups whose rewards are all equal and at least 1/2.
        solved_groups: Option<f64> = "share";
        /// Share of groups whose rewards are all equal and below 1/2.
        failed_groups: Option<f64> = "share";
        /// Prompts that the step drew, each counted once.
        distinct_prompts: usize = "count";
        /// Prompts that were sampled at least once until then.
        seen_prompts: usize = "count";
        /// Mean of observed minus expected chance of success, over groups of prompts that were seen before; the expected one is the
        /// posterior's mean. Above 0 where the policy improves.
        prediction_bias: Option<f64> = "share";
        /// Mean distance of the two.
        prediction_error: Option<f64> = "share";
        /// (Σ w)²/Σ w² of a selection that draws by weights: the prompts among which it chooses as if uniformly.
        effective_prompts: Option<f64> = "prompts";
        /// (Σ f)²/Σ f² of the factors of groups whose prompts were not drawn uniformly, with selection.importance.
        effective_groups: Option<f64> = "groups";
        /// Mean angle concentration of the step's rollouts, where the selection looks at it.
        concentration: Option<f64> = "cosine";
        /// The middle of a window that walks along an order of the prompts, after the step; of selection.angle and
        /// selection.length.
        selection_position: Option<f64> = "prompts";
    }
}

impl SelectionMetrics {
    /// Of a step's outcomes; `known` is what was known before them.
    pub fn of(known: &PromptKnowledge, outcomes: &[GroupOutcome]) -> Self {
        let groups: Vec<&GroupOutcome> =
            outcomes.iter().filter(|outcome| !outcome.rewards.is_empty()).collect();
        let share = |wanted: Option<bool>| {
            let count = groups.iter().filter(|outcome| outcome.unanimous() == wanted).count();
            (!groups.is_empty()).then(|| count as f64 / groups.len() as f64)
        };
        let misses: Vec<f64> = groups
            .iter()
            .filter_map(|outcome| {
                let record = known.stats.get(&outcome.prompt).filter(|record| record.known > 0)?;
                let (a, b) = record.posterior();
                let observed = outcome.rewards.iter().map(|r| f64::from(r.clamp(0.0, 1.0))).sum::<f64>();
                Some(observed / outcome.rewards.len() as f64 - a / (a + b))
            })
            .collect();
        let mean = |values: &mut dyn Iterator<Item = f64>| {
            (!misses.is_empty()).then(|| values.sum::<f64>() / misses.len() as f64)
        };
        let distinct: BTreeSet<&str> = outcomes.iter().map(|outcome| outcome.prompt.as_str()).collect();
        let new = distinct.iter().filter(|prompt| known.stats.get(prompt).is_none()).count();
        Self {
            mixed_groups: share(None),
            solved_groups: share(Some(true)),
            failed_groups: share(Some(false)),
            distinct_prompts: distinct.len(),
            seen_prompts: known.stats.len() + new,
            prediction_bias: mean(&mut misses.iter().copied()),
            prediction_error: mean(&mut misses.iter().map(|miss| miss.abs())),
            effective_prompts: effective(&known.weights),
            effective_groups: None,
            concentration: None,
            selection_position: None,
        }
    }
}

/// The number of equal weights that are as uneven as these.
fn effective(weights: &[f32]) -> Option<f64> {
    let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
    let squares: f64 = weights.iter().map(|w| f64::from(*w).powi(2)).sum();
    (squares > 0.0).then(|| sum * sum / squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(prompt: &str, rewards: &[f32]) -> GroupOutcome {
        let rollouts = rewards.len() as u64;
        GroupOutcome { prompt: prompt.into(), rewards: rewards.to_vec(), rollouts, ..GroupOutcome::default() }
    }

    #[test]
    fn shares_are_of_groups_that_have_rewards_and_predictions_of_prompts_that_were_seen() {
        let mut known = PromptKnowledge::default();
        known.stats.observe(0, &outcome("a", &[1.0, 0.0]), 1.0);
        known.stats.observe(0, &outcome("z", &[1.0]), 1.0);
        let outcomes = [
            outcome("a", &[1.0, 1.0, 1.0, 0.0]),
            outcome("a", &[1.0, 1.0]),
            outcome("b", &[0.0, 0.0]),
            outcome("c", &[]),
        ];
        let found = SelectionMetrics::of(&known, &outcomes);
        let third = Some(1.0 / 3.0);
        assert_eq!((found.mixed_groups, found.solved_groups, found.failed_groups), (third, third, third));
        assert_eq!((found.distinct_prompts, found.seen_prompts), (3, 4));
        // the posterior of `a` is (2, 2)
        assert_eq!((found.prediction_bias, found.prediction_error), (Some(0.375), Some(0.375)));
        assert_eq!(found.effective_prompts, None);
        known.weights = vec![1.0, 1.0, 0.0, 2.0];
        let weighted = SelectionMetrics::of(&known, &[]);
        assert_eq!((weighted.effective_prompts, weighted.mixed_groups), (Some(16.0 / 6.0), None));
    }
}
