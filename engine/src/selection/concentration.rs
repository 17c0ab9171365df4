//! How much the directions of a prompt's tokens agree: angle concentration.
//!
//! Before: [`crate::model::Policy::mlp_input`] gives a row for every token. After: prompts are ordered by their score, see
//! [`super::Angle`]. A mean of cosines over all pairs of tokens is a product of sums of unit vectors, so all of it takes O(T·d) and
//! no matrix of T × T: Σᵢⱼ cos(i, j) = ‖Σᵢ nᵢ‖², and Σᵢ∈A Σⱼ∈B cos(i, j) = (Σᵢ∈A nᵢ)·(Σⱼ∈B nⱼ).
//!
//! # Source
//! GAIN-RL, arXiv:2506.02281. The means over blocks are what its text describes; its released code averages over other rows, with
//! the zeros of a mask among them, which [`Released`] repeats.

/// Sum of the directions of some tokens. Rows of zeros have none and are passed over.
#[derive(Debug, Clone, PartialEq)]
pub struct Directions {
    /// Σ of unit vectors, `(width,)`.
    sum: Vec<f64>,
    /// Tokens that have a direction.
    count: usize,
}

impl Directions {
    /// Of no token yet.
    pub fn none(width: usize) -> Self {
        Self { sum: vec![0.0; width], count: 0 }
    }

    /// Of rows `(tokens, width)`.
    pub fn of(rows: &[f32], width: usize) -> Self {
        let mut all = Self::none(width);
        rows.chunks_exact(width).for_each(|row| all.add(row));
        all
    }

    /// Takes in a token.
    fn add(&mut self, row: &[f32]) {
        let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        // NaN goes on into the sum: what it belongs to comes last
        if norm != 0.0 {
            self.count += 1;
            self.sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x) / norm);
        }
    }

    /// Σ of the cosines of each of these tokens with each of the others'.
    fn dot(&self, other: &Self) -> f64 {
        self.sum.iter().zip(&other.sum).map(|(a, b)| a * b).sum()
    }

    /// Mean cosine over all pairs of two tokens, from −1/(n − 1) to 1; 0 where there are no two.
    pub fn within(&self) -> f64 {
        let n = self.count as f64;
        if self.count < 2 { 0.0 } else { (self.dot(self) - n) / (n * (n - 1.0)) }
    }

    /// Mean cosine between these tokens and the others, from −1 to 1; 0 where one side has none.
    pub fn between(&self, other: &Self) -> f64 {
        let pairs = self.count * other.count;
        if pairs == 0 { 0.0 } else { self.dot(other) / pairs as f64 }
    }
}

/// Concentration of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Concentration {
    /// Mean cosine of two tokens of the question.
    pub intra: f64,
    /// Mean cosine of a token of the question and one of what stands before it.
    pub inter: f64,
}

impl Concentration {
    /// Of a question behind a prefix.
    pub fn of(prefix: &Directions, question: &Directions) -> Self {
        Self { intra: question.within(), inter: question.between(prefix) }
    }

    /// What prompts are ordered by: C_intra + κ·C_inter.
    pub fn score(&self, kappa: f64) -> f64 {
        self.intra + kappa * self.inter
    }
}

/// Cosines of all tokens with those before them, themselves and the next one: what the mask of the released code leaves.
pub struct Released {
    /// Tokens of the prefix.
    prefix: usize,
    /// For every token behind the prefix, and for the prefix as a whole (first), Σ of its masked row.
    rows: Vec<f64>,
}

impl Released {
    /// Of the tokens behind a prefix of so many, `(tokens, width)`; the last one's row lacks a next token if it is not the end.
    pub fn behind(before: &Directions, prefix: usize, rest: &[f32], width: usize) -> Self {
        let tokens: Vec<&[f32]> = rest.chunks_exact(width).collect();
        let mut seen = before.clone();
        let mut own = tokens.first().map(|row| Directions::of(row, width));
        if let Some(first) = tokens.first() {
            seen.add(first);
        }
        let mut rows = Vec::with_capacity(tokens.len());
        for place in 0..tokens.len() {
            let next = tokens.get(place + 1).map(|row| Directions::of(row, width));
            if let Some(next) = tokens.get(place + 1) {
                seen.add(next);
            }
            rows.push(own.as_ref().map_or(0.0, |own| own.dot(&seen)));
            own = next;
        }
        Self { prefix, rows }
    }

    /// The metric that the released code orders prompts by, of a prompt of `tokens`, the last `suffix` of them the template's. It
    /// slices rows twice where it means rows and columns: the first mean is over rows from twice the prefix on, the other over as
    /// many rows behind the prefix as it is long, both over all columns. NaN where the first has no row, as for most prompts
    /// shorter than two prefixes.
    pub fn offline(&self, tokens: usize, suffix: usize) -> f64 {
        let [first, second] = Self::slices(tokens, self.prefix, suffix);
        let mean = |rows: std::ops::Range<usize>| {
            let count = rows.len() as f64;
            let sum: f64 = rows.map(|row| self.rows[row - self.prefix]).sum();
            sum / (count * tokens as f64)
        };
        mean(first) + 8.0 * mean(second)
    }

    /// The rows of a prompt that the two means of [`Self::offline`] are over.
    pub fn slices(tokens: usize, prefix: usize, suffix: usize) -> [std::ops::Range<usize>; 2] {
        let end = tokens.saturating_sub(suffix);
        let within = |from: usize, to: usize| from.min(to)..to;
        [within(2 * prefix, end.saturating_sub(suffix)), within(prefix, (2 * prefix).min(end).max(prefix))]
    }

    /// The metric that the released code watches while it trains, of a whole sequence: the mean of what the mask leaves, without
    /// entries that are 0 (there are none but by the mask, on activations).
    pub fn online(rows: &[f32], width: usize) -> f64 {
        let tokens = rows.len() / width;
        if tokens == 0 {
            return 0.0;
        }
        let all = Self::behind(&Directions::none(width), 0, rows, width);
        let entries = tokens * (tokens + 1) / 2 + tokens - 1;
        all.rows.iter().sum::<f64>() / entries as f64
    }
}

/// Prompts in the order of a score, the largest first: equal ones by their ids, those without a number last.
pub fn descending<'a>(scores: &[f64], id: impl Fn(usize) -> &'a str) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_by(|a, b| {
        let (x, y) = (scores[*a as usize], scores[*b as usize]);
        let finite_first = x.is_nan().cmp(&y.is_nan());
        let by_score = y.partial_cmp(&x).unwrap_or(std::cmp::Ordering::Equal);
        finite_first.then(by_score).then_with(|| id(*a as usize).cmp(id(*b as usize)))
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tokens of a prefix and three of a question.
    const ROWS: [f32; 10] = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, -1.0, 1.0, 3.0, 4.0];

    fn parts(rows: &[f32], width: usize, prefix: usize) -> (Directions, Directions) {
        let (before, question) = rows.split_at(prefix * width);
        (Directions::of(before, width), Directions::of(question, width))
    }

    fn units(rows: &[f32], width: usize) -> Vec<Vec<f64>> {
        let unit = |row: &[f32]| {
            let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            row.iter().map(|x| f64::from(*x) / norm).collect()
        };
        rows.chunks_exact(width).map(unit).collect()
    }

    fn close(found: f64, wanted: f64) -> bool {
        (found - wanted).abs() < 1e-12
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    /// The matrix of cosines that the released code masks.
    fn masked(vectors: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let row = |i: usize| {
            let entry = |j: usize| if j <= i + 1 { dot(&vectors[i], &vectors[j]) } else { 0.0 };
            (0..vectors.len()).map(entry).collect()
        };
        (0..vectors.len()).map(row).collect()
    }

    fn random(count: usize, seed: u64) -> Vec<f32> {
        let mut seed = data::Seed(seed).at(0).prompt("rows").place(0);
        (0..count).map(|place| seed.uniform(place) as f32 - 0.5).collect()
    }

    #[test]
    fn the_worked_example_has_its_numbers() {
        let (prefix, question) = parts(&ROWS, 2, 2);
        let found = Concentration::of(&prefix, &question);
        assert!((found.intra - 0.549_509).abs() < 1e-6 && (found.inter - 0.264_992).abs() < 1e-6);
        assert!((found.score(1.0) - 0.814_501).abs() < 1e-6);
        assert!((found.score(8.0) - 2.669_442).abs() < 1e-6);
        let all = Directions::of(&ROWS, 2);
        assert!((all.within() - 0.394_558).abs() < 1e-6);
        assert!((all.dot(&all) - 12.891_169).abs() < 1e-6);
    }

    #[test]
    fn the_released_metrics_are_those_of_the_masked_matrix() {
        // two pairs are at right angles: one of their zeros is counted as rounding has it
        let all = Released::behind(&Directions::none(2), 0, &ROWS, 2);
        let sum: f64 = all.rows.iter().sum();
        assert!((sum - 11.208_326).abs() < 1e-6 && (sum / 18.0 - 0.622_685).abs() < 1e-6);
        assert!((Released::online(&ROWS, 2) - sum / 19.0).abs() < 1e-12);
        // what slices of rows and columns would have given
        let block = masked(&units(&ROWS, 2));
        let intra: f64 = block[2..].iter().flat_map(|row| &row[2..]).sum::<f64>() / 9.0;
        assert!((intra - 0.610_784).abs() < 1e-6);
        // one of the released paths divides each feature by its norm over tokens, which gives no cosines
        let norm = |k: usize| ROWS.iter().skip(k).step_by(2).map(|x| x.powi(2)).sum::<f32>().sqrt();
        let wrong: Vec<Vec<f64>> =
            ROWS.chunks_exact(2).map(|row| (0..2).map(|k| f64::from(row[k] / norm(k))).collect()).collect();
        let wrong = masked(&wrong);
        let entries: Vec<f64> = wrong.into_iter().flatten().filter(|x| *x != 0.0).collect();
        assert!((entries.iter().sum::<f64>() / entries.len() as f64 - 0.172_515).abs() < 1e-5);
    }

    #[test]
    fn sums_of_directions_say_what_the_matrix_says() {
        let (width, prefix, suffix, tokens) = (7, 5, 2, 21);
        let rows = random(tokens * width, 3);
        let matrix = masked(&units(&rows, width));
        let mean = |range: std::ops::Range<usize>| {
            let count = range.len() as f64;
            matrix[range].iter().flatten().sum::<f64>() / (count * tokens as f64)
        };
        // as the code says it: a slice of rows of a slice of rows
        let wanted = mean(10..17) + 8.0 * mean(5..10);
        let before = Directions::of(&rows[..prefix * width], width);
        let found = Released::behind(&before, prefix, &rows[prefix * width..], width);
        assert!(close(found.offline(tokens, suffix), wanted));
        // what stands behind the first token of the suffix plays no part
        let cut = &rows[prefix * width..(tokens - suffix + 1) * width];
        let found = Released::behind(&before, prefix, cut, width);
        assert!(close(found.offline(tokens, suffix), wanted));
        let entries: Vec<f64> = matrix.iter().flatten().copied().filter(|x| *x != 0.0).collect();
        let wanted = entries.iter().sum::<f64>() / entries.len() as f64;
        assert!(close(Released::online(&rows, width), wanted));
    }

    #[test]
    fn the_released_slices_have_the_rows_that_the_code_takes() {
        for (tokens, first, second) in [(150, 0, 34), (230, 0, 110), (260, 28, 110), (400, 168, 110)] {
            let found = Released::slices(tokens, 110, 6).map(|rows| rows.len());
            assert_eq!(found, [first, second], "{tokens} tokens");
        }
        let rows = random(20 * 3, 1);
        let found = Released::behind(&Directions::of(&rows[..30], 3), 10, &rows[30..], 3);
        assert!(found.offline(20, 2).is_nan(), "no row is left for the first mean");
    }

    #[test]
    fn neither_lengths_of_rows_nor_a_rotation_of_features_matter() {
        let rows = random(12 * 4, 9);
        let of = |rows: &[f32]| {
            let (prefix, question) = parts(rows, 4, 5);
            Concentration::of(&prefix, &question).score(1.0)
        };
        let scaled: Vec<f32> =
            rows.iter().enumerate().map(|(place, x)| x * (1.0 + (place / 4) as f32)).collect();
        assert!((of(&rows) - of(&scaled)).abs() < 1e-6);
        let (sin, cos) = 0.7f32.sin_cos();
        let rotated: Vec<f32> = rows
            .chunks_exact(4)
            .flat_map(|r| {
                [
                    cos * r[0] - sin * r[1],
                    sin * r[0] + cos * r[1],
                    cos * r[2] - sin * r[3],
                    sin * r[2] + cos * r[3],
                ]
            })
            .collect();
        assert!((of(&rows) - of(&rotated)).abs() < 1e-6);
    }

    #[test]
    fn concentration_is_between_its_bounds_and_1_where_all_rows_are_alike() {
        for seed in 0..50 {
            let n = 2 + seed as usize % 6;
            let within = Directions::of(&random(3 * n, seed), 3).within();
            assert!(within >= -1.0 / (n as f64 - 1.0) - 1e-9 && within <= 1.0 + 1e-9, "{within}");
        }
        let same: Vec<f32> = [0.3, -2.0, 1.0].repeat(6);
        let (prefix, question) = parts(&same, 3, 2);
        let found = Concentration::of(&prefix, &question);
        assert!((found.intra - 1.0).abs() < 1e-9 && (found.inter - 1.0).abs() < 1e-9);
        // the least: directions that add up to nothing
        let three = Directions::of(&[1.0, 0.0, -0.5, 0.75f32.sqrt(), -0.5, -(0.75f32.sqrt())], 2);
        assert!((three.within() + 0.5).abs() < 1e-6);
    }

    #[test]
    fn a_lone_token_no_prefix_and_rows_of_zeros_are_no_trouble() {
        let one = Directions::of(&[1.0, 2.0], 2);
        assert_eq!(one.within(), 0.0);
        let found = Concentration::of(&Directions::none(2), &Directions::of(&ROWS, 2));
        assert_eq!(found.inter, 0.0);
        let with_zeros: Vec<f32> = [&ROWS[..4], &[0.0, 0.0], &ROWS[4..]].concat();
        assert_eq!(Directions::of(&with_zeros, 2).within(), Directions::of(&ROWS, 2).within());
        assert_eq!(Released::online(&[], 2), 0.0);
        assert!((Released::online(&[3.0, 4.0], 2) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_largest_score_is_first_equal_ones_go_by_id_and_nan_is_last() {
        let scores = [0.1, f64::NAN, 0.5, 0.1, f64::NAN, 0.9];
        let ids = ["d", "b", "f", "c", "a", "e"];
        assert_eq!(descending(&scores, |place| ids[place]), [5, 2, 3, 0, 4, 1]);
        assert!(Directions::of(&[f32::NAN, 1.0, 1.0, 1.0], 2).within().is_nan());
    }
}
