//! Any server with OpenAI's `/v1/completions` and `/v1/chat/completions`, for sampling and evaluation.
//!
//! It has weights of its own and tells text only, so its rollouts have no tokens and no log-probs: rewards can judge them,
//! and nothing can train on them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use data::{Body, PolicyVersion, Prompt, Rollout, StepSeed, StopReason};
use serde_json::json;

use super::config::ServerConfig;
use super::error::ServerError;
use super::http::Client;
use super::server::{ask_all, bias, request_seed, while_watched};
use super::vllm::served;
use crate::error::RolloutError;
use crate::sampled::{SampleProgress, Sampled};
use crate::sampling::Sampling;

/// Such a server.
pub struct OpenAi {
    config: ServerConfig,
    client: Client,
}

impl OpenAi {
    /// The server that the settings name. It is not asked anything yet.
    pub fn new(config: &ServerConfig) -> Self {
        Self { client: config.client(), config: config.clone() }
    }

    /// The first of these settings that its interface has no word for.
    pub fn unsupported(sampling: &Sampling) -> Option<&'static str> {
        let s = sampling;
        let beyond = [
            ("top_k", s.top_k > 0),
            ("min_p", s.min_p > 0.0),
            ("repetition_penalty", s.repetition_penalty != 1.0),
            ("allowed_tokens", !s.allowed_tokens.is_empty()),
            ("forbidden_tokens", !s.forbidden_tokens.is_empty()),
            ("stop_tokens", !s.stop_tokens.is_empty()),
            ("min_tokens", s.min_tokens > 0),
            ("thinking_budget", s.thinking_budget.is_some()),
            ("entropy", s.entropy),
            ("top_log_probs", s.top_log_probs > 0),
        ];
        beyond.into_iter().find_map(|(name, asked)| asked.then_some(name))
    }

    /// `group_size` completions of each prompt, prompt by prompt. `have` are those that are there already.
    ///
    /// # Errors
    /// If the settings cannot be met or the server fails; then the error may hold what arrived.
    pub fn sample(
        &self,
        prompts: &[Arc<Prompt>],
        group_size: usize,
        sampling: &Sampling,
        seed: StepSeed,
        have: &[Rollout],
        progress: &mut dyn FnMut(SampleProgress<'_>),
    ) -> Result<Sampled, RolloutError> {
        if let Some(name) = Self::unsupported(sampling) {
            let what = format!("OpenAI's interface has no {name}");
            return Err(ServerError::Unsupported { server: "an OpenAI-compatible server", what }.into());
        }
        let halt = Arc::new(AtomicBool::new(false));
        let client = self.client.halted_by(&halt);
        let model = while_watched(&halt, have, progress, || served(&client, &self.config))?.model;
        let ids: Vec<(&str, usize)> = prompts.iter().map(|prompt| (prompt.id.as_str(), 0)).collect();
        let ask = |(prompt, place): (usize, usize)| {
            let prompt = &prompts[prompt];
            let seed = request_seed(seed.prompt(&prompt.id).place(place));
            self.one((&client, &model), prompt, place, sampling, seed)
        };
        ask_all(&ids, group_size.into(), have, self.config.concurrency, &halt, &ask, progress)
    }

    fn one(
        &self,
        (client, model): (&Client, &str),
        prompt: &Arc<Prompt>,
        place: usize,
        sampling: &Sampling,
        seed: u64,
    ) -> Result<Rollout, ServerError> {
        let mut request = json!({
            "model": model, "temperature": sampling.temperature, "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens, "seed": seed, "n": 1,
        });
        if !sampling.stop.is_empty() {
            request["stop"] = json!(sampling.stop);
        }
        if let Some(bias) = bias(sampling) {
            request["logit_bias"] = bias;
        }
        let path = match &prompt.body {
            Body::Text(text) => {
                request["prompt"] = json!(text);
                "/v1/completions"
            }
            Body::Chat(messages) => {
                request["messages"] = json!(messages);
                "/v1/chat/completions"
            }
        };
        let deadline = Duration::from_secs_f64(self.config.request_seconds);
        let answer = client.post(path, &request, deadline)?;
        let wrong = |problem: &str| ServerError::Answer { url: client.url(path), problem: problem.into() };
        let choice = answer["choices"].get(0).ok_or_else(|| wrong("it holds no choice"))?;
        let text = choice["text"].as_str().or_else(|| choice["message"]["content"].as_str());
        let text = text.ok_or_else(|| wrong("the choice holds no text"))?.to_owned();
        let stop = match choice["finish_reason"].as_str() {
            Some("length") => StopReason::Length,
            // it does not tell whether a token or a text ended it
            Some("stop") => StopReason::Token,
            other => return Err(wrong(&format!("it ended for reason {other:?}"))),
        };
        Ok(Rollout {
            prompt: prompt.clone(),
            prompt_tokens: Arc::from([]),
            tokens: Vec::new(),
            text,
            log_probs: Vec::new(),
            stop,
            policy: PolicyVersion(0),
            occurrence: 0,
            place,
            forced: Vec::new(),
            entropy: Vec::new(),
            top_log_probs: Vec::new(),
        })
    }
}
