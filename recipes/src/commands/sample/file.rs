//! Completions in a file of rollouts, one JSON object a line.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use data::{Prompt, Rollout};
use rollout::{RolloutError, Sampling};

use super::args::SampleArgs;
use super::generator::Generator;
use crate::files::{json_lines, sync_file, write_aside};
use crate::interrupt::Session;
use crate::lock::Lock;
use crate::progress::{Display, line};
use crate::usage::Usage;

/// Writes every rollout as soon as it is there, and the file in the order of the prompts at the end.
pub(super) fn to_file(
    args: &SampleArgs,
    session: &Session,
    file: &Path,
    sampling: &Sampling,
    prompts: &[Arc<Prompt>],
) -> Result<()> {
    let settings_file = beside(file, "settings.json");
    let settings = serde_json::json!({
        "model": args.model()?, "revision": args.load.revision, "seed": args.seed, "number": args.number,
        "sampling": sampling, "server": args.server, "chat": args.chat, "system": args.system,
        "enable_thinking": args.enable_thinking, "empty_trace": args.empty_trace,
        "template": args.template, "compute": format!("{:?}", args.load.compute),
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
    let generator = Generator::new(args, sampling, prompts)?;
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
    let result = generator.sample(args, sampling, prompts, &have, &mut |progress| {
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
