//! Weights in one file or many, in each precision.

use super::*;

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
