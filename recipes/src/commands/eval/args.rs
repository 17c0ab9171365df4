//! The arguments of `evenkeel eval`.

use std::path::PathBuf;

use clap::Args;

use crate::commands::args::{DatasetArgs, LoadArgs, ServingArgs, SetArgs, count};

const SET: &str =
    "Replace a value of every benchmark, such as `--set prompt.chat=false`; may be given several times";
const DATA: &str = "The folder of datasets, with gsm8k/test.jsonl and so on; by default the variable EVENKEEL_DATA names it. What is \
                    not there is fetched from the hub, where a copy is known";

/// `evenkeel eval`
#[derive(Debug, Args)]
#[command(mut_arg("set", |set| set.help(SET).conflicts_with("resume")))]
#[command(mut_arg("data", |data| data.help(DATA)))]
pub(crate) struct EvalArgs {
    /// Folders in Hugging Face layout, runs (their newest checkpoint; RUN@best or RUN@120 for another), names on the hub, `tiny`,
    /// or what a server calls them.
    /// NAME=MODEL gives one a name of its own. The first is what the others are compared with.
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    pub(crate) models: Vec<String>,
    /// Benchmarks by name, or files that end in .toml, with commas between them.
    #[arg(
        long,
        short,
        value_name = "NAME,NAME",
        value_delimiter = ',',
        required_unless_present = "resume",
        conflicts_with = "resume"
    )]
    pub(crate) bench: Vec<String>,
    #[command(flatten)]
    pub(crate) datasets: DatasetArgs,
    /// Completions of each question.
    #[arg(long, short = 'n', conflicts_with = "resume", value_parser = count(1_000_000))]
    pub(crate) samples: Option<usize>,
    /// Draw as many completions of each question as it takes for the 95 % interval over draws to be the mean ± this, such as
    /// 0.02; at most 256.
    #[arg(long, value_name = "HALF-WIDTH", conflicts_with_all = ["samples", "resume"])]
    pub(crate) adaptive: Option<f64>,
    /// Draw as many completions of each question as it takes for its own chance of being right to be known to ± this, such as
    /// 0.1, to label questions by how hard they are; about 256 at most.
    #[arg(long, value_name = "HALF-WIDTH", conflicts_with_all = ["samples", "adaptive", "resume"])]
    pub(crate) adaptive_each: Option<f64>,
    /// How pass@k, pass^k and maj@k are counted: unbiased, over all choices of k samples and with ties broken evenly, or as
    /// lighteval, qwen (Qwen2.5-Math) or verl do. By default the benchmark's, which is unbiased.
    #[arg(long, value_name = "RULE", conflicts_with = "resume")]
    pub(crate) at_k: Option<eval::AtKRule>,
    /// Only the first so many questions of each benchmark.
    #[arg(long, value_name = "N", conflicts_with = "resume", value_parser = count(1_000_000_000))]
    pub(crate) limit: Option<usize>,
    /// Worked examples in front of every question.
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    pub(crate) few_shot: Option<usize>,
    /// Logits are divided by it; 0 takes the likeliest token. By default the benchmark's.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) temperature: Option<f64>,
    /// Longest completion, in tokens; by default the benchmark's.
    #[arg(long, conflicts_with = "resume", value_parser = count(1 << 24))]
    pub(crate) max_tokens: Option<usize>,
    #[command(flatten)]
    pub(crate) sets: SetArgs,
    /// Where the draws come from: the same seed gives the same completions.
    #[arg(long, default_value_t = 0, conflicts_with = "resume")]
    pub(crate) seed: u64,
    /// The models are runs of one recipe that differ in the seed: split their spread into chance and quality.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) replicas: bool,
    /// The folder to make; by default evals/MODEL-BENCHMARK. One that exists is never overwritten.
    #[arg(long, value_name = "FOLDER", conflicts_with = "resume")]
    pub(crate) out: Option<PathBuf>,
    /// Go on with an evaluation that was interrupted: no sample is drawn twice, and the result is the same.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) resume: Option<PathBuf>,
    /// Ask this server with OpenAI's interface, such as http://127.0.0.1:8000.
    #[arg(long, value_name = "URL", conflicts_with = "resume")]
    pub(crate) server: Option<String>,
    #[command(flatten)]
    pub(crate) serving: ServingArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Questions of each benchmark to put on the page.
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub(crate) read: usize,
    /// Print evaluation.json instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}
