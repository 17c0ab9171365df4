//! How much of a text stands word for word in others: contamination of training prompts by a benchmark.
//!
//! Before: the prompts of a dataset and the questions of a benchmark. After: a filter drops prompts, or a report names them.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    num::NonZeroUsize,
};

use crate::{Body, Prompt};

/// The runs of `n` words of some texts, as hashes of 64 bits.
///
/// Words are letters and digits in lower case, whatever stands between them; `x+1` and `x-1` are the same words. A text
/// of fewer than `n` words is one run of all of its words.
///
/// # Source
/// Runs of 13 words: Brown et al., arXiv:2005.14165, appendix C; of 8: Chowdhery et al. (PaLM), arXiv:2204.02311, and
/// Lambert et al. (Tülu 3), arXiv:2411.15124, where a text counts as contaminated if half of its words stand in such runs.
#[derive(Debug, Clone)]
pub struct NGrams {
    n: NonZeroUsize,
    /// The place of the first text that has a run.
    first: HashMap<u64, u32>,
    texts: u32,
}

/// What a text shares with others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overlap {
    /// Words of the text that stand in a shared run, as a share of all its words; in (0, 1].
    pub share: f64,
    /// The place of a text that has the first shared run, counted from 0 in the order in which texts were added.
    pub text: usize,
}

impl NGrams {
    /// Words of a run as PaLM and Tülu 3 have it.
    pub const SHORT: NonZeroUsize = NonZeroUsize::new(8).unwrap();
    /// Words of a run as GPT-3 has it.
    pub const LONG: NonZeroUsize = NonZeroUsize::new(13).unwrap();

    /// Runs of `n` words of no text yet.
    pub fn new(n: NonZeroUsize) -> Self {
        Self { n, first: HashMap::new(), texts: 0 }
    }

    /// Runs of `n` words of these texts.
    pub fn of<'a>(n: NonZeroUsize, texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = Self::new(n);
        texts.into_iter().for_each(|text| all.add(text));
        all
    }

    /// Takes in the runs of another text.
    pub fn add(&mut self, text: &str) {
        for (_, hash) in runs(&words(text), self.n.get()) {
            self.first.entry(hash).or_insert(self.texts);
        }
        self.texts += 1;
    }

    /// What a text shares with those that were added; none if no run of its words stands in any.
    pub fn overlap(&self, text: &str) -> Option<Overlap> {
        let words = words(text);
        let (mut shared, mut counted, mut first) = (0, 0, None);
        for (start, hash) in runs(&words, self.n.get()) {
            if let Some(text) = self.first.get(&hash) {
                let end = (start + self.n.get()).min(words.len());
                shared += end - start.max(counted);
                counted = end;
                first = first.or(Some(*text as usize));
            }
        }
        first.map(|text| Overlap { share: shared as f64 / words.len() as f64, text })
    }
}

/// The places where runs of `n` words begin, and their hashes.
fn runs(words: &[String], n: usize) -> impl Iterator<Item = (usize, u64)> {
    let n = n.min(words.len()).max(1);
    words.windows(n).enumerate().map(|(start, run)| {
        let mut hasher = DefaultHasher::new();
        run.hash(&mut hasher);
        (start, hasher.finish())
    })
}

/// Letters and digits in lower case, word by word.
pub(crate) fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| word.chars().flat_map(char::to_lowercase).collect()).collect()
}

/// What the user says in a prompt, all turns, a line each: what is compared with other prompts.
pub fn asked(prompt: &Prompt) -> String {
    match &prompt.body {
        Body::Text(text) => text.clone(),
        Body::Chat(messages) => {
            let of_user = messages.iter().filter(|message| message.role == "user");
            of_user.map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).unwrap()
    }

    #[test]
    fn words_in_shared_runs_are_counted_once_whatever_stands_between() {
        let grams = NGrams::of(n(3), ["nothing of it", "one two three four five", "three FOUR five"]);
        let overlap = |text| grams.overlap(text);
        assert_eq!(overlap("one two"), None);
        assert_eq!(overlap("a b c d"), None);
        assert_eq!(overlap(""), None);
        // `one two three` and `two three four` cover four words of eight
        let found = overlap("x y One, two - three: $four$ x y").unwrap();
        assert_eq!(found, Overlap { share: 0.5, text: 1 });
        assert_eq!(overlap("three four five").unwrap(), Overlap { share: 1.0, text: 1 });
        let apart = overlap("one two three x three four five x").unwrap();
        assert_eq!(apart.share, 0.75);
    }

    #[test]
    fn a_text_of_fewer_words_than_a_run_is_a_run_of_its_own() {
        let grams = NGrams::of(NGrams::LONG, ["what is 2 + 2", ""]);
        assert_eq!(grams.overlap("What is 2+2?").unwrap().share, 1.0);
        assert_eq!(grams.overlap("what is 2 + 3"), None);
        assert_eq!(grams.overlap("so what is 2 + 2"), None);
    }

    #[test]
    fn of_a_chat_the_turns_of_the_user_are_compared() {
        let body = Body::Chat(vec![
            crate::Message::system("s"),
            crate::Message::user("a"),
            crate::Message { role: "assistant".into(), content: "b".into() },
            crate::Message::user("c"),
        ]);
        let prompt = Prompt { id: "p".into(), body, answer: None, fields: Default::default() };
        assert_eq!(asked(&prompt), "a\nc");
        assert_eq!(asked(&Prompt { body: Body::Text("t".into()), ..prompt }), "t");
    }
}
