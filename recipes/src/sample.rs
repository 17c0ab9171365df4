//! `evenkeel sample`: what a checkpoint, or a model behind a server, says to prompts.

use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use data::{Body, Columns, Dataset, Layout, Message, Prompt, PromptTemplate, Rollout, Seed};
use rollout::backend::{OpenAi, ServerConfig};
use rollout::{RolloutError, SampleProgress, Sampled, Sampling, Slots, Speculate, Task, TextStream};

use crate::checkpoint_of::checkpoint_of;
use crate::cli::{SampleArgs, Usage};
use crate::files::{json_lines, sync_file, write_aside};
use crate::generate::sampled_so_far;
use crate::interrupt::Session;
use crate::lock::Lock;
use crate::progress::{Busy, Display, line};
use crate::recipe::ThinkingRecipe;
use crate::speaker::{Local, Opened};

/// Completions of one call; all of them are held in memory.
const MOST_ROLLOUTS: usize = 1 << 26;

/// Samples and prints, or writes to a file.
pub(crate) fn sample(args: &SampleArgs, session: &Session, out: &mut dyn Write) -> Result<()> {
    let sampling = sampling(args);
    if let Some(problem) = sampling.problem() {
        return Err(Usage::error(problem));
    }
    if !(args.kv_memory.is_finite() && args.kv_memory > 0.0) {
        return Err(Usage::error(format!("--kv-memory is {}; wanted more than 0 GiB", args.kv_memory)));
    }
    let prompts = prompts(args)?;
    if args.number == 0 {
        return Err(Usage::error("--number is 0; wanted at least 1"));
    }
    if prompts.len().checked_mul(args.number).is_none_or(|all| all > MOST_ROLLOUTS) {
        return Err(Usage::error(format!(
            "--number is {} of {} prompts; wanted at most {MOST_ROLLOUTS} completions together",
            args.number,
            prompts.len()
        )));
    }
    match &args.out {
        Some(file) => to_file(args, session, file, &sampling, &prompts),
        None => to_screen(args, &sampling, &prompts, out),
    }
}

fn sampling(args: &SampleArgs) -> Sampling {
    Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
        min_tokens: args.min_tokens,
        max_tokens: args.max_tokens,
        stop: args.stop.clone(),
        thinking_budget: args.thinking_budget,
        entropy: args.entropy,
        top_log_probs: args.top_log_probs,
        ..Sampling::default()
    }
}

fn prompts(args: &SampleArgs) -> Result<Vec<Arc<Prompt>>> {
    if let Some(file) = &args.prompts {
        let columns = Columns {
            question: args.column.clone(),
            answer: args.answer_column.clone(),
            ..Columns::default()
        };
        let template =
            PromptTemplate { system: args.system.clone(), template: args.template.clone(), chat: args.chat };
        let set = Dataset::read(file, &columns, Layout::default(), &template)?;
        return Ok(set.prompts().to_vec());
    }
    let text = args.prompt.clone().unwrap_or_default();
    let body = if args.chat {
        let system = args.system.iter().map(Message::system);
        Body::Chat(system.chain([Message::user(&text)]).collect())
    } else {
        Body::Text(text)
    };
    Ok(vec![Arc::new(Prompt { id: "prompt".into(), body, answer: None, fields: Default::default() })])
}

/// The checkpoint that is meant, where a run's folder means its newest; or what a server calls its model.
fn model_of(args: &SampleArgs) -> Result<String> {
    if args.server.is_some() { Ok(args.model.clone()) } else { checkpoint_of(&args.model) }
}

/// What answers.
enum Speaker {
    Policy(Box<Local>, Vec<Task>),
    Server(Box<OpenAi>),
}

/// A server with OpenAI's interface, as the command line names it.
pub(crate) fn server(
    url: &str,
    model: &str,
    key_variable: Option<&str>,
    request_seconds: f64,
    rows: usize,
) -> Result<OpenAi> {
    let config = ServerConfig {
        model: Some(model.to_owned()),
        key_variable: key_variable.map(str::to_owned),
        request_seconds,
        concurrency: rows,
        ..ServerConfig::at(url)
    };
    match config.problem() {
        Some(problem) => Err(Usage::error(format!("--server: {problem}"))),
        None => Ok(OpenAi::new(&config)),
    }
}

/// What of these settings a server has no word for is refused.
pub(crate) fn check_for_server(sampling: &Sampling) -> Result<()> {
    match OpenAi::unsupported(sampling) {
        Some(name) => Err(Usage::error(format!("a server is asked in OpenAI's terms, which have no {name}"))),
        None => Ok(()),
    }
}

impl Speaker {
    fn new(args: &SampleArgs, sampling: &Sampling, prompts: &[Arc<Prompt>]) -> Result<Self> {
        let rows = args.rows.map_or(64, usize::from);
        if let Some(url) = &args.server {
            check_for_server(sampling)?;
            let key = args.key_variable.as_deref();
            return Ok(Self::Server(Box::new(server(url, &args.model, key, args.request_seconds, rows)?)));
        }
        let opened = Opened::new(&model_of(args)?, args.revision.as_deref(), args.device, args.compute)?;
        opened.check(sampling)?;
        let thinking = match args.empty_trace {
            true => ThinkingRecipe::default(),
            false => ThinkingRecipe { open: String::new(), empty_trace: String::new() },
        };
        let reader = opened.reader(args.enable_thinking, thinking)?;
        let tasks = opened.tasks(prompts, &reader, args.empty_trace)?;
        let slots = Slots {
            rows,
            memory: (args.kv_memory * (1u64 << 30) as f64) as usize,
            speculate: args.speculate.then(Speculate::default),
            ..Slots::default()
        };
        Ok(Self::Policy(Box::new(opened.load(slots)?), tasks))
    }

    fn sample(
        &self,
        args: &SampleArgs,
        sampling: &Sampling,
        prompts: &[Arc<Prompt>],
        have: &[Rollout],
        progress: &mut dyn FnMut(SampleProgress<'_>),
    ) -> Result<Sampled, RolloutError> {
        let seed = Seed(args.seed).at(0);
        match self {
            Self::Server(server) => server.sample(prompts, args.number, sampling, seed, have, progress),
            Self::Policy(local, tasks) => {
                local.sampler(sampling).sample_missing(tasks, args.number, seed, have, progress)
            }
        }
    }
}

fn to_screen(
    args: &SampleArgs,
    sampling: &Sampling,
    prompts: &[Arc<Prompt>],
    out: &mut dyn Write,
) -> Result<()> {
    let speaker = Speaker::new(args, sampling, prompts)?;
    if let Speaker::Policy(local, _) = &speaker
        && prompts.len() * args.number == 1
        && !args.json
        && std::io::stdout().is_terminal()
    {
        return stream(&speaker, local, args, sampling, prompts, out);
    }
    let all = prompts.len() * args.number;
    let busy = Busy::new(&format!("sampling {all} rollouts"));
    let sampled = speaker.sample(args, sampling, prompts, &[], &mut |progress| {
        busy.tell(&sampled_so_far(&progress, all));
    })?;
    drop(busy);
    for rollout in sampled.rollouts {
        if args.json {
            writeln!(out, "{}", serde_json::to_string(&rollout)?)?;
        } else {
            writeln!(out, "{}{}", rollout.text, mark(&rollout))?;
        }
    }
    Ok(())
}

fn mark(rollout: &Rollout) -> &'static str {
    if rollout.truncated() { " [cut at max-tokens]" } else { "" }
}

/// One completion for someone who watches.
fn stream(
    speaker: &Speaker,
    local: &Local,
    args: &SampleArgs,
    sampling: &Sampling,
    prompts: &[Arc<Prompt>],
    out: &mut dyn Write,
) -> Result<()> {
    let mut text = TextStream::new(&local.opened.tokenizer);
    let (mut shown, mut bytes, mut failure) = (0, 0, None);
    // what may turn out to be the beginning of a stop text is held back
    let hold = sampling.stop.iter().map(String::len).max().unwrap_or(0);
    let mut held = String::new();
    let sampled = speaker.sample(args, sampling, prompts, &[], &mut |progress| {
        let tokens = progress.first.unwrap_or(&[]);
        for token in tokens.iter().skip(shown) {
            match text.push(*token) {
                Ok(new) => held.push_str(&new),
                Err(error) => failure = Some(anyhow::Error::from(error)),
            }
        }
        shown = shown.max(tokens.len());
        let ready = held.len().saturating_sub(hold);
        let ready = (0..=ready).rev().find(|at| held.is_char_boundary(*at)).unwrap_or(0);
        if let Err(error) = out.write_all(&held.as_bytes()[..ready]).and_then(|()| out.flush()) {
            failure = Some(error.into());
        }
        bytes += ready;
        held.drain(..ready);
    })?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    let rollout = &sampled.rollouts[0];
    // the whole text has the last word on what was held back
    writeln!(out, "{}{}", rollout.text.get(bytes..).unwrap_or(""), mark(rollout))?;
    Ok(())
}

/// Writes every rollout as soon as it is there, and the file in the order of the prompts at the end.
fn to_file(
    args: &SampleArgs,
    session: &Session,
    file: &Path,
    sampling: &Sampling,
    prompts: &[Arc<Prompt>],
) -> Result<()> {
    let settings_file = beside(file, "settings.json");
    let settings = serde_json::json!({
        "model": model_of(args)?, "revision": args.revision, "seed": args.seed, "number": args.number,
        "sampling": sampling, "server": args.server, "chat": args.chat, "system": args.system,
        "enable_thinking": args.enable_thinking, "empty_trace": args.empty_trace,
        "template": args.template, "compute": format!("{:?}", args.compute),
    });
    // a call that failed before its first rollout leaves nothing to go on with, and nothing to lose
    let holds_rollouts = || file.metadata().is_ok_and(|found| found.len() > 0 || !found.is_file());
    let refuse_existing = || match holds_rollouts() && !args.resume {
        true => Err(Usage::error(format!(
            "`{}` exists; pass --resume to add what is missing there, or another --out",
            file.display()
        ))),
        false => Ok(()),
    };
    refuse_existing()?;
    let speaker = Speaker::new(args, sampling, prompts)?;
    if holds_rollouts() && !settings_file.exists() {
        return Err(Usage::error(format!(
            "`{}` says nothing of how it was sampled: there is no `{}`",
            file.display(),
            settings_file.display()
        )));
    }
    // the settings are never replaced, so their lock is that of the rollouts, which are
    let cannot = || format!("could not write `{}`", settings_file.display());
    OpenOptions::new().create(true).truncate(false).write(true).open(&settings_file).with_context(cannot)?;
    let _lock = Lock::on(&settings_file)?;
    // another process may have been faster
    refuse_existing()?;
    let mut have = Vec::new();
    if holds_rollouts() {
        let cannot = || format!("could not read `{}`", settings_file.display());
        let before: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&settings_file).with_context(cannot)?)
                .with_context(cannot)?;
        if before != settings {
            let differs = settings.as_object().into_iter().flatten();
            let (name, now) = differs
                .into_iter()
                .find(|(name, value)| before[name.as_str()] != **value)
                .map_or(("a setting".into(), serde_json::Value::Null), |(name, value)| {
                    (name.clone(), value.clone())
                });
            return Err(Usage::error(format!(
                "`{}` was sampled with {name} = {}, not {now}; rollouts of both would be mixed",
                file.display(),
                before[name.as_str()]
            )));
        }
        have = read(file)?;
    } else {
        std::fs::write(&settings_file, serde_json::to_vec_pretty(&settings)?).with_context(cannot)?;
        sync_file(&settings_file)?;
    }
    let all = prompts.len() * args.number;
    write(file, &have)?;
    let mut growing = OpenOptions::new()
        .append(true)
        .open(file)
        .with_context(|| format!("could not open `{}`", file.display()))?;
    if !have.is_empty() {
        line(&format!("{} of {all} rollouts are there already", have.len()));
    }
    let mut display = Display::new("sample", have.len() as u64, all as u64);
    let (begun, mut failure) = (Instant::now(), None);
    session.resumable_as_it_is();
    let heeding = session.stop.heed();
    let result = speaker.sample(args, sampling, prompts, &have, &mut |progress| {
        progress.stop.set(session.stop.is_requested() || failure.is_some());
        for rollout in &progress.new {
            let line = serde_json::to_string(rollout).map_err(anyhow::Error::from);
            let written = line.and_then(|line| Ok(growing.write_all(format!("{line}\n").as_bytes())?));
            if let Err(error) = written {
                failure.get_or_insert(error);
            }
        }
        let message = tokens_and_speed(progress.drawn, begun.elapsed().as_secs_f64());
        if !progress.new.is_empty() {
            display.step(progress.finished as u64, &message);
        } else {
            display.within(&format!("{} of {all} rollouts finished · {message}", progress.finished));
        }
    });
    if let Some(failure) = failure {
        return Err(failure.context(format!("could not write to `{}`", file.display())));
    }
    if let Err(RolloutError::Stopped { arrived }) = &result {
        let (there, place) = (arrived.len(), file.display());
        return Err(session.stop.interrupted(format!("{there} of {all} rollouts are in `{place}`")));
    }
    drop(heeding);
    let sampled = result.with_context(|| {
        format!("what was sampled until then is in `{}`; --resume goes on from there", file.display())
    })?;
    write(file, &sampled.rollouts)?;
    let (stats, seconds) = (sampled.stats, begun.elapsed().as_secs_f64());
    let cut = sampled.rollouts.iter().filter(|rollout| rollout.truncated()).count();
    let slots =
        stats.slot_use().map_or(String::new(), |share| format!(" · slots busy {:.0} %", 100.0 * share));
    let guesses =
        stats.acceptance().map_or(String::new(), |share| format!(" · guesses right {:.0} %", 100.0 * share));
    line(&format!(
        "{} rollouts in `{}`, {cut} cut at max-tokens · {seconds:.1} s · {}{slots}{guesses}",
        sampled.rollouts.len(),
        file.display(),
        tokens_and_speed(stats.tokens, seconds)
    ));
    Ok(())
}

/// A server that tells text only does not say how many tokens it drew.
fn tokens_and_speed(tokens: usize, seconds: f64) -> String {
    match tokens {
        0 => "tokens not told".into(),
        tokens => format!("{tokens} tokens, {:.0} tok/s", tokens as f64 / seconds.max(1e-9)),
    }
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{ending}"));
    file.with_file_name(name)
}

/// The rollouts of a file; a last line that a kill cut short is left out.
fn read(file: &Path) -> Result<Vec<Rollout>> {
    let found = json_lines::<Rollout>(file)?;
    if let Some(number) = found.broken.first() {
        anyhow::bail!("`{}` line {number} is no rollout", file.display());
    }
    Ok(found.values().collect())
}

fn write(file: &Path, rollouts: &[Rollout]) -> Result<()> {
    let mut text = Vec::new();
    for rollout in rollouts {
        serde_json::to_writer(&mut text, rollout)?;
        text.push(b'\n');
    }
    write_aside(file, &text)
}
