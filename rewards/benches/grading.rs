//! Gradings a second on common answers, and the longest time that a hostile one takes.
//!
//! `cargo bench -p evenkeel-rewards`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rewards::Extract;
use rewards::math::equal;
use serde::Deserialize;

#[path = "../tests/math/hostile.rs"]
mod hostile;

#[derive(Deserialize)]
struct Case {
    gold: String,
    prediction: String,
    form: String,
}

fn cases(file: &str) -> Vec<Case> {
    file.lines().map(|line| serde_json::from_str(line).expect("a case")).collect()
}

/// Extraction and comparison of each labelled case.
fn common(c: &mut Criterion) {
    let extract = Extract::default();
    for (name, file) in [
        ("common", include_str!("../tests/math/cases.jsonl")),
        ("rarer", include_str!("../tests/math/more.jsonl")),
    ] {
        let cases = cases(file);
        let mut group = c.benchmark_group("grading");
        group.throughput(Throughput::Elements(cases.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                for case in &cases {
                    let found = match case.form.as_str() {
                        "response" => extract.extract(&case.prediction),
                        _ => Some(case.prediction.clone()),
                    };
                    black_box(found.is_some_and(|found| equal(&case.gold, &found)));
                }
            });
        });
    }
}

/// Each answer that would break a grader, against a plain one and against itself with more behind it.
fn worst(c: &mut Criterion) {
    let mut group = c.benchmark_group("hostile");
    for (at, answer) in hostile::answers().into_iter().enumerate() {
        let other = format!("{answer}+1");
        let name = format!("{at} {}", answer.chars().take(24).collect::<String>());
        group.bench_function(name, |b| {
            b.iter(|| black_box(equal("17.25", &answer) || equal(&answer, &other)));
        });
    }
}

criterion_group!(benches, common, worst);
criterion_main!(benches);
