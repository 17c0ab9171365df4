//! A gradient in a few hundred numbers whose inner products are, on average, those of the gradients.
//!
//! Before: a gradient that there is no room to keep. After: inner products and norms of many of them.

/// A seeded random projection: every number gets a random sign and is added to one of `width` places.
///
/// ⟨sketch a, sketch b⟩ is an unbiased estimate of ⟨a, b⟩ with a variance of at most (‖a‖²‖b‖² + ⟨a, b⟩²)/width. Numbers go
/// to places in runs: each run of `width` numbers is turned by a random amount, so that no two of a run share a place.
///
/// # Source
/// Charikar, Chen & Farach-Colton (2002); here with one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sketch {
    /// Numbers of a sketch, a multiple of 64.
    width: usize,
    seed: u64,
}

impl Sketch {
    /// Of so many numbers, rounded up to a multiple of 64.
    pub fn new(width: usize, seed: u64) -> Self {
        Self { width: width.next_multiple_of(64).max(64), seed }
    }

    /// Numbers of a sketch.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The sketch of some numbers, `(width,)`. The same numbers in the same order give the same sketch.
    pub fn of(&self, numbers: &[f32]) -> Vec<f32> {
        let mut sketch = vec![0f32; self.width];
        for (run, numbers) in numbers.chunks(self.width).enumerate() {
            let turn = (hash(self.seed, run as u64, u64::MAX) % self.width as u64) as usize;
            for (word, numbers) in numbers.chunks(64).enumerate() {
                let signs = hash(self.seed, run as u64, word as u64);
                for (bit, number) in numbers.iter().enumerate() {
                    let place = (turn + 64 * word + bit) % self.width;
                    sketch[place] += if signs >> bit & 1 == 1 { *number } else { -number };
                }
            }
        }
        sketch
    }
}

/// 64 mixed bits (the finaliser of SplitMix64 over three numbers).
fn hash(seed: u64, a: u64, b: u64) -> u64 {
    let mix = |mut x: u64| {
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    };
    mix(mix(mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)) ^ a)
        .wrapping_add(b.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_products_are_right_on_average_and_spread_as_stated() {
        let a: Vec<f32> = (0..5000).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let b: Vec<f32> =
            a.iter().enumerate().map(|(i, a)| 0.5 * a + ((i * 53) % 97) as f32 / 60.0 - 0.8).collect();
        let inner = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let (exact, aa, bb) = (inner(&a, &b), inner(&a, &a), inner(&b, &b));
        let draws: Vec<f64> = (0..400)
            .map(|seed| {
                let sketch = Sketch::new(256, seed);
                inner(&sketch.of(&a), &sketch.of(&b))
            })
            .collect();
        let mean = draws.iter().sum::<f64>() / 400.0;
        let variance = draws.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / 399.0;
        let stated = (aa * bb + exact * exact) / 256.0;
        assert!((mean - exact).abs() < 4.0 * (stated / 400.0).sqrt(), "{mean} is not {exact}");
        assert!(variance < 1.3 * stated, "{variance} is more than {stated}");
    }

    #[test]
    fn a_sketch_is_linear_and_seeded() {
        let a: Vec<f32> = (0..300).map(|i| i as f32).collect();
        let double: Vec<f32> = a.iter().map(|a| 2.0 * a).collect();
        let sketch = Sketch::new(100, 7);
        assert_eq!(sketch.width(), 128);
        let twice: Vec<f32> = sketch.of(&a).iter().map(|s| 2.0 * s).collect();
        assert_eq!(sketch.of(&double), twice);
        assert_ne!(sketch.of(&a), Sketch::new(100, 8).of(&a));
    }
}
