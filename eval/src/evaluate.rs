//! Samples a benchmark's questions and judges the samples.
//!
//! Before: a [`Benchmark`] and whoever answers. After: [`crate::Evaluation`]. Every sample is handed over as soon as it is there,
//! so that one that is interrupted goes on where it stopped; what comes out does not depend on that, nor on the order in
//! which samples finish.

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

/// An evaluation under way.
struct Run<'a> {
    benchmark: &'a Benchmark,
    /// Questions that can be asked.
    asked: &'a [usize],
    /// What is there, by question (index into the prompts) and place.
    samples: BTreeMap<(usize, usize), ScoredRollout>,
    /// Right and judged samples of every question so far, for the progress line.
    counts: Vec<(usize, usize)>,
    places: BTreeMap<&'a str, usize>,
    watch: &'a mut dyn Watch,
    rounds: Vec<Vec<usize>>,
    cost: Cost,
    /// Accuracy so far.
    running: Option<Estimate>,
    /// What went wrong while samples came in.
    failure: Option<EvalError>,
}

impl<'a> Run<'a> {
    fn new(
        benchmark: &'a Benchmark,
        asked: &'a [usize],
        have: Vec<ScoredRollout>,
        watch: &'a mut dyn Watch,
    ) -> Self {
        let places: BTreeMap<&str, usize> =
            benchmark.prompts.iter().enumerate().map(|(place, prompt)| (prompt.id.as_str(), place)).collect();
        let mut run = Self {
            benchmark,
            asked,
            samples: BTreeMap::new(),
            counts: vec![(0, 0); benchmark.prompts.len()],
            places,
            watch,
            rounds: Vec::new(),
            cost: Cost::default(),
            running: None,
            failure: None,
        };
        run.cost.samples_before = have.len();
        run.add(have);
        run
    }

    /// Whether a sample is right, if it could be judged.
    fn verdict(&self, scored: &ScoredRollout) -> Option<bool> {
        scored.score.part(&self.benchmark.protocol.deciding)?.value.map(|value| value >= 1.0)
    }

    fn add(&mut self, samples: Vec<ScoredRollout>) {
        for scored in samples {
            let Some(question) = self.places.get(scored.rollout.prompt.id.as_str()).copied() else {
                continue;
            };
            let now = self.verdict(&scored);
            let before = self.samples.insert((question, scored.rollout.place), scored);
            // a sample that had no verdict may have one now
            let before = before.and_then(|before| self.verdict(&before));
            let (right, judged) = &mut self.counts[question];
            *judged = *judged + usize::from(now.is_some()) - usize::from(before.is_some());
            *right = *right + usize::from(now == Some(true)) - usize::from(before == Some(true));
        }
    }

    /// Samples until each asked question has so many, and judges them.
    fn sample(&mut self, speaker: &dyn Speaker, seed: u64, wanted: &[usize]) -> Result<(), EvalError> {
        let begun = Instant::now();
        let benchmark = self.benchmark;
        let most = wanted.iter().copied().max().unwrap_or(0);
        let all: usize = wanted.iter().sum();
        let have: Vec<Rollout> = self.samples.values().map(|scored| scored.rollout.clone()).collect();
        let there: BTreeSet<(usize, usize)> = self.samples.keys().copied().collect();
        if (0..self.asked.len()).any(|i| (0..wanted[i]).any(|place| !there.contains(&(self.asked[i], place))))
        {
            // every question of a job gets as many; places that are not wanted are handed over as if they were there
            let blank = |question: usize, place: usize| {
                let prompt = benchmark.prompts[question].clone();
                Rollout { place, ..Rollout::of_text(prompt, String::new()) }
            };
            let blanks = self.asked.iter().zip(wanted).flat_map(|(question, wanted)| {
                (*wanted..most)
                    .filter(|place| !there.contains(&(*question, *place)))
                    .map(|place| blank(*question, place))
            });
            let have: Vec<Rollout> = have.iter().cloned().chain(blanks).collect();
            let seed = Seed(seed).named("eval").at(0);
            let asked = self.asked;
            let result =
                speaker.sample(asked, most, &benchmark.protocol.sampling, seed, &have, &mut |progress| {
                    let new: Vec<Rollout> = progress.new.iter().map(|rollout| (*rollout).clone()).collect();
                    self.arrived(new, progress.drawn, all);
                    progress.stop.set(self.watch.stops() || self.failure.is_some());
                });
            let sampled = match result {
                Ok(sampled) => sampled,
                Err(error) => {
                    // those that nobody was told of yet, without the places that only seemed to be there
                    let wanted: BTreeMap<usize, usize> =
                        asked.iter().copied().zip(wanted.iter().copied()).collect();
                    let late = |r: &&Rollout| {
                        let question = self.places[r.prompt.id.as_str()];
                        wanted.get(&question).is_some_and(|wanted| r.place < *wanted)
                            && !self.samples.contains_key(&(question, r.place))
                    };
                    let late: Vec<Rollout> = error.arrived().iter().filter(late).cloned().collect();
                    self.arrived(late, 0, all);
                    return Err(self.failure.take().unwrap_or_else(|| error.into()));
                }
            };
            self.cost.tokens += sampled.stats.tokens;
            self.cost.prompt_tokens += sampled.stats.prompt_tokens;
        }
        self.judge_rest();
        self.cost.seconds += begun.elapsed().as_secs_f64();
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Takes what has finished.
    fn arrived(&mut self, new: Vec<Rollout>, tokens: usize, wanted: usize) {
        let came = !new.is_empty();
        if came {
            let samples = match self.benchmark.quick && self.failure.is_none() {
                true => self.judge(new),
                false => new.into_iter().map(unjudged).collect(),
            };
            if let Err(error) = self.watch.keep(&samples) {
                self.failure.get_or_insert(error.into());
            }
            self.add(samples);
        }
        if came {
            self.running = self.accuracy();
        }
        let tokens = self.cost.tokens + tokens;
        let running = Running { finished: self.samples.len(), wanted, tokens, accuracy: self.running };
        self.watch.running(running);
    }

    /// Judges, or gives back what it was given.
    fn judge(&mut self, rollouts: Vec<Rollout>) -> Vec<ScoredRollout> {
        let begun = Instant::now();
        let watch = &mut *self.watch;
        let result = self.benchmark.rewards.score_while(rollouts, &mut || !watch.stops());
        self.cost.judging_seconds += begun.elapsed().as_secs_f64();
        result.unwrap_or_else(|mut error| {
            let rollouts = std::mem::take(&mut error.rollouts);
            self.failure.get_or_insert(error.into());
            rollouts.into_iter().map(unjudged).collect()
        })
    }

    /// Judges what was kept without a verdict.
    fn judge_rest(&mut self) {
        let waiting: Vec<Rollout> =
            self.samples.values().filter(|s| s.score.parts.is_empty()).map(|s| s.rollout.clone()).collect();
        if waiting.is_empty() || self.failure.is_some() {
            return;
        }
        let samples = self.judge(waiting);
        if self.failure.is_none() {
            if let Err(error) = self.watch.keep(&samples) {
                self.failure = Some(error.into());
            }
            self.add(samples);
        }
    }

    /// Right and judged samples of a question at these places.
    fn count(&self, question: usize, places: Range<usize>) -> (usize, usize) {
        let mut count = (0, 0);
        for (_, scored) in self.samples.range((question, places.start)..(question, places.end)) {
            let verdict = self.verdict(scored);
            count.1 += usize::from(verdict.is_some());
            count.0 += usize::from(verdict == Some(true));
        }
        count
    }

    fn accuracy(&self) -> Option<Estimate> {
        let counts = || self.counts.iter().filter(|(_, judged)| *judged > 0);
        let shares: Vec<f64> = counts().map(|(right, judged)| *right as f64 / *judged as f64).collect();
        share(&shares, counts().map(|(_, judged)| *judged).max()?).ok().flatten()
    }

    /// Rounds of samples where they tell most, until the interval over draws is as tight as was asked for. A round is decided by
    /// the rounds before it and nothing else, so that what an interrupted attempt left beyond them changes nothing.
    fn adapt(&mut self, speaker: &dyn Speaker, seed: u64, adaptive: Adaptive) -> Result<(), EvalError> {
        let settings = AdaptiveSettings { confidence: CONFIDENCE, most: adaptive.most, ..Default::default() };
        let mut wanted = vec![adaptive.pilot; self.asked.len()];
        loop {
            self.sample(speaker, seed, &wanted)?;
            self.rounds.push(wanted.clone());
            let rounds = self.counts_by_round();
            // questions that a judge was silent on say nothing of how hard they are
            let known: Vec<usize> =
                (0..self.asked.len()).filter(|q| rounds.iter().all(|r| r[*q].1 > 0)).collect();
            if known.is_empty() {
                return Ok(());
            }
            let of_known: Vec<Vec<(usize, usize)>> =
                rounds.iter().map(|round| known.iter().map(|question| round[*question]).collect()).collect();
            let totals = plan(&of_known, adaptive.half_width, &settings)?;
            let mut next = wanted.clone();
            for (question, total) in known.into_iter().zip(totals) {
                let judged: usize = rounds.iter().map(|round| round[question].1).sum();
                next[question] += total.saturating_sub(judged);
            }
            if next == wanted {
                // an attempt that was interrupted did not come this far
                return Ok(());
            }
            wanted = next;
        }
    }

    /// Rounds of samples until the share of each question is as sure as was asked for. Every question gets some of every round,
    /// so that the mean of all stays unbiased: see [`crate::stats::adaptive_mean`].
    fn adapt_each(&mut self, speaker: &dyn Speaker, seed: u64, adaptive: Adaptive) -> Result<(), EvalError> {
        let budget = Budget::new(adaptive.half_width, budget_settings(&adaptive))?;
        let mut wanted = vec![adaptive.pilot; self.asked.len()];
        loop {
            self.sample(speaker, seed, &wanted)?;
            self.rounds.push(wanted.clone());
            let more = |(question, wanted): (&usize, &usize)| -> Result<usize, StatsError> {
                let (right, judged) = self.count(*question, 0..*wanted);
                // a question that a judge was silent on says nothing of how hard it is
                Ok(if judged > 0 { budget.next(right, judged)? - judged } else { 0 })
            };
            let more = self.asked.iter().zip(&wanted).map(more).collect::<Result<Vec<usize>, _>>()?;
            if more.iter().all(|more| *more == 0) {
                return Ok(());
            }
            wanted.iter_mut().zip(more).for_each(|(wanted, more)| *wanted += more.max(LEAST));
        }
    }

    /// Right and judged samples of each asked question in each round.
    fn counts_by_round(&self) -> Vec<Vec<(usize, usize)>> {
        let none = vec![0; self.asked.len()];
        let befores = std::iter::once(&none).chain(&self.rounds);
        let round = |(before, now): (&Vec<usize>, &Vec<usize>)| {
            let question = |place: usize| self.count(self.asked[place], before[place]..now[place]);
            (0..self.asked.len()).map(question).collect()
        };
        befores.zip(&self.rounds).map(round).collect()
    }

    fn done(self) -> Judged {
        Judged { samples: self.samples.into_values().collect(), rounds: self.rounds, cost: self.cost }
    }
}

fn unjudged(rollout: Rollout) -> ScoredRollout {
    ScoredRollout { rollout, score: Score::default() }
}
