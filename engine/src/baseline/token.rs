//! A baseline of its own for every token.

use serde::{Deserialize, Serialize};

use super::{Baseline, Group, Needs};

/// Bₜ = Σᵢ Gᵢ Wᵢₜ / Σᵢ Wᵢₜ over the rollouts that still go on at token t, with Wᵢₜ = Σₛ≤ₜ ‖onehot(yₛ) − πₛ‖²: the optimal
/// baseline of each token in terms of logits, from the log-prob pass.
///
/// # Source
/// Optimal token baseline, arXiv:2602.07078, as in its public code. The rollout's own reward is in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Token {
    /// Where one rollout alone goes on, its baseline would be its own reward and its tail would not train. With this, the
    /// tail keeps the last baseline that had others in it.
    pub keep_tail: bool,
}

impl Default for Token {
    fn default() -> Self {
        Self { keep_tail: true }
    }
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
            let alone = self.keep_tail && alive == 1 && group.rewards.len() > 1;
            let last = line.last().copied().filter(|_| alone);
            line.push(last.unwrap_or((weighted / (total + 1e-8)) as f32));
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
        let plain = Token { keep_tail: false }.token_baselines(&group).expect("tokens");
        close(&plain[0], &[0.833_333, 0.583_333, 1.0]);
        close(&plain[1], &[0.833_333, 0.583_333]);
        let kept = Token::default().token_baselines(&group).expect("tokens");
        close(&kept[0], &[0.833_333, 0.583_333, 0.583_333]);
    }
}
