//! The command line.

use std::borrow::Cow;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use data::printable;

use crate::commands::bench::{self, BenchArgs, with_commas};
use crate::commands::benchmarks::{self, BenchmarksArgs};
use crate::commands::check::{self, CheckArgs};
use crate::commands::compare::{self, CompareArgs};
use crate::commands::data::{self as data_command, DataArgs};
use crate::commands::eval::{self, EvalArgs};
use crate::commands::explain::{self, ExplainArgs};
use crate::commands::metrics::{self, MetricsArgs};
use crate::commands::presets::{self, PresetsArgs};
use crate::commands::recipes::{self, RecipesArgs};
use crate::commands::reward::{self, RewardArgs};
use crate::commands::sample::{self, SampleArgs};
use crate::commands::scan::{self, ScanArgs};
use crate::commands::schema;
use crate::commands::train::{self, TrainArgs};
use crate::commands::variance::{self, VarianceArgs};
use crate::custom::CustomRewards;
use crate::interrupt::{self, Interrupted, Session, Stop};
use crate::message::{self, Printable};
use crate::progress::line;
use crate::usage::is_usage;

/// Post-trains language models with reinforcement learning, from a short recipe.
///
/// Try `evenkeel train tiny`: it needs nothing but this program, takes some seconds and ends with a policy that does
/// sums. Exit codes: 0 success, 1 a failure, 2 a mistake in the command line or the recipe, 130 ended by Ctrl-C, 143 by SIGTERM
/// and 129 by SIGHUP: `train`, `eval` and `sample --out` then save what they have and print the command that goes on; a second
/// signal ends them at once.
#[derive(Debug, Parser)]
#[command(name = "evenkeel", version, about, long_about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a policy as a recipe says.
    ///
    /// Writes a run folder: the recipe as resolved, metrics.jsonl with one line a step, every step's rollouts, and
    /// checkpoints in Hugging Face layout that transformers and vLLM load.
    Train(TrainArgs),
    /// Show what a recipe comes to, without training.
    ///
    /// Prints the recipe with every default filled in, how many rollouts and updates it makes, what memory, disk and time it
    /// takes, what of that this machine has not, and what its reward says of a few reference answers.
    Check(CheckArgs),
    /// Show what a recipe's policy will read, or what a run knows of its prompts.
    ///
    /// Rendered prompts with their special tokens, token lengths against the limits, questions that are asked twice, reference
    /// answers that cannot be read, and with --against how many prompts share runs of words with a benchmark. With --stats the
    /// prompts of a run: pass rate, visits, posterior, influence. No weights are loaded.
    Data(DataArgs),
    /// Let a checkpoint, or a model behind a server, complete prompts.
    ///
    /// One prompt is printed as it is written; a file of prompts becomes a file of rollouts, with tokens and log-probs.
    Sample(Box<SampleArgs>),
    /// Measure models on benchmarks, with an interval beside every figure.
    ///
    /// Every model answers every benchmark's questions; with the same seed they meet the same luck. Leaves a folder with all
    /// samples, evaluation.json, a page (report.html) and the figures in the shape of lm-evaluation-harness. Benchmarks are
    /// known by name (see `evenkeel benchmarks`) or files of your own that end in .toml.
    Eval(Box<EvalArgs>),
    /// Compare runs, or evaluations of models: curves side by side, and whether a difference is shown at all.
    ///
    /// Runs are compared by step, rollouts, tokens and time, and on the questions that both were measured on. Evaluations are
    /// compared question by question, if they were measured in the same way.
    Compare(CompareArgs),
    /// List the benchmarks known by name, or print one as a recipe, to start your own from.
    Benchmarks(BenchmarksArgs),
    /// Show what a recipe's rewards say of completions in a file.
    ///
    /// The file has JSON lines: a run's rollouts, or rows with a completion, a prompt and a reference answer. For each the
    /// reward and its parts, the answer that was found, and why it was judged so. No model is loaded; the recipe may hold
    /// nothing but [rewards].
    Reward(RewardArgs),
    /// Measure how much bias and noise each estimator of the policy gradient has, at a fixed policy.
    ///
    /// Draws many groups of rollouts of a few prompts and compares baselines and their weights: slope and bias against an
    /// unbiased reference, variance at equal signal, signal-to-noise ratio, each with a 95 % interval; and where the
    /// optimal baseline pays. Nothing is trained. `bandit` and `two-step` in place of a recipe are toy policies that have
    /// formulas.
    Variance(VarianceArgs),
    /// Scan a recipe's prompts before training: how long each is, and how much the directions of its tokens agree.
    ///
    /// Writes a line a prompt and prints quantiles and the rank correlation with length. A scan that is ended goes on when it is
    /// called again. A run with selection = { angle = {} } makes one itself, or takes it by `evenkeel train --scan`.
    Scan(ScanArgs),
    /// Measure this machine, and how near training and sampling come to its limits.
    ///
    /// First the peak of multiply-adds and the memory's bandwidth, then matrix products, decoding and training steps at the
    /// shapes of real models, with arbitrary weights. Takes some minutes and, at 0.6B, up to 20 GB of memory.
    Bench(BenchArgs),
    /// List the numbers in the lines of `metrics.jsonl`, with their units, or say what one is.
    Metrics(MetricsArgs),
    /// List the published methods that a recipe may name by `preset`, or print the settings of one.
    Presets(PresetsArgs),
    /// List the built-in recipes, or print one.
    Recipes(RecipesArgs),
    /// Say what a key of a recipe is: its type, default and choices, and where it comes from.
    ///
    /// A table is listed with its keys; without a name, the recipe's own are.
    Explain(ExplainArgs),
    /// Print the JSON Schema of a recipe, for editors that complete and check TOML.
    ///
    /// With Taplo or Even Better TOML, write it to a file and put `#:schema FILE` on the first line of a recipe.
    Schema,
}

/// Reads the command line, runs it, says what went wrong.
pub(crate) fn main(
    custom: &CustomRewards,
    stop: Stop,
    signals: bool,
    arguments: impl IntoIterator<Item = std::ffi::OsString>,
) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("EVENKEEL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // a program with a subscriber of its own keeps it
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| crate::message::Log)
        // colours are escape sequences, and a log may quote those of others, which are not obeyed
        .with_ansi(false)
        // it would panic where standard error is closed, as after a terminal that went away
        .log_internal_errors(false)
        .try_init();
    let words: Vec<std::ffi::OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(with_commas(words.iter().cloned())) {
        Ok(cli) => cli,
        Err(error) => {
            // help and version are no mistakes; nobody is left to tell if printing fails
            let text = error.render().to_string();
            match printable(&text) {
                Cow::Borrowed(_) => drop(error.print()),
                Cow::Owned(shown) => line(shown.trim_end()),
            }
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let session = Session::new(stop, words.clone());
    if signals
        && cli.command.keeps()
        && let Err(error) = interrupt::watch_signals(&session.stop)
    {
        line(&format!("signals will end the program at once, as they cannot be handled: {error:#}"));
    }
    let out = std::io::stdout().lock();
    // JSON for another program has its bytes as they are; on a terminal it has other escapes for some characters
    let exact = words.iter().any(|word| word == "--json") && !std::io::IsTerminal::is_terminal(&out);
    let to: Box<dyn Write> = if exact { Box::new(out) } else { Box::new(Printable::new(out)) };
    let mut out = Output { to, closed: false };
    match execute(&cli, custom, &session, &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if out.left(&error) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
                line(&interrupted.to_string());
                session.stop.tell_how_to_go_on();
                return ExitCode::from(interrupted.exit_code());
            }
            line(&format!("error: {}", message::of(&error)));
            session.stop.tell_how_to_go_on();
            ExitCode::from(if is_usage(&error) { 2 } else { 1 })
        }
    }
}

/// Standard output, and whether its reader has gone away.
struct Output<W> {
    to: W,
    closed: bool,
}

impl<W: Write> Output<W> {
    /// True of the error of a reader that went away, as `| head` does. A broken pipe elsewhere, such as to a
    /// program that judges or to a server, is a failure.
    fn left(&self, error: &anyhow::Error) -> bool {
        let broken = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
        self.closed && error.root_cause().downcast_ref().is_some_and(broken)
    }

    fn noted<T>(&mut self, outcome: std::io::Result<T>) -> std::io::Result<T> {
        self.closed |= outcome.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe);
        outcome
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let outcome = self.to.write(bytes);
        self.noted(outcome)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let outcome = self.to.flush();
        self.noted(outcome)
    }
}

impl Command {
    /// True of a command that keeps something while it runs, to go on with.
    fn keeps(&self) -> bool {
        match self {
            Self::Train(_) | Self::Eval(_) | Self::Scan(_) => true,
            Self::Sample(args) => args.writes_a_file(),
            _ => false,
        }
    }
}

fn execute(cli: &Cli, custom: &CustomRewards, session: &Session, out: &mut dyn Write) -> Result<()> {
    match &cli.command {
        Command::Train(args) => train::run(args, custom, session, out),
        Command::Check(args) => check::run(args, custom, out),
        Command::Data(args) => data_command::run(args, out),
        Command::Explain(args) => explain::run(args, out),
        Command::Schema => schema::run(out),
        Command::Eval(args) => eval::run(args, custom, session, out),
        Command::Compare(args) => compare::run(args, out),
        Command::Benchmarks(args) => benchmarks::run(args, out),
        Command::Reward(args) => reward::run(args, custom, out),
        Command::Sample(args) => sample::run(args, session, out),
        Command::Scan(args) => scan::run(args, custom, session, out),
        Command::Variance(args) => variance::run(args, custom, out),
        Command::Bench(args) => bench::run(args, out),
        Command::Metrics(args) => metrics::run(args, out),
        Command::Presets(args) => presets::run(args, out),
        Command::Recipes(args) => recipes::run(args, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, ErrorKind};

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(Error::from(ErrorKind::BrokenPipe))
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_a_reader_of_our_own_output_that_leaves_is_no_failure() {
        let elsewhere = anyhow::Error::from(Error::from(ErrorKind::BrokenPipe)).context("a server left");
        let mut whole = Output { to: Vec::new(), closed: false };
        writeln!(whole, "text").expect("written");
        assert!(!whole.left(&elsewhere));
        let mut gone = Output { to: Gone, closed: false };
        let own = anyhow::Error::from(writeln!(gone, "text").unwrap_err());
        assert!(gone.left(&own.context("could not print")));
        assert!(!gone.left(&anyhow::anyhow!("something else")));
    }

    #[test]
    fn lists_of_bench_have_spaces_or_commas() {
        let bench = |line: &str| match Cli::try_parse_from(with_commas(line.split(' ').map(Into::into))) {
            Ok(Cli { command: Command::Bench(args) }) => args,
            Ok(_) => panic!("{line}: another command"),
            Err(error) => panic!("{line}: {error}"),
        };
        for line in [
            "evenkeel bench --rows 1 8 32",
            "evenkeel bench --rows 1,8,32",
            "evenkeel bench --rows 1,8 32",
            "evenkeel bench --rows=1,8,32",
            "evenkeel bench",
        ] {
            assert_eq!(bench(line).rows, [1, 8, 32], "{line}");
        }
        let both =
            bench("evenkeel bench --rows 4 8 decode --context 64 128 --shape 256x6 512x8 train --json");
        assert_eq!((both.rows.as_slice(), both.context.as_slice()), (&[4, 8][..], &[64, 128][..]));
        assert_eq!((both.shape.len(), both.parts.len(), both.json), (2, 2, true));
        // other commands keep their words
        let line = ["evenkeel", "sample", "tiny", "--rows", "4", "--prompt", "8"].map(Into::into);
        assert_eq!(with_commas(line.clone()), line);
    }
}
