//! What a recipe's policy will read.
//!
//! Before: a recipe. After: prompts as tokens, and what is odd about them; nothing is refused that a run would refuse, but said.

use std::collections::BTreeMap;

use anyhow::Result;
use data::same_questions;
use rollout::Task;
use serde::Serialize;

use super::overlap::OverlapReport;
use super::sections::{Block, Section, brief};
use crate::dataset::dataset;
use crate::plan;
use crate::prompt_stats::dataset_hash;
use crate::reader::Reader;
use crate::recipe::{DataRecipe, Recipe};

/// Examples that text shows of a list; JSON has all.
const EXAMPLES: usize = 5;
/// Bars of the histogram of lengths.
const BARS: usize = 12;
/// Shares of prompts at which lengths are given.
const QUANTILES: [(&str, f64); 5] =
    [("5 %", 0.05), ("25 %", 0.25), ("50 %", 0.5), ("75 %", 0.75), ("95 %", 0.95)];

/// The report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    recipe: String,
    /// What the dataset is called.
    dataset: String,
    prompts: usize,
    /// SHA-256 of the ids and texts of the prompts.
    pub(super) sha256: String,
    shown: Vec<ShownPrompt>,
    tokens: Lengths,
    /// Pairs of prompts with the same letters and digits; not looked for among generated problems, which differ in signs.
    same_questions: Option<Vec<(String, String)>>,
    references: References,
    pub(super) overlaps: Vec<OverlapReport>,
    #[serde(skip)]
    pub(super) tasks: Vec<Task>,
}

/// A prompt as the policy reads it.
#[derive(Debug, Serialize)]
struct ShownPrompt {
    prompt: String,
    /// The text of its tokens, special ones included.
    text: String,
    tokens: usize,
    references: Vec<String>,
}

/// Tokens of prompts.
#[derive(Debug, Serialize)]
struct Lengths {
    shortest: usize,
    quantiles: BTreeMap<&'static str, usize>,
    longest: usize,
    mean: f64,
    /// First and last length of a bar, and prompts of such lengths.
    histogram: Vec<(usize, usize, usize)>,
    /// Tokens that prompt and completion may have together.
    context: usize,
    /// Tokens that a completion may have.
    max_tokens: Option<usize>,
    /// Prompts that fill the context themselves: a run refuses them.
    too_long: Vec<String>,
    /// Prompts whose completions end at the context before `max_tokens`.
    cut: Vec<String>,
}

/// Reference answers, as the graders that compare with them read them.
#[derive(Debug, Serialize)]
struct References {
    /// The recipe's rewards that compare with a reference answer.
    graders: Vec<&'static str>,
    /// Prompts without one.
    missing: Vec<String>,
    /// Prompts none of whose reference answers is mathematics to `[rewards.math]`, with the first: only the same letters are right.
    unreadable: Vec<(String, String)>,
}

impl Report {
    /// Reads the prompts of a recipe; shows the first ones.
    ///
    /// # Errors
    /// If the checkpoint's tokenizer or the dataset cannot be read, or a prompt cannot be rendered.
    pub(super) fn of(recipe: &Recipe, show: usize) -> Result<Self> {
        recipe.require_files()?;
        let (checkpoint, tokenizer, config) = plan::open(recipe)?;
        let reader = Reader::new(recipe, &checkpoint, &tokenizer, &config)?;
        let set = dataset(&recipe.data, &recipe.prompt, recipe.seed, None)?;
        let (mut tasks, mut too_long) = (Vec::with_capacity(set.len()), Vec::new());
        for prompt in set.prompts() {
            let (task, obstacle) = reader.lenient_task(prompt)?;
            if obstacle.is_some() {
                too_long.push(prompt.id.clone());
            }
            tasks.push(task);
        }
        let shown = |task: &Task| {
            Ok(ShownPrompt {
                prompt: task.prompt.id.clone(),
                text: tokenizer.decode(&task.tokens, false)?,
                tokens: task.tokens.len(),
                references: task.prompt.references().map(str::to_owned).collect(),
            })
        };
        let shown = tasks.iter().take(show).map(shown).collect::<Result<_>>()?;
        let max_tokens = recipe
            .rl
            .as_ref()
            .map(|rl| rl.sampling.max_tokens)
            .or(recipe.preference.as_ref().map(|preference| preference.sampling.max_tokens));
        let generated = matches!(recipe.data, DataRecipe::Arithmetic(_) | DataRecipe::Countdown(_));
        Ok(Self {
            recipe: recipe.name().to_owned(),
            dataset: set.name().to_owned(),
            prompts: tasks.len(),
            sha256: dataset_hash(&tasks),
            shown,
            tokens: Lengths::of(&tasks, config.max_position_embeddings, max_tokens, too_long),
            same_questions: (!generated).then(|| same_questions(set.prompts())),
            references: References::of(recipe, &tasks),
            overlaps: Vec::new(),
            tasks,
        })
    }

    pub(super) fn sections(&self, rows: usize) -> Vec<Section> {
        let mut all = Vec::new();
        for shown in &self.shown {
            let mut blocks = vec![Block::Verbatim(shown.text.clone())];
            blocks.push(Block::Text(match shown.references.as_slice() {
                [] => "no reference answer".into(),
                [one] => format!("reference answer: {}", brief(one, 200)),
                several => format!("any of these is right: {}", brief(&several.join(" | "), 200)),
            }));
            let title = format!("Prompt `{}`, {} tokens, as the policy reads it", shown.prompt, shown.tokens);
            all.push(Section { title, blocks });
        }
        all.push(self.tokens.section(self.prompts, &self.dataset));
        all.extend(self.same_questions.as_deref().map(repeated));
        all.push(self.references.section(self.prompts));
        all.extend(self.overlaps.iter().map(|overlap| shared(overlap, self.prompts, rows)));
        all
    }
}

impl Lengths {
    fn of(tasks: &[Task], context: usize, max_tokens: Option<usize>, too_long: Vec<String>) -> Self {
        let mut lengths: Vec<usize> = tasks.iter().map(|task| task.tokens.len()).collect();
        lengths.sort_unstable();
        let (shortest, longest) =
            (lengths.first().copied().unwrap_or(0), lengths.last().copied().unwrap_or(0));
        let at = |share: f64| {
            lengths.get((share * (lengths.len().saturating_sub(1)) as f64).round() as usize).copied()
        };
        let width = (longest - shortest + 1).div_ceil(BARS).max(1);
        let bars = (longest - shortest) / width + 1;
        let bar = |bar: usize| {
            let (from, to) = (shortest + bar * width, shortest + (bar + 1) * width - 1);
            let count = lengths.partition_point(|l| *l <= to) - lengths.partition_point(|l| *l < from);
            (from, to, count)
        };
        let cut = |task: &&Task| {
            let length = task.tokens.len();
            length < context && max_tokens.is_some_and(|most| length + most > context)
        };
        Self {
            shortest,
            quantiles: QUANTILES.iter().filter_map(|(name, share)| Some((*name, at(*share)?))).collect(),
            longest,
            mean: lengths.iter().sum::<usize>() as f64 / lengths.len().max(1) as f64,
            histogram: (0..bars).map(bar).collect(),
            context,
            max_tokens,
            too_long,
            cut: tasks.iter().filter(cut).map(|task| task.prompt.id.clone()).collect(),
        }
    }

    fn section(&self, prompts: usize, dataset: &str) -> Section {
        let quantiles = QUANTILES.iter().filter_map(|(name, _)| Some((*name, *self.quantiles.get(name)?)));
        let ends = std::iter::once(("least", self.shortest)).chain(quantiles).chain([("most", self.longest)]);
        let (head, row): (Vec<String>, Vec<String>) =
            ends.map(|(name, length)| (name.to_owned(), length.to_string())).unzip();
        let bars = self.histogram.iter().map(|(from, to, count)| {
            let name = if from == to { from.to_string() } else { format!("{from}–{to}") };
            (name, *count)
        });
        let most = self.max_tokens.map_or(String::new(), |most| format!(", a completion at most {most}"));
        let mut blocks = vec![
            Block::Table(head, vec![row]),
            Block::Bars(bars.collect()),
            Block::Text(format!(
                "The mean is {:.1}. Prompt and completion have {} tokens together{most}.",
                self.mean, self.context
            )),
        ];
        let mut say = |ids: &[String], what: &str| {
            if let Some(first) = ids.first() {
                blocks.push(Block::Text(format!(
                    "{} of {prompts} prompts {what}, such as `{first}`.",
                    ids.len()
                )));
            }
        };
        say(&self.too_long, "leave no room for a completion, which a run refuses");
        say(&self.cut, "leave less room than a completion may want: it ends at the context's end");
        Section { title: format!("Tokens of the {prompts} prompts of {dataset}"), blocks }
    }
}

impl References {
    fn of(recipe: &Recipe, tasks: &[Task]) -> Self {
        let rewards = &recipe.rewards;
        let compares = [("math", rewards.math.is_some()), ("exact_match", rewards.exact_match.is_some())];
        let graders: Vec<&str> =
            compares.into_iter().filter_map(|(name, there)| there.then_some(name)).collect();
        let prompts = || tasks.iter().map(|task| &task.prompt);
        let missing = prompts().filter(|prompt| prompt.reference().is_none()).map(|prompt| prompt.id.clone());
        let unreadable = prompts().filter_map(|prompt| {
            let first = prompt.reference()?;
            let read = prompt.references().any(rewards::math::readable);
            (!read).then(|| (prompt.id.clone(), first.to_owned()))
        });
        Self {
            missing: missing.collect(),
            unreadable: if rewards.math.is_some() { unreadable.collect() } else { Vec::new() },
            graders,
        }
    }

    fn section(&self, prompts: usize) -> Section {
        let mut blocks = Vec::new();
        let graders: Vec<String> = self.graders.iter().map(|name| format!("[rewards.{name}]")).collect();
        if graders.is_empty() {
            blocks.push(Block::Text("No reward of the recipe compares with them.".into()));
        } else {
            blocks.push(Block::Text(format!("{} compares with them.", graders.join(" and "))));
        }
        if let Some(first) = self.missing.first() {
            blocks.push(Block::Text(format!(
                "{} of {prompts} prompts have none, such as `{first}`.",
                self.missing.len()
            )));
        }
        if !self.unreadable.is_empty() {
            blocks.push(Block::Text(format!(
                "{} of {prompts} are no mathematics to [rewards.math], so that only the same letters are right:",
                self.unreadable.len()
            )));
            let row = |(id, answer): &(String, String)| vec![id.clone(), brief(answer, 60)];
            let rows = self.unreadable.iter().take(EXAMPLES).map(row).collect();
            blocks.push(Block::Table(vec!["prompt".into(), "reference answer".into()], rows));
        }
        if self.missing.is_empty() && self.unreadable.is_empty() && !self.graders.is_empty() {
            blocks.push(Block::Text("All can be read.".into()));
        }
        Section { title: "Reference answers".into(), blocks }
    }
}

/// Prompts that ask what another one asks.
fn repeated(pairs: &[(String, String)]) -> Section {
    let title = format!("Prompts that ask what another one asks: {}", pairs.len());
    let pair = |(first, second): &(String, String)| vec![second.clone(), first.clone()];
    let rows: Vec<Vec<String>> = pairs.iter().take(EXAMPLES).map(pair).collect();
    let blocks = match rows.is_empty() {
        true => Vec::new(),
        false => vec![
            Block::Text("They have the same letters and digits, whatever stands between them.".into()),
            Block::Table(vec!["prompt".into(), "as".into()], rows),
        ],
    };
    Section { title, blocks }
}

fn shared(overlap: &OverlapReport, prompts: usize, rows: usize) -> Section {
    let OverlapReport { against, questions, words, sharing, share, half, worst } = overlap;
    let title = format!(
        "Runs of {words} words that stand in {against} ({questions} questions) too: {sharing} of {prompts} prompts ({:.2} %)",
        100.0 * share
    );
    if worst.is_empty() {
        return Section { title, blocks: Vec::new() };
    }
    let row = |prompt: &super::overlap::SharedPrompt| {
        vec![prompt.prompt.clone(), format!("{:.1} %", 100.0 * prompt.share), prompt.question.clone()]
    };
    let rows = worst.iter().take(rows.min(EXAMPLES)).map(row).collect();
    let head = ["prompt", "of its words", "question"].map(str::to_owned).to_vec();
    let text =
        format!("Of {half} prompts half of the words or more stand in such runs. Those that share most:");
    Section { title, blocks: vec![Block::Text(text), Block::Table(head, rows)] }
}
