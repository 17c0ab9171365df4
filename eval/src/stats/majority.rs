//! How often a vote among k of a question's draws would be right.
//!
//! Before: the draws of a question, sorted into classes of equal answers. After: a number for each question, to be
//! averaged over questions by [`clustered`](super::clustered()).

use super::{
    StatsError,
    distributions::{binomial, poisson},
    pass,
};

/// Terms this improbable are left out; together they stay below the rounding of the sum.
const NEGLIGIBLE: f64 = 1e-22;

/// The chance that a plurality vote among k draws, chosen at random among the n without putting back, is right.
///
/// The n draws are `right` that give the right answer, `others[i]` that give the i-th wrong one (in any order), and
/// `silent` that give none and do not vote. The answer with most votes wins; t answers that tie for most win with chance
/// 1/t each. If all k are silent the vote is wrong. With k = n it is the vote of all draws, with k = 1 the share right/n.
///
/// It is the exact expectation, not a simulation, and an unbiased estimate of the chance for k fresh draws. A choice
/// without putting back is a set of independent coins, one for each draw with chance k/n, given that k fall: so every
/// class has a binomial count and the sum of all is held at k. For each count a of right votes, classes below a can
/// neither win nor tie and are one binomial; the others are convolved, with the number of ties beside the sum. All terms
/// are probabilities, so nothing overflows or cancels. Costs at most some tenths of a second with a thousand draws.
///
/// # Errors
/// If k is 0 or above n.
/// # Source
/// The vote: X. Wang et al., *Self-Consistency*, arXiv:2203.11171 (2022). The expectation is elementary.
pub fn majority(right: usize, others: &[usize], silent: usize, k: usize) -> Result<f64, StatsError> {
    let n = right + silent + others.iter().sum::<usize>();
    pass::check(n, right, k)?;
    if k == n {
        let ties = 1 + others.iter().filter(|other| **other == right).count();
        let beaten = right == 0 || others.iter().any(|other| *other > right);
        return Ok(if beaten { 0.0 } else { 1.0 / ties as f64 });
    }
    Ok(chance(right, others, silent, k, Draws::Once { share: k as f64 / n as f64 }))
}

/// The chance that a plurality vote among k draws, chosen at random among the n *with* putting back, is right; the others as
/// for [`majority`]. It is the expectation of resampling.
///
/// Numbers drawn of each class are independent Poisson numbers, given that their sum is k.
///
/// # Errors
/// If k is 0, or there are no draws.
pub fn majority_with_replacement(
    right: usize,
    others: &[usize],
    silent: usize,
    k: usize,
) -> Result<f64, StatsError> {
    let n = right + silent + others.iter().sum::<usize>();
    if k == 0 || n == 0 {
        return Err(StatsError::Choice { found: k, draws: n });
    }
    Ok(chance(right, others, silent, k, Draws::Again { share: k as f64 / n as f64 }))
}

/// How draws fall into classes, but for their sum.
#[derive(Debug, Clone, Copy)]
enum Draws {
    /// Each falls with chance `share`.
    Once { share: f64 },
    /// Of each so many on average.
    Again { share: f64 },
}

impl Draws {
    /// The chance that so many of a class fall.
    fn chance(self, class: usize, taken: usize) -> f64 {
        match self {
            Self::Once { share } => binomial(class, taken, share),
            Self::Again { .. } if class == 0 => f64::from(u8::from(taken == 0)),
            Self::Again { share } => poisson(taken, class as f64 * share),
        }
    }

    /// The most that can fall of a class, if k fall in all.
    fn most(self, class: usize, k: usize) -> usize {
        match self {
            Self::Once { .. } => class.min(k),
            Self::Again { .. } if class == 0 => 0,
            Self::Again { .. } => k,
        }
    }
}

fn chance(right: usize, others: &[usize], silent: usize, k: usize, draws: Draws) -> f64 {
    let all = right + silent + others.iter().sum::<usize>();
    let chance: f64 = (1..=draws.most(right, k))
        .map(|votes| (votes, draws.chance(right, votes)))
        .filter(|(_, chance)| *chance > NEGLIGIBLE)
        .map(|(votes, chance)| chance * wins(votes, others, silent, k, draws))
        .sum();
    (chance / draws.chance(all, k)).min(1.0)
}

/// With `votes` right ones: the chance that all k fall so that no class has more, a tie of t classes counting 1/t.
fn wins(votes: usize, others: &[usize], silent: usize, k: usize, draws: Draws) -> f64 {
    let (rivals, below): (Vec<usize>, Vec<usize>) =
        others.iter().partition(|other| draws.most(**other, k) >= votes);
    let free = silent + below.iter().sum::<usize>();
    let left = k - votes;
    // states[t][m]: the chance that t rivals tie and the other rivals seen so far have m votes between them, so that
    // t · votes + m ≤ left
    let mut states = vec![vec![1.0]];
    for rival in rivals {
        let chances: Vec<f64> = (0..=votes).map(|taken| draws.chance(rival, taken)).collect();
        let (tie, lower) = chances.split_last().expect("votes + 1 of them");
        let most = (states.len() + 1).min(left / votes + 1);
        let mut next: Vec<Vec<f64>> = vec![Vec::new(); most];
        for (ties, sums) in states.iter().enumerate() {
            let room = left - ties * votes;
            let into = &mut next[ties];
            into.resize(into.len().max((sums.len() + votes - 1).min(room + 1)), 0.0);
            for (taken, chance) in lower.iter().enumerate().filter(|(_, chance)| **chance > NEGLIGIBLE) {
                for (sum, before) in into.iter_mut().skip(taken).zip(sums) {
                    *sum += chance * before;
                }
            }
            if ties + 1 < most {
                let room = room - votes;
                let into = &mut next[ties + 1];
                into.resize(into.len().max(sums.len().min(room + 1)), 0.0);
                for (sum, before) in into.iter_mut().zip(sums) {
                    *sum += tie * before;
                }
            }
        }
        states = next;
    }
    let rest: Vec<f64> = (0..=draws.most(free, left)).map(|taken| draws.chance(free, taken)).collect();
    let mut chance = 0.0;
    for (ties, sums) in states.iter().enumerate() {
        let room = left - ties * votes;
        for (sum, before) in sums.iter().enumerate().take(room + 1) {
            chance += before * rest.get(room - sum).copied().unwrap_or(0.0) / (ties + 1) as f64;
        }
    }
    chance
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{pass_at_k, pass_hat_k};
    use super::*;

    /// The chance by going through all choices of k draws.
    fn by_counting(right: usize, others: &[usize], silent: usize, k: usize) -> f64 {
        let mut answers = vec![0; right];
        for (class, other) in others.iter().enumerate() {
            answers.extend(vec![class + 1; *other]);
        }
        let voting = answers.len();
        let n = voting + silent;
        let (mut won, mut choices) = (0.0, 0.0);
        for chosen in (0_u32..1 << n).filter(|chosen| chosen.count_ones() as usize == k) {
            choices += 1.0;
            let mut votes = vec![0; others.len() + 1];
            (0..voting).filter(|draw| chosen >> draw & 1 == 1).for_each(|draw| votes[answers[draw]] += 1);
            let most = *votes.iter().max().expect("the right class is one");
            if most > 0 && votes[0] == most {
                won += 1.0 / votes.iter().filter(|v| **v == most).count() as f64;
            }
        }
        won / choices
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn it_is_what_going_through_all_choices_gives(
            right in 0_usize..6, others in prop::collection::vec(0_usize..4, 0..4), silent in 0_usize..3, k in 1_usize..16,
        ) {
            let n = right + silent + others.iter().sum::<usize>();
            if k <= n {
                let found = majority(right, &others, silent, k).unwrap();
                let wanted = by_counting(right, &others, silent, k);
                prop_assert!((found - wanted).abs() < 1e-12, "{found}, not {wanted}");
            }
        }
    }

    #[test]
    fn a_vote_of_one_is_the_share_of_right_draws() {
        for (right, others, silent) in
            [(3, vec![2, 1], 2), (0, vec![5], 0), (7, vec![], 0), (300, vec![1; 600], 100)]
        {
            let n = right + silent + others.iter().sum::<usize>();
            let found = majority(right, &others, silent, 1).unwrap();
            assert!((found - right as f64 / n as f64).abs() < 1e-12, "{found}");
        }
    }

    #[test]
    fn without_wrong_answers_one_right_draw_is_enough() {
        for (right, silent, k) in [(1, 7, 3), (4, 60, 32), (10, 1014, 100)] {
            let found = majority(right, &[], silent, k).unwrap();
            let wanted = pass_at_k(right + silent, right, k).unwrap();
            assert!((found - wanted).abs() < 1e-11, "{found}, not {wanted}");
        }
    }

    #[test]
    fn two_right_votes_of_two_or_half_a_tie() {
        // k = 2: both right, or one right and one that is silent, or one right and one wrong, which is a tie
        let (right, wrong, silent) = (5, 4, 3);
        let pairs = 12.0 * 11.0 / 2.0;
        let wanted = (10.0 + (right * silent) as f64 + 0.5 * (right * wrong) as f64) / pairs;
        assert!((majority(5, &[3, 1], 3, 2).unwrap() - wanted).abs() < 1e-13);
        assert!((pass_hat_k(12, 5, 2).unwrap() - 10.0 / pairs).abs() < 1e-13);
    }

    #[test]
    fn all_draws_vote_as_they_stand() {
        assert_eq!(majority(4, &[3, 3], 9, 19), Ok(1.0));
        assert_eq!(majority(4, &[4, 4], 0, 12), Ok(1.0 / 3.0));
        assert_eq!(majority(4, &[5], 0, 9), Ok(0.0));
        assert_eq!(majority(0, &[], 9, 9), Ok(0.0));
    }

    #[test]
    fn more_votes_help_the_largest_class_and_many_are_certain() {
        let at = |k| majority(400, &[300, 200, 100], 24, k).unwrap();
        let chances: Vec<f64> = [1, 3, 9, 27, 81, 243, 729, 1023].map(at).to_vec();
        assert!(chances.windows(2).all(|pair| pair[0] < pair[1] + 1e-12), "{chances:?}");
        assert!((chances[7] - 1.0).abs() < 1e-9, "{chances:?}");
    }

    #[test]
    fn few_votes_of_many_draws_are_like_votes_with_putting_back() {
        // three classes of 500, 300 and 200 in a thousand, three votes: independent votes give
        // .5³ + 3 · .5² · .5 + 6 · .5 · .3 · .2 / 3 = .56
        let found = majority(50_000, &[30_000, 20_000], 0, 3).unwrap();
        assert!((found - 0.56).abs() < 1e-4, "{found}");
    }

    #[test]
    fn it_agrees_with_drawing_at_random() {
        let (right, others, silent, k) = (20, [15, 15, 3, 1, 1, 1], 8, 16);
        let mut answers: Vec<usize> = vec![0; right];
        others.iter().enumerate().for_each(|(class, other)| answers.extend(vec![class + 1; *other]));
        let voting = answers.len();
        answers.extend(vec![usize::MAX; silent]);
        let mut stream = super::super::bootstrap::Stream::of(data::Seed(1));
        let (mut won, draws) = (0.0, 40_000);
        for _ in 0..draws {
            let mut votes = [0; 7];
            for place in 0..k {
                let other = place + stream.below(answers.len() - place);
                answers.swap(place, other);
                if answers[place] != usize::MAX {
                    votes[answers[place]] += 1;
                }
            }
            let most = *votes.iter().max().unwrap();
            if votes[0] == most && most > 0 {
                won += 1.0 / votes.iter().filter(|v| **v == most).count() as f64;
            }
        }
        assert!(voting > k);
        let found = majority(right, &others, silent, k).unwrap();
        let error = (won / f64::from(draws) - found).abs();
        assert!(error < 0.01, "{error}"); // 4 standard errors
    }

    #[test]
    fn a_thousand_draws_in_any_shape_give_a_probability() {
        let shapes: [(usize, Vec<usize>); 5] =
            [(1, vec![1; 1023]), (2, vec![2; 511]), (512, vec![512]), (24, vec![25; 40]), (1, vec![1023])];
        for (right, others) in shapes {
            for k in [2, 64, 512, 1000] {
                let chance = majority(right, &others, 0, k).unwrap();
                assert!((0.0..=1.0).contains(&chance), "{right} of {others:?}: {chance}");
            }
        }
    }

    #[test]
    fn equal_classes_win_equally_often() {
        for (size, classes, k) in [(2, 512, 512), (25, 40, 64), (512, 2, 511), (1, 1024, 1000)] {
            let found = majority(size, &vec![size; classes - 1], 0, k).unwrap();
            assert!((found * classes as f64 - 1.0).abs() < 1e-9, "{size} × {classes}: {found}");
        }
    }

    /// The chance by going through all sequences of k draws with putting back.
    fn by_counting_again(right: usize, others: &[usize], silent: usize, k: usize) -> f64 {
        let sizes: Vec<usize> = [right].iter().chain(others).copied().chain([silent]).collect();
        let n: usize = sizes.iter().sum();
        let (mut won, classes) = (0.0, sizes.len());
        for code in 0..classes.pow(k as u32) {
            let drawn: Vec<usize> = (0..k as u32).map(|draw| code / classes.pow(draw) % classes).collect();
            let chance: f64 = drawn.iter().map(|class| sizes[*class] as f64 / n as f64).product();
            let votes: Vec<usize> =
                (0..classes - 1).map(|class| drawn.iter().filter(|d| **d == class).count()).collect();
            let most = *votes.iter().max().expect("the right class is one");
            if most > 0 && votes[0] == most {
                won += chance / votes.iter().filter(|v| **v == most).count() as f64;
            }
        }
        won
    }

    #[test]
    fn with_putting_back_it_is_what_going_through_all_draws_gives() {
        let cases: [(usize, &[usize], usize, usize); 6] = [
            (3, &[2, 1], 2, 4),
            (1, &[1, 1], 0, 5),
            (2, &[], 3, 3),
            (0, &[4], 1, 3),
            (5, &[5, 5], 0, 6),
            (1, &[], 0, 9),
        ];
        for (right, others, silent, k) in cases {
            let found = majority_with_replacement(right, others, silent, k).unwrap();
            let wanted = by_counting_again(right, others, silent, k);
            assert!(
                (found - wanted).abs() < 1e-12,
                "{right}, {others:?}, {silent}, {k}: {found}, not {wanted}"
            );
        }
        assert!(majority_with_replacement(1, &[], 0, 0).is_err());
        assert!(majority_with_replacement(0, &[], 0, 1).is_err());
        let large = majority_with_replacement(400, &[300, 200, 100], 24, 64).unwrap();
        assert!((0.5..1.0).contains(&large), "{large}");
    }

    #[test]
    fn a_choice_of_none_or_of_too_many_is_refused() {
        assert_eq!(majority(1, &[1], 1, 0), Err(StatsError::Choice { found: 0, draws: 3 }));
        assert_eq!(majority(1, &[1], 1, 4), Err(StatsError::Choice { found: 4, draws: 3 }));
    }
}
