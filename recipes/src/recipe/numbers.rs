//! Numbers and names whose range is their type, so that a bad one is refused where it stands.
//!
//! Before and after: see [`super`].

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// A number of things, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "usize", into = "usize")]
#[schemars(extend("minimum" = 1))]
pub struct Count(pub(super) usize);

impl Count {
    /// The number.
    pub fn get(self) -> usize {
        self.0
    }
}

impl From<Count> for usize {
    fn from(count: Count) -> usize {
        count.0
    }
}

impl TryFrom<usize> for Count {
    type Error = String;
    fn try_from(n: usize) -> Result<Self, String> {
        if n == 0 { Err("wanted at least 1, not 0".into()) } else { Ok(Self(n)) }
    }
}

/// Rollouts of one prompt, at least 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "usize", into = "usize")]
#[schemars(extend("minimum" = 2))]
pub struct GroupSize(pub(super) usize);

impl GroupSize {
    /// The number.
    pub fn get(self) -> usize {
        self.0
    }
}

impl From<GroupSize> for usize {
    fn from(size: GroupSize) -> usize {
        size.0
    }
}

impl TryFrom<usize> for GroupSize {
    type Error = String;
    fn try_from(n: usize) -> Result<Self, String> {
        if n < 2 {
            return Err(format!("a group needs at least 2 rollouts to compare, not {n}"));
        }
        Ok(Self(n))
    }
}

/// A name that becomes a folder's: no path, so that nothing is written elsewhere.
pub(super) fn folder_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(name) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let bad = name.is_empty()
        || name.len() > 200
        || name.starts_with('.')
        || name.contains(|c: char| matches!(c, '/' | '\\' | ':') || c.is_control());
    if bad {
        return Err(serde::de::Error::custom(format!(
            "name is {:?}; wanted the name of a folder, without `/`, such as \"gsm8k-first\"",
            name.chars().take(80).collect::<String>()
        )));
    }
    Ok(Some(name))
}
