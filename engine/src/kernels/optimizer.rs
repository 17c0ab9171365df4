//! One pass over weights, gradients and moments; and sums over all of a gradient.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::math::{dot, wide};

/// Numbers that one thread takes at a time; sums over them are added in order.
const CHUNK: usize = 1 << 14;

/// One update of Adam with decoupled weight decay, its numbers settled.
///
/// # Source
/// Kingma & Ba, arXiv:1412.6980, algorithm 1; Loshchilov & Hutter, arXiv:1711.05101.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// Gradients are multiplied by it first: the clip.
    pub scale: f32,
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε.
    pub epsilon: f32,
    /// 1 / (1 − β₁ᵗ).
    pub correct1: f32,
    /// 1 / (1 − β₂ᵗ).
    pub correct2: f32,
    /// η.
    pub learning_rate: f32,
    /// λ: a step takes η λ w away.
    pub decay: f32,
}

/// m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²; w ← w − η (m̂ / (√v̂ + ε) + λ w), in one pass.
///
/// # Panics
/// If the lengths differ.
pub fn adam(step: &AdamStep, weights: &mut [f32], grads: &[f32], m: &mut [f32], v: &mut [f32]) {
    assert!(weights.len() == grads.len() && grads.len() == m.len() && m.len() == v.len());
    let (b1, b2) = (step.beta1 as f32, step.beta2 as f32);
    let (a1, a2) = ((1.0 - step.beta1) as f32, (1.0 - step.beta2) as f32);
    weights
        .par_chunks_mut(CHUNK)
        .zip(grads.par_chunks(CHUNK))
        .zip(m.par_chunks_mut(CHUNK))
        .zip(v.par_chunks_mut(CHUNK))
        .for_each(|(((w, g), m), v)| {
            wide(|| {
                for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                    let g = g * step.scale;
                    *m = *m * b1 + g * a1;
                    *v = *v * b2 + g * g * a2;
                    let change = *m * step.correct1 / ((*v * step.correct2).sqrt() + step.epsilon);
                    *w -= step.learning_rate * (change + step.decay * *w);
                }
            });
        });
}

/// g ← m̂ / (√v̂ + ε) with m ← β₁ m + (1 − β₁) g and v ← β₂ v + (1 − β₂) g²: what [`adam`] makes of gradients, before the rate
/// and to the bit.
///
/// # Panics
/// If the lengths differ.
pub fn scale_by_adam(step: &AdamStep, grads: &mut [f32], m: &mut [f32], v: &mut [f32]) {
    assert!(grads.len() == m.len() && m.len() == v.len());
    let (b1, b2) = (step.beta1 as f32, step.beta2 as f32);
    let (a1, a2) = ((1.0 - step.beta1) as f32, (1.0 - step.beta2) as f32);
    let chunks = grads.par_chunks_mut(CHUNK).zip(m.par_chunks_mut(CHUNK)).zip(v.par_chunks_mut(CHUNK));
    chunks.for_each(|((g, m), v)| {
        wide(|| {
            for ((g, m), v) in g.iter_mut().zip(m).zip(v) {
                *m = *m * b1 + *g * a1;
                *v = *v * b2 + *g * *g * a2;
                *g = *m * step.correct1 / ((*v * step.correct2).sqrt() + step.epsilon);
            }
        });
    });
}

/// Does `f` to every number.
pub fn each(x: &mut [f32], f: impl Fn(&mut f32) + Sync) {
    x.par_chunks_mut(CHUNK).for_each(|x| wide(|| x.iter_mut().for_each(&f)));
}

/// Does `f` to every number and its counterpart.
///
/// # Panics
/// If the lengths differ.
pub fn each_with(x: &mut [f32], y: &[f32], f: impl Fn(&mut f32, f32) + Sync) {
    assert_eq!(x.len(), y.len());
    let chunks = x.par_chunks_mut(CHUNK).zip(y.par_chunks(CHUNK));
    chunks.for_each(|(x, y)| wide(|| x.iter_mut().zip(y).for_each(|(x, y)| f(x, *y))));
}

/// Does `f` to every number and its counterpart, both of which may change.
///
/// # Panics
/// If the lengths differ.
pub fn each_with_mut(x: &mut [f32], y: &mut [f32], f: impl Fn(&mut f32, &mut f32) + Sync) {
    assert_eq!(x.len(), y.len());
    let chunks = x.par_chunks_mut(CHUNK).zip(y.par_chunks_mut(CHUNK));
    chunks.for_each(|(x, y)| wide(|| x.iter_mut().zip(y).for_each(|(x, y)| f(x, y))));
}

/// Adds `from` times `factor` to `to` and gives Σ (factor · from)², chunk by chunk in order, in one pass.
///
/// # Panics
/// If the lengths differ.
pub fn add_scaled(to: &mut [f32], factor: f32, from: &[f32]) -> f64 {
    assert_eq!(to.len(), from.len());
    let chunks = to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK));
    let parts: Vec<f64> = chunks
        .map(|(to, from)| {
            wide(|| {
                to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
                f64::from(dot(from, from))
            })
        })
        .collect();
    f64::from(factor).powi(2) * parts.iter().sum::<f64>()
}

/// Σ a b, chunk by chunk in order.
///
/// # Panics
/// If the lengths differ.
pub fn inner(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let parts: Vec<f64> =
        a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)).map(|(a, b)| f64::from(wide(|| dot(a, b)))).collect();
    parts.iter().sum()
}

/// Σ (x / (√(v · correct) + ε))², chunk by chunk in order: a gradient in the metric of Adam's second moment.
///
/// # Panics
/// If the lengths differ.
pub fn preconditioned_norm(x: &[f32], v: &[f32], correct: f32, epsilon: f32) -> f64 {
    assert_eq!(x.len(), v.len());
    let chunk = |(x, v): (&[f32], &[f32])| {
        let squares = x.iter().zip(v).map(|(x, v)| {
            let y = x / ((v * correct).sqrt() + epsilon);
            f64::from(y * y)
        });
        squares.sum::<f64>()
    };
    let parts: Vec<f64> = x.par_chunks(CHUNK).zip(v.par_chunks(CHUNK)).map(chunk).collect();
    parts.iter().sum()
}

/// Σ x², chunk by chunk in order.
pub fn squared_norm(x: &[f32]) -> f64 {
    let parts: Vec<f64> = x.par_chunks(CHUNK).map(|x| f64::from(wide(|| dot(x, x)))).collect();
    parts.iter().sum()
}
