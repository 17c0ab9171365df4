//! Several rewards become one.
//!
//! Before: each [`Reward`] judges a rollout by itself. After: the weighted sum, behind gates and within bounds, is what the
//! engine learns from; the parts are kept beside it.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use data::{Part, Rollout, Score, ScoredRollout, Verdict};
use serde::{Deserialize, Serialize};

use crate::{Reward, RewardError, ScoringError};

/// How often whoever waits for verdicts is asked whether they are still wanted.
const ASKED: Duration = Duration::from_millis(50);

/// What it means for the sum that a function has nothing to say of a rollout. A *failure* (a deadline, a crash) always
/// leaves the rollout out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnNone {
    /// The sum is absent too: the rollout is left out of its group and counted.
    #[default]
    Drop,
    /// The sum is that of the other parts, as TRL does: the function is for other tasks.
    Skip,
    /// The part counts as 0.
    Zero,
}

/// How a reward takes part in the sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PartSettings {
    /// Its factor. With 0 it is only shown; a negative one makes it a penalty.
    pub weight: f32,
    /// What its silence means.
    pub none: OnNone,
    /// If it says less than this, the whole reward is [`SumSettings::gated`], whatever the others say. It may have the
    /// weight 0.
    pub gate: Option<f32>,
}

impl PartSettings {
    /// A weight, and nothing else.
    pub fn weight(weight: f32) -> Self {
        Self { weight, none: OnNone::Drop, gate: None }
    }

    /// Whether the whole reward depends on it.
    pub fn counts(&self) -> bool {
        self.weight != 0.0 || self.gate.is_some()
    }
}

/// What holds for the sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SumSettings {
    /// The reward of a rollout that a gate stopped.
    pub gated: f32,
    /// Least and largest sum: one beyond is set to the bound.
    pub clip: Option<(f32, f32)>,
    /// The largest share of the rollouts given at once for which a function may fail, in 0..1.
    pub max_failures: f32,
}

impl Default for SumSettings {
    fn default() -> Self {
        Self { gated: 0.0, clip: None, max_failures: 0.5 }
    }
}

/// Rewards with names and weights: what a rollout earns is their weighted sum.
#[derive(Default)]
pub struct Rewards {
    parts: Vec<Named>,
    settings: SumSettings,
}

struct Named {
    name: String,
    settings: PartSettings,
    reward: Box<dyn Reward>,
}

impl Rewards {
    /// No rewards yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// No rewards yet, and what will hold for their sum.
    ///
    /// # Errors
    /// If a number is not finite, the bounds are the wrong way round, or the share is outside of 0..1.
    pub fn with_settings(settings: SumSettings) -> Result<Self, RewardError> {
        let SumSettings { gated, clip, max_failures } = settings;
        let bad = |what: String| Err(RewardError::Setting { what });
        if !gated.is_finite() {
            return bad(format!("gated is {gated}, wanted a finite number"));
        }
        if let Some((low, high)) =
            clip.filter(|(low, high)| !(low.is_finite() && high.is_finite() && low < high))
        {
            return bad(format!("clip is [{low}, {high}], wanted two finite numbers, the least first"));
        }
        if !(0.0..=1.0).contains(&max_failures) {
            return bad(format!("max_failures is {max_failures}, wanted a share in 0..1"));
        }
        Ok(Self { parts: Vec::new(), settings })
    }

    /// These and one more.
    ///
    /// # Errors
    /// If there is one of that name already, or a number is not finite.
    pub fn with(
        mut self,
        name: impl Into<String>,
        settings: PartSettings,
        reward: Box<dyn Reward>,
    ) -> Result<Self, RewardError> {
        let name = name.into();
        if self.parts.iter().any(|part| part.name == name) {
            return Err(RewardError::DuplicateName { name });
        }
        for (what, value) in [("weight", Some(settings.weight)), ("gate", settings.gate)] {
            if let Some(value) = value.filter(|value| !value.is_finite()) {
                return Err(RewardError::NotFinite { name, what, value });
            }
        }
        self.parts.push(Named { name, settings, reward });
        Ok(self)
    }

    /// Names and how each takes part, in the recipe's order.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &PartSettings)> {
        self.parts.iter().map(|part| (part.name.as_str(), &part.settings))
    }

    /// Whether any reward has a weight other than 0. If none has, every score is absent.
    pub fn count(&self) -> bool {
        self.parts.iter().any(|part| part.settings.weight != 0.0)
    }

    /// The columns that any prompt of the run may have.
    pub fn expect(&self, columns: &[String]) {
        self.parts.iter().for_each(|part| part.reward.expect(columns));
    }

    /// What a person should know of the functions before a run, by name.
    pub fn about(&self) -> impl Iterator<Item = (&str, String)> {
        self.parts.iter().filter_map(|part| Some((part.name.as_str(), part.reward.about()?)))
    }

    /// What is questionable about the functions on this machine, with their names.
    pub fn warnings(&self) -> Vec<String> {
        let of = |part: &Named| {
            let found = part.reward.warnings().into_iter();
            found.map(|warning| format!("[rewards] {}: {warning}", part.name)).collect::<Vec<_>>()
        };
        self.parts.iter().flat_map(of).collect()
    }

    /// From now on what the functions print is appended to this file.
    ///
    /// # Errors
    /// If the file cannot be written to.
    pub fn log_to(&self, file: &std::path::Path) -> std::io::Result<()> {
        self.parts.iter().try_for_each(|part| part.reward.log_to(file))
    }

    /// The rollouts with what they earned, in their order. The functions judge side by side; a rollout's score does not
    /// depend on which others are there.
    ///
    /// The reward is Σ weight · part in f32, in the recipe's order, then clipped; behind a gate it is
    /// [`SumSettings::gated`]. A part that is NaN or infinite is a failure. The reward is absent if a part that counts
    /// failed, or is silent and its [`OnNone`] is `drop`; if no part with a weight is left; and if the sum overflows.
    ///
    /// # Errors
    /// If a function failed for a larger share of the rollouts than [`SumSettings::max_failures`], or hangs. The rollouts
    /// come back with the error.
    pub fn score(&self, rollouts: Vec<Rollout>) -> Result<Vec<ScoredRollout>, ScoringError> {
        let mut said: Vec<Result<Vec<Verdict>, RewardError>> = Vec::new();
        std::thread::scope(|scope| {
            let judge = |part: &Named| part.score_all(&rollouts, self.settings.max_failures);
            let others: Vec<_> =
                self.parts.iter().skip(1).map(|part| scope.spawn(move || judge(part))).collect();
            said.extend(self.parts.first().map(judge));
            said.extend(others.into_iter().map(|other| match other.join() {
                Ok(verdicts) => verdicts,
                Err(panic) => std::panic::resume_unwind(panic),
            }));
        });
        let mut columns = Vec::new();
        for verdicts in said {
            match verdicts {
                Ok(verdicts) => columns.push(verdicts.into_iter()),
                Err(error) => return Err(ScoringError { error, rollouts }),
            }
        }
        let score = |rollout| {
            let verdicts =
                columns.iter_mut().map(|column| column.next().expect("one for each rollout")).collect();
            ScoredRollout { rollout, score: self.sum(verdicts) }
        };
        Ok(rollouts.into_iter().map(score).collect())
    }

    /// The same for as long as the verdicts are wanted: `go_on` is called on this thread before it begins and some twenty times
    /// a second. Once it says no, nothing is waited for: functions that have not come to an end are left to their deadlines.
    ///
    /// # Errors
    /// As [`Self::score`], and [`RewardError::Stopped`] if the verdicts were not wanted any more.
    pub fn score_while(
        self: &Arc<Self>,
        rollouts: Vec<Rollout>,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<ScoredRollout>, ScoringError> {
        if !go_on() {
            return Err(ScoringError { error: RewardError::Stopped, rollouts });
        }
        let (send, receive) = channel();
        let (rewards, judged) = (self.clone(), rollouts.clone());
        // a function of somebody's own cannot be called off, so it must not be what this thread is in
        let judging = thread::spawn(move || {
            // nobody may be waiting any more
            let _ = send.send(rewards.score(judged));
        });
        loop {
            match receive.recv_timeout(ASKED) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) if !go_on() => {
                    return Err(ScoringError { error: RewardError::Stopped, rollouts });
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => match judging.join() {
                    Err(panic) => resume_unwind(panic),
                    Ok(()) => unreachable!("it sends before it ends"),
                },
            }
        }
    }

    fn sum(&self, verdicts: Vec<Verdict>) -> Score {
        let (mut sum, mut counted, mut absent, mut gated) = (0.0, false, false, false);
        for (Named { settings, .. }, verdict) in self.parts.iter().zip(&verdicts) {
            if !settings.counts() {
                continue;
            }
            let value = match (verdict.value, settings.none) {
                (Some(value), _) => value,
                (None, OnNone::Zero) if verdict.failure.is_none() => 0.0,
                (None, OnNone::Skip) if verdict.failure.is_none() => continue,
                _ => {
                    absent = true;
                    continue;
                }
            };
            gated |= settings.gate.is_some_and(|least| value < least);
            if settings.weight != 0.0 {
                sum += settings.weight * value;
                counted = true;
            }
        }
        if let Some((low, high)) = self.settings.clip {
            sum = f32::clamp(sum, low, high);
        }
        let reward = (!absent && self.count()).then_some(sum).filter(|_| counted || gated);
        let reward = reward.map(|sum| if gated { self.settings.gated } else { sum });
        let parts = self.parts.iter().zip(verdicts);
        let parts = parts.map(|(part, verdict)| Part { name: part.name.clone(), verdict }).collect();
        Score { reward: reward.filter(|sum| sum.is_finite()), parts }
    }
}

impl Named {
    fn score_all(&self, rollouts: &[Rollout], bound: f32) -> Result<Vec<Verdict>, RewardError> {
        let name = || self.name.clone();
        let mut verdicts = self.reward.score_all(rollouts)?;
        if verdicts.len() != rollouts.len() {
            let (wanted, found) = (rollouts.len(), verdicts.len());
            return Err(RewardError::Count { name: name(), found, wanted });
        }
        for verdict in &mut verdicts {
            if let Some(value) = verdict.value.filter(|value| !value.is_finite()) {
                verdict.value = None;
                verdict.failure = Some(format!("the reward is {value}, wanted a finite number"));
            }
        }
        let failed = verdicts.iter().filter(|verdict| verdict.failure.is_some()).count();
        let share = failed as f32 / verdicts.len().max(1) as f32;
        match verdicts.iter().find_map(|verdict| verdict.failure.as_ref()) {
            Some(first) if share > bound => {
                let (of, first) = (verdicts.len(), first.clone());
                Err(RewardError::Failures { name: name(), failed, of, bound, first })
            }
            _ => Ok(verdicts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rollout;

    fn constant(value: f32) -> Box<dyn Reward> {
        Box::new(move |_: &Rollout| value)
    }

    fn silent() -> Box<dyn Reward> {
        Box::new(|_: &Rollout| Verdict::absent())
    }

    fn broken() -> Box<dyn Reward> {
        Box::new(|_: &Rollout| Verdict::failed("no luck"))
    }

    type Parts<'a> = Vec<(&'a str, PartSettings, Box<dyn Reward>)>;

    fn rewards(settings: SumSettings, parts: Parts<'_>) -> Rewards {
        let none = Rewards::with_settings(settings).unwrap();
        parts
            .into_iter()
            .fold(none, |rewards, (name, part, reward)| rewards.with(name, part, reward).unwrap())
    }

    fn score(settings: SumSettings, parts: Parts<'_>) -> Score {
        rewards(settings, parts).score(vec![rollout("", None)]).unwrap().pop().unwrap().score
    }

    /// All failures are let through.
    fn lenient() -> SumSettings {
        SumSettings { max_failures: 1.0, ..SumSettings::default() }
    }

    fn weight(weight: f32) -> PartSettings {
        PartSettings::weight(weight)
    }

    #[test]
    fn the_reward_is_the_weighted_sum_and_the_parts_are_kept_unweighted() {
        let length: Box<dyn Reward> = Box::new(|rollout: &Rollout| rollout.text.len() as f32);
        let parts = vec![("length", weight(0.5), length), ("fine", weight(-2.0), constant(0.25))];
        let scored = rewards(lenient(), parts).score(vec![rollout("abc", None), rollout("", None)]).unwrap();
        assert_eq!(scored[0].rollout.text, "abc");
        let values =
            |at: usize| scored[at].score.parts.iter().map(|part| part.verdict.value).collect::<Vec<_>>();
        assert_eq!(values(0), [Some(3.0), Some(0.25)]);
        assert_eq!(scored[0].score.part("fine").unwrap().value, Some(0.25));
        assert_eq!((scored[0].score.reward, scored[1].score.reward), (Some(1.0), Some(-0.5)));
    }

    #[test]
    fn the_sum_is_taken_in_the_recipes_order() {
        let (big, small) = (|| constant(16_777_216.0), || constant(1.0)); // 2²⁴: one more is lost to rounding
        let first = vec![("a", weight(1.0), small()), ("b", weight(1.0), small()), ("c", weight(1.0), big())];
        assert_eq!(score(lenient(), first).reward, Some(16_777_218.0));
        let last = vec![("a", weight(1.0), big()), ("b", weight(1.0), small()), ("c", weight(1.0), small())];
        assert_eq!(score(lenient(), last).reward, Some(16_777_216.0));
    }

    #[test]
    fn silence_means_what_the_part_says_and_failure_always_drops() {
        let with = |none, reward: Box<dyn Reward>| {
            let part = PartSettings { none, ..weight(2.0) };
            score(lenient(), vec![("a", weight(1.0), constant(1.0)), ("b", part, reward)]).reward
        };
        assert_eq!(with(OnNone::Drop, silent()), None);
        assert_eq!(with(OnNone::Skip, silent()), Some(1.0));
        assert_eq!(with(OnNone::Zero, silent()), Some(1.0));
        for none in [OnNone::Drop, OnNone::Skip, OnNone::Zero] {
            assert_eq!(with(none, broken()), None);
        }
        let alone = PartSettings { none: OnNone::Skip, ..weight(1.0) };
        assert_eq!(score(lenient(), vec![("a", alone, silent())]).reward, None, "nothing is left of the sum");
        let zero = PartSettings { none: OnNone::Zero, ..weight(1.0) };
        assert_eq!(score(lenient(), vec![("a", zero, silent())]).reward, Some(0.0));
        let shown = vec![("a", weight(1.0), constant(1.0)), ("b", weight(0.0), silent())];
        assert_eq!(score(lenient(), shown).reward, Some(1.0), "a part of weight 0 is only shown");
    }

    #[test]
    fn a_part_that_is_no_number_has_failed() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let counted = score(lenient(), vec![("a", weight(1.0), constant(value))]);
            assert_eq!((counted.reward, counted.parts[0].verdict.value), (None, None));
            assert!(counted.parts[0].verdict.failure.as_ref().unwrap().contains("wanted a finite number"));
        }
        assert_eq!(score(lenient(), vec![("a", weight(10.0), constant(f32::MAX))]).reward, None);
    }

    #[test]
    fn a_gate_replaces_the_sum_and_a_clip_bounds_it() {
        let settings = SumSettings { gated: -1.0, clip: Some((0.0, 2.0)), ..lenient() };
        let gate = |least| PartSettings { gate: Some(least), ..weight(0.0) };
        let with = |part, reward| {
            score(settings, vec![("a", weight(3.0), constant(1.0)), ("g", part, reward)]).reward
        };
        assert_eq!(with(gate(0.5), constant(0.5)), Some(2.0), "open, and the sum 3 is clipped");
        assert_eq!(with(gate(0.5), constant(0.4)), Some(-1.0), "shut; the gated reward is not clipped");
        assert_eq!(with(gate(0.5), silent()), None, "a gate that says nothing");
        let open = PartSettings { none: OnNone::Skip, ..gate(0.5) };
        assert_eq!(with(open, silent()), Some(2.0));
    }

    #[test]
    fn too_many_failures_are_an_error_that_gives_the_rollouts_back() {
        let odd: Box<dyn Reward> = Box::new(|rollout: &Rollout| match rollout.text.len() % 2 {
            0 => Verdict::from(1.0),
            _ => Verdict::failed("odd"),
        });
        let settings = SumSettings { max_failures: 0.5, ..SumSettings::default() };
        let rewards = rewards(settings, vec![("a", weight(1.0), odd)]);
        let texts = |texts: &[&str]| texts.iter().map(|text| rollout(text, None)).collect::<Vec<_>>();
        assert_eq!(rewards.score(texts(&["", "a"])).unwrap().len(), 2);
        let error = rewards.score(texts(&["", "a", "abc"])).unwrap_err();
        assert_eq!(error.rollouts, texts(&["", "a", "abc"]));
        let wanted = "reward `a` failed for 2 of 3 rollouts, wanted a share of at most 0.5; the first: odd";
        assert_eq!(error.to_string(), wanted);
    }

    #[test]
    fn a_function_that_panics_costs_its_rollout() {
        let panics: Box<dyn Reward> = Box::new(|rollout: &Rollout| {
            assert!(rollout.text.is_empty(), "on purpose");
            1.0
        });
        let scored = rewards(lenient(), vec![("a", weight(1.0), panics)]);
        let scored = scored.score(vec![rollout("", None), rollout("x", None)]).unwrap();
        assert_eq!(scored.iter().map(|s| s.score.reward).collect::<Vec<_>>(), [Some(1.0), None]);
    }

    #[test]
    fn verdicts_that_are_not_wanted_any_more_are_not_waited_for() {
        let (release, held) = channel::<()>();
        let held = std::sync::Mutex::new(held);
        let hangs: Box<dyn Reward> = Box::new(move |_: &Rollout| {
            let _ = held.lock().unwrap().recv();
            1.0
        });
        let hangs = Arc::new(rewards(lenient(), vec![("a", weight(1.0), hangs)]));
        let mut asked = 0;
        let error = hangs.score_while(vec![rollout("x", None)], &mut || {
            asked += 1;
            asked < 3
        });
        let error = error.unwrap_err();
        assert_eq!((error.error, error.rollouts), (RewardError::Stopped, vec![rollout("x", None)]));
        drop(release);
        let quick = Arc::new(rewards(lenient(), vec![("a", weight(1.0), constant(2.0))]));
        let rollouts = vec![rollout("x", None), rollout("y", None)];
        assert_eq!(quick.score_while(rollouts.clone(), &mut || true), quick.score(rollouts.clone()));
        assert_eq!(quick.score_while(rollouts, &mut || false).unwrap_err().error, RewardError::Stopped);
    }

    #[test]
    fn a_function_that_forgets_rollouts_is_refused() {
        struct Forgets;
        impl Reward for Forgets {
            fn score(&self, _: &Rollout) -> Verdict {
                Verdict::from(1.0)
            }
            fn score_all(&self, _: &[Rollout]) -> Result<Vec<Verdict>, RewardError> {
                Ok(vec![Verdict::from(1.0)])
            }
        }
        let error = rewards(lenient(), vec![("a", weight(1.0), Box::new(Forgets))]);
        let error = error.score(vec![rollout("", None), rollout("", None)]).unwrap_err();
        assert!(error.to_string().contains("judged 1 rollouts, wanted a verdict for each of 2"));
    }

    #[test]
    fn names_are_unique_and_numbers_finite() {
        let two =
            || rewards(lenient(), vec![("a", weight(1.0), constant(1.0)), ("b", weight(0.0), constant(1.0))]);
        assert_eq!(
            two().parts().map(|(name, part)| (name, part.weight)).collect::<Vec<_>>(),
            [("a", 1.0), ("b", 0.0)]
        );
        let error = two().with("a", weight(2.0), constant(1.0)).err().unwrap();
        assert_eq!(error.to_string(), "two rewards are named `a`, wanted a name for each");
        let error = two().with("c", weight(f32::NAN), constant(1.0)).err().unwrap();
        assert_eq!(error.to_string(), "reward `c` has the weight NaN, wanted a finite number");
        assert!(!rewards(lenient(), vec![("a", weight(0.0), constant(1.0))]).count());
        for bad in [
            SumSettings { clip: Some((1.0, 0.0)), ..lenient() },
            SumSettings { gated: f32::NAN, ..lenient() },
            SumSettings { max_failures: 1.5, ..lenient() },
        ] {
            assert!(Rewards::with_settings(bad).is_err());
        }
    }
}
