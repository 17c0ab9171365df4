//! Training does what it is for.

use crate::{metrics, rl_loop, succeed};

/// Mean reward over some steps.
fn reward(lines: &[serde_json::Value], steps: std::ops::Range<usize>) -> f64 {
    let rewards: Vec<f64> = lines.iter().filter_map(|line| line["reward_mean"].as_f64()).collect();
    rewards[steps.clone()].iter().sum::<f64>() / steps.len() as f64
}

#[test]
fn the_tiny_recipe_raises_the_reward_within_a_few_steps() {
    let folder = tempfile::tempdir().expect("folder");
    let output = succeed(
        folder.path(),
        &[
            "train",
            "tiny",
            "--out",
            "run",
            "--set",
            "rl.steps=16",
            "--set",
            "rl.prompts_per_step=16",
            "--set",
            "eval.prompts=60",
        ],
    );
    let lines = metrics(&folder.path().join("run"));
    let (first, last) = (reward(&lines, 0..3), reward(&lines, 13..16));
    assert!(last > first + 0.1, "reward {first} became {last}");
    assert!(!folder.path().join("run/warnings.jsonl").exists(), "it is a healthy run");
    assert!(output.contains("held-out accuracy before:"), "{output}");
    assert!(output.contains("target of 90 %:"), "{output}");
    for line in &lines[1..] {
        let mismatch = line["mismatch_max"].as_f64().expect("a number");
        assert!(mismatch < 1e-4, "sampler and trainer disagree by {mismatch}");
    }
}

#[test]
fn the_loop_of_the_example_is_the_tiny_recipe_to_the_bit() {
    let mut seen = Vec::new();
    let mut model = rl_loop::tiny().expect("the tiny model");
    let watch = |metrics: &engine::metrics::Metrics| {
        seen.push(serde_json::to_value(metrics)?);
        Ok(())
    };
    rl_loop::train(&mut model, 2, watch).expect("two steps");
    let folder = tempfile::tempdir().expect("folder");
    let settings = ["--set", "rl.steps=2", "--set", "eval.prompts=4"];
    succeed(folder.path(), &[&["train", "tiny", "--out", "run"], &settings[..]].concat());
    let lines = metrics(&folder.path().join("run"));
    assert_eq!(seen.len(), 2);
    for (seen, line) in seen.iter().zip(&lines[1..]) {
        for key in ["step", "reward_mean", "loss", "entropy", "grad_norm", "learning_rate"] {
            assert!(seen[key].is_number(), "{key} of {seen}");
            assert_eq!(seen[key], line[key], "{key} at step {}", line["step"]);
        }
    }
}

#[test]
fn the_supervised_stage_lowers_its_loss() {
    let folder = tempfile::tempdir().expect("folder");
    succeed(
        folder.path(),
        &[
            "train",
            "tiny-warmup",
            "--out",
            "run",
            "--set",
            "sft.steps=30",
            "--set",
            "sft.batch_size=32",
            "--set",
            "sft.schedule.warmup=5",
            "--set",
            "eval.prompts=20",
        ],
    );
    let losses: Vec<f64> =
        metrics(&folder.path().join("run")).iter().filter_map(|line| line["loss"].as_f64()).collect();
    assert_eq!(losses.len(), 30);
    assert!((losses[0] - 259f64.ln()).abs() < 0.5, "random weights know nothing: {}", losses[0]);
    assert!(losses[29] < losses[0] - 1.0, "{losses:?}");
}

#[test]
fn several_updates_a_step_and_a_kl_term_run_and_are_reported() {
    let folder = tempfile::tempdir().expect("folder");
    succeed(
        folder.path(),
        &[
            "train",
            "tiny",
            "--out",
            "run",
            "--set",
            "rl.steps=2",
            "--set",
            "rl.prompts_per_step=4",
            "--set",
            "rl.epochs=2",
            "--set",
            "rl.mini_batches=2",
            "--set",
            "rl.kl={coefficient=0.04}",
            "--set",
            "eval.prompts=5",
            "--set",
            "rl.truncated=\"mask\"",
        ],
    );
    let lines = metrics(&folder.path().join("run"));
    let kl = lines.last().expect("a line")["kl"].as_f64().expect("a number");
    assert!(kl > 0.0 && kl < 10.0, "{kl}");
    assert!(lines.iter().skip(1).any(|line| line["clip_fraction"].as_f64() > Some(0.0)), "{lines:?}");
}
