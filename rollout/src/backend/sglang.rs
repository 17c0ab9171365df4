//! SGLang's native HTTP interface, as version 0.5 has it: `/generate` and `/update_weights_from_disk`.

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

const SHORT: Duration = Duration::from_secs(30);

pub(super) struct Sglang;

impl Dialect for Sglang {
    fn name(&self) -> &'static str {
        "SGLang"
    }

    fn unsupported(&self, s: &Sampling) -> Option<String> {
        if s.top_k > 0 || s.top_p < 1.0 || s.min_p > 0.0 {
            Some("its log-probs are those before top_k, top_p and min_p, so they would not be those of the distribution drawn from".into())
        } else if !s.allowed_tokens.is_empty() {
            Some("allowed_tokens".into())
        } else if s.repetition_penalty > 2.0 {
            Some(format!("repetition_penalty is {}; it takes up to 2", s.repetition_penalty))
        } else {
            None
        }
    }

    fn greet(&self, client: &Client, config: &ServerConfig) -> Result<Greeting, ServerError> {
        let info = client.get("/model_info", SHORT)?;
        // loading weights renames the model after their folder, and what it began with stays as that of the tokenizer
        let names: Vec<&str> = ["served_model_name", "tokenizer_path", "model_path"]
            .iter()
            .filter_map(|field| info[*field].as_str())
            .collect();
        if let Some(wanted) = config.model.as_ref().filter(|wanted| !names.contains(&wanted.as_str())) {
            let (wanted, served) = (wanted.clone(), format!("`{}`", names.join("`, `")));
            return Err(ServerError::Model { url: config.url.clone(), wanted, served });
        }
        Ok(Greeting { model: String::new(), limit: None })
    }

    /// They are those after the temperature; what else reshapes the distribution is refused.
    fn check_log_probs(&self, _: &Client) -> Result<(), ServerError> {
        Ok(())
    }

    fn update(
        &self,
        client: &Client,
        config: &ServerConfig,
        folder: &Path,
        label: &str,
    ) -> Result<(), ServerError> {
        let long = Duration::from_secs_f64(config.update_seconds);
        let call = |path: &str, body: Value| client.post(path, &body, long);
        let load = json!({
            "model_path": folder, "weight_version": label, "flush_cache": true, "abort_all_requests": false,
        });
        let loaded = match call("/pause_generation", json!({ "mode": "retract" })) {
            // after a halt it may be paused all the same
            Err(error) if !matches!(error, ServerError::Stopped { .. }) => return Err(error),
            paused => paused.and_then(|_| call("/update_weights_from_disk", load)),
        };
        // also after a failure or a halt: a paused server would hang the next one who asks
        client.parting("/continue_generation", long)?;
        let loaded = loaded?;
        if loaded["success"] != true {
            let problem = format!("it did not load the weights: {}", loaded["message"]);
            return Err(ServerError::Answer { url: client.url("/update_weights_from_disk"), problem });
        }
        let info = client.get("/model_info", SHORT)?;
        same_label(client, label, info["weight_version"].as_str())
    }

    fn path(&self) -> &'static str {
        "/generate"
    }

    fn request(&self, _: &str, job: &Job<'_>, task: &Task, budget: usize, seed: u64) -> Value {
        let s = job.sampling;
        let mut params = json!({
            "temperature": s.temperature,
            "top_k": -1,
            "top_p": 1.0,
            "min_p": 0.0,
            "repetition_penalty": s.repetition_penalty,
            "min_new_tokens": s.min_tokens,
            "max_new_tokens": budget,
            "stop_token_ids": stop_tokens(job),
            "sampling_seed": seed,
        });
        if !s.stop.is_empty() {
            params["stop"] = json!(s.stop);
        }
        if let Some(bias) = bias(s) {
            params["logit_bias"] = bias;
        }
        json!({ "input_ids": &*task.tokens, "sampling_params": params, "return_logprob": true, "stream": false })
    }

    fn answer(&self, answer: &Value) -> Result<Answer, String> {
        let meta = &answer["meta_info"];
        // [log-prob, token, text] of each
        let list = meta["output_token_logprobs"].as_array().ok_or("it holds no output_token_logprobs")?;
        let (mut tokens, mut log_probs) = (Vec::new(), Vec::new());
        for entry in list {
            let token = entry[1].as_u64().and_then(|token| u32::try_from(token).ok());
            tokens.push(token.ok_or("a token is no id")?);
            log_probs.push(entry[0].as_f64().ok_or("a log-prob is no number")? as f32);
        }
        if let Some(ids) = answer["output_ids"].as_array()
            && ids.len() != tokens.len()
        {
            return Err(format!("{} output_ids and {} log-probs", ids.len(), tokens.len()));
        }
        let reason = &meta["finish_reason"];
        let stop = match (reason["type"].as_str(), &reason["matched"]) {
            (Some("length"), _) => StopReason::Length,
            (Some("stop"), Value::String(_)) => StopReason::Text,
            (Some("stop"), _) => StopReason::Token,
            (other, _) => return Err(format!("it ended for reason {other:?}")),
        };
        let labels = meta["weight_version"].as_str().map(str::to_owned).into_iter().collect();
        Ok(Answer { tokens, log_probs, stop, labels })
    }
}
