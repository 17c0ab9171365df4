//! Checkpoints that are written, and names that lead to one.

use super::config::new_model;
use super::*;

#[test]
fn saving_refuses_what_could_not_be_loaded() {
    let (config, tensors) = tiny();
    let save = |tensors: &BTreeMap<String, Tensor>, dtype| {
        let dir = tempfile::tempdir().unwrap();
        weights::save(dir.path(), &config, tensors, dtype, u64::MAX)
    };
    let norm = "model.norm.weight";
    let with = |tensor: Tensor| {
        let mut changed = tensors.clone();
        changed.insert(norm.to_string(), tensor);
        changed
    };
    let mut large = vec![1f32; 64];
    large[9] = 70000.0;
    let large = with(Tensor::new(large, &CPU).unwrap());
    says(save(&large, WeightDtype::F16), &[norm, "70000 at flat index 9", "float16"]);
    assert!(save(&large, WeightDtype::Bf16).is_ok());
    says(
        save(&with(Tensor::new(vec![f32::NAN; 64], &CPU).unwrap()), WeightDtype::F32),
        &[norm, "NaN at flat index 0"],
    );
    says(
        save(&with(Tensor::zeros(63, DType::F32, &CPU).unwrap()), WeightDtype::F32),
        &[norm, "[63]", "[64]"],
    );

    let mut less = tensors.clone();
    less.remove(norm);
    says(save(&less, WeightDtype::F32), &[norm, "missing"]);
    let mut more = tensors.clone();
    more.insert("value_head.weight".into(), tensors[norm].clone());
    says(save(&more, WeightDtype::F32), &["value_head.weight"]);

    let dir = copy();
    let again = weights::save(dir.path(), &config, &tensors, WeightDtype::F32, 1);
    says(again, &["already holds weights", SINGLE_FILE]);
}

#[test]
fn weights_wider_than_a_block_are_read_and_written_whole() {
    // The embedding has 3 · 2²⁰ + 64 numbers: three blocks and a piece of a fourth.
    let config =
        NewModel { hidden_size: 64, vocab_size: Some(49153), ..new_model() }.config(1, vec![], None).unwrap();
    let count = 49153 * 64;
    let mut tensors: BTreeMap<String, Tensor> = config
        .parameters()
        .into_iter()
        .map(|(name, shape)| (name, Tensor::ones(shape, DType::F32, &CPU).unwrap()))
        .collect();
    let numbers: Vec<f32> = (0..count).map(|i| (i % 65521) as f32 - 30000.5).collect();
    let embedding = Tensor::from_vec(numbers, (49153, 64), &CPU).unwrap();
    tensors.insert("model.embed_tokens.weight".into(), embedding);
    let dir = tempfile::tempdir().unwrap();
    weights::save(dir.path(), &config, &tensors, WeightDtype::F32, u64::MAX).unwrap();
    let again = weights::load(dir.path(), &config, &CPU).unwrap();
    assert!(all_bits(&again) == all_bits(&tensors));
}

// Whole checkpoints

#[test]
fn a_checkpoint_is_saved_complete_and_its_tokenizer_byte_for_byte() {
    let source = copy();
    let files = [
        ("tokenizer.json", &b"any bytes\r\n\xff"[..]),
        ("tokenizer_config.json", b"{ \"eos_token\":  \"x\" }"),
        ("chat_template.jinja", b"{{ messages }}\n\n"),
    ];
    for (name, bytes) in files {
        std::fs::write(source.path().join(name), bytes).unwrap();
    }
    let checkpoint = Checkpoint::open(source.path().to_str().unwrap(), None).unwrap();
    let (config, tensors) = (checkpoint.config().unwrap(), checkpoint.weights(&CPU).unwrap());
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("step-000001");
    checkpoint.save(&out, &config, &tensors, WeightDtype::F32).unwrap();
    for (name, bytes) in files {
        assert_eq!(std::fs::read(out.join(name)).unwrap(), bytes);
    }
    let again = Checkpoint::open(out.to_str().unwrap(), None).unwrap();
    assert_eq!(again.config().unwrap(), config);
    assert_eq!(all_bits(&again.weights(&CPU).unwrap()), all_bits(&tensors));
    let generation: Value =
        serde_json::from_slice(&std::fs::read(out.join("generation_config.json")).unwrap()).unwrap();
    assert_eq!(generation, json!({"eos_token_id": 1, "pad_token_id": 0}));
}

#[test]
fn an_embedded_checkpoint_reads_as_a_folder_does() {
    const FILES: &[(&str, &[u8])] = &[
        ("config.json", include_bytes!("../fixtures/parity/qwen3-tiny/config.json")),
        ("model.safetensors", include_bytes!("../fixtures/parity/qwen3-tiny/model.safetensors")),
    ];
    let checkpoint = Checkpoint::embedded(FILES);
    let (config, tensors) = tiny();
    assert_eq!(checkpoint.config().unwrap(), config);
    assert_eq!(all_bits(&checkpoint.weights(&CPU).unwrap()), all_bits(&tensors));
    assert_eq!((checkpoint.source(), checkpoint.dir()), ("embedded", None));
    assert!(checkpoint.template().unwrap().is_none());
    says(checkpoint.tokenizer(), &["tokenizer.json"]);
    says(Checkpoint::embedded(&FILES[..1]).weights(&CPU), &["no weights", "embedded", SINGLE_FILE]);
    says(Checkpoint::embedded(&[("config.json", b"{\"a\xff")]).config(), &["config.json", "byte 3"]);
}

#[test]
fn a_name_that_is_nothing_says_what_was_tried() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("qwen0.5b")).unwrap();
    let close = dir.path().join("qwen-0.5b").display().to_string();
    says(
        Checkpoint::open(&close, None),
        &[&close, "no such folder", "organisation/name", "there is a folder", "qwen0.5b"],
    );
    says(Checkpoint::open("./none", None), &["./none", "organisation/name"]);
    says(Checkpoint::open("../a/b", None), &["../a/b"]);
    let file = fixture("qwen3-tiny").join(SINGLE_FILE).display().to_string();
    says(Checkpoint::open(&file, None), &["it is a file"]);
    let folder = fixture("qwen3-tiny").display().to_string();
    says(Checkpoint::open(&folder, Some("main")), &["main", &folder]);
    says(Checkpoint::open("a/b", Some("../../x")), &["../../x", "revision"]);
    let empty = Checkpoint::open(dir.path().to_str().unwrap(), None).unwrap();
    says(empty.config(), &["config.json"]);
}

#[test]
fn folders_and_files_that_are_something_else_are_named_for_what_they_are() {
    let file = |name: &str, bytes: &[u8]| {
        let dir = copy();
        std::fs::remove_file(dir.path().join(SINGLE_FILE)).unwrap();
        std::fs::write(dir.path().join(name), bytes).unwrap();
        dir
    };
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 988097824\n";
    for (name, bytes, parts) in [
        (SINGLE_FILE, &pointer[..], ["Git LFS", "git lfs pull"]),
        (SINGLE_FILE, b"", ["0 bytes", "empty"]),
        (SINGLE_FILE, b"<!DOCTYPE html><html>404</html>", ["claims", "web page"]),
        ("model-00001-of-00002.safetensors", pointer, ["model-00001-of-00002.safetensors", "git lfs pull"]),
        ("pytorch_model.bin", b"PK\x03\x04", ["pytorch_model.bin", "pickle"]),
        ("model-q4.gguf", b"GGUF", ["model-q4.gguf", "llama.cpp"]),
        ("weights.safetensors", b"x", ["weights.safetensors", "index"]),
    ] {
        says(load(&file(name, bytes)), &parts);
    }
    let open = |dir: &TempDir| Checkpoint::open(dir.path().to_str().unwrap(), None).unwrap();
    let only = |name: &str, bytes: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), bytes).unwrap();
        dir
    };
    let adapter = br#"{"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen2.5-0.5B"}"#;
    let parts = ["config.json", "an adapter (LORA of `Qwen/Qwen2.5-0.5B`)", "merge_and_unload"];
    says(open(&only("adapter_config.json", adapter)).config(), &parts);
    says(open(&only("model-q4.gguf", b"GGUF")).config(), &["config.json", "GGUF"]);
    says(open(&tempfile::tempdir().unwrap()).config(), &["config.json", "the folder is empty"]);
    says(open(&only("config.json", b"<html>busy</html>")).config(), &["config.json", "web page"]);
    says(open(&only("config.json", pointer)).config(), &["config.json", "git lfs pull"]);
    says(open(&only("tokenizer.json", pointer)).tokenizer(), &["tokenizer.json", "git lfs pull"]);
    says(open(&only("config.json", b"{}")).tokenizer(), &["tokenizer.json"]);
    let file = only("model-q4.gguf", b"GGUF");
    let path = file.path().join("model-q4.gguf");
    says(Checkpoint::open(path.to_str().unwrap(), None), &["GGUF", "folder it is in"]);
}

#[test]
fn a_tied_model_is_the_same_whatever_head_is_stored_beside_it() {
    let plain = tiny().1;
    let same = plain["model.embed_tokens.weight"].clone();
    for head in [same.clone(), (same * 2.0).unwrap()] {
        let dir = broken(|tensors| tensors.push(raw("lm_head.weight", &head)));
        assert_eq!(all_bits(&load(&dir).unwrap()), all_bits(&plain));
    }
}
