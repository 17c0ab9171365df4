//! What a process group uses, while it runs.
//!
//! Before: [`super::watch`] started a program. After: it compares these with the limits. What has ended in between
//! counts as nothing.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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

/// What the process itself uses.
pub(super) fn of_process(process: i32) -> Usage {
    read(OsStr::new(&process.to_string())).map_or_else(Usage::default, |(_, usage)| usage)
}

/// What all processes of the group use.
pub(super) fn of_group(group: i32) -> Usage {
    let mut sum = Usage::default();
    let Ok(entries) = fs::read_dir("/proc") else { return sum };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        let Some((of, usage)) = read(&name) else { continue };
        if of == i64::from(group) {
            sum.processes += usage.processes;
            sum.threads += usage.threads;
            sum.memory += usage.memory;
            sum.cpu_seconds += usage.cpu_seconds;
        }
    }
    sum
}

/// The group of a process and what it uses.
fn read(process: &OsStr) -> Option<(i64, Usage)> {
    /// Ticks of processor time in a second, as `/proc` counts them on every kind of processor that is left.
    const TICKS: f64 = 100.0;
    let stat = fs::read(Path::new("/proc").join(process).join("stat")).ok()?;
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

/// Whether the folder holds more than so many bytes on disk. Each entry counts at least 4 KiB, and folders within
/// folders within … (64 times) or one that cannot be read are more than any bound. Links are not followed.
pub(super) fn folder_exceeds(folder: &Path, bytes: u64) -> bool {
    const ENTRY: u64 = 4096;
    const DEPTH: usize = 64;
    let mut sum = 0;
    let mut open = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = open.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(_) => return true,
        };
        for entry in entries.flatten() {
            let Ok(found) = entry.metadata() else { continue };
            sum += (found.blocks() * 512).max(ENTRY);
            if found.is_dir() {
                open.push((entry.path(), depth + 1));
            }
            if sum > bytes || depth >= DEPTH {
                return true;
            }
        }
    }
    false
}
