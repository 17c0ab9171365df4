//! Sums of gradients that are taken chunk by chunk, so that their differences show signal and noise.

use std::time::Instant;

use crate::Result;
use crate::mixture::Moments;
use crate::model::{Grads, Policy};
use crate::stats::Noise;

/// The gradients of a mini-batch, in each of some branches a sum of chunks: squared norms of all chunks are kept, and the inner
/// products of two branches.
pub(crate) struct ChunkSums<const BRANCHES: usize> {
    sums: [Grads; BRANCHES],
    /// The gradients of the chunk at hand.
    chunk: [Grads; BRANCHES],
    /// Of every chunk its units in each branch, and ‖a‖², ‖b‖² and ⟨a, b⟩ of its branches.
    chunks: Vec<([usize; BRANCHES], [f64; 3])>,
    /// Seconds spent on measuring.
    pub(crate) seconds: f64,
}

impl<const BRANCHES: usize> ChunkSums<BRANCHES> {
    pub(crate) fn new() -> Self {
        let none = || std::array::from_fn(|_| Grads::default());
        Self { sums: none(), chunk: none(), chunks: Vec::new(), seconds: 0.0 }
    }

    /// What the gradient of the chunk at hand is added to, in the policy's own form.
    pub(crate) fn chunk(&mut self, policy: &Policy, branch: usize) -> &mut Grads {
        let chunk = &mut self.chunk[branch];
        if chunk.is_empty() && !chunk.is_of(policy) {
            *chunk = policy.zero_grads();
        }
        chunk
    }

    /// Ends a chunk of so many units, such as prompt groups, in each branch.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub(crate) fn end_chunk(&mut self, units: [usize; BRANCHES]) -> Result<()> {
        let begun = Instant::now();
        let mut squares = [0.0; 3];
        if let [a, b] = self.chunk.as_slice() {
            squares[2] = a.inner(b)?;
        }
        for (branch, (sum, chunk)) in self.sums.iter_mut().zip(&mut self.chunk).enumerate() {
            if sum.is_empty() && !chunk.is_empty() {
                squares[branch] = chunk.global_norm()?.0.powi(2);
                // the first chunk's memory becomes the sum's
                *sum = std::mem::take(chunk);
            } else {
                squares[branch] = sum.add_scaled(1.0, chunk)?;
                chunk.clear();
            }
        }
        self.chunks.push((units, squares));
        self.seconds += begun.elapsed().as_secs_f64();
        Ok(())
    }

    /// ‖A‖², ‖B‖² and ⟨A, B⟩ of the branches' sums.
    fn total(&self) -> Result<[f64; 3]> {
        let mut squares = [0.0; 3];
        for (branch, sum) in self.sums.iter().enumerate() {
            squares[branch] = sum.global_norm()?.0.powi(2);
        }
        if let [a, b] = self.sums.as_slice() {
            squares[2] = a.inner(b)?;
        }
        Ok(squares)
    }
}

impl ChunkSums<1> {
    /// Signal and noise, if there were chunks enough.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub(crate) fn noise(&mut self) -> Result<Option<Noise>> {
        let begun = Instant::now();
        let chunks: Vec<(usize, f64)> =
            self.chunks.iter().map(|([units], squares)| (*units, squares[0])).collect();
        let noise = Noise::estimate(&chunks, self.total()?[0]);
        self.seconds += begun.elapsed().as_secs_f64();
        Ok(noise.filter(|noise| noise.group_variance.is_finite()))
    }

    /// The sum.
    pub(crate) fn into_sum(self) -> Grads {
        let [sum] = self.sums;
        sum
    }
}

impl ChunkSums<2> {
    /// Second moments of both branches, if there were chunks enough.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub(crate) fn moments(&self) -> Result<Option<Moments>> {
        Ok(Moments::estimate(&self.chunks, self.total()?))
    }

    /// Signal and noise of α times one branch and 1 − α times the other; `units` makes one number of a chunk's two.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub(crate) fn noise_of_mixture(
        &self,
        alpha: f64,
        units: impl Fn(&[usize; 2]) -> usize,
    ) -> Result<Option<Noise>> {
        let rest = 1.0 - alpha;
        let mixed = |x: &[f64; 3]| alpha * alpha * x[0] + rest * rest * x[1] + 2.0 * alpha * rest * x[2];
        let chunks: Vec<(usize, f64)> =
            self.chunks.iter().map(|(both, squares)| (units(both), mixed(squares))).collect();
        let noise = Noise::estimate(&chunks, mixed(&self.total()?));
        Ok(noise.filter(|noise| noise.group_variance.is_finite()))
    }

    /// α times one branch's sum and 1 − α times the other's.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub(crate) fn mixture(&self, policy: &Policy, alpha: f64) -> Result<Grads> {
        let mut total = policy.zero_grads();
        total.add_scaled(alpha as f32, &self.sums[0])?;
        total.add_scaled((1.0 - alpha) as f32, &self.sums[1])?;
        Ok(total)
    }
}
