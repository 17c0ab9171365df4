//! One process at a time: locks that vanish with the process that holds them, and names that only one can take.
//!
//! The lock is on the folder or file itself, so nothing is left behind. Children do not inherit it.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::files::{self, PART};
use crate::usage::Usage;

/// A folder or file that no other process of this program writes to while this value lives.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Locks a folder or file that is there. `None` if another process holds it.
    ///
    /// # Errors
    /// If it cannot be opened or locked at all.
    fn attempt(place: &Path) -> Result<Option<Self>> {
        let cannot = || format!("could not lock `{}`", place.display());
        let file = File::open(place).with_context(cannot)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            // some network file systems lock only what is open for writing, which a folder cannot be
            Err(TryLockError::Error(_)) if place.is_dir() => {
                let file = File::create(place.join(".lock")).with_context(cannot)?;
                match file.try_lock() {
                    Ok(()) => Ok(Some(Self { file })),
                    Err(TryLockError::WouldBlock) => Ok(None),
                    Err(TryLockError::Error(error)) => Err(error).with_context(cannot),
                }
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(cannot),
        }
    }

    /// Locks a folder or file that is there.
    ///
    /// # Errors
    /// If another process holds it, which names both, or it cannot be locked.
    pub(crate) fn on(place: &Path) -> Result<Self> {
        Self::attempt(place)?.ok_or_else(|| {
            let holder = holder(place).map_or_else(|| "another process".into(), |id| format!("process {id}"));
            Usage::error(format!(
                "`{}` is in use: {holder} is writing to it; wait for it or stop it first",
                place.display()
            ))
        })
    }

    /// True while `place` is what was locked, and not something else by its name.
    fn is_of(&self, place: &Path) -> bool {
        let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        match (self.file.metadata(), fs::metadata(place)) {
            (Ok(own), Ok(there)) => id(own) == id(there),
            _ => false,
        }
    }
}

/// The process that holds the lock, where the system tells: `/proc/locks` has lines such as
/// `1: FLOCK  ADVISORY  WRITE 4711 fe:00:131 0 EOF`, with the inode last.
fn holder(place: &Path) -> Option<u32> {
    let inode = fs::metadata(place).ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let found = locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let of = words.iter().position(|word| *word == "FLOCK")?;
        let (id, file) = (words.get(of + 3)?, words.get(of + 4)?);
        (file.rsplit(':').next()? == inode).then(|| id.parse().ok())?
    });
    found.filter(|id| *id != 0)
}

/// Makes a folder that has all that `fill` puts into it from the first moment it can be seen, and locks it. `None` if `place`
/// exists, or another process is making it right now.
///
/// # Errors
/// If it cannot be made or filled; nothing is left then.
pub(crate) fn make_folder(place: &Path, fill: &dyn Fn(&Path) -> Result<()>) -> Result<Option<Lock>> {
    let cannot = || format!("could not make the folder `{}`", place.display());
    let mut name = place.file_name().with_context(cannot)?.to_os_string();
    name.push(".");
    name.push(PART);
    let aside = place.with_file_name(name);
    if let Some(parent) = place.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).with_context(cannot)?;
    }
    loop {
        if place.symlink_metadata().is_ok() {
            return Ok(None);
        }
        match fs::create_dir(&aside) {
            // one that a kill left is nobody's, and can be locked
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error).with_context(cannot),
            _ => {}
        }
        let lock = match Lock::attempt(&aside) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(None),
            // it was put in its place between the two calls
            Err(_) if !aside.exists() => continue,
            Err(error) => return Err(error),
        };
        // what was locked may have been put in its place since
        if !lock.is_of(&aside) {
            continue;
        }
        let make = || -> Result<()> {
            for entry in fs::read_dir(&aside).with_context(cannot)? {
                let path = entry.with_context(cannot)?.path();
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.with_context(cannot)?;
            }
            fill(&aside)?;
            files::sync_folder(&aside).with_context(cannot)
        };
        if place.symlink_metadata().is_ok() {
            let _ = fs::remove_dir_all(&aside);
            return Ok(None);
        }
        if let Err(error) = make().and_then(|()| files::rename(&aside, place).with_context(cannot)) {
            let _ = fs::remove_dir_all(&aside);
            return Err(error);
        }
        return Ok(Some(lock));
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn a_folder_is_locked_once_and_free_when_the_lock_is_dropped() {
        let folder = tempfile::tempdir().expect("folder");
        let lock = Lock::on(folder.path()).expect("free");
        let error = Lock::on(folder.path()).expect_err("held").to_string();
        let own = std::process::id().to_string();
        assert!(error.contains("is in use") && error.contains("is writing to it"), "{error}");
        assert!(error.contains(&own) || error.contains("another process"), "{error}");
        drop(lock);
        Lock::on(folder.path()).expect("free again");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 0, "nothing is left behind");
    }

    #[test]
    fn of_many_that_want_a_name_one_gets_it_and_the_folder_is_never_seen_empty() {
        let folder = tempfile::tempdir().expect("folder");
        let start = Barrier::new(8);
        let taken: Vec<PathBuf> = std::thread::scope(|scope| {
            let one = || {
                start.wait();
                let mut number = 1;
                loop {
                    let place = folder.path().join(format!("run-{number}"));
                    let fill = |aside: &Path| Ok(fs::write(aside.join("recipe.toml"), "x")?);
                    if make_folder(&place, &fill).expect("made").is_some() {
                        return place;
                    }
                    if place.exists() {
                        assert!(place.join("recipe.toml").exists(), "seen before it was filled");
                    }
                    number += 1;
                }
            };
            let all: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            all.into_iter().map(|one| one.join().expect("ended")).collect()
        });
        let names: std::collections::BTreeSet<&PathBuf> = taken.iter().collect();
        assert_eq!(names.len(), 8, "{taken:?}");
        let left = fs::read_dir(folder.path()).expect("listed").count();
        assert_eq!(left, 8, "no half-made folder is left");
    }

    #[test]
    fn what_a_kill_left_of_a_folder_in_the_making_does_not_block_its_name() {
        let folder = tempfile::tempdir().expect("folder");
        fs::create_dir(folder.path().join("run.part")).expect("made");
        fs::write(folder.path().join("run.part/recipe.part"), "half").expect("written");
        let place = folder.path().join("run");
        make_folder(&place, &|aside| Ok(fs::write(aside.join("a"), "b")?)).expect("made").expect("taken");
        let names: Vec<_> =
            fs::read_dir(&place).expect("listed").map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(names, ["a"]);
        assert!(
            make_folder(&place, &|_| Ok(())).expect("seen").is_none(),
            "one that exists is never touched"
        );
    }
}
