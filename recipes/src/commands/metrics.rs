//! `evenkeel metrics`: the numbers in the lines of `metrics.jsonl`.
//!
//! Before: every part that makes numbers declares them. After: a table for people, or JSON.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use engine::metrics::{CATALOGUE, Number};
use engine::selection::SelectionMetrics;
use serde_json::json;

use super::wrap::wrapped;
use crate::nearest::did_you_mean;
use crate::stage::driver::EvalMetrics;
use crate::stage::preference::PreferenceMetrics;
use crate::stage::reward_metrics::{PartMetrics, ScoredMetrics};
use crate::stage::sft::SftMetrics;
use crate::step_rollouts::SamplingMetrics;
use crate::usage::Usage;

/// `evenkeel metrics`
#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// Say what this one is.
    name: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Numbers of one part of a stage.
struct Part {
    stage: &'static str,
    part: &'static str,
    /// What stands before the names.
    prefix: &'static str,
    numbers: &'static [Number],
}

/// Every number that a line may have.
fn catalogue() -> Vec<Part> {
    let part = |stage, part, numbers| Part { stage, part, prefix: "", numbers };
    let mut all: Vec<Part> = CATALOGUE.iter().map(|(name, numbers)| part("rl", *name, *numbers)).collect();
    all.extend([
        part("rl", "sampling", SamplingMetrics::NUMBERS),
        part("rl", "selection of prompts", SelectionMetrics::NUMBERS),
        part("rl", "scored rollouts", ScoredMetrics::NUMBERS),
        Part {
            stage: "rl",
            part: "each reward function",
            prefix: "reward_NAME_",
            numbers: PartMetrics::NUMBERS,
        },
        part("sft", "update", SftMetrics::NUMBERS),
        part("preference", "update", PreferenceMetrics::NUMBERS),
        part("every stage", "held-out questions", EvalMetrics::NUMBERS),
    ]);
    all
}

/// Prints all numbers, or what one is.
pub(crate) fn run(args: &MetricsArgs, out: &mut dyn Write) -> Result<()> {
    let mut all = catalogue();
    if let Some(name) = &args.name {
        let known = || all.iter().flat_map(|part| part.numbers).map(|number| number.name);
        if !all.iter().any(|part| part.has(name)) {
            let hint = did_you_mean(name, known());
            return Err(Usage::error(format!("there is no number `{name}`; see `evenkeel metrics`{hint}")));
        }
        all.retain(|part| part.has(name));
    }
    let named = |part: &Part, number: &Number| format!("{}{}", part.prefix, number.name);
    let wanted = |part: &Part, number: &Number| args.name.as_ref().is_none_or(|name| part.is(number, name));
    if args.json {
        let of = |part: &Part| {
            let one = |number: &Number| {
                json!({
                    "name": named(part, number), "stage": part.stage, "part": part.part, "unit": number.unit,
                    "about": number.about,
                })
            };
            part.numbers.iter().filter(|number| wanted(part, number)).map(one).collect::<Vec<_>>()
        };
        let lines: Vec<_> = all.iter().flat_map(of).collect();
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&lines)?)?);
    }
    if args.name.is_none() {
        writeln!(out, "Every line has `stage` and `step`, steps done, this one included.")?;
    }
    for part in &all {
        writeln!(out, "\n{}: {}", part.stage, part.part)?;
        for number in part.numbers.iter().filter(|number| wanted(part, number)) {
            let unit = if number.unit.is_empty() { String::new() } else { format!(" [{}]", number.unit) };
            writeln!(out, "  {}{unit}", named(part, number))?;
            wrapped(number.about, "      ", 6, out)?;
        }
    }
    Ok(())
}

impl Part {
    fn has(&self, name: &str) -> bool {
        self.numbers.iter().any(|number| self.is(number, name))
    }

    /// Whether a name in a line is this number's.
    fn is(&self, number: &Number, name: &str) -> bool {
        let ending = format!("_{}", number.name);
        match self.prefix {
            "" => number.name == name,
            prefix => {
                name == format!("{prefix}{}", number.name)
                    || name
                        .strip_prefix("reward_")
                        .is_some_and(|rest| rest.len() > ending.len() && rest.ends_with(&ending))
            }
        }
    }
}
