//! How many draws a single question needs.
//!
//! Before: some pilot draws of a question. After: how many draws it should have in all for its share to be known to
//! ± half-width. For a benchmark's mean see [`plan`](super::plan), which needs far fewer.

use serde::{Deserialize, Serialize};

use super::{
    StatsError, check_confidence, check_values, clopper_pearson, distributions::normal_two_sided,
    interval::exact_interval, pass,
};

/// Steps of the table of needed draws between shares 0 and 1; even, so that 0.5 is in it.
const STEPS: usize = 20;

/// How the draws of a single question are bounded.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetSettings {
    /// α: how often the pilot's or the final interval may miss the share, together.
    pub alpha: f64,
    /// The part of α that the pilot's interval spends; the final one has the rest.
    pub pilot_part: f64,
    /// Draws of the pilot.
    pub pilot: usize,
    /// The most draws of a question in all.
    pub most: usize,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self { alpha: 0.05, pilot_part: 0.2, pilot: 8, most: 64 }
    }
}

impl BudgetSettings {
    /// The confidence of the pilot's interval, 1 − 0.2 α.
    pub fn pilot_confidence(&self) -> f64 {
        1.0 - self.pilot_part * self.alpha
    }

    /// The confidence of the final interval, 1 − 0.8 α: [`clopper_pearson`] with it, of all draws, pilot included.
    pub fn final_confidence(&self) -> f64 {
        1.0 - (1.0 - self.pilot_part) * self.alpha
    }
}

/// Needed draws for one half-width: a table, to be made once for all questions.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    settings: BudgetSettings,
    /// For shares 0, 1/STEPS, …, 1: the least n whose exact interval around that share is narrow enough, or the most.
    needed: Vec<usize>,
}

impl Budget {
    /// Tabulates the least n whose [`clopper_pearson`] interval, around p of n right, has this half-width at most.
    ///
    /// # Errors
    /// If the half-width is not above 0, or α or its part is not between 0 and 1.
    pub fn new(half_width: f64, settings: BudgetSettings) -> Result<Self, StatsError> {
        check_values("the half-width", "a number above 0", &[half_width], |half| half > 0.0)?;
        check_confidence(settings.pilot_confidence())?;
        check_confidence(settings.final_confidence())?;
        let narrow = |n: usize, p: f64| {
            exact_interval(n as f64 * p, n as f64, settings.final_confidence()).half_width() <= half_width
        };
        let needed = |step: usize| {
            let p = step as f64 / STEPS as f64;
            let (mut low, mut high) = (1, settings.most.max(1));
            while low < high {
                let middle = (low + high) / 2;
                if narrow(middle, p) { high = middle } else { low = middle + 1 }
            }
            high
        };
        let half: Vec<usize> = (0..=STEPS / 2).map(needed).collect();
        let needed = (0..=STEPS).map(|step| half[step.min(STEPS - step)]).collect();
        Ok(Self { settings, needed })
    }

    /// Draws that a question with `right` of `pilot` pilot draws should have in all, pilot included: the most that the table
    /// wants for any share in the pilot's [`clopper_pearson`] interval, widened to the table's shares. More than
    /// [`BudgetSettings::most`] only if the pilot is.
    ///
    /// # Errors
    /// If more are right than drawn.
    /// # Source
    /// R. Chen et al., *Input-Specific Robustness Certification for Randomized Smoothing*, AAAI 2022 (arXiv:2112.12084),
    /// there for certified radii.
    pub fn samples_for(&self, right: usize, pilot: usize) -> Result<usize, StatsError> {
        let interval = clopper_pearson(right, pilot, self.settings.pilot_confidence())?;
        let low = (interval.low * STEPS as f64).floor() as usize;
        let high = (interval.high * STEPS as f64).ceil() as usize;
        let needed = self.needed[low..=high].iter().copied().max().unwrap_or(self.settings.most);
        Ok(needed.max(pilot))
    }
}

/// [`Budget::samples_for`] for a single question.
///
/// # Errors
/// As [`Budget::new`] and [`Budget::samples_for`].
pub fn samples_for(
    right: usize,
    pilot: usize,
    half_width: f64,
    settings: BudgetSettings,
) -> Result<usize, StatsError> {
    Budget::new(half_width, settings)?.samples_for(right, pilot)
}

/// Draws for ± half-width by the adjusted normal rule: ⌈z² p̃(1 − p̃)/h²⌉ with p̃ = (right + 2)/(pilot + 4).
///
/// It takes the pilot's share as it is, not the worst in its interval: less than [`samples_for`] and without a promise.
///
/// # Errors
/// If more are right than drawn, the half-width is not above 0, or the confidence is not between 0 and 1.
/// # Source
/// A. Agresti and B. Coull, *Approximate Is Better than "Exact" for Interval Estimation of Binomial Proportions*, The
/// American Statistician 52 (1998).
pub fn adjusted_normal_samples(
    right: usize,
    pilot: usize,
    half_width: f64,
    confidence: f64,
) -> Result<usize, StatsError> {
    check_confidence(confidence)?;
    check_values("the half-width", "a number above 0", &[half_width], |half| half > 0.0)?;
    pass::check_right(pilot, right)?;
    let share = (right as f64 + 2.0) / (pilot as f64 + 4.0);
    let z = normal_two_sided(confidence);
    Ok((z * z * share * (1.0 - share) / (half_width * half_width)).ceil() as usize)
}

/// Whether the share of right draws out of `most` will reach `threshold`, if the draws so far decide that already: such a
/// question needs no more of them.
///
/// Some(true) if it does with all others wrong, Some(false) if it does not with all others right, otherwise None.
///
/// # Errors
/// If more are right than drawn, or more are drawn than `most`.
pub fn cannot_change(
    right: usize,
    drawn: usize,
    most: usize,
    threshold: f64,
) -> Result<Option<bool>, StatsError> {
    pass::check_right(drawn, right)?;
    if drawn > most {
        return Err(StatsError::TooFew { what: "draws at most", found: most, wanted: drawn });
    }
    // rounding must not decide a share that is the threshold itself
    let needed = (threshold * most as f64 - 1e-9).ceil();
    Ok(if right as f64 >= needed {
        Some(true)
    } else if ((right + most - drawn) as f64) < needed {
        Some(false)
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use super::super::distributions::binomial;
    use super::*;

    #[test]
    fn the_adjusted_normal_rule_gives_the_worked_numbers() {
        for (right, wanted) in [(0, 54), (4, 97), (8, 54)] {
            assert_eq!(adjusted_normal_samples(right, 8, 0.1, 0.95), Ok(wanted), "{right} of 8");
        }
    }

    #[test]
    fn half_is_the_worst_and_extremes_need_less() {
        let settings = BudgetSettings { most: 1000, ..BudgetSettings::default() };
        let budget = Budget::new(0.1, settings).unwrap();
        let needed: Vec<usize> = (0..=8).map(|right| budget.samples_for(right, 8).unwrap()).collect();
        assert!((0..=8).all(|right| needed[right] == needed[8 - right]), "{needed:?}");
        assert_eq!(needed[3], needed[4], "0.5 lies in both intervals");
        // of 8, none right leaves shares to 0.48 possible; of 32, to 0.15
        let surer = budget.samples_for(0, 32).unwrap();
        assert!(surer < needed[0] && needed[0] <= needed[4], "{surer}, {needed:?}");
        // at half, the exact interval is a little wider than the normal ± 2.05 √(0.25/n)
        assert!((105..125).contains(&needed[4]), "{needed:?}");
    }

    #[test]
    fn the_draws_asked_for_make_the_interval_narrow_enough() {
        let settings = BudgetSettings { most: 1000, ..BudgetSettings::default() };
        let budget = Budget::new(0.1, settings).unwrap();
        for pilot_right in 0..=8 {
            let n = budget.samples_for(pilot_right, 8).unwrap();
            let pilot = clopper_pearson(pilot_right, 8, settings.pilot_confidence()).unwrap();
            for right in (0..=n).filter(|right| pilot.contains(*right as f64 / n as f64)) {
                let found = clopper_pearson(right, n, settings.final_confidence()).unwrap();
                assert!(found.half_width() <= 0.1005, "{pilot_right}: {right} of {n}: {found:?}");
            }
        }
    }

    #[test]
    fn no_more_than_the_most_and_no_less_than_the_pilot() {
        let settings = BudgetSettings::default();
        assert_eq!(samples_for(4, 8, 0.1, settings), Ok(64));
        assert_eq!(samples_for(4, 8, 0.49, settings), Ok(8));
    }

    #[test]
    fn the_interval_misses_no_more_than_alpha_although_the_pilot_is_used_twice() {
        // exactly, by summing over all pilots and all that may follow
        for (half_width, most) in [(0.1, 256), (0.2, 64)] {
            let settings = BudgetSettings { most, ..BudgetSettings::default() };
            let budget = Budget::new(half_width, settings).unwrap();
            for p in (1..40).map(|step| f64::from(step) / 40.0) {
                let mut covered = 0.0;
                for pilot_right in 0..=8 {
                    let more = budget.samples_for(pilot_right, 8).unwrap() - 8;
                    let rest = |right: &usize| {
                        // the interval contains p if neither tail is too improbable; that is faster than its bounds
                        let n = 8 + more;
                        let right = pilot_right + right;
                        let tail = 0.5 * (1.0 - settings.final_confidence());
                        let at_least =
                            super::super::distributions::beta_cdf(p, right as f64, (n - right + 1) as f64);
                        let at_most = super::super::distributions::beta_cdf(
                            1.0 - p,
                            (n - right) as f64,
                            right as f64 + 1.0,
                        );
                        (right == 0 || at_least >= tail) && (right == n || at_most >= tail)
                    };
                    let inside: f64 = (0..=more).filter(rest).map(|right| binomial(more, right, p)).sum();
                    covered += binomial(8, pilot_right, p) * inside;
                }
                assert!(covered >= 0.95, "±{half_width} at {p}: {covered}");
            }
        }
    }

    #[test]
    fn a_verdict_is_settled_once_the_rest_cannot_turn_it() {
        assert_eq!(cannot_change(32, 40, 64, 0.5), Ok(Some(true)));
        assert_eq!(cannot_change(31, 40, 64, 0.5), Ok(None));
        assert_eq!(cannot_change(0, 33, 64, 0.5), Ok(Some(false)));
        assert_eq!(cannot_change(0, 32, 64, 0.5), Ok(None));
        assert_eq!(cannot_change(3, 10, 10, 0.3), Ok(Some(true)));
        assert!(cannot_change(0, 65, 64, 0.5).is_err());
    }
}
