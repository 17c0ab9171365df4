//! A reward function in Python, as it was written for TRL or verl.
//!
//! Before: a file with a function. After: worker processes have imported it, and it judges rollouts.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use data::Rollout;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::pool::{Pool, Reading, Request, Requests, Size, Speech};
use super::process::shown;
use super::sample::{Told, line, verdicts};
use super::settings;
use crate::{Reward, RewardError};

/// What each worker runs; it speaks one line a call.
const WORKER: &str = include_str!("worker.py");

/// How a Python function wants to be called. Each may be `async`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// As its parameters tell: one called `completions` is TRL's, `solution_str` and `ground_truth` are verl's, and
    /// exactly one required parameter is a sample.
    #[default]
    Auto,
    /// `f(prompts, completions, completion_ids, **columns)` gives a list of numbers and `None`s.
    ///
    /// All by keyword, and to a function without `**kwargs` only what it names. Columns are [`data::Prompt::fields`], and
    /// the reference answer as `answer` and as `ground_truth` unless a column is called so. Prompts that are chats give
    /// completions that are lists of one message. `log_extra` and `log_metric` print to the log; `trainer_state` has
    /// nothing in it, since a reward must not depend on the step.
    Trl,
    /// `compute_score(data_source, solution_str, ground_truth, extra_info, **args)` gives a number, `None`, or a dict with
    /// `score`, whose other numbers become the reason.
    ///
    /// The data source is the column `data_source` or the beginning of the prompt's id up to `/` or `:`, the ground truth
    /// `reward_model["ground_truth"]` or the answer, and the extra info the column `extra_info` or all columns.
    Verl,
    /// `f(sample)` gives a number or `None`. The sample has `id`, `prompt`, `completion`, `answer`, `fields`, `truncated`,
    /// `tokens` (how many) and the columns, as attributes and as entries.
    Sample,
}

/// A function in a Python file, called in worker processes. The file need not be changed for it.
///
/// Whatever it prints goes to the log and to the failures, never into its answers; `sys.argv` is the file alone. A call
/// that overruns its deadline costs the worker its life, with all that it started, and its samples are asked about
/// again one by one, as they are when it raises or crashes; so a bad sample costs only itself.
///
/// A worker is killed also if the function left a process behind. On Linux that finds whatever has the worker's
/// environment; elsewhere a process that moved to a process group of its own stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Python {
    /// The file; its folder is the first that it imports from.
    pub file: PathBuf,
    /// The function; not needed if the file has exactly one that is a reward by its parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// How it is called.
    pub style: Style,
    /// The interpreter, 3.8 or newer.
    pub python: PathBuf,
    /// Further keyword arguments of each call.
    pub args: Map<String, Value>,
    /// Processes; by default one a core, and two at least. With one only, a function that hangs always is noticed
    /// after two deadlines.
    pub workers: usize,
    /// Most samples of a call.
    pub batch: usize,
    /// Seconds that a call may take, from when a ready worker has it.
    pub deadline: f64,
    /// Seconds that a worker may take to import the file.
    pub start_deadline: f64,
}

impl Default for Python {
    fn default() -> Self {
        Self {
            file: PathBuf::new(),
            function: None,
            style: Style::Auto,
            python: "python3".into(),
            args: Map::new(),
            workers: settings::workers(),
            batch: 32,
            deadline: 30.0,
            start_deadline: 120.0,
        }
    }
}

impl Python {
    /// Starts the workers and waits until each has imported the file.
    ///
    /// # Errors
    /// If a setting makes no sense, or the function cannot be had: no such file, interpreter or function, an error
    /// while it is imported, with the traceback.
    pub fn build(self, name: &str) -> Result<impl Reward + use<>, RewardError> {
        if self.file.as_os_str().is_empty() {
            return settings::refuse(name, "file is not set, wanted a Python file".into());
        }
        let size = Size {
            workers: settings::count(name, "workers", self.workers, 1024)?,
            batch: settings::count(name, "batch", self.batch, 1 << 16)?,
            deadline: settings::seconds(name, "deadline", self.deadline)?,
        };
        let start_deadline = settings::seconds(name, "start_deadline", self.start_deadline)?;
        let file = std::path::absolute(&self.file).unwrap_or(self.file);
        let Some(path) = file.to_str() else {
            return settings::refuse(name, format!("file is {}, wanted a path in UTF-8", file.display()));
        };
        let setup = json!({
            "file": path, "function": self.function, "style": self.style, "args": self.args,
        });
        let function = self.function.map_or_else(String::new, |function| format!("`{function}` of "));
        let what = format!("{function}`{path}`");
        Pool::new(
            name,
            what,
            Worker { python: self.python, setup, start_deadline, expected: Mutex::default() },
            size,
        )
    }
}

struct Worker {
    python: PathBuf,
    setup: Value,
    start_deadline: Duration,
    /// Columns that some prompt of the run has.
    expected: Mutex<BTreeSet<String>>,
}

/// What a worker is told of a sample.
#[derive(Serialize)]
struct Sample<'a> {
    #[serde(flatten)]
    told: Told<'a>,
    token_ids: &'a [u32],
    truncated: bool,
}

#[derive(Serialize)]
struct Call<'a> {
    samples: Vec<Sample<'a>>,
    /// Of the dataset, the same in all calls, so that no answer depends on which samples are in its call.
    columns: &'a [String],
}

impl Speech for Worker {
    fn expect(&self, columns: &[String]) {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner).extend(columns.iter().cloned());
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.python);
        command.args(["-u", "-X", "utf8", "-c", WORKER]);
        command
    }

    fn hello(&self) -> Option<(Vec<u8>, Duration)> {
        Some((line(&self.setup), self.start_deadline))
    }

    fn greeted(&self, line: &[u8]) -> Result<(), String> {
        let said: Value = serde_json::from_slice(line).unwrap_or_default();
        match said.get("error").and_then(Value::as_str) {
            Some(error) => Err(error.to_owned()),
            None if said.get("ready").is_some() => Ok(()),
            None => Err(format!("its worker said {}, wanted that it is ready", shown(line))),
        }
    }

    fn requests<'a>(&'a self, rollouts: &'a [Rollout]) -> Requests<'a> {
        let mut columns = self.expected.lock().unwrap_or_else(PoisonError::into_inner).clone();
        columns.extend(rollouts.iter().flat_map(|rollout| rollout.prompt.fields.keys()).cloned());
        let own = ["prompt", "prompts", "completion", "completions", "completion_ids"];
        columns.retain(|name| !own.contains(&name.as_str()));
        let columns: Vec<String> = columns.into_iter().collect();
        Box::new(move |samples| {
            let sample = |sample: &usize| {
                let rollout = &rollouts[*sample];
                Sample { told: rollout.into(), token_ids: &rollout.tokens, truncated: rollout.truncated() }
            };
            let samples = samples.iter().map(sample).collect();
            Request { bytes: line(&Call { samples, columns: &columns }), lines: 1 }
        })
    }

    fn read(&self, lines: &[Vec<u8>], samples: usize) -> Reading {
        let garbled = || Reading::Garbled(format!("the worker's answer is {}", shown(&lines[0])));
        let Ok(answer) = serde_json::from_slice::<Value>(&lines[0]) else {
            return garbled();
        };
        if let Some(error) = answer.get("error").and_then(Value::as_str) {
            return Reading::Failed(error.to_owned());
        }
        match answer.get("rewards").and_then(Value::as_array).map(|rewards| verdicts(rewards, samples)) {
            Some(Ok(verdicts)) => Reading::Verdicts(verdicts),
            _ => garbled(),
        }
    }
}
