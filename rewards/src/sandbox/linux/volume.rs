//! A file system of its own for a run: in memory, of a bounded size, seen by nobody else, and gone with the last process.
//!
//! Before: [`super::scratch`] made an empty folder. After: the new process sees a tmpfs in its place, with the files that
//! the program is given. However a program hides what it has written (deleted, mapped, on its way through a socket), it
//! can only fill its own.
#![expect(unsafe_code, reason = "calls without a wrapper that takes no memory")]

use std::ffi::{CStr, CString, c_int, c_ulong};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, getegid, geteuid};

use super::child::User;

/// How a process gets a name space of its own to mount in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Namespace {
    /// By the rights of root.
    Root,
    /// In a user namespace, where anybody has those rights.
    User,
}

impl Namespace {
    /// What may work for programs of this user, best first.
    pub(super) fn candidates(user: User) -> &'static [Self] {
        match user {
            User::Same => &[Self::User],
            User::BareRoot => &[Self::Root, Self::User],
            // Who is another user cannot say in a new user namespace that he is.
            User::Nobody(_) => &[Self::Root],
        }
    }
}

/// What a folder counts for, at least: the memory that the kernel needs for it.
pub(super) const ENTRY: u64 = 4096;

/// Room beyond the limit, so that who breaks it is seen to.
const SLACK: u64 = 1 << 20;

/// The file system, before it is there.
pub(super) struct Volume<'a> {
    /// None if the folder itself is used, and has the files already.
    mount: Option<Mount>,
    files: Vec<(CString, &'a [u8])>,
}

struct Mount {
    namespace: Namespace,
    folder: CString,
    options: CString,
    /// Files in `/proc` and what is written to them, so that the user stays who he is.
    maps: [(&'static CStr, String); 3],
}

impl<'a> Volume<'a> {
    /// None of its own.
    pub(super) fn none() -> Self {
        Self { mount: None, files: Vec::new() }
    }

    /// One of so many bytes, and room for the files.
    ///
    /// # Errors
    /// If a name has a zero in it.
    pub(super) fn new(
        namespace: Namespace,
        user: User,
        folder: &Path,
        bytes: u64,
        files: &[(&str, &'a [u8])],
    ) -> io::Result<Self> {
        let (user, group) = match user {
            User::Nobody(id) => (id, id),
            _ => (geteuid().as_raw(), getegid().as_raw()),
        };
        let given: u64 = files.iter().map(|(_, content)| content.len() as u64 + ENTRY).sum();
        let size = bytes + given + SLACK;
        let options =
            format!("size={size},nr_inodes={},mode=0700,uid={user},gid={group}", size.div_ceil(ENTRY));
        let maps = [
            (c"/proc/self/setgroups", "deny".into()),
            (c"/proc/self/uid_map", format!("{user} {user} 1")),
            (c"/proc/self/gid_map", format!("{group} {group} 1")),
        ];
        let files = files.iter().map(|(name, content)| Ok((CString::new(*name)?, *content)));
        Ok(Self {
            mount: Some(Mount {
                namespace,
                folder: CString::new(folder.as_os_str().as_encoded_bytes())?,
                options: CString::new(options)?,
                maps,
            }),
            files: files.collect::<io::Result<_>>()?,
        })
    }

    /// Lays it over the folder, for this process and its children. Takes no memory.
    ///
    /// # Errors
    /// If this user may not.
    pub(super) fn mount(&self) -> io::Result<()> {
        let Some(Mount { namespace, folder, options, maps }) = &self.mount else { return Ok(()) };
        let new_user = if *namespace == Namespace::User { libc::CLONE_NEWUSER } else { 0 };
        // SAFETY: the call reads no memory. Of what threads share it only takes this process's root and working folder,
        // which are its own already.
        done(unsafe { libc::unshare(libc::CLONE_NEWNS | new_user) })?;
        if *namespace == Namespace::User {
            for (file, content) in maps {
                let file = open(file, libc::O_WRONLY, 0)?;
                write(&file, content.as_bytes())?;
            }
        }
        // Before anything is mounted: nothing of it may reach the name space that this one is a copy of.
        let flags = libc::MS_REC | libc::MS_SLAVE;
        mount(None, c"/", None, flags, None)?;
        mount(Some(c"evenkeel"), folder, Some(c"tmpfs"), libc::MS_NOSUID | libc::MS_NODEV, Some(options))
    }

    /// Writes the files into the working folder. Takes no memory.
    ///
    /// # Errors
    /// If the system refuses.
    pub(super) fn fill(&self) -> io::Result<()> {
        for (name, content) in &self.files {
            let file = open(name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o644)?;
            write(&file, content)?;
        }
        Ok(())
    }
}

/// The folder as a running process sees it, if it still runs.
pub(super) fn seen_by(process: Pid, folder: &Path) -> Option<OwnedFd> {
    let root = format!("/proc/{}/root", process.as_raw_nonzero());
    let path = Path::new(&root).join(folder.strip_prefix("/").ok()?);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}

/// How full a file system is: bytes in files, and bytes if every file and folder counts for [`ENTRY`].
pub(super) fn used(folder: &OwnedFd) -> (u64, u64) {
    let Ok(found) = rustix::fs::fstatfs(folder) else { return (0, 0) };
    let blocks = found.f_blocks.saturating_sub(found.f_bfree);
    let entries = found.f_files.saturating_sub(found.f_ffree);
    (blocks * found.f_bsize as u64, entries * ENTRY)
}

fn mount(
    what: Option<&CStr>,
    place: &CStr,
    kind: Option<&CStr>,
    flags: c_ulong,
    options: Option<&CStr>,
) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: each pointer is null or a string that ends with 0 and outlives the call.
    done(unsafe { libc::mount(pointer(what), place.as_ptr(), pointer(kind), flags, pointer(options).cast()) })
}

fn open(path: &CStr, flags: c_int, mode: c_int) -> io::Result<OwnedFd> {
    // SAFETY: the string ends with 0 and is only read.
    let file = unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC | libc::O_NOFOLLOW, mode) };
    done(file)?;
    // SAFETY: it was just opened and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

fn write(file: &OwnedFd, mut content: &[u8]) -> io::Result<()> {
    while !content.is_empty() {
        // SAFETY: the pointer and length are those of a slice, which is only read.
        let wrote = unsafe { libc::write(file.as_raw_fd(), content.as_ptr().cast(), content.len()) };
        match usize::try_from(wrote) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(wrote) => content = &content[wrote..],
            Err(_) => return Err(io::Error::last_os_error()),
        }
    }
    Ok(())
}

fn done(result: impl Into<i64>) -> io::Result<()> {
    if result.into() == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
