//! How the rollouts of a group differ, from their tokens alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A measure of how rollouts differ, 0 for all alike.
///
/// # Source
/// Trajectory diversity of MMR1, arXiv:2509.21268. Its released code adds self-BLEU as it is, which is a similarity: here it is
/// taken from 1, as the paper says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Diversity {
    /// 1 − self-BLEU of 1- to 3-grams.
    #[default]
    SelfBleu,
    /// Share of 3-grams that differ.
    Distinct,
    /// Mean edit distance over pairs, each divided by the longer length.
    EditDistance,
}

/// Tokens of a completion that are looked at: the cost grows with their number, that of edit distances with its square.
const TOKENS: usize = 512;

impl Diversity {
    /// Of some completions' tokens, in 0 to 1; 0 of fewer than two.
    pub fn of(self, completions: &[&[u32]]) -> f32 {
        let cut: Vec<&[u32]> = completions.iter().map(|tokens| &tokens[..tokens.len().min(TOKENS)]).collect();
        if cut.len() < 2 {
            return 0.0;
        }
        let value = match self {
            Self::SelfBleu => 1.0 - self_bleu(&cut),
            Self::Distinct => distinct(&cut, 3),
            Self::EditDistance => {
                let pairs = (0..cut.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
                let far = |(i, j): (usize, usize)| {
                    let longer = cut[i].len().max(cut[j].len()).max(1);
                    edit_distance(cut[i], cut[j]) as f64 / longer as f64
                };
                let all: Vec<f64> = pairs.map(far).collect();
                all.iter().sum::<f64>() / all.len() as f64
            }
        };
        value as f32
    }
}

/// Different n-grams over all n-grams of the completions together; 0 if there are none.
pub fn distinct(completions: &[&[u32]], n: usize) -> f64 {
    let all: Vec<&[u32]> = completions.iter().flat_map(|tokens| tokens.windows(n)).collect();
    let different: BTreeSet<&[u32]> = all.iter().copied().collect();
    if all.is_empty() { 0.0 } else { different.len() as f64 / all.len() as f64 }
}

/// The mean over completions of the BLEU of 1- to 3-grams against all others.
///
/// # Source
/// Papineni et al. 2002, with the smoothing that NLTK calls method 1: a count of 0 becomes 0.1.
pub fn self_bleu(completions: &[&[u32]]) -> f64 {
    let counted: Vec<[BTreeMap<&[u32], usize>; 3]> =
        completions.iter().map(|tokens| [1, 2, 3].map(|n| counts(tokens, n))).collect();
    let bleus = (0..completions.len()).map(|place| bleu(completions, &counted, place));
    bleus.sum::<f64>() / completions.len().max(1) as f64
}

fn counts(tokens: &[u32], n: usize) -> BTreeMap<&[u32], usize> {
    let mut counts = BTreeMap::new();
    tokens.windows(n).for_each(|gram| *counts.entry(gram).or_insert(0) += 1);
    counts
}

/// BLEU of one completion against the others.
fn bleu(completions: &[&[u32]], counted: &[[BTreeMap<&[u32], usize>; 3]], place: usize) -> f64 {
    let others = || (0..completions.len()).filter(|other| *other != place);
    let length = completions[place].len();
    let mut logarithms = 0.0;
    for (n, own) in counted[place].iter().enumerate() {
        let of_other = |other: usize, gram: &&[u32]| counted[other][n].get(gram).copied().unwrap_or(0);
        let most = |gram: &&[u32]| others().map(|other| of_other(other, gram)).max().unwrap_or(0);
        let matched: usize = own.iter().map(|(gram, count)| (*count).min(most(gram))).sum();
        if matched == 0 && n == 0 {
            return 0.0;
        }
        // a completion may be shorter than n
        let all = own.values().sum::<usize>().max(1) as f64;
        let matched = if matched == 0 { 0.1 } else { matched as f64 };
        logarithms += (matched / all).ln() / 3.0;
    }
    let closest = others().map(|other| completions[other].len()).min_by_key(|l| (l.abs_diff(length), *l));
    let reference = closest.unwrap_or(0) as f64;
    let brevity =
        if length as f64 > reference { 1.0 } else { (1.0 - reference / length.max(1) as f64).exp() };
    brevity * logarithms.exp()
}

/// Levenshtein's distance: the fewest insertions, deletions and replacements.
pub fn edit_distance(a: &[u32], b: &[u32]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: [&[u32]; 4] = [&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 6], &[7, 8, 9, 10, 11], &[1, 2, 3, 9, 9]];

    #[test]
    fn it_is_what_nltk_and_counting_say() {
        for (n, wanted) in [(1, 0.55), (2, 0.6875), (3, 0.75)] {
            assert!((distinct(&FOUR, n) - wanted).abs() < 1e-12, "distinct-{n}");
        }
        let counted: Vec<[BTreeMap<&[u32], usize>; 3]> =
            FOUR.iter().map(|tokens| [1, 2, 3].map(|n| counts(tokens, n))).collect();
        for (place, wanted) in [0.736_806, 0.736_806, 0.055_032_1, 0.510_873].into_iter().enumerate() {
            let found = bleu(&FOUR, &counted, place);
            assert!((found - wanted).abs() < 1e-6, "BLEU of {place}: {found}");
        }
        assert!((self_bleu(&FOUR) - 0.509_879).abs() < 1e-6);
        assert!((Diversity::SelfBleu.of(&FOUR) - 0.490_121).abs() < 1e-6);
        let pairs = (0..4).flat_map(|i| (0..i).map(move |j| (i, j)));
        let distances: Vec<f64> = pairs.map(|(i, j)| edit_distance(FOUR[i], FOUR[j]) as f64).collect();
        assert!((distances.iter().sum::<f64>() / 6.0 - 10.0 / 3.0).abs() < 1e-12);
        assert!((distances.iter().map(|d| (d / 5.0).powi(2)).sum::<f64>() / 6.0 - 0.56).abs() < 1e-12);
    }

    #[test]
    fn rollouts_that_are_alike_differ_by_nothing_and_lone_or_empty_ones_too() {
        let same: [&[u32]; 3] = [&[4, 5, 6, 7], &[4, 5, 6, 7], &[4, 5, 6, 7]];
        for measure in [Diversity::SelfBleu, Diversity::EditDistance] {
            assert!(measure.of(&same).abs() < 1e-6, "{measure:?}");
        }
        assert!((Diversity::Distinct.of(&same) - 1.0 / 3.0).abs() < 1e-6);
        for measure in [Diversity::SelfBleu, Diversity::Distinct, Diversity::EditDistance] {
            assert_eq!(measure.of(&[&[1, 2, 3]]), 0.0, "{measure:?}");
            assert!(measure.of(&[&[], &[]]).is_finite());
            assert!((0.0..=1.0).contains(&measure.of(&[&[1], &[], &[2, 3]])), "{measure:?}");
        }
    }
}
