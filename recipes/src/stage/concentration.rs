//! How much the directions of a step's rollouts agree, for a selection that moves on by it.
//!
//! Before: a step's rollouts, and the policy as it is before the update. After: the mean of each prompt, in its
//! [`engine::selection::Outcome`].

use std::collections::BTreeMap;

use anyhow::Result;
use data::ScoredRollout;
use engine::model::{KvRow, Policy};
use engine::selection::{AngleMetric, Directions, GroupOutcome, Released};

/// Mean concentration of the rollouts of each prompt, prompt and completion together, by passes of about so many tokens.
pub(super) fn of_prompts(
    policy: &Policy,
    scored: &[ScoredRollout],
    metric: AngleMetric,
    tokens: usize,
) -> Result<BTreeMap<String, f32>> {
    let width = policy.config().hidden_size;
    let mut sums: BTreeMap<String, (f64, usize)> = BTreeMap::new();
    let sequence = |scored: &ScoredRollout| -> Vec<u32> {
        scored.rollout.prompt_tokens.iter().chain(&scored.rollout.tokens).copied().collect()
    };
    let mut left = scored;
    while !left.is_empty() {
        let mut all = 0;
        let fits = left.iter().take_while(|scored| {
            all += scored.rollout.prompt_tokens.len() + scored.rollout.tokens.len();
            all <= tokens
        });
        let (batch, others) = left.split_at(fits.count().max(1));
        left = others;
        let sequences: Vec<Vec<u32>> = batch.iter().map(sequence).collect();
        let rows = sequences.iter().map(|sequence| KvRow::new(policy, sequence.len()));
        let mut rows = rows.collect::<candle_core::Result<Vec<_>>>()?;
        let mut pairs: Vec<(&mut KvRow, &[u32])> =
            rows.iter_mut().zip(&sequences).map(|(row, sequence)| (row, sequence.as_slice())).collect();
        let inputs = policy.mlp_input(&mut pairs)?;
        let mut first = 0;
        for (scored, sequence) in batch.iter().zip(&sequences) {
            let own = &inputs[first * width..(first + sequence.len()) * width];
            first += sequence.len();
            let found = match metric {
                AngleMetric::Clean => Directions::of(own, width).within(),
                AngleMetric::Released => Released::online(own, width),
            };
            let (sum, count) = sums.entry(scored.rollout.prompt.id.clone()).or_default();
            *sum += found;
            *count += 1;
        }
    }
    Ok(sums.into_iter().map(|(prompt, (sum, count))| (prompt, (sum / count as f64) as f32)).collect())
}

/// Adds them to the outcomes of the step. Gives their mean over groups, if there is any.
pub(super) fn add(outcomes: &mut [GroupOutcome], found: &BTreeMap<String, f32>) -> Option<f64> {
    for outcome in outcomes.iter_mut() {
        outcome.concentration = found.get(&outcome.prompt).copied();
    }
    let known: Vec<f64> =
        outcomes.iter().filter_map(|outcome| outcome.concentration.map(f64::from)).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}
