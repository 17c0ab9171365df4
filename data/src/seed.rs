//! Where all randomness comes from: a key made of (seed, step, prompt, place), a stream, the occurrence of the prompt in
//! the step, and a counter, the token.
//!
//! A draw is a pure function of those six, so nothing depends on threads, on the order in which things finish or
//! on which rollouts share a batch. The generator is ChaCha8: the four numbers are its 256-bit key, the occurrence is its
//! 64-bit stream and the token its block counter.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The recipe's seed. [`Seed::at`] narrows it to a step, that to a prompt and how often the step has drawn it before, that to
/// a place in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

/// All draws of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepSeed {
    seed: u64,
    step: u64,
}

/// All draws for one occurrence of a prompt in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptSeed {
    step: StepSeed,
    prompt: u64,
    occurrence: u64,
}

/// All draws of one rollout, one for each token.
#[derive(Debug, Clone)]
pub struct TokenSeed(ChaCha8Rng);

impl Seed {
    /// The draws of a step.
    pub fn at(self, step: u64) -> StepSeed {
        StepSeed { seed: self.0, step }
    }

    /// A seed of its own for another purpose of the same run (`"eval"`, `"data"`, `"init"`): independent streams.
    pub fn named(self, purpose: &str) -> Seed {
        Seed(self.0 ^ fnv1a(purpose.as_bytes()).rotate_left(17))
    }
}

impl StepSeed {
    /// The draws for the prompt with this id, where it occurs first in the step.
    pub fn prompt(self, id: &str) -> PromptSeed {
        PromptSeed { step: self, prompt: fnv1a(id.as_bytes()), occurrence: 0 }
    }

    /// A generator for draws that concern no single prompt, such as an order of prompts.
    pub fn rng(self) -> ChaCha8Rng {
        chacha(self, 0, u64::MAX, 0)
    }
}

impl PromptSeed {
    /// The draws for the same prompt where the step has drawn it so often before: independent streams.
    #[must_use]
    pub fn occurrence(self, occurrence: usize) -> Self {
        Self { occurrence: occurrence as u64, ..self }
    }

    /// The draws of the rollout at this place of the group.
    pub fn place(self, place: usize) -> TokenSeed {
        TokenSeed(chacha(self.step, self.prompt, place as u64, self.occurrence))
    }
}

impl TokenSeed {
    /// A number in [0, 1) with 53 random bits, the same for the same token whatever was asked before.
    pub fn uniform(&mut self, token: usize) -> f64 {
        self.0.set_word_pos(16 * token as u128);
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

fn chacha(step: StepSeed, prompt: u64, place: u64, stream: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, number) in key.chunks_exact_mut(8).zip([step.seed, step.step, prompt, place]) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(stream);
    rng
}

/// FNV-1a, 64 bits: stable between builds and machines, which `std`'s hasher does not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_its_own_coordinates_only() {
        let draw =
            |seed, step, prompt, place, token| Seed(seed).at(step).prompt(prompt).place(place).uniform(token);
        let mut asked_before = Seed(1).at(2).prompt("a").place(3);
        asked_before.uniform(0);
        asked_before.uniform(99);
        assert_eq!(asked_before.uniform(7), draw(1, 2, "a", 3, 7));
        let here = draw(1, 2, "a", 3, 7);
        for other in [
            draw(0, 2, "a", 3, 7),
            draw(1, 3, "a", 3, 7),
            draw(1, 2, "b", 3, 7),
            draw(1, 2, "a", 4, 7),
            draw(1, 2, "a", 3, 8),
            Seed(1).named("eval").at(2).prompt("a").place(3).uniform(7),
            Seed(1).at(2).prompt("a").occurrence(1).place(3).uniform(7),
        ] {
            assert_ne!(here, other);
        }
    }

    #[test]
    fn the_first_occurrence_of_a_prompt_has_the_draws_of_the_prompt_and_each_other_one_its_own() {
        let draws = |occurrence: Option<usize>| -> Vec<f64> {
            let prompt = Seed(1).at(2).prompt("a");
            let mut seed = occurrence.map_or(prompt, |n| prompt.occurrence(n)).place(3);
            (0..4).map(|token| seed.uniform(token)).collect()
        };
        assert_eq!(draws(None), draws(Some(0)));
        // ChaCha8 of the same key and stream 0, worked out by another program
        assert_eq!(draws(None)[..2], [0.718_339_166_248_664_2, 0.173_309_166_836_156_5]);
        let mut all: Vec<u64> = (0..50).flat_map(|n| draws(Some(n))).map(f64::to_bits).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 200, "no two draws are alike");
    }

    #[test]
    fn draws_are_uniform() {
        let mut seed = Seed(0).at(0).prompt("p").place(0);
        let draws: Vec<f64> = (0..20_000).map(|token| seed.uniform(token)).collect();
        assert!(draws.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|u| (u - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!((mean - 0.5).abs() < 0.01, "{mean}"); // 4.9 standard errors
        assert!((variance - 1.0 / 12.0).abs() < 0.003, "{variance}");
    }
}
