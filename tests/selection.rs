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

/// A run that was killed between two checkpoints and went on is one that was not.
fn resumes_to_the_same(sets: &[&str]) {
    let folder = tempfile::tempdir().expect("folder");
    succeed(folder.path(), &arguments("whole", sets));
    succeed(folder.path(), &arguments("cut", sets));
    let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
    // as a kill between step 4 and step 6 leaves it
    std::fs::remove_dir_all(cut.join("checkpoints/step-000006")).expect("removed");
    std::fs::write(cut.join("checkpoints/latest"), "step-000004").expect("written");
    succeed(folder.path(), &["train", "--resume", "cut"]);
    assert_eq!(metrics(&whole), metrics(&cut), "{sets:?}");
    for file in ["state.json", "trainer.safetensors"] {
        let read = |run: &Path| std::fs::read(run.join("checkpoints/step-000006").join(file)).expect("file");
        assert!(read(&whole) == read(&cut), "{sets:?}: {file} differs");
    }
}

#[test]
fn a_run_that_selects_prompts_resumes_to_the_same_bit_for_bit() {
    for sets in [
        ["rl.selection={variance={refresh=2}}", "rl.overlap=0"],
        ["rl.selection={variance={refresh=2}}", "rl.overlap=2"],
        ["rl.selection={target={}}", "rl.overlap=1"],
        ["rl.selection={skip={}}", "rl.overlap=1"],
        ["rl.selection={variance={refresh=2,stale={revisit=2}}}", "rl.overlap=0"],
        ["rl.selection={importance={}}", "rl.overlap=1"],
    ] {
        resumes_to_the_same(&sets);
    }
}

#[test]
fn a_run_that_walks_along_an_order_resumes_to_the_same_bit_for_bit() {
    for sets in [
        &["rl.selection={angle={}}", "rl.overlap=0"][..],
        // its metric wants tokens that all prompts begin with
        &[
            "rl.selection={angle={metric=\"released\",walk={end=\"wrap\",scale=4}}}",
            "rl.overlap=2",
            "prompt.template=\"+{question}\"",
        ],
        &["rl.selection={length={}}", "rl.overlap=1"],
    ] {
        resumes_to_the_same(sets);
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

#[test]
fn a_run_by_angle_scans_first_walks_along_the_order_and_names_its_control() {
    let folder = tempfile::tempdir().expect("folder");
    let walk = "rl.selection={angle={walk={width=0.01,scale=1.5}}}";
    let said = succeed(folder.path(), &arguments("run", &[walk]));
    assert!(said.contains("rl.selection = { length = {} }") && said.contains("rank correlation"), "{said}");
    let run = folder.path().join("run");
    let rows: Vec<Value> = std::fs::read_to_string(run.join("scan.jsonl"))
        .expect("scan.jsonl")
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let mut order: Vec<&Value> = rows.iter().collect();
    order.sort_by(|a, b| b["score"].as_f64().partial_cmp(&a["score"].as_f64()).expect("numbers"));
    let stats = &state(&run, 2)["known"]["stats"];
    // a window this narrow takes the four that are nearest to its mean: the first ones at first
    for row in &order[..4] {
        assert!(!stats[row["id"].as_str().expect("id")].is_null(), "{row}");
    }
    let positions: Vec<f64> =
        metrics(&run).iter().filter_map(|line| line["selection_position"].as_f64()).collect();
    assert_eq!(positions.len(), 6);
    assert!(positions.windows(2).all(|pair| pair[0] <= pair[1]), "{positions:?}");
    let lines = metrics(&run);
    let seen = lines.iter().filter_map(|line| line["concentration"].as_f64());
    assert!(seen.filter(|c| (-1.0..=1.0).contains(c)).count() == 6);
}

#[test]
fn a_walk_by_length_begins_with_the_shortest_prompts() {
    let folder = tempfile::tempdir().expect("folder");
    let walk = "rl.selection={length={walk={width=0.01,scale=0.0,online=false}}}";
    succeed(folder.path(), &arguments("run", &[walk, "rl.steps=2"]));
    let run = folder.path().join("run");
    assert!(!run.join("scan.jsonl").exists(), "lengths are known without a scan");
    let rollouts = metrics(&run);
    assert!(rollouts.iter().all(|line| line.get("concentration").is_none()));
    let stats = state(&run, 2)["known"]["stats"].clone();
    assert_eq!(stats.as_object().expect("records").len(), 4, "the window does not move");
    let ids = scanned(folder.path(), "all.jsonl");
    let mut all: Vec<usize> =
        ids.iter().map(|row| row["tokens"].as_u64().expect("tokens") as usize).collect();
    let tokens = |id: &String| ids.iter().find(|row| row["id"] == *id).expect("scanned")["tokens"].as_u64();
    let mut drawn: Vec<usize> =
        stats.as_object().expect("records").keys().map(|id| tokens(id).expect("tokens") as usize).collect();
    drawn.sort_unstable();
    all.sort_unstable();
    assert_eq!(drawn, all[..4]);
}

/// The lines of a scan of the dozen prompts.
fn scanned(folder: &Path, out: &str) -> Vec<Value> {
    succeed(folder, &["scan", "tiny", "--set", "data.arithmetic.count=12", "--out", out]);
    rows(&folder.join(out))
}

fn rows(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).expect("a scan");
    text.lines().skip(1).map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_scan_goes_on_where_it_was_ended_and_is_used_by_a_run() {
    let folder = tempfile::tempdir().expect("folder");
    let whole = scanned(folder.path(), "whole.jsonl");
    assert_eq!(whole.len(), 12);
    let bytes = |name: &str| std::fs::read(folder.path().join(name)).expect("a scan");
    let scan = |more: &[&str]| -> String {
        let mut all = vec!["scan", "tiny", "--set", "data.arithmetic.count=12", "--out", "cut.jsonl"];
        all.extend(more);
        succeed(folder.path(), &all)
    };
    let said = scan(&["--limit", "5"]);
    assert!(said.contains("5 of 12 prompts") && said.contains("length = {}"), "{said}");
    assert_eq!(rows(&folder.path().join("cut.jsonl")), whole[..5]);
    // what a kill leaves: lines in the other file, the last one cut short
    let text = String::from_utf8(bytes("whole.jsonl")).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    let partial = format!("{}\n{}\n{}", lines[0], lines[8], &lines[9][..20]);
    std::fs::write(folder.path().join("cut.partial.jsonl"), partial).expect("written");
    scan(&[]);
    assert!(bytes("cut.jsonl") == bytes("whole.jsonl"));
    assert!(!folder.path().join("cut.partial.jsonl").exists());
    // a line that was changed shows that it is read, not made again
    let changed = text.replacen("\"intra\":", "\"intra\":1e3,\"was\":", 1);
    std::fs::write(folder.path().join("changed.jsonl"), changed).expect("written");
    let angle = "rl.selection={angle={}}";
    let mut train = arguments("run", &[angle, "rl.steps=1"]);
    train.extend(["--scan", "changed.jsonl"]);
    succeed(folder.path(), &train);
    assert_eq!(rows(&folder.path().join("run/scan.jsonl"))[0]["intra"], 1000.0);
    let said = scan(&["--stats", "run"]);
    assert!(said.contains("pass rate") && said.contains("given length"), "{said}");
    let none = ["scan", "tiny", "--set", "data.arithmetic.operands=3", "--limit", "3", "--stats", "run"];
    assert!(fail(folder.path(), &none, 2).contains("has seen none of the scanned prompts"));
    assert!(
        fail(folder.path(), &["scan", "tiny", "--stats", "nowhere"], 2)
            .contains("`nowhere` has no checkpoint")
    );
    // one of other prompts, none at all, and one that nothing would use
    let other = ["train", "tiny", "--set", angle, "--out", "x", "--scan", "whole.jsonl"];
    let error = fail(folder.path(), &other, 2);
    assert!(error.contains("`whole.jsonl` is a scan of other prompts"), "{error}");
    let mut none = arguments("y", &[angle]);
    none.extend(["--scan", "nowhere.jsonl"]);
    assert!(fail(folder.path(), &none, 2).contains("`nowhere.jsonl` is not there"));
    let mut useless = arguments("z", &[]);
    useless.extend(["--scan", "whole.jsonl"]);
    assert!(fail(folder.path(), &useless, 2).contains("--scan has no effect"));
    let released = arguments("r", &["rl.selection={angle={metric=\"released\"}}"]);
    assert!(fail(folder.path(), &released, 2).contains("gives none of the 12 prompts a number"));
    std::fs::write(folder.path().join("notes.txt"), "something else\n").expect("written");
    assert!(fail(folder.path(), &["scan", "tiny", "--out", "notes.txt"], 2).contains("`notes.txt`"));
    assert_eq!(bytes("notes.txt"), b"something else\n");
    let seven = ["scan", "tiny", "--set", "data.arithmetic.count=7", "--out", "whole.jsonl"];
    assert!(fail(folder.path(), &seven, 2).contains("name another file, or remove it"));
    assert!(fail(folder.path(), &["scan", "tiny", "--limit", "0"], 2).contains("wanted at least 1"));
}

#[test]
fn a_scan_that_was_lost_or_changed_is_made_again_when_the_run_goes_on() {
    let folder = tempfile::tempdir().expect("folder");
    succeed(folder.path(), &arguments("run", &["rl.selection={angle={}}"]));
    let run = folder.path().join("run");
    let (before, scan) = (metrics(&run), std::fs::read(run.join("scan.jsonl")).expect("scan"));
    for changed in [None, Some("{}\n")] {
        std::fs::remove_dir_all(run.join("checkpoints/step-000006")).expect("removed");
        std::fs::write(run.join("checkpoints/latest"), "step-000004").expect("written");
        match changed {
            Some(text) => std::fs::write(run.join("scan.jsonl"), text).expect("written"),
            None => std::fs::remove_file(run.join("scan.jsonl")).expect("removed"),
        }
        succeed(folder.path(), &["train", "--resume", "run"]);
        assert_eq!(metrics(&run), before);
        assert!(std::fs::read(run.join("scan.jsonl")).expect("scan") == scan);
    }
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
        (
            "rl.selection={variance={stale={decay=0}}}",
            "[rl] selection.variance.stale.decay is 0; wanted at least 1",
        ),
        (
            "rl.selection={importance={mixture=1.0}}",
            "[rl] selection.importance.mixture is 1; wanted 0 to less than 1",
        ),
        ("rl.selection={angle={kappa=-1.0}}", "[rl] selection.angle.kappa is -1; wanted at least 0"),
        ("rl.selection={angle={walk={width=0.0}}}", "[rl] selection.angle.walk.width is 0; wanted above 0"),
        (
            "rl.selection={angle={walk={accuracy=2.0}}}",
            "[rl] selection.angle.walk.accuracy is 2; wanted 0 to 1",
        ),
        (
            "rl.selection={length={walk={least=5.0,most=1.0}}}",
            "selection.length.walk.most is 1; wanted at least `least`",
        ),
        ("rl.selection={length={walk={end=\"stop\"}}}", "stay"),
        ("rl.selection={variense={}}", "variance"),
    ] {
        let error = fail(folder.path(), &["check", "tiny", "--set", set], 2);
        assert!(error.contains(wanted), "{set}: {error}");
    }
}
