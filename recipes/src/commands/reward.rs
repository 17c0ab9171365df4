//! `evenkeel reward`: what a recipe's rewards say of completions in a file.
//!
//! Before: JSON lines with completions: a run's rollouts, or any rows with a prompt, a completion and an answer. After: a table of
//! verdicts for people, or JSON lines for programs. No model is loaded: the recipe may hold nothing but `[rewards]`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use clap::Args;
use data::{Answer, Body, Prompt, Rollout, ScoredRollout};
use serde_json::{Map, Value, json};

use super::args::SetArgs;
use crate::custom::CustomRewards;
use crate::nearest::did_you_mean;
use crate::progress::{Busy, line};
use crate::recipe::{RewardsRecipe, rewards_of};
use crate::usage::Usage;

/// Time between two looks at a watched file.
const WATCH: Duration = Duration::from_millis(300);
/// Characters of a text that a table shows.
const SHOWN: usize = 60;

const SET: &str =
    "Replace a value of the recipe, such as `--set rewards.math.tolerance=0.01`; may be given several times";

/// `evenkeel reward`
#[derive(Debug, Args)]
#[command(mut_arg("set", |set| set.help(SET)))]
pub(crate) struct RewardArgs {
    /// JSON lines, `.zst` or not, such as runs/NAME/rollouts/step-000010.jsonl.zst.
    pub(crate) file: PathBuf,
    /// The recipe whose [rewards] judge: a file, or a built-in one.
    #[arg(long, short, value_name = "RECIPE")]
    pub(crate) recipe: String,
    #[command(flatten)]
    pub(crate) sets: SetArgs,
    /// A second recipe, to see where the two differ.
    #[arg(long, value_name = "RECIPE")]
    pub(crate) against: Option<String>,
    /// Rewards of the recipe to compare with each other, such as `--compare math,exact_match`.
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    pub(crate) compare: Option<Vec<String>>,
    /// Only rows that are so.
    #[arg(long)]
    pub(crate) show: Option<Show>,
    /// The column of the completion, where rows are not a run's.
    #[arg(long, default_value = "completion")]
    pub(crate) column: String,
    /// The column of the reference answer; `reward_model.ground_truth` leads into an object.
    #[arg(long, default_value = "answer")]
    pub(crate) answer_column: String,
    /// Rows to print; all are judged.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Judge again whenever the completions, the recipe or a Python file of it changes.
    #[arg(long, conflicts_with = "json")]
    pub(crate) watch: bool,
    /// One JSON object a row.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which rows `evenkeel reward` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Show {
    /// A reward above 0.
    Right,
    /// A reward of 0 or less.
    Wrong,
    /// No reward.
    None,
    /// A function failed.
    Failed,
    /// The two recipes of --against, or the rewards of --compare, say different things.
    Differs,
}

/// Judges the file; with `--watch` again whenever a file changes.
pub(crate) fn run(args: &RewardArgs, custom: &CustomRewards, out: &mut dyn Write) -> Result<()> {
    if !args.watch {
        return judge(args, custom, out);
    }
    loop {
        let begun = SystemTime::now();
        // clears the screen
        write!(out, "\x1b[2J\x1b[H")?;
        // what is wrong with a reward that is being written is shown, and waited for
        if let Err(error) = judge(args, custom, out) {
            writeln!(out, "error: {error:#}")?;
        }
        let watched = watched(args);
        writeln!(out, "\nwatching {}; Ctrl-C ends", names(&watched))?;
        out.flush()?;
        while !watched.iter().any(|file| changed_since(file, begun)) {
            std::thread::sleep(WATCH);
        }
    }
}

/// The files whose change matters: completions, recipes, and Python files that they name.
fn watched(args: &RewardArgs) -> Vec<PathBuf> {
    let mut files = vec![args.file.clone()];
    for name in [Some(&args.recipe), args.against.as_ref()].into_iter().flatten() {
        files.push(PathBuf::from(name));
        let sets: &[String] = if Some(name) == args.against.as_ref() { &[] } else { &args.sets.set };
        if let Ok(recipe) = rewards_of(name, sets) {
            files.extend(recipe.python.values().map(|python| python.reward.file.clone()));
        }
    }
    files.retain(|file| file.exists());
    files
}

fn names(files: &[PathBuf]) -> String {
    files.iter().map(|file| format!("`{}`", file.display())).collect::<Vec<_>>().join(", ")
}

fn changed_since(file: &Path, then: SystemTime) -> bool {
    std::fs::metadata(file).and_then(|data| data.modified()).is_ok_and(|changed| changed > then)
}

fn judge(args: &RewardArgs, custom: &CustomRewards, out: &mut dyn Write) -> Result<()> {
    if args.compare.as_ref().is_some_and(|names| names.len() < 2) {
        return Err(Usage::error(
            "--compare wants two rewards or more, such as `--compare math,exact_match`",
        ));
    }
    if args.show == Some(Show::Differs) && args.compare.is_none() && args.against.is_none() {
        return Err(Usage::error("--show differs wants something to compare: --compare or --against"));
    }
    let recipe = rewards_of(&args.recipe, &args.sets.set)?;
    let against = args.against.as_ref().map(|name| rewards_of(name, &[])).transpose()?;
    let rollouts = read(args)?;
    let by_tokens = [
        ("length", recipe.length.is_some()),
        ("cosine_length", recipe.cosine_length.is_some()),
        ("repetition", recipe.repetition.as_ref().is_some_and(|part| part.reward.tokens)),
    ];
    let untold = rollouts.iter().any(|rollout| rollout.tokens.is_empty() && !rollout.text.is_empty());
    if let Some((name, _)) = by_tokens.iter().find(|(_, named)| *named).filter(|_| untold) {
        return Err(Usage::error(format!(
            "[rewards.{name}] counts tokens, and these rows have none: wanted a run's rollouts, or those of `evenkeel sample --out`"
        )));
    }
    let (scored, seconds) = score(&recipe, rollouts.clone(), custom)?;
    let other = against.map(|recipe| score(&recipe, rollouts, custom)).transpose()?.map(|(other, _)| other);
    let rows: Vec<JudgedRow<'_>> = scored
        .iter()
        .enumerate()
        .map(|(at, scored)| JudgedRow { at, scored, other: other.as_ref().map(|other| &other[at]) })
        .filter(|row| args.show.is_none_or(|show| row.is(show, args)))
        .collect();
    if let Some(names) = &args.compare {
        for name in names {
            if scored.first().is_some_and(|scored| scored.score.part(name).is_none()) {
                let known: Vec<&str> = scored[0].score.parts.iter().map(|part| part.name.as_str()).collect();
                let hint = did_you_mean(name, known.iter().copied());
                return Err(Usage::error(format!(
                    "--compare names `{name}`, which is no reward of the recipe; there are {}{hint}",
                    known.join(", ")
                )));
            }
        }
    }
    if args.json {
        for row in rows.iter().take(args.limit.unwrap_or(usize::MAX)) {
            writeln!(out, "{}", row.json())?;
        }
        return Ok(());
    }
    for row in rows.iter().take(args.limit.unwrap_or(usize::MAX)) {
        row.write(out)?;
    }
    if let Some(limit) = args.limit.filter(|limit| *limit < rows.len()) {
        writeln!(out, "… and {} more (--limit)", rows.len() - limit)?;
    }
    summary(&scored, other.as_deref(), args, seconds, out)
}

/// The rollouts with what they earned, and the seconds that judging took once everything was started.
fn score(
    recipe: &RewardsRecipe,
    rollouts: Vec<Rollout>,
    custom: &CustomRewards,
) -> Result<(Vec<ScoredRollout>, f64)> {
    // every failure is shown; none ends the command
    let recipe = RewardsRecipe { max_failures: 1.0, ..recipe.clone() };
    let rewards = recipe.build(custom)?;
    if rewards.parts().next().is_none() {
        return Err(Usage::error(
            "the recipe has no reward: name one under [rewards], such as [rewards.math]",
        ));
    }
    for (name, about) in rewards.about() {
        line(&format!("{name}: {}", about.trim_end().replace('\n', "\n  ")));
    }
    for warning in rewards.warnings() {
        line(&format!("warning: {warning}"));
    }
    let begun = Instant::now();
    let _busy = Busy::new(&format!("judging {} completions", rollouts.len()));
    let scored = rewards.score(rollouts)?;
    Ok((scored, begun.elapsed().as_secs_f64()))
}

/// A completion and what was said of it.
struct JudgedRow<'a> {
    at: usize,
    scored: &'a ScoredRollout,
    other: Option<&'a ScoredRollout>,
}

impl JudgedRow<'_> {
    fn is(&self, show: Show, args: &RewardArgs) -> bool {
        let score = &self.scored.score;
        match show {
            Show::Right => score.reward.is_some_and(|reward| reward > 0.0),
            Show::Wrong => score.reward.is_some_and(|reward| reward <= 0.0),
            Show::None => score.reward.is_none(),
            Show::Failed => score.parts.iter().any(|part| part.verdict.failure.is_some()),
            Show::Differs => self.differs(args),
        }
    }

    /// True if the two recipes, or the two rewards that are compared, say different things.
    fn differs(&self, args: &RewardArgs) -> bool {
        let score = &self.scored.score;
        let between = self.other.is_some_and(|other| other.score.reward != score.reward);
        let parts = args.compare.as_ref().is_some_and(|names| {
            let value = |name: &String| score.part(name).and_then(|verdict| verdict.value);
            names.windows(2).any(|pair| value(&pair[0]) != value(&pair[1]))
        });
        between || parts
    }

    fn json(&self) -> Value {
        let ScoredRollout { rollout, score } = self.scored;
        let mut line = json!({
            "row": self.at + 1, "id": rollout.prompt.id, "answer": rollout.prompt.answer, "reward": score.reward,
            "parts": score.parts,
        });
        if let (Some(line), Some(other)) = (line.as_object_mut(), self.other) {
            line.insert("against".into(), json!(other.score));
        }
        line
    }

    fn write(&self, out: &mut dyn Write) -> Result<()> {
        let ScoredRollout { rollout, score } = self.scored;
        let against =
            self.other.map_or(String::new(), |other| format!(" · against {}", shown(other.score.reward)));
        let answer = rollout.prompt.answer.as_ref().map_or_else(|| "none".into(), ToString::to_string);
        writeln!(
            out,
            "{:>5}  {}  earns {}{against} · reference {} · says {}",
            self.at + 1,
            rollout.prompt.id,
            shown(score.reward),
            brief(&answer, false),
            brief(&rollout.text, true),
        )?;
        let mut parts: Vec<_> = score.parts.iter().map(|part| (String::new(), part)).collect();
        let others = self.other.iter().flat_map(|other| &other.score.parts);
        parts.extend(others.map(|part| ("against ".to_owned(), part)));
        for (which, part) in parts {
            let verdict = &part.verdict;
            let mut text = format!("         {which}{} {}", part.name, shown(verdict.value));
            if let Some(answer) = &verdict.answer {
                text.push_str(&format!(" · found {}", brief(answer, false)));
            }
            if let Some(reason) = &verdict.reason {
                text.push_str(&format!(" · {reason}"));
            }
            writeln!(out, "{text}")?;
            if let Some(failure) = &verdict.failure {
                for line in failure.lines() {
                    writeln!(out, "           {line}")?;
                }
            }
        }
        Ok(())
    }
}

fn summary(
    scored: &[ScoredRollout],
    other: Option<&[ScoredRollout]>,
    args: &RewardArgs,
    seconds: f64,
    out: &mut dyn Write,
) -> Result<()> {
    let mean = |values: Vec<f32>| match values.len() {
        0 => "none".to_owned(),
        n => format!("{:.4}", values.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64),
    };
    let rewards: Vec<f32> = scored.iter().filter_map(|scored| scored.score.reward).collect();
    writeln!(
        out,
        "\n{} completions in {:.2} s ({:.2} ms each) · mean reward {} · {} without a reward",
        scored.len(),
        seconds,
        1e3 * seconds / scored.len().max(1) as f64,
        mean(rewards.clone()),
        scored.len() - rewards.len(),
    )?;
    for (at, part) in scored.first().map_or(&[][..], |scored| &scored.score.parts).iter().enumerate() {
        let verdicts = || scored.iter().map(|scored| &scored.score.parts[at].verdict);
        let values: Vec<f32> = verdicts().filter_map(|verdict| verdict.value).collect();
        let failed = verdicts().filter(|verdict| verdict.failure.is_some()).count();
        let none = verdicts().filter(|verdict| verdict.value.is_none()).count() - failed;
        let unanswered = verdicts().filter(|verdict| verdict.unanswered).count();
        let found =
            if unanswered > 0 { format!(" · {unanswered} without an answer") } else { String::new() };
        writeln!(out, "  {:<20} mean {:>8} · {none} none · {failed} failed{found}", part.name, mean(values))?;
    }
    let row = |at: usize| JudgedRow { at, scored: &scored[at], other: other.map(|other| &other[at]) };
    if other.is_some() || args.compare.is_some() {
        let differ = (0..scored.len()).filter(|at| row(*at).differs(args)).count();
        writeln!(out, "  they differ on {differ} of {} (--show differs)", scored.len())?;
    }
    Ok(())
}

fn shown(value: Option<f32>) -> String {
    value.map_or_else(|| "nothing".into(), |value| value.to_string())
}

/// A text on one line; of a long one the beginning, or the end, where a completion's answer is.
fn brief(text: &str, end: bool) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let count = flat.chars().count();
    if count <= SHOWN {
        return format!("`{flat}`");
    }
    if end {
        let tail: String = flat.chars().skip(count - SHOWN).collect();
        format!("`…{tail}`")
    } else {
        let head: String = flat.chars().take(SHOWN).collect();
        format!("`{head}…`")
    }
}

/// The completions of the file, `.zst` or not.
fn read(args: &RewardArgs) -> Result<Vec<Rollout>> {
    let path = args.file.display();
    let file = File::open(&args.file).with_context(|| format!("could not open `{path}`"))?;
    let reader: Box<dyn Read> = match args.file.extension().and_then(|e| e.to_str()) {
        Some("zst") => {
            Box::new(zstd::Decoder::new(file).with_context(|| format!("could not read `{path}`"))?)
        }
        _ => Box::new(file),
    };
    let mut rollouts = Vec::new();
    for (at, row) in BufReader::new(reader).lines().enumerate() {
        let row = row.with_context(|| format!("could not read `{path}`, line {}", at + 1))?;
        if row.trim().is_empty() {
            continue;
        }
        rollouts.push(rollout(&row, at, args).with_context(|| format!("`{path}`, line {}", at + 1))?);
    }
    if rollouts.is_empty() {
        bail!("`{path}` has no completions, wanted JSON lines");
    }
    line(&format!("{} completions of `{path}`", rollouts.len()));
    Ok(rollouts)
}

/// A row: a scored rollout of a run, a rollout, or columns.
fn rollout(row: &str, at: usize, args: &RewardArgs) -> Result<Rollout> {
    if let Ok(scored) = serde_json::from_str::<ScoredRollout>(row) {
        return Ok(scored.rollout);
    }
    if let Ok(rollout) = serde_json::from_str::<Rollout>(row) {
        return Ok(rollout);
    }
    let mut columns: Map<String, Value> = serde_json::from_str(row).context("wanted a JSON object")?;
    data::keep_long_integers(row, &mut columns);
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let Some(completion) = columns.get(&args.column) else {
        let there: Vec<&str> = columns.keys().map(String::as_str).collect();
        let hint = did_you_mean(&args.column, there.iter().copied());
        bail!("there is no column `{}` (--column); there are {}{hint}", args.column, there.join(", "));
    };
    let completion = match completion {
        // a chat's last message
        list @ Value::Array(_) => {
            let turns = data::conversation(list)
                .map_err(|problem| anyhow::anyhow!("column `{}` {problem}", args.column))?;
            turns.into_iter().next_back().map(|turn| turn.content).unwrap_or_default()
        }
        value => text(value),
    };
    let body = match columns.get("prompt").or_else(|| columns.get("question")) {
        Some(list @ Value::Array(_)) => Body::Chat(
            data::conversation(list).map_err(|problem| anyhow::anyhow!("the prompt's column {problem}"))?,
        ),
        Some(value) => Body::Text(text(value)),
        None => Body::Text(String::new()),
    };
    let answer = match data::find_column(&columns, &args.answer_column) {
        None | Some(Value::Null) => None,
        Some(value) => Some(Answer::of_json(value).unwrap_or_else(|| value.to_string().into())),
    };
    if let Some(problem) = answer.iter().flat_map(Answer::all).find_map(data::misread_latex) {
        bail!("column `{}` has {problem}", args.answer_column);
    }
    // as those of a dataset's row: every column under its own name
    let known = [args.column.as_str(), "answer"];
    let prompt = Prompt {
        id: columns.get("id").filter(|id| !id.is_null()).map_or_else(|| format!("row {}", at + 1), text),
        body,
        answer,
        fields: columns
            .iter()
            .filter(|(name, _)| {
                !known.contains(&name.as_str()) || (*name == "answer" && args.answer_column != "answer")
            })
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect(),
    };
    Ok(Rollout::of_text(Arc::new(prompt), completion))
}
