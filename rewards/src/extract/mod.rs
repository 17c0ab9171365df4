//! What a completion gives as its answer.
//!
//! Before: a completion, with all its words. After: [`crate::Math`] and [`crate::ExactMatch`] compare the answer with the
//! reference. No place of the text is read more than a few times, so time is linear in its length, whatever it says.

mod boxes;
mod choice;
mod last;
mod phrase;
mod spans;

use data::Rollout;
use serde::{Deserialize, Serialize};

/// A place where the answer may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In the last `\boxed{…}` or `\fbox{…}`; if that is not closed, there is no answer. Boxes with nothing but commas or
    /// "and" between are one answer.
    Boxed,
    /// After the last `####` that begins no heading, up to the end of the line, without words that comment on it.
    Hash,
    /// After the last "answer is", "answer:" or "answer =", or below a heading "Answer", up to the end of the sentence: a
    /// formula if there is one, else an expression among words, else the words. Words that comment on it ("84, in total")
    /// or say what it is the value of ("the largest $n$ is 34") are left out.
    Phrase,
    /// The last capital letter from A to J that stands alone: `(C)`, `C.`, `option C`.
    Choice,
    /// The last expression that is more than a name: `\sqrt{2}` of "the side is $\sqrt{2}$", `12 cm^2`, `5x + 2`, `(3, 4)`. One
    /// that lacks its end, such as `2 + 2 =`, is no answer. In a completion that was cut off there is none, as what
    /// stands last there is a step of the work.
    LastExpression,
    /// The last number, with its sign, fraction and exponent: `-3`, `1,250`, `1/2`, `\frac{1}{2}`, `2.5 \times 10^3`; even
    /// inside an expression, and in a completion that was cut off.
    LastNumber,
    /// The whole text.
    Whole,
}

/// Where in a completion its answer stands: the first of these places that is there at all decides, even if it is blank.
///
/// In a recipe: one place, such as `"boxed"`, a list of them, or `"auto"`, which is
/// `["boxed", "hash", "phrase", "last_expression"]`. With both `"boxed"` and `"phrase"`, a "final answer is" behind the last box
/// goes before it.
///
/// `"phrase"` and `"last_expression"` look into the last `<answer>…</answer>` alone, if there is one.
///
/// Of a completion that was cut off by its token budget, `"hash"` and `"phrase"` leave out the last sentence, which may have been
/// cut in the middle of a number.
///
/// What stands between `<think>` and `</think>` never counts. A block that is not closed gives no answer; if there is
/// only a `</think>`, because the chat template opened the block, what follows it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "Written", into = "Written")]
pub struct Extract(Vec<Place>);

#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
enum Written {
    One(String),
    Several(Vec<Place>),
}

impl TryFrom<Written> for Extract {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::One(name) if name == "auto" => Ok(Self::default()),
            Written::One(name) => {
                let place = serde_json::from_value(serde_json::Value::String(name));
                Ok(Self(vec![place.map_err(|error| {
                    error.to_string().replace("expected one of", "wanted `auto` or one of")
                })?]))
            }
            Written::Several(places) if places.is_empty() => {
                Err("no place to look for the answer, wanted one".into())
            }
            Written::Several(places) => Ok(Self(places)),
        }
    }
}

impl From<Extract> for Written {
    fn from(extract: Extract) -> Self {
        match extract.0.as_slice() {
            _ if extract == Extract::default() => Self::One("auto".into()),
            [place] => match serde_json::to_value(place) {
                Ok(serde_json::Value::String(name)) => Self::One(name),
                _ => Self::Several(extract.0),
            },
            _ => Self::Several(extract.0),
        }
    }
}

impl Default for Extract {
    fn default() -> Self {
        Self(vec![Place::Boxed, Place::Hash, Place::Phrase, Place::LastExpression])
    }
}

impl From<Place> for Extract {
    fn from(place: Place) -> Self {
        Self(vec![place])
    }
}

impl Extract {
    /// The answer of a completion that ended by itself, without blanks around it, or `None` if there is none or it is blank.
    pub fn extract(&self, completion: &str) -> Option<String> {
        self.find(completion, false)
    }

    /// The answer of a rollout, as [`Extract::extract`] finds it; less counts if its token budget cut it off.
    pub fn of(&self, rollout: &Rollout) -> Option<String> {
        self.find(&rollout.text, rollout.truncated())
    }

    fn find(&self, completion: &str, cut_off: bool) -> Option<String> {
        let text = said(completion)?;
        let (place, answer) = self.0.iter().find_map(|place| Some((place, place.find(&text, cut_off)?)))?;
        let answer = match place {
            Place::Boxed if self.0.contains(&Place::Phrase) => final_phrase(&text, cut_off).or(answer),
            _ => answer,
        };
        Some(answer?.trim().to_owned()).filter(|answer| !answer.is_empty())
    }
}

/// What follows a "final answer is" behind the last box.
fn final_phrase(text: &str, cut_off: bool) -> Option<String> {
    let (at, _) = boxes::last(text)?;
    phrase::last_final(finished(text, cut_off), at).map(str::to_owned)
}

/// What is in the last `<answer>…</answer>`, if there is one, else all of the text.
fn answer_block(text: &str) -> &str {
    let block = text.rsplit_once("</answer>").and_then(|(before, _)| before.rsplit_once("<answer>"));
    block.map_or(text, |(_, inside)| inside)
}

/// The text without the sentence that was cut off.
fn finished(text: &str, cut_off: bool) -> &str {
    if !cut_off {
        return text;
    }
    let ends = [". ", ".\n", "? ", "! ", "\n"];
    let end = ends.iter().filter_map(|end| Some(text.rfind(end)? + end.len())).max();
    &text[..end.unwrap_or(0)]
}

/// An answer as a verdict shows it: of a long one, the beginning.
pub(crate) fn shown(answer: Option<String>) -> Option<String> {
    /// Characters.
    const SHOWN: usize = 500;
    answer.map(|answer| match answer.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &answer[..at]),
        None => answer,
    })
}

impl Place {
    /// The answer at this place, without blanks around it.
    pub fn extract(self, completion: &str) -> Option<String> {
        Extract::from(self).extract(completion)
    }

    /// `None` if the place is not there, `Some(None)` if it is and holds no answer.
    fn find(self, text: &str, cut_off: bool) -> Option<Option<String>> {
        let whole = |found: Option<&str>| found.map(|answer| Some(answer.to_owned()));
        match self {
            Self::Boxed => boxes::last(text).map(|(_, answer)| answer),
            Self::Hash => whole(phrase::after_hash(finished(text, cut_off))),
            Self::Phrase => whole(phrase::last(finished(answer_block(text), cut_off))),
            Self::Choice => whole(choice::last(text)),
            Self::LastExpression if cut_off => None,
            Self::LastExpression => {
                last::expression(answer_block(text)).map(|found| found.map(str::to_owned))
            }
            Self::LastNumber => whole(last::number(text)),
            Self::Whole => Some(Some(text.to_owned())),
        }
    }
}

/// The completion without its thinking, or `None` if that was cut off.
pub(crate) fn said(completion: &str) -> Option<String> {
    const OPEN: &str = "<think>";
    const CLOSE: &str = "</think>";
    let (mut said, mut thinking, mut from) = (String::new(), false, 0);
    for (at, _) in completion.match_indices('<') {
        let tag = &completion[at..];
        if tag.starts_with(OPEN) && !thinking {
            said.push_str(&completion[from..at]);
            thinking = true;
        } else if tag.starts_with(CLOSE) {
            if !thinking {
                said.clear();
            }
            thinking = false;
            from = at + CLOSE.len();
        }
    }
    if thinking {
        return None;
    }
    said.push_str(&completion[from..]);
    Some(said)
}

#[cfg(test)]
mod tests;
