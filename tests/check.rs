//! What a recipe comes to before it runs: its files, its keys, what it takes, and messages about all of that.

use std::path::Path;

use crate::{fail, run, succeed};

/// A recipe in `folder/recipes` with data beside it.
fn recipe_in(folder: &Path, more: &str) {
    let place = folder.join("recipes");
    std::fs::create_dir_all(place.join("data")).expect("made");
    let rows: String =
        (0..10).map(|n| format!("{{\"question\": \"{n}+1=\", \"answer\": \"{}\"}}\n", n + 1)).collect();
    std::fs::write(place.join("data/rows.jsonl"), rows).expect("written");
    let text = format!(
        "[policy]\ncheckpoint = \"tiny\"\n[data.jsonl]\npath = \"data/rows.jsonl\"\n[rl]\nsteps = 1\nprompts_per_step = 2\n\
         group_size = 2\ntruncated = \"keep\"\nsampling = {{ max_tokens = 4 }}\n{more}"
    );
    std::fs::write(place.join("mine.toml"), text).expect("written");
}

const REWARD: &str = "[rewards.exact_match]\n";

#[test]
fn paths_are_seen_from_the_recipe_and_a_run_goes_on_from_anywhere() {
    let folder = tempfile::tempdir().expect("folder");
    recipe_in(folder.path(), REWARD);
    succeed(folder.path(), &["train", "recipes/mine.toml", "--out", "run"]);
    // resolved paths are whole, so that nothing depends on where the program is started
    let resolved = std::fs::read_to_string(folder.path().join("run/recipe.toml")).expect("recipe");
    let whole = std::fs::canonicalize(folder.path().join("recipes/data/rows.jsonl")).expect("there");
    let named =
        resolved.lines().find_map(|line| line.strip_prefix("path = ")).expect("a path").trim_matches('"');
    assert!(Path::new(named).is_absolute(), "{named}");
    assert_eq!(std::fs::canonicalize(named).expect("there"), whole);
    let elsewhere = folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("made");
    succeed(&elsewhere, &["train", "--resume", "../run"]);
    // what worked before works still: from the current folder
    succeed(&folder.path().join("recipes"), &["check", "mine.toml", "--no-time"]);
    std::fs::rename(folder.path().join("recipes/data"), folder.path().join("data")).expect("moved");
    succeed(folder.path(), &["check", "recipes/mine.toml", "--no-time"]);
    // and by --set it is the current folder's
    succeed(
        folder.path(),
        &["check", "recipes/mine.toml", "--no-time", "--set", "data.jsonl.path=data/rows.jsonl"],
    );
    // nowhere: both places are named
    let error = fail(&elsewhere, &["check", "../recipes/mine.toml"], 1);
    for wanted in ["data.jsonl.path is `data/rows.jsonl`", "recipe's folder", "/recipes`", "/elsewhere`"] {
        assert!(error.contains(wanted), "no {wanted} in {error}");
    }
}

#[test]
fn a_run_may_be_named_where_a_checkpoint_or_a_recipe_may() {
    let folder = tempfile::tempdir().expect("folder");
    recipe_in(folder.path(), &format!("{REWARD}[save]\nevery = 1\n"));
    succeed(folder.path(), &["train", "recipes/mine.toml", "--out", "run", "--set", "rl.steps=2"]);
    let say = |model: &str| {
        succeed(
            folder.path(),
            &["sample", model, "--prompt", "1+1=", "--max-tokens", "4", "--temperature", "0"],
        )
    };
    assert_eq!(say("run"), say("run/checkpoints/step-000002"));
    assert_eq!(say("run@1"), say("run/checkpoints/step-000001"));
    let error = fail(folder.path(), &["sample", "run@7", "--prompt", "1"], 2);
    assert!(error.contains("has no checkpoint `7`") && error.contains("step-000001, step-000002"), "{error}");
    let error = fail(folder.path(), &["sample", "run@best", "--prompt", "1"], 2);
    assert!(error.contains("[save] best"), "{error}");
    let plan = succeed(folder.path(), &["check", "run", "--no-time"]);
    assert!(plan.contains("recipe `mine`") && plan.contains("rl        2 steps"), "{plan}");
}

#[test]
fn check_says_what_a_run_takes_and_what_does_not_fit() {
    let folder = tempfile::tempdir().expect("folder");
    recipe_in(folder.path(), REWARD);
    let check = |sets: &[&str]| {
        let sets = sets.iter().flat_map(|set| ["--set", *set]);
        let arguments: Vec<&str> = ["check", "recipes/mine.toml"].into_iter().chain(sets).collect();
        succeed(folder.path(), &arguments)
    };
    let plan = check(&[]);
    for wanted in [
        "memory    about ",
        "disk      about ",
        "time      about ",
        "available here",
        "1 checkpoint",
        "rl: 1 steps of",
    ] {
        assert!(plan.contains(wanted), "no {wanted:?} in {plan}");
    }
    assert!(!plan.contains("warning"), "{plan}");
    let plan = check(&["rl.prompts_per_step=100", "rl.sampling.max_tokens=600"]);
    assert!(plan.contains("prompts_per_step is 100, and the data has 10 rows"), "{plan}");
    assert!(
        plan.contains(
            "max_tokens is 600, and the longest prompt has 4 tokens: together more than the context of 512"
        ),
        "{plan}"
    );
    // weights that fill half of this machine's memory, beside which nothing of training has room
    let memory = std::fs::read_to_string("/proc/meminfo").expect("memory");
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).expect("its size");
    let total: usize = total.trim().trim_end_matches(" kB").parse().expect("a number");
    let layers = (total / 2 / (1 << 20)).max(1); // each has 2²⁸ numbers, a GiB
    let large = format!(
        "policy.new={{hidden_size=4096,intermediate_size=16384,num_hidden_layers={layers},num_attention_heads=32,num_key_value_heads=32,head_dim=128,max_position_embeddings=512}}"
    );
    let sets =
        ["--set", &large, "--set", "rl.steps=5000", "--set", "save.every=1", "--set", "save.keep=5000"];
    let plan = succeed(folder.path(), &[&["check", "recipes/mine.toml", "--no-time"], &sets[..]].concat());
    assert!(plan.contains("warning   the run needs about") && plan.contains("of memory"), "{plan}");
    assert!(plan.contains("warning   the run writes up to"), "{plan}");
    let json =
        succeed(folder.path(), &["check", "recipes/mine.toml", "--json", "--set", "rl.prompts_per_step=100"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(
        json["seconds"]["total"].as_f64() > Some(0.0)
            && json["seconds"]["rl"]["sampling"].as_f64() > Some(0.0)
    );
    assert!(json["disk_bytes"]["1 checkpoint"].as_u64() > Some(1_000_000), "{json}");
    assert_eq!(json["warnings"].as_array().map(Vec::len), Some(1), "{json}");
}

#[test]
fn disk_is_what_the_run_leaves() {
    let folder = tempfile::tempdir().expect("folder");
    recipe_in(folder.path(), &format!("kl = {{ coefficient = 0.1 }}\n{REWARD}[save]\nevery = 1\nkeep = 2\n"));
    let sets = ["--set", "rl.steps=3"];
    let json =
        succeed(folder.path(), &[&["check", "recipes/mine.toml", "--json", "--no-time"], &sets[..]].concat());
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let said = |part: &str| json["disk_bytes"][part].as_u64().expect(part) as f64;
    succeed(folder.path(), &[&["train", "recipes/mine.toml", "--out", "run"], &sets[..]].concat());
    fn size(place: &Path) -> f64 {
        if place.is_file() {
            return place.metadata().expect("there").len() as f64;
        }
        std::fs::read_dir(place).expect("there").map(|entry| size(&entry.expect("an entry").path())).sum()
    }
    let near = |part: &str, place: &str, within: f64| {
        let (said, found) = (said(part), size(&folder.path().join(place)));
        assert!((said - found).abs() <= within * found, "{part}: said {said}, found {found}");
    };
    near("2 checkpoints", "run/checkpoints", 0.05);
    near("the frozen reference", "run/reference.safetensors", 0.02);
    assert!(said("the checkpoint that is being written") > 0.0);
}

#[test]
fn keys_are_explained_and_the_schema_is_json() {
    let folder = tempfile::tempdir().expect("folder");
    let text = succeed(folder.path(), &["explain", "rl.baseline.optimal.weights"]);
    assert!(text.contains("choices") && text.contains("default"), "{text}");
    let error = fail(folder.path(), &["explain", "rl.sampling.temprature"], 2);
    assert!(error.contains("did you mean `temperature`?"), "{error}");
    let schema: serde_json::Value = serde_json::from_str(&succeed(folder.path(), &["schema"])).expect("JSON");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema["properties"]["rl"]["description"].as_str().is_some_and(|text| !text.is_empty()));
    // a line each on what a preset changes
    let presets = succeed(folder.path(), &["presets"]);
    assert!(
        presets.contains("baseline = \"leave_one_out\"")
            && presets.contains("objective.grpo.clip_high = 0.28"),
        "{presets}"
    );
}

#[test]
fn mistakes_are_told_in_the_terms_of_a_recipe() {
    let folder = tempfile::tempdir().expect("folder");
    for (set, wanted) in [
        ("rl.steps=many", "`--set rl.steps=many`: found `\"many\"`, wanted a whole number of at least 1"),
        ("rollout.backend=vllm", "wanted backend = { vllm = { url = \"…\" } }"),
        ("rl.preset=ppo", "PPO needs a value model"),
        ("rl.preset=xyz", "there are grpo"),
    ] {
        let error = fail(folder.path(), &["check", "tiny", "--set", set], 2);
        assert!(error.contains(wanted) && !error.contains("did you mean `opo`"), "{error}");
    }
    let error = fail(folder.path(), &["check", "tiny", "--set", "policy.checkpoint=tinny"], 1);
    assert!(error.contains("did you mean `tiny`?"), "{error}");
    assert!(fail(folder.path(), &["presets", "ppo"], 2).contains("`grpo` has its clipped loss"));
    recipe_in(folder.path(), &format!("{REWARD}[data.arithmetic]\n"));
    let error = fail(folder.path(), &["check", "recipes/mine.toml"], 2);
    assert!(error.contains("`jsonl` and `arithmetic`"), "{error}");
}

#[test]
fn a_python_list_of_the_wrong_length_is_found_before_the_run() {
    let folder = tempfile::tempdir().expect("folder");
    for workers in [1, 12] {
        let settings = format!("[rewards.python.mine]\nfile = \"mine.py\"\nworkers = {workers}\n");
        recipe_in(folder.path(), &settings);
        let code = "def reward_func(completions, answer, **kwargs):\n    return [1.0]\n";
        std::fs::write(folder.path().join("recipes/mine.py"), code).expect("written");
        // some samples are asked about one by one, and there one value is right
        let output = run(folder.path(), &["check", "recipes/mine.toml", "--no-time", "--rows", "3"]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(
            text.contains("reward `mine` failed") && text.contains("returned 1 values, wanted"),
            "{text}"
        );
    }
}
