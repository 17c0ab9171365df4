//! The one folder that a program may write to.
//!
//! Before: a run begins. After: it has ended, all its processes are dead, and the folder goes, whatever is in it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

const FOLDER: &str = "scratch";

/// A folder that is deleted at the end.
pub(super) struct Scratch {
    /// Ours alone, so that nobody else can put something in the way while it is deleted.
    outer: PathBuf,
    /// The program's.
    pub(super) folder: PathBuf,
    gone: bool,
}

impl Scratch {
    /// A new one in the system's folder for temporary files, with these files, owned by that user if one is given.
    pub(super) fn new(files: &[(&str, &[u8])], owner: Option<u32>) -> io::Result<Self> {
        let outer = tempfile::Builder::new().prefix("evenkeel-").tempdir()?.keep();
        let scratch = Self { folder: outer.join(FOLDER), outer, gone: false };
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

/// Folders may be nested deeper than any path is long, so each is moved to the top before it is emptied.
fn delete(top: &Path) -> io::Result<()> {
    let mut moved = 0_u64;
    let mut empty = |folder: &Path, left: &mut Vec<PathBuf>| -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
                continue;
            }
            // The program may have made a folder that its own user cannot read.
            fs::set_permissions(entry.path(), Permissions::from_mode(0o700))?;
            let place = top.join(format!("{moved}.left"));
            moved += 1;
            fs::rename(entry.path(), &place)?;
            left.push(place);
        }
        Ok(())
    };
    let mut left = vec![top.join(FOLDER)];
    while let Some(folder) = left.pop() {
        match empty(&folder, &mut left) {
            Ok(()) => fs::remove_dir(&folder)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {} // it was never made
            Err(error) => return Err(error),
        }
    }
    fs::remove_dir(top)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_however_deep_and_closed_and_links_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "kept").unwrap();
        let scratch = Scratch::new(&[("a.txt", b"a")], None).unwrap();
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
}
