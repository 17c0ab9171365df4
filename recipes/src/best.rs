//! The best checkpoint of a run by a metric of the recipe's choice.
//!
//! Every checkpoint's state says which one was the best when it was written, so what is known of the best goes back with the
//! run if that goes back to an earlier checkpoint; `checkpoints/best.json` says the same for readers.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::write_aside;

/// The file for readers.
const BEST: &str = "best.json";

/// `checkpoints/best.json`: the checkpoint that was best by the metric of `[save] best`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Best {
    /// Its folder's name.
    pub(crate) checkpoint: String,
    /// The metric, with a minus where smaller is better.
    pub(crate) metric: String,
    /// Its value there.
    pub(crate) value: f64,
}

impl Best {
    /// `checkpoint` as the best by `metric`, if the step of this line of metrics is better than all before it. Among equals the
    /// first stays.
    pub(crate) fn of(metric: &str, before: Option<&Self>, line: &Value, checkpoint: String) -> Option<Self> {
        let (path, sign) = metric.strip_prefix('-').map_or((metric, 1.0), |path| (path, -1.0));
        let value = path.split('.').fold(line, |value, key| &value[key]).as_f64()?;
        let before = before.filter(|before| before.metric == metric);
        let better = before.is_none_or(|before| sign * value > sign * before.value);
        better.then(|| Self { checkpoint, metric: metric.to_owned(), value })
    }

    /// The contents of `best.json`, if there is one.
    pub(crate) fn read(checkpoints: &Path) -> Result<Option<Self>> {
        let file = checkpoints.join(BEST);
        let cannot = || format!("could not read `{}`", file.display());
        match std::fs::read(&file) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).with_context(cannot)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(cannot),
        }
    }

    /// Makes `best.json` say this.
    pub(crate) fn write(best: Option<&Self>, checkpoints: &Path) -> Result<()> {
        let file = checkpoints.join(BEST);
        match best {
            Some(best) if Self::read(checkpoints).ok().flatten().as_ref() == Some(best) => Ok(()),
            Some(best) => write_aside(&file, &serde_json::to_vec_pretty(best)?),
            None => match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("could not remove `{}`", file.display()))
                }
                _ => Ok(()),
            },
        }
    }
}
