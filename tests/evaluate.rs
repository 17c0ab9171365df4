//! `evenkeel eval`, `compare` and `[eval]` of a recipe, from the command line to files.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{evenkeel, fail, metrics, succeed};

/// Answers of the tiny model are short, so an evaluation of some hundred questions takes a second.
const ARITHMETIC: [&str; 4] = ["eval", "tiny", "--bench", "arithmetic"];

pub(crate) fn with<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [first, more].concat()
}

pub(crate) fn json(file: &Path) -> Value {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// `evaluation.json` without what depends on the clock.
fn timeless(folder: &Path) -> Value {
    let mut results = json(&folder.join("evaluation.json"));
    for evaluation in results["evaluations"].as_array_mut().expect("evaluations") {
        evaluation["cost"] = Value::Null;
    }
    results
}

#[test]
fn an_evaluation_leaves_every_sample_and_figures_that_follow_from_them() {
    let folder = tempfile::tempdir().expect("folder");
    let place = folder.path().join("e");
    let more = ["--limit", "120", "-n", "4", "--temperature", "1", "--out", "e"];
    let shown = succeed(folder.path(), &with(&ARITHMETIC, &more));
    let results = json(&place.join("evaluation.json"));
    let evaluation = &results["evaluations"][0];
    let summary = &evaluation["summary"];
    assert_eq!((summary["questions"].as_u64(), summary["samples"].as_u64()), (Some(120), Some(480)));
    let text = std::fs::read_to_string(place.join("samples/tiny/arithmetic.jsonl")).expect("samples");
    let samples: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let right = samples.iter().filter(|s| s["score"]["parts"][0]["value"].as_f64() == Some(1.0)).count();
    let accuracy = summary["accuracy"]["value"].as_f64().expect("accuracy");
    assert!((accuracy - right as f64 / 480.0).abs() < 1e-12, "{accuracy} of {right} in 480");
    // what a third of the answers are: see the README
    assert!((0.15..0.55).contains(&accuracy), "{accuracy}");
    let pass = |k: usize| summary["pass_at"][k]["value"].as_f64().expect("pass@k");
    assert!((pass(0) - accuracy).abs() < 1e-12 && pass(0) < pass(1) && pass(1) < pass(2));
    assert!(shown.contains("tiny") && shown.contains("arithmetic"), "{shown}");
    for file in ["report.html", "report.md"] {
        assert!(place.join(file).is_file(), "{file}");
    }
    // as lm-evaluation-harness finds them: by the date behind the last underscore, the same for both
    let files: Vec<String> = files_below(&place.join("lm_eval/tiny")).into_keys().collect();
    let [results, samples] = files.as_slice() else { panic!("{files:?}") };
    let date = results.strip_prefix("results_").and_then(|rest| rest.strip_suffix(".json")).expect(results);
    assert_eq!(*samples, format!("samples_arithmetic_{date}.jsonl"));
    let harness = json(&place.join("lm_eval/tiny").join(results));
    assert_eq!(harness["results"]["arithmetic"]["exact_match,none"].as_f64(), Some(accuracy));
    assert_eq!(harness["n-samples"]["arithmetic"]["effective"], 120);
    assert_eq!(harness["configs"]["arithmetic"]["metric_list"][0]["metric"], "exact_match");
    assert_eq!(harness["task_hashes"]["arithmetic"].as_str().map(str::len), Some(64));
    let text = std::fs::read_to_string(place.join("lm_eval/tiny").join(samples)).expect("samples");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mean = lines.iter().filter_map(|line| line["exact_match"].as_f64()).sum::<f64>() / 120.0;
    assert!((mean - accuracy).abs() < 1e-12, "{mean}");
    let asked = lines[0]["arguments"]["gen_args_0"]["arg_0"].as_str().expect("a prompt");
    assert!(asked.contains(lines[0]["doc"]["question"].as_str().expect("a question")), "{asked}");
}

/// The contents of all files below a folder, by name.
fn files_below(folder: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below").to_string_lossy().into_owned();
                found.insert(name, std::fs::read(&path).expect("a file"));
            }
        }
    }
    found
}

#[test]
fn going_on_with_a_finished_evaluation_changes_no_byte() {
    let folder = tempfile::tempdir().expect("folder");
    let call = ["eval", "tiny", "again=tiny", "-b", "arithmetic", "--limit", "37", "--temperature", "1"];
    for (out, more) in [("each", ["-n", "3"]), ("adapted", ["--adaptive", "0.03"])] {
        succeed(folder.path(), &with(&with(&call, &more), &["--out", out]));
        let before = files_below(&folder.path().join(out));
        succeed(folder.path(), &["eval", "--resume", out]);
        let after = files_below(&folder.path().join(out));
        let changed: Vec<&String> =
            before.keys().filter(|name| after.get(*name) != before.get(*name)).collect();
        assert!(changed.is_empty() && before.len() == after.len(), "{out}: {changed:?}");
    }
}

#[test]
fn votes_are_counted_as_another_program_does_if_asked() {
    let folder = tempfile::tempdir().expect("folder");
    let more = ["--limit", "40", "-n", "8", "--temperature", "1"];
    let mut found = Vec::new();
    for rule in ["unbiased", "lighteval", "qwen", "verl"] {
        succeed(folder.path(), &with(&with(&ARITHMETIC, &more), &["--at-k", rule, "--out", rule]));
        let evaluation = json(&folder.path().join(rule).join("evaluation.json"))["evaluations"][0].clone();
        let last = |name: &str| evaluation["summary"][name][3]["value"].as_f64().expect("k = 8");
        found.push((evaluation["protocol_hash"].clone(), last("pass_at"), last("majority_at")));
    }
    let [(base, pass, _), (_, lighteval, first), (_, qwen, also), (other, verl, _)] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!((pass, pass, first), (lighteval, qwen, also), "with all samples there is one choice of them");
    assert!(verl < pass, "with putting back: {verl} and {pass}");
    assert_ne!(base, other, "another rule is another protocol");
    let error = fail(folder.path(), &with(&ARITHMETIC, &["--at-k", "trl"]), 2);
    assert!(error.contains("wanted one of unbiased, lighteval, qwen, verl"), "{error}");
}

#[test]
fn the_same_call_gives_the_same_bytes_however_many_rows_are_side_by_side() {
    let folder = tempfile::tempdir().expect("folder");
    let more = ["--limit", "60", "-n", "2", "--temperature", "1"];
    succeed(folder.path(), &with(&with(&ARITHMETIC, &more), &["--out", "a"]));
    succeed(folder.path(), &with(&with(&ARITHMETIC, &more), &["--out", "b", "--rows", "7"]));
    assert_eq!(timeless(&folder.path().join("a")), timeless(&folder.path().join("b")));
    let samples = |name: &str| {
        std::fs::read(folder.path().join(name).join("samples/tiny/arithmetic.jsonl")).expect("samples")
    };
    assert!(samples("a") == samples("b"), "samples differ");
}

#[test]
fn an_evaluation_that_is_killed_goes_on_and_ends_the_same() {
    let folder = tempfile::tempdir().expect("folder");
    let call = ["--adaptive", "0.012", "--temperature", "1", "--rows", "4"];
    succeed(folder.path(), &with(&with(&ARITHMETIC, &call), &["--out", "whole"]));
    let arguments = with(&with(&ARITHMETIC, &call), &["--out", "cut"]);
    let mut child = evenkeel(folder.path())
        .args(&arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let samples = folder.path().join("cut/samples/tiny/arithmetic.jsonl");
    let begun = Instant::now();
    while std::fs::metadata(&samples).map_or(0, |file| file.len()) < 100_000 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no samples came");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(!folder.path().join("cut/evaluation.json").exists(), "killed too late to show anything");
    succeed(folder.path(), &["eval", "--resume", "cut"]);
    assert_eq!(timeless(&folder.path().join("whole")), timeless(&folder.path().join("cut")));
    let cost = &json(&folder.path().join("cut/evaluation.json"))["evaluations"][0]["cost"];
    assert!(cost["samples_before"].as_u64() > Some(0), "{cost}");
}

#[test]
fn an_adapted_number_of_samples_reaches_the_interval_that_was_asked_for() {
    let folder = tempfile::tempdir().expect("folder");
    let more = ["--adaptive", "0.011", "--temperature", "1", "--out", "e"];
    succeed(folder.path(), &with(&ARITHMETIC, &more));
    let evaluation = &json(&folder.path().join("e/evaluation.json"))["evaluations"][0];
    let draws = &evaluation["summary"]["over_draws"];
    assert_eq!(draws["method"], "adaptive");
    let width =
        draws["interval"]["high"].as_f64().expect("high") - draws["interval"]["low"].as_f64().expect("low");
    assert!(width <= 2.0 * 0.011 + 1e-9, "{draws}");
    let accuracy = evaluation["summary"]["accuracy"]["value"].as_f64().expect("accuracy");
    assert!((accuracy - draws["value"].as_f64().expect("value")).abs() < 1e-9, "both are the same mean");
    let counts = evaluation["questions"].as_array().expect("questions").iter();
    let counts: Vec<usize> = counts.map(|q| q["samples"].as_array().map_or(0, Vec::len)).collect();
    let (least, most) = (counts.iter().min().expect("counts"), counts.iter().max().expect("counts"));
    assert!(*least >= 8 && *most > 8 && *most < 256, "from {least} to {most} samples a question");
}

#[test]
fn questions_can_be_labelled_by_how_hard_they_are_each_as_surely_as_was_asked_for() {
    let folder = tempfile::tempdir().expect("folder");
    let more = ["--limit", "40", "--adaptive-each", "0.15", "--temperature", "1", "--out", "e"];
    succeed(folder.path(), &with(&ARITHMETIC, &more));
    let evaluation = &json(&folder.path().join("e/evaluation.json"))["evaluations"][0];
    let mut counts = Vec::new();
    for question in evaluation["questions"].as_array().expect("questions") {
        let samples = question["samples"].as_array().expect("samples");
        let right = samples.iter().filter(|sample| sample["right"] == true).count() as f64;
        let (low, high) = (&question["interval"]["low"], &question["interval"]["high"]);
        let (low, high) = (low.as_f64().expect("low"), high.as_f64().expect("high"));
        let share = right / samples.len() as f64;
        assert!(low <= share && share <= high, "{share} is not in [{low}, {high}]");
        assert!(high - low <= 2.0 * 0.151, "[{low}, {high}] by {} samples", samples.len());
        counts.push(samples.len());
    }
    assert!(counts.iter().min() < counts.iter().max(), "{counts:?}");
    let error = fail(folder.path(), &with(&ARITHMETIC, &["--adaptive", "0.1", "--adaptive-each", "0.1"]), 2);
    assert!(error.contains("--adaptive-each"), "{error}");
}

#[test]
fn a_run_keeps_its_best_checkpoint_and_what_every_held_out_question_came_to() {
    let folder = tempfile::tempdir().expect("folder");
    let mut call = vec!["train", "tiny", "--out", "run"];
    // after step 4 the learning rate is so high that the policy falls apart
    for set in [
        "rl.steps=12",
        "rl.schedule.learning_rate=0.003",
        "eval.every=2",
        "eval.prompts=80",
        "eval.samples=2",
        "save.every=12",
        "save.keep=1",
        "save.best=eval_accuracy",
    ] {
        call.extend(["--set", set]);
    }
    succeed(folder.path(), &call);
    let run = folder.path().join("run");
    let lines = metrics(&run);
    let measured: Vec<(u64, f64)> = lines
        .iter()
        .filter(|line| line["step"].as_u64() > Some(0))
        .filter_map(|line| Some((line["step"].as_u64()?, line["eval_accuracy"].as_f64()?)))
        .collect();
    let best = json(&run.join("checkpoints/best.json"));
    let most = measured.iter().map(|(_, accuracy)| *accuracy).fold(0.0, f64::max);
    let first = measured.iter().find(|(_, accuracy)| *accuracy == most).expect("measured").0;
    assert_eq!(
        (best["value"].as_f64(), best["checkpoint"].as_str()),
        (Some(most), Some(format!("step-{first:06}").as_str()))
    );
    assert!(run.join("checkpoints").join(format!("step-{first:06}")).join("model.safetensors").is_file());
    let evaluation = json(&run.join("evaluations/rl-000012.json"));
    assert_eq!(evaluation["summary"]["samples"], 160);
    let last = lines.last().expect("lines");
    assert_eq!(evaluation["summary"]["accuracy"]["value"], last["eval_accuracy"]);
    assert_eq!(last["eval"]["questions"], 80);
    assert!(run.join("evaluations/rl-000012.jsonl.zst").is_file());
    // the draws are the same at every step: a policy that does not change answers the same
    let mut still = vec!["train", "tiny", "--out", "still"];
    for set in
        ["rl.steps=4", "rl.schedule.learning_rate=1e-12", "eval.every=2", "eval.prompts=40", "eval.samples=3"]
    {
        still.extend(["--set", set]);
    }
    succeed(folder.path(), &still);
    let questions = |step: &str| {
        json(&folder.path().join(format!("still/evaluations/rl-{step}.json")))["questions"].clone()
    };
    assert_eq!(questions("000000"), questions("000004"));
}

#[test]
fn bad_input_is_named_before_anything_is_sampled() {
    let folder = tempfile::tempdir().expect("folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    let fails = |more: &[&str], wanted: &[&str]| {
        let error = fail(folder.path(), &with(&["eval", "tiny"], more), 2);
        for text in wanted {
            assert!(error.contains(text), "{more:?}: no {text:?} in {error}");
        }
    };
    fails(&["-b", "gsm9k"], &["there is no benchmark `gsm9k`", "did you mean `gsm8k`?"]);
    fails(&["-b", "arithmetic", "-n", "4"], &["temperature is 0", "samples = 1"]);
    fails(&["-b", "arithmetic", "-n", "0"], &["samples"]);
    fails(&["-b", "arithmetic,arithmetic"], &["benchmark `arithmetic` is there twice"]);
    fails(&["-b", "arithmetic", "--few-shot", "3"], &["--few-shot is 3", "has 0 worked examples"]);
    fails(&["-b", "arithmetic", "--adaptive", "0.7", "--temperature", "1"], &["adaptive.half_width is 0.7"]);
    fails(
        &["-b", "arithmetic", "--set", "sampling.max_tokns=3"],
        &["max_tokns", "did you mean `max_tokens`?"],
    );
    fails(&["tiny", "-b", "arithmetic"], &["model `tiny` is there twice", "NAME=PATH"]);
    fails(&["-b", "arithmetic", "--replicas"], &["at least two models"]);
    let error = fail(folder.path(), &["eval", "nowhere", "-b", "arithmetic"], 1);
    assert!(error.contains("nowhere"), "{error}");
    let error = fail(folder.path(), &["eval", "tiny", "-b", "math", "--data", "."], 2);
    assert!(error.contains("there is no `./math/test.jsonl`"), "{error}");

    let recipe =
        "[data.jsonl]\npath = \"q.jsonl\"\n[rewards.math]\n[sampling]\nmax_tokens = 8\ntemperature = 0.0\n";
    write("mine.toml", recipe);
    let error = fail(folder.path(), &["eval", "tiny", "-b", "mine.toml"], 1);
    assert!(error.contains("benchmark `mine`") && error.contains("q.jsonl"), "{error}");
    write("q.jsonl", "{\"question\": \"1+1=\", \"answer\": \"2\"}\n{\"question\": \"2+2=\", \"ans");
    let error = fail(folder.path(), &["eval", "tiny", "-b", "mine.toml"], 1);
    assert!(error.contains("line 2"), "{error}");
    write("q.jsonl", "{\"question\": \"1+1=\", \"result\": \"2\"}\n");
    let error = fail(folder.path(), &["eval", "tiny", "-b", "mine.toml"], 1);
    assert!(error.contains("`answer`") && error.contains("line 1"), "{error}");
    assert!(!folder.path().join("evals").exists(), "nothing was begun");
}

#[test]
fn what_is_wrong_with_questions_is_listed_and_never_hidden() {
    let folder = tempfile::tempdir().expect("folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write(
        "mine.toml",
        "[data.jsonl]\npath = \"q.jsonl\"\n[rewards.math]\n[sampling]\nmax_tokens = 8\ntemperature = 0.0\n",
    );
    let long = "1+".repeat(40_000);
    let rows = [
        "{\"id\": \"plain\", \"question\": \"1+1=\", \"answer\": \"2\", \"level\": 1}".to_owned(),
        "{\"id\": \"twin\", \"question\": \"1+1=\", \"answer\": \"2\", \"level\": 1}".to_owned(),
        "{\"id\": \"broken\", \"question\": \"2+2=\", \"answer\": \"\\\\frac{1}{\", \"level\": 2}".to_owned(),
        "{\"id\": \"blank\", \"question\": \"3+3=\", \"answer\": \"\", \"level\": 2}".to_owned(),
        format!("{{\"id\": \"long\", \"question\": \"{long}\", \"answer\": \"2\", \"level\": 3}}"),
    ];
    write("q.jsonl", &rows.join("\n"));
    succeed(folder.path(), &["eval", "tiny", "-b", "mine.toml", "--out", "e"]);
    let evaluation = &json(&folder.path().join("e/evaluation.json"))["evaluations"][0];
    let problems = &evaluation["problems"];
    assert_eq!(problems["duplicates"][0], serde_json::json!(["plain", "twin"]));
    assert_eq!(problems["unreadable"][0][0], "broken");
    assert_eq!(problems["unanswered"][0], "blank");
    let summary = &evaluation["summary"];
    assert_eq!(
        (&summary["questions"], &summary["skipped"], &summary["absent"]),
        (&5.into(), &1.into(), &1.into())
    );
    let skipped = evaluation["questions"][4]["skipped"].as_str().expect("why");
    assert!(skipped.contains("tokens") && skipped.contains("context"), "{skipped}");
    let report = std::fs::read_to_string(folder.path().join("e/report.md")).expect("report");
    for id in ["twin", "broken", "blank"] {
        assert!(report.contains(id), "{id} is not in the report");
    }
}

/// The first of these programs that is in PATH.
fn installed<'a>(programs: &[&'a str]) -> Option<&'a str> {
    let folders: Vec<_> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    programs.iter().copied().find(|program| folders.iter().any(|folder| folder.join(program).is_file()))
}

#[test]
fn the_page_works_in_a_browser_where_there_is_one() {
    if installed(&["chromium", "chromium-browser", "google-chrome"]).is_none()
        || installed(&["python3"]).is_none()
    {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    let call = [
        "eval",
        "tiny",
        "b=tiny",
        "-b",
        "arithmetic",
        "--limit",
        "40",
        "-n",
        "4",
        "--temperature",
        "1",
        "--out",
        "e",
    ];
    succeed(folder.path(), &call);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/page.py");
    let output = std::process::Command::new("python3")
        .arg(script)
        .arg(folder.path().join("e/report.html"))
        .output()
        .expect("python3 starts");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // 77: the browser is there and does not start
    assert!(matches!(output.status.code(), Some(0 | 77)), "{said}");
}

#[test]
fn the_benchmarks_are_listed_and_one_is_a_recipe_to_start_from() {
    let folder = tempfile::tempdir().expect("folder");
    let list = succeed(folder.path(), &["benchmarks"]);
    for name in ["gsm8k", "math500", "aime24", "aime25", "minerva_math", "olympiadbench", "countdown"] {
        assert!(list.contains(name), "{name} is not in {list}");
    }
    let recipe = succeed(folder.path(), &["benchmarks", "arithmetic"]);
    std::fs::write(folder.path().join("mine.toml"), recipe).expect("written");
    let mine = ["eval", "tiny", "-b", "mine.toml", "--limit", "40", "--out", "mine", "--json"];
    let named = ["eval", "tiny", "-b", "arithmetic", "--limit", "40", "--out", "named", "--json"];
    let hash = |call: &[&str]| {
        let results: Value = serde_json::from_str(&succeed(folder.path(), call)).expect("JSON");
        results["evaluations"][0]["protocol_hash"].clone()
    };
    assert_eq!(hash(&mine), hash(&named), "the printed recipe is the benchmark");
}
