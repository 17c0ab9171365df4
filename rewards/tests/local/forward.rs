//! The forward pass of all families, written out: no cache, no tensors, f64.

use crate::tiny::{Tiny, Weights};

type Row = Vec<f64>;

fn matrix(weights: &Weights, name: &str, x: &Row) -> Row {
    let (shape, numbers) = &weights[&format!("{name}.weight")];
    let bias = weights.get(&format!("{name}.bias"));
    let row = |i: usize| {
        let row = &numbers[i * shape[1]..(i + 1) * shape[1]];
        let product: f64 = row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum();
        product + bias.map_or(0.0, |(_, bias)| f64::from(bias[i]))
    };
    (0..shape[0]).map(row).collect()
}

fn norm(weights: &Weights, name: &str, x: &[f64]) -> Row {
    let scale = (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64 + 1e-6).sqrt();
    let (_, weight) = &weights[&format!("{name}.weight")];
    x.iter().zip(weight).map(|(x, w)| x / scale * f64::from(*w)).collect()
}

/// Turns each pair (i, i + width / 2) by the place times its frequency, which Llama 3 stretches.
fn rotate(tiny: &Tiny, x: &[f64], place: usize) -> Row {
    let half = x.len() / 2;
    let scaling = &tiny.config["rope_scaling"];
    let mut turned = x.to_vec();
    for i in 0..half {
        let mut frequency = 10f64.powf(-(i as f64) / half as f64);
        if scaling.is_object() {
            let at = |field: &str| scaling[field].as_f64().unwrap();
            let turns = at("original_max_position_embeddings") * frequency / (2.0 * std::f64::consts::PI);
            let (low, high) = (at("low_freq_factor"), at("high_freq_factor"));
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            frequency *= kept + (1.0 - kept) / at("factor");
        }
        let (sin, cos) = (place as f64 * frequency).sin_cos();
        turned[i] = x[i] * cos - x[i + half] * sin;
        turned[i + half] = x[i + half] * cos + x[i] * sin;
    }
    turned
}

fn attention(tiny: &Tiny, layer: &str, rows: &[Row]) -> Vec<Row> {
    let (weights, config) = (&tiny.weights, &tiny.config);
    let size = |field: &str| config[field].as_u64().unwrap() as usize;
    let (heads, kv_heads, width) =
        (size("num_attention_heads"), size("num_key_value_heads"), size("head_dim"));
    let project = |name: &str, turn: bool| -> Vec<Vec<Row>> {
        let of_row = |(place, row): (usize, &Row)| {
            let all = matrix(weights, &format!("{layer}.self_attn.{name}_proj"), row);
            let normed = format!("{layer}.self_attn.{name}_norm");
            let head = |head: &[f64]| {
                let has_norm = weights.contains_key(&format!("{normed}.weight"));
                let head = if has_norm { norm(weights, &normed, head) } else { head.to_vec() };
                if turn { rotate(tiny, &head, place) } else { head }
            };
            all.chunks(width).map(head).collect()
        };
        rows.iter().enumerate().map(of_row).collect()
    };
    let (queries, keys, values) = (project("q", true), project("k", true), project("v", false));
    let of_row = |place: usize| {
        let one = |(head, query): (usize, &Row)| {
            let shared = head / (heads / kv_heads);
            let score = |key: &Vec<Row>| {
                let dot: f64 = query.iter().zip(&key[shared]).map(|(q, k)| q * k).sum();
                (dot / (width as f64).sqrt()).exp()
            };
            let scores: Row = keys[..=place].iter().map(score).collect();
            let total: f64 = scores.iter().sum();
            let mut mean = vec![0.0; width];
            for (score, value) in scores.iter().zip(&values) {
                mean.iter_mut().zip(&value[shared]).for_each(|(mean, value)| *mean += score / total * value);
            }
            mean
        };
        let joined = queries[place].iter().enumerate().flat_map(one).collect();
        matrix(weights, &format!("{layer}.self_attn.o_proj"), &joined)
    };
    (0..rows.len()).map(of_row).collect()
}

/// The outputs of a head behind the last of the tokens.
pub(crate) fn outputs(tiny: &Tiny, head: &str, tokens: &[u32]) -> Row {
    let weights = &tiny.weights;
    let (shape, embedding) = &weights["model.embed_tokens.weight"];
    let embed = |token: &u32| {
        let from = *token as usize * shape[1];
        embedding[from..from + shape[1]].iter().map(|x| f64::from(*x)).collect()
    };
    let mut rows: Vec<Row> = tokens.iter().map(embed).collect();
    let add = |rows: &mut Vec<Row>, more: Vec<Row>| {
        for (row, more) in rows.iter_mut().zip(more) {
            row.iter_mut().zip(more).for_each(|(x, more)| *x += more);
        }
    };
    for layer in 0..2 {
        let layer = format!("model.layers.{layer}");
        let normed = |rows: &[Row], name: &str| -> Vec<Row> {
            rows.iter().map(|row| norm(weights, &format!("{layer}.{name}_layernorm"), row)).collect()
        };
        let read = normed(&rows, "input");
        add(&mut rows, attention(tiny, &layer, &read));
        let mlp = |row: &Row| {
            let gate = matrix(weights, &format!("{layer}.mlp.gate_proj"), row);
            let up = matrix(weights, &format!("{layer}.mlp.up_proj"), row);
            let gated = gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
            matrix(weights, &format!("{layer}.mlp.down_proj"), &gated)
        };
        let written = normed(&rows, "post_attention").iter().map(mlp).collect();
        add(&mut rows, written);
    }
    matrix(weights, head, &norm(weights, "model.norm", rows.last().unwrap()))
}
