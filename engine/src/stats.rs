//! Statistics of gradients and of numbers: estimates that say how far to trust a step.
//!
//! The unit is the prompt group: rollouts of one prompt share a baseline and are not independent. Ratios are formed from
//! numerators and denominators that were averaged apart.

use serde::{Deserialize, Serialize};

/// A running mean that forgets, with the bias of its start taken out.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Ema {
    sum: f32,
    weight: f32,
}

impl Ema {
    /// Takes a value in, keeping a share `decay` of the past. Values that are not finite are left out.
    pub fn add(&mut self, decay: f64, value: f64) {
        if value.is_finite() {
            self.sum = (decay * f64::from(self.sum) + (1.0 - decay) * value) as f32;
            self.weight = (decay * f64::from(self.weight) + (1.0 - decay)) as f32;
        }
    }

    /// The mean, if anything was taken in.
    pub fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| f64::from(self.sum) / f64::from(self.weight))
    }
}

/// What the gradients of some chunks of a batch say of the gradient itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Unbiased estimate of ‖∇J‖²; may be negative.
    pub signal: f64,
    /// Unbiased estimate of tr Var of a single group's gradient.
    pub group_variance: f64,
    /// Groups in the batch.
    pub groups: usize,
}

impl Noise {
    /// From the squared norms of chunks, each with its number of groups, and of their sum. Chunks are shares of one mean:
    /// they add up to the batch's gradient. `None` if there are not two chunks.
    ///
    /// With gₖ a chunk's own mean over nₖ of N groups, Σ nₖ ‖gₖ − ḡ‖² / (K − 1) is the variance of one group, and
    /// ‖ḡ‖² − that / N the signal: for equal chunks the estimate of McCandlish et al.
    ///
    /// # Source
    /// McCandlish et al., arXiv:1812.06162, appendix A.
    pub fn estimate(chunks: &[(usize, f64)], sum: f64) -> Option<Self> {
        let chunks: Vec<_> = chunks.iter().filter(|(groups, _)| *groups > 0).collect();
        if chunks.len() < 2 {
            return None;
        }
        let groups: usize = chunks.iter().map(|(groups, _)| groups).sum();
        let n = groups as f64;
        // a chunk's share of the sum is nₖ gₖ / N
        let within: f64 = chunks.iter().map(|(groups, squared)| squared * n * n / *groups as f64).sum();
        let group_variance = (within - n * sum) / (chunks.len() as f64 - 1.0);
        Some(Self { signal: sum - group_variance / n, group_variance, groups })
    }

    /// Variance of the batch's gradient.
    pub fn variance(&self) -> f64 {
        self.group_variance / self.groups as f64
    }

    /// Signal over the batch's variance, 0 where the signal drowns.
    pub fn snr(&self) -> f64 {
        ratio(self.signal.max(0.0), self.variance())
    }

    /// Groups at which a batch's variance equals the signal: the gradient noise scale. Infinite where the signal drowns.
    pub fn scale(&self) -> f64 {
        ratio(self.group_variance.max(0.0), self.signal.max(0.0))
    }

    /// Expected cosine between the gradients of two single groups: ⟨gᵢ, gⱼ⟩ over the mean of ‖gᵢ‖².
    pub fn cosine(&self) -> f64 {
        let power = self.signal + self.group_variance;
        if power > 0.0 { self.signal / power } else { 0.0 }
    }
}

/// a / b, with 0 for 0 / 0.
fn ratio(a: f64, b: f64) -> f64 {
    if a == 0.0 { 0.0 } else { a / b.max(0.0) }
}

/// SNR/(1 + SNR): the share of a step that pays for its noise, 1 for an infinite SNR.
///
/// # Source
/// OBLR-PO, arXiv:2511.23310; derived from the descent lemma.
pub fn snr_factor(snr: f64) -> f64 {
    if snr.is_infinite() { 1.0 } else { snr / (1.0 + snr) }
}

/// Pearson's correlation; `None` if either does not vary.
pub fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let moment = |x: &[f64], mx: f64, y: &[f64], my: f64| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum()
    };
    let (aa, bb) = (moment(a, mean_a, a, mean_a), moment(b, mean_b, b, mean_b));
    let value = moment(a, mean_a, b, mean_b) / (aa * bb).sqrt();
    value.is_finite().then_some(value)
}

/// Spearman's rank correlation, ties sharing their mean rank; `None` if either does not vary.
pub fn rank_correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    correlation(&ranks(a), &ranks(b))
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = first as f64 + (tied.len() as f64 - 1.0) / 2.0;
        first += tied.len();
        tied.iter().for_each(|place| ranks[*place] = rank);
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_matches_the_worked_numbers() {
        // chunks (1, .2), (.6, −.1), (1.4, .5), (.8, .2), each a quarter of the mean
        let chunks: [[f64; 2]; 4] = [[1.0, 0.2], [0.6, -0.1], [1.4, 0.5], [0.8, 0.2]];
        let norms: Vec<(usize, f64)> =
            chunks.iter().map(|c| (1, (c[0] * c[0] + c[1] * c[1]) / 16.0)).collect();
        let noise = Noise::estimate(&norms, 0.9425).expect("four chunks");
        assert!((noise.variance() - 0.044_166_7).abs() < 1e-6, "{noise:?}");
        assert!((noise.signal - 0.898_333).abs() < 1e-6);
        assert!((noise.snr() - 20.3396).abs() < 1e-3);
        assert!((snr_factor(noise.snr()) - 0.953_139).abs() < 1e-6);
        assert_eq!(Noise::estimate(&norms[..1], 1.0), None);
    }

    #[test]
    fn chunks_of_unequal_size_give_unbiased_estimates() {
        // groups are ±1 around a mean of 2, one coordinate; all 2⁵ outcomes, in chunks of 1, 1 and 3
        let (mut signal, mut variance) = (0.0, 0.0);
        for outcome in 0..32 {
            let groups: Vec<f64> = (0..5).map(|i| if outcome >> i & 1 == 1 { 3.0 } else { 1.0 }).collect();
            let share = |range: std::ops::Range<usize>| (groups[range].iter().sum::<f64>() / 5.0).powi(2);
            let chunks = [(1, share(0..1)), (1, share(1..2)), (3, share(2..5))];
            let noise = Noise::estimate(&chunks, share(0..5)).expect("three chunks");
            signal += noise.signal / 32.0;
            variance += noise.group_variance / 32.0;
        }
        assert!((signal - 4.0).abs() < 1e-12 && (variance - 1.0).abs() < 1e-12, "{signal} {variance}");
    }

    #[test]
    fn a_signal_that_drowns_gives_no_rate_below_zero() {
        let noise = Noise::estimate(&[(1, 1.0), (1, 1.0)], 0.5).expect("two chunks");
        assert!(noise.signal < 0.0 && noise.snr() == 0.0 && noise.scale().is_infinite(), "{noise:?}");
        assert_eq!(snr_factor(noise.snr()), 0.0);
        let still = Noise::estimate(&[(1, 0.0), (1, 0.0)], 0.0).expect("two chunks");
        assert_eq!((still.snr(), still.scale(), still.cosine()), (0.0, 0.0, 0.0));
        let sure = Noise::estimate(&[(1, 0.25), (1, 0.25)], 1.0).expect("two chunks");
        assert_eq!((sure.snr(), snr_factor(sure.snr())), (f64::INFINITY, 1.0));
    }

    #[test]
    fn ranks_share_ties_and_do_not_care_for_scale() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [2.5, 0.0, 2.5, 1.0]);
        let a = [1.0, 2.0, 3.0, 4.0];
        assert!((rank_correlation(&a, &[1.0, 4.0, 9.0, 100.0]).expect("varies") - 1.0).abs() < 1e-12);
        assert!((rank_correlation(&a, &[4.0, 3.0, 2.0, 1.0]).expect("varies") + 1.0).abs() < 1e-12);
        assert_eq!(rank_correlation(&a, &[1.0; 4]), None);
        assert_eq!(correlation(&[], &[]), None);
    }

    #[test]
    fn a_running_mean_has_no_bias_at_its_start() {
        let mut ema = Ema::default();
        assert_eq!(ema.mean(), None);
        ema.add(0.9, 3.0);
        ema.add(0.9, f64::NAN);
        assert!((ema.mean().expect("one") - 3.0).abs() < 1e-6);
        ema.add(0.9, 1.0);
        assert!((ema.mean().expect("two") - (0.9 * 3.0 + 1.0) / 1.9).abs() < 1e-6);
    }
}
