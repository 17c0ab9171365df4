//! The benchmarks that are known by name.
//!
//! Before: a name on the command line or in a recipe. After: the program reads the questions and makes a
//! [`crate::Benchmark`]. A benchmark is one row of [`BENCHMARKS`]: its data, prompt, judge, sampling and token budget are its
//! definition, and all of it goes into [`crate::Protocol`] and its hash.

use rollout::Sampling;

/// A benchmark known by name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it is, how many questions it has, and under which licence they are.
    pub about: &'static str,
    /// Where the questions are.
    pub data: Data,
    /// The user's turn, with `{question}`.
    pub template: &'static str,
    /// Whether the prompt is a conversation.
    pub chat: bool,
    /// Who judges.
    pub judge: KnownJudge,
    /// How completions are drawn.
    pub draw: Decoding,
    /// Longest completion, in tokens.
    pub max_tokens: usize,
    /// Which worked examples `--few-shot` takes.
    pub shots: Examples,
}

/// Where questions come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// A file below the folder of datasets, or of the hub.
    File {
        /// Path below the folder of datasets, such as `gsm8k/test.jsonl`.
        path: &'static str,
        /// The same on the hub; none where it has no copy whose columns are known.
        hub: Option<HubFile>,
    },
    /// Sums and differences, drawn from a fixed seed.
    Arithmetic,
    /// Numbers to reach a target with, drawn from a fixed seed.
    Countdown,
}

/// A file of a dataset on the Hugging Face hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubFile {
    /// Owner and name.
    pub dataset: &'static str,
    /// Branch, tag or commit.
    pub revision: &'static str,
    /// Path in the repository.
    pub file: &'static str,
    /// The column of the question.
    pub question: &'static str,
    /// The column of the reference answer.
    pub answer: &'static str,
    /// The column of the id, if there is one.
    pub id: Option<&'static str>,
    /// Whether the answer stands behind `####` of a solution.
    pub solution: bool,
}

/// Who judges.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KnownJudge {
    /// The answer is the reference answer, as mathematics, with this relative tolerance.
    Math {
        /// Largest relative difference of two numbers.
        tolerance: f64,
    },
    /// The completion is the reference answer, letter by letter.
    Exact,
    /// The answer is an expression of the given numbers that has the wanted value.
    Countdown,
}

/// How completions are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decoding {
    /// The likeliest token; one completion a question.
    Greedy,
    /// So many completions a question at temperature 0.6 within the likeliest 0.95, as is usual for small benchmarks of
    /// contests.
    Samples(usize),
}

/// Worked examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Examples {
    /// Word problems with small whole answers.
    Words,
    /// Problems of contests.
    Contest,
    /// None fit.
    None,
}

impl Decoding {
    /// Samples of each question.
    pub fn samples(self) -> usize {
        match self {
            Self::Greedy => 1,
            Self::Samples(count) => count,
        }
    }

    /// How tokens are drawn.
    pub fn sampling(self, max_tokens: usize) -> Sampling {
        let (temperature, top_p) = match self {
            Self::Greedy => (0.0, 1.0),
            Self::Samples(_) => (0.6, 0.95),
        };
        Sampling { temperature, top_p, max_tokens, ..Sampling::default() }
    }
}

/// The prompt of nearly all: what Qwen's own evaluations ask.
const BOXED: &str = "{question}\nPlease reason step by step, and put your final answer within \\boxed{{}}.";

const MATH: KnownJudge = KnownJudge::Math { tolerance: 0.0 };

const fn file(path: &'static str, hub: Option<HubFile>) -> Data {
    Data::File { path, hub }
}

/// The file of a dataset on the hub, at a commit where one is known, with its columns of questions and answers.
const fn hub(
    dataset: &'static str,
    revision: &'static str,
    file: &'static str,
    [question, answer]: [&'static str; 2],
    id: Option<&'static str>,
    solution: bool,
) -> HubFile {
    HubFile { dataset, revision, file, question, answer, id, solution }
}

/// A benchmark of mathematics that asks for a box.
const fn boxed(
    name: &'static str,
    about: &'static str,
    data: Data,
    draw: Decoding,
    max_tokens: usize,
) -> Known {
    Known {
        name,
        about,
        data,
        template: BOXED,
        chat: true,
        judge: MATH,
        draw,
        max_tokens,
        shots: Examples::Contest,
    }
}

/// All of them.
pub const BENCHMARKS: &[Known] = &[
    Known {
        shots: Examples::Words,
        ..boxed(
            "gsm8k",
            "1319 word problems of primary school, test split (MIT)",
            file(
                "gsm8k/test.jsonl",
                Some(hub(
                    "openai/gsm8k",
                    "740312add88f781978c0658806c59bc2815b9866",
                    "main/test-00000-of-00001.parquet",
                    ["question", "answer"],
                    None,
                    true,
                )),
            ),
            Decoding::Greedy,
            512,
        )
    },
    boxed(
        "math",
        "5000 problems of high-school contests in five levels, test split (MIT); holds MATH-500",
        file("math/test.jsonl", None),
        Decoding::Greedy,
        2048,
    ),
    boxed(
        "math500",
        "500 of the problems of MATH, the split of PRM800K (MIT)",
        file(
            "math500/test.jsonl",
            Some(hub(
                "HuggingFaceH4/MATH-500",
                "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
                "test.jsonl",
                ["problem", "answer"],
                Some("unique_id"),
                false,
            )),
        ),
        Decoding::Greedy,
        2048,
    ),
    boxed(
        "aime24",
        "30 problems of AIME 2024, whole numbers below 1000 (problems © MAA)",
        file(
            "aime24/test.jsonl",
            Some(hub(
                "HuggingFaceH4/aime_2024",
                "2fe88a2f1091d5048c0f36abc874fb997b3dd99a",
                "data/train-00000-of-00001.parquet",
                ["problem", "answer"],
                Some("id"),
                false,
            )),
        ),
        Decoding::Samples(32),
        8192,
    ),
    boxed(
        "aime25",
        "30 problems of AIME 2025, whole numbers below 1000 (problems © MAA)",
        file(
            "aime25/test.jsonl",
            Some(hub(
                "math-ai/aime25",
                "563bb8404243c5f09de6ec262f2db674fe5bce9b",
                "test.jsonl",
                ["problem", "answer"],
                Some("id"),
                false,
            )),
        ),
        Decoding::Samples(32),
        8192,
    ),
    boxed(
        "amc23",
        "40 problems of AMC 12 2023, without choices (problems © MAA)",
        file(
            "amc23/test.jsonl",
            Some(hub(
                "math-ai/amc23",
                "80815d37005feb82cd7f8fbc6901d5d3eff43057",
                "test-00000-of-00001.parquet",
                ["question", "answer"],
                Some("id"),
                false,
            )),
        ),
        Decoding::Samples(16),
        4096,
    ),
    Known {
        judge: KnownJudge::Math { tolerance: 0.01 },
        ..boxed(
            "minerva_math",
            "272 problems of undergraduate courses; numbers within 1 % (CC BY-NC-SA)",
            file(
                "minerva_math/test.jsonl",
                Some(hub("math-ai/minervamath", "main", "test.jsonl", ["question", "answer"], None, false)),
            ),
            Decoding::Greedy,
            2048,
        )
    },
    boxed(
        "olympiadbench",
        "675 problems of olympiads, open-ended, in English and without pictures (MIT, Apache-2.0)",
        file("olympiadbench/test.jsonl", None),
        Decoding::Greedy,
        4096,
    ),
    boxed(
        "college_math",
        "2818 problems of college textbooks (licence by row, some non-commercial)",
        file("college_math/test.jsonl", None),
        Decoding::Greedy,
        2048,
    ),
    Known {
        shots: Examples::Words,
        ..boxed(
            "svamp",
            "1000 word problems of one step, with distractions (MIT)",
            file("svamp/test.jsonl", None),
            Decoding::Greedy,
            512,
        )
    },
    Known {
        name: "arithmetic",
        about: "500 sums and differences of numbers up to two digits; needs no file",
        data: Data::Arithmetic,
        template: "{question}",
        chat: false,
        judge: KnownJudge::Exact,
        draw: Decoding::Greedy,
        max_tokens: 12,
        shots: Examples::None,
    },
    Known {
        name: "countdown",
        about: "500 targets to reach with three or four numbers, each used once; needs no file",
        data: Data::Countdown,
        template: "{question}\nPlease reason step by step, and put your final expression within \\boxed{{}}.",
        chat: true,
        judge: KnownJudge::Countdown,
        draw: Decoding::Greedy,
        max_tokens: 1024,
        shots: Examples::None,
    },
];

/// The benchmark of that name.
pub fn known(name: &str) -> Option<&'static Known> {
    BENCHMARKS.iter().find(|known| known.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_every_template_asks_the_question() {
        let names: BTreeSet<&str> = BENCHMARKS.iter().map(|known| known.name).collect();
        assert_eq!(names.len(), BENCHMARKS.len());
        for known in BENCHMARKS {
            assert!(known.template.contains("{question}"), "{}", known.name);
            assert!(known.draw.sampling(known.max_tokens).problem().is_none(), "{}", known.name);
        }
        assert_eq!(known("gsm8k").map(|known| known.max_tokens), Some(512));
        assert_eq!(known("gsm9k"), None);
    }
}
