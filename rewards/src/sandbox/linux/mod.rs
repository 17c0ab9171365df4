//! The walls of Linux.
//!
//! Before: [`super::Sandbox`] has settings. After: each run gets a ruleset, a filter and limits, and is watched.

mod child;
mod filter;
mod probe;
mod ruleset;
mod scratch;
mod trial;
mod usage;
mod volume;
mod watch;

#[cfg(test)]
mod tests;

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs, io};

use child::{Child, Limits, User};
use rustix::process::{Resource, Rlimit, geteuid, getpid, getrlimit};
use scratch::Scratch;
use seccompiler::BpfProgram;
use volume::{Namespace, Volume};
use watch::Disk;

use super::{Protection, Protections, SandboxError, SandboxJob, SandboxOutcome, SandboxSettings, Stdin};

/// What all runs have in common.
pub(super) struct Confinement {
    settings: SandboxSettings,
    read: Vec<PathBuf>,
    user: User,
    /// As whom programs are looked at, if this process may not do so as it is.
    look_as: Option<u32>,
    /// Where scratch folders are made.
    place: PathBuf,
    /// How runs get file systems of their own; without, they write to that of `place`.
    namespace: Option<Namespace>,
    /// If the kernel knows Landlock: the rights in a scratch folder.
    ruleset: Option<u64>,
    filter: Option<Arc<BpfProgram>>,
}

/// As whom root runs programs: near the end of the ids that systems leave free and containers have.
const NOBODY: u32 = 65_533;

impl fmt::Debug for Confinement {
    /// Without the filter, which is long and says nothing to people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, read, user, look_as, place, namespace, ruleset, .. } = self;
        let mut shown = f.debug_struct("Confinement");
        shown.field("settings", settings).field("read", read).field("user", user).field("place", place);
        shown.field("look_as", look_as).field("namespace", namespace).field("ruleset", ruleset);
        shown.finish_non_exhaustive()
    }
}

impl Confinement {
    pub(super) fn new(
        settings: SandboxSettings,
        read: Vec<PathBuf>,
    ) -> Result<(Self, Protections), SandboxError> {
        let place = scratch::place().map_err(SandboxError::system("a folder for temporary files"))?;
        let (user, user_protection) = probe::user(&read, &place);
        let found = probe::try_out(&read, &place, settings.processes > 0)?;
        let filter = found.filter.as_ref().ok().cloned();
        let look_as = probe::look_as(user);
        let ruleset = found.ruleset;
        let mut confinement = Self { settings, read, user, look_as, place, namespace: None, ruleset, filter };
        let resources = confinement.find_namespace();
        Ok((confinement, found.protections(user_protection, resources)))
    }

    /// Gives runs a file system of their own if this user may do that here, and tries whether the limits hold.
    fn find_namespace(&mut self) -> Protection {
        let mut refused = Vec::new();
        for namespace in Namespace::candidates(self.user) {
            self.namespace = Some(*namespace);
            match self.try_limits() {
                Ok(broken) if broken.is_empty() => return probe::resources(None),
                Ok(broken) => refused.push(broken.join(", ")),
                Err(error) => refused.push(error.to_string()),
            }
        }
        self.share_disk();
        match self.try_limits() {
            Ok(broken) if broken.is_empty() => {
                refused.dedup();
                probe::resources(Some(&refused.join("; ")))
            }
            Ok(broken) => Protection::Missing(broken.join(", ")),
            Err(error) => Protection::Missing(format!("the limits cannot be tried: {error}")),
        }
    }

    /// Has runs write to the disk of their scratch folders.
    fn share_disk(&mut self) {
        self.namespace = None;
        self.filter = self.filter.as_deref().map(|filter| Arc::new(filter::without_fallocate(filter)));
    }

    /// What a process that has put all on can do nevertheless.
    fn try_limits(&self) -> io::Result<Vec<&'static str>> {
        let scratch = Scratch::new(&self.place, &[], self.owner())?;
        let null = || fs::File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let standard = [null()?, null()?, null()?];
        let volume = self.volume(&scratch.folder, trial::VOLUME, &[])?;
        let broken = self.child(Path::new(""), &[], standard, &scratch.folder, volume)?.try_out()?;
        scratch.delete()?;
        let tried = trial::TRIED.iter().enumerate();
        Ok(tried.filter(|(bit, _)| broken & (1 << bit) != 0).map(|(_, what)| *what).collect())
    }

    /// Whose the scratch folders are, if not this process's user's.
    fn owner(&self) -> Option<u32> {
        if let User::Nobody(id) = self.user { Some(id) } else { None }
    }

    fn volume<'a>(&self, folder: &Path, bytes: u64, files: &[(&str, &'a [u8])]) -> io::Result<Volume<'a>> {
        match self.namespace {
            Some(namespace) => Volume::new(namespace, self.user, folder, bytes, files),
            None => Ok(Volume::none()),
        }
    }

    pub(super) fn readable(&self) -> impl Iterator<Item = &Path> {
        ruleset::SYSTEM.iter().map(Path::new).chain(self.read.iter().map(PathBuf::as_path))
    }

    pub(super) fn run(&self, job: SandboxJob<'_>) -> Result<SandboxOutcome, SandboxError> {
        let on_disk = if self.namespace.is_some() { &[] } else { job.files };
        let patience = Duration::from_secs_f64(self.settings.seconds);
        let scratch = Scratch::wait_for(&self.place, on_disk, self.owner(), patience)
            .map_err(SandboxError::system("a scratch folder"))?;
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
        let volume = self.volume(&scratch.folder, self.settings.scratch_mib << 20, job.files);
        let volume = volume.map_err(starting())?;
        let child = self.child(job.program, job.arguments, standard, &scratch.folder, volume);
        let child = child.map_err(starting())?;
        let process = child.start().map_err(starting())?;
        drop(child); // with our ends of pipes between programs
        let pipes = watch::Pipes { input, output, error: Some(error.into()) };
        let see = || volume::seen_by(process, &scratch.folder);
        let own =
            self.namespace.and_then(|_| self.look_as.map_or_else(see, |user| child::as_user(user, see)));
        let disk = match self.namespace {
            Some(_) => Disk::Own(own.as_ref()),
            None => Disk::Shared(&scratch.folder, self.look_as),
        };
        let outcome = watch::watch(process, pipes, bytes, &self.settings, disk, job.stop)?;
        scratch.delete().map_err(SandboxError::system("deleting the scratch folder"))?;
        Ok(outcome)
    }

    fn child<'a>(
        &self,
        program: &Path,
        arguments: &[&str],
        standard: [OwnedFd; 3],
        scratch: &Path,
        volume: Volume<'a>,
    ) -> io::Result<Child<'a>> {
        let rules = |rights| {
            let rules = ruleset::ruleset(&self.read).map_err(io::Error::other)?;
            Ok::<_, io::Error>(Option::<OwnedFd>::from(rules).map(|rules| (rules, rights)))
        };
        let ruleset = self.ruleset.map(rules).transpose()?.flatten();
        let [stdin, stdout, stderr] = standard.map(|file| rustix::io::fcntl_dupfd_cloexec(file, 3));
        let text = |text: &OsStr| CString::new(text.as_encoded_bytes());
        let home = |name: &str| text(OsStr::new(&format!("{name}={}", scratch.display())));
        let fixed = ENVIRONMENT.iter().map(|line| CString::new(*line));
        let given = arguments.iter().map(|argument| CString::new(*argument));
        Ok(Child {
            parent: Some(getpid()),
            limits: limits(&self.settings),
            user: self.user,
            volume,
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
fn limits(settings: &SandboxSettings) -> Limits {
    const MIB: u64 = 1 << 20;
    /// Timers of a program and signals on their way to it. A user has so many in all, so it may not take them all.
    const SIGNALS: u64 = 256;
    let wanted = [
        (Resource::As, settings.memory_mib * MIB, 0),
        // Who ignores the signal at the first is killed a second later.
        (Resource::Cpu, settings.cpu_seconds, 1),
        (Resource::Fsize, settings.file_mib * MIB, 0),
        (Resource::Nofile, settings.open_files, 0),
        // Not 0: where dumps of memory go to a program of the machine, only 1 keeps it from being started.
        (Resource::Core, 1, 0),
        (Resource::Msgqueue, 0, 0),
        (Resource::Sigpending, SIGNALS, 0),
        (Resource::Rtprio, 0, 0),
        (Resource::Nice, 0, 0),
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
