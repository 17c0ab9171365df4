//! `evenkeel sample`: what a checkpoint, or a model behind a server, says to prompts.

mod args;
mod file;
mod generator;
mod screen;

use std::io::Write;

use anyhow::Result;

pub(crate) use self::args::SampleArgs;
use self::file::to_file;
use self::screen::to_screen;
use crate::interrupt::Session;
use crate::usage::Usage;

/// Completions of one call; all of them are held in memory.
const MOST_ROLLOUTS: usize = 1 << 26;

/// Samples and prints, or writes to a file.
pub(crate) fn run(args: &SampleArgs, session: &Session, out: &mut dyn Write) -> Result<()> {
    let sampling = args.sampling();
    if let Some(problem) = sampling.problem() {
        return Err(Usage::error(problem));
    }
    if !(args.serving.kv_memory.is_finite() && args.serving.kv_memory > 0.0) {
        return Err(Usage::error(format!(
            "--kv-memory is {}; wanted more than 0 GiB",
            args.serving.kv_memory
        )));
    }
    let prompts = args.read_prompts()?;
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
