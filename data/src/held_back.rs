//! A split of a dataset into rows to train on and rows that are held back.
//!
//! Before: the recipe's fraction. After: each row's id decides where it belongs, whatever other rows there are.

use serde::{Deserialize, Serialize};

use crate::{DataError, Seed};

/// How many rows are held back, and which.
///
/// A row's part is a function of the seed and its id alone, so rows that are added later move no others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HeldBack {
    /// Share of the rows that are held back, between 0 and 1: each row with this probability, so their number is about that.
    pub fraction: f64,
    /// Another seed is another split; the run's seed does not change it.
    #[serde(default)]
    pub seed: u64,
}

/// A part of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What is left to train on.
    Train,
    /// What is held back.
    HeldBack,
}

impl Part {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::HeldBack => "held back",
        }
    }
}

impl HeldBack {
    /// # Errors
    /// If the fraction is not between 0 and 1.
    pub fn check(&self) -> Result<(), DataError> {
        if self.fraction > 0.0 && self.fraction < 1.0 {
            return Ok(());
        }
        let problem = format!("is {}; wanted a share above 0 and below 1", self.fraction);
        Err(DataError::Setting { key: "hold_back.fraction".into(), problem })
    }

    /// Where the row with this id belongs.
    pub fn part(&self, id: &str) -> Part {
        let draw = Seed(self.seed).named("hold back").at(0).prompt(id).place(0).uniform(0);
        if draw < self.fraction { Part::HeldBack } else { Part::Train }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rows_part_is_its_own_and_about_the_fraction_is_held_back() {
        let held = |fraction, seed| {
            let split = HeldBack { fraction, seed };
            (0..10_000).filter(|n| split.part(&format!("rows:{n}")) == Part::HeldBack).collect::<Vec<_>>()
        };
        let few = held(0.1, 0);
        // five standard deviations of a binomial
        assert!((few.len() as f64 - 1000.0).abs() < 150.0, "{}", few.len());
        let more = held(0.3, 0);
        assert!(
            few.iter().all(|row| more.contains(row)),
            "a larger fraction holds back the same rows and more"
        );
        assert_ne!(few, held(0.1, 1));
    }

    #[test]
    fn a_fraction_that_leaves_nothing_is_refused() {
        for fraction in [0.0, 1.0, -0.1, f64::NAN] {
            let error = HeldBack { fraction, seed: 0 }.check().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("the data's hold_back.fraction is {fraction}; wanted a share above 0 and below 1")
            );
        }
        HeldBack { fraction: 0.5, seed: 0 }.check().unwrap();
    }
}
