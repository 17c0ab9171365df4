//! What was found out about each question.
//!
//! Before: samples of a benchmark's questions were judged. After: [`crate::Summary`] counts them, and `evenkeel compare` sets
//! those of two models side by side.

use data::{Body, Prompt, ScoredRollout};
use serde::{Deserialize, Serialize};

use crate::at_k::ballot;
use crate::stats::Interval;

/// One question and its samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// The prompt's id.
    pub id: String,
    /// How hard it is said to be, by the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// What it is about, by the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Its samples, by place; none of a question that was not asked.
    pub samples: Vec<Sample>,
    /// How many samples each round drew, where their number was adapted to what came out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<usize>,
    /// Its share of right samples, where their number was adapted: every round has the same weight for all questions, so that
    /// lucky first rounds do not count for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapted: Option<f64>,
    /// Where its chance of being right lies, where it was drawn until this is narrow: exact, by all of its judged samples,
    /// and 95 % sure although the first of them decided how many there are. See [`crate::stats::Budget`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// Why it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// One completion, as far as figures need it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Whether it is right; absent if it could not be judged, which is not the same as wrong.
    pub right: Option<bool>,
    /// Whether it has the form that the prompt asks for; absent if the benchmark asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formed: Option<bool>,
    /// Whether it ran out of tokens.
    pub truncated: bool,
    /// Its tokens; absent from a server that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<usize>,
    /// Which answer it gives: samples of a question that give the same answer have the same number. Absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vote: Option<usize>,
    /// Whether its answer could not be read as mathematics, and so was compared as text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreadable: bool,
}

/// A sample as people read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleText {
    /// The question's id.
    pub id: String,
    /// Place among the question's samples.
    pub place: usize,
    /// What the user's turn says, or the whole prompt of a plain text.
    pub prompt: String,
    /// The reference answer.
    pub reference: Option<String>,
    /// What the model wrote.
    pub text: String,
    /// The answer that was found in it.
    pub answer: Option<String>,
    /// Whether it is right.
    pub right: Option<bool>,
    /// Why it was judged so, or why it could not be.
    pub reason: Option<String>,
    /// Whether it ran out of tokens.
    pub truncated: bool,
    /// Its tokens, if known.
    pub tokens: Option<usize>,
}

/// Which reward functions say what.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The one that says what is right: a value of at least 1.
    pub deciding: &'a str,
    /// The one that says whether the form is as asked for, if there is one.
    pub format: Option<&'a str>,
    /// Whether answers are mathematics: then those that are equal as mathematics are one vote.
    pub mathematics: bool,
}

impl Question {
    /// A question that was asked, with its samples by place. `samples` are those of one prompt.
    pub fn of(
        prompt: &Prompt,
        level: &str,
        subject: &str,
        samples: &[&ScoredRollout],
        parts: Parts<'_>,
    ) -> Self {
        let votes = votes(samples, parts);
        let sample = |(scored, vote): (&&ScoredRollout, Option<usize>)| {
            let verdict = scored.score.part(parts.deciding);
            let formed = parts.format.and_then(|name| scored.score.part(name)?.value);
            let answer = verdict.and_then(|verdict| verdict.answer.as_deref());
            Sample {
                right: right(scored, parts.deciding),
                formed: formed.map(|value| value >= 1.0),
                truncated: scored.rollout.truncated(),
                tokens: told(&scored.rollout),
                vote,
                unreadable: parts.mathematics
                    && answer.is_some_and(|answer| !rewards::math::readable(answer)),
            }
        };
        Self {
            id: prompt.id.clone(),
            level: column(prompt, level),
            subject: column(prompt, subject),
            samples: samples.iter().zip(votes).map(sample).collect(),
            rounds: Vec::new(),
            adapted: None,
            interval: None,
            skipped: None,
        }
    }

    /// A question that was not asked.
    pub fn skipped(prompt: &Prompt, level: &str, subject: &str, why: String) -> Self {
        Self {
            id: prompt.id.clone(),
            level: column(prompt, level),
            subject: column(prompt, subject),
            samples: Vec::new(),
            rounds: Vec::new(),
            adapted: None,
            interval: None,
            skipped: Some(why),
        }
    }

    /// Samples that could be judged.
    pub fn judged(&self) -> usize {
        self.samples.iter().filter(|sample| sample.right.is_some()).count()
    }

    /// Samples that are right.
    pub fn right(&self) -> usize {
        self.samples.iter().filter(|sample| sample.right == Some(true)).count()
    }

    /// Share of right ones among those judged: 0 of a question that could not be asked, absent if none was judged.
    pub fn share(&self) -> Option<f64> {
        match (self.judged(), &self.skipped) {
            (0, Some(_)) => Some(0.0),
            (0, None) => None,
            (judged, _) => Some(self.adapted.unwrap_or(self.right() as f64 / judged as f64)),
        }
    }

    /// The samples of each round.
    pub(crate) fn by_round(&self) -> impl Iterator<Item = &[Sample]> {
        let mut rest = self.samples.as_slice();
        self.rounds.iter().map(move |count| {
            let (these, others) = rest.split_at((*count).min(rest.len()));
            rest = others;
            these
        })
    }

    /// How the judged samples vote: right ones, wrong ones by answer, and those that give none.
    pub fn ballot(&self) -> (usize, Vec<usize>, usize) {
        ballot(&judged(&self.samples))
    }
}

/// Those that could be judged.
pub(crate) fn judged(samples: &[Sample]) -> Vec<&Sample> {
    samples.iter().filter(|sample| sample.right.is_some()).collect()
}

/// How many of them are right, and how many could be judged.
pub(crate) fn count(samples: &[Sample]) -> (usize, usize) {
    let right = samples.iter().filter(|sample| sample.right == Some(true)).count();
    (right, samples.iter().filter(|sample| sample.right.is_some()).count())
}

impl SampleText {
    /// The sample as people read it.
    pub fn of(scored: &ScoredRollout, deciding: &str) -> Self {
        let (rollout, verdict) = (&scored.rollout, scored.score.part(deciding));
        Self {
            id: rollout.prompt.id.clone(),
            place: rollout.place,
            prompt: question(&rollout.prompt).to_owned(),
            reference: rollout.prompt.answer.as_ref().map(ToString::to_string),
            text: rollout.text.clone(),
            answer: verdict.and_then(|verdict| verdict.answer.clone()),
            right: right(scored, deciding),
            reason: verdict.and_then(|verdict| verdict.failure.clone().or_else(|| verdict.reason.clone())),
            truncated: rollout.truncated(),
            tokens: told(rollout),
        }
    }
}

/// What the user's last turn says, or the whole prompt of a plain text.
pub(crate) fn question(prompt: &Prompt) -> &str {
    match &prompt.body {
        Body::Text(text) => text,
        Body::Chat(turns) => turns.iter().rfind(|turn| turn.role == "user").map_or("", |turn| &turn.content),
    }
}

fn right(scored: &ScoredRollout, deciding: &str) -> Option<bool> {
    scored.score.part(deciding)?.value.map(|value| value >= 1.0)
}

/// A server that tells text only does not say how many tokens it drew.
fn told(rollout: &data::Rollout) -> Option<usize> {
    (!rollout.prompt_tokens.is_empty()).then_some(rollout.tokens.len())
}

/// A column of the row as text.
fn column(prompt: &Prompt, name: &str) -> Option<String> {
    match prompt.fields.get(name)? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Null => None,
        other => Some(other.to_string()),
    }
}

/// Which answer each sample gives: 0 for all that are right, then one number an answer, in the order of places.
fn votes(samples: &[&ScoredRollout], parts: Parts<'_>) -> Vec<Option<usize>> {
    let mut answers: Vec<&str> = Vec::new();
    samples
        .iter()
        .map(|scored| {
            let verdict = scored.score.part(parts.deciding)?;
            if right(scored, parts.deciding) == Some(true) {
                return Some(0);
            }
            let answer = verdict.answer.as_deref().map(str::trim).filter(|answer| !answer.is_empty())?;
            let same = |known: &&str| {
                **known == *answer || (parts.mathematics && rewards::math::equal(known, answer))
            };
            let place = answers.iter().position(same).unwrap_or_else(|| {
                answers.push(answer);
                answers.len() - 1
            });
            Some(place + 1)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use data::{Part, Rollout, Score, Verdict};

    use super::*;

    fn prompt() -> Prompt {
        let fields = serde_json::json!({ "level": 3, "subject": "Algebra" });
        let fields = fields.as_object().cloned().unwrap_or_default();
        Prompt { id: "q".into(), body: Body::Text("1/2?".into()), answer: Some("1/2".into()), fields }
    }

    fn scored(answer: Option<&str>, value: Option<f32>) -> ScoredRollout {
        let verdict = Verdict { value, ..Verdict::default() }.with_answer(answer.map(str::to_owned));
        let parts = vec![Part { name: "math".into(), verdict }];
        let rollout = Rollout::of_text(Arc::new(prompt()), "text");
        ScoredRollout { rollout, score: Score { reward: value, parts } }
    }

    const PARTS: Parts<'_> = Parts { deciding: "math", format: None, mathematics: true };

    #[test]
    fn equal_answers_are_one_vote_however_they_are_written() {
        let samples = [
            scored(Some("0.5"), Some(1.0)),
            scored(Some("1/3"), Some(0.0)),
            scored(None, Some(0.0)),
            scored(Some(r"\frac{2}{6}"), Some(0.0)),
            scored(Some(r"\frac12"), Some(1.0)),
            scored(Some("7"), Some(0.0)),
            scored(Some("7"), None),
        ];
        let question = Question::of(&prompt(), "level", "subject", &samples.each_ref(), PARTS);
        let votes: Vec<_> = question.samples.iter().map(|sample| sample.vote).collect();
        assert_eq!(votes, [Some(0), Some(1), None, Some(1), Some(0), Some(2), Some(2)]);
        assert_eq!(question.ballot(), (2, vec![2, 1], 1), "what could not be judged does not vote");
        assert_eq!((question.right(), question.judged()), (2, 6));
        assert_eq!((question.level.as_deref(), question.subject.as_deref()), (Some("3"), Some("Algebra")));
    }

    #[test]
    fn a_question_that_was_not_asked_is_not_right_and_one_that_was_not_judged_is_neither() {
        let skipped = Question::skipped(&prompt(), "level", "subject", "too long".into());
        assert_eq!(skipped.share(), Some(0.0));
        let samples = [scored(Some("1"), None)];
        let unjudged = Question::of(&prompt(), "none", "none", &samples.each_ref(), PARTS);
        assert_eq!((unjudged.share(), unjudged.level), (None, None));
    }

    #[test]
    fn an_answer_that_is_no_mathematics_is_marked() {
        let samples = [scored(Some(r"\frac{1}{"), Some(0.0)), scored(Some("0.5"), Some(1.0))];
        let question = Question::of(&prompt(), "level", "subject", &samples.each_ref(), PARTS);
        let unreadable: Vec<_> = question.samples.iter().map(|sample| sample.unreadable).collect();
        assert_eq!(unreadable, [true, false]);
    }
}
