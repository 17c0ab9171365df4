//! One model on one benchmark: how it was measured, what came out, and what each question came to.
//!
//! Before: [`crate::evaluate`] sampled and judged. After: `evaluation.json`, [`crate::report`] and `evenkeel compare`.

use std::collections::BTreeMap;

use data::Seed;
use serde::{Deserialize, Serialize};

use crate::protocol::Protocol;
use crate::record::Question;
use crate::stats::{Paired, RunVariance, StatsError};
use crate::summary::{CONFIDENCE, Summary};

/// One model on one benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// What was measured.
    pub model: Model,
    /// How.
    pub protocol: Protocol,
    /// [`Protocol::hash`].
    pub protocol_hash: String,
    /// Where the draws come from. Two models that were measured with the same seed met the same luck.
    pub seed: u64,
    /// What it took.
    pub cost: Cost,
    /// The figures.
    pub summary: Summary,
    /// What is wrong with the questions.
    pub problems: Problems,
    /// Every question.
    pub questions: Vec<Question>,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// What to call it: short and unlike the others of the report.
    pub name: String,
    /// The checkpoint's folder or its name on the hub, or what the server calls it.
    pub source: String,
    /// How it was computed, such as `f32 by avx2`, or the server's address.
    pub computed: String,
    /// SHA-256 of the weights' file names, lengths and contents; absent of a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// What an evaluation took. Of one that was interrupted, what its last attempt took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds of sampling and judging; reading the weights is not in them.
    pub seconds: f64,
    /// Seconds of judging alone.
    pub judging_seconds: f64,
    /// Tokens drawn.
    pub tokens: usize,
    /// Prompt tokens read.
    pub prompt_tokens: usize,
    /// Samples that were there before, from attempts that were interrupted.
    pub samples_before: usize,
}

impl Cost {
    /// Tokens drawn in a second; absent if none was, or a server does not tell.
    pub fn tokens_per_second(&self) -> Option<f64> {
        (self.tokens > 0 && self.seconds > 0.0).then(|| self.tokens as f64 / self.seconds)
    }
}

/// What is wrong with a benchmark's questions. None of it is hidden in the figures.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Problems {
    /// Ids of questions without a reference answer: nothing can be right there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unanswered: Vec<String>,
    /// Ids and reference answers that the grader cannot read as mathematics: only the same text is right there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<(String, String)>,
    /// Ids of questions that ask the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub duplicates: Vec<(String, String)>,
}

/// Two models on the questions that both were asked, by the same protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The benchmark.
    pub benchmark: String,
    /// What is called a.
    pub a: String,
    /// What is called b; differences are b minus a.
    pub b: String,
    /// The difference, with its interval.
    pub paired: Paired,
    /// Where their protocols differ, if someone insisted on comparing them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
}

/// How much of the difference between runs of one recipe is more than chance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Runs {
    /// The benchmark.
    pub benchmark: String,
    /// The runs.
    pub models: Vec<String>,
    /// The split.
    pub variance: RunVariance,
}

/// All that an evaluation found out: `evaluation.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Version of the program that wrote it.
    pub evenkeel: String,
    /// One for each model and benchmark.
    pub evaluations: Vec<Evaluation>,
    /// The first model against each of the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Comparison>,
    /// Where models are runs of one recipe: what their spread says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Runs>,
}

impl Comparison {
    /// Compares two evaluations on the questions that both have judged samples of.
    ///
    /// # Errors
    /// If there are fewer than two such questions.
    pub fn of(a: &Evaluation, b: &Evaluation) -> Result<Self, StatsError> {
        let theirs: BTreeMap<&str, f64> =
            b.questions.iter().filter_map(|q| Some((q.id.as_str(), q.share()?))).collect();
        let both = a.questions.iter().filter_map(|q| Some((q.share()?, *theirs.get(q.id.as_str())?)));
        let (ours, theirs): (Vec<f64>, Vec<f64>) = both.unzip();
        Ok(Self {
            benchmark: a.protocol.benchmark.clone(),
            a: a.model.name.clone(),
            b: b.model.name.clone(),
            paired: Paired::of(&ours, &theirs, CONFIDENCE, Seed(0).named("comparison"))?,
            differences: a.protocol.differences(&b.protocol),
        })
    }
}

impl Runs {
    /// Splits the variance between evaluations of runs of one recipe, over the questions that all of them have judged.
    ///
    /// # Errors
    /// If there are fewer than two runs or two such questions.
    pub fn of(evaluations: &[&Evaluation]) -> Result<Self, StatsError> {
        let mut shares: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for question in evaluations.iter().flat_map(|evaluation| &evaluation.questions) {
            shares.entry(&question.id).or_default().extend(question.share());
        }
        shares.retain(|_, of| of.len() == evaluations.len());
        let samples = evaluations.iter().flat_map(|evaluation| &evaluation.questions).map(Question::judged);
        let draws = samples.filter(|judged| *judged > 0).min().unwrap_or(1);
        let run = |place: usize| shares.values().map(|of| of[place]).collect::<Vec<f64>>();
        let runs: Vec<Vec<f64>> = (0..evaluations.len()).map(run).collect();
        Ok(Self {
            benchmark: evaluations.first().map_or_else(String::new, |e| e.protocol.benchmark.clone()),
            models: evaluations.iter().map(|e| e.model.name.clone()).collect(),
            variance: RunVariance::of(&runs, draws, CONFIDENCE)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::evaluation;

    #[test]
    fn numbers_are_read_back_bit_for_bit() {
        // SplitMix64: numbers from 0 to 1 and of all sizes, most of which a fast parser misses by a bit
        let mut state = 7u64;
        for _ in 0..20_000 {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let share = (bits >> 11) as f64 / (1u64 << 53) as f64;
            for number in [share, share / 3.0, share * 1e-200, share * 1e200] {
                let back: f64 = serde_json::from_str(&serde_json::to_string(&number).unwrap()).unwrap();
                assert_eq!(back.to_bits(), number.to_bits(), "{number}");
                let value: serde_json::Value = serde_json::from_str(&number.to_string()).unwrap();
                assert_eq!(value.as_f64().map(f64::to_bits), Some(number.to_bits()), "{number}");
            }
        }
    }

    #[test]
    fn an_evaluation_is_written_again_as_it_was_read() {
        let text = serde_json::to_string(&evaluation("m", "b", 13, 7)).unwrap();
        let back: Evaluation = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }
}
