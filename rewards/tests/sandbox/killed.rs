//! When this process is killed, the programs that it runs die too, and the next one clears away what was left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::common::{SOON, new_folder, run_in, sandbox};

/// What the process that is killed does; as a test it is nothing.
const ROLE: &str = "EVENKEEL_SANDBOX_TEST_ROLE";

#[test]
fn a_process_for_the_other_test() {
    match std::env::var(ROLE).as_deref() {
        Ok("run") => {
            let code = "import ctypes, signal, time\nc = ctypes.CDLL(None)\nc.prctl(1, 0, 0, 0, 0)\n\
                for i in range(1, 32):\n \
                 try: signal.signal(i, signal.SIG_IGN)\n \
                 except (OSError, ValueError): pass\n\
                open('left', 'w').write('left'); time.sleep(1000)";
            run_in(&sandbox(|settings| settings.seconds = 60.0), code, b"");
        }
        Ok("make") => drop(sandbox(|_| {})),
        _ => {}
    }
}

fn start(role: &str, temporary: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "killed::a_process_for_the_other_test"])
        .env(ROLE, role)
        .env("TMPDIR", temporary);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The processes with this parent that run this program, by number.
fn children(of: u32, program: &str) -> Vec<u32> {
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let is_child = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let Some((name, rest)) = stat.rsplit_once(") ") else { return false };
        name.contains(program) && rest.split(' ').nth(1) == Some(&of.to_string())
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(number).filter(is_child).collect()
}

fn soon<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < SOON, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn left_in(place: &Path) -> Vec<PathBuf> {
    fs::read_dir(place).unwrap().flatten().map(|entry| entry.path()).collect()
}

#[test]
fn a_program_dies_with_this_process_and_its_folder_goes_with_the_next() {
    let place = new_folder();
    fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    let mut trainer = start("run", place.path());
    // Before it makes a sandbox, it asks an interpreter where it lies.
    let program = soon("no program was started", || {
        children(trainer.id(), "python").pop().filter(|_| left_in(place.path()).len() == 1)
    });
    // so that it gets to ask for no signal
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(left_in(place.path()).len(), 1);
    let mut other = start("make", place.path());
    assert!(other.wait().unwrap().success());
    assert_eq!(left_in(place.path()).len(), 1, "that of a running process stays");
    trainer.kill().unwrap();
    trainer.wait().unwrap();
    soon("the program lives on", || {
        let stat = fs::read_to_string(format!("/proc/{program}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
    assert_eq!(left_in(place.path()).len(), 1);
    let mut other = start("make", place.path());
    assert!(other.wait().unwrap().success());
    assert_eq!(left_in(place.path()), Vec::<PathBuf>::new());
}
