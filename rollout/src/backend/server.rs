//! Sampling by a server that loads weights from disk.
//!
//! Before: a job. After: its rollouts, in order. Before the first request of a job whose weights the server does not have
//! they are written to a folder that both see, loaded there, and the server's label is checked; every answer is checked
//! for it again.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use data::{Rollout, StopReason, TokenSeed};
use engine::model::{Policy, weights};
use serde_json::{Value, json};

use super::config::ServerConfig;
use super::error::ServerError;
use super::http::Client;
use super::job::{Backend, Job};
use crate::error::RolloutError;
use crate::sampled::{SampleProgress, Sampled};
use crate::sampling::Sampling;
use crate::stats::SampleStats;
use crate::stop::Stops;
use crate::task::{GroupSizes, Task, in_place};

/// Time between two reports to whoever waits for a server.
const BEAT: Duration = Duration::from_millis(100);

/// The language of a kind of server: its requests, and how its answers read.
pub(super) trait Dialect: Send + Sync {
    fn name(&self) -> &'static str;

    /// The first of the settings that the server cannot do.
    fn unsupported(&self, sampling: &Sampling) -> Option<String>;

    /// Looks at the server before its first use. Gives the model's name there, and the most tokens of a sequence if it
    /// tells them.
    fn greet(&self, client: &Client, config: &ServerConfig) -> Result<Greeting, ServerError>;

    /// Refuses a server whose log-probs are not those of the distribution drawn from, where that is not the policy's own.
    fn check_log_probs(&self, client: &Client) -> Result<(), ServerError>;

    /// Makes the server load weights from a folder and call them `label`, which is checked afterwards.
    fn update(
        &self,
        client: &Client,
        config: &ServerConfig,
        folder: &Path,
        label: &str,
    ) -> Result<(), ServerError>;

    /// The path that completions are asked for at.
    fn path(&self) -> &'static str;

    /// The request for one rollout.
    fn request(&self, model: &str, job: &Job<'_>, task: &Task, budget: usize, seed: u64) -> Value;

    /// The completion in an answer.
    fn answer(&self, answer: &Value) -> Result<Answer, String>;
}

/// Model and limit of a server, as it tells them.
pub(super) struct Greeting {
    pub(super) model: String,
    pub(super) limit: Option<usize>,
}

/// One completion as a server tells it.
pub(super) struct Answer {
    pub(super) tokens: Vec<u32>,
    pub(super) log_probs: Vec<f32>,
    pub(super) stop: StopReason,
    /// Labels of the weights that sampled it, as far as the server tells.
    pub(super) labels: Vec<String>,
}

/// A server with weights of its own, which it is handed.
pub struct WeightServer {
    config: ServerConfig,
    dialect: Box<dyn Dialect>,
    client: Client,
    weights: PathBuf,
    state: Mutex<ServerState>,
}

#[derive(Default)]
struct ServerState {
    greeting: Option<Greeting>,
    /// True once its log-probs are known to be those of the distribution drawn from.
    checked: bool,
    /// Of the weights that it has.
    label: Option<String>,
}

impl WeightServer {
    pub(super) fn new(config: &ServerConfig, dialect: Box<dyn Dialect>, weights: PathBuf) -> Self {
        let weights = config.weights.clone().unwrap_or(weights);
        Self { client: config.client(), config: config.clone(), dialect, weights, state: Mutex::default() }
    }

    /// Makes sure that the server is there and has the weights of the job. Gives the model's name and its limit.
    fn prepare(
        &self,
        state: &mut ServerState,
        job: &Job<'_>,
        client: &Client,
    ) -> Result<(String, usize), ServerError> {
        if state.greeting.is_none() {
            state.greeting = Some(self.dialect.greet(client, &self.config)?);
        }
        // of the likeliest token the probability is 1, whatever a server says
        let s = job.sampling;
        if s.temperature != 0.0 && (s.temperature != 1.0 || s.reshapes()) && !state.checked {
            self.dialect.check_log_probs(client)?;
            state.checked = true;
        }
        if state.label.as_deref() != Some(job.label) {
            // whatever happens, the server does not have the old weights for sure any more
            let old = state.label.take();
            let folder = self.write(job.policy, job.label)?;
            let there = match &self.config.server_weights {
                Some(place) => place.join(job.label),
                None => std::path::absolute(&folder).unwrap_or(folder),
            };
            self.dialect.update(client, &self.config, &there, job.label)?;
            state.label = Some(job.label.to_owned());
            if let Some(old) = old {
                // only room on the disk: a folder that stays does no harm
                let _ = std::fs::remove_dir_all(self.weights.join(old));
            }
        }
        let greeting = state.greeting.as_ref().expect("greeted above");
        let limit = job.policy.config().max_position_embeddings;
        Ok((greeting.model.clone(), greeting.limit.map_or(limit, |other| limit.min(other))))
    }

    fn write(&self, policy: &Policy, label: &str) -> Result<PathBuf, ServerError> {
        let folder = self.weights.join(label);
        let failed =
            |error: &dyn std::fmt::Display| ServerError::Weights(format!("`{}`: {error}", folder.display()));
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(|error| failed(&error))?;
        }
        std::fs::create_dir_all(&folder).map_err(|error| failed(&error))?;
        weights::save(&folder, policy.config(), policy, self.config.dtype, 5 << 30)
            .map_err(|error| failed(&error))?;
        Ok(folder)
    }

    fn one(
        &self,
        job: &Job<'_>,
        (client, model, limit): (&Client, &str, usize),
        (task, place): (usize, usize),
    ) -> Result<Rollout, ServerError> {
        let task = &job.tasks[task];
        let most = task.max_tokens.unwrap_or(usize::MAX).max(1);
        let budget = job.sampling.max_tokens.min(limit - task.tokens.len()).min(most);
        let seed = request_seed(job.seed.prompt(&task.prompt.id).occurrence(task.occurrence).place(place));
        let request = self.dialect.request(model, job, task, budget, seed);
        let path = self.dialect.path();
        let deadline = Duration::from_secs_f64(self.config.request_seconds);
        let wrong = |problem: String| ServerError::Answer { url: client.url(path), problem };
        let answer = self.dialect.answer(&client.post(path, &request, deadline)?).map_err(wrong)?;
        if answer.labels.is_empty() {
            return Err(wrong("it does not say which weights drew the tokens".into()));
        }
        answer.labels.iter().try_for_each(|found| same_label(client, job.label, Some(found)))?;
        let (tokens, mut log_probs) = (answer.tokens, answer.log_probs);
        if job.sampling.temperature == 0.0 {
            log_probs.fill(0.0);
        }
        if tokens.len() != log_probs.len() || tokens.is_empty() || tokens.len() > budget {
            return Err(wrong(format!(
                "{} tokens and {} log-probs; wanted as many of both, 1 to {budget}",
                tokens.len(),
                log_probs.len()
            )));
        }
        let vocabulary = job.policy.config().vocab_size;
        if let Some(token) = tokens.iter().find(|token| **token as usize >= vocabulary) {
            return Err(wrong(format!("token {token}; the policy has {vocabulary}: is it the same model?")));
        }
        if let Some(log_prob) = log_probs.iter().find(|p| !p.is_finite() || **p > 1e-3) {
            return Err(wrong(format!("a log-prob of {log_prob}; wanted a finite number of at most 0")));
        }
        let stops = Stops {
            tokenizer: job.tokenizer,
            tokens: Vec::new(),
            texts: &job.sampling.stop,
            least: job.sampling.min_tokens,
        };
        Ok(Rollout {
            prompt: task.prompt.clone(),
            prompt_tokens: task.tokens.clone(),
            text: stops.text(&tokens, answer.stop == StopReason::Text)?,
            tokens,
            log_probs,
            stop: answer.stop,
            policy: job.version,
            occurrence: task.occurrence,
            place,
            forced: Vec::new(),
            entropy: Vec::new(),
            top_log_probs: Vec::new(),
        })
    }
}

impl Drop for WeightServer {
    fn drop(&mut self) {
        // the server has them in its memory
        if let Ok(state) = self.state.get_mut()
            && let Some(label) = state.label.take()
        {
            let _ = std::fs::remove_dir_all(self.weights.join(label));
            let _ = std::fs::remove_dir(&self.weights);
        }
    }
}

/// A seed for the server's own generator.
pub(super) fn request_seed(mut seed: TokenSeed) -> u64 {
    (seed.uniform(0) * (1u64 << 53) as f64) as u64 >> 22
}

impl Backend for WeightServer {
    fn is_exact(&self) -> bool {
        false
    }

    fn sample(
        &self,
        job: &Job<'_>,
        progress: &mut dyn FnMut(SampleProgress<'_>),
    ) -> Result<Sampled, RolloutError> {
        if let Some(what) = unsupported(&*self.dialect, job.sampling) {
            return Err(ServerError::Unsupported { server: self.dialect.name(), what }.into());
        }
        // one job at a time: two may be of different weights
        let mut guard = self.state.lock().expect("no one panics while holding it");
        let halt = Arc::new(AtomicBool::new(false));
        let client = self.client.halted_by(&halt);
        let state = &mut *guard;
        let (model, limit) = while_watched(&halt, job.have, progress, || self.prepare(state, job, &client))?;
        for task in job.tasks {
            let (id, length) = (task.prompt.id.clone(), task.tokens.len());
            if length == 0 {
                return Err(RolloutError::EmptyPrompt { id });
            }
            if length >= limit {
                return Err(RolloutError::PromptTooLong { id, length, limit });
            }
        }
        let prompts: Vec<(&str, usize)> = job.tasks.iter().map(Task::key).collect();
        let ask = |place| self.one(job, (&client, &model, limit), place);
        ask_all(&prompts, job.sizes, job.have, self.config.concurrency, &halt, &ask, progress)
    }
}

/// The first of the settings that no server can do, or not this one.
pub(super) fn unsupported(dialect: &dyn Dialect, s: &Sampling) -> Option<String> {
    if s.thinking_budget.is_some() {
        Some("thinking_budget is kept by the sampler of this process only".into())
    } else if !s.forbidden_tokens.is_empty() {
        Some("forbidden_tokens; servers know a bias or a list of allowed tokens".into())
    } else if s.entropy || s.top_log_probs > 0 {
        Some("entropy and top_log_probs are recorded by the sampler of this process only".into())
    } else {
        dialect.unsupported(s)
    }
}

/// Refuses weights of another name than those that were handed over.
pub(super) fn same_label(client: &Client, wanted: &str, found: Option<&str>) -> Result<(), ServerError> {
    let found = found.unwrap_or("none");
    if found == wanted {
        return Ok(());
    }
    let (wanted, found) = (wanted.to_owned(), found.to_owned());
    Err(ServerError::Version { url: client.url(""), wanted, found })
}

/// Biases as JSON has them, by token.
pub(super) fn bias(sampling: &Sampling) -> Option<Value> {
    let bias = sampling.logit_bias.iter().map(|(token, bias)| (token.to_string(), json!(bias)));
    (!sampling.logit_bias.is_empty()).then(|| Value::Object(bias.collect()))
}

/// All tokens that end a completion.
pub(super) fn stop_tokens(job: &Job<'_>) -> Vec<u32> {
    [job.stop_tokens, &job.sampling.stop_tokens].concat()
}

/// Does something that a server is waited for in, while `progress` is asked now and then whether to stop.
pub(super) fn while_watched<T: Send>(
    halt: &AtomicBool,
    have: &[Rollout],
    progress: &mut dyn FnMut(SampleProgress<'_>),
    wait: impl FnOnce() -> Result<T, ServerError> + Send,
) -> Result<T, RolloutError> {
    let (send, receive) = mpsc::channel();
    let stop = Cell::new(false);
    let result = std::thread::scope(|scope| {
        scope.spawn(move || send.send(wait()));
        loop {
            match receive.recv_timeout(BEAT) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => panic!("waiting for a server panicked"),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let finished = have.len();
            progress(SampleProgress { finished, drawn: 0, new: Vec::new(), first: None, stop: &stop });
            halt.fetch_or(stop.get(), Ordering::Relaxed);
        }
    });
    match result {
        Err(ServerError::Stopped { .. }) => Err(RolloutError::Stopped { arrived: have.to_vec() }),
        other => Ok(other?),
    }
}

/// Asks for all rollouts of some prompts that are not there yet, each by its prompt and place, some at a time, and puts them in order.
pub(super) fn ask_all(
    prompts: &[(&str, usize)],
    sizes: GroupSizes<'_>,
    have: &[Rollout],
    concurrency: usize,
    halt: &AtomicBool,
    ask: &(dyn Fn((usize, usize)) -> Result<Rollout, ServerError> + Sync),
    progress: &mut dyn FnMut(SampleProgress<'_>),
) -> Result<Sampled, RolloutError> {
    let places = sizes.places(prompts.len());
    let wanted = places.len();
    let mut done = in_place(prompts, sizes, have);
    let missing: Vec<usize> = (0..wanted).filter(|index| done[*index].is_none()).collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (send, receive) = mpsc::channel();
    let mut first_error = None;
    let mut stats = SampleStats::default();
    std::thread::scope(|scope| {
        for _ in 0..concurrency.clamp(1, missing.len().max(1)) {
            let send = send.clone();
            let (next, failed, missing, places) = (&next, &failed, &missing, &places);
            scope.spawn(move || {
                while let Some(index) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // after a failure nothing new is begun; what is under way may still arrive
                    if failed.load(Ordering::Relaxed) || halt.load(Ordering::Relaxed) {
                        break;
                    }
                    let result = ask(places[*index]);
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    if send.send((*index, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        let mut finished = wanted - missing.len();
        let stop = Cell::new(false);
        loop {
            let mut new = Vec::new();
            match receive.recv_timeout(BEAT) {
                Ok((index, Ok(rollout))) => {
                    finished += 1;
                    stats.tokens += rollout.tokens.len();
                    new.push(&*done[index].insert(rollout));
                }
                Ok((_, Err(error))) => {
                    first_error.get_or_insert(error);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            progress(SampleProgress { finished, drawn: stats.tokens, new, first: None, stop: &stop });
            halt.fetch_or(stop.get(), Ordering::Relaxed);
        }
    });
    match first_error {
        // whatever else went wrong: somebody asked to end, and something is missing
        _ if halt.load(Ordering::Relaxed) && done.iter().any(Option::is_none) => {
            Err(RolloutError::Stopped { arrived: done.into_iter().flatten().collect() })
        }
        None => Ok(Sampled { rollouts: done.into_iter().flatten().collect(), stats }),
        Some(cause) => {
            let arrived: Vec<Rollout> = done.into_iter().flatten().collect();
            Err(ServerError::Partial { arrived, wanted, cause: Box::new(cause) }.into())
        }
    }
}
