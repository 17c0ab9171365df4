//! A classifier's logit as a reward.
//!
//! Before: a folder with a sequence classifier. After: what it says behind the last token of prompt and completion.

use std::path::PathBuf;

use data::{Body, Message, Rollout, Verdict};
use serde::{Deserialize, Serialize};

use super::causal::{self, Causal};
use super::folder::Folder;
use super::held::Held;
use super::text::Text;
use super::{LIMIT, limit, start};
use crate::extract::said;
use crate::{Reward, RewardError};

/// A reward model: a `…ForSequenceClassification` checkpoint in Hugging Face layout, read inside of the program.
///
/// The reward is `score.weight[label] · h`, with h the hidden state behind the sequence's last token. As in transformers
/// that is the last one that is not `pad_token_id` of config.json. The families are llama, mistral, qwen2 and qwen3. All
/// weights are held in f32, four bytes a parameter, and one sequence is read at a time, so that a verdict does not depend
/// on which others are asked for.
///
/// The completion is untrusted, so what spells a special token in it (`<|im_end|>`) gets a space inside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RewardModel {
    /// Folder with `config.json`, `tokenizer.json` and `model.safetensors` or its shards.
    pub path: PathBuf,
    /// Row of `score.weight`. It has to be named if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<usize>,
    /// Whether the checkpoint's chat template is used: the prompt's messages, or a text as the user's, then the
    /// completion as the assistant's. Otherwise the prompt's text (of messages: their contents, a blank line between)
    /// is followed by the completion as it is.
    pub chat: bool,
    /// Whether the completion is shown with its thinking. Without it, one that was cut off in its thinking is empty.
    pub thinking: bool,
    /// Whether the reward is 1 / (1 + exp(−logit)), in 0..1, and not the logit.
    pub sigmoid: bool,
    /// Most tokens of prompt and completion together: a longer one is a failure, and never cut. By default 4096, or what
    /// the model was made for if that is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// `cpu`, or `cuda:0` and the like.
    pub device: String,
}

impl Default for RewardModel {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            label: None,
            chat: true,
            thinking: false,
            sigmoid: false,
            max_tokens: None,
            device: "cpu".into(),
        }
    }
}

impl RewardModel {
    /// Loads the model.
    ///
    /// # Errors
    /// If a setting makes no sense, a file or a tensor is missing or has another shape than config.json says, the family
    /// is not known, or the device is not there.
    pub fn build(self, name: &str) -> Result<impl Reward + use<>, RewardError> {
        self.load().map_err(start(name))
    }

    fn load(self) -> Result<Classifier, String> {
        let device = causal::device(&self.device)?;
        let folder = Folder::open(&self.path)?;
        let mut shape = folder.shape()?;
        let text = Text::open(&folder, &shape)?;
        if self.chat && !text.has_chat() {
            let place = folder.place("tokenizer_config.json");
            return Err(format!(
                "chat is true, but {place} has no chat_template, and there is no chat_template.jinja"
            ));
        }
        let limit = limit("max_tokens", self.max_tokens, LIMIT, shape.context)?;
        shape.context = limit;
        let mut tensors = folder.tensors(&shape, HEAD, &device)?;
        let head = tensors.remove(HEAD).ok_or_else(|| {
            let (path, found) = (self.path.display(), &shape.architecture);
            format!("the weights in `{path}` have no `{HEAD}`: it is a {found}, wanted one …ForSequenceClassification")
        })?;
        let labels = match head.dims() {
            [labels, hidden] if *hidden == shape.hidden && *labels > 0 => *labels,
            found => {
                return Err(format!("`{HEAD}` has the shape {found:?}, wanted [labels, {}]", shape.hidden));
            }
        };
        let label = match self.label {
            Some(label) if label < labels => label,
            None if labels == 1 => 0,
            Some(label) => return Err(format!("label is {label}, but `{HEAD}` has {labels}, from 0")),
            None => {
                return Err(format!("`{HEAD}` has {labels} labels, wanted one of them as `label`, from 0"));
            }
        };
        let failed = |error| format!("the model does not load: {error}");
        let head = head.narrow(0, label, 1).map_err(failed)?;
        let model = Causal::new(&shape, tensors, head, &device).map_err(failed)?;
        Ok(Classifier { settings: self, model: Held::new(model)?, text, limit, pad: shape.pad })
    }
}

const HEAD: &str = "score.weight";

struct Classifier {
    settings: RewardModel,
    model: Held<Causal>,
    text: Text,
    limit: usize,
    pad: Option<u32>,
}

impl Classifier {
    fn tokens(&self, rollout: &Rollout) -> Result<Vec<u32>, String> {
        let text = &rollout.text;
        let completion = match self.settings.thinking {
            false if text.contains("</think>") || text.contains("<think>") => {
                said(text).unwrap_or_default().trim_start().to_owned()
            }
            _ => text.clone(),
        };
        let completion = self.text.harmless(&completion);
        match (&rollout.prompt.body, self.settings.chat) {
            (Body::Text(text), false) => self.text.plain(&format!("{text}{completion}")),
            (Body::Chat(messages), false) => {
                let contents: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
                self.text.plain(&format!("{}{completion}", contents.join("\n\n")))
            }
            (body, true) => {
                let mut messages = match body {
                    Body::Text(text) => vec![Message::user(text)],
                    Body::Chat(messages) => messages.clone(),
                };
                messages.push(Message { role: "assistant".into(), content: completion });
                self.text.chat(&messages, false, None)
            }
        }
    }

    fn verdict(&self, model: &mut Causal, rollout: &Rollout) -> Verdict {
        self.reward(model, rollout).map_or_else(Verdict::failed, Verdict::from)
    }

    fn reward(&self, model: &mut Causal, rollout: &Rollout) -> Result<f32, String> {
        let tokens = self.tokens(rollout)?;
        if tokens.len() > self.limit {
            let (found, most) = (tokens.len(), self.limit);
            return Err(format!(
                "prompt and completion have {found} tokens, wanted at most {most} (max_tokens)"
            ));
        }
        let last = tokens.iter().rposition(|token| Some(*token) != self.pad);
        let last = last.ok_or("prompt and completion have no tokens, wanted one to judge by")?;
        model.clear();
        let logits = model.read(&tokens[..=last], 0).map_err(|error| format!("the model fails: {error}"))?;
        Ok(if self.settings.sigmoid { 1.0 / (1.0 + (-logits[0]).exp()) } else { logits[0] })
    }
}

impl Reward for Classifier {
    fn score(&self, rollout: &Rollout) -> Verdict {
        let reward = |model: &mut Causal, rollout| self.verdict(model, rollout);
        self.model.each(std::slice::from_ref(rollout), reward).remove(0)
    }

    fn score_all(&self, rollouts: &[Rollout]) -> Result<Vec<Verdict>, RewardError> {
        Ok(self.model.each(rollouts, |model, rollout| self.verdict(model, rollout)))
    }
}
