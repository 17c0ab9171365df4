//! Programs that nobody has read are run behind walls.
//!
//! Before: a policy wrote code, see [`crate::Code`]. After: an [`SandboxOutcome`] says what the program printed and how it
//! ended. Each run is a process of its own with a scratch folder of its own, and is killed with all that it started at
//! the first limit it breaks. Landlock and a system call filter are the walls; no rights are needed to put them up, and
//! a program cannot take them down. Where this user may mount in a name space of his own (root with that right, or user
//! namespaces), the scratch folder is a file system of its own in memory, of the size of its limit.
//!
//! What is enforced:
//! - Of files, only those named are opened, and only the scratch folder is written to. Modes, owners, times, attributes
//!   and flags of others stay, no lease or exclusive lock is taken on them, and nobody is watched through them.
//! - No socket reaches anybody. Pairs of connected streams work; nothing but bytes passes through them.
//! - No signal reaches another process, none is looked into or slowed down, and what is counted for each user (watches,
//!   sizes of pipes, timers, keys, shared memory) is not taken.
//! - Memory, processor time, open files and the size of a file by the kernel; threads, processes, their memory together
//!   and the scratch folder by looking every 10 ms, so that they are exceeded for so long. The memory of files in a file
//!   system of its own counts too. On a shared disk deleted files count while they are open or mapped.
//! - The process that was started dies with this one.
//!
//! What is not:
//! - Which files and processes exist can be learnt, as can a process's command, state and processor time, where `/proc`
//!   shows them to this user; but not what is in them.
//! - All that is in the folders named can be read: `/usr`, the interpreter's library with its packages, and a virtual
//!   environment. If an answer is there it can be found.
//! - Locks for reading (`F_RDLCK`) can be taken on files that can be read, and hold up who wants to write them.
//! - A file that was made in the scratch folder can be executed if it is made so that it can; it stays within the walls.
//! - Memory that is shared between processes and in none of their tables counts only for the limit of each.
//! - If this process is killed, a program that was allowed further processes may leave those behind until their
//!   processor time is spent. Scratch folders that were left are deleted by the next sandbox in the same place.
//! - Runs share processors, caches, the disk if it is not their own, and the kernel, whose faults no setting can mend.

mod limits;
mod protections;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(not(target_os = "linux"))]
use elsewhere as system;

use std::io::{self, PipeReader, PipeWriter};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

pub use limits::{Limit, SandboxSettings};
pub use protections::{Protection, Protections};

/// A place to run programs in. It may be used from many threads at once; a run can neither read nor change another's files.
#[derive(Debug)]
pub struct Sandbox {
    confinement: system::Confinement,
    protections: Protections,
}

/// A program and what it is given.
#[derive(Debug)]
pub struct SandboxJob<'a> {
    /// Its file, an absolute path.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: &'a [&'a str],
    /// Files in its scratch folder, which is its working directory: names without folders, and contents.
    pub files: &'a [(&'a str, &'a [u8])],
    /// What it reads from standard input.
    pub stdin: Stdin<'a>,
    /// Where its standard output goes, if not into [`SandboxOutcome::stdout`].
    pub stdout: Option<PipeWriter>,
    /// When this becomes true, the program is killed.
    pub stop: Option<&'a AtomicBool>,
}

/// A program's standard input.
#[derive(Debug)]
pub enum Stdin<'a> {
    /// These bytes and then the end.
    Bytes(&'a [u8]),
    /// What another program writes.
    Pipe(PipeReader),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal that the sandbox did not send, such as 11 for an access to memory that is not there.
    Signal(i32),
    /// It was killed because it broke this limit.
    Limit(Limit),
    /// It was killed because [`SandboxJob::stop`] said so.
    Stopped,
}

/// What a run gave.
#[derive(Debug, Clone, PartialEq)]
pub struct SandboxOutcome {
    /// How it ended.
    pub exit: Exit,
    /// What it wrote to standard output, at most [`SandboxSettings::output_kib`].
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, at most as much.
    pub stderr: Vec<u8>,
    /// How long it ran.
    pub seconds: f64,
}

/// Why a program cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// Walls are missing.
    #[error(
        "untrusted programs cannot be shut in here; `unprotected = true` runs them all the same, with all the rights \
         of this user. What was found:\n{0}"
    )]
    Unprotected(Box<Protections>),
    /// This is not Linux.
    #[error("untrusted programs can be shut in on Linux only")]
    NotLinux,
    /// A setting that makes no sense.
    #[error("sandbox: {what}")]
    Setting {
        /// What was found and what was wanted.
        what: String,
    },
    /// Something that the sandbox needs of the system.
    #[error("sandbox: {what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

#[cfg(target_os = "linux")]
impl SandboxError {
    fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

impl Sandbox {
    /// A sandbox for programs that need to read these files and folders too, beside what every program needs and what
    /// the settings name. What it keeps programs from is tried now, by a thread that shuts itself in and by a process that
    /// tries to break its limits.
    ///
    /// # Errors
    /// If a setting makes no sense, or walls are missing and the settings do not ask for that.
    pub fn new(settings: SandboxSettings, read: &[PathBuf]) -> Result<Self, SandboxError> {
        settings.check()?;
        let read: Vec<PathBuf> = settings.read.iter().chain(read).cloned().collect();
        for path in &read {
            if path.parent().is_none() || !path.is_absolute() || !path.exists() {
                let path = path.display();
                let what =
                    format!("`read` has `{path}`, wanted an absolute path that is there and is not the root");
                return Err(SandboxError::Setting { what });
            }
        }
        let unprotected = settings.unprotected;
        let (confinement, protections) = system::Confinement::new(settings, read)?;
        if !protections.suffice() && !unprotected {
            return Err(SandboxError::Unprotected(Box::new(protections)));
        }
        Ok(Self { confinement, protections })
    }

    /// What programs are really kept from.
    pub fn protections(&self) -> &Protections {
        &self.protections
    }

    /// The folders that programs can read, beside their own.
    pub fn readable(&self) -> impl Iterator<Item = &Path> {
        self.confinement.readable()
    }

    /// Runs a program until it ends or breaks a limit, and never much longer than [`SandboxSettings::seconds`].
    /// Afterwards all its processes are dead and its scratch folder is gone.
    ///
    /// # Errors
    /// If the program cannot be started, or the system refuses something else. What the program does is no error.
    pub fn run(&self, job: SandboxJob<'_>) -> Result<SandboxOutcome, SandboxError> {
        self.confinement.run(job)
    }
}
