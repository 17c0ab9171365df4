//! A program is fed, listened to and held to its limits until all of it is dead.
//!
//! Before: [`super::Confinement`] started it. After: an [`SandboxOutcome`]. One thread does it all and waits for nothing
//! without a deadline, so a descendant that keeps a pipe open, or sleeps, delays nobody.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions};
use rustix::process::{kill_process_group, pidfd_open, waitid, waitpid};

use super::super::{Exit, Limit, SandboxError, SandboxOutcome, SandboxSettings};
use super::child::as_user;
use super::usage;
use super::volume;

/// How often limits are looked at that the kernel does not keep.
const TICK: Duration = Duration::from_millis(10);
/// How long a killed process may take to die. Only a hanging disk makes it long.
const DYING: Duration = Duration::from_secs(10);

/// Our ends of a program's standard files, where it does not share them with another program.
pub(super) struct Pipes {
    pub(super) input: Option<OwnedFd>,
    pub(super) output: Option<OwnedFd>,
    pub(super) error: Option<OwnedFd>,
}

/// Where a program writes its files.
#[derive(Clone, Copy)]
pub(super) enum Disk<'a> {
    /// On a file system of its own, seen at this place.
    Own(Option<&'a OwnedFd>),
    /// In this folder, on one that others use too. Its processes are looked at as this user, if one is given.
    Shared(&'a Path, Option<u32>),
}

/// Waits for the end of the program, or ends it.
pub(super) fn watch(
    process: Pid,
    pipes: Pipes,
    input: &[u8],
    settings: &SandboxSettings,
    disk: Disk<'_>,
    stop: Option<&AtomicBool>,
) -> Result<SandboxOutcome, SandboxError> {
    let started = Instant::now();
    let mut run =
        Run::new(process, pipes, input, settings).map_err(SandboxError::system("watching a program"))?;
    let deadline = started + Duration::from_secs_f64(settings.seconds);
    let mut look = started;
    let broken = loop {
        run.wait(TICK.min(deadline.saturating_duration_since(Instant::now())))
            .map_err(SandboxError::system("waiting for a program"))?;
        if run.has_ended() {
            break None;
        }
        let now = Instant::now();
        if stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            break Some(Exit::Stopped);
        }
        if let Some(limit) = run.output_limit(settings) {
            break Some(Exit::Limit(limit));
        }
        if now >= look {
            if let Some(limit) = run.usage_limit(settings, disk) {
                break Some(Exit::Limit(limit));
            }
            // Much to look at takes long: that must not become all that this thread does.
            look = Instant::now() + TICK.max(now.elapsed() * 4);
        }
        if now >= deadline {
            break Some(Exit::Limit(Limit::Time(settings.seconds)));
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    let ended = run.end().map_err(SandboxError::system("ending a program"))?;
    // A program can write more than it should and end at once.
    let too_much = run.output_limit(settings).or_else(|| own_disk_limit(settings, disk)).map(Exit::Limit);
    let own = match ended {
        Exit::Signal(SIGXCPU) => Exit::Limit(Limit::Cpu(settings.cpu_seconds)),
        Exit::Signal(SIGKILL) if run.cpu_seconds >= settings.cpu_seconds as f64 => {
            Exit::Limit(Limit::Cpu(settings.cpu_seconds))
        }
        Exit::Signal(SIGXFSZ) => Exit::Limit(Limit::FileSize(settings.file_mib)),
        other => other,
    };
    let exit = match broken {
        // it was dying of a limit already when it was told to stop
        Some(Exit::Stopped) if matches!(own, Exit::Limit(_)) => own,
        Some(broken) => broken,
        None => too_much.unwrap_or(own),
    };
    let [stdout, stderr] = [&mut run.stdout, &mut run.stderr].map(|output| std::mem::take(&mut output.bytes));
    let most = |mut bytes: Vec<u8>| {
        bytes.truncate((settings.output_kib as usize) << 10);
        bytes
    };
    Ok(SandboxOutcome { exit, stdout: most(stdout), stderr: most(stderr), seconds })
}

const SIGKILL: i32 = Signal::KILL.as_raw();
const SIGXCPU: i32 = Signal::XCPU.as_raw();
const SIGXFSZ: i32 = Signal::XFSZ.as_raw();

struct Run<'a> {
    /// The first process and its group.
    group: Pid,
    reaped: bool,
    stdin: Option<OwnedFd>,
    /// Readable once the program has ended; old kernels have none.
    ended: Option<OwnedFd>,
    input: &'a [u8],
    stdout: Output,
    stderr: Output,
    most: usize,
    /// Of the first process, when it had ended.
    cpu_seconds: f64,
}

/// Whether a file system of its own has been filled beyond the limit.
fn own_disk_limit(settings: &SandboxSettings, disk: Disk<'_>) -> Option<Limit> {
    let Disk::Own(Some(folder)) = disk else { return None };
    let (bytes, entries) = volume::used(folder);
    (bytes.max(entries) > settings.scratch_mib << 20).then_some(Limit::Scratch(settings.scratch_mib))
}

struct Output {
    pipe: Option<OwnedFd>,
    bytes: Vec<u8>,
}

impl<'a> Run<'a> {
    fn new(group: Pid, pipes: Pipes, input: &'a [u8], settings: &SandboxSettings) -> io::Result<Self> {
        let run = Self {
            group,
            reaped: false,
            ended: pidfd_open(group, PidfdFlags::empty()).ok(),
            stdin: pipes.input,
            input,
            stdout: Output { pipe: pipes.output, bytes: Vec::new() },
            stderr: Output { pipe: pipes.error, bytes: Vec::new() },
            most: (settings.output_kib as usize) << 10,
            cpu_seconds: 0.0,
        };
        for pipe in [&run.stdin, &run.stdout.pipe, &run.stderr.pipe].into_iter().flatten() {
            ioctl_fionbio(pipe, true)?;
        }
        Ok(run)
    }

    /// Until something can be read or written, the program ends, or the time is over; then reads and writes.
    fn wait(&mut self, time: Duration) -> io::Result<()> {
        self.write();
        let mut files = Vec::with_capacity(4);
        let pipes = [&self.ended, &self.stdout.pipe, &self.stderr.pipe];
        files.extend(pipes.into_iter().flatten().map(|file| PollFd::new(file, PollFlags::IN)));
        files.extend(self.stdin.iter().map(|file| PollFd::new(file, PollFlags::OUT)));
        let time = if self.ended.is_some() { time } else { time.min(Duration::from_millis(2)) };
        let time = Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
        match poll(&mut files, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        drop(files);
        self.stdout.read(self.most)?;
        self.stderr.read(self.most)
    }

    /// Gives the program more of its input. One that does not read it is its own affair.
    fn write(&mut self) {
        while let Some(stdin) = &self.stdin {
            match rustix::io::write(stdin, self.input) {
                Ok(written) if written < self.input.len() => self.input = &self.input[written..],
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                _ => self.stdin = None,
            }
        }
    }

    /// Whether the first process has ended. It stays a zombie, so its number and the group's stay its own.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::Pid(self.group), options), Ok(Some(_)) | Err(_))
    }

    fn output_limit(&self, settings: &SandboxSettings) -> Option<Limit> {
        let over = |output: &Output| output.bytes.len() > self.most;
        (over(&self.stdout) || over(&self.stderr)).then_some(Limit::Output(settings.output_kib))
    }

    fn usage_limit(&self, settings: &SandboxSettings, disk: Disk<'_>) -> Option<Limit> {
        let process = self.group.as_raw_nonzero().get();
        let (members, usage) = match settings.processes {
            0 => (vec![process], usage::of_process(process)),
            _ => usage::of_group(process),
        };
        if usage.processes > settings.processes + 1 {
            return Some(Limit::Processes(settings.processes));
        }
        if usage.threads > settings.threads {
            return Some(Limit::Threads(settings.threads));
        }
        let (memory, scratch) = (settings.memory_mib << 20, settings.scratch_mib << 20);
        let in_memory = match disk {
            Disk::Own(Some(folder)) => volume::used(folder).0,
            _ => 0,
        };
        if usage.memory + in_memory > memory {
            return Some(Limit::Memory(settings.memory_mib));
        }
        let exceeds = match disk {
            Disk::Own(folder) => {
                // fewer cannot be nested too deep
                let many = folder.filter(|folder| volume::used(folder).1 > usage::DEPTH * volume::ENTRY);
                let seen = many.map(|folder| format!("/proc/self/fd/{}", folder.as_raw_fd()));
                own_disk_limit(settings, disk).is_some()
                    || seen.is_some_and(|seen| usage::folder_exceeds(seen.as_ref(), u64::MAX))
            }
            Disk::Shared(folder, user) => {
                let look = || usage::held(&members, folder, settings.file_mib << 20);
                let held = user.map_or_else(look, |user| as_user(user, look));
                held > scratch || usage::folder_exceeds(folder, scratch - held)
            }
        };
        exceeds.then_some(Limit::Scratch(settings.scratch_mib))
    }

    /// Kills the whole group, takes what is left in the pipes, and tells how the first process ended.
    fn end(&mut self) -> io::Result<Exit> {
        // Still unreaped, so the number cannot be another's. A kill reaches all: a fork that is under way fails.
        kill_process_group(self.group, Signal::KILL).or_else(|error| match error {
            rustix::io::Errno::SRCH => Ok(()),
            other => Err(other),
        })?;
        let deadline = Instant::now() + DYING;
        while !self.has_ended() {
            if Instant::now() > deadline {
                return Err(io::Error::new(ErrorKind::TimedOut, "a killed process does not die"));
            }
            self.wait(TICK)?;
        }
        self.cpu_seconds = usage::of_process(self.group.as_raw_nonzero().get()).cpu_seconds;
        self.stdout.read(self.most)?;
        self.stderr.read(self.most)?;
        self.reap()
    }

    fn reap(&mut self) -> io::Result<Exit> {
        let status = waitpid(Some(self.group), WaitOptions::empty())?;
        self.reaped = true;
        let (_, status) = status.ok_or(ErrorKind::NotFound)?;
        Ok(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or(SIGKILL)),
        })
    }
}

impl Drop for Run<'_> {
    /// After an error nothing is left behind either.
    fn drop(&mut self) {
        if !self.reaped {
            let _ = kill_process_group(self.group, Signal::KILL);
            let _ = waitpid(Some(self.group), WaitOptions::NOHANG);
        }
    }
}

impl Output {
    /// Takes what is there, up to one byte more than `most`.
    fn read(&mut self, most: usize) -> io::Result<()> {
        let mut buffer = [0; 1 << 14];
        while let Some(pipe) = &self.pipe
            && self.bytes.len() <= most
        {
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(read) => self.bytes.extend_from_slice(&buffer[..read]),
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
