//! Prompts to complete, and a place for each of their rollouts.

use std::collections::BTreeMap;
use std::sync::Arc;

use data::{Prompt, Rollout};

/// A prompt to complete.
#[derive(Debug, Clone)]
pub struct Task {
    /// The problem.
    pub prompt: Arc<Prompt>,
    /// As the policy reads it, at least one token.
    pub tokens: Arc<[u32]>,
    /// Most tokens of its completions, if less than the settings allow.
    pub max_tokens: Option<usize>,
    /// How often the step has drawn this prompt before, from 0: its rollouts are drawn anew each time, and are a group of
    /// their own. Two tasks of one prompt and one occurrence have the same rollouts.
    pub occurrence: usize,
}

impl Task {
    /// Identifies a task among the others of its step: the prompt's id and the occurrence.
    pub(crate) fn key(&self) -> (&str, usize) {
        (&self.prompt.id, self.occurrence)
    }
}

/// Numbers tasks of the same prompt, in their order, going on behind those counted in `drawn`.
pub fn count_occurrences(tasks: &mut [Task], drawn: &mut BTreeMap<String, usize>) {
    for task in tasks {
        let count = drawn.entry(task.prompt.id.clone()).or_default();
        task.occurrence = *count;
        *count += 1;
    }
}

/// A place for every rollout of some prompts, each with its occurrence, filled with those that are there already.
pub(crate) fn in_place(
    prompts: &[(&str, usize)],
    group_size: usize,
    have: &[Rollout],
) -> Vec<Option<Rollout>> {
    let places: BTreeMap<(&str, usize), usize> =
        prompts.iter().enumerate().map(|(group, key)| (*key, group)).collect();
    let mut done = vec![None; prompts.len() * group_size];
    for rollout in have.iter().filter(|rollout| rollout.place < group_size) {
        if let Some(group) = places.get(&(rollout.prompt.id.as_str(), rollout.occurrence)) {
            done[group * group_size + rollout.place] = Some(rollout.clone());
        }
    }
    done
}
