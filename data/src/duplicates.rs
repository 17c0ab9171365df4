//! Questions that are asked twice.
//!
//! Before: a [`crate::Dataset`] was read. After: whoever quotes a figure knows how many questions it really rests on.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use crate::{
    Prompt,
    overlap::{asked, words},
};

/// The ids of prompts that ask the same, the one that comes first in front; of three, the first with either of the
/// others.
///
/// Questions are the same if they have the same letters and digits, whatever their case and whatever stands between.
/// That is a hint for a person to look at: `12+7` and `12-7` are the same too, so it says nothing about generated
/// problems. What is compared is all that the user says, so prompts of two datasets are comparable if their templates
/// are the same.
pub fn same_questions(prompts: &[Arc<Prompt>]) -> Vec<(String, String)> {
    let (mut first, mut pairs) = (HashMap::new(), Vec::new());
    for prompt in prompts {
        match first.entry(words(&asked(prompt))) {
            Entry::Vacant(entry) => _ = entry.insert(&prompt.id),
            Entry::Occupied(entry) => pairs.push(((*entry.get()).clone(), prompt.id.clone())),
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Body, Message};

    fn prompt((id, body): (&str, Body)) -> Arc<Prompt> {
        Arc::new(Prompt { id: id.into(), body, answer: None, fields: Default::default() })
    }

    fn same(prompts: &[Arc<Prompt>]) -> Vec<String> {
        same_questions(prompts).into_iter().map(|(first, second)| format!("{first} {second}")).collect()
    }

    #[test]
    fn case_and_signs_do_not_tell_questions_apart_and_words_do() {
        let questions = [
            ("a", "What is $2+2$?"),
            ("b", "What is 2 + 3?"),
            ("c", " what IS: 2 2"),
            ("d", "What is 22?"),
            ("e", "What is \\(2 + 2\\)?"),
            ("f", "Wie groß ist É?"),
            ("g", "wie GROß ist é"),
        ];
        let prompts = questions.map(|(id, text)| prompt((id, Body::Text(text.into()))));
        assert_eq!(same(&prompts), ["a c", "a e", "f g"]);
        assert!(same(&prompts[..2]).is_empty() && same(&[]).is_empty());
    }

    #[test]
    fn of_a_chat_the_users_words_count() {
        let chat = |system: &str, user: &str| Body::Chat(vec![Message::system(system), Message::user(user)]);
        let prompts =
            [("a", chat("be brief", "one")), ("b", chat("be kind", "One.")), ("c", chat("", "two"))];
        assert_eq!(same(&prompts.map(prompt)), ["a b"]);
    }
}
