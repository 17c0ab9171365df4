//! One token from one row of logits.
//!
//! Before: the policy's logits. After: the sampler appends the token. The recorded log-prob is that of the very
//! distribution the token was drawn from: after temperature, then top-k, then top-p, then min-p, each on what the one
//! before left, renormalised.

use engine::kernels::{RowStats, exp};
use serde::{Deserialize, Serialize};

/// How tokens are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the likeliest token.
    pub temperature: f64,
    /// Only this many of the likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together have this share; 1 for all.
    pub top_p: f64,
    /// Only tokens at least this likely relative to the likeliest; 0 for all.
    pub min_p: f64,
    /// Longest completion, in tokens, the stop token included.
    pub max_tokens: usize,
    /// Texts that end a completion; they are left out of its text.
    pub stop: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, max_tokens: 256, stop: Vec::new() }
    }
}

impl Sampling {
    /// Whether any token is ruled out, so that recorded log-probs are not those of the full distribution.
    pub fn truncates(&self) -> bool {
        self.temperature == 0.0 || self.top_k > 0 || self.top_p < 1.0 || self.min_p > 0.0
    }

    /// What is wrong with the settings, if anything.
    pub fn problem(&self) -> Option<String> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Some(format!("temperature is {}; wanted a number of at least 0", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Some(format!("top_p is {}; wanted more than 0 and at most 1", self.top_p));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return Some(format!("min_p is {}; wanted 0 to 1", self.min_p));
        }
        if self.max_tokens == 0 {
            return Some("max_tokens is 0; wanted at least 1".into());
        }
        if self.stop.iter().any(String::is_empty) {
            return Some("stop holds an empty text, which every completion ends with".into());
        }
        None
    }
}

/// A drawn token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// Its id.
    pub token: u32,
    /// ln of its probability when drawn, in nats.
    pub log_prob: f32,
}

/// Draws a token with a uniform number in [0, 1). `None` if the logits give no distribution.
///
/// Without truncation the log-prob is computed as the trainer computes it, to the bit.
pub fn draw(logits: &[f32], sampling: &Sampling, uniform: f64) -> Option<Draw> {
    let inverse = if sampling.temperature == 0.0 { 1.0 } else { (1.0 / sampling.temperature) as f32 };
    let (stats, blocks) = RowStats::for_draw(logits, inverse);
    if !(stats.max.is_finite() && stats.sum.is_finite()) {
        return None;
    }
    if sampling.temperature == 0.0 {
        return Some(Draw { token: stats.best, log_prob: 0.0 });
    }
    let weight = |z: f32| f64::from(exp(z * inverse - stats.max));
    if !sampling.truncates() {
        // first the block, by sums that are known already, then the place in it
        let sums = blocks.iter().map(|(max, sum)| f64::from(*sum) * f64::from(exp(max - stats.max)));
        let sums: Vec<f64> = sums.collect();
        let target = uniform * sums.iter().sum::<f64>();
        let (block, before) = pick(sums.into_iter(), 0.0, target)?;
        let logits_of = logits[block * RowStats::BLOCK..].iter().take(RowStats::BLOCK);
        let (place, _) = pick(logits_of.map(|z| weight(*z)), before, target)?;
        let token = block * RowStats::BLOCK + place;
        return Some(Draw { token: token as u32, log_prob: stats.log_prob(logits[token], inverse) });
    }
    let kept = keep(logits, sampling, |z| z * inverse - stats.max);
    let weights: Vec<f64> = kept.iter().map(|id| weight(logits[*id as usize])).collect();
    let total: f64 = weights.iter().sum();
    let (place, _) = pick(weights.iter().copied(), 0.0, uniform * total)?;
    Some(Draw { token: kept[place], log_prob: (weights[place].ln() - total.ln()) as f32 })
}

/// The first place where the running sum of the weights, which begins at `sum`, exceeds the target, and the sum before
/// it; the last place with a weight if rounding leaves the target beyond the sum.
fn pick(weights: impl Iterator<Item = f64>, mut sum: f64, target: f64) -> Option<(usize, f64)> {
    let mut chosen = None;
    for (place, weight) in weights.enumerate() {
        if weight > 0.0 {
            chosen = Some((place, sum));
            sum += weight;
            if sum > target {
                break;
            }
        }
    }
    chosen
}

/// The tokens that top-k, top-p and min-p leave, likeliest first; ties by id.
fn keep(logits: &[f32], sampling: &Sampling, scaled: impl Fn(f32) -> f32) -> Vec<u32> {
    let by_falling = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let weight = |id: u32| f64::from(exp(scaled(logits[id as usize])));
    if sampling.top_k > 0 && sampling.top_k < ids.len() {
        ids.select_nth_unstable_by(sampling.top_k - 1, by_falling);
        ids.truncate(sampling.top_k);
    }
    if sampling.min_p > 0.0 {
        // relative to the likeliest, whose weight is 1: unaffected by what top-p removes
        ids.retain(|id| weight(*id) >= sampling.min_p);
    }
    if sampling.top_p >= 1.0 {
        ids.sort_unstable_by(by_falling);
        return ids;
    }
    // top-p counts against everything that top-k left, before min-p
    let total: f64 = if sampling.top_k > 0 && sampling.min_p > 0.0 {
        let mut all: Vec<u32> = (0..logits.len() as u32).collect();
        let k = sampling.top_k.min(all.len());
        all.select_nth_unstable_by(k - 1, by_falling);
        all[..k].iter().map(|id| weight(*id)).sum()
    } else if sampling.min_p > 0.0 {
        (0..logits.len() as u32).map(weight).sum()
    } else {
        ids.iter().map(|id| weight(*id)).sum()
    };
    // Sort only as many as are needed: the nucleus is usually small.
    let mut sorted = 0;
    let mut sum = 0.0;
    while sorted < ids.len() {
        let end = (sorted.max(64) * 2).min(ids.len());
        if end < ids.len() {
            ids[sorted..].select_nth_unstable_by(end - sorted - 1, by_falling);
        }
        ids[sorted..end].sort_unstable_by(by_falling);
        for place in sorted..end {
            sum += weight(ids[place]);
            if sum >= sampling.top_p * total {
                ids.truncate(place + 1);
                return ids;
            }
        }
        sorted = end;
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: [f64; 5] = [0.1, 0.4, 0.05, 0.25, 0.2];

    fn logits() -> Vec<f32> {
        P.iter().map(|p| p.ln() as f32 + 3.0).collect()
    }

    /// What a sweep over the uniform number draws, as shares, with the log-prob each token was given.
    fn shares(sampling: &Sampling) -> Vec<(f64, Option<f32>)> {
        let mut found = vec![(0.0, None); P.len()];
        for i in 0..20_000 {
            let drawn = draw(&logits(), sampling, (f64::from(i) + 0.5) / 20_000.0).expect("drawn");
            found[drawn.token as usize].0 += 1.0 / 20_000.0;
            found[drawn.token as usize].1 = Some(drawn.log_prob);
        }
        found
    }

    fn assert_shares(sampling: &Sampling, wanted: [f64; 5]) {
        for ((share, log_prob), wanted) in shares(sampling).into_iter().zip(wanted) {
            assert!((share - wanted).abs() < 2e-4, "{share} is not {wanted} with {sampling:?}");
            if let Some(log_prob) = log_prob {
                assert!((f64::from(log_prob) - wanted.ln()).abs() < 1e-5, "{log_prob} with {sampling:?}");
            }
        }
    }

    #[test]
    fn tokens_are_drawn_by_the_distribution_whose_log_prob_is_recorded() {
        let s = Sampling::default();
        assert_shares(&s, P);
        let squares: f64 = P.iter().map(|p| p * p).sum();
        assert_shares(&Sampling { temperature: 0.5, ..s.clone() }, P.map(|p| p * p / squares));
        assert_shares(&Sampling { top_k: 2, ..s.clone() }, [0.0, 0.4 / 0.65, 0.0, 0.25 / 0.65, 0.0]);
        let three = [0.0, 0.4 / 0.85, 0.0, 0.25 / 0.85, 0.2 / 0.85];
        assert_shares(&Sampling { top_p: 0.7, ..s.clone() }, three);
        assert_shares(&Sampling { min_p: 0.45, ..s.clone() }, three);
        assert_shares(
            &Sampling { top_k: 3, top_p: 0.7, ..s.clone() },
            [0.0, 0.4 / 0.65, 0.0, 0.25 / 0.65, 0.0],
        );
        assert_shares(&Sampling { temperature: 0.0, ..s }, [0.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn an_excluded_token_is_never_drawn_and_broken_logits_are_refused() {
        let s = Sampling::default();
        let drawn = draw(&[f32::NEG_INFINITY, 0.0], &s, 0.0).expect("drawn");
        assert_eq!((drawn.token, drawn.log_prob), (1, 0.0));
        assert_eq!(draw(&[0.0, f32::NAN], &s, 0.5), None);
        assert_eq!(draw(&[f32::NEG_INFINITY; 2], &s, 0.5), None);
        assert_eq!(draw(&[f32::INFINITY, 0.0], &s, 0.5), None);
    }

    #[test]
    fn a_wide_nucleus_is_found_in_a_large_vocabulary() {
        let logits = vec![0f32; 1000];
        let s = Sampling { top_p: 0.5, ..Sampling::default() };
        let last = draw(&logits, &s, 0.999_999).expect("drawn");
        assert_eq!(last.token, 499);
        assert!((last.log_prob + 500f32.ln()).abs() < 1e-5);
    }
}
