//! How long verdicts of the grader take, on one core: the median, the slowest, and how many a second.
//!
//! `cargo run --release -p evenkeel-rewards --example grading_speed -- rewards/tests/math/*.jsonl`
//!
//! Each line of a file is `{"gold", "prediction", "form", "equivalent"}`; with a `form` of `response` or `boxed`, or with
//! `completion` instead of `prediction`, the answer is looked for in a completion. Pairs that are judged otherwise than they are labelled are listed. Hostile answers are measured
//! without a file too.
#![allow(clippy::print_stdout, reason = "it is a measurement to be read")]

use std::time::{Duration, Instant};

use rewards::Extract;
use rewards::math::equal;
use serde_json::Value;

#[path = "../tests/math/hostile.rs"]
mod hostile;

fn judged(pair: &Value) -> bool {
    let text = |name: &str| pair[name].as_str().unwrap_or_default();
    let completion = matches!(text("form"), "response" | "boxed") || pair.get("prediction").is_none();
    let prediction = if pair.get("prediction").is_some() { text("prediction") } else { text("completion") };
    match completion {
        true => Extract::default().extract(prediction).is_some_and(|found| equal(text("gold"), &found)),
        false => equal(text("gold"), prediction),
    }
}

/// The shortest of some times, as what else the machine does only adds to it.
fn least(times: usize, what: impl Fn() -> bool) -> Duration {
    let once = || {
        let begun = Instant::now();
        std::hint::black_box(what());
        begun.elapsed()
    };
    (0..times).map(|_| once()).min().unwrap_or_default()
}

/// Verdicts that take longer are listed.
const SLOW: Duration = Duration::from_millis(2);

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

fn report(name: &str, mut times: Vec<(Duration, String)>) {
    times.sort();
    let total: Duration = times.iter().map(|(time, _)| *time).sum();
    let Some((worst, of)) = times.last() else { return };
    println!(
        "{name}: {} verdicts, median {:.1} µs, {:.0} a second, worst {:.2} ms: {}",
        times.len(),
        times[times.len() / 2].0.as_secs_f64() * 1e6,
        times.len() as f64 / total.as_secs_f64(),
        worst.as_secs_f64() * 1e3,
        shown(of),
    );
    for (time, of) in times.iter().rev().take_while(|(time, _)| *time > SLOW).take(8) {
        println!("  {:.2} ms: {} bytes, {}", time.as_secs_f64() * 1e3, of.len(), shown(of));
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in std::env::args().skip(1) {
        let mut times = Vec::new();
        let mut wrong = 0;
        for line in std::fs::read_to_string(&file)?.lines() {
            let pair: Value = serde_json::from_str(line)?;
            let label = pair.get("equivalent").or_else(|| pair.get("expected")).and_then(Value::as_bool);
            if label.is_some_and(|label| label != judged(&pair)) {
                wrong += 1;
                println!("not as labelled: {line}");
            }
            times.push((least(5, || judged(&pair)), line.to_owned()));
        }
        println!("{file}: {wrong} of {} not as labelled", times.len());
        report(&file, times);
    }
    let answers = hostile::answers();
    let mut times = Vec::new();
    for (at, answer) in answers.iter().enumerate() {
        let (longer, next) = (format!("{answer}+1"), &answers[(at + 1) % answers.len()]);
        let pairs = [("17.25", answer), (answer, &longer), (answer, next)];
        for (gold, found) in pairs {
            times.push((least(3, || equal(gold, found)), found.clone()));
        }
        let prose = format!("So the answer is ${answer}$.");
        times.push((least(3, || Extract::default().extract(&prose).is_some()), prose.clone()));
    }
    report("hostile", times);
    Ok(())
}
