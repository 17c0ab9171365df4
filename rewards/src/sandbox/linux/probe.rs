//! What this kernel and this user really give.
//!
//! Before: a sandbox is made. After: [`Protections`] say what holds. A thread shuts itself in, as Landlock and filters
//! are a thread's own, tries what should be impossible, and ends.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use landlock::{LandlockStatus, RulesetStatus};
use rustix::process::{getppid, test_kill_process};
use rustix::thread::{CapabilitySet, capabilities};
use seccompiler::BpfProgram;

use super::super::{Protection, Protections, SandboxError};
use super::child::User;
use super::scratch::Scratch;
use super::{NOBODY, filter, other_user, ruleset, usage};

/// What the thread found.
pub(super) struct Found {
    /// If Landlock does anything: the rights in a scratch folder.
    pub(super) ruleset: Option<u64>,
    /// The filter, if the kernel takes it.
    pub(super) filter: Result<Arc<BpfProgram>, String>,
    landlock: String,
    signals_scoped: bool,
    file_system: Result<(), String>,
    network: Result<(), String>,
    signals: Result<(), String>,
    processes: Result<(), String>,
}

impl Found {
    pub(super) fn protections(&self, user: Protection, resources: Protection) -> Protections {
        let filtered = "a system call filter";
        let how = |tried: &Result<(), String>, by: &str| match (tried, &self.filter) {
            (Ok(()), _) => Protection::Enforced(format!("{by}; tried")),
            (Err(why), Err(no_filter)) => Protection::Missing(format!("{why}; {no_filter}")),
            (Err(why), Ok(_)) => Protection::Missing(why.clone()),
        };
        Protections {
            file_system: how(&self.file_system, &format!("{} and {filtered}", self.landlock)),
            network: how(&self.network, filtered),
            signals: how(&self.signals, if self.signals_scoped { &self.landlock } else { filtered }),
            processes: how(&self.processes, &format!("{filtered}, and by looking every 10 ms")),
            resources,
            user,
        }
    }
}

/// What holds for programs whose limits of the kernel hold; `shared` says why they have no file system of their own.
pub(super) fn resources(shared: Option<&str>) -> Protection {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    if !usage::can_look_at(own) || usage::of_process(own).memory == 0 {
        return Protection::Missing("processes cannot be looked at: `/proc` is not there or closed".into());
    }
    Protection::Enforced(match shared {
        None => "limits of the kernel, a file system of its own in memory, and by looking every 10 ms; tried"
            .into(),
        Some(why) => format!(
            "limits of the kernel, and by looking every 10 ms; tried. Scratch folders share a disk: a file system of its \
             own failed ({why})"
        ),
    })
}

/// As whom this process has to look at programs of this user: as himself, where root may not look at everybody's.
pub(super) fn look_as(user: User) -> Option<u32> {
    let everybody = || capabilities(None).is_ok_and(|own| own.effective.contains(CapabilitySet::SYS_PTRACE));
    if let User::Nobody(id) = user { Some(id).filter(|_| !everybody()) } else { None }
}

/// As whom programs run, whose scratch folders are in this place.
pub(super) fn user(read: &[PathBuf], place: &Path) -> (User, Protection) {
    let reach = read.iter().map(PathBuf::as_path).chain([place]);
    match (other_user(), ruleset::open_to_all(reach)) {
        (None, _) => {
            let why = "programs run as this user; what the other protections do not name stays its right";
            (User::Same, Protection::Missing(why.into()))
        }
        (Some(true), Ok(())) => {
            (User::Nobody(NOBODY), Protection::Enforced(format!("programs run as user {NOBODY}, not root")))
        }
        (Some(false), _) => {
            let why = format!("programs run as root without capabilities: user {NOBODY} is not mapped here");
            (User::BareRoot, Protection::Missing(why))
        }
        (Some(true), Err(closed)) => {
            let closed = closed.display();
            let why =
                format!("programs run as root without capabilities: `{closed}` is closed to other users");
            (User::BareRoot, Protection::Missing(why))
        }
    }
}

/// Shuts a thread in and has it try, in a folder that is made in this place.
pub(super) fn try_out(read: &[PathBuf], place: &Path, processes: bool) -> Result<Found, SandboxError> {
    let trying = || SandboxError::system("a folder to try the sandbox with");
    let scratch = Scratch::new(place, &[], None).map_err(trying())?;
    let (inside, outside) = (&scratch.folder, scratch.outer.join("outside"));
    fs::write(&outside, "outside").map_err(trying())?;
    let thread = std::thread::scope(|scope| {
        let start = std::thread::Builder::new().name("sandbox-probe".into());
        let started = start.spawn_scoped(scope, || shut_in(read, inside, &outside, processes));
        started.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let found = thread.map_err(SandboxError::system("a thread to try the sandbox with"))?;
    scratch.delete().map_err(trying())?;
    Ok(found)
}

fn shut_in(read: &[PathBuf], inside: &Path, outside: &Path, processes: bool) -> Found {
    let restricted = rustix::thread::set_no_new_privs(true)
        .map_err(|error| error.to_string())
        .and_then(|()| ruleset::with_scratch(ruleset::ruleset(read)?, inside))
        .and_then(|ruleset| ruleset.restrict_self().map_err(|error| error.to_string()));
    let (ruleset, landlock) = match restricted {
        Err(error) => (None, format!("Landlock failed: {error}")),
        Ok(status) => match status.landlock {
            LandlockStatus::NotEnabled => (None, "this kernel was started without Landlock".into()),
            LandlockStatus::NotImplemented => (None, "this kernel has no Landlock".into()),
            LandlockStatus::Available { effective_abi, .. } => {
                let enforced = status.ruleset != RulesetStatus::NotEnforced;
                let rights = enforced.then(|| ruleset::scratch_rights(effective_abi));
                (rights, format!("Landlock {}", effective_abi as i32))
            }
        },
    };
    // Before the filter, so that this is Landlock's doing.
    let signals_scoped = refused("signalling another process", kill_parent()).is_ok();
    let filter = filter::filter(processes, signals_scoped).and_then(|filter| {
        let put_on = seccompiler::apply_filter(&filter);
        put_on.map(|()| Arc::new(filter)).map_err(|error| format!("the kernel takes no filter: {error}"))
    });
    let all = |tried: Vec<Result<(), String>>| tried.into_iter().collect::<Result<(), String>>();
    let new_file = outside.with_extension("new");
    let mut file_system = all(vec![
        refused("reading a file outside", File::open(outside)),
        refused("writing a file outside", File::options().append(true).open(outside)),
        refused("making a file outside", File::create(&new_file)),
        refused("deleting a file outside", fs::remove_file(outside)),
        refused("listing a folder outside", fs::read_dir(outside.parent().unwrap_or(outside))),
        refused("changing the mode of a file", change_mode(outside)),
    ]);
    if file_system.is_ok() {
        let wrote = fs::write(inside.join("file"), "inside");
        file_system = wrote.map_err(|error| format!("nothing can be written inside either: {error}"));
    }
    // Not tried: without the filter, it would be this whole process that leaves.
    let mut group = vec![filter.as_ref().map(|_| ()).map_err(|_| "leaving the process group works".into())];
    if !processes {
        let start = Command::new("/bin/true").stdin(Stdio::null()).status();
        group.push(refused("starting a process", start));
    }
    Found {
        ruleset,
        landlock: landlock.clone(),
        signals_scoped,
        file_system: file_system.map_err(|why| format!("{why} ({landlock})")),
        network: all(vec![
            refused("a TCP socket", TcpListener::bind("127.0.0.1:0")),
            refused("a Unix socket", UnixDatagram::unbound()),
        ]),
        signals: refused("signalling another process", kill_parent()),
        processes: all(group),
        filter,
    }
}

fn kill_parent() -> io::Result<()> {
    let Some(parent) = getppid() else { return Err(ErrorKind::PermissionDenied.into()) };
    test_kill_process(parent).map_err(io::Error::from)
}

fn change_mode(file: &Path) -> io::Result<()> {
    let permissions = file.metadata()?.permissions();
    fs::set_permissions(file, permissions)
}

/// That something is not permitted. Any other error does not show that.
fn refused<T>(what: &str, tried: io::Result<T>) -> Result<(), String> {
    match tried {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(format!("{what} failed, but not for want of permission: {error}")),
        Ok(_) => Err(format!("{what} works")),
    }
}
