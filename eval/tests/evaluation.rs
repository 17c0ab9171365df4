//! Whole evaluations of a speaker whose answers follow a given difficulty: what comes out depends on nothing but its draws.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use data::{Body, Prompt, PromptTemplate, Rollout, ScoredRollout, StepSeed, StopReason, Verdict};
use eval::stats::Method;
use eval::{
    Adaptive, AtKRule, Benchmark, EvalError, Protocol, Question, Questions, Running, Samples, Shots, Speaker,
    Summary, Watch,
};
use rewards::{ExactMatch, PartSettings, Rewards, SumSettings};
use rollout::backend::ServerError;
use rollout::{RolloutError, SampleProgress, SampleStats, Sampled, Sampling};

/// Answers question i rightly with probability `difficulty[i]`, by the draws of (seed, question, place).
struct Coin {
    prompts: Vec<Arc<Prompt>>,
    difficulty: Vec<f64>,
    /// Question that does not fit.
    too_long: Option<usize>,
    drawn: AtomicUsize,
    backwards: bool,
    /// After so many draws it is gone, as a server that dies.
    dies_after: Option<usize>,
}

impl Coin {
    fn new(difficulty: &[f64]) -> Self {
        let prompt = |i: usize| {
            let body = Body::Text(format!("question {i}"));
            Arc::new(Prompt {
                id: format!("q{i:04}"),
                body,
                answer: Some("yes".into()),
                fields: Default::default(),
            })
        };
        let prompts = (0..difficulty.len()).map(prompt).collect();
        Self {
            prompts,
            difficulty: difficulty.to_vec(),
            too_long: None,
            drawn: AtomicUsize::new(0),
            backwards: false,
            dies_after: None,
        }
    }

    fn answer(&self, question: usize, place: usize, seed: StepSeed) -> Rollout {
        self.drawn.fetch_add(1, Ordering::Relaxed);
        let prompt = &self.prompts[question];
        let draw = seed.prompt(&prompt.id).place(place).uniform(0);
        let text = if draw < self.difficulty[question] {
            "yes".to_owned()
        } else {
            format!("no{}", (draw * 1e4) as u64 % 3)
        };
        let rollout = Rollout::of_text(prompt.clone(), text);
        Rollout {
            place,
            prompt_tokens: Arc::from([1]),
            tokens: vec![7; 3 + place % 2],
            stop: StopReason::Token,
            ..rollout
        }
    }
}

impl Speaker for Coin {
    fn sample(
        &self,
        questions: &[usize],
        group_size: usize,
        _: &Sampling,
        seed: StepSeed,
        have: &[Rollout],
        progress: &mut dyn FnMut(SampleProgress<'_>),
    ) -> Result<Sampled, RolloutError> {
        let have: BTreeMap<(&str, usize), &Rollout> =
            have.iter().map(|rollout| ((rollout.prompt.id.as_str(), rollout.place), rollout)).collect();
        let (mut rollouts, stop) = (Vec::new(), Cell::new(false));
        let mut order: Vec<(usize, usize)> = questions
            .iter()
            .flat_map(|question| (0..group_size).map(move |place| (*question, place)))
            .collect();
        if self.backwards {
            order.reverse();
        }
        for (question, place) in order {
            if let Some(rollout) = have.get(&(self.prompts[question].id.as_str(), place)) {
                rollouts.push((*rollout).clone());
                continue;
            }
            if self.dies_after.is_some_and(|draws| self.drawn.load(Ordering::Relaxed) >= draws) {
                let cause = Box::new(ServerError::Unreachable {
                    url: "http://nowhere".into(),
                    seconds: 1.0,
                    attempts: 1,
                    reason: "gone".into(),
                });
                return Err(ServerError::Partial { arrived: rollouts, wanted: 0, cause }.into());
            }
            let rollout = self.answer(question, place, seed);
            progress(SampleProgress {
                finished: rollouts.len() + 1,
                drawn: 1,
                new: vec![&rollout],
                first: None,
                stop: &stop,
            });
            if stop.get() {
                return Err(RolloutError::Stopped { arrived: [rollouts, vec![rollout]].concat() });
            }
            rollouts.push(rollout);
        }
        Ok(Sampled { rollouts, stats: SampleStats::default() })
    }

    fn obstacle(&self, question: usize) -> Option<String> {
        (self.too_long == Some(question)).then(|| "too long".to_owned())
    }
}

fn benchmark(coin: &Coin, samples: Samples) -> Benchmark {
    let reward = Box::new(ExactMatch::default());
    let rewards = Rewards::new().with("exact_match", PartSettings::weight(1.0), reward).unwrap();
    Benchmark {
        protocol: Protocol {
            benchmark: "coin".into(),
            questions: Questions::of(&coin.prompts),
            prompt: PromptTemplate::default(),
            shots: Shots::default(),
            enable_thinking: None,
            rewards: serde_json::json!({}),
            deciding: "exact_match".into(),
            grader: "test".into(),
            numerics: None,
            at_k: AtKRule::Unbiased,
            sampling: Sampling::default(),
            samples,
        },
        prompts: coin.prompts.clone(),
        rewards: Arc::new(rewards),
        format: None,
        mathematics: false,
        generated: false,
        quick: true,
        level: "level".into(),
        subject: "subject".into(),
    }
}

/// Keeps what comes, up to so many times; then the disk is full.
#[derive(Default)]
struct Keep {
    kept: BTreeMap<(String, usize), ScoredRollout>,
    calls: usize,
    most: Option<usize>,
    last: Option<Running>,
}

impl Watch for Keep {
    fn keep(&mut self, samples: &[ScoredRollout]) -> std::io::Result<()> {
        self.calls += 1;
        if self.most.is_some_and(|most| self.calls > most) {
            return Err(std::io::Error::other("the disk is full"));
        }
        for scored in samples {
            self.kept.insert((scored.rollout.prompt.id.clone(), scored.rollout.place), scored.clone());
        }
        Ok(())
    }

    fn running(&mut self, running: Running) {
        self.last = Some(running);
    }
}

fn evaluate(coin: &Coin, benchmark: &Benchmark) -> (Vec<Question>, Summary) {
    let judged = benchmark.evaluate(coin, 3, Vec::new(), &mut Keep::default()).unwrap();
    let questions = benchmark.questions(coin, &judged);
    let summary = Summary::of(&questions, &benchmark.protocol).unwrap();
    (questions, summary)
}

/// Three quarters of the questions are nearly hopeless or nearly sure, the others in between: a profile that adapting pays for.
fn mixed(count: usize) -> Vec<f64> {
    (0..count)
        .map(|i| match i % 8 {
            0..=2 => 0.002,
            3..=5 => 0.998,
            _ => (i as f64 + 0.5) / count as f64,
        })
        .collect()
}

#[test]
fn figures_are_those_of_the_samples() {
    let coin = Coin::new(&mixed(80));
    let (questions, summary) = evaluate(&coin, &benchmark(&coin, Samples::Each(8)));
    assert_eq!((summary.questions, summary.samples, summary.absent, summary.skipped), (80, 640, 0, 0));
    let right: usize = questions.iter().map(Question::right).sum();
    let accuracy = summary.accuracy.unwrap();
    assert!((accuracy.value - right as f64 / 640.0).abs() < 1e-12);
    assert_eq!(accuracy.method, Method::Clustered);
    assert!(accuracy.interval.contains(coin.difficulty.iter().sum::<f64>() / 80.0), "{accuracy:?}");
    let draws = summary.over_draws.unwrap();
    assert!(
        draws.interval.half_width() < accuracy.interval.half_width(),
        "questions differ more than draws do"
    );
    let ks: Vec<usize> = summary.pass_at.iter().map(|at| at.k).collect();
    assert_eq!(ks, [1, 2, 4, 8]);
    for (pass, hat) in summary.pass_at.windows(2).zip(summary.pass_hat.windows(2)) {
        assert!(
            pass[0].estimate.value <= pass[1].estimate.value
                && hat[0].estimate.value >= hat[1].estimate.value
        );
    }
    let all = questions.iter().filter(|question| question.right() == 8).count();
    let any = questions.iter().filter(|question| question.right() > 0).count();
    assert!((summary.pass_at[3].estimate.value - any as f64 / 80.0).abs() < 1e-12);
    assert!((summary.pass_hat[3].estimate.value - all as f64 / 80.0).abs() < 1e-12);
    assert!((summary.majority_at[0].estimate.value - accuracy.value).abs() < 1e-12, "one voice decides");
    let tokens = summary.tokens.unwrap();
    assert!((tokens.mean - 3.5).abs() < 1e-12 && tokens.longest == 4);
    assert_eq!(tokens.histogram.iter().map(|bin| bin.right + bin.other).sum::<usize>(), 640);
}

#[test]
fn one_sample_a_question_has_wilsons_and_the_exact_interval_and_none_over_draws() {
    let coin = Coin::new(&mixed(60));
    let (_, summary) = evaluate(&coin, &benchmark(&coin, Samples::Each(1)));
    let (accuracy, exact) = (summary.accuracy.unwrap(), summary.exact.unwrap());
    assert_eq!((accuracy.method, exact.method), (Method::Wilson, Method::ClopperPearson));
    assert!(exact.interval.low < accuracy.interval.low && exact.interval.high > accuracy.interval.high);
    assert_eq!(summary.over_draws, None);
}

#[test]
fn the_order_in_which_samples_finish_changes_nothing() {
    let coin = Coin::new(&mixed(30));
    let backwards = Coin { backwards: true, ..Coin::new(&mixed(30)) };
    for samples in
        [Samples::Each(5), Samples::Adaptive(Adaptive { half_width: 0.03, pilot: 8, most: 64, each: false })]
    {
        assert_eq!(
            evaluate(&coin, &benchmark(&coin, samples)),
            evaluate(&backwards, &benchmark(&backwards, samples))
        );
    }
}

#[test]
fn an_interrupted_evaluation_draws_no_sample_twice_and_ends_the_same() {
    let samples = Samples::Adaptive(Adaptive { half_width: 0.02, pilot: 8, most: 64, each: false });
    let coin = Coin::new(&mixed(40));
    let whole = benchmark(&coin, samples);
    let wanted = evaluate(&coin, &whole);
    let all = coin.drawn.load(Ordering::Relaxed);
    assert!(all > 400, "{all} samples are too few to be interrupted in a later round");
    // in the pilot, at its end, and in a later round
    for most in [100, 320, all - 50] {
        let coin = Coin::new(&mixed(40));
        let benchmark = benchmark(&coin, samples);
        let mut keep = Keep { most: Some(most), ..Keep::default() };
        let error = benchmark.evaluate(&coin, 3, Vec::new(), &mut keep).err();
        assert!(matches!(error, Some(EvalError::Keep(_))), "{error:?}");
        let before = coin.drawn.swap(0, Ordering::Relaxed);
        let kept: Vec<ScoredRollout> = keep.kept.into_values().collect();
        assert_eq!(kept.len(), most);
        let judged = benchmark.evaluate(&coin, 3, kept, &mut Keep::default()).unwrap();
        assert_eq!(judged.cost.samples_before, most);
        assert_eq!(coin.drawn.load(Ordering::Relaxed), all - most, "after {before}");
        let questions = benchmark.questions(&coin, &judged);
        assert_eq!(
            (Summary::of(&questions, &benchmark.protocol).unwrap(), questions),
            (wanted.1.clone(), wanted.0.clone())
        );
    }
}

#[test]
fn what_a_server_that_dies_hands_over_holds_no_samples_that_were_never_drawn() {
    let samples = Samples::Adaptive(Adaptive { half_width: 0.02, pilot: 8, most: 64, each: false });
    let whole = Coin::new(&mixed(40));
    let wanted = evaluate(&whole, &benchmark(&whole, samples));
    let all = whole.drawn.load(Ordering::Relaxed);
    // in a later round, when questions want different numbers of samples
    let mut coin = Coin { dies_after: Some(all - 30), ..Coin::new(&mixed(40)) };
    let asked = benchmark(&coin, samples);
    let mut keep = Keep::default();
    let error = asked.evaluate(&coin, 3, Vec::new(), &mut keep).err();
    assert!(matches!(error, Some(EvalError::Rollout(_))), "{error:?}");
    assert_eq!(keep.kept.len(), all - 30);
    assert!(keep.kept.values().all(|scored| !scored.rollout.text.is_empty()));
    coin.dies_after = None;
    let judged = asked.evaluate(&coin, 3, keep.kept.into_values().collect(), &mut Keep::default()).unwrap();
    assert_eq!(coin.drawn.load(Ordering::Relaxed), all, "no sample is drawn twice");
    assert_eq!(asked.questions(&coin, &judged), wanted.0);
}

#[test]
fn every_mean_of_an_adapted_evaluation_is_taken_by_round_and_pass_at_1_is_the_accuracy() {
    let coin = Coin::new(&mixed(120));
    let adaptive = Adaptive { half_width: 0.01, pilot: 8, most: 128, each: false };
    let (questions, summary) = evaluate(&coin, &benchmark(&coin, Samples::Adaptive(adaptive)));
    assert!(questions.iter().any(|question| question.rounds.len() > 1), "it took rounds");
    let accuracy = summary.accuracy.unwrap();
    for at in [&summary.pass_at[0], &summary.pass_hat[0], &summary.majority_at[0]] {
        assert_eq!(at.k, 1);
        let (found, wanted) = (at.estimate, accuracy);
        for (found, wanted) in [
            (found.value, wanted.value),
            (found.interval.low, wanted.interval.low),
            (found.interval.high, wanted.interval.high),
        ] {
            assert!((found - wanted).abs() < 1e-9, "{at:?} {accuracy:?}");
        }
    }
    // only the pilot gave every question eight samples
    assert_eq!(summary.pass_at.last().map(|at| at.k), Some(8));
    let pilot = |question: &Question| {
        let right = question.samples[..8].iter().filter(|sample| sample.right == Some(true)).count();
        eval::stats::pass_at_k(8, right, 8).unwrap()
    };
    let wanted = questions.iter().map(pilot).sum::<f64>() / 120.0;
    assert!((summary.pass_at[3].estimate.value - wanted).abs() < 1e-12, "{:?}", summary.pass_at);
}

#[test]
fn adapting_takes_at_most_six_tenths_of_the_samples_for_the_same_interval() {
    // the goal: the same width for no more than 60 % of the samples
    let coin = Coin::new(&mixed(400));
    let (_, even) = evaluate(&coin, &benchmark(&coin, Samples::Each(64)));
    let half_width = even.over_draws.unwrap().interval.half_width();
    let adaptive = Adaptive { half_width, pilot: 8, most: 256, each: false };
    let (questions, summary) = evaluate(&coin, &benchmark(&coin, Samples::Adaptive(adaptive)));
    let draws = summary.over_draws.unwrap();
    assert_eq!(draws.method, Method::Adaptive);
    assert!(draws.interval.half_width() <= half_width, "{draws:?}");
    assert!(draws.interval.contains(coin.difficulty.iter().sum::<f64>() / 400.0), "{draws:?}");
    let share = summary.samples as f64 / even.samples as f64;
    assert!(share <= 0.6, "{share}");
    // the mean that is reported is the one that lucky first rounds do not bias
    let mean = questions.iter().filter_map(Question::share).sum::<f64>() / 400.0;
    assert!((mean - draws.value).abs() < 1e-9 && (summary.accuracy.unwrap().value - mean).abs() < 1e-9);
}

#[test]
fn a_question_that_does_not_fit_is_counted_as_wrong_and_never_asked() {
    let coin = Coin { too_long: Some(2), ..Coin::new(&[1.0; 10]) };
    let (questions, summary) = evaluate(&coin, &benchmark(&coin, Samples::Each(2)));
    assert_eq!((summary.skipped, summary.samples, coin.drawn.load(Ordering::Relaxed)), (1, 18, 18));
    assert!((summary.accuracy.unwrap().value - 0.9).abs() < 1e-12);
    assert_eq!(questions[2].skipped.as_deref(), Some("too long"));
}

/// Judges all together, and fails while `broken`.
fn slow(coin: &Coin, broken: &Arc<Mutex<bool>>) -> Benchmark {
    let broken = broken.clone();
    let reward = move |rollout: &Rollout| match *broken.lock().unwrap() {
        true => Verdict::failed("no judge there"),
        false => Verdict::right(rollout.text == "yes"),
    };
    let lenient = SumSettings { max_failures: 1.0, ..SumSettings::default() };
    let rewards = Rewards::with_settings(lenient).unwrap();
    let rewards = rewards.with("exact_match", PartSettings::weight(1.0), Box::new(reward)).unwrap();
    Benchmark { rewards: Arc::new(rewards), quick: false, ..benchmark(coin, Samples::Each(3)) }
}

#[test]
fn samples_outlive_a_judge_that_fails_and_are_judged_later() {
    let coin = Coin::new(&mixed(20));
    let broken = Arc::new(Mutex::new(true));
    let benchmark = slow(&coin, &broken);
    let mut keep = Keep::default();
    let judged = benchmark.evaluate(&coin, 3, Vec::new(), &mut keep).unwrap();
    let summary = Summary::of(&benchmark.questions(&coin, &judged), &benchmark.protocol).unwrap();
    assert_eq!((summary.absent, summary.accuracy), (60, None), "what was not judged is not wrong");
    // a judge that was killed on the way leaves samples without a verdict
    let unjudged: Vec<ScoredRollout> = judged
        .samples
        .into_iter()
        .map(|scored| ScoredRollout { score: Default::default(), ..scored })
        .collect();
    *broken.lock().unwrap() = false;
    let judged = benchmark.evaluate(&coin, 3, unjudged, &mut Keep::default()).unwrap();
    assert_eq!(coin.drawn.load(Ordering::Relaxed), 60, "nothing is drawn again");
    let summary = Summary::of(&benchmark.questions(&coin, &judged), &benchmark.protocol).unwrap();
    assert_eq!(summary.absent, 0);
    assert!(summary.accuracy.unwrap().value > 0.3);
}
