//! Samples a benchmark's questions and judges the samples.
//!
//! Before: a [`Benchmark`] and whoever answers. After: [`crate::Evaluation`]. Every sample is handed over as soon as it is there,
//! so that one that is interrupted goes on where it stopped; what comes out does not depend on that, nor on the order in
//! which samples finish.

mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use data::{Prompt, Rollout, Score, ScoredRollout, Seed, StepSeed};
use rewards::{RewardError, Rewards, ScoringError};
use rollout::{RolloutError, SampleProgress, Sampled, Sampling};

use crate::protocol::{Adaptive, Protocol, Samples};
use crate::record::{Parts, Question, count};
use crate::result::{Cost, Problems};
use crate::rounds::Rounds;
use crate::stats::{AdaptiveSettings, Budget, BudgetSettings, Estimate, StatsError, clopper_pearson, plan};
use crate::summary::{CONFIDENCE, share};

use self::run::Run;

/// Samples of a question in a round, at least: one alone shows no variance.
const LEAST: usize = 2;

/// Questions with a way to judge answers, ready to be asked.
pub struct Benchmark {
    /// How it is measured.
    pub protocol: Protocol,
    /// The questions, with unique ids.
    pub prompts: Vec<Arc<Prompt>>,
    /// Judges.
    pub rewards: Arc<Rewards>,
    /// Which of the rewards says whether the form is right, if one does.
    pub format: Option<String>,
    /// Whether the deciding reward compares mathematics.
    pub mathematics: bool,
    /// Whether the questions are generated: they may differ in a sign alone, so they are not looked through for duplicates.
    pub generated: bool,
    /// Whether judging takes so little time that each sample is judged as it comes; else all are judged together.
    pub quick: bool,
    /// The column that says how hard a question is.
    pub level: String,
    /// The column that says what it is about.
    pub subject: String,
}

/// Whoever answers: a checkpoint in this process, or a server.
pub trait Speaker {
    /// `group_size` completions of each of these questions; those in `have` are there already. As
    /// [`rollout::Sampler::sample_missing`].
    ///
    /// # Errors
    /// If sampling fails; the error may hold what arrived.
    fn sample(
        &self,
        questions: &[usize],
        group_size: usize,
        sampling: &Sampling,
        seed: StepSeed,
        have: &[Rollout],
        progress: &mut dyn FnMut(SampleProgress<'_>),
    ) -> Result<Sampled, RolloutError>;

    /// Why this question cannot be asked, if so.
    fn obstacle(&self, question: usize) -> Option<String>;
}

/// Hears of samples as they come.
pub trait Watch {
    /// Samples that are to be kept: a sample may come twice, first without and then with its score.
    ///
    /// # Errors
    /// If they cannot be kept: then nothing more is sampled.
    fn keep(&mut self, samples: &[ScoredRollout]) -> std::io::Result<()>;

    /// How far it is.
    fn running(&mut self, running: Running);

    /// Whether to end as soon as may be, with what has been kept until then. Asked many times a second.
    fn stops(&mut self) -> bool {
        false
    }
}

/// How far an evaluation is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Running {
    /// Samples that are there.
    pub finished: usize,
    /// Samples that are wanted, as far as is known.
    pub wanted: usize,
    /// Tokens drawn by this attempt.
    pub tokens: usize,
    /// Accuracy on what is judged so far. Short completions come first, so it moves.
    pub accuracy: Option<Estimate>,
}

/// All samples of a benchmark, judged, and what they took.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// By question, then by place.
    pub samples: Vec<ScoredRollout>,
    /// Samples that each asked question had after each round, where their number was adapted.
    pub rounds: Vec<Vec<usize>>,
    /// What this attempt took.
    pub cost: Cost,
}

/// Why an evaluation could not be finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// No completions.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// No verdicts.
    #[error(transparent)]
    Scoring(#[from] ScoringError),
    /// What came out says too little to go on.
    #[error(transparent)]
    Stats(#[from] StatsError),
    /// Samples could not be kept.
    #[error("samples could not be kept: {0}")]
    Keep(#[from] std::io::Error),
}

impl EvalError {
    /// Whether it is not an error at all: [`Watch::stops`] said so.
    pub fn is_stop(&self) -> bool {
        match self {
            Self::Rollout(error) => matches!(error, RolloutError::Stopped { .. }),
            Self::Scoring(error) => error.error == RewardError::Stopped,
            _ => false,
        }
    }
}

impl Benchmark {
    /// What says what.
    pub fn parts(&self) -> Parts<'_> {
        Parts {
            deciding: &self.protocol.deciding,
            format: self.format.as_deref(),
            mathematics: self.mathematics,
        }
    }

    /// Whether completions are not drawn, so that another seed would give the same ones.
    pub fn greedy(&self) -> bool {
        self.protocol.sampling.temperature == 0.0
    }

    /// What is wrong with the questions.
    pub fn problems(&self) -> Problems {
        let unreadable = |prompt: &Arc<Prompt>| {
            let answer = prompt.references().find(|answer| !rewards::math::readable(answer))?;
            Some((prompt.id.clone(), answer.to_owned()))
        };
        Problems {
            unanswered: self
                .prompts
                .iter()
                .filter(|prompt| self.mathematics && prompt.reference().is_none())
                .map(|prompt| prompt.id.clone())
                .collect(),
            unreadable: match self.mathematics {
                true => self.prompts.iter().filter_map(unreadable).collect(),
                false => Vec::new(),
            },
            duplicates: match self.generated {
                true => Vec::new(),
                false => data::same_questions(&self.prompts),
            },
        }
    }

    /// Samples what is missing, judges what is not judged. The draws are those of step 0 of the seed's `eval` stream, by question
    /// and place, so that two models meet the same luck.
    ///
    /// # Errors
    /// If sampling fails, judging cannot go on, samples cannot be kept, or `watch` wants to stop. What was handed to `watch` until
    /// then can be passed as `have` to go on.
    pub fn evaluate(
        &self,
        speaker: &dyn Speaker,
        seed: u64,
        have: Vec<ScoredRollout>,
        watch: &mut dyn Watch,
    ) -> Result<Judged, EvalError> {
        let asked: Vec<usize> =
            (0..self.prompts.len()).filter(|question| speaker.obstacle(*question).is_none()).collect();
        let mut run = Run::new(self, &asked, have, watch);
        match self.protocol.samples {
            Samples::Each(count) => run.sample(speaker, seed, &vec![count; asked.len()])?,
            Samples::Adaptive(adaptive) if adaptive.each => run.adapt_each(speaker, seed, adaptive)?,
            Samples::Adaptive(adaptive) => run.adapt(speaker, seed, adaptive)?,
        }
        Ok(run.done())
    }

    /// What each question came to.
    pub fn questions(&self, speaker: &dyn Speaker, judged: &Judged) -> Vec<Question> {
        let mut by_prompt: BTreeMap<&str, Vec<&ScoredRollout>> = BTreeMap::new();
        for scored in &judged.samples {
            by_prompt.entry(&scored.rollout.prompt.id).or_default().push(scored);
        }
        let mut asked = 0;
        let question = |(place, prompt): (usize, &Arc<Prompt>)| match speaker.obstacle(place) {
            Some(why) => Question::skipped(prompt, &self.level, &self.subject, why),
            None => {
                let samples = by_prompt.get(prompt.id.as_str()).map_or(&[][..], Vec::as_slice);
                let mut question = Question::of(prompt, &self.level, &self.subject, samples, self.parts());
                let totals = judged.rounds.iter().map(|round| round[asked]);
                question.rounds =
                    totals.scan(0, |before, now| Some(now - std::mem::replace(before, now))).collect();
                asked += 1;
                question
            }
        };
        let mut questions: Vec<Question> = self.prompts.iter().enumerate().map(question).collect();
        adapted(&mut questions);
        if let Samples::Adaptive(adaptive) = self.protocol.samples
            && adaptive.each
        {
            let confidence = budget_settings(&adaptive).final_confidence();
            for question in questions.iter_mut().filter(|question| question.judged() > 0) {
                let found = clopper_pearson(question.right(), question.judged(), confidence);
                question.interval = Some(found.expect("no more are right than judged, and α was checked"));
            }
        }
        questions
    }
}

/// How the draws of a single question are bounded.
fn budget_settings(adaptive: &Adaptive) -> BudgetSettings {
    let alpha = 1.0 - CONFIDENCE;
    BudgetSettings { alpha, most: adaptive.most, ..BudgetSettings::default() }
}

/// Shares of questions whose numbers of samples were adapted.
fn adapted(questions: &mut [Question]) {
    let rounds = Rounds::of(questions);
    for question in questions.iter_mut().filter(|question| !question.rounds.is_empty()) {
        question.adapted = rounds.mean(question, 1, |samples| {
            let (right, judged) = count(samples);
            (judged > 0).then(|| right as f64 / judged as f64)
        });
    }
}
