//! How many draws a single question needs.
//!
//! Before: some draws of a question. After: how many it should have after the next round, until its share is known to
//! ± half-width. For a benchmark's mean see [`plan`](super::plan), which needs far fewer.

use super::{StatsError, check_confidence, check_values, clopper_pearson, interval::exact_interval};

/// Steps of the table of needed draws between shares 0 and 1; even, so that 0.5 is in it.
const STEPS: usize = 20;

/// How the draws of a single question are bounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetSettings {
    /// α: how often the final interval may miss the share.
    pub alpha: f64,
    /// The part of α that the intervals on the way spend; the final one has the rest.
    pub look_part: f64,
    /// The most draws of a question in all.
    pub most: usize,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self { alpha: 0.05, look_part: 0.2, most: 64 }
    }
}

impl BudgetSettings {
    /// The confidence of the intervals on the way, 1 − 0.2 α.
    pub fn look_confidence(&self) -> f64 {
        1.0 - self.look_part * self.alpha
    }

    /// The confidence of the final interval, 1 − 0.8 α: [`clopper_pearson`] with it, of all draws.
    pub fn final_confidence(&self) -> f64 {
        1.0 - (1.0 - self.look_part) * self.alpha
    }
}

/// Needed draws for one half-width: a table, to be made once for all questions.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    settings: BudgetSettings,
    half_width: f64,
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
        check_confidence(settings.look_confidence())?;
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
        Ok(Self { settings, half_width, needed })
    }

    /// Draws that a question with `right` of `drawn` draws should have in all after the next round: what it has already, if its
    /// final interval is narrow enough or it has [`BudgetSettings::most`]; else the most that the table wants for any share in
    /// its [`clopper_pearson`] interval so far, widened to the table's shares, but no more than twice what it has: a question
    /// that looks sure after 8 draws may look sure enough after 32, and is not given at once what a doubtful one needs.
    ///
    /// The looks in between decide how many draws there are, and the final interval is of all of them. That it still misses with
    /// α at most is summed up exactly by a test, from 8 draws on, for half-widths 0.1, 0.15 and 0.2.
    ///
    /// # Errors
    /// If more are right than drawn.
    /// # Source
    /// R. Chen et al., *Input-Specific Robustness Certification for Randomized Smoothing*, AAAI 2022 (arXiv:2112.12084),
    /// there for certified radii and with one look; more looks are ours.
    pub fn next(&self, right: usize, drawn: usize) -> Result<usize, StatsError> {
        let settings = &self.settings;
        let found = clopper_pearson(right, drawn, settings.final_confidence())?;
        if found.half_width() <= self.half_width || drawn >= settings.most {
            return Ok(drawn);
        }
        let interval = clopper_pearson(right, drawn, settings.look_confidence())?;
        let low = (interval.low * STEPS as f64).floor() as usize;
        let high = (interval.high * STEPS as f64).ceil() as usize;
        let needed = self.needed[low..=high].iter().copied().max().unwrap_or(settings.most);
        // the table is for whole steps of the share: in between it may be a draw or two short
        Ok(needed.min(2 * drawn).max(drawn + 1).min(settings.most))
    }
}

#[cfg(test)]
mod tests {
    use super::super::distributions::binomial;
    use super::*;

    /// Draws of a question of which this share is right at every look, as far as that can be.
    fn total(budget: &Budget, share: f64) -> usize {
        let mut drawn = 8;
        loop {
            let next = budget.next((share * drawn as f64).round() as usize, drawn).unwrap();
            if next == drawn {
                return drawn;
            }
            drawn = next;
        }
    }

    fn budget(half_width: f64) -> Budget {
        Budget::new(half_width, BudgetSettings { most: 1000, ..BudgetSettings::default() }).unwrap()
    }

    #[test]
    fn a_promise_costs_more_draws_than_the_adjusted_normal_rule_which_takes_the_pilot_at_its_word() {
        // ⌈z² p̃(1 − p̃)/h²⌉ with p̃ = (right + 2)/(pilot + 4), after A. Agresti and B. Coull, The American Statistician 52 (1998)
        let adjusted_normal = |right: usize| {
            let (share, z) =
                ((right as f64 + 2.0) / 12.0, super::super::distributions::normal_two_sided(0.95));
            (z * z * share * (1.0 - share) / 0.01).ceil() as usize
        };
        assert_eq!([0, 4, 8].map(adjusted_normal), [54, 97, 54]);
        assert!(total(&budget(0.1), 0.5) > 97);
    }

    #[test]
    fn half_is_the_worst_and_what_goes_on_looking_sure_needs_a_third() {
        let budget = budget(0.1);
        let totals: Vec<usize> = (0..=10).map(|tenth| total(&budget, f64::from(tenth) / 10.0)).collect();
        assert!((0..=10).all(|tenth| totals[tenth] == totals[10 - tenth]), "{totals:?}");
        assert!(totals[0] < totals[1] && totals[1] < totals[2] && totals[2] < totals[5], "{totals:?}");
        // at half, the exact interval is a little wider than the normal ± 2.05 √(0.25/n)
        assert!(3 * totals[0] < totals[5] && (105..125).contains(&totals[5]), "{totals:?}");
    }

    #[test]
    fn no_more_than_the_most_and_no_less_than_there_are() {
        let next = |half_width: f64, right: usize, drawn: usize| {
            Budget::new(half_width, BudgetSettings { most: 64, ..BudgetSettings::default() })
                .unwrap()
                .next(right, drawn)
        };
        assert_eq!([next(0.1, 4, 8), next(0.1, 16, 32), next(0.1, 30, 60)], [Ok(16), Ok(64), Ok(64)]);
        assert_eq!([next(0.1, 32, 64), next(0.49, 4, 8), next(0.1, 40, 80)], [Ok(64), Ok(8), Ok(80)]);
        assert_eq!(next(0.1, 9, 8), Err(StatsError::Right { found: 9, total: 8 }));
    }

    #[test]
    fn the_interval_misses_no_more_than_alpha_and_is_narrow_although_it_is_looked_at_on_the_way() {
        // exactly, by summing over all that may come out at every look
        for (half_width, most) in [(0.1, 256), (0.15, 256), (0.2, 64)] {
            let settings = BudgetSettings { most, ..BudgetSettings::default() };
            let budget = Budget::new(half_width, settings).unwrap();
            for p in (1..20).map(|step| f64::from(step) / 40.0) {
                let first = (0..=8).map(|right| binomial(8, right, p)).collect::<Vec<f64>>();
                let mut looks = std::collections::BTreeMap::from([(8, first)]);
                let mut covered = 0.0;
                while let Some((drawn, chances)) = looks.pop_first() {
                    for (right, chance) in
                        chances.into_iter().enumerate().filter(|(_, chance)| *chance > 1e-12)
                    {
                        let next = budget.next(right, drawn).unwrap();
                        if next == drawn {
                            let found = clopper_pearson(right, drawn, settings.final_confidence()).unwrap();
                            let narrow = found.half_width() <= half_width || drawn == most;
                            assert!(narrow, "{right} of {drawn}: {found:?}");
                            covered += if found.contains(p) { chance } else { 0.0 };
                            continue;
                        }
                        let after = looks.entry(next).or_insert_with(|| vec![0.0; next + 1]);
                        for more in 0..=next - drawn {
                            after[right + more] += chance * binomial(next - drawn, more, p);
                        }
                    }
                }
                assert!(covered >= 0.95, "±{half_width} at {p}: {covered}");
            }
        }
    }
}
