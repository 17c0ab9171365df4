//! Whether a completion's answer is the reference answer.
//!
//! Before: [`Extract`] knows where the answer stands. After: a part of the rollout's [`data::Score`].

use data::{Rollout, Verdict};
use serde::{Deserialize, Serialize};

use crate::extract::shown;
use crate::{Extract, Place, Reward};

/// 1 if the answer is the reference answer, letter by letter but for blanks around either, else 0. Of several reference
/// answers any will do. Absent if the prompt has none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ExactMatch {
    /// Where the answer stands; by default it is the whole completion.
    pub extract: Extract,
}

impl Default for ExactMatch {
    fn default() -> Self {
        Self { extract: Place::Whole.into() }
    }
}

impl Reward for ExactMatch {
    fn score(&self, rollout: &Rollout) -> Verdict {
        let mut answers = rollout.prompt.references().peekable();
        if answers.peek().is_none() {
            return Verdict::absent();
        }
        let found = self.extract.of(rollout);
        Verdict::right(answers.any(|answer| found.as_deref() == Some(answer))).with_answer(shown(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rollout;

    fn exact(text: &str, answer: Option<&str>) -> Option<f32> {
        ExactMatch::default().score(&rollout(text, answer)).value
    }

    #[test]
    fn exact_is_letter_by_letter_but_for_blanks_around() {
        for (text, answer, wanted) in [
            ("19", "19", 1.0),
            (" 19\n", "19 ", 1.0),
            ("-5", "-5", 1.0),
            ("19.0", "19", 0.0),
            ("1 9", "19", 0.0),
            ("is 19", "19", 0.0),
            ("", "19", 0.0),
            ("<think>19", "19", 0.0),
        ] {
            assert_eq!(exact(text, Some(answer)), Some(wanted), "{text}");
        }
        let boxed = ExactMatch { extract: Place::Boxed.into() };
        assert_eq!(boxed.score(&rollout(r"so \boxed{ B }", Some("B"))).value, Some(1.0));
    }

    #[test]
    fn any_of_several_reference_answers_will_do() {
        let mut rollout = rollout(" two", None);
        let answers = ["2", "two"].map(str::to_owned);
        std::sync::Arc::make_mut(&mut rollout.prompt).answer = data::Answer::any_of(answers);
        assert_eq!(ExactMatch::default().score(&rollout).value, Some(1.0));
        rollout.text = "2 or two".into();
        assert_eq!(ExactMatch::default().score(&rollout).value, Some(0.0));
    }

    #[test]
    fn without_a_reference_answer_the_score_is_absent() {
        for answer in [None, Some(""), Some(" ")] {
            assert_eq!(exact("5", answer), None);
        }
    }
}
