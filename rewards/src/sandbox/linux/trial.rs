//! Whether the limits of a run hold, tried by a process that has put them on.
//!
//! Before: [`super::child`] put all on for a program that only tries. After: [`super::probe`] says what does not hold.
//! The process still has this program's memory, so there are only system calls here.
#![expect(unsafe_code, reason = "calls without a wrapper that takes no memory")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::process::{Resource, getrlimit};

use super::child::Limits;

/// What is tried, in the order of the bits of [`broken`].
pub(super) const TRIED: [&str; 5] = [
    "more memory than `memory_mib` can be taken",
    "more files than `open_files` can be opened",
    "a file can become larger than `file_mib`",
    "the processor time, queued signals and priorities of the kernel's limits are others",
    "more than the scratch folder's size can be written, or taken at once",
];

/// What is written at once.
const PIECE: usize = 1 << 16;
static ZEROS: [u8; PIECE] = [0; PIECE];

/// The size of the file system that is filled, beside what it has beyond its limit.
pub(super) const VOLUME: u64 = 1 << 18;
/// Pieces that are far more than that, in files of the least size that settings allow.
const MOST: usize = 64;

/// A bit for each of [`TRIED`] that does not hold. To be called in a process that will do nothing else, in its folder.
pub(super) fn broken(limits: &Limits) -> u32 {
    let limit = |of: Resource| {
        let found = limits.iter().find(|(resource, _)| *resource == of);
        found.and_then(|(_, limit)| limit.current).unwrap_or(u64::MAX)
    };
    let kept = limits.iter().all(|(resource, wanted)| {
        let found = getrlimit(*resource);
        (found.current, found.maximum) == (wanted.current, wanted.maximum)
    });
    // What this program has open is open here too, and may be more than the limit.
    // SAFETY: the table of files is this process's own copy, and whoever thinks to own one of them does not run here.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
    let own = is_own();
    let file = open(c"file");
    [
        takes_memory(limit(Resource::As)),
        opens_files(limit(Resource::Nofile)),
        file.as_ref().is_none_or(|file| grows(file, limit(Resource::Fsize))),
        !kept,
        file.as_ref().is_none_or(|file| allocates(file, own)) || own && overfills(),
    ]
    .iter()
    .zip(0..)
    .map(|(broken, bit)| u32::from(*broken) << bit)
    .sum()
}

fn takes_memory(most: u64) -> bool {
    let Some(length) = most.checked_add(PIECE as u64).and_then(|length| usize::try_from(length).ok()) else {
        return false;
    };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: new memory that nobody may access, given back at once; nothing else is mapped over.
    unsafe {
        let place = libc::mmap(ptr::null_mut(), length, libc::PROT_NONE, flags, -1, 0);
        place != libc::MAP_FAILED && libc::munmap(place, length) == 0
    }
}

fn opens_files(most: u64) -> bool {
    let Ok(number) = i32::try_from(most) else { return false };
    // SAFETY: the call reads no memory.
    unsafe { libc::fcntl(0, libc::F_DUPFD, number) != -1 }
}

/// The signal for it is blocked in this process.
fn grows(file: &OwnedFd, most: u64) -> bool {
    let Ok(place) = i64::try_from(most) else { return false };
    // SAFETY: one byte of an array is read.
    unsafe { libc::pwrite(file.as_raw_fd(), ZEROS.as_ptr().cast(), 1, place) == 1 }
}

/// Whether `fallocate` takes more than the file system may have. On a shared disk it takes nothing.
fn allocates(file: &OwnedFd, own: bool) -> bool {
    let length = if own { MOST * PIECE } else { PIECE };
    // SAFETY: the call reads no memory.
    unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length as i64) == 0 }
}

/// Whether this folder is on a file system of its own, of a size that can be tried.
fn is_own() -> bool {
    const TMPFS: u64 = 0x0102_1994;
    rustix::fs::statfs(c".").is_ok_and(|found| {
        found.f_type as u64 == TMPFS && found.f_blocks * (found.f_bsize as u64) < (MOST * PIECE) as u64
    })
}

/// Whether the file system of a run takes far more than it may. A shared disk is looked at instead.
fn overfills() -> bool {
    let names = [c"0", c"1", c"2", c"3", c"4", c"5", c"6", c"7"];
    names.iter().all(|name| {
        open(name).is_some_and(|file| {
            (0..MOST / names.len()).all(|_| {
                // SAFETY: the pointer and length are those of an array.
                unsafe { libc::write(file.as_raw_fd(), ZEROS.as_ptr().cast(), PIECE) == PIECE as isize }
            })
        })
    })
}

fn open(name: &std::ffi::CStr) -> Option<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
    // SAFETY: the string ends with 0; a file that was just opened has no other owner.
    unsafe {
        let file = libc::open(name.as_ptr(), flags, 0o600);
        (file != -1).then(|| OwnedFd::from_raw_fd(file))
    }
}
