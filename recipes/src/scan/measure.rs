//! The pass over all prompts: prefill only, without logits, what all prompts begin with computed once.
//!
//! Before and after: see [`super`].

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use engine::model::{KvPrefix, KvRow, Policy};
use engine::selection::{Concentration, Directions, Released};
use rollout::Task;

use super::file::{Growing, Scan, ScanHead, ScannedPrompt, digest_of_prompts, key, partial};
use crate::plan::Plan;
use crate::progress::{Busy, Display, line};
use crate::usage::Usage;

/// Tokens of one pass, about.
const TOKENS: usize = 2048;
/// Prompts of one pass at most.
const ROWS: usize = 128;
/// Bytes of keys and values that the prompts of a pass may take, about.
const KV_BYTES: usize = 1 << 29;

/// A call for a scan.
pub(crate) struct ScanRequest<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) policy: &'a Policy,
    /// The file to write, or to go on with.
    pub(crate) file: &'a Path,
    /// A scan of the same that is there already, to be copied.
    pub(crate) given: Option<&'a Path>,
    /// κ of the scores in the file.
    pub(crate) kappa: f64,
    /// Only so many prompts, the first of the dataset.
    pub(crate) limit: Option<usize>,
}

/// Scans the prompts that the file has not yet, and writes it. Says how far it is.
///
/// # Errors
/// If the file is a scan of something else or cannot be written, the policy fails, or the plan's stop is requested: what was
/// scanned until then is kept.
pub(crate) fn measure(request: &ScanRequest<'_>) -> Result<Scan> {
    let ScanRequest { plan, policy, file, given, kappa, limit } = *request;
    let tasks = &plan.tasks[..limit.unwrap_or(usize::MAX).min(plan.tasks.len())];
    let data = digest_of_prompts(plan);
    let key = {
        let _busy = Busy::new("hashing the weights");
        key(plan, policy, &data)?
    };
    let (prefix, suffix) = template(&plan.tasks);
    let checkpoint = plan.checkpoint.source().to_owned();
    let head = ScanHead { key, data, checkpoint, prompts: plan.tasks.len(), prefix, suffix, kappa };
    let mut known = HashMap::new();
    for (place, named) in [(given, true), (Some(file), true), (Some(&*partial(file)), false)] {
        let Some(place) = place else { continue };
        match Scan::read(place)? {
            Some(scan) if scan.head.key == head.key => {
                known.extend(scan.prompts.into_iter().map(|prompt| (prompt.id.clone(), prompt)));
            }
            // what was under way is of an earlier recipe
            Some(_) if !named => {}
            Some(scan) => return Err(other(place, &scan.head, &head)),
            None if given == Some(place) => {
                return Err(Usage::error(format!(
                    "`{}` is not there; wanted a file of `evenkeel scan`",
                    place.display()
                )));
            }
            None => {}
        }
    }
    let mut scan = Scan { head, prompts: Vec::new() };
    let missing: Vec<&Task> = tasks.iter().filter(|task| !known.contains_key(&task.prompt.id)).collect();
    if !missing.is_empty() {
        let mut before: Vec<ScannedPrompt> = known.values().cloned().collect();
        before.sort_by(|a, b| a.id.cmp(&b.id));
        scan.prompts = before;
        let new = scan_missing(request, &scan, &missing)?;
        known.extend(new.into_iter().map(|prompt| (prompt.id.clone(), prompt)));
    }
    // those beyond a limit that an earlier scan had are kept
    scan.prompts = plan.tasks.iter().filter_map(|task| known.remove(&task.prompt.id)).collect();
    for prompt in &mut scan.prompts {
        prompt.score = prompt.intra + kappa * prompt.inter;
    }
    scan.write(file)?;
    match std::fs::remove_file(partial(file)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove `{}`", partial(file).display()))
        }
        _ => Ok(scan),
    }
}

/// The error of a file that is a scan of something else.
fn other(place: &Path, found: &ScanHead, wanted: &ScanHead) -> anyhow::Error {
    let what = if found.data != wanted.data {
        "of other prompts, or of the same as another template or tokenizer gives them".to_owned()
    } else if found.checkpoint != wanted.checkpoint {
        format!("by `{}`; wanted one by `{}`", found.checkpoint, wanted.checkpoint)
    } else {
        "by other weights, or in another arithmetic".to_owned()
    };
    Usage::error(format!("`{}` is a scan {what}; name another file, or remove it", place.display()))
}

/// Scans prompts, adding each batch to what is under way.
fn scan_missing(request: &ScanRequest<'_>, before: &Scan, missing: &[&Task]) -> Result<Vec<ScannedPrompt>> {
    let ScanRequest { plan, policy, file, .. } = *request;
    let all = before.prompts.len() + missing.len();
    line(&format!("scanning {} of {all} prompts for the concentration of their tokens", missing.len()));
    let mut growing = Growing::new(partial(file), before)?;
    let mut display = Display::new("scan", before.prompts.len() as u64, all as u64);
    let shared = Shared::new(policy, &before.head, &missing[0].tokens)?;
    // a row has room for 64 tokens at least
    let most = (KV_BYTES / policy.kv_bytes(64).max(1)).clamp(1, ROWS);
    let (mut found, mut first) = (Vec::with_capacity(missing.len()), 0);
    while first < missing.len() {
        if plan.stop.is_requested() {
            let done = before.prompts.len() + found.len();
            let place = partial(file);
            return Err(plan.stop.interrupted(format!(
                "{done} of {all} prompts are scanned and are in `{}`",
                place.display()
            )));
        }
        let mut tokens = 0;
        let batch = missing[first..].iter().take(most).take_while(|task| {
            tokens += shared.rest(task).len();
            tokens <= TOKENS || tokens == shared.rest(task).len()
        });
        let batch: Vec<&Task> = batch.copied().collect();
        let new = shared.scan(policy, &batch)?;
        growing.add(&new)?;
        first += new.len();
        found.extend(new);
        display.step((before.prompts.len() + found.len()) as u64, "");
    }
    Ok(found)
}

/// Tokens that all prompts begin with and end with. No prompt is without a token between; of prompts that are all alike nothing
/// tells question and template apart, and all is question.
fn template(tasks: &[Task]) -> (usize, usize) {
    let Some(first) = tasks.first().map(|task| &*task.tokens) else { return (0, 0) };
    if tasks.iter().all(|task| *task.tokens == *first) {
        return (0, 0);
    }
    let least = tasks.iter().map(|task| task.tokens.len()).min().unwrap_or(0);
    let alike = |pairs: usize| pairs.min(least.saturating_sub(1));
    let prefix = tasks.iter().map(|task| task.tokens.iter().zip(first).take_while(|(a, b)| a == b).count());
    let prefix = alike(prefix.min().unwrap_or(0));
    let behind =
        |tokens: &[u32]| tokens.iter().rev().zip(first.iter().rev()).take_while(|(a, b)| a == b).count();
    let suffix = alike(tasks.iter().map(|task| behind(&task.tokens)).min().unwrap_or(0));
    (prefix, suffix.min((least - prefix).saturating_sub(1)))
}

/// What all prompts begin with, computed once.
struct Shared {
    prefix: usize,
    suffix: usize,
    directions: Directions,
    row: Option<KvPrefix>,
}

impl Shared {
    fn new(policy: &Policy, head: &ScanHead, prompt: &[u32]) -> Result<Self> {
        let (prefix, suffix) = (head.prefix, head.suffix);
        let width = policy.config().hidden_size;
        if prefix == 0 {
            return Ok(Self { prefix, suffix, directions: Directions::none(width), row: None });
        }
        let mut row = KvRow::to_share(policy, prefix)?;
        let inputs = policy.mlp_input(&mut [(&mut row, &prompt[..prefix])])?;
        let directions = Directions::of(&inputs, width);
        Ok(Self { prefix, suffix, directions, row: Some(row.share()) })
    }

    /// The tokens of a prompt that have to be read: its question, and one more for the metric of the released code.
    fn rest<'t>(&self, task: &'t Task) -> &'t [u32] {
        let end = (task.tokens.len() + 1 - self.suffix).min(task.tokens.len());
        &task.tokens[self.prefix..end]
    }

    fn scan(&self, policy: &Policy, batch: &[&Task]) -> Result<Vec<ScannedPrompt>> {
        let width = policy.config().hidden_size;
        let mut rows = batch
            .iter()
            .map(|task| {
                let capacity = self.prefix + self.rest(task).len();
                match &self.row {
                    Some(prefix) => KvRow::behind(prefix, capacity),
                    None => KvRow::new(policy, capacity),
                }
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        let mut pairs: Vec<(&mut KvRow, &[u32])> =
            rows.iter_mut().zip(batch).map(|(row, task)| (row, self.rest(task))).collect();
        let inputs = policy.mlp_input(&mut pairs)?;
        let mut first = 0;
        let of = |task: &&Task| {
            let own = &inputs[first * width..(first + self.rest(task).len()) * width];
            first += self.rest(task).len();
            let tokens = task.tokens.len();
            let question = tokens - self.prefix - self.suffix;
            let found = Concentration::of(&self.directions, &Directions::of(&own[..question * width], width));
            let released = Released::behind(&self.directions, self.prefix, own, width);
            let released = released.offline(tokens, self.suffix);
            ScannedPrompt {
                id: task.prompt.id.clone(),
                tokens,
                question,
                intra: found.intra,
                inter: found.inter,
                // the κ of the file comes last
                score: found.score(1.0),
                released: released.is_finite().then_some(released),
            }
        };
        Ok(batch.iter().map(of).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn tasks(all: &[&[u32]]) -> Vec<Task> {
        let prompt = |place: usize| {
            let (id, body) = (place.to_string(), data::Body::Text(String::new()));
            Arc::new(data::Prompt { id, body, answer: None, fields: Default::default() })
        };
        let of = |(place, tokens): (usize, &&[u32])| Task {
            prompt: prompt(place),
            tokens: (*tokens).into(),
            max_tokens: None,
            occurrence: 0,
        };
        all.iter().enumerate().map(of).collect()
    }

    #[test]
    fn the_template_is_what_all_prompts_begin_and_end_with() {
        for (all, wanted) in [
            (&[&[1, 2, 5, 6, 9][..], &[1, 2, 7, 9], &[1, 2, 8, 8, 8, 9]][..], (2, 1)),
            // nothing in common
            (&[&[1, 2], &[3, 4]], (0, 0)),
            // of the shortest prompt a token is left
            (&[&[1, 2, 3], &[1, 2, 3, 3]], (2, 0)),
            (&[&[1, 1, 1, 1], &[1, 1]], (1, 0)),
            (&[&[4, 9], &[5, 9], &[5, 5, 9]], (0, 1)),
            // one prompt, or the same ones: all is question
            (&[&[1, 2, 3]], (0, 0)),
            (&[&[1, 2], &[1, 2]], (0, 0)),
            (&[], (0, 0)),
        ] {
            assert_eq!(template(&tasks(all)), wanted, "{all:?}");
        }
    }
}
