//! What config.json and its neighbours say.

use super::*;

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

pub(super) fn new_model() -> NewModel {
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
