//! A reward function of one's own: half a point for a number, a whole one for the right number.
//!
//! `cargo run --release --example own_reward -- train recipes/examples/own_reward.toml`

use evenkeel::{App, Rollout};

fn main() -> std::process::ExitCode {
    App::new()
        .reward("sum", |rollout: &Rollout| match rollout.text.trim().parse::<i64>() {
            Ok(number) if Some(number.to_string().as_str()) == rollout.prompt.answer.as_deref() => 1.0,
            Ok(_) => 0.5,
            Err(_) => 0.0,
        })
        .main()
}
