//! Ctrl-C, SIGTERM and SIGHUP: what was done is kept, the command that goes on is told, and going on ends the same.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};

use crate::{evenkeel, fail, metrics, succeed};

/// Longest wait for something that takes about a second on a machine that is not busy.
const LONG: Duration = Duration::from_secs(120);

/// The program with the usual reaction to signals, as a terminal starts it, whatever started the tests: `nohup` and jobs in the
/// background ignore some, and what is ignored stays so in every child.
fn attended(folder: &Path, arguments: &[&str]) -> Command {
    const RESET: &str = "import os, signal, sys\n\
                         for each in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM): signal.signal(each, signal.SIG_DFL)\n\
                         os.execv(sys.argv[1], sys.argv[1:])";
    let program = evenkeel(folder);
    let mut command = Command::new("python3");
    command.args(["-c", RESET]).arg(program.get_program()).args(arguments).current_dir(folder);
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// A program under way, with what it says in a file.
struct Running {
    child: Child,
    said: PathBuf,
}

impl Running {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::of(attended(folder, arguments), folder)
    }

    fn of(mut command: Command, folder: &Path) -> Self {
        let said = folder.join("said");
        let errors = std::fs::File::create(&said).expect("a file");
        let child = command.stdout(Stdio::null()).stderr(errors).process_group(0).spawn().expect("starts");
        Self { child, said }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).expect("what it said")
    }

    /// Waits until something is so.
    fn until(&mut self, what: &str, so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !so() {
            assert!(begun.elapsed() < LONG, "{what} took too long: {}", self.said());
            assert!(self.child.try_wait().expect("child").is_none(), "ended before {what}: {}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is there");
    }

    /// How it ended, within `most`, and what it said.
    fn end(mut self, most: Duration) -> (ExitStatus, String) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("child") {
                return (status, self.said());
            }
            assert!(begun.elapsed() < most, "still there after {most:?}: {}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The same, which must be with this code and without a panic.
    fn ends_with(self, code: i32) -> String {
        let (status, said) = self.end(LONG);
        assert_eq!(status.code(), Some(code), "{status:?}: {said}");
        assert!(!said.contains("panicked") && !said.contains("Traceback"), "{said}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // only where a test failed is it still there
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn lines(path: &Path) -> usize {
    std::fs::read(path).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

/// Arguments for a run of `tiny` with these settings besides.
fn train<'a>(out: &'a str, sets: &[&'a str]) -> Vec<&'a str> {
    let usual = ["rl.prompts_per_step=6", "rl.group_size=4", "eval.prompts=12", "save.every=100"];
    let mut all = vec!["train", "tiny", "--out", out];
    usual.iter().chain(sets).for_each(|set| all.extend(["--set", set]));
    all
}

/// An evaluation that does not need the run's own rewards.
const MEASURED: &str = "eval={every=100, prompts=4, bench=\"arithmetic\"}";

/// A reward like the built-in one that hangs, deaf to the program, as long as there is a file `hang`.
fn hanging(folder: &Path) -> String {
    let text = "import os, time\ndef reward_func(completions, answer, **kwargs):\n    if os.path.exists('hang'):\n        open('hangs', 'w').write('yes')\n        time.sleep(1000)\n    return [float(c.strip() == a) for c, a in zip(completions, answer)]\n";
    std::fs::write(folder.join("mine.py"), text).expect("written");
    "rewards={ python = { mine = { file = \"mine.py\", deadline = 900.0, workers = 2 } } }".into()
}

#[test]
fn a_run_that_is_ended_again_and_again_comes_to_the_same_bit_for_bit() {
    let folder = tempfile::tempdir().expect("folder");
    let sets = ["rl.steps=24", "rl.kl={coefficient=0.01}", "eval.every=4"];
    succeed(folder.path(), &train("whole", &sets));
    let cut = folder.path().join("cut");
    let signals = [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)];
    let mut arguments = train("cut", &sets);
    for (signal, code) in signals {
        let before = lines(&cut.join("metrics.jsonl"));
        let mut run = Running::start(folder.path(), &arguments);
        run.until("two more steps", || lines(&cut.join("metrics.jsonl")) >= before + 2);
        run.signal(signal);
        let said = run.ends_with(code);
        assert!(said.contains("to go on: evenkeel train --resume cut\n"), "{said}");
        assert!(said.contains("cut/checkpoints/step-0000"), "{said}");
        arguments = vec!["train", "--resume", "cut"];
    }
    succeed(folder.path(), &arguments);
    let whole = folder.path().join("whole");
    assert_eq!(metrics(&whole), metrics(&cut));
    for file in ["model.safetensors", "trainer.safetensors"] {
        let place = Path::new("checkpoints/step-000024").join(file);
        assert!(bytes(&whole.join(&place)) == bytes(&cut.join(&place)), "{file} differs");
    }
    for step in 1..=24 {
        let place = format!("rollouts/step-{step:06}.jsonl.zst");
        assert!(bytes(&whole.join(&place)) == bytes(&cut.join(&place)), "{place} differs");
    }
}

#[test]
fn judging_is_not_waited_for_and_its_rollouts_are_kept() {
    let folder = tempfile::tempdir().expect("folder");
    let reward = hanging(folder.path());
    let sets = [reward.as_str(), "rl.steps=2", MEASURED];
    succeed(folder.path(), &train("whole", &sets));
    std::fs::write(folder.path().join("hang"), "").expect("written");
    let cut = folder.path().join("cut");
    let mut run = Running::start(folder.path(), &train("cut", &sets));
    run.until("judging", || folder.path().join("hangs").exists());
    // the terminal sends Ctrl-C to all of the group: workers must not hear it
    kill_process_group(Pid::from_child(&run.child), Signal::INT).expect("it is there");
    let begun = Instant::now();
    let said = run.ends_with(130);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?} of a deadline of 900 s", begun.elapsed());
    assert!(said.contains("interrupted by SIGINT: rl step 1 was not finished"), "{said}");
    assert!(said.contains("to go on: evenkeel train --resume cut\n"), "{said}");
    assert!(cut.join("arrived.jsonl.zst").exists(), "its rollouts are kept");
    assert!(!cut.join("unjudged.jsonl").exists(), "no sample has failed");
    std::fs::remove_file(folder.path().join("hang")).expect("removed");
    succeed(folder.path(), &["train", "--resume", "cut"]);
    assert_eq!(metrics(&folder.path().join("whole")), metrics(&cut));
}

#[test]
fn pairs_that_are_being_made_are_kept_too() {
    let folder = tempfile::tempdir().expect("folder");
    let reward = hanging(folder.path());
    let text = "[policy]\ncheckpoint = \"tiny\"\n[data.arithmetic]\ndigits = 1\ncount = 150\n[preference]\nsteps = 2\npairs_per_step = 4\n[preference.pairs.sample]\nprompts = 20\ngroup_size = 4\n[preference.sampling]\nmax_tokens = 8\n";
    std::fs::write(folder.path().join("pairs.toml"), text).expect("written");
    let arguments = |out| ["train", "pairs.toml", "--out", out, "--set", &reward].map(str::to_owned);
    let whole = arguments("whole");
    succeed(folder.path(), &whole.iter().map(String::as_str).collect::<Vec<_>>());
    std::fs::write(folder.path().join("hang"), "").expect("written");
    let cut = arguments("cut");
    let mut run = Running::start(folder.path(), &cut.iter().map(String::as_str).collect::<Vec<_>>());
    run.until("judging", || folder.path().join("hangs").exists());
    run.signal(Signal::TERM);
    let said = run.ends_with(143);
    assert!(said.contains("to go on: evenkeel train --resume cut"), "{said}");
    assert!(folder.path().join("cut/arrived.jsonl.zst").exists());
    std::fs::remove_file(folder.path().join("hang")).expect("removed");
    succeed(folder.path(), &["train", "--resume", "cut"]);
    let [whole, cut] = ["whole", "cut"].map(|run| folder.path().join(run));
    assert_eq!(metrics(&whole), metrics(&cut));
    assert!(bytes(&whole.join("pairs.jsonl")) == bytes(&cut.join("pairs.jsonl")));
}

#[test]
fn a_second_signal_ends_it_at_once_and_nothing_of_it_stays() {
    let folder = tempfile::tempdir().expect("folder");
    let reward = hanging(folder.path());
    std::fs::write(folder.path().join("hang"), "").expect("written");
    // what is sampled ahead is finished, and the reward that judges it hangs
    let sets = [reward.as_str(), "rl.steps=3", "rl.overlap=1", MEASURED];
    let mut run = Running::start(folder.path(), &train("run", &sets));
    run.until("judging", || folder.path().join("hangs").exists());
    run.signal(Signal::INT);
    let said = run.said.clone();
    run.until("the first signal", || std::fs::read_to_string(&said).unwrap().contains("a second signal"));
    assert!(run.child.try_wait().expect("child").is_none());
    run.signal(Signal::INT);
    let said = run.ends_with(130);
    assert!(said.contains("ended at once\nto go on: evenkeel train --resume run"), "{said}");
}

#[test]
fn a_server_that_does_not_answer_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    let (asked, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            open.push(stream);
            let _ = asked.send(());
        }
    });
    let backend = format!("rollout.backend={{ vllm = {{ url = \"{url}\" }} }}");
    let training = train("run", &[&backend, "rl.correction={}"]);
    let evaluating = ["eval", "m", "--bench", "arithmetic", "--server", &url, "--out", "e"];
    let sampling = ["sample", "m", "-p", "1+1=", "--server", &url, "--out", "s.jsonl"];
    for (arguments, told) in [
        (&training[..], "to go on: evenkeel train --resume run\n"),
        (&evaluating[..], "to go on: evenkeel eval --resume e\n"),
        (&sampling[..], " --out s.jsonl --resume\n"),
    ] {
        let run = Running::start(folder.path(), arguments);
        heard.recv_timeout(LONG).expect("asked");
        run.signal(Signal::TERM);
        let begun = Instant::now();
        let said = run.ends_with(143);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert!(said.contains(told), "{said}");
        while heard.try_recv().is_ok() {}
    }
}

#[test]
fn an_evaluation_and_a_file_of_samples_go_on_where_they_were_ended() {
    let folder = tempfile::tempdir().expect("folder");
    let eval =
        ["eval", "tiny", "--bench", "arithmetic", "-n", "24", "--temperature", "1", "--rows", "8", "--out"];
    succeed(folder.path(), &[&eval[..], &["whole"]].concat());
    let mut run = Running::start(folder.path(), &[&eval[..], &["cut"]].concat());
    let samples = folder.path().join("cut/samples/tiny/arithmetic.jsonl");
    run.until("some samples", || lines(&samples) > 20);
    run.signal(Signal::TERM);
    let said = run.ends_with(143);
    assert!(said.contains("to go on: evenkeel eval --resume cut"), "{said}");
    assert!(lines(&samples) > 20 && !folder.path().join("cut/evaluation.json").exists());
    succeed(folder.path(), &["eval", "--resume", "cut"]);
    let place = "samples/tiny/arithmetic.jsonl";
    assert!(bytes(&folder.path().join("whole").join(place)) == bytes(&folder.path().join("cut").join(place)));

    let sample = ["sample", "tiny", "-p", "17 + 4 =", "-n", "6000", "--rows", "8", "--out"];
    succeed(folder.path(), &[&sample[..], &["whole.jsonl"]].concat());
    let mut run = Running::start(folder.path(), &[&sample[..], &["cut.jsonl"]].concat());
    let cut = folder.path().join("cut.jsonl");
    run.until("some rollouts", || lines(&cut) > 20);
    run.signal(Signal::INT);
    let said = run.ends_with(130);
    let told = "to go on: evenkeel sample tiny -p '17 + 4 =' -n 6000 --rows 8 --out cut.jsonl --resume\n";
    assert!(said.contains(told), "{said}");
    assert!((20..6000).contains(&lines(&cut)));
    succeed(folder.path(), &[&sample[..], &["cut.jsonl", "--resume"]].concat());
    assert!(bytes(&folder.path().join("whole.jsonl")) == bytes(&cut));
}

#[test]
fn a_supervised_stage_ends_behind_its_step_and_goes_on_to_the_same() {
    let folder = tempfile::tempdir().expect("folder");
    let text = "[policy]\ncheckpoint = \"tiny\"\n[data.arithmetic]\ndigits = 1\ncount = 150\n[sft]\nsteps = 60\nbatch_size = 16\nschedule = { learning_rate = 1e-3 }\n[eval]\nevery = 100\nprompts = 9\n[rewards.exact_match]\n";
    std::fs::write(folder.path().join("warm.toml"), text).expect("written");
    succeed(folder.path(), &["train", "warm.toml", "--out", "whole"]);
    let cut = folder.path().join("cut");
    let mut run = Running::start(folder.path(), &["train", "warm.toml", "--out", "cut"]);
    run.until("five steps", || lines(&cut.join("metrics.jsonl")) > 5);
    run.signal(Signal::TERM);
    let said = run.ends_with(143);
    assert!(said.contains("of 60 sft steps are done and are in `cut/checkpoints/sft-0000"), "{said}");
    succeed(folder.path(), &["train", "--resume", "cut"]);
    let whole = folder.path().join("whole");
    assert_eq!(metrics(&whole), metrics(&cut));
    let weights = "checkpoints/sft-000060/trainer.safetensors";
    assert!(bytes(&whole.join(weights)) == bytes(&cut.join(weights)));
}

#[test]
fn a_signal_that_was_ignored_from_the_start_stays_ignored() {
    let folder = tempfile::tempdir().expect("folder");
    let mut command = Command::new("/bin/sh");
    // as `nohup` starts a program
    command.current_dir(folder.path()).args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    command.arg(env!("CARGO_BIN_EXE_evenkeel")).args(train("run", &["rl.steps=6"]));
    let mut run = Running::of(command, folder.path());
    let metrics = folder.path().join("run/metrics.jsonl");
    run.until("a step", || lines(&metrics) > 1);
    run.signal(Signal::HUP);
    let said = run.ends_with(0);
    assert!(!said.contains("SIGHUP"), "{said}");
    assert_eq!(lines(&metrics), 1 + 6);
}

#[test]
fn a_step_that_fails_tells_the_command_that_goes_on_and_a_mistake_does_not() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(
        folder.path().join("bad.py"),
        "def reward_func(completions, **kwargs):\n    raise ValueError('no')\n",
    )
    .expect("written");
    let reward = "rewards={ exact_match = {}, python = { bad = { file = \"bad.py\", weight = 0.0 } } }";
    let error = fail(folder.path(), &train("my run", &[reward, MEASURED]), 1);
    assert!(error.contains("rl step 1 failed"), "{error}");
    assert!(error.ends_with("to go on: evenkeel train --resume 'my run'\n"), "{error}");
    let error = fail(folder.path(), &train("my run", &[]), 2);
    assert!(!error.contains("to go on: "), "{error}");
}

/// A worker's own number and that of its child, once it wrote both.
fn numbers(file: &Path) -> Option<Vec<i32>> {
    let text = std::fs::read_to_string(file).ok().filter(|text| text.ends_with('\n'))?;
    Some(text.split_whitespace().map(|number| number.parse().expect("a number")).collect())
}

#[test]
fn nothing_of_a_reward_outlives_a_program_that_is_killed() {
    let folder = tempfile::tempdir().expect("folder");
    // C code that holds the interpreter's lock, a child, and a child that has left the group
    let python = "import ctypes, os, subprocess\ndef reward_func(completions, **kwargs):\n    one = subprocess.Popen(['sleep', '1000'])\n    two = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n    open('numbers.part', 'w').write('%d %d %d\\n' % (os.getpid(), one.pid, two.pid))\n    os.rename('numbers.part', 'numbers')\n    ctypes.PyDLL(None).sleep(1000)\n";
    std::fs::write(folder.path().join("stuck.py"), python).expect("written");
    let script = "trap '' HUP INT TERM PIPE\nsleep 1000 &\necho $$ $! > numbers.part\nmv numbers.part numbers\nwhile :; do sleep 1000; done\n";
    std::fs::write(folder.path().join("deaf.sh"), script).expect("written");
    std::fs::write(folder.path().join("rows.jsonl"), "{\"completion\": \"4\", \"prompt\": \"2+2\"}\n")
        .expect("written");
    for reward in [
        "[rewards.python.stuck]\nfile = \"stuck.py\"\nworkers = 1\n",
        "[rewards.command.deaf]\ncommand = [\"sh\", \"deaf.sh\"]\nworkers = 1\n",
    ] {
        std::fs::write(folder.path().join("rewards.toml"), reward).expect("written");
        let file = folder.path().join("numbers");
        let _ = std::fs::remove_file(&file);
        let mut run = Running::start(folder.path(), &["reward", "rows.jsonl", "--recipe", "rewards.toml"]);
        run.until("the worker", || numbers(&file).is_some());
        run.signal(Signal::KILL);
        run.end(LONG);
        let left = || -> Vec<i32> {
            let there =
                |number: &i32| Pid::from_raw(*number).is_some_and(|pid| test_kill_process(pid).is_ok());
            numbers(&file).expect("written").into_iter().filter(there).filter(|n| !is_zombie(*n)).collect()
        };
        let begun = Instant::now();
        while !left().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{reward}: {:?} are left", left());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether it has ended and whoever has to wait for it has not: in a container nobody may.
fn is_zombie(number: i32) -> bool {
    let mut status = String::new();
    let opened = std::fs::File::open(format!("/proc/{number}/status"));
    opened.is_ok_and(|mut file| file.read_to_string(&mut status).is_ok()) && status.contains("State:\tZ")
}
