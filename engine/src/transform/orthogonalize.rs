//! Momentum whose matrices have about equal singular values.

use serde::{Deserialize, Serialize};

use super::{Beta, Context, State, Transform};
use crate::kernels::{Kernel, Path, Start, View, each, each_with_mut, product, squared_norm};
use crate::model::Flat;

/// The direction of Muon: m ← β m + (1 − β) g, then the orthogonal matrix nearest to m, about, by Newton–Schulz iterations.
/// Its root mean square is brought to 0.2, as that of Adam's changes is about, so that a learning rate of AdamW serves.
/// Parameters that are no matrices keep their momentum as it is, so it is meant for kind `matrix` alone.
///
/// # Source
/// Jordan et al., Muon, 2024 (iteration and coefficients); Liu et al., Muon is Scalable for LLM Training, arXiv:2502.16982
/// (the scale 0.2·√max(rows, columns)). Momentum as in PyTorch's `torch.optim.Muon`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Orthogonalize {
    /// Share of the momentum that an update keeps, β.
    pub momentum: Beta,
    /// Whether to look ahead: (1 − β) g + β m goes on instead of m.
    pub nesterov: bool,
    /// Newton–Schulz iterations.
    pub iterations: usize,
}

impl Default for Orthogonalize {
    fn default() -> Self {
        Self { momentum: Beta::new(0.95), nesterov: true, iterations: 5 }
    }
}

/// Coefficients a, b, c of X ← a X + (b A + c A²) X with A = X Xᵀ, which bring singular values in (0, 1] near 1 fast
/// rather than exactly: they end between about 0.7 and 1.2.
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// Root mean square of the result.
const ROOT_MEAN_SQUARE: f32 = 0.2;

impl Transform for Orthogonalize {
    fn name(&self) -> &'static str {
        "orthogonalize"
    }

    fn slots(&self) -> &'static [&'static str] {
        &["m"]
    }

    fn apply(&self, grads: &mut Flat, state: &mut State, context: &Context<'_>) {
        state.next_step();
        let [m] = state.slots();
        let layout = grads.layout().clone();
        let beta = f64::from(self.momentum);
        let (b, a, nesterov) = (beta as f32, (1.0 - beta) as f32, self.nesterov);
        for name in context.names {
            each_with_mut(grads.get_mut(name), m.get_mut(name), |g, m| {
                *m = b * *m + a * *g;
                *g = if nesterov { a * *g + b * *m } else { *m };
            });
            if let Some([rows, columns]) = layout.shape(name) {
                orthogonalize(grads.get_mut(name), *rows, *columns, self.iterations);
                let scale = ROOT_MEAN_SQUARE * ((*rows).max(*columns) as f32).sqrt();
                each(grads.get_mut(name), |x| *x *= scale);
            }
        }
    }
}

/// Replaces a matrix, `(rows, columns)` row by row, by about the orthogonal one that is nearest to it. One of zeros stays.
fn orthogonalize(x: &mut [f32], rows: usize, columns: usize, iterations: usize) {
    let norm = squared_norm(x).sqrt();
    if norm == 0.0 || !norm.is_finite() {
        return;
    }
    let inverse = (1.0 / norm) as f32;
    each(x, |x| *x *= inverse);
    // A is as small as can be: of the rows, or of the columns with everything transposed
    let wide = rows <= columns;
    let (small, large) = if wide { (rows, columns) } else { (columns, rows) };
    let kernel = [Path::Avx512, Path::Avx2].into_iter().find_map(Kernel::new).or(Kernel::new(Path::Portable));
    let kernel = kernel.expect("every machine has the portable path");
    let [a, b, c] = COEFFICIENTS;
    let (mut gram, mut poly) = (vec![0f32; small * small], vec![0f32; small * small]);
    let mut next = vec![0f32; x.len()];
    for _ in 0..iterations {
        let view = View::rows(x, columns);
        let view = if wide { view } else { view.t() };
        product(kernel, (small, small, large), view, view.t(), &mut gram, small, Start::Zero);
        let square = View::rows(&gram, small);
        product(kernel, (small, small, small), square, square, &mut poly, small, Start::Zero);
        each_with_mut(&mut poly, &mut gram, |poly, gram| *poly = b * *gram + c * *poly);
        // (b A + c A²) X, or X times it where X lies on its side
        let poly = View::rows(&poly, small);
        if wide {
            product(
                kernel,
                (rows, columns, small),
                poly,
                View::rows(x, columns),
                &mut next,
                columns,
                Start::Zero,
            );
        } else {
            product(
                kernel,
                (rows, columns, small),
                View::rows(x, columns),
                poly,
                &mut next,
                columns,
                Start::Zero,
            );
        }
        each_with_mut(x, &mut next, |x, next| *x = a * *x + *next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns).map(|i| ((i * 7919 % 1009) as f32 / 504.5 - 1.0) * (1 + i % 3) as f32).collect()
    }

    /// X Xᵀ of the narrower side.
    fn gram(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        let small = rows.min(columns);
        let at = |i: usize, k: usize| if rows <= columns { x[i * columns + k] } else { x[k * columns + i] };
        let pair = |i: usize, j: usize| (0..rows.max(columns)).map(|k| at(i, k) * at(j, k)).sum();
        (0..small * small).map(|place| pair(place / small, place % small)).collect()
    }

    #[test]
    fn singular_values_come_near_one_whatever_the_shape_and_the_size() {
        for (rows, columns) in [(5, 5), (4, 37), (37, 4), (1, 9), (9, 1), (64, 48)] {
            for scale in [1e-6f32, 1.0, 1e5] {
                let mut x = matrix(rows, columns);
                x.iter_mut().for_each(|x| *x *= scale);
                orthogonalize(&mut x, rows, columns, 5);
                let small = rows.min(columns);
                // the trace of X Xᵀ is the sum of squared singular values
                let trace: f32 = (0..small).map(|i| gram(&x, rows, columns)[i * small + i]).sum();
                let mean = trace / small as f32;
                assert!((0.4..1.5).contains(&mean), "{rows} × {columns} × {scale}: {mean}");
            }
        }
        let mut zeros = vec![0.0; 12];
        orthogonalize(&mut zeros, 3, 4, 5);
        assert!(zeros.iter().all(|x| *x == 0.0));
    }

    #[test]
    fn a_matrix_and_its_transpose_go_the_same_way() {
        let (rows, columns) = (6, 17);
        let x = matrix(rows, columns);
        let mut transposed: Vec<f32> = (0..x.len()).map(|i| x[i % rows * columns + i / rows]).collect();
        let mut x = x;
        orthogonalize(&mut x, rows, columns, 5);
        orthogonalize(&mut transposed, columns, rows, 5);
        for i in 0..x.len() {
            let (found, wanted) = (transposed[i], x[i % rows * columns + i / rows]);
            assert!((found - wanted).abs() < 1e-4, "{found} and {wanted} at {i}");
        }
    }
}
