//! How the new process is made, and what it does to itself before it becomes the program.
//!
//! Before: [`super::Confinement`] prepared a ruleset, a filter and limits. After: the program runs within them and can
//! only tighten them.
//!
//! `fork` copies the page tables of this process, which takes a quarter of a second with a model of a few gigabytes in
//! memory. So the new process borrows this one's memory until it becomes the program, as `posix_spawn` does, while the
//! thread that made it stands still. It may not take memory or wait for a lock that another thread may hold: all is
//! ready beforehand, and only system calls are left.
#![expect(
    unsafe_code,
    reason = "making a process that borrows this one's memory, and calls without a wrapper"
)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, WaitOptions, getegid, geteuid, getppid, kill_process,
    setrlimit, setsid,
};
use rustix::process::{dumpable_behavior, set_dumpable_behavior, set_parent_process_death_signal, waitpid};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid, set_capabilities, set_no_new_privs};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use seccompiler::BpfProgram;

use super::trial;
use super::volume::Volume;

/// As whom the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum User {
    /// As the user of this process, who has no special rights.
    Same,
    /// As one who owns nothing.
    Nobody(u32),
    /// As root without any capability.
    BareRoot,
}

/// Limits that the kernel keeps for each process.
pub(super) type Limits = [(Resource, Rlimit); 9];

/// All that the process puts on, and what it becomes.
pub(super) struct Child<'a> {
    /// This process: if it has died already, so does the program.
    pub(super) parent: Option<Pid>,
    pub(super) limits: Limits,
    pub(super) user: User,
    /// What lies in place of its folder.
    pub(super) volume: Volume<'a>,
    /// The files that it may open, and its rights in its folder, which are added when that is there.
    pub(super) ruleset: Option<(OwnedFd, u64)>,
    pub(super) filter: Option<Arc<BpfProgram>>,
    pub(super) program: CString,
    pub(super) arguments: Vec<CString>,
    pub(super) environment: Vec<CString>,
    pub(super) folder: CString,
    /// What become its standard input, output and error. None of them may be one of the three now.
    pub(super) standard: [OwnedFd; 3],
}

/// The starts under way whose new process changes its user while it has this one's memory, and the threads that look as
/// another user. The kernel forbids debuggers to look at such memory, for all. It is allowed again when the last of them has memory of its own: earlier, whoever is
/// the same user could look at ours through one that is not yet away.
static SHARING: Sharing = Sharing(Mutex::new((0, false)));

/// Has this thread look at files and processes as that user may, which root without all of its rights cannot: whoever is
/// the same user may look at a process. It has his rights of files for so long, and no others.
pub(super) fn as_user<T>(id: u32, look: impl FnOnce() -> T) -> T {
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            // SAFETY: the calls read no memory and change this thread only.
            unsafe {
                libc::setfsuid(geteuid().as_raw());
                libc::setfsgid(getegid().as_raw());
            }
            // What failed here is tried again by the next that ends.
            let _ = SHARING.end(|| Ok(set_dumpable_behavior(DumpableBehavior::Dumpable)?));
        }
    }
    SHARING.begin(|| matches!(dumpable_behavior(), Ok(DumpableBehavior::Dumpable)));
    let _back = Back;
    // SAFETY: as above. What does not work is seen by what cannot be looked at.
    unsafe {
        libc::setfsgid(id);
        libc::setfsuid(id);
    }
    look()
}

/// How many share the memory, and whether it could be looked at before the first of them.
struct Sharing(Mutex<(usize, bool)>);

impl Sharing {
    /// One more; `allowed` says whether debuggers may look, and is asked while there is none.
    fn begin(&self, allowed: impl FnOnce() -> bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 == 0 {
            state.1 = allowed();
        }
        state.0 += 1;
    }

    /// One less; `allow` is called after the last if it was allowed before the first.
    fn end(&self, allow: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 -= 1;
        if *state == (0, true) { allow() } else { Ok(()) }
    }
}

/// What both processes see while they share memory.
struct Shared<'a> {
    child: &'a Child<'a>,
    arguments: &'a [*const c_char],
    environment: &'a [*const c_char],
    /// What the system refused, or 0.
    error: AtomicI32,
    /// If the limits are only to be tried: those that do not hold.
    broken: Option<AtomicU32>,
}

impl Child<'_> {
    /// Starts it.
    ///
    /// # Errors
    /// If any of its walls cannot be put up, or there is no such program. Then nothing is left of the process.
    pub(super) fn start(&self) -> io::Result<Pid> {
        Ok(self.spawn(None)?.0)
    }

    /// Puts all on, tries to break the limits, and ends: which of [`trial::TRIED`] do not hold, a bit for each.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(super) fn try_out(&self) -> io::Result<u32> {
        let (process, broken) = self.spawn(Some(AtomicU32::new(0)))?;
        waitpid(Some(process), WaitOptions::empty())?;
        Ok(broken)
    }

    fn spawn(&self, broken: Option<AtomicU32>) -> io::Result<(Pid, u32)> {
        const STACK: usize = 1 << 17;
        let (arguments, environment) = (pointers(&self.arguments), pointers(&self.environment));
        let shared = Shared {
            child: self,
            arguments: &arguments,
            environment: &environment,
            error: AtomicI32::new(0),
            broken,
        };
        let other_user = matches!(self.user, User::Nobody(_));
        if other_user {
            SHARING.begin(|| matches!(dumpable_behavior(), Ok(DumpableBehavior::Dumpable)));
        }
        let mut stack = vec![0_u128; STACK / 16]; // in units of its alignment
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: the sets are written before they are read. With CLONE_VFORK this thread stands still until the new
        // process has its own memory or is gone, so `shared` and `stack`, which no other thread knows of, outlive its
        // use of them; the stack grows down from its end. Signals are blocked meanwhile, so no handler of ours runs in
        // the new process. `enter` does nothing but read `shared` and make system calls.
        let process = unsafe {
            let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            let top = stack.as_mut_ptr_range().end.cast::<c_void>();
            let process = libc::clone(enter, top, flags, ptr::from_ref(&shared).cast_mut().cast::<c_void>());
            let error = io::Error::last_os_error();
            libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
            if process == -1 { Err(error) } else { Ok(process) }
        };
        drop(stack);
        let allowed = if other_user {
            SHARING.end(|| Ok(set_dumpable_behavior(DumpableBehavior::Dumpable)?))
        } else {
            Ok(())
        };
        let process = Pid::from_raw(process?).ok_or(io::ErrorKind::Other)?;
        let error = match shared.error.load(Ordering::Relaxed) {
            0 => allowed.err(),
            error => Some(io::Error::from_raw_os_error(error)),
        };
        let Some(error) = error else {
            return Ok((process, shared.broken.map_or(0, AtomicU32::into_inner)));
        };
        // it may have ended by itself
        let _ = kill_process(process, Signal::KILL);
        waitpid(Some(process), WaitOptions::empty())?;
        Err(error)
    }

    /// Puts all on.
    fn put_on(&self) -> io::Result<()> {
        take_standard(&self.standard)?;
        setsid()?; // a process group of its own, and no terminal
        if self.user == User::BareRoot {
            match set_thread_groups(&[]) {
                // In a container that root may not set groups in, they are none of the machine's.
                Ok(()) | Err(rustix::io::Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.volume.mount()?;
        change_folder(&self.folder)?;
        if let User::Nobody(id) = self.user {
            let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
            set_thread_groups(&[])?;
            set_thread_res_gid(group, group, group)?;
            set_thread_res_uid(user, user, user)?;
        }
        self.volume.fill()?;
        // While this process's limit of open files holds: those of the program may be below what is open here.
        if let Some((ruleset, rights)) = &self.ruleset {
            add_working_folder(ruleset, *rights)?;
        }
        for (resource, limit) in self.limits {
            setrlimit(resource, limit)?;
        }
        // Those of root, and those that one has in a new user namespace.
        let none = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
        // Changing the user clears it, so it comes after.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() != self.parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        set_no_new_privs(true)?;
        if let Some((ruleset, _)) = &self.ruleset {
            restrict(ruleset)?;
        }
        match self.filter.as_deref().map(|filter| seccompiler::apply_filter(filter)) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error))) => Err(error),
            Some(Err(_)) => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }
}

/// The new process: it becomes the program, or says why not and ends.
extern "C" fn enter(shared: *mut c_void) -> c_int {
    // SAFETY: `start` passes a `Shared` and keeps it until this process has left its memory.
    let shared = unsafe { &*shared.cast::<Shared<'_>>() };
    let error = match (shared.child.put_on(), &shared.broken) {
        (Ok(()), Some(broken)) => {
            broken.store(trial::broken(&shared.child.limits), Ordering::Relaxed);
            // SAFETY: as at the end.
            unsafe { libc::_exit(0) }
        }
        // SAFETY: both lists hold strings that end with 0 and end with a null, and live in `start`.
        (Ok(()), None) => unsafe {
            default_signals();
            libc::execve(
                shared.child.program.as_ptr(),
                shared.arguments.as_ptr(),
                shared.environment.as_ptr(),
            );
            io::Error::last_os_error()
        },
        (Err(error), _) => error,
    };
    shared.error.store(error.raw_os_error().unwrap_or(libc::EINVAL), Ordering::Relaxed);
    // SAFETY: ends this process without running what the other one has registered for its end.
    unsafe { libc::_exit(127) }
}

/// No handler and nothing ignored or blocked, whatever this program has set. The handlers are a copy, not shared.
///
/// # Safety
/// Only for a process that is about to become another program.
unsafe fn default_signals() {
    // SAFETY: a zeroed action is the default one; signals that have no handler are refused, and that is right.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        for signal in 1..=64 {
            libc::sigaction(signal, &default, ptr::null_mut());
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

fn done(result: impl Into<i64>) -> io::Result<()> {
    if result.into() == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The three standard files; no other of this process outlives `exec`, whoever opened it.
fn take_standard(files: &[OwnedFd; 3]) -> io::Result<()> {
    for (file, number) in files.iter().zip(0..) {
        // SAFETY: the calls read no memory; the table of files is this process's own copy.
        done(unsafe { libc::dup2(file.as_raw_fd(), number) })?;
    }
    // SAFETY: as above.
    done(unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
}

fn change_folder(folder: &CString) -> io::Result<()> {
    // SAFETY: the string ends with 0 and is only read.
    done(unsafe { libc::chdir(folder.as_ptr()) })
}

/// Rights beneath the working folder, as the crate for rulesets adds them, but without taking memory.
fn add_working_folder(ruleset: &OwnedFd, rights: u64) -> io::Result<()> {
    const PATH_BENEATH: u32 = 1;
    #[repr(C, packed)]
    struct Rule {
        rights: u64,
        folder: c_int,
    }
    // SAFETY: the string ends with 0 and is only read.
    let folder = unsafe { libc::open(c".".as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    done(folder)?;
    let rule = Rule { rights, folder };
    let ruleset = ruleset.as_raw_fd();
    // SAFETY: the kernel reads a rule of this kind through the pointer, which is valid during the call.
    let added = unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset, PATH_BENEATH, ptr::from_ref(&rule), 0u32)
    };
    let added = done(added);
    // SAFETY: the file was opened here and nobody else has it.
    done(unsafe { libc::close(folder) })?;
    added
}

fn restrict(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: the call takes an open file and no flags, and reads no memory.
    done(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0u32) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// The kernel's note, which every start of another user's program sets to `false`.
    #[test]
    fn debuggers_are_let_in_again_by_the_last_of_several_starts() {
        let (sharing, note) = (Sharing(Mutex::new((0, false))), Cell::new(true));
        let begin = || {
            sharing.begin(|| note.get());
            note.set(false);
        };
        let end = || {
            sharing
                .end(|| {
                    note.set(true);
                    Ok(())
                })
                .expect("nothing fails");
        };
        begin();
        begin(); // finds what the first one left, and is not misled by it
        end();
        assert!(!note.get(), "the second still has our memory");
        begin();
        end();
        assert!(!note.get());
        end();
        assert!(note.get());
        begin();
        end();
        assert!(note.get(), "one alone");
        note.set(false);
        begin();
        end();
        assert!(!note.get(), "what was not allowed before is not allowed after");
    }
}
