//! Files that are whole or not there, whenever the program or the machine stops.
//!
//! A file is written aside (`.part`), flushed to the disk and renamed; then the folder that names it is flushed too, since a
//! rename is only an entry of the folder. A folder is taken away by another name (`.removed`) first. What a kill leaves of
//! either is swept when the run or the evaluation goes on.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The ending of what is being written.
pub(crate) const PART: &str = "part";
/// The ending of a folder that is being taken away.
const REMOVED: &str = "removed";
/// The ending of a folder whose replacement is taking its place.
const OLD: &str = "old";

/// Flushes the entries of a folder to the disk.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    match File::open(folder)?.sync_all() {
        // some network file systems have no such call for folders, and write entries at once
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

/// Renames, and flushes the folder that names the result.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(to.parent().unwrap_or(Path::new(".")))
}

/// Writes a file aside, flushes it and puts it in its place.
pub(crate) fn write_aside(path: &Path, bytes: &[u8]) -> Result<()> {
    let aside = path.with_extension(PART);
    let write = || -> io::Result<()> {
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        rename(&aside, path)
    };
    write()
        .inspect_err(|_| {
            // the room is wanted for other files if the disk is full; if this fails too, it is swept later
            let _ = fs::remove_file(&aside);
        })
        .with_context(|| format!("could not write `{}`", path.display()))
}

/// Flushes a file that is there to the disk.
pub(crate) fn sync_file(path: &Path) -> Result<()> {
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        file => file
            .and_then(|file| file.sync_all())
            .with_context(|| format!("could not flush `{}` to the disk", path.display())),
    }
}

/// Puts a complete folder in its place. One that is there gives way only once the new one is complete, and is found again by
/// [`sweep`] if the program stops in between.
pub(crate) fn put_folder(aside: &Path, place: &Path) -> io::Result<()> {
    sync_folder(aside)?;
    if !place.exists() {
        return rename(aside, place);
    }
    let old = place.with_extension(OLD);
    remove_folder(&old)?;
    rename(place, &old)?;
    rename(aside, place)?;
    remove_folder(&old)
}

/// Takes a folder away: it has another name before anything in it is gone, so that no half of it is taken for the whole.
pub(crate) fn remove_folder(place: &Path) -> io::Result<()> {
    let removed = place.with_extension(REMOVED);
    if removed.exists() {
        fs::remove_dir_all(&removed)?;
    }
    match fs::rename(place, &removed) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.and_then(|()| fs::remove_dir_all(&removed)),
    }
}

/// Takes away what a program that was stopped left half written or half removed in a folder, and puts back what it was about to
/// replace.
pub(crate) fn sweep(folder: &Path) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("could not read `{}`", folder.display()))?,
    };
    for entry in entries {
        let path = entry.with_context(|| format!("could not read `{}`", folder.display()))?.path();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".tmp"));
        let swept = if ending == OLD && path.is_dir() && !path.with_extension("").exists() {
            rename(&path, &path.with_extension(""))
        } else if ending == OLD && path.is_dir() {
            remove_folder(&path)
        } else if (ending == PART || ending == REMOVED) && path.is_dir() {
            fs::remove_dir_all(&path)
        } else if ending == PART || hidden && path.is_file() {
            fs::remove_file(&path)
        } else {
            Ok(())
        };
        swept.with_context(|| format!("could not clear away `{}`", path.display()))?;
    }
    Ok(())
}

/// The lines of a file of JSON lines.
#[derive(Debug)]
pub(crate) struct JsonLines<T> {
    bytes: Vec<u8>,
    /// Those that are such JSON.
    pub(crate) lines: Vec<JsonLine<T>>,
    /// Numbers of lines that are no such JSON, but for the last one.
    pub(crate) broken: Vec<usize>,
    /// Why the last line is no such JSON, if it is none: a kill cut it short, maybe within a character.
    pub(crate) torn: Option<String>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct JsonLine<T> {
    /// Its place in the file, from 1.
    pub(crate) number: usize,
    pub(crate) value: T,
    place: Range<usize>,
}

impl<T> JsonLines<T> {
    /// All values, in order.
    pub(crate) fn values(self) -> impl Iterator<Item = T> {
        self.lines.into_iter().map(|line| line.value)
    }

    /// A line byte for byte, without its end.
    pub(crate) fn bytes_of(&self, line: &JsonLine<T>) -> &[u8] {
        &self.bytes[line.place.clone()]
    }
}

/// Reads a file of JSON lines as bytes: one that was cut short within a character is no text as a whole. A file that is not
/// there has no lines.
pub(crate) fn json_lines<T: DeserializeOwned>(file: &Path) -> Result<JsonLines<T>> {
    let bytes = match fs::read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        bytes => bytes.with_context(|| format!("could not read `{}`", file.display()))?,
    };
    let (mut lines, mut broken, mut torn) = (Vec::new(), Vec::new(), None);
    let mut start = 0;
    for (before, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let (number, place) = (before + 1, start..start + line.len());
        start = place.end + 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(value) => lines.push(JsonLine { number, value, place }),
            // the last line was being written
            Err(error) if start >= bytes.len() => torn = Some(error.to_string()),
            Err(_) => broken.push(number),
        }
    }
    Ok(JsonLines { bytes, lines, broken, torn })
}

/// JSON lines, compressed, with a checksum that is checked when they are read.
pub(crate) fn compressed<T: Serialize>(values: &[T]) -> Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3)?;
    encoder.include_checksum(true)?;
    let mut text = Vec::new();
    for value in values {
        serde_json::to_writer(&mut text, value)?;
        text.push(b'\n');
    }
    encoder.write_all(&text)?;
    Ok(encoder.finish()?)
}

/// The lines of a compressed file, each a value of JSON.
pub(crate) fn decompressed<T: serde::de::DeserializeOwned>(file: &Path) -> Result<Vec<T>> {
    let cannot = || format!("could not read `{}`", file.display());
    let text = zstd::decode_all(fs::read(file).with_context(cannot)?.as_slice()).with_context(cannot)?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).with_context(cannot)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cut_within_a_character_is_the_torn_one_and_the_others_are_read() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("lines.jsonl");
        let whole = "{\"a\": \"漢\"}\n{\"a\": \"字\"}\n";
        fs::write(&file, &whole.as_bytes()[..whole.len() - 5]).expect("written");
        let found = json_lines::<serde_json::Value>(&file).expect("read");
        assert_eq!((found.lines.len(), found.broken.len(), found.torn.is_some()), (1, 0, true));
        fs::write(&file, [b"\xff\n", whole.as_bytes()].concat()).expect("written");
        let found = json_lines::<serde_json::Value>(&file).expect("read");
        assert_eq!((found.lines.len(), found.broken, found.torn), (2, vec![1], None));
        let none = json_lines::<serde_json::Value>(&folder.path().join("none")).expect("no lines");
        assert!(none.lines.is_empty() && none.torn.is_none());
    }

    #[test]
    fn what_a_kill_left_is_swept_and_a_folder_that_was_being_replaced_comes_back() {
        let folder = tempfile::tempdir().expect("folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["a.part", "b.removed", "c.old", "d.old", "d", "e"] {
            fs::create_dir(at(name)).expect("made");
            fs::write(at(name).join("file"), name).expect("written");
        }
        fs::write(at("metrics.part"), "x").expect("written");
        fs::write(at(".tmpAb12"), "x").expect("written");
        sweep(folder.path()).expect("swept");
        let mut left: Vec<String> = fs::read_dir(folder.path())
            .expect("listed")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("name"))
            .collect();
        left.sort();
        assert_eq!(left, ["c", "d", "e"]);
        assert_eq!(fs::read_to_string(at("c/file")).expect("read"), "c.old");
        assert_eq!(fs::read_to_string(at("d/file")).expect("read"), "d");
    }

    #[test]
    fn a_folder_is_replaced_only_by_a_whole_one() {
        let folder = tempfile::tempdir().expect("folder");
        let (place, aside) = (folder.path().join("x"), folder.path().join("x.part"));
        for text in ["first", "second"] {
            fs::create_dir(&aside).expect("made");
            fs::write(aside.join("file"), text).expect("written");
            put_folder(&aside, &place).expect("put");
            assert_eq!(fs::read_to_string(place.join("file")).expect("read"), text);
            assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
        }
    }

    #[test]
    fn a_flipped_bit_in_compressed_lines_is_found() {
        let bytes = compressed(&["so many words", "and more of them"]).expect("compressed");
        for byte in 4..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[byte] ^= 1;
            let read = zstd::decode_all(flipped.as_slice());
            assert!(read.is_err() || read.ok() == zstd::decode_all(bytes.as_slice()).ok(), "byte {byte}");
        }
    }
}
