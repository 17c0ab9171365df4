//! Verdicts of the reward functions on a step: numbers for the metrics, examples for people.
//!
//! Before: a step's rollouts are scored. After: a line of `metrics.jsonl` has each function's mean, and `unjudged.jsonl` in the
//! run folder shows completions that a function could not judge, or in which it found no answer.

use std::collections::{BTreeMap, BTreeSet};

use data::{Part, ScoredRollout};
use engine::model::Tokenizer;
use rewards::{OnNone, Rewards};
use serde_json::{Map, Value, json};

/// Examples of a kind that a step keeps.
const EXAMPLES: usize = 4;
/// Characters of a completion that an example shows: its end, where the answer should be.
const SHOWN: usize = 600;

/// The number of rollouts, and of those with tokens that the tokenizer does not know, if any (`unknown_token_rollouts`); for each
/// function `reward_NAME_mean` and `_std` of its values; the number of rollouts it had nothing to say of (`_none`), failed
/// for (`_failed`) and, for one that looks for answers, found none in (`_no_answer`), if there are any.
pub(crate) fn metrics(scored: &[ScoredRollout], tokenizer: &Tokenizer) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("rollouts".into(), json!(scored.len()));
    let Some(first) = scored.first() else { return line };
    let unknown = with_unknown_tokens(scored, tokenizer);
    if unknown > 0 {
        line.insert("unknown_token_rollouts".into(), json!(unknown));
    }
    for (at, Part { name, .. }) in first.score.parts.iter().enumerate() {
        let verdicts =
            || scored.iter().filter_map(|scored| scored.score.parts.get(at)).map(|part| &part.verdict);
        let values: Vec<f64> = verdicts().filter_map(|verdict| verdict.value).map(f64::from).collect();
        if !values.is_empty() {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance =
                values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
            line.insert(format!("reward_{name}_mean"), json!(mean));
            line.insert(format!("reward_{name}_std"), json!(variance.sqrt()));
        }
        let failed = verdicts().filter(|verdict| verdict.failure.is_some()).count();
        let none = verdicts().filter(|verdict| verdict.value.is_none() && verdict.failure.is_none()).count();
        let no_answer = verdicts().filter(|verdict| verdict.unanswered).count();
        for (what, count) in [("none", none), ("failed", failed), ("no_answer", no_answer)] {
            if count > 0 {
                line.insert(format!("reward_{name}_{what}"), json!(count));
            }
        }
    }
    line
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
        assert_eq!(metrics(&all, &tokenizer)["unknown_token_rollouts"], 2);
        assert!(metrics(&all[..1], &tokenizer).get("unknown_token_rollouts").is_none());
    }
}
