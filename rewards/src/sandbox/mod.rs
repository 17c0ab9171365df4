//! Programs that nobody has read are run behind walls.
//!
//! Before: a policy wrote code, see [`crate::Code`]. After: an [`Outcome`] says what the program printed and how it
//! ended. Each run is a process of its own with a scratch folder of its own: it can open only the files it needs, has
//! no network, sees no other process, and is killed with all that it started at the first limit it breaks. Landlock
//! and a system call filter are the walls; no rights are needed to put them up, and a program cannot take them down.
//!
//! What the walls leave: a program can learn which files exist (not what is in them), can keep as much deleted but
//! open data on disk as `open_files` times `file_mib`, and uses the same kernel, whose faults no setting can mend. If
//! this process is killed, a program that was allowed further processes may leave those behind until their processor
//! time is spent.

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

/// A place to run programs in. It may be used from many threads at once; runs know nothing of each other.
#[derive(Debug)]
pub struct Sandbox {
    confinement: system::Confinement,
    protections: Protections,
}

/// A program and what it is given.
#[derive(Debug)]
pub struct Job<'a> {
    /// Its file, an absolute path.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: &'a [&'a str],
    /// Files in its scratch folder, which is its working directory: names without folders, and contents.
    pub files: &'a [(&'a str, &'a [u8])],
    /// What it reads from standard input.
    pub stdin: Stdin<'a>,
    /// Where its standard output goes, if not into [`Outcome::stdout`].
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
    /// It was killed because [`Job::stop`] said so.
    Stopped,
}

/// What a run gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
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
    /// the settings name. What it keeps programs from is tried now, by a thread that shuts itself in.
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

    /// Runs a program until it ends or breaks a limit, and never much longer than [`SandboxSettings::seconds`].
    /// Afterwards all its processes are dead and its scratch folder is gone.
    ///
    /// # Errors
    /// If the program cannot be started, or the system refuses something else. What the program does is no error.
    pub fn run(&self, job: Job<'_>) -> Result<Outcome, SandboxError> {
        self.confinement.run(job)
    }
}
