//! What a recipe's policy will read, and what a run knows of its prompts.

use std::path::Path;

use serde_json::{Value, json};

use crate::{fail, metrics, run, succeed};

const TRAIN: [&str; 7] = [
    "data.arithmetic.count=12",
    "rl.prompts_per_step=4",
    "rl.group_size=4",
    "eval.prompts=9",
    "eval.every=100",
    "save.every=2",
    "rl.steps=6",
];

fn train(folder: &Path, out: &str, sets: &[&str]) {
    let mut all = vec!["train", "tiny", "--out", out];
    TRAIN.iter().chain(sets).for_each(|set| all.extend(["--set", set]));
    succeed(folder, &all);
}

fn report(folder: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&succeed(folder, &[&["data"], arguments, &["--json"]].concat())).expect("JSON")
}

const RECIPE: &str = r#"
seed = 1
[policy]
checkpoint = "tiny"
[data.jsonl]
path = "rows.jsonl"
[prompt]
template = "{question}"
chat = false
[rewards.math]
[rl]
steps = 1
prompts_per_step = 1
group_size = 2
truncated = "keep"
[rl.sampling]
max_tokens = 8
"#;

/// A recipe in a folder with rows; gives their number.
fn write(folder: &Path, rows: &[(&str, &str)]) {
    std::fs::write(folder.join("r.toml"), RECIPE).expect("written");
    let line = |(question, answer): &(&str, &str)| {
        format!("{}\n", json!({ "question": question, "answer": answer }))
    };
    std::fs::write(folder.join("rows.jsonl"), rows.iter().map(line).collect::<String>()).expect("written");
}

#[test]
fn what_is_odd_about_prompts_is_told_and_nothing_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let long = "1".repeat(600);
    write(folder.path(), &[("1+1", "2"), ("1 + 1", "2"), ("3", "\\fraq{1{"), ("4", " "), (&long, "5")]);
    fail(folder.path(), &["check", "r.toml", "--no-time"], 1);
    let found = report(folder.path(), &["r.toml", "--show", "2"]);
    let data = &found["data"];
    assert_eq!(data["prompts"], 5);
    assert_eq!(data["shown"][1]["text"].as_str().expect("text").matches("1 + 1").count(), 1);
    assert_eq!(data["same_questions"], json!([["rows:1", "rows:2"]]));
    assert_eq!(data["references"]["unreadable"], json!([["rows:3", "\\fraq{1{"]]));
    assert_eq!(data["references"]["missing"], json!(["rows:4"]));
    assert_eq!(data["tokens"]["too_long"], json!(["rows:5"]));
    let histogram = data["tokens"]["histogram"].as_array().expect("bars");
    assert_eq!(histogram.iter().filter_map(|bar| bar[2].as_u64()).sum::<u64>(), 5);
    let text = succeed(folder.path(), &["data", "r.toml"]);
    for wanted in ["rows:5", "\\fraq{1{", "leave no room", "ask what another one asks: 1"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}

#[test]
fn prompts_that_stand_in_a_benchmark_are_found_whatever_the_templates_say() {
    let folder = tempfile::tempdir().expect("folder");
    let words = |from: usize, to: usize| (from..to).map(|n| format!("word{n}")).collect::<Vec<_>>().join(" ");
    let rows =
        [words(0, 20), words(100, 120), format!("{} {}", words(200, 210), words(8, 18)), words(30, 39)];
    let rows: Vec<(&str, &str)> = rows.iter().map(|row| (row.as_str(), "1")).collect();
    write(folder.path(), &rows);
    let bench = [
        json!({ "question": words(0, 20).to_uppercase(), "answer": "1" }),
        json!({ "question": "other", "answer": "2" }),
    ];
    std::fs::write(folder.path().join("bench.jsonl"), format!("{}\n{}\n", bench[1], bench[0]))
        .expect("written");
    let found = report(folder.path(), &["r.toml", "--against", "bench.jsonl"]);
    let overlaps = found["data"]["overlaps"].as_array().expect("overlaps");
    let of = |words: u64| {
        overlaps.iter().find(|overlap| overlap["words"] == words).expect("runs of so many words")
    };
    assert_eq!(of(13)["worst"], json!([{ "prompt": "rows:1", "question": "bench:2", "share": 1.0 }]));
    assert_eq!((&of(8)["sharing"], &of(8)["half"], &of(8)["share"]), (&json!(2), &json!(2), &json!(0.5)));
    let unknown = fail(folder.path(), &["data", "r.toml", "--against", "gsm9k"], 2);
    assert!(unknown.contains("gsm9k") && unknown.contains("gsm8k"), "{unknown}");
    for none in ["./none", "none.jsonl", "none.toml"] {
        let error = fail(folder.path(), &["data", "r.toml", "--against", none], 2);
        assert!(error.contains(&format!("no file `{none}`")), "{error}");
    }
    assert!(fail(folder.path(), &["data", "--stats", ".", "--against", "gsm8k"], 2).contains("name one"));
}

#[test]
fn a_run_leaves_what_it_knows_of_prompts_and_a_later_run_starts_from_it() {
    let folder = tempfile::tempdir().expect("folder");
    train(folder.path(), "first", &[]);
    let found = report(folder.path(), &["--stats", "first", "--sort", "reward_mean"]);
    let rows = found["stats"].as_array().expect("rows");
    assert_eq!(rows.len(), 12);
    assert_eq!(rows.iter().filter_map(|row| row["visits"].as_u64()).sum::<u64>(), 24);
    let means: Vec<f64> = rows.iter().filter_map(|row| row["reward_mean"].as_f64()).collect();
    assert!(means.len() == 12 && means.is_sorted_by(|a, b| a >= b), "{means:?}");
    // the table is of the same recipe, and text and page have it
    let both =
        succeed(folder.path(), &["data", "first", "--stats", "first", "--html", "page.html", "--rows", "3"]);
    assert!(both.contains("3 of 12, by visits") && both.contains("prediction_error"), "{both}");
    let page = std::fs::read_to_string(folder.path().join("page.html")).expect("a page");
    assert!(page.contains("3 of 12, by visits") && !page.contains("<script"), "{page}");

    train(folder.path(), "second", &["rl.prompt_stats=\"first\"", "rl.steps=2", "rl.selection={target={}}"]);
    let state = |run: &str, step: u64| -> Value {
        let place = folder.path().join(run).join(format!("checkpoints/step-{step:06}/state.json"));
        serde_json::from_slice(&std::fs::read(place).expect("state")).expect("JSON")
    };
    let visits = |state: &Value| -> u64 {
        let stats = state["known"]["stats"].as_object().expect("statistics");
        stats.values().filter_map(|record| record["visits"].as_u64()).sum()
    };
    assert_eq!((visits(&state("first", 6)), visits(&state("second", 2))), (24, 32));
    // the first run is needed no more
    std::fs::rename(folder.path().join("first"), folder.path().join("gone")).expect("moved");
    succeed(folder.path(), &["train", "--resume", "second", "--set", "rl.steps=3"]);
    assert_eq!(visits(&state("second", 3)), 36);
    assert_eq!(metrics(&folder.path().join("second")).last().expect("a line")["step"], 3);
}

#[test]
fn statistics_of_another_dataset_and_files_that_are_none_are_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().expect("folder");
    train(folder.path(), "first", &["rl.steps=2"]);
    let other = ["--set", "rl.prompt_stats=\"first\"", "--set", "data.arithmetic.count=13"];
    for command in [&["check", "tiny", "--no-time"][..], &["train", "tiny", "--out", "second"]] {
        let error = fail(folder.path(), &[command, &other[..]].concat(), 2);
        assert!(error.contains("prompt_stats") && error.contains("another dataset"), "{error}");
    }
    let error = fail(folder.path(), &["data", "tiny", "--stats", "first"], 2);
    assert!(error.contains("another dataset"), "{error}");
    std::fs::create_dir(folder.path().join("empty")).expect("made");
    std::fs::write(folder.path().join("no.parquet"), "PAR1, or not").expect("written");
    for (place, wanted, code) in
        [("empty", "no `empty/prompts.parquet`", 2), ("none", "no `none`", 2), ("no.parquet", "cut off", 1)]
    {
        let error = fail(folder.path(), &["data", "--stats", place], code);
        assert!(error.contains(wanted), "{error}");
        let set = format!("rl.prompt_stats=\"{place}\"");
        let output = run(folder.path(), &["train", "tiny", "--out", "second", "--set", &set]);
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(!folder.path().join("second").exists());
    let error = fail(folder.path(), &["data", "--stats", "first", "--sort", "vists"], 2);
    assert!(error.contains("`vists`") && error.contains("visits"), "{error}");
}
