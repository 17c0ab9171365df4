//! One page of Markdown, for pull requests, notes and people without a browser.
//!
//! Before: a [`Report`]. After: `report.md`. It has everything that stands behind a number: intervals, comparisons in words,
//! protocols, problems. It has no pictures and no samples. What models or data wrote is escaped: it is text, never markup.

use super::appendix::{PROBLEMS, protocols, skipped};
use super::breakdown::PARTS;
use super::figures::{COMPARISONS, by_benchmark};
use super::words::{
    self, INTERVALS, NONE, count, distinct, duration, estimate, few, interval, mean, number, percent,
};
use super::{Report, words::settings};
use crate::result::{Evaluation, Problems};
use crate::summary::{AtK, QuestionShare};

/// The report as one page of Markdown.
pub fn markdown(report: &Report<'_>) -> String {
    let sections = [
        accuracy(report),
        comparisons(report),
        runs(report),
        at_k(report),
        parts(report, "level", "Levels", |e| &e.summary.by_level),
        parts(report, "subject", "Subjects", |e| &e.summary.by_subject),
        intervals(),
        protocol(report),
        models(report),
        problems(report),
    ];
    let sections: Vec<String> = sections.into_iter().filter(|section| !section.is_empty()).collect();
    format!("# {}\n\n{}", text(report.title), sections.join("\n"))
}

/// Text that Markdown shows as it is, in one line. Underscores within words need no escape.
fn text(of: &str) -> String {
    let mut safe = String::with_capacity(of.len());
    let chars: Vec<char> = of.chars().collect();
    for (place, c) in chars.iter().enumerate() {
        let within = |at: Option<usize>| at.and_then(|at| chars.get(at)).is_some_and(|c| c.is_alphanumeric());
        match c {
            '_' if within(place.checked_sub(1)) && within(Some(place + 1)) => safe.push('_'),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '~' | '#' | '&' | '$' | '!' => {
                safe.extend(['\\', *c])
            }
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => safe.push(' '),
            c => safe.push(*c),
        }
    }
    safe
}

/// Text as code, in one line; its fence is longer than any within it.
fn code(of: &str) -> String {
    let line: String = of.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.trim().is_empty() {
        return NONE.into();
    }
    let runs = line.split(|c| c != '`').map(str::len);
    let fence = "`".repeat(runs.max().unwrap_or(0) + 1);
    let blank = if line.starts_with('`') || line.ends_with('`') { " " } else { "" };
    format!("{fence}{blank}{line}{blank}{fence}")
}

/// Code in a table, which takes a bar for the end of a cell even there.
fn cell(of: &str) -> String {
    code(of).replace('|', "\\|")
}

/// A table; cells are Markdown. All columns but the first stand to the right.
fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = format!("|---|{}\n", "---:|".repeat(head.len() - 1));
    line(head) + &rule + &rows.iter().map(|row| line(row)).collect::<String>()
}

fn heads(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// One row a model and benchmark.
fn accuracy(report: &Report<'_>) -> String {
    let all = report.evaluations;
    if all.is_empty() {
        return "Nothing was measured.\n".into();
    }
    let last = |at: &[AtK]| at.last().filter(|at| at.k > 1).map(|at| (at.k, estimate(Some(&at.estimate))));
    let share = |(k, share): (usize, String), name: &str| format!("{share} ({name}@{k})");
    let several = all.iter().any(|e| last(&e.summary.pass_at).is_some());
    let form = all.iter().any(|e| e.summary.format_rate.is_some());
    let exact = all.iter().any(|e| e.summary.exact.is_some());
    let draws = all.iter().any(|e| e.summary.over_draws.is_some());
    let mut head = heads(&["model", "benchmark", "accuracy, %", "questions", "samples"]);
    for (name, shown) in [
        ("exact", exact),
        ("over draws", draws),
        ("pass@k, %", several),
        ("maj@k, %", several),
        ("format, %", form),
    ] {
        head.extend(shown.then(|| name.to_owned()));
    }
    head.extend(heads(&["truncated, %", "tokens, mean", "tokens / s"]));
    let row = |e: &Evaluation| {
        let summary = &e.summary;
        let or_none = |text: Option<String>| text.unwrap_or(NONE.into());
        let mut row =
            vec![text(&e.model.name), text(&e.protocol.benchmark), estimate(summary.accuracy.as_ref())];
        row.extend([number(summary.questions), number(summary.samples)]);
        row.extend(exact.then(|| or_none(summary.exact.as_ref().map(|exact| interval(&exact.interval)))));
        row.extend(
            draws.then(|| or_none(summary.over_draws.as_ref().map(|draws| interval(&draws.interval)))),
        );
        if several {
            row.push(or_none(last(&summary.pass_at).map(|at| share(at, "pass"))));
            row.push(or_none(last(&summary.majority_at).map(|at| share(at, "maj"))));
        }
        row.extend(form.then(|| or_none(summary.format_rate.as_ref().map(|rate| percent(rate.value)))));
        row.push(or_none(summary.truncation_rate.as_ref().map(|rate| percent(rate.value))));
        row.push(or_none(summary.tokens.as_ref().map(|tokens| mean(tokens.mean))));
        row.push(or_none(e.cost.tokens_per_second().map(mean)));
        row
    };
    let mut page = format!("## Accuracy\n\n{}", table(&head, &all.iter().map(row).collect::<Vec<_>>()));
    page += "\n95 % intervals in brackets";
    let methods =
        distinct(all.iter().filter_map(|e| Some(words::method(&e.summary.accuracy.as_ref()?.method))));
    if !methods.is_empty() {
        page += &format!("; that of accuracy is {}", methods.join(" or "));
    }
    page += ".\n";
    for (benchmark, evaluations) in by_benchmark(report) {
        let hashes = distinct(evaluations.iter().map(|e| e.protocol_hash.as_str()));
        if hashes.len() > 1 {
            let (benchmark, hashes) = (text(benchmark), hashes.len());
            page += &format!(
                "\n**{benchmark} was measured by {hashes} protocols: the figures do not compare.**\n"
            );
        }
    }
    let part = |e: &Evaluation| Some(flaw((e, words::draws_part(e)?)));
    let parts: String = all.iter().filter_map(part).collect();
    if !parts.is_empty() {
        page += &format!("\n{parts}");
    }
    let flaws: String =
        all.iter().flat_map(|e| words::flaws(e).into_iter().map(move |flaw| (e, flaw))).map(flaw).collect();
    if flaws.is_empty() { page } else { format!("{page}\n{flaws}") }
}

fn flaw((evaluation, flaw): (&Evaluation, String)) -> String {
    format!("- **{} on {}**: {flaw}\n", text(&evaluation.model.name), text(&evaluation.protocol.benchmark))
}

fn comparisons(report: &Report<'_>) -> String {
    if report.comparisons.is_empty() {
        return String::new();
    }
    let mut page = String::from("## Comparisons\n\n");
    let (shown, more) = few(report.comparisons, COMPARISONS);
    for c in shown {
        page += &format!("- {}", words::verdict(c, &text(&c.a), &text(&c.b), &text(&c.benchmark)));
        if !c.differences.is_empty() {
            page += &format!(" **{}**{}.", words::DIFFERENT, text(&c.differences.join("; ")));
        }
        page.push('\n');
    }
    if more > 0 {
        page += &format!("- {} more are in evaluation.json.\n", number(more));
    }
    page + &words::by_chance(report.comparisons.len()).map_or(String::new(), |note| format!("\n{note}\n"))
}

fn runs(report: &Report<'_>) -> String {
    let lines: String = report.runs.iter().map(|runs| format!("- {}\n", text(&super::runs(runs)))).collect();
    if lines.is_empty() { lines } else { format!("## Runs of one recipe\n\n{lines}") }
}

/// pass@k, pass^k and maj@k at every k.
fn at_k(report: &Report<'_>) -> String {
    let mut ks = distinct(report.evaluations.iter().flat_map(|e| &e.summary.pass_at).map(|at| at.k));
    ks.sort_unstable();
    if ks.iter().all(|k| *k == 1) {
        return String::new();
    }
    let mut head = heads(&["model", "benchmark", "figure"]);
    head.extend(ks.iter().map(|k| format!("k = {k}")));
    let rows = |e: &Evaluation| {
        let summary = &e.summary;
        let figures =
            [("pass@k", &summary.pass_at), ("pass^k", &summary.pass_hat), ("maj@k", &summary.majority_at)];
        let row = |(name, of): (&str, &Vec<AtK>)| {
            let at = |k: &usize| estimate(of.iter().find(|at| at.k == *k).map(|at| &at.estimate));
            let start = [text(&e.model.name), text(&e.protocol.benchmark), name.to_owned()];
            start.into_iter().chain(ks.iter().map(at)).collect()
        };
        figures.map(row)
    };
    let rows: Vec<Vec<String>> = report.evaluations.iter().flat_map(rows).collect();
    format!("## Several samples of a question\n\n{}", table(&head, &rows))
}

fn parts(
    report: &Report<'_>,
    kind: &str,
    title: &str,
    of: impl Fn(&Evaluation) -> &[QuestionShare],
) -> String {
    let mut page = String::new();
    for (benchmark, evaluations) in by_benchmark(report) {
        let names = distinct(evaluations.iter().flat_map(|e| of(e)).map(|share| share.name.as_str()));
        let (shown, more) = few(&names, PARTS);
        if shown.is_empty() {
            continue;
        }
        let find = |e: &Evaluation, name: &str| of(e).iter().find(|share| share.name == name).cloned();
        let head: Vec<String> = heads(&[kind, "questions"])
            .into_iter()
            .chain(evaluations.iter().map(|e| text(&e.model.name)))
            .collect();
        let row = |name: &&str| {
            let questions =
                evaluations.iter().filter_map(|e| find(e, name)).map(|share| share.questions).max();
            let shares =
                evaluations.iter().map(|e| estimate(find(e, name).and_then(|s| s.accuracy).as_ref()));
            [text(&words::part(kind, name)), number(questions.unwrap_or(0))]
                .into_iter()
                .chain(shares)
                .collect()
        };
        let rows: Vec<Vec<String>> = shown.iter().map(row).collect();
        page += &format!(
            "\n### {}\n\nAccuracy in percent, by {kind}.\n\n{}",
            text(benchmark),
            table(&head, &rows)
        );
        if more > 0 {
            page += &format!("\n{} more {kind}s are in evaluation.json only.\n", number(more));
        }
    }
    if page.is_empty() { page } else { format!("## {title}\n{page}") }
}

fn intervals() -> String {
    let lines: String = INTERVALS.iter().map(|(name, means)| format!("- **{name}**: {means}\n")).collect();
    format!("## How to read the intervals\n\n{lines}")
}

fn protocol(report: &Report<'_>) -> String {
    let mut page = String::from(
        "## Protocol\n\nThe hash names what is listed here but for what changes no figure; figures compare if their \
         hashes are the same. The seed is no part of it.\n",
    );
    for evaluations in protocols(report) {
        let first = evaluations[0];
        let names = evaluations.iter().map(|e| text(&e.model.name)).collect::<Vec<_>>().join(", ");
        let seeds = distinct(evaluations.iter().map(|e| e.seed.to_string())).join(", ");
        page += &format!(
            "\n### {}, protocol {}\n\nFollowed by {names}; seed {seeds}.\n\n",
            text(&first.protocol.benchmark),
            code(&first.protocol_hash)
        );
        for (name, value) in settings(&first.protocol) {
            page += &format!("- {}: {}\n", code(&name), code(&value));
        }
    }
    page
}

fn models(report: &Report<'_>) -> String {
    let head = [
        "model",
        "benchmark",
        "source",
        "computed",
        "seed",
        "time",
        "tokens drawn",
        "SHA-256 of the weights",
    ];
    let row = |e: &Evaluation| {
        vec![
            text(&e.model.name),
            text(&e.protocol.benchmark),
            cell(&e.model.source),
            text(&e.model.computed),
            e.seed.to_string(),
            duration(e.cost.seconds),
            number(e.cost.tokens),
            e.model.sha256.as_deref().map_or(NONE.into(), cell),
        ]
    };
    let rows: Vec<Vec<String>> = report.evaluations.iter().map(row).collect();
    format!("## Models\n\n{}", table(&heads(&head), &rows))
}

fn problems(report: &Report<'_>) -> String {
    let mut page = String::from("## Problems of the questions\n");
    for evaluations in protocols(report) {
        let first = evaluations[0];
        page += &format!("\n### {}\n\n", text(&first.protocol.benchmark));
        let lists = lists(&first.problems, &evaluations);
        page += if lists.is_empty() { "None was found.\n" } else { &lists };
    }
    page
}

fn lists(problems: &Problems, evaluations: &[&Evaluation]) -> String {
    let pair = |(one, other): &(String, String)| format!("{} and {}", code(one), code(other));
    let answer = |(id, answer): &(String, String)| format!("{}: {}", code(id), code(answer));
    let skipped = skipped(evaluations).into_iter().map(|(id, why, models)| {
        let models: Vec<String> = models.into_iter().map(text).collect();
        format!("{}, of {}: {}", code(id), models.join(", "), text(why))
    });
    [
        list(
            "without a reference answer: nothing can be right there",
            problems.unanswered.iter().map(|id| code(id)),
        ),
        list(
            "with a reference answer that cannot be read as mathematics: only the same text is right there",
            problems.unreadable.iter().map(answer),
        ),
        list("asked twice", problems.duplicates.iter().map(pair)),
        list("not asked, and counted as not right", skipped),
    ]
    .concat()
}

fn list(what: &str, items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() {
        return String::new();
    }
    let (shown, more) = few(&items, PROBLEMS);
    let mut page = format!("- {} {what}\n", count(items.len(), "question"));
    for item in shown {
        page += &format!("  - {item}\n");
    }
    if more > 0 {
        page += &format!("  - and {} more\n", number(more));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_is_no_markup_and_stays_in_its_cell() {
        assert_eq!(text("a|b\n<img>_x_ `c`"), r"a\|b \<img\>\_x\_ \`c\`");
        assert_eq!(text("qwen_b[1](http://x)"), r"qwen_b\[1\](http://x)");
        assert_eq!(cell("a`b``c|d"), "```a`b``c\\|d```");
        assert_eq!(code("`a`"), "`` `a` ``");
        assert_eq!(code(""), NONE);
    }

    #[test]
    fn an_empty_report_says_so() {
        let report = Report { title: "T", evaluations: &[], comparisons: &[], runs: &[], readings: &[] };
        assert!(markdown(&report).starts_with("# T\n\nNothing was measured.\n"));
    }
}
