//! Whether the program that a policy wrote passes its prompt's tests.
//!
//! Before: a completion with a program. After: a part of its [`data::Score`]. Programs run in a [`crate::Sandbox`].

mod cases;
mod extract;
mod imports;
mod output;
mod python;
mod run;
mod values;

use std::path::{Component, Path, PathBuf};

use data::{Rollout, Verdict};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::{Deserialize, Serialize};

use crate::sandbox::{Protections, Sandbox, SandboxSettings};
use crate::{Reward, RewardError};
use cases::Case;
use python::Python;
use run::{Command, Runner};

/// The share of its prompt's tests that the program in a completion passes, or 1 only if it passes all. The program is Python,
/// unless `command` says what else runs it.
///
/// The program is the last fenced block outside of thinking that says it is Python, else the last that says no language; it has
/// to be closed. What it uses of the libraries that public judges import for it (`List`, `math`, `deque` …) and does not import
/// itself is imported. The tests are in a
/// column of the dataset, in one of these shapes, or in a string of JSON that holds one:
/// - `[{"input": "1\n", "output": "2\n"}, …]`, standard input and output; with `"fn_name"` arguments and result;
/// - `{"inputs": […], "outputs": […]}` and perhaps `"fn_name"`, as APPS, TACO and PRIME have it;
/// - Python that asserts, as a string or a list of strings, as MBPP has it; its columns `test_imports` and
///   `test_setup_code` come before;
/// - Python that defines `check(candidate)`, as HumanEval has it, with the column `entry_point`.
///
/// Output is compared line by line without blanks at the ends, and the exit code must be 0; numbers in it count as
/// `float_tolerance` says. Values are compared in this process: as Python does, integers of any length to the last digit, but
/// floats within the tolerance, NaN as NaN, and tuples as lists. Each case is a process of its own, so nothing is left for the
/// next.
///
/// # What a program cannot do
/// Its process never holds what is wanted: output and values are compared here, and Python tests run in a second
/// process that asks the program's for each call. To leave early, to print a verdict, to redefine comparison or the
/// interpreter's functions gains nothing. What it still can do is to know its tests' arguments by heart; and where a
/// test uses a helper that the program itself defines, it trusts that helper, as the test's author did.
///
/// Tests that pass functions of their own to the program's functions or objects cannot be asked so; such a test is broken, not
/// failed. To pass one to an object that a function of the program returned is the program's failure: it should have been a
/// plain value. A function that is named as one of Python's is the program's where the test asks for nothing else of the
/// program, or the column `entry_point` names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Code {
    /// The interpreter, a name or a path.
    pub python: String,
    /// The column of the dataset that has the tests. A prompt without it gets no verdict.
    pub tests: String,
    /// Whether all cases must be passed; then the first that is not is the last that is run.
    pub all: bool,
    /// How far a number with a decimal point may be off in what a program prints or returns, absolutely or as a share of the
    /// wanted one. By default 1e-6, as most problems that print such numbers allow; 0 compares their values. Integers are
    /// always compared to the last digit.
    pub float_tolerance: f64,
    /// Whether the whole completion but its thinking is the program, not a block of it.
    pub whole: bool,
    /// For other languages than Python: what runs the program, such as `["node", "main.js"]`. Tests are then input and output.
    /// Modes of files cannot be changed in the sandbox, so this is for interpreters and not for compilers.
    pub command: Vec<String>,
    /// With `command`: the file, in the working folder, that the program is written to.
    pub file: String,
    /// With `command`: what a block of the language says it is, such as `["js", "javascript"]`.
    pub languages: Vec<String>,
    /// Cases at once, or 0 for as many as there are processors.
    pub parallel: usize,
    /// The limits of each case.
    pub sandbox: SandboxSettings,
}

impl Default for Code {
    fn default() -> Self {
        Self {
            python: "python3".into(),
            tests: "tests".into(),
            all: true,
            float_tolerance: 1e-6,
            whole: false,
            command: Vec::new(),
            file: String::new(),
            languages: Vec::new(),
            parallel: 0,
            sandbox: SandboxSettings::default(),
        }
    }
}

impl Code {
    /// The reward, once a program has run.
    ///
    /// # Errors
    /// If there is no such interpreter, or programs cannot be shut in here, see [`Sandbox::new`].
    pub fn build(self, name: &str) -> Result<CodeReward, RewardError> {
        let cannot = |why: String| RewardError::Start { name: name.into(), why };
        if !(0.0..1.0).contains(&self.float_tolerance) {
            let found = self.float_tolerance;
            return Err(RewardError::Setting {
                what: format!(
                    "reward `{name}`: float_tolerance is {found}, wanted at least 0 and less than 1"
                ),
            });
        }
        let python = Python::find(&self.python).map_err(cannot)?;
        let mut warnings = python.warnings();
        let command = self.other().map_err(cannot)?;
        let mut read = python.read;
        read.extend(command.iter().flat_map(needed));
        let sandbox = Sandbox::new(self.sandbox.clone(), &read).map_err(|error| cannot(error.to_string()))?;
        warnings.extend(readable_data(sandbox.readable()));
        warnings.extend(sandbox.protections().missing());
        let pool = ThreadPoolBuilder::new()
            .num_threads(self.parallel)
            .thread_name(|number| format!("code-{number}"))
            .build()
            .map_err(|error| cannot(error.to_string()))?;
        let mut runner =
            Runner { python: python.program, command: None, tolerance: self.float_tolerance, sandbox };
        let ran = runner.io("print(1 + 1)", "", "2").map_err(|error| cannot(error.to_string()))?;
        ran.map_err(|why| cannot(format!("`{}` does not run in the sandbox: {why}", self.python)))?;
        runner.command = command;
        Ok(CodeReward { settings: self, runner, pool, warnings })
    }
}

/// That the working folder, where data often lies, is among what programs can read.
fn readable_data<'a>(mut readable: impl Iterator<Item = &'a Path>) -> Option<String> {
    let here = std::env::current_dir().ok()?;
    let folder = readable.find(|folder| here.starts_with(folder))?;
    Some(format!(
        "programs can read `{}`, and with it the working folder `{}`: no data with the answers to the tests may lie there",
        folder.display(),
        here.display()
    ))
}

impl Code {
    /// What runs other languages, if the settings name it.
    fn other(&self) -> Result<Option<Command>, String> {
        let Some((program, arguments)) = self.command.split_first() else {
            return match self.file.is_empty() && self.languages.is_empty() {
                true => Ok(None),
                false => Err("`file` and `languages` go with `command`, which is not set".into()),
            };
        };
        let name = std::path::Path::new(&self.file);
        if name.components().count() != 1 || !matches!(name.components().next(), Some(Component::Normal(_))) {
            return Err(format!("file is `{}`, wanted the name of a file in the working folder", self.file));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found =
            std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
        let program = match (program.contains('/'), found) {
            (true, _) => std::path::absolute(program).map_err(|error| format!("`{program}`: {error}"))?,
            (false, Some(found)) => found,
            (false, None) => return Err(format!("there is no program `{program}` on the path")),
        };
        Ok(Some(Command { program, arguments: arguments.to_vec(), file: self.file.clone() }))
    }
}

/// What a program in another language has to read: its own file, wherever links to it lead, and the settings of OpenSSL, without
/// which Node does not start where it is not allowed to look at them.
fn needed(command: &Command) -> Vec<PathBuf> {
    let settings = ["/etc/ssl/openssl.cnf", "/etc/pki/tls/openssl.cnf"].map(PathBuf::from);
    let file = command.program.canonicalize().ok();
    file.into_iter().chain(settings.into_iter().filter(|file| file.exists())).collect()
}

/// [`Code`] with a sandbox to run programs in.
#[derive(Debug)]
pub struct CodeReward {
    settings: Code,
    runner: Runner,
    pool: ThreadPool,
    warnings: Vec<String>,
}

impl CodeReward {
    /// What programs are kept from on this machine.
    pub fn protections(&self) -> &Protections {
        self.runner.sandbox.protections()
    }

    fn judge(&self, rollout: &Rollout) -> Verdict {
        let Code { tests, whole, .. } = &self.settings;
        let cases = match cases::cases(&rollout.prompt.fields, tests) {
            Ok(Some(cases)) => cases,
            Ok(None) => return Verdict::absent(),
            Err(why) => return Verdict::failed(why),
        };
        let code = match whole {
            true => extract::whole(&rollout.text),
            false if self.runner.command.is_some() => {
                extract::last_block(&rollout.text, &self.settings.languages)
            }
            false => extract::last_block(&rollout.text, &extract::PYTHON),
        };
        match code {
            Some(code) if self.runner.command.is_none() => self.all_cases(&imports::complete(&code), &cases),
            Some(code) => self.all_cases(&code, &cases),
            None => Verdict::right(false).because("no code in the completion"),
        }
    }

    fn all_cases(&self, code: &str, cases: &[Case]) -> Verdict {
        let (mut passed, mut first) = (0, None);
        for (number, case) in (1..).zip(cases) {
            match self.runner.case(code, case) {
                Ok(Ok(())) => passed += 1,
                Ok(Err(why)) => {
                    first.get_or_insert_with(|| format!("; case {number}: {why}"));
                    if self.settings.all {
                        break;
                    }
                }
                Err(why) => return Verdict::failed(format!("case {number}: {why}")),
            }
        }
        let value = match self.settings.all {
            true => f32::from(u8::from(passed == cases.len())),
            false => passed as f32 / cases.len() as f32,
        };
        Verdict::from(value).because(format!(
            "{passed} of {} cases{}",
            cases.len(),
            first.unwrap_or_default()
        ))
    }
}

impl Reward for CodeReward {
    fn about(&self) -> Option<String> {
        Some(self.protections().to_string())
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    fn score(&self, rollout: &Rollout) -> Verdict {
        self.pool.install(|| self.judge(rollout))
    }

    fn score_all(&self, rollouts: &[Rollout]) -> Result<Vec<Verdict>, RewardError> {
        Ok(self.pool.install(|| rollouts.par_iter().map(|rollout| self.judge(rollout)).collect()))
    }
}
