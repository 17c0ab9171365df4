//! A baseline of its own for every token.

use serde::{Deserialize, Serialize};

use super::{Baseline, Group, Needs};

/// Bₜ = Σᵢ Gᵢ Wᵢₜ / Σᵢ Wᵢₜ over the rollouts that still go on at token t, with Wᵢₜ = Σₛ≤ₜ ‖onehot(yₛ) − πₛ‖²: the optimal
/// baseline of each token in terms of logits, from the log-prob pass.
///
/// # Source
/// Optimal token baseline, arXiv:2602.07078, as in its public code (verl, `optimal_token_baseline`) but for the squared weights
/// of a correction for another sampler, which are left out here, and for groups of equal rewards, whose tail does not train
/// here either. The rollout's own reward is in it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Token {
    /// What is subtracted where one rollout alone goes on: `"zero"`, `"keep"` or `"own"`.
    #[serde(alias = "keep_tail", deserialize_with = "tail")]
    pub tail: Tail,
}

/// What is subtracted from the reward behind the last token of a group's second longest rollout, where the formula would
/// give the rollout its own reward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Tail {
    /// Nothing, so that the tail trains with the reward itself: the public code's default.
    #[default]
    Zero,
    /// The last baseline that had others in it: less variance, and a tail of a wrong answer is not left alone.
    Keep,
    /// What the formula says: the tail does not train.
    Own,
}

/// A tail as recipes have it, or the `keep_tail` of before: true or false.
fn tail<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Tail, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Tail(Tail),
        KeepTail(bool),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::Tail(tail) => tail,
        Written::KeepTail(true) => Tail::Keep,
        Written::KeepTail(false) => Tail::Own,
    })
}

impl Baseline for Token {
    fn baselines(&self, group: &Group<'_>) -> Vec<f32> {
        // of whole rollouts: what their first token has
        let tokens = self.token_baselines(group).unwrap_or_default();
        tokens.iter().map(|row| row.first().copied().unwrap_or(0.0)).collect()
    }

    fn token_baselines(&self, group: &Group<'_>) -> Option<Vec<Vec<f32>>> {
        let longest = group.token_norms.iter().map(Vec::len).max().unwrap_or(0);
        let mut sums = vec![0f64; group.rewards.len()];
        let mut line: Vec<f32> = Vec::with_capacity(longest);
        for token in 0..longest {
            let (mut weighted, mut total, mut alive) = (0.0, 0.0, 0);
            for ((norms, reward), sum) in group.token_norms.iter().zip(group.rewards).zip(&mut sums) {
                if let Some(norm) = norms.get(token) {
                    *sum += f64::from(*norm);
                    weighted += *sum * f64::from(*reward);
                    total += *sum;
                    alive += 1;
                }
            }
            let own = (weighted / (total + 1e-8)) as f32;
            line.push(match self.tail {
                Tail::Zero if alive == 1 => 0.0,
                Tail::Keep if alive == 1 => line.last().copied().unwrap_or(own),
                _ => own,
            });
        }
        Some(group.token_norms.iter().map(|norms| line[..norms.len()].to_vec()).collect())
    }

    fn needs(&self) -> Needs {
        Needs { token_norms: true, ..Needs::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::close;
    use super::*;

    #[test]
    fn baselines_match_the_worked_numbers() {
        // cumulative weights (0.5, 0.7, 1.0) and (0.1, 0.5)
        let norms = [vec![0.5, 0.2, 0.3], vec![0.1, 0.4]];
        let group = Group { rewards: &[1.0, 0.0], token_norms: &norms, ..Group::default() };
        let plain = Token { tail: Tail::Own }.token_baselines(&group).expect("tokens");
        close(&plain[0], &[0.833_333, 0.583_333, 1.0]);
        close(&plain[1], &[0.833_333, 0.583_333]);
        let kept = Token { tail: Tail::Keep }.token_baselines(&group).expect("tokens");
        close(&kept[0], &[0.833_333, 0.583_333, 0.583_333]);
        let zero = Token::default().token_baselines(&group).expect("tokens");
        close(&zero[0], &[0.833_333, 0.583_333, 0.0]);
        close(&zero[1], &[0.833_333, 0.583_333]);
    }

    #[test]
    fn a_group_of_one_has_nothing_subtracted_as_in_the_public_code() {
        let norms = [vec![0.5, 0.2, 0.3]];
        let group = Group { rewards: &[1.0], token_norms: &norms, ..Group::default() };
        assert_eq!(Token::default().token_baselines(&group).expect("tokens"), [[0.0; 3]]);
    }

    #[test]
    fn recipes_of_before_are_read_as_they_were_meant() {
        let read = |text: &str| serde_json::from_str::<Token>(text).expect(text).tail;
        assert_eq!(read("{}"), Tail::Zero);
        assert_eq!(read("{\"keep_tail\": true}"), Tail::Keep);
        assert_eq!(read("{\"keep_tail\": false}"), Tail::Own);
        assert_eq!(read("{\"tail\": \"keep\"}"), Tail::Keep);
    }
}
