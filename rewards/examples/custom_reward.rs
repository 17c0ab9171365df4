//! A reward of one's own beside a built-in one, judged without any model.
//!
//! `cargo run -p evenkeel-rewards --example custom_reward`

use std::io::Write;
use std::sync::Arc;

use data::{Body, Prompt, Rollout};
use rewards::{Math, PartSettings, Rewards};

/// Half a point for every "because", up to one.
fn reasons(rollout: &Rollout) -> f32 {
    (rollout.text.matches("because").count() as f32 / 2.0).min(1.0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let prompt = Prompt {
        id: "half".into(),
        body: Body::Text("What is half of 5?".into()),
        answer: Some("\\frac{5}{2}".into()),
        fields: Default::default(),
    };
    let rollout = Rollout::of_text(Arc::new(prompt), "It is \\boxed{2.5}, because 2.5 + 2.5 = 5.");
    let rewards = Rewards::new().with("math", PartSettings::weight(1.0), Box::new(Math::default()))?.with(
        "reasons",
        PartSettings::weight(0.2),
        Box::new(reasons),
    )?;
    for scored in rewards.score(vec![rollout])? {
        writeln!(std::io::stdout(), "{:?} from {:?}", scored.score.reward, scored.score.parts)?;
    }
    Ok(())
}
