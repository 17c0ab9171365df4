//! A run that learns nothing says so: on the terminal, in `warnings.jsonl`, and in `check` where that can know.

use std::path::Path;

use crate::{metrics, run, succeed};

/// Arguments for a short run of `tiny` with these settings besides.
fn train<'a>(out: &'a str, sets: &[&'a str]) -> Vec<&'a str> {
    let usual =
        ["rl.steps=6", "rl.prompts_per_step=4", "rl.group_size=4", "eval.prompts=6", "eval.every=100"];
    let mut all = vec!["train", "tiny", "--out", out];
    usual.iter().chain(sets).for_each(|set| all.extend(["--set", set]));
    all
}

/// A run's warnings with their steps.
fn warnings(run: &Path) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(run.join("warnings.jsonl")).unwrap_or_default();
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        (line["step"].as_u64().expect("step"), line["warning"].as_str().expect("warning").to_owned())
    };
    text.lines().map(line).collect()
}

/// What `train` says with these settings, which must succeed.
fn said(folder: &Path, out: &str, sets: &[&str]) -> String {
    let output = run(folder, &train(out, sets));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

const SAME: &str =
    "rewards={ command = { same = { command = [\"sh\", \"-c\", \"while read -r l; do echo 0.5; done\"] } } }";
const SILENT: &str = "rewards={ command = { silent = { none = \"skip\", command = [\"sh\", \"-c\", \"while read -r l; do echo null; done\"] } } }";

#[test]
fn rewards_that_are_all_equal_are_named_and_what_was_not_measured_is_not_reported() {
    let folder = tempfile::tempdir().expect("folder");
    let said = said(folder.path(), "run", &[SAME]);
    let run = folder.path().join("run");
    let found = warnings(&run);
    assert_eq!(found.len(), 1, "{found:?}");
    let words = "in the last 5 steps the rewards of every group were equal, all 0.500";
    assert!(found[0].0 == 5 && found[0].1.starts_with(words), "{found:?}");
    assert!(said.contains(&format!("warning: {}", found[0].1)), "{said}");
    for line in metrics(&run).iter().filter(|line| line["step"] != 0) {
        assert_eq!(line["reward_mean"], 0.5);
        for key in ["entropy", "mismatch_max", "mismatch_kl", "clip_fraction"] {
            assert!(line.get(key).is_none(), "{key}: {line}");
        }
    }
}

#[test]
fn a_run_without_any_reward_has_no_mean() {
    let folder = tempfile::tempdir().expect("folder");
    let said = said(folder.path(), "run", &[SILENT, "rl.steps=2"]);
    let run = folder.path().join("run");
    assert!(said.contains("no reward · ") && !said.contains("-0.0"), "{said}");
    let found = warnings(&run);
    let words = "none of the 16 rollouts of this step has a reward";
    assert!(found.iter().any(|(step, text)| *step == 1 && text.starts_with(words)), "{found:?}");
    assert!(metrics(&run).iter().all(|line| line.get("reward_mean").is_none()));
}

#[test]
fn completions_that_are_all_cut_off_are_named() {
    let folder = tempfile::tempdir().expect("folder");
    said(folder.path(), "run", &["rl.sampling.max_tokens=1"]);
    let found = warnings(&folder.path().join("run"));
    let words = "in the last 5 steps nearly all completions were cut off at max_tokens";
    assert!(found.iter().any(|(step, text)| *step == 5 && text.starts_with(words)), "{found:?}");
}

#[test]
fn a_learning_rate_of_ten_is_named_before_and_by_check() {
    let folder = tempfile::tempdir().expect("folder");
    let rate = "rl.schedule.learning_rate=10.0";
    let said = said(folder.path(), "run", &[rate]);
    let found = warnings(&folder.path().join("run"));
    assert!(found[0].0 == 0 && found[0].1.starts_with("rl.schedule.learning_rate is 10: "), "{found:?}");
    assert!(said.contains(&format!("warning: {}", found[0].1)), "{said}");
    assert!(found.len() > 1, "and what it comes to: {found:?}");
    let shown = succeed(folder.path(), &["check", "tiny", "--no-time", "--set", rate]);
    assert!(shown.contains(&found[0].1), "{shown}");
    let plan = succeed(folder.path(), &["check", "tiny", "--no-time", "--json", "--set", rate]);
    assert!(plan.contains("\"warnings\"") && plan.contains("learning_rate is 10"), "{plan}");
    let shown = succeed(folder.path(), &["check", "tiny", "--no-time"]);
    assert!(!shown.contains("warning   "), "{shown}");
}

#[test]
fn prompts_that_are_all_alike_and_references_that_nobody_can_read_are_named_by_check() {
    let folder = tempfile::tempdir().expect("folder");
    let rows: String =
        (0..20).map(|i| format!("{{\"question\": \"{i}+1=\", \"answer\": \"\\\\fraq{{{i}{{\"}}\n")).collect();
    std::fs::write(folder.path().join("rows.jsonl"), rows).expect("written");
    let recipe = |template: &str| {
        let text = format!(
            "[policy]\ncheckpoint = \"tiny\"\n[data.jsonl]\npath = \"rows.jsonl\"\n[prompt]\ntemplate = \"{template}\"\n[rewards.math]\n[rl]\nsteps = 1\nprompts_per_step = 4\ngroup_size = 4\ntruncated = \"keep\"\n[rl.sampling]\nmax_tokens = 4\n"
        );
        std::fs::write(folder.path().join("r.toml"), text).expect("written");
        succeed(folder.path(), &["check", "r.toml", "--no-time"])
    };
    let shown = recipe("1+1=");
    assert!(shown.contains("warning   all 20 prompts are the same to the policy"), "{shown}");
    assert!(shown.contains("20 of 20 reference answers are nothing that [rewards.math] can read"), "{shown}");
    let shown = recipe("{question}");
    assert!(!shown.contains("are the same to the policy"), "{shown}");
}
