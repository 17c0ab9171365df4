//! What a worker prints is kept, and lost nowhere.
//!
//! Before: a worker writes to its standard error. After: the end of it is in failures, all of it in the log file.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Bytes that are kept.
const KEPT: usize = 64 << 10;
/// Bytes of them that a failure shows.
const SHOWN: usize = 1500;

/// A file that all workers of a reward append to, once there is one.
#[derive(Debug, Clone, Default)]
pub(super) struct Log(Arc<Mutex<Option<File>>>);

impl Log {
    /// From now on appends to this file.
    pub(super) fn keep(&self, path: &Path) -> std::io::Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        Ok(())
    }

    fn write(&self, bytes: &[u8]) {
        if let Some(file) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            // a full disk must not cost a reward
            let _ = file.write_all(bytes);
        }
    }
}

/// The end of a stream.
#[derive(Default)]
pub(super) struct Tail {
    state: Mutex<State>,
    closed: Condvar,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    /// Bytes that ever came.
    came: usize,
    closed: bool,
}

impl Tail {
    /// Reads the stream to its end.
    pub(super) fn read(&self, mut stream: impl Read, log: &Log) {
        let mut buffer = [0; 8 << 10];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            log.write(&buffer[..read]);
            let mut state = self.state.lock().expect("no one panics while holding it");
            state.bytes.extend(&buffer[..read]);
            state.came += read;
            let over = state.bytes.len().saturating_sub(KEPT);
            state.bytes.drain(..over);
        }
        self.state.lock().expect("no one panics while holding it").closed = true;
        self.closed.notify_all();
    }

    /// Waits for the end of the stream, but not for long.
    pub(super) fn wait_closed(&self, most: Duration) {
        let state = self.state.lock().expect("no one panics while holding it");
        drop(self.closed.wait_timeout_while(state, most, |state| !state.closed));
    }

    /// How much there has been so far.
    pub(super) fn now(&self) -> usize {
        self.state.lock().expect("no one panics while holding it").came
    }

    /// The end of what came since there had been so much.
    pub(super) fn since(&self, then: usize) -> String {
        let state = self.state.lock().expect("no one panics while holding it");
        let new = (state.came - then).min(SHOWN);
        let from = state.bytes.len().saturating_sub(new);
        let bytes: Vec<u8> = state.bytes.iter().skip(from).copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_not_all_of_it() {
        let tail = Tail::default();
        let long = "x".repeat(3 * KEPT) + " the end\n";
        tail.read(long.as_bytes(), &Log::default());
        assert_eq!(tail.state.lock().unwrap().bytes.len(), KEPT);
        assert!(tail.since(0).ends_with("x the end"));
        assert_eq!(tail.since(tail.now() - 4), "end");
        assert_eq!(tail.since(tail.now()), "");
        tail.wait_closed(Duration::from_secs(60));
    }
}
