//! A mean of numbers from 0 to 1 that few questions carry: what is rare in a sample shows little of how rare it is.
//!
//! Before: one number for each question. After: [`clustered`](super::clustered()) joins this interval to its own where few
//! questions carry the mean, or what it lacks of 1.

use super::{Interval, distributions::gamma_quantile};

/// Below so many effective questions an interval from the spread found is not to be trusted.
pub(super) const FEW: f64 = 30.0;

/// What a weighted sum of rare numbers is known by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rare {
    /// y = Σ wᵢ xᵢ, the weights scaled to a sum of 1.
    value: f64,
    /// v = Σ wᵢ² xᵢ².
    squares: f64,
    /// The largest that one more question may add: the largest weight.
    most: f64,
}

impl Rare {
    /// Of numbers from 0 to 1 with weights whose sum is 1.
    pub(super) fn of(terms: impl Iterator<Item = (f64, f64)>) -> Self {
        let mut rare = Self { value: 0.0, squares: 0.0, most: 0.0 };
        for (weight, x) in terms {
            rare.value += weight * x;
            rare.squares += (weight * x).powi(2);
            rare.most = f64::max(rare.most, weight);
        }
        rare
    }

    /// (Σ wᵢ xᵢ)²/Σ (wᵢ xᵢ)²: as many questions of equal numbers would carry as much; 0 where all are 0.
    pub(super) fn effective(&self) -> f64 {
        if self.squares > 0.0 { self.value * self.value / self.squares } else { 0.0 }
    }

    /// Σ wᵢ xᵢ over the largest weight: so many whole questions of the largest weight would carry as much.
    pub(super) fn whole(&self) -> f64 {
        self.value / self.most
    }

    /// The gamma interval: y as a sum of Poisson numbers of mean 1 times wᵢ xᵢ, bounded from above as if the largest weight
    /// had been seen once more.
    ///
    /// low = (v/y) Γ⁻¹(α/2; y²/v) and high = (v⁺/y⁺) Γ⁻¹(1 − α/2; y⁺²/v⁺) with y⁺ = y + w, v⁺ = v + w², w the largest weight
    /// and Γ⁻¹(p; s) the quantile of the gamma distribution of shape s. For numbers 0 and 1 it is the exact interval of a
    /// Poisson mean; of n questions that all are 0 it goes up to 3.69/n.
    ///
    /// # Source
    /// M. Fay and E. Feuer, *Confidence Intervals for Directly Standardized Rates: a Method Based on the Gamma Distribution*,
    /// Statistics in Medicine 16 (1997).
    pub(super) fn interval(&self, confidence: f64) -> Interval {
        let tail = 0.5 * (1.0 - confidence);
        let scaled = |p: f64, y: f64, v: f64| v / y * gamma_quantile(p, y * y / v);
        let low = if self.value > 0.0 { scaled(tail, self.value, self.squares) } else { 0.0 };
        let high = scaled(1.0 - tail, self.value + self.most, self.squares + self.most * self.most);
        Interval { low, high }.of_a_share()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rare(values: &[f64]) -> Rare {
        let weight = 1.0 / values.len() as f64;
        Rare::of(values.iter().map(|x| (weight, *x)))
    }

    #[test]
    fn of_whole_numbers_it_is_the_exact_interval_of_a_poisson_mean() {
        // Garwood's: 0 of any: 3.6889, 3: 0.6187 to 8.7673
        let mut values = [0.0; 100];
        let none = rare(&values).interval(0.95);
        assert!(none.low == 0.0 && (none.high - 0.036_889).abs() < 1e-6, "{none:?}");
        values[..3].fill(1.0);
        let three = rare(&values).interval(0.95);
        assert!((three.low - 0.006_187).abs() < 1e-6 && (three.high - 0.087_673).abs() < 1e-6, "{three:?}");
        assert!((rare(&values).effective() - 3.0).abs() < 1e-12);
    }

    #[test]
    fn one_small_number_does_not_bound_the_mean_by_itself() {
        let mut values = [0.0; 200];
        values[7] = 1e-4;
        let found = rare(&values).interval(0.95);
        assert!(found.low < 1e-6 && found.high > 0.018, "{found:?}");
        assert!((rare(&values).effective() - 1.0).abs() < 1e-9);
    }
}
