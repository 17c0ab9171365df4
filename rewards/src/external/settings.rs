//! What is checked of settings before anything is started.
//!
//! Before: a recipe was read. After: numbers that make sense, or what was found and what was wanted.

use std::thread;
use std::time::Duration;

use crate::RewardError;

/// Longest deadline in seconds: a week.
const LONGEST: f64 = 604_800.0;

/// Refuses a setting of the reward of that name.
pub(super) fn refuse<T>(name: &str, what: String) -> Result<T, RewardError> {
    Err(RewardError::Setting { what: format!("reward `{name}`: {what}") })
}

/// A deadline in seconds.
pub(crate) fn seconds(name: &str, what: &str, seconds: f64) -> Result<Duration, RewardError> {
    match seconds > 0.0 && seconds <= LONGEST {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => {
            refuse(name, format!("{what} is {seconds}, wanted seconds, more than 0 and at most {LONGEST}"))
        }
    }
}

/// A number of things.
pub(super) fn count(name: &str, what: &str, count: usize, most: usize) -> Result<usize, RewardError> {
    match (1..=most).contains(&count) {
        true => Ok(count),
        false => refuse(name, format!("{what} is {count}, wanted 1 to {most}")),
    }
}

/// Where a server is.
pub(super) fn url(name: &str, url: &str) -> Result<(), RewardError> {
    match url.starts_with("http://") || url.starts_with("https://") {
        true => Ok(()),
        false => refuse(name, format!("url is {url:?}, wanted http://… or https://…")),
    }
}

/// The key that an environment variable holds, if one is named.
pub(super) fn key(name: &str, variable: Option<&str>) -> Result<Option<String>, RewardError> {
    let Some(variable) = variable else { return Ok(None) };
    match std::env::var(variable) {
        Ok(key) if !key.is_empty() => Ok(Some(key)),
        _ => refuse(name, format!("key_variable names {variable}, which is not set, wanted the key in it")),
    }
}

/// One for each core, and two at least, so that one that hangs does not keep all others waiting.
pub(super) fn workers() -> usize {
    thread::available_parallelism().map_or(1, usize::from).max(2)
}
