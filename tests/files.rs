//! Datasets in files of every kind, filtered and split.

use std::io::Write;
use std::path::Path;

use serde_json::Value;

use crate::{fail, succeed};

const RECIPE: &str = "[policy]\ncheckpoint = \"tiny\"\n[rewards.exact_match]\n[rl]\nsteps = 1\nprompts_per_step = 2\n\
                      group_size = 2\ntruncated = \"keep\"\n[rl.sampling]\nmax_tokens = 6\n[save]\nevery = 1\n";

fn recipe(folder: &Path, data: &str) {
    std::fs::write(folder.join("recipe.toml"), format!("{RECIPE}{data}\n")).expect("written");
}

/// Ids of all prompts that a run of a step over the whole dataset visited.
fn visited(folder: &Path, prompts: usize) -> Vec<String> {
    let out = format!("run{prompts}");
    let set = format!("rl.prompts_per_step={prompts}");
    succeed(folder, &["train", "recipe.toml", "--out", &out, "--set", &set]);
    let state = std::fs::read(folder.join(out).join("checkpoints/step-000001/state.json")).expect("state");
    let state: Value = serde_json::from_slice(&state).expect("JSON");
    state["known"]["stats"].as_object().expect("records").keys().cloned().collect()
}

fn rows(from: usize, to: usize) -> String {
    let row = |i: usize| format!("{i}+1=,{},{}\n", i + 1, ["easy", "hard"][i % 2]);
    format!("question,answer,level\n{}", (from..to).map(row).collect::<String>())
}

#[test]
fn packed_csv_files_behind_a_pattern_are_one_dataset_of_the_rows_that_a_filter_keeps() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::create_dir(folder.path().join("parts")).expect("made");
    std::fs::write(folder.path().join("parts/b.csv"), rows(4, 8)).expect("written");
    let packed = std::fs::File::create(folder.path().join("parts/a.csv.zst")).expect("made");
    let mut packed = zstd::Encoder::new(packed, 3).expect("zstd").auto_finish();
    packed.write_all(rows(0, 4).as_bytes()).expect("written");
    drop(packed);
    recipe(folder.path(), "[data.csv]\npath = \"parts/*.csv*\"");
    assert_eq!(visited(folder.path(), 8).len(), 8);
    recipe(folder.path(), "[data.csv]\npath = \"parts/*.csv*\"\nfilter = { keep = { level = \"hard\" } }");
    let hard = visited(folder.path(), 4);
    assert_eq!(hard.len(), 4, "{hard:?}");
    recipe(folder.path(), "[data.csv]\npath = \"parts/*.parquet\"");
    let error = fail(folder.path(), &["check", "recipe.toml"], 1);
    assert!(error.contains("parts/*.parquet"), "{error}");
    recipe(folder.path(), "[data.csv]\npath = \"parts/*.csv*\"\nfilter = { keep = { lvl = \"hard\" } }");
    let error = fail(folder.path(), &["check", "recipe.toml"], 1);
    assert!(error.contains("lvl") && error.contains("level"), "{error}");
    recipe(folder.path(), "[data.csv]\npath = \"parts/*.csv*\"\nfilter = { min_chars = 100 }");
    let error = fail(folder.path(), &["check", "recipe.toml"], 1);
    assert!(error.contains("min_chars"), "{error}");
}

#[test]
fn rows_that_are_held_back_are_asked_and_not_trained_on() {
    let folder = tempfile::tempdir().expect("folder");
    let line =
        |i: usize| format!("{{\"id\":\"row {i}\",\"question\":\"{i}+1=\",\"answer\":\"{}\"}}\n", i + 1);
    std::fs::write(folder.path().join("rows.jsonl"), (0..40).map(line).collect::<String>()).expect("written");
    let eval = "[eval]\nevery = 1\nprompts = 40\n";
    recipe(
        folder.path(),
        &format!("{eval}[data.jsonl]\npath = \"rows.jsonl\"\nhold_back = {{ fraction = 0.25 }}"),
    );
    let trained = visited(folder.path(), 24);
    let asked = folder.path().join("run24/evaluations/rl-000001.json");
    let asked: Value = serde_json::from_slice(&std::fs::read(asked).expect("evaluation")).expect("JSON");
    let asked = asked.to_string();
    assert!(trained.iter().all(|id| !asked.contains(&format!("\"{id}\""))), "{trained:?} and {asked}");
    recipe(
        folder.path(),
        &format!("{eval}[data.jsonl]\npath = \"rows.jsonl\"\nhold_back = {{ fraction = 1.5 }}"),
    );
    let error = fail(folder.path(), &["check", "recipe.toml"], 1);
    assert!(error.contains("hold_back.fraction") && error.contains("1.5"), "{error}");
    recipe(folder.path(), &format!("{eval}[data.jsonl]\npath = \"rows.jsonl\""));
    assert!(fail(folder.path(), &["check", "recipe.toml"], 2).contains("hold_back"));
}

#[test]
fn a_template_in_jinja_sees_every_column_and_names_the_row_that_it_fails_on() {
    let folder = tempfile::tempdir().expect("folder");
    let rows = "{\"id\":\"a\",\"question\":\"1+1=\",\"answer\":\"2\",\"hint\":\"easy\"}\n\
                {\"id\":\"b\",\"question\":\"2+1=\",\"answer\":\"3\"}\n";
    std::fs::write(folder.path().join("rows.jsonl"), rows).expect("written");
    let data = "[data.jsonl]\npath = \"rows.jsonl\"\n[prompt]\njinja = ";
    recipe(
        folder.path(),
        &format!("{data}'{{% if hint is defined %}}({{{{ hint }}}}){{% endif %}}{{{{ question }}}}'"),
    );
    let shown = succeed(folder.path(), &["data", "recipe.toml", "--show", "2"]);
    assert!(shown.contains("(easy)1+1=") && shown.contains("2+1="), "{shown}");
    recipe(folder.path(), &format!("{data}'{{{{ hint }}}}{{{{ question }}}}'"));
    let error = fail(folder.path(), &["check", "recipe.toml"], 1);
    assert!(error.contains("row 2") || error.contains("line 2"), "{error}");
}
