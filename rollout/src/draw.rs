//! One token from one row of logits.
//!
//! DrawContext: the policy's logits. After: the sampler appends the token. The recorded log-prob is that of the very
//! distribution the token was drawn from. Logits are changed in this order: bias, repetition penalty, forbidden tokens,
//! temperature; then top-k, top-p and min-p each take from what the one before left, and the rest is renormalised.

use data::Alternative;
use engine::kernels::{RowStats, exp};

use crate::sampling::Sampling;

/// A drawn token.
#[derive(Debug, Clone, PartialEq)]
pub struct Draw {
    /// Its id.
    pub token: u32,
    /// ln of its probability when drawn, in nats.
    pub log_prob: f32,
    /// Entropy of the distribution in nats, if it is asked for.
    pub entropy: Option<f32>,
    /// The likeliest tokens, if asked for.
    pub top: Vec<Alternative>,
}

/// The tokens that a draw may depend on, beside the logits.
#[derive(Debug, Clone, Copy, Default)]
pub struct DrawContext<'a> {
    /// Tokens of the prompt.
    pub prompt: &'a [u32],
    /// Tokens drawn so far.
    pub tokens: &'a [u32],
    /// Tokens that are forbidden before `min_tokens`.
    pub stop_tokens: &'a [u32],
}

/// Draws a token with a uniform number in [0, 1). `None` if the logits give no distribution. The logits are changed as
/// the settings say.
///
/// If no setting reshapes the distribution, the log-prob is computed as the trainer computes it, to the bit.
pub fn draw(logits: &mut [f32], sampling: &Sampling, context: DrawContext<'_>, uniform: f64) -> Option<Draw> {
    if sampling.changes_logits() {
        change(logits, sampling, context);
    }
    let logits = &*logits;
    let inverse = if sampling.temperature == 0.0 { 1.0 } else { (1.0 / sampling.temperature) as f32 };
    let (stats, blocks) = RowStats::for_draw(logits, inverse);
    if !(stats.max.is_finite() && stats.sum.is_finite()) {
        return None;
    }
    if sampling.temperature == 0.0 {
        let top = vec![Alternative { token: stats.best, log_prob: 0.0 }; sampling.top_log_probs.min(1)];
        let entropy = sampling.entropy.then_some(0.0);
        return Some(Draw { token: stats.best, log_prob: 0.0, entropy, top });
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
        let of = |token: usize| stats.log_prob(logits[token], inverse);
        let entropy = sampling.entropy.then(|| RowStats::of(logits, inverse).entropy());
        let top = likeliest(logits, sampling.top_log_probs).into_iter();
        let top = top.map(|token| Alternative { token, log_prob: of(token as usize) }).collect();
        return Some(Draw { token: token as u32, log_prob: of(token), entropy, top });
    }
    let kept = keep(logits, sampling, |z| z * inverse - stats.max);
    let weights: Vec<f64> = kept.iter().map(|id| weight(logits[*id as usize])).collect();
    let total: f64 = weights.iter().sum();
    let (place, _) = pick(weights.iter().copied(), 0.0, uniform * total)?;
    let log = |place: usize| weights[place].ln() - total.ln();
    let term = |place: usize| if weights[place] > 0.0 { -weights[place] / total * log(place) } else { 0.0 };
    let entropy = sampling.entropy.then(|| (0..weights.len()).map(term).sum::<f64>() as f32);
    // likeliest first already
    let top = kept.iter().enumerate().take(sampling.top_log_probs);
    let top = top.map(|(place, token)| Alternative { token: *token, log_prob: log(place) as f32 }).collect();
    Some(Draw { token: kept[place], log_prob: log(place) as f32, entropy, top })
}

/// Bias, penalty, then what is forbidden.
fn change(logits: &mut [f32], sampling: &Sampling, context: DrawContext<'_>) {
    for (token, bias) in &sampling.logit_bias {
        logits[*token as usize] += bias;
    }
    if sampling.repetition_penalty != 1.0 {
        let penalty = sampling.repetition_penalty as f32;
        let mut seen = [context.prompt, context.tokens].concat();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            let logit = &mut logits[token as usize];
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }
    if !sampling.allowed_tokens.is_empty() {
        let allowed: Vec<(usize, f32)> =
            sampling.allowed_tokens.iter().map(|token| (*token as usize, logits[*token as usize])).collect();
        logits.fill(f32::NEG_INFINITY);
        allowed.into_iter().for_each(|(token, logit)| logits[token] = logit);
    }
    let early = context.tokens.len() + 1 < sampling.min_tokens;
    let stops = context.stop_tokens.iter().filter(|_| early);
    for token in sampling.forbidden_tokens.iter().chain(stops) {
        logits[*token as usize] = f32::NEG_INFINITY;
    }
}

/// So many of the likeliest tokens, likeliest first.
fn likeliest(logits: &[f32], count: usize) -> Vec<u32> {
    let count = count.min(logits.len());
    if count == 0 {
        return Vec::new();
    }
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let by_falling = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    ids.select_nth_unstable_by(count - 1, by_falling);
    ids.truncate(count);
    ids.sort_unstable_by(by_falling);
    ids
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

    /// Shares of tokens in a sweep over the uniform number, with the log-prob each token was given.
    fn shares(sampling: &Sampling) -> Vec<(f64, Option<f32>)> {
        let mut found = vec![(0.0, None); P.len()];
        for i in 0..20_000 {
            let uniform = (f64::from(i) + 0.5) / 20_000.0;
            let drawn = draw(&mut logits(), sampling, DrawContext::default(), uniform).expect("drawn");
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
        let of = |logits: &[f32], u: f64| draw(&mut logits.to_vec(), &s, DrawContext::default(), u);
        let drawn = of(&[f32::NEG_INFINITY, 0.0], 0.0).expect("drawn");
        assert_eq!((drawn.token, drawn.log_prob), (1, 0.0));
        assert_eq!(of(&[0.0, f32::NAN], 0.5), None);
        assert_eq!(of(&[f32::NEG_INFINITY; 2], 0.5), None);
        assert_eq!(of(&[f32::INFINITY, 0.0], 0.5), None);
    }

    #[test]
    fn a_wide_nucleus_is_found_in_a_large_vocabulary() {
        let mut logits = vec![0f32; 1000];
        let s = Sampling { top_p: 0.5, ..Sampling::default() };
        let last = draw(&mut logits, &s, DrawContext::default(), 0.999_999).expect("drawn");
        assert_eq!(last.token, 499);
        assert!((last.log_prob + 500f32.ln()).abs() < 1e-5);
    }

    /// χ² of draws with the sampler's own uniform numbers against exact probabilities, over many tokens, for every option
    /// and for some together.
    #[test]
    fn every_option_draws_from_its_exact_distribution() {
        const VOCABULARY: usize = 40;
        let z: Vec<f64> = (0..VOCABULARY).map(|i| ((i * 37 % 41) as f64 / 8.0) - 2.5).collect();
        let (prompt, tokens, stop_tokens) = ([3u32, 5], [7u32, 3], [1u32, 2]);
        let s = Sampling::default();
        let options = [
            s.clone(),
            Sampling { temperature: 0.6, ..s.clone() },
            Sampling { temperature: 1.7, top_k: 9, ..s.clone() },
            Sampling { top_p: 0.8, ..s.clone() },
            Sampling { min_p: 0.1, ..s.clone() },
            Sampling { repetition_penalty: 1.4, ..s.clone() },
            Sampling { logit_bias: vec![(4, 2.0), (9, -1.5)], ..s.clone() },
            Sampling { allowed_tokens: vec![0, 3, 8, 9, 20], ..s.clone() },
            Sampling { forbidden_tokens: vec![40 - 1, 6], ..s.clone() },
            Sampling { min_tokens: 4, ..s.clone() },
            Sampling {
                temperature: 0.9,
                top_k: 20,
                top_p: 0.9,
                min_p: 0.02,
                repetition_penalty: 0.8,
                logit_bias: vec![(11, 1.0)],
                forbidden_tokens: vec![12],
                min_tokens: 9,
                ..s
            },
        ];
        for sampling in options {
            // written out anew, in f64
            let mut z = z.clone();
            sampling.logit_bias.iter().for_each(|(token, bias)| z[*token as usize] += f64::from(*bias));
            for token in [3, 5, 7] {
                let p = sampling.repetition_penalty;
                z[token] = if z[token] > 0.0 { z[token] / p } else { z[token] * p };
            }
            for (token, z) in z.iter_mut().enumerate() {
                let token = token as u32;
                let listed = |list: &[u32]| list.contains(&token);
                if (!sampling.allowed_tokens.is_empty() && !listed(&sampling.allowed_tokens))
                    || listed(&sampling.forbidden_tokens)
                    || (sampling.min_tokens > 3 && listed(&stop_tokens))
                {
                    *z = f64::NEG_INFINITY;
                }
            }
            let mut order: Vec<usize> = (0..VOCABULARY).collect();
            order.sort_by(|a, b| z[*b].total_cmp(&z[*a]));
            let mut p: Vec<f64> = z.iter().map(|z| (z / sampling.temperature).exp()).collect();
            if sampling.top_k > 0 {
                order[sampling.top_k..].iter().for_each(|token| p[*token] = 0.0);
            }
            let total: f64 = p.iter().sum();
            let (mut sum, mut kept) = (0.0, p.clone());
            for token in &order {
                if sum >= sampling.top_p * total || p[*token] < sampling.min_p * p[order[0]] {
                    kept[*token] = 0.0;
                }
                sum += p[*token];
            }
            let total: f64 = kept.iter().sum();
            let draws = 40_000;
            let mut counts = [0f64; VOCABULARY];
            let mut seed = data::Seed(11).at(0).prompt("p").place(0);
            for i in 0..draws {
                let mut logits: Vec<f32> =
                    (0..VOCABULARY).map(|i| ((i * 37 % 41) as f32 / 8.0) - 2.5).collect();
                let context = DrawContext { prompt: &prompt, tokens: &tokens, stop_tokens: &stop_tokens };
                let drawn = draw(&mut logits, &sampling, context, seed.uniform(i)).expect("drawn");
                let token = drawn.token as usize;
                counts[token] += 1.0;
                let exact = (kept[token] / total).ln();
                assert!((f64::from(drawn.log_prob) - exact).abs() < 1e-5, "{token} with {sampling:?}");
            }
            let (mut statistic, mut cells) = (0.0, 0.0);
            for (count, kept) in counts.iter().zip(&kept) {
                let expected = kept / total * draws as f64;
                assert!(
                    expected > 0.0 || *count == 0.0,
                    "a token that is ruled out was drawn with {sampling:?}"
                );
                if expected >= 5.0 {
                    statistic += (count - expected).powi(2) / expected;
                    cells += 1.0;
                }
            }
            // χ² with k − 1 degrees has mean k − 1 and variance 2 (k − 1); seeds are fixed
            assert!(
                statistic < cells - 1.0 + 4.0 * f64::sqrt(2.0 * cells),
                "χ² = {statistic} in {cells} cells: {sampling:?}"
            );
        }
    }

    #[test]
    fn entropy_and_alternatives_are_those_of_the_distribution_drawn_from() {
        let s = Sampling { entropy: true, top_log_probs: 3, ..Sampling::default() };
        let entropy = |p: &[f64]| -p.iter().map(|p| p * p.ln()).sum::<f64>();
        let drawn = draw(&mut logits(), &s, DrawContext::default(), 0.5).expect("drawn");
        assert!((f64::from(drawn.entropy.expect("asked")) - entropy(&P)).abs() < 1e-5);
        let ids: Vec<u32> = drawn.top.iter().map(|top| top.token).collect();
        assert_eq!(ids, [1, 3, 4]);
        assert!((f64::from(drawn.top[0].log_prob) - 0.4f64.ln()).abs() < 1e-5);
        let two = Sampling { top_k: 2, ..s };
        let drawn = draw(&mut logits(), &two, DrawContext::default(), 0.5).expect("drawn");
        let shares = [0.4 / 0.65, 0.25 / 0.65];
        assert!((f64::from(drawn.entropy.expect("asked")) - entropy(&shares)).abs() < 1e-5);
        assert_eq!(drawn.top.len(), 2, "only what can be drawn");
        assert!((f64::from(drawn.top[1].log_prob) - shares[1].ln()).abs() < 1e-5);
    }
}
