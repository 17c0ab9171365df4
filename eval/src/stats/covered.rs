//! How often the intervals that reports print hold the truth, by simulation: the table in `docs/coverage.md`.
//!
//! A few cells are tried with every run of the tests; the whole table is written by
//! `cargo test --release --workspace --lib the_table_of_coverage -- --ignored --nocapture`, with `EVENKEEL_EVALUATIONS` simulated
//! evaluations of each cell (10 000 by default). What comes out depends on that number alone, not on the threads.

use std::collections::HashMap;
use std::fmt::Write as _;

use rayon::prelude::*;

use super::{
    AdaptiveSettings, Interval, RunVariance, Welch, adaptive_mean, clopper_pearson,
    distributions::{binomial, normal_two_sided, t_two_sided},
    draws, majority, mean, mean_interval,
    paired::Centred,
    pass_at_k, pass_hat_k, plan,
    simulate::{Stream, difficulties},
};
use crate::summary::{CONFIDENCE, share};

const QUESTIONS: [usize; 4] = [10, 30, 200, 1319];
const DRAWS: [usize; 3] = [1, 8, 16];
/// Simulated evaluations that share a stream of random numbers.
const CHUNK: usize = 250;

/// How hard questions are: a question's chance is one of these, all equally likely.
fn profiles() -> Vec<(&'static str, Vec<f64>)> {
    let mut rare = vec![0.0; 100];
    rare[0] = 0.9;
    vec![
        ("all easy", vec![0.98]),
        ("bimodal", vec![0.02, 0.98]),
        ("Beta(0.1, 1.9)", difficulties(0.1, 1.9)),
        ("Beta(0.5, 0.5)", difficulties(0.5, 0.5)),
        ("1 % solved", rare),
    ]
}

/// Intervals that reports print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Printed {
    Accuracy,
    Exact,
    OverDraws,
    Adaptive,
    PassAt,
    PassHat,
    Majority,
    Paired,
    Runs,
    Welch,
    Lengths,
}

const PRINTED: [(Printed, &str); 11] = [
    (Printed::Accuracy, "Accuracy, over questions"),
    (Printed::Exact, "Accuracy, exact"),
    (Printed::OverDraws, "Accuracy, over draws"),
    (
        Printed::Adaptive,
        "Accuracy, over draws, with `--adaptive` to half the half-width that the pilot would give",
    ),
    (Printed::PassAt, "pass@k, k half of the draws"),
    (Printed::PassHat, "pass^k, k half of the draws"),
    (Printed::Majority, "maj@k, k half of the draws, three wrong answers"),
    (Printed::Paired, "Paired difference, of a system that solves a tenth of what the other misses"),
    (Printed::Runs, "Mean of three runs, over runs"),
    (Printed::Welch, "Difference of two recipes with two runs each"),
    (Printed::Lengths, "Mean length, of log-normal lengths"),
];

/// One place of the table.
struct Cell<'a> {
    printed: Printed,
    table: &'a [f64],
    questions: usize,
    draws: usize,
}

impl Cell<'_> {
    /// Whether such an interval is printed, and another number of draws would be another case.
    fn exists(&self) -> bool {
        match self.printed {
            Printed::Exact | Printed::Lengths => self.draws == 1,
            Printed::Accuracy | Printed::Paired | Printed::Runs | Printed::Welch => true,
            // plans take long for many questions, and more questions only help
            Printed::Adaptive => self.draws > 1 && self.questions <= 200,
            _ => self.draws > 1,
        }
    }

    /// How often the interval holds the truth, in so many evaluations.
    fn coverage(&self, evaluations: usize, seed: u64) -> f64 {
        let covered = |chunk: usize| {
            let mut trial = Trial::new(self, Stream::new(1_000_003 * seed + chunk as u64));
            (0..CHUNK.min(evaluations - chunk * CHUNK)).filter(|_| trial.covers()).count()
        };
        let all: usize = (0..evaluations.div_ceil(CHUNK)).into_par_iter().map(covered).sum();
        all as f64 / evaluations as f64
    }
}

/// Evaluations of one cell, one after the other.
struct Trial<'a> {
    cell: &'a Cell<'a>,
    stream: Stream,
    /// The figure of every number of right draws, or the truth of every chance.
    by_count: Vec<f64>,
    truth: f64,
    votes: HashMap<[usize; 4], f64>,
}

/// How often each of three wrong answers is given.
const WRONG: [f64; 3] = [0.5, 0.3, 0.2];

impl<'a> Trial<'a> {
    fn new(cell: &'a Cell<'a>, stream: Stream) -> Self {
        let (n, k) = (cell.draws, (cell.draws / 2).max(1));
        let by_count = |of: fn(usize, usize, usize) -> Result<f64, super::StatsError>| {
            (0..=n).map(|right| of(n, right, k).unwrap()).collect()
        };
        let over = |of: &dyn Fn(f64) -> f64| mean(&cell.table.iter().map(|p| of(*p)).collect::<Vec<f64>>());
        let (by_count, truth) = match cell.printed {
            Printed::PassAt => (by_count(pass_at_k), over(&|p| 1.0 - (1.0 - p).powi(k as i32))),
            Printed::PassHat => (by_count(pass_hat_k), over(&|p| p.powi(k as i32))),
            Printed::Majority => (Vec::new(), over(&|p| vote(p, k))),
            Printed::Paired => (Vec::new(), over(&|p| 0.1 * (1.0 - p))),
            Printed::Welch => (Vec::new(), 0.0),
            Printed::Lengths => (Vec::new(), (0.5 * SIGMA * SIGMA).exp()),
            _ => ((0..=n).map(|right| right as f64 / n as f64).collect(), over(&|p| p)),
        };
        Self { cell, stream, by_count, truth, votes: HashMap::new() }
    }

    fn chance(&mut self) -> f64 {
        self.cell.table[self.stream.below(self.cell.table.len())]
    }

    fn covers(&mut self) -> bool {
        let (n, questions) = (self.cell.draws, self.cell.questions);
        let mut truth = self.truth;
        let interval = match self.cell.printed {
            Printed::Accuracy | Printed::PassAt | Printed::PassHat => {
                let values: Vec<f64> = (0..questions)
                    .map(|_| {
                        let p = self.chance();
                        self.by_count[self.stream.successes(n, p)]
                    })
                    .collect();
                share(&values, n).unwrap().expect("there are questions").interval
            }
            Printed::Exact => {
                let right = (0..questions).map(|_| {
                    let p = self.chance();
                    self.stream.successes(1, p)
                });
                clopper_pearson(right.sum(), questions, CONFIDENCE).unwrap()
            }
            Printed::OverDraws | Printed::Adaptive => {
                let chances: Vec<f64> = (0..questions).map(|_| self.chance()).collect();
                truth = mean(&chances);
                let first: Vec<(usize, usize)> =
                    chances.iter().map(|p| (self.stream.successes(n, *p), n)).collect();
                match self.cell.printed {
                    Printed::OverDraws => draws(&first, CONFIDENCE).unwrap().interval,
                    _ => self.adapted(&chances, first),
                }
            }
            Printed::Majority => {
                let values: Vec<f64> = (0..questions).map(|_| self.vote()).collect();
                share(&values, n).unwrap().expect("there are questions").interval
            }
            Printed::Paired => {
                let differences: Vec<f64> = (0..questions)
                    .map(|_| {
                        let p = self.chance();
                        let first = self.stream.successes(n, p) as f64;
                        (self.stream.successes(n, p + 0.1 * (1.0 - p)) as f64 - first) / n as f64
                    })
                    .collect();
                let Centred { centre, standard_error } = Centred::of(&differences, true);
                Interval::around(centre, t_two_sided(CONFIDENCE, questions as f64 - 1.0) * standard_error)
            }
            Printed::Runs => {
                let chances: Vec<f64> = (0..questions).map(|_| self.chance()).collect();
                truth = mean(&chances);
                let runs: Vec<Vec<f64>> = (0..3).map(|_| self.run(&chances)).collect();
                RunVariance::of(&runs, n, CONFIDENCE).unwrap().accuracy.interval
            }
            Printed::Welch => {
                let chances: Vec<f64> = (0..questions).map(|_| self.chance()).collect();
                let mut group = || -> Vec<f64> { (0..2).map(|_| mean(&self.run(&chances))).collect() };
                Welch::of_shares(&group(), &group(), n * questions, CONFIDENCE).unwrap().interval
            }
            Printed::Lengths => {
                let lengths: Vec<f64> =
                    (0..questions).map(|_| (SIGMA * self.stream.normal()).exp()).collect();
                mean_interval(&lengths, CONFIDENCE).unwrap().interval
            }
        };
        interval.contains(truth)
    }

    /// A training run on questions of these chances, which is better or worse than another.
    fn run(&mut self, chances: &[f64]) -> Vec<f64> {
        let n = self.cell.draws;
        let better = 0.2 * self.stream.normal();
        let share = |p: &f64| {
            let p = (p + better * p * (1.0 - p)).clamp(0.0, 1.0);
            self.stream.successes(n, p) as f64 / n as f64
        };
        chances.iter().map(share).collect()
    }

    /// maj@k of a question's draws.
    fn vote(&mut self) -> f64 {
        let p = self.chance();
        let n = self.cell.draws;
        let right = self.stream.successes(n, p);
        let first = self.stream.successes(n - right, WRONG[0]);
        let second = self.stream.successes(n - right - first, WRONG[1] / (1.0 - WRONG[0]));
        let counts = [right, first, second, n - right - first - second];
        *self.votes.entry(counts).or_insert_with(|| majority(right, &counts[1..], 0, n / 2).unwrap())
    }

    /// Rounds until the interval is half as wide as the pilot alone would make it.
    fn adapted(&mut self, chances: &[f64], first: Vec<(usize, usize)>) -> Interval {
        let n = self.cell.draws;
        let within: f64 = chances.iter().map(|p| p * (1.0 - p)).sum();
        let pilot = normal_two_sided(CONFIDENCE) * (within / n as f64).sqrt() / chances.len() as f64;
        let half_width = (0.5 * pilot).max(1e-3);
        let settings = AdaptiveSettings { most: 16 * n, ..AdaptiveSettings::default() };
        let mut drawn = vec![n; chances.len()];
        let mut rounds = vec![first];
        loop {
            let wanted = plan(&rounds, half_width, &settings).unwrap();
            if wanted == drawn {
                return adaptive_mean(&rounds, CONFIDENCE).unwrap().interval;
            }
            let more = wanted.iter().zip(&drawn).map(|(wanted, drawn)| wanted - drawn);
            rounds.push(more.zip(chances).map(|(n, p)| (self.stream.successes(n, *p), n)).collect());
            drawn = wanted;
        }
    }
}

/// Of the logarithms of lengths.
const SIGMA: f64 = 0.6;

/// The chance that a vote of k fresh draws is right.
fn vote(p: f64, k: usize) -> f64 {
    let pmf = |n: usize, taken: usize, p: f64| match p {
        p if p <= 0.0 => f64::from(u8::from(taken == 0)),
        p if p >= 1.0 => f64::from(u8::from(taken == n)),
        p => binomial(n, taken, p),
    };
    let mut chance = 0.0;
    for right in 1..=k {
        for first in 0..=k - right {
            for second in 0..=k - right - first {
                let counts = [right, first, second, k - right - first - second];
                let most = *counts.iter().max().expect("four");
                if right == most {
                    let ties = counts.iter().filter(|count| **count == most).count();
                    let rest = k - right;
                    chance += pmf(k, right, p)
                        * pmf(rest, first, WRONG[0])
                        * pmf(rest - first, second, WRONG[1] / (1.0 - WRONG[0]))
                        / ties as f64;
                }
            }
        }
    }
    chance
}

/// The whole table as Markdown.
fn table(evaluations: usize) -> String {
    let profiles = profiles();
    let mut page = format!(
        "How often the 95 % intervals that reports print hold the truth, in {evaluations} simulated evaluations of each kind.\n\n\
         A question's chance of being answered rightly is drawn from a profile: *all easy*, 0.98 for every question; *bimodal*, \
         0.02 for half of them and 0.98 for the others; two beta distributions; *1 % solved*, 0.9 for one question in a hundred \
         and 0 for the others. Intervals over questions are held against what all questions of the profile would give, those \
         over draws against these very questions with ever more draws, those over runs against ever more runs. A number in \
         bold is below 0.93; one with an arrow is above 0.98: the interval is wider than it need be. Over few questions it is, \
         as they cannot tell how rare others are; of paired differences with several draws it is, by the halves of a question \
         that are added; over two or three runs it is, as Student's t of so few is wide and the variance of a run is taken to \
         be that of its draws at least.\n\nThe table is written by a test: `EVENKEEL_EVALUATIONS=10000 cargo test --release \
         --workspace --lib the_table_of_coverage -- --ignored`.\n"
    );
    for (place, (printed, name)) in PRINTED.iter().enumerate() {
        // writing to a string does not fail
        let _ = write!(page, "\n# {name}\n\n| profile | draws |");
        QUESTIONS.iter().for_each(|questions| {
            let _ = write!(page, " {questions} questions |");
        });
        page.push_str("\n|---|---:|");
        page.push_str(&"---:|".repeat(QUESTIONS.len()));
        page.push('\n');
        for (number, (profile, chances)) in profiles.iter().enumerate() {
            for draws in DRAWS {
                let cells = QUESTIONS.map(|questions| {
                    let cell = Cell { printed: *printed, table: chances, questions, draws };
                    let seed = (((place * 10 + number) * 100 + draws) * 10_000 + questions) as u64;
                    cell.exists().then(|| marked(cell.coverage(evaluations, seed)))
                });
                if cells.iter().all(Option::is_none) {
                    continue;
                }
                let _ = write!(page, "| {profile} | {draws} |");
                cells.iter().for_each(|cell| {
                    let _ = write!(page, " {} |", cell.as_deref().unwrap_or("–"));
                });
                page.push('\n');
            }
            // lengths have nothing to do with how hard questions are
            if *printed == Printed::Lengths {
                break;
            }
        }
    }
    page
}

fn marked(coverage: f64) -> String {
    match coverage {
        low if low < 0.93 => format!("**{low:.3}**"),
        high if high > 0.98 => format!("{high:.3} ↑"),
        good => format!("{good:.3}"),
    }
}

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/coverage.md");

#[test]
#[ignore = "writes docs/coverage.md, in minutes"]
fn the_table_of_coverage_is_written() {
    let evaluations = match std::env::var("EVENKEEL_EVALUATIONS") {
        Ok(text) => text.parse().expect("EVENKEEL_EVALUATIONS is a number"),
        Err(_) => 10_000,
    };
    std::fs::write(FILE, table(evaluations)).expect("docs/coverage.md can be written");
}

#[test]
fn the_table_in_the_docs_is_whole_and_keeps_what_it_promises() {
    let page = std::fs::read_to_string(FILE).expect("docs/coverage.md");
    assert!(PRINTED.iter().all(|(_, name)| page.contains(&format!("\n# {name}\n"))), "a heading is missing");
    let rows: Vec<&str> =
        page.lines().filter(|line| line.starts_with("| ") && !line.contains("profile")).collect();
    let cells = rows.iter().flat_map(|row| row.split('|').skip(3)).map(str::trim);
    let found: Vec<f64> = cells.filter_map(|cell| cell.trim_matches(['*', ' ', '↑']).parse().ok()).collect();
    assert!(found.len() > 400, "{} cells", found.len());
    let least = found.iter().copied().fold(1.0, f64::min);
    assert!(least >= 0.91, "{least} is in the table");
    let low = found.iter().filter(|coverage| **coverage < 0.93).count();
    assert!(low * 50 <= found.len(), "{low} of {} cells are below 0.93", found.len());
}

#[test]
fn what_is_printed_covers_where_it_is_hardest() {
    let profiles = profiles();
    let cases: [(Printed, usize, usize, usize); 14] = [
        (Printed::Accuracy, 2, 30, 16),
        (Printed::Accuracy, 4, 10, 1),
        (Printed::Accuracy, 4, 200, 8),
        (Printed::Accuracy, 3, 30, 8),
        (Printed::PassHat, 2, 200, 16),
        (Printed::PassHat, 4, 30, 8),
        (Printed::PassAt, 0, 200, 16),
        (Printed::PassAt, 2, 30, 16),
        (Printed::Majority, 2, 30, 8),
        (Printed::OverDraws, 4, 30, 8),
        (Printed::Paired, 0, 30, 1),
        (Printed::Paired, 4, 200, 8),
        (Printed::Runs, 1, 30, 1),
        (Printed::Welch, 0, 30, 1),
    ];
    for (place, (printed, profile, questions, draws)) in cases.into_iter().enumerate() {
        let cell = Cell { printed, table: &profiles[profile].1, questions, draws };
        let found = cell.coverage(4000, place as u64);
        // four standard errors of 0.95 in 4000 below 0.935
        assert!(
            found >= 0.921,
            "{printed:?}, {}, {questions} questions of {draws}: {found}",
            profiles[profile].0
        );
    }
}

#[test]
fn beta_chances_of_few_right_answers_have_pass_intervals_that_hold() {
    // pass^8 of 16 draws and pass@8, 200 questions: Wilson's interval alone covered with 0.62 to 0.75
    for (printed, a, b) in
        [(Printed::PassHat, 2.0, 6.0), (Printed::PassHat, 0.1, 1.9), (Printed::PassAt, 6.0, 2.0)]
    {
        let chances = difficulties(a, b);
        let cell = Cell { printed, table: &chances, questions: 200, draws: 16 };
        let found = cell.coverage(3000, 7);
        assert!(found >= 0.93, "{printed:?} of Beta({a}, {b}): {found}");
    }
}
