//! The learning rate of each update.
//!
//! Before: the recipe. After: [`crate::transform::ScaleByLearningRate`]. A schedule is a function of the update's
//! number and holds no state; what it follows of the gradients' past is in [`crate::ledger`].

use serde::{Deserialize, Serialize};

/// A warm-up, then a shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Updates over which it rises linearly from 0; the first update already has a share of 1/warmup.
    pub warmup: u64,
    /// What follows.
    pub shape: ScheduleShape,
    /// Where `linear` and `cosine` end, as a share of the highest.
    pub floor: f64,
    /// Multiply by what the gradient's signal-to-noise ratio is worth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snr: Option<Snr>,
}

/// The learning rate follows the gradient's signal-to-noise ratio: f = SNR/(1 + SNR) on top of the rest, from the running
/// means of [`crate::ledger`]. Of an L-smooth objective, f/L is the step of the largest guaranteed gain.
///
/// # Source
/// OBLR-PO, arXiv:2511.23310 (abstract); formula and bounds derived.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Snr {
    /// Least factor, in 0..1.
    pub floor: f64,
    /// Updates at the start that keep the factor at 1 while the means settle.
    pub warmup: u64,
}

impl Default for Snr {
    fn default() -> Self {
        Self { floor: 0.1, warmup: 10 }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self { learning_rate: 1e-6, warmup: 0, shape: ScheduleShape::Constant, floor: 0.0, snr: None }
    }
}

/// What the learning rate does after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ScheduleShape {
    /// Stays.
    #[default]
    Constant,
    /// Falls in a straight line, which reaches the floor behind the last update: with a floor of 0 that one still counts.
    Linear,
    /// Falls along half a cosine, which reaches the floor behind the last update.
    Cosine,
}

impl Schedule {
    /// Learning rate of update `update` of `total`, counted from 0.
    pub fn at(&self, update: u64, total: u64) -> f64 {
        if update < self.warmup {
            return self.learning_rate * (update + 1) as f64 / self.warmup as f64;
        }
        let span = total.saturating_sub(self.warmup).max(1);
        let done = ((update - self.warmup) as f64 / span as f64).min(1.0);
        let left = match self.shape {
            ScheduleShape::Constant => return self.learning_rate,
            ScheduleShape::Linear => 1.0 - done,
            ScheduleShape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        };
        self.learning_rate * (self.floor + (1.0 - self.floor) * left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_to_the_peak_and_falls_towards_the_floor_behind_the_last_update() {
        for shape in [ScheduleShape::Linear, ScheduleShape::Cosine] {
            let schedule = Schedule { learning_rate: 2.0, warmup: 4, shape, floor: 0.1, snr: None };
            let rates: Vec<f64> = (0..11).map(|update| schedule.at(update, 10)).collect();
            assert_eq!(&rates[..5], [0.5, 1.0, 1.5, 2.0, 2.0]);
            assert!((rates[7] - (0.2 + 1.8 * 0.5)).abs() < 1e-12, "half way: {rates:?}");
            assert!((rates[10] - 0.2).abs() < 1e-12, "{rates:?}");
            assert!(rates[4..].is_sorted_by(|a, b| a >= b));
        }
        let constant = Schedule { learning_rate: 2.0, ..Schedule::default() };
        assert_eq!(constant.at(0, 1), 2.0);
        assert_eq!(constant.at(99, 100), 2.0);
    }

    #[test]
    fn the_last_update_of_a_run_changes_something_whatever_its_length_and_warm_up() {
        for shape in [ScheduleShape::Linear, ScheduleShape::Cosine] {
            for total in [1, 2, 3, 10, 1000] {
                for warmup in [0, 1, total / 2, total, 2 * total] {
                    let schedule = Schedule { learning_rate: 1.0, warmup, shape, floor: 0.0, snr: None };
                    let rates: Vec<f64> = (0..total).map(|update| schedule.at(update, total)).collect();
                    assert!(rates.iter().all(|rate| *rate > 0.0), "{schedule:?} of {total}: {rates:?}");
                }
            }
        }
        // as in transformers: (N − t)/(N − warmup)
        let linear =
            Schedule { learning_rate: 1.0, warmup: 2, shape: ScheduleShape::Linear, ..Schedule::default() };
        let rates: Vec<f64> = (2..6).map(|update| linear.at(update, 6)).collect();
        assert_eq!(rates, [1.0, 0.75, 0.5, 0.25]);
    }
}
