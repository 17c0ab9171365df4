//! What a process group uses, while it runs.
//!
//! Before: [`super::watch`] started a program. After: it compares these with the limits. What has ended in between
//! counts as nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::volume::ENTRY;

/// What some processes use together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) processes: u64,
    pub(super) threads: u64,
    /// Bytes that are in memory now. Shared ones count for each process.
    pub(super) memory: u64,
    /// Time of processors, of all threads together.
    pub(super) cpu_seconds: f64,
}

impl Usage {
    fn add(&mut self, other: Self) {
        self.processes += other.processes;
        self.threads += other.threads;
        self.memory += other.memory;
        self.cpu_seconds += other.cpu_seconds;
    }
}

/// What the process itself uses.
pub(super) fn of_process(process: i32) -> Usage {
    let folder = folder_of(process);
    stat(&folder).map_or_else(Usage::default, |(_, usage)| whole(&folder, usage))
}

/// All processes of the group and what they use together.
pub(super) fn of_group(group: i32) -> (Vec<i32>, Usage) {
    let (mut members, mut sum) = (Vec::new(), Usage::default());
    let Ok(entries) = fs::read_dir("/proc") else { return (members, sum) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let folder = entry.path();
        if let Some((of, usage)) = stat(&folder)
            && of == i64::from(group)
        {
            members.push(process);
            sum.add(whole(&folder, usage));
        }
    }
    (members, sum)
}

fn folder_of(process: i32) -> PathBuf {
    Path::new("/proc").join(process.to_string())
}

/// With the memory of a process whose first thread has ended: that thread has none, and the others have it all.
fn whole(folder: &Path, mut usage: Usage) -> Usage {
    if usage.memory == 0 && usage.threads > 0 {
        let others = threads(folder).filter_map(|thread| Some(stat(&thread)?.1.memory));
        usage.memory = others.max().unwrap_or(0);
    }
    usage
}

/// The folders of all threads of a process.
fn threads(process: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(process.join("task")).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// The group of a process or thread and what it uses, but not the other threads' memory.
fn stat(folder: &Path) -> Option<(i64, Usage)> {
    /// Ticks of processor time in a second, as `/proc` counts them on every kind of processor that is left.
    const TICKS: f64 = 100.0;
    let stat = fs::read(folder.join("stat")).ok()?;
    // The name in parentheses is the program's to choose and may hold anything.
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(&stat[after_name..]).ok()?;
    let mut fields = rest.split_ascii_whitespace().skip(2).map(|field| field.parse::<i64>().unwrap_or(0));
    let group = fields.next()?; // field 5 of proc_pid_stat(5)
    let ticks = fields.nth(8)? + fields.next()?; // 14 and 15
    let threads = fields.nth(4)?; // 20
    let pages = fields.nth(3)?; // 24
    let usage = Usage {
        processes: 1,
        threads: threads.max(0) as u64,
        memory: pages.max(0) as u64 * rustix::param::page_size() as u64,
        cpu_seconds: ticks as f64 / TICKS,
    };
    Some((group, usage))
}

/// Whether the processes can be looked at as far as [`held`] needs it.
pub(super) fn can_look_at(process: i32) -> bool {
    fs::read_dir(folder_of(process).join("fd")).is_ok()
        && fs::File::open(folder_of(process).join("maps")).is_ok()
}

/// Bytes on disk of files that these processes have deleted and still have open or mapped. The size of one that is only
/// mapped cannot be seen: it counts as the largest that it may be. Only files of this folder are meant.
pub(super) fn held(processes: &[i32], folder: &Path, largest: u64) -> u64 {
    let (mut open, mut mapped) = (BTreeMap::new(), BTreeSet::new());
    for process in processes {
        let process = folder_of(*process);
        // The first thread has nothing any more if it has ended, and all others have the same.
        for thread in threads(&process) {
            let Ok(files) = fs::read_dir(thread.join("fd")) else { continue };
            let mut any = false;
            for file in files.flatten() {
                any = true;
                let Ok(found) = fs::metadata(file.path()) else { continue };
                if found.is_file() && found.nlink() == 0 {
                    open.insert((found.dev(), found.ino()), found.blocks() * 512);
                }
            }
            let maps = fs::read(thread.join("maps")).unwrap_or_default();
            mapped.extend(deleted_maps(&maps, folder));
            if any || !maps.is_empty() {
                break;
            }
        }
    }
    let only_mapped = mapped.iter().filter(|file| !open.contains_key(*file)).count() as u64;
    open.values().sum::<u64>() + only_mapped * largest
}

/// Device and number of each deleted file of the folder, from lines such as
/// `7f51a000-7f51b000 rw-s 00000000 fe:00 1234    /tmp/a/f (deleted)`.
fn deleted_maps(maps: &[u8], folder: &Path) -> Vec<(u64, u64)> {
    let of_line = |line: &[u8]| {
        let path = line.strip_suffix(b" (deleted)")?;
        let start = path.iter().position(|byte| *byte == b'/')?;
        if !Path::new(OsStr::from_bytes(&path[start..])).starts_with(folder) {
            return None;
        }
        let mut fields = std::str::from_utf8(&path[..start]).ok()?.split_ascii_whitespace().skip(3);
        let (major, minor) = fields.next()?.split_once(':')?;
        let number = |text| u32::from_str_radix(text, 16).ok();
        let device = rustix::fs::makedev(number(major)?, number(minor)?);
        Some((device, fields.next()?.parse().ok()?))
    };
    maps.split(|byte| *byte == b'\n').filter_map(of_line).collect()
}

/// How deep folders may be nested.
pub(super) const DEPTH: u64 = 64;

/// Whether the folder holds more than so many bytes on disk. Each entry counts at least 4 KiB, and folders within
/// folders within … (64 times) or one that cannot be read are more than any bound. Links are not followed.
pub(super) fn folder_exceeds(folder: &Path, bytes: u64) -> bool {
    // One that is renamed all the time would be missed by a single look more often than not.
    const LOOKS: usize = 4;
    for _ in 0..LOOKS {
        match look(folder, bytes) {
            Look::Exceeds => return true,
            Look::Within => return false,
            Look::Moved => {}
        }
    }
    false
}

enum Look {
    Exceeds,
    Within,
    /// As far as could be seen: a folder was gone when it was its turn.
    Moved,
}

fn look(folder: &Path, bytes: u64) -> Look {
    let mut sum = 0;
    let mut result = Look::Within;
    let mut open = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = open.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                result = Look::Moved;
                continue;
            }
            Err(_) => return Look::Exceeds,
        };
        for entry in entries.flatten() {
            let Ok(found) = entry.metadata() else { continue };
            sum += (found.blocks() * 512).max(ENTRY);
            if found.is_dir() {
                open.push((entry.path(), depth + 1));
            }
            if sum > bytes || depth >= DEPTH {
                return Look::Exceeds;
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn this_process() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    #[test]
    fn a_deleted_file_that_is_open_is_held_and_one_of_another_folder_is_not_meant() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = tempfile::tempfile_in(folder.path()).unwrap();
        std::io::Write::write_all(&mut file, &vec![1; 1 << 20]).unwrap();
        file.sync_all().unwrap(); // some file systems take blocks no earlier
        assert!(file.as_raw_fd() > 2);
        assert!(held(&[this_process()], folder.path(), 1 << 30) >= 1 << 20);
    }

    #[test]
    fn deleted_files_are_found_in_a_process_s_maps() {
        let maps = b"7f51a000-7f51b000 rw-s 00000000 fe:01 1234                  /tmp/a/f g (deleted)\n\
            7f51b000-7f51c000 rw-s 00001000 fe:01 1234                  /tmp/a/f g (deleted)\n\
            7f51c000-7f51d000 rw-s 00000000 fe:01 99                    /tmp/a/kept\n\
            7f51d000-7f51e000 rw-s 00000000 00:01 7                     /dev/zero (deleted)\n\
            7f51e000-7f51f000 rw-p 00000000 00:00 0                     [heap]\n\
            7f51e000-7f51f000 rw-p 00000000 00:00 0\n\
            7f51f000-7f520000 r--p 00000000 fe:00 5                     /tmp/ab/f (deleted)\n";
        let device = rustix::fs::makedev(0xfe, 1);
        assert_eq!(deleted_maps(maps, Path::new("/tmp/a")), [(device, 1234), (device, 1234)]);
    }

    #[test]
    fn a_process_has_memory_and_threads_and_is_in_its_group() {
        let usage = of_process(this_process());
        assert!(usage.memory > 1 << 16 && usage.threads >= 1 && usage.processes == 1);
        let group = rustix::process::getpgid(None).unwrap().as_raw_nonzero().get();
        assert!(of_group(group).0.contains(&this_process()));
    }
}
