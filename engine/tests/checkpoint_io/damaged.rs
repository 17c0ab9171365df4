//! Files that are cut short, damaged or of something else.

use super::*;

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
