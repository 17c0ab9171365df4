//! Statistics of every prompt that was visited.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::allocation::Forecast;
use crate::batch::GroupNorms;

/// The rollouts of a prompt's group in a step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GroupOutcome {
    /// The prompt's id.
    pub prompt: String,
    /// Rewards that are known.
    pub rewards: Vec<f32>,
    /// Rollouts whose token budget ran out.
    pub truncated: u64,
    /// Tokens of all rollouts together.
    pub tokens: u64,
    /// Rollouts, those without a reward among them.
    pub rollouts: u64,
    /// How the rollouts differ, where the selection asks for it: 0 for all alike.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub diversity: Option<f32>,
    /// Mean concentration of the rollouts' directions, where the selection asks for it and the group is trained on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub concentration: Option<f32>,
}

impl GroupOutcome {
    /// Whether all known rewards are equal, at the top or at the bottom of 0 to 1; `None` if they differ or say nothing.
    pub fn unanimous(&self) -> Option<bool> {
        let first = *self.rewards.first()?;
        self.rewards.iter().all(|reward| (reward - first).abs() < 1e-6).then_some(first >= 0.5)
    }
}

/// What is known of a prompt. Rewards are taken as chances of success where a posterior wants those: held to 0 to 1.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PromptRecord {
    /// Groups that were sampled.
    pub visits: u64,
    /// Rollouts of all visits.
    pub rollouts: u64,
    /// Rewards that were known.
    pub known: u64,
    /// Σ of those.
    pub sum: f64,
    /// Σ of their squares.
    pub sum_of_squares: f64,
    /// Step of the last visit, from 0.
    pub last_step: u64,
    /// Rollouts whose token budget ran out.
    pub truncated: u64,
    /// Tokens of all completions.
    pub tokens: u64,
    /// Visits in a row, until the last, whose rewards were all equal.
    pub unanimous: u64,
    /// Whether those were all successes.
    pub unanimous_success: bool,
    /// Successes of the posterior, beside the prior's 1: Σ of past ones, less by the forgetting at each visit.
    pub successes: f64,
    /// Failures of the posterior likewise.
    pub failures: f64,
    /// Visits with known rewards.
    pub judged: u64,
    /// Σ over those of their mean rewards.
    pub means: f64,
    /// Σ of the squares of those.
    pub means_squared: f64,
    /// Σ over known rewards of |reward − the posterior's mean before the visit|.
    pub surprise: f64,
    /// Visits whose mean reward was below 1/2 after one that was not.
    pub forgotten: u64,
    /// Known rewards of the last visit, and their mean and variance (divided by n).
    pub last: Option<(u64, f64, f64)>,
    /// Diversity of the last visit's rollouts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diversity: Option<f32>,
    /// Gradient norms of right and wrong rollouts, where they are measured; later visits count more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norms: Option<GroupNorms>,
}

/// Share of earlier norms that the next visit keeps.
const NORMS_DECAY: f64 = 0.7;

impl PromptRecord {
    /// Parameters (a, b) of the Beta posterior of the chance of success, whose prior is uniform.
    pub fn posterior(&self) -> (f64, f64) {
        (1.0 + self.successes, 1.0 + self.failures)
    }

    /// Mean of all known rewards.
    pub fn mean_reward(&self) -> Option<f64> {
        (self.known > 0).then(|| self.sum / self.known as f64)
    }

    /// Mean distance of a reward from the chance of success that was predicted before its visit: how little the prompt is
    /// understood still.
    ///
    /// # Source
    /// After EL2N of Paul, Ganguli and Dziugaite, arXiv:2107.07075, with rewards for labels.
    pub fn error(&self) -> Option<f64> {
        (self.known > 0 && self.judged > 0).then(|| self.surprise / self.known as f64)
    }

    /// Variance of the visits' mean rewards (divided by n): how much the prompt has moved.
    ///
    /// # Source
    /// After the variance of gradients (VoG) of Agarwal, D'souza and Hooker, arXiv:2008.11600, with rewards for gradients.
    pub fn variance_of_visits(&self) -> Option<f64> {
        let n = self.judged as f64;
        (self.judged > 0).then(|| (self.means_squared / n - (self.means / n).powi(2)).max(0.0))
    }

    /// E[p(1 − p)] under the posterior: ab / ((a + b)(a + b + 1)).
    pub fn expected_variance(&self) -> f64 {
        let (a, b) = self.posterior();
        a * b / ((a + b) * (a + b + 1.0))
    }
}

impl FromIterator<(String, PromptRecord)> for PromptStats {
    fn from_iter<T: IntoIterator<Item = (String, PromptRecord)>>(records: T) -> Self {
        Self(records.into_iter().collect())
    }
}

/// Records by prompt id.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PromptStats(BTreeMap<String, PromptRecord>);

impl PromptStats {
    /// What is known of a prompt, if it was visited.
    pub fn get(&self, prompt: &str) -> Option<&PromptRecord> {
        self.0.get(prompt)
    }

    /// Prompts that were visited.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All records, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &PromptRecord)> {
        self.0.iter().map(|(id, record)| (id.as_str(), record))
    }

    /// Takes in gradient norms of a prompt's rollouts at its last visit.
    pub fn observe_norms(&mut self, prompt: &str, norms: GroupNorms) {
        let record = self.0.entry(prompt.to_owned()).or_default();
        record.norms = Some(record.norms.unwrap_or_default().and(NORMS_DECAY, norms));
    }

    /// What is expected of the next rollouts of some prompts. Norms that a prompt lacks are means over prompts that have them.
    pub fn forecasts<'a>(&self, prompts: impl Iterator<Item = &'a str>) -> Vec<Forecast> {
        let none = GroupNorms::default();
        let all = self.0.values().filter_map(|record| record.norms).fold(none, |all, one| {
            let (right, wrong) = one.means();
            let mean = |mean: Option<f64>| mean.map_or((0.0, 0.0), |mean| (mean, 1.0));
            all.and(1.0, GroupNorms { right: mean(right), wrong: mean(wrong) })
        });
        let (right, wrong) = all.means();
        let usual = (right.or(wrong).unwrap_or(1.0), wrong.or(right).unwrap_or(1.0));
        let of = |prompt: &str| {
            let record = self.get(prompt);
            let (right, wrong) = record.and_then(|record| record.norms).unwrap_or_default().means();
            Forecast {
                posterior: record.map_or((1.0, 1.0), PromptRecord::posterior),
                norms: (right.unwrap_or(usual.0), wrong.unwrap_or(usual.1)),
            }
        };
        prompts.map(of).collect()
    }

    /// Takes in a visit; the posterior keeps `forgetting` of its counts.
    pub fn observe(&mut self, step: u64, outcome: &GroupOutcome, forgetting: f64) {
        let record = self.0.entry(outcome.prompt.clone()).or_default();
        record.visits += 1;
        record.last_step = step;
        record.rollouts += outcome.rollouts;
        record.truncated += outcome.truncated;
        record.tokens += outcome.tokens;
        if outcome.diversity.is_some() {
            record.diversity = outcome.diversity;
        }
        let rewards = || outcome.rewards.iter().map(|reward| f64::from(*reward));
        let n = outcome.rewards.len();
        if n == 0 {
            return;
        }
        record.known += n as u64;
        record.sum += rewards().sum::<f64>();
        record.sum_of_squares += rewards().map(|r| r * r).sum::<f64>();
        let mean = rewards().sum::<f64>() / n as f64;
        let variance = rewards().map(|r| (r - mean).powi(2)).sum::<f64>() / n as f64;
        let (a, b) = record.posterior();
        record.surprise += rewards().map(|r| (r.clamp(0.0, 1.0) - a / (a + b)).abs()).sum::<f64>();
        record.judged += 1;
        record.means += mean;
        record.means_squared += mean * mean;
        record.forgotten += u64::from(record.last.is_some_and(|(_, before, _)| before >= 0.5) && mean < 0.5);
        record.last = Some((n as u64, mean, variance));
        let successes = rewards().map(|r| r.clamp(0.0, 1.0)).sum::<f64>();
        record.successes = forgetting * record.successes + successes;
        record.failures = forgetting * record.failures + (n as f64 - successes);
        match outcome.unanimous() {
            Some(success) => {
                let goes_on = record.unanimous > 0 && record.unanimous_success == success;
                record.unanimous = if goes_on { record.unanimous + 1 } else { 1 };
                record.unanimous_success = success;
            }
            None => record.unanimous = 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(rewards: &[f32]) -> GroupOutcome {
        let rollouts = rewards.len() as u64;
        GroupOutcome { prompt: "p".into(), rewards: rewards.to_vec(), rollouts, ..GroupOutcome::default() }
    }

    /// Of 8 rollouts so many successes.
    fn eight(successes: usize) -> GroupOutcome {
        outcome(&(0..8).map(|i| if i < successes { 1.0 } else { 0.0 }).collect::<Vec<_>>())
    }

    #[test]
    fn the_posterior_forgets_as_mopps_does() {
        // MoPPS with λ = 0.5 and 8 rollouts: pass rates 1/4 and then 3/4
        let mut stats = PromptStats::default();
        stats.observe(0, &eight(2), 0.5);
        assert_eq!(stats.get("p").expect("visited").posterior(), (3.0, 7.0));
        stats.observe(1, &eight(6), 0.5);
        assert_eq!(stats.get("p").expect("visited").posterior(), (8.0, 6.0));
    }

    #[test]
    fn a_record_counts_what_was_seen_and_unanimous_visits_in_a_row() {
        let mut stats = PromptStats::default();
        for (step, successes) in [(0, 8), (3, 8), (4, 0), (5, 0), (6, 0)] {
            stats.observe(step, &GroupOutcome { tokens: 100, truncated: 1, ..eight(successes) }, 1.0);
        }
        let record = stats.get("p").expect("visited").clone();
        assert_eq!((record.visits, record.rollouts, record.known, record.sum), (5, 40, 40, 16.0));
        assert_eq!((record.last_step, record.tokens, record.truncated), (6, 500, 5));
        assert_eq!((record.unanimous, record.unanimous_success), (3, false));
        assert_eq!(record.last, Some((8, 0.0, 0.0)));
        stats.observe(7, &eight(4), 1.0);
        let record = stats.get("p").expect("visited");
        assert_eq!((record.unanimous, record.last), (0, Some((8, 0.5, 0.25))));
        assert_eq!(record.posterior(), (21.0, 29.0));
        // a visit whose rewards are all absent is a visit and says nothing
        stats.observe(8, &GroupOutcome { rollouts: 8, ..outcome(&[]) }, 1.0);
        let record = stats.get("p").expect("visited");
        assert_eq!((record.visits, record.known, record.last), (7, 48, Some((8, 0.5, 0.25))));
    }

    #[test]
    fn influence_is_what_was_forgotten_how_far_predictions_were_off_and_how_much_visits_differ() {
        let mut stats = PromptStats::default();
        for (step, successes) in [8, 2, 6, 4, 0].into_iter().enumerate() {
            stats.observe(step as u64, &eight(successes), 1.0);
        }
        let record = stats.get("p").expect("visited");
        // from 1 to 1/4 and from 1/2 to 0; not from 3/4 to 1/2
        assert_eq!((record.judged, record.forgotten), (5, 2));
        // predictions 1/2, 9/10, 11/18, 17/26 and 21/34
        let off = |right: f64, p: f64| right * (1.0 - p) + (8.0 - right) * p;
        let all = [(8.0, 0.5), (2.0, 0.9), (6.0, 11.0 / 18.0), (4.0, 17.0 / 26.0), (0.0, 21.0 / 34.0)];
        let wanted = all.iter().map(|(right, p)| off(*right, *p)).sum::<f64>() / 40.0;
        assert!((record.error().expect("known") - wanted).abs() < 1e-12);
        // means 1, 1/4, 3/4, 1/2 and 0
        assert!((record.variance_of_visits().expect("judged") - 0.125).abs() < 1e-12);
        assert_eq!(record.mean_reward(), Some(0.5));
        let unknown = PromptRecord::default();
        assert_eq!(
            (unknown.error(), unknown.variance_of_visits(), unknown.mean_reward()),
            (None, None, None)
        );
    }

    #[test]
    fn the_expected_variance_keeps_prompts_alive_that_were_never_solved() {
        let mut stats = PromptStats::default();
        stats.observe(0, &eight(0), 1.0);
        let never = stats.get("p").expect("visited").expected_variance();
        assert!((never - 9.0 / 110.0).abs() < 1e-12, "{never}");
        assert!((PromptRecord::default().expected_variance() - 1.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn forecasts_have_a_prompts_own_norms_or_those_of_the_others() {
        let mut stats = PromptStats::default();
        let norms = |right: f64, wrong: f64| GroupNorms { right: (right, 1.0), wrong: (wrong * 3.0, 3.0) };
        assert_eq!(stats.forecasts(["p"].into_iter()), [Forecast::default()]);
        stats.observe(0, &eight(2), 1.0);
        stats.observe_norms("p", norms(4.0, 2.0));
        stats.observe_norms("q", norms(8.0, 6.0));
        let found = stats.forecasts(["p", "new"].into_iter());
        assert_eq!(found[0], Forecast { posterior: (3.0, 7.0), norms: (4.0, 2.0) });
        assert_eq!(found[1], Forecast { posterior: (1.0, 1.0), norms: (6.0, 4.0) });
        // 0.7 of the visit before, and all of this one
        stats.observe_norms("p", norms(7.0, 2.0));
        let (right, wrong) = stats.forecasts(["p"].into_iter())[0].norms;
        assert!((right - (0.7 * 4.0 + 7.0) / 1.7).abs() < 1e-12 && (wrong - 2.0).abs() < 1e-12);
    }

    #[test]
    fn it_reads_back_what_it_wrote() {
        let mut stats = PromptStats::default();
        stats.observe_norms("p", GroupNorms { right: (0.1, 1.0 / 3.0), wrong: (0.7, 0.2) });
        stats.observe(2, &GroupOutcome { diversity: Some(0.3), ..outcome(&[0.1, 0.7, -3.0]) }, 0.5);
        let text = serde_json::to_string(&stats).expect("JSON");
        assert_eq!(serde_json::from_str::<PromptStats>(&text).expect("statistics"), stats);
    }
}
