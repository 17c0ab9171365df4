//! A server that answers like vLLM 0.32 (`vllm/entrypoints/{rl,scale_out,serve}`), SGLang 0.5.23
//! (`sglang/srt/entrypoints/http_server.py`) and OpenAI's completion interface, as far as Evenkeel asks, around a policy of
//! this process. Weights are really loaded from disk and really sampled, so whoever trains against it learns.

#![allow(dead_code, unreachable_pub, reason = "two test programs use different parts")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use candle_core::Device;
use data::{Body, PolicyVersion, Prompt, Seed, StopReason};
use engine::model::{Policy, Tokenizer, weights};
use rollout::{Sampler, Sampling, Slots, Task};
use serde_json::{Value, json};

/// How the server misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Not at all.
    #[default]
    None,
    /// After so many completions the process is gone: connections break and no new ones are taken.
    DieAfter(usize),
    /// After so many completions it takes requests and never answers.
    HangAfter(usize),
    /// The first so many completions are refused with status 503.
    BusyFor(usize),
    /// It samples with weights of another name.
    OtherWeights,
    /// Its answers are no JSON.
    Garbled,
    /// One log-prob is missing.
    ShortLogProbs,
    /// It cannot load weights.
    NoWeights,
    /// It has no controls for reinforcement learning.
    NoControls,
}

struct Inner {
    policy: Mutex<Policy>,
    tokenizer: Tokenizer,
    stop_tokens: Vec<u32>,
    version: Mutex<String>,
    paused: AtomicBool,
    dead: AtomicBool,
    completions: AtomicUsize,
    busy: AtomicUsize,
    fault: Fault,
    calls: Mutex<Vec<String>>,
    log_probs_mode: &'static str,
}

pub struct Fake {
    pub url: String,
    inner: Arc<Inner>,
}

impl Fake {
    /// A server around a policy, on a port of the system's choice or on this one.
    pub fn start(
        policy: Policy,
        tokenizer: Tokenizer,
        stop_tokens: Vec<u32>,
        fault: Fault,
        port: u16,
    ) -> Self {
        let begun = std::time::Instant::now();
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", port)) {
                Ok(listener) => break listener,
                // the port of a server that has just died
                Err(_) if begun.elapsed() < Duration::from_secs(20) => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => panic!("port {port}: {error}"),
            }
        };
        let address = listener.local_addr().expect("address");
        let inner = Arc::new(Inner {
            policy: Mutex::new(policy),
            tokenizer,
            stop_tokens,
            version: Mutex::new("default".into()),
            paused: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            completions: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            fault,
            calls: Mutex::default(),
            log_probs_mode: "raw_logprobs",
        });
        let shared = inner.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.dead.load(Ordering::SeqCst) {
                    break;
                }
                let inner = shared.clone();
                if let Ok(stream) = stream {
                    std::thread::spawn(move || inner.serve(stream));
                }
            }
        });
        Self { url: format!("http://{address}"), inner }
    }

    pub fn port(&self) -> u16 {
        self.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("port")
    }

    /// Paths that were called, in order, completions left out.
    pub fn controls(&self) -> Vec<String> {
        let calls = self.inner.calls.lock().expect("calls");
        calls
            .iter()
            .filter(|path| !path.contains("generate") && !path.contains("completions"))
            .cloned()
            .collect()
    }

    pub fn completions(&self) -> usize {
        self.inner.completions.load(Ordering::SeqCst)
    }

    pub fn is_paused(&self) -> bool {
        self.inner.paused.load(Ordering::SeqCst)
    }

    /// As if the process were killed.
    pub fn kill(&self) {
        self.inner.die(self.port());
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Inner {
    fn die(&self, port: u16) {
        if !self.dead.swap(true, Ordering::SeqCst) {
            // wakes the listener, which then lets the port go
            let _ = TcpStream::connect(("127.0.0.1", port));
        }
    }

    fn serve(&self, mut stream: TcpStream) {
        let port = stream.local_addr().expect("address").port();
        let mut reader = BufReader::new(stream.try_clone().expect("clone"));
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                break;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or("").to_owned());
        self.calls.lock().expect("calls").push(path.clone());
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let route = path.split('?').next().unwrap_or("").to_owned();
        let (status, answer) = self.answer(method, &route, &path, &body, port);
        // a dead process answers nothing
        if self.dead.load(Ordering::SeqCst) {
            return;
        }
        let text = match self.fault {
            Fault::Garbled if route.contains("generate") => "<html>502</html>".to_owned(),
            _ => answer.to_string(),
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            text.len()
        );
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes()));
    }

    fn answer(&self, method: &str, route: &str, path: &str, body: &Value, port: u16) -> (u16, Value) {
        let version = || self.version.lock().expect("version").clone();
        let controls = self.fault != Fault::NoControls;
        match (method, route) {
            ("GET", "/v1/models") => (
                200,
                json!({ "object": "list", "data": [{ "id": "tiny", "object": "model", "max_model_len": 512 }] }),
            ),
            ("GET", "/server_info") if controls => {
                let config = json!({ "model_config": { "logprobs_mode": self.log_probs_mode } });
                (200, json!({ "vllm_config": config }))
            }
            ("GET", "/weight_info") if controls => (200, json!({ "weight_version": version() })),
            ("POST", "/pause") if controls => {
                assert_eq!(path, "/pause?mode=wait", "requests under way are waited for");
                self.paused.store(true, Ordering::SeqCst);
                (200, json!({ "status": "paused" }))
            }
            ("POST", "/resume") if controls => {
                self.paused.store(false, Ordering::SeqCst);
                (200, json!({ "status": "resumed" }))
            }
            ("POST", "/reset_prefix_cache") if controls => (200, Value::Null),
            ("POST", "/collective_rpc") if controls => {
                assert_eq!(body["method"], "reload_weights");
                assert!(self.paused.load(Ordering::SeqCst), "weights change while nothing is sampled");
                match self.load(&body["kwargs"]["weights_path"]) {
                    Ok(()) => (200, json!({ "results": [null] })),
                    Err(error) => (500, json!({ "error": { "message": error, "code": 500 } })),
                }
            }
            ("POST", "/update_weight_version") if controls => {
                let new = body["new_version"].as_str().expect("version").to_owned();
                self.version.lock().expect("version").clone_from(&new);
                (200, json!({ "success": true, "new_version": new }))
            }
            ("POST", "/inference/v1/generate") => {
                let params = &body["sampling_params"];
                assert_eq!(params["logprobs"], 0, "log-probs of the drawn tokens are asked for");
                let most = params["max_tokens"].as_u64().expect("max_tokens") as usize;
                self.complete(port, &body["token_ids"], params, most, |tokens, log_probs, stop, version| {
                    let content: Vec<Value> = tokens
                        .iter()
                        .zip(log_probs)
                        .map(|(t, p)| json!({ "token_id": t, "logprob": p, "rank": 1, "top_logprobs": [] }))
                        .collect();
                    let (reason, stopped) = match stop {
                        StopReason::Length => ("length", Value::Null),
                        StopReason::Token => ("stop", json!(tokens.last())),
                        StopReason::Text => ("stop", json!("text")),
                    };
                    json!({ "request_id": "r", "choices": [{
                        "index": 0, "finish_reason": reason, "stop_reason": stopped, "token_ids": tokens,
                        "logprobs": { "content": content },
                        "weight_versions": [{ "version": version, "start": 0, "end": tokens.len() }],
                    }]})
                })
            }
            ("GET", "/model_info") => (
                200,
                json!({
                    "model_path": version(), "served_model_name": version(), "tokenizer_path": "tiny",
                    "weight_version": version(),
                }),
            ),
            ("POST", "/pause_generation") => {
                assert_eq!(body["mode"], "retract");
                self.paused.store(true, Ordering::SeqCst);
                (200, json!({ "message": "Generation paused successfully.", "status": "ok" }))
            }
            ("POST", "/continue_generation") => {
                self.paused.store(false, Ordering::SeqCst);
                (200, json!({ "message": "Generation continued successfully.", "status": "ok" }))
            }
            ("POST", "/update_weights_from_disk") => match self.load(&body["model_path"]) {
                Ok(()) => {
                    let new = body["weight_version"].as_str().expect("version").to_owned();
                    *self.version.lock().expect("version") = new;
                    (200, json!({ "success": true, "message": "Succeeded", "num_paused_requests": 0 }))
                }
                Err(error) => (400, json!({ "success": false, "message": error, "num_paused_requests": 0 })),
            },
            ("POST", "/generate") => {
                assert_eq!(body["return_logprob"], true);
                let params = &body["sampling_params"];
                let most = params["max_new_tokens"].as_u64().expect("max_new_tokens") as usize;
                self.complete(port, &body["input_ids"], params, most, |tokens, log_probs, stop, version| {
                    let list: Vec<Value> =
                        tokens.iter().zip(log_probs).map(|(t, p)| json!([p, t, null])).collect();
                    let reason = match stop {
                        StopReason::Length => json!({ "type": "length", "length": tokens.len() }),
                        StopReason::Token => json!({ "type": "stop", "matched": tokens.last() }),
                        StopReason::Text => json!({ "type": "stop", "matched": "text" }),
                    };
                    json!({ "text": "", "output_ids": tokens, "meta_info": {
                        "id": "r", "finish_reason": reason, "weight_version": version,
                        "prompt_tokens": 0, "completion_tokens": tokens.len(), "output_token_logprobs": list,
                    }})
                })
            }
            ("POST", "/v1/completions" | "/v1/chat/completions") => {
                let text = match &body["messages"] {
                    Value::Null => body["prompt"].as_str().expect("prompt").to_owned(),
                    messages => messages[0]["content"].as_str().expect("content").to_owned(),
                };
                let tokens = json!(self.tokenizer.encode(&text).expect("tokens"));
                let chat = route.contains("chat");
                let most = body["max_tokens"].as_u64().expect("max_tokens") as usize;
                self.complete(port, &tokens, body, most, |tokens, _, stop, _| {
                    let text = self.tokenizer.decode(tokens, true).expect("text");
                    let reason = if stop == StopReason::Length { "length" } else { "stop" };
                    let choice = match chat {
                        true => json!({ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": reason }),
                        false => json!({ "index": 0, "text": text, "finish_reason": reason }),
                    };
                    json!({ "id": "r", "choices": [choice] })
                })
            }
            _ => (404, json!({ "detail": "Not Found" })),
        }
    }

    fn load(&self, folder: &Value) -> Result<(), String> {
        if self.fault == Fault::NoWeights {
            return Err("size mismatch for model.embed_tokens.weight".into());
        }
        let folder = folder.as_str().expect("a folder");
        let mut policy = self.policy.lock().expect("policy");
        let tensors =
            weights::load(Path::new(folder), policy.config(), &Device::Cpu).map_err(|e| e.to_string())?;
        policy.set(&tensors).map_err(|e| e.to_string())
    }

    fn complete(
        &self,
        port: u16,
        prompt: &Value,
        params: &Value,
        most: usize,
        write: impl Fn(&[u32], &[f32], StopReason, &str) -> Value,
    ) -> (u16, Value) {
        assert!(!self.paused.load(Ordering::SeqCst), "a paused server would hang");
        let begun = self.completions.load(Ordering::SeqCst);
        match self.fault {
            Fault::DieAfter(n) if begun >= n => {
                self.die(port);
                return (500, Value::Null);
            }
            Fault::HangAfter(n) if begun >= n => std::thread::sleep(Duration::from_secs(60)),
            Fault::BusyFor(n) if self.busy.fetch_add(1, Ordering::SeqCst) < n => {
                return (503, json!({ "error": "starting" }));
            }
            _ => {}
        }
        let tokens: Vec<u32> = serde_json::from_value(prompt.clone()).expect("tokens");
        let sampling = Sampling {
            temperature: params["temperature"].as_f64().expect("temperature"),
            max_tokens: most,
            ..Sampling::default()
        };
        let mut stop_tokens = self.stop_tokens.clone();
        stop_tokens.extend(
            params["stop_token_ids"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_u64)
                .map(|t| t as u32),
        );
        let seed = params["seed"].as_u64().or_else(|| params["sampling_seed"].as_u64()).expect("a seed");
        let body = Body::Text(String::new());
        let prompt = Prompt { id: "p".into(), body, answer: None, fields: Default::default() };
        let task = Task { prompt: Arc::new(prompt), tokens: tokens.into(), max_tokens: None, occurrence: 0 };
        let policy = self.policy.lock().expect("policy");
        let sampler = Sampler {
            policy: &policy,
            version: PolicyVersion(0),
            tokenizer: &self.tokenizer,
            sampling: &sampling,
            stop_tokens: &stop_tokens,
            slots: Slots::default(),
        };
        let sampled = match sampler.sample(&[task], 1, Seed(seed).at(0), &mut |_| ()) {
            Ok(sampled) => sampled,
            Err(error) => return (400, json!({ "error": error.to_string() })),
        };
        drop(policy);
        self.completions.fetch_add(1, Ordering::SeqCst);
        let rollout = &sampled.rollouts[0];
        let version = match self.fault {
            Fault::OtherWeights => "somebody-else".to_owned(),
            _ => self.version.lock().expect("version").clone(),
        };
        let shown = match self.fault {
            Fault::ShortLogProbs => &rollout.log_probs[1..],
            _ => &rollout.log_probs[..],
        };
        (200, write(&rollout.tokens, shown, rollout.stop, &version))
    }
}
