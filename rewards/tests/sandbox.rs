//! Programs that try to get out of the sandbox, or to wear out the machine, do not.
//!
//! Every test needs `python3`.
#![cfg(target_os = "linux")]

#[path = "sandbox/common.rs"]
mod common;
#[path = "sandbox/disk.rs"]
mod disk;
#[path = "sandbox/killed.rs"]
mod killed;
#[path = "sandbox/shared.rs"]
mod shared;

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{LIBC, PYTHON, SANDBOX, SOON, lines, new_folder, refused, run, run_in, said, sandbox};
use rewards::{Exit, Limit, Sandbox, SandboxError, SandboxJob, SandboxSettings, Stdin};

#[test]
fn what_is_really_enforced_is_known_and_readable() {
    let shown = SANDBOX.protections().to_string();
    for name in
        ["file system: enforced, Landlock", "network: enforced", "signals: enforced", "processes: enforced"]
    {
        assert!(shown.contains(name), "{shown}");
    }
}

#[test]
fn a_program_reads_its_input_and_its_outcome_says_all() {
    let outcome = run_in(
        &SANDBOX,
        "import sys; n = int(input()); print(n + 1); sys.stderr.write('e'); sys.exit(3)",
        b"41\n",
    );
    assert_eq!(
        (outcome.exit, outcome.stdout, outcome.stderr),
        (Exit::Code(3), b"42\n".to_vec(), b"e".to_vec())
    );
    let big = vec![b'x'; 10 << 20];
    assert_eq!(said(&run_in(&SANDBOX, "import sys; print(len(sys.stdin.read()))", &big)), "10485760");
    assert_eq!(said(&run_in(&SANDBOX, "print(1)", &big)), "1"); // it need not read
    assert_eq!(said(&run("import sys; sys.stdin.close(); print(1)")), "1");
    assert_eq!(run("import os; os.write(1, b'\\xff\\xfe')").stdout, [0xff, 0xfe]);
    let outcome = run("import os; os.abort()");
    assert_eq!(outcome.exit, Exit::Signal(6));
}

#[test]
fn common_libraries_work() {
    let code = "import asyncio, tempfile, threading, collections, heapq, decimal, random, datetime, zoneinfo, shutil\n\
        async def f(): await asyncio.sleep(0); return 5\n\
        print(asyncio.run(f()))\n\
        with tempfile.TemporaryFile() as t: t.write(b'a')\n\
        open('a', 'w').write('b'); shutil.copyfile('a', 'c'); print(open('c').read())\n\
        t = threading.Thread(target=print, args=(1,)); t.start(); t.join()\n\
        print(datetime.datetime.now().year > 2000)";
    assert_eq!(said(&run(code)), "5\nb\n1\nTrue");
}

#[test]
fn nothing_of_the_environment_is_seen() {
    let seen = said(&run("import os; print(sorted(os.environ)); print(os.getcwd() == os.environ['HOME'])"));
    let wanted = "['HOME', 'LANG', 'MKL_NUM_THREADS', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'PATH', \
                  'PYTHONDONTWRITEBYTECODE', 'PYTHONHASHSEED', 'PYTHONIOENCODING', 'TMPDIR']\nTrue";
    assert_eq!(seen.replace("'LC_CTYPE', ", ""), wanted);
}

#[test]
fn files_outside_are_neither_read_nor_written_nor_changed() {
    let outside = new_folder();
    let secret = outside.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(outside.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let before = fs::metadata(&secret).unwrap();
    let parent = std::process::id();
    // a name that nothing on this machine has
    let name = outside.path().file_name().unwrap().to_str().unwrap();
    let setup = format!(
        "{LIBC}\nD = {:?}\nN = {name:?}\nS = D + '/secret'\nP = '/proc/{parent}'\nos.symlink(S, 'link')",
        outside.path()
    );
    let mut tries = lines([
        "open('/etc/passwd').read()",
        "open(S).read()",
        "open('link').read()",
        "open(os.path.relpath(S)).read()",
        "open('/proc/self/environ').read()",
        "open(P + '/environ').read()",
        "open(P + '/mem', 'r+b')",
        "open('/proc/self/root' + S).read()",
        "open('/proc/self/cwd/../../..' + S).read()",
        "os.listdir(D)",
        "os.listdir('/')",
        "os.listdir('/proc')",
        "open(S, 'a')",
        "open(S, 'w')",
        "open(D + '/new', 'w')",
        "os.mkdir(D + '/new')",
        "os.mkfifo(D + '/new')",
        "os.symlink('x', D + '/new')",
        "os.remove(S)",
        "os.rename(S, 'here')",
        "os.truncate(S, 0)",
        "os.open(S, os.O_RDONLY | os.O_TRUNC)",
        "os.chmod(S, 0)",
        "os.chmod(D, 0)",
        "os.utime(S)",
        "os.chown(S, os.getuid(), -1)",
        "os.setxattr(S, 'user.a', b'a')",
        "open('/dev/shm/' + N, 'w')",
        "open(D + '-' + N, 'w')",
        "open('/dev/tty')",
        "open('/dev/vda', 'rb')",
        "open('/dev/mem', 'rb')",
    ]);
    tries.retain(|line| {
        !line.contains("/dev/") || line.contains("shm") || PathBuf::from(&line[6..14]).exists()
    });
    // A link to a file on the same file system would be enough to read it.
    tries.push("os.link(S, 'here')\n open('here').read()".into());
    refused(&setup, &tries);
    let after = fs::metadata(&secret).unwrap();
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(
        (before.permissions(), before.modified().unwrap()),
        (after.permissions(), after.modified().unwrap())
    );
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    for folder in [PYTHON.1.last().unwrap().as_path(), "/usr/lib".as_ref()] {
        refused("", &[format!("open({:?}, 'w')", folder.join(name))]);
    }
}

#[test]
fn no_socket_reaches_anybody() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    tcp.set_nonblocking(true).unwrap();
    let place = new_folder();
    fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let path = place.path().join("s");
    let unix = UnixListener::bind(&path).unwrap();
    unix.set_nonblocking(true).unwrap();
    let setup = format!("{LIBC}\nA = ('127.0.0.1', {}); U = {path:?}", tcp.local_addr().unwrap().port());
    let tries = [
        "socket.create_connection(A)",
        "socket.socket(socket.AF_INET6)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'a', A)",
        "socket.socket(socket.AF_UNIX).connect(U)",
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'a', U)",
        "socket.socketpair()[0].connect(U)",
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "call(c.syscall(425, 1, ctypes.create_string_buffer(256)))", // io_uring_setup
    ];
    refused(&setup, &lines(tries));
    assert!(tcp.accept().is_err() && unix.accept().is_err());
}

#[test]
fn no_other_process_is_touched() {
    let mut bystander = Command::new("sleep").arg("60").spawn().unwrap();
    let setup = format!("{LIBC}\nP, B = {}, {}", std::process::id(), bystander.id());
    let tries = [
        "os.kill(P, 0)",
        "os.kill(P, signal.SIGTERM)",
        "os.kill(os.getppid(), signal.SIGKILL)",
        "os.kill(B, signal.SIGKILL)",
        "os.kill(1, 0)",
        "call(c.ptrace(16, P, 0, 0))",
        "call(c.process_vm_readv(P, 0, 0, 0, 0, 0))",
        "call(c.syscall(434, P, 0))", // pidfd_open
        "resource.prlimit(P, resource.RLIMIT_CPU, (0, 0))",
        "resource.prlimit(B, resource.RLIMIT_CPU, (0, 0))",
        "os.setpriority(os.PRIO_PROCESS, P, 19)",
        "os.sched_setaffinity(P, {0})",
        "os.setsid()",
        "os.setpgid(0, 0)",
        "os.setuid(os.getuid())",
        "call(c.unshare(0x10000000))",
        "call(c.shmget(1, 4096, 0o1666))",
        "call(c.mount(b'none', b'/', b'tmpfs', 0, 0))",
        "call(c.chroot(b'.'))",
        "call(c.memfd_create(b'a', 0))",
    ];
    refused(&setup, &lines(tries));
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn a_program_has_no_capabilities_and_gains_none() {
    let code = format!(
        "{LIBC}\nh = (ctypes.c_uint32 * 2)(0x20080522, 0); d = (ctypes.c_uint32 * 6)()\n\
         call(c.capget(h, d)); print(list(d)); print(c.prctl(39, 0, 0, 0, 0), c.prctl(21, 0, 0, 0, 0))"
    );
    assert_eq!(said(&run(&code)), "[0, 0, 0, 0, 0, 0]\n1 2"); // no new privileges; filtered
}

#[test]
fn the_limits_end_what_does_not_end() {
    let quick = sandbox(|settings| (settings.seconds, settings.cpu_seconds) = (1.0, 5));
    assert_eq!(run_in(&quick, "import time; time.sleep(1000)", b"").exit, Exit::Limit(Limit::Time(1.0)));
    let closed = "import os, time; os.close(0); os.close(1); os.close(2); time.sleep(1000)";
    assert_eq!(run_in(&quick, closed, b"").exit, Exit::Limit(Limit::Time(1.0)));
    let busy = sandbox(|settings| (settings.seconds, settings.cpu_seconds) = (20.0, 1));
    assert_eq!(run_in(&busy, "while True: pass", b"").exit, Exit::Limit(Limit::Cpu(1)));
    let deaf = "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass";
    assert_eq!(run_in(&busy, deaf, b"").exit, Exit::Limit(Limit::Cpu(1)));
}

#[test]
fn memory_is_refused_beyond_its_limit() {
    let sandbox = sandbox(|settings| (settings.seconds, settings.memory_mib) = (5.0, 256));
    for code in [
        "a = bytearray(100 << 30)",
        // 1.6 GB in 1.6 MB: a block that depends on none before it may be repeated.
        "import zlib; c = zlib.compressobj(1, zlib.DEFLATED, -15)\n\
         block = c.compress(bytes(1 << 24)) + c.flush(zlib.Z_FULL_FLUSH)\n\
         zlib.decompress(block * 100 + c.flush(), -15)",
        "a = []\nwhile True: a.append(bytearray(1 << 20))",
        "a = 'x'\nwhile True: a += a",
    ] {
        let outcome = run_in(&sandbox, code, b"");
        assert_eq!(outcome.exit, Exit::Code(1), "{code}");
        assert!(String::from_utf8_lossy(&outcome.stderr).contains("MemoryError"), "{code}");
    }
}

#[test]
fn output_and_disk_end_at_their_limits() {
    assert_eq!(run("while True: print('x' * 10000)").exit, Exit::Limit(Limit::Output(1024)));
    assert_eq!(
        run("import sys\nwhile True: sys.stderr.write('x' * 10000)").exit,
        Exit::Limit(Limit::Output(1024))
    );
    let short = run("import os; os.write(1, b'x' * 60000)\nfor _ in range(20): os.write(1, b'x' * 60000)");
    assert_eq!((short.exit, short.stdout.len()), (Exit::Limit(Limit::Output(1024)), 1 << 20));
    let one = run("f = open('f', 'wb')\nwhile True: f.write(bytes(1 << 20))");
    assert_eq!(one.exit, Exit::Code(1));
    assert!(String::from_utf8_lossy(&one.stderr).contains("File too large"));
    let ended = run("import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\nf = open('f', 'wb')\n\
                     while True: f.write(bytes(1 << 20))");
    assert_eq!(ended.exit, Exit::Limit(Limit::FileSize(16)));
    let many = "i = 0\nwhile True:\n i += 1\n open(str(i), 'wb').write(bytes(8 << 20))";
    assert_eq!(run(many).exit, Exit::Limit(Limit::Scratch(64)));
    let small = sandbox(|settings| settings.scratch_mib = 4);
    let empty = "i = 0\nwhile True:\n i += 1\n open(str(i), 'w').close()";
    assert_eq!(run_in(&small, empty, b"").exit, Exit::Limit(Limit::Scratch(4)));
    assert_eq!(
        run("import os\nwhile True: os.mkdir('d'); os.chdir('d')").exit,
        Exit::Limit(Limit::Scratch(64))
    );
    let open = run("a = [open('main.py') for _ in range(1000)]");
    assert!(String::from_utf8_lossy(&open.stderr).contains("Too many open files"));
    // A link to something large is not looked at.
    assert_eq!(
        said(&run(
            "import os, time\nfor i in range(9): os.symlink('/usr', str(i))\ntime.sleep(.1); print(1)"
        )),
        "1"
    );
}

#[test]
fn processes_are_refused_or_counted_and_threads_too() {
    refused(
        "import os, subprocess, multiprocessing",
        &lines([
            "os.fork()",
            "subprocess.run(['/bin/true'])",
            "os.posix_spawn('/bin/true', ['true'], {})",
            "os.system('true') and (_ for _ in ()).throw(OSError(1, ''))",
        ]),
    );
    let some = sandbox(|settings| settings.processes = 3);
    let fork = "import subprocess; print(subprocess.run(['/bin/echo', 'a'], capture_output=True).stdout)";
    assert_eq!(said(&run_in(&some, fork, b"")), "b'a\\n'");
    let bomb = "import os\nwhile True:\n try: os.fork()\n except OSError: pass";
    assert_eq!(run_in(&some, bomb, b"").exit, Exit::Limit(Limit::Processes(3)));
    let memory = sandbox(|settings| (settings.processes, settings.memory_mib) = (3, 256));
    let shared = "import os, time\nos.fork(); os.fork(); a = bytearray(b'x') * (150 << 20); time.sleep(100)";
    assert_eq!(run_in(&memory, shared, b"").exit, Exit::Limit(Limit::Memory(256)));
    let threads = "import threading, time\nthreading.stack_size(65536)\n\
                   while True: threading.Thread(target=time.sleep, args=(100,)).start()";
    assert_eq!(run(threads).exit, Exit::Limit(Limit::Threads(32)));
}

#[test]
fn what_a_program_started_does_not_outlive_it() {
    let some = sandbox(|settings| settings.processes = 5);
    let marker = new_folder();
    let read = marker.path().join("alive");
    let daemon = "import os, sys, time\n\
        if os.fork() == 0:\n \
         try: os.setsid()\n \
         except OSError: pass\n \
         if os.fork() == 0:\n  \
          sys.stdout.write('%d ' % os.getpid()); sys.stdout.flush()\n  \
          time.sleep(100)\n \
         os._exit(0)\n\
        time.sleep(.3); print(os.getpid())";
    let started = Instant::now();
    let outcome = run_in(&some, daemon, b"");
    assert!(started.elapsed() < SOON, "a descendant with the pipe held the run up");
    let said = said(&outcome);
    assert_eq!(said.split(' ').count(), 2, "{said}");
    std::thread::sleep(Duration::from_millis(50));
    for process in said.split(' ') {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    }
    assert!(!read.exists());
}

#[test]
fn runs_know_nothing_of_each_other_and_leave_nothing() {
    let before = scratch_folders();
    let write = "import os; print(os.path.exists('left')); open('left', 'w').write('x'); print(os.getcwd())";
    let (first, second) = (said(&run(write)), said(&run(write)));
    assert!(first.starts_with("False") && second.starts_with("False"));
    for folder in [&first, &second] {
        assert!(!PathBuf::from(folder.lines().last().unwrap()).exists());
    }
    let mine = first.lines().last().unwrap();
    assert!(!scratch_folders().contains(&mine.to_owned()) && !before.contains(&mine.to_owned()));
}

fn scratch_folders() -> Vec<String> {
    let entries = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    entries.map(|entry| entry.path().join("scratch").display().to_string()).collect()
}

#[test]
fn many_run_side_by_side() {
    let code = "import sys, time; time.sleep(.02); print(int(input()) * 2)";
    std::thread::scope(|scope| {
        for number in 0..16 {
            scope.spawn(move || {
                let outcome = run_in(&SANDBOX, code, format!("{number}\n").as_bytes());
                assert_eq!(said(&outcome), (number * 2).to_string());
            });
        }
    });
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (settings, wanted) in [
        (SandboxSettings { seconds: 0.0, ..Default::default() }, "`seconds` is 0, wanted more than 0"),
        (SandboxSettings { memory_mib: 1, ..Default::default() }, "`memory_mib` is 1, wanted 16 to"),
        (SandboxSettings { read: vec!["/".into()], ..Default::default() }, "`read` has `/`, wanted"),
        (
            SandboxSettings { read: vec!["/nowhere/a".into()], ..Default::default() },
            "`read` has `/nowhere/a`",
        ),
    ] {
        let error = Sandbox::new(settings, &[]).unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
    let job = |program| SandboxJob {
        program,
        arguments: &[],
        files: &[],
        stdin: Stdin::Bytes(b""),
        stdout: None,
        stop: None,
    };
    let error = SANDBOX.run(job("/usr/bin/nothing-of-that-name".as_ref())).unwrap_err();
    assert!(
        matches!(error, SandboxError::System { .. }) && error.to_string().contains("nothing-of-that-name")
    );
}
