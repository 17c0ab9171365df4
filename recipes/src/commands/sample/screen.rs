//! Completions on the terminal.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use anyhow::Result;
use data::{Prompt, Rollout};
use rollout::{Sampling, TextStream};

use super::args::SampleArgs;
use super::generator::Generator;
use crate::generate::sampled_so_far;
use crate::generator::LoadedModel;
use crate::progress::Busy;

/// Prints completions: one as it is written, several when all are there.
pub(super) fn to_screen(
    args: &SampleArgs,
    sampling: &Sampling,
    prompts: &[Arc<Prompt>],
    out: &mut dyn Write,
) -> Result<()> {
    let generator = Generator::new(args, sampling, prompts)?;
    if let Generator::Policy(local, _) = &generator
        && prompts.len() * args.number == 1
        && !args.json
        && std::io::stdout().is_terminal()
    {
        return stream(&generator, local, args, sampling, prompts, out);
    }
    let all = prompts.len() * args.number;
    let busy = Busy::new(&format!("sampling {all} rollouts"));
    let sampled = generator.sample(args, sampling, prompts, &[], &mut |progress| {
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
    generator: &Generator,
    local: &LoadedModel,
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
    let sampled = generator.sample(args, sampling, prompts, &[], &mut |progress| {
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
