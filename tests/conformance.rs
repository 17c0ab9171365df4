//! Every method runs, saves and resumes alike.

use std::path::Path;

use crate::{fail, metrics, succeed};

const SMALL: &[&str] = &[
    "rl.steps=3",
    "rl.prompts_per_step=8",
    "rl.group_size=4",
    "rl.schedule.warmup=1",
    "eval.prompts=6",
    "eval.every=3",
    "save.every=1",
    "save.keep=9",
];

fn train(recipe: &str, out: &str, sets: &[&str]) -> Vec<String> {
    let mut arguments = vec!["train".to_owned(), recipe.into(), "--out".into(), out.into()];
    for set in sets {
        arguments.extend(["--set".to_owned(), (*set).to_owned()]);
    }
    arguments
}

fn run(folder: &Path, arguments: &[String]) -> String {
    succeed(folder, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn presets(folder: &Path) -> Vec<String> {
    let list = succeed(folder, &["presets"]);
    // what is said of a preset goes on in lines that are indented
    let named = list.lines().filter(|line| line.starts_with(|first: char| !first.is_whitespace()));
    named.map(|line| line.split_whitespace().next().expect("a name").to_owned()).collect()
}

/// Goes on from an earlier checkpoint, and compares what came out with the whole run.
fn resumes_alike(folder: &Path, run: &str, keep: &str, last: &str) {
    let bytes = |place: &str| std::fs::read(folder.join(run).join("checkpoints").join(place)).expect(place);
    let (whole, state) =
        (bytes(&format!("{last}/trainer.safetensors")), bytes(&format!("{last}/state.json")));
    let before = metrics(&folder.join(run));
    for entry in std::fs::read_dir(folder.join(run).join("checkpoints")).expect("listed") {
        let path = entry.expect("entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        if path.is_dir() && name.as_str() > keep {
            std::fs::remove_dir_all(&path).expect("removed");
        }
    }
    std::fs::write(folder.join(run).join("checkpoints/latest"), keep).expect("written");
    succeed(folder, &["train", "--resume", run]);
    assert_eq!(before, metrics(&folder.join(run)), "{run}: metrics differ");
    assert!(whole == bytes(&format!("{last}/trainer.safetensors")), "{run}: weights or moments differ");
    assert!(state == bytes(&format!("{last}/state.json")), "{run}: the ledger differs");
}

#[test]
fn every_preset_trains_and_goes_on_bit_for_bit() {
    let folder = tempfile::tempdir().expect("folder");
    let names = presets(folder.path());
    assert!(names.len() >= 16, "{names:?}");
    for name in names {
        let recipe = format!("tiny-{}", name.replace('_', "-"));
        let sets: Vec<&str> = SMALL.iter().copied().chain(["rl.steps=2"]).collect();
        run(folder.path(), &train(&recipe, &name, &sets));
        let lines = metrics(&folder.path().join(&name));
        let last = lines.last().expect("a step");
        for key in ["loss", "grad_norm", "entropy", "learning_rate"] {
            assert!(last[key].as_f64().expect(key).is_finite(), "{name}: {key} is {}", last[key]);
        }
        assert!(lines.iter().any(|line| line["grad_norm"].as_f64() > Some(0.0)), "{name}: no gradient");
        resumes_alike(folder.path(), &name, "step-000001", "step-000002");
    }
}

#[test]
fn presets_are_shown_and_a_wrong_one_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let text = succeed(folder.path(), &["presets", "dapo"]);
    assert!(text.contains("clip_high = 0.28") && text.contains("arXiv:2503.14476"), "{text}");
    assert!(fail(folder.path(), &["presets", "dappo"], 2).contains("did you mean `dapo`?"));
    let error = fail(folder.path(), &["check", "tiny", "--set", "rl.preset=drgrpo"], 2);
    assert!(
        error.contains("preset `drgrpo` is not known") && error.contains("did you mean `dr_grpo`?"),
        "{error}"
    );
    // what a preset comes to is all there
    let plan = succeed(folder.path(), &["check", "tiny-dr-grpo", "--no-time"]);
    assert!(plan.contains("tokens = 12") && !plan.contains("preset"), "{plan}");
    let error = fail(folder.path(), &["check", "tiny-oblr", "--set", "rl.aggregate=sequence_mean"], 2);
    assert!(error.contains("E[∇ ln π / length] is not 0"), "{error}");
    let error = fail(folder.path(), &["check", "tiny-oblr", "--set", "rl.ledger.chunks=1"], 2);
    assert!(error.contains("at least 2 chunks"), "{error}");
}

#[test]
fn signal_and_noise_are_in_the_metrics_and_move_the_learning_rate() {
    let folder = tempfile::tempdir().expect("folder");
    let sets = [
        "rl.steps=5",
        "rl.schedule.snr.warmup=2",
        "rl.ledger.correlations=2",
        "rl.baseline.optimal.shrink=2.0",
    ];
    let sets: Vec<&str> = SMALL.iter().filter(|s| !s.starts_with("rl.steps")).copied().chain(sets).collect();
    run(folder.path(), &train("tiny-oblr", "oblr", &sets));
    let lines = metrics(&folder.path().join("oblr"));
    let steps: Vec<_> = lines.iter().filter(|line| line["step"].as_u64() > Some(0)).collect();
    for line in &steps {
        let number = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("{key} in {line}"));
        assert!(number("gradient_noise") >= 0.0 && number("snr") >= 0.0);
        let factor = number("snr_factor");
        assert!((0.1..=1.0).contains(&factor));
        if line["step"].as_u64() > Some(2) {
            let snr = number("snr");
            assert!((factor - (snr / (1.0 + snr)).clamp(0.1, 1.0)).abs() < 1e-6, "{line}");
        } else {
            assert_eq!(factor, 1.0);
        }
    }
    assert!(steps[0]["rank_correlation_logit"].is_number() && steps[1]["rank_correlation_logit"].is_null());
}

#[test]
fn dynamic_sampling_goes_on_until_groups_differ_and_is_bounded() {
    let folder = tempfile::tempdir().expect("folder");
    run(folder.path(), &train("tiny-dapo", "dapo", SMALL));
    for line in metrics(&folder.path().join("dapo")).iter().skip(1) {
        assert_eq!(
            (line["groups"].as_u64(), line["zero_variance_groups"].as_u64()),
            (Some(8), Some(0)),
            "{line}"
        );
        assert!((1..=10).contains(&line["sampling_rounds"].as_u64().expect("rounds")));
    }
    // nothing earns anything: after the last round the step has no groups, and leaves the weights as they were
    let mut sets = SMALL.to_vec();
    sets.extend(["rl.sampling.max_tokens=1", "rl.dynamic_sampling.max_rounds=2", "rl.steps=1"]);
    run(folder.path(), &train("tiny-dapo", "none", &sets));
    let lines = metrics(&folder.path().join("none"));
    let last = lines.last().expect("a step");
    assert_eq!((last["groups"].as_u64(), last["grad_norm"].as_f64()), (Some(0), Some(0.0)), "{last}");
}

/// The rollouts of a run's step as they were saved.
fn rollouts(run: &Path, step: u64) -> Vec<serde_json::Value> {
    let bytes = std::fs::read(run.join(format!("rollouts/step-{step:06}.jsonl.zst"))).expect("rollouts");
    let text = String::from_utf8(zstd::decode_all(bytes.as_slice()).expect("zstd")).expect("text");
    text.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["rollout"].clone())
        .collect()
}

#[test]
fn a_prompt_that_a_step_draws_again_is_another_group_of_other_rollouts() {
    let folder = tempfile::tempdir().expect("folder");
    let few = ["data.arithmetic.count=3", "rl.baseline=leave_one_out"];
    let sets: Vec<&str> = SMALL.iter().chain(&few).copied().collect();
    run(folder.path(), &train("tiny", "few", &sets));
    let all = rollouts(&folder.path().join("few"), 1);
    assert_eq!(all.len(), 8 * 4);
    let key = |r: &serde_json::Value| {
        (
            r["prompt"]["id"].to_string(),
            r["occurrence"].as_u64().unwrap_or(0),
            r["place"].as_u64().expect("place"),
        )
    };
    let keys: std::collections::BTreeSet<_> = all.iter().map(key).collect();
    assert_eq!(keys.len(), all.len(), "{keys:?}");
    let occurrences: Vec<u64> = all.chunks(4).map(|group| key(&group[0]).1).collect();
    assert_eq!(occurrences, [0, 0, 0, 1, 1, 1, 2, 2]);
    assert_eq!(metrics(&folder.path().join("few"))[1]["groups"], 8);
    let drawn = |group: &[serde_json::Value]| -> Vec<String> {
        group.iter().map(|r| r["log_probs"].to_string()).collect()
    };
    let again = all.chunks(4).filter(|group| key(&group[0]).1 > 0).filter(|group| {
        let first = all.chunks(4).find(|first| first[0]["prompt"]["id"] == group[0]["prompt"]["id"]);
        drawn(first.expect("it was drawn before")) != drawn(group)
    });
    assert!(again.count() > 0, "drawn again, and not copied");

    // those of the first occurrence are what they are where no prompt comes again
    let once: Vec<&str> = sets.iter().filter(|set| !set.starts_with("rl.prompts")).copied().collect();
    run(folder.path(), &train("tiny", "once", &[&once[..], &["rl.prompts_per_step=3"]].concat()));
    assert_eq!(rollouts(&folder.path().join("once"), 1), all[..12]);
    resumes_alike(folder.path(), "few", "step-000001", "step-000003");
}

#[test]
fn dynamic_sampling_may_draw_a_prompt_again() {
    let folder = tempfile::tempdir().expect("folder");
    let sets: Vec<&str> = SMALL.iter().chain(&["data.arithmetic.count=6"]).copied().collect();
    run(folder.path(), &train("tiny-dapo", "dapo", &sets));
    for line in metrics(&folder.path().join("dapo")).iter().skip(1) {
        assert_eq!(
            (line["groups"].as_u64(), line["zero_variance_groups"].as_u64()),
            (Some(8), Some(0)),
            "{line}"
        );
    }
}

#[test]
fn a_group_of_one_trains_where_nothing_is_compared_within_it() {
    let folder = tempfile::tempdir().expect("folder");
    for preset in ["remax", "reinforce", "reinforce_pp"] {
        let sets: Vec<&str> = SMALL.iter().filter(|set| !set.starts_with("rl.group")).copied().collect();
        let recipe = format!("tiny-{}", preset.replace('_', "-"));
        run(folder.path(), &train(&recipe, preset, &[&sets[..], &["rl.group_size=1"]].concat()));
        let lines = metrics(&folder.path().join(preset));
        assert!(lines.iter().any(|line| line["grad_norm"].as_f64() > Some(0.0)), "{preset}: no gradient");
        resumes_alike(folder.path(), preset, "step-000001", "step-000003");
    }
    let error = fail(folder.path(), &["check", "tiny", "--set", "rl.group_size=1"], 2);
    assert!(
        error.contains("a group needs at least 2 rollouts to compare, not 1") && error.contains("group_mean"),
        "{error}"
    );
}

#[test]
fn a_learning_rate_reaches_its_end_though_steps_had_fewer_groups_than_mini_batches() {
    let folder = tempfile::tempdir().expect("folder");
    // nothing earns anything, so that every step is left without a group
    let sets = [
        "rl.sampling.max_tokens=1",
        "rl.dynamic_sampling.max_rounds=1",
        "rl.schedule.shape=linear",
        "rl.schedule.warmup=0",
    ];
    let sets: Vec<&str> =
        SMALL.iter().filter(|set| !set.starts_with("rl.schedule")).chain(&sets).copied().collect();
    run(folder.path(), &train("tiny-dapo", "short", &sets));
    let rates: Vec<f64> = metrics(&folder.path().join("short"))
        .iter()
        .filter_map(|line| line["learning_rate"].as_f64())
        .collect();
    // of 3 steps of 8 updates, each step makes its first
    let peak = rates[0];
    for (rate, share) in rates.iter().zip([24.0, 16.0, 8.0]) {
        assert!((rate / peak - share / 24.0).abs() < 1e-9, "{rates:?}");
    }
    resumes_alike(folder.path(), "short", "step-000001", "step-000003");
}

#[test]
fn what_reshapes_the_distribution_is_warned_of_corrected_and_measured() {
    let folder = tempfile::tempdir().expect("folder");
    let top_p = "rl.sampling.top_p=0.8";
    let told = succeed(folder.path(), &["check", "tiny", "--no-time", "--set", top_p]);
    assert!(told.contains("warning   [rl] sampling.top_p draws tokens from another distribution"), "{told}");
    let json = succeed(
        folder.path(),
        &["check", "tiny", "--no-time", "--json", "--set", top_p, "--set", "rl.correction={}"],
    );
    let plan: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(!plan["warnings"].to_string().contains("top_p"), "{plan}");
    let sets: Vec<&str> = SMALL.iter().chain(&[top_p, "rl.correction={}"]).copied().collect();
    run(folder.path(), &train("tiny", "corrected", &sets));
    for line in &metrics(&folder.path().join("corrected"))[1..] {
        let number = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("{key} in {line}"));
        // tokens that are kept gain probability when the others go: π/π_sampled is at most 1
        assert!(number("mismatch_kl") > 0.0 && number("mismatch_max") > 0.0, "{line}");
        assert!(
            number("correction_max") < 1.0 + 1e-4 && number("correction_effective_share") < 1.0,
            "{line}"
        );
    }
}

#[test]
fn branches_with_and_without_a_trace_are_mixed_saved_and_resumed() {
    let folder = tempfile::tempdir().expect("folder");
    let common = [
        "sft.steps=12",
        "sft.batch_size=16",
        "eval.prompts=6",
        "eval.every=50",
        "save.every=1",
        "save.keep=50",
    ];
    // digits that the model knows, so that rewards differ
    let easy = ["data.arithmetic.digits=1", "data.arithmetic.min_digits=1", "data.arithmetic.count=80"];
    let sets: Vec<&str> = common.iter().chain(&easy).copied().collect();
    let rl = ["rl.steps=3", "rl.prompts_per_step=8", "rl.group_size=4", "rl.mixture.warmup=0"];
    let with: Vec<&str> = sets.iter().chain(&rl).copied().collect();
    run(folder.path(), &train("tiny-think", "think", &with));
    let lines = metrics(&folder.path().join("think"));
    let last = lines.last().expect("a step");
    for key in ["alpha", "reward_mean_thinking", "reward_mean_empty", "variance_mixed"] {
        assert!(last[key].is_number(), "{key} in {last}");
    }
    resumes_alike(folder.path(), "think", "step-000001", "step-000003");

    let pairs = [
        "preference.steps=3",
        "preference.pairs_per_step=4",
        "preference.pairs={sample={prompts=40,group_size=8}}",
        "preference.mixture.alpha=\"moment\"",
    ];
    let with: Vec<&str> = sets.iter().chain(&pairs).copied().collect();
    run(folder.path(), &train("tiny-bvpo", "pairs", &with));
    let lines = metrics(&folder.path().join("pairs"));
    let first = lines.iter().find(|line| line["stage"] == "preference" && line["step"] == 1).expect("a step");
    assert!((first["loss"].as_f64().expect("loss") - 2f64.ln()).abs() < 1e-4, "{first}");
    resumes_alike(folder.path(), "pairs", "preference-000001", "preference-000003");
}

#[test]
fn the_laboratory_prints_a_table_json_and_a_picture() {
    let folder = tempfile::tempdir().expect("folder");
    let table = succeed(folder.path(), &["variance", "bandit", "--plot", "bandit.svg"]);
    assert!(table.contains("optimal, full, leave-one-out") && table.contains("best constant"), "{table}");
    assert!(std::fs::read_to_string(folder.path().join("bandit.svg")).expect("svg").starts_with("<svg"));
    let few = ["--prompts", "1", "--groups", "6", "--group-size", "4", "--json"];
    let json = |more: &[&str]| -> serde_json::Value {
        let arguments = [&["variance", "tiny"], &few[..], more].concat();
        serde_json::from_str(&succeed(folder.path(), &arguments)).expect("JSON")
    };
    let exact = json(&[]);
    let rlo = |found: &serde_json::Value| {
        let all = found["findings"]["estimators"].as_array().expect("estimators").clone();
        let one = all.into_iter().find(|e| e["estimator"] == "leave-one-out").expect("leave-one-out");
        one["variance"]["value"].as_f64().expect("a number")
    };
    assert_eq!(exact, json(&[]), "the same draws and the same figures");
    // projections are right on average: here within a quarter
    let ratio = rlo(&json(&["--sketch", "4096"])) / rlo(&exact);
    assert!((0.75..1.33).contains(&ratio), "{ratio}");
    let error = fail(folder.path(), &["variance", "tiny", "--groups", "2"], 2);
    assert!(error.contains("--groups is 2; wanted at least 4"), "{error}");
    assert!(fail(folder.path(), &["variance", "tiny-warmup"], 2).contains("no [rl] stage"));
}

#[test]
fn pairs_from_a_file_are_read_and_bad_ones_named() {
    let folder = tempfile::tempdir().expect("folder");
    let good = "{\"prompt\": \"1+1=\", \"chosen\": \"2\", \"rejected\": \"3\"}\n{\"prompt\": \"2+1=\", \"chosen\": \"<think>3</think>3\", \"rejected\": \"4\", \"thinking\": true}\n";
    let sets = |steps: &str| {
        vec![
            "preference.pairs={jsonl={path=\"pairs.jsonl\"}}".to_owned(),
            format!("preference.steps={steps}"),
            "sft.steps=1".into(),
            "eval.prompts=4".into(),
        ]
    };
    let arguments = |out: &str| {
        let sets = sets("2");
        train("tiny-bvpo", out, &sets.iter().map(String::as_str).collect::<Vec<_>>())
    };
    std::fs::write(folder.path().join("pairs.jsonl"), good).expect("written");
    run(folder.path(), &arguments("good"));
    for (text, wanted) in [
        ("{\"prompt\": \"1+1=\", \"chosen\": \"2\"}\n", "missing field `rejected`"),
        ("{\"prompt\": \"1\", \"chosen\": \"2\", \"rejected\": \"2\"}\n", "chosen and rejected are the same"),
        ("", "holds no pairs"),
    ] {
        std::fs::write(folder.path().join("pairs.jsonl"), text).expect("written");
        let arguments = arguments("bad");
        let error = fail(folder.path(), &arguments.iter().map(String::as_str).collect::<Vec<_>>(), 1);
        assert!(error.contains(wanted), "no {wanted:?} in {error}");
        std::fs::remove_dir_all(folder.path().join("bad")).expect("removed");
    }
}
