//! A language model inside of the program that grades.
//!
//! Before: a folder with a chat model. After: the grade in its reply, as a reward in 0..1.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use data::{Message, Rollout, Verdict};
use serde::{Deserialize, Serialize};

use super::causal::{self, Causal};
use super::folder::Folder;
use super::held::Held;
use super::text::Text;
use super::{LIMIT, limit, start};
use crate::external::{Grading, seconds, tail};
use crate::{Grade, Judge, Reward, RewardError};

/// A model that is asked for a grade of each completion, as [`Judge`] asks a server, and writes the likeliest tokens.
///
/// The families are llama, mistral, qwen2 and qwen3. All weights are held in f32, four bytes a parameter, and one question
/// is answered at a time, so that a verdict does not depend on which others are asked for; on a CPU that is for small
/// models and few rollouts. The question is the user's message in the checkpoint's own chat template, with the same
/// walls around the completion as [`Judge`] has. What spells a special token in it (`<|im_end|>`) gets a space inside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LocalJudge {
    /// Folder with `config.json`, `tokenizer.json`, a chat template, and `model.safetensors` or its shards.
    pub path: PathBuf,
    /// What is asked, with `{prompt}`, `{completion}` and `{answer}`, and `{low}` and `{high}` of the scale.
    pub prompt: String,
    /// The worst grade and the best: they become 0 and 1.
    pub scale: [f32; 2],
    /// How the grade stands in the reply.
    pub grade: Grade,
    /// What the chat template is told as `enable_thinking`, if anything: `false` lets Qwen3 answer at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_thinking: Option<bool>,
    /// Most tokens of a reply, thinking included.
    pub max_tokens: usize,
    /// Most tokens of question and reply together: a question that leaves no room for `max_tokens` is a failure, and never
    /// cut. By default 4096, or what the model was made for if that is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Seconds that a grade may take. That is looked at between tokens, and the question is read in one go.
    pub deadline: f64,
    /// `cpu`, or `cuda:0` and the like.
    pub device: String,
}

impl Default for LocalJudge {
    fn default() -> Self {
        let Judge { prompt, scale, grade, max_tokens, deadline, .. } = Judge::default();
        let device = "cpu".into();
        Self {
            path: PathBuf::new(),
            prompt,
            scale,
            grade,
            enable_thinking: None,
            max_tokens,
            context: None,
            deadline,
            device,
        }
    }
}

impl LocalJudge {
    /// Loads the model.
    ///
    /// # Errors
    /// If a setting makes no sense, a file or a tensor is missing or has another shape than config.json says, the family
    /// is not known, there is no chat template or no token that ends a reply, or the device is not there.
    pub fn build(self, name: &str) -> Result<impl Reward + use<>, RewardError> {
        let deadline = seconds(name, "deadline", self.deadline)?;
        let Self { prompt, scale, grade, max_tokens, .. } = &self;
        let asked = Judge {
            prompt: prompt.clone(),
            scale: *scale,
            grade: *grade,
            max_tokens: *max_tokens,
            ..Judge::default()
        };
        let grading = asked.grading(name)?;
        self.load(name, grading, deadline).map_err(start(name))
    }

    fn load(self, name: &str, grading: Grading, deadline: Duration) -> Result<Grader, String> {
        let device = causal::device(&self.device)?;
        let folder = Folder::open(&self.path)?;
        let mut shape = folder.shape()?;
        let text = Text::open(&folder, &shape)?;
        if !text.has_chat() {
            let place = folder.place("tokenizer_config.json");
            return Err(format!("{place} has no chat_template, and there is no chat_template.jinja"));
        }
        if text.ends.is_empty() {
            let place = folder.place("config.json");
            return Err(format!("{place} has no eos_token_id, wanted the token that ends a reply"));
        }
        let context = limit("context", self.context, LIMIT, shape.context)?;
        if self.max_tokens >= context {
            let max_tokens = self.max_tokens;
            return Err(format!(
                "max_tokens is {max_tokens} of a context of {context}, wanted room for the question"
            ));
        }
        shape.context = context;
        let head = if shape.tied { EMBEDDING } else { HEAD };
        let mut tensors = folder.tensors(&shape, head, &device)?;
        let head = match shape.tied {
            true => tensors.get(EMBEDDING).cloned(),
            false => tensors.remove(HEAD),
        };
        let head = head.ok_or_else(|| {
            let (path, found) = (self.path.display(), &shape.architecture);
            format!("the weights in `{path}` have no `{HEAD}`: it is a {found}, wanted one …ForCausalLM")
        })?;
        if head.dims() != [shape.vocab, shape.hidden] {
            let (found, wanted) = (head.dims(), [shape.vocab, shape.hidden]);
            return Err(format!("`{HEAD}` has the shape {found:?}, wanted {wanted:?}"));
        }
        let model = Causal::new(&shape, tensors, head, &device);
        let model = Held::new(model.map_err(|error| format!("the model does not load: {error}"))?)?;
        Ok(Grader { name: name.to_owned(), settings: self, grading, deadline, model, text, context })
    }
}

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

struct Grader {
    name: String,
    settings: LocalJudge,
    grading: Grading,
    deadline: Duration,
    model: Held<Causal>,
    text: Text,
    context: usize,
}

impl Grader {
    fn grade(&self, model: &mut Causal, rollout: &Rollout) -> Result<Verdict, String> {
        let start = Instant::now();
        let question = Message::user(self.text.harmless(&self.grading.question(rollout)));
        let question = self.text.chat(&[question], true, self.settings.enable_thinking)?;
        let (found, reply, context) = (question.len(), self.settings.max_tokens, self.context);
        if found + reply > context {
            return Err(format!(
                "the question has {found} tokens, wanted at most {} (context {context} without max_tokens {reply})",
                context - reply
            ));
        }
        let (reply, ended) = self.reply(model, &question, start)?;
        // What is cut after a 1 may have been a 10, and what is cut in a quotation is not the judge's.
        if !ended {
            let most = self.settings.max_tokens;
            return Err(format!(
                "the judge's reply is cut off, wanted it to end within {most} tokens; it ends: {:?}",
                tail(&reply)
            ));
        }
        Ok(self.grading.verdict(&reply))
    }

    /// What is said when the deadline is over.
    fn late(&self) -> String {
        format!("no grade within {} s", self.settings.deadline)
    }

    /// What the model writes, and whether it ended by itself.
    fn reply(&self, model: &mut Causal, question: &[u32], start: Instant) -> Result<(String, bool), String> {
        model.clear();
        let (mut tokens, mut ended) = (vec![], false);
        let mut logits = model.read(question, 0).map_err(failed)?;
        loop {
            if start.elapsed() >= self.deadline {
                return Err(self.late());
            }
            let token = likeliest(&logits)?;
            ended |= self.text.ends.contains(&token);
            if ended {
                break;
            }
            tokens.push(token);
            if tokens.len() == self.settings.max_tokens {
                break;
            }
            logits = model.read(&[token], question.len() + tokens.len() - 1).map_err(failed)?;
        }
        Ok((self.text.decode(&tokens)?, ended))
    }
}

fn failed(error: candle_core::Error) -> String {
    format!("the model fails: {error}")
}

/// The first of the largest.
fn likeliest(logits: &[f32]) -> Result<u32, String> {
    let (mut token, mut most) = (0, f32::NEG_INFINITY);
    for (i, logit) in logits.iter().enumerate() {
        if logit.is_nan() {
            return Err("the judge's logits are no numbers".into());
        }
        if *logit > most {
            (token, most) = (i, *logit);
        }
    }
    Ok(token as u32)
}

impl Reward for Grader {
    fn score(&self, rollout: &Rollout) -> Verdict {
        let grade = |model: &mut Causal, rollout| self.grade(model, rollout).unwrap_or_else(Verdict::failed);
        self.model.each(std::slice::from_ref(rollout), grade).remove(0)
    }

    /// Ends when the deadline was over for samples of two prompts, and no sample has been graded: it would be for all.
    fn score_all(&self, rollouts: &[Rollout]) -> Result<Vec<Verdict>, RewardError> {
        let (mut slow, mut graded) = (BTreeSet::new(), false);
        let verdicts = self.model.each(rollouts, |model, rollout| {
            if !graded && slow.len() > 1 {
                return Verdict::absent();
            }
            let verdict = self.grade(model, rollout).unwrap_or_else(Verdict::failed);
            match verdict.failure == Some(self.late()) {
                true => drop(slow.insert(&rollout.prompt.id)),
                false => graded = true,
            }
            verdict
        });
        if !graded && slow.len() > 1 {
            return Err(RewardError::Hangs { name: self.name.clone(), why: self.late() });
        }
        Ok(verdicts)
    }
}
