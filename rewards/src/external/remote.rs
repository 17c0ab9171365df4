//! Servers that judge, asked over several connections side by side.
//!
//! Before: [`super::Http`] or [`super::Judge`] says what to ask and how answers read. After: a verdict for each rollout, see
//! [`super::deal`]. A deadline holds for a call as a whole: further attempts, connecting, and the last byte of the answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use data::{Rollout, Verdict};
use serde_json::Value;
use ureq::Agent;

use super::deal::{Lane, Outcome, Terms, deal};
use super::process::shown;
use crate::{Reward, RewardError};

/// Pause before the second attempt; it doubles from one to the next.
const PAUSE: Duration = Duration::from_millis(200);
/// How often a pause looks up to see whether to halt.
const LOOK: Duration = Duration::from_millis(20);
/// Longest answer in bytes.
const ANSWER: u64 = 64 << 20;

/// What a server is asked, and how its answers read.
pub(super) trait Exchange: Send + Sync {
    /// The request for some samples.
    fn request(&self, rollouts: &[&Rollout]) -> Value;

    /// A verdict for each of so many samples, or why the answer says nothing.
    fn read(&self, answer: &Value, samples: usize) -> Result<Vec<Verdict>, String>;
}

/// One server, and how it is asked.
pub(super) struct Server {
    pub(super) url: String,
    pub(super) key: Option<String>,
    pub(super) parallel: usize,
    pub(super) batch: usize,
    pub(super) deadline: Duration,
    pub(super) retries: usize,
}

/// The reward that a server's verdicts make.
pub(super) struct Remote<E> {
    name: String,
    what: String,
    server: Server,
    agent: Agent,
    exchange: E,
}

impl<E: Exchange> Remote<E> {
    pub(super) fn new(name: &str, server: Server, exchange: E) -> Self {
        // A redirect is answered by asking again elsewhere, without what was posted: whoever holds the server could send
        // requests from this machine to any other.
        let config = Agent::config_builder().http_status_as_error(false).max_redirects(0);
        let agent = Agent::new_with_config(config.build());
        Self { name: name.to_owned(), what: format!("`{}`", server.url), server, agent, exchange }
    }

    /// Asks, and asks again while that makes sense. Judging twice does no harm.
    fn ask(&self, rollouts: &[&Rollout], halt: &AtomicBool) -> Outcome {
        let begun = Instant::now();
        let body = self.exchange.request(rollouts).to_string();
        let deadline = self.server.deadline;
        let mut attempt = 0;
        loop {
            let left = deadline.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Outcome::Overran;
            }
            let why = match self.once(&body, left) {
                Ok((200..300, bytes)) => return self.answered(&bytes, rollouts.len()),
                Ok((status @ 300..400, bytes)) => {
                    return Outcome::Failed(format!(
                        "{} answers with status {status}{}; redirects are not followed: wanted the url of the server itself",
                        self.what,
                        String::from_utf8_lossy(&bytes)
                    ));
                }
                Ok((status, bytes)) => {
                    let why = format!("{} answers with status {status}: {}", self.what, shown(&bytes));
                    if status != 429 && status < 500 {
                        return Outcome::Failed(why);
                    }
                    why
                }
                Err(error) if is_timeout(&error) => return Outcome::Overran,
                Err(error) => format!("{}: {error}", self.what),
            };
            let pause = PAUSE * 2u32.pow(attempt.min(6));
            if attempt as usize >= self.server.retries || begun.elapsed() + pause >= deadline {
                return Outcome::Lost(format!("{why} (attempt {})", attempt + 1));
            }
            attempt += 1;
            let resume = Instant::now() + pause;
            while Instant::now() < resume {
                if halt.load(Ordering::Relaxed) {
                    return Outcome::Halted;
                }
                thread::sleep(LOOK);
            }
        }
    }

    fn answered(&self, bytes: &[u8], samples: usize) -> Outcome {
        let Ok(answer) = serde_json::from_slice(bytes) else {
            return Outcome::Failed(format!("{} answers {}, wanted JSON", self.what, shown(bytes)));
        };
        match self.exchange.read(&answer, samples) {
            Ok(verdicts) => Outcome::Answered(verdicts),
            Err(why) => Outcome::Failed(why),
        }
    }

    fn once(&self, body: &str, left: Duration) -> Result<(u16, Vec<u8>), ureq::Error> {
        let mut request = self.agent.post(&self.server.url).config().timeout_global(Some(left)).build();
        if let Some(key) = &self.server.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut response = request.header("content-type", "application/json").send(body)?;
        if response.status().is_redirection() {
            let to =
                response.headers().get("location").map(|place| format!(" to {}", shown(place.as_bytes())));
            return Ok((response.status().as_u16(), to.unwrap_or_default().into_bytes()));
        }
        let bytes = response.body_mut().with_config().limit(ANSWER).read_to_vec()?;
        Ok((response.status().as_u16(), bytes))
    }
}

fn is_timeout(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Timeout(_) => true,
        ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::TimedOut,
        _ => false,
    }
}

impl<E: Exchange> Reward for Remote<E> {
    fn score(&self, rollout: &Rollout) -> Verdict {
        match self.score_all(std::slice::from_ref(rollout)) {
            Ok(mut verdicts) => verdicts.pop().expect("one for each"),
            Err(error) => Verdict::failed(error.to_string()),
        }
    }

    fn score_all(&self, rollouts: &[Rollout]) -> Result<Vec<Verdict>, RewardError> {
        let Server { parallel, batch, deadline, .. } = self.server;
        let mut lines: Vec<_> = (0..parallel).map(|_| Connection { remote: self, rollouts }).collect();
        deal(&Terms { name: &self.name, what: &self.what, batch, deadline }, rollouts, &mut lines)
    }
}

struct Connection<'a, E> {
    remote: &'a Remote<E>,
    rollouts: &'a [Rollout],
}

impl<E: Exchange> Lane for Connection<'_, E> {
    fn ask(&mut self, samples: &[usize], halt: &AtomicBool) -> Outcome {
        let rollouts: Vec<&Rollout> = samples.iter().map(|sample| &self.rollouts[*sample]).collect();
        self.remote.ask(&rollouts, halt)
    }
}
