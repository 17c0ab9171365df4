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

/// The number of rollouts of each task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupSizes<'a> {
    /// The same of each.
    Same(usize),
    /// One number a task.
    Each(&'a [usize]),
}

impl From<usize> for GroupSizes<'_> {
    fn from(size: usize) -> Self {
        Self::Same(size)
    }
}

impl GroupSizes<'_> {
    /// Of one task.
    pub fn of(&self, task: usize) -> usize {
        match self {
            Self::Same(size) => *size,
            Self::Each(sizes) => sizes[task],
        }
    }

    /// Task and place of every rollout of so many tasks, task by task.
    pub(crate) fn places(&self, tasks: usize) -> Vec<(usize, usize)> {
        (0..tasks).flat_map(|task| (0..self.of(task)).map(move |place| (task, place))).collect()
    }

    /// For every task the number of rollouts of those before it.
    pub(crate) fn firsts(&self, tasks: usize) -> Vec<usize> {
        let first = |next: &mut usize, task| Some(std::mem::replace(next, *next + self.of(task)));
        (0..tasks).scan(0, first).collect()
    }
}

/// A place for every rollout of some prompts, each with its occurrence, filled with those that are there already.
pub(crate) fn in_place(
    prompts: &[(&str, usize)],
    sizes: GroupSizes<'_>,
    have: &[Rollout],
) -> Vec<Option<Rollout>> {
    let groups: BTreeMap<(&str, usize), usize> =
        prompts.iter().enumerate().map(|(group, key)| (*key, group)).collect();
    let firsts = sizes.firsts(prompts.len());
    let mut done = vec![None; sizes.places(prompts.len()).len()];
    for rollout in have {
        if let Some(group) = groups.get(&(rollout.prompt.id.as_str(), rollout.occurrence))
            && rollout.place < sizes.of(*group)
        {
            done[firsts[*group] + rollout.place] = Some(rollout.clone());
        }
    }
    done
}
