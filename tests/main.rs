//! The program from outside: the real binary on the embedded tiny model.

mod allocation;
mod check;
mod cli;
mod comparisons;
mod conformance;
mod damaged;
mod data;
mod evaluate;
#[path = "../rollout/tests/fake/mod.rs"]
mod fake;
mod faults;
mod files;
mod learns;
mod metrics_catalogue;
mod resume;
mod rewards;
#[path = "../recipes/examples/rl_loop.rs"]
#[expect(dead_code, reason = "a test calls its parts, not its main")]
mod rl_loop;
mod selection;
mod servers;
#[cfg(unix)]
mod signals;
mod warnings;

use std::path::Path;
use std::process::{Command, Output};

/// The binary, to be given arguments; runs in `folder`, without colour, hub or log settings of the caller.
fn evenkeel(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command
        .current_dir(folder)
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", folder.join("hub"))
        .env_remove("EVENKEEL_LOG");
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    evenkeel(folder).args(arguments).output().expect("the binary starts")
}

/// Standard output of a run that must succeed.
fn succeed(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} failed:\n{errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// Standard error of a run that must end with this exit code, without a panic.
fn fail(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = run(folder, arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}:\n{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    errors
}

/// The lines of a run's metrics without what depends on the clock.
fn metrics(run: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    text.lines()
        .map(|line| {
            let mut value: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let object = value.as_object_mut().expect("object");
            object.retain(|key, _| !key.starts_with("seconds") && !key.ends_with("per_second"));
            value
        })
        .collect()
}
