//! Commands, and what they say when something is wrong.

use std::path::Path;

use serde_json::Value;

use crate::{evenkeel, fail, run, succeed};

/// A recipe on a JSONL file `data.jsonl` in `folder`.
fn recipe_on(folder: &Path, data: &str) {
    std::fs::write(folder.join("data.jsonl"), data).expect("written");
    let text = r#"
[policy]
checkpoint = "tiny"
[data.jsonl]
path = "data.jsonl"
[rewards.exact_match]
[rl]
steps = 1
prompts_per_step = 2
group_size = 2
truncated = "keep"
sampling = { max_tokens = 4 }
"#;
    std::fs::write(folder.join("recipe.toml"), text).expect("written");
}

#[test]
fn every_command_explains_itself() {
    let folder = tempfile::tempdir().expect("folder");
    for command in
        ["train", "check", "reward", "sample", "variance", "bench", "presets", "recipes", "explain", "schema"]
    {
        let help = succeed(folder.path(), &[command, "--help"]);
        assert!(help.contains("Usage: evenkeel"), "{help}");
        assert!(succeed(folder.path(), &["--help"]).contains(command));
    }
    assert!(fail(folder.path(), &["trian", "tiny"], 2).contains("similar subcommand"));
    assert!(fail(folder.path(), &["train"], 2).contains("required"));
}

#[test]
fn recipes_are_listed_and_printed_as_they_are() {
    let folder = tempfile::tempdir().expect("folder");
    let list = succeed(folder.path(), &["recipes"]);
    for name in ["tiny", "tiny-warmup", "gsm8k-qwen2.5-0.5b"] {
        assert!(list.contains(name), "{list}");
    }
    let tiny = succeed(folder.path(), &["recipes", "tiny"]);
    assert_eq!(tiny, include_str!("../recipes/tiny.toml"));
}

#[test]
fn check_prints_the_plan_and_tries_the_reward() {
    let folder = tempfile::tempdir().expect("folder");
    let plan = succeed(folder.path(), &["check", "tiny"]);
    for wanted in ["group_size = 8", "update", "memory", "earns 1", "earns 0", "exact_match"] {
        assert!(plan.contains(wanted), "no {wanted:?} in {plan}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&succeed(folder.path(), &["check", "tiny", "--json"])).expect("JSON");
    assert_eq!(json["rl"]["rollouts_per_step"], 256);
    assert!(!folder.path().join("runs").exists(), "check writes nothing");
}

#[test]
fn sampling_repeats_with_its_seed_and_respects_its_budget() {
    let folder = tempfile::tempdir().expect("folder");
    let arguments =
        ["sample", "tiny", "--prompt", "12+7=", "-n", "5", "--max-tokens", "12", "--json", "--seed", "3"];
    let first = succeed(folder.path(), &arguments);
    assert_eq!(first, succeed(folder.path(), &arguments));
    assert_eq!(first.lines().count(), 5);
    for line in first.lines() {
        let rollout: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let tokens = rollout["tokens"].as_array().expect("tokens").len();
        assert!(tokens <= 12 && tokens == rollout["log_probs"].as_array().expect("log_probs").len());
    }
    let error = fail(folder.path(), &["sample", "tiny", "--prompt", "1", "--top-p", "0"], 2);
    assert!(error.contains("top_p is 0; wanted more than 0"), "{error}");
}

#[test]
fn a_bad_recipe_is_refused_with_place_and_hint() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(
        folder.path().join("bad.toml"),
        include_str!("../recipes/tiny.toml").replace("group_size", "group_szie"),
    )
    .expect("written");
    let error = fail(folder.path(), &["train", "bad.toml"], 2);
    assert!(error.contains("line ") && error.contains("did you mean `group_size`?"), "{error}");
    let error = fail(folder.path(), &["train", "tiny", "--set", "rl.group_size=1"], 2);
    assert!(error.contains("a group needs at least 2 rollouts to compare, not 1"), "{error}");
    let error = fail(folder.path(), &["check", "missing.toml"], 2);
    assert!(error.contains("there is no recipe `missing.toml`"), "{error}");
    let error = fail(folder.path(), &["train", "tiny", "--set", "rewards={custom={mine={}}}"], 2);
    assert!(error.contains("[rewards.custom.mine]"), "{error}");
    assert!(!folder.path().join("runs").exists(), "nothing was begun");
}

#[test]
fn bad_data_is_named_by_file_and_line() {
    let folder = tempfile::tempdir().expect("folder");
    for (data, wanted) in [
        (
            "{\"question\": \"1+1=\", \"answer\": \"2\"}\n{\"qestion\": \"1+2=\", \"answer\": \"3\"}\n",
            &["data.jsonl", "2", "question"][..],
        ),
        ("", &["data.jsonl", "empty"]),
        ("{\"question\": \"1+1=\", \"answer\"\n", &["data.jsonl", "1"]),
    ] {
        recipe_on(folder.path(), data);
        let error = fail(folder.path(), &["train", "recipe.toml"], 1);
        for wanted in wanted {
            assert!(error.contains(wanted), "no {wanted:?} in {error}");
        }
    }
    let long = format!("{{\"question\": \"{}\", \"answer\": \"2\"}}\n", "1+".repeat(400));
    recipe_on(folder.path(), &long);
    let error = fail(folder.path(), &["train", "recipe.toml"], 1);
    assert!(error.contains("has 800 tokens") && error.contains("512"), "{error}");
    std::fs::remove_file(folder.path().join("data.jsonl")).expect("removed");
    assert!(fail(folder.path(), &["train", "recipe.toml"], 1).contains("data.jsonl"));
}

#[test]
fn bad_checkpoints_are_named() {
    let folder = tempfile::tempdir().expect("folder");
    let small = ["--set", "rl.steps=1", "--set", "rl.prompts_per_step=2", "--set", "eval.prompts=4"];
    let mut train = vec!["train", "tiny", "--out", "run"];
    train.extend(small);
    succeed(folder.path(), &train);
    let good = folder.path().join("run/checkpoints/step-000001");
    let try_it = |name: &str, break_it: &dyn Fn(&Path)| {
        let copy = folder.path().join(name);
        std::fs::create_dir(&copy).expect("made");
        for file in std::fs::read_dir(&good).expect("listed") {
            let file = file.expect("entry");
            std::fs::copy(file.path(), copy.join(file.file_name())).expect("copied");
        }
        break_it(&copy);
        let set = format!("policy.checkpoint=./{name}");
        fail(folder.path(), &["train", "tiny", "--out", "broken", "--set", &set], 1)
    };
    let edit = |file: &'static str, from: &'static str, to: &'static str| {
        move |copy: &Path| {
            let text = std::fs::read_to_string(copy.join(file)).expect("read");
            assert!(text.contains(from), "no {from} in {text}");
            std::fs::write(copy.join(file), text.replace(from, to)).expect("written");
        }
    };
    let error = try_it("unknown", &edit("config.json", "qwen3", "llama"));
    assert!(error.contains("llama") && error.contains("qwen2"), "{error}");
    let error =
        try_it("shape", &edit("config.json", "\"intermediate_size\": 384", "\"intermediate_size\": 400"));
    assert!(error.contains("mlp.") && error.contains("384") && error.contains("400"), "{error}");
    let error = try_it("cut", &|copy| {
        let file = copy.join("model.safetensors");
        let bytes = std::fs::read(&file).expect("read");
        std::fs::write(&file, &bytes[..bytes.len() / 2]).expect("written");
    });
    assert!(error.contains("model.safetensors"), "{error}");
    let error = fail(folder.path(), &["sample", "nobody/nothing", "--prompt", "1"], 1);
    assert!(error.contains("nobody/nothing") && error.contains("hub"), "{error}");
}

#[test]
fn a_run_folder_is_never_overwritten_and_must_be_writable() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::create_dir(folder.path().join("there")).expect("made");
    let error = fail(folder.path(), &["train", "tiny", "--out", "there"], 2);
    assert!(error.contains("`there` exists") && error.contains("--resume"), "{error}");
    std::fs::write(folder.path().join("file"), "").expect("written");
    let error = fail(folder.path(), &["train", "tiny", "--out", "file/run"], 1);
    assert!(error.contains("could not make the run folder `file/run`"), "{error}");
}

#[test]
fn output_may_be_cut_off_by_its_reader() {
    let folder = tempfile::tempdir().expect("folder");
    let mut child = evenkeel(folder.path())
        .args(["recipes", "tiny"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    let status = child.wait().expect("ends");
    assert!(status.code().is_some(), "no signal, no panic: {status}");
    assert!(run(folder.path(), &["--version"]).status.success());
}

#[test]
fn a_device_or_a_way_to_compute_that_is_not_there_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let with = |set: &str| fail(folder.path(), &["check", "tiny", "--set", set], 2);
    let error = with("policy.device=\"gpu\"");
    assert!(error.contains("device `gpu` is not known; wanted"), "{error}");
    if cfg!(not(feature = "cuda")) {
        let error = with("policy.device=\"cuda:0\"");
        assert!(error.contains("`cuda:0` cannot be used: this build has no CUDA"), "{error}");
        assert!(error.contains("--features cuda"), "{error}");
        let sample = ["sample", "tiny", "--prompt", "1+1=", "--device", "cuda:1"];
        assert!(fail(folder.path(), &sample, 2).contains("`cuda:1` cannot be used: this build has no CUDA"));
        let plan = succeed(folder.path(), &["check", "tiny", "--no-time", "--json"]);
        assert!(plan.contains("on the CPU: this build has no CUDA"), "{plan}");
    }
    let sample = ["sample", "tiny", "--prompt", "1+1=", "--device", "gpu"];
    assert!(fail(folder.path(), &sample, 2).contains("device `gpu` is not known; wanted"));
    let error = with("policy.compute=\"fp8\"");
    assert!(error.contains("fp8") && error.contains("bf16"), "{error}");
    let plan = succeed(folder.path(), &["check", "tiny", "--no-time"]);
    assert!(plan.contains("compute   f32 by "), "{plan}");
}

#[test]
fn kernels_are_forced_by_the_environment() {
    let folder = tempfile::tempdir().expect("folder");
    let check = |path: &str, more: &[&str]| {
        let arguments = [&["check", "tiny", "--no-time"], more].concat();
        evenkeel(folder.path()).env("EVENKEEL_KERNELS", path).args(arguments).output().expect("it starts")
    };
    let found = check("portable", &[]);
    assert!(String::from_utf8_lossy(&found.stdout).contains("f32 by portable"), "{found:?}");
    let found = check("portable", &["--set", "policy.compute=\"bf16\""]);
    let error = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(found.status.code() == Some(2) && error.contains("needs AMX or AVX-512 BF16"), "{error}");
    let found = check("sse", &[]);
    let error = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(
        found.status.code() == Some(2) && error.contains("EVENKEEL_KERNELS is `sse`; wanted one of"),
        "{error}"
    );
}

#[test]
fn bench_measures_a_small_model_and_prints_json() {
    let folder = tempfile::tempdir().expect("folder");
    let arguments = "bench train decode --shape tiny --compute f32 --threads 1 --batch 2 --length 8 --steps 1 --rows 1,3 \
                     --context 5 --tokens 3 --seconds 0.01 --json";
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let json: serde_json::Value = serde_json::from_str(&succeed(folder.path(), &arguments)).expect("JSON");
    assert_eq!(
        (json["train"].as_array().map(Vec::len), json["decode"].as_array().map(Vec::len)),
        (Some(2), Some(2))
    );
    for (part, field) in [("train", "tokens_per_second"), ("decode", "bandwidth_share"), ("peak", "flops")] {
        for line in json[part].as_array().expect("lines") {
            assert!(line[field].as_f64().expect("a number") > 0.0, "{line}");
        }
    }
    let error = fail(folder.path(), &["bench", "decode", "--shape", "huge", "--seconds", "0.01"], 2);
    assert!(error.contains("--shape `huge`: wanted one of qwen2.5-0.5b"), "{error}");
    assert!(fail(folder.path(), &["bench", "--batch", "0"], 2).contains("--batch is 0; wanted at least 1"));
}

#[test]
fn files_of_other_libraries_are_read_as_they_are_and_rewards_find_all_columns() {
    let folder = tempfile::tempdir().expect("folder");
    let place = folder.path();
    let reward = "def mine(completions, task, gold, question, answer, ground_truth, level, **others):\n\
                  \x20   assert task == question and ground_truth == answer and level == ['hard'] * len(gold)\n\
                  \x20   assert all(str(g) == a for g, a in zip(gold, answer)), (gold, answer)\n\
                  \x20   return [float(c == a) for c, a in zip(completions, answer)]\n";
    std::fs::write(place.join("mine.py"), reward).expect("written");
    recipe_on(place, "{\"task\": \"1+1=\", \"gold\": 2, \"level\": \"hard\"}\n");
    let mapped = [
        "check",
        "recipe.toml",
        "--set",
        "data.jsonl.columns.question=\"task\"",
        "--set",
        "data.jsonl.columns.answer=\"gold\"",
        "--set",
        "rewards={ python = { mine = { file = \"mine.py\" } } }",
    ];
    let plan = succeed(place, &mapped);
    assert!(plan.contains("layout plain: the question is `task`; the answer is `gold`"), "{plan}");
    assert!(plan.contains("\"2\"  earns 1  (mine 1)") && !plan.contains("not judged"), "{plan}");
    // verl's rows, in JSON with a byte order mark: the answer is found within an object
    let verl = "\u{feff}{\"data_source\": \"x\", \"prompt\": \"1+1=\", \"reward_model\": {\"ground_truth\": [\"2\", \"two\"]}}\n";
    std::fs::write(place.join("data.jsonl"), verl).expect("written");
    let plan = succeed(place, &["check", "recipe.toml", "--no-time"]);
    assert!(
        plan.contains(
            "data      layout verl: the question is `prompt`; the answer is `reward_model.ground_truth`"
        ),
        "{plan}"
    );
    let json: Value = serde_json::from_str(&succeed(place, &["check", "recipe.toml", "--no-time", "--json"]))
        .expect("JSON");
    assert!(json["data"].as_str().expect("text").starts_with("layout verl: "), "{json}");
    // as a conversation it goes through the chat template
    let turn = r#"[{"role": "user", "content": "1+1="}]"#;
    std::fs::write(place.join("data.jsonl"), verl.replace("\"1+1=\"", turn)).expect("written");
    let plan = succeed(place, &["check", "recipe.toml", "--no-time"]);
    assert!(plan.contains("the question is `prompt`, a conversation; "), "{plan}");
}
