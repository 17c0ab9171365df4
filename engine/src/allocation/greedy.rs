//! The integer sizes of most value.

use std::collections::BinaryHeap;

use super::{Bounds, Forecast, RolloutBudget};

/// The prompt that gains most by one more rollout; of equal ones the first.
struct Candidate {
    gain: f64,
    prompt: usize,
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.gain.total_cmp(&other.gain).then(other.prompt.cmp(&self.prompt))
    }
}

/// Sizes within bounds that have the largest Σ value(forecast, n) of all that use the whole budget. One rollout at a time
/// goes where it gains most, which is exact because the gain of one more falls with n.
pub(super) fn sizes(
    forecasts: &[Forecast],
    budget: RolloutBudget,
    bounds: Bounds,
    value: impl Fn(&Forecast, usize) -> f64,
) -> Vec<usize> {
    let most = bounds.most(budget);
    let forecasts: Vec<Forecast> = forecasts.iter().map(|forecast| bounds.forecast(forecast)).collect();
    let mut sizes = vec![bounds.least.min(budget.group_size); forecasts.len()];
    let candidate = |prompt: usize, size: usize| {
        let gain = value(&forecasts[prompt], size + 1) - value(&forecasts[prompt], size);
        Candidate { gain, prompt }
    };
    let mut heap: BinaryHeap<Candidate> =
        (0..sizes.len()).filter(|i| sizes[*i] < most).map(|i| candidate(i, sizes[i])).collect();
    let all = budget.group_size * forecasts.len();
    for _ in sizes.iter().sum::<usize>()..all {
        let Some(Candidate { prompt, .. }) = heap.pop() else { break };
        sizes[prompt] += 1;
        if sizes[prompt] < most {
            heap.push(candidate(prompt, sizes[prompt]));
        }
    }
    sizes
}
