//! Which prompts a run draws.

use std::path::Path;

use serde_json::Value;

use crate::{fail, metrics, succeed};

/// A run on a dozen prompts, each of which is drawn several times.
fn arguments<'a>(out: &'a str, sets: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["train", "tiny", "--out", out];
    let usual = [
        "data.arithmetic.count=12",
        "rl.steps=6",
        "rl.prompts_per_step=4",
        "rl.group_size=4",
        "eval.prompts=9",
        "eval.every=100",
        "save.every=2",
        "save.keep=9",
    ];
    usual.iter().chain(sets).for_each(|set| all.extend(["--set", set]));
    all
}

fn state(run: &Path, step: u64) -> Value {
    let place = run.join(format!("checkpoints/step-{step:06}/state.json"));
    serde_json::from_slice(&std::fs::read(place).expect("state.json")).expect("JSON")
}

#[test]
fn a_run_that_selects_prompts_resumes_to_the_same_bit_for_bit() {
    for sets in [
        ["rl.selection={variance={refresh=2}}", "rl.overlap=0"],
        ["rl.selection={variance={refresh=2}}", "rl.overlap=2"],
        ["rl.selection={target={}}", "rl.overlap=1"],
        ["rl.selection={skip={}}", "rl.overlap=1"],
    ] {
        let folder = tempfile::tempdir().expect("folder");
        succeed(folder.path(), &arguments("whole", &sets));
        succeed(folder.path(), &arguments("cut", &sets));
        let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
        // as a kill between step 4 and step 6 leaves it
        std::fs::remove_dir_all(cut.join("checkpoints/step-000006")).expect("removed");
        std::fs::write(cut.join("checkpoints/latest"), "step-000004").expect("written");
        succeed(folder.path(), &["train", "--resume", "cut"]);
        assert_eq!(metrics(&whole), metrics(&cut), "{sets:?}");
        for file in ["state.json", "trainer.safetensors"] {
            let read =
                |run: &Path| std::fs::read(run.join("checkpoints/step-000006").join(file)).expect("file");
            assert!(read(&whole) == read(&cut), "{sets:?}: {file} differs");
        }
    }
}

#[test]
fn what_is_known_of_prompts_is_kept_whatever_the_selection_with_groups_that_were_dropped() {
    let folder = tempfile::tempdir().expect("folder");
    let dynamic = "rl.dynamic_sampling={max_rounds=3}";
    succeed(folder.path(), &arguments("run", &[dynamic, "rl.steps=2"]));
    let run = folder.path().join("run");
    let stats = &state(&run, 2)["known"]["stats"];
    let of = |field: &str| -> u64 {
        let records = stats.as_object().expect("records").values();
        records.map(|record| record[field].as_u64().expect("a count")).sum()
    };
    let lines = metrics(&run);
    let groups: u64 = lines.iter().filter_map(|line| line["groups"].as_u64()).sum();
    let dropped: u64 = lines.iter().filter_map(|line| line["dropped_groups"].as_u64()).sum();
    assert!(dropped > 0 && of("visits") == groups + dropped, "{groups} groups, {dropped} dropped: {stats}");
    assert_eq!((of("rollouts"), of("known")), (4 * (groups + dropped), 4 * (groups + dropped)));
}

/// Of twelve prompts four are always solved, four never, and four now and then.
const REWARD: &str = "def reward_func(completions, kind, **kwargs):\n    \
                      return [float(len(c) % 2 if k == 'sometimes' else k == 'always') for c, k in zip(completions, kind)]\n";

#[test]
fn prompts_whose_rewards_differ_are_drawn_more() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("reward.py"), REWARD).expect("written");
    let rows = (0..12).map(|place| {
        let kind = ["always", "never", "sometimes"][place % 3];
        format!(
            "{{\"id\":\"{place}\",\"question\":\"{place}+{place}=\",\"answer\":\"0\",\"kind\":\"{kind}\"}}\n"
        )
    });
    std::fs::write(folder.path().join("prompts.jsonl"), rows.collect::<String>()).expect("written");
    let recipe = "[policy]\ncheckpoint = \"tiny\"\n[data.jsonl]\npath = \"prompts.jsonl\"\n[rewards.python.own]\n\
                  file = \"reward.py\"\n[rl]\nsteps = 15\nprompts_per_step = 4\ngroup_size = 6\ntruncated = \"keep\"\n\
                  schedule = { learning_rate = 1e-12 }\n[rl.sampling]\nmax_tokens = 6\n[save]\nevery = 15\n";
    std::fs::write(folder.path().join("recipe.toml"), recipe).expect("written");
    for (out, selection) in [
        ("uniform", "uniform"),
        ("variance", "{variance={mixture=1.0,beta=0.0,refresh=1,score=\"plug_in\"}}"),
        ("target", "{target={forgetting=1.0}}"),
        ("skip", "{skip={easy=0.0,hard=0.0,rate=0.2}}"),
    ] {
        let set = format!("rl.selection={selection}");
        succeed(folder.path(), &["train", "recipe.toml", "--out", out, "--set", &set]);
        let stats = state(&folder.path().join(out), 15)["known"]["stats"].clone();
        let visits = |kind: usize| -> u64 {
            let records = stats.as_object().expect("records").iter();
            let of = |(id, record): (&String, &Value)| {
                let place: usize = id.parse().expect("a number");
                (place % 3 == kind).then(|| record["visits"].as_u64().expect("visits"))
            };
            records.filter_map(of).sum()
        };
        let (sometimes, all) = (visits(2), visits(0) + visits(1) + visits(2));
        assert_eq!(all, 60, "{selection}");
        if out == "uniform" {
            assert_eq!(sometimes, 20);
        } else {
            assert!(sometimes > 28, "{selection}: {sometimes} of {all} visits");
        }
    }
}

#[test]
fn settings_of_a_selection_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().expect("folder");
    for (set, wanted) in [
        ("rl.selection={variance={mixture=1.5}}", "[rl] selection.variance.mixture is 1.5; wanted 0 to 1"),
        ("rl.selection={variance={alpha=0.0,beta=0.0}}", "which tells no prompts apart"),
        ("rl.selection={target={pass_rate=-0.1}}", "[rl] selection.target.pass_rate is -0.1; wanted 0 to 1"),
        ("rl.selection={skip={least=2.0}}", "[rl] selection.skip.least is 2; wanted 0 to 1"),
        ("rl.selection={variense={}}", "variance"),
    ] {
        let error = fail(folder.path(), &["check", "tiny", "--set", set], 2);
        assert!(error.contains(wanted), "{set}: {error}");
    }
}
