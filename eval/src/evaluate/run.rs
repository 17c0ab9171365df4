//! An evaluation under way: rounds of samples until every question has as many as the protocol asks for.

use super::*;

/// An evaluation under way.
pub(super) struct Run<'a> {
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
    pub(super) fn new(
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
    pub(super) fn sample(
        &mut self,
        speaker: &dyn Speaker,
        seed: u64,
        wanted: &[usize],
    ) -> Result<(), EvalError> {
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
    pub(super) fn adapt(
        &mut self,
        speaker: &dyn Speaker,
        seed: u64,
        adaptive: Adaptive,
    ) -> Result<(), EvalError> {
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
    pub(super) fn adapt_each(
        &mut self,
        speaker: &dyn Speaker,
        seed: u64,
        adaptive: Adaptive,
    ) -> Result<(), EvalError> {
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

    pub(super) fn done(self) -> Judged {
        Judged { samples: self.samples.into_values().collect(), rounds: self.rounds, cost: self.cost }
    }
}

fn unjudged(rollout: Rollout) -> ScoredRollout {
    ScoredRollout { rollout, score: Score::default() }
}
