//! Nothing of a worker is left running.
//!
//! Before: a worker overran, ended or is not needed any more. After: it is gone, and waited for, with all that it started.
//!
//! Its process group is killed; on Linux also whatever has its mark in the environment, which catches what has left the
//! group, such as a `Popen(start_new_session=True)` or a daemon. Something that has left the group *and* thrown away its
//! environment stays; on other systems, something that has left the group.

use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// The environment variable that tells whose descendant a process is.
const VARIABLE: &str = "EVENKEEL_WORKER";
/// How long a killed process may take to be gone. One that is stuck in the kernel for longer is left to it.
const GONE: Duration = Duration::from_secs(2);

/// What tells a worker's descendants from those of all others on this machine.
pub(super) struct Mark(String);

impl Mark {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self(format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    pub(super) fn put(&self, command: &mut Command) {
        command.env(VARIABLE, &self.0);
    }
}

/// What the environment of all of this program's workers has, as `VARIABLE=` and the beginning of the mark.
pub(super) fn mark_of_this_program() -> String {
    format!("{VARIABLE}={}-", std::process::id())
}

/// Kills a child that has not been waited for, its group and what bears its mark, and waits for it.
pub(super) fn end(child: &mut Child, mark: &Mark) {
    // fails only if all of the group is gone already
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    kill_marked(mark);
    let begun = Instant::now();
    while matches!(child.try_wait(), Ok(None)) && begun.elapsed() < GONE {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Until none is found: one may have started another meanwhile.
#[cfg(target_os = "linux")]
fn kill_marked(mark: &Mark) {
    let wanted = format!("{VARIABLE}={}", mark.0);
    for _ in 0..5 {
        let mut found = false;
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let number =
                process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            // those of other users cannot be read, and are not ours
            let Some((number, environment)) = number.zip(std::fs::read(process.path().join("environ")).ok())
            else {
                continue;
            };
            if environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()) {
                found |= rustix::process::kill_process(number, Signal::KILL).is_ok();
            }
        }
        if !found {
            break;
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn kill_marked(_: &Mark) {}
