//! The one folder that a program may write to.
//!
//! Before: a run begins. After: it has ended, all its processes are dead, and the folder goes, whatever is in it. Where
//! runs have file systems of their own, it is only the place where they lie, and stays empty. A folder is locked while
//! its run lasts, so what a killed process left behind is known by its lock that nobody holds.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::process::geteuid;

const PREFIX: &str = "evenkeel-sandbox-";
const FOLDER: &str = "scratch";

/// How long a killed process may still be at its last call in a folder that is deleted.
const LAST_CALL: Duration = Duration::from_secs(2);

/// A folder that is deleted at the end.
pub(super) struct Scratch {
    /// Ours alone, so that nobody else can put something in the way while it is deleted.
    pub(super) outer: PathBuf,
    /// The program's.
    pub(super) folder: PathBuf,
    gone: bool,
    /// Held until the end.
    _lock: File,
}

/// The system's folder for temporary files, or another where that cannot be written to. What killed processes left there
/// is deleted.
///
/// # Errors
/// If no folder is made in any of them.
pub(super) fn place() -> io::Result<PathBuf> {
    let places = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
    let mut refused = Vec::new();
    for place in places {
        // As `/proc` names it too.
        let real = fs::canonicalize(&place);
        match real.and_then(|real| Scratch::new(&real, &[], None)?.delete().map(|()| real)) {
            Ok(real) => {
                sweep(&real);
                return Ok(real);
            }
            Err(error) => refused.push(format!("`{}`: {error}", place.display())),
        }
    }
    refused.dedup();
    Err(io::Error::other(format!("none can be made: {}", refused.join("; "))))
}

impl Scratch {
    /// A new one in this place, with these files, owned by that user if one is given.
    pub(super) fn new(place: &Path, files: &[(&str, &[u8])], owner: Option<u32>) -> io::Result<Self> {
        let (outer, lock) = loop {
            let outer = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place)?;
            // Between the two it may look like one that was left behind, and be deleted.
            if let Some(lock) = lock(outer.path())? {
                break (outer.keep(), lock);
            }
        };
        let scratch = Self { folder: outer.join(FOLDER), outer, gone: false, _lock: lock };
        if owner.is_some() {
            fs::set_permissions(&scratch.outer, Permissions::from_mode(0o711))?;
        }
        fs::DirBuilder::new().mode(0o700).create(&scratch.folder)?;
        for (name, content) in files {
            let file = scratch.folder.join(name);
            fs::write(&file, content)?;
            chown(&file, owner, owner)?;
        }
        chown(&scratch.folder, owner, owner)?;
        Ok(scratch)
    }

    /// The same, but if the disk is full it waits so long for other runs to end.
    pub(super) fn wait_for(
        place: &Path,
        files: &[(&str, &[u8])],
        owner: Option<u32>,
        longest: Duration,
    ) -> io::Result<Self> {
        let deadline = Instant::now() + longest;
        loop {
            match Self::new(place, files, owner) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
                        && Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                made => return made,
            }
        }
    }

    /// Deletes it and says whether that worked; dropping does the same in silence.
    pub(super) fn delete(mut self) -> io::Result<()> {
        self.gone = true;
        delete(&self.outer)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.gone {
            // There is an error already, and it says more than this one would.
            let _ = delete(&self.outer);
        }
    }
}

/// The lock of a folder that is ours, or `None` if somebody else has it or has deleted the folder. Where the file system
/// has no locks the folder is open but not locked, which [`sweep`] cannot do either.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let missing = |error: &io::Error| error.kind() == ErrorKind::NotFound;
    let file = match open_folder(folder) {
        Ok(file) => file,
        Err(error) if missing(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK) {
        return Ok(None);
    }
    match fs::symlink_metadata(folder) {
        Ok(found) if found.ino() == file.metadata()?.ino() => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(error) if missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn open_folder(folder: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder, flags, Mode::empty())?.into())
}

/// Deletes what processes of this user left in this place when they were killed. What cannot be deleted stays, as it
/// is in nobody's way.
fn sweep(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let ours = entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw());
        if ours
            && let Ok(file) = open_folder(&entry.path())
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = delete(&entry.path());
        }
    }
}

/// Deletes the folder with all that is in it. Of the folders in it, a killed program may have processes left that still
/// change them.
fn delete(top: &Path) -> io::Result<()> {
    let (mut moved, deadline) = (0, Instant::now() + LAST_CALL);
    loop {
        empty(top, &mut moved)?;
        match fs::remove_dir(top) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}

/// Folders may be nested deeper than any path is long, so each is moved to the top before it is emptied. One in the top is
/// what it was seen to be, as nobody else can change it there.
fn empty(top: &Path, moved: &mut u64) -> io::Result<()> {
    let mut left = vec![top.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                gone_is_fine(fs::remove_file(entry.path()))?;
                continue;
            }
            let place = match folder == top {
                true => entry.path(),
                false => top.join(format!("{moved}.left")),
            };
            *moved += 1;
            gone_is_fine(allow(&entry.path()))?;
            if place != entry.path() {
                gone_is_fine(fs::rename(entry.path(), &place))?;
            }
            match fs::symlink_metadata(&place) {
                Ok(found) if found.is_dir() => {
                    allow(&place)?;
                    left.push(place);
                }
                Ok(_) => fs::remove_file(&place)?,
                Err(error) => gone_is_fine(Err(error))?,
            }
        }
        if folder != top {
            match fs::remove_dir(&folder) {
                Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => return Err(error),
                // if something was made in it meanwhile, it has a next turn
                _ => {}
            }
        }
    }
    Ok(())
}

/// A program may have made a folder that its own user cannot read. A link in its place is not followed.
fn allow(folder: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::empty()) {
        Ok(file) => {
            let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
            fs::set_permissions(itself, Permissions::from_mode(0o700))
        }
        Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn gone_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(files: &[(&str, &[u8])]) -> Scratch {
        Scratch::new(&place().unwrap(), files, None).unwrap()
    }

    #[test]
    fn a_folder_goes_however_deep_and_closed_and_links_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "kept").unwrap();
        let scratch = scratch(&[("a.txt", b"a")]);
        let outer = scratch.outer.clone();
        std::os::unix::fs::symlink(outside.path(), scratch.folder.join("link")).unwrap();
        let name = "d".repeat(200);
        let mut deep = scratch.folder.clone();
        // 19 folders are about as long as a path may be; then they move into the next, again and again.
        for _ in 0..19 {
            deep.push(&name);
        }
        for round in 0..5 {
            fs::create_dir_all(&deep).unwrap();
            fs::write(deep.join("f"), "f").unwrap();
            let (first, next) = (scratch.folder.join(&name), scratch.folder.join(format!("{round}")));
            fs::create_dir_all(&next).unwrap();
            fs::rename(&first, next.join("n")).unwrap();
            fs::rename(&next, &first).unwrap();
        }
        fs::set_permissions(scratch.folder.join(&name), Permissions::from_mode(0o000)).unwrap();
        scratch.delete().unwrap();
        assert!(!outer.exists());
        assert_eq!(fs::read_to_string(outside.path().join("kept")).unwrap(), "kept");
    }

    #[test]
    fn what_a_dead_process_left_is_swept_and_what_a_live_one_uses_is_not() {
        let place = tempfile::tempdir().unwrap();
        let live = Scratch::new(place.path(), &[("a.txt", b"a")], None).unwrap();
        let dead = Scratch::new(place.path(), &[("a.txt", b"a")], None).unwrap();
        let left = dead.outer.clone();
        // A process that is killed gives its locks back and does nothing else.
        let Scratch { _lock, .. } = &dead;
        flock(_lock, FlockOperation::Unlock).unwrap();
        std::mem::forget(dead);
        let other = place.path().join("evenkeel-data");
        fs::create_dir(&other).unwrap();
        let link = place.path().join(format!("{PREFIX}link"));
        std::os::unix::fs::symlink(&other, &link).unwrap();
        sweep(place.path());
        assert!(!left.exists());
        assert!(other.exists() && link.is_symlink());
        assert_eq!(fs::read_to_string(live.folder.join("a.txt")).unwrap(), "a");
        live.delete().unwrap();
    }

    #[test]
    fn a_folder_that_somebody_still_writes_to_goes_when_he_stops() {
        let place = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(place.path(), &[], None).unwrap();
        let (outer, folder) = (scratch.outer.clone(), scratch.folder.clone());
        let open = open_folder(&folder).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // by the folder itself, as a program does whose working folder it is
                let inside = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
                for number in 0..200 {
                    let _ = fs::create_dir(inside.join(number.to_string()));
                }
            });
            scratch.delete().unwrap();
        });
        assert!(!outer.exists());
    }
}
