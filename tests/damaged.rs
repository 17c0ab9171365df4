//! Damaged and hostile files end in a message with a sensible exit code: never in a panic, a signal or a silent zero.
//!
//! `tests/faults/fuzz.py` makes thousands of such files; here are one or two of each kind.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{evenkeel, fail, run, succeed};

/// The tiny checkpoint as the folder `m`.
fn checkpoint(folder: &Path) -> PathBuf {
    let (from, to) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("tiny"), folder.join("m"));
    std::fs::create_dir(&to).expect("made");
    for entry in std::fs::read_dir(from).expect("there") {
        let entry = entry.expect("read");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
    to
}

/// Replaces a value in a JSON file.
fn set(file: &Path, pointer: &str, value: Value) {
    let mut json: Value = serde_json::from_slice(&std::fs::read(file).expect("there")).expect("JSON");
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    json.pointer_mut(parent)
        .expect("a parent")
        .as_object_mut()
        .expect("object")
        .insert(key.to_owned(), value);
    std::fs::write(file, json.to_string()).expect("written");
}

const SAMPLE: [&str; 6] =
    ["sample", "m", "-p", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "--max-tokens", "2"];

fn sample_fails(folder: &Path, chat: bool) -> String {
    let mut arguments = SAMPLE.to_vec();
    arguments.extend(chat.then_some("--chat"));
    let error = fail(folder, &arguments, 1);
    assert!(error.len() < 2048, "{error}");
    error
}

#[test]
fn a_tokenizer_that_is_cut_off_or_hostile_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let file = checkpoint(folder.path()).join("tokenizer.json");
    let whole = std::fs::read(&file).expect("there");
    for end in [0, 1, 700, 740, 790, whole.len() / 2, whole.len() - 2] {
        std::fs::write(&file, &whole[..end]).expect("written");
        assert!(sample_fails(folder.path(), false).contains("tokenizer.json"), "{end}");
    }
    let regex = json!({"Regex": "(a+)+$"});
    for (pointer, value, part) in [
        ("/normalizer", json!({"type": "Replace", "pattern": regex, "content": "x"}), "backtracks"),
        (
            "/pre_tokenizer",
            json!({"type": "Split", "pattern": regex, "behavior": "Isolated", "invert": false}),
            "backtracks",
        ),
        ("/decoder", json!({"type": null}), "not a usable tokenizer"),
        ("/normalizer", json!({"type": "Prepend", "prepend": "a".repeat(9000)}), "times as long"),
    ] {
        std::fs::write(&file, &whole).expect("written");
        set(&file, pointer, value);
        let error = sample_fails(folder.path(), false);
        assert!(error.contains("tokenizer.json") && error.contains(part), "{error}");
    }
}

#[test]
fn a_config_with_sizes_that_no_machine_has_is_refused_at_once() {
    let folder = tempfile::tempdir().expect("folder");
    let file = checkpoint(folder.path()).join("config.json");
    let whole = std::fs::read(&file).expect("there");
    for (pointer, value) in [
        ("/num_hidden_layers", json!(1_000_000_000)),
        ("/hidden_size", json!(u32::MAX)),
        ("/vocab_size", json!(4_000_000_000u32)),
        ("/rms_norm_eps", json!(1e308)),
    ] {
        std::fs::write(&file, &whole).expect("written");
        set(&file, pointer, value);
        let error = sample_fails(folder.path(), false);
        assert!(error.contains(&pointer[1..]), "{error}");
    }
    std::fs::write(&file, "[".repeat(200_000)).expect("written");
    assert!(sample_fails(folder.path(), false).contains("config.json"));
}

#[test]
fn a_chat_template_that_does_not_end_is_stopped() {
    let folder = tempfile::tempdir().expect("folder");
    let file = checkpoint(folder.path()).join("chat_template.jinja");
    let doubling =
        "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}";
    std::fs::write(&file, doubling).expect("written");
    assert!(sample_fails(folder.path(), true).contains("chat_template.jinja"));
}

#[test]
fn a_head_that_differs_from_the_embedding_it_is_tied_to_is_mentioned() {
    let folder = tempfile::tempdir().expect("folder");
    let file = checkpoint(folder.path()).join("model.safetensors");
    let bytes = std::fs::read(&file).expect("there");
    let size = u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + size]).expect("JSON");
    let embedding = &header["model.embed_tokens.weight"];
    let range = |at: usize| embedding["data_offsets"][at].as_u64().expect("offset") as usize;
    let data = &bytes[8 + size..];
    for (change, warned) in [(0, false), (1, true)] {
        let mut head = data[range(0)..range(1)].to_vec();
        head[0] ^= change;
        let mut changed = header.clone();
        changed["lm_head.weight"] = embedding.clone();
        changed["lm_head.weight"]["data_offsets"] = json!([data.len(), data.len() + head.len()]);
        let text = changed.to_string();
        let parts = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), data, &head];
        std::fs::write(&file, parts.concat()).expect("written");
        let output = run(folder.path(), &SAMPLE);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        assert_eq!(
            errors.contains("`lm_head.weight` in") && errors.contains("tie_word_embeddings"),
            warned,
            "{errors}"
        );
    }
}

#[test]
fn a_parquet_file_that_its_reader_panics_on_is_an_error_and_nothing_else() {
    let folder = tempfile::tempdir().expect("folder");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/fixtures");
    let recipe = "[policy]\ncheckpoint = \"tiny\"\n[data.parquet]\npath = \"m.parquet\"\n[rewards.exact_match]\n\
        [rl]\nsteps = 1\nprompts_per_step = 2\ngroup_size = 2\ntruncated = \"keep\"\n";
    std::fs::write(folder.path().join("r.toml"), recipe).expect("written");
    for name in ["damaged_1", "damaged_2"] {
        std::fs::copy(fixtures.join(name).with_extension("parquet"), folder.path().join("m.parquet"))
            .expect("copied");
        let error = fail(folder.path(), &["check", "r.toml"], 1);
        assert!(error.contains("m.parquet") && error.lines().count() < 4, "{error}");
    }
}

#[test]
fn a_recipe_that_asks_for_the_impossible_is_refused_where_it_stands() {
    let folder = tempfile::tempdir().expect("folder");
    let tiny = include_str!("../recipes/tiny.toml");
    for (old, new, part) in [
        ("group_size = 8", "group_size = 1000000000", "`rl.group_size` is 1000000000; wanted"),
        ("group_size = 8", "group_size = 8\nentropy_bonus = 1e300", "`rl.entropy_bonus` is 1e300; wanted"),
        ("[policy]", "name = \"../../x\"\n[policy]", "wanted the name of a folder"),
    ] {
        let text = tiny.replacen(old, new, 1);
        assert_ne!(text, tiny);
        std::fs::write(folder.path().join("r.toml"), text).expect("written");
        let error = fail(folder.path(), &["train", "r.toml"], 2);
        assert!(error.contains(part) && error.contains("line ") && error.contains("column "), "{error}");
    }
    let wide = "policy.new={hidden_size=1000000,intermediate_size=1000000,num_hidden_layers=4000,\
        num_attention_heads=1000,num_key_value_heads=1000,head_dim=1000}";
    let error = fail(folder.path(), &["train", "tiny", "--set", wide], 2);
    assert!(error.contains("[policy.new] has") && error.contains("GiB of this machine"), "{error}");
    let long = format!("# {}\nseed = {}\n", "x".repeat(9), "9".repeat(70_000));
    std::fs::write(folder.path().join("r.toml"), long).expect("written");
    let error = fail(folder.path(), &["check", "r.toml"], 2);
    assert!(error.len() < 2048 && error.contains("line 2"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 1, "nothing else is written");
}

#[test]
fn a_call_that_fails_before_its_first_rollout_does_not_block_the_next() {
    let folder = tempfile::tempdir().expect("folder");
    let ask = |number: &'static str| {
        ["sample", "tiny", "-p", "1+2=", "--max-tokens", "2", "--out", "out.jsonl", "-n", number]
    };
    for number in ["1000000000000", "99999999999999999999999", "0"] {
        fail(folder.path(), &ask(number), 2);
    }
    assert!(!folder.path().join("out.jsonl").exists());
    std::fs::write(folder.path().join("out.jsonl"), "").expect("written");
    succeed(folder.path(), &ask("1"));
    assert!(fail(folder.path(), &ask("1"), 2).contains("--resume"));
}

#[test]
fn a_cause_is_said_once() {
    let folder = tempfile::tempdir().expect("folder");
    let error = fail(folder.path(), &["check", "nothing/here.toml"], 2);
    assert!(error.contains("no such file"), "{error}");
    std::fs::write(folder.path().join("file"), "").expect("written");
    let error = fail(folder.path(), &["check", "file/recipe.toml"], 2);
    let cause = std::fs::read(folder.path().join("file/recipe.toml")).unwrap_err().to_string();
    assert_eq!(error.matches(&cause).count(), 1, "{error}");
}

#[cfg(unix)]
#[test]
fn a_reader_of_the_output_that_leaves_is_no_failure() {
    use std::process::Stdio;
    let folder = tempfile::tempdir().expect("folder");
    let mut child = evenkeel(folder.path())
        .args(["recipes", "tiny"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let status = child.wait().expect("ends");
    assert_eq!(status.code(), Some(0));
}
