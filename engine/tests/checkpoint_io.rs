//! Checkpoints of other programs are read right or refused with a reason, and what is written reads back the same.

use candle_core::{DType, Device, Tensor};
use engine::model::weights::{self, INDEX_FILE, SINGLE_FILE};
use engine::model::{Checkpoint, Family, ModelConfig, ModelError, NewModel, WeightDtype};
use half::{bf16, f16};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const CPU: Device = Device::Cpu;
const MODELS: [&str; 3] = ["qwen2-tiny", "qwen3-tiny", "qwen3-tiny-untied"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity").join(name)
}

/// A folder with the tiny Qwen3's config.json and model.safetensors, to be broken.
fn copy() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", SINGLE_FILE] {
        std::fs::copy(fixture("qwen3-tiny").join(file), dir.path().join(file)).unwrap();
    }
    dir
}

fn tiny() -> (ModelConfig, BTreeMap<String, Tensor>) {
    let checkpoint = Checkpoint::open(fixture("qwen3-tiny").to_str().unwrap(), None).unwrap();
    (checkpoint.config().unwrap(), checkpoint.weights(&CPU).unwrap())
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|x| x.to_bits()).collect()
}

fn all_bits(weights: &BTreeMap<String, Tensor>) -> BTreeMap<&str, Vec<u32>> {
    weights.iter().map(|(name, tensor)| (name.as_str(), bits(tensor))).collect()
}

/// The error's text, which has to hold every one of `parts`.
fn says<T>(result: Result<T, ModelError>, parts: &[&str]) -> String {
    let text = result.err().expect("should have been refused").to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    text
}

fn config_with(change: impl FnOnce(&mut Map<String, Value>)) -> Result<ModelConfig, ModelError> {
    let text = std::fs::read_to_string(fixture("qwen3-tiny").join("config.json")).unwrap();
    let mut json: Map<String, Value> = serde_json::from_str(&text).unwrap();
    change(&mut json);
    ModelConfig::from_json(&Value::Object(json).to_string())
}

fn config_setting(field: &str, value: Value) -> Result<ModelConfig, ModelError> {
    config_with(|json| drop(json.insert(field.to_string(), value)))
}

/// One tensor for [`write_safetensors`]: name, type, shape, bytes.
type Raw = (String, &'static str, Vec<usize>, Vec<u8>);

/// A writer that shares no code with the one under test.
fn write_safetensors(path: &Path, tensors: &[Raw]) {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        data.extend_from_slice(bytes);
    }
    let header = Value::Object(header).to_string();
    let size = (header.len() as u64).to_le_bytes();
    std::fs::write(path, [&size[..], header.as_bytes(), &data].concat()).unwrap();
}

fn raw(name: &str, tensor: &Tensor) -> Raw {
    let numbers = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    (name.to_string(), "F32", tensor.dims().to_vec(), bytes)
}

/// The tiny Qwen3 with its tensors changed, as a folder.
fn broken(change: impl FnOnce(&mut Vec<Raw>)) -> TempDir {
    let dir = copy();
    let mut tensors: Vec<Raw> = tiny().1.iter().map(|(name, tensor)| raw(name, tensor)).collect();
    change(&mut tensors);
    write_safetensors(&dir.path().join(SINGLE_FILE), &tensors);
    dir
}

fn load(dir: &TempDir) -> Result<BTreeMap<String, Tensor>, ModelError> {
    weights::load(dir.path(), &tiny().0, &CPU)
}

// Configuration

#[test]
fn both_layouts_of_config_json_are_read() {
    let qwen2 = ModelConfig::read(&fixture("qwen2-tiny")).unwrap();
    assert_eq!((qwen2.family, qwen2.head_dim, qwen2.rope_theta), (Family::Qwen2, 16, 10000.0));
    assert!(qwen2.qkv_bias() && !qwen2.qk_norm() && !qwen2.output_bias() && qwen2.tie_word_embeddings);

    let qwen3 = ModelConfig::read(&fixture("qwen3-tiny")).unwrap();
    assert_eq!((qwen3.family, qwen3.head_dim, qwen3.rope_theta), (Family::Qwen3, 32, 1e6));
    assert!(!qwen3.qkv_bias() && qwen3.qk_norm() && !qwen3.output_bias() && qwen3.tie_word_embeddings);
    assert_eq!((qwen3.eos_token_ids.as_slice(), qwen3.pad_token_id), (&[1][..], Some(0)));

    let untied = ModelConfig::read(&fixture("qwen3-tiny-untied")).unwrap();
    assert_eq!((untied.rms_norm_eps, untied.num_key_value_heads), (1e-5, 1));
    assert!(!untied.tie_word_embeddings);
}

#[test]
fn parameters_are_the_tensors_of_the_published_file_and_no_others() {
    for model in MODELS {
        let config = ModelConfig::read(&fixture(model)).unwrap();
        let file = candle_core::safetensors::load(fixture(model).join(SINGLE_FILE), &CPU).unwrap();
        let theirs: BTreeMap<String, Vec<usize>> =
            file.iter().map(|(n, t)| (n.clone(), t.dims().to_vec())).collect();
        assert_eq!(config.parameters().into_iter().collect::<BTreeMap<_, _>>(), theirs);
        assert_eq!(config.parameter_count(), file.values().map(Tensor::elem_count).sum::<usize>());
    }
}

#[test]
fn attention_bias_of_qwen3_is_on_all_four_projections() {
    let config = config_setting("attention_bias", json!(true)).unwrap();
    assert!(config.qkv_bias() && config.output_bias());
    let biases = config.parameters().iter().filter(|(name, _)| name.ends_with("proj.bias")).count();
    assert_eq!(biases, 4 * config.num_hidden_layers);
}

#[test]
fn end_tokens_are_those_of_generation_config_or_else_of_config() {
    let text = std::fs::read_to_string(fixture("qwen3-tiny").join("config.json")).unwrap();
    let read =
        |generation| ModelConfig::from_json_with_generation(&text, Some(generation)).unwrap().eos_token_ids;
    assert_eq!(read(r#"{"eos_token_id": [7, 1, 5, 7]}"#), [7, 1, 5]);
    assert_eq!(read(r#"{"eos_token_id": 3}"#), [3]);
    for none in ["{}", r#"{"eos_token_id": null}"#, r#"{"eos_token_id": []}"#] {
        assert_eq!(read(none), [1], "{none}");
    }
    assert_eq!(config_setting("eos_token_id", json!([4, 2])).unwrap().eos_token_ids, [4, 2]);
    for none in [Value::Null, json!([]), json!(-1), json!([-1])] {
        assert_eq!(config_setting("eos_token_id", none).unwrap().eos_token_ids, [] as [u32; 0]);
    }
    assert_eq!(config_setting("pad_token_id", json!(-1)).unwrap().pad_token_id, None);
    assert_eq!(config_setting("pad_token_id", json!(3.0)).unwrap().pad_token_id, Some(3));
    says(config_setting("eos_token_id", json!("</s>")), &["eos_token_id of config.json", "</s>"]);
    says(config_setting("eos_token_id", json!(128)), &["eos_token_id", "128", "vocab_size"]);
    says(config_setting("pad_token_id", json!(-2)), &["pad_token_id", "-2"]);
}

#[test]
fn a_tokenizers_end_token_ends_a_completion_only_where_no_file_names_one() {
    let tokenizer = json!({"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0, "b": 1},
        "merges": []}});
    let config = br#"{"eos_token": "b"}"#;
    let tokenizer =
        engine::model::Tokenizer::from_bytes("t", tokenizer.to_string().as_bytes(), Some(config)).unwrap();
    let stops = |eos| config_setting("eos_token_id", eos).unwrap().stop_tokens(&tokenizer);
    assert_eq!(stops(Value::Null), [1]);
    assert_eq!(stops(json!([5, 1])), [5, 1]);
    assert_eq!(stops(json!(5)), [5]);
}

#[test]
fn other_models_are_refused_and_the_supported_ones_listed() {
    says(config_setting("model_type", json!("llama")), &["model_type", "llama", "qwen2", "qwen3"]);
    says(
        config_setting("architectures", json!(["Qwen3ForSequenceClassification"])),
        &["architectures", "Sequence"],
    );
    says(config_setting("architectures", json!(["Qwen2ForCausalLM"])), &["Qwen2ForCausalLM", "\"qwen3\""]);
    says(config_with(|json| drop(json.remove("model_type"))), &["`model_type`"]);
    assert!(config_with(|json| drop(json.remove("architectures"))).is_ok());
}

#[test]
fn what_would_change_the_function_is_refused_with_the_reason() {
    says(config_setting("hidden_act", json!("gelu")), &["hidden_act", "gelu", "silu"]);
    says(config_setting("quantization_config", json!({"bits": 4})), &["quantization_config", "bf16"]);
    says(config_setting("partial_rotary_factor", json!(0.5)), &["partial_rotary_factor", "0.5"]);
    for (field, value, part) in [
        ("rope_scaling", json!({"rope_type": "yarn", "factor": 4.0}), "rope_scaling.rope_type"),
        ("rope_scaling", json!({"type": "linear", "factor": 2.0}), "rope_scaling.type"),
        ("rope_scaling", json!({"factor": 2.0}), "rope_scaling.factor"),
        ("rope_parameters", json!({"rope_type": "llama3", "rope_theta": 1e6}), "rope_parameters.rope_type"),
    ] {
        says(config_setting(field, value), &[part, "unscaled RoPE"]);
    }
    assert!(config_setting("rope_scaling", json!({"rope_type": "default"})).is_ok());
}

#[test]
fn a_window_is_refused_just_if_a_layer_slides_within_the_context() {
    let with = |fields: Value| {
        config_with(|json| {
            json.remove("layer_types");
            json.extend(fields.as_object().unwrap().clone());
        })
    };
    for fields in [
        json!({"use_sliding_window": false, "sliding_window": 8, "max_window_layers": 0}),
        json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 28}),
        json!({"use_sliding_window": true, "sliding_window": 8}),
        json!({"use_sliding_window": true, "sliding_window": null, "max_window_layers": 0}),
        json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 0,
            "layer_types": ["full_attention", "full_attention"]}),
        json!({"use_sliding_window": true, "sliding_window": 100_000, "max_window_layers": 0}),
    ] {
        assert!(with(fields.clone()).is_ok(), "{fields}");
    }
    let slides = json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 1});
    says(with(slides), &["use_sliding_window", "true", "window would differ"]);
    says(with(json!({"use_sliding_window": "yes"})), &["use_sliding_window", "yes"]);
    says(with(json!({"layer_types": ["full_attention", "sliding_attention"]})), &["layer_types", "sliding"]);
}

#[test]
fn what_is_left_out_is_what_transformers_takes() {
    let without = |field: &str| config_with(|json| drop(json.remove(field))).unwrap();
    assert_eq!(without("rope_parameters").rope_theta, 10000.0);
    assert_eq!(
        config_setting("rope_parameters", json!({"rope_type": "default"})).unwrap().rope_theta,
        10000.0
    );
    assert_eq!(without("max_position_embeddings").max_position_embeddings, 32768);
    assert_eq!(without("head_dim").head_dim, 128);
    assert_eq!(config_setting("num_key_value_heads", Value::Null).unwrap().num_key_value_heads, 4);
    assert_eq!(config_setting("num_hidden_layers", json!(2.0)).unwrap().num_hidden_layers, 2);
    assert!(!without("tie_word_embeddings").tie_word_embeddings);
}

#[test]
fn sizes_that_no_machine_has_are_refused_before_anything_is_made_of_them() {
    for (field, value) in [
        ("num_hidden_layers", json!(1_000_000_000)),
        ("num_hidden_layers", json!(u32::MAX)),
        ("num_hidden_layers", json!(1.5)),
        ("hidden_size", json!(1u64 << 40)),
        ("vocab_size", json!(1e18)),
        ("num_attention_heads", json!(1 << 20)),
        ("rms_norm_eps", json!(1e308)),
        ("rms_norm_eps", json!(1e-320)),
        ("rms_norm_eps", json!(-1e-6)),
    ] {
        says(config_setting(field, value.clone()), &[&format!("`{field}` is ")]);
    }
    let wide = config_with(|json| {
        json.insert("num_attention_heads".into(), json!(16384));
        json.insert("head_dim".into(), json!(16384));
    });
    says(wide, &["`num_attention_heads` is 16384"]);
    says(
        NewModel { num_hidden_layers: 1 << 40, ..new_model() }.config(100, vec![], None),
        &["num_hidden_layers"],
    );
    let deep = format!("{{\"a\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    says(ModelConfig::from_json(&deep), &["config.json", "recursion"]);
}

#[test]
fn sizes_that_cannot_be_are_refused_by_name_and_value() {
    for field in [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
    ] {
        says(config_setting(field, json!(0)), &[&format!("`{field}` is 0")]);
        says(config_setting(field, json!(-3)), &[&format!("`{field}` is -3")]);
        if !["head_dim", "max_position_embeddings"].contains(&field) {
            says(config_with(|json| drop(json.remove(field))), &[&format!("no `{field}`"), "qwen3"]);
        }
    }
    says(config_setting("rms_norm_eps", Value::Null), &["no `rms_norm_eps`"]);
    says(config_setting("rms_norm_eps", json!(0)), &["`rms_norm_eps` is 0"]);
    says(config_setting("rope_theta", json!(5.0)), &["`rope_theta` is 5", "1000000"]);
    says(config_setting("num_key_value_heads", json!(3)), &["`num_attention_heads` is 4", "3"]);
    says(config_setting("head_dim", json!(15)), &["`head_dim` is 15", "even"]);
    says(config_setting("tie_word_embeddings", json!("yes")), &["`tie_word_embeddings`", "yes"]);
    says(
        config_with(|json| {
            json.insert("head_dim".into(), Value::Null);
            json.insert("num_attention_heads".into(), json!(6));
        }),
        &["`hidden_size` is 64", "6"],
    );
    says(ModelConfig::from_json("{\"model_type\": "), &["config.json", "JSON"]);
}

#[test]
fn writing_a_config_back_changes_nothing_but_the_dtype() {
    for (model, field) in
        [("qwen2-tiny", "torch_dtype"), ("qwen3-tiny", "dtype"), ("qwen3-tiny-untied", "torch_dtype")]
    {
        let config = ModelConfig::read(&fixture(model)).unwrap();
        let text = std::fs::read_to_string(fixture(model).join("config.json")).unwrap();
        let mut expected: Map<String, Value> = serde_json::from_str(&text).unwrap();
        expected.insert(field.to_string(), json!("bfloat16"));
        let written: Map<String, Value> = serde_json::from_str(&config.to_json(WeightDtype::Bf16)).unwrap();
        assert_eq!(written, expected, "{model}");
    }
}

#[test]
fn a_changed_size_is_written_where_it_was_read() {
    let mut config = ModelConfig::read(&fixture("qwen3-tiny")).unwrap();
    (config.vocab_size, config.rope_theta, config.tie_word_embeddings) = (256, 5e5, false);
    let again = ModelConfig::from_json(&config.to_json(WeightDtype::F32)).unwrap();
    assert_eq!((again.vocab_size, again.rope_theta, again.tie_word_embeddings), (256, 5e5, false));
}

fn new_model() -> NewModel {
    serde_json::from_value(json!({
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16,
    }))
    .unwrap()
}

#[test]
fn a_new_model_is_described_so_that_it_reads_back_the_same() {
    let config = new_model().config(100, vec![1], Some(0)).unwrap();
    assert_eq!((config.vocab_size, config.rope_theta, config.tie_word_embeddings), (100, 1e6, true));
    let text = config.to_json(WeightDtype::F32);
    let again = ModelConfig::from_json(&text).unwrap();
    assert_eq!(again.parameters(), config.parameters());
    assert_eq!((again.eos_token_ids, again.pad_token_id), (config.eos_token_ids.clone(), Some(0)));
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["architectures"], json!(["Qwen3ForCausalLM"]));
    assert_eq!((&json["torch_dtype"], &json["dtype"]), (&json!("float32"), &json!("float32")));
}

#[test]
fn a_new_model_that_cannot_be_is_refused() {
    let too_small = NewModel { vocab_size: Some(50), ..new_model() };
    says(too_small.config(100, vec![], None), &["`vocab_size` is 50", "100"]);
    says(NewModel { head_dim: 7, ..new_model() }.config(100, vec![], None), &["`head_dim` is 7"]);
    says(NewModel { hidden_size: 0, ..new_model() }.config(100, vec![], None), &["`hidden_size` is 0"]);
    assert!(serde_json::from_value::<NewModel>(json!({"hidden_sise": 3})).is_err());
}

// Weights

#[test]
fn weights_are_those_that_candle_reads() {
    for model in MODELS {
        let config = ModelConfig::read(&fixture(model)).unwrap();
        let ours = weights::load(&fixture(model), &config, &CPU).unwrap();
        let theirs = candle_core::safetensors::load(fixture(model).join(SINGLE_FILE), &CPU).unwrap();
        assert_eq!(ours.len(), theirs.len());
        assert!(theirs.iter().all(|(name, tensor)| bits(tensor) == bits(&ours[name])), "{model}");
    }
}

#[test]
fn f32_weights_survive_saving_bit_for_bit_in_one_file_or_many() {
    let (config, tensors) = tiny();
    for (max_shard_bytes, files) in [(u64::MAX, 1), (40_000, 0), (1, config.parameters().len() + 1)] {
        let dir = tempfile::tempdir().unwrap();
        let written =
            weights::save(dir.path(), &config, &tensors, WeightDtype::F32, max_shard_bytes).unwrap();
        assert!(files == 0 || written.len() == files);
        assert!(
            max_shard_bytes != 40_000 || (written.len() > 3 && written.len() < config.parameters().len())
        );
        let again = weights::load(dir.path(), &config, &CPU).unwrap();
        assert_eq!(all_bits(&again), all_bits(&tensors));
    }
}

#[test]
fn half_precision_weights_are_rounded_once_and_then_stay() {
    let (config, tensors) = tiny();
    type Round = fn(f32) -> f32;
    let cases: [(WeightDtype, Round); 2] = [
        (WeightDtype::Bf16, |x| bf16::from_f32(x).to_f32()),
        (WeightDtype::F16, |x| f16::from_f32(x).to_f32()),
    ];
    for (dtype, round) in cases {
        let dir = tempfile::tempdir().unwrap();
        weights::save(dir.path(), &config, &tensors, dtype, u64::MAX).unwrap();
        let once = weights::load(dir.path(), &config, &CPU).unwrap();
        for (name, tensor) in &tensors {
            let rounded: Vec<u32> =
                bits(tensor).iter().map(|x| round(f32::from_bits(*x)).to_bits()).collect();
            assert_eq!(bits(&once[name]), rounded, "{name}");
        }
        let dir = tempfile::tempdir().unwrap();
        weights::save(dir.path(), &config, &once, dtype, 10_000).unwrap();
        assert_eq!(all_bits(&weights::load(dir.path(), &config, &CPU).unwrap()), all_bits(&once));
    }
}

#[test]
fn bf16_ties_go_to_the_even_neighbour() {
    let (config, mut tensors) = tiny();
    // 1 + 2⁻⁸ lies halfway between 1 and 1 + 2⁻⁷; 1 + 3·2⁻⁸ halfway between 1 + 2⁻⁷ and 1 + 2⁻⁶.
    let mut norm = vec![1f32; 64];
    (norm[0], norm[1]) = (1.0 + 0.00390625, 1.0 + 3.0 * 0.00390625);
    tensors.insert("model.norm.weight".into(), Tensor::new(norm, &CPU).unwrap());
    let dir = tempfile::tempdir().unwrap();
    weights::save(dir.path(), &config, &tensors, WeightDtype::Bf16, u64::MAX).unwrap();
    let again =
        weights::load(dir.path(), &config, &CPU).unwrap()["model.norm.weight"].to_vec1::<f32>().unwrap();
    assert_eq!(again[..2], [1.0, 1.015625]);
}

#[test]
fn what_is_saved_is_read_by_the_reference_library() {
    let (config, tensors) = tiny();
    let dir = tempfile::tempdir().unwrap();
    weights::save(dir.path(), &config, &tensors, WeightDtype::Bf16, u64::MAX).unwrap();
    let bytes = std::fs::read(dir.path().join(SINGLE_FILE)).unwrap();
    let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!((header + 8) % 8, 0);
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
    let theirs = candle_core::safetensors::load_buffer(&bytes, &CPU).unwrap();
    for (name, tensor) in &tensors {
        let rounded = tensor.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
        assert_eq!(bits(&theirs[name].to_dtype(DType::F32).unwrap()), bits(&rounded), "{name}");
    }
}

#[test]
fn the_index_names_every_tensor_and_the_total_size() {
    let (config, tensors) = tiny();
    let dir = tempfile::tempdir().unwrap();
    weights::save(dir.path(), &config, &tensors, WeightDtype::F16, 30_000).unwrap();
    let index: Value = serde_json::from_slice(&std::fs::read(dir.path().join(INDEX_FILE)).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], json!(2 * config.parameter_count()));
    let map = index["weight_map"].as_object().unwrap();
    assert_eq!(
        map.keys().collect::<Vec<_>>(),
        config.parameters().iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    for (name, file) in map {
        let bytes = std::fs::read(dir.path().join(file.as_str().unwrap())).unwrap();
        assert!(safetensors::SafeTensors::deserialize(&bytes).unwrap().tensor(name).is_ok());
    }
}

#[test]
fn a_folder_without_weights_says_what_was_looked_for() {
    let dir = copy();
    std::fs::remove_file(dir.path().join(SINGLE_FILE)).unwrap();
    let place = dir.path().display().to_string();
    says(load(&dir), &["no weights", &place, SINGLE_FILE, INDEX_FILE]);
}

#[test]
fn a_file_cut_anywhere_is_refused_with_both_lengths() {
    let whole = std::fs::read(fixture("qwen3-tiny").join(SINGLE_FILE)).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for (length, expected) in [(0, 8), (5, 8), (8, header), (header - 1, header), (header, whole.len())] {
        let dir = copy();
        std::fs::write(dir.path().join(SINGLE_FILE), &whole[..length]).unwrap();
        says(load(&dir), &[SINGLE_FILE, &format!("has {length} bytes"), &format!("says {expected}")]);
    }
    let dir = copy();
    std::fs::write(dir.path().join(SINGLE_FILE), [&whole[..], b"tail"].concat()).unwrap();
    says(load(&dir), &[&format!("has {} bytes", whole.len() + 4), &format!("says {}", whole.len())]);
}

#[test]
fn a_damaged_header_is_refused() {
    let whole = std::fs::read(fixture("qwen3-tiny").join(SINGLE_FILE)).unwrap();
    let refused = |bytes: Vec<u8>| {
        let dir = copy();
        std::fs::write(dir.path().join(SINGLE_FILE), bytes).unwrap();
        load(&dir)
    };
    let mut bytes = whole.clone();
    bytes[8] = b'[';
    says(refused(bytes), &[SINGLE_FILE, "damaged safetensors header"]);
    let mut bytes = whole;
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    says(refused(bytes), &["damaged safetensors header", &u64::MAX.to_string()]);
    says(refused(b"<!DOCTYPE html><html></html>".to_vec()), &["damaged safetensors header"]);
}

#[test]
fn a_missing_shard_is_named_and_a_shard_elsewhere_refused() {
    let (config, tensors) = tiny();
    let dir = tempfile::tempdir().unwrap();
    let written = weights::save(dir.path(), &config, &tensors, WeightDtype::F32, 40_000).unwrap();
    std::fs::remove_file(&written[1]).unwrap();
    let shard = written[1].file_name().unwrap().to_str().unwrap();
    says(weights::load(dir.path(), &config, &CPU), &[INDEX_FILE, shard]);

    for outside in ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", ""] {
        let index = json!({"weight_map": {"model.norm.weight": outside}});
        std::fs::write(dir.path().join(INDEX_FILE), index.to_string()).unwrap();
        says(weights::load(dir.path(), &config, &CPU), &[&format!("`{outside}`"), "beside the index"]);
    }
    std::fs::write(dir.path().join(INDEX_FILE), "{}").unwrap();
    says(weights::load(dir.path(), &config, &CPU), &[INDEX_FILE, "weight_map"]);
}

#[test]
fn tensors_that_do_not_fit_the_config_are_named() {
    let name = "model.layers.1.mlp.up_proj.weight";
    says(load(&broken(|all| all.retain(|raw| raw.0 != name))), &[name, "missing", "[96, 64]"]);
    let reshaped =
        broken(|all| all.iter_mut().filter(|raw| raw.0 == name).for_each(|raw| raw.2 = vec![64, 96]));
    says(load(&reshaped), &[name, "[64, 96]", "[96, 64]"]);
    let deeper =
        broken(|all| all.push(("model.layers.2.mlp.up_proj.weight".into(), "F32", vec![1], vec![0; 4])));
    says(load(&deeper), &["model.layers.2.mlp", "2 layers (0 to 1)"]);
    let integer = broken(|all| all.iter_mut().filter(|raw| raw.0 == name).for_each(|raw| raw.1 = "I32"));
    says(load(&integer), &[name, "I32", "BF16"]);
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let (config, tensors) = tiny();
    let dir = tempfile::tempdir().unwrap();
    let norm = raw("model.norm.weight", &tensors["model.norm.weight"]);
    write_safetensors(&dir.path().join("a.safetensors"), std::slice::from_ref(&norm));
    write_safetensors(&dir.path().join("b.safetensors"), &[norm]);
    let index = json!({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}});
    std::fs::write(dir.path().join(INDEX_FILE), index.to_string()).unwrap();
    says(weights::load(dir.path(), &config, &CPU), &["model.norm.weight", "b.safetensors"]);
}

#[test]
fn extra_tensors_are_left_out() {
    let extra = |name: &str| (name.to_string(), "F32", vec![1], vec![0; 4]);
    let dir = broken(|all| all.extend([extra("lm_head.weight"), extra("model.rotary_emb.inv_freq")]));
    assert_eq!(all_bits(&load(&dir).unwrap()), all_bits(&tiny().1));
}

#[test]
fn an_untied_model_without_its_head_is_refused() {
    let dir = copy();
    let config = config_setting("tie_word_embeddings", json!(false)).unwrap();
    says(weights::load(dir.path(), &config, &CPU), &["lm_head.weight", "missing"]);
}

#[test]
fn a_weight_that_is_not_finite_is_found() {
    for (at, value) in [(0, f32::NAN), (127 * 64 + 63, f32::INFINITY), (70, f32::NEG_INFINITY)] {
        let name = "model.embed_tokens.weight";
        let dir = broken(|all| {
            let raw = all.iter_mut().find(|raw| raw.0 == name).unwrap();
            raw.3[4 * at..4 * at + 4].copy_from_slice(&value.to_le_bytes());
        });
        says(load(&dir), &[name, &format!("is {value} at flat index {at};")]);
    }
}

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
        ("config.json", include_bytes!("fixtures/parity/qwen3-tiny/config.json")),
        ("model.safetensors", include_bytes!("fixtures/parity/qwen3-tiny/model.safetensors")),
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
