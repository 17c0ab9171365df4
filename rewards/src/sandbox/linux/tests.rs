//! Runs whose scratch folders share a disk, as where no file system of their own can be had.
//!
//! Every test needs `python3`.

use std::process::Command;

use super::super::{Exit, Limit};
use super::*;

/// The interpreter, and what it needs to read.
fn python() -> (PathBuf, Vec<PathBuf>) {
    let ask = "import sys; print(sys.executable, sys.prefix, sys.base_prefix, sep='\\n')";
    let asked = Command::new("python3").args(["-I", "-c", ask]).output().expect("these tests need python3");
    let text = String::from_utf8(asked.stdout).unwrap();
    let mut paths = text.lines().map(PathBuf::from);
    (paths.next().expect("these tests need python3"), paths.collect())
}

/// With 1 MiB a file, 4 MiB in all and 16 files open.
fn run(processes: u64, code: &str) -> SandboxOutcome {
    let (program, read) = python();
    let settings = SandboxSettings {
        seconds: 20.0,
        processes,
        file_mib: 1,
        scratch_mib: 4,
        open_files: 16,
        ..SandboxSettings::default()
    };
    let (mut confinement, _) = Confinement::new(settings, read).unwrap();
    confinement.share_disk();
    assert_eq!(confinement.try_limits().unwrap(), [""; 0]);
    let job = SandboxJob {
        program: &program,
        arguments: &["-I", "main.py"],
        files: &[("main.py", code.as_bytes())],
        stdin: Stdin::Bytes(b""),
        stdout: None,
        stop: None,
    };
    confinement.run(job).unwrap()
}

const SETUP: &str = "import ctypes, mmap, os, threading, time\n\
    def new(): return os.open('f', os.O_CREAT | os.O_RDWR, 0o600)\n\
    def gone(f): os.unlink('f'); os.close(f)\n\
    def fill(f): os.write(f, bytes(1 << 20))\n";

/// One file every 10 ms, so that none is missed however seldom the machine lets anybody look.
fn is_stopped(processes: u64, hide: &str) {
    let code = format!("{SETUP}k = []\nfor i in range(300):\n {hide}\n time.sleep(.01)");
    let outcome = run(processes, &code);
    let stderr = String::from_utf8_lossy(&outcome.stderr);
    assert_eq!(outcome.exit, Exit::Limit(Limit::Scratch(4)), "{hide}: {stderr}");
}

#[test]
fn deleted_files_count_while_they_are_mapped_or_open() {
    is_stopped(0, "f = new(); fill(f); k.append(mmap.mmap(f, 4096)); gone(f); i < 9 or os.closerange(9, 16)");
    is_stopped(0, "f = new(); fill(f); os.unlink('f')");
    is_stopped(0, "f = new(); fill(f); os.rename('f', 'f%d' % i); os.close(f)");
}

#[test]
fn deleted_files_count_in_all_processes_and_after_the_first_thread() {
    is_stopped(6, "f = new(); fill(f); os.unlink('f'); i > 5 or os.fork() or time.sleep(100); os.close(f)");
    let rest = "def work():\n for i in range(300):\n  f = new(); fill(f); os.unlink('f'); time.sleep(.01)\n\
         threading.Thread(target=work).start()\nctypes.CDLL(None).pthread_exit(None)";
    assert_eq!(run(0, &format!("{SETUP}{rest}")).exit, Exit::Limit(Limit::Scratch(4)));
}

#[test]
fn a_folder_that_is_renamed_all_the_time_counts() {
    is_stopped(
        0,
        "if i == 0:\n  os.mkdir('a'); d = os.open('a', os.O_RDONLY)\n  \
          def flip():\n   \
           while True: os.rename('a', 'b'); os.rename('b', 'a')\n  \
          threading.Thread(target=flip, daemon=True).start()\n \
         f = os.open('f%d' % i, os.O_CREAT | os.O_RDWR, 0o600, dir_fd=d); fill(f); os.close(f)",
    );
}

#[test]
fn disk_is_not_taken_at_once_and_files_are_written_instead() {
    let code = "import os\nf = os.open('f', os.O_CREAT | os.O_RDWR)\n\
        os.posix_fallocate(f, 0, 1 << 16); print(os.fstat(f).st_size)";
    let outcome = run(0, code);
    let said = [outcome.stdout, outcome.stderr].concat();
    assert_eq!((outcome.exit, said.as_slice()), (Exit::Code(0), b"65536\n".as_slice()));
}

/// With its last call each may still make a folder in the one that is deleted.
#[test]
fn many_that_are_killed_at_their_last_call_leave_nothing() {
    let code = "import os, time\n\
        for k in range(8):\n \
         if os.fork() == 0:\n  \
          i = 0\n  \
          while True:\n   \
           i += 1; name = '%d_%d' % (k, i)\n   \
           try: os.mkdir(name); os.rmdir(name)\n   \
           except OSError: pass\n\
        time.sleep(.05); os.write(1, b'9'); os._exit(0)";
    for _ in 0..5 {
        assert_eq!(run(8, code).exit, Exit::Code(0));
    }
}
