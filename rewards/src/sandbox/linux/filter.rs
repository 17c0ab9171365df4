//! The system calls that a program in the sandbox may not make.
//!
//! Before: the settings say whether it may start processes. After: [`super::child`] puts the filter on.
//! Landlock decides which files may be opened; what it does not know of is refused here: sockets, other processes, the
//! modes, owners and times of files (they can be changed without opening), memory that outlives a process, whatever
//! holds a deleted file without being seen in `/proc`, and every call that is newer than this list. Of the calls that
//! do many things (`fcntl`, `ioctl`, `prctl`) what is harmless is listed, and all else is refused.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

// Calls that have these numbers everywhere and no name in libc on some processors.
const FCHMODAT2: c_long = 452;
const STATMOUNT: c_long = 457;
const LISTMOUNT: c_long = 458;

/// The first call that nobody has read for this list. On x86-64 the 32-bit calls with 64-bit registers are beyond it
/// too. The caller is told that there is no such call, so libraries fall back to an older one.
const FIRST_UNKNOWN: u32 = 463;

/// Refused whatever the arguments are.
#[rustfmt::skip]
const REFUSED: &[c_long] = &[
    // The network. `socketpair` is below: event loops need a pair.
    libc::SYS_socket, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4,
    // Other processes of this user.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_process_madvise,
    libc::SYS_process_mrelease, libc::SYS_pidfd_open, libc::SYS_pidfd_getfd, libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp, libc::SYS_move_pages, libc::SYS_migrate_pages, libc::SYS_setpriority, libc::SYS_ioprio_set,
    // Leaving the process group, by which the tree is killed.
    libc::SYS_setsid, libc::SYS_setpgid,
    // Modes, owners, times and attributes, which Landlock does not guard; `truncate` it guards only since Linux 6.2.
    libc::SYS_fchmod, libc::SYS_fchmodat, FCHMODAT2, libc::SYS_fchown, libc::SYS_fchownat, libc::SYS_utimensat,
    libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr, libc::SYS_removexattr, libc::SYS_lremovexattr,
    libc::SYS_fremovexattr, libc::SYS_truncate,
    // A lock on a file that other programs lock: it may be taken on any that can be read.
    libc::SYS_flock,
    // What other programs do with files, and the few watches that a user has.
    libc::SYS_inotify_init1, libc::SYS_inotify_add_watch, libc::SYS_inotify_rm_watch,
    // Files that are on their way through a socket, or named by a rule, are held and in no table.
    libc::SYS_sendmsg, libc::SYS_sendmmsg, libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self,
    // Files by other ways than their path.
    libc::SYS_open_by_handle_at, libc::SYS_name_to_handle_at, libc::SYS_openat2, libc::SYS_memfd_create,
    libc::SYS_memfd_secret, libc::SYS_fanotify_init, libc::SYS_fanotify_mark, libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    // Memory and messages that outlive the process or are another's.
    libc::SYS_shmget, libc::SYS_shmat, libc::SYS_shmctl, libc::SYS_semget, libc::SYS_semop, libc::SYS_semctl,
    libc::SYS_semtimedop, libc::SYS_msgget, libc::SYS_msgsnd, libc::SYS_msgrcv, libc::SYS_msgctl,
    libc::SYS_mq_open, libc::SYS_mq_unlink, libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl,
    // Name spaces and mounts.
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot, libc::SYS_unshare, libc::SYS_setns,
    libc::SYS_open_tree, libc::SYS_move_mount, libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount,
    libc::SYS_fspick, libc::SYS_mount_setattr, STATMOUNT, LISTMOUNT,
    // Large and seldom used parts of the kernel, where its holes have been.
    libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_bpf,
    libc::SYS_perf_event_open, libc::SYS_userfaultfd, libc::SYS_io_setup, libc::SYS_io_submit,
    // The machine.
    libc::SYS_reboot, libc::SYS_kexec_load, libc::SYS_kexec_file_load, libc::SYS_init_module,
    libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_acct,
    libc::SYS_syslog, libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_clock_adjtime, libc::SYS_adjtimex,
    libc::SYS_sethostname, libc::SYS_setdomainname, libc::SYS_vhangup, libc::SYS_sync, libc::SYS_syncfs,
    libc::SYS_personality,
    // Another user or group.
    libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setreuid, libc::SYS_setregid, libc::SYS_setresuid,
    libc::SYS_setresgid, libc::SYS_setgroups, libc::SYS_setfsuid, libc::SYS_setfsgid, libc::SYS_capset,
];

/// The same, under names that only this processor has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const REFUSED_HERE: &[c_long] = &[
    libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime, libc::SYS_utimes, libc::SYS_futimesat,
    libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_uselib, libc::SYS_inotify_init,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[c_long] = &[];

#[cfg(target_arch = "x86_64")]
const FORKS: &[c_long] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const FORKS: &[c_long] = &[];

/// `clone` flags that make a name space, or a child of the sandbox's own parent.
#[rustfmt::skip]
const CLONE_FLAGS: &[i32] = &[
    libc::CLONE_NEWNS, libc::CLONE_NEWCGROUP, libc::CLONE_NEWUTS, libc::CLONE_NEWIPC, libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID, libc::CLONE_NEWNET, libc::CLONE_PARENT,
];

/// What may be asked of an open file by `fcntl`: copies, flags, and locks on parts of it, of which those for writing need
/// a file that is open to write. Not: leases, which hold up whoever opens the file; notes of what happens in a folder;
/// the process that gets signals; the sizes of pipes, of which a user has so much in all; hints on how files are used.
#[rustfmt::skip]
const FCNTL: &[i32] = &[
    libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_GETLK,
    libc::F_SETLK, libc::F_SETLKW, libc::F_OFD_GETLK, libc::F_OFD_SETLK, libc::F_OFD_SETLKW, libc::F_GETOWN,
    libc::F_GETPIPE_SZ, libc::F_GETLEASE,
];

// These have the same numbers on all processors that filters are made for, and not in all versions of libc a name.
const TCGETS2: u32 = 0x802c_542a;
const FICLONE: u32 = 0x4004_9409;
const FICLONERANGE: u32 = 0x4020_940d;

/// What may be asked of a device or file by `ioctl`: how much there is to read, whether to wait, whether it is a terminal,
/// and copies into a file that is open to write.
#[rustfmt::skip]
const IOCTL: &[u32] = &[
    libc::FIONREAD as u32, libc::FIONBIO as u32, libc::FIOCLEX as u32, libc::FIONCLEX as u32, libc::TCGETS as u32,
    TCGETS2, libc::TIOCGWINSZ as u32, libc::TIOCGPGRP as u32, FICLONE, FICLONERANGE,
];

/// Names memory, for whoever looks at a process.
const PR_SET_VMA: i32 = 0x5356_4d41;
/// How a thread uses its processor: vectors, tagged and signed pointers, shadow stacks.
const PROCESSOR: [i32; 15] = [50, 51, 54, 55, 56, 60, 61, 63, 64, 69, 70, 71, 74, 75, 76];

/// What a process may change in or ask of itself by `prctl`. Not: the signal at its parent's death, who may look at it,
/// to adopt processes, to share a core with nobody.
#[rustfmt::skip]
const PRCTL: &[i32] = &[
    libc::PR_GET_PDEATHSIG, libc::PR_GET_DUMPABLE, libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_GET_SECCOMP,
    libc::PR_SET_SECCOMP, libc::PR_CAPBSET_READ, libc::PR_SET_TIMERSLACK, libc::PR_GET_TIMERSLACK,
    libc::PR_SET_NO_NEW_PRIVS, libc::PR_GET_NO_NEW_PRIVS, libc::PR_GET_TID_ADDRESS, libc::PR_SET_THP_DISABLE,
    libc::PR_GET_THP_DISABLE, PR_SET_VMA,
];

// Pages of a library that other programs use too: to have them written out or dropped slows those down.
const POSIX_FADV_DONTNEED: u64 = 4;
const MADV_COLD: u64 = 20;
const MADV_PAGEOUT: u64 = 21;

/// The filter, if this processor has one.
///
/// # Errors
/// If the processor is not one that filters can be made for.
pub(super) fn filter(processes: bool, signals_scoped: bool) -> Result<BpfProgram, String> {
    let arch =
        TargetArch::try_from(ARCH).map_err(|_| format!("no system call filter is known for {ARCH}"))?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    rules.extend(REFUSED.iter().chain(REFUSED_HERE).map(|call| (*call, vec![])));
    if !signals_scoped {
        let calls = [libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo];
        rules.extend(calls.iter().chain(&[libc::SYS_rt_tgsigqueueinfo]).map(|call| (*call, vec![])));
    }
    // The first argument is a process, 0 for the caller.
    for call in [libc::SYS_prlimit64, libc::SYS_sched_setaffinity, libc::SYS_sched_setattr] {
        rules.insert(call, vec![when(0, SeccompCmpOp::Ne, 0)]);
    }
    // What a crash leaves behind: the limit that is put on stays.
    let core = condition(1, SeccompCmpOp::Eq, libc::RLIMIT_CORE as u64);
    let set = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0).expect("an argument");
    rules.entry(libc::SYS_prlimit64).or_default().push(all_of([core, set]));
    rules.insert(libc::SYS_setrlimit, vec![when(0, SeccompCmpOp::Eq, libc::RLIMIT_CORE as u64)]);
    for call in [libc::SYS_sched_setscheduler, libc::SYS_sched_setparam] {
        rules.insert(call, vec![when(0, SeccompCmpOp::Ne, 0)]);
    }
    // Only connected pairs of streams: a datagram socket could still send to any address.
    let other_kind = SeccompCmpOp::MaskedEq(0xf);
    let kinds = (0..16).filter(|kind| *kind != libc::SOCK_STREAM as u64);
    let mut pairs: Vec<_> = kinds.map(|kind| when(1, other_kind.clone(), kind)).collect();
    pairs.push(when(0, SeccompCmpOp::Ne, libc::AF_UNIX as u64));
    rules.insert(libc::SYS_socketpair, pairs);
    rules.insert(libc::SYS_fcntl, vec![none_of(1, FCNTL.iter().map(|command| *command as u64))]);
    rules.insert(libc::SYS_ioctl, vec![none_of(1, IOCTL.iter().map(|command| (*command).into()))]);
    let options = PRCTL.iter().copied().chain(PROCESSOR);
    rules.insert(libc::SYS_prctl, vec![none_of(0, options.map(|option| option as u64))]);
    rules.insert(libc::SYS_fadvise64, vec![when(3, SeccompCmpOp::Eq, POSIX_FADV_DONTNEED)]);
    let advice = [MADV_COLD, MADV_PAGEOUT];
    rules.insert(libc::SYS_madvise, advice.map(|advice| when(2, SeccompCmpOp::Eq, advice)).into());
    // One table of open files for all threads: others would be beyond the limit of a process, and seen nowhere.
    let unshare = SeccompCmpOp::MaskedEq(libc::CLOSE_RANGE_UNSHARE.into());
    rules.insert(libc::SYS_close_range, vec![when(2, unshare, libc::CLOSE_RANGE_UNSHARE.into())]);
    // A file that is opened to read can be emptied; before Linux 6.2 Landlock took that for reading.
    let emptying = SeccompCmpOp::MaskedEq((libc::O_TRUNC | libc::O_ACCMODE) as u64);
    rules.insert(libc::SYS_openat, vec![when(2, emptying.clone(), libc::O_TRUNC as u64)]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, vec![when(1, emptying, libc::O_TRUNC as u64)]);
    let flag = |flag: &i32| when(0, SeccompCmpOp::MaskedEq(*flag as u32 as u64), *flag as u32 as u64);
    let mut clones: Vec<_> = CLONE_FLAGS.iter().map(flag).collect();
    let own_table = SeccompCmpOp::MaskedEq((libc::CLONE_THREAD | libc::CLONE_FILES) as u64);
    clones.push(when(0, own_table, libc::CLONE_THREAD as u64));
    if !processes {
        rules.extend(FORKS.iter().map(|call| (*call, vec![])));
        clones.push(when(0, SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64), 0));
    }
    rules.insert(libc::SYS_clone, clones);
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch);
    let listed: BpfProgram =
        filter.and_then(TryInto::try_into).map_err(|error| format!("the filter is wrong: {error}"))?;
    Ok(unknown_calls().into_iter().chain(listed).collect())
}

/// The argument, of which the kernel reads 32 bits, compares so with the value.
fn when(argument: u8, is: SeccompCmpOp, value: u64) -> SeccompRule {
    all_of([condition(argument, is, value)])
}

/// The argument is none of the values.
fn none_of(argument: u8, values: impl IntoIterator<Item = u64>) -> SeccompRule {
    all_of(values.into_iter().map(|value| condition(argument, SeccompCmpOp::Ne, value)))
}

fn all_of(conditions: impl IntoIterator<Item = SeccompCondition>) -> SeccompRule {
    SeccompRule::new(conditions.into_iter().collect()).expect("there is a condition")
}

fn condition(argument: u8, is: SeccompCmpOp, value: u64) -> SeccompCondition {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value).expect("a call has six arguments")
}

/// The filter that also says of `fallocate` that this file system does not know it, so libraries write instead. It takes
/// disk faster than anybody can look.
pub(super) fn without_fallocate(filter: &BpfProgram) -> BpfProgram {
    let unsupported = libc::SECCOMP_RET_ERRNO | libc::EOPNOTSUPP as u32;
    let first = [
        sock_filter { code: LOAD, jt: 0, jf: 0, k: 0 },
        sock_filter { code: EQUALS, jt: 0, jf: 1, k: libc::SYS_fallocate as u32 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: unsupported },
    ];
    first.into_iter().chain(filter.iter().cloned()).collect()
}

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS; the number of the call stands at 0
const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const EQUALS: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// "No such call" for `clone3`, whose flags a filter cannot see, and for all from [`FIRST_UNKNOWN`] on.
fn unknown_calls() -> [sock_filter; 4] {
    let no_such_call = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    [
        sock_filter { code: LOAD, jt: 0, jf: 0, k: 0 },
        sock_filter { code: AT_LEAST, jt: 1, jf: 0, k: FIRST_UNKNOWN },
        sock_filter { code: EQUALS, jt: 0, jf: 1, k: libc::SYS_clone3 as u32 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: no_such_call },
    ]
}
