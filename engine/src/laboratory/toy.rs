//! Policies that are small enough for a formula, to try the laboratory on.

use super::Pool;
use crate::baseline::RowWeights;

/// One draw: reward, score S, and length.
pub type ToyDraw = (f32, Vec<f64>, f64);

/// A policy: draws from numbers in 0..1.
pub type Toy = fn(&mut dyn FnMut() -> f64) -> ToyDraw;

/// θ of the bandit; rewards of its three actions.
const BANDIT: ([f64; 3], [f32; 3]) = ([0.5, 0.0, -0.5], [1.0, 0.0, 0.3]);

fn softmax(theta: &[f64; 3]) -> [f64; 3] {
    let total: f64 = theta.iter().map(|t| t.exp()).sum();
    theta.map(|t| t.exp() / total)
}

/// A softmax over three actions with θ = (0.5, 0, −0.5) and rewards (1, 0, 0.3).
pub fn bandit(uniforms: &mut dyn FnMut() -> f64) -> ToyDraw {
    let (theta, rewards) = BANDIT;
    let p = softmax(&theta);
    let u = uniforms();
    let action = if u < p[0] {
        0
    } else if u < p[0] + p[1] {
        1
    } else {
        2
    };
    let score = (0..3).map(|k| f64::from(u8::from(k == action)) - p[k]).collect();
    (rewards[action], score, 1.0)
}

/// Two parameters: one decides whether to stop after the first token, with P(stop) = σ(0.3), the other draws the
/// second token. A long answer is right more often, so reward and squared norm go together.
pub fn two_step(uniforms: &mut dyn FnMut() -> f64) -> ToyDraw {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let (stop, second) = (sigmoid(0.3), sigmoid(-0.4));
    if uniforms() < stop {
        return (0.2, vec![1.0 - stop, 0.0], 1.0);
    }
    let right = uniforms() < second;
    (if right { 1.0 } else { 0.1 }, vec![-stop, f64::from(u8::from(right)) - second], 2.0)
}

/// Groups of draws.
pub fn pool(
    name: &str,
    draw: Toy,
    groups: usize,
    group_size: usize,
    uniforms: &mut dyn FnMut() -> f64,
) -> Pool {
    let draws: Vec<ToyDraw> = (0..groups * group_size).map(|_| draw(uniforms)).collect();
    let inner = |a: &ToyDraw, b: &ToyDraw| a.1.iter().zip(&b.1).map(|(a, b)| a * b).sum::<f64>();
    let norms: Vec<f64> = draws.iter().map(|d| inner(d, d)).collect();
    Pool {
        prompt: name.to_owned(),
        group_size,
        rewards: draws.iter().map(|draw| draw.0).collect(),
        gram: draws.iter().flat_map(|a| draws.iter().map(move |b| inner(a, b) as f32)).collect(),
        weights: RowWeights {
            length: draws.iter().map(|draw| draw.2).collect(),
            // here the logits are the parameters
            logit: norms.clone(),
            lm_head: norms.clone(),
            full: norms,
        },
        others: None,
    }
}
