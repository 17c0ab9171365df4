//! A reward function that is any program, over JSON lines.
//!
//! Before: a program is named. After: it runs as often as there are workers, and judges rollouts.

use std::process;
use std::time::Duration;

use data::{Rollout, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::pool::{Pool, Reading, Request, Requests, Size, Speech};
use super::process::shown;
use super::sample::{Told, line, verdict};
use super::settings;
use crate::{Reward, RewardError};

/// A program that reads lines and answers each with a line, in order, until its input ends.
///
/// A line in is `{"id", "prompt", "completion", "answer", "fields"}`, the prompt a text or a list of messages. A line out
/// is a number, `null`, or `{"reward", "reason", "answer"}` with the last two as needed. It has to be flushed: a program
/// that keeps its lines until it ends does not answer. What goes wrong costs what it does with [`super::Python`]; a line
/// that is no answer is said with its number, and costs the worker its life, as the lines after it may be out of step.
///
/// Unless it greets, there is no sign that it is ready, and what it does first counts into its first call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Command {
    /// The program and its arguments. It is not a line for a shell.
    pub command: Vec<String>,
    /// Whether it writes a line of its own choice before all others as soon as it is ready. A program that loads a model
    /// has to, as its start would overrun the deadline of a call.
    pub greets: bool,
    /// Processes; by default one a core, and two at least.
    pub workers: usize,
    /// Most samples of a call.
    pub batch: usize,
    /// Seconds that a call may take.
    pub deadline: f64,
    /// Seconds that it may take until it greets.
    pub start_deadline: f64,
}

impl Default for Command {
    fn default() -> Self {
        Self {
            command: vec![],
            greets: false,
            workers: settings::workers(),
            batch: 32,
            deadline: 30.0,
            start_deadline: 120.0,
        }
    }
}

impl Command {
    /// Starts the workers, and waits until each has greeted if they do.
    ///
    /// # Errors
    /// If a setting makes no sense, there is no such program, or it does not greet.
    pub fn build(self, name: &str) -> Result<impl Reward + use<>, RewardError> {
        if self.command.first().is_none_or(String::is_empty) {
            return settings::refuse(name, "command is empty, wanted a program and its arguments".into());
        }
        let size = Size {
            workers: settings::count(name, "workers", self.workers, 1024)?,
            batch: settings::count(name, "batch", self.batch, 1 << 16)?,
            deadline: settings::seconds(name, "deadline", self.deadline)?,
        };
        let start_deadline = settings::seconds(name, "start_deadline", self.start_deadline)?;
        let what = format!("`{}`", self.command.join(" "));
        Pool::new(
            name,
            what,
            Lines { command: self.command, greeting: self.greets.then_some(start_deadline) },
            size,
        )
    }
}

struct Lines {
    command: Vec<String>,
    /// How long that may take, if it greets.
    greeting: Option<Duration>,
}

impl Speech for Lines {
    fn command(&self) -> process::Command {
        let mut command = process::Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        command
    }

    fn hello(&self) -> Option<(Vec<u8>, Duration)> {
        self.greeting.map(|deadline| (vec![], deadline))
    }

    fn greeted(&self, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn requests<'a>(&'a self, rollouts: &'a [Rollout]) -> Requests<'a> {
        Box::new(|samples| {
            let bytes = samples.iter().flat_map(|sample| line(&Told::from(&rollouts[*sample]))).collect();
            Request { bytes, lines: samples.len() }
        })
    }

    fn read(&self, lines: &[Vec<u8>], _: usize) -> Reading {
        let read = |(i, line): (usize, &Vec<u8>)| match serde_json::from_slice::<Value>(line) {
            Ok(value) => Ok(verdict(&value)),
            Err(_) => Err(format!("wrote {} as line {} of its answer, wanted JSON", shown(line), i + 1)),
        };
        match lines.iter().enumerate().map(read).collect::<Result<Vec<Verdict>, String>>() {
            Ok(verdicts) => Reading::Verdicts(verdicts),
            Err(why) => Reading::Garbled(why),
        }
    }
}
