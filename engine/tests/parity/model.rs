//! Logits and gradients.

use super::*;

#[test]
fn logits_log_probs_and_entropies_match() {
    for f in Fixture::both_ways() {
        for case in ["plain", "leftpad", "rightpad", "offset", "gap"] {
            let name = |part: &str| format!("{case}.{part}");
            let ids = f.ids(&name("input_ids"));
            let mask = match f.get(&name("attention_mask")) {
                Some(_) => f.ids(&name("attention_mask")),
                None => ids.iter().map(|row| vec![1; row.len()]).collect(),
            };
            let positions = f.get(&name("position_ids")).map(|_| f.ids(&name("position_ids")));
            let (mut sequences, mut targets) = (Sequences::default(), Vec::new());
            for (row, (ids, mask)) in ids.iter().zip(&mask).enumerate() {
                let tokens = kept(ids, mask);
                match &positions {
                    Some(positions) => sequences.push_at(&tokens, kept(&positions[row], mask)),
                    None => sequences.push(&tokens),
                }
                targets.extend_from_slice(&tokens[1..]);
                targets.push(0); // what follows the last token is not compared
            }
            let (hidden, _) = f.policy.forward(&sequences, false).expect("hidden");
            let places: Vec<u32> = (0..targets.len() as u32).collect();
            let targets = Targets { places: &places, tokens: &targets, temperature: 1.0 };
            let scores = f.policy.score(&hidden, &targets).expect("scores");
            let what = |quantity: &str| format!("{} {case} {quantity}", f.name);

            let wanted: Vec<f32> =
                f.grid(&name("entropy")).iter().zip(&mask).flat_map(|(row, mask)| kept(row, mask)).collect();
            near(&what("entropy"), &scores.entropy, &wanted, 1e-4);

            let log_probs = scores.log_probs;
            let mut start = 0;
            for ((wanted, mask), length) in
                f.grid(&name("token_logps")).iter().zip(&mask).zip(sequences.lengths())
            {
                let both: Vec<u32> = mask.windows(2).map(|pair| pair[0] * pair[1]).collect();
                near(&what("log-probs"), &log_probs[start..start + length - 1], &kept(wanted, &both), 1e-4);
                start += length;
            }

            if let Some(wanted) = f.get(&name("logits")) {
                let wanted: Vec<Vec<f32>> = wanted
                    .to_vec3::<f32>()
                    .expect("logits")
                    .iter()
                    .zip(&mask)
                    .flat_map(|(rows, mask)| {
                        rows.iter().zip(mask).filter(|(_, m)| **m == 1).map(|(row, _)| row.clone())
                    })
                    .collect();
                let logits = f.policy.logits(&hidden, &places).expect("logits");
                near(&what("logits"), &logits, &wanted.concat(), 1e-4);
            }
        }
    }
}

#[test]
fn the_gradient_of_every_parameter_matches() {
    for f in Fixture::both_ways() {
        let found = nll(&f, &f.policy);
        near_number(&format!("{} nll", f.name), found.loss, number(&f.json["nll"]["value"]), 1e-5);
        let wanted = tensors(f.name, "grads_nll.safetensors");
        let grads = found.grads.tensors().expect("tensors");
        assert!(grads.keys().eq(wanted.keys()), "{}", f.name);
        for (name, wanted) in &wanted {
            near_tensor(&format!("{} nll gradient {name}", f.name), &grads[name], wanted, 1e-4);
        }
    }
}
