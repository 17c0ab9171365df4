//! The catalogue of the numbers in `metrics.jsonl`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::{fail, succeed};

/// A short run; the keys of its lines.
fn keys(folder: &Path, recipe: &str, sets: &[&str]) -> BTreeSet<String> {
    let out = format!("run {recipe}{}", sets.len());
    let usual = ["eval.prompts=4", "save.every=100", "save.rollouts=false"];
    let mut arguments = vec!["train", recipe, "--out", &out];
    usual.iter().chain(sets).for_each(|set| arguments.extend(["--set", set]));
    succeed(folder, &arguments);
    let text = std::fs::read_to_string(folder.join(&out).join("metrics.jsonl")).expect("metrics");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.flat_map(|line| line.as_object().expect("a line").keys().cloned().collect::<Vec<_>>()).collect()
}

/// Names of the catalogue.
fn names(folder: &Path) -> BTreeSet<String> {
    let list: Value = serde_json::from_str(&succeed(folder, &["metrics", "--json"])).expect("JSON");
    let list = list.as_array().expect("a list");
    for number in list {
        for field in ["stage", "part", "about"] {
            assert!(number[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {number}");
        }
    }
    list.iter().map(|number| number["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn every_number_of_a_run_is_in_the_catalogue_and_the_reverse() {
    let folder = tempfile::tempdir().expect("folder");
    let small = ["rl.steps=2", "rl.prompts_per_step=6", "rl.group_size=4"];
    let with = |more: &[&'static str]| [&small[..], more].concat();
    let everything = with(&[
        "rl.baseline={optimal={}}",
        "rl.schedule.snr={}",
        "rl.ledger.correlations=1",
        "rl.kl={coefficient=0.01}",
        "rl.dynamic_sampling={max_rounds=2}",
        "rl.selection={variance={refresh=1}}",
        "rl.overlap=1",
        "rl.correction={}",
        "data.arithmetic.count=9",
    ]);
    let short = ["sft.steps=1", "sft.batch_size=4"];
    let pair = |place: usize| {
        let (thinking, trace) = [(false, ""), (true, "<think>1</think>")][place % 2];
        format!(
            "{{\"prompt\":\"1+{place}=\",\"chosen\":\"{trace}2\",\"rejected\":\"{trace}3\",\"thinking\":{thinking}}}\n"
        )
    };
    let file = folder.path().join("pairs.jsonl");
    std::fs::write(file, (0..16).map(pair).collect::<String>()).expect("written");
    let pairs = [
        "preference.steps=1",
        "preference.mixture.alpha=\"moment\"",
        "preference.pairs={jsonl={path=\"pairs.jsonl\"}}",
    ];
    let found: BTreeSet<String> = [
        keys(folder.path(), "tiny", &everything),
        keys(folder.path(), "tiny-length", &small),
        keys(folder.path(), "tiny-importance", &with(&["rl.steps=3"])),
        keys(folder.path(), "tiny-think", &with(&short)),
        keys(folder.path(), "tiny-bvpo", &[&short[..], &pairs].concat()),
    ]
    .into_iter()
    .flatten()
    .collect();
    let names = names(folder.path());
    let known = |key: &String| {
        let ending = key.rsplit('_').next().unwrap_or_default();
        let of_part = key.starts_with("reward_") && names.contains(&format!("reward_NAME_{ending}"));
        ["stage", "step"].contains(&key.as_str()) || names.contains(key) || of_part
    };
    let strange: Vec<&String> = found.iter().filter(|key| !known(key)).collect();
    assert!(strange.is_empty(), "not in the catalogue: {strange:?}");
    // what these runs have no reason to say
    let silent = ["unknown_token_rollouts", "slot_use", "guesses_accepted"];
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| !found.contains(*name) && !name.contains("NAME") && !silent.contains(&name.as_str()))
        .collect();
    assert!(missing.is_empty(), "in the catalogue only: {missing:?}");
}

#[test]
fn a_number_is_explained_and_a_wrong_name_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let text = succeed(folder.path(), &["metrics", "mismatch_kl"]);
    assert!(
        text.contains("mismatch_kl [nats]") && text.contains("k3 estimate") && !text.contains("entropy"),
        "{text}"
    );
    assert!(succeed(folder.path(), &["metrics", "reward_math_no_answer"]).contains("reward_NAME_no_answer"));
    let error = fail(folder.path(), &["metrics", "entrpy"], 2);
    assert!(error.contains("there is no number `entrpy`") && error.contains("entropy"), "{error}");
}
