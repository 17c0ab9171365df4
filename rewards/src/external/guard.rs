//! Nothing of a worker outlives this program, however it ends.
//!
//! Before: a worker is about to start. After: [`super::kill`] has ended it, or this program is gone and the guard has.
//!
//! A program that is killed runs nothing of its own any more, and a worker need not notice: it may be stuck in C code, ignore
//! the end of its input, or have children that do. So the first worker brings a guard with it, a shell that reads a pipe of
//! which this program alone holds the other end. The pipe closes when the program is gone, by whatever way; then the guard
//! kills the groups of the workers that were left, and on Linux also what has left those groups and bears their mark. It is in
//! a group of its own, so that neither Ctrl-C nor a signal to this program's group reaches it. Without a shell in
//! `/bin`, workers in Python still look after themselves, see `worker.py`.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Reads `+ NAME` and `- NAME`, a name being the number of a process group or, while a worker starts and has none yet, a word.
/// At the end kills the groups that are left, and twice, as one may be starting another, what bears the mark `$1`.
const SCRIPT: &str = r#"
trap '' HUP INT TERM QUIT PIPE
names=
while read -r sign name; do
  if [ "$sign" = + ]; then
    names="$names $name"
  else
    kept=
    for other in $names; do [ "$other" = "$name" ] || kept="$kept $other"; done
    names=$kept
  fi
done
[ -n "$names" ] || exit 0
for name in $names; do
  case $name in *[!0-9]*) ;; *) kill -s KILL -- "-$name" ;; esac
done
for round in 1 2; do
  for environment in $(grep -ls -e "$1" /proc/[0-9]*/environ); do
    process=${environment#/proc/}
    kill -s KILL "${process%/environ}"
  done
done
"#;

/// The guard, and the names that it knows.
struct Guard {
    input: Option<ChildStdin>,
    names: BTreeSet<String>,
}

static GUARD: Mutex<Guard> = Mutex::new(Guard { input: None, names: BTreeSet::new() });

/// A worker that the guard knows of, for as long as this is held.
pub(super) struct Guarded(String);

impl Guarded {
    /// Tells the guard that one is about to start.
    pub(super) fn starting() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("starting{}", COUNT.fetch_add(1, Ordering::Relaxed));
        tell(&name, true);
        Self(name)
    }

    /// Tells it the group that the worker has.
    pub(super) fn group(&mut self, number: u32) {
        let name = number.to_string();
        tell(&name, true);
        tell(&std::mem::replace(&mut self.0, name), false);
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        tell(&self.0, false);
    }
}

fn tell(name: &str, is_there: bool) {
    let mut guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
    let line = match is_there {
        true => guard.names.insert(name.to_owned()).then(|| format!("+ {name}\n")),
        false => guard.names.remove(name).then(|| format!("- {name}\n")),
    };
    let Some(line) = line else { return };
    let told = guard.input.as_mut().is_some_and(|input| input.write_all(line.as_bytes()).is_ok());
    // there is none yet, or somebody killed it
    if !told && !guard.names.is_empty() {
        guard.input = start();
        let all: String = guard.names.iter().map(|name| format!("+ {name}\n")).collect();
        if let Some(input) = &mut guard.input {
            // it is asked again at the next change
            let _ = input.write_all(all.as_bytes());
        }
    }
}

fn start() -> Option<ChildStdin> {
    let mark = super::kill::mark_of_this_program();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", SCRIPT, "evenkeel-guard", &mark]).current_dir("/").process_group(0);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // it has ended, if at all, with this program: nobody has to wait for it
    shell.spawn().ok()?.stdin.take()
}
