//! What a program can read is also used by others: nothing that it may do with it is felt by them.

use std::fs::{self, File};
use std::process::Command;

use rewards::{Code, Exit, Reward};

use super::common::{LIBC, lines, new_folder, refused_in, run_in, said, sandbox};

/// Calls by number, the same on all processors from 424 on.
const BY_NUMBER: &str = "import array, fcntl, struct\n\
    import mmap as m\n\
    def s(*a): call(c.syscall(*[ctypes.c_long(x) if isinstance(x, int) else x for x in a]))\n\
    A, B = socket.socketpair()\n\
    R, W = os.pipe()\n\
    p = ctypes.create_string_buffer(256)\n";

#[test]
fn no_lease_lock_watch_or_flag_is_put_on_a_file_that_can_be_read() {
    let folder = new_folder();
    let shared = folder.path().join("shared");
    fs::write(&shared, "shared").unwrap();
    let path = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), path).unwrap();
    let sandbox = sandbox(|settings| settings.read.push(folder.path().to_owned()));
    let setup = format!(
        "{LIBC}{BY_NUMBER}D = {:?}\nF = os.open(D + '/shared', os.O_RDONLY); O = os.open(D, os.O_RDONLY)",
        folder.path()
    );
    let tries = [
        "fcntl.fcntl(F, 1024, 0)", // F_SETLEASE
        "fcntl.fcntl(F, 1024, 1)",
        "fcntl.fcntl(O, 1026, 2)", // F_NOTIFY
        "fcntl.flock(F, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(F, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        "fcntl.flock(O, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.fcntl(F, 1036, struct.pack('Q', 1))", // F_SET_RW_HINT
        "fcntl.fcntl(F, fcntl.F_SETOWN, os.getppid())",
        "fcntl.fcntl(F, 15, struct.pack('ii', 1, os.getppid()))", // F_SETOWN_EX
        "fcntl.fcntl(F, fcntl.F_SETSIG, 9)",
        "fcntl.ioctl(F, 0x40086602, struct.pack('Q', 0x40))", // FS_IOC_SETFLAGS
        "fcntl.ioctl(F, 0x40087602, struct.pack('Q', 7))",    // FS_IOC_SETVERSION
        "fcntl.ioctl(F, 0x401c5820, bytes(28))",              // FS_IOC_FSSETXATTR
        "fcntl.ioctl(F, 0x40806685, bytes(128))",             // FS_IOC_ENABLE_VERITY
        "fcntl.ioctl(F, 0xc0185879, bytes(24))",              // FITRIM
        "fcntl.ioctl(F, 0xc0045877, 0)",                      // FIFREEZE
        "fcntl.ioctl(O, 0x800c6613, bytes(12))",              // FS_IOC_SET_ENCRYPTION_POLICY
        "fcntl.ioctl(F, 0x40086409, bytes(8))",
        "os.posix_fadvise(F, 0, 0, os.POSIX_FADV_DONTNEED)",
        "call(c.madvise(ctypes.c_void_p(0x10000), 4096, 21))", // MADV_PAGEOUT
        "call(c.inotify_init())",
        "call(c.inotify_init1(0x800))",
        "call(c.fanotify_init(0, 0))",
        "os.utime(F)",
        "os.fchmod(F, 0)",
    ];
    refused_in(&sandbox, &setup, &lines(tries));
    // Whoever opens it to write would wait for a lease, and a lock would be in the way.
    let file = File::options().append(true).open(&shared).unwrap();
    file.try_lock().unwrap();
}

#[test]
fn what_a_user_has_so_much_of_is_not_taken() {
    let setup = format!("{LIBC}{BY_NUMBER}");
    let tries = [
        "fcntl.fcntl(W, 1031, 1 << 20)", // F_SETPIPE_SZ
        "s(425, 1, p)",                  // io_uring_setup
        "s(444, p, 24, 0)",              // landlock_create_ruleset
        "s(445, 3, 1, p, 0)",
        "s(446, 3, 0)",
        "A.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [R]))])",
        "A.sendmsg([b'x'])",
        "s(436, 3, 60, 2)", // close_range with a table of files of its own
        "call(c.add_key(b'user', b'a', b'b', 1, -3)) if hasattr(c, 'add_key') else s({'x86_64': 248}.get(os.uname().machine, 217), b'user', b'a', b'b', 1, -3)",
        "call(c.shmget(0, 4096, 0o1600))",
        "call(c.semget(0, 1, 0o1600))",
        "call(c.msgget(0, 0o1600))",
        "call(c.memfd_create(b'a', 0))",
        "call(c.eventfd(0, 0)) if False else call(c.mq_open(b'/a', 0o102, 0o600, None)) if hasattr(c, 'mq_open') else s(425, 1, p)",
        "os.setpriority(os.PRIO_PROCESS, 0, 5)",
        "call(c.prlimit(0, 4, ctypes.byref((ctypes.c_long * 2)(0, 0)), None))", // RLIMIT_CORE
        "call(c.setrlimit(4, ctypes.byref((ctypes.c_long * 2)(0, 0))))",
        "os.sched_setaffinity(os.getppid(), {0})",
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
        "call(c.prctl(1, 0, 0, 0, 0))", // PR_SET_PDEATHSIG
        "call(c.prctl(1, 10, 0, 0, 0))",
        "call(c.prctl(4, 0, 0, 0, 0))",           // PR_SET_DUMPABLE
        "call(c.prctl(8, 1, 0, 0, 0))",           // PR_SET_KEEPCAPS
        "call(c.prctl(36, 1, 0, 0, 0))",          // PR_SET_CHILD_SUBREAPER
        "call(c.prctl(35, 1, 0, 0, 0))",          // PR_SET_MM
        "call(c.prctl(62, 1, 0, 0, 0))",          // PR_SCHED_CORE
        "call(c.prctl(67, 1, 0, 0, 0))",          // PR_SET_MEMORY_MERGE
        "call(c.prctl(0x59616d61, -1, 0, 0, 0))", // PR_SET_PTRACER
    ];
    refused_in(&sandbox(|_| {}), &setup, &lines(tries));
}

/// A thread with files of its own is seen nowhere. If it could be made, it would run off into nothing.
#[test]
fn threads_share_their_table_of_files() {
    let number = if cfg!(target_arch = "x86_64") { 56 } else { 220 };
    let code = format!(
        "{LIBC}{BY_NUMBER}try: s({number}, 0x10000 | 0x800 | 0x100, 0, 0, 0, 0)\n\
         except OSError as e: print(e.errno)\n\
         import threading\n\
         t = threading.Thread(target=print, args=('ran',)); t.start(); t.join()"
    );
    assert_eq!(said(&run_in(&sandbox(|_| {}), &code, b"")), "1\nran");
}

#[test]
fn timers_are_few_and_priorities_stay() {
    let code = format!(
        "{LIBC}n = 0; t = ctypes.c_void_p()\n\
         while n < 5000 and c.timer_create(1, None, ctypes.byref(t)) == 0: n += 1\n\
         print(n <= 256)\n\
         print([resource.getrlimit(r) for r in (resource.RLIMIT_RTPRIO, resource.RLIMIT_NICE)])"
    );
    assert_eq!(said(&run_in(&sandbox(|_| {}), &code, b"")), "True\n[(0, 0), (0, 0)]");
}

/// Only the limit of 1 keeps the machine from starting a program for a dump; others than this can be lowered.
#[test]
fn a_crash_leaves_nothing_behind() {
    let code = "import os, resource\nprint(resource.getrlimit(resource.RLIMIT_CORE), os.getcwd(), flush=True)\n\
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20))\nos.abort()";
    let outcome = run_in(&sandbox(|_| {}), code, b"");
    let stdout = String::from_utf8_lossy(&outcome.stdout);
    assert!(stdout.starts_with("(1, 1) "), "{stdout}");
    assert_eq!(outcome.exit, Exit::Signal(6));
}

/// Cases that have to open a file that another one holds would wait until that one dies.
#[test]
fn a_hostile_program_changes_no_other_s_verdict() {
    let folder = new_folder();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(folder.path().join("config"), "9").unwrap();
    let sandbox = sandbox(|settings| {
        (settings.seconds, settings.cpu_seconds) = (10.0, 5);
        settings.read.push(folder.path().to_owned());
    });
    let name = format!("{:?}", folder.path().join("config"));
    let hostile = format!(
        "import fcntl, os, time\nend = time.time() + 3\n\
         while time.time() < end:\n \
          try:\n  \
           f = os.open({name}, os.O_RDONLY)\n  \
           for g in (lambda: fcntl.fcntl(f, 1024, 1), lambda: fcntl.flock(f, 2), lambda: fcntl.lockf(f, 2)):\n   \
            try: g()\n   \
            except OSError: pass\n  \
           time.sleep(.01); os.close(f)\n \
          except OSError: pass"
    );
    // as who writes to it, such as an installer
    let good = format!("print(open({name}).read())");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| run_in(&sandbox, &hostile, b""));
        }
        for _ in 0..6 {
            scope.spawn(|| assert_eq!(said(&run_in(&sandbox, &good, b"")), "9"));
        }
        let file = File::options().append(true).open(folder.path().join("config")).unwrap();
        file.try_lock().unwrap();
    });
}

#[test]
fn packages_that_may_hold_the_answers_are_warned_of() {
    let folder = new_folder();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let environment = folder.path().join("venv");
    let made = Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(&environment).status();
    assert!(made.unwrap().success(), "these tests need Python's `venv`");
    let library = fs::read_dir(environment.join("lib")).unwrap().next().unwrap().unwrap().path();
    fs::create_dir(library.join("site-packages/answers_of_the_benchmark")).unwrap();
    let python = environment.join("bin/python3").display().to_string();
    let reward = Code { python, ..Code::default() }.build("code").unwrap();
    let warnings = reward.warnings().join("\n");
    assert!(warnings.contains("`: answers_of_the_benchmark; "), "{warnings}");
}
