//! A set of prompts, checked once.
//!
//! Before: [`crate::jsonl`] read them or [`crate::arithmetic`] drew them. After: the run picks some at every step.

use std::{collections::HashMap, sync::Arc};

use crate::{DataError, Prompt, Reading};

/// Prompts in a fixed order, with unique ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    name: String,
    prompts: Vec<Arc<Prompt>>,
    reading: Option<Reading>,
}

impl Dataset {
    /// A dataset of prompts that were made elsewhere.
    /// # Errors
    /// If there are none, or if two have the same id.
    pub fn from_prompts(
        name: impl Into<String>,
        prompts: impl IntoIterator<Item = Prompt>,
    ) -> Result<Self, DataError> {
        let (name, prompts) = (name.into(), prompts.into_iter().map(Arc::new).collect::<Vec<_>>());
        if prompts.is_empty() {
            return Err(DataError::Empty { dataset: name });
        }
        if let Some((first, second)) = repeated(prompts.iter().map(|prompt| prompt.id.as_str())) {
            let id = prompts[second].id.clone();
            return Err(DataError::DuplicatePrompt { dataset: name, id, first, second });
        }
        Ok(Self { name, prompts, reading: None })
    }

    /// The same, where the caller has looked for empty sets and repeated ids and can say more about where they are.
    pub(crate) fn of_checked(name: String, prompts: Vec<Arc<Prompt>>, reading: Reading) -> Self {
        Self { name, prompts, reading: Some(reading) }
    }

    /// Which columns of the file were taken for what; none if the prompts come from no file.
    pub fn reading(&self) -> Option<&Reading> {
        self.reading.as_ref()
    }

    /// What to call it in logs and reports: the file's stem, or the generator's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All prompts, in the order of the file or of the draws.
    pub fn prompts(&self) -> &[Arc<Prompt>] {
        &self.prompts
    }

    /// The prompt at this place, counted from 0.
    pub fn get(&self, index: usize) -> Option<&Arc<Prompt>> {
        self.prompts.get(index)
    }

    /// How many prompts there are.
    pub fn len(&self) -> usize {
        self.prompts.len()
    }

    /// Whether there are none, which only `take(0)` can bring about.
    pub fn is_empty(&self) -> bool {
        self.prompts.is_empty()
    }

    /// The first `n` prompts, or all if there are fewer.
    #[must_use]
    pub fn take(mut self, n: usize) -> Self {
        self.prompts.truncate(n);
        self
    }
}

/// The indices of the first two that are equal.
pub(crate) fn repeated<'a>(ids: impl Iterator<Item = &'a str>) -> Option<(usize, usize)> {
    let mut seen = HashMap::new();
    ids.enumerate().find_map(|(index, id)| seen.insert(id, index).map(|first| (first, index)))
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::Body;

    fn prompt(id: &str) -> Prompt {
        Prompt { id: id.into(), body: Body::Text(id.into()), answer: None, fields: Map::new() }
    }

    #[test]
    fn prompts_keep_their_order() {
        let dataset = Dataset::from_prompts("mine", ["b", "a", "c"].map(prompt)).unwrap();
        assert_eq!((dataset.name(), dataset.len(), dataset.is_empty()), ("mine", 3, false));
        assert_eq!(dataset.prompts().iter().map(|p| p.id.as_str()).collect::<Vec<_>>(), ["b", "a", "c"]);
        assert_eq!(dataset.get(1).unwrap().id, "a");
        assert_eq!(dataset.get(3), None);
    }

    #[test]
    fn take_keeps_the_first_and_never_makes_more() {
        let dataset = Dataset::from_prompts("mine", ["b", "a", "c"].map(prompt)).unwrap();
        assert_eq!(dataset.clone().take(2).prompts(), &dataset.prompts()[..2]);
        assert_eq!(dataset.clone().take(9), dataset);
        assert!(dataset.take(0).is_empty());
    }

    #[test]
    fn an_empty_dataset_and_a_repeated_id_are_refused() {
        let error = Dataset::from_prompts("mine", []).unwrap_err();
        assert_eq!(error.to_string(), "the dataset `mine` is empty, wanted at least one row");
        let error = Dataset::from_prompts("mine", ["a", "b", "c", "b"].map(prompt)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "dataset `mine`: prompts 1 and 3, counted from 0, have the id `b`, but ids must be unique: randomness is \
             keyed by them"
        );
    }
}
