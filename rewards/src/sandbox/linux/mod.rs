//! The walls of Linux.
//!
//! Before: [`super::Sandbox`] has settings. After: each run gets a ruleset, a filter and limits, and is watched.

mod child;
mod filter;
mod probe;
mod ruleset;
mod scratch;
mod usage;
mod watch;

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs, io};

use child::{Child, User};
use rustix::process::{Resource, Rlimit, geteuid, getpid, getrlimit};
use scratch::Scratch;
use seccompiler::BpfProgram;

use super::{Job, Outcome, Protections, SandboxError, SandboxSettings, Stdin};

/// What all runs have in common.
pub(super) struct Confinement {
    settings: SandboxSettings,
    read: Vec<PathBuf>,
    user: User,
    /// Whether the kernel knows Landlock.
    ruleset: bool,
    filter: Option<Arc<BpfProgram>>,
}

/// As whom root runs programs: near the end of the ids that systems leave free and containers have.
const NOBODY: u32 = 65_533;

impl fmt::Debug for Confinement {
    /// Without the filter, which is long and says nothing to people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, read, user, ruleset, .. } = self;
        let mut shown = f.debug_struct("Confinement");
        shown.field("settings", settings).field("read", read).field("user", user).field("ruleset", ruleset);
        shown.finish_non_exhaustive()
    }
}

impl Confinement {
    pub(super) fn new(
        settings: SandboxSettings,
        read: Vec<PathBuf>,
    ) -> Result<(Self, Protections), SandboxError> {
        let (user, user_protection) = probe::user(&read);
        let found = probe::try_out(&read, settings.processes > 0)?;
        let protections = found.protections(user_protection);
        Ok((Self { settings, read, user, ruleset: found.ruleset, filter: found.filter.ok() }, protections))
    }

    pub(super) fn run(&self, job: Job<'_>) -> Result<Outcome, SandboxError> {
        let owner = if let User::Nobody(id) = self.user { Some(id) } else { None };
        let scratch = Scratch::new(job.files, owner).map_err(SandboxError::system("a scratch folder"))?;
        let no_pipe = || SandboxError::system("a pipe to a program");
        let (stdin, input, bytes) = match job.stdin {
            Stdin::Bytes(bytes) => {
                let (theirs, ours) = io::pipe().map_err(no_pipe())?;
                (OwnedFd::from(theirs), Some(OwnedFd::from(ours)), bytes)
            }
            Stdin::Pipe(pipe) => (pipe.into(), None, &[][..]),
        };
        let (stdout, output) = match job.stdout {
            Some(pipe) => (OwnedFd::from(pipe), None),
            None => {
                let (ours, theirs) = io::pipe().map_err(no_pipe())?;
                (theirs.into(), Some(ours.into()))
            }
        };
        let (error, stderr) = io::pipe().map_err(no_pipe())?;
        let standard = [stdin, stdout, stderr.into()];
        let starting = || SandboxError::system(format!("starting `{}`", job.program.display()));
        let child = self.child(job.program, job.arguments, standard, &scratch.folder);
        let child = child.map_err(starting())?;
        let process = child.start().map_err(starting())?;
        drop(child); // with our ends of pipes between programs
        let pipes = watch::Pipes { input, output, error: Some(error.into()) };
        let outcome = watch::watch(process, pipes, bytes, &self.settings, &scratch.folder, job.stop)?;
        scratch.delete().map_err(SandboxError::system("deleting the scratch folder"))?;
        Ok(outcome)
    }

    fn child(
        &self,
        program: &Path,
        arguments: &[&str],
        standard: [OwnedFd; 3],
        scratch: &Path,
    ) -> io::Result<Child> {
        let ruleset = match self.ruleset {
            true => ruleset::ruleset(&self.read, scratch).map_err(io::Error::other)?.into(),
            false => None,
        };
        let [stdin, stdout, stderr] = standard.map(|file| rustix::io::fcntl_dupfd_cloexec(file, 3));
        let text = |text: &OsStr| CString::new(text.as_encoded_bytes());
        let home = |name: &str| text(OsStr::new(&format!("{name}={}", scratch.display())));
        let fixed = ENVIRONMENT.iter().map(|line| CString::new(*line));
        let given = arguments.iter().map(|argument| CString::new(*argument));
        Ok(Child {
            parent: Some(getpid()),
            limits: limits(&self.settings),
            user: self.user,
            ruleset,
            filter: self.filter.clone(),
            program: text(program.as_os_str())?,
            arguments: [text(program.as_os_str())].into_iter().chain(given).collect::<Result<_, _>>()?,
            environment: fixed.chain([home("HOME"), home("TMPDIR")]).collect::<Result<_, _>>()?,
            folder: text(scratch.as_os_str())?,
            standard: [stdin?, stdout?, stderr?],
        })
    }
}

/// Nothing of this process's environment. One thread for libraries that would start one for each processor.
const ENVIRONMENT: &[&str] = &[
    "PATH=/usr/local/bin:/usr/bin:/bin",
    "LANG=C.UTF-8",
    "PYTHONDONTWRITEBYTECODE=1",
    "PYTHONHASHSEED=0",
    "PYTHONIOENCODING=utf-8:surrogateescape",
    "OMP_NUM_THREADS=1",
    "OPENBLAS_NUM_THREADS=1",
    "MKL_NUM_THREADS=1",
];

/// Limits that the kernel keeps for each process. Those of this process may be lower and cannot be raised.
fn limits(settings: &SandboxSettings) -> [(Resource, Rlimit); 6] {
    const MIB: u64 = 1 << 20;
    let wanted = [
        (Resource::As, settings.memory_mib * MIB, 0),
        // Who ignores the signal at the first is killed a second later.
        (Resource::Cpu, settings.cpu_seconds, 1),
        (Resource::Fsize, settings.file_mib * MIB, 0),
        (Resource::Nofile, settings.open_files, 0),
        (Resource::Core, 0, 0),
        (Resource::Msgqueue, 0, 0),
    ];
    wanted.map(|(resource, soft, more)| {
        let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        (resource, Rlimit { current: Some(soft.min(most)), maximum: Some((soft + more).min(most)) })
    })
}

/// Whether this process is root, and if so whether there is another user to be.
fn other_user() -> Option<bool> {
    // inside, outside and how many, see user_namespaces(7)
    let maps = |file: &str| {
        let map = fs::read_to_string(file).unwrap_or_default();
        map.lines().any(|line| {
            let mut fields = line.split_ascii_whitespace().map(|field| field.parse::<u64>().unwrap_or(0));
            let (first, count) = (fields.next().unwrap_or(0), fields.nth(1).unwrap_or(0));
            (first..first + count).contains(&u64::from(NOBODY))
        })
    };
    geteuid().is_root().then(|| maps("/proc/self/uid_map") && maps("/proc/self/gid_map"))
}
