//! Runs that are stopped or hindered at chosen file operations: nothing is lost, and nothing is silently wrong.
//!
//! A C library, compiled here by `cc` and preloaded, ends the program before its n-th file operation or lets operations fail as
//! on a full disk. `tests/faults/kill.py` does the same by the hundred.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::{evenkeel, fail, run, succeed};

/// A run with everything in it that is written in several steps, as short as it can be.
const SETTINGS: &[&str] = &[
    "rl.steps=4",
    "rl.prompts_per_step=2",
    "rl.group_size=2",
    "rl.sampling.max_tokens=3",
    "rl.kl={coefficient=0.01,estimator=\"k2\"}",
    "eval.every=1",
    "eval.prompts=3",
    "save.every=2",
    "save.keep=1",
    "save.best=\"eval_accuracy\"",
];

fn arguments<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["train", "tiny", "--out", out];
    SETTINGS.iter().chain(more).for_each(|set| all.extend(["--set", set]));
    all
}

fn shim(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/faults/shim.c");
    let library = folder.join("shim.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .output()
        .expect("a C compiler by the name of cc");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    library
}

fn faulty(folder: &Path, shim: &Path, arguments: &[&str], faults: &[(&str, String)]) -> Output {
    let mut command = evenkeel(folder);
    command.env("LD_PRELOAD", shim).env("RAYON_NUM_THREADS", "1").args(arguments);
    faults.iter().for_each(|(name, value)| {
        command.env(name, value);
    });
    command.output().expect("starts")
}

fn without_time(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|key, _| !key.contains("seconds") && !key.ends_with("per_second"));
            object.values_mut().for_each(without_time);
        }
        Value::Array(values) => values.iter_mut().for_each(without_time),
        _ => {}
    }
}

/// Every file of a run, without what depends on the clock.
fn contents(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![run.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("listed") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(run).expect("inside").display().to_string();
            let mut bytes = std::fs::read(&path).expect("read");
            let lines = name.ends_with(".jsonl");
            if lines || name.starts_with("evaluations/") && name.ends_with(".json") {
                let text = String::from_utf8(bytes).expect("text");
                let parts: Vec<&str> = if lines { text.lines().collect() } else { vec![&text] };
                let plain = |part: &&str| {
                    let mut value: Value = serde_json::from_str(part).expect("JSON");
                    without_time(&mut value);
                    value.to_string()
                };
                bytes = parts.iter().map(plain).collect::<Vec<_>>().join("\n").into_bytes();
            }
            found.insert(name, bytes);
        }
    }
    found
}

fn differences(whole: &BTreeMap<String, Vec<u8>>, run: &Path) -> Vec<String> {
    let found = contents(run);
    let names = whole.keys().chain(found.keys());
    let mut differ: Vec<String> =
        names.filter(|name| whole.get(*name) != found.get(*name)).cloned().collect();
    differ.dedup();
    differ
}

#[test]
fn a_run_stopped_or_hindered_at_any_file_operation_goes_on_to_the_same_folder() {
    let folder = tempfile::tempdir().expect("folder");
    let shim = shim(folder.path());
    let log = folder.path().join("operations");
    let whole =
        faulty(folder.path(), &shim, &arguments("whole", &[]), &[("FAULT_LOG", log.display().to_string())]);
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let operations: Vec<String> =
        std::fs::read_to_string(&log).expect("log").lines().map(str::to_owned).collect();
    std::fs::remove_file(&log).expect("removed");
    let whole = contents(&folder.path().join("whole"));
    // the moments at which several files must change together, and a few others
    let number = |line: &str| line.split(' ').next().and_then(|n| n.parse::<usize>().ok()).expect("a number");
    let critical = operations.iter().filter(|line| {
        line.contains("rename ")
            && ["latest", "best.json", "checkpoints/"].iter().any(|name| line.contains(name))
            || line.contains("recipe") && line.contains("rename ")
    });
    let mut moments: Vec<usize> = critical.map(|line| number(line)).flat_map(|at| [at, at + 1]).collect();
    moments.extend([1, 3, operations.len() / 3, operations.len() / 2]);
    moments.sort_unstable();
    moments.dedup();
    // a share of them, spread evenly: each costs a run
    let chosen: Vec<usize> = moments.iter().copied().step_by(moments.len().div_ceil(9).max(1)).collect();
    for (place, at) in chosen.into_iter().enumerate() {
        let faults: &[(&str, String)] = match place % 3 {
            0 => &[("FAULT_KILL", at.to_string())],
            1 => &[("FAULT_KILL", at.to_string()), ("FAULT_TORN", "1".into())],
            _ => &[("FAULT_FAIL", at.to_string())],
        };
        let out = folder.path().join("run");
        let _ = std::fs::remove_dir_all(&out);
        let stopped = faulty(folder.path(), &shim, &arguments("run", &[]), faults);
        let errors = String::from_utf8_lossy(&stopped.stderr).into_owned();
        assert!(!errors.contains("panicked"), "{faults:?}: {errors}");
        if out.exists() {
            succeed(folder.path(), &["train", "--resume", "run"]);
        } else {
            succeed(folder.path(), &arguments("run", &[]));
        }
        assert_eq!(
            differences(&whole, &out),
            Vec::<String>::new(),
            "{faults:?}, {:?}",
            operations.get(at - 1)
        );
        let names: Vec<String> = std::fs::read_dir(folder.path())
            .expect("listed")
            .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        assert!(!names.iter().any(|name| name.ends_with(".part")), "{faults:?}: {names:?}");
    }
}

/// A finished run of four steps with checkpoints of steps 2 and 4, and no best.
fn finished(folder: &Path) -> PathBuf {
    succeed(folder, &arguments("run", &["save.keep=9", "save.best=\"-loss\"", "eval.every=2"]));
    folder.join("run")
}

fn warnings(run: &Path) -> String {
    std::fs::read_to_string(run.join("warnings.jsonl")).unwrap_or_default()
}

#[test]
fn a_flipped_bit_in_a_checkpoint_is_found_and_the_one_before_takes_its_place() {
    let folder = tempfile::tempdir().expect("folder");
    let out = finished(folder.path());
    let whole = contents(&out);
    for file in ["trainer.safetensors", "model.safetensors", "state.json", "config.json", "manifest.json"] {
        let copy = folder.path().join("copy");
        let _ = std::fs::remove_dir_all(&copy);
        copy_all(&out, &copy);
        let place = copy.join("checkpoints/step-000004").join(file);
        let mut bytes = std::fs::read(&place).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&place, bytes).expect("written");
        succeed(folder.path(), &["train", "--resume", "copy"]);
        assert!(warnings(&copy).contains(file), "{file}: {}", warnings(&copy));
        assert!(copy.join("checkpoints/step-000004.damaged").is_dir(), "{file}");
        let differ = differences(&whole, &copy);
        let new = |name: &String| name == "warnings.jsonl" || name.contains(".damaged");
        assert!(differ.iter().all(new), "{file}: {differ:?}");
    }
    // of all damaged none is taken, and nothing is started over
    for step in ["step-000001", "step-000002", "step-000003", "step-000004"] {
        let _ = std::fs::write(out.join("checkpoints").join(step).join("trainer.safetensors"), "x");
    }
    let before = std::fs::read(out.join("metrics.jsonl")).expect("metrics");
    let error = fail(folder.path(), &["train", "--resume", "run"], 1);
    assert!(error.contains("no checkpoint of `run` is whole") && error.contains("step-000004"), "{error}");
    assert_eq!(std::fs::read(out.join("metrics.jsonl")).expect("metrics"), before);
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("listed") {
        let path = entry.expect("entry").path();
        let place = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_all(&path, &place);
        } else {
            std::fs::copy(&path, &place).expect("copied");
        }
    }
}

#[test]
fn latest_that_is_missing_dangling_or_old_never_starts_a_run_over() {
    let folder = tempfile::tempdir().expect("folder");
    let out = finished(folder.path());
    let whole = contents(&out);
    let latest = out.join("checkpoints/latest");
    for text in [None, Some("step-000009"), Some("step-000002"), Some("\u{fffd}")] {
        match text {
            Some(text) => std::fs::write(&latest, text).expect("written"),
            None => std::fs::remove_file(&latest).expect("removed"),
        }
        let output = run(folder.path(), &["train", "--resume", "run"]);
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("going on after rl step 4"), "{text:?}");
        let differ = differences(&whole, &out);
        assert!(differ.iter().all(|name| name == "warnings.jsonl"), "{text:?}: {differ:?}");
    }
    assert!(warnings(&out).contains("`latest` names checkpoint `step-000009`, which is not there"));
}

#[test]
fn lines_torn_within_a_character_do_not_block_a_run_and_lost_ones_are_named() {
    let folder = tempfile::tempdir().expect("folder");
    let out = finished(folder.path());
    let before = warnings(&out);
    for name in ["metrics.jsonl", "unjudged.jsonl", "warnings.jsonl"] {
        let place = out.join(name);
        let mut bytes = std::fs::read(&place).unwrap_or_default();
        bytes.extend_from_slice("{\"stage\": \"rl\", \"step\": 5, \"why\": \"漢".as_bytes());
        bytes.pop();
        std::fs::write(&place, bytes).expect("written");
    }
    succeed(folder.path(), &["train", "--resume", "run"]);
    assert_eq!(warnings(&out), before);
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).expect("metrics");
    let kept: String =
        metrics.lines().filter(|l| !l.contains("\"step\":2")).map(|l| format!("{l}\n")).collect();
    std::fs::write(out.join("metrics.jsonl"), kept).expect("written");
    for _ in 0..2 {
        succeed(folder.path(), &["train", "--resume", "run"]);
    }
    assert_eq!(warnings(&out).matches("metrics.jsonl has no lines of rl step 2").count(), 1);
}

#[test]
fn a_folder_in_use_is_refused_and_names_are_taken_one_by_one() {
    let folder = tempfile::tempdir().expect("folder");
    let out = finished(folder.path());
    let lock = std::fs::File::open(&out).expect("opened");
    lock.lock().expect("locked");
    let error = fail(folder.path(), &["train", "--resume", "run"], 2);
    assert!(error.contains("`run` is in use") && error.contains("is writing to it"), "{error}");
    drop(lock);
    succeed(folder.path(), &["train", "--resume", "run"]);
    let start = || {
        let mut all = vec!["train", "tiny"];
        SETTINGS.iter().for_each(|set| all.extend(["--set", set]));
        evenkeel(folder.path()).args(all).stderr(std::process::Stdio::null()).spawn().expect("starts")
    };
    let mut children: Vec<_> = (0..3).map(|_| start()).collect();
    assert!(children.iter_mut().all(|child| child.wait().expect("ends").success()));
    let mut names: Vec<String> = std::fs::read_dir(folder.path().join("runs"))
        .expect("listed")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["tiny", "tiny-2", "tiny-3"]);
}

#[test]
fn a_run_goes_back_to_an_earlier_step_and_on_for_longer_and_destroys_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let out = finished(folder.path());
    let whole = contents(&out);
    let error = fail(folder.path(), &["train", "--resume", "run@9"], 2);
    assert!(error.contains("no checkpoint of step `9`") && error.contains("`step-000004`"), "{error}");
    succeed(folder.path(), &["train", "--resume", "run@2"]);
    let differ = differences(&whole, &out);
    assert!(!differ.is_empty() && differ.iter().all(|name| name.starts_with("set-aside-1/")), "{differ:?}");
    let aside = contents(&out.join("set-aside-1"));
    for name in
        ["metrics.jsonl", "checkpoints/step-000004/trainer.safetensors", "rollouts/step-000003.jsonl.zst"]
    {
        assert_eq!(aside.get(name), whole.get(name), "{name}");
    }
    let error = fail(folder.path(), &["train", "--resume", "run", "--set", "rl.group_size=4"], 2);
    assert!(error.contains("rl.group_size=4") && error.contains("start a new run"), "{error}");
    let error = fail(folder.path(), &["train", "--resume", "run", "--set", "rl.steps=3"], 2);
    assert!(error.contains("4 steps are done"), "{error}");
    succeed(folder.path(), &["train", "--resume", "run", "--set", "rl.steps=6"]);
    assert!(out.join("checkpoints/step-000006/manifest.json").is_file());
    let changes = std::fs::read_to_string(out.join("changes.jsonl")).expect("changes");
    assert!(changes.contains("\"key\":\"rl.steps\",\"from\":4,\"to\":6"), "{changes}");
    let recipe = std::fs::read_to_string(out.join("recipe.toml")).expect("recipe");
    assert!(recipe.contains("steps = 6"), "{recipe}");
}

#[test]
fn an_evaluation_that_failed_is_made_up_and_the_folder_is_that_of_a_run_in_which_it_did_not() {
    let folder = tempfile::tempdir().expect("folder");
    // of the questions and prompts that are scored, the evaluation after step 2 is the one with the file there
    let text = "import os\ndef reward_func(completions, **kwargs):\n    if os.path.exists('down') and os.path.exists('run/rollouts/step-000002.jsonl.zst'):\n        raise RuntimeError('down')\n    return [0.01 * (len(c) % 3) for c in completions]\n";
    std::fs::write(folder.path().join("mine.py"), text).expect("written");
    let reward = "rewards={ python = { mine = { file = \"mine.py\", function = \"reward_func\" } } }";
    let more = [reward, "eval.every=2", "save.every=3"];
    succeed(folder.path(), &arguments("whole", &more));
    std::fs::write(folder.path().join("down"), "").expect("written");
    let error = fail(folder.path(), &arguments("run", &more), 1);
    assert!(error.contains("the evaluation after rl step 2 failed"), "{error}");
    assert!(error.contains("evenkeel train --resume run"), "{error}");
    std::fs::remove_file(folder.path().join("down")).expect("removed");
    succeed(folder.path(), &["train", "--resume", "run"]);
    let whole = contents(&folder.path().join("whole"));
    let differ = differences(&whole, &folder.path().join("run"));
    assert!(differ.iter().all(|name| name == "rewards.log"), "{differ:?}");
}
