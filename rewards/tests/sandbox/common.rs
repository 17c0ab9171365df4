//! A sandbox for Python, and what a program in it said.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use rewards::{Exit, Sandbox, SandboxJob, SandboxOutcome, SandboxSettings, Stdin};

/// Far less than what hangs for ever takes, and enough on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(40);

/// The interpreter, and what it needs to read.
pub(crate) static PYTHON: LazyLock<(PathBuf, Vec<PathBuf>)> = LazyLock::new(|| {
    let ask = "import sys; print(sys.executable, sys.prefix, sys.base_prefix, sep='\\n')";
    let asked = Command::new("python3").args(["-I", "-c", ask]).output().expect("these tests need python3");
    let text = String::from_utf8(asked.stdout).unwrap();
    let mut paths = text.lines().map(PathBuf::from);
    (paths.next().expect("these tests need python3"), paths.collect())
});

pub(crate) fn sandbox(change: impl FnOnce(&mut SandboxSettings)) -> Sandbox {
    let mut settings = SandboxSettings { seconds: 20.0, ..SandboxSettings::default() };
    change(&mut settings);
    Sandbox::new(settings, &PYTHON.1).expect("this machine can shut programs in")
}

pub(crate) static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| sandbox(|_| {}));

pub(crate) fn run_in(sandbox: &Sandbox, code: &str, input: &[u8]) -> SandboxOutcome {
    let started = Instant::now();
    let job = SandboxJob {
        program: &PYTHON.0,
        arguments: &["-I", "main.py"],
        files: &[("main.py", code.as_bytes())],
        stdin: Stdin::Bytes(input),
        stdout: None,
        stop: None,
    };
    let outcome = sandbox.run(job).unwrap();
    assert!(started.elapsed() < SOON, "the run took {:?}", started.elapsed());
    outcome
}

pub(crate) fn run(code: &str) -> SandboxOutcome {
    run_in(&SANDBOX, code, b"")
}

/// A new folder where one can be made, whatever `TMPDIR` says.
pub(crate) fn new_folder() -> TempDir {
    tempfile::tempdir().or_else(|_| tempfile::tempdir_in("/tmp")).expect("a folder for temporary files")
}

/// What it printed, if it ended well.
pub(crate) fn said(outcome: &SandboxOutcome) -> String {
    let stderr = String::from_utf8_lossy(&outcome.stderr);
    assert_eq!(outcome.exit, Exit::Code(0), "{stderr}");
    String::from_utf8_lossy(&outcome.stdout).trim_end().to_owned()
}

/// Each of these lines of Python raises an `OSError` for want of permission, or because the kernel takes what is
/// outside for another file system.
pub(crate) fn refused(setup: &str, lines: &[String]) {
    refused_in(&SANDBOX, setup, lines);
}

pub(crate) fn refused_in(sandbox: &Sandbox, setup: &str, lines: &[String]) {
    let tries = lines.iter().map(|line| {
        format!(
            "try:\n {line}\n print('worked')\nexcept OSError as e: print(e.errno in (1, 13, 18) or repr(e))\n"
        )
    });
    let said = said(&run_in(sandbox, &format!("{setup}\n{}", tries.collect::<String>()), b""));
    for (line, said) in lines.iter().zip(said.lines().chain(std::iter::repeat("nothing was said"))) {
        assert_eq!(said, "True", "{line}");
    }
}

pub(crate) fn lines<const N: usize>(lines: [&str; N]) -> Vec<String> {
    lines.map(str::to_owned).into()
}

/// Calls of the C library, of which an error becomes an `OSError`.
pub(crate) const LIBC: &str = "import ctypes, os, sys, socket, signal, resource\n\
    c = ctypes.CDLL(None, use_errno=True)\n\
    def call(result):\n \
     if result == -1: raise OSError(ctypes.get_errno(), 'refused')\n";
