//! JSON over HTTP, with deadlines and further attempts.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::Agent;

use super::error::ServerError;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Pause before the second attempt; it doubles from one to the next.
const PAUSE: Duration = Duration::from_millis(400);
/// Longest wait for a last word after a halt.
const BRIEF: Duration = Duration::from_secs(2);
/// Time between two looks of a wait at whether to halt.
const LOOK: Duration = Duration::from_millis(20);
/// Characters of an answer that an error shows.
const SHOWN: usize = 600;

/// Status and text of an answer.
type Attempt = Result<(u16, String), ureq::Error>;

/// One server.
#[derive(Clone)]
pub(super) struct Client {
    agent: Agent,
    base: String,
    key: Option<String>,
    /// Attempts of a call.
    attempts: usize,
    /// Once set, no call is begun or waited for.
    halt: Arc<AtomicBool>,
}

impl Client {
    pub(super) fn new(url: &str, key: Option<String>, attempts: usize) -> Self {
        // prompts, completions and keys go to the server that was named, and nowhere that it sends us
        let config = Agent::config_builder()
            .timeout_connect(Some(CONNECT))
            .http_status_as_error(false)
            .max_redirects(0);
        let agent = Agent::new_with_config(config.build());
        Self { agent, base: url.trim_end_matches('/').to_owned(), key, attempts, halt: Arc::default() }
    }

    /// The same client, whose calls end with [`ServerError::Stopped`] soon after this is set.
    pub(super) fn halted_by(&self, halt: &Arc<AtomicBool>) -> Self {
        Self { halt: halt.clone(), ..self.clone() }
    }

    /// Says what has to be said even after a halt, though then there is little patience.
    pub(super) fn parting(&self, path: &str, deadline: Duration) -> Result<Value, ServerError> {
        let halted = self.halt.load(Ordering::Relaxed);
        let deadline = if halted { deadline.min(BRIEF) } else { deadline };
        self.halted_by(&Arc::default()).post(path, &json!({}), deadline)
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Sends JSON and reads JSON; an empty answer is null. All that a server is asked may be asked twice: completions have
    /// seeds, and controls set what they set.
    pub(super) fn post(&self, path: &str, body: &Value, deadline: Duration) -> Result<Value, ServerError> {
        self.call(path, Some(body), deadline)
    }

    pub(super) fn get(&self, path: &str, deadline: Duration) -> Result<Value, ServerError> {
        self.call(path, None, deadline)
    }

    fn call(&self, path: &str, body: Option<&Value>, deadline: Duration) -> Result<Value, ServerError> {
        let (url, begun) = (self.url(path), Instant::now());
        let mut attempt = 0;
        loop {
            attempt += 1;
            let left = deadline.saturating_sub(begun.elapsed());
            let Some(answer) = self.awaited(&url, body, left) else {
                return Err(ServerError::Stopped { url });
            };
            let failed = match answer {
                Ok((status, text)) if (200..300).contains(&status) => {
                    if text.trim().is_empty() {
                        return Ok(Value::Null);
                    }
                    return serde_json::from_str(&text).map_err(|error| ServerError::Answer {
                        url,
                        problem: format!("it is no JSON ({error}): {}", shorten(&text)),
                    });
                }
                // busy or restarting: worth another attempt
                Ok((status, text)) if matches!(status, 429 | 502 | 503 | 504) => {
                    format!("status {status}: {}", shorten(&text))
                }
                Ok((status, text)) => return Err(ServerError::Status { url, status, body: shorten(&text) }),
                Err(error) => error.to_string(),
            };
            let pause = jittered(PAUSE * 2u32.pow(attempt.min(8) as u32 - 1));
            if attempt >= self.attempts || begun.elapsed() + pause >= deadline {
                let seconds = begun.elapsed().as_secs_f64();
                return Err(ServerError::Unreachable { url, seconds, attempts: attempt, reason: failed });
            }
            let resume = Instant::now() + pause;
            while Instant::now() < resume && !self.halt.load(Ordering::Relaxed) {
                thread::sleep(LOOK);
            }
        }
    }

    /// One attempt, on a thread of its own as it cannot be called off: that is left to its deadline if the client is halted.
    fn awaited(&self, url: &str, body: Option<&Value>, left: Duration) -> Option<Attempt> {
        if self.halt.load(Ordering::Relaxed) {
            return None;
        }
        let (send, receive) = channel();
        let (client, url, body) = (self.clone(), url.to_owned(), body.map(Value::to_string));
        thread::spawn(move || {
            // nobody may be waiting any more
            let _ = send.send(client.once(&url, body, left));
        });
        loop {
            match receive.recv_timeout(LOOK) {
                Ok(answer) => return Some(answer),
                Err(RecvTimeoutError::Timeout) if self.halt.load(Ordering::Relaxed) => return None,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("an HTTP call panicked"),
            }
        }
    }

    fn once(&self, url: &str, body: Option<String>, left: Duration) -> Attempt {
        let bearer = self.key.as_ref().map(|key| format!("Bearer {key}"));
        let mut response = match body {
            Some(body) => {
                let mut request = self.agent.post(url).config().timeout_global(Some(left)).build();
                if let Some(bearer) = bearer {
                    request = request.header("authorization", bearer);
                }
                request.header("content-type", "application/json").send(body)?
            }
            None => {
                let mut request = self.agent.get(url).config().timeout_global(Some(left)).build();
                if let Some(bearer) = bearer {
                    request = request.header("authorization", bearer);
                }
                request.call()?
            }
        };
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(1 << 30).read_to_string()?;
        Ok((status, text))
    }
}

/// Between half of a pause and the whole of it, so that calls which failed together do not come back together. Luck of no
/// consequence for any result.
fn jittered(pause: Duration) -> Duration {
    let luck = std::collections::hash_map::RandomState::new().build_hasher().finish();
    pause.mul_f64(0.5 + 0.5 * (luck >> 11) as f64 / (1u64 << 53) as f64)
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
