//! One case of one program, in a sandbox of its own.
//!
//! Before: [`super::extract`] found the program, [`super::cases`] the tests. After: a [`Ruling`]. No wanted value ever
//! enters the process that the program runs in, except as the arguments a test passes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::cases::Case;
use super::{output, values};
use crate::sandbox::{Exit, Sandbox, SandboxError, SandboxJob, SandboxOutcome, Stdin};

/// Whether a case is passed, and if not why.
pub(super) type Ruling = Result<(), String>;

const DRIVER: &str = concat!(include_str!("codec.py"), include_str!("driver.py"));
const JUDGE: &str = concat!(include_str!("codec.py"), include_str!("judge.py"));

/// Where programs run.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) python: PathBuf,
    /// What runs programs that are not Python.
    pub(super) command: Option<Command>,
    /// How far printed and returned numbers may be off.
    pub(super) tolerance: f64,
    pub(super) sandbox: Sandbox,
}

/// A program, its arguments, and the file that it expects the policy's program in.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) file: String,
}

impl Runner {
    /// Runs the program against one case.
    ///
    /// # Errors
    /// If the sandbox or the test itself is broken: that is not the program's doing.
    pub(super) fn case(&self, code: &str, case: &Case) -> Result<Ruling, String> {
        match case {
            Case::Io { input, output } => self.io(code, input, output).map_err(|error| error.to_string()),
            _ if self.command.is_some() => {
                Err("a test of a function or an assertion, wanted input and output: those are what `command` can be tested by".into())
            }
            Case::Call { function, arguments, wanted } => {
                self.call(code, function, arguments, wanted).map_err(|error| error.to_string())
            }
            Case::Assert { source } => self.assert(code, source),
        }
    }

    /// A program that only has to run.
    pub(super) fn io(&self, code: &str, input: &str, wanted: &str) -> Result<Ruling, SandboxError> {
        let stdin = Stdin::Bytes(input.as_bytes());
        let outcome = match &self.command {
            Some(Command { program, arguments, file }) => {
                let files = [(file.as_str(), code.as_bytes())];
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let job = self.job(&arguments, &files, stdin);
                self.sandbox.run(SandboxJob { program, ..job })?
            }
            None => {
                let files = [("main.py", code.as_bytes())];
                // as in the other processes, see `codec.py`; a Python that has no such limit does not mind
                let arguments = ["-I", "-X", "int_max_str_digits=0", "main.py"];
                self.sandbox.run(self.job(&arguments, &files, stdin))?
            }
        };
        if outcome.exit != Exit::Code(0) {
            return Ok(Err(ended(&outcome)));
        }
        let found = String::from_utf8_lossy(&outcome.stdout);
        if output::same(&found, wanted, self.tolerance) {
            return Ok(Ok(()));
        }
        Ok(Err(format!("wrong output: got {}, wanted {}", short(&found), short(wanted))))
    }

    fn call(
        &self,
        code: &str,
        function: &str,
        arguments: &[Value],
        wanted: &Value,
    ) -> Result<Ruling, SandboxError> {
        let files = [("main.py", code.as_bytes()), ("driver.py", DRIVER.as_bytes())];
        let arguments: Vec<Value> = arguments.iter().map(values::coded).collect();
        let request = format!("{}\n", json!([["name", function], arguments, []]));
        let outcome =
            self.sandbox.run(self.job(&["-I", "driver.py"], &files, Stdin::Bytes(request.as_bytes())))?;
        let reply = outcome.stdout.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let reply: Value = match serde_json::from_slice(reply) {
            Ok(reply) if outcome.exit == Exit::Code(0) => reply,
            _ => return Ok(Err(ended(&outcome))),
        };
        let value = &reply[1];
        if reply[0] == "error" {
            let (kind, message) =
                (value[0].as_str().unwrap_or("error"), reply[2].as_str().unwrap_or_default());
            return Ok(Err(format!("{kind}: {}", short(message))));
        }
        if reply[0] == "value" && values::equal_result(value, wanted, self.tolerance) {
            return Ok(Ok(()));
        }
        let (found, wanted) = (values::shown(value), values::written(wanted));
        Ok(Err(format!("wrong value: got {}, wanted {}", short(&found), short(&wanted))))
    }

    /// Test and program in two processes, each with the other at its ends.
    fn assert(&self, code: &str, test: &str) -> Result<Ruling, String> {
        let broken = |error: SandboxError| error.to_string();
        let pipe = || std::io::pipe().map_err(|error| format!("a pipe between test and program: {error}"));
        let ((requests_in, requests_out), (replies_in, replies_out)) = (pipe()?, pipe()?);
        let files = [("main.py", code.as_bytes()), ("driver.py", DRIVER.as_bytes())];
        let test = [("test.py", test.as_bytes()), ("judge.py", JUDGE.as_bytes())];
        let over = AtomicBool::new(false);
        let (program, judge) = std::thread::scope(|scope| {
            let program = scope.spawn(|| {
                let job = self.job(&["-I", "driver.py"], &files, Stdin::Pipe(requests_in));
                self.sandbox.run(SandboxJob { stdout: Some(replies_out), stop: Some(&over), ..job })
            });
            let job = self.job(&["-I", "-S", "judge.py"], &test, Stdin::Pipe(replies_in));
            let judge = self.sandbox.run(SandboxJob { stdout: Some(requests_out), ..job });
            over.store(true, Ordering::Relaxed);
            (program.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), judge)
        });
        let (program, judge) = (program.map_err(broken)?, judge.map_err(broken)?);
        let verdict: Value = match (judge.exit, program.exit) {
            (Exit::Code(0), _) => serde_json::from_slice(&judge.stderr).unwrap_or_default(),
            (_, Exit::Limit(_)) => "ended".into(),
            // It waits no longer than the program may take.
            (Exit::Limit(_), _) => return Ok(Err(ended(&judge))),
            _ => return Ok(Err(format!("the test did not get to its end: {}", ended(&judge)))),
        };
        if let Some(what) = verdict["broken"].as_str() {
            return Err(format!("the test is broken: {what}"));
        }
        Ok(match verdict.as_str() {
            Some("passed") => Ok(()),
            Some("ended") => Err(ended(&program)),
            _ => Err(verdict["wrong"].as_str().unwrap_or("the test gave no verdict").into()),
        })
    }

    fn job<'a>(
        &'a self,
        arguments: &'a [&'a str],
        files: &'a [(&'a str, &'a [u8])],
        stdin: Stdin<'a>,
    ) -> SandboxJob<'a> {
        SandboxJob { program: &self.python, arguments, files, stdin, stdout: None, stop: None }
    }
}

/// How a program that was to answer ended instead.
fn ended(outcome: &SandboxOutcome) -> String {
    let error = String::from_utf8_lossy(&outcome.stderr);
    let last = error.lines().rev().find(|line| !line.trim().is_empty());
    match (outcome.exit, last) {
        (Exit::Limit(limit), _) => format!("stopped {limit}"),
        (Exit::Stopped, _) => "stopped".into(),
        (Exit::Signal(signal), _) => format!("killed by signal {signal}"),
        (Exit::Code(0), _) => "ended before it gave a value".into(),
        (Exit::Code(code), None) => format!("exit code {code}"),
        (Exit::Code(code), Some(line)) => format!("exit code {code}, {}", short(line)),
    }
}

/// The beginning, in quotes as a Rust string.
fn short(text: &str) -> String {
    const MOST: usize = 100;
    let text = text.trim_end();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
