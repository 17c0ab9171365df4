//! Whether a completion has the form that was asked for, right or wrong.
//!
//! Before: a completion. After: a part of its [`data::Score`].

use data::Rollout;
use serde::{Deserialize, Serialize};

use crate::{Extract, Reward, RewardError};

/// What [`Format`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checks {
    /// The last `\boxed{…}` outside of thinking is closed and not blank.
    pub boxed: bool,
    /// The completion begins with `<think>…</think>`, has no other such tag, and says something after it. For chat
    /// templates that open the block themselves this is never so.
    pub think: bool,
    /// The policy ended by itself, before its token budget did.
    pub ends: bool,
}

/// 1 if all chosen checks hold, else 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Checks", into = "Checks")]
pub struct Format(Checks);

impl TryFrom<Checks> for Format {
    type Error = RewardError;
    fn try_from(checks: Checks) -> Result<Self, RewardError> {
        if checks == Checks::default() {
            return Err(RewardError::NoChecks);
        }
        Ok(Self(checks))
    }
}

impl From<Format> for Checks {
    fn from(format: Format) -> Checks {
        format.0
    }
}

impl Reward for Format {
    fn score(&self, rollout: &Rollout) -> Option<f32> {
        let Checks { boxed, think, ends } = self.0;
        let holds = (!boxed || Extract::Boxed.extract(&rollout.text).is_some())
            && (!think || thinks_once(&rollout.text))
            && (!ends || !rollout.truncated());
        Some(if holds { 1.0 } else { 0.0 })
    }
}

fn thinks_once(text: &str) -> bool {
    let Some((thought, said)) =
        text.trim_start().strip_prefix("<think>").and_then(|rest| rest.split_once("</think>"))
    else {
        return false;
    };
    let tagged = |text: &str| text.contains("<think>") || text.contains("</think>");
    !tagged(thought) && !tagged(said) && !said.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use data::StopReason;

    use super::*;
    use crate::testing::rollout;

    fn score(checks: Checks, text: &str) -> f32 {
        Format::try_from(checks).unwrap().score(&rollout(text, None)).unwrap()
    }

    #[test]
    fn thinking_comes_first_once_and_is_followed_by_something() {
        let think = Checks { think: true, ..Checks::default() };
        for text in ["<think>a</think>b", "\n <think>\n\n</think>\n\nb"] {
            assert_eq!(score(think, text), 1.0, "{text}");
        }
        for text in [
            "",
            "b",
            "<think>a",
            "a</think>b",
            "</think><think>b",
            "x<think>a</think>b",
            "<think>a</think>",
            "<think>a</think> \n",
            "<think>a</think>b</think>",
            "<think>a<think>b</think>c",
            "<think>a</think>b<think>c</think>d",
            "<Think>a</Think>b",
        ] {
            assert_eq!(score(think, text), 0.0, "{text}");
        }
    }

    #[test]
    fn a_box_must_be_closed_filled_and_outside_of_thinking() {
        let boxed = Checks { boxed: true, ..Checks::default() };
        assert_eq!(score(boxed, r"so \boxed{5}"), 1.0);
        for text in ["5", r"\boxed{5", r"\boxed{ }", r"<think>\boxed{5}</think>5"] {
            assert_eq!(score(boxed, text), 0.0, "{text}");
        }
    }

    #[test]
    fn a_truncated_completion_does_not_end() {
        let ends = Format::try_from(Checks { ends: true, ..Checks::default() }).unwrap();
        for (stop, wanted) in [(StopReason::Token, 1.0), (StopReason::Text, 1.0), (StopReason::Length, 0.0)] {
            assert_eq!(ends.score(&Rollout { stop, ..rollout("", None) }), Some(wanted));
        }
    }

    #[test]
    fn all_chosen_checks_must_hold_and_the_others_need_not() {
        let both = Checks { boxed: true, think: true, ends: false };
        assert_eq!(score(both, r"<think>a</think>\boxed{5}"), 1.0);
        assert_eq!(score(both, r"\boxed{5}"), 0.0);
        assert_eq!(score(both, "<think>a</think>5"), 0.0);
    }

    #[test]
    fn choosing_nothing_or_something_unknown_is_refused_where_it_stands() {
        let read = |json| serde_json::from_str::<Format>(json);
        let chosen = read(r#"{"boxed": true}"#).unwrap();
        assert_eq!(Checks::from(chosen.clone()), Checks { boxed: true, ..Checks::default() });
        assert_eq!(serde_json::to_string(&chosen).unwrap(), r#"{"boxed":true,"think":false,"ends":false}"#);
        let nothing =
            "the format reward checks nothing, wanted at least one of `boxed`, `think` and `ends` to be true";
        for json in ["{}", r#"{"think": false}"#] {
            assert!(read(json).unwrap_err().to_string().contains(nothing));
        }
        assert!(read(r#"{"box": true}"#).unwrap_err().to_string().contains("unknown field `box`"));
    }
}
