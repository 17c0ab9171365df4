//! What is written counts, however it is hidden, and takes nothing from others.

use rewards::{Exit, Limit, Sandbox};

use super::common::{LIBC, run_in, said, sandbox};

/// Writes 1 MiB after the other, each in a file that is hidden and deleted, and says what the file system has lost.
/// `HIDE` is the hiding; 4 MiB are allowed.
const HIDER: &str = "import array, mmap, os, socket, struct, time\n\
    c.mmap.restype = ctypes.c_void_p\n\
    c.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]\n\
    a, b = socket.socketpair()\n\
    free = lambda: os.statvfs('.').f_bfree * os.statvfs('.').f_frsize\n\
    before = free()\n\
    def new(): return os.open('f', os.O_CREAT | os.O_RDWR, 0o600)\n\
    def gone(f): os.unlink('f'); os.close(f)\n\
    def fill(f):\n \
     try: os.posix_fallocate(f, 0, 1 << 20)\n \
     except OSError: os.write(f, bytes(1 << 20))\n\
    for i in range(100):\n \
     HIDE\n \
     print((before - free()) >> 20, flush=True)\n \
     time.sleep(.001)\n";

const MAPPED: &str = "f = new(); fill(f); assert c.mmap(None, 4096, 3, 1, f, 0) != 2**64 - 1; gone(f)";

fn has_own_disk(sandbox: &Sandbox) -> bool {
    sandbox.protections().to_string().contains("a file system of its own in memory")
}

/// At most what the limit and 1 MiB beyond it are, or the program was killed for it.
fn is_held_to_its_disk(sandbox: &Sandbox, hide: &str) {
    let outcome = run_in(sandbox, &format!("{LIBC}{}", HIDER.replace("HIDE", hide)), b"");
    let (stdout, stderr) =
        (String::from_utf8_lossy(&outcome.stdout), String::from_utf8_lossy(&outcome.stderr));
    let all = format!("{hide}: {:?}\n{stdout}{stderr}", outcome.exit);
    match outcome.exit {
        // the seventh signal says that a mapped page has no place
        Exit::Limit(Limit::Scratch(4)) | Exit::Signal(7) => {}
        Exit::Code(1) => {
            assert!(stderr.contains("No space left") || stderr.contains("not permitted"), "{all}")
        }
        _ => panic!("{all}"),
    }
    if has_own_disk(sandbox) {
        let most = stdout.lines().map(|line| line.parse::<i64>().unwrap()).max().unwrap_or(0);
        assert!(most <= 6, "{all}");
    }
}

fn small() -> Sandbox {
    sandbox(|settings| {
        (settings.file_mib, settings.scratch_mib, settings.open_files) = (1, 4, 16);
    })
}

#[test]
fn deleted_files_count_however_they_are_kept() {
    let sandbox = small();
    for hide in [
        MAPPED,
        "f = new(); fill(f); mmap.mmap(f, 4096, flags=mmap.MAP_PRIVATE); k = globals().setdefault('k', []); \
         k.append(mmap.mmap(f, 4096)); gone(f)",
        // mapped, filled through the map, never written
        "f = new(); os.ftruncate(f, 1 << 20); m = c.mmap(None, 1 << 20, 3, 1, f, 0); ctypes.memset(m, 1, 1 << 20); \
         gone(f)",
        "f = new(); fill(f); os.unlink('f')",
        "f = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o600); fill(f)",
        "f = new(); fill(f); os.unlink('f'); a.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, \
         array.array('i', [f]))]); os.close(f)",
        "f = new(); fill(f); os.rename('f', 'f%d' % i); os.close(f)",
        "os.mkdir('d%d' % i); os.chdir('d%d' % i); f = new(); fill(f); os.unlink('f'); os.chdir('..'); \
         os.rmdir('d%d' % i)",
        "f = new(); fill(f); os.link('f', 'g%d' % i); gone(f)",
    ] {
        is_held_to_its_disk(&sandbox, hide);
    }
}

#[test]
fn several_processes_share_one_disk() {
    let sandbox = sandbox(|settings| {
        (settings.file_mib, settings.scratch_mib, settings.open_files, settings.processes) = (1, 4, 16, 4);
    });
    is_held_to_its_disk(&sandbox, MAPPED);
    // Each child keeps one and says nothing.
    is_held_to_its_disk(
        &sandbox,
        "f = new(); fill(f); os.unlink('f')\n \
         if i < 4 and os.fork() == 0: os.close(1); time.sleep(100)\n \
         os.close(f)\n \
         if i > 20: f = new(); fill(f); time.sleep(.02)",
    );
}

#[test]
fn files_in_memory_count_as_memory() {
    let sandbox = sandbox(|settings| {
        (settings.memory_mib, settings.scratch_mib, settings.file_mib) = (96, 256, 256);
    });
    if !has_own_disk(&sandbox) {
        return; // on a disk they take none
    }
    let code = "import time\nf = open('f', 'wb')\nfor _ in range(120): f.write(bytes(1 << 20))\nf.flush(); time.sleep(10)";
    assert_eq!(run_in(&sandbox, code, b"").exit, Exit::Limit(Limit::Memory(96)));
}

#[test]
fn a_process_whose_first_thread_has_ended_has_its_memory_still() {
    let sandbox = sandbox(|settings| (settings.processes, settings.memory_mib) = (3, 256));
    let code = format!(
        "{LIBC}import threading, time\n\
         os.fork(); os.fork()\n\
         def work():\n \
          time.sleep(.2); a = bytearray(b'x') * (150 << 20); time.sleep(10)\n \
          os.write(1, b'all held 150 MiB'); os._exit(0)\n\
         threading.Thread(target=work).start()\n\
         c.pthread_exit(None)"
    );
    let outcome = run_in(&sandbox, &code, b"");
    assert_eq!(outcome.exit, Exit::Limit(Limit::Memory(256)), "{}", String::from_utf8_lossy(&outcome.stdout));
}

#[test]
fn one_that_fills_its_disk_takes_nothing_from_the_others() {
    let sandbox = small();
    let greedy = format!("{LIBC}{}\ntime.sleep(100)", HIDER.replace("HIDE", MAPPED));
    let good = "import time; time.sleep(.05); open('f', 'w').write('x' * 1000); print(int(input()) ** 2)";
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| run_in(&sandbox, &greedy, b""));
        }
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(said(&run_in(&sandbox, good, b"3\n")), "9"));
        }
    });
}

#[test]
fn what_programs_do_with_files_works() {
    let code = "import fcntl, mmap, os, shutil, socket, sqlite3, sys, tempfile, termios, array\n\
        f = open('a', 'w+b'); f.write(b'x' * 8192); f.flush()\n\
        m = mmap.mmap(f.fileno(), 4096); m[0] = 65; m.flush()\n\
        print(open('a', 'rb').read(1))\n\
        fcntl.lockf(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_UN)\n\
        fcntl.fcntl(f, fcntl.F_SETFD, fcntl.FD_CLOEXEC); print(fcntl.fcntl(f, fcntl.F_GETFL) & 3)\n\
        shutil.copyfile('main.py', 'b'); os.replace('b', 'c'); print(os.path.exists('c'))\n\
        d = sqlite3.connect('d.db'); d.execute('create table t(a)'); d.execute('insert into t values (7)'); d.commit()\n\
        print(d.execute('select a from t').fetchall())\n\
        r, w = os.pipe(); os.write(w, b'abc'); n = array.array('i', [0])\n\
        fcntl.ioctl(r, termios.FIONREAD, n); print(n[0]); os.set_blocking(r, False)\n\
        a, b = socket.socketpair(); a.sendall(b'hi'); print(b.recv(2))\n\
        print(sys.stdin.isatty())\n\
        with tempfile.TemporaryDirectory() as t: open(t + '/x', 'w').write('1')\n\
        with tempfile.NamedTemporaryFile() as t: t.write(b'1')";
    assert_eq!(said(&run_in(&small(), code, b"")), "b'A'\n2\nTrue\n[(7,)]\n3\nb'hi'\nFalse");
}
