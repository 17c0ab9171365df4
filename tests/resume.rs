//! A run that was killed goes on as if nothing had happened.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::{evenkeel, fail, metrics, run, succeed};

const SETTINGS: &[&str] = &[
    "rl.steps=14",
    "rl.prompts_per_step=6",
    "rl.group_size=4",
    "rl.mini_batches=2",
    "rl.kl={coefficient=0.01,estimator=\"k2\"}",
    "eval.every=4",
    "eval.prompts=20",
    "save.every=3",
];

fn arguments(out: &str) -> Vec<&str> {
    let mut arguments = vec!["train", "tiny", "--out", out];
    for setting in SETTINGS {
        arguments.extend(["--set", setting]);
    }
    arguments
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_killed_run_resumes_to_the_same_metrics_weights_and_state_bit_for_bit() {
    let folder = tempfile::tempdir().expect("folder");
    succeed(folder.path(), &arguments("whole"));

    let mut child = evenkeel(folder.path()).args(arguments("killed")).spawn().expect("starts");
    let killed = folder.path().join("killed");
    let begun = Instant::now();
    while !killed.join("checkpoints/step-000006").exists() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint of step 6 in two minutes");
        assert!(child.try_wait().expect("child").is_none(), "the run ended before it could be killed");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("killed"); // SIGKILL
    child.wait().expect("ended");

    succeed(folder.path(), &["train", "--resume", "killed"]);
    let whole = folder.path().join("whole");
    assert_eq!(metrics(&whole), metrics(&killed));
    for file in ["model.safetensors", "trainer.safetensors", "config.json", "tokenizer.json"] {
        let place = Path::new("checkpoints/step-000014").join(file);
        assert!(bytes(&whole.join(&place)) == bytes(&killed.join(&place)), "{file} differs");
    }
    for step in 1..=14 {
        let place = format!("rollouts/step-{step:06}.jsonl.zst");
        assert!(bytes(&whole.join(&place)) == bytes(&killed.join(&place)), "{place} differs");
    }
}

#[test]
fn a_run_that_samples_ahead_resumes_to_the_same_as_well() {
    let folder = tempfile::tempdir().expect("folder");
    for overlap in [1, 2] {
        let arguments = |out: &str, steps: &str| {
            let overlap = format!("rl.overlap={overlap}");
            let sets = [
                "rl.prompts_per_step=6",
                "rl.group_size=4",
                "eval.prompts=9",
                "save.every=3",
                "save.keep=9",
                steps,
                &overlap,
            ];
            let mut all = vec!["train".to_owned(), "tiny".into(), "--out".into(), out.into()];
            sets.iter().for_each(|set| all.extend(["--set".into(), (*set).to_owned()]));
            all
        };
        let (whole, cut) = (format!("whole-{overlap}"), format!("cut-{overlap}"));
        let run = |arguments: &[String]| {
            succeed(folder.path(), &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        };
        run(&arguments(&whole, "rl.steps=11"));
        run(&arguments(&cut, "rl.steps=11"));
        let (whole, cut) = (folder.path().join(whole), folder.path().join(cut));
        assert_eq!(metrics(&whole), metrics(&cut), "whatever the clocks say");
        // as a kill between step 6 and step 9 leaves it
        for later in ["step-000009", "step-000011"] {
            std::fs::remove_dir_all(cut.join("checkpoints").join(later)).expect("removed");
        }
        std::fs::write(cut.join("checkpoints/latest"), "step-000006").expect("written");
        succeed(folder.path(), &["train", "--resume", &format!("cut-{overlap}")]);
        assert_eq!(metrics(&whole), metrics(&cut));
        let weights = "checkpoints/step-000011/trainer.safetensors";
        assert!(bytes(&whole.join(weights)) == bytes(&cut.join(weights)));

        for line in metrics(&whole).iter().filter(|line| line["step"] != 0) {
            let step = line["step"].as_u64().expect("step") - 1;
            assert_eq!(line["staleness"], step.min(overlap) as f64, "step {step}");
            let kl = line["mismatch_kl"].as_f64().expect("mismatch_kl");
            assert!(if step == 0 { kl == 0.0 } else { kl > 0.0 }, "step {step}: {kl}");
            assert!(line["correction_max"].as_f64().expect("correction") > 0.0);
        }
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    for threads in ["1", "2"] {
        let out = format!("threads-{threads}");
        let output = evenkeel(folder.path())
            .env("RAYON_NUM_THREADS", threads)
            .args(["train", "tiny", "--out", &out, "--set", "rl.steps=3", "--set", "eval.prompts=9"])
            .output()
            .expect("starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let (one, two) = (folder.path().join("threads-1"), folder.path().join("threads-2"));
    assert_eq!(metrics(&one), metrics(&two));
    let weights = "checkpoints/step-000003/trainer.safetensors";
    assert!(bytes(&one.join(weights)) == bytes(&two.join(weights)));
}

#[test]
fn a_folder_that_holds_no_run_cannot_be_resumed() {
    let folder = tempfile::tempdir().expect("folder");
    let error = fail(folder.path(), &["train", "--resume", "nothing"], 2);
    assert!(error.contains("`nothing` is no run to resume"), "{error}");
}

#[test]
fn a_run_that_was_killed_before_its_first_checkpoint_begins_anew_without_old_lines() {
    let folder = tempfile::tempdir().expect("folder");
    let settings = ["--set", "rl.steps=2", "--set", "eval.prompts=5"];
    succeed(folder.path(), &[&["train", "tiny", "--out", "run"], &settings[..]].concat());
    let run = folder.path().join("run");
    let whole = metrics(&run);
    std::fs::remove_dir_all(run.join("checkpoints")).expect("removed");
    std::fs::create_dir(run.join("checkpoints")).expect("made");
    succeed(folder.path(), &["train", "--resume", "run"]);
    assert_eq!(metrics(&run), whole);
}

#[test]
fn a_run_that_goes_on_in_other_arithmetic_says_so() {
    let folder = tempfile::tempdir().expect("folder");
    let settings = ["--set", "rl.steps=2", "--set", "save.every=1", "--set", "eval.prompts=5"];
    succeed(folder.path(), &[&["train", "tiny", "--out", "run"], &settings[..]].concat());
    let resume = || {
        let output = run(folder.path(), &["train", "--resume", "run"]);
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(!resume().contains("bit for bit"));
    let plan = folder.path().join("run/plan.json");
    let text = std::fs::read_to_string(&plan).expect("plan");
    assert!(text.contains("\"numerics\": \"f32\""), "{text}");
    std::fs::write(&plan, text.replace("\"numerics\": \"f32\"", "\"numerics\": \"amx\"")).expect("written");
    let told = resume();
    assert!(
        told.contains("computed in amx and goes on in f32: it will not be the same, bit for bit"),
        "{told}"
    );
    assert!(!resume().contains("bit for bit"), "the plan is up to date again");
}
