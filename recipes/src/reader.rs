//! Prompts as the policy reads them: through the chat template and the tokenizer, within the context.

use std::sync::Arc;

use anyhow::{Context, Result};
use data::{Body, Dataset, Prompt};
use engine::model::{ChatTemplate, Checkpoint, ModelConfig, Tokenizer};
use rollout::Task;

use crate::recipe::{Recipe, ThinkingRecipe};
use crate::usage::Usage;

/// Turns prompts into tokens.
pub(crate) struct Reader<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) template: Option<ChatTemplate>,
    pub(crate) enable_thinking: Option<bool>,
    pub(crate) thinking: ThinkingRecipe,
    pub(crate) limit: usize,
    pub(crate) place: &'a str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(
        recipe: &Recipe,
        checkpoint: &'a Checkpoint,
        tokenizer: &'a Tokenizer,
        config: &ModelConfig,
    ) -> Result<Self> {
        Ok(Self {
            tokenizer,
            template: checkpoint.template()?,
            enable_thinking: recipe.policy.enable_thinking.or(recipe.thinks().then_some(true)),
            thinking: recipe.thinking.clone(),
            limit: config.max_position_embeddings,
            place: checkpoint.source(),
        })
    }

    /// A prompt as the policy reads it.
    pub(crate) fn task(&self, prompt: &Arc<Prompt>) -> Result<Task> {
        self.tokens(prompt, &self.opened(prompt)?)
    }

    /// The same, and why the policy cannot complete it if so.
    pub(crate) fn lenient_task(&self, prompt: &Arc<Prompt>) -> Result<(Task, Option<String>)> {
        let task = self.tokenized(prompt, &self.opened(prompt)?)?;
        let obstacle = self.obstacle(&task);
        Ok((task, obstacle))
    }

    /// The text of a prompt as the policy reads it.
    fn opened(&self, prompt: &Prompt) -> Result<String> {
        let own = prompt.fields.get("enable_thinking").and_then(serde_json::Value::as_bool);
        let text = self.text(prompt, own.or(self.enable_thinking))?;
        Ok(format!("{text}{}", self.thinking.open))
    }

    /// Refuses prompts whose completions cannot have the form that is rewarded.
    pub(crate) fn check_format(&self, format: &rewards::Format, set: &Dataset) -> Result<()> {
        if !format.think {
            return Ok(());
        }
        for prompt in set.prompts() {
            if let Some(misfit) = format.misfit(&self.opened(prompt)?) {
                return Err(Usage::error(format!("[rewards.format] prompt `{}` {misfit}", prompt.id)));
            }
        }
        Ok(())
    }

    /// The same prompt behind an empty trace, under an id of its own.
    pub(crate) fn empty_task(&self, prompt: &Arc<Prompt>) -> Result<Task> {
        let open = self.text(prompt, self.enable_thinking)?;
        let mut text = self.text(prompt, Some(false))?;
        // a template that has no such switch, and a prompt without one
        if matches!(prompt.body, Body::Text(_)) || text == open {
            text.push_str(&self.thinking.empty_trace);
        }
        let own = Prompt { id: format!("{}#empty", prompt.id), ..Prompt::clone(prompt) };
        self.tokens(&Arc::new(own), &text)
    }

    fn text(&self, prompt: &Prompt, enable_thinking: Option<bool>) -> Result<String> {
        Ok(match &prompt.body {
            Body::Text(text) => text.clone(),
            Body::Chat(messages) => {
                let template = self.template.as_ref().with_context(|| {
                    format!(
                        "the prompt is a conversation, but checkpoint `{}` has no chat template; set chat = false under [prompt] or, \
                         if the rows of the dataset are conversations themselves, take a checkpoint that has one",
                        self.place
                    )
                })?;
                template.render(messages, true, enable_thinking)?
            }
        })
    }

    fn tokens(&self, prompt: &Arc<Prompt>, text: &str) -> Result<Task> {
        let task = self.tokenized(prompt, text)?;
        match self.obstacle(&task) {
            Some(obstacle) => anyhow::bail!("prompt `{}` has {obstacle}", prompt.id),
            None => Ok(task),
        }
    }

    fn tokenized(&self, prompt: &Arc<Prompt>, text: &str) -> Result<Task> {
        let tokens: Arc<[u32]> = self.tokenizer.encode(text)?.into();
        anyhow::ensure!(!tokens.is_empty(), "prompt `{}` has no tokens; wanted at least one", prompt.id);
        Ok(Task { prompt: prompt.clone(), tokens, max_tokens: None, occurrence: 0 })
    }

    /// Why the policy cannot complete it, if it cannot: "9000 tokens; …".
    fn obstacle(&self, task: &Task) -> Option<String> {
        let (tokens, limit) = (task.tokens.len(), self.limit);
        (tokens >= limit).then(|| {
            format!(
                "{tokens} tokens; the context of `{}` is {limit}, and a completion needs room too",
                self.place
            )
        })
    }

    /// A prompt as the policy reads it, and why it cannot complete it if so.
    pub(crate) fn question(&self, prompt: &Arc<Prompt>) -> Result<(Task, Option<String>)> {
        let text = self.text(prompt, self.enable_thinking)?;
        let task = self.tokenized(prompt, &format!("{text}{}", self.thinking.open))?;
        let obstacle = self.obstacle(&task);
        Ok((task, obstacle))
    }

    /// All prompts of a dataset.
    pub(crate) fn tasks(&self, dataset: &Dataset) -> Result<Vec<Task>> {
        dataset.prompts().iter().map(|prompt| self.task(prompt)).collect()
    }
}
