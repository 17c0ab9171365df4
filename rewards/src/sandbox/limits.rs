//! How much a program in the sandbox may use.
//!
//! Before: the recipe. After: [`super::Sandbox`] holds programs to it, and names the limit that one broke.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::SandboxError;

/// The limits of a run and what it may read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct SandboxSettings {
    /// Seconds from start to end.
    pub seconds: f64,
    /// Seconds of processor time of each process, all its threads together. This is the fair limit: it does not depend
    /// on what else the machine does.
    pub cpu_seconds: u64,
    /// MiB of address space of each process, and of memory of all of them together with the files in the scratch folder,
    /// where that is in memory.
    pub memory_mib: u64,
    /// Processes that it may start, itself not counted.
    pub processes: u64,
    /// Threads of all its processes together, the first of each included.
    pub threads: u64,
    /// MiB of a file.
    pub file_mib: u64,
    /// MiB of its scratch folder, where a file counts at least 4 KiB. Deleted files count as long as they are in use.
    pub scratch_mib: u64,
    /// Files open at once.
    pub open_files: u64,
    /// KiB of standard output, and as much of standard error.
    pub output_kib: u64,
    /// Files and folders that it may read and run, beside `/usr`, `/lib`, `/bin` and what the interpreter needs.
    pub read: Vec<PathBuf>,
    /// Run programs even where walls are missing. They can then do what this user can.
    pub unprotected: bool,
}

impl Default for SandboxSettings {
    fn default() -> Self {
        Self {
            seconds: 10.0,
            cpu_seconds: 5,
            memory_mib: 1024,
            processes: 0,
            threads: 32,
            file_mib: 16,
            scratch_mib: 64,
            open_files: 64,
            output_kib: 1024,
            read: Vec::new(),
            unprotected: false,
        }
    }
}

impl SandboxSettings {
    pub(super) fn check(&self) -> Result<(), SandboxError> {
        let bad = |what: String| Err(SandboxError::Setting { what });
        if !(self.seconds > 0.0 && self.seconds <= 86_400.0) {
            return bad(format!("`seconds` is {}, wanted more than 0 and at most 86400", self.seconds));
        }
        let least = [
            ("cpu_seconds", self.cpu_seconds, 1, 86_400),
            ("memory_mib", self.memory_mib, 16, 1 << 24),
            ("processes", self.processes, 0, 1 << 15),
            ("threads", self.threads, 1, 1 << 15),
            ("file_mib", self.file_mib, 1, 1 << 24),
            ("scratch_mib", self.scratch_mib, 1, 1 << 24),
            ("open_files", self.open_files, 8, 1 << 16),
            ("output_kib", self.output_kib, 1, 1 << 24),
        ];
        for (name, value, least, most) in least {
            if !(least..=most).contains(&value) {
                return bad(format!("`{name}` is {value}, wanted {least} to {most}"));
            }
        }
        Ok(())
    }
}

/// A limit that a program broke, with its bound.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Limit {
    /// Seconds from start to end.
    Time(f64),
    /// Seconds of processor time.
    Cpu(u64),
    /// MiB of all its processes together. A single process is refused memory instead, which Python programs see as a
    /// `MemoryError`.
    Memory(u64),
    /// KiB of standard output or standard error.
    Output(u64),
    /// MiB of a file. Python programs see an `OSError` instead.
    FileSize(u64),
    /// MiB of the scratch folder, or folders nested too deep to count.
    Scratch(u64),
    /// Processes beside the first. If none are allowed, a program that tries gets an error instead.
    Processes(u64),
    /// Threads.
    Threads(u64),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(bound) => write!(f, "after {bound} s (time limit)"),
            Self::Cpu(bound) => write!(f, "after {bound} s of processor time (limit)"),
            Self::Memory(bound) => write!(f, "with more than {bound} MiB in memory (limit)"),
            Self::Output(bound) => write!(f, "after {bound} KiB of output (limit)"),
            Self::FileSize(bound) => write!(f, "with a file of more than {bound} MiB (limit)"),
            Self::Scratch(bound) => {
                write!(f, "with more than {bound} MiB or 64 folders deep of files (limit)")
            }
            Self::Processes(bound) => write!(f, "with more than {bound} further processes (limit)"),
            Self::Threads(bound) => write!(f, "with more than {bound} threads (limit)"),
        }
    }
}
