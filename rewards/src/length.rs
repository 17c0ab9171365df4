//! How long a completion is, as a reward.
//!
//! Before: a completion with its tokens. After: a part of its [`data::Score`]. Lengths are in tokens, those that were put there
//! included. The punishment of DAPO for nearing the token budget is not here but with what a truncated rollout is worth,
//! `[rl.truncated.overlong]`.

use std::f64::consts::PI;

use data::{Rollout, Verdict};
use serde::{Deserialize, Serialize};

use crate::{Extract, Math, Reward, RewardError};

/// −|tokens − target| / target: 0 at the target, −1 at none and at twice as many. A weight makes it the length term of LCPO.
///
/// # Source
/// Aggarwal & Welleck, *L1: Controlling How Long A Reasoning Model Thinks*, arXiv:2503.04697, eq. 1.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LengthReward {
    /// Wanted length. Without it, the prompt's field `target_length`; a prompt without that has no verdict.
    pub target: Option<u32>,
    /// Only tokens beyond the target count against the completion.
    pub at_most: bool,
}

impl LengthReward {
    /// Checked settings.
    ///
    /// # Errors
    /// If the target is 0.
    pub fn build(self) -> Result<Self, RewardError> {
        match self.target {
            Some(0) => Err(setting("target is 0, wanted at least 1 token")),
            _ => Ok(self),
        }
    }
}

impl Reward for LengthReward {
    fn score(&self, rollout: &Rollout) -> Verdict {
        let own = rollout.prompt.fields.get("target_length");
        let target = match (self.target, own) {
            (Some(target), _) => f64::from(target),
            (None, None) => return Verdict::absent(),
            (None, Some(own)) => match own.as_f64().filter(|target| *target >= 1.0) {
                Some(target) => target,
                None => {
                    return Verdict::failed(format!(
                        "field `target_length` is {own}, wanted a number of at least 1"
                    ));
                }
            },
        };
        let beyond = rollout.tokens.len() as f64 - target;
        let distance = if self.at_most { beyond.max(0.0) } else { beyond.abs() };
        Verdict::from((-distance / target) as f32)
    }
}

/// More for a short right answer than for a long one, less for a short wrong answer than for a long one: along half a
/// cosine from 0 tokens to `max_tokens`. A truncated completion, and one beyond `max_tokens`, gets `exceeds`.
///
/// Whether the answer is right is judged as [`Math`] does. Absent if the prompt has no reference answer.
///
/// # Source
/// Yeo et al., *Demystifying Long Chain-of-Thought Reasoning in LLMs*, arXiv:2502.03373, section 4 and table 3, whose
/// numbers are the defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CosineLength {
    /// Length at the end of the curve.
    pub max_tokens: u32,
    /// A right answer of no length.
    pub right_short: f32,
    /// A right answer of `max_tokens`.
    pub right_long: f32,
    /// A wrong answer of no length.
    pub wrong_short: f32,
    /// A wrong answer of `max_tokens`.
    pub wrong_long: f32,
    /// Truncated or too long.
    pub exceeds: f32,
    /// Where the answer stands.
    pub extract: Extract,
}

impl Default for CosineLength {
    fn default() -> Self {
        Self {
            max_tokens: 4096,
            right_short: 2.0,
            right_long: 1.0,
            wrong_short: -10.0,
            wrong_long: 0.0,
            exceeds: -10.0,
            extract: Extract::default(),
        }
    }
}

impl CosineLength {
    /// Checked settings.
    ///
    /// # Errors
    /// If `max_tokens` is 0 or a value is not finite.
    pub fn build(self) -> Result<Self, RewardError> {
        if self.max_tokens == 0 {
            return Err(setting("max_tokens is 0, wanted at least 1"));
        }
        let values = [
            ("right_short", self.right_short),
            ("right_long", self.right_long),
            ("wrong_short", self.wrong_short),
            ("wrong_long", self.wrong_long),
            ("exceeds", self.exceeds),
        ];
        match values.into_iter().find(|(_, value)| !value.is_finite()) {
            Some((name, value)) => Err(setting(&format!("{name} is {value}, wanted a finite number"))),
            None => Ok(self),
        }
    }
}

impl Reward for CosineLength {
    fn score(&self, rollout: &Rollout) -> Verdict {
        let verdict = Math { extract: self.extract.clone(), tolerance: 0.0 }.score(rollout);
        let Some(right) = verdict.value else { return verdict };
        let tokens = rollout.tokens.len() as f64;
        let value = if rollout.truncated() || tokens > f64::from(self.max_tokens) {
            f64::from(self.exceeds)
        } else {
            let (short, long) = if right > 0.0 {
                (self.right_short, self.right_long)
            } else {
                (self.wrong_short, self.wrong_long)
            };
            let (short, long) = (f64::from(short), f64::from(long));
            long + 0.5 * (short - long) * (1.0 + (PI * tokens / f64::from(self.max_tokens)).cos())
        };
        Verdict { value: Some(value as f32), ..verdict }
    }
}

fn setting(what: &str) -> RewardError {
    RewardError::Setting { what: what.into() }
}

#[cfg(test)]
mod tests {
    use data::StopReason;

    use super::*;
    use crate::testing::rollout;

    fn of_length(tokens: usize, text: &str, answer: Option<&str>) -> Rollout {
        Rollout { tokens: vec![2; tokens], log_probs: vec![-1.0; tokens], ..rollout(text, answer) }
    }

    #[test]
    fn length_is_least_bad_at_the_target() {
        let exact = LengthReward { target: Some(100), at_most: false };
        let most = LengthReward { target: Some(100), at_most: true };
        let at = |length: &LengthReward, tokens| length.score(&of_length(tokens, "", None)).value.unwrap();
        assert_eq!((at(&exact, 100), at(&exact, 50), at(&exact, 200)), (0.0, -0.5, -1.0));
        assert_eq!((at(&most, 100), at(&most, 50), at(&most, 200)), (0.0, 0.0, -1.0));
        assert_eq!(LengthReward::default().score(&of_length(3, "", None)), Verdict::absent());
    }

    #[test]
    fn cosine_ends_where_its_settings_say_and_is_halfway_in_the_middle() {
        let cosine = CosineLength { max_tokens: 100, ..CosineLength::default() };
        let at = |tokens, text| cosine.score(&of_length(tokens, text, Some("5"))).value.unwrap();
        assert_eq!((at(0, "5"), at(50, "5"), at(100, "5")), (2.0, 1.5, 1.0));
        assert_eq!((at(0, "6"), at(50, "6"), at(100, "6")), (-10.0, -5.0, 0.0));
        assert_eq!(at(101, "5"), -10.0);
        let cut = Rollout { stop: StopReason::Length, ..of_length(10, "5", Some("5")) };
        assert_eq!(cosine.score(&cut).value, Some(-10.0));
        assert_eq!(cosine.score(&of_length(10, "5", None)), Verdict::absent());
    }
}
