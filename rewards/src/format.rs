//! Whether a completion has the form that was asked for, right or wrong.
//!
//! Before: a completion. After: a part of its [`data::Score`].

use data::{Rollout, Verdict};
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::{Place, Reward, RewardError};

/// 1 if all chosen checks hold, else 0.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Format {
    /// The last `\boxed{…}` outside of thinking is closed and not blank.
    pub boxed: bool,
    /// The completion begins with `<think>…</think>`, has no other such tag, and says something after it.
    pub think: bool,
    /// With `think`: the prompt has opened the block already, as some chat templates do, so that the completion has only
    /// its end. A run compares this with its prompts before it starts.
    pub opened: bool,
    /// There is one `<answer>…</answer>`, not blank, with nothing after it; with `think`, nothing between the two.
    pub answer: bool,
    /// The policy ended by itself, before its token budget did.
    pub ends: bool,
    /// This regular expression matches somewhere in the completion; `(?s)` lets a point match line breaks. It takes time
    /// linear in the completion.
    pub pattern: Option<String>,
}

impl Format {
    /// Why no completion behind this prompt, as the policy reads it, can have the form asked for, and what to set: the chat
    /// template has opened the thinking block already, or has not although `opened` says so.
    pub fn misfit(&self, prompt: &str) -> Option<&'static str> {
        let last = |tag: &str| prompt.rfind(tag).map_or(0, |at| at + 1);
        let opens = last("<think>") > last("</think>");
        match (self.think, self.opened, opens) {
            (true, false, true) => Some(
                "ends with an open <think>, so that no completion begins with one and each would be 0: set opened = true",
            ),
            (true, true, false) => Some(
                "does not end with an open <think>, so that a completion has to begin with one and each would be 0: set \
                 opened = false, or open the block with `open` under [thinking]",
            ),
            _ => None,
        }
    }

    /// The judge.
    ///
    /// # Errors
    /// If nothing is checked, or the pattern is no regular expression.
    pub fn build(self) -> Result<impl Reward + use<>, RewardError> {
        let setting = |what: String| RewardError::Setting { what };
        if self == (Self { opened: self.opened, ..Self::default() }) {
            let what = "the format reward checks nothing, wanted at least one of `boxed`, `think`, `answer`, `ends` and `pattern`";
            return Err(setting(what.into()));
        }
        if self.opened && !self.think {
            return Err(setting(
                "`opened` says how `think` is checked, wanted `think = true` with it".into(),
            ));
        }
        let pattern = match &self.pattern {
            Some(pattern) => Some(Regex::new(pattern).map_err(|error| {
                setting(format!("pattern `{pattern}` is no regular expression: {error}"))
            })?),
            None => None,
        };
        Ok(Checks { format: self, pattern })
    }
}

struct Checks {
    format: Format,
    pattern: Option<Regex>,
}

impl Reward for Checks {
    fn score(&self, rollout: &Rollout) -> Verdict {
        let Format { boxed, think, opened, answer, ends, .. } = self.format;
        let text = rollout.text.as_str();
        let said = if think { thought_once(text, opened) } else { Some(text) };
        let missing = if boxed && Place::Boxed.extract(text).is_none() {
            "there is no closed box with an answer"
        } else if said.is_none() {
            "it does not begin with one thinking block and go on after it"
        } else if answer && !said.is_some_and(|said| answers_once(said, think)) {
            "it does not end with one answer block"
        } else if ends && rollout.truncated() {
            "it was cut off"
        } else if self.pattern.as_ref().is_some_and(|pattern| !pattern.is_match(text)) {
            "the pattern does not match"
        } else {
            return Verdict::right(true);
        };
        Verdict::right(false).because(missing)
    }
}

/// What follows the one thinking block at the beginning, unless that is blank.
fn thought_once(text: &str, opened: bool) -> Option<&str> {
    let text = text.trim_start();
    let inside = if opened { text } else { text.strip_prefix("<think>")? };
    let (thought, said) = inside.split_once("</think>")?;
    let tagged = |text: &str| text.contains("<think>") || text.contains("</think>");
    (!tagged(thought) && !tagged(said) && !said.trim().is_empty()).then_some(said)
}

/// Whether the text ends with one answer block; with `alone`, is nothing else.
fn answers_once(text: &str, alone: bool) -> bool {
    let Some((before, rest)) = text.split_once("<answer>") else { return false };
    let Some((answer, after)) = rest.split_once("</answer>") else { return false };
    let tagged = |text: &str| text.contains("<answer>") || text.contains("</answer>");
    let blank = |text: &str| text.trim().is_empty();
    !blank(answer) && blank(after) && !tagged(answer) && !tagged(before) && (!alone || blank(before))
}

#[cfg(test)]
mod tests {
    use data::StopReason;

    use super::*;
    use crate::testing::rollout;

    fn score(format: &Format, text: &str) -> f32 {
        format.clone().build().unwrap().score(&rollout(text, None)).value.unwrap()
    }

    #[test]
    fn thinking_comes_first_once_and_is_followed_by_something() {
        let think = Format { think: true, ..Format::default() };
        for text in ["<think>a</think>b", "\n <think>\n\n</think>\n\nb"] {
            assert_eq!(score(&think, text), 1.0, "{text}");
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
            assert_eq!(score(&think, text), 0.0, "{text}");
        }
    }

    #[test]
    fn a_box_must_be_closed_filled_and_outside_of_thinking() {
        let boxed = Format { boxed: true, ..Format::default() };
        assert_eq!(score(&boxed, r"so \boxed{5}"), 1.0);
        for text in ["5", r"\boxed{5", r"\boxed{ }", r"<think>\boxed{5}</think>5"] {
            assert_eq!(score(&boxed, text), 0.0, "{text}");
        }
    }

    #[test]
    fn a_truncated_completion_does_not_end() {
        let ends = Format { ends: true, ..Format::default() }.build().unwrap();
        for (stop, wanted) in [(StopReason::Token, 1.0), (StopReason::Text, 1.0), (StopReason::Length, 0.0)] {
            assert_eq!(ends.score(&Rollout { stop, ..rollout("", None) }).value, Some(wanted));
        }
    }

    #[test]
    fn all_chosen_checks_must_hold_and_the_others_need_not() {
        let both = Format { boxed: true, think: true, ..Format::default() };
        assert_eq!(score(&both, r"<think>a</think>\boxed{5}"), 1.0);
        assert_eq!(score(&both, r"\boxed{5}"), 0.0);
        assert_eq!(score(&both, "<think>a</think>5"), 0.0);
    }

    #[test]
    fn the_prompt_may_have_opened_the_block() {
        let opened = Format { think: true, opened: true, ..Format::default() };
        assert_eq!(score(&opened, "a</think>b"), 1.0);
        for text in ["<think>a</think>b", "ab", "a</think>", "a</think>b</think>c"] {
            assert_eq!(score(&opened, text), 0.0, "{text}");
        }
    }

    #[test]
    fn a_prompt_that_opens_the_block_and_one_that_does_not_ask_for_other_settings() {
        let of = |think, opened| Format { think, opened, ..Format::default() };
        let (open, plain) = ("<|assistant|>\n<think>\n", "<|assistant|>\n");
        let closed = "<|assistant|>\n<think>\n\n</think>\n\n";
        assert!(of(true, false).misfit(open).unwrap().contains("set opened = true"));
        assert_eq!(of(true, false).misfit(plain), None);
        assert_eq!(of(true, false).misfit(closed), None);
        assert_eq!(of(true, true).misfit(open), None);
        for prompt in [plain, closed] {
            assert!(of(true, true).misfit(prompt).unwrap().contains("set opened = false"));
        }
        assert_eq!(of(false, false).misfit(open), None);
    }

    #[test]
    fn an_answer_block_comes_last_and_once() {
        let answer = Format { answer: true, ..Format::default() };
        assert_eq!(score(&answer, "so <answer>5</answer>\n"), 1.0);
        for text in [
            "5",
            "<answer>5",
            "<answer> </answer>",
            "<answer>5</answer> ok",
            "<answer>5</answer><answer>6</answer>",
        ] {
            assert_eq!(score(&answer, text), 0.0, "{text}");
        }
        let both = Format { answer: true, think: true, ..Format::default() };
        assert_eq!(score(&both, "<think>a</think>\n<answer>5</answer>"), 1.0);
        assert_eq!(score(&both, "<think>a</think>so <answer>5</answer>"), 0.0);
    }

    #[test]
    fn a_pattern_is_looked_for_anywhere() {
        let pattern = |pattern: &str| Format { pattern: Some(pattern.into()), ..Format::default() };
        assert_eq!(score(&pattern(r"^\d+$"), "42"), 1.0);
        assert_eq!(score(&pattern(r"^\d+$"), "42 "), 0.0);
        assert_eq!(score(&pattern(r"(?s)^a.*z$"), "a\nz"), 1.0);
        assert!(pattern("(").build().err().unwrap().to_string().contains("no regular expression"));
        // backtracking would never end
        assert_eq!(score(&pattern("^(a+)+$"), &("a".repeat(100_000) + "!")), 0.0);
    }

    #[test]
    fn choosing_nothing_or_something_unknown_is_refused() {
        for format in [Format::default(), Format { opened: true, ..Format::default() }] {
            assert!(format.build().err().unwrap().to_string().contains("checks nothing"));
        }
        let read = serde_json::from_str::<Format>(r#"{"box": true}"#);
        assert!(read.unwrap_err().to_string().contains("unknown field `box`"));
    }
}
