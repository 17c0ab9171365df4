//! What words a completion uses: repetition, language, keywords.
//!
//! Before: a completion. After: a part of its [`data::Score`]. Each looks at the text once.

use std::collections::HashSet;

use data::{Rollout, Verdict};
use serde::{Deserialize, Serialize};
use whatlang::{Lang, Script};

use crate::{Reward, RewardError};

/// Minus the share of runs of `ngram` words that were there before: 0 if none repeats, near −1 for a loop. A completion
/// of fewer words gets 0. Words are parted by blanks; case does not count.
///
/// # Source
/// Yeo et al., arXiv:2502.03373, section 4.3 (n-gram repetition penalty), without its spread over tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Repetition {
    /// Words in a run.
    pub ngram: usize,
    /// Count runs of tokens instead, for languages that write no blanks.
    pub tokens: bool,
}

impl Default for Repetition {
    fn default() -> Self {
        Self { ngram: 3, tokens: false }
    }
}

impl Repetition {
    /// Checked settings.
    ///
    /// # Errors
    /// If `ngram` is 0 or above 100.
    pub fn build(self) -> Result<Self, RewardError> {
        if !(1..=100).contains(&self.ngram) {
            return Err(RewardError::Setting {
                what: format!("ngram is {}, wanted 1 to 100 words", self.ngram),
            });
        }
        Ok(self)
    }

    fn repeated<T: std::hash::Hash + Eq>(&self, units: &[T]) -> f32 {
        let runs = units.windows(self.ngram);
        let all = runs.len();
        let distinct = runs.collect::<HashSet<_>>().len();
        if all == 0 { 0.0 } else { (all - distinct) as f32 / all as f32 }
    }
}

impl Reward for Repetition {
    fn score(&self, rollout: &Rollout) -> Verdict {
        let share = if self.tokens {
            self.repeated(&rollout.tokens)
        } else {
            let lower = rollout.text.to_lowercase();
            self.repeated(&lower.split_whitespace().collect::<Vec<_>>())
        };
        Verdict::from(0.0 - share)
    }
}

/// The share of letters that stand in lines of the wanted language, in 0..1. Formulas and code between backticks are left out.
/// A line of fewer than 24 letters is judged by its script alone, a longer one by trigrams. Without any letters: 1.
///
/// # Source
/// The idea is the language consistency reward of DeepSeek-R1 (arXiv:2501.12948, section 2.3.2), which counts words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Language {
    /// ISO 639-3 code such as `eng`, `cmn`, `deu`, `fra`.
    pub language: String,
}

impl Language {
    /// The judge.
    ///
    /// # Errors
    /// If the language is not known.
    pub fn build(self) -> Result<impl Reward + use<>, RewardError> {
        let Some(lang) = Lang::from_code(&self.language) else {
            let known: Vec<&str> = Lang::all().iter().map(|lang| lang.code()).collect();
            let what = format!("language is `{}`, wanted one of {}", self.language, known.join(", "));
            return Err(RewardError::Setting { what });
        };
        Ok(InLanguage(lang))
    }
}

struct InLanguage(Lang);

impl Reward for InLanguage {
    fn score(&self, rollout: &Rollout) -> Verdict {
        /// Letters from which trigrams say something.
        const ENOUGH: usize = 24;
        let text = prose(&rollout.text);
        let (mut all, mut wanted) = (0, 0);
        for line in text.lines() {
            let letters = line.chars().filter(|c| c.is_alphabetic()).count();
            if letters == 0 {
                continue;
            }
            all += letters;
            let right = if letters < ENOUGH {
                whatlang::detect_script(line).is_none_or(|script| scripts(self.0).contains(&script))
            } else {
                whatlang::detect(line).is_some_and(|info| info.lang() == self.0)
            };
            wanted += if right { letters } else { 0 };
        }
        Verdict::from(if all == 0 { 1.0 } else { wanted as f32 / all as f32 })
    }
}

fn scripts(lang: Lang) -> Vec<Script> {
    match lang {
        Lang::Jpn => vec![Script::Hiragana, Script::Katakana, Script::Mandarin],
        lang => Script::all().iter().copied().filter(|script| script.langs().contains(&lang)).collect(),
    }
}

/// The text without formulas between dollar signs, TeX commands, and code between backticks.
fn prose(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for (at, piece) in text.split(['$', '`']).enumerate() {
        if at % 2 == 0 {
            kept.push_str(piece);
        }
    }
    let mut plain = String::with_capacity(kept.len());
    let mut chars = kept.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\\' {
            while chars.next_if(char::is_ascii_alphabetic).is_some() {}
        } else {
            plain.push(c);
        }
    }
    plain
}

/// 1 if the completion contains what it should and nothing that it should not, else 0.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Keyword {
    /// All of these.
    pub contains: Vec<String>,
    /// None of these.
    pub lacks: Vec<String>,
    /// Whether capital letters count.
    pub case: bool,
}

impl Keyword {
    /// Checked settings.
    ///
    /// # Errors
    /// If no words are given, or a blank one.
    pub fn build(mut self) -> Result<Self, RewardError> {
        let words = || self.contains.iter().chain(&self.lacks);
        if words().next().is_none() || words().any(|word| word.trim().is_empty()) {
            let what =
                "the keyword reward wants at least one word in `contains` or `lacks`, and none blank".into();
            return Err(RewardError::Setting { what });
        }
        if !self.case {
            for word in self.contains.iter_mut().chain(&mut self.lacks) {
                *word = word.to_lowercase();
            }
        }
        Ok(self)
    }
}

impl Reward for Keyword {
    fn score(&self, rollout: &Rollout) -> Verdict {
        let lower = (!self.case).then(|| rollout.text.to_lowercase());
        let text = lower.as_deref().unwrap_or(&rollout.text);
        if let Some(missing) = self.contains.iter().find(|word| !text.contains(word.as_str())) {
            return Verdict::right(false).because(format!("it lacks `{missing}`"));
        }
        match self.lacks.iter().find(|word| text.contains(word.as_str())) {
            Some(there) => Verdict::right(false).because(format!("it contains `{there}`")),
            None => Verdict::right(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rollout;

    fn value(reward: &impl Reward, text: &str) -> f32 {
        reward.score(&rollout(text, None)).value.unwrap()
    }

    #[test]
    fn repetition_is_the_share_of_runs_seen_before() {
        let repetition = Repetition { ngram: 2, tokens: false };
        assert_eq!(value(&repetition, "a b c d"), 0.0);
        assert_eq!(value(&repetition, "a b A b a"), -0.5); // ab ba ab ba
        assert_eq!(value(&repetition, "a"), 0.0);
        assert_eq!(value(&repetition, ""), 0.0);
        assert!(value(&Repetition::default(), &"so it goes ".repeat(1000)) < -0.99);
        let tokens = Repetition { ngram: 1, tokens: true };
        let rollout = Rollout { tokens: vec![7, 7, 7, 8], ..rollout("", None) };
        assert_eq!(tokens.score(&rollout).value, Some(-0.5));
        assert!(Repetition { ngram: 0, tokens: false }.build().is_err());
    }

    #[test]
    fn language_is_told_line_by_line() {
        let english = Language { language: "eng".into() }.build().unwrap();
        let text = "First we add the two numbers, and then we multiply the result by three.";
        assert_eq!(value(&english, text), 1.0);
        assert_eq!(value(&english, "我们首先把这两个数相加，然后把结果乘以三，最后得到答案。"), 0.0);
        assert_eq!(value(&english, "42"), 1.0);
        assert_eq!(value(&english, r"So $\alpha$ is 5"), 1.0);
        let mixed = value(&english, &format!("{text}\n所以答案是四十二"));
        assert!(mixed > 0.5 && mixed < 1.0, "{mixed}");
        let german = Language { language: "deu".into() }.build().unwrap();
        assert_eq!(
            value(&german, "Zuerst addieren wir die beiden Zahlen und multiplizieren das Ergebnis mit drei."),
            1.0
        );
        assert_eq!(value(&german, text), 0.0);
        assert!(Language { language: "xx".into() }.build().is_err());
    }

    #[test]
    fn keywords_must_be_there_and_others_must_not() {
        let keyword =
            Keyword { contains: vec!["Therefore".into()], lacks: vec!["sorry".into()], case: false };
        let keyword = keyword.build().unwrap();
        assert_eq!(value(&keyword, "therefore 5"), 1.0);
        assert_eq!(value(&keyword, "so 5"), 0.0);
        assert_eq!(value(&keyword, "Therefore, SORRY"), 0.0);
        assert!(Keyword::default().build().is_err());
        assert!(Keyword { contains: vec![" ".into()], ..Keyword::default() }.build().is_err());
    }
}
