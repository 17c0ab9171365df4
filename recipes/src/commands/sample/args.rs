//! The arguments of `evenkeel sample`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use data::{Body, Columns, Dataset, Layout, Message, Prompt, PromptTemplate};
use rollout::Sampling;

use crate::checkpoint_of::checkpoint_of;
use crate::commands::args::{LoadArgs, ServingArgs, count};

/// `evenkeel sample`
#[derive(Debug, Args)]
pub(crate) struct SampleArgs {
    /// A folder in Hugging Face layout, a run (its newest checkpoint; RUN@best or RUN@120 for another), a name on the hub, or
    /// `tiny`.
    pub(crate) model: String,
    /// What to complete.
    #[arg(long, short, required_unless_present = "prompts")]
    pub(crate) prompt: Option<String>,
    /// A JSONL or Parquet file of prompts. A row's `enable_thinking` goes before the option of that name.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub(crate) prompts: Option<PathBuf>,
    /// The column that the prompt stands in.
    #[arg(long, default_value = "question", requires = "prompts")]
    pub(crate) column: String,
    /// The column of the reference answer, to be kept with the rollouts.
    #[arg(long, requires = "prompts")]
    pub(crate) answer_column: Option<String>,
    /// How the columns of a row become a prompt.
    #[arg(long, default_value = "{question}", requires = "prompts")]
    pub(crate) template: String,
    /// Write rollouts here, one JSON object a line, each as soon as it is finished.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Go on where an earlier call that wrote to --out was interrupted.
    #[arg(long, requires = "out")]
    pub(crate) resume: bool,
    /// Ask this server with OpenAI's interface, such as http://127.0.0.1:8000; MODEL is the name it serves.
    #[arg(long, value_name = "URL", conflicts_with_all = ["empty_trace", "enable_thinking", "speculate"])]
    pub(crate) server: Option<String>,
    #[command(flatten)]
    pub(crate) serving: ServingArgs,
    /// Guess tokens from what was written before: the same completions, faster where few are sampled side by side.
    #[arg(long)]
    pub(crate) speculate: bool,
    /// End the prompt with an empty trace, so that the policy answers at once.
    #[arg(long)]
    pub(crate) empty_trace: bool,
    /// Send the prompt as the user's message through the checkpoint's chat template.
    #[arg(long)]
    pub(crate) chat: bool,
    /// A system message, with --chat.
    #[arg(long, requires = "chat")]
    pub(crate) system: Option<String>,
    /// Tell the chat template whether the model may think first.
    #[arg(long, requires = "chat")]
    pub(crate) enable_thinking: Option<bool>,
    /// Completions to draw of each prompt.
    #[arg(long, short, default_value_t = 1, value_parser = count(1_000_000))]
    pub(crate) number: usize,
    /// Longest completion, in tokens.
    #[arg(long, default_value_t = 256, value_parser = count(1 << 24))]
    pub(crate) max_tokens: usize,
    /// Logits are divided by it; 0 takes the likeliest token.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) temperature: f64,
    /// Only this many of the likeliest tokens; 0 for all.
    #[arg(long, default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Only the likeliest tokens that together have this share.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) top_p: f64,
    /// Only tokens at least this likely relative to the likeliest.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) min_p: f64,
    /// Logits of tokens that were there before are divided by it if positive, multiplied if not.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) repetition_penalty: f64,
    /// Shortest completion, in tokens.
    #[arg(long, default_value_t = 0)]
    pub(crate) min_tokens: usize,
    /// Close a `<think>` block after so many tokens.
    #[arg(long)]
    pub(crate) thinking_budget: Option<usize>,
    /// Record the entropy of every token's distribution.
    #[arg(long)]
    pub(crate) entropy: bool,
    /// Record so many of the likeliest tokens at every place.
    #[arg(long, default_value_t = 0)]
    pub(crate) top_log_probs: usize,
    /// A text that ends a completion; may be given several times.
    #[arg(long)]
    pub(crate) stop: Vec<String>,
    /// Where the draws come from: the same seed gives the same completions.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Print rollouts as JSON lines, with tokens and log-probs.
    #[arg(long)]
    pub(crate) json: bool,
}

impl SampleArgs {
    /// True if there is something to go on with after an interruption.
    pub(crate) fn writes_a_file(&self) -> bool {
        self.out.is_some()
    }

    /// Settings of how completions are drawn.
    pub(super) fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            min_tokens: self.min_tokens,
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
            thinking_budget: self.thinking_budget,
            entropy: self.entropy,
            top_log_probs: self.top_log_probs,
            ..Sampling::default()
        }
    }

    /// The prompts: that of the command line, or the rows of a file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn read_prompts(&self) -> Result<Vec<Arc<Prompt>>> {
        if let Some(file) = &self.prompts {
            let columns = Columns {
                question: self.column.clone(),
                answer: self.answer_column.clone(),
                ..Columns::default()
            };
            let template = PromptTemplate {
                system: self.system.clone(),
                template: self.template.clone(),
                jinja: None,
                chat: self.chat,
            };
            let set = Dataset::read(file, &columns, Layout::default(), &template)?;
            return Ok(set.prompts().to_vec());
        }
        let text = self.prompt.clone().unwrap_or_default();
        let body = if self.chat {
            let system = self.system.iter().map(Message::system);
            Body::Chat(system.chain([Message::user(&text)]).collect())
        } else {
            Body::Text(text)
        };
        Ok(vec![Arc::new(Prompt { id: "prompt".into(), body, answer: None, fields: Default::default() })])
    }

    /// The checkpoint that is meant, where a run's folder means its newest; or what a server calls its model.
    pub(super) fn model(&self) -> Result<String> {
        if self.server.is_some() { Ok(self.model.clone()) } else { checkpoint_of(&self.model) }
    }
}
