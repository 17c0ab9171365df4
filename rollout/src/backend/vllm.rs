//! vLLM's HTTP interface, as version 0.32 has it.
//!
//! Completions come from `/inference/v1/generate`: tokens in, tokens and log-probs out, each with the version of the
//! weights that drew it. Weights are loaded by `/pause`, `/collective_rpc` with `reload_weights`, `/reset_prefix_cache`,
//! `/update_weight_version` and `/resume`. So the server is to be started with `VLLM_SERVER_DEV_MODE=1` in its environment
//! and with `--enable-scale-out --generation-config vllm`, and with `--logprobs-mode processed_logprobs` unless the
//! temperature is 1 and nothing is truncated. All of that was tried against the real server on a CPU.

use std::path::Path;
use std::time::Duration;

use data::StopReason;
use serde_json::{Value, json};

use super::config::ServerConfig;
use super::error::ServerError;
use super::http::Client;
use super::job::Job;
use super::server::{Answer, Dialect, Greeting, bias, same_label, stop_tokens};
use crate::sampling::Sampling;
use crate::task::Task;

/// Seconds for an answer to a question of the server's state.
const SHORT: Duration = Duration::from_secs(30);

pub(super) struct Vllm;

impl Dialect for Vllm {
    fn name(&self) -> &'static str {
        "vLLM"
    }

    fn unsupported(&self, s: &Sampling) -> Option<String> {
        let far = s.logit_bias.iter().find(|(_, bias)| bias.abs() > 100.0);
        far.map(|(token, bias)| format!("logit_bias of token {token} is {bias}; it takes −100 to 100"))
    }

    fn greet(&self, client: &Client, config: &ServerConfig) -> Result<Greeting, ServerError> {
        served(client, config)
    }

    /// By default log-probs are those before temperature and truncation.
    fn check_log_probs(&self, client: &Client) -> Result<(), ServerError> {
        let info = client.get("/server_info?config_format=json", SHORT).map_err(without_controls)?;
        let mode = find(&info, "logprobs_mode").and_then(Value::as_str).unwrap_or("unknown");
        if mode == "processed_logprobs" {
            return Ok(());
        }
        let what = format!(
            "it reports log-probs before temperature and truncation ({mode}); start it with --logprobs-mode processed_logprobs, or sample at temperature 1 with no truncation"
        );
        Err(ServerError::Unsupported { server: self.name(), what })
    }

    fn update(
        &self,
        client: &Client,
        config: &ServerConfig,
        folder: &Path,
        label: &str,
    ) -> Result<(), ServerError> {
        let long = Duration::from_secs_f64(config.update_seconds);
        let call = |path: &str, body: Value| client.post(path, &body, long).map_err(without_controls);
        let load = json!({
            "method": config.load_method, "kwargs": { "weights_path": folder },
            "timeout": config.update_seconds,
        });
        let loaded = match call("/pause?mode=wait", json!({})) {
            // after a halt it may be paused all the same
            Err(error) if !matches!(error, ServerError::Stopped { .. }) => return Err(error),
            paused => paused
                .and_then(|_| call("/collective_rpc", load))
                .and_then(|_| call("/reset_prefix_cache", json!({})))
                .and_then(|_| call("/update_weight_version", json!({ "new_version": label }))),
        };
        // also after a failure or a halt: a paused server would hang the next one who asks
        client.parting("/resume", long).map_err(without_controls)?;
        loaded?;
        let info = client.get("/weight_info", SHORT)?;
        same_label(client, label, info["weight_version"].as_str())
    }

    fn path(&self) -> &'static str {
        "/inference/v1/generate"
    }

    fn request(&self, model: &str, job: &Job<'_>, task: &Task, budget: usize, seed: u64) -> Value {
        let s = job.sampling;
        let mut params = json!({
            "temperature": s.temperature,
            "top_k": if s.top_k == 0 { -1 } else { s.top_k as i64 },
            "top_p": s.top_p,
            "min_p": s.min_p,
            "repetition_penalty": s.repetition_penalty,
            "min_tokens": s.min_tokens,
            "max_tokens": budget,
            "stop_token_ids": stop_tokens(job),
            "ignore_eos": false,
            "seed": seed,
            "logprobs": 0,
            "detokenize": !s.stop.is_empty(),
        });
        if !s.stop.is_empty() {
            params["stop"] = json!(s.stop);
        }
        if let Some(bias) = bias(s) {
            params["logit_bias"] = bias;
        }
        if !s.allowed_tokens.is_empty() {
            params["allowed_token_ids"] = json!(s.allowed_tokens);
        }
        json!({ "model": model, "token_ids": &*task.tokens, "sampling_params": params, "stream": false })
    }

    fn answer(&self, answer: &Value) -> Result<Answer, String> {
        let choice = answer["choices"].get(0).ok_or("it holds no choice")?;
        let tokens = tokens(&choice["token_ids"]).ok_or("the choice holds no token_ids")?;
        let content = choice["logprobs"]["content"].as_array().ok_or("the choice holds no logprobs")?;
        let mut log_probs = Vec::with_capacity(content.len());
        for (place, entry) in content.iter().enumerate() {
            let of = entry["token_id"].as_u64();
            if of != tokens.get(place).map(|token| u64::from(*token)) {
                return Err(format!("log-prob {place} belongs to token {of:?}"));
            }
            log_probs.push(entry["logprob"].as_f64().ok_or("a log-prob is no number")? as f32);
        }
        let stop = match (choice["finish_reason"].as_str(), &choice["stop_reason"]) {
            (Some("length"), _) => StopReason::Length,
            (Some("stop"), Value::String(_)) => StopReason::Text,
            (Some("stop"), _) => StopReason::Token,
            (other, _) => return Err(format!("it ended for reason {other:?}")),
        };
        let spans = choice["weight_versions"].as_array().map_or(&[][..], Vec::as_slice);
        let labels = spans.iter().filter_map(|span| Some(span["version"].as_str()?.to_owned())).collect();
        Ok(Answer { tokens, log_probs, stop, labels })
    }
}

/// The model that an OpenAI-like server has, which must be the one that was asked for.
pub(super) fn served(client: &Client, config: &ServerConfig) -> Result<Greeting, ServerError> {
    let models = client.get("/v1/models", SHORT)?;
    let list = models["data"].as_array().map_or(&[][..], Vec::as_slice);
    let name = |model: &Value| model["id"].as_str().unwrap_or("?").to_owned();
    let found = match &config.model {
        Some(wanted) => list.iter().find(|model| name(model) == *wanted),
        None => list.first(),
    };
    let Some(found) = found else {
        let served: Vec<String> = list.iter().map(|model| format!("`{}`", name(model))).collect();
        return Err(ServerError::Model {
            url: config.url.clone(),
            wanted: config.model.clone().unwrap_or_else(|| "any".into()),
            served: if served.is_empty() { "none".into() } else { served.join(", ") },
        });
    };
    Ok(Greeting { model: name(found), limit: found["max_model_len"].as_u64().map(|limit| limit as usize) })
}

fn tokens(value: &Value) -> Option<Vec<u32>> {
    value.as_array()?.iter().map(|token| u32::try_from(token.as_u64()?).ok()).collect()
}

/// A path that is not there means that the server was started without its controls.
fn without_controls(error: ServerError) -> ServerError {
    match error {
        ServerError::Status { url, status: 404, body } => ServerError::Status {
            url,
            status: 404,
            body: format!("{body} (was vLLM started with VLLM_SERVER_DEV_MODE=1?)"),
        },
        other => other,
    }
}

/// The first field of a name, at any depth.
fn find<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Object(fields) => {
            fields.get(name).or_else(|| fields.values().find_map(|value| find(value, name)))
        }
        Value::Array(values) => values.iter().find_map(|value| find(value, name)),
        _ => None,
    }
}
