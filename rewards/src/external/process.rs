//! One worker process that answers lines with lines.
//!
//! Before: a [`std::process::Command`] and bytes to hand it. After: the lines that it answers within a deadline, or how
//! it failed; and nothing of it is left running.
//!
//! Its three streams have a thread each, so that neither a worker that does not read nor one that does not end a line
//! keeps anybody waiting. The threads end when the other side of their pipe is closed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, waitid};

use super::guard::Guarded;
use super::kill::{Mark, end};
use super::tail::{Log, Tail};

/// How often a wait looks up to see whether the worker has ended or is to halt.
const LOOK: Duration = Duration::from_millis(20);
/// How long a worker that has closed its output may take to end, and a dead one's output to arrive.
const LAST: Duration = Duration::from_millis(500);
/// Longest line in bytes: what is longer is no answer.
const LINE: u64 = 8 << 20;
/// Lines that are read ahead.
const AHEAD: usize = 16;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Lapse {
    /// The deadline is over.
    Overran,
    /// The worker has ended; how, and the end of what it printed.
    Ended(String),
    /// What it wrote is no answer.
    Garbled(String),
    /// It was told to halt.
    Halted,
}

/// A running worker. It is killed when dropped, with all that it started.
pub(super) struct Process {
    child: Child,
    mark: Mark,
    guarded: Option<Guarded>,
    input: Sender<Vec<u8>>,
    lines: Receiver<Vec<u8>>,
    tail: Arc<Tail>,
    /// How much it had printed when it was asked last.
    printed: usize,
    /// Whether it was killed and waited for, so that its number may be another's.
    gone: bool,
}

impl Process {
    /// Starts it in a process group of its own; its standard error goes to the log.
    pub(super) fn start(mut command: Command, log: Log) -> io::Result<Self> {
        let mark = Mark::new();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        mark.put(command.process_group(0));
        let mut guarded = Guarded::starting();
        let mut child = command.spawn()?;
        guarded.group(child.id());
        let mut stdin = child.stdin.take().expect("piped above");
        let stdout = child.stdout.take().expect("piped above");
        let stderr = child.stderr.take().expect("piped above");
        let (input, to_write) = mpsc::channel::<Vec<u8>>();
        let (send, lines) = mpsc::sync_channel(AHEAD);
        let tail = Arc::new(Tail::default());
        thread::spawn(move || {
            for bytes in to_write {
                // a worker that is gone is noticed where its answer is awaited
                if stdin.write_all(&bytes).and_then(|()| stdin.flush()).is_err() {
                    break;
                }
            }
        });
        thread::spawn(move || read_lines(stdout, &send));
        let kept = tail.clone();
        thread::spawn(move || kept.read(stderr, &log));
        let guarded = Some(guarded);
        Ok(Self { child, mark, guarded, input, lines, tail, printed: 0, gone: false })
    }

    /// Hands over some bytes and waits for so many lines.
    pub(super) fn ask(
        &mut self,
        bytes: Vec<u8>,
        lines: usize,
        deadline: Duration,
        halt: &AtomicBool,
    ) -> Result<Vec<Vec<u8>>, Lapse> {
        let begun = Instant::now();
        self.printed = self.tail.now();
        // fails only if the writing thread is gone, and so the worker
        let _ = self.input.send(bytes);
        let mut answer = Vec::with_capacity(lines);
        while answer.len() < lines {
            let left = deadline.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(Lapse::Overran);
            }
            if halt.load(Ordering::Relaxed) {
                return Err(Lapse::Halted);
            }
            match self.lines.recv_timeout(left.min(LOOK)) {
                Ok(line) => answer.push(checked(line, answer.len())?),
                Err(RecvTimeoutError::Timeout) if self.ended().is_none() => {}
                // something that it started may still hold its output, so that there is no end to be read; what it
                // wrote before it ended may be on its way
                Err(RecvTimeoutError::Timeout) => match self.lines.recv_timeout(LOOK) {
                    Ok(line) => answer.push(checked(line, answer.len())?),
                    Err(_) => return Err(Lapse::Ended(self.epitaph())),
                },
                Err(RecvTimeoutError::Disconnected) => return Err(Lapse::Ended(self.epitaph())),
            }
        }
        match self.lines.try_recv() {
            Ok(line) => {
                Err(Lapse::Garbled(format!("wrote one more line than was asked for: {}", shown(&line))))
            }
            Err(_) => Ok(answer),
        }
    }

    /// Whether it can be asked: it lives, and has not said anything unasked.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.lines.try_recv(), Err(TryRecvError::Empty)) && self.ended().is_none()
    }

    /// The end of what it printed on its standard error since it was asked.
    pub(super) fn printed(&self) -> String {
        self.tail.since(self.printed)
    }

    /// How it ended, if it did. It stays to be waited for, so that its number is not given to another process before
    /// its group is killed.
    fn ended(&self) -> Option<WaitIdStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&self.child)), options).ok().flatten()
    }

    fn epitaph(&mut self) -> String {
        let begun = Instant::now();
        while self.ended().is_none() && begun.elapsed() < LAST {
            thread::sleep(Duration::from_millis(2));
        }
        let how = match self.ended() {
            None => "the worker closed its output".to_owned(),
            Some(status) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("the worker ended with exit status {code}"),
                (_, Some(signal)) => format!("the worker ended by signal {signal}{}", named(signal)),
                _ => "the worker ended".to_owned(),
            },
        };
        // whatever holds its standard error open has to go before the end of that can be read
        self.end();
        self.tail.wait_closed(LAST);
        match self.printed() {
            printed if printed.is_empty() => how,
            printed => format!("{how}; it printed: {printed}"),
        }
    }

    fn end(&mut self) {
        if !self.gone {
            self.gone = true;
            end(&mut self.child, &self.mark);
            self.guarded = None;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn named(signal: i32) -> &'static str {
    match signal {
        6 => " (SIGABRT)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

/// Sends lines without their end. One that is too long is cut, and the last that is sent.
fn read_lines(stdout: impl Read, send: &SyncSender<Vec<u8>>) {
    let mut stdout = BufReader::with_capacity(1 << 16, stdout);
    loop {
        let mut line = Vec::new();
        match stdout.by_ref().take(LINE).read_until(b'\n', &mut line) {
            Ok(read) if read > 0 => {}
            _ => return,
        }
        let whole = line.last() == Some(&b'\n');
        if whole {
            line.pop();
        }
        if send.send(line).is_err() || !whole {
            return;
        }
    }
}

fn checked(line: Vec<u8>, before: usize) -> Result<Vec<u8>, Lapse> {
    match std::str::from_utf8(&line) {
        _ if line.len() as u64 >= LINE => {
            Err(Lapse::Garbled(format!("wrote a line of more than {LINE} bytes")))
        }
        Ok(_) => Ok(line),
        Err(_) => Err(Lapse::Garbled(format!(
            "wrote bytes that are not UTF-8 as line {} of its answer: {}",
            before + 1,
            shown(&line)
        ))),
    }
}

/// The beginning of a line, in quotes.
pub(super) fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(400)]);
    let short: String = text.chars().take(80).collect();
    let more = if short.len() < text.len() || line.len() > 400 { "…" } else { "" };
    format!("{short:?}{more}")
}
