//! Rewards of the user's own, from recipe to run folder, and the command that shows what they say.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{fail, metrics, run, succeed};

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(file)
}

/// Arguments for a short run of `tiny` whose only reward is this.
fn arguments(out: &str, reward: &str) -> Vec<String> {
    let mut all = vec!["train".to_owned(), "tiny".into(), "--out".into(), out.into()];
    let reward = format!("rewards={reward}");
    let sets = [
        "rl.steps=3",
        "rl.prompts_per_step=4",
        "rl.group_size=4",
        "eval.every=3",
        "eval.prompts=8",
        "save.every=1",
    ];
    for set in sets.into_iter().chain([reward.as_str()]) {
        all.extend(["--set".into(), set.into()]);
    }
    all
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// Whole metrics but for the keys that have the reward's name in them.
fn nameless(run: &Path) -> Vec<Value> {
    let mut lines = metrics(run);
    for line in &mut lines {
        let object = line.as_object_mut().expect("object");
        object.retain(|key, _| !["exact_match", "mine"].iter().any(|name| key.contains(name)));
    }
    lines
}

const EXACT: &str = "def reward_func(completions, answer, **kwargs):\n    return [float(c.strip() == a) for c, a in zip(completions, answer)]\n";

#[test]
fn a_function_written_for_trl_or_verl_trains_as_the_built_in_reward_does() {
    let folder = tempfile::tempdir().expect("folder");
    succeed(folder.path(), &borrowed(&arguments("built-in", "{ exact_match = {} }")));
    let wanted = nameless(&folder.path().join("built-in"));
    assert_eq!(wanted.len(), 1 + 3);
    let verl = "def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n    return float(solution_str.strip() == ground_truth)\n";
    for (name, text) in [("trl", EXACT), ("verl", verl)] {
        let file = folder.path().join(format!("{name}.py"));
        std::fs::write(&file, text).expect("written");
        let reward = format!("{{ python = {{ mine = {{ file = \"{}\" }} }} }}", file.display());
        succeed(folder.path(), &borrowed(&arguments(name, &reward)));
        assert_eq!(nameless(&folder.path().join(name)), wanted, "{name}");
    }
    for file in ["trl_reward.py", "verl_reward.py"] {
        let reward = format!("{{ python = {{ mine = {{ file = \"{}\" }} }} }}", example(file).display());
        succeed(folder.path(), &borrowed(&arguments(file, &reward)));
    }
    // the two examples judge alike
    assert_eq!(metrics(&folder.path().join("trl_reward.py")), metrics(&folder.path().join("verl_reward.py")));
}

#[test]
fn a_function_that_cannot_start_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("broken.py"), "def reward(sample:\n    return 1\n").expect("written");
    let reward = "{ python = { mine = { file = \"broken.py\" } } }";
    let error = fail(folder.path(), &borrowed(&arguments("run", reward)), 1);
    assert!(error.contains("[rewards.python.mine]") && error.contains("SyntaxError"), "{error}");
    assert!(!folder.path().join("run").exists());
    let error = fail(folder.path(), &borrowed(&arguments("run", "{ math = { tolerence = 0.1 } }")), 2);
    assert!(error.contains("did you mean `tolerance`?"), "{error}");
    let error = fail(folder.path(), &borrowed(&arguments("run", "{ math = { weihgt = 0.1 } }")), 2);
    assert!(error.contains("did you mean `weight`?"), "{error}");
    let error = fail(folder.path(), &borrowed(&arguments("run", "{ math = { tolerance = 2.0 } }")), 2);
    assert!(error.contains("[rewards.math]: tolerance is 2, wanted a number in 0..1"), "{error}");
    let error = fail(folder.path(), &borrowed(&arguments("run", "{ clip = [1.0, 0.0], math = {} }")), 2);
    assert!(error.contains("[rewards]: clip is [1, 0]"), "{error}");
}

#[test]
fn a_function_that_hangs_ends_the_run_in_time_and_the_run_goes_on_when_it_is_mended() {
    let folder = tempfile::tempdir().expect("folder");
    let text = format!(
        "import os, time\n{EXACT}inner = reward_func\ndef reward_func(completions, answer, **kwargs):\n    if os.path.exists('hang'): time.sleep(1000)\n    return inner(completions, answer)\n"
    );
    std::fs::write(folder.path().join("mine.py"), text).expect("written");
    let reward = "{ python = { mine = { file = \"mine.py\", function = \"reward_func\", deadline = 1.0, workers = 2 } } }";
    succeed(folder.path(), &borrowed(&arguments("undisturbed", reward)));
    // hangs from the second step on: the first one's checkpoint is there
    let first: Vec<String> =
        arguments("run", reward).into_iter().map(|a| a.replace("rl.steps=3", "rl.steps=1")).collect();
    succeed(folder.path(), &borrowed(&first));
    let recipe = folder.path().join("run/recipe.toml");
    let resolved = std::fs::read_to_string(&recipe).expect("recipe").replace("steps = 1\n", "steps = 3\n");
    std::fs::write(&recipe, resolved).expect("written");
    std::fs::write(folder.path().join("hang"), "").expect("written");
    let begun = Instant::now();
    let error = fail(folder.path(), &["train", "--resume", "run"], 1);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?} with a deadline of 1 s", begun.elapsed());
    for wanted in ["rl step 2 failed", "checkpoints/step-000001", "reward `mine` does not answer", "1 s"] {
        assert!(error.contains(wanted), "no {wanted:?} in {error}");
    }
    std::fs::remove_file(folder.path().join("hang")).expect("removed");
    succeed(folder.path(), &["train", "--resume", "run"]);
    let steps = |run: &str| -> Vec<Value> {
        let lines = metrics(&folder.path().join(run)).into_iter();
        // the run of one step was measured after it, the other one was not
        lines
            .filter(|line| line["step"] != 0)
            .map(|mut line| {
                line.as_object_mut()
                    .expect("object")
                    .retain(|key, _| !key.starts_with("eval") && key != "learning_rate");
                line
            })
            .collect()
    };
    assert_eq!(steps("run"), steps("undisturbed"));
}

#[test]
fn too_many_failures_stop_the_run_with_the_first_traceback_and_few_are_counted() {
    let folder = tempfile::tempdir().expect("folder");
    let text = "def reward(sample):\n    print('judging', sample.id)\n    if len(sample.completion) % 2:\n        raise ValueError('an odd one')\n    return 1.0\n";
    std::fs::write(folder.path().join("mine.py"), text).expect("written");
    let reward = |bound: f32| {
        format!(
            "{{ max_failures = {bound}, exact_match = {{ weight = 0.5 }}, python = {{ mine = {{ file = \"mine.py\" }} }} }}"
        )
    };
    let error = fail(folder.path(), &borrowed(&arguments("strict", &reward(0.05))), 1);
    for wanted in
        ["reward `mine` failed for", "wanted a share of at most 0.05", "ValueError: an odd one", "line 4"]
    {
        assert!(error.contains(wanted), "no {wanted:?} in {error}");
    }
    succeed(folder.path(), &borrowed(&arguments("lenient", &reward(1.0))));
    let run = folder.path().join("lenient");
    let failed: u64 = metrics(&run).iter().filter_map(|line| line["reward_mine_failed"].as_u64()).sum();
    let absent: u64 = metrics(&run).iter().filter_map(|line| line["absent_rewards"].as_u64()).sum();
    assert!(failed > 0 && failed == absent, "{failed} {absent}");
    let examples = std::fs::read_to_string(run.join("unjudged.jsonl")).expect("examples");
    let example: Value = serde_json::from_str(examples.lines().next().expect("an example")).expect("JSON");
    assert_eq!(example["kind"], "failed");
    assert!(example["why"].as_str().expect("why").contains("ValueError: an odd one"));
    assert!(std::fs::read_to_string(run.join("rewards.log")).expect("log").contains("judging arithmetic:"));
    let warnings = std::fs::read_to_string(run.join("warnings.jsonl")).expect("warnings");
    assert!(warnings.contains("`mine` failed for"), "{warnings}");
}

/// Four completions of which the first two are right.
fn completions(folder: &Path) {
    let rows = [
        r#"{"id": "a", "question": "?", "answer": "\\frac{1}{2}", "completion": "So it is $\\boxed{0.5}$."}"#,
        r#"{"id": "b", "question": "?", "answer": "x^2-1", "completion": "\\boxed{(x-1)(x+1)}"}"#,
        r#"{"id": "c", "question": "?", "answer": "7", "completion": "It is 8."}"#,
        r#"{"id": "d", "question": "?", "answer": "7", "completion": "<think>7"}"#,
    ];
    std::fs::write(folder.join("rows.jsonl"), rows.join("\n")).expect("written");
}

#[test]
fn the_reward_command_shows_verdicts_answers_and_differences() {
    let folder = tempfile::tempdir().expect("folder");
    completions(folder.path());
    std::fs::write(
        folder.path().join("r.toml"),
        "[rewards.math]\n[rewards.exact_match]\nweight = 0\nextract = \"boxed\"\n",
    )
    .expect("written");
    let text = succeed(
        folder.path(),
        &["reward", "rows.jsonl", "--recipe", "r.toml", "--compare", "math,exact_match"],
    );
    for wanted in [
        "earns 1 ",
        "found `0.5`",
        "no answer was found",
        "mean reward 0.5000",
        "it is not 7",
        "differ on 2 of 4",
    ] {
        assert!(text.contains(wanted), "no {wanted:?} in {text}");
    }
    let lines =
        succeed(folder.path(), &["reward", "rows.jsonl", "--recipe", "r.toml", "--json", "--show", "wrong"]);
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rows.iter().map(|row| &row["id"]).collect::<Vec<_>>(), ["c", "d"]);
    let math = &rows[0]["parts"][1];
    assert_eq!(
        (&rows[0]["reward"], &math["name"], &math["answer"]),
        (&Value::from(0.0), &"math".into(), &"8".into())
    );
    let error =
        fail(folder.path(), &["reward", "rows.jsonl", "--recipe", "r.toml", "--column", "completon"], 1);
    assert!(error.contains("line 1") && error.contains("did you mean `completion`?"), "{error}");
    let error =
        fail(folder.path(), &["reward", "rows.jsonl", "--recipe", "r.toml", "--compare", "maths,math"], 2);
    assert!(error.contains("did you mean `math`?"), "{error}");
    assert!(fail(folder.path(), &["reward", "none.jsonl", "--recipe", "r.toml"], 1).contains("none.jsonl"));
}

/// Characters that a terminal obeys or hides, other than the ends of lines.
fn acts(text: &str) -> Vec<char> {
    let bad = |c: &char| {
        (c.is_control() && *c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().filter(bad).collect()
}

#[test]
fn nothing_that_others_wrote_makes_a_terminal_do_anything() {
    let folder = tempfile::tempdir().expect("folder");
    let evil = "\u{1b}[31mred\u{1b}]0;t\u{7}\r\u{9b}2J\u{202e}live\u{200b}\u{7f}";
    let row = serde_json::json!({"id": evil, "prompt": evil, "completion": format!("\\boxed{{{evil}}}"), "answer": evil});
    let name = "rows\u{1b}[2J.jsonl";
    std::fs::write(folder.path().join(name), format!("{row}\n")).expect("written");
    let python = r#"
EVIL = "\x1b[31mred\u202elive\x9b2J\r"
def judge(sample):
    print(EVIL)
    return {"reward": 1.0, "reason": EVIL, "answer": EVIL}
def broken(sample):
    raise ValueError(EVIL)
"#;
    std::fs::write(folder.path().join("own.py"), python).expect("written");
    let recipe = "[rewards.math]\n[rewards.exact_match]\n[rewards.python.own]\nfile = \"own.py\"\nfunction = \"judge\"\n\
                  [rewards.python.broken]\nfile = \"own.py\"\nfunction = \"broken\"\n";
    std::fs::write(folder.path().join("r.toml"), recipe).expect("written");
    let output = run(folder.path(), &["reward", name, "--recipe", "r.toml"]);
    let (out, errors) =
        (String::from_utf8(output.stdout).expect("text"), String::from_utf8(output.stderr).expect("text"));
    assert!(output.status.success(), "{errors:?}");
    assert!(acts(&out).is_empty() && acts(&errors).is_empty(), "{out:?}\n{errors:?}");
    for (wanted, text) in [
        ("\\u001b[31mred\\u001b]0;t\\u0007", &out),
        ("\\u202elive", &out),
        ("ValueError: \\u001b[31m", &out),
        ("rows\\u001b[2J.jsonl", &errors),
    ] {
        assert!(text.contains(wanted), "no {wanted:?} in {text:?}");
    }
    // for other programs it is what it is
    let json = succeed(folder.path(), &["reward", name, "--recipe", "r.toml", "--json"]);
    let line: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(line["id"], evil);
    assert!(json.contains('\u{202e}'));
    for arguments in [
        &["reward", "none\u{1b}[2J", "--recipe", "r.toml"][..],
        &["reward", name, "--recipe", "r\u{1b}[2J.toml"],
        &["train", "\u{1b}[2J\u{202e}"],
        &["train", "tiny", "--set", "\u{9b}2J=1"],
        &["no\u{1b}[2Jcommand"],
        &["compare", "a\u{1b}[2J", "b"],
        &["explain", "\u{1b}[2J"],
    ] {
        let output = run(folder.path(), arguments);
        let text = String::from_utf8(output.stderr).expect("text");
        // the parser of the command line leaves them out itself
        let shown = text.contains("2J") || text.contains("nocommand");
        assert!(!output.status.success() && acts(&text).is_empty() && shown, "{text:?}");
    }
    std::fs::write(folder.path().join("bad.jsonl"), "{\"completion\": \"\u{1b}[2J\u{202e}\"\n")
        .expect("written");
    let text = fail(folder.path(), &["reward", "bad.jsonl", "--recipe", "r.toml"], 1);
    assert!(acts(&text).is_empty(), "{text:?}");
    std::fs::write(folder.path().join("bad.toml"), "seed = 1\n\"\u{202e}\u{9b}2J\" = 2\n").expect("written");
    let text = fail(folder.path(), &["check", "bad.toml"], 2);
    assert!(acts(&text).is_empty(), "{text:?}");
}

#[test]
fn gates_clips_and_silence_shape_the_sum() {
    let folder = tempfile::tempdir().expect("folder");
    completions(folder.path());
    let rewards = |text: &str, more: &[&str]| -> Vec<Value> {
        std::fs::write(folder.path().join("r.toml"), text).expect("written");
        let arguments = [&["reward", "rows.jsonl", "--recipe", "r.toml", "--json"], more].concat();
        let lines = succeed(folder.path(), &arguments);
        lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["reward"].clone())
            .collect()
    };
    let gated = "[rewards]\ngated = -1.0\n[rewards.math]\nweight = 3.0\n[rewards.format]\nboxed = true\nweight = 0\ngate = 1.0\n";
    assert_eq!(rewards(gated, &[]), [3.0, 3.0, -1.0, -1.0]);
    assert_eq!(rewards(gated, &["--set", "rewards.clip=[0.0, 2.0]"]), [2.0, 2.0, -1.0, -1.0]);
    std::fs::write(
        folder.path().join("some.py"),
        "def reward(sample):\n    return 1.0 if sample.id in 'ab' else None\n",
    )
    .expect("written");
    let silent = "[rewards.math]\n[rewards.python.some]\nfile = \"some.py\"\n";
    assert_eq!(rewards(silent, &[]), [2.0, 2.0, 0.0, 0.0]);
    let dropped = rewards(silent, &["--set", "rewards.python.some.none=\"drop\""]);
    assert_eq!(dropped, [Value::from(2.0), Value::from(2.0), Value::Null, Value::Null]);
    let bad = run(
        folder.path(),
        &["reward", "rows.jsonl", "--recipe", "r.toml", "--set", "rewards.clip=[1.0, 0.0]"],
    );
    assert!(String::from_utf8_lossy(&bad.stderr).contains("clip is [1, 0]"));
}
