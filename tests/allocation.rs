//! How many rollouts each prompt of a step gets.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::{fail, metrics, succeed};

/// A run on a dozen prompts, each of which is drawn several times.
fn arguments<'a>(out: &'a str, sets: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["train", "tiny", "--out", out];
    let usual = [
        "data.arithmetic.count=12",
        "rl.steps=4",
        "rl.prompts_per_step=6",
        "rl.group_size=6",
        "eval.prompts=9",
        "eval.every=100",
        "save.every=2",
        "save.keep=9",
        "save.rollouts=true",
    ];
    usual.iter().chain(sets).for_each(|set| all.extend(["--set", set]));
    all
}

/// Rollouts of every group of a run, by step and prompt.
fn sizes(run: &Path) -> BTreeMap<(u64, String), usize> {
    let mut sizes = BTreeMap::new();
    for step in 1..=4 {
        let bytes = std::fs::read(run.join(format!("rollouts/step-{step:06}.jsonl.zst"))).expect("rollouts");
        let text = String::from_utf8(zstd::decode_all(bytes.as_slice()).expect("zstd")).expect("text");
        for line in text.lines() {
            let rollout: Value = serde_json::from_str(line).expect("JSON");
            let prompt = rollout["rollout"]["prompt"]["id"].as_str().expect("an id").to_owned();
            *sizes.entry((step, prompt)).or_default() += 1;
        }
    }
    sizes
}

#[test]
fn a_run_that_allocates_rollouts_keeps_its_budget_and_resumes_to_the_same_bit_for_bit() {
    let optimal = "rl.baseline={optimal={}}";
    for sets in [
        ["rl.allocation={ada={pilot=2}}", "rl.overlap=0"],
        ["rl.allocation={std={}}", "rl.overlap=1"],
        ["rl.allocation={vip={}}", "rl.overlap=0"],
        ["rl.allocation={knapsack={}}", "rl.overlap=0"],
        ["rl.allocation={exact={}}", optimal],
    ] {
        let folder = tempfile::tempdir().expect("folder");
        succeed(folder.path(), &arguments("whole", &sets));
        succeed(folder.path(), &arguments("cut", &sets));
        let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
        // as a kill between step 2 and step 4 leaves it
        std::fs::remove_dir_all(cut.join("checkpoints/step-000004")).expect("removed");
        std::fs::write(cut.join("checkpoints/latest"), "step-000002").expect("written");
        succeed(folder.path(), &["train", "--resume", "cut"]);
        assert_eq!(metrics(&whole), metrics(&cut), "{sets:?}");
        for file in ["state.json", "trainer.safetensors"] {
            let read =
                |run: &Path| std::fs::read(run.join("checkpoints/step-000004").join(file)).expect("file");
            assert!(read(&whole) == read(&cut), "{sets:?}: {file} differs");
        }
        let found = sizes(&whole);
        for step in 1..=4 {
            let of_step: Vec<usize> =
                found.iter().filter(|((at, _), _)| *at == step).map(|(_, size)| *size).collect();
            let all: usize = of_step.iter().sum();
            let whole_budget = !sets[0].contains("ada");
            assert!(if whole_budget { all == 36 } else { all <= 36 }, "{sets:?}: {of_step:?} in step {step}");
        }
        let last: Vec<&usize> = found.iter().filter(|((at, _), _)| *at == 4).map(|(_, size)| size).collect();
        assert!(last.iter().any(|size| *size != last[0]), "{sets:?}: all prompts had the same, {last:?}");
    }
}

#[test]
fn settings_of_an_allocation_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().expect("folder");
    for (set, wanted) in [
        (
            "rl.allocation={std={least=1}}",
            "[rl] allocation.std.least is 1; wanted 2 to group_size, which is 8",
        ),
        ("rl.allocation={ada={pilot=99}}", "[rl] allocation.ada.pilot is 99; wanted 2 to group_size"),
        (
            "rl.allocation={exact={}}",
            "needs gradient norms of rollouts, and baseline = \"group_mean\" measures none",
        ),
        ("rl.allocation={neyman={}}", "std"),
        ("rl.down_sample={keep=1}", "[rl] down_sample.keep is 1; wanted 2 to group_size, which is 8"),
    ] {
        let error = fail(folder.path(), &["check", "tiny", "--set", set], 2);
        assert!(error.contains(wanted), "{set}: {error}");
    }
}

#[test]
fn a_group_that_is_down_sampled_trains_on_so_many_rollouts() {
    let folder = tempfile::tempdir().expect("folder");
    let sets = ["rl.down_sample={keep=3}", "rl.steps=1", "rl.baseline=\"none\""];
    succeed(folder.path(), &arguments("some", &sets));
    succeed(folder.path(), &arguments("all", &sets[1..]));
    let line = |run: &str| metrics(&folder.path().join(run)).pop().expect("a line");
    assert_eq!(line("some")["reward_mean"], line("all")["reward_mean"], "what was sampled is the same");
    assert_ne!(line("some")["grad_norm"], line("all")["grad_norm"]);
}
