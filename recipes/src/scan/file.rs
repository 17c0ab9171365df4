//! The file of a scan: a header, and a line a prompt.
//!
//! Before and after: see [`super`].

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use engine::model::Policy;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::{json_lines, write_aside};
use crate::plan::Plan;
use crate::usage::Usage;

/// The first line of a scan's file: what it is a scan of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScanHead {
    /// SHA-256 of weights, arithmetic and [`Self::data`].
    pub(crate) key: String,
    /// SHA-256 of the prompts' ids and tokens: of the dataset, the template and the tokenizer.
    pub(crate) data: String,
    /// The checkpoint.
    pub(crate) checkpoint: String,
    /// Prompts of the dataset.
    pub(crate) prompts: usize,
    /// Tokens before the question of each prompt: as many as all prompts begin with.
    pub(crate) prefix: usize,
    /// Tokens behind the question: as many as all prompts end with.
    pub(crate) suffix: usize,
    /// κ of the scores in the lines.
    pub(crate) kappa: f64,
}

/// A prompt as it was scanned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScannedPrompt {
    pub(crate) id: String,
    /// Tokens of the whole prompt.
    pub(crate) tokens: usize,
    /// Tokens of its question.
    pub(crate) question: usize,
    /// Mean cosine of two tokens of the question.
    pub(crate) intra: f64,
    /// Mean cosine of a token of the question and one before it.
    pub(crate) inter: f64,
    /// `intra` + κ·`inter`.
    pub(crate) score: f64,
    /// The metric of the released code; absent where it gives no number.
    pub(crate) released: Option<f64>,
}

/// A scan as far as it has come, in the order of the dataset.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scan {
    pub(crate) head: ScanHead,
    pub(crate) prompts: Vec<ScannedPrompt>,
}

/// A line of a scan's file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Head { scan: ScanHead },
    Prompt(ScannedPrompt),
}

impl Scan {
    /// Of a file; `None` if it is not there.
    ///
    /// # Errors
    /// If it cannot be read, or has other lines. A last one that was cut short is passed over.
    pub(crate) fn read(file: &Path) -> Result<Option<Self>> {
        let lines = json_lines::<Line>(file)?;
        if lines.lines.is_empty() && lines.broken.is_empty() {
            // a header is written whole, so no kill has cut it short
            let what = lines.torn.is_some().then_some("does not begin with the header of a scan");
            return match what.or(file.exists().then_some("is empty; wanted a scan")) {
                Some(what) => Err(Usage::error(format!("`{}` {what}", file.display()))),
                None => Ok(None),
            };
        }
        if let Some(number) = lines.broken.first() {
            return Err(Usage::error(format!("`{}` line {number} is not one of a scan", file.display())));
        }
        let mut values = lines.values();
        let Some(Line::Head { scan: head }) = values.next() else {
            return Err(Usage::error(format!(
                "`{}` does not begin with the header of a scan",
                file.display()
            )));
        };
        let mut prompts = Vec::new();
        for line in values {
            match line {
                Line::Prompt(prompt) => prompts.push(prompt),
                Line::Head { .. } => {
                    return Err(Usage::error(format!("`{}` has two headers of a scan", file.display())));
                }
            }
        }
        Ok(Some(Self { head, prompts }))
    }

    /// Writes it, whole or not at all.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        write_aside(file, self.text()?.as_bytes())
    }

    fn text(&self) -> Result<String> {
        let mut text = serde_json::to_string(&serde_json::json!({ "scan": self.head }))?;
        text.push('\n');
        for prompt in &self.prompts {
            text.push_str(&serde_json::to_string(prompt)?);
            text.push('\n');
        }
        Ok(text)
    }
}

/// Where the lines of a scan are while it is under way.
pub(super) fn partial(file: &Path) -> PathBuf {
    file.with_extension("partial.jsonl")
}

/// A scan under way, to which lines are added.
pub(super) struct Growing {
    file: std::fs::File,
    place: PathBuf,
}

impl Growing {
    /// Begins with the lines that are there.
    pub(super) fn new(place: PathBuf, scan: &Scan) -> Result<Self> {
        // a line that was cut short is gone by this
        scan.write(&place)?;
        let file = OpenOptions::new().append(true).open(&place);
        let file = file.with_context(|| format!("could not write to `{}`", place.display()))?;
        Ok(Self { file, place })
    }

    pub(super) fn add(&mut self, prompts: &[ScannedPrompt]) -> Result<()> {
        let mut text = String::new();
        for prompt in prompts {
            text.push_str(&serde_json::to_string(prompt)?);
            text.push('\n');
        }
        let written = self.file.write_all(text.as_bytes());
        written.with_context(|| format!("could not write to `{}`", self.place.display()))
    }
}

/// SHA-256 of the prompts as the policy reads them.
pub(super) fn digest_of_prompts(plan: &Plan) -> String {
    let mut digest = Sha256::new();
    for task in &plan.tasks {
        digest.update((task.prompt.id.len() as u64).to_le_bytes());
        digest.update(task.prompt.id.as_bytes());
        digest.update((task.tokens.len() as u64).to_le_bytes());
        task.tokens.iter().for_each(|token| digest.update(token.to_le_bytes()));
    }
    hex(digest)
}

/// SHA-256 of everything that a scan depends on.
pub(super) fn key(plan: &Plan, policy: &Policy, data: &str) -> Result<String> {
    let names: Vec<String> = policy.config().parameters().into_iter().map(|(name, _)| name).collect();
    let weights: Vec<String> = names
        .par_iter()
        .map(|name| {
            let mut digest = Sha256::new();
            digest.update(name.as_bytes());
            let mut bytes = Vec::with_capacity(1 << 16);
            for some in policy.weight(name)?.chunks(1 << 14) {
                bytes.clear();
                some.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
                digest.update(&bytes);
            }
            Ok(hex(digest))
        })
        .collect::<Result<_>>()?;
    let mut digest = Sha256::new();
    for text in [plan.choice.numerics(), &format!("{:?}", policy.config()), data] {
        digest.update(text.as_bytes());
        digest.update([0]);
    }
    weights.iter().for_each(|weight| digest.update(weight.as_bytes()));
    Ok(hex(digest))
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan() -> Scan {
        let head = ScanHead {
            key: "k".into(),
            data: "d".into(),
            checkpoint: "c".into(),
            prompts: 3,
            prefix: 2,
            suffix: 1,
            kappa: 8.0,
        };
        let prompt = |id: &str| ScannedPrompt {
            id: id.into(),
            tokens: 9,
            question: 6,
            intra: 0.1 + 0.2,
            inter: 1.0 / 3.0,
            score: -0.7,
            released: (id == "a").then_some(0.25),
        };
        Scan { head, prompts: vec![prompt("a"), prompt("b")] }
    }

    #[test]
    fn a_scan_reads_back_to_the_bit_and_a_line_cut_short_is_passed_over() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("scan.jsonl");
        assert_eq!(Scan::read(&file).expect("no file"), None);
        scan().write(&file).expect("written");
        assert_eq!(Scan::read(&file).expect("read"), Some(scan()));
        let mut growing = Growing::new(partial(&file), &scan()).expect("begun");
        growing.add(&scan().prompts[..1]).expect("added");
        let text = std::fs::read(partial(&file)).expect("read");
        std::fs::write(partial(&file), &text[..text.len() - 9]).expect("cut");
        assert_eq!(Scan::read(&partial(&file)).expect("read"), Some(scan()));
    }

    #[test]
    fn another_file_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("scan.jsonl");
        let (head, row) = ("{\"scan\":{}}\n", serde_json::to_string(&scan().prompts[0]).expect("JSON"));
        for text in
            [String::new(), "{\"a\":1}\n{\"b\":2}\n".into(), head.repeat(2), format!("{row}\n{row}\n")]
        {
            std::fs::write(&file, &text).expect("written");
            let error = Scan::read(&file).expect_err("refused").to_string();
            assert!(error.contains("scan.jsonl"), "{error}");
        }
    }
}
