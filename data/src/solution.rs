//! The answer of a worked solution.
//!
//! Before: [`crate::layout`] knows that a column holds worked solutions. After: the answer of a [`crate::Prompt`].

use crate::latex::boxed;

/// What stands before the answer of a worked solution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// `####`, as in GSM8K.
    Hashes,
    /// `\boxed{`, as in MATH.
    Box,
}

impl Mark {
    /// The mark as it is written.
    pub(crate) fn written(self) -> &'static str {
        match self {
            Self::Hashes => "####",
            Self::Box => r"\boxed{…}",
        }
    }

    /// What stands before the last mark, and the answer behind it or in it; none without a mark. An answer after `####`
    /// loses its commas and blanks.
    pub(crate) fn answer(self, text: &str) -> Option<(&str, String)> {
        match self {
            Self::Hashes => {
                let (solution, answer) = text.rsplit_once("####")?;
                let answer = answer.chars().filter(|c| *c != ',' && !c.is_whitespace()).collect();
                Some((solution.trim_end(), answer))
            }
            Self::Box => boxed(text).map(|answer| (text, answer.to_owned())),
        }
    }

    /// Whether a text is surely a worked solution with this mark: a box is enough, `####` must begin the last line and
    /// have a number behind it.
    pub(crate) fn tells(self, text: &str) -> bool {
        let last = match self {
            Self::Box => return boxed(text).is_some(),
            Self::Hashes => text.trim_end().lines().next_back().unwrap_or_default(),
        };
        last.strip_prefix("####").is_some_and(|answer| {
            answer.contains(|c: char| c.is_ascii_digit())
                && answer.chars().all(|c| c.is_ascii_digit() || "-+.,$% /".contains(c))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_stands_behind_the_last_mark() {
        let hashes = |text| Mark::Hashes.answer(text).map(|(before, answer)| (before.to_owned(), answer));
        assert_eq!(hashes("1 #### 2\n3\n#### 1,234 "), Some(("1 #### 2\n3".into(), "1234".into())));
        assert_eq!(hashes("so #### , "), Some(("so".into(), String::new())));
        assert_eq!(hashes("1234"), None);
        assert_eq!(Mark::Box.answer(r"thus $\boxed{ 5 }$.").unwrap().1, "5");
        assert_eq!(Mark::Box.answer("thus 5"), None);
    }

    #[test]
    fn only_a_number_after_hashes_on_the_last_line_tells_of_worked_solutions() {
        for text in ["2 + 2 = 4\n#### 4", "#### -1,234.5\n", "a\n####$5", "a\n#### 1/2"] {
            assert!(Mark::Hashes.tells(text), "{text:?}");
        }
        for text in ["4", "#### 4\nso 4", "see #### 4", "#### Heading", "a\n####", ""] {
            assert!(!Mark::Hashes.tells(text), "{text:?}");
        }
        assert!(Mark::Box.tells(r"so \boxed{4}") && !Mark::Box.tells("$4$"));
    }
}
