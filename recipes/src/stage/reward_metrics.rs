//! Verdicts of the reward functions on a step: numbers for the metrics, examples for people.
//!
//! Before: a step's rollouts are scored. After: a line of `metrics.jsonl` has each function's mean, and `unjudged.jsonl` in the
//! run folder shows completions that a function could not judge, or in which it found no answer.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use data::{Part, ScoredRollout};
use engine::model::Tokenizer;
use rewards::{OnNone, Rewards};
use serde_json::{Map, Value, json};

/// Examples of a kind that a step keeps.
const EXAMPLES: usize = 4;
/// Characters of a completion that an example shows: its end, where the answer should be.
const SHOWN: usize = 600;

engine::numbers! {
    /// Rollouts that were scored.
    pub(crate) struct ScoredMetrics {
        /// Rollouts that the step trains on.
        rollouts: usize = "count";
        /// Those with tokens that the tokenizer does not know, if any.
        unknown_token_rollouts: Option<usize> = "count";
    }
}

engine::numbers! {
    /// Verdicts of a reward function, each behind `reward_NAME_`.
    pub(crate) struct PartMetrics {
        /// Mean of its values, before its weight.
        mean: Option<f64> = "reward";
        /// Standard deviation of its values over rollouts.
        std: Option<f64> = "reward";
        /// Rollouts that it had nothing to say of, if any.
        none: Option<usize> = "count";
        /// Rollouts that it failed for, if any.
        failed: Option<usize> = "count";
        /// Rollouts in which it found no answer, of one that looks for answers, if any.
        no_answer: Option<usize> = "count";
    }
}

/// [`ScoredMetrics`], and [`PartMetrics`] of each function.
///
/// # Errors
/// None but those of JSON.
pub(crate) fn metrics(scored: &[ScoredRollout], tokenizer: &Tokenizer) -> Result<Map<String, Value>> {
    let unknown = with_unknown_tokens(scored, tokenizer);
    let of_all = ScoredMetrics { rollouts: scored.len(), unknown_token_rollouts: some(unknown) };
    let mut line = Map::new();
    let mut add = |prefix: &str, numbers: Value| {
        if let Value::Object(numbers) = numbers {
            line.extend(numbers.into_iter().map(|(name, value)| (format!("{prefix}{name}"), value)));
        }
    };
    add("", serde_json::to_value(of_all)?);
    let Some(first) = scored.first() else { return Ok(line) };
    for (at, Part { name, .. }) in first.score.parts.iter().enumerate() {
        let verdicts =
            || scored.iter().filter_map(|scored| scored.score.parts.get(at)).map(|part| &part.verdict);
        let values: Vec<f64> = verdicts().filter_map(|verdict| verdict.value).map(f64::from).collect();
        let mut part = PartMetrics::default();
        if !values.is_empty() {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance =
                values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
            (part.mean, part.std) = (Some(mean), Some(variance.sqrt()));
        }
        let failed = verdicts().filter(|verdict| verdict.failure.is_some()).count();
        let none = verdicts().filter(|verdict| verdict.value.is_none() && verdict.failure.is_none()).count();
        let no_answer = verdicts().filter(|verdict| verdict.unanswered).count();
        (part.none, part.failed, part.no_answer) = (some(none), some(failed), some(no_answer));
        add(&format!("reward_{name}_"), serde_json::to_value(part)?);
    }
    Ok(line)
}

/// A count of what there should be none of.
fn some(count: usize) -> Option<usize> {
    (count > 0).then_some(count)
}

/// Rollouts with a token that stands for nothing: embeddings often have more rows than the tokenizer has tokens.
fn with_unknown_tokens(scored: &[ScoredRollout], tokenizer: &Tokenizer) -> usize {
    let drawn: BTreeSet<u32> =
        scored.iter().flat_map(|scored| scored.rollout.tokens.iter().copied()).collect();
    let unknown: BTreeSet<u32> =
        drawn.into_iter().filter(|token| tokenizer.id_to_token(*token).is_none()).collect();
    if unknown.is_empty() {
        return 0;
    }
    let has = |scored: &&ScoredRollout| scored.rollout.tokens.iter().any(|token| unknown.contains(token));
    scored.iter().filter(has).count()
}

/// Some of the rollouts that a function failed for, had nothing to say of, or found no answer in.
pub(crate) fn examples(scored: &[ScoredRollout], rewards: &Rewards) -> Vec<Value> {
    // where silence is usual it is not worth an example
    let silent = |name: &str| rewards.parts().any(|(other, part)| other == name && part.none == OnNone::Drop);
    let mut kept: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    let mut examples = Vec::new();
    for ScoredRollout { rollout, score } in scored {
        for (at, Part { name, verdict }) in score.parts.iter().enumerate() {
            let kind = match verdict {
                verdict if verdict.failure.is_some() => "failed",
                verdict if verdict.unanswered => "no_answer",
                verdict if verdict.value.is_none() && silent(name) => "none",
                _ => continue,
            };
            let count = kept.entry((at, kind)).or_default();
            *count += 1;
            if *count > EXAMPLES {
                continue;
            }
            let text = rollout.text.as_str();
            let from = text.char_indices().rev().nth(SHOWN - 1).map_or(0, |(at, _)| at);
            examples.push(json!({
                "reward": name, "kind": kind, "why": verdict.failure.as_ref().or(verdict.reason.as_ref()),
                "prompt": rollout.prompt.id, "occurrence": rollout.occurrence, "place": rollout.place, "answer": rollout.prompt.answer,
                "truncated": rollout.truncated(), "characters": text.chars().count(), "end": &text[from..],
            }));
        }
    }
    examples
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use data::{Body, Prompt, Rollout, Score};

    use super::*;

    #[test]
    fn rollouts_with_tokens_that_the_tokenizer_does_not_know_are_counted() {
        let tokenizer = crate::builtin::checkpoint("tiny", None).unwrap().tokenizer().unwrap();
        let beyond = tokenizer.vocab_size() as u32;
        let body = Body::Text("?".into());
        let prompt = Arc::new(Prompt { id: "p".into(), body, answer: None, fields: Default::default() });
        let scored = |tokens: &[u32]| ScoredRollout {
            rollout: Rollout { tokens: tokens.to_vec(), ..Rollout::of_text(prompt.clone(), "x") },
            score: Score::default(),
        };
        let all = [scored(&[1, 2]), scored(&[1, beyond]), scored(&[beyond + 7, beyond]), scored(&[])];
        assert_eq!(metrics(&all, &tokenizer).unwrap()["unknown_token_rollouts"], 2);
        assert!(metrics(&all[..1], &tokenizer).unwrap().get("unknown_token_rollouts").is_none());
    }
}
